"""Tables: as CSV, the form that DVC plots read, and as text."""

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


def aligned_table(rows: list[list[str]]) -> str:
    """Rows as lines of text under the first, which is the header; columns of numbers are set to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    right = [all(cell[:1].isdigit() or cell == "-" for cell in column[1:]) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:>{width}}" if to_right else f"{cell:{width}}" for cell, width, to_right in cells).rstrip()
        for cells in (zip(row, widths, right, strict=True) for row in rows)
    ]
    lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)
