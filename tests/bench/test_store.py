"""Results of finished runs: a file for each, made once."""

import json

import pytest

from bench import store


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "RESULTS", tmp_path)
    return tmp_path


def once(accuracy: float, **options) -> dict:
    overrides = options.pop("overrides", ["seed=0"])
    return store.once("bench", "All at once, seed 0", overrides, lambda: {"accuracy": accuracy}, **options)


def test_a_finished_run_is_a_file_with_its_commit_and_its_machine(results):
    once(0.5)
    written = json.loads((results / "bench/all-at-once-seed-0.json").read_text())
    assert written["accuracy"] == 0.5 and written["overrides"] == ["seed=0"]
    assert len(written["commit"]) == 40 and written["dirty"] in (True, False)
    assert {"cpu", "cores", "python", "keras"} <= set(written["machine"])


def test_a_run_whose_file_exists_is_skipped_saying_so(capsys):
    commit = once(0.5)["commit"]
    assert capsys.readouterr().out == ""
    assert once(0.6)["accuracy"] == 0.5
    told = capsys.readouterr().out
    assert f"all-at-once-seed-0.json: skipped, exists since commit {commit[:7]}" in told
    assert "--again replaces it" in told
    assert once(0.7, again=True)["accuracy"] == 0.7
    assert store.read("bench")[0]["accuracy"] == 0.7


def test_a_file_of_other_overrides_is_not_taken_for_the_run(capsys):
    once(0.5)
    with pytest.raises(SystemExit, match="made with seed=0; asked for: seed=0 head.units=8. --again replaces it"):
        once(0.6, overrides=["seed=0", "head.units=8"])


def test_a_run_of_unknown_commit_and_overrides_keeps_its_figures(results, capsys):
    (results / "bench").mkdir()
    content = {"commit": None, "dirty": None, "overrides": None, "accuracy": 0.4}
    (results / "bench/all-at-once-seed-0.json").write_text(json.dumps(content))
    assert once(0.5)["accuracy"] == 0.4
    assert "exists since a commit that was not recorded" in capsys.readouterr().out


def test_a_run_that_is_cut_short_leaves_no_file(results):
    once(0.5)

    def interrupted() -> dict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.once("bench", "next", [], interrupted)
    assert [file.name for file in (results / "bench").iterdir()] == ["all-at-once-seed-0.json"]


def test_paths_stay_out_of_the_recorded_overrides():
    found = store.without_paths(["dataset.url=file:///home/me/a.tar.gz", "backbone.weights=/home/me/a.h5", "seed=1"])
    assert found == ["dataset.url=a file", "backbone.weights=a file", "seed=1"]
