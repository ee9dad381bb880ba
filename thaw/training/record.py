"""What a training stage leaves for people to see: a curve as CSV, a metrics file, and DVCLive's live view."""

from collections.abc import Callable

from thaw import paths
from thaw.network.history import COLUMNS, Row
from thaw.runtime.files import write_json
from thaw.runtime.tables import write_table


def reporter(stage: str, phase: str) -> Callable[[list[Row]], None]:
    """What `training.fit` calls after each epoch: rewrites the curve, and logs to DVCLive where it is installed."""
    live = _live(stage)
    logged = 0

    def report(rows: list[Row]) -> None:
        nonlocal logged
        write_table(paths.CURVES / f"{phase}.csv", rows, COLUMNS)
        for row in rows[logged:] if live is not None else ():
            for name in COLUMNS[2:]:
                if row[name] is not None:
                    live.log_metric(name.replace("_", "/", 1), row[name])
            live.next_step()
        logged = len(rows)

    return report


def _live(stage: str):
    try:
        from dvclive import Live
    except ModuleNotFoundError:  # a stage also runs as a plain module, with the CSV alone
        return None
    # The stage's outputs are DVC's own business: no dvc.yaml, no experiment from in here.
    return Live(f"dvclive/{stage}", dvcyaml=None, save_dvc_exp=False, report=None)


def write_metrics(phase: str, rows: list[Row]) -> None:
    """metrics/phases/<phase>.json: the validation accuracy that the phase ends with, under a name of its own."""
    best = next(row for row in rows if row["best"])
    write_json(paths.METRICS / "phases" / f"{phase}.json", {"val_accuracy": {phase: best["val_accuracy"]}})
