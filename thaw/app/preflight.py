"""Refusal of experiments that cannot run, before DVC writes or deletes anything. Start at `check_experiment`.

The plugin of conf/hydra_plugins calls it before `dvc exp run` composes params.yaml. In doubt the experiment runs: the
stages check again.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import yaml

from thaw import paths
from thaw.app.lockfile import all_stages, changed_params
from thaw.app.replaced import keep_edits
from thaw.backbones import BACKBONES
from thaw.config.checks import Tables
from thaw.config.compose import check_grid, compose
from thaw.config.load import ParamsLoader, check_params
from thaw.config.schema import Backbone, Params
from thaw.config.schema import Dataset as Section
from thaw.datasets import DATASETS, Dataset, described
from thaw.errors import ParamError, ThawError, Words
from thaw.network.checkpoint import read_checkpoint_info, refuse_damaged
from thaw.network.cut import frozen_layers
from thaw.runtime.code import refuse_other_code
from thaw.runtime.files import Damaged
from thaw.runtime.logs import refuse_missing_logs

# Seconds to wait for a connection, and for the first byte.
TIMEOUT = 5.0
# Address of keras.applications' ImageNet weights.
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_KAGGLE = "https://www.kaggle.com"
# Folders of what stages write.
_OUTPUTS = (paths.RAW, paths.PROCESSED, paths.FEATURES, paths.VIEWS, paths.MODELS, paths.METRICS, paths.PLOTS)
# Image sizes with ImageNet weights of MobileNetV2; other sizes take the weights of the last.
_MOBILENET_SIZES = (96, 128, 160, 192, 224)


def check_experiment(arguments: argparse.Namespace, checkout: Path) -> None:
    """Refuse an experiment, or a grid of which one run cannot run; then keep what only params.yaml has.

    Args:
        arguments: those of `dvc exp run`, parsed by DVC.
        checkout: the root.

    Raises:
        ThawError: names the cause and a remedy.
    """
    if Path.cwd() != checkout:  # DVC would write params.yaml here
        raise ParamError("dvc exp run", Words(f"the folder {Path.cwd()}"), f"the root of the checkout, {checkout}")
    if arguments.queue or arguments.tmp_dir:
        _refuse_cache_path()
    from dvc.utils.cli_parse import to_path_overrides

    # A single stage may need neither archive nor weights, and a remote may have both.
    reachable = not (arguments.targets or arguments.pull)
    overrides = to_path_overrides(arguments.set_param).get(str(paths.PARAMS), [])
    composed: list[dict[str, Any]] = []

    def check(run: list[str]) -> None:
        composed.append(compose(run))
        check_runnable(composed[-1], reachable=reachable)

    runs = check_grid(overrides, check)
    keep_edits("dvc exp run", composed[0] if runs == 1 else None)


def _refuse_cache_path() -> None:
    """Refuse a cache that DVC cannot name in the .dvc/config of a temporary copy, which it writes as ASCII."""
    from dvc.repo import Repo

    with Repo() as repo:
        cache = repo.cache.local_cache_dir
    if not cache.isascii():
        accepted = (
            "a path in ASCII with --queue and --temp; move the checkout, `dvc cache dir --local FOLDER`, or run without"
        )
        raise ParamError("the path of DVC's cache", cache, accepted)


def check_runnable(raw: dict[str, Any], *, reachable: bool) -> None:
    """Refuse invalid parameters, a damaged checkpoint, a folder that cannot be learnt from, and what is out of reach.

    Args:
        raw: the future content of params.yaml.
        reachable: also look at the folder of images, and for the archive and the weights: on this machine, then over
            the network.

    Raises:
        ThawError: names the cause and a remedy.
    """
    # The tables that thaw.stage hands in; importing that module would take another 0.15 s.
    describe = _described if reachable else None
    checked = check_params(raw, Tables(BACKBONES, DATASETS, frozen_layers, read_checkpoint_info, describe))
    refuse_other_code(all_stages(raw), raw)
    refuse_missing_logs(checked.run.log)
    if not reachable:
        return
    url, sha256 = checked.dataset.url, checked.dataset.sha256
    if url and sha256 and not _is_made(paths.RAW, raw):
        from thaw.datasets import fetch

        fetch.check_archive(url, sha256, paths.downloads(), timeout=TIMEOUT)
    if checked.backbone.weights == "imagenet":
        _check_imagenet(checked, raw)
    elif checked.backbone.has_weights_path and os.path.isdir(checked.backbone.weights_file):
        _check_whole(checked.backbone)


def _check_whole(backbone: Backbone) -> None:
    """Read all of a checkpoint now: the stage that loads it may come minutes later."""
    try:
        refuse_damaged(Path(backbone.weights_file))
    except Damaged as error:
        raise ParamError(
            "backbone.weights", backbone.weights, f"a checkpoint that is whole; {error.path} is not"
        ) from None


def _described(section: Section) -> Dataset:
    """The dataset of the parameters; that of a folder as it looks now, if DVC can watch it beside its own outputs."""
    if section.path is not None:
        _refuse_outputs(section.path, Path(section.files).resolve())
    return described(section)


def _refuse_outputs(received: str, folder: Path) -> None:
    for name in (".", *map(str, _OUTPUTS)):
        output = Path(name).resolve()
        if output.is_relative_to(folder) or (name != "." and folder.is_relative_to(output)):
            what = "the checkout" if name == "." else f"{name}/, which stages write"
            raise ParamError("dataset.path", received, f"a folder apart from {what}")


def _check_imagenet(checked: Params, raw: dict[str, Any]) -> None:
    place = imagenet_weights(checked.backbone)
    if place is None or any(path.exists() for path in place[1]) or _is_made(paths.BACKBONE, raw):
        return
    from thaw.datasets import fetch

    url, (path, *_) = place
    try:
        fetch.reach(url, TIMEOUT)
    except fetch.Unreachable as error:
        raise ThawError(
            f"backbone.weights: ImageNet weights of {checked.backbone.name}: {url}: {error}. Without a network, put "
            f"them at {path}, or give a weights file: -S backbone.weights=FILE; or train from random "
            "values: -S schedule=scratch"
        ) from None
    except fetch.Refused:  # Keras and kagglehub may send another request
        return


def imagenet_weights(backbone: Backbone) -> tuple[str, list[Path]] | None:
    """Address of a backbone's ImageNet weights, and their possible paths on this machine.

    Returns:
        The address and the paths, the usual path first; None for a backbone without an entry here.
    """
    preset = {"resnet18": "resnet_18_imagenet", "resnet50v15": "resnet_50_imagenet"}.get(backbone.name)
    if preset is not None:
        cache = Path(os.environ.get("KAGGLEHUB_CACHE", Path.home() / ".cache/kagglehub"))
        return _KAGGLE, [cache / "models/keras/resnetv1/keras" / preset]
    folder, stem = {
        "vgg16": ("vgg16", "vgg16_weights_tf_dim_ordering_tf_kernels_notop"),
        "resnet50": ("resnet", "resnet50_weights_tf_dim_ordering_tf_kernels_notop"),
        "mobilenetv2": ("mobilenet_v2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}_no_top"),
        "efficientnetv2b0": ("efficientnet_v2", "efficientnetv2-b0_notop"),
        "convnexttiny": ("convnext", "convnext_tiny_notop"),
    }.get(backbone.name, (None, ""))
    if folder is None:
        return None
    size = backbone.image_size if backbone.image_size in _MOBILENET_SIZES else _MOBILENET_SIZES[-1]
    name = stem.format(alpha=backbone.alpha, size=size) + ".h5"
    # Keras uses the second where the first is not writable.
    homes = [Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")).expanduser(), Path("/tmp/.keras")]
    return f"{_KERAS}/{folder}/{name}", [home / "models" / name for home in homes]


class _Loader(yaml.CSafeLoader):
    """Reads numbers as ParamsLoader does, several times faster."""

    yaml_implicit_resolvers = ParamsLoader.yaml_implicit_resolvers


def _is_made(output: Path, raw: dict[str, Any]) -> bool:
    """Whether DVC has an output that was made with these parameters, by any version of the code."""
    entries = list(_read(Path("dvc.lock"), output).get("stages", {}).values())
    if output.exists() and any(_makes(entry, output, raw) for entry in entries):
        return True
    from dvc.repo import Repo

    with Repo() as repo:
        caches = [Path(repo.cache.local.path), Path(repo.cache.legacy.path)]
    entries += [_read(file, output) for file in (caches[1] / "runs").glob("*/*/*")]
    return any(_makes(entry, output, raw) and _is_cached(entry, caches) for entry in entries)


def _read(file: Path, output: Path) -> dict[str, Any]:
    """Content of a file of DVC's; empty where it does not name the output or is unreadable."""
    try:
        text = file.read_text(encoding="utf-8")
        content = _Loader(text).get_single_data() if output.as_posix() in text else {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _makes(entry: dict[str, Any], output: Path, raw: dict[str, Any]) -> bool:
    """Whether an entry of dvc.lock or of the run cache is of a stage with this output and these parameters."""
    if output.as_posix() not in (out["path"] for out in entry.get("outs", [])):
        return False
    return not changed_params(raw, {"it": entry}, ["it"])


def _is_cached(entry: dict[str, Any], caches: list[Path]) -> bool:
    hashes = [out.get("md5", "") for out in entry["outs"]]
    return all(any((cache / md5[:2] / md5[2:]).exists() for cache in caches) for md5 in hashes)
