"""What a training stage leaves for people to see: a curve as CSV, a metrics file, and the logs of `run.log`."""

from thaw import paths
from thaw.config.naming import flat
from thaw.config.schema import Params
from thaw.network.history import COLUMNS, Row, best_epoch, best_row
from thaw.runtime.files import write_json
from thaw.runtime.logs import Logs, open_logs
from thaw.runtime.tables import write_table
from thaw.training.reporting import EpochEnd, Observer


class Recorder(Observer):
    """Rewrites the curve after each epoch, and logs what is new."""

    def __init__(self, stage: str, phase: str, params: Params) -> None:
        self.stage, self.phase, self.params = stage, phase, params
        self.curve = paths.CURVES / f"{phase}.csv"
        self._logs: Logs | None = None
        self._logged = 0

    def on_start(self, rows: list[Row], resumed: bool) -> None:
        self.write(rows)

    def on_epoch(self, end: EpochEnd) -> None:
        self.write(end.rows)

    def on_end(self, rows: list[Row], stopped_early: bool) -> None:
        if self._logs is not None:
            self._logs.close()

    def write(self, rows: list[Row]) -> None:
        """Write all rows to the curve, and those that are new to the logs."""
        write_table(self.curve, rows, COLUMNS)
        for row in rows[self._logged :]:
            self._logs = self._logs or self._open_logs()
            numbers = {name.replace("_", "/", 1): row[name] for name in COLUMNS[2:] if row[name] is not None}
            self._logs.row(numbers, row["epoch"])
        self._logged = len(rows)

    def _open_logs(self) -> Logs:
        return open_logs(self.params.run.log, self.stage, self.phase, flat(self.params.model_dump()))


def write_metrics(phase: str, rows: list[Row], max_epochs: int) -> None:
    """metrics/phases/<phase>.json: what the phase ends with, each number under a name of its own.

    Args:
        phase: its name.
        rows: its history.
        max_epochs: epochs that it had, `min_steps` counted in; patience may have ended it sooner.
    """
    metrics = {
        "val_accuracy": best_row(rows)["val_accuracy"],
        "max_epochs": max_epochs,
        "best_epoch": best_epoch(rows),
    }
    content = {name: {phase: value} for name, value in metrics.items()}
    write_json(paths.METRICS / "phases" / f"{phase}.json", content)
