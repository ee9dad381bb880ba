"""thaw.data.splits, and the two stages that lead to data/processed, run as a user runs them without DVC."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config.test_params import composed
from tests.helpers import official
from thaw import paths
from thaw.data.splits import (
    _load,
    class_names,
    draw_splits,
    read_split,
    split_rows,
    stratified,
    superclasses_of,
    write_class_names,
    write_split,
)
from thaw.datasets import DATASETS, Embedded, LabelledImages
from thaw.errors import ThawError
from thaw.runtime.files import sha256, write_sealed

ROOT = Path(__file__).parents[2]
# Classes of unlike sizes, mixed.
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [500, 300, 203])).astype(np.uint8)


def counts(labels: np.ndarray) -> list[int]:
    return np.bincount(labels, minlength=3).tolist()


# --- what is drawn ---


def test_the_two_splits_are_everything_once():
    train, val = draw_splits(LABELS, 0.1, None, seed=0)
    assert sorted([*train, *val]) == list(range(len(LABELS)))
    assert len(val) == 100
    assert (np.diff(train) > 0).all()
    assert (np.diff(val) > 0).all()


@pytest.mark.parametrize(("limit", "val_fraction"), [(None, 0.1), (90, 0.1), (101, 0.25), (3, 0.5)])
def test_each_class_has_its_share_of_each_split(limit, val_fraction):
    train, val = draw_splits(LABELS, val_fraction, limit, seed=0)
    for rows in (train, val):
        share = len(rows) / len(LABELS)
        # To within one image; where a limit cuts what validation has left, both roundings count.
        assert np.abs(np.array(counts(LABELS[rows])) - np.array(counts(LABELS)) * share).max() < (
            1 if limit is None else 2
        )


def test_so_many_of_each_class_are_kept_and_validation_stays_as_it_is():
    few, val = draw_splits(LABELS, 0.1, None, seed=0, per_class=5)
    more, same = draw_splits(LABELS, 0.1, None, seed=0, per_class=9)
    assert counts(LABELS[few]) == [5, 5, 5] and counts(LABELS[more]) == [9, 9, 9]
    assert set(few) < set(more)
    assert val.tolist() == same.tolist() == draw_splits(LABELS, 0.1, None, seed=0)[1].tolist()
    assert not set(more) & set(val)
    with pytest.raises(ThawError, match="dataset.per_class: received 184; accepted: 1 to 183"):
        draw_splits(LABELS, 0.1, None, seed=0, per_class=184)


def test_equal_classes_stay_equal():
    labels = np.tile(np.arange(10), 100)
    train, val = draw_splits(labels, 0.1, 200, seed=3)
    assert np.bincount(labels[train]).tolist() == [20] * 10
    assert np.bincount(labels[val]).tolist() == [10] * 10


def test_a_limit_counts_training_images_and_leaves_validation_as_it_is():
    all_of_it, val = draw_splits(LABELS, 0.1, None, seed=0)
    for limit in (3, 100, len(all_of_it)):
        train, same_val = draw_splits(LABELS, 0.1, limit, seed=0)
        assert len(train) == limit
        assert set(train) <= set(all_of_it)
        np.testing.assert_array_equal(same_val, val)


def test_a_seed_fixes_both_splits_and_another_changes_both():
    one, again, other = (draw_splits(LABELS, 0.1, 100, seed=seed) for seed in (0, 0, 1))
    for mine, same, different in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(mine, same)
        assert set(mine) != set(different)


def test_a_seed_fixes_what_a_limit_keeps_too():
    # No image goes to validation, so that only the limit chooses.
    kept = [set(draw_splits(LABELS, 1e-9, 100, seed=seed)[0]) for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]


labels_and_count = st.lists(st.integers(0, 5), min_size=1, max_size=300).flatmap(
    lambda labels: st.tuples(st.just(np.array(labels)), st.integers(0, len(labels)))
)


@settings(max_examples=200, deadline=None)
@given(drawn=labels_and_count, seed=st.integers(0, 2**31 - 1))
def test_a_stratified_choice_has_the_count_and_the_shares(drawn, seed):
    labels, count = drawn
    rows = stratified(labels, count, np.random.default_rng(seed))
    assert len(rows) == count
    assert (np.diff(rows) > 0).all()
    for value, size in zip(*np.unique(labels, return_counts=True), strict=True):
        taken = int((labels[rows] == value).sum())
        assert taken <= size
        assert abs(taken - size * count / len(labels)) < 1


# --- what is written and read ---

NAMES = ["cat", "dog", "owl"]
ALL = np.arange(7)


@pytest.fixture
def processed(tmp_path, monkeypatch):
    """The folder data/processed of a dataset of three classes, with a train split."""
    monkeypatch.chdir(tmp_path)
    write_split(paths.PROCESSED / "train", some_images(), ALL)
    write_class_names({"classes": NAMES})
    return tmp_path / paths.PROCESSED


def some_images(coarse: bool = False) -> LabelledImages:
    labels = np.array([2, 0, 1, 0, 2, 2, 1], np.uint8)
    # Not contiguous, as what is read of an archive is not.
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 32, 32), np.uint8).transpose(0, 2, 3, 1)
    return LabelledImages(images, labels, labels // 2 if coarse else None)


def refusal(function, *arguments) -> str:
    with pytest.raises(ThawError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read_again(processed):
    images, labels = read_split("train", NAMES)
    np.testing.assert_array_equal(images, some_images().images)
    np.testing.assert_array_equal(labels, some_images().labels)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)


def test_all_classes_stay_on_the_disk(processed):
    images, _ = read_split("train", NAMES)
    assert isinstance(images, np.memmap)
    assert images.flags.c_contiguous


@pytest.mark.parametrize(
    ("classes", "rows", "labels"),
    [
        (["owl", "cat"], [0, 1, 3, 4, 5], [0, 1, 1, 0, 0]),
        (["dog", "owl"], [0, 2, 4, 5, 6], [1, 0, 1, 1, 0]),
        (["owl", "dog", "cat"], [0, 1, 2, 3, 4, 5, 6], [0, 2, 1, 2, 0, 0, 1]),
    ],
)
def test_chosen_classes_are_numbered_in_the_order_given(processed, classes, rows, labels):
    images, found = read_split("train", classes)
    np.testing.assert_array_equal(images, some_images().images[rows])
    assert split_rows("train", classes).tolist() == rows
    assert found.tolist() == labels
    assert found.dtype == np.int32


def test_classes_of_another_dataset_are_refused(processed):
    assert "has no class fox" in refusal(read_split, "train", ["owl", "fox"])


def test_class_names_come_in_the_order_of_the_choice(processed):
    assert class_names() == NAMES
    assert class_names(["owl", 0]) == ["owl", "cat"]


def test_superclasses_are_stored_and_those_of_an_earlier_dataset_are_not_left(processed):
    write_split(processed / "train", some_images(coarse=True), ALL)
    coarse = np.load(processed / "train/coarse_labels.npy", allow_pickle=False)
    np.testing.assert_array_equal(coarse, some_images(coarse=True).coarse)
    write_split(processed / "train", some_images(), ALL)
    assert {file.name for file in (processed / "train").iterdir()} == {"images.npy", "labels.npy", "split.json"}


def test_each_class_has_the_name_of_its_superclass(processed):
    write_split(processed / "test", some_images(coarse=True), ALL)
    assert superclasses_of(NAMES) is None
    write_class_names({"classes": NAMES, "superclasses": ["mammal", "bird"]})
    assert superclasses_of(["owl", "cat"]) == ["bird", "mammal"]
    (processed / "test/coarse_labels.npy").write_bytes(b"")
    assert "coarse_labels.npy: missing or damaged" in refusal(superclasses_of, NAMES)


def npy(array: np.ndarray) -> bytes:
    with tempfile.TemporaryFile() as file:
        np.save(file, array)
        file.seek(0)
        return file.read()


class Intruder:
    """Leaves a file where it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("intruded"),)


# A pickle that opens the same file for writing where it is loaded.
PICKLE = b"cbuiltins\nopen\n(Vintruded\nVw\ntR."
IMAGES, SOME_LABELS = npy(np.ascontiguousarray(some_images().images)), npy(some_images().labels)


def rehash(split: Path) -> None:
    """Have the split name the hashes that its files have now."""
    hashes = {file.name: sha256(file) for file in split.glob("*.npy")}
    write_sealed(split / "split.json", {"sha256": hashes})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("images.npy", None),
        ("images.npy", b""),
        ("images.npy", IMAGES[:-1]),
        ("images.npy", IMAGES[:100]),
        ("images.npy", bytes(len(IMAGES))),
        ("images.npy", IMAGES.replace(b"{", b"(", 1)),
        ("images.npy", npy(np.zeros((7, 32, 32, 3), np.float32))),
        ("images.npy", npy(np.zeros((7, 3072), np.uint8))),
        ("images.npy", npy(np.array([Intruder()], object))),
        ("images.npy", PICKLE),
        ("labels.npy", None),
        ("labels.npy", SOME_LABELS[:-1]),
        ("labels.npy", npy(np.zeros(7, np.int64))),
        ("labels.npy", npy(np.zeros((7, 1), np.uint8))),
    ],
)
def test_a_damaged_tensor_is_refused(processed, name, content):
    file = processed / "train" / name
    file.unlink() if content is None else file.write_bytes(content)
    if content is not None:
        rehash(processed / "train")  # or its hash would do
    assert str(paths.PROCESSED / "train" / name) in refusal(read_split, "train", NAMES)
    assert not Path("intruded").exists()


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "split.json"])
def test_one_bit_is_enough_to_be_refused(processed, name):
    file = processed / "train" / name
    content = bytearray(file.read_bytes())
    content[-4] ^= 1
    file.write_bytes(content)
    assert f"{name}: missing or damaged" in refusal(read_split, "train", NAMES)


def test_labels_for_other_images_are_refused(processed):
    (processed / "train/labels.npy").write_bytes(npy(np.zeros(6, np.uint8)))
    rehash(processed / "train")
    assert "7 images and 6 labels" in refusal(read_split, "train", NAMES)


@pytest.mark.parametrize("content", [None, "", "{", "{}", "\0"])
def test_damaged_class_names_are_refused(processed, content):
    file = processed / "classes.json"
    file.unlink() if content is None else file.write_text(content)
    assert "classes.json: missing or damaged" in refusal(class_names)


@settings(max_examples=200, deadline=None)
@given(places=st.dictionaries(st.integers(0, 127), st.integers(0, 255), min_size=1, max_size=4))
def test_a_damaged_header_is_read_or_refused(places):
    damaged = bytearray(SOME_LABELS)
    for place, byte in places.items():
        damaged[place] = byte
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "labels.npy"
        file.write_bytes(damaged)
        try:
            assert _load(file, (np.uint8,), 1).dtype == np.uint8
        except ThawError as error:
            assert "labels.npy" in str(error)


# --- download and preprocess, as plain modules ---


def run(folder: Path, stage: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"stages.{stage}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def run_both(folder: Path) -> dict[str, str]:
    """Run both stages; the hash of each file that they leave, by its path."""
    for stage in ("download", "preprocess"):
        result = run(folder, stage)
        assert result.returncode == 0, result.stderr
    found = (file for name in ("data", "plots", "metrics") for file in (folder / name).rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): sha256(file) for file in found}


def write_params(folder: Path, raw: dict) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))


@contextmanager
def prepared(dataset: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder in which both stages ran, and what they left."""
    raw = composed(f"dataset={dataset}", "backbone=cnn")
    # Not tmp_path: pytest keeps the folders of three runs, and this one has 400 MB.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if DATASETS[dataset].is_downloaded:
            archive = folder / "archive.tar.gz"
            official.build(archive, dataset)
            raw["dataset"] |= {"url": archive.as_uri(), "sha256": sha256(archive)}
        write_params(folder, raw)
        yield folder, run_both(folder)


@pytest.fixture(scope="module", params=["digits", pytest.param("cifar10", marks=pytest.mark.slow)])
def checkout(request):
    with prepared(request.param) as (folder, found):
        yield request.param, folder, found


def load(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / paths.PROCESSED / name, allow_pickle=False)


def test_both_stages_leave_their_outputs_and_nothing_else(checkout):
    dataset, _, found = checkout
    source = DATASETS[dataset].source
    embedded = isinstance(source, Embedded)
    raw = ("images.npy", "labels.npy") if embedded else source.train + source.test + source.names
    assert set(found) == {
        *(f"data/raw/{name}" for name in raw),
        *(
            f"data/processed/{split}/{tensor}.npy"
            for split in ("train", "val", "test")
            for tensor in ("images", "labels")
        ),
        *(f"data/processed/{split}/split.json" for split in ("train", "val", "test")),
        "data/processed/classes.json",
        "data/processed/files.csv",
        "metrics/time/download.json",
        "metrics/time/preprocess.json",
    }


def test_the_tensors_have_their_shapes_and_all_classes_in_equal_shares(checkout):
    dataset, folder, _ = checkout
    sizes = (
        {"train": 1146, "val": 287, "test": 364}
        if dataset == "digits"
        else {"train": 45_000, "val": 5_000, "test": 10_000}
    )
    for split, size in sizes.items():
        images, labels = load(folder, f"{split}/images.npy"), load(folder, f"{split}/labels.npy")
        assert (images.shape, images.dtype, labels.dtype) == ((size, 32, 32, 3), np.uint8, np.uint8)
        taken = np.bincount(labels)
        assert len(taken) == len(DATASETS[dataset].classes)
        # The digits are not of equal sizes to begin with.
        assert np.ptp(taken) <= (0.1 * taken.mean() if dataset == "digits" else 0)


def test_train_and_val_share_no_image_and_are_the_official_training_images(checkout):
    dataset, folder, _ = checkout
    train, val, test = (load(folder, f"{split}/images.npy") for split in ("train", "val", "test"))
    if dataset == "digits":
        keys = [{image.tobytes() for image in split} for split in (train, val, test)]
    else:
        # The first pixel of each image says its row and file (tests/helpers/official.py).
        keys = [{bytes(pixel) for pixel in split[:, 0, 0]} for split in (train, val, test)]
    assert [len(each) for each in keys] == [len(train), len(val), len(test)]
    assert not keys[0] & keys[1]
    assert not (keys[0] | keys[1]) & keys[2]


@pytest.mark.slow
def test_superclasses_stay_with_their_images():
    with prepared("cifar100") as (folder, _):
        names = json.loads((folder / paths.PROCESSED / "classes.json").read_text())
        assert names == {"classes": list(DATASETS["cifar100"].classes), "superclasses": official.SUPERCLASSES}
        for split in ("train", "val", "test"):
            labels = load(folder, f"{split}/labels.npy")
            assert (np.bincount(labels) == len(labels) // 100).all()
            # What tests/helpers/official.py gives each class.
            np.testing.assert_array_equal(load(folder, f"{split}/coarse_labels.npy"), labels // 5)


def test_a_second_run_leaves_the_same_bytes(checkout):
    _, folder, found = checkout
    again = run_both(folder)
    assert {name for name in found if found[name] != again.get(name)} <= {
        "metrics/time/download.json",
        "metrics/time/preprocess.json",
    }
    assert set(again) == set(found)


def test_a_limit_keeps_fewer_training_images_and_changes_nothing_else(checkout):
    _, folder, found = checkout
    raw = yaml.safe_load((folder / "params.yaml").read_text())
    try:
        write_params(folder, raw | {"dataset": raw["dataset"] | {"limit": 200}})
        result = run(folder, "preprocess")
        assert result.returncode == 0, result.stderr
        assert len(load(folder, "train/labels.npy")) == 200
        for name in ("data/processed/val/images.npy", "data/processed/test/images.npy", "data/processed/classes.json"):
            assert sha256(folder / name) == found[name]
    finally:
        write_params(folder, raw)


def test_a_failed_stage_says_so_in_one_line_and_leaves_nothing(tmp_path):
    raw = composed("backbone=cnn")
    raw["dataset"]["url"] = (tmp_path / "nothing.tar.gz").as_uri()
    write_params(tmp_path, raw)
    result = run(tmp_path, "download")
    assert result.returncode == 1
    assert result.stderr == f"download: dataset.url: no file at {tmp_path / 'nothing.tar.gz'}\n"
    left = {file.relative_to(tmp_path).parts[0] for file in tmp_path.rglob("*") if file.is_file()}
    assert left == {"params.yaml", ".dvc"}  # the lock of the stage


@pytest.mark.parametrize("dataset", [name for name, row in DATASETS.items() if not row.is_folder])
def test_preprocess_before_download_says_so_in_one_line(tmp_path, dataset):
    write_params(tmp_path, composed(f"dataset={dataset}", "backbone=cnn"))
    result = run(tmp_path, "preprocess")
    assert result.returncode == 1
    assert result.stderr.startswith("preprocess: data/raw")
    assert result.stderr.count("\n") == 1


def test_a_stage_without_params_says_so_in_one_line(tmp_path):
    result = run(tmp_path, "download")
    assert result.returncode == 1
    assert (
        result.stderr
        == "download: params.yaml: not found; run from the root of a checkout; there `thaw params` writes it\n"
    )
