"""A parameter that dvc.yaml names for a stage changes an output of it, one that it does not name changes none.

Each is changed in turn on tiny data; a stage runs as a function, from the same inputs.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.project import HIDDEN
from tests.helpers.stage_runs import Runs, entries, named
from thaw.config.schema import Device
from thaw.network.backend import use_backend
from tools.parameters import PHASE, every_key, names

pytestmark = pytest.mark.slow

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
PHASES = ("top", "all")
TINY = [
    f"backend={BACKEND}", "recipe=demo", "dataset=digits", "dataset.limit=60", "dataset.val_fraction=0.05",
    "dataset.classes=[7,8]", *HIDDEN,
    "backbone.source.classes=[0,1]", "backbone.image_size=16", "batch_size=4", "augment.views=2", "extract.cuts=[0,1]",
    "evaluate.gallery_class=8", "evaluate.views=2", *(f"{run}.epochs=1" for run in ("backbone.source", "head")),
    *(f"schedule.phases.{phase}.epochs=1" for phase in PHASES),
    "schedule.phases.top.learning_rate=0.0005", "schedule.phases.all.learning_rate=0.0002",
    *(f"schedule.phases.{phase}.{usual}" for phase in PHASES for usual in ("average=0", "final_learning_rate=0")),
    "schedule.phases.all.moments=zero",
]  # fmt: skip
RUNS = ("backbone.source", "head", *(f"schedule.phases.{phase}" for phase in PHASES))
PLAIN = ["backbone.source=null", "backbone.image_size=32"]
COMPOSITIONS = {
    # The head and the top block learn from stored activations, the backbone and all blocks from images.
    "stored": TINY,
    "images": [*TINY, "extract.budget_gb=0"],
    "plain": [*TINY, *PLAIN],
    "narrow": [*TINY, *PLAIN, "backbone=mobilenetv2", "backbone.weights=none", "backbone.alpha=0.35"],
    "layers": [*TINY, "~schedule.phases.top.depth", "+schedule.phases.top.layers=22"],
    "whole": [*TINY, "dataset.limit=null"],
    "folder": [*TINY, "dataset=folder", "dataset.image_size=8"],
    # Nothing is learnt, so that patience ends.
    "stalled": [
        *TINY,
        *(f"{run}.{value}" for run in RUNS for value in ("epochs=3", "learning_rate=1e-12", "lr_schedule=constant")),
    ],
}
# Other values, by key.
CHANGES: dict[str, Any] = {
    "recipe": "other",
    "backend": {"tensorflow": "jax", "jax": "tensorflow"}[BACKEND],
    "device.xla": True,
    "device.precision": "mixed_bfloat16",
    "run.data_gb": 0,
    "run.log": ["tensorboard"],
    "run.workers": 2,
    "run.cluster": None,  # tested in tests/extraction/test_remote.py
    "run.replicas": "auto",  # several are tested in tests/training/test_replicas.py: last digits differ
    "seed": 1,
    "batch_size": 3,
    "min_steps": 8,
    "class_weights": {"7": 2.0},
    "dataset.name": "cifar10",
    "dataset.url": "file:///elsewhere.tar.gz",
    "dataset.sha256": "0" * 64,
    "dataset.path": "/elsewhere",
    "dataset.files": "/elsewhere",
    "dataset.image_size": 33,
    "dataset.max_pixels": 100,
    "dataset.strict": True,
    "dataset.limit": 50,
    "dataset.per_class": 2,
    "dataset.classes": [7, 9],
    "dataset.val_fraction": 0.06,
    "dataset.test_fraction": 0.3,
    "dataset.seed": 1,
    "backbone.name": "vgg16",
    "backbone.weights": "imagenet",
    "backbone.weights_file": "elsewhere",
    "backbone.image_size": 17,
    "backbone.alpha": 0.5,
    "backbone.learning_rate": 0.5,
    "backbone.learning_rate_all": 0.5,
    "backbone.batch_norm": "train",
    "backbone.source": None,
    "backbone.source.classes": [0, 2],
    "head.pool": "flatten",
    "head.units": 5,
    "head.dropout": 0.5,
    "augment.flip": True,
    "augment.translation": 0.3,
    "augment.rotation": 0.2,
    "augment.zoom": 0.4,
    "augment.contrast": 0.5,
    "augment.views": 3,
    "augment.seed": 1,
    "schedule.views": 2,
    "schedule.final": "top",
    f"schedule.phases.{PHASE}.after": "head",
    f"schedule.phases.{PHASE}.depth": 3,
    f"schedule.phases.{PHASE}.layers": 15,
    f"schedule.phases.{PHASE}.batch_norm": "train",
    f"schedule.phases.{PHASE}.lr_decay": 0.5,
    f"schedule.phases.{PHASE}.moments": "carried",
    "extract.cuts": [0],
    "extract.budget_gb": 0,
    "extract.dtype": "float32",
    "extract.batch_size": 1,
    "evaluate.gallery_class": 7,
    "evaluate.views": 3,
    "evaluate.corruptions": True,
    **{f"{section}.name": "other" for section in ("head", "augment", "schedule")},
    **{
        f"{run}.{key}": value
        for run in ("backbone.source", "head", f"schedule.phases.{PHASE}")
        for key, value in {
            "epochs": 2, "learning_rate": 0.02, "lr_schedule": "constant", "warmup_epochs": 0.5, "patience": 1,
            "final_learning_rate": 0.005, "label_smoothing": 0.2, "average": 0.5, "mixup": 0.3,
        }.items()
        if (run, key) != ("backbone.source", "mixup")
    },
}  # fmt: skip
# Where a key acts that does not in the first composition: by its name, or by stage and name.
ACTS = {
    **{f"dataset.{key}": "folder" for key in ("path", "image_size", "max_pixels", "strict", "test_fraction")},
    "dataset.per_class": "whole",
    "backbone.name": "plain",
    "backbone.weights": "plain",
    "backbone.alpha": "narrow",
    f"schedule.phases.{PHASE}.layers": "layers",
    **{f"{run}.patience": "stalled" for run in ("backbone.source", "head", f"schedule.phases.{PHASE}")},
    **{f"train_head {key}": "images" for key in CHANGES if key.startswith("augment.")},
}
# A process has one of each: test_backend_parameters.py.
APART = ("backend", "device.xla")
# Whether predictions of other batches differ in their last digits depends on the processor.
ROUNDS = [("extract", "extract.batch_size"), ("evaluate", "batch_size")]
# Which phases there are decides which stages there are; digests of code are in a project made by `thaw new` alone.
KEYS = [key.name for key in every_key() if key.name not in ("schedule.phases", "code")]
PIPELINE = [
    name
    for stage in entries()
    for name in ([f"unfreeze@{phase}" for phase in PHASES] if stage == "unfreeze" else [stage])
]
PAIRS = [(stage, key) for stage in entries() for key in KEYS if names(named(f"{stage}@{PHASE}"), key)]
CHANGING = [
    (stage, key) for stage, key in PAIRS if key not in APART and (stage, key) not in ROUNDS and stage != "download"
]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Stages without DVCLive and, on TensorFlow, without tracing; inputs of another origin are not refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "dvclive", None)
        import thaw.training.phase

        patch.setattr(thaw.training.phase, "refuse_other_origin", lambda *arguments: None)
        if BACKEND == "tensorflow":
            import tensorflow as tf

            tf.config.run_functions_eagerly(True)
        yield
        if BACKEND == "tensorflow":
            tf.config.run_functions_eagerly(False)
        use_backend(BACKEND, Device(xla="auto", precision="float32"))


@pytest.fixture(scope="module")
def compositions(tmp_path_factory) -> dict[str, Runs]:
    folder = tmp_path_factory.mktemp("stages")
    runs = {name: Runs(folder / name, overrides) for name, overrides in COMPOSITIONS.items()}
    runs["folder"].raw["dataset"] |= dict.fromkeys(("path", "files"), str(write_images(folder / "photos")))
    return runs


def write_images(root: Path) -> Path:
    """A folder of 10 classes; some images are larger, one file is none, and a CSV gives each image another class."""
    lines = ["path,label"]
    for number in range(200):
        file = root / f"class{number % 10}" / f"{number:03}.png"
        lines.append(f"{file.relative_to(root)},class{(number + 1) % 10}")
        file.parent.mkdir(parents=True, exist_ok=True)
        side = 9 if number % 50 else 20
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)).save(file)
    (root / "class0/notes.txt").write_text("notes")
    (root / "list.csv").write_text("\n".join(lines))
    return root


def of_phase(stage: str, key: str) -> str:
    """The stage to try a key with, of several: that of the phase that learns from images, or that costs least."""
    if stage != "unfreeze":
        return stage
    return f"{stage}@{'top' if key.rsplit('.')[-1] in ('patience', 'layers') else 'all'}"


def change(stage: str, key: str, value: Any = None) -> dict[str, Any]:
    changes = {key.replace(PHASE, stage.partition("@")[2]): CHANGES[key] if value is None else value}
    # The path as conf/ computes it, which the stage reads.
    return changes | ({"backbone.weights_file": value} if key == "backbone.weights" else {})


def acts(compositions: dict[str, Runs], stage: str, key: str, value: Any = None) -> bool:
    """Whether another value of a key changes an output of a stage."""
    runs = compositions[ACTS.get(f"{stage} {key}") or ACTS.get(key, "stored")]
    name = of_phase(stage, key)
    outputs = runs.other(name, change(name, key, value))
    # Of another dataset there is nothing to read, and to refuse is what strict is for; all other values must do.
    assert "refused" not in outputs or key in ("dataset.name", "dataset.strict"), outputs
    return outputs != runs.base(name)


def unnamed_that_act(runs: Runs, stage: str, params: list[str]) -> list[str]:
    """The keys beside `params` that change an output of a stage; all are changed at once, then each where any acts."""
    changes = {}
    for key in KEYS:
        for name in [key.replace(PHASE, phase) for phase in runs.raw["schedule"]["phases"]] if PHASE in key else [key]:
            if not names(params, name) and runs.has(name):
                changes[name] = CHANGES[key]
    if runs.has("backbone.source.classes"):  # of which each key has another value
        changes.pop("backbone.source", None)
    if runs.other(stage, changes) == runs.base(stage):
        return []
    return [key for key, value in changes.items() if runs.other(stage, {key: value}) != runs.base(stage)] or ["several"]


def test_every_key_has_another_value_to_try():
    assert set(CHANGES) == set(KEYS)


@pytest.mark.parametrize(("stage", "key"), CHANGING)
def test_a_parameter_that_a_stage_names_changes_an_output(compositions, tmp_path, stage, key):
    value = None
    if key == "backbone.weights":
        from thaw.backbones import BACKBONES

        value = str(tmp_path / "of.weights.h5")
        BACKBONES["cnn"].build(32, None, None).save_weights(value)
    if key == "dataset.path":
        value = f"{compositions['folder'].raw['dataset']['path']}/list.csv"
    assert acts(compositions, stage, key, value)


@pytest.mark.parametrize(("stage", "key"), ROUNDS)
def test_a_stage_predicts_in_batches_of_the_size_that_it_names(compositions, monkeypatch, stage, key):
    from thaw.network import inference

    sizes, in_batches = set(), inference.in_batches
    monkeypatch.setattr(inference, "in_batches", lambda size, *rest: sizes.add(size) or in_batches(size, *rest))
    assert (stage, key) in PAIRS
    compositions["stored"].other(stage, {key: 5})
    assert sizes == {5}


@pytest.mark.parametrize(
    ("composition", "stage"),
    [
        *(("stored", stage) for stage in PIPELINE),
        *(("images", stage) for stage in ("train_head", "unfreeze@top")),
        ("plain", "backbone"),
        ("folder", "download"),
    ],
)
def test_a_parameter_that_a_stage_does_not_name_changes_none(compositions, composition, stage):
    assert unnamed_that_act(compositions[composition], stage, named(stage)) == []


def test_the_same_images_at_another_path_are_stored_alike(compositions, tmp_path):
    runs, copy = compositions["folder"], str(write_images(tmp_path / "copy"))
    base = runs.base("preprocess")
    assert "refused" not in base
    assert runs.other("preprocess", {"dataset.path": copy, "dataset.files": copy}) == base
    assert unnamed_that_act(runs, "preprocess", [*named("preprocess"), "dataset.files"]) == []


def test_a_name_too_many_and_a_name_too_few_are_found(compositions):
    assert not acts(compositions, "preprocess", "dataset.classes")
    params = [name for name in named("preprocess") if name != "dataset.seed"]
    assert unnamed_that_act(compositions["stored"], "preprocess", params) == ["dataset.seed"]


def test_test_time_views_change_the_metrics_alone(compositions):
    runs = compositions["stored"]
    single, several = runs.base("evaluate"), runs.other("evaluate", {"evaluate.views": 1})
    assert {name for name in single | several if single.get(name) != several.get(name)} == {"metrics/evaluate.json"}


def test_the_archive_is_decided_by_its_hash_and_not_by_its_address(tmp_path, monkeypatch):
    from thaw.datasets import download
    from thaw.runtime.files import sha256

    monkeypatch.setattr(
        download, "unpack_archive", lambda archive, layout, folder: shutil.copy(archive, folder / "data")
    )
    first, copy = tmp_path / "first.tar.gz", tmp_path / "copy.tar.gz"
    first.write_bytes(b"images")
    copy.write_bytes(b"images")
    runs = Runs(
        tmp_path / "base", ["dataset=cifar10", f"dataset.url={first.as_uri()}", f"dataset.sha256={sha256(first)}"]
    )
    base = runs.base("download")
    assert "refused" not in base
    assert runs.other("download", {"dataset.url": copy.as_uri()}) == base
    first.write_bytes(b"other images")
    assert runs.other("download", {"dataset.sha256": sha256(first)}) != base
    assert runs.other("download", {"dataset.name": "digits"}) != base
    assert set(named("download")) == {"dataset.name", "dataset.sha256"}
