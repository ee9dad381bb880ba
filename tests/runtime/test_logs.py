"""Logs of a run, read back by the programs that they are for."""

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from thaw.errors import ParamError
from thaw.runtime import logs
from thaw.runtime.installed import install_command
from thaw.runtime.logs import MLFLOW_DB, TENSORBOARD, log_scores, open_logs, refuse_missing_logs

PARAMS = {"seed": 0, "backbone.name": "cnn", "run.log": ["mlflow"]}
VALUES = {"val/accuracy": 0.5, "val/loss": 1.5}


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """A folder named checkout, as the working folder."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    return folder


def log(names, phase, epochs, params=PARAMS):
    """Log VALUES for some epochs, as a stage does."""
    opened = open_logs(names, f"unfreeze@{phase}", phase, params)
    for epoch in epochs:
        opened.row(VALUES, epoch)
    opened.close()


def curves(phase):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(TENSORBOARD / phase))
    events.Reload()
    return {
        tag: [(point.step, round(point.value, 4)) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def runs():
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{MLFLOW_DB.resolve()}")
    experiment = client.get_experiment_by_name("checkout")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    steps = {
        run.info.run_id: [metric.step for metric in client.get_metric_history(run.info.run_id, "val/accuracy")]
        for run in found
    }
    return found, steps


def test_tensorboard_reads_a_run_for_each_phase_whose_epochs_go_on():
    log(["tensorboard"], "head", [0, 1, 2])
    log(["tensorboard"], "all", [2, 3])
    assert curves("head") == {
        "val/accuracy": [(0, 0.5), (1, 0.5), (2, 0.5)],
        "val/loss": [(0, 1.5), (1, 1.5), (2, 1.5)],
    }
    assert curves("all")["val/loss"] == [(2, 1.5), (3, 1.5)]
    log(["tensorboard"], "all", [2])
    assert curves("all")["val/loss"] == [(2, 1.5)], "a stage that runs again has no old points"


def test_tensorboard_is_written_without_tensorflow():
    code = (
        "import sys; from thaw.runtime.logs import open_logs\n"
        "opened = open_logs(['tensorboard'], 'train_head', 'head', {}); opened.row({'loss': 1.0}, 1); opened.close()\n"
        "print('tensorflow' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
    assert curves("head") == {"loss": [(1, 1.0)]}


def test_mlflow_has_one_run_for_all_stages_of_an_experiment(monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "prosy-tilt")
    log(["mlflow"], "head", [0, 1])
    log(["mlflow"], "all", [1, 2])
    log_scores(["dvclive", "mlflow"], "evaluate", PARAMS, {"accuracy": 0.75, "source.accuracy": 1, "class": "cat"})
    (run,), steps = runs()
    assert steps[run.info.run_id] == [0, 1, 2]
    assert run.data.params == {"seed": "0", "backbone.name": "cnn"}
    assert {name: value for name, value in run.data.metrics.items() if name.startswith("test/")} == {
        "test/accuracy": 0.75,
        "test/source.accuracy": 1.0,
    }
    assert (run.info.run_name, run.info.status) == ("prosy-tilt", "FINISHED")


def test_a_stage_that_resumes_goes_on_in_mlflows_run_and_other_parameters_have_another():
    log(["mlflow"], "all", [0, 1])
    log(["mlflow"], "all", [0, 1, 2], PARAMS | {"run.workers": 2})
    log(["mlflow"], "all", [0], PARAMS | {"seed": 1})
    found, steps = runs()
    assert sorted(steps.values()) == [[0], [0, 1, 2]]
    assert len(found) == 2


def test_the_epochs_of_a_source_task_are_apart():
    opened = open_logs(["mlflow"], "backbone", "backbone", PARAMS)
    opened.row(VALUES, 1)
    log(["mlflow"], "head", [1])
    (run,), _ = runs()
    assert {"source/val/accuracy", "val/accuracy"} <= run.data.metrics.keys()


def test_mlflow_logs_to_the_server_that_the_environment_names(monkeypatch, checkout):
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = json.dumps({"error_code": "PERMISSION_DENIED", "message": "not you"}).encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    log(["mlflow"], "head", [0, 1])
    server.shutdown()
    assert any("experiments/get-by-name" in path for path in asked)
    assert not (checkout / MLFLOW_DB).exists()


def test_a_log_that_fails_is_told_once_and_the_others_go_on(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    log(["mlflow", "tensorboard"], "head", [0, 1, 2])
    assert [step for step, _ in curves("head")["val/loss"]] == [0, 1, 2]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "mlflow" in line]
    assert line.startswith("unfreeze@head: mlflow: ") and line.endswith("; not logged there any more")

    class Full(logs.Log):
        def row(self, values, epoch):
            raise OSError("No space left on device")

    opened = logs.Logs("train_head", {"tensorboard": Full()})
    opened.row(VALUES, 0)
    opened.row(VALUES, 1)
    said = "train_head: tensorboard: No space left on device; not logged there any more\n"
    assert capsys.readouterr().out == said


def test_a_log_without_its_package_is_refused_with_what_to_install(monkeypatch):
    refuse_missing_logs(["dvclive", "tensorboard", "mlflow"])
    monkeypatch.setattr(logs, "find_spec", lambda name: None)
    refuse_missing_logs(["dvclive"])
    said = f"run.log: received 'mlflow'; accepted: a log whose package is installed: {install_command('mlflow')}"
    with pytest.raises(ParamError, match=re.escape(said)):
        refuse_missing_logs(["dvclive", "mlflow"])
