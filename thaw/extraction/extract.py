"""The stage extract: activations of the frozen backbone for each view, in data/features; samples of the views."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np

from thaw import paths
from thaw.config.schema import Augment, Extract, Params
from thaw.data.examples import Examples
from thaw.data.splits import class_names, read_split
from thaw.data.stored import FEATURES_JSON, features_origin
from thaw.extraction.store import ActivationStore, storing
from thaw.extraction.views import save_views
from thaw.network.augmentation import augmentation_inputs
from thaw.network.backend import active_device
from thaw.network.build import Network
from thaw.network.checkpoint import block_hashes, load_checkpoint
from thaw.runtime.files import link_or_copy, replacing_folder, save_array, seal_folder
from thaw.runtime.resume import State, open_state


def extract(params: Params) -> float:
    """Extract the features of all views into data/features, and save what the views look like in data/views.

    Returns:
        Seconds that earlier processes worked on it.
    """
    classes = class_names(params.dataset.classes)
    network, _ = load_checkpoint(paths.BACKBONE, with_head=False)
    train, val = (Examples(*read_split(split, classes)) for split in ("train", "val"))
    settings = params.of("augment", "extract") | {"pool": params.head.pool, "classes": classes}
    inputs = [paths.BACKBONE, *paths.SPLITS_LEARNT]
    extraction = Extraction(
        pool=params.head.pool,
        classes=classes,
        train=train,
        val=val,
        augment=params.augment,
        settings=params.extract,
        origin=features_origin(block_hashes(paths.BACKBONE), params.augment),
    )
    with open_state("extract", settings, inputs, str(active_device())) as state:
        extract_features(paths.FEATURES, network, extraction, state)
    save_views(paths.VIEWS, train, classes, params.augment)
    return state.earlier


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """What is passed through the backbone, and how; features follow from this and the backbone alone.

    Attributes:
        pool: of the activations at the head's cut: avg or flatten.
        classes: names of the labels' classes.
        train, val: images, uint8 (n, side, side, 3), and labels.
        augment: how views differ, how many there are, and their seed.
        settings: cuts, budget, storage type, images per step.
        origin: of the features, for `refuse_other_origin`.
    """

    pool: str
    classes: list[str]
    train: Examples
    val: Examples
    augment: Augment
    settings: Extract
    origin: dict[str, Any] = field(default_factory=dict)


def extract_features(folder: Path, network: Network, extraction: Extraction, state: State | None = None) -> None:
    """Pass every view of the training set, and the validation set, through the backbone once.

    View 0 is not augmented, as the images to classify will not be; the others are.

    The activations at each cut within the budget are kept; which ones are, and their bytes, is printed.

    Args:
        folder: becomes the features: one .npy per cut and view, labels, and a JSON.
        network: the frozen backbone.
        extraction: images and settings.
        state: saves each finished chunk, and is resumed from; None saves nothing.
    """
    augment, settings = extraction.augment, extraction.settings
    widths = network.widths(extraction.pool)
    planned = plan_cuts(widths, len(extraction.train), len(extraction.val), augment.views, settings)
    for cut in planned:
        print(f"extract: {cut}", flush=True)
    cuts = {cut.depth: cut.views for cut in planned if cut.stored}
    with replacing_folder(folder) as beside:
        save_array(beside / "train_labels.npy", extraction.train.labels)
        save_array(beside / "val_labels.npy", extraction.val.labels)
        if cuts:
            _store_activations(beside, network, planned, extraction, state)
        content = {
            "cuts": cuts,
            "pool": extraction.pool,
            "dtype": settings.dtype,
            "classes": extraction.classes,
        }
        seal_folder(beside / FEATURES_JSON, content | {"origin": extraction.origin})


@dataclass(frozen=True)
class Cut:
    """Whether the activations at a cut are stored, and their size.

    Attributes:
        depth: blocks above it.
        views: numbers of the views of the training set to store at it.
        values: per image.
        size: bytes for the images of these views and of validation.
        left: bytes of the budget that shallower cuts left.
    """

    depth: int
    views: list[int]
    values: int
    size: int
    left: int

    @property
    def stored(self) -> bool:
        return self.size <= self.left

    def __str__(self) -> str:
        why = "stored" if self.stored else f"streamed: over the {self.left / 1e9:.2f} GB left of extract.budget_gb"
        views = "1 view" if len(self.views) == 1 else f"{len(self.views)} views"
        return f"depth {self.depth}, {views}, {self.values:,} values an image, {self.size / 1e9:.3f} GB, {why}"


def plan_cuts(widths: dict[int, int], train: int, val: int, views: int, settings: Extract) -> list[Cut]:
    """Decide which cuts to store: the shallowest first, each that fits what is left of the budget.

    Args:
        widths: values per image at each depth.
        train, val: number of images of each split.
        views: number of views, `augment.views`.
        settings: cuts, budget_gb, dtype.
    """
    planned, left = [], round(settings.budget_gb * 1e9)
    by_view = settings.cuts_by_view(views)
    for depth in sorted(by_view[0]):
        own = [view for view, depths in enumerate(by_view) if depth in depths]
        size = widths[depth] * (len(own) * train + val) * np.dtype(settings.dtype).itemsize
        planned.append(Cut(depth, own, widths[depth], size, left))
        if planned[-1].stored:
            left -= size
    return planned


def stored_depths(planned: Iterable[Cut], view: int = 0) -> tuple[int, ...]:
    """The depths that are stored of a view, the shallowest first; of the first view, all that are stored."""
    return tuple(cut.depth for cut in planned if cut.stored and view in cut.views)


def _store_activations(
    folder: Path, network: Network, planned: list[Cut], extraction: Extraction, state: State | None
) -> None:
    """Fill one file per cut and view in `folder`."""
    augment, settings = extraction.augment, extraction.settings
    # Unfinished files stay outside the stage's output: DVC deletes it before each run.
    store = ActivationStore(folder if state is None else state.folder, settings, state)

    @cache
    def model(depths: tuple[int, ...]) -> keras.Model:
        return storing(network.features(depths, extraction.pool, augment), settings.dtype)

    depths = stored_depths(planned)
    store.fill("val", depths, model(depths), augmentation_inputs(extraction.val.inputs, augment))
    for view in range(augment.views):
        if depths := stored_depths(planned, view):
            inputs = augmentation_inputs(extraction.train.inputs, augment, view)
            store.fill(f"view{view}", depths, model(depths), inputs)
    if state is not None:
        for file in store.files:
            link_or_copy(file, folder / file.name)
