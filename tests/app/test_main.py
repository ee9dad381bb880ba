"""How commands end: in one line where the system refuses, and quietly where nobody reads on."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.project import ROOT
from thaw.runtime.files import replacing
from thaw.stage import read_params
from tools.commands import parsers


@pytest.fixture
def checkout(tmp_path):
    """A folder with what `params` and `check` need."""
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    return tmp_path


def thaw(folder, *arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "thaw", *arguments], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [(["params"], "conf"), (["check", "seed=1"], "conf"), (["fresh"], "dvc.yaml"), (["demo"], "dvc.yaml")],
)
def test_below_the_root_and_outside_of_a_checkout_a_command_says_where_to_run(tmp_path, arguments, missing):
    outside = thaw(tmp_path, *arguments)
    assert (outside.returncode, outside.stderr) == (1, f"{missing}: not found; run from the root of a checkout\n")
    (tmp_path / "conf").mkdir()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "docs").mkdir()
    below = thaw(tmp_path / "docs", *arguments)
    assert below.stderr == f"{missing}: not found; run from the root of the checkout, {tmp_path}\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["conf", "docs", "dvc.yaml"]


def test_fresh_says_that_nothing_was_saved(tmp_path):
    (tmp_path / "dvc.yaml").touch()
    result = thaw(tmp_path, "fresh", stdout=subprocess.PIPE)
    assert result.stdout == f"{tmp_path}/.dvc/thaw: nothing saved\n"


def test_an_override_without_a_key_is_refused(checkout):
    assert thaw(checkout, "check", "=3").stderr == "overrides: received '=3'; accepted: KEY=VALUE\n"


@pytest.mark.parametrize("phase", ["nope", "head", "a/../../x", ""])
def test_a_stage_of_no_phase_of_the_schedule_is_refused_before_any_work(tmp_path, phase):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "stages.unfreeze", phase],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    phases = ", ".join(read_params(tmp_path / "params.yaml").schedule.phases)
    assert result.stderr == f"unfreeze@{phase}: phase: received {phase!r}; accepted: {phases}\n"
    assert [file.name for file in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["stages.train_head", "--help"], 0, "usage: python -m stages.train_head [-h]"),
        (["stages.unfreeze", "--help"], 0, "usage: python -m stages.unfreeze [-h] PHASE"),
        (["stages.train_head", "depth1"], 2, "usage: python -m stages.train_head [-h]"),
        (["stages.unfreeze"], 2, "usage: python -m stages.unfreeze [-h] PHASE"),
    ],
)
def test_a_stage_tells_its_use_in_place_of_a_run(tmp_path, arguments, code, said):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *arguments]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == code
    assert (result.stderr or result.stdout).startswith(said)
    assert [file.name for file in tmp_path.iterdir()] == ["params.yaml"]


def test_what_cannot_be_written_is_told_in_one_line(checkout):
    (checkout / "params.yaml").mkdir()
    result = thaw(checkout, "params")
    assert (result.returncode, result.stderr) == (1, "params.yaml: Is a directory\n")


@pytest.mark.parametrize("content", [b"units: [", b"units: 'caf\xe9'"])
def test_a_choice_that_is_no_yaml_is_told_in_one_line(tmp_path, content):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf/head/gap.yaml").write_bytes(content)
    result = thaw(tmp_path, "check", "head=gap")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("output", ["", "..", "folder", os.devnull])
def test_what_is_no_file_is_refused_before_any_work_and_left(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(OSError) as caught, replacing(Path(output)):
        raise AssertionError("work")
    assert (caught.value.filename, caught.value.strerror) == (output or ".", "not a file")
    assert Path(os.devnull).is_char_device()


@pytest.mark.slow
def test_a_network_that_no_memory_holds_is_told_in_one_line(checkout):
    result = thaw(checkout, "summary", "recipe=demo", "head.units=100000000000")
    assert result.returncode == 1
    assert result.stderr == "out of memory; a smaller batch_size, head.units or backbone.image_size needs less\n"


def test_who_reads_no_further_sees_no_error(checkout):
    reader, writer = os.pipe()
    os.close(reader)
    result = thaw(checkout, "check", "seed=1", stdout=writer)
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("recipe=vgg16-gradul", "recipe: received 'vgg16-gradul'; accepted: cifar100-mobilenetv2, class-split, "),
        ("schedule=null", "schedule: received 'null'; accepted: full, gradual, head-only, scratch\n"),
        ("head=3", "head: received '3'; accepted: flatten, gap\n"),
    ],
)
def test_a_choice_that_a_group_has_not_is_told_in_one_line(checkout, override, said):
    result = thaw(checkout, "check", "seed=1", override)
    assert result.returncode == 1
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("head.unitz=3", "head.unitz: received an unknown key; accepted: epochs, learning_rate, "),
        ("bakbone=vgg16", "bakbone: received an unknown key; accepted: recipe, backend, "),
        ("backbone.source.epochs=3", "backbone.source.epochs: received '3'; accepted: a key that conf/ composes to\n"),
        ("heda.units=3", "heda.units: received '3'; accepted: a key that conf/ composes to, such as head.units\n"),
        (
            "schedule.phases.depht1.epochs=3",
            "schedule.phases.depht1.epochs: received '3'; accepted: a key that conf/ "
            "composes to, such as schedule.phases.depth1.epochs\n",
        ),
        ("head.units", "head.units: received nothing; accepted: a value: head.units=VALUE\n"),
        ("backbone.weights=~/a.h5", "backbone.weights: received '~/a.h5'; accepted: a value in the grammar of Hydra, "),
        ("head=~/a", "head: received '~/a'; accepted: flatten, gap\n"),
        ("backbone=vgg16,cnn", "backbone.alpha: received 0.5; accepted: null for vgg16 (in the run of backbone=vgg16 "),
    ],
)
def test_what_hydra_cannot_take_is_told_in_one_line(checkout, override, said):
    result = thaw(checkout, "check", "-S", override, *(["-S", "backbone.alpha=0.5"] if "," in override else []))
    assert result.returncode == 1
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


def test_overrides_are_taken_as_dvc_takes_them_and_a_grid_is_checked_whole(checkout):
    result = thaw(checkout, "check", "seed=1", "-S", "head.units=16,32", "--set-param", "batch_size=64", stdout=-1)
    assert (result.stdout, result.stderr) == ("2 runs: accepted\n", "")


def test_a_grid_is_not_composed_into_one_file(checkout):
    result = thaw(checkout, "params", "head.units=16,32")
    assert result.returncode == 1
    assert result.stderr.startswith("overrides: received a grid of 2 runs; accepted: one run")
    assert not (checkout / "params.yaml").exists()


def test_every_command_is_listed_and_has_help_with_an_example(tmp_path):
    listed = re.findall(r"^    ([a-z-]+) ", thaw(tmp_path, stdout=subprocess.PIPE).stdout, re.MULTILINE)
    expected = "params check summary lr-range depth demo fresh predict export explain audit"
    assert set(expected.split()) <= set(listed) == set(dict(parsers()))
    for name, parser in parsers():
        example = parser.format_help().split("options:")[1]
        assert f"thaw {name}" in example or f"make {name}" in example, name
