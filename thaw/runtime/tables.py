"""Tables as CSV, the form that DVC plots read."""

import csv
from pathlib import Path
from typing import Any

from thaw.runtime.files import replacing


def write_table(path: Path, rows: list[dict[str, Any]], columns: list[str] | None = None) -> None:
    """Write rows under a header; a key that is no column is left out.

    What is not known, None, becomes nan: Vega takes an empty cell for 0 and draws a line down to it.
    """
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: "nan" if value is None else value for key, value in row.items()} for row in rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of what `write_table` wrote, as text."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
