"""Duplicates and suspected label errors: planted ones are found, in features and in the files of a whole audit."""

import argparse
import contextlib
import importlib.util
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from tests.helpers.examples import extraction, points
from tests.helpers.project import ROOT
from thaw import paths
from thaw.app.audit import duplicates, whitening
from thaw.app.audit.collection import Collection, Split
from thaw.app.audit.duplicates import Pair, exact_duplicates, first_copies, leaked, near_duplicates
from thaw.app.audit.findings import Findings, read_correct
from thaw.app.audit.label_errors import out_of_fold_probabilities, suspected_errors
from thaw.app.audit.whitening import whitened
from thaw.app.audit.write import FILES, closest, is_earlier_audit, summary
from thaw.app.commands import audit
from thaw.config.compose import compose_params
from thaw.config.schema import Extract
from thaw.data.examples import Examples
from thaw.data.splits import write_class_names, write_split
from thaw.data.stored import FEATURES_JSON, features_origin
from thaw.datasets import LabelledImages
from thaw.errors import ParamError, ThawError
from thaw.extraction.extract import extract_features
from thaw.network.build import build_network
from thaw.network.checkpoint import CheckpointInfo, block_hashes, save_checkpoint
from thaw.network.seeds import seed_initialisers
from thaw.runtime.files import read_sealed, write_sealed
from thaw.runtime.installed import install_command
from thaw.runtime.tables import read_table, write_table
from thaw.stage import read_params

CLASSES = ["cat", "dog", "frog", "horse"]


# --- whitened features ---


def test_whitened_features_are_uncorrelated_and_of_unit_variance():
    generator = np.random.default_rng(0)
    features = (generator.normal(size=(500, 6)) @ generator.normal(size=(6, 6)) + 3).astype(np.float16)
    found = whitened(np.split(features, [400, 450]))
    assert (found.shape, found.dtype) == ((500, 6), np.float32)
    np.testing.assert_allclose(np.cov(found.T), np.eye(6), atol=1e-4)


def test_the_largest_components_are_kept_as_measured_on_a_sample_of_all_splits(monkeypatch):
    monkeypatch.setattr(whitening, "SAMPLE", 100)
    monkeypatch.setattr(whitening, "COMPONENTS", 2)
    monkeypatch.setattr(whitening, "CHUNK", 64)
    features = np.random.default_rng(0).normal(size=(300, 4)) * [1, 9, 1, 5]
    found = whitened([features[:240], features[240:]])
    np.testing.assert_allclose(found[::3].var(axis=0, ddof=1), 1, atol=1e-4)
    correlations = np.abs(np.corrcoef(found.T, features.T)[:2, 2:])
    assert (correlations > 0.9).tolist() == [[False, True, False, False], [False, False, False, True]]


def test_features_that_never_change_have_no_component():
    features = np.hstack([np.random.default_rng(0).normal(size=(80, 3)), np.full((80, 9), 300.7)]).astype(np.float16)
    assert whitened([features]).shape == (80, 3)


def test_few_images_have_few_components():
    assert whitened([np.random.default_rng(0).normal(size=(80, 50))]).shape == (80, 20)


# --- exact duplicates ---


def test_an_image_with_the_same_pixels_is_found_with_the_first_of_them():
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    images[3] = images[5] = images[1]
    firsts = first_copies(images)
    assert firsts.tolist() == [0, 1, 2, 1, 4, 1]
    assert exact_duplicates(firsts) == [Pair(1, 3, 1.0), Pair(1, 5, 1.0)]
    images[3, 0, 0, 0] ^= 1
    assert exact_duplicates(first_copies(images)) == [Pair(1, 5, 1.0)], "one bit is enough"


# --- near duplicates ---


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 8 images: pairs lie within a block and in two."""
    monkeypatch.setattr(duplicates, "BLOCK", 8)


def test_the_pairs_are_those_of_all_cosines(small_blocks):
    components = np.random.default_rng(0).normal(size=(45, 4)).astype(np.float32)
    near = near_duplicates(components, np.arange(45), 0.8)
    cosines = cosine_similarity(components)
    expected = set(zip(*np.nonzero(np.triu(cosines, 1) >= 0.8), strict=True))
    assert len(expected) > 40
    assert len(near) == len(expected)
    assert {pair[:2] for pair in near} == expected
    found = [pair.cosine for pair in near]
    assert found == sorted(found, reverse=True)
    np.testing.assert_allclose(found, [cosines[pair[:2]] for pair in near], atol=1e-5)


def test_an_image_with_the_same_pixels_is_compared_once(small_blocks):
    components = np.random.default_rng(0).normal(size=(20, 50))
    components[15] = components[3]  # a copy
    components[9] = components[3] + 0.01
    firsts = np.arange(20)
    firsts[15] = 3
    assert [pair[:2] for pair in near_duplicates(components, firsts, 0.9)] == [(3, 9)]


def test_components_that_are_all_zero_are_like_no_others():
    assert near_duplicates(np.zeros((3, 4), np.float32), np.arange(3), 0.1) == []


def test_a_threshold_that_too_many_pairs_reach_is_refused(small_blocks, monkeypatch):
    monkeypatch.setattr(duplicates, "MOST", 50)
    with pytest.raises(ParamError, match=r"--threshold: received 0\.9; accepted: a higher one: more than 50 pairs"):
        near_duplicates(np.ones((20, 4), np.float32), np.arange(20), 0.9)


def test_the_memory_of_the_search_does_not_grow_with_the_square_of_the_images(monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK", 256)
    components = np.random.default_rng(0).normal(size=(6000, 32)).astype(np.float32)
    tracemalloc.start()
    near_duplicates(components, np.arange(6000), 0.99)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6, "all cosines would take 144 MB"


def test_the_share_that_is_done_ends_at_all_of_it(small_blocks):
    shares = []
    near_duplicates(np.eye(20), np.arange(20), 0.9, shares.append)
    assert shares == sorted(shares)
    assert (len(shares), shares[-1]) == (6, 1)


def test_a_test_image_is_leaked_by_a_copy_and_by_what_is_near_its_first_copy():
    # Training: 0 to 3, validation: 4 and 5, test: 6 to 11.
    firsts = np.arange(12)
    firsts[7] = 2  # the same pixels as in training
    firsts[9] = 8  # the same as another test image, which is near one of validation
    near = [Pair(5, 8, 0.95), Pair(0, 3, 0.94), Pair(10, 11, 0.93)]
    assert leaked(firsts, near, 6).tolist() == [7, 8, 9]


# --- label errors ---


def test_flipped_labels_are_suspected_and_their_class_is_suggested():
    examples = points(3000, classes=3, spread=0.3)
    flipped = np.random.default_rng(0).choice(3000, 100, replace=False)
    labels = examples.labels.copy()
    labels[flipped] = (labels[flipped] + 1) % 3
    probabilities = out_of_fold_probabilities(examples.inputs, labels, seed=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    errors = suspected_errors(labels, probabilities)
    assert {error.number for error in errors} <= set(flipped)
    assert len(errors) > 70
    for error in errors:
        assert error.suggested == examples.labels[error.number]
        row = probabilities[error.number]
        assert (error.probability, error.label_probability) == (row.max(), row[labels[error.number]])
    least = [error.label_probability for error in errors]
    assert least == sorted(least)


def test_no_image_is_scored_by_a_regression_that_has_seen_its_label():
    """Labels at random can be learnt by heart, but not predicted."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    probabilities = out_of_fold_probabilities(generator.normal(size=(200, 150)).astype(np.float32), labels, seed=0)
    assert abs((probabilities.argmax(axis=1) == labels).mean() - 0.5) < 0.15


def test_a_class_with_a_single_image_is_refused():
    labels = np.array([0, 0, 0, 1])
    with pytest.raises(ThawError, match="a class has fewer than 2 training and validation images"):
        out_of_fold_probabilities(np.eye(4, dtype=np.float32), labels, seed=0)


# --- files ---


def labels(count: int) -> np.ndarray:
    return (np.arange(count) % 4).astype(np.uint8)


def blocky(count: int, seed: int) -> np.ndarray:
    """Images of 8 x 8 blocks of random colours, uint8 (count, 32, 32, 3): the features of no two are similar."""
    blocks = np.random.default_rng(seed).integers(0, 255, (count, 4, 4, 3), np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


def planted() -> dict[str, np.ndarray]:
    """Images of the splits: two test images with the same pixels as others, one brighter than another, by 1 of 255."""
    splits = {"train": blocky(80, 0), "val": blocky(20, 1), "test": blocky(20, 2)}
    splits["test"][4], splits["test"][5] = splits["train"][8], splits["val"][3]
    splits["test"][6] = splits["train"][9] + 1
    splits["train"][70] = splits["train"][66] + 1
    return splits


@pytest.fixture(scope="module")
def extracted(tmp_path_factory) -> Path:
    """What the stage extract leaves."""
    folder, splits = tmp_path_factory.mktemp("extracted"), planted()
    with contextlib.chdir(folder):
        compose_params(["backbone=cnn", "backbone.weights=none"], paths.PARAMS, ROOT / "conf")
        for name, images in splits.items():
            write_split(paths.PROCESSED / name, LabelledImages(images, labels(len(images))), np.arange(len(images)))
        write_class_names({"classes": CLASSES})
        seed_initialisers(0, "test")
        network = build_network("cnn", 32, None, 32)
        save_checkpoint(paths.BACKBONE, CheckpointInfo({"name": "cnn", "image_size": 32, "alpha": None}, {}), network)
        train, val = (Examples(splits[name], labels(len(splits[name]))) for name in ("train", "val"))
        settings = Extract(cuts=[0], budget_gb=1.0, dtype="float16", batch_size=16)
        origin = features_origin(block_hashes(paths.BACKBONE), read_params().augment)
        how = extraction(train, val, settings, pool="flatten", classes=CLASSES, origin=origin)
        extract_features(paths.FEATURES, network, how)
    return folder


@pytest.fixture
def project(extracted, tmp_path, monkeypatch) -> Path:
    """A copy, in which nothing loads a backend."""
    shutil.copytree(extracted, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(audit, "set_up_backend", lambda *arguments: pytest.fail("work"))
    return tmp_path


def run(*words: str) -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    audit.run(audit.add_parser(commands).parse_args(list(words)))


def write_predictions(misclassified: set[int]) -> None:
    """A table as evaluate writes it."""
    rows = [{"index": row, "label": label, "class": CLASSES[label]} for row, label in enumerate(labels(20).tolist())]
    for row in rows:
        row["predicted"] = "another" if row["index"] in misclassified else row["class"]
    write_table(paths.TABLES / "predictions.csv", rows)


def test_an_audit_finds_what_was_planted_and_leaves_the_stages_outputs_as_they_are(project, monkeypatch, capsys):
    monkeypatch.setattr(audit, "set_up_backend", lambda *arguments: None)
    write_predictions({4, 8})
    before = {file: file.read_bytes() for file in project.rglob("*") if file.is_file()}
    run("--threshold", "0.99")
    assert {file: file.read_bytes() for file in before} == before
    assert {file.name for file in (project / "audit").iterdir()} == set(FILES)
    found = [tuple(row.values()) for row in read_table(Path("audit/duplicates.csv"))]
    assert found[:2] == [
        ("exact", "1.0000", "train", "8", "cat", "test", "4", "cat"),
        ("exact", "1.0000", "val", "3", "horse", "test", "5", "dog"),
    ]
    assert {row[:1] + row[2:] for row in found[2:]} == {
        ("near", "train", "66", "frog", "train", "70", "frog"),
        ("near", "train", "9", "dog", "test", "6", "frog"),
    }
    assert all(0.99 <= float(row[1]) <= 1 for row in found[2:])
    for row in read_table(Path("audit/label_errors.csv")):
        assert list(row) == ["split", "row", "label", "class", "suggested", "probability", "label_probability"]
        assert row["split"] in ("train", "val") and row["class"] == CLASSES[int(row["row"]) % 4]
        assert row["suggested"] in CLASSES and row["suggested"] != row["class"]
        assert float(row["probability"]) > float(row["label_probability"])
    for name in ("duplicates.png", "label_errors.png"):
        assert Image.open(project / "audit" / name).width > 900
    said = capsys.readouterr().out
    cells = [re.split("  +", line) for line in said.splitlines()[:8]]
    assert cells[0] == ["pairs of duplicates", "exact", "near, cosine 0.99 up", "of different classes"]
    assert {title: [int(count) for count in counts] for title, *counts in cells[2:]} == {
        "train": [0, 1, 0], "train and val": [0, 0, 0], "train and test": [1, 1, 1],
        "val": [0, 0, 0], "val and test": [1, 0, 1], "test": [0, 0, 0],
    }  # fmt: skip
    assert "\ntest images with a duplicate in train or val: 3 of 20 (15.00%)\n" in said
    assert "\ntest accuracy: 0.9000, 0.9412 without those, 0.6667 of those\n" in said
    assert said.endswith("\naudit: duplicates.csv, duplicates.png, label_errors.csv, label_errors.png written\n")


def test_the_files_of_an_earlier_audit_alone_are_replaced(tmp_path):
    folder = tmp_path / "audit"
    assert not is_earlier_audit(folder)
    folder.mkdir()
    assert not is_earlier_audit(folder)
    (folder / FILES[0]).touch()
    assert is_earlier_audit(folder)
    accepted = "accepted: a folder that is new, empty, or of an earlier audit"
    (folder / "notes.txt").touch()
    with pytest.raises(ParamError, match=rf"^--output: received '{folder}'; {accepted}; it has notes\.txt$"):
        is_earlier_audit(folder)
    with pytest.raises(ParamError, match=f"{accepted}$"):
        is_earlier_audit(folder / "notes.txt")


@pytest.mark.parametrize("output", ["data", "params.yaml", "."])
def test_what_is_something_else_is_refused_before_any_work_and_left(project, output):
    before = {file: file.read_bytes() for file in project.rglob("*") if file.is_file()}
    with pytest.raises(ParamError, match=f"--output: received '{output}'; accepted: a folder that is new, empty"):
        run("--output", output)
    assert {file: file.read_bytes() for file in project.rglob("*") if file.is_file()} == before


def test_that_an_earlier_audit_was_replaced_is_said(project, monkeypatch, capsys):
    (project / "audit").mkdir()
    (project / "audit" / FILES[0]).touch()
    for name in ("set_up_backend", "collect", "search", "write_findings"):
        monkeypatch.setattr(audit, name, lambda *arguments: None)
    monkeypatch.setattr(audit, "summary", lambda *arguments: "")
    run()
    assert capsys.readouterr().out.endswith("label_errors.png written, in place of an earlier audit's\n")


def refusal() -> str:
    with pytest.raises(ThawError) as caught:
        run()
    assert not Path("audit").exists()
    return str(caught.value)


def test_that_nothing_is_extracted_is_said_before_any_work(project):
    shutil.rmtree(paths.FEATURES)
    assert refusal() == "data/features: nothing extracted yet; run `dvc repro extract` first"


def test_features_of_another_backbone_are_refused_before_any_work(project):
    network = build_network("cnn", 32, None, 32)
    save_checkpoint(paths.BACKBONE, CheckpointInfo({"name": "cnn", "image_size": 32, "alpha": None}, {}), network)
    assert refusal().startswith("data/features: made from another backbone (")


def test_features_of_other_cuts_alone_are_refused_before_any_work(project):
    info = read_sealed(paths.FEATURES / FEATURES_JSON)
    write_sealed(paths.FEATURES / FEATURES_JSON, info | {"cuts": {}})
    assert refusal() == "data/features: none at depth 0; raise extract.budget_gb and run `dvc repro extract` first"


def test_that_a_package_is_missing_is_said_before_any_work(project, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refusal() == f"audit: needs one more package: {install_command('audit')}"


@pytest.mark.parametrize("threshold", ["0", "1.1", "nan", "high"])
def test_a_threshold_that_is_no_cosine_is_refused(threshold, capsys):
    with pytest.raises(SystemExit):
        run("--threshold", threshold)
    assert f"--threshold: received {threshold}; accepted: a number above 0, 1 at most\n" in capsys.readouterr().err


# --- test accuracy ---


def test_predictions_of_other_images_or_none_tell_no_accuracy(project):
    assert read_correct(CLASSES) is None
    write_predictions({3})
    assert read_correct(CLASSES).tolist() == [row != 3 for row in range(20)]
    assert read_correct(CLASSES[:3]) is None, "of four classes"
    (paths.TABLES / "predictions.csv").write_text("index,label\n0\n", encoding="utf-8")
    with pytest.raises(ThawError, match=r"^plots/tables/predictions\.csv: missing or damaged"):
        read_correct(CLASSES)


def test_an_image_is_named_by_its_row_in_the_whole_split():
    """Where a run has some of the classes, rows are those of data/processed."""
    rows = {"train": [4, 8, 9], "val": [1, 2, 3], "test": [5, 6, 7]}
    splits = [
        Split(name, np.array(numbers), blocky(3, 0), np.array([0, 1, 1]), np.eye(3)) for name, numbers in rows.items()
    ]
    collection = Collection(CLASSES[:2], splits)
    assert collection.learnt == 6
    assert collection.described(2) == {"split": "train", "row": 9, "label": 1, "class": "dog"}
    assert collection.described(7) == {"split": "test", "row": 6, "label": 1, "class": "dog"}
    np.testing.assert_array_equal(collection.image(7), splits[2].images[1])


def test_without_duplicates_the_summary_tells_one_accuracy():
    splits = [Split(name, np.arange(2), blocky(2, 0), np.zeros(2, int), np.eye(2)) for name in ("train", "val", "test")]
    collection, nothing = Collection(CLASSES, splits), Findings([], [], np.array([], int), [])
    said = summary(collection, nothing, 0.9, np.array([True, False]))
    assert (
        "\ntest images with a duplicate in train or val: 0 of 2 (0.00%)\ntest accuracy: 0.5000, 0.5000 without those\n"
        in said
    )
    assert "\ntest accuracy: not known, `dvc repro` evaluates the model\n" in summary(collection, nothing, 0.9, None)


def test_the_picture_shows_each_image_with_the_most_similar_one():
    near = [Pair(0, 1, 0.99), Pair(0, 2, 0.98), Pair(1, 2, 0.97), Pair(3, 4, 0.96), Pair(2, 3, 0.95)]
    assert closest(near) == [near[0], near[1], near[3]]
