"""Stored features: one file for each cut and view, of the values that the network gives, or a clear refusal."""

import os
import re
import shutil
import signal
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers.examples import SPOILT, augment, example_images, extraction, small_network
from thaw import paths
from thaw.config.schema import Augment, Extract
from thaw.data.examples import Examples
from thaw.data.stored import (
    features_origin,
    phase_data,
    read_activations,
    read_features_info,
    refuse_other_origin,
    unaugmented_data,
)
from thaw.errors import ThawError
from thaw.extraction import store
from thaw.extraction.extract import extract_features
from thaw.extraction.plan import Extraction
from thaw.network import inference
from thaw.network.augmentation import augmentation_inputs
from thaw.runtime.files import read_sealed, seal_folder, sha256
from thaw.runtime.resume import State
from thaw.runtime.workers import received_tasks

TRAIN, VAL = example_images(20), example_images(9, seed=1)
CLASSES = ["cat", "dog", "frog", "horse"]
VARIED = augment(flip=True, translation=0.2, views=2, seed=3)
PLAIN = augment()


def settings(**chosen) -> Extract:
    return Extract(**{"cuts": [0, 1], "budget_gb": 1.0, "dtype": "float32", "batch_size": 8} | chosen)


def extract(folder: Path, how: Augment = VARIED, pool: str = "avg", train: Examples = TRAIN, **chosen) -> None:
    of = extraction(train, VAL, settings(**chosen), pool=pool, classes=CLASSES, augment=how)
    extract_features(folder, small_network(), of)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """The usual extraction, to read from alone."""
    folder = tmp_path_factory.mktemp("data") / "features"
    extract(folder)
    return folder


@pytest.fixture
def spoilt(stored, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(stored, tmp_path / "features"))


def test_there_is_one_file_for_each_cut_and_view_and_no_other(stored):
    arrays = {f"depth{depth}-{view}.npy" for depth in (0, 1) for view in ("val", "view0", "view1")}
    assert content(stored).keys() == arrays | {"train_labels.npy", "val_labels.npy", "features.json"}
    assert [path.name for path in stored.parent.iterdir()] == ["features"]


@pytest.mark.parametrize(("view", "count"), [("val", 9), (0, 20), (1, 20)])
def test_features_have_a_row_for_each_picture_and_its_label(stored, view, count):
    for depth, shape in ((0, (16,)), (1, (8, 8, 8))):
        found = read_activations(stored, depth, view)
        assert found.inputs.shape == (count, *shape)
        assert found.inputs.dtype == np.float32
        np.testing.assert_array_equal(found.labels, (VAL if view == "val" else TRAIN).labels)


def test_features_are_read_as_a_memory_map(stored):
    assert isinstance(read_activations(stored, 1, 0).inputs, np.memmap)


def test_the_json_tells_what_is_stored(stored):
    told = {"cuts": {0: [0, 1], 1: [0, 1]}, "pool": "avg", "dtype": "float32", "classes": CLASSES, "origin": {}}
    assert read_features_info(stored) == told
    hashes = {file.name: sha256(file) for file in stored.glob("*.npy")}
    assert read_sealed(stored / "features.json") == told | {"cuts": {"0": [0, 1], "1": [0, 1]}, "sha256": hashes}


@pytest.mark.parametrize(
    ("budget", "cuts"),
    [
        (1.0, [0, 1, 2]),
        # 29 images of 16, 512 and 768 values of 4 bytes: 1,856, 59,392 and 89,088 bytes.
        (150_336e-9, [0, 1, 2]),
        (150_335e-9, [0, 1]),
        (61_248e-9, [0, 1]),
        (61_247e-9, [0]),
        (1_856e-9, [0]),
        (1_855e-9, []),
        (0.0, []),
    ],
)
def test_cuts_are_stored_shallow_first_within_the_budget(tmp_path, capsys, budget, cuts):
    extract(tmp_path / "features", PLAIN, cuts=[2, 0, 1], budget_gb=budget)
    assert read_features_info(tmp_path / "features")["cuts"] == dict.fromkeys(cuts, [0])
    stored = {name.split("-")[0] for name in content(tmp_path / "features") if name.startswith("depth")}
    assert stored == {f"depth{depth}" for depth in cuts}
    told = [line for line in capsys.readouterr().out.splitlines() if " values an image, " in line]
    assert [line.split(":")[1].split(",")[0].strip() for line in told] == ["depth 0", "depth 1", "depth 2"]
    assert [line.endswith(", stored") for line in told] == [depth in cuts for depth in range(3)]


@pytest.mark.parametrize("view", ["val", 0, 1])
def test_values_are_those_that_the_network_gives_for_the_view(stored, view):
    network, images = small_network(), (VAL if view == "val" else TRAIN).inputs
    model = network.features([0, 1], "avg", VARIED)
    inputs = augmentation_inputs(images, VARIED, 0 if view == "val" else view)
    # In whole batches: the last bits of an image's values depend on the size of its batch.
    whole = np.minimum(np.arange(len(images) + -len(images) % 8), len(images) - 1)
    inputs = keras.tree.map_structure(lambda array: array[whole], inputs)
    for depth, expected in zip((0, 1), model.predict(inputs, batch_size=8, verbose=0), strict=True):
        assert np.ptp(expected) > 0
        np.testing.assert_array_equal(read_activations(stored, depth, view).inputs, expected[: len(images)])


def test_the_first_view_is_of_the_images_as_they_are_and_the_others_differ_from_it_and_each_other(tmp_path):
    extract(tmp_path / "features", VARIED.model_copy(update={"views": 3}))
    plain = small_network().features([0, 1], "avg", None).predict(TRAIN.inputs, batch_size=8, verbose=0)
    for depth, unchanged in zip((0, 1), plain, strict=True):
        first, second, third = (read_activations(tmp_path / "features", depth, view).inputs for view in range(3))
        np.testing.assert_array_equal(first, unchanged)
        assert not np.allclose(second, first)
        assert not np.allclose(third, first)
        assert not np.allclose(third, second)


def test_all_cuts_of_a_view_show_the_same_augmented_images(stored):
    x = np.asarray(read_activations(stored, 1, 1).inputs)
    for block in small_network().blocks[1:]:
        x = np.asarray(block(x, training=False))
    np.testing.assert_allclose(read_activations(stored, 0, 1).inputs, x.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)


def test_without_augmentation_a_view_is_of_the_images_as_they_are(tmp_path):
    extract(tmp_path / "features", PLAIN, train=VAL, cuts=[0])
    view, val = (read_activations(tmp_path / "features", 0, name).inputs for name in (0, "val"))
    np.testing.assert_array_equal(view, val)


def test_pooling_is_the_heads(tmp_path):
    extract(tmp_path / "features", PLAIN, pool="flatten", cuts=[0])
    network = small_network()
    maps = network.features([1], "flatten", None).predict(VAL.inputs, batch_size=8, verbose=0)
    expected = np.asarray(network.blocks[-1](keras.tree.flatten(maps)[0], training=False)).reshape(9, -1)
    np.testing.assert_allclose(read_activations(tmp_path / "features", 0, "val").inputs, expected, rtol=1e-4, atol=1e-5)


def test_the_same_extraction_has_the_same_bytes(stored, tmp_path):
    extract(tmp_path / "again")
    assert content(tmp_path / "again") == content(stored)


def test_another_seed_of_augmentation_changes_the_augmented_views_alone(stored, tmp_path):
    extract(tmp_path / "other", VARIED.model_copy(update={"seed": 4}))
    before, after = content(stored), content(tmp_path / "other")
    assert {name for name in before if before[name] != after[name]} == {
        "features.json",
        *(name for name in before if "view1" in name),
    }


def test_chunks_do_not_show_in_features(stored, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "CHUNK", 8)
    extract(tmp_path / "chunks")
    assert content(tmp_path / "chunks") == content(stored)


def test_views_are_the_same_whatever_else_is_stored_and_how_many_images_a_step_has(stored, tmp_path):
    expected = read_activations(stored, 0, 1).inputs
    for number, chosen in enumerate(({"cuts": [0]}, {"cuts": [0, 1, 2]}, {"batch_size": 20}, {"batch_size": 3})):
        extract(tmp_path / str(number), **chosen)
        np.testing.assert_allclose(
            read_activations(tmp_path / str(number), 0, 1).inputs, expected, rtol=1e-4, atol=1e-5
        )
    extract(tmp_path / "fewer", train=Examples(TRAIN.inputs[:7], TRAIN.labels[:7]))
    fewer = read_activations(tmp_path / "fewer", 0, 1).inputs
    np.testing.assert_allclose(fewer, expected[:7], rtol=1e-4, atol=1e-5)


def test_each_image_is_augmented_in_its_own_way(tmp_path):
    one = TRAIN.inputs[:1].repeat(16, axis=0)
    extract(tmp_path / "features", VARIED, train=Examples(one, np.zeros(16, np.int32)), cuts=[0])
    found = read_activations(tmp_path / "features", 0, 1).inputs
    assert len(np.unique(found.round(3), axis=0)) > 10


def test_cuts_by_view_store_what_is_asked_for_and_the_same_of_it(tmp_path, capsys):
    varied = VARIED.model_copy(update={"views": 4})
    extract(tmp_path / "all", varied, cuts=[0, 1, 2])
    capsys.readouterr()
    extract(tmp_path / "some", varied, cuts=[[2, 0, 1], [0, 1], [1]])
    told = [line for line in capsys.readouterr().out.splitlines() if " values an image, " in line]
    assert [line.split(", ")[1] for line in told] == ["2 views", "4 views", "1 view"]
    # The last list is that of the fourth view, too.
    cuts = {0: [0, 1], 1: [0, 1, 2, 3], 2: [0]}
    assert read_features_info(tmp_path / "some")["cuts"] == cuts
    arrays = {f"depth{depth}-view{view}.npy" for depth, views in cuts.items() for view in views}
    some = content(tmp_path / "some")
    assert {name for name in some if "view" in name} == arrays
    for depth, views in cuts.items():
        data = phase_data(tmp_path / "some", depth, CLASSES)
        assert len(data.views) == len(views)
        for view, examples in zip(views, data.views, strict=True):
            expected = read_activations(tmp_path / "all", depth, view).inputs
            np.testing.assert_allclose(examples.inputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("budget", "depths"), [(63_808e-9, [0, 1]), (63_807e-9, [0])])
def test_a_cut_counts_its_own_views_against_the_budget(tmp_path, budget, depths):
    # 16 values of 4 bytes of 3 times 20 images and of 9, 4,416 bytes; 512 values of 20 images and of 9, 59,392.
    varied = VARIED.model_copy(update={"views": 3})
    extract(tmp_path / "features", varied, cuts=[[0, 1], [0], [0]], budget_gb=budget)
    assert [*read_features_info(tmp_path / "features")["cuts"]] == depths


def test_a_view_runs_the_network_no_further_than_its_cuts_need(tmp_path, monkeypatch):
    networks = []

    def predict(model, *arguments):
        networks.append(model)
        return inference.predict_chunk(model, *arguments)

    monkeypatch.setattr(store, "predict_chunk", predict)
    extract(tmp_path / "features", VARIED.model_copy(update={"views": 3}), cuts=[[0, 1], [1], [1]])
    val, first, second, third = [[layer.name for layer in model.layers] for model in networks]
    assert networks[0] is networks[1] is not networks[2] is networks[3]
    assert "high_inference" in first
    assert "low_inference" in second
    assert "high_inference" not in second


def test_float16_is_the_rounded_float32(stored, tmp_path):
    extract(tmp_path / "half", dtype="float16")
    for depth in (0, 1):
        half = read_activations(tmp_path / "half", depth, 1).inputs
        assert half.dtype == np.float16
        np.testing.assert_array_equal(half, read_activations(stored, depth, 1).inputs.astype(np.float16))


def test_what_exceeds_float16_is_stored_as_its_largest_number(tmp_path):
    network = small_network()
    scales = [layer for layer in network.layers() if isinstance(layer, keras.layers.BatchNormalization)]
    scales[-1].gamma.assign(np.full(16, 1e8, "float32"))
    extract_features(tmp_path / "features", network, extraction(TRAIN, VAL, settings(cuts=[0], dtype="float16")))
    found = read_activations(tmp_path / "features", 0, 0).inputs
    assert np.isfinite(found).all()
    assert found.max() == np.finfo(np.float16).max


def test_a_failure_leaves_the_features_that_were_there(spoilt, monkeypatch):
    before = content(spoilt)

    def fail(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(store, "predict_chunk", fail)
    with pytest.raises(OSError, match="No space left"):
        extract(spoilt, PLAIN)
    assert content(spoilt) == before
    assert [path.name for path in spoilt.parent.iterdir()] == ["features"]


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("spoil", [*SPOILT.values(), flip], ids=[*SPOILT, "one bit"])
@pytest.mark.parametrize("name", ["depth1-view1.npy", "train_labels.npy"])
def test_a_damaged_array_is_refused_in_one_line(spoilt, spoil, name):
    spoil(spoilt / name)
    with pytest.raises(ThawError, match=rf"^{re.escape(str(spoilt / name))}: missing or damaged; [^\n]+$"):
        read_activations(spoilt, 1, 1)
    # What lies beside is not affected.
    read_activations(spoilt, 1, "val")


def test_a_cut_or_view_that_was_not_extracted_is_refused_in_one_line(stored):
    for depth, view in ((2, 0), (0, 9)):
        file = re.escape(str(stored / f"depth{depth}-view{view}.npy"))
        with pytest.raises(ThawError, match=rf"^{file}: missing or damaged; [^\n]+$"):
            read_activations(stored, depth, view)


def test_a_json_of_an_earlier_format_is_refused_in_one_line(spoilt):
    file = spoilt / "features.json"
    told = {name: value for name, value in read_sealed(file).items() if name != "sha256"}
    seal_folder(file, told | {"cuts": [0, 1], "views": 2})
    with pytest.raises(ThawError, match=rf"^{re.escape(str(file))}: missing or damaged; [^\n]+$"):
        read_features_info(spoilt)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_a_damaged_json_is_refused_in_one_line(spoilt, text):
    (spoilt / "features.json").write_text(text)
    with pytest.raises(ThawError, match=rf"^{re.escape(str(spoilt))}/features.json: missing or damaged; [^\n]+$"):
        read_features_info(spoilt)


def test_a_missing_json_is_refused_in_one_line(tmp_path):
    with pytest.raises(ThawError, match=rf"^{re.escape(str(tmp_path))}/features.json: missing or damaged; [^\n]+$"):
        read_features_info(tmp_path)


BLOCKS = {"low": "1" * 64, "high": "2" * 64}


@pytest.fixture
def features(tmp_path, monkeypatch) -> Path:
    """Features of BLOCKS, and the splits that they are made from."""
    monkeypatch.chdir(tmp_path)
    names, *splits = paths.SPLITS_LEARNT
    for split in splits:
        split.mkdir(parents=True)
        np.save(split / "images.npy", TRAIN.inputs)
    names.write_text("{}")
    of = extraction(TRAIN, VAL, settings(), augment=VARIED, origin=features_origin(BLOCKS, VARIED))
    extract_features(Path("features"), small_network(), of)
    return Path("features")


def spoil_the_splits() -> None:
    np.save(paths.SPLITS_LEARNT[1] / "images.npy", VAL.inputs)


def test_features_of_another_origin_are_refused_by_name(features):
    def refusal(wanted) -> str:
        with pytest.raises(ThawError) as caught:
            refuse_other_origin(features, wanted)
        return str(caught.value)

    again = "run `dvc repro` to make it again"
    refuse_other_origin(features, features_origin(BLOCKS, VARIED))
    # Where the upper block is thawed, it is another and need not be the same.
    refuse_other_origin(features, features_origin({"low": "1" * 64}, VARIED))
    other = features_origin(BLOCKS | {"high": "3" * 64}, VARIED)
    assert refusal(other) == f"features: made from another backbone (high); {again}"
    other = features_origin(BLOCKS, VARIED.model_copy(update={"flip": False, "seed": 9}))
    assert refusal(other) == f"features: made from another augmentation (flip, seed); {again}"
    spoil_the_splits()
    assert (
        refusal(features_origin(BLOCKS, VARIED))
        == f"features: made from another dataset (data/processed/train); {again}"
    )


@pytest.mark.parametrize(("changed", "depth"), [([], 0), (["high"], 1), (["low"], None), (["low", "high"], None)])
def test_a_trained_network_gets_the_shallowest_stored_cut_below_which_nothing_has_changed(
    features, monkeypatch, changed, depth
):
    monkeypatch.setattr("thaw.data.stored.read_split", lambda split, classes: {"train": (1, 2), "val": (3, 4)}[split])
    data = unaugmented_data(features, BLOCKS | dict.fromkeys(changed, "3" * 64), CLASSES)
    assert data.depth == depth
    (train,) = data.views
    if depth is None:
        assert (train, data.val) == (Examples(1, 2), Examples(3, 4))
    else:
        for examples, view in ((train, 0), (data.val, "val")):
            expected = read_activations(features, depth, view)
            np.testing.assert_array_equal(examples.inputs, expected.inputs)
            np.testing.assert_array_equal(examples.labels, expected.labels)


def test_a_trained_network_gets_no_activations_of_other_images(features):
    spoil_the_splits()
    with pytest.raises(
        ThawError, match=r"features: made from another dataset \(data/processed/train\); run `dvc repro`"
    ):
        unaugmented_data(features, BLOCKS, CLASSES)


def work_until_killed(of: Extraction, done: Path, connection: Connection, folder: Path, depths: dict) -> None:
    """A worker that is killed in the middle of its second range."""
    compute = store.ActivationStore.compute

    def compute_once(*arguments):
        if done.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        done.touch()
        return compute(*arguments)

    store.ActivationStore.compute = compute_once
    ranges = store.ActivationStore(folder, small_network(), of, depths)
    for task in received_tasks(connection):
        connection.send(ranges.write(*task))


def test_workers_extract_the_same_bytes_also_where_one_is_killed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(store, "RANGES", 3)
    of = extraction(TRAIN, VAL, settings(batch_size=2), augment=VARIED)
    extract_features(tmp_path / "expected", small_network(), of)
    compute, own, done = store.ActivationStore.compute, [], tmp_path / "done"

    def compute_after(*arguments):
        while not done.exists():  # the worker comes first
            time.sleep(0.1)
        own.append(arguments[1])
        return compute(*arguments)

    monkeypatch.setattr(store.ActivationStore, "compute", compute_after)
    state = State("extract", tmp_path / "state")
    extract_features(tmp_path / "features", small_network(), of, state, 2, partial(work_until_killed, of, done))
    assert content(tmp_path / "features") == content(tmp_path / "expected")
    told = capsys.readouterr().out
    assert told.count("extract: a worker ended with SIGKILL; going on without it") == 1
    ranges = sum(map(len, state.content.values()))
    # All but the one range that the worker had done.
    assert len(own) == ranges - 1 > 15


@pytest.mark.parametrize(
    ("done", "left"),
    [
        ([], [(0, 4), (4, 8), (8, 10)]),
        ([[4, 8, 1]], [(0, 4), (8, 10)]),
        ([[8, 10, 1], [0, 2, 1]], [(2, 6), (6, 8)]),
        ([[0, 10, 1]], []),
    ],
)
def test_the_rows_between_ranges_that_are_done_are_left(done, left):
    assert [*store.missing_ranges(10, done, 4)] == left
