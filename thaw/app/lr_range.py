"""Learning rates of a phase, tried in short runs from one start, and compared by validation accuracy.

A range test of one run over growing rates (Smith, "Cyclical Learning Rates for Training Neural Networks", 2017) does
not suit a phase that starts from a trained network: its training loss is lowest before the first step, whatever the
rate. For MobileNetV2's top block it was lowest at 1e-6, where 0.002 is best.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw.config.schema import Params
from thaw.errors import ThawError

# About two per decade.
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


@dataclass(frozen=True)
class Trial:
    """What a short run at one peak learning rate reached; nan where its loss was not finite.

    Attributes:
        rate: the peak.
        val_accuracy, val_loss: after its last epoch.
    """

    rate: float
    val_accuracy: float
    val_loss: float


def run_trials(params: Params, name: str, rates: Sequence[float], epochs: int) -> Iterator[Trial]:
    """Train a phase from its start at each rate, and keep nothing of it.

    Args:
        name: of the phase.
        rates: peaks to try; warm-up and decay are the phase's own, in as many epochs as there are.
        epochs: of each trial.

    Raises:
        ParamError: there is no such phase.
        ThawError: what the phase starts from is missing.
    """
    # These import Keras.
    from thaw.app.trials import Trials, shortened
    from thaw.training.phase import prepare_phase
    from thaw.training.reporting import Printer

    phase = prepare_phase(params, name)
    trials = Trials(phase.network)
    for rate in rates:
        printer = Printer(phase.run.stage, shortened(phase.run, epochs, rate).training)
        row = trials.train(phase.run, phase.data, epochs, rate, [printer])
        yield Trial(rate, row["val_accuracy"], row["val_loss"])


def suggestion(trials: Sequence[Trial]) -> Trial:
    """The trial of the highest validation accuracy, of the lowest loss among equals.

    Raises:
        ThawError: no trial's loss was finite.
    """
    finite = [trial for trial in trials if np.isfinite(trial.val_loss)]
    if not finite:
        raise ThawError(
            f"lr-range: no loss was finite at {', '.join(f'{trial.rate:g}' for trial in trials)}; try lower --rates"
        )
    return max(finite, key=lambda trial: (trial.val_accuracy, -trial.val_loss))


def draw_trials(path: Path, name: str, trials: Sequence[Trial]) -> None:
    """Draw validation accuracy by learning rate and mark the best."""
    from thaw.figures.grids import save_figure
    from thaw.figures.style import INK, new_chart, phase_color, plain

    best = suggestion(trials)
    figure = new_chart(7, 4)
    axes = figure.subplots()
    plain(axes)
    color = phase_color(0)
    axes.plot([trial.rate for trial in trials], [trial.val_accuracy for trial in trials], color=color, marker="o")
    axes.axvline(best.rate, color=phase_color(2), label=f"best: {best.rate:g}, accuracy {best.val_accuracy:.4f}")
    axes.set(xscale="log", xlabel="peak learning rate", ylabel="validation accuracy")
    axes.set_title(f"Phase {name}: validation accuracy by peak learning rate", fontsize=11, color=INK)
    axes.legend(frameon=False)
    save_figure(figure, path)
