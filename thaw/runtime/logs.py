"""The live view of a run in DVCLive, TensorBoard and MLflow, as `run.log` names them. Start at `open_logs`.

None of them decides a number: a log that fails is told once and left out, and training goes on. Each stage is a process
of its own. What belongs together is found again: a folder by the name of the phase, MLflow's run by the parameters.
"""

import hashlib
import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from thaw import paths
from thaw.errors import ParamError
from thaw.runtime.installed import install_command

TENSORBOARD = Path("tensorboard")
MLFLOW_DB = Path("mlflow.db")

# Module that a log needs, and what is installed for it; DVCLive comes with thaw.
_MODULES = {"tensorboard": "tensorboard", "mlflow": "mlflow"}

# Bytes that MLflow takes as the value of a parameter.
_MLFLOW_VALUE = 500


def refuse_missing_logs(names: Sequence[str]) -> None:
    """Refuse a log whose package is not installed.

    Raises:
        ParamError: names it, and what to install.
    """
    for name in names:
        if name in _MODULES and find_spec(_MODULES[name]) is None:
            raise ParamError("run.log", name, f"a log whose package is installed: {install_command(name)}")


class Log(ABC):
    """One program that shows a run."""

    @abstractmethod
    def row(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the values of an epoch by name, such as val/accuracy; epochs are counted through all phases."""

    def close(self) -> None:  # noqa: B027, most have nothing to do
        """Write what is left."""


class Logs:
    """All logs of a stage, of which none can end it."""

    def __init__(self, stage: str, logs: Mapping[str, Log]) -> None:
        self.stage, self._logs = stage, dict(logs)

    def row(self, values: Mapping[str, float], epoch: int) -> None:
        """As `Log.row`, for all."""
        self._each("row", values, epoch)

    def close(self) -> None:
        """As `Log.close`, for all."""
        self._each("close")

    def _each(self, what: str, *arguments: Any) -> None:
        for name, log in list(self._logs.items()):
            try:
                getattr(log, what)(*arguments)
            except Exception as error:
                tell_failure(self.stage, name, error)
                del self._logs[name]


def tell_failure(stage: str, name: str, error: Exception) -> None:
    """Say that a log is left out, in one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    print(f"{stage}: {name}: {lines[0][:300]}; not logged there any more", flush=True)


def open_logs(names: Sequence[str], stage: str, phase: str, params: Mapping[str, Any]) -> Logs:
    """Open the logs of a training stage.

    Args:
        names: of `run.log`.
        stage, phase: their names.
        params: all parameters, by dotted name.
    """
    logs = {}
    for name in names:
        if name == "dvclive" and find_spec(name) is None:  # a stage also runs as a plain module, without DVC
            continue
        try:
            logs[name] = _open(name, stage, phase, params)
        except Exception as error:
            tell_failure(stage, name, error)
    return Logs(stage, logs)


def _open(name: str, stage: str, phase: str, params: Mapping[str, Any]) -> Log:
    if name == "dvclive":
        return _DvcLive(stage)
    if name == "tensorboard":
        return _TensorBoard(TENSORBOARD / phase)
    return _MLflow(MLflowRun.of(params), phase)


class _DvcLive(Log):
    """Below dvclive/, a folder for each stage."""

    def __init__(self, stage: str) -> None:
        from dvclive import Live

        # The stage's outputs are DVC's own business: no dvc.yaml, no experiment from in here.
        self._live = Live(f"dvclive/{stage}", dvcyaml=None, save_dvc_exp=False, report=None)

    def row(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._live.next_step()


class _TensorBoard(Log):
    """Below tensorboard/, a run for each phase: their curves follow each other in one chart, each in its colour.

    Events are written without TensorBoard's own writer, which would import TensorFlow beside JAX.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        shutil.rmtree(folder, ignore_errors=True)  # a stage that resumes logs its rows anew
        folder.mkdir(parents=True)
        self._writer = RecordWriter(open(folder / f"events.out.tfevents.{int(time.time())}.thaw", "wb"))  # noqa: SIM115
        self._write(Event(file_version="brain.Event:2"))

    def row(self, values: Mapping[str, float], epoch: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(step=epoch, summary=Summary(value=scalars)))

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class MLflowRun:
    """MLflow's run of one set of parameters, which all stages log into.

    MLFLOW_TRACKING_URI names the server or the store: by default mlflow.db in the checkout, where `mlflow ui` finds it.
    The experiment is named as the checkout's folder, unless MLFLOW_EXPERIMENT_NAME is set.
    """

    _TAG = "thaw.params"

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self.id = client, run_id

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "MLflowRun":
        """The run of these parameters, a new one where there is none."""
        # A server that is away is told after seconds, not after the seven attempts that MLflow would make.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient

        home = paths.main_checkout().resolve()
        client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / MLFLOW_DB}")
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or home.name
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        # What moves no bit, such as where a run is logged, makes no other run.
        values = {key: value for key, value in params.items() if not key.startswith("run.")}
        key = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        runs = client.search_runs([experiment], f"tags.`{cls._TAG}` = '{key}'", max_results=1)
        if runs:
            return cls(client, runs[0].info.run_id)
        title = os.environ.get("DVC_EXP_NAME") or f"{params['backbone.name']}-{key[:6]}"
        run = cls(client, client.create_run(experiment, tags={cls._TAG: key}, run_name=title).info.run_id)
        run._log_params(values)
        return run

    def _log_params(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(name, str(value)[:_MLFLOW_VALUE]) for name, value in values.items()]
        for first in range(0, len(params), 100):  # MLflow's limit of a request
            self._client.log_batch(self.id, params=params[first : first + 100])

    def logged(self, name: str) -> set[int]:
        """The steps that a metric has: it cannot be logged anew, and would be drawn twice."""
        return {metric.step for metric in self._client.get_metric_history(self.id, name)}

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers by name."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self.id, metrics=[Metric(name, float(value), now, step) for name, value in values.items()]
        )

    def end(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self.id)


class _MLflow(Log):
    def __init__(self, run: MLflowRun, phase: str) -> None:
        self._run = run
        # The epochs of a source task are counted by themselves.
        self._prefix = "source/" if phase == "backbone" else ""
        self._logged = run.logged(f"{self._prefix}val/accuracy")

    def row(self, values: Mapping[str, float], epoch: int) -> None:
        # The first row of a later phase is the last one's best epoch, which is there already.
        if epoch not in self._logged:
            self._run.log({self._prefix + name: value for name, value in values.items()}, epoch)
            self._logged.add(epoch)


def log_scores(names: Sequence[str], stage: str, params: Mapping[str, Any], scores: Mapping[str, Any]) -> None:
    """Log what `evaluate` found, where a log has a place for it: MLflow, whose run ends with it.

    Args:
        names, stage, params: as of `open_logs`.
        scores: the content of metrics/evaluate.json, by dotted name.
    """
    if "mlflow" not in names:
        return
    try:
        run = MLflowRun.of(params)
        numbers = {f"test/{name}": value for name, value in scores.items() if isinstance(value, int | float)}
        run.log(numbers, 0)
        run.end()
    except Exception as error:
        tell_failure(stage, "mlflow", error)
