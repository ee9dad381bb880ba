"""Digests of code: what they see, what they do not, and that all of them are there."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.helpers.project import ROOT
from thaw.errors import ThawError
from thaw.runtime.code import BY_FILE, _of_file, code_digests, refuse_other_code

SOURCE = '''"""A module."""
import os


class Thing:
    """A thing."""

    size: int = 3
    """Its size."""

    def area(self, side: float = 1e-3, *rest, name: str | None = None) -> float:
        """Of a side."""
        # a comment
        words = f"{side:.3f} and {name!r}" "more" f"{{}}"
        return {None: side**2, **{}}[None] if words else lambda x: (yield)
'''


def digest(tmp_path, text: str) -> str:
    file = tmp_path / "module.py"
    file.write_text(text, encoding="utf-8")
    return _of_file(file)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another"),
        ("A thing.", "Another thing."),
        ('        """Of a side."""\n', ""),
        ("Its size.", "Another size."),
        ("1e-3", "0.001"),
        ('"more"', "'more'"),
        ("import os\n\n\n", "import os\n"),
    ],
)
def test_a_comment_a_docstring_and_the_spelling_change_no_digest(tmp_path, old, new):
    assert old in SOURCE
    assert digest(tmp_path, SOURCE.replace(old, new)) == digest(tmp_path, SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= 3", "= 4"),
        ("= 3", "= '3'"),
        ("= 3", "= True"),
        ("import os", "import re"),
        (".3f", ".4f"),
        ("!r", "!s"),
        ("more", "less"),
        ("**2", "*2"),
        ("{None: side", "{0: side"),
        ("[None]", "[False]"),
        ("name: str | None = None", "name: str | None"),
    ],
)
def test_a_change_of_the_code_changes_the_digest(tmp_path, old, new):
    assert old in SOURCE
    assert digest(tmp_path, SOURCE.replace(old, new)) != digest(tmp_path, SOURCE)


def test_the_digest_is_the_same_on_each_python(tmp_path):
    assert digest(tmp_path, SOURCE) == "xf9e4e1823e57c465"


def test_there_is_a_digest_for_all_code_that_dvc_yaml_names():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    named = {dep for stage in stages for dep in stage.get("do", stage)["deps"] if dep.startswith("thaw/")}
    digests = code_digests()
    for parts in (Path(name.removesuffix(".py")).parts[1:] for name in named):
        if not parts[-1].startswith("${"):
            assert parts[0] in BY_FILE and parts[1] in digests[parts[0]] or isinstance(digests[parts[0]], str), parts
    assert digests.keys() == {parts[1].removesuffix(".py") for parts in (Path(name).parts for name in named)}


def test_a_package_has_another_digest_when_one_of_its_files_is_renamed(tmp_path):
    shutil.copytree(ROOT / "thaw", tmp_path / "thaw", ignore=shutil.ignore_patterns("__pycache__"))
    before = code_digests(tmp_path / "thaw")
    assert before == code_digests()
    (tmp_path / "thaw/figures/grids.py").rename(tmp_path / "thaw/figures/grid.py")
    (tmp_path / "thaw/backbones/cnn.py").write_text("x = 1\n")
    (tmp_path / "thaw/app/demo.py").write_text("x = 1\n")
    after = code_digests(tmp_path / "thaw")
    assert {name for name in after if after[name] != before[name]} == {"figures", "backbones"}
    assert {name for name in after["backbones"] if after["backbones"][name] != before["backbones"][name]} == {"cnn"}


def test_a_stage_is_refused_for_the_digests_that_it_names_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(
        "stages:\n  figures: {params: [code.figures]}\n  extract: {params: ['code.backbones.${backbone.name}', seed]}\n"
    )
    params = {"backbone": {"name": "cnn"}, "seed": 0, "code": code_digests() | {"figures": "x0", "data": "x0"}}
    params["code"]["backbones"]["vgg16"] = "x0"
    refuse_other_code(["extract"], params)
    with pytest.raises(
        ThawError, match=r"^thaw\.figures: the installed thaw .* run `thaw upgrade`, or install [^\n]*$"
    ):
        refuse_other_code(["extract", "figures"], params)
    params["backbone"]["name"] = "vgg16"
    with pytest.raises(ThawError, match=r"^thaw\.backbones\.vgg16: "):
        refuse_other_code(["extract"], params)
    refuse_other_code(["figures"], params | {"code": None})
