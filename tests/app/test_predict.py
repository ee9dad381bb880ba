"""Image files of any mode and size, files that are no images, and the messages about them."""

import csv
import io
import json
import os
import re
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.helpers.examples import example_images
from thaw.app.predict import (
    as_csv,
    as_json,
    as_table,
    class_number,
    find_images,
    predict_images,
    prediction_rows,
    read_image,
)
from thaw.errors import ThawError
from thaw.evaluation.views import further_views
from thaw.network.build import build_network
from thaw.network.checkpoint import CheckpointInfo, save_checkpoint
from thaw.network.inference import predict_logits, softmax

CLASSES = ["cat", "dog", "long-eared owl"]
SHARES = np.array([[0.2, 0.5, 0.3], [0.9, 0.06, 0.04]])


def gradient(width: int = 64, height: int = 64) -> Image.Image:
    """Red grows to the right, green to the bottom; no turn of it looks the same."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 128)], axis=-1).astype(np.uint8))


def read(image: Image.Image, tmp_path, name: str = "a.png", **options) -> np.ndarray:
    image.save(tmp_path / name, **options)
    return read_image(tmp_path / name, 32)


def test_an_image_of_the_networks_size_stays_as_it_is(tmp_path):
    image = gradient(32, 32)
    np.testing.assert_array_equal(read(image, tmp_path), np.asarray(image))


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (33, 31), (640, 480)])
def test_an_image_of_any_size_is_read(tmp_path, size):
    found = read(gradient(*size), tmp_path)
    assert (found.shape, found.dtype) == ((32, 32, 3), np.uint8)


def test_of_a_wide_image_the_middle_is_taken(tmp_path):
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 200
    np.testing.assert_allclose(read(Image.fromarray(wide), tmp_path), 200, atol=8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_an_image_of_any_mode_is_as_bright_as_it_was(tmp_path, mode):
    values = np.full((32, 32), 255, np.uint8)
    values[:, :16] = 51
    grey = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(values.astype(np.float32) / 255)
    else:
        image = grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else grey.convert(mode)
    found = read(image, tmp_path, "a.tif")
    assert found[:, 20:].mean() == pytest.approx(255, abs=3)
    if mode != "1":
        assert found[:, :12].mean() == pytest.approx(51, abs=3)


def test_what_is_transparent_is_white(tmp_path):
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    assert (read(image, tmp_path) == 255).all()
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([10, 20, 30])
    assert (read(palette, tmp_path, "b.png", transparency=0) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_data_say(tmp_path, orientation):
    upright = gradient()
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read(stored, tmp_path, "a.jpg", exif=exif, quality=95).astype(int)
    expected = np.asarray(upright.resize((32, 32), Image.Resampling.LANCZOS)).astype(int)
    assert abs(found - expected).max() < 16


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", b"II*\x00"])
def test_a_file_that_is_no_image_is_refused_in_one_line(tmp_path, content):
    file = tmp_path / "a.png"
    file.write_bytes(content)
    with pytest.raises(ThawError) as caught:
        read_image(file, 32)
    assert str(caught.value).startswith(f"{file}: not a readable image")
    assert "\n" not in str(caught.value)


def test_a_truncated_and_a_too_large_image_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    gradient().save(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ThawError, match="decompression bomb"):
        read_image(file, 32)
    monkeypatch.undo()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ThawError, match="not a readable image"):
        read_image(file, 32)
    with pytest.raises(ThawError, match="not found"):
        read_image(tmp_path / "none.png", 32)


def test_a_name_that_no_file_can_have_is_told_and_stops_no_others(tmp_path):
    name = tmp_path / ("a" * 300)
    assert find_images([name, tmp_path]) == [name]
    with pytest.raises(ThawError, match="File name too long"):
        read_image(name, 32)


def test_values_that_are_not_numbers_are_black(tmp_path):
    values = np.full((32, 32), np.nan, np.float32)
    values[:, :16] = 1
    with warnings.catch_warnings(action="error"):
        found = read(Image.fromarray(values), tmp_path, "a.tif")
    assert (found[:, :16] == 255).all() and not found[:, 16:].any()


def test_a_large_image_is_read_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64)
    with warnings.catch_warnings(action="error"):
        assert read(gradient(80, 80), tmp_path).shape == (32, 32, 3)


def test_a_link_to_nothing_and_a_pipe_are_told(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert find_images([tmp_path]) == [tmp_path / "link.png"]
    for name, said in (("link.png", "not found"), ("pipe.png", "not a file")):
        with pytest.raises(ThawError, match=f"{name}: {said}"):
            read_image(tmp_path / name, 32)


def test_folders_are_searched_by_name_and_what_is_hidden_is_left(tmp_path):
    for name in ("b.png", "a.png", "sub/c.png", ".hidden", ".git/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    given = tmp_path / "b.png"
    found = find_images([given, tmp_path])
    assert [str(file.relative_to(tmp_path)) for file in found] == ["b.png", "a.png", "b.png", "sub/c.png"]


def test_probabilities_have_the_temperature_of_the_checkpoint_in_each_view(tmp_path):
    network, head = build_network("cnn", 16, None, 32), {"pool": "avg", "units": None, "dropout": 0.0}
    network.attach(**head, classes=3)
    info = CheckpointInfo(
        {"name": "cnn", "image_size": 16, "alpha": None, "input_size": 32}, {}, head, CLASSES, temperature=0.3
    )
    save_checkpoint(tmp_path / "model", info, network)
    images = example_images(5).inputs
    views = [images, *further_views(images, 3, mirrored=True)]
    expected = [softmax(predict_logits(network.classifier(), view, 5) / 0.3) for view in views]
    assert np.ptp(expected, axis=0).max() > 1e-3, "or there would be nothing to compare"
    for count in (1, 3):
        classes, found = predict_images(tmp_path / "model", images, count, mirrored=True)
        assert classes == CLASSES
        np.testing.assert_allclose(found, np.mean(expected[:count], axis=0), atol=1e-5)


def test_the_most_probable_classes_come_first_in_every_form(tmp_path):
    files = [tmp_path / "a.png", tmp_path / "long name.png"]
    found = list(prediction_rows(files, CLASSES, SHARES, top=2))
    assert found[0] == {
        "file": str(files[0]),
        "classes": [{"class": "dog", "probability": 0.5}, {"class": CLASSES[2], "probability": 0.3}],
    }
    assert json.loads(as_json(found)) == found
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [(row["rank"], row["class"]) for row in rows] == [
        ("1", "dog"),
        ("2", CLASSES[2]),
        ("1", "cat"),
        ("2", "dog"),
    ]
    assert rows[3]["file"] == str(files[1])
    places = {tuple(hit.start() for hit in re.finditer("%", line)) for line in as_table(found).splitlines()}
    assert len(places) == 1, "aligned"


def test_a_file_is_one_line_of_the_table_whatever_its_name_holds():
    names = ["a\nb.png", "a,b.png", "caf\udce9.png", "\x1b[2J.png"]  # the third is no text, but bytes
    found = list(prediction_rows(names, CLASSES, np.tile(SHARES[:1], (4, 1)), top=1))
    lines = as_table(found).encode().decode().splitlines()
    assert [line.split()[0] for line in lines] == [r"a\nb.png", "a,b.png", r"caf\udce9.png", r"\x1b[2J.png"]
    assert [row["file"] for row in json.loads(as_json(found))] == names
    assert [row["file"] for row in csv.DictReader(io.StringIO(as_csv(found), newline=""))] == names


def test_a_class_is_found_by_its_name():
    assert class_number("dog", CLASSES) == 1
    with pytest.raises(ThawError, match="--of: received 'fox'; accepted: cat, dog, long-eared owl"):
        class_number("fox", CLASSES)
