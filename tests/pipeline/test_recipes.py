"""The recipes end to end, where their weights or images cannot be had: files of the same layout, of other values."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import numpy as safetensors

from tests.helpers import official
from tests.helpers.examples import measure_statistics
from tests.helpers.project import Project, ran
from tests.helpers.weights_files import layers_of, write_keras2, write_keras3
from thaw.backbones import BACKBONES
from thaw.datasets import DATASETS
from thaw.network.build import split_backbone
from thaw.network.seeds import seed_initialisers
from thaw.runtime.files import sha256

pytestmark = [
    pytest.mark.slow,
    # From inside Keras's `save_weights`.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
# What makes a run small; all else is the recipe's.
SMALL = [
    "dataset.val_fraction=0.004", "augment.views=2", "batch_size=50", "backbone.image_size=32", "min_steps=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("recipes"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """What names an archive in the official layout and at full size, for each dataset."""
    named = {}
    for dataset in ("cifar10", "cifar100"):
        path = tmp_path_factory.mktemp("archives") / f"{dataset}.tar.gz"
        official.build(path, dataset)
        named[dataset] = [f"dataset.url={path.as_uri()}", f"dataset.sha256={sha256(path)}"]
    return named


def weights_file(name: str, folder: Path, dataset: str, alpha: float | None = None) -> Path:
    """Random values in the layout in which the backbone's ImageNet weights come, which tell the images apart."""
    seed_initialisers(0, "test")
    model = BACKBONES[name].build(32, alpha, None)
    images = official.file_images(dataset, DATASETS[dataset].source.test[0]).images[:500]
    measure_statistics(split_backbone(name, model, alpha, 32), images)
    if name in ("resnet18", "resnet50v15"):
        return write_keras3(folder / "model", model)
    return write_keras2(folder / "notop.h5", layers_of(model))


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("recipe", "backbone", "phases", "images", "tested"),
    [
        # With all classes: of two the top block tells all validation images apart, and no later phase would be better.
        ("vgg16-gradual", "vgg16", ["depth1", "depth2", "all"], ["dataset.limit=200"], 10_000),
        # Of two classes, since evaluate reads all their test images.
        ("resnet50-finetune", "resnet50v15", ["all"], ["dataset.limit=1000", "dataset.classes=[cat,dog]"], 2_000),
        ("resnet18-transfer", "resnet18", ["all"], ["dataset.limit=1000", "dataset.classes=[cat,dog]"], 2_000),
    ],
)
def test_a_recipe_runs_from_a_weights_file_in_the_layout_of_its_own(
    project, archives, tmp_path, recipe, backbone, phases, images, tested
):
    weights = weights_file(backbone, tmp_path, "cifar10")
    epochs = [f"schedule.phases.{phase}.epochs=1" for phase in phases]
    output = project.exp_run(
        f"recipe={recipe}", f"backbone.weights={weights}", *archives["cifar10"], *images, *SMALL, *epochs,
        # Heads learn so well from random features that one epoch of all blocks would not be kept.
        "head.epochs=0", "class_weights={cat: 2}",
    )  # fmt: skip
    assert ran(output)[-len(phases) - 2 :] == [*(f"unfreeze@{phase}" for phase in phases), "evaluate", "figures"]
    checkpoint = json.loads((project.folder / "models/backbone/checkpoint.json").read_text())
    assert checkpoint["backbone"]["name"] == backbone
    assert checkpoint["weights"] == {"origin": "file", "sha256": sha256(weights)}
    # The head's phase leaves the backbone as the file has it; the last one moves all of it.
    for block, _ in BACKBONES[backbone].blocks:
        first, head, last = (
            (project.folder / f"models/{phase}/{block}.safetensors").read_bytes()
            for phase in ("backbone", "head", "all")
        )
        assert first == head != last
    metrics = json.loads((project.folder / "metrics/evaluate.json").read_text())
    assert np.isfinite(metrics["loss"])
    assert len(table(project.folder / "plots/tables/confusion.csv")) == tested


def test_cifar100_runs_from_an_archive_in_the_official_layout_and_stays_legible(project, archives, tmp_path):
    weights = weights_file("mobilenetv2", tmp_path, "cifar100", alpha=0.35)
    output = project.exp_run(
        "recipe=cifar100-mobilenetv2", f"backbone.weights={weights}", "backbone.alpha=0.35", *archives["cifar100"],
        *SMALL, "evaluate.gallery_class=apple",
        # A phase that starts from nothing learnt ends better, so that its weights are kept: 0.08 to 0.10 of 200
        # images after two epochs, and 0 to 0.02 before them, with seeds 0 to 2.
        "head.epochs=0", "schedule.phases.layers50.epochs=2", "schedule.phases.layers50.learning_rate=0.003",
        "dataset.limit=2000",
    )  # fmt: skip
    assert "unfreeze@layers50: training on images" in output
    # The first 50 layers end within the third block.
    order = [layer.name for layer in BACKBONES["mobilenetv2"].build(32, 0.35, None).layers]
    before, after = (
        safetensors.load_file(project.folder / f"models/{phase}/group32.safetensors") for phase in ("head", "layers50")
    )
    for name in before:
        frozen = order.index(name.split("/")[0]) < 50
        assert np.array_equal(before[name], after[name]) == frozen, name

    assert len({row["class"] for row in table(project.folder / "plots/tables/per_class.csv")}) == 100
    confusion = table(project.folder / "plots/tables/confusion.csv")
    assert {row["actual"] for row in confusion} == set(official.SUPERCLASSES)
    assert {row["predicted"] for row in confusion} <= set(official.SUPERCLASSES)
    assert len(table(project.folder / "plots/tables/confused.csv")) <= 20
    scores = json.loads((project.folder / "metrics/evaluate.json").read_text())
    assert scores["accuracy"] <= scores["superclass_accuracy"]
    right = [row["actual"] == row["predicted"] for row in confusion]
    assert scores["superclass_accuracy"] == pytest.approx(sum(right) / len(right))
    assert "top5_accuracy" in scores
