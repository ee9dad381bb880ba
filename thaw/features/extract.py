"""The stage extract: activations of the frozen backbone for each view, in data/features; samples of the views."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths
from thaw.config.schema import Augment, Extract, Params
from thaw.data.examples import Examples
from thaw.data.splits import class_names, read_split
from thaw.data.stored import FEATURES_JSON, features_origin
from thaw.features.store import ActivationStore, storing
from thaw.features.views import save_views
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
    with open_state("extract", settings, inputs, str(active_device())) as state:
        extract_features(
            paths.FEATURES,
            network,
            params.head.pool,
            classes,
            train,
            val,
            params.augment,
            params.extract,
            state,
            features_origin(block_hashes(paths.BACKBONE), params.augment),
        )
    save_views(paths.VIEWS, train, classes, params.augment)
    return state.earlier


def extract_features(
    folder: Path,
    network: Network,
    pool: str,
    classes: list[str],
    train: Examples,
    val: Examples,
    augment: Augment,
    settings: Extract,
    state: State | None = None,
    origin: dict[str, Any] | None = None,
) -> None:
    """Pass every view of the training set, and the validation set as it is, through the backbone once.

    The first view is of the pictures as they are, which is how the network will see those that it is to
    classify; the others are augmented.

    The activations at each cut within the budget are kept; which ones are, and their bytes, is printed.

    Args:
        folder: becomes the features: one .npy per cut and view, labels, and a JSON.
        network: the frozen backbone.
        pool: of the head's cut: avg or flatten.
        classes: what the labels mean.
        train, val: pictures, uint8 (n, 32, 32, 3), and labels.
        augment: how views differ, how many there are, and their seed.
        settings: cuts, budget, storage type, pictures per step.
        state: where what is done is saved after each chunk, and gone on from; None saves nothing.
        origin: what `refuse_others` compares.
    """
    rows = augment.views * len(train) + len(val)
    planned = plan_cuts(network.widths(pool), rows, settings)
    for one in planned:
        print(f"extract: {one}", flush=True)
    cuts = [one.depth for one in planned if one.stored]
    with replacing_folder(folder) as beside:
        save_array(beside / "train_labels.npy", train.labels)
        save_array(beside / "val_labels.npy", val.labels)
        if cuts:
            # What is not done must not lie in the stage's output, which DVC deletes before each run.
            store = ActivationStore(beside if state is None else state.folder, cuts, settings, state)
            model = storing(network.features(cuts, pool, augment), settings.dtype)
            store.fill("val", model, augmentation_inputs(val.inputs, augment, False), ())
            for view in range(augment.views):
                inputs = augmentation_inputs(train.inputs, augment, view > 0)
                store.fill(f"view{view}", model, inputs, (augment.seed, view))
            if state is not None:
                for file in store.files:
                    link_or_copy(file, beside / file.name)
        content = {"cuts": cuts, "views": augment.views, "pool": pool, "dtype": settings.dtype, "classes": classes}
        seal_folder(beside / FEATURES_JSON, content | {"origin": origin or {}})


@dataclass(frozen=True)
class Cut:
    """What is to become of the activations at a cut.

    Attributes:
        depth: blocks above it.
        values: of a picture.
        size: bytes for all pictures.
        left: bytes that the cuts before left of the budget.
    """

    depth: int
    values: int
    size: int
    left: int

    @property
    def stored(self) -> bool:
        return self.size <= self.left

    def __str__(self) -> str:
        why = "stored" if self.stored else f"streamed: over the {self.left / 1e9:.2f} GB left of extract.budget_gb"
        return f"depth {self.depth}, {self.values:,} values a picture, {self.size / 1e9:.3f} GB, {why}"


def plan_cuts(widths: dict[int, int], rows: int, settings: Extract) -> list[Cut]:
    """Which cuts to store: shallow first, as long as all of them fit the budget.

    Args:
        widths: values per picture at each depth.
        rows: pictures in all views and in validation.
        settings: cuts, budget_gb, dtype.
    """
    planned, left = [], round(settings.budget_gb * 1e9)
    for depth in sorted(settings.cuts):
        size = widths[depth] * rows * np.dtype(settings.dtype).itemsize
        planned.append(Cut(depth, widths[depth], size, left))
        if planned[-1].stored:
            left -= size
    return planned
