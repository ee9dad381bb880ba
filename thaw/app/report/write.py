"""The report as a file: `write_report` reads a run, renders the page and writes it."""

from pathlib import Path

from thaw.app.replaced import name_replaced
from thaw.app.report.page import render
from thaw.app.report.read import read_run
from thaw.runtime.files import replacing


def write_report(revision: str | None, output: Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        revision: an experiment, or a commit by any name; None for the workspace.
        output: report.html, or report-<revision>.html, by default.

    Returns:
        The file.

    Raises:
        ThawError: the revision does not exist, its results are incomplete, or another version of thaw made them.
    """
    run = read_run(None if revision == "workspace" else revision)
    if output is None:
        output = Path(f"report-{run.name.replace('/', '-')}.html" if revision else "report.html")
    name_replaced("report", output)
    with replacing(output) as beside:
        beside.write_text(render(run), encoding="utf-8")
    return output
