"""What the schema alone cannot tell: values against each other, and against the tables of backbones and datasets."""

import itertools
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from thaw.config.schedule import chain_of
from thaw.config.schema import PHASE_NAME, RESERVED_PHASES, Backbone, Dataset, Params, Phase, Schedule, Training
from thaw.errors import ParamError, ThawError, Words
from thaw.paths import MODELS, main_checkout


@dataclass(frozen=True)
class Tables:
    """What parameters are checked against; handed in, since nothing in config decides a number.

    Attributes:
        backbones: by name, what `thaw.backbones.Backbone` tells.
        datasets: by name, what `thaw.datasets.Dataset` tells; of a folder, what all of them have in common.
        frozen_layers: of a phase and a backbone's name, how many layers lie below the phase's cut.
        checkpoint: of a folder, what `thaw.network.checkpoint.CheckpointInfo` tells; raises ThawError for any other.
        describe: of the section `dataset`, what `thaw.datasets.Dataset` tells as far as it is known; None for the row
            of `datasets`.
    """

    backbones: Mapping[str, Any]
    datasets: Mapping[str, Any]
    frozen_layers: Callable[[Phase, str], int]
    checkpoint: Callable[[Path], Any]
    describe: Callable[[Dataset], Any] | None = None


def check_values(params: Params, tables: Tables) -> None:
    """Refuse the first value that does not go with the others.

    Raises:
        ParamError: names it.
    """
    if params.backend == "jax" and params.device.xla is False:
        raise ParamError("device.xla", False, "auto or true for backend jax, which is built on XLA")
    if params.run.cluster and params.run.workers == 1:
        raise ParamError("run.cluster", params.run.cluster, "null where run.workers is 1: no process computes there")
    _check_replicas(params)
    _check_source(params.dataset, tables)
    _check_backbone(params.backbone, tables)
    _check_warmup(params)
    _check_schedule(params.schedule, params.backbone.name, tables)
    _check_extract(params, len(tables.backbones[params.backbone.name].blocks))
    check_views("evaluate.views", params.evaluate.views, params)
    row = tables.describe(params.dataset) if tables.describe else tables.datasets[params.dataset.name]
    if row.classes is not None:
        _check_images(params, row)
        _check_class_names(params, row.classes)


def _check_replicas(params: Params) -> None:
    replicas = params.run.replicas
    if replicas == "auto" or replicas == 1:
        return
    if params.backend != "jax":
        raise ParamError("run.replicas", replicas, f"1 or auto for backend {params.backend}; several need backend jax")
    if params.batch_size % replicas:
        raise ParamError(
            "batch_size", params.batch_size, f"a multiple of {replicas}, as run.replicas divide each batch"
        )


def _check_source(dataset: Dataset, tables: Tables) -> None:
    """Refuse what does not go with where the images come from: an archive, a library, or a folder."""
    if dataset.name not in tables.datasets:
        raise ParamError("dataset.name", dataset.name, ", ".join(tables.datasets))
    row = tables.datasets[dataset.name]
    if not row.is_downloaded:
        for key in ("url", "sha256"):
            if getattr(dataset, key) is not None:
                raise ParamError(f"dataset.{key}", getattr(dataset, key), f"null, as {dataset.name} is not downloaded")
    else:
        if not _is_archive_url(dataset.url or ""):
            raise ParamError("dataset.url", dataset.url, "an http://, https:// or file:// address of an archive")
        if not re.fullmatch(r"[0-9a-fA-F]{64}", dataset.sha256 or ""):
            raise ParamError("dataset.sha256", dataset.sha256, "64 hexadecimal digits")
    if row.image_size is not None and dataset.image_size != row.image_size:
        raise ParamError("dataset.image_size", dataset.image_size, f"{row.image_size} for {dataset.name}")
    if dataset.limit is not None and dataset.per_class is not None:
        raise ParamError("dataset.per_class", dataset.per_class, "null where dataset.limit is given")
    _check_path(dataset, row.is_folder)


def _check_path(dataset: Dataset, is_folder: bool) -> None:
    if not is_folder:
        if dataset.path is not None:
            raise ParamError("dataset.path", dataset.path, f"null, as {dataset.name} is no folder of yours")
        return
    if dataset.path is None:
        raise ParamError("dataset.path", None, "a folder of class folders, or a CSV: -S dataset.path=FOLDER")
    if not os.path.isabs(dataset.path):
        raise ParamError("dataset.path", dataset.path, "an absolute path, which `thaw params` and -S make of any path")
    if dataset.files not in (dataset.path, os.path.dirname(dataset.path)):
        raise ParamError("dataset.files", dataset.files, f"{dataset.path}, as in dataset.path, or the folder of a CSV")


def _check_images(params: Params, row: Any) -> None:
    """Refuse numbers of images that there are not."""
    dataset, classes = params.dataset, len(row.classes)
    check_classes("dataset.classes", dataset.classes, row.classes)
    if params.backbone.source is not None:
        check_classes("backbone.source.classes", params.backbone.source.classes, row.classes)
    left, val, _ = row.counts(dataset.val_fraction)
    if not row.is_folder and min(left, val) < classes:
        raise ParamError("dataset.val_fraction", dataset.val_fraction, "a share that leaves images of each class")
    if dataset.limit is not None and not classes <= dataset.limit <= left:
        raise ParamError("dataset.limit", dataset.limit, f"{classes} to {left} for {dataset.name}, or null for all")
    kept = dataset.limit or (classes * dataset.per_class if dataset.per_class else left)
    for wanted in [dataset.classes, params.backbone.source and params.backbone.source.classes]:
        # Close to exact: of an archive, the classes are of about the same size.
        images = int(kept * row.share(wanted))
        if params.batch_size > images:
            raise ParamError("batch_size", params.batch_size, f"1 to {images}, the training images there are")


def _check_class_names(params: Params, classes: Sequence[str]) -> None:
    if params.evaluate.gallery_class is not None:
        _learnt(params, classes, "evaluate.gallery_class", params.evaluate.gallery_class, "or its number; or null")
    _check_class_weights(params, classes)


def _is_archive_url(url: str) -> bool:
    """Whether it is an address that `thaw.datasets.fetch` takes and that ends in the name of a file."""
    try:
        address = urllib.parse.urlsplit(url)
        remote = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:  # a port that is no number, or a [ that is not closed
        return False
    local = address.scheme == "file" and not address.netloc and address.path.startswith("/")
    name = PurePosixPath(urllib.parse.unquote(address.path)).name
    return bool(remote or local) and not address.path.endswith("/") and name not in ("", "..") and "\0" not in name


def check_classes(parameter: str, wanted: Sequence[str | int] | None, names: Sequence[str]) -> None:
    """Refuse classes that are no choice of `names`.

    Raises:
        ParamError: an unknown class, one that is given twice, or fewer than two.
    """
    if wanted is None:
        return
    numbers = []
    for entry in wanted:
        number = entry if isinstance(entry, int) else names.index(entry) if entry in names else -1
        if not 0 <= number < len(names):
            known = ", ".join(names) if len(names) <= 10 else f"a class of the dataset, such as {names[0]}"
            raise ParamError(parameter, entry, f"{known}; or 0 to {len(names) - 1}")
        numbers.append(number)
    if len(set(numbers)) != len(numbers) or len(numbers) < 2:
        raise ParamError(parameter, wanted, "two or more classes, each once")


def check_views(parameter: str, views: int, params: Params) -> None:
    """Refuse more test-time views than there are: mirror images are views where training had them.

    Raises:
        ParamError: names the parameter.
    """
    if views > (10 if params.augment.flip else 5):
        raise ParamError(parameter, views, "1 to 10" if params.augment.flip else "1 to 5 where augment.flip is false")


def _check_class_weights(params: Params, names: Sequence[str]) -> None:
    """The weights are for classes that the final model learns, each named once."""
    if not isinstance(params.class_weights, dict):
        return
    weighted = [_learnt(params, names, "class_weights", entry, "or its number") for entry in params.class_weights]
    if len(set(weighted)) != len(weighted):
        raise ParamError("class_weights", params.class_weights, "each class once")


def _learnt(params: Params, names: Sequence[str], parameter: str, entry: str | int, otherwise: str) -> str:
    """The name of a class, given by name or number, that the final model learns."""
    wanted = range(len(names)) if params.dataset.classes is None else params.dataset.classes
    learnt = [names[class_] if isinstance(class_, int) else class_ for class_ in wanted]
    for name in learnt:
        if entry in (name, names.index(name)):
            return name
    known = ", ".join(learnt) if len(learnt) <= 10 else f"a class that is learnt, such as {learnt[0]}"
    raise ParamError(parameter, entry, f"{known}; {otherwise}")


def _check_backbone(backbone: Backbone, tables: Tables) -> None:
    if backbone.name not in tables.backbones:
        raise ParamError("backbone.name", backbone.name, ", ".join(tables.backbones))
    row = tables.backbones[backbone.name]
    if backbone.image_size < row.min_image_size:
        raise ParamError(
            "backbone.image_size", backbone.image_size, f"{row.min_image_size} or more for {backbone.name}"
        )
    if row.alphas and backbone.alpha is None:
        raise ParamError("backbone.alpha", None, f"a number, such as 1.0, for {backbone.name}")
    if not row.alphas and backbone.alpha is not None:
        raise ParamError("backbone.alpha", backbone.alpha, f"null for {backbone.name}")
    if backbone.weights == "imagenet":
        if not row.imagenet:
            raise ParamError("backbone.weights", "imagenet", f"none, or a weights file, for {backbone.name}")
        if row.alphas and backbone.alpha not in row.alphas:
            raise ParamError(
                "backbone.alpha", backbone.alpha, f"{', '.join(map(str, row.alphas))} with ImageNet weights"
            )
    elif backbone.has_weights_path:
        _check_weights_path(backbone, row, tables)


def _check_weights_path(backbone: Backbone, row: Any, tables: Tables) -> None:
    """The path is that of a file, or of the checkpoint of a backbone of the same name and width."""
    path = backbone.weights
    if os.path.isdir(path):
        _check_checkpoint(Path(path), backbone, row, tables)
    elif not os.path.isfile(path):  # Path.is_file fails on a name that is too long
        raise ParamError(
            "backbone.weights", path, "imagenet, none, or the path of a weights file or of a checkpoint's folder"
        )
    if backbone.weights_file != path:
        raise ParamError("backbone.weights_file", backbone.weights_file, f"{path}, as in backbone.weights")


def _check_checkpoint(folder: Path, backbone: Backbone, row: Any, tables: Tables) -> None:
    for checkout in (Path(), main_checkout()):
        if folder.resolve().is_relative_to((checkout / MODELS).resolve()):
            raise ParamError(
                "backbone.weights",
                backbone.weights,
                f"a copy outside of {MODELS}/, which the run itself writes: cp -rL {folder} ../{folder.name}",
            )
    try:
        saved = tables.checkpoint(folder).backbone
    except ThawError:
        raise ParamError("backbone.weights", backbone.weights, "a folder with a checkpoint.json of thaw") from None
    if saved["name"] != backbone.name:
        raise ParamError("backbone.name", backbone.name, f"{saved['name']}, as in the checkpoint of backbone.weights")
    if row.alphas and saved["alpha"] != backbone.alpha:
        raise ParamError(
            "backbone.alpha", backbone.alpha, f"{saved['alpha']}, as in the checkpoint of backbone.weights"
        )
    if backbone.source is not None:
        raise ParamError("backbone.source", Words("a source task"), "null where backbone.weights is a checkpoint")


def _check_warmup(params: Params) -> None:
    """Warm-up within the epochs, for all that trains."""
    runs: dict[str, Training] = {"head": params.head}
    if params.backbone.source is not None:
        runs["backbone.source"] = params.backbone.source
    runs |= {f"schedule.phases.{name}": phase for name, phase in params.schedule.phases.items()}
    for name, run in runs.items():
        if run.epochs and run.lr_schedule == "cosine" and run.warmup_epochs > run.epochs:
            raise ParamError(f"{name}.warmup_epochs", run.warmup_epochs, f"0 to {run.epochs}, the epochs of the phase")


def _check_schedule(schedule: Schedule, backbone: str, tables: Tables) -> None:
    """The phases are one chain from the head to the final one, each no less deep than the one before."""
    phases = schedule.phases
    for name, phase in phases.items():
        where = f"schedule.phases.{name}"
        if name in RESERVED_PHASES or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ParamError(where, name, PHASE_NAME)
        if phase.after != "head" and phase.after not in phases:
            raise ParamError(f"{where}.after", phase.after, f"one of {', '.join(['head', *phases])}")
        _check_cut(where, phase, backbone, tables.backbones[backbone])
    if schedule.final != "head" and schedule.final not in phases:
        raise ParamError("schedule.final", schedule.final, f"one of {', '.join(['head', *phases])}")
    chain = chain_of(schedule)
    for name in phases:
        if name not in chain:
            raise ParamError(
                f"schedule.phases.{name}",
                Words(f"a phase outside the chain {' -> '.join(chain)}"),
                "a phase that schedule.final comes after, or none",
            )
    for earlier, later in zip(chain[1:], chain[2:], strict=False):
        if tables.frozen_layers(phases[later], backbone) > tables.frozen_layers(phases[earlier], backbone):
            key = "layers" if phases[later].layers is not None else "depth"
            raise ParamError(
                f"schedule.phases.{later}.{key}", getattr(phases[later], key), f"no less deep than in {earlier}"
            )


def _check_cut(where: str, phase: Phase, backbone: str, row: Any) -> None:
    if (phase.depth is None) == (phase.layers is None):
        received = "both depth and layers" if phase.depth is not None else "neither depth nor layers"
        raise ParamError(where, Words(received), "one of the two")
    if isinstance(phase.depth, int) and not 1 <= phase.depth <= len(row.blocks):
        raise ParamError(f"{where}.depth", phase.depth, f"1 to {len(row.blocks)}, the blocks of {backbone}, or all")
    if phase.layers is not None and phase.layers >= row.layer_count:
        raise ParamError(
            f"{where}.layers", phase.layers, f"0 to {row.layer_count - 1}, as {backbone} has {row.layer_count} layers"
        )


def _check_extract(params: Params, blocks: int) -> None:
    augment, cuts = params.augment, params.extract.cuts
    by_view = params.extract.cuts_by_view(max(augment.views, len(cuts)))
    first = set(by_view[0])
    once = all(depths and len(set(depths)) == len(depths) for depths in by_view)
    if not once or not {0} <= first <= set(range(blocks)) or not first.issuperset(itertools.chain(*by_view)):
        raise ParamError(
            "extract.cuts",
            cuts,
            f"different depths from 0 to {blocks - 1}, 0 (the head's cut) among them; "
            "or such a list for each view, the first with all depths",
        )
    if augment.changes_nothing and augment.views > 1:
        raise ParamError("augment.views", augment.views, "1 where nothing is augmented")
