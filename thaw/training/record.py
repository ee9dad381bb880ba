"""What a training stage leaves for people to see: a curve as CSV, a metrics file, and DVCLive's live view."""

from thaw import paths
from thaw.network.history import COLUMNS, Row, best_epoch, best_row
from thaw.runtime.files import write_json
from thaw.runtime.tables import write_table
from thaw.training.reporting import EpochEnd, Observer


class Recorder(Observer):
    """Rewrites the curve after each epoch, and logs to DVCLive where it is installed."""

    def __init__(self, stage: str, phase: str) -> None:
        self.curve = paths.CURVES / f"{phase}.csv"
        self._live = _live(stage)
        self._logged = 0

    def on_start(self, rows: list[Row], resumed: bool) -> None:
        self.write(rows)

    def on_epoch(self, end: EpochEnd) -> None:
        self.write(end.rows)

    def write(self, rows: list[Row]) -> None:
        """Write all rows to the curve, and those that are new to DVCLive."""
        write_table(self.curve, rows, COLUMNS)
        for row in rows[self._logged :] if self._live is not None else ():
            for name in COLUMNS[2:]:
                if row[name] is not None:
                    self._live.log_metric(name.replace("_", "/", 1), row[name])
            self._live.next_step()
        self._logged = len(rows)


def _live(stage: str):
    try:
        from dvclive import Live
    except ModuleNotFoundError:  # a stage also runs as a plain module, with the CSV alone
        return None
    # The stage's outputs are DVC's own business: no dvc.yaml, no experiment from in here.
    return Live(f"dvclive/{stage}", dvcyaml=None, save_dvc_exp=False, report=None)


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
