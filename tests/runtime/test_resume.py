"""Saved state: whole or not used, of one key, for one process at a time; a run that goes on ends in the same bits."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.disks import read_only
from tests.helpers.examples import (
    SPOILT,
    DataByEpoch,
    OnRows,
    augment,
    data,
    example_images,
    extraction,
    points,
    run,
    small_network,
    training,
)
from tests.helpers.project import ROOT
from thaw.config.schema import Extract
from thaw.data.examples import Examples
from thaw.extraction.extract import extract_features
from thaw.network import inference
from thaw.network.build import build_head
from thaw.network.seeds import seed_initialisers
from thaw.runtime import files, resume
from thaw.runtime.resume import FRESH, KEPT, STATE_JSON, State, drop_states, open_state, saved_states, state_home
from thaw.runtime.watched import read_watched
from thaw.training.loop import TrainingLoop, train_network
from thaw.training.reporting import Printer

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32([7]), np.array(3, np.int64)]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A checkout of its own, as far as state is concerned."""
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(FRESH, raising=False)
    return tmp_path


def content(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def assert_equal_arrays(some, others) -> None:
    assert len(some) == len(others)
    for a, b in zip(some, others, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_what_was_saved_comes_back(tmp_path):
    State("s", tmp_path).save({"epoch": 1}, {"weights-1": ARRAYS})
    again = State("s", tmp_path)
    assert again.content == {"epoch": 1}
    assert_equal_arrays(again.arrays("weights-1"), ARRAYS)


def test_a_new_folder_has_no_state(tmp_path):
    assert State("s", tmp_path / "new").content is None


def test_a_save_takes_the_place_of_the_one_before_but_for_what_is_kept(tmp_path):
    saved = State("s", tmp_path)
    saved.save({}, {"weights-1": ARRAYS, "optimizer-1": ARRAYS})
    saved.save({}, {"weights-2": ARRAYS, "optimizer-2": ARRAYS}, keep=["weights-1"])
    assert content(tmp_path) == {f"{name}.safetensors" for name in ("weights-1", "weights-2", "optimizer-2")} | {
        STATE_JSON
    }
    saved.save({}, {"weights-3": ARRAYS}, keep=["weights-1"])
    assert content(tmp_path) == {"weights-1.safetensors", "weights-3.safetensors", STATE_JSON}
    assert_equal_arrays(State("s", tmp_path).arrays("weights-1"), ARRAYS)


@pytest.mark.parametrize("step", ["bytes", "sync", "json"])
def test_a_save_that_is_cut_off_leaves_the_one_before(tmp_path, monkeypatch, step):
    saved = State("s", tmp_path)
    saved.save({"epoch": 1}, {"weights-1": ARRAYS})

    def fails(*arguments, **options):
        raise KeyboardInterrupt

    if step == "bytes":
        monkeypatch.setattr(Path, "write_bytes", fails)
    elif step == "sync":
        monkeypatch.setattr(os, "fsync", fails)
    else:
        monkeypatch.setattr(files, "write_json", fails)
    with pytest.raises(KeyboardInterrupt):
        saved.save({"epoch": 2}, {"weights-2": ARRAYS})
    monkeypatch.undo()
    again = State("s", tmp_path)
    assert again.content == {"epoch": 1}
    assert_equal_arrays(again.arrays("weights-1"), ARRAYS)


@pytest.mark.parametrize("file", [STATE_JSON, "weights-1.safetensors"])
@pytest.mark.parametrize("how", [*SPOILT, "one bit"])
def test_damaged_state_is_not_used_and_that_is_said(tmp_path, capsys, file, how):
    State("stage", tmp_path).save({"epoch": 1}, {"weights-1": ARRAYS})
    if how == "one bit":
        content = bytearray((tmp_path / file).read_bytes())
        # Of a number, so that a JSON still is one.
        place = content.index(b"1") if file == STATE_JSON else len(content) - 1
        content[place] ^= 1 << 3
        (tmp_path / file).write_bytes(content)
    elif how == "cut_short" and file == STATE_JSON:
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-2])  # the last is but a line break
    else:
        SPOILT[how](tmp_path / file)
    assert State("stage", tmp_path).content is None
    told = capsys.readouterr().out
    # A file that is gone is no state at all where it is the JSON.
    assert told == "stage: the saved state is damaged and not used\n" or not (tmp_path / STATE_JSON).exists()


def test_state_lies_beside_the_cache(here):
    assert state_home() == here / ".dvc/thaw"
    shared = here / "mnt/shared"
    (here / ".dvc/config").write_text(f"[core]\n    analytics = false\n[cache]\n    dir = {shared}/cache\n")
    assert state_home() == shared / "thaw"
    shared.mkdir(parents=True)
    with read_only(shared):
        assert state_home() == here / ".dvc/thaw"
    (here / ".dvc/config.local").write_text("['remote \"a\"']\n    url = x%y\n[cache]\n    dir = ../cache\n")
    assert state_home() == here / "thaw"


def test_runs_in_dvcs_temporary_copies_use_the_main_checkouts(here, monkeypatch):
    copy = here / ".dvc/tmp/exps/tmp1"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert state_home() == here / ".dvc/thaw"


def opened(stage: str = "unfreeze@all", machine: str = "cpu", **parameters):
    Path("input").write_text("1") if not Path("input").exists() else None
    return open_state(stage, parameters, [Path("input")], machine)


def test_state_is_kept_when_a_run_ends_early_and_gone_when_it_is_done(here):
    with pytest.raises(RuntimeError), opened() as saved:
        saved.save({"epoch": 1}, {"weights-1": ARRAYS})
        raise RuntimeError
    with opened() as saved:
        assert saved.content == {"epoch": 1}
    with opened() as saved:
        assert saved.content is None
    assert not list(state_home().glob("unfreeze@all-*/"))


@pytest.mark.parametrize("change", ["parameters (epochs)", "inputs (input)", "machine", "versions (keras)"])
def test_state_of_another_key_is_not_used_and_that_is_said(here, capsys, monkeypatch, change):
    with pytest.raises(RuntimeError), opened(epochs=3) as saved:
        saved.save({"epoch": 1}, {})
        raise RuntimeError
    arguments = {"epochs": 3, "machine": "cpu"}
    if change.startswith("parameters"):
        arguments["epochs"] = 4
    elif change == "machine":
        arguments["machine"] = "gpu"
    elif change.startswith("inputs"):
        Path("input").write_text("2")
    else:
        monkeypatch.setattr(resume, "version", lambda name: "0.0" if name == "keras" else version(name))
    with opened(**arguments) as saved:
        assert saved.content is None
    assert f"unfreeze@all: there is saved state with other {change}; it is not used" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.chdir(here)
    if change.startswith("inputs"):
        Path("input").write_text("1")
    with opened(epochs=3) as saved:
        assert saved.content == {"epoch": 1}, "and it is still there for whom it is"


DVC_YAML = """
stages:
  unfreeze:
    foreach: ${schedule.phases}
    do:
      cmd: python -m stages.unfreeze ${key}
      deps:
        - stages/unfreeze.py
        - thaw/backbones/${backbone.name}.py
        - thaw/training
        - models/${item.after}
      params:
        - seed
        - schedule.phases.${key}
"""
PARAMS = """
seed: 0
backbone: {name: cnn}
run: {log: quiet}
schedule:
  phases:
    top: {after: head, epochs: 3}
    all: {after: top, epochs: 5}
"""
FILES = [
    "stages/unfreeze.py", "stages/extract.py", "thaw/backbones/cnn.py", "thaw/backbones/vgg16.py",
    "thaw/runtime/resume.py", "thaw/training/loop.py", "thaw/training/__pycache__/loop.pyc", "thaw/stage.py",
    "models/top/checkpoint.json", "models/head/checkpoint.json",
]  # fmt: skip


@pytest.fixture
def checkout(here) -> Path:
    """A checkout with a dvc.yaml, and state of unfreeze@all."""
    for name in FILES:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("{}")
    (here / "dvc.yaml").write_text(DVC_YAML)
    (here / "params.yaml").write_text(PARAMS)
    with pytest.raises(RuntimeError), opened() as saved:
        saved.save({"epoch": 1}, {})
        raise RuntimeError
    return here


def edit(file: Path, old: str = "{}", new: str = "# a comment\n") -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    "name",
    [
        "thaw/runtime/resume.py", "thaw/stage.py", "stages/extract.py", "thaw/backbones/vgg16.py",
        "thaw/training/__pycache__/loop.pyc", "models/head/checkpoint.json",
    ],
)  # fmt: skip
def test_an_edit_of_what_dvc_does_not_watch_for_the_stage_keeps_its_state(checkout, capsys, name):
    edit(checkout / name)
    with opened() as saved:
        assert saved.content == {"epoch": 1}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("thaw/training/loop.py", "code (thaw/training)"),
        ("thaw/backbones/cnn.py", "code (thaw/backbones/cnn.py)"),
        ("stages/unfreeze.py", "code (stages/unfreeze.py)"),
        ("models/top/checkpoint.json", "inputs (models/top)"),
    ],
)
def test_an_edit_of_what_dvc_watches_does_not_and_is_named(checkout, capsys, name, change):
    edit(checkout / name)
    with opened() as saved:
        assert saved.content is None
    assert capsys.readouterr().out == f"unfreeze@all: there is saved state with other {change}; it is not used\n"


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("seed: 0", "seed: 1", "parameters (seed)"),
        ("epochs: 5", "epochs: 6", "parameters (schedule.phases.all)"),
        ("name: cnn", "name: vgg16", "code (thaw/backbones/cnn.py, thaw/backbones/vgg16.py)"),
        ("epochs: 3", "epochs: 4", None),  # of another phase
        ("log: quiet", "log: all", None),
    ],
)
def test_parameters_are_those_that_dvc_yaml_names(checkout, capsys, old, new, change):
    edit(checkout / "params.yaml", old, new)
    with opened() as saved:
        assert saved.content == (None if change else {"epoch": 1})
    said = f"unfreeze@all: there is saved state with other {change}; it is not used\n" if change else ""
    assert capsys.readouterr().out == said


def test_a_new_file_in_a_folder_that_dvc_watches_is_other_code(checkout):
    (checkout / "thaw/training/new.py").write_text("")
    with opened() as saved:
        assert saved.content is None


def test_without_dvc_yaml_the_code_is_all_packages_that_decide_numbers(here):
    code = read_watched("extract").code
    assert {"thaw/training", "thaw/network", "thaw/extraction"} <= set(code)
    assert not {"thaw/runtime", "thaw/app", "thaw/config"} & set(code)


def test_each_stage_of_the_pipeline_is_read_as_dvc_reads_it(monkeypatch):
    """Names of dependencies and parameters, as DVC resolves them."""
    from dvc.repo import Repo

    monkeypatch.chdir(ROOT)
    with Repo() as repo:
        for stage in repo.index.stages:
            watched = read_watched(stage.name)
            deps = {str(dep) for dep in stage.deps if not hasattr(dep, "params")}
            assert set(watched.code) | set(watched.inputs) == deps, stage.name
            names = {name for dep in stage.deps if hasattr(dep, "params") for name in dep.params}
            assert set(watched.parameters) == names, stage.name


def test_fresh_drops_what_was_saved(here, monkeypatch):
    with pytest.raises(RuntimeError), opened() as saved:
        saved.save({"epoch": 1}, {})
        raise RuntimeError
    monkeypatch.setenv(FRESH, "1")
    with opened() as saved:
        assert saved.content is None


def test_the_work_that_fresh_deletes_is_named_and_that_of_running_stages_is_not(here):
    with pytest.raises(RuntimeError), opened() as state:
        state.save({"epoch": 1}, {})
        raise RuntimeError
    with opened(a=2) as running:
        running.save({"epoch": 1}, {})
        ((name, seconds),) = saved_states().items()
        assert (name, seconds) == (state.folder.name, pytest.approx(0, abs=5))
        assert drop_states() == [running.folder.name]
        assert saved_states() == {}


def test_state_that_nobody_came_back_for_is_deleted(here):
    for parameters in ({"a": 1}, {"a": 2}):
        with pytest.raises(RuntimeError), opened(**parameters):
            raise RuntimeError
    folders = sorted(state_home().glob("unfreeze@all-*/"))
    old = folders[0]
    then = time.time() - KEPT - 60
    os.utime(old / "key.json", (then, then))
    with opened(a=3):
        pass
    assert folders[1].exists()
    assert not old.exists()


HOLDS = """
import sys, time
from pathlib import Path
from thaw.runtime.resume import open_state
with open_state("unfreeze@all", {}, [Path("input")], "cpu") as saved:
    print("holds", flush=True)
    sys.stdin.readline()
    saved.save({"epoch": 5}, {})
    if "fails" in sys.argv:
        raise SystemExit(1)
"""


@pytest.mark.parametrize("ends", ["fails", "is done"])
def test_a_second_process_waits_says_so_and_goes_on_from_what_is_there(here, ends):
    Path("input").write_text("1")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", HOLDS, ends],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    first = start()
    assert first.stdout.readline() == "holds\n"
    second = start()
    assert second.stdout.readline() == f"unfreeze@all: waiting for process {first.pid}, which does the same\n"
    first.stdin.write("\n")
    first.stdin.flush()
    assert first.wait(20) == (ends == "fails")
    assert second.stdout.readline() == "holds\n"
    folders = list(state_home().glob("unfreeze@all-*/"))
    assert [json.loads((folder / STATE_JSON).read_text())["content"] for folder in folders] == [{"epoch": 5}]
    second.stdin.write("\n")
    second.stdin.flush()
    second.wait(20)
    assert bool(list(state_home().glob("unfreeze@all-*/"))) == (ends == "fails")


def test_all_state_can_be_dropped_but_that_of_a_run_under_way(here):
    for number in (1, 2):
        with pytest.raises(RuntimeError), opened(number=number) as saved:
            saved.save({"epoch": 1}, {})
            raise RuntimeError
    with pytest.raises(RuntimeError), opened(number=1) as saved:
        assert drop_states() == [saved.folder.name]
        assert [folder.name for folder in state_home().glob("*/")] == [saved.folder.name]
        saved.save({"epoch": 2}, {})
        raise RuntimeError
    with pytest.raises(RuntimeError), opened(number=1) as saved:
        assert saved.content == {"epoch": 2}
        raise RuntimeError
    assert drop_states() == []
    assert not state_home().exists()
    assert drop_states() == []


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, *(pytest.param(after, marks=pytest.mark.slow) for after in (2, 3, 4))])
@pytest.mark.parametrize(("mixup", "average"), [pytest.param(0.0, 0.0, marks=pytest.mark.slow), (0.4, 0.9)])
def test_a_run_that_goes_on_ends_in_the_same_bits(tmp_path, after, mixup, average):
    train, val = points(48, spread=0.6), points(21, seed=1, spread=0.6)
    settings = training(epochs=4, lr_schedule="cosine", warmup_epochs=1.0, learning_rate=0.02, average=average)

    def fit(saved, stop_after=None):
        seed_initialisers(0, "test")
        head = build_head(train.inputs.shape[1], 8, 0.5, 3)

        def report(rows):
            if stop_after is not None and len(rows) > stop_after:
                raise Killed

        views = [train, Examples(train.inputs * 1.1, train.labels)]
        by_turns = DataByEpoch(None, lambda epoch: views[epoch % 2], val)
        loop = TrainingLoop(head, run(settings, mixup=mixup), by_turns, [OnRows(report)], saved)
        rows = loop.run()
        return rows, [*head.get_weights(), *(variable.numpy() for variable in loop.optimizer.variables)]

    expected, weights = fit(None)
    with pytest.raises(Killed):
        fit(State("s", tmp_path), after)
    rows, resumed = fit(State("s", tmp_path))
    assert rows == expected
    assert_equal_arrays(resumed, weights)


def test_a_network_with_batch_norm_dropout_and_augmentation_goes_on_in_the_same_bits(tmp_path, capsys):
    examples = example_images(24)

    def fit(saved, stop=False):
        network = small_network(dropout=0.2)
        network.attach("avg", None, 0.3, 3)
        network.freeze(0)

        def report(rows):
            if stop and len(rows) > 2:
                raise Killed

        of = run(training(epochs=3), augment=augment(flip=True, translation=0.2), batch_norm="train")
        observers = [OnRows(report), Printer(of.stage, of.training)]
        rows = train_network(network, of, data(Examples(examples.inputs, examples.labels % 3)), observers, saved).rows
        return rows, network.classifier().get_weights()

    expected, weights = fit(None)
    with pytest.raises(Killed):
        fit(State("s", tmp_path), stop=True)
    capsys.readouterr()
    rows, resumed = fit(State("s", tmp_path))
    told = capsys.readouterr().out
    assert "unfreeze@all: resuming from saved state, after epoch 2/3" in told
    assert len(re.findall("epoch ./3, ", told)) == 1
    assert rows == expected
    assert_equal_arrays(resumed, weights)


def test_early_stopping_counts_on(tmp_path, capsys):
    train, val = points(48), points(21, seed=1)
    wrong = Examples(train.inputs, (train.labels + 1) % 3)

    def fit(saved, stop_after=None):
        seed_initialisers(0, "test")
        head = build_head(train.inputs.shape[1], None, 0.0, 3)

        def report(rows):
            if len(rows) - 1 == stop_after:
                raise Killed

        settings = training(epochs=9, patience=2, learning_rate=0.05)
        spoilt = DataByEpoch(None, lambda epoch: train if epoch < 3 else wrong, val)
        return TrainingLoop(head, run(settings), spoilt, [OnRows(report)], saved).run()

    expected = fit(None)
    assert len(expected) < 10
    for stop_after in (3, 4):
        with pytest.raises(Killed):
            fit(State("s", tmp_path / str(stop_after)), stop_after)
        assert fit(State("s", tmp_path / str(stop_after))) == expected


TRAIN, VAL = example_images(20), example_images(9, seed=1)


def extract(folder: Path, saved: State | None) -> dict[str, bytes]:
    varied = augment(flip=True, translation=0.2, views=2, seed=3)
    settings = Extract(cuts=[0, 1], budget_gb=1.0, dtype="float16", batch_size=4)
    extract_features(folder, small_network(), extraction(TRAIN, VAL, settings, augment=varied), saved)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("chunks", [2, *(pytest.param(chunks, marks=pytest.mark.slow) for chunks in (0, 1, 4, 7))])
def test_an_extraction_that_goes_on_ends_in_the_same_bytes(tmp_path, monkeypatch, capsys, chunks):
    monkeypatch.setattr(inference, "CHUNK", 8)
    expected = extract(tmp_path / "expected", None)
    save, left = State.save, iter(range(chunks))

    def counted(*arguments):
        if next(left, None) is None:
            raise Killed
        save(*arguments)

    monkeypatch.setattr(State, "save", counted)
    with pytest.raises(Killed):
        extract(tmp_path / "features", State("extract", tmp_path / "state"))
    assert not (tmp_path / "features").exists()
    monkeypatch.setattr(State, "save", save)
    capsys.readouterr()
    assert extract(tmp_path / "features", State("extract", tmp_path / "state")) == expected
    # The validation set has two chunks, each view three.
    assert capsys.readouterr().out.count("resuming from saved state") == [0, 1, 1, 2, 3][[0, 1, 2, 4, 7].index(chunks)]


def test_an_extraction_that_goes_on_from_one_that_is_done_does_not_write_to_its_files(tmp_path):
    expected = extract(tmp_path / "features", State("extract", tmp_path / "state"))
    kept = {file: file.stat() for file in (tmp_path / "features").glob("depth*.npy")}
    assert {status.st_nlink for status in kept.values()} == {2}
    for file in kept:
        file.chmod(0o444)  # as DVC's cache has it
    assert extract(tmp_path / "again", State("extract", tmp_path / "state")) == expected
    for file, status in kept.items():
        assert not file.samefile(tmp_path / "state" / file.name)
        assert file.stat().st_mtime_ns == status.st_mtime_ns


def test_an_extraction_whose_files_are_deleted_leaves_no_features(tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "CHUNK", 8)
    save = State.save

    def deleted(saved, *arguments):
        shutil.rmtree(saved.folder)
        save(saved, *arguments)

    monkeypatch.setattr(State, "save", deleted)
    with pytest.raises(FileNotFoundError, match="depth0"):
        extract(tmp_path / "features", State("extract", tmp_path / "state"))
    assert not (tmp_path / "features").exists()


def test_a_chunk_that_was_lost_is_extracted_again(tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "CHUNK", 8)
    expected = extract(tmp_path / "expected", None)
    extract(tmp_path / "features", State("extract", tmp_path / "state"))
    file = tmp_path / "state/depth1-view1.npy"
    array = np.load(file, mmap_mode="r+")
    array[9] = 0
    array.flush()
    (tmp_path / "state/depth0-view0.npy").write_bytes(b"cut off")
    assert extract(tmp_path / "again", State("extract", tmp_path / "state")) == expected
