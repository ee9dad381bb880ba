"""thaw.datasets.archives: official archives are read to the pixel, all others are refused in one line."""

import gzip
import io
import re
import tarfile
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.helpers import official
from thaw.datasets import DATASETS, Archive, Dataset, LabelledImages
from thaw.datasets.archives import read_archive, read_class_names, unpack_archive
from thaw.datasets.digits import read
from thaw.errors import ThawError

# An archive of a few records, for all that is not about size; with superclasses, the harder of the two layouts.
TINY = Archive(
    folder="tiny-bin",
    train=("train_1.bin", "train_2.bin"),
    test=("test.bin",),
    records_per_train_file=3,
    records_per_test_file=2,
    label_bytes=2,
    names=("coarse.txt", "fine.txt"),
)
TINY_DATASET = Dataset(classes=("cat", "dog", "owl"), train_count=6, test_count=3, source=TINY)


def tiny_files(**changes: bytes | None) -> dict[str, bytes]:
    """The files of a good tiny archive by their stems, with changes; None leaves one out."""
    contents = {
        "train_1": official.to_records(tiny_images(3, first=0)),
        "train_2": official.to_records(tiny_images(3, first=3)),
        "test": official.to_records(tiny_images(2, first=6)),
        "coarse": b"mammal\nbird\n",
        "fine": b"cat\ndog\nowl\n",
    } | changes
    names = {Path(name).stem: name for name in (*TINY.train, *TINY.test, *TINY.names)}
    return {names[stem]: content for stem, content in contents.items() if content is not None}


def tiny_images(count: int, first: int) -> LabelledImages:
    labels = (np.arange(first, first + count) % 3).astype(np.uint8)
    images = np.random.default_rng(first).integers(0, 256, (count, 32, 32, 3), np.uint8)
    return LabelledImages(images, labels, labels // 2)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def tiny_tar(files: dict[str, bytes], extra: list[tarfile.TarInfo] = ()) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for info in extra:
            tar.addfile(info)
        for name, content in files.items():
            official.add(tar, f"{TINY.folder}/{name}", content)
    return raw.getvalue()


def with_checksum(header: bytes) -> bytes:
    """A header that is believed, whatever it says."""
    blank = header[:148] + b" " * 8 + header[156:]
    return bytes(header[:148] + b"%06o\0 " % sum(blank) + header[156:])


def unpack(tmp_path: Path, compressed: bytes) -> Path:
    """Unpack a tiny archive from bytes."""
    (tmp_path / "archive.tar.gz").write_bytes(compressed)
    unpack_archive(tmp_path / "archive.tar.gz", TINY, tmp_path / "raw")
    return tmp_path / "raw"


def refusal(function, *arguments) -> str:
    with pytest.raises(ThawError) as caught:
        function(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- the official archives ---


@pytest.fixture(scope="module", params=["cifar10", pytest.param("cifar100", marks=pytest.mark.slow)])
def unpacked(request):
    # Not tmp_path: pytest keeps the folders of three runs, and this one has 200 MB.
    with tempfile.TemporaryDirectory() as folder:
        archive, raw = Path(folder) / "archive.tar.gz", Path(folder) / "raw"
        official.build(archive, request.param)
        unpack_archive(archive, DATASETS[request.param].source, raw)
        archive.unlink()
        yield SimpleNamespace(dataset=request.param, layout=DATASETS[request.param].source, raw=raw)


def test_an_official_archive_leaves_the_files_of_its_layout_and_no_others(unpacked):
    assert {file.name for file in unpacked.raw.iterdir()} == set(
        unpacked.layout.train + unpacked.layout.test + unpacked.layout.names
    )


def test_an_official_archive_is_read_to_the_pixel(unpacked):
    splits = read_archive(unpacked.raw, unpacked.layout, DATASETS[unpacked.dataset].classes)
    for split, names in zip(splits, (unpacked.layout.train, unpacked.layout.test), strict=True):
        assert split.images.dtype == split.labels.dtype == np.uint8
        start = 0
        for name in names:
            expected = official.file_images(unpacked.dataset, name)
            part = slice(start, start + len(expected.labels))
            np.testing.assert_array_equal(split.images[part], expected.images)
            np.testing.assert_array_equal(split.labels[part], expected.labels)
            if unpacked.dataset == "cifar100":
                np.testing.assert_array_equal(split.coarse[part], expected.coarse)
            start = part.stop
        assert split.images.shape == (start, 32, 32, 3)
        assert (split.coarse is None) == (unpacked.dataset == "cifar10")
    assert [len(split.labels) for split in splits] == [50_000, 10_000]


def test_class_names_come_with_superclasses_where_there_are_any(unpacked):
    names = read_class_names(unpacked.raw, DATASETS[unpacked.dataset])
    assert names.pop("classes") == list(DATASETS[unpacked.dataset].classes)
    assert names == ({} if unpacked.dataset == "cifar10" else {"superclasses": official.SUPERCLASSES})


# --- what is read of a small one, and what is refused ---


def test_red_green_blue_planes_become_the_last_axis_row_by_row(tmp_path):
    # Written out by hand: the layout of the archives is a fact, not what our own helper makes of it.
    planes = np.zeros((3, 32, 32), np.uint8)
    planes[0, 0, 1], planes[1, 2, 0], planes[2, 31, 30] = 10, 20, 30
    record = bytes([1, 2]) + planes.tobytes()
    raw = unpack(tmp_path, gzip.compress(tiny_tar(tiny_files(test=record * 2))))
    image = read_archive(raw, TINY, TINY_DATASET.classes)[1].images[0]
    assert (image[0, 1, 0], image[2, 0, 1], image[31, 30, 2]) == (10, 20, 30)
    assert image.sum(dtype=int) == 60


def test_a_good_small_archive_is_read(tmp_path):
    # The counterpart of all refusals below: without their one change, this archive is accepted.
    train, test = read_archive(unpack(tmp_path, gzip.compress(tiny_tar(tiny_files()))), TINY, TINY_DATASET.classes)
    np.testing.assert_array_equal(train.images[3:], tiny_images(3, first=3).images)
    assert (train.labels.tolist(), train.coarse.tolist()) == ([0, 1, 2, 0, 1, 2], [0, 0, 1, 0, 0, 1])
    assert test.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "bad",
    [
        member("../train_1.bin"),
        member("tiny-bin/../../train_1.bin"),
        member("tiny-bin/train_1.bin", tarfile.SYMTYPE, "../../outside"),
        member("tiny-bin/train_1.bin", tarfile.SYMTYPE, "/outside"),
        member("tiny-bin/train_1.bin", tarfile.LNKTYPE, "../outside"),
        member("tiny-bin", tarfile.SYMTYPE, ".."),
        member("tiny-bin/train_1.bin", tarfile.LNKTYPE, "/outside"),
        member("tiny-bin/train_1.bin", tarfile.CHRTYPE),
        member("tiny-bin/train_1.bin", tarfile.BLKTYPE),
        member("tiny-bin/train_1.bin", tarfile.FIFOTYPE),
        # Its size is not what is passed over to the next one.
        member("tiny-bin/train_1.bin", tarfile.GNUTYPE_SPARSE),
        # What the layout does not ask for is no safer.
        member("elsewhere/readme.html", tarfile.SYMTYPE, "/outside"),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}",
)
def test_a_member_that_could_lead_outside_is_refused_and_nothing_is_written_there(tmp_path, bad):
    text = refusal(unpack, tmp_path, gzip.compress(tiny_tar(tiny_files(), [bad])))
    assert "archive.tar.gz: refused" in text
    assert repr(bad.name) in text
    assert {path.name for path in tmp_path.iterdir()} == {"archive.tar.gz", "raw"}
    assert list((tmp_path / "raw").iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE], ids=["symbolic", "hard"])
def test_a_link_that_stays_inside_is_left_out(tmp_path, kind):
    link = member("tiny-bin/train_1.bin", kind, "tiny-bin/test.bin")
    raw = unpack(tmp_path, gzip.compress(tiny_tar(tiny_files(), [link])))
    assert {file.name: file.read_bytes() for file in raw.iterdir()} == tiny_files()


def test_an_absolute_path_is_one_below_the_folder(tmp_path):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in tiny_files().items():
            official.add(tar, f"/{TINY.folder}/{name}", content)
    folder = unpack(tmp_path, raw.getvalue())
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == tiny_files()
    assert not Path(f"/{TINY.folder}").exists()


def test_files_that_the_layout_does_not_name_are_left_out(tmp_path):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name in ("train_1.bin", "tiny-bin/readme.html", "other/train_1.bin"):
            official.add(tar, name, b"not it")
        for name, content in tiny_files().items():
            official.add(tar, f"./{TINY.folder}/{name}", content)
    folder = unpack(tmp_path, raw.getvalue())
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == tiny_files()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (tiny_files(train_2=None), "has no tiny-bin/train_2.bin"),
        (tiny_files(fine=None), "has no tiny-bin/fine.txt"),
        (tiny_files(train_1=bytes(9221)), "train_1.bin has 9,221 bytes; expected 9,222"),
        (tiny_files(train_1=bytes(9223)), "train_1.bin has 9,223 bytes; expected 9,222"),
        (tiny_files(test=b""), "test.bin has 0 bytes; expected 6,148"),
        (tiny_files(coarse=b"x" * 65_537), "coarse.txt has 65,537 bytes; expected at most 65,536"),
    ],
)  # fmt: skip
def test_an_archive_with_other_files_is_refused(tmp_path, files, said):
    assert said in refusal(unpack, tmp_path, gzip.compress(tiny_tar(files)))


@pytest.mark.parametrize("name", ["tiny-bin/fine.txt", "tiny-bin/readme.html", "elsewhere"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_a_file_that_claims_to_be_huge_is_refused_at_once(tmp_path, name, form):
    # The header alone says an exabyte; to read, write or pass over that much would never end.
    info = member(name)
    info.size = 1 << 60
    raw = info.tobuf(form) + tiny_tar(tiny_files())
    assert "expected at most 65,536" in refusal(unpack, tmp_path, gzip.compress(raw))
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_file_that_claims_less_than_nothing_is_refused(tmp_path):
    info = member("tiny-bin/fine.txt")
    info.pax_headers = {"size": "-5"}
    raw = info.tobuf(tarfile.PAX_FORMAT) + tiny_tar(tiny_files())
    assert "has -5 bytes" in refusal(unpack, tmp_path, gzip.compress(raw))


def sparse_without_end() -> bytes:
    info = bytearray(member("readme.html", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    info[482] = 1  # "an extension follows", and none does
    return with_checksum(info)


def sparse_of_no_numbers() -> bytes:
    info = member("readme.html")
    info.pax_headers = {"GNU.sparse.map": "a,b"}
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize("header", [sparse_without_end(), sparse_of_no_numbers()], ids=["no end", "no numbers"])
def test_a_header_that_tarfile_stumbles_over_is_refused(tmp_path, header):
    assert "archive.tar.gz: not a readable .tar.gz archive" in refusal(unpack, tmp_path, gzip.compress(header))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>moved</html>",
        tiny_tar(tiny_files()),
        gzip.compress(b"no tar"),
        gzip.compress(tiny_tar(tiny_files()))[:-2000],
        gzip.compress(tiny_tar(tiny_files()))[:20],
    ],
    ids=["empty", "a page", "no gzip", "no tar", "cut", "cut in the header"],
)
def test_what_is_no_whole_archive_is_refused(tmp_path, content):
    assert "archive.tar.gz: not a readable .tar.gz archive" in refusal(unpack, tmp_path, content)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [(0, 2, "record 1 has label 2; expected 0 to 1"), (1, 3, "record 1 has label 3; expected 0 to 2")],
    ids=["superclass", "class"],
)
def test_a_label_out_of_range_is_refused(tmp_path, column, value, said):
    records = bytearray(tiny_files()["train_2.bin"])
    records[3074 + column] = value
    raw = unpack(tmp_path, gzip.compress(tiny_tar(tiny_files(train_2=bytes(records)))))
    text = refusal(read_archive, raw, TINY, TINY_DATASET.classes)
    assert "train_2.bin" in text
    assert said in text


@pytest.mark.parametrize("names", [b"cat\ndog\n", b"cat\nowl\ndog\n", b"cat\ndog\nowl\nfox\n", b""])
def test_other_class_names_are_refused(tmp_path, names):
    raw = unpack(tmp_path, gzip.compress(tiny_tar(tiny_files(fine=names))))
    assert "fine.txt: expected the class names cat, dog, owl" in refusal(read_archive, raw, TINY, TINY_DATASET.classes)


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name in sorted(tiny_files()) for damage in ("missing", "cut", "not text")],
)
def test_a_damaged_unpacked_file_is_refused(tmp_path, name, damage):
    raw = unpack(tmp_path, gzip.compress(tiny_tar(tiny_files())))
    if damage == "missing":
        (raw / name).unlink()
    else:
        (raw / name).write_bytes((raw / name).read_bytes()[:4] if damage == "cut" else b"\xff" * 100)
    # No list of superclasses is known to thaw: a cut one shows in the first record that needs the rest.
    blamed = "train_1.bin" if (name, damage) == ("coarse.txt", "cut") else name
    assert blamed in refusal(read_archive, raw, TINY, TINY_DATASET.classes)


# --- whatever the bytes are ---


def read_or_refuse(compressed: bytes) -> tuple[LabelledImages, LabelledImages] | None:
    """What is read of the bytes of an archive, None where they are refused; any other end is an error."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return read_archive(unpack(Path(folder), compressed), TINY, TINY_DATASET.classes)
        except ThawError as error:
            assert "\n" not in str(error)
            return None


def same(one: tuple[LabelledImages, LabelledImages], other: tuple[LabelledImages, LabelledImages]) -> bool:
    return all(
        np.array_equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


many = settings(max_examples=150, deadline=None)
GOOD = gzip.compress(tiny_tar(tiny_files()), 1)


@many
@given(content=st.binary(max_size=4000), packed=st.booleans())
def test_random_bytes_are_refused(content, packed):
    assert read_or_refuse(gzip.compress(content, 1) if packed else content) is None


@many
@given(length=st.integers(0, len(GOOD) - 1))
def test_a_truncated_archive_is_refused_or_still_whole(length):
    # What is missing may be padding alone.
    found = read_or_refuse(GOOD[:length])
    assert found is None or same(found, read_or_refuse(GOOD))


@many
@given(places=st.dictionaries(st.integers(0, len(GOOD) - 1), st.integers(0, 255), min_size=1, max_size=5))
def test_a_damaged_archive_is_read_or_refused(places):
    damaged = bytearray(GOOD)
    for place, byte in places.items():
        damaged[place] = byte
    found = read_or_refuse(bytes(damaged))
    assert found is None or found[0].images.shape == (6, 32, 32, 3)


@many
@given(
    number=st.integers(0, 4),
    places=st.dictionaries(st.integers(0, 511), st.integers(0, 255), min_size=1, max_size=5),
)
def test_an_archive_with_a_strange_header_is_read_or_refused(number, places):
    # With a right checksum, so that it is believed: sizes below zero, types and extensions that nobody uses.
    raw = bytearray(tiny_tar(tiny_files()))
    start = [place for place in range(0, len(raw), 512) if raw[place + 257 : place + 262] == b"ustar"][number]
    for place, byte in places.items():
        raw[start + place] = byte
    raw[start : start + 512] = with_checksum(raw[start : start + 512])
    found = read_or_refuse(gzip.compress(bytes(raw), 1))
    assert found is None or found[0].images.shape == (6, 32, 32, 3)


@many
@given(labels=st.lists(st.integers(0, 255), min_size=4, max_size=4))
def test_records_are_read_exactly_where_all_labels_are_in_range(labels):
    records = bytearray(tiny_files()["test.bin"])
    records[0], records[1], records[3074], records[3075] = labels
    found = read_or_refuse(gzip.compress(tiny_tar(tiny_files(test=bytes(records))), 1))
    good = labels[0] < 2 and labels[1] < 3 and labels[2] < 2 and labels[3] < 3
    assert (found is not None) == good
    if good:
        assert found[1].labels.tolist() == labels[1::2]


# --- digits ---


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """scikit-learn's digits as the download stage leaves them."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    original = load_digits()
    np.save(folder / "images.npy", original.images.astype(np.uint8))
    np.save(folder / "labels.npy", original.target.astype(np.uint8))
    return SimpleNamespace(folder=folder, images=original.images, labels=original.target)


def test_digits_are_images_like_the_others(digits):
    train, test = read(digits.folder)
    assert len(train.labels) == DATASETS["digits"].train_count == 1_433
    assert len(test.labels) == DATASETS["digits"].test_count == 364
    assert len(train.labels) + len(test.labels) == 1_797
    for split in (train, test):
        assert split.images.shape == (len(split.labels), 32, 32, 3)
        assert split.images.dtype == split.labels.dtype == np.uint8
        assert split.coarse is None
        assert set(split.labels.tolist()) == set(range(10))


def test_digits_are_enlarged_without_a_change_of_shade(digits):
    small = (digits.images * (255 / 16)).round()
    for split in read(digits.folder):
        corners = split.images[:, ::4, ::4, 0]
        np.testing.assert_array_equal(
            split.images, np.kron(corners, np.ones((1, 4, 4), np.uint8))[..., None].repeat(3, 3)
        )
        known = {(image.astype(np.uint8).tobytes(), label) for image, label in zip(small, digits.labels, strict=True)}
        assert {(image.tobytes(), int(label)) for image, label in zip(corners, split.labels, strict=True)} <= known


def test_no_test_digit_is_a_training_digit(digits):
    train, test = ({image.tobytes() for image in split.images} for split in read(digits.folder))
    assert not train & test


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", b"garbage", b"\x80\x04]\x94."])
def test_damaged_digits_are_refused(digits, tmp_path, name, content):
    for file in digits.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    text = refusal(read, tmp_path)
    assert re.search(r"no readable digits; delete data/raw", text)


@pytest.fixture(scope="module")
def photodigits(tmp_path_factory):
    """The digits over photographs, as the download stage leaves them, and the two splits."""
    folder = tmp_path_factory.mktemp("photodigits")
    DATASETS["photodigits"].source.copy(folder)
    return SimpleNamespace(folder=folder, splits=DATASETS["photodigits"].source.read(folder))


def test_digits_over_photographs_are_as_many_and_every_third_is_a_test_image(photodigits, digits):
    train, test = photodigits.splits
    assert len(train.labels) == DATASETS["photodigits"].train_count == 1_195
    assert len(test.labels) == DATASETS["photodigits"].test_count == 602
    for split in (train, test):
        assert split.images.shape == (len(split.labels), 32, 32, 3)
        assert split.images.dtype == split.labels.dtype == np.uint8
    both = np.concatenate([train.labels, test.labels])
    np.testing.assert_array_equal(np.bincount(both), np.bincount(digits.labels))


def test_around_a_digit_there_is_the_photograph(photodigits, digits):
    """And the same each time."""
    from sklearn.datasets import load_sample_images

    images = np.load(photodigits.folder / "images.npy")
    colours = [set(map(tuple, photograph.reshape(-1, 3).tolist())) for photograph in load_sample_images().images]
    for number in range(0, len(images), 100):
        paper = np.kron(digits.images[number] == 0, np.ones((4, 4))).astype(bool)
        # Ink spreads over a pixel of the small image when it is enlarged.
        inside = ndimage.minimum_filter(paper, 9)
        found = set(map(tuple, images[number][inside].tolist()))
        assert found <= colours[number % 2]
    again = photodigits.folder / "again"
    again.mkdir()
    DATASETS["photodigits"].source.copy(again)
    np.testing.assert_array_equal(np.load(again / "images.npy"), images)
