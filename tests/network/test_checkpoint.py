"""A checkpoint holds a network to the bit, is written whole or not at all, and says what is wrong with it."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import numpy as safetensors

from tests.helpers.examples import SPOILT, data, example_images, run, scramble, training, weights
from thaw.errors import ThawError
from thaw.network.build import Network, build_network
from thaw.network.checkpoint import CheckpointInfo, load_checkpoint, read_checkpoint_info, save_checkpoint
from thaw.network.seeds import seed_initialisers
from thaw.runtime.files import read_sealed, sha256, write_sealed
from thaw.training.loop import train_network

HEAD = {"pool": "avg", "units": 5, "dropout": 0.5}
CLASSES = ["cat", "dog", "frog", "horse"]
BLOCKS = ["block1", "block2", "block3", "block4"]


def network_of(seed: int = 0, name: str = "cnn", image_size: int = 16, alpha: float | None = None) -> Network:
    network = build_network(name, image_size, alpha, 32)
    network.attach(**HEAD, classes=len(CLASSES))
    for number, part in enumerate([*network.blocks, network.head]):
        scramble(part, seed=100 * seed + number)
    return network


def info_of(network: Network) -> CheckpointInfo:
    return CheckpointInfo(
        backbone={name: getattr(network, name) for name in ("name", "image_size", "alpha", "input_size")},
        weights={"origin": "none", "seed": 0},
        head=HEAD,
        classes=CLASSES,
        # A number that takes all digits to come back.
        history=[{"epoch": 0, "phase": "head", "train_loss": None, "val_loss": 0.1 + 0.2, "best": True}],
        temperature=1.234,
    )


def saved(folder: Path, seed: int = 0) -> Network:
    network = network_of(seed)
    save_checkpoint(folder, info_of(network), network)
    return network


def all_weights(network: Network) -> dict[str, np.ndarray]:
    return weights(network.layers()) | weights(network.head)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def refusal(folder: Path) -> str:
    with pytest.raises(ThawError) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "image_size", "alpha"),
    [
        ("cnn", 16, None),
        ("mobilenetv2", 32, 0.35),
        # Keras numbers some of its variables in the order in which they are made.
        pytest.param("convnexttiny", 32, None, marks=pytest.mark.slow),
    ],
)
def test_a_network_comes_back_to_the_bit_with_its_head(name, image_size, alpha, tmp_path):
    network = network_of(0, name, image_size, alpha)
    save_checkpoint(tmp_path / "model", info_of(network), network)
    loaded, info = load_checkpoint(tmp_path / "model")
    assert info == info_of(network)
    assert (loaded.name, loaded.image_size, loaded.alpha, loaded.pool) == (name, image_size, alpha, "avg")
    before, after = all_weights(network), all_weights(loaded)
    assert before.keys() == after.keys()
    for key in before:
        np.testing.assert_array_equal(before[key], after[key], err_msg=key)


def test_a_loaded_network_classifies_as_the_saved_one(tmp_path):
    network = saved(tmp_path / "model")
    loaded, _ = load_checkpoint(tmp_path / "model")
    images = example_images(8).inputs
    expected = network.classifier().predict(images, verbose=0)
    np.testing.assert_array_equal(loaded.classifier().predict(images, verbose=0), expected)


def test_a_head_is_left_out_where_it_is_not_wanted_or_not_there(tmp_path):
    network = saved(tmp_path / "with")
    loaded, info = load_checkpoint(tmp_path / "with", with_head=False)
    assert loaded.head is None
    assert info.head == HEAD

    network.head = None
    backbone = info_of(network)
    backbone.head, backbone.classes = None, []
    save_checkpoint(tmp_path / "without", backbone, network)
    assert "head.safetensors" not in content(tmp_path / "without")
    loaded, info = load_checkpoint(tmp_path / "without")
    assert loaded.head is None
    assert info.head is None


def test_a_checkpoint_is_one_file_for_each_block_one_for_the_head_and_a_json_with_their_hashes(tmp_path):
    saved(tmp_path / "model")
    tensors = {f"{name}.safetensors" for name in [*BLOCKS, "head"]}
    assert content(tmp_path / "model").keys() == tensors | {"checkpoint.json"}
    told = json.loads((tmp_path / "model/checkpoint.json").read_text())["sha256"]
    assert told == {name: sha256(tmp_path / "model" / name) for name in tensors}


def test_the_same_weights_have_the_same_bytes(tmp_path):
    network = saved(tmp_path / "one")
    save_checkpoint(tmp_path / "two", info_of(network), network)
    loaded, info = load_checkpoint(tmp_path / "one")
    save_checkpoint(tmp_path / "three", info, loaded)
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "three")


def test_after_a_run_the_files_of_frozen_blocks_have_the_bytes_of_the_predecessors(tmp_path):
    # Weights and a head that learn at once, as scrambled ones do not.
    seed_initialisers(0, "test")
    start = build_network("cnn", 16, None, 32)
    head = {"pool": "avg", "units": None, "dropout": 0.0}
    start.attach(**head, classes=len(CLASSES))
    save_checkpoint(tmp_path / "before", replace(info_of(start), head=head), start)

    network, info = load_checkpoint(tmp_path / "before")
    network.freeze(22)
    examples = example_images(16)
    rows = train_network(network, run(training(epochs=4, learning_rate=0.003)), data(examples)).rows
    assert not rows[0]["best"], "or all files would stay the same"
    save_checkpoint(tmp_path / "after", info, network)
    before, after = content(tmp_path / "before"), content(tmp_path / "after")
    same = {name for name in before if before[name] == after[name]}
    assert same == {"block1.safetensors", "block2.safetensors", "block3.safetensors"}


def test_a_checkpoint_replaces_what_was_there(tmp_path):
    saved(tmp_path / "model", seed=0)
    (tmp_path / "model/left_over.safetensors").write_bytes(b"old")
    saved(tmp_path / "model", seed=1)
    saved(tmp_path / "fresh", seed=1)
    assert content(tmp_path / "model") == content(tmp_path / "fresh")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "fresh"}


def test_a_network_takes_images_of_the_size_that_it_was_saved_with(tmp_path):
    network = build_network("cnn", 16, None, 24)
    save_checkpoint(tmp_path / "model", replace(info_of(network), head=None), network)
    again, info = load_checkpoint(tmp_path / "model")
    assert again.input_size == info.input_size == 24
    assert again.image_input()[0].shape == (None, 24, 24, 3)


def test_a_checkpoint_that_tells_no_size_takes_images_of_32_pixels(tmp_path):
    network = saved(tmp_path / "model")
    older = info_of(network)
    del older.backbone["input_size"]
    save_checkpoint(tmp_path / "older", older, network)
    again, info = load_checkpoint(tmp_path / "older")
    assert again.input_size == info.input_size == read_checkpoint_info(tmp_path / "older").input_size == 32


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch):
    saved(tmp_path / "model", seed=0)
    before = content(tmp_path / "model")
    written = []

    def full_disk(tensors):
        if written:
            raise OSError("No space left on device")
        written.append(tensors)
        return b"half of it"

    monkeypatch.setattr("safetensors.numpy.save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        saved(tmp_path / "model", seed=1)
    assert content(tmp_path / "model") == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(OSError, match="No space left"):
        saved(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_files_have_the_usual_modes(tmp_path):
    saved(tmp_path / "model")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o777 & ~umask
    for file in (tmp_path / "model").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask, file.name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"sha256": {}}',
        "[]",
        "null",
        '"text"',
        '{"sha256": {}, "backbone": {}, "weights": {}, "other": 1}',
        '{"sha256": {}, "backbone": {"name": "none", "image_size": 32, "alpha": null}, "weights": {}}',
    ],
)
def test_a_damaged_json_is_refused_in_one_line(text, tmp_path):
    saved(tmp_path / "model")
    (tmp_path / "model/checkpoint.json").write_text(text)
    assert refusal(tmp_path / "model").startswith(f"{tmp_path}/model/checkpoint.json: missing or damaged")


def test_a_missing_folder_is_refused_in_one_line(tmp_path):
    assert refusal(tmp_path / "model").startswith(f"{tmp_path}/model/checkpoint.json: missing or damaged")


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("name", ["block2", "head"])
def test_a_damaged_file_is_refused_by_its_name(spoil, name, tmp_path):
    saved(tmp_path / "model")
    file = tmp_path / "model" / f"{name}.safetensors"
    spoil(file)
    assert refusal(tmp_path / "model").startswith(f"{file}: missing or damaged")


def test_a_checkpoint_of_a_version_without_temperatures_has_temperature_1(tmp_path):
    saved(tmp_path / "model")
    content = read_sealed(tmp_path / "model/checkpoint.json")
    assert content.pop("temperature") == 1.234
    write_sealed(tmp_path / "model/checkpoint.json", content)
    assert load_checkpoint(tmp_path / "model")[1].temperature == 1


def changed(file: Path, **change: np.ndarray | None) -> None:
    """Rewrite a file with some tensors in place of its own, or (None) without."""
    tensors = safetensors.load_file(file)
    for name, value in change.items():
        name = name.replace("__", "/")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    file.write_bytes(safetensors.save(tensors))


def rehash(file: Path) -> None:
    """Have the checkpoint's JSON name the hash that a file has now."""
    content = read_sealed(file.parent / "checkpoint.json")
    content["sha256"][file.name] = sha256(file)
    write_sealed(file.parent / "checkpoint.json", content)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"block3_conv1_bn__gamma": np.ones(127, "float32")}, "has (127,) for block3_conv1_bn/gamma; expected (128,)"),
        ({"block3_conv1_bn__gamma": None}, "has nothing for block3_conv1_bn/gamma; expected (128,)"),
        ({"more__kernel": np.ones(3, "float32")}, "has more/kernel, which the network does not have"),
    ],
    ids=["wrong shape", "missing tensor", "extra tensor"],
)
def test_a_file_that_does_not_fit_is_refused_by_its_tensor(change, told, tmp_path):
    saved(tmp_path / "model")
    file = tmp_path / "model/block3.safetensors"
    changed(file, **change)
    rehash(file)
    assert refusal(tmp_path / "model") == f"{file}: {told}"


def test_one_bit_is_enough_to_be_refused(tmp_path):
    saved(tmp_path / "model")
    file = tmp_path / "model/block3.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    assert refusal(tmp_path / "model").startswith(f"{file}: missing or damaged")
    rehash(file)
    load_checkpoint(tmp_path / "model")


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(1, 255), cut=st.booleans())
def test_no_damage_to_the_json_gets_through(small_checkpoint, place, byte, cut):
    folder, whole = small_checkpoint
    file = folder / "checkpoint.json"
    content = bytearray(whole)
    place %= len(content) - 1  # the last is a line break
    content[place] ^= byte
    file.write_bytes(content[:place] if cut else content)
    try:
        found = read_checkpoint_info(folder)
    except ThawError:
        pass
    else:
        # Space between the parts, which may have become another space.
        file.write_bytes(whole)
        assert found == read_checkpoint_info(folder)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=400))
def test_no_bytes_in_place_of_a_block_get_through_even_with_their_hash(small_checkpoint, content):
    folder, whole = small_checkpoint
    (folder / "checkpoint.json").write_bytes(whole)
    file = folder / "block1.safetensors"
    before = file.read_bytes()
    try:
        file.write_bytes(content)
        rehash(file)
        assert refusal(folder).startswith(f"{file}: ")
    finally:
        file.write_bytes(before)


@pytest.fixture(scope="module")
def small_checkpoint(tmp_path_factory) -> tuple[Path, bytes]:
    """A checkpoint, and the bytes of its JSON to put back."""
    folder = tmp_path_factory.mktemp("small") / "model"
    saved(folder)
    return folder, (folder / "checkpoint.json").read_bytes()
