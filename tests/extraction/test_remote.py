"""Extraction by actors on a Ray cluster: the same bytes, also where a host vanishes."""

import threading
from functools import partial

import pytest

from tests.helpers.project import ROOT, TINY, Project
from tests.helpers.sweeps import Hosts
from thaw.errors import ParamError
from thaw.extraction import store
from thaw.extraction.extract import extract, extract_features
from thaw.extraction.plan import load_extraction
from thaw.extraction.remote import work_remotely
from thaw.runtime.workers import Workers
from thaw.stage import read_params


def on(address: str, params):
    return params.model_copy(update={"run": params.run.model_copy(update={"cluster": address, "workers": 3})})


def test_a_cluster_that_does_not_answer_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamError, match=r"run\.cluster: received '127\.0\.0\.1:1'; accepted: HOST:PORT of a Ray"):
        extract(on("127.0.0.1:1", read_params(ROOT / "params.yaml")))


@pytest.mark.slow
def test_actors_extract_the_same_bytes_also_where_a_host_vanishes(tmp_path, monkeypatch, capsys):
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    project.run("python", "-m", "thaw", "params", "recipe=demo", *TINY, "extract.batch_size=16")
    project.dvc("repro", "backbone")
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(store, "RANGES", 3)
    params = read_params()
    network, extraction = load_extraction(params)
    extract_features(tmp_path / "expected", network, extraction)

    lost = []
    done, compute = Workers._done, store.ActivationStore.compute
    first, second = tmp_path / "first", tmp_path / "second"
    with Hosts(first, second) as hosts:
        # A host has room for one actor, so each has done a task, and gets another one, when the second vanishes.
        everyone = threading.Barrier(3, action=lambda: lost.append(hosts.lose(second)), timeout=120)

        def done_by_all(self, task, result):
            if not lost and threading.current_thread() is not threading.main_thread():
                everyone.wait()
            done(self, task, result)

        def compute_with_all(self, *arguments):
            if not lost:
                everyone.wait()
            return compute(self, *arguments)

        monkeypatch.setattr(Workers, "_done", done_by_all)
        monkeypatch.setattr(store.ActivationStore, "compute", compute_with_all)
        worker = partial(work_remotely, on(hosts.address, params))
        extract_features(tmp_path / "features", network, extraction, None, 3, worker)
    assert capsys.readouterr().out.count("extract: a worker ended with exit code 1; going on without it") == 1
    files = {path.name: path.read_bytes() for path in (tmp_path / "expected").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "features").iterdir()} == files
