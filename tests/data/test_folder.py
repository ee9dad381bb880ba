"""Images of a folder as preprocess stores them: pixels, labels, splits, and a line for each file."""

import csv
import io
import json
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.image_files import empty_png, write_png
from tests.helpers.project import ROOT
from thaw import paths
from thaw.config.compose import compose
from thaw.config.schema import Dataset as Section
from thaw.data.folder import COLUMNS, FILES, store_folder
from thaw.data.splits import class_names, generator_of, processed_dataset, read_split, stratified, whole_groups
from thaw.datasets import DATASETS
from thaw.errors import ThawError
from thaw.images.read import read_image

SPLITS = ("train", "val", "test")
SIDE = 16


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """An empty checkout beside the images."""
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")


@pytest.fixture
def photos(tmp_path) -> Path:
    return tmp_path / "photos"


def pixels(number: int, side: int = SIDE) -> np.ndarray:
    """An image that no other number has."""
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


def save(file: Path, number: int = 0, side: int = SIDE, **options) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(number, side)).save(file, **options)
    return file


def folder(root: Path, **sizes: int) -> Path:
    """PNG files by class, or by split and class as in train__manx."""
    number = 1000
    for name, size in sizes.items():
        for place in range(size):
            number += 1
            save(root / name.replace("__", "/") / f"{place:03}.png", number)
    return root


def section(path: Path, **chosen) -> Section:
    usual = {"name": "folder", "url": None, "sha256": None, "path": str(path), "files": str(path), "image_size": SIDE}
    usual |= {"max_pixels": 10**6, "strict": False, "limit": None, "per_class": None, "classes": None, "seed": 0}
    return Section(**usual | {"val_fraction": 0.1, "test_fraction": 0.2} | chosen)


def store(path: Path, **chosen) -> None:
    store_folder(section(path, **chosen), DATASETS["folder"].source)


def refusal(path: Path, **chosen) -> str:
    with pytest.raises(ThawError) as caught:
        store(path, **chosen)
    assert "\n" not in str(caught.value)
    assert not list(paths.PROCESSED.rglob("*.npy")), "nothing is left"
    return str(caught.value)


def rows() -> dict[str, dict[str, str]]:
    """The rows of files.csv by file."""
    with open(FILES, newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def stored(split: str) -> list[tuple[bytes, str]]:
    """Pixels and class of each image of a split, in its order."""
    images, labels = read_split(split, class_names())
    return [(image.tobytes(), class_names()[label]) for image, label in zip(images, labels, strict=True)]


def sizes(split: str) -> dict[str, int]:
    return dict(Counter(label for _, label in stored(split)))


# --- what is stored ---


def test_each_file_is_where_its_line_says_with_its_pixels_and_its_class(photos):
    folder(photos, manx=20, ragdoll=30)
    store(photos)
    assert class_names() == ["manx", "ragdoll"]
    arrays = {split: stored(split) for split in SPLITS}
    assert sum(map(len, arrays.values())) == len(rows()) == 50
    for file, row in rows().items():
        found, label = arrays[row["split"]][int(row["index"])]
        assert (row["class"], row["status"], row["detail"]) == (label, "taken", "")
        assert label == file.partition("/")[0]
        assert found == np.asarray(Image.open(photos / file)).tobytes()
    assert list(rows()) == sorted(rows()), "by path"


def test_images_have_the_side_that_is_asked_for_whatever_theirs_is(photos):
    folder(photos, manx=4, ragdoll=4)
    save(photos / "manx/wide.jpg", 1, 40)
    store(photos, image_size=24)
    row = rows()["manx/wide.jpg"]
    images, _ = read_split(row["split"], class_names())
    assert images.shape[1:] == (24, 24, 3)
    expected = read_image(photos / "manx/wide.jpg", 24).pixels
    np.testing.assert_array_equal(images[int(row["index"])], expected), "as predict reads it"


def test_a_second_run_leaves_the_same_bytes_and_another_seed_others(photos):
    folder(photos, manx=20, ragdoll=20)

    def content() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in paths.PROCESSED.rglob("*") if file.is_file()}

    store(photos)
    first = content()
    store(photos)
    assert content() == first
    store(photos, seed=1)
    assert content().keys() == first.keys() and content() != first
    assert {file.name for file in paths.PROCESSED.iterdir()} == {"classes.json", "files.csv", *SPLITS}


def test_no_file_of_the_user_is_changed(photos):
    folder(photos, manx=5, ragdoll=5)
    (photos / "manx/notes.txt").write_text("notes")
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in photos.rglob("*") if file.is_file()}
    store(photos)
    assert before == {
        file: (file.stat().st_mtime_ns, file.read_bytes()) for file in photos.rglob("*") if file.is_file()
    }


def test_more_than_256_classes_have_labels_of_their_own(photos):
    # One folder for all splits would need three images of each class.
    for split in SPLITS:
        folder(photos, **{f"{split}__c{number:03}": 1 for number in range(300)})
    for number, file in enumerate(sorted(photos.rglob("*.png"))):
        Image.fromarray(np.full((4, 4, 3), (number // 256, number % 256, 0), np.uint8)).save(file)
    store(photos, image_size=8)
    for split in SPLITS:
        _, labels = read_split(split, class_names())
        assert sorted(labels) == list(range(300))
    assert len(read_split("train", ["c299", "c000"])[1]) == 2


@pytest.mark.parametrize("layout", ["folders", "csv"])
def test_a_folder_written_from_a_dataset_gives_the_arrays_of_the_dataset(tmp_path, photos, monkeypatch, layout):
    from thaw.data.preprocess import preprocess

    digits = DATASETS["digits"].source
    paths.RAW.mkdir(parents=True)
    digits.copy(paths.RAW)
    lines = ["path,label,split"]
    for split, images in zip(("train", "test"), digits.read(paths.RAW), strict=True):
        for number, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
            name = f"{split}/{label}/{number:05}.png" if layout == "folders" else f"{split}-{number:05}.png"
            (photos / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(photos / name, compress_level=0)
            lines.append(f"{name},{label},{split}")
    table = photos / "labels.csv"
    table.write_text("\n".join(lines[:1] + lines[:0:-1]))
    common = {"image_size": 32, "val_fraction": 0.2, "limit": 900, "seed": 3}
    preprocess(type("Params", (), {"dataset": section(photos, **common, name="digits")}))
    archive = {split: read_split(split, class_names()) for split in SPLITS}
    archive = {split: (np.array(images), labels) for split, (images, labels) in archive.items()}
    files = {file.name: file.read_bytes() for file in (paths.PROCESSED / "train").iterdir()}
    assert rows() == {}
    store(table if layout == "csv" else photos, **common)
    assert class_names() == [str(number) for number in range(10)]
    for split, (images, labels) in archive.items():
        found = read_split(split, class_names())
        np.testing.assert_array_equal(found[0], images)
        np.testing.assert_array_equal(found[1], labels)
    assert files == {file.name: file.read_bytes() for file in (paths.PROCESSED / "train").iterdir()}


# --- splits ---


def test_splits_that_are_given_are_taken(photos):
    folder(photos, train__manx=6, train__ragdoll=8, val__manx=2, test__ragdoll=3)
    store(photos)
    assert (sizes("train"), sizes("val"), sizes("test")) == ({"manx": 6, "ragdoll": 8}, {"manx": 2}, {"ragdoll": 3})
    assert class_names() == ["manx", "ragdoll"], "whatever the other splits have"


def test_what_is_missing_is_drawn_from_the_training_images_in_equal_shares(photos):
    folder(photos, manx=50, ragdoll=100)
    store(photos)
    assert (sizes("test"), sizes("val")) == ({"manx": 10, "ragdoll": 20}, {"manx": 4, "ragdoll": 8})
    assert sizes("train") == {"manx": 36, "ragdoll": 72}
    test = stored("test")
    store(photos, val_fraction=0.3, limit=20)
    assert stored("test") == test, "whatever validation and the limit are"
    assert sum(sizes("train").values()) == 20


def test_validation_is_drawn_where_test_is_given(photos):
    folder(photos, train__manx=20, train__ragdoll=20, test__manx=3, test__ragdoll=3)
    store(photos)
    assert (sizes("val"), sizes("test")) == ({"manx": 2, "ragdoll": 2}, {"manx": 3, "ragdoll": 3})


def test_validation_is_not_the_end_of_each_folder(photos):
    """Names that sort by breed: the first half of the files of a class is one breed, the second another."""
    folder(photos, cat=100, dog=100)
    store(photos, val_fraction=0.2)
    for label in ("cat", "dog"):
        drawn = [
            int(Path(file).stem) for file, row in rows().items() if row["split"] == "val" and row["class"] == label
        ]
        assert 4 <= sum(place < 50 for place in drawn) <= 12, drawn


def test_a_small_class_has_an_image_in_each_split(photos):
    folder(photos, manx=3, ragdoll=60)
    store(photos)
    assert [sizes(split)["manx"] for split in SPLITS] == [1, 1, 1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"manx": 1}, "class 'manx' has 1 training image; 3 at least are needed to draw test and val from them"),
        ({"manx": 2}, "class 'manx' has 2 training images; 3 at least are needed"),
        (
            {"train__ragdoll": 9, "train__manx": 1, "test__manx": 3},
            "class 'manx' has 1 training image; 2 at least are needed to draw val from them",
        ),
    ],
)
def test_a_class_with_too_few_images_is_refused_by_its_name(photos, names, message):
    folder(photos, **({"ragdoll": 9} if "manx" in names else {}), **names)
    assert message in refusal(photos)


def test_a_group_stays_in_one_split(photos):
    folder(photos, all=60)
    lines = [f"all/{number:03}.png,{'manx' if number < 30 else 'ragdoll'},g{number // 3}" for number in range(60)]
    (photos / "list.csv").write_text("\n".join(["path,label,group", *lines]))
    store(photos / "list.csv")
    splits: dict[str, set[str]] = {}
    for file, row in rows().items():
        splits.setdefault(str(int(Path(file).stem) // 3), set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert (sizes("test"), sizes("val")) == ({"manx": 6, "ragdoll": 6}, {"manx": 3, "ragdoll": 3})


def test_a_class_in_one_group_cannot_be_divided(photos):
    folder(photos, all=20)
    lines = [f"all/{n:03}.png,{'manx' if n < 10 else 'ragdoll'},{'one' if n < 10 else n}" for n in range(20)]
    (photos / "list.csv").write_text("\n".join(["path,label,group", *lines]))
    assert "class 'manx' has 10 training images in 1 group; 3 at least are needed" in refusal(photos / "list.csv")


def test_a_group_in_two_given_splits_is_refused(photos):
    folder(photos, all=4)
    lines = ["all/000.png,a,g,train", "all/001.png,b,h,train", "all/002.png,a,g,test", "all/003.png,b,i,val"]
    (photos / "list.csv").write_text("\n".join(["path,label,group,split", *lines]))
    assert "group 'g' in two splits: all/000.png and all/002.png" in refusal(photos / "list.csv")


# --- copies ---


def test_copies_of_one_class_stay_in_one_split(photos):
    folder(photos, manx=30, ragdoll=30)
    for number in range(30):
        (photos / f"manx/copy-{number:03}.png").write_bytes((photos / f"manx/{number:03}.png").read_bytes())
    store(photos)
    for number in range(30):
        assert rows()[f"manx/copy-{number:03}.png"]["split"] == rows()[f"manx/{number:03}.png"]["split"]
    assert len(rows()) == 90


@pytest.mark.parametrize(
    ("copy", "message"),
    [
        ("train/ragdoll/copy.png", "one file in two classes: train/manx/000.png and train/ragdoll/copy.png"),
        ("test/manx/copy.png", "one file in two splits: train/manx/000.png and test/manx/copy.png"),
        ("test/ragdoll/copy.png", "one file in two classes: train/manx/000.png and test/ragdoll/copy.png"),
    ],
)
def test_one_file_in_two_classes_or_splits_is_refused(photos, copy, message, capsys):
    folder(photos, train__manx=4, train__ragdoll=4, test__manx=2, test__ragdoll=2)
    (photos / copy).write_bytes((photos / "train/manx/000.png").read_bytes())
    assert message in refusal(photos)
    (photos / copy.replace("copy", "second")).write_bytes((photos / "train/manx/001.png").read_bytes())
    assert f"{message} (and 1 more)" in refusal(photos)
    assert capsys.readouterr().out.count("one file in two") == 2, "all of them are printed"


def test_a_copy_that_is_encoded_again_is_named(photos, capsys):
    folder(photos, train__manx=6, train__ragdoll=6, val__manx=2, test__ragdoll=2)
    smooth = Image.fromarray(pixels(9, 4)).resize((64, 64), Image.Resampling.BICUBIC)
    smooth.save(photos / "train/manx/smooth.png")
    smooth.save(photos / "test/manx.jpg", quality=70)
    (photos / "test/manx").mkdir()
    (photos / "test/manx.jpg").rename(photos / "test/manx/copy.jpg")
    store(photos)
    assert rows()["test/manx/copy.jpg"]["detail"] == "looks like train/manx/smooth.png"
    assert sum("looks like" in row["detail"] for row in rows().values()) == 1
    pair = "test/manx/copy.jpg and train/manx/smooth.png"
    words = f"of val and test, 1 look like a training image, such as {pair}: see {FILES}"
    assert f"preprocess: {words}\n" in capsys.readouterr().out


# --- what is left out ---


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # pytest drops what silences Pillow
def test_a_file_that_is_no_image_is_left_out_and_named_with_its_cause(photos, capsys):
    folder(photos, manx=10, ragdoll=10)
    (photos / "manx/notes.txt").write_text("notes")
    (photos / "manx/empty.jpg").write_bytes(b"")
    (photos / "manx/zeros.jpg").write_bytes(bytes(1000))
    whole = save(photos / "ragdoll/cut.jpg", 7, 64).read_bytes()
    (photos / "ragdoll/cut.jpg").write_bytes(whole[: len(whole) // 2])
    save(photos / "manx/large.png", 8, 1001)
    (photos / "top.png").write_bytes((photos / "manx/000.png").read_bytes())
    store(photos)
    out = capsys.readouterr().out
    left = {file: row["detail"] for file, row in rows().items() if row["status"] == "left out"}
    assert set(left) == {
        "manx/notes.txt", "manx/empty.jpg", "manx/zeros.jpg", "ragdoll/cut.jpg", "manx/large.png", "top.png",
    }  # fmt: skip
    assert left["manx/notes.txt"].startswith("not a readable image")
    assert "max_pixels" in left["manx/large.png"]
    assert left["top.png"] == "in no class folder"
    for file, why in left.items():
        assert f"preprocess: left out, {file}: {why}\n" in out
        assert (rows()[file]["split"], rows()[file]["index"]) == ("", "")
    assert f"preprocess: {photos}: 26 files, 20 images, 6 left out\n" in out


def test_strict_refuses_what_would_be_left_out(photos):
    folder(photos, manx=10, ragdoll=10)
    (photos / "manx/notes.txt").write_text("notes")
    (photos / "ragdoll/notes.txt").write_text("notes")
    message = refusal(photos, strict=True)
    assert message.startswith(
        "dataset.strict: manx/notes.txt: not a readable image, and 1 more; -S dataset.strict=false"
    )
    (photos / "manx/notes.txt").unlink()
    (photos / "ragdoll/notes.txt").unlink()
    (photos / "loop").symlink_to(".")
    assert "dataset.strict: loop: a link to a folder" in refusal(photos, strict=True)
    (photos / "loop").unlink()
    store(photos, strict=True)


def test_the_summary_fits_a_screen_and_names_what_was_converted(photos, capsys):
    folder(photos, manx=10, ragdoll=10, bengal=0)
    (photos / "bengal").mkdir()
    (photos / "manx/.DS_Store").write_bytes(b"x")
    Image.fromarray(pixels(5)).convert("CMYK").save(photos / "manx/cmyk.jpg")
    for number in range(40):
        (photos / f"manx/{number:02}\n.txt").write_text("notes")
    store(photos)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    assert lines[0] == f"preprocess: {photos}: 61 files, 21 images, 40 left out, 1 hidden"
    assert "preprocess: converted (CMYK): 1" in lines
    assert r"preprocess: left out, manx/00\n.txt: not a readable image" in lines
    assert f"preprocess: left out, 30 more: see {FILES}" in lines
    assert "preprocess: empty class folders: bengal" in lines
    assert "preprocess: test (drawn), 4 images of 2 classes, 2 of each" in lines
    assert "preprocess: train (drawn), 15 images of 2 classes, 7 (ragdoll) to 8 (manx) of each" in lines
    assert (rows()["manx/cmyk.jpg"]["status"], rows()["manx/cmyk.jpg"]["detail"]) == ("converted", "CMYK")


def test_a_class_of_which_no_image_can_be_read_is_no_class_and_shifts_no_label(photos):
    folder(photos, aby=0, manx=10, ragdoll=10)
    (photos / "aby").mkdir()
    (photos / "aby/a.jpg").write_bytes(b"")
    store(photos)
    assert class_names() == ["manx", "ragdoll"]
    assert {label for split in SPLITS for _, label in stored(split)} == {"manx", "ragdoll"}


@pytest.mark.parametrize(
    ("sizes", "broken", "message"),
    [
        ({"manx": 5, "ragdoll": 0}, "ragdoll/a.jpg", "class 'manx' alone"),
        ({"train__manx": 5, "train__ragdoll": 0, "test__ragdoll": 2}, "train/ragdoll/a.jpg", "has no training image"),
        (
            {"train__manx": 5, "train__ragdoll": 5},
            "test/manx/a.jpg",
            "no file of test can be taken, such as test/manx/a",
        ),
    ],
)
def test_what_is_unreadable_does_not_count(photos, sizes, broken, message):
    folder(photos, **sizes)
    (photos / broken).parent.mkdir(parents=True, exist_ok=True)
    (photos / broken).write_bytes(b"")
    assert message in refusal(photos)


# --- odd files ---


class Odd(NamedTuple):
    """A file that is not what it seems, or not what most are.

    Attributes:
        make: writes it.
        colour: of all its pixels once it is stored; None where it is left out.
        detail: in its line of files.csv, or the beginning of that.
    """

    make: Callable[[Path], object]
    colour: tuple[int, int, int] | None
    detail: str = ""


BROWN = (200, 100, 40)
ORIENTATION = 0x0112


def plain(mode: str = "RGB", colour=BROWN, size: tuple[int, int] = (SIDE, SIDE), **options) -> Callable[[Path], None]:
    return lambda file: Image.new(mode, size, colour).save(file, **options)


def named_otherwise(form: str) -> Callable[[Path], None]:
    return plain(format=form)


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], int]:
    """A JPEG file whose bytes are changed."""
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 30, (64, 64, 3), np.uint8)
    Image.fromarray(noise + np.array(BROWN, np.uint8)).save(content, "JPEG")
    return lambda file: file.write_bytes(change(content.getvalue()))


def without_marker(file: Path) -> None:
    """Inks as they come from programs that are not Adobe's."""
    plain("CMYK", (0, 255, 255, 0))(file)
    content = file.read_bytes()
    start = content.index(b"\xff\xee")
    file.write_bytes(content[:start] + content[start + 16 :])


def animated(file: Path) -> None:
    Image.new("RGB", (SIDE, SIDE), BROWN).save(file, save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE))])


def palette(transparency: int | bytes | None) -> Callable[[Path], None]:
    """Of two colours, the first of which fills the image."""

    def write(file: Path) -> None:
        image = Image.new("P", (SIDE, SIDE), 0)
        image.putpalette([*BROWN, 0, 0, 0])
        image.save(file, **({} if transparency is None else {"transparency": transparency}))

    return write


def turned(file: Path) -> None:
    """Stored on its side: the square in its middle is brown, what is left and right of the upright image is not."""
    values = np.zeros((3 * SIDE, SIDE, 3), np.uint8)
    values[SIDE : 2 * SIDE] = BROWN
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(values).save(file, exif=exif)


NOT_READABLE = "not a readable image"
GREY = (156, 156, 156)  # 40,000 of 65,535
ODD = {
    "a.jpeg": Odd(plain(), BROWN),
    "b.JPG": Odd(plain(), BROWN),
    "c.bmp": Odd(plain(), BROWN),
    "d.webp": Odd(plain(lossless=True), BROWN),
    "e.tif": Odd(plain(), BROWN),
    "bmp.jpg": Odd(named_otherwise("BMP"), BROWN),
    "png.jpg": Odd(named_otherwise("PNG"), BROWN),
    "junk.jpg": Odd(changed(lambda content: content[:-2] + bytes(64) + content[-2:]), (215, 115, 55)),
    "cut.jpg": Odd(changed(lambda content: content[: len(content) // 2]), None, NOT_READABLE),
    "zeros.jpg": Odd(changed(lambda content: bytes(len(content))), None, NOT_READABLE),
    "nothing.jpg": Odd(changed(lambda content: b""), None, f"{NOT_READABLE} (0 bytes)"),
    "animated.gif": Odd(animated, BROWN, "palette; first frame of 2"),
    "palette.bmp": Odd(palette(None), BROWN, "palette"),
    "number.png": Odd(palette(0), (255, 255, 255), "palette; on white"),
    "bytes.png": Odd(palette(b"\x00\xff"), (255, 255, 255), "palette; on white"),
    "grey16.png": Odd(
        lambda file: write_png(file, np.full((SIDE, SIDE), 40_000, np.uint16)), GREY, "16 bits, 0 to 65535, scaled to 8"
    ),
    "rgb16.png": Odd(
        lambda file: write_png(file, np.full((SIDE, SIDE, 3), np.array(BROWN, np.uint16) * 257)), BROWN,
        "16 bits, 0 to 65535, scaled to 8",
    ),
    "inks.jpg": Odd(plain("CMYK", (0, 255, 255, 0)), (255, 0, 0), "CMYK"),
    "other inks.jpg": Odd(without_marker, (255, 0, 0), "CMYK"),
    "rgba.png": Odd(plain("RGBA", (0, 0, 0, 128)), (127, 127, 127), "on white"),
    "la.png": Odd(plain("LA", (0, 0)), (255, 255, 255), "on white"),
    "turned.png": Odd(turned, BROWN, "rotated by EXIF"),
    "large.png": Odd(
        lambda file: file.write_bytes(empty_png(20_000, 9_900)), None, "20,000 x 9,900 pixels; accepted: 100,000,000"
    ),
}  # fmt: skip


@pytest.fixture
def odd(photos) -> Path:
    """All odd files in one class, and another class of plain ones."""
    folder(photos, plain=9)
    (photos / "odd").mkdir()
    for name, file in ODD.items():
        file.make(photos / "odd" / name)
    return photos


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # pytest drops what silences Pillow
def test_each_odd_file_is_read_right_or_named(odd):
    store(odd, max_pixels=10**8)
    arrays = {split: read_split(split, class_names())[0] for split in SPLITS}
    for name, file in ODD.items():
        row = rows()[f"odd/{name}"]
        status = "left out" if file.colour is None else "converted" if file.detail else "taken"
        assert (row["class"], row["status"]) == ("odd", status), row
        if file.colour is None:
            assert row["detail"].startswith(file.detail), row
            assert (row["split"], row["index"]) == ("", "")
            continue
        assert row["detail"].partition("looks like")[0].rstrip("; ") == file.detail, row
        found = arrays[row["split"]][int(row["index"])]
        atol = 1 if Path(name).suffix in (".png", ".bmp", ".tif", ".gif", ".webp") else 8
        np.testing.assert_allclose(found.mean(axis=(0, 1)), file.colour, atol=atol, err_msg=name)


@pytest.mark.parametrize("strict", [False, True])
def test_the_stage_goes_on_over_odd_files_and_ends_with_1_where_none_may_be_left_out(odd, strict):
    raw = compose(["dataset=folder", f"dataset.path='{odd}'", "backbone=cnn", "batch_size=4"], ROOT / "conf")
    raw["dataset"]["strict"] = strict
    paths.PARAMS.write_text(yaml.safe_dump(raw))
    command = [sys.executable, "-m", "stages.preprocess"]
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == strict, result.stderr
    left = [f"odd/{name}" for name, file in ODD.items() if file.colour is None]
    if strict:
        assert result.stderr.count("\n") == 1 and "Error: " not in result.stderr
        assert f"dataset.strict: {min(left, key=lambda name: Path(name).name)}: " in result.stderr
        assert "and 3 more; -S dataset.strict=false" in result.stderr
        assert not paths.PROCESSED.joinpath("train").exists()
    else:
        assert result.stderr.count("\n") <= 1, "no lines of Pillow's or libtiff's"
        assert [row for row in rows() if rows()[row]["status"] == "left out"] == sorted(left)
        assert all(f"preprocess: left out, {name}: " in result.stdout for name in left)


# --- training images to keep ---


def test_some_images_of_each_class_are_kept_and_more_contain_fewer(photos):
    folder(photos, manx=30, ragdoll=90)
    store(photos, per_class=4)
    assert sizes("train") == {"manx": 4, "ragdoll": 4}
    few, val = set(stored("train")), stored("val")
    unused = [row for row in rows().values() if row["status"] == "unused"]
    assert len(unused) == 120 - 8 - len(stored("test")) - len(val)
    store(photos, per_class=9)
    assert sizes("train") == {"manx": 9, "ragdoll": 9}
    assert few < set(stored("train"))
    assert stored("val") == val


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"per_class": 23}, "dataset.per_class: received 23; accepted: 1 to 21, the images of the smallest class"),
        ({"limit": 87}, "dataset.limit: received 87; accepted: 2 to 86, the training images there are"),
        ({"limit": 2}, "dataset.limit: received 2; accepted: a number that leaves class 'manx' an image"),
    ],
)
def test_more_training_images_than_there_are_are_refused(photos, chosen, message):
    folder(photos, manx=30, ragdoll=90)
    assert refusal(photos, **chosen) == message


def test_what_is_stored_is_known_to_the_later_stages(photos):
    folder(photos, manx=30, ragdoll=90)
    store(photos, classes=["manx"], limit=40)
    found = processed_dataset(section(photos))
    assert found.classes == ("manx", "ragdoll")
    assert found.counts(0.5)[:2] == (40, len(stored("val")))
    assert found.share(["manx"]) == sizes("train")["manx"] / 40


# --- names ---


@pytest.mark.parametrize("name", ["🤚", "é ", "고양이", 'a, "b"', "it's", "$x$", unicodedata.normalize("NFD", "é")])
def test_names_survive(photos, name):
    folder(photos, manx=4)
    for number in range(4):
        save(photos / name / f'{number} "x",\n🤚.png', number)
    store(photos)
    label = unicodedata.normalize("NFC", name)
    assert set(class_names()) == {"manx", label}
    assert json.loads((paths.PROCESSED / "classes.json").read_text(encoding="ascii"))["classes"] == class_names()
    assert sum(row["class"] == label for row in rows().values()) == 4
    assert {file.partition("/")[0] for file in rows()} == {"manx", name}
    with open(FILES, newline="", encoding="utf-8") as file:
        assert next(csv.reader(io.StringIO(file.read()))) == COLUMNS


# --- how groups are drawn ---


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=8, max_size=120),
    st.floats(0.02, 0.5),
    st.integers(0, 99),
)
def test_whole_groups_are_drawn_of_each_class(drawn, fraction, seed):
    labels, groups = (np.array(column) for column in zip(*drawn, strict=True))
    groups = np.unique(groups, return_inverse=True)[1]
    found = whole_groups(labels, groups, fraction, generator_of("val", seed))
    assert (np.diff(found) > 0).all()
    rest = np.setdiff1d(np.arange(len(labels)), found)
    assert not set(groups[found]) & set(groups[rest])
    assert set(labels[found]) == set(labels)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=300), st.floats(0.05, 0.9), st.integers(0, 99))
def test_without_groups_they_are_the_rows_of_a_stratified_draw(labels, fraction, seed):
    labels = np.array(labels)
    count = round(len(labels) * fraction)
    expected = stratified(labels, count, generator_of("val", seed))
    found = whole_groups(labels, np.arange(len(labels)), fraction, generator_of("val", seed))
    if set(labels[expected]) == set(labels):
        assert found.tolist() == expected.tolist()
    else:
        assert len(found) <= len(expected) + len(set(labels))
