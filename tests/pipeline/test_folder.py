"""A folder of photographs through the whole pipeline, as a user runs it, under LANG=C and with names of all kinds."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.project import Project, ran

pytestmark = pytest.mark.slow
NAMES = ["🤚", "고양이", 'a, "b" $x$']
SMALL = [
    "dataset=folder", "backbone=cnn", "backbone.image_size=48", "schedule=head-only", "head.epochs=6",
    "augment.views=1", "batch_size=16",
]  # fmt: skip


def write_photos(root: Path) -> Path:
    """Thirty JPEG photographs of each class, whose colour tells the class; a text; and a hidden file."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(NAMES):
        (root / name).mkdir(parents=True)
        for number in range(30):
            colour = np.roll([220, 60, 60], label)
            noise = generator.integers(-40, 40, (60 + number, 90, 3))
            Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(root / name / f"{number:03}.jpg")
    (root / NAMES[0] / "notes.txt").write_text("notes")
    (root / NAMES[0] / ".DS_Store").write_bytes(b"x")
    return root


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A finished run in a clone beside the photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photos(folder / "photos")
    (folder / "clone").mkdir()
    project = Project(folder / "clone")
    overrides = [part for override in (*SMALL, "dataset.path=../photos") for part in ("-S", override)]
    project.output = project.run("dvc", "exp", "run", *overrides, LC_ALL="C", LANG="C")
    return project


def table(project: Project, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((project.folder / name).read_text(encoding="utf-8"), newline="")))


def runs_again(project: Project) -> list[str]:
    return ran(project.dvc("repro", "--dry"))


def test_it_learns_and_says_what_it_took(project):
    assert (
        f"preprocess: {project.folder.parent / 'photos'}: 91 files, 90 images, 1 left out, 1 hidden" in project.output
    )
    assert "Warning" not in project.output
    metrics = json.loads((project.folder / "metrics/evaluate.json").read_text())
    assert metrics["accuracy"] > 0.6, "by chance 0.33"
    assert {row["class"] for row in table(project, "plots/tables/per_class.csv")} == set(NAMES)


def test_images_keep_their_own_size_to_the_end(project):
    sizes = {
        name: np.load(project.folder / name, mmap_mode="r").shape[-3:]
        for name in ("data/processed/test/images.npy", "data/views/images.npy", "plots/tables/gallery.npy")
    }
    assert set(sizes.values()) == {(48, 48, 3)}
    checkpoint = json.loads((project.folder / "models/head/checkpoint.json").read_text())
    assert checkpoint["backbone"]["input_size"] == checkpoint["backbone"]["image_size"] == 48
    assert checkpoint["classes"] == sorted(NAMES)


def test_a_prediction_for_a_file_is_that_of_evaluate(project):
    predictions = {row["index"]: row for row in table(project, "plots/tables/predictions.csv")}
    files = {row["file"]: row for row in table(project, "data/processed/files.csv") if row["split"] == "test"}
    assert len(files) == len(predictions) == 9
    paths = [str(project.folder.parent / "photos" / file) for file in files]
    output = project.run("python", "-m", "thaw", "predict", *paths, "--top", "3", "--json")
    found, _ = json.JSONDecoder().raw_decode(output[output.index("[\n") :])
    for row, file in zip(found, files, strict=True):
        evaluated = predictions[files[file]["index"]]
        assert row["classes"][0]["class"] == evaluated["predicted"]
        for entry in row["classes"]:
            assert entry["probability"] == pytest.approx(float(evaluated[f"p_{entry['class']}"]), abs=1e-5)


def test_the_content_of_the_folder_decides_whether_it_is_read_again(project):
    photos = project.folder.parent / "photos"
    assert runs_again(project) == []
    image = photos / NAMES[1] / "030.jpg"
    image.write_bytes((photos / NAMES[1] / "000.jpg").read_bytes())
    try:
        assert "preprocess" in runs_again(project) and "download" not in runs_again(project)
    finally:
        image.unlink()
    assert runs_again(project) == []


def test_a_report_and_an_export_are_made_of_it(project):
    project.run("python", "-m", "thaw", "report")
    page = (project.folder / "report.html").read_text(encoding="utf-8")
    assert "on photos" in page and NAMES[1] in page
    assert "test images differ" in project.run("python", "-m", "thaw", "export", "--format", "keras")


def test_a_path_that_a_run_cannot_see_is_refused_before_a_stage_starts(project):
    def refused(path: str, *more: str) -> str:
        parts = ["dataset=folder", f"dataset.path={path}", *more]
        output = project.dvc("exp", "run", *(part for one in parts for part in ("-S", one)), check=False)
        assert output.count("\n") == 1, output
        return output

    assert refused("../none").startswith(f"ERROR: dataset.path: received '{project.folder.parent}/none'; accepted: a ")
    assert refused(".").endswith("accepted: a folder apart from the checkout\n")
    assert refused("data").endswith("accepted: a folder apart from data/raw/, which stages write\n")
    assert "batch_size: received 500; accepted: 1 to 74" in refused("../photos", "batch_size=500", "backbone=cnn")
    assert project.git("status", "--porcelain", "params.yaml") != "", "that of the run before"
    assert runs_again(project) == []


@pytest.mark.parametrize("place", ["data/photos", "photos"], ids=["git-ignored", "dvc add"])
@pytest.mark.parametrize("options", [[], ["--temp"]], ids=["workspace", "temp"])
def test_a_folder_in_the_checkout_is_read_from_any_run(project, tmp_path, place, options):
    clone = Project(tmp_path, project.folder)
    write_photos(tmp_path / place)
    if place == "photos":
        clone.dvc("add", "photos")
        clone.commit("photographs")
    overrides = [part for override in (*SMALL, f"dataset.path={place}") for part in ("-S", override)]
    output = clone.dvc("exp", "run", *options, *overrides, "preprocess")
    assert f"preprocess: {tmp_path / place}: 91 files, 90 images, 1 left out, 1 hidden" in output
