"""The stage figures, from made-up tables and views, in a folder that has no split."""

import numpy as np
import pytest

from thaw import paths
from thaw.errors import ThawError
from thaw.figures.draw import draw_figures, gallery_title, mistakes_title, phase_title
from thaw.runtime.files import replacing_folder, save_array, write_json
from thaw.runtime.tables import write_table

CLASSES = ["cat", "dog"]
START = {"epoch": 0, "phase": "head", "learning_rate": None, "train_loss": None, "train_accuracy": None}
TRAINED = {"epoch": 1, "phase": "head", "learning_rate": 0.1, "train_loss": 1.0, "train_accuracy": 0.5}
VALIDATED = {"val_loss": 1.0, "val_accuracy": 0.5}
PREDICTIONS = [
    {"index": index, "label": CLASSES.index(actual), "class": actual, "predicted": predicted, "confidence": 0.75}
    for index, (actual, predicted) in enumerate([("cat", "cat"), ("cat", "dog"), ("dog", "dog"), ("cat", "dog")])
]
WRONG = [row for row in PREDICTIONS if row["class"] != row["predicted"]]
FIGURES = {"phases.png", "calibration.png", "gallery.png", "mistakes.png", "samples.png", "views.png"}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """What evaluate and extract leave for the figures of a run."""
    monkeypatch.chdir(tmp_path)
    tables = {
        "history": [START | VALIDATED, TRAINED | VALIDATED],
        "phases": [{"phase": "head", "trainable": "nothing but the head", "epochs": 1, "best_epoch": 1}],
        "calibration": [
            {"probabilities": name, "from": 0.7, "to": 0.8, "confidence": 0.75, "accuracy": 0.5, "images": 4}
            for name in ("calibrated", "uncalibrated")
        ],
        "predictions": [row | {"p_cat": 0.25, "p_dog": 0.75} for row in PREDICTIONS],
        "gallery": [row for row in PREDICTIONS if row["class"] == "cat"],
        "mistakes": WRONG,
    }
    for name, rows in tables.items():
        write_table(paths.TABLES / f"{name}.csv", rows)
    for name in ("gallery", "mistakes"):
        save_array(paths.TABLES / f"{name}.npy", np.zeros((len(tables[name]), 32, 32, 3), np.uint8))
    write_json(paths.EVALUATED, {"calibration_error": 0.25, "calibration_error_uncalibrated": 0.5})
    with replacing_folder(paths.VIEWS) as folder:
        save_array(folder / "images.npy", np.zeros((3, 2, 32, 32, 3), np.uint8))
        write_json(folder / "classes.json", CLASSES)
    return tmp_path


def drawn() -> dict[str, bytes]:
    draw_figures(None)
    return {file.name: file.read_bytes() for file in paths.FIGURES.iterdir()}


def test_all_figures_are_drawn_where_there_is_no_split_and_with_the_same_bytes_each_time(results):
    assert not paths.PROCESSED.exists()
    first = drawn()
    assert first.keys() == FIGURES
    assert drawn() == first


def test_a_run_without_mistakes_has_all_figures_too(results):
    write_table(paths.TABLES / "mistakes.csv", [], list(WRONG[0]))
    save_array(paths.TABLES / "mistakes.npy", np.zeros((0, 32, 32, 3), np.uint8))
    assert drawn().keys() == FIGURES


def test_accuracy_on_corrupted_images_is_drawn_where_it_was_measured(results):
    scores = {"calibration_error": 0.25, "calibration_error_uncalibrated": 0.5}
    write_json(paths.EVALUATED, scores | {"accuracy": 0.5, "accuracy_corrupted": 0.4})
    with pytest.raises(ThawError, match="^plots/tables/corruptions.csv: missing or damaged"):
        drawn()
    write_table(paths.TABLES / "corruptions.csv", [{"corruption": "contrast", "strength": 5, "accuracy": 0.4}])
    assert drawn().keys() == FIGURES | {"corruptions.png"}


@pytest.mark.parametrize("name", ["plots/tables/history.csv", "plots/tables/gallery.npy", "data/views/classes.json"])
@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"\xff,\n1,2\n")])
def test_what_is_missing_or_damaged_is_named_and_earlier_figures_stay(results, name, damage):
    paths.FIGURES.mkdir()
    (paths.FIGURES / "earlier.png").touch()
    damage(results / name)
    with pytest.raises(ThawError, match=rf"^{name}: missing or damaged; `dvc repro` makes it$"):
        draw_figures(None)
    assert [file.name for file in paths.FIGURES.iterdir()] == ["earlier.png"]


@pytest.mark.parametrize(
    ("epochs", "best_epoch", "said"),
    [(3, 2, ""), (3, 0, " (start kept)"), (0, 0, "")],
    ids=["better", "kept", "untrained"],
)
def test_the_title_of_a_phase_tells_whether_it_kept_its_start(epochs, best_epoch, said):
    row = {"phase": "top", "trainable": "block4", "epochs": epochs, "best_epoch": best_epoch}
    assert phase_title(row) == f"top: block4{said}"


def test_the_title_of_the_gallery_counts_all_test_images_of_its_class():
    cats = [row for row in PREDICTIONS if row["class"] == "cat"]
    assert gallery_title(cats, PREDICTIONS) == "Test images of cat: 1 of 3 classified correctly"
    assert gallery_title(cats[:2], PREDICTIONS) == "Test images of cat: 1 of 3 classified correctly, the first 2 shown"
    assert gallery_title([], PREDICTIONS) == "No test images of this class"


def test_the_title_of_the_mistakes_counts_all_misclassified_images():
    title = mistakes_title(WRONG[:1], PREDICTIONS)
    assert title == "The 1 of 2 misclassified test images with the highest confidence"
    assert mistakes_title(WRONG, PREDICTIONS) == "All 2 misclassified test images, the highest confidence first"
    assert mistakes_title([], PREDICTIONS) == "No misclassified test images"
