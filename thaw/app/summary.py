"""A run before it is started: its blocks, depths, phases and parameters, and an estimate of how long it takes here."""

import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np

from thaw.config.schedule import chain_of, phase_section, stage_of
from thaw.config.schema import Dataset as Section
from thaw.config.schema import Params, Source, Training
from thaw.data.examples import Examples
from thaw.data.splits import processed_dataset
from thaw.datasets import DATASETS, Dataset, Folder, described
from thaw.evaluation.corruptions import PAIRS
from thaw.evaluation.final import training_step
from thaw.extraction.plan import Cut, plan_cuts, stored_depths
from thaw.extraction.store import storing
from thaw.images.decoding import formats
from thaw.images.read import read_images
from thaw.network.augmentation import augmentation_inputs
from thaw.network.build import Network, build_network
from thaw.network.inference import predict_chunks
from thaw.network.seeds import seed_initialisers
from thaw.training.adam import Adam
from thaw.training.feed import BatchPlan, Feed
from thaw.training.loop import steps_at_once
from thaw.training.phase import thaw_network
from thaw.training.schedules import rate_schedule, with_min_steps

# By title, the side that a column is aligned by.
BLOCK_COLUMNS = {"block": "left"} | dict.fromkeys(["depth of the cut below", "layers", "parameters", "output"], "right")
DEPTH_COLUMNS = {
    "depth": "right", "trains besides the head": "left", "values an image": "right", "all views": "right",
    "learns from": "left", "an epoch": "right",
}  # fmt: skip
PHASE_COLUMNS = {
    "phase": "left", "trains besides the head": "left", "trainable": "right", "frozen": "right", "learns from": "left",
    "epochs": "right",
}  # fmt: skip

# Seconds of steps, at least, that a speed is taken from.
_LONG_ENOUGH = 1.0


@dataclass(frozen=True)
class Counts:
    """Images of each split that show the selected classes; for a selection, estimated from the average."""

    train: int
    val: int
    test: int


def dataset_of(params: Params) -> Dataset:
    """The dataset of a run to come; a folder is looked at once, or what preprocess has made of it where it is gone."""
    return _looked_at(params.dataset.model_dump_json())


@lru_cache(maxsize=1)
def _looked_at(section: str) -> Dataset:
    dataset = Section.model_validate_json(section)
    gone = dataset.path is not None and not os.path.exists(dataset.path)
    return processed_dataset(dataset) if gone else described(dataset)


def count_images(params: Params, classes: list | None) -> Counts:
    row, dataset = dataset_of(params), params.dataset
    train, val, test = row.counts(dataset.val_fraction)
    train = dataset.limit or (len(row.classes or ()) * dataset.per_class if dataset.per_class else train)
    return Counts(*(round(count * row.share(classes)) for count in (train, val, test)))


def describe_images(params: Params, network: Network) -> str:
    """Images of each split, their side, and what they and their stored activations take on the disk."""
    counts, side = count_images(params, None), params.dataset.image_size
    size = (counts.train + counts.val + counts.test) * side**2 * 3
    stored = sum(cut.size for cut in planned_cuts(params, network).values() if cut.stored)
    return (
        f"images: {counts.train:,} for training, {counts.val:,} for validation, {counts.test:,} for the test"
        f"{', those of the source task included' if params.backbone.source else ''}, of "
        f"{side} x {side} pixels; {size / 1e9:.3f} GB in data/processed, {stored / 1e9:.3f} GB in data/features"
    )


def planned_phase(params: Params, name: str) -> Training:
    """The section of a phase, with the epochs that `min_steps` gives it."""
    steps = count_images(params, params.dataset.classes).train // params.batch_size
    return with_min_steps(phase_section(params, name), params.min_steps, steps)


def planned_cuts(params: Params, network: Network) -> dict[int, Cut]:
    """Size of the activations at each cut, and whether they are stored, by depth."""
    counts = count_images(params, params.dataset.classes)
    widths = network.widths(params.head.pool)
    planned = plan_cuts(widths, counts.train, counts.val, params.augment.views, params.extract)
    return {cut.depth: cut for cut in planned}


def build_untrained(params: Params) -> Network:
    """The network with random weights and its head; speed and size do not depend on the weights."""
    seed_initialisers(0, "summary")
    backbone, input_size = params.backbone, params.dataset.image_size
    network = build_network(backbone.name, backbone.image_size, backbone.alpha, input_size)
    head, classes = params.head, params.dataset.classes or dataset_of(params).classes
    network.attach(head.pool, head.units, head.dropout, len(classes or ()))
    return network


def cut_of_each_depth(params: Params, network: Network) -> dict[int, Cut]:
    """The cuts of `extract.cuts`, and each other one as if it were among them, by depth."""
    planned = planned_cuts(params, network)
    cuts = dict(planned)
    for depth in network.widths(params.head.pool).keys() - {*planned, len(network.blocks)}:
        extract = params.extract.model_copy(update={"cuts": [*planned, depth]})
        cuts[depth] = planned_cuts(params.model_copy(update={"extract": extract}), network)[depth]
    return cuts


def block_rows(network: Network) -> list[list[str]]:
    """A row of BLOCK_COLUMNS for each block from the top."""
    parts = [("head", network.head), *((block.name, block) for block in reversed(network.blocks))]
    return [
        [name, str(depth), _layers(part), f"{part.count_params():,}", _shape(part)]
        for depth, (name, part) in enumerate(parts)
    ]


def depth_rows(params: Params, network: Network, estimate: bool) -> Iterator[list[str]]:
    """A row of DEPTH_COLUMNS for each depth, from the head alone to all blocks.

    Args:
        params: the schedule's last phase tells what a step does but for its depth.
        network: is left thawed.
        estimate: measure an epoch; without it the last column is left out.
    """
    section, counts = phase_section(params, params.schedule.final), count_images(params, params.dataset.classes)
    planned, cuts = planned_cuts(params, network), cut_of_each_depth(params, network)
    for depth in range(len(network.blocks) + 1):
        network.freeze_below(depth)
        cut = cuts.get(depth)
        stored = cut is not None and cut.stored
        row = [str(depth), network.thawed(), "-", "-", "images"]
        if cut is not None:
            source = ("" if depth in planned else "would be ") + ("stored" if stored else "images")
            row[2:] = [f"{cut.values:,}", f"{cut.size / 1e9:.3f} GB", source]
        if estimate:
            _, epoch = _speed_of_training(network, params, section, depth if stored else None, counts)
            row.append(f"{epoch:.1f} s")
        yield row


def _layers(part: keras.Model) -> str:
    return str(sum(not isinstance(layer, keras.layers.InputLayer) for layer in part.layers))


def _shape(part: keras.Model) -> str:
    return " x ".join(map(str, part.output.shape[1:]))


@dataclass(frozen=True)
class Row:
    """What a phase trains, and on what data."""

    name: str
    epochs: int
    depth: int | None
    thawed: str
    trainable: int
    frozen: int

    def cells(self) -> list[str]:
        source = "images" if self.depth is None else f"stored, depth {self.depth}"
        return [self.name, self.thawed, f"{self.trainable:,}", f"{self.frozen:,}", source, str(self.epochs)]


def phase_row(params: Params, network: Network, name: str) -> Row:
    """Freeze a network as a phase does, and describe the phase."""
    section = phase_section(params, name)
    depth = thaw_network(network, section)
    cut = planned_cuts(params, network).get(depth)
    parts = [*network.blocks, network.head]
    trainable = sum(math.prod(weight.shape) for part in parts for weight in part.trainable_weights)
    total = sum(part.count_params() for part in parts)
    return Row(
        name,
        planned_phase(params, name).epochs,
        depth if cut is not None and cut.stored else None,
        network.thawed(),
        trainable,
        total - trainable,
    )


def estimate_seconds(params: Params, network: Network) -> Iterator[tuple[str, float]]:
    """Estimate how long the stages that compute take on this device, from a second of each stage's steps.

    Yields:
        Name of the stage, and seconds, including compilation of the first step; early stopping may save some.
    """
    own = count_images(params, params.dataset.classes)
    if params.dataset.path is not None:
        yield "preprocess", _reading(params)
    source = params.backbone.source
    if source is not None:
        network.freeze(0)
        yield "backbone", _training(network, params, source, None, count_images(params, source.classes))
    planned = planned_cuts(params, network).values()
    rows = Counter({stored_depths(planned): own.val})
    for view in range(params.augment.views):
        rows[stored_depths(planned, view)] += own.train
    yield "extract", sum(_extraction(network, params, depths, count) for depths, count in rows.items() if depths)
    depth = None
    for name in chain_of(params.schedule):
        depth = phase_row(params, network, name).depth
        yield stage_of(name), _training(network, params, planned_phase(params, name), depth, own)
    seen = own.train // training_step(own.train) + own.val
    looks = params.evaluate.views + params.evaluate.corruptions * len(PAIRS)
    yield "evaluate", _prediction(network, params, depth, seen) + _prediction(network, params, None, looks * own.test)


def _reading(params: Params) -> float:
    """Of the files of a folder."""
    section, source = params.dataset, DATASETS[params.dataset.name].source
    assert isinstance(source, Folder)
    listing = source.scan(Path(section.path or ""))
    files = [listing.root / listed.file for listed in listing.files if not listed.why]
    some = files[:: math.ceil(len(files) / 500)]
    formats()  # loads Pillow's plugins, which would count for each of few files
    started, done, seconds = time.perf_counter(), 0, 0.0
    for _ in read_images(some, section.image_size, section.max_pixels):
        done, seconds = done + 1, time.perf_counter() - started
        if seconds > _LONG_ENOUGH:
            break
    return seconds * len(files) / done


def _training(network: Network, params: Params, section: Training, depth: int | None, counts: Counts) -> float:
    """Of a phase: the first step and all others, and validation after each epoch."""
    if not section.epochs:
        return 0.0
    first, epoch = _speed_of_training(network, params, section, depth, counts)
    return first + section.epochs * epoch


def _speed_of_training(
    network: Network, params: Params, section: Training, depth: int | None, counts: Counts
) -> tuple[float, float]:
    """Seconds that the first step takes longer than others, and of an epoch with its validation."""
    batch_norm = "train" if isinstance(section, Source) else getattr(section, "batch_norm", "inference")
    model = network.classifier(depth, params.augment, batch_norm)
    mixup, size = getattr(section, "mixup", 0.0), params.batch_size
    shape, dtype = model.inputs[0].shape[1:], "uint8" if depth is None else params.extract.dtype
    examples, val = (_blank(count, shape, dtype) for count in (counts.train, counts.val))
    feed = Feed(model, examples, size, mixes=mixup > 0)
    feed.compile(Adam(rate_schedule(section, 1), average=section.average), steps_at_once(depth))
    plan = BatchPlan.draw(len(examples), size, mixup, 0)
    first, step = _speed(lambda steps: feed.fit(examples, _part(plan, steps)), len(plan.rows), steps_at_once(depth))
    rows = size * max(2, steps_at_once(depth))
    some = Examples(val.inputs[:rows], val.labels[:rows])
    validates = Feed(model, some, size, mixes=False)
    validates.compile(None, steps_at_once(depth))
    validates.evaluate(some)
    started = time.perf_counter()
    validates.evaluate(some)
    check = (time.perf_counter() - started) * len(val) / len(some)
    return first, step * len(plan.rows) + check


def _blank(count: int, shape: tuple[int, ...], dtype: str) -> Examples:
    """Examples of one value, which take no memory before they are put onto the device."""
    return Examples(np.broadcast_to(np.zeros(shape, dtype), (count, *shape)), np.zeros(count, np.int32))


def _part(plan: BatchPlan, steps: int) -> BatchPlan:
    mixing = (None if part is None else part[:steps] for part in (plan.partners, plan.shares))
    return BatchPlan(plan.rows[:steps], *mixing)


def _blank_images(network: Network, count: int) -> np.ndarray:
    return np.zeros((count, network.input_size, network.input_size, 3), np.uint8)


def _extraction(network: Network, params: Params, cuts: tuple[int, ...], rows: int) -> float:
    model = storing(network.features(cuts, params.head.pool, params.augment), params.extract.dtype)

    def run(batches: int) -> None:
        images = _blank_images(network, batches * params.extract.batch_size)
        for _ in predict_chunks(model, augmentation_inputs(images, params.augment, view=1), params.extract.batch_size):
            pass

    first, batch = _speed(run, rows // params.extract.batch_size + 1)
    return first + batch * rows / params.extract.batch_size


def _prediction(network: Network, params: Params, depth: int | None, rows: int) -> float:
    model = network.classifier(depth)
    shape, dtype = model.inputs[0].shape[1:], "uint8" if depth is None else params.extract.dtype

    def run(batches: int) -> None:
        for _ in predict_chunks(model, _blank(batches * params.batch_size, shape, dtype).inputs, params.batch_size):
            pass

    first, batch = _speed(run, rows // params.batch_size + 1)
    return first + batch * rows / params.batch_size


def _speed(run, most: int, at_once: int = 1) -> tuple[float, float]:
    """Seconds of the first call, and of one step of those after it.

    Args:
        run: takes a number of steps.
        most: steps that there are.
        at_once: steps of the first call; of one that is fully trainable, a single one may take seconds.
    """
    steps = min(at_once, most)
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
