"""Charts of a finished run: its phases, its calibration, and its accuracy on corrupted images."""

import math
from pathlib import Path
from typing import Any

from thaw.figures.grids import save_figure
from thaw.figures.style import INK, SOFT, new_chart, phase_color, plain

# A row of a training history, by column.
Row = dict[str, Any]

# Height of a row of phase names above a chart, in points.
_NAME_ROW = 13


def draw_phases(path: Path, history: list[Row], titles: dict[str, str], kept: dict[str, int]) -> None:
    """Draw accuracy, loss and learning rate over all phases, with a vertical line at the start of each phase.

    Args:
        path: of the PNG.
        history: rows of all phases; None for an unknown value.
        titles: title of each phase.
        kept: the epoch that each phase kept, counted in the phase; 0 for its start.
    """
    from matplotlib.ticker import MaxNLocator

    # A phase without epochs is left out: it starts where the next phase does, and their names would overlap.
    with_epochs = dict.fromkeys(row["phase"] for row in history if row["learning_rate"] is not None)
    names = list(with_epochs or dict.fromkeys(row["phase"] for row in history))
    figure = new_chart(9, 7)
    panels = top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    for axes in panels:
        plain(axes)
    starts = {}
    for number, name in enumerate(names):
        rows = [row for row in history if row["phase"] == name]
        starts[name] = rows[0]["epoch"]
        _draw_phase(panels, rows, phase_color(number), rows[kept[name]])
    top.set_ylabel("accuracy")
    middle.set_ylabel("loss")
    bottom.set(ylabel="learning rate", xlabel="epoch")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(handles=_phase_lines(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    for axes, kind in ((top, "accuracy"), (middle, "loss")):
        _zoom(axes, [row[f"{split}_{kind}"] for row in history[1:] for split in ("val", "train")])
    _scale_rates(bottom, history)
    figure.align_ylabels(panels)
    rows_above = _name_phases(top, starts, titles)
    # The title has its place above the names, which take none in this layout.
    top.set_title(phases_title(history, names, kept), fontsize=12, color=INK, pad=8 + _NAME_ROW * rows_above)
    save_figure(figure, path)


def phases_title(history: list[Row], names: list[str], kept: dict[str, int]) -> str:
    """Validation accuracy before training and after the last phase, of the epoch that it kept."""
    last = [row for row in history if row["phase"] == names[-1]][kept[names[-1]]]["val_accuracy"]
    first = history[0]["val_accuracy"]
    phases = "1 phase" if len(names) == 1 else f"{len(names)} phases"
    if first is None or last is None:
        return f"Curves of {phases}"
    return f"Validation accuracy {first:.3f} before training, {last:.3f} after {phases}"


def _draw_phase(panels, rows: list[Row], color: str, kept: Row) -> None:
    """Draw the curves of a phase, the place where it starts, and the epoch that it kept."""
    top, middle, bottom = panels
    for axes, kind in ((top, "accuracy"), (middle, "loss")):
        axes.plot(*_line(rows, f"val_{kind}"), color=color, marker="o", markersize=3)
        # A phase of one epoch has no line, only a marker.
        axes.plot(*_line(rows, f"train_{kind}"), color=color, linestyle=":", marker="x", markersize=3)
        if kept[f"val_{kind}"] is not None:
            axes.plot(kept["epoch"], kept[f"val_{kind}"], color=color, **_KEPT)
    bottom.plot(*_line(rows, "learning_rate"), color=color, marker=".", markersize=4)
    for axes in panels:
        axes.axvline(rows[0]["epoch"], color=SOFT, alpha=0.45, linewidth=1, linestyle=(0, (2, 3)), zorder=0)


_KEPT: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 9, "markerfacecolor": "none"}


def _phase_lines() -> list:
    """What the lines and markers of the phases mean, for a legend."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=SOFT, marker="o", markersize=3, label="validation"),
        Line2D([], [], color=SOFT, linestyle=":", marker="x", markersize=3, label="training (augmented, with dropout)"),
        Line2D([], [], color=SOFT, **_KEPT, label="epoch that a phase kept"),
        Line2D([], [], color=SOFT, alpha=0.45, linewidth=1, linestyle=(0, (2, 3)), label="start of a phase"),
    ]


def _name_phases(axes, starts: dict[str, int], titles: dict[str, str]) -> int:
    """Write the title of each phase above the place where it starts, in rows in which no two overlap.

    Returns:
        The number of rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(axes.figure)  # measures text
    axes.figure.draw_without_rendering()
    frame = axes.get_window_extent()
    row_starts: list[float] = []
    # From the last: a name that would run into a later one, or into the line up to it, stands above both.
    for number, (name, start) in reversed(list(enumerate(starts.items()))):
        label = axes.annotate(
            titles[name], (start, 1), (3, 0), xycoords=("data", "axes fraction"), textcoords="offset points",
            fontsize=9, color=INK, parse_math=False,
        )  # fmt: skip
        box = label.get_window_extent()
        # What would end outside of the chart ends at its edge.
        left = max(0.0, min(box.x0, frame.x1 - box.width))
        row = next(
            (row for row in range(len(row_starts)) if left + box.width + 12 < min(row_starts[row:])), len(row_starts)
        )
        row_starts[row:row + 1] = [left]  # fmt: skip
        bottom = 4 + _NAME_ROW * row
        label.set_position((3 + (left - box.x0) * 72 / axes.figure.dpi, bottom))
        # From the chart up to the name, in the phase's colour.
        axes.annotate(
            "", (start, 1), (0, bottom + 9), xycoords=("data", "axes fraction"), textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": phase_color(number), "linewidth": 2, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
    return len(row_starts)


def _scale_rates(axes, history: list[Row]) -> None:
    """Logarithmic where the phases' highest rates lie far apart, so that none is a line on the axis."""
    highest: dict[str, float] = {}
    for row in history:
        if row["learning_rate"]:
            highest[row["phase"]] = max(highest.get(row["phase"], 0), row["learning_rate"])
    if highest and max(highest.values()) > 10 * min(highest.values()):
        axes.set_yscale("log")
        # Where a rate falls to 0 its curve leaves the chart.
        axes.set_ylim(min(highest.values()) / 10, max(highest.values()) * 2)


def _zoom(axes, values: list[float | None]) -> None:
    """Fit the axis to these values; the scores before any training, the first row, would compress all others."""
    known = [value for value in values if value is not None]
    if known and max(known) > min(known):
        margin = 0.05 * (max(known) - min(known))
        axes.set_ylim(min(known) - margin, max(known) + margin)


def draw_calibration(path: Path, table: list[dict[str, Any]], error: float, uncalibrated_error: float) -> None:
    """Draw a reliability diagram: accuracy against confidence, and the number of images in each bin of confidence.

    Both axes start at the lowest confidence or accuracy, rounded down to a tenth.

    Args:
        path: of the PNG.
        table: one row for each bin with images: probabilities (calibrated or uncalibrated), from, to, confidence,
            accuracy and images. Bars and dots are of the calibrated ones; the others are a line.
        error, uncalibrated_error: the expected calibration errors.
    """
    rows, before = ([row for row in table if row["probabilities"] == name] for name in ("calibrated", "uncalibrated"))
    figure = new_chart(5, 5.5)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    starts = [row["from"] for row in rows]
    widths = [row["to"] - row["from"] for row in rows]
    top.bar(starts, [row["accuracy"] for row in rows], widths, align="edge", color=phase_color(0), edgecolor="white")
    top.plot(
        [row["confidence"] for row in before],
        [row["accuracy"] for row in before],
        color=phase_color(2),
        linewidth=1.5,
        marker="o",
        markersize=4,
        markerfacecolor="white",
        clip_on=False,
        label="before calibration",
    )
    top.plot(
        [row["confidence"] for row in rows],
        [row["accuracy"] for row in rows],
        "o",
        color=phase_color(3),
        markeredgecolor="white",
        markersize=5,
        clip_on=False,
        label="mean confidence of a bin",
    )
    top.plot([0, 1], [0, 1], color=INK, linestyle=":", label="perfect calibration")
    lowest = _tenth_below([row[column] for row in table for column in ("from", "accuracy", "confidence")])
    title = f"Expected calibration error {error:.3f}, before calibration {uncalibrated_error:.3f}"
    top.set(ylabel="accuracy", ylim=(lowest, 1))
    top.set_title(title, fontsize=10, color=INK)
    bottom.bar(starts, [row["images"] for row in rows], widths, align="edge", color=SOFT, edgecolor="white")
    bottom.set(xlabel="confidence", ylabel="images", xlim=(lowest, 1))
    # Below the chart, where it covers no bar.
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    for axes in (top, bottom):
        plain(axes)
    save_figure(figure, path)


def _tenth_below(values: list[float]) -> float:
    """The lowest value, rounded down to a tenth; 0.9 at most, so that an axis to 1 has a length."""
    # A bin that starts at 0.6 may be read as 0.5999.
    return min(0.9, math.floor(10 * min(values, default=0) + 1e-6) / 10)


def draw_corruptions(path: Path, rows: list[Row], accuracy: float, mean: float) -> None:
    """Draw accuracy against the strength of each corruption, from the accuracy on unchanged images.

    Args:
        path: of the PNG.
        rows: corruption, strength and accuracy; the strengths of each corruption from the weakest.
        accuracy: on unchanged test images.
        mean: accuracy over all rows.
    """
    figure = new_chart(7.5, 4)
    axes = figure.subplots()
    plain(axes)
    for number, name in enumerate(dict.fromkeys(row["corruption"] for row in rows)):
        of_name = [row for row in rows if row["corruption"] == name]
        strengths, accuracies = ([row[column] for row in of_name] for column in ("strength", "accuracy"))
        axes.plot(
            [0, *strengths], [accuracy, *accuracies], color=phase_color(number), marker="os^Dv"[number % 5],
            markersize=4, label=name.replace("_", " "),
        )  # fmt: skip
    axes.set(xlabel="strength (severity of CIFAR-10-C); 0: unchanged", ylabel="test accuracy")
    _zoom(axes, [accuracy, *(row["accuracy"] for row in rows)])
    axes.set_xticks(sorted({0, *(row["strength"] for row in rows)}))
    title = f"Corrupted test images: accuracy {mean:.3f} on average, {accuracy:.3f} unchanged"
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    # Beside the chart, where it covers no line.
    axes.legend(loc="upper left", bbox_to_anchor=(1, 0.98), fontsize=8, frameon=False)
    save_figure(figure, path)


def _line(rows: list[Row], column: str) -> tuple[list[int], list[float]]:
    known = [row for row in rows if row[column] is not None]
    return [row["epoch"] for row in known], [row[column] for row in known]
