"""Training that goes on from a finished model: a new class, all commands as a user types them."""

import csv
import json
import shutil

import numpy as np
import pytest

from tests.helpers.project import HIDDEN, Project, ran, told

pytestmark = pytest.mark.slow

SHORT = [
    "recipe=demo", "dataset=digits", *HIDDEN, "backbone.source=null", "~schedule.phases.all", "schedule.final=top",
]  # fmt: skip
OLD = [0, 1, 2, 3, 4, 5, 6, 7]
FIRST = [*SHORT, f"dataset.classes={OLD}".replace(" ", "")]
# Relative to the checkout, with the slash that a shell completes; the new class comes first.
ON = [
    *SHORT, "backbone.weights=../mine/", f"dataset.classes={[9, *OLD]}".replace(" ", ""),
    "head.epochs=1", "schedule.phases.top.epochs=1",
]  # fmt: skip
AGAIN = ["backbone", "extract", "train_head", "unfreeze@top", "evaluate", "figures"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("here") / "project")
    project.exp_run(*FIRST)
    for name, copy in (("top", "mine"), ("head", "head")):
        shutil.copytree(project.folder / "models" / name, project.folder.parent / copy)
    project.second = project.exp_run(*ON)
    return project


def rows(project: Project, phase: str) -> list[dict[str, str]]:
    with open(project.folder / f"plots/curves/{phase}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def validation_images(project: Project, classes: list[int]) -> int:
    return int(np.isin(np.load(project.folder / "data/processed/val/labels.npy"), classes).sum())


def test_the_first_accuracy_is_that_of_the_finished_model_with_the_new_class_still_wrong(project):
    history = json.loads((project.folder.parent / "mine/checkpoint.json").read_text(encoding="utf-8"))["history"]
    (finished,) = (row["val_accuracy"] for row in history if row["phase"] == "top" and row["best"])
    assert finished > 0.8
    right = finished * validation_images(project, OLD)
    first = float(rows(project, "head")[0]["val_accuracy"])
    # Features are stored in half precision: an image may fall to the other side.
    assert first == pytest.approx(right / validation_images(project, [9, *OLD]), abs=0.006)


def test_what_is_kept_is_told_and_nothing_is_downloaded_again(project):
    assert ran(project.second) == AGAIN
    lines = told(project.second)
    assert "backbone: weights of a checkpoint, with its head for 8 classes" in lines["backbone"]
    kept = "train_head: keeps the hidden layer and the output of 0, 1, 2, 3, 4, 5, 6, 7; new classes: 9"
    assert kept in lines["train_head"]
    metrics = json.loads((project.folder / "metrics/evaluate.json").read_text(encoding="utf-8"))
    assert metrics["accuracy"] > 0.7
    assert "source" not in metrics, "the earlier model is no source task"


def test_a_temporary_copy_finds_the_checkpoint_and_takes_all_from_the_cache(project):
    overrides = [part for override in ON for part in ("-S", override)]
    output = project.dvc("exp", "run", "--temp", *overrides)
    assert ran(output) == []
    assert "Ran experiment" in output


def test_another_checkpoint_at_the_same_path_trains_again(project):
    assert project.would_run(*ON) == []
    mine, aside = project.folder.parent / "mine", project.folder.parent / "aside"
    mine.rename(aside)
    shutil.copytree(project.folder.parent / "head", mine)
    assert project.would_run(*ON)[0] == "backbone"
    shutil.rmtree(mine)
    aside.rename(mine)
    assert project.would_run(*ON) == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["backbone.weights=models/top"], "accepted: a copy outside of models/"),
        (["backbone.weights=../none"], "accepted: imagenet, none, or the path of a weights file or of a checkpoint's"),
        (
            ["backbone=vgg16"],
            "backbone.name: received 'vgg16'; accepted: cnn, as in the checkpoint of backbone.weights",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_before_anything_runs(project, overrides, said):
    overrides = [part for override in [*ON, *overrides] for part in ("-S", override)]
    (line,) = project.dvc("exp", "run", *overrides, check=False).splitlines()
    assert line.startswith("ERROR: backbone.")
    assert said in line
