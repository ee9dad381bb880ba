"""`thaw new` and `thaw upgrade`: what is laid, what is refused, what an upgrade replaces, keeps and reruns."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.helpers.project import ROOT
from thaw.app import layout as layout_module
from thaw.app.layout import CODE, layout
from thaw.app.new import new_project
from thaw.app.upgrade import described, upgrade
from thaw.config.compose import compose
from thaw.errors import ParamError, ThawError
from thaw.runtime import code as code_module
from thaw.runtime.code import code_digests


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new_project(Path("own"), None)
    monkeypatch.chdir("own")
    return tmp_path / "own"


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def write_images(folder: Path) -> Path:
    for label, name in enumerate(("oak", "elm")):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            colour = np.full((24, 24, 3), 40 * label + number, np.uint8)
            Image.fromarray(colour).save(folder / name / f"{number}.png")
    return folder


def other_code(monkeypatch, *names: str) -> None:
    """The installed thaw has other code in these packages."""
    digests = code_digests()
    for name in names:
        package, _, module = name.partition(".")
        if module:
            digests[package][module] = "x1"
        else:
            digests[package] = "x1"
    for module in (code_module, layout_module):
        monkeypatch.setattr(module, "code_digests", lambda: digests)
    monkeypatch.setattr("thaw.app.upgrade.code_digests", lambda: digests)


def test_a_project_is_a_repository_with_one_commit_and_none_of_our_code(project):
    assert git("rev-list", "--count", "HEAD") == "1"
    assert git("status", "--porcelain", "--ignored") == ""
    names = git("ls-files").splitlines()
    assert [name for name in names if name.endswith(".py")] == ["conf/hydra_plugins/resolvers.py"]
    assert not {name.split("/")[0] for name in names} & {
        "thaw",
        "stages",
        "tests",
        "docs",
        "bench",
        "metrics",
        "dvc.lock",
    }
    assert len(Path("README.md").read_text().splitlines()) <= 12
    assert "make " not in "".join(Path(name).read_text() for name in names if name.startswith("conf/"))


def test_conf_composes_to_what_that_of_thaw_does_and_the_digests(project):
    for overrides in ([], ["recipe=demo"], ["backbone=resnet50"]):
        theirs, ours = compose(overrides), compose(overrides, ROOT / "conf")
        assert theirs.pop("code") == code_digests()
        assert theirs["backbone"].pop("weights_file") == theirs["dataset"].pop("files") == "conf/nothing.txt"
        del ours["backbone"]["weights_file"], ours["dataset"]["files"]
        assert theirs == ours
    assert yaml.safe_load(Path("params.yaml").read_text()) == compose([])


def test_a_stage_names_a_digest_for_each_file_and_folder_of_code_that_ours_watches():
    ours = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    theirs = yaml.safe_load(layout("own", None)["dvc.yaml"])
    assert theirs["plots"] == ours["plots"] and theirs["stages"].keys() == ours["stages"].keys()
    for name in ours["stages"]:
        our, their = (content["stages"][name].get("do", content["stages"][name]) for content in (ours, theirs))
        code = [dep for dep in our["deps"] if dep.startswith(("thaw/", "stages/"))]
        digests = ["code." + dep[5:].removesuffix(".py").replace("/", ".") for dep in code if dep[:5] == "thaw/"]
        assert their["params"] == digests + our.get("params", [])
        assert their.get("deps", []) == [dep for dep in our["deps"] if dep not in code]
        assert their["outs"] == our["outs"] and their.get("metrics") == our.get("metrics")
        assert their["cmd"] == "thaw stage " + ("unfreeze@${key}" if name == "unfreeze" else name)


def test_a_folder_of_images_is_what_the_project_composes_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = write_images(tmp_path / 'my "photos"')
    new_project(Path("own"), Path(images.name))
    params = yaml.safe_load(Path("own/params.yaml").read_text())
    assert params["recipe"] == "photos" and params["dataset"]["path"] == params["dataset"]["files"] == str(images)


@pytest.mark.parametrize("make", [lambda own: own.mkdir(), lambda own: None])
def test_a_folder_that_is_empty_or_new_is_taken(tmp_path, make):
    make(tmp_path / "own")
    new_project(tmp_path / "own", None)
    assert (tmp_path / "own/dvc.yaml").is_file()


def test_a_folder_with_something_in_it_is_refused_and_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own").mkdir()
    Path("own/mine").write_text("mine")
    Path("file").touch()
    Path("link").symlink_to("own")
    for name in ("own", "file", "link"):
        with pytest.raises(ParamError, match=rf"^DIR: received '{name}'; accepted: a folder that is new or empty$"):
            new_project(Path(name), None)
    assert sorted(map(str, Path().rglob("*"))) == ["file", "link", "own", "own/mine"]


def test_images_that_are_not_there_or_hold_the_project_are_refused_before_a_file_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamError, match=r"^dataset.path: received '.*/none'; accepted: "):
        new_project(Path("own"), Path("none"))
    write_images(tmp_path / "photos")
    with pytest.raises(ParamError, match=r"^DIR: received 'photos/own'; accepted: a folder apart from the images in "):
        new_project(Path("photos/own"), Path("photos"))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"] and len([*Path("photos").iterdir()]) == 2


def test_an_upgrade_of_the_same_thaw_does_nothing(project):
    assert described(upgrade()).endswith("nothing to do: this project has its code and files")
    assert git("status", "--porcelain") == ""


def test_an_upgrade_names_the_stages_whose_code_has_changed(project, monkeypatch):
    Path("params.yaml").write_text("# mine\n" + Path("params.yaml").read_text().replace("seed: 0", "seed: 5", 1))
    other_code(monkeypatch, "evaluation", "backbones.cnn", "datasets.digits")
    done = upgrade()
    assert done.code == ["code.backbones.cnn", "code.datasets.digits", "code.evaluation"]
    assert done.stages == ["evaluate"], "VGG16 on CIFAR-10"
    assert "will run again: evaluate\n" in described(done)
    text = Path("params.yaml").read_text()
    assert text.startswith("# mine\n") and "\nseed: 5\n" in text
    assert yaml.safe_load(text)["code"] == yaml.safe_load(CODE.read_text()) == compose([])["code"]
    assert sorted(git("diff", "--name-only").split()) == [".thaw.json", str(CODE), "params.yaml"]


def test_an_upgrade_replaces_what_is_not_edited_and_keeps_what_is(project, monkeypatch):
    new = layout("own", None)
    for name in ("conf/head/gap.yaml", "conf/head/flatten.yaml", "conf/augment/none.yaml"):
        new[name] += "# newer\n"
    new["conf/head/new.yaml"] = "# new\n"
    del new["conf/augment/strong.yaml"], new["conf/schedule/full.yaml"]
    monkeypatch.setattr("thaw.app.upgrade.layout", lambda name, images: new)
    for name in ("conf/head/gap.yaml", "conf/head/base/usual.yaml", "conf/schedule/full.yaml", "README.md"):
        Path(name).write_text("# mine\n")
    Path("conf/augment/none.yaml").unlink()
    done = upgrade()
    assert done.replaced == ["conf/head/flatten.yaml"] and done.added == ["conf/head/new.yaml"]
    assert done.removed == ["conf/augment/strong.yaml"] and not Path("conf/augment/strong.yaml").exists()
    assert sorted(done.kept) == ["conf/augment/none.yaml", "conf/head/gap.yaml", "conf/schedule/full.yaml"]
    assert Path("conf/head/gap.yaml").read_text() == Path("README.md").read_text() == "# mine\n"
    assert Path("conf/head/flatten.yaml").read_text() == new["conf/head/flatten.yaml"]
    assert "kept, as you have edited or deleted them" in described(done)
    again = upgrade()
    assert not (again.replaced or again.added or again.removed or again.kept or again.stages)


def test_an_upgrade_is_refused_where_there_is_no_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ThawError, match=r"^upgrade: \.thaw\.json: not found; run it in a project that `thaw new` made$"
    ):
        upgrade()
    for text in ("{", "[]", '{"files": {}}', json.dumps({"files": {"a": 1}, "images": None})):
        Path(".thaw.json").write_text(text)
        with pytest.raises(ThawError, match=r"^upgrade: \.thaw\.json: damaged; `git checkout HEAD \.thaw\.json` "):
            upgrade()
