"""What is extracted: images, views, and the cuts that are stored. Start at `Extraction`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thaw import paths
from thaw.config.schema import Augment, Extract, Params
from thaw.data.examples import Examples
from thaw.data.splits import class_names, read_split
from thaw.data.stored import features_origin
from thaw.network.build import Network
from thaw.network.checkpoint import block_hashes, load_checkpoint


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


def load_extraction(params: Params) -> tuple[Network, Extraction]:
    """The frozen backbone, and what is to pass through it."""
    classes = class_names(params.dataset.classes)
    network, _ = load_checkpoint(paths.BACKBONE, with_head=False)
    train, val = (Examples(*read_split(split, classes)) for split in ("train", "val"))
    extraction = Extraction(
        pool=params.head.pool,
        classes=classes,
        train=train,
        val=val,
        augment=params.augment,
        settings=params.extract,
        origin=features_origin(block_hashes(paths.BACKBONE), params.augment),
    )
    return network, extraction


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


def depths_by_view(planned: Iterable[Cut], views: int) -> dict[str, tuple[int, ...]]:
    """The depths that are stored of validation (val) and of each view (view0, ...); what has none is left out."""
    planned = list(planned)
    depths = {"val": stored_depths(planned)} | {f"view{view}": stored_depths(planned, view) for view in range(views)}
    return {name: stored for name, stored in depths.items() if stored}
