"""Folders and CSVs as they are listed: classes, splits, order, and what is refused by name."""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from thaw.config.schema import Dataset as Section
from thaw.datasets import DATASETS, Listing, described
from thaw.errors import ThawError

NFC, NFD = (unicodedata.normalize(form, "Bengalé") for form in ("NFC", "NFD"))


def put(root: Path, *names: str) -> Path:
    """Empty files; nothing of them is read."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(root: Path, *lines: str, name: str = "photos.csv") -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return file


def scan(path: Path) -> Listing:
    return DATASETS["folder"].source.scan(path)


def listed(path: Path) -> dict[str, tuple[str | None, str | None]]:
    """Class and split of each file that is not left out."""
    return {one.file: (one.label, one.split) for one in scan(path).files if not one.why}


def left_out(path: Path) -> dict[str, str]:
    return {one.file: one.why for one in scan(path).files if one.why}


def refusal(path: Path) -> str:
    with pytest.raises(ThawError) as caught:
        scan(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("dataset.path: ")
    return str(caught.value)


# --- class folders ---


def test_a_folder_is_a_class_and_folders_in_it_are_of_that_class(tmp_path):
    root = put(tmp_path, "manx/a.jpg", "manx/2021/b.JPG", "ragdoll/c.webp")
    assert listed(root) == {
        "manx/a.jpg": ("manx", None), "manx/2021/b.JPG": ("manx", None), "ragdoll/c.webp": ("ragdoll", None),
    }  # fmt: skip


def test_class_names_may_have_spaces_accents_emoji_commas_and_quotes(tmp_path):
    names = ["🤚", "é ", "고양이", 'a, "b"', "it's", "$x$", "1", "${no}", "{0}"]
    root = put(tmp_path, *(f"{name}/a.jpg" for name in names))
    assert {label for label, _ in listed(root).values()} == set(names)


def test_hidden_files_and_folders_are_counted_and_are_no_classes(tmp_path):
    root = put(tmp_path, "manx/a.jpg", "ragdoll/b.jpg", "manx/.DS_Store", ".ipynb_checkpoints/a.jpg", ".x/y/z.jpg")
    assert len(listed(root)) == 2 and not left_out(root)
    assert scan(root).hidden == 3


def test_an_empty_class_folder_is_no_class_and_is_named(tmp_path):
    root = put(tmp_path, "manx/a.jpg", "ragdoll/b.jpg", "bengal/.keep")
    (root / "aby/deep").mkdir(parents=True)
    assert scan(root).empty == ["aby", "bengal"]
    assert {label for label, _ in listed(root).values()} == {"manx", "ragdoll"}


def test_a_file_beside_the_class_folders_is_left_out(tmp_path):
    root = put(tmp_path, "manx/a.jpg", "ragdoll/b.jpg", "c.jpg", "README.txt")
    assert left_out(root) == dict.fromkeys(("c.jpg", "README.txt"), "in no class folder")


def test_files_come_by_name_and_then_by_path(tmp_path):
    root = put(tmp_path, "b/2.jpg", "a/3.jpg", "b/1.jpg", "a/1.jpg", "c/deep/0.jpg")
    assert [one.file for one in scan(root).files] == ["c/deep/0.jpg", "a/1.jpg", "b/1.jpg", "b/2.jpg", "a/3.jpg"]


# --- train/, val/ and test/ ---


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "valid", "Test"), ("training", "validation")])
def test_splits_are_folders_of_class_folders(tmp_path, names):
    root = put(tmp_path, *(f"{name}/{label}/{name}.jpg" for name in names for label in ("manx", "ragdoll")))
    put(root, f"{names[0]}/c.jpg", "README.txt")
    splits = dict(zip(names, ("train", "val", "test"), strict=False))
    assert listed(root) == {
        f"{name}/{label}/{name}.jpg": (label, splits[name]) for name in names for label in ("manx", "ragdoll")
    }
    assert left_out(root) == dict.fromkeys((f"{names[0]}/c.jpg", "README.txt"), "in no class folder")


def test_a_class_may_be_called_train(tmp_path):
    root = put(tmp_path, "train/a.jpg", "bus/b.jpg", "test/c.jpg")
    assert {label for label, _ in listed(root).values()} == {"train", "bus", "test"}


def test_validation_and_test_may_lack_classes(tmp_path):
    root = put(tmp_path, *(f"train/{label}/a.jpg" for label in "abc"), "val/a/b.jpg", "test/c/c.jpg", "test/b/.keep")
    assert listed(root)["test/c/c.jpg"] == ("c", "test")
    assert scan(root).empty == ["test/b"]


def test_a_name_composed_in_train_and_decomposed_in_test_is_one_class(tmp_path):
    root = put(tmp_path, f"train/{NFC}/a.jpg", f"test/{NFD}/b.jpg", "train/manx/c.jpg")
    assert NFC != NFD
    assert {label for label, _ in listed(root).values()} == {NFC, "manx"}


REFUSED_FOLDERS = {
    "one class": (["manx/a.jpg"], "class 'manx' alone; two classes at least"),
    "nothing": (["README.txt"], "no class folder with a file"),
    "class folders of nothing": (["manx/.a", "ragdoll/.b"], "no class folder with a file"),
    "letter case": (["Manx/a.jpg", "manx/b.jpg"], "classes 'Manx' (Manx/a.jpg) and 'manx' (manx/b.jpg) differ by"),
    "spaces": (["manx/a.jpg", "manx /b.jpg"], "classes 'manx' (manx/a.jpg) and 'manx ' (manx /b.jpg) differ by"),
    "letter case in two splits": (
        ["train/Manx/a.jpg", "train/b/b.jpg", "test/manx/c.jpg"],
        "classes 'Manx' (train/Manx/a.jpg) and 'manx' (test/manx/c.jpg) differ",
    ),
    "normal forms": (
        [f"{NFC}/a.jpg", f"{NFD}/b.jpg"],
        r"the class folders 'Bengale\u0301' and 'Bengal\xe9' differ by Unicode normalisation alone",
    ),
    "a line break": (["man\nx/a.jpg", "ragdoll/b.jpg"], r"class 'man\nx': a name with a control character"),
    "a class of test alone": (
        ["train/a/a.jpg", "train/b/a.jpg", "test/c/a.jpg"], "class 'c' (test/c/a.jpg) has no training image",
    ),
    "test alone": (["test/a/a.jpg", "test/b/a.jpg"], "has test/, but no train/ with class folders"),
    "splits without classes": (["train/a.jpg", "test/b.jpg"], "no class folder with a file"),
    "validation twice": (["train/a/a.jpg", "val/a/b.jpg", "valid/a/c.jpg"], "val/ and valid/ are one split"),
    "other folders beside train": (["train/a/a.jpg", "train/b/b.jpg", "masks/a.png"], "has masks/ beside train/"),
}  # fmt: skip


@pytest.mark.parametrize(("names", "message"), REFUSED_FOLDERS.values(), ids=REFUSED_FOLDERS)
def test_a_folder_is_refused_in_one_line(tmp_path, names, message):
    assert message in refusal(put(tmp_path / "photos", *names))


def test_an_empty_folder_beside_train_does_not_matter(tmp_path):
    root = put(tmp_path, "train/a/a.jpg", "train/b/b.jpg")
    (root / "cache").mkdir()
    assert len(listed(root)) == 2


# --- links, pipes, names ---


def test_links_to_files_are_followed_and_links_to_folders_are_named(tmp_path):
    root = put(tmp_path / "photos", "manx/a.jpg", "ragdoll/b.jpg")
    put(tmp_path, "elsewhere/c.jpg")
    (root / "manx/linked.jpg").symlink_to(tmp_path / "elsewhere/c.jpg")
    (root / "manx/loop").symlink_to("..")
    (root / "bengal").symlink_to(tmp_path / "elsewhere")
    assert set(listed(root)) == {"manx/a.jpg", "manx/linked.jpg", "ragdoll/b.jpg"}
    assert scan(root).links == ["bengal", "manx/loop"]
    (tmp_path / "link").symlink_to(root)
    assert listed(tmp_path / "link") == listed(root)
    (tmp_path / "links").mkdir()
    for name in ("manx", "ragdoll"):
        (tmp_path / "links" / name).symlink_to(root / name)
    assert "no class folder with a file ('manx' is a link to a folder, which DVC" in refusal(tmp_path / "links")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: file.symlink_to("nothing"), "a link to nothing, at which DVC would fail"),
        (os.mkfifo, "no regular file, at which DVC would fail"),
    ],
)
@pytest.mark.parametrize("name", ["manx/odd.jpg", ".hidden/odd"])
def test_what_dvc_cannot_hash_is_refused_by_its_name(tmp_path, make: Callable, message, name):
    root = put(tmp_path, "manx/a.jpg", "ragdoll/b.jpg", ".hidden/c")
    make(root / name)
    assert f"{name}': {message}" in refusal(root)


def test_a_name_that_is_no_utf8_is_refused(tmp_path):
    root = put(tmp_path, "manx/a.jpg", "ragdoll/b.jpg")
    try:
        os.close(os.open(os.fsencode(root) + b"/manx/caf\xe9.jpg", os.O_CREAT))
    except OSError:
        pytest.skip("this disk takes no such name")
    assert r"manx/caf\udce9.jpg': a name that is no UTF-8" in refusal(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize(("name", "what"), [("manx", "folder"), ("manx/a.jpg", "file")])
def test_what_may_not_be_read_is_refused(tmp_path, name, what):
    root = put(tmp_path, "manx/a.jpg", "ragdoll/b.jpg")
    mode = (root / name).stat().st_mode
    (root / name).chmod(0)
    try:
        assert f"you may not read this {what}" in refusal(root)
    finally:
        (root / name).chmod(mode)


# --- a CSV ---


def test_a_csv_tells_classes_splits_and_groups(tmp_path):
    put(tmp_path, "all/a.jpg", "all/b.jpg", "all/c.jpg", "all/d.jpg", "all/unlisted.jpg", "all/.hidden.jpg")
    file = table(
        tmp_path, "path,label,split,group,remark", "all/c.jpg,manx,train,g1,x", "all/a.jpg,ragdoll,TEST,,",
        './all/b.jpg,"a, ""b""",Valid,g2', f"{tmp_path}/all/d.jpg,ragdoll,,g1", "all/.hidden.jpg,manx",
        'all/d2.jpg,"a, ""b""",', "all/e.jpg,manx,",
    )  # fmt: skip
    put(tmp_path, "all/d2.jpg")
    found = scan(file)
    assert [(one.file, one.label, one.split, one.group, one.why) for one in found.files] == [
        ("all/.hidden.jpg", "manx", None, None, ""),
        ("all/a.jpg", "ragdoll", "test", None, ""),
        ("all/b.jpg", 'a, "b"', "val", "g2", ""),
        ("all/c.jpg", "manx", "train", "g1", ""),
        ("all/d.jpg", "ragdoll", None, "g1", ""),
        ("all/d2.jpg", 'a, "b"', None, None, ""),
        ("all/e.jpg", "manx", None, None, "not found"),
    ]
    assert (found.root, found.unlisted) == (tmp_path, 1)


def test_the_order_of_a_csv_does_not_matter(tmp_path):
    put(tmp_path, *(f"{number}.jpg" for number in range(6)))
    lines = [f"{number}.jpg,{'ab'[number % 2]}" for number in range(6)]
    one = scan(table(tmp_path, "path,label", *lines)).files
    assert one == scan(table(tmp_path, "label,path", *(",".join(line.split(",")[::-1]) for line in lines[::-1]))).files
    assert [listed.file for listed in one] == [f"{number}.jpg" for number in range(6)]


def test_a_csv_from_a_spreadsheet_is_read(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg", f"{NFD}.jpg")
    file = tmp_path / "photos.csv"
    file.write_bytes(f"\ufeffPath, Label\r\na.jpg, manx\r\nb.jpg,ragdoll\r\n{NFC}.jpg,ragdoll\r\n".encode())
    assert listed(file) == {
        "a.jpg": ("manx", None), "b.jpg": ("ragdoll", None), f"{NFD}.jpg": ("ragdoll", None),
    }  # fmt: skip


def test_a_row_without_a_label_is_left_out(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    assert left_out(table(tmp_path, "path,label", "a.jpg,x", "b.jpg,y", "c.jpg,")) == {"c.jpg": "no label in the CSV"}


REFUSED_TABLES = {
    "other columns": (["file,class", "a.jpg,x"], "accepted: a folder of class folders, or a CSV with the columns path"),
    "semicolons": (["path;label", "a.jpg;x"], "accepted: a folder of class folders, or a CSV"),
    "nothing": ([], "accepted: a folder of class folders, or a CSV"),
    "a path outside": (["path,label", "a.jpg,x", "../b.jpg,y"], "line 3: '../b.jpg' is outside of "),
    "an absolute path outside": (["path,label", "/etc/hosts,x"], "line 2: '/etc/hosts' is outside of "),
    "a file twice": (["path,label", "a.jpg,x", "b.jpg,y", "./a.jpg,x"], "line 4: a.jpg stands in line 2 already"),
    "a split": (["path,label,split", "a.jpg,x,dev"], "line 2: received the split 'dev'; accepted: train, val, test"),
    "missing files": (["path,label", "c.jpg,x", "d.jpg,y"], "no row can be taken; the first, 'c.jpg': not found"),
    "one class": (["path,label", "a.jpg,x", "b.jpg,x"], "class 'x' alone"),
    "letter case": (["path,label", "a.jpg,x", "b.jpg,X"], "classes 'X' (b.jpg) and 'x' (a.jpg) differ by letter case"),
    "no training image": (["path,label,split", "a.jpg,x,train", "b.jpg,y,test"], "class 'y' (b.jpg) has no training"),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "message"), REFUSED_TABLES.values(), ids=REFUSED_TABLES)
def test_a_csv_is_refused_in_one_line(tmp_path, lines, message):
    put(tmp_path, "a.jpg", "b.jpg")
    assert message in refusal(table(tmp_path, *lines))


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0\x00\x10JFIF", b"", b"\0\0\0\0", "é".encode("latin-1")])
def test_a_file_that_is_no_csv_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)  # a message shortens a long path
    file = Path("cat.jpg")
    file.write_bytes(content)
    assert refusal(file).startswith(f"dataset.path: received '{file}'; accepted: a folder of class folders, or a CSV")


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    assert "which exists" in refusal(tmp_path / "none")
    assert "which exists" in refusal(tmp_path / ("a" * 300))


# --- what is known before any image is read ---


def section(path: Path, **chosen) -> Section:
    usual = {"name": "folder", "url": None, "sha256": None, "path": str(path), "files": str(path), "image_size": 16}
    usual |= {"max_pixels": 10**8, "strict": False, "limit": None, "per_class": None, "classes": None, "seed": 0}
    return Section(**usual | {"val_fraction": 0.1, "test_fraction": 0.2} | chosen)


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [
        ({"": (60, 40)}, (72, 8, 20)),
        ({"train/": (60, 40), "test/": (5, 0)}, (90, 10, 5)),
        ({"train/": (60, 40), "val/": (5, 6)}, (80, 11, 20)),
        ({"train/": (60, 40), "val/": (5, 6), "test/": (3, 2)}, (100, 11, 5)),
    ],
)
def test_numbers_of_images_are_known_before_any_is_read(tmp_path, sizes, counts):
    for split, classes in sizes.items():
        for label, size in zip(("manx", "ragdoll"), classes, strict=True):
            put(tmp_path, *(f"{split}{label}/{number}.jpg" for number in range(size)))
    found = described(section(tmp_path))
    assert found.classes == ("manx", "ragdoll")
    assert found.counts(0.1) == counts
    assert found.share(["manx"]) == found.share([0]) == pytest.approx(0.6)
    assert found.share(None) == 1


def test_the_table_has_the_classes_of_a_folder_in_no_row():
    assert DATASETS["folder"].classes is None and DATASETS["folder"].is_folder
    assert Counter(row.is_folder for row in DATASETS.values()) == {True: 1, False: len(DATASETS) - 1}
