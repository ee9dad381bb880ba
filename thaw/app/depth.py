"""Depths of a phase, tried in short runs from one start on a share of the images. Start at `try_depths`.

Each depth is trained twice: for as many epochs as all others, and for as many seconds of steps. The second tells what
pays: what a shallow depth saves in each epoch it may spend on more epochs.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thaw.app.summary import cut_of_each_depth
from thaw.app.trials import Trials
from thaw.config.schema import Params
from thaw.data.examples import Examples, TrainingData
from thaw.data.splits import read_split, stratified
from thaw.data.stored import phase_data
from thaw.errors import ThawError
from thaw.extraction.extract import extract_features
from thaw.extraction.plan import Extraction
from thaw.network.seeds import random_generator
from thaw.training.phase import prepare_phase
from thaw.training.reporting import EpochEnd, Observer

# Epochs in equal seconds, at most, for each epoch of the first run: a share of the images has no more to teach.
MOST = 5

# Batch size and learning rate are divided by it (linear scaling: Goyal et al., "Accurate, Large Minibatch SGD", 2017).
# A few steps at the full rate only undo what deep blocks have learnt: MobileNetV2 at depth 5 went from 0.742 to 0.234
# in 30 steps of 128 images at 0.002, and to 0.774 in 186 steps of 32 at 0.0005.
DIVISOR = 4


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a short run at one depth reached.

    Attributes:
        depth: blocks above the cut.
        trains: these blocks, in words.
        rate: learning rate for the usual batch size.
        epochs: of the run.
        seconds: of the steps of its quickest epoch; nan where the first epoch was not ended.
        accuracy: on validation after the last epoch; nan where a loss was not finite.
        images: number of validation images.
    """

    depth: int
    trains: str
    rate: float
    epochs: int
    seconds: float
    accuracy: float
    images: int

    @property
    def error(self) -> float:
        """Standard error of the accuracy, above 0 also where all images are classified correctly.

        Agresti and Coull, "Approximate is Better than 'Exact' for Interval Estimation of Binomial Proportions" (1998).
        """
        count = self.images + 1
        share = (self.accuracy * self.images + 0.5) / count
        return math.sqrt(share * (1 - share) / count)

    def __str__(self) -> str:
        return (
            f"depth {self.depth}, {self.epochs} epochs at {self.rate:g}: validation accuracy {self.accuracy:.4f}, "
            f"{self.seconds:.2f} s an epoch"
        )


class _Steps(Observer):
    """The seconds of the steps of each epoch, without what is compiled once."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_epoch(self, end: EpochEnd) -> None:
        self.seconds.append(end.training.seconds - end.training.compiling)


class DepthTrials:
    """Short runs of a phase at any depth, from its start, on a share of the images.

    Images are not augmented: in a short run, more images are worth more than more views of each. Batch size and
    learning rate are a quarter of the usual. A cut that extract would store, were it asked to, is trained on stored
    activations; any other depth on images.
    """

    def __init__(self, params: Params, name: str, images: int, folder: Path) -> None:
        """Load the start and extract activations.

        Args:
            params: all parameters.
            name: of the phase; its depth is not used.
            images: number of training images, and of validation images at most.
            folder: gets the activations.
        """
        phase = prepare_phase(params, name)
        network, classes = phase.network, phase.info.classes
        nothing = {"flip": False, "views": 1} | dict.fromkeys(("translation", "rotation", "zoom", "contrast"), 0.0)
        plain = params.augment.model_copy(update=nothing)
        self.depths = range(len(network.blocks) + 1)
        self._classes, self._trials = classes, Trials(network)
        self._run = replace(phase.run, augment=plain, batch_size=max(1, phase.run.batch_size // DIVISOR))
        self._train, self._val = (_share(split, classes, images) for split in ("train", "val"))
        self._stored = [depth for depth, cut in cut_of_each_depth(params, network).items() if cut.stored]
        self._folder = folder
        # All of them fit, since each fits the budget with all images.
        settings = params.extract.model_copy(update={"cuts": self._stored, "budget_gb": 1e6})
        extraction = Extraction(
            pool=network.pool, classes=classes, train=self._train, val=self._val, augment=plain, settings=settings
        )
        extract_features(folder, network, extraction)

    def train(self, depth: int, epochs: int, rate: float) -> Trial:
        """Train at a depth from the start, and print the result; `rate` is for the usual batch size."""
        network, steps = self._trials.network, _Steps()
        network.freeze_below(depth)
        data = TrainingData(None, [self._train], self._val)
        if depth in self._stored:
            data = phase_data(self._folder, depth, self._classes)
        row = self._trials.train(replace(self._run, stage=f"depth {depth}"), data, epochs, rate / DIVISOR, [steps])
        trial = Trial(
            depth=depth,
            trains=network.thawed(),
            rate=rate,
            epochs=epochs,
            seconds=min(steps.seconds, default=math.nan),
            accuracy=row["val_accuracy"],
            images=len(self._val),
        )
        print(f"depth: {trial}", flush=True)
        return trial


def _share(split: str, classes: list[str], images: int) -> Examples:
    inputs, labels = read_split(split, classes)
    rows = stratified(labels, min(images, len(labels)), random_generator("depth", split))
    return Examples(inputs[rows], labels[rows])


def try_depths(
    params: Params, name: str, images: int, epochs: int, rates: Sequence[float]
) -> list[tuple[Trial, Trial]]:
    """Train a phase from its start at each depth, from the head alone to all blocks, and keep nothing of it.

    Args:
        params, name, images: as for `DepthTrials`.
        epochs: of each first run.
        rates: learning rates of the first runs, for the usual batch size; the second has the one that was best.

    Returns:
        For each depth the run of `epochs`, and the run of as many epochs as the slowest depth's seconds allow, MOST
        times as many at most; the same run where these are no more.

    Raises:
        ThawError: what the phase starts from is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        trials = DepthTrials(params, name, images, Path(folder) / "features")
        first = [max((trials.train(depth, epochs, rate) for rate in rates), key=_rank) for depth in trials.depths]
        seconds = epochs * max((trial.seconds for trial in first if _rank(trial) >= 0), default=math.nan)
        pairs = []
        for trial in first:
            more = min(int(seconds / trial.seconds), MOST * epochs) if _rank(trial) >= 0 else 0
            pairs.append((trial, trials.train(trial.depth, more, trial.rate) if more > epochs else trial))
        return pairs


def _rank(trial: Trial) -> float:
    """The accuracy, or -1 where a loss was not finite."""
    return trial.accuracy if math.isfinite(trial.accuracy) else -1.0


def recommended(trials: Sequence[Trial]) -> tuple[Trial, Trial]:
    """The best trial, and the shallowest that is no more than one standard error below it.

    Breiman et al., "Classification and Regression Trees" (1984): of equally good models, the simplest.

    Raises:
        ThawError: no trial's loss was finite.
    """
    best = max(trials, key=_rank)
    if _rank(best) < 0:
        raise ThawError("depth: no loss was finite; try lower --rates")
    return best, next(trial for trial in trials if trial.accuracy >= best.accuracy - best.error)
