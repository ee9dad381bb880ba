"""What a run will be, before it is started: blocks, cuts, phases, parameters, and how long it may take here."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np

from thaw.config.schedule import chain_of, phase_section, stage_of
from thaw.config.schema import Head, Params, Phase, Source
from thaw.data.examples import Examples
from thaw.datasets import DATASETS
from thaw.features.extract import Cut, plan_cuts
from thaw.features.store import storing
from thaw.network.augmentation import augmentation_inputs
from thaw.network.build import PICTURE_SIZE, Network, build_network
from thaw.network.inference import predict_chunks
from thaw.network.seeds import seed_initialisers
from thaw.training.adam import adam
from thaw.training.feed import BatchPlan, Feed
from thaw.training.loop import steps_at_once
from thaw.training.phase import thaw_network
from thaw.training.schedules import rate_schedule

# By title, the side that a column is aligned by.
BLOCK_COLUMNS = {"block": "left"} | dict.fromkeys(
    ["depth of the cut below", "layers", "parameters", "output", "activations at the cut"], "right"
)
PHASE_COLUMNS = {
    "phase": "left", "trains besides the head": "left", "trainable": "right", "frozen": "right", "learns from": "left",
    "epochs": "right",
}  # fmt: skip

# Seconds of steps, at least, that a speed is taken from.
_LONG_ENOUGH = 1.0


@dataclass(frozen=True)
class Counts:
    """Pictures of each split that show the chosen classes; of some classes, what they are on average."""

    train: int
    val: int
    test: int


def count_images(chosen: Params, classes: list | None) -> Counts:
    row, dataset = DATASETS[chosen.dataset.name], chosen.dataset
    val = round(row.train_count * dataset.val_fraction)
    train = dataset.limit or row.train_count - val
    share = len(classes or row.classes) / len(row.classes)
    return Counts(*(round(count * share) for count in (train, val, row.test_count)))


def planned_cuts(chosen: Params, one: Network) -> dict[int, Cut]:
    """What is to become of the activations at each cut, by depth."""
    pictures = count_images(chosen, chosen.dataset.classes)
    rows = chosen.augment.views * pictures.train + pictures.val
    return {cut.depth: cut for cut in plan_cuts(one.widths(chosen.head.pool), rows, chosen.extract)}


def build_untrained(chosen: Params) -> Network:
    """The network of random weights, with its head; speed and size do not depend on their values."""
    seed_initialisers(0, "summary")
    one = build_network(chosen.backbone.name, chosen.backbone.image_size, chosen.backbone.alpha)
    head, classes = chosen.head, chosen.dataset.classes or DATASETS[chosen.dataset.name].classes
    one.attach(head.pool, head.units, head.dropout, len(classes))
    return one


def block_rows(chosen: Params, one: Network) -> list[list[str]]:
    """A row of BLOCK_COLUMNS for each block from the top; the last tells what becomes of what enters the block."""
    cuts = planned_cuts(chosen, one)

    def kept(depth: int) -> str:
        cut = cuts.get(depth)
        return "-" if cut is None else f"{cut.size / 1e9:.3f} GB {'stored' if cut.stored else 'streamed'}"

    parts = [("head", one.head), *((block.name, block) for block in reversed(one.blocks))]
    return [
        [name, str(depth), _layers(part), f"{part.count_params():,}", _shape(part), kept(depth)]
        for depth, (name, part) in enumerate(parts)
    ]


def _layers(part: keras.Model) -> str:
    return str(sum(not isinstance(layer, keras.layers.InputLayer) for layer in part.layers))


def _shape(part: keras.Model) -> str:
    return " x ".join(map(str, part.output.shape[1:]))


@dataclass(frozen=True)
class Row:
    """What a phase trains, and how."""

    name: str
    epochs: int
    depth: int | None
    thawed: str
    trainable: int
    frozen: int

    def cells(self) -> list[str]:
        source = "pictures" if self.depth is None else f"stored, depth {self.depth}"
        return [self.name, self.thawed, f"{self.trainable:,}", f"{self.frozen:,}", source, str(self.epochs)]


def phase_row(chosen: Params, one: Network, name: str) -> Row:
    """Freeze a network as a phase has it, and say so."""
    section = phase_section(chosen, name)
    depth = thaw_network(one, section)
    cut = planned_cuts(chosen, one).get(depth)
    parts = [*one.blocks, one.head]
    trainable = sum(math.prod(weight.shape) for part in parts for weight in part.trainable_weights)
    total = sum(part.count_params() for part in parts)
    return Row(
        name,
        section.epochs,
        depth if cut is not None and cut.stored else None,
        one.thawed(),
        trainable,
        total - trainable,
    )


def estimate_seconds(chosen: Params, one: Network) -> Iterator[tuple[str, float]]:
    """How long the stages that compute may take on this device, from a second of each one's steps.

    Yields:
        Name of the stage, and seconds, the making ready of the first step included; early stopping may spare some.
    """
    own = count_images(chosen, chosen.dataset.classes)
    source = chosen.backbone.source
    if source is not None:
        one.freeze(0)
        yield "backbone", _training(one, chosen, source, None, count_images(chosen, source.classes), "train")
    stored = [cut.depth for cut in planned_cuts(chosen, one).values() if cut.stored]
    yield "extract", _extraction(one, chosen, stored, chosen.augment.views * own.train + own.val) if stored else 0.0
    for name in chain_of(chosen.schedule):
        row, section = phase_row(chosen, one, name), phase_section(chosen, name)
        mode = section.batch_norm if isinstance(section, Phase) else "inference"
        yield stage_of(name), _training(one, chosen, section, row.depth, own, mode)
    yield "evaluate", _prediction(one, chosen, own.train + own.val + own.test)


def _training(
    one: Network, chosen: Params, section: Head | Phase | Source, depth: int | None, pictures: Counts, batch_norm: str
) -> float:
    """Of a phase: the first step and all others, and validation after each epoch."""
    if not section.epochs:
        return 0.0
    model = one.classifier(depth, chosen.augment, batch_norm)
    mixup, size = getattr(section, "mixup", 0.0), chosen.batch_size
    shape, dtype = model.inputs[0].shape[1:], "uint8" if depth is None else chosen.extract.dtype
    examples, val = (_blank(count, shape, dtype) for count in (pictures.train, pictures.val))
    feed = Feed(model, examples, size, mixes=mixup > 0)
    feed.compile(adam(rate_schedule(section, 1)), steps_at_once(depth))
    plan = BatchPlan.draw(len(examples), size, mixup, 0)
    first, step = _speed(lambda steps: feed.fit(examples, _part(plan, steps)), len(plan.rows))
    some = Examples(val.inputs[: 8 * size], val.labels[: 8 * size])
    validates = Feed(model, some, size, mixes=False)
    validates.compile(None, steps_at_once(depth))
    validates.evaluate(some)
    started = time.perf_counter()
    validates.evaluate(some)
    check = (time.perf_counter() - started) * len(val) / len(some)
    return first + section.epochs * (step * len(plan.rows) + check)


def _blank(count: int, shape: tuple[int, ...], dtype: str) -> Examples:
    """Examples of one value, which take no memory before they are put onto the device."""
    return Examples(np.broadcast_to(np.zeros(shape, dtype), (count, *shape)), np.zeros(count, np.int32))


def _part(plan: BatchPlan, steps: int) -> BatchPlan:
    parts = (plan.rows, plan.partners, plan.shares)
    return BatchPlan(*(None if part is None else part[:steps] for part in parts))


def _pictures(count: int) -> np.ndarray:
    return np.zeros((count, PICTURE_SIZE, PICTURE_SIZE, 3), np.uint8)


def _extraction(one: Network, chosen: Params, cuts: list[int], rows: int) -> float:
    model = storing(one.features(cuts, chosen.head.pool, chosen.augment), chosen.extract.dtype)

    def run(batches: int) -> None:
        images = _pictures(batches * chosen.extract.batch_size)
        for _ in predict_chunks(model, augmentation_inputs(images, chosen.augment, True), chosen.extract.batch_size):
            pass

    first, batch = _speed(run, rows // chosen.extract.batch_size + 1)
    return first + batch * rows / chosen.extract.batch_size


def _prediction(one: Network, chosen: Params, rows: int) -> float:
    model = one.classifier()

    def run(batches: int) -> None:
        images = _pictures(batches * chosen.batch_size)
        for _ in predict_chunks(model, images, chosen.batch_size):
            pass

    first, batch = _speed(run, rows // chosen.batch_size + 1)
    return first + batch * rows / chosen.batch_size


def _speed(run, most: int) -> tuple[float, float]:
    """Seconds of the first call, and of one step of those after it."""
    # As many at once as the head's compiled code goes on for by itself.
    steps = min(16, most)
    started = time.perf_counter()
    run(steps)
    first = time.perf_counter() - started
    while True:
        started = time.perf_counter()
        run(steps)
        taken = time.perf_counter() - started
        if taken >= _LONG_ENOUGH or steps == most:
            return max(0.0, first - taken), taken / steps
        steps = min(most, max(2 * steps, round(1.2 * steps * _LONG_ENOUGH / taken)))
