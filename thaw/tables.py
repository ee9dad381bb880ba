"""Tables as CSV, the form that DVC plots read."""

import csv
from pathlib import Path
from typing import Any

from thaw import files


def write(path: Path, rows: list[dict[str, Any]], columns: list[str] | None = None) -> None:
    """Write rows under a header; a value that is None stays empty, a key that is no column is left out."""
    with files.replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
