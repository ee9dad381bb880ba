"""Charts of a finished run: its phases, its calibration, and its accuracy on corrupted images."""

from pathlib import Path
from typing import Any

from thaw.figures.grids import save_figure

# A row of a training history, by column.
Row = dict[str, Any]


def draw_phases(path: Path, history: list[Row], titles: dict[str, str]) -> None:
    """Draw accuracy, loss and learning rate over all phases, with a vertical line at the start of each phase.

    Args:
        path: of the PNG.
        history: rows of all phases; None for an unknown value.
        titles: title of each phase.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # A phase without epochs is left out: it starts where the next phase does, and their names would overlap.
    with_epochs = dict.fromkeys(row["phase"] for row in history if row["learning_rate"] is not None)
    names = list(with_epochs or dict.fromkeys(row["phase"] for row in history))
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    for number, name in enumerate(names):
        rows = [row for row in history if row["phase"] == name]
        color = f"C{number % 10}"
        for axes, kind in ((top, "accuracy"), (middle, "loss")):
            axes.plot(*_line(rows, f"val_{kind}"), color=color, marker="o", markersize=3)
            # A phase of one epoch has no line, only a marker.
            axes.plot(*_line(rows, f"train_{kind}"), color=color, linestyle=":", marker="x", markersize=3)
        bottom.plot(*_line(rows, "learning_rate"), color=color, marker=".", markersize=4)
        for axes in (top, middle, bottom):
            axes.axvline(rows[0]["epoch"], color="0.8", linewidth=1, zorder=0)
        top.annotate(
            titles[name],
            (rows[0]["epoch"], 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            # Rotated, since a phase may be as short as one epoch.
            rotation=25,
            rotation_mode="anchor",
            color=color,
            fontsize=9,
        )
    top.set_ylabel("accuracy")
    middle.set_ylabel("loss")
    bottom.set(ylabel="learning rate", xlabel="epoch")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    top.plot([], [], color="0.3", marker="o", markersize=3, label="validation")
    trained = "training (augmented, with dropout)"
    top.plot([], [], color="0.3", linestyle=":", marker="x", markersize=3, label=trained)
    top.legend(loc="lower right", fontsize=8, frameon=False)
    for axes in (top, middle, bottom):
        axes.spines[["top", "right"]].set_visible(False)
    for axes, kind in ((top, "accuracy"), (middle, "loss")):
        _zoom(axes, [row[f"{split}_{kind}"] for row in history[1:] for split in ("val", "train")])
    save_figure(figure, path)


def _zoom(axes, values: list[float | None]) -> None:
    """Fit the axis to these values; the scores before any training, the first row, would compress all others."""
    known = [value for value in values if value is not None]
    if known and max(known) > min(known):
        margin = 0.05 * (max(known) - min(known))
        axes.set_ylim(min(known) - margin, max(known) + margin)


def draw_calibration(path: Path, table: list[dict[str, Any]], error: float, uncalibrated_error: float) -> None:
    """Draw a reliability diagram: accuracy against confidence, and the number of images in each bin of confidence.

    Args:
        path: of the PNG.
        table: one row for each bin with images: probabilities (calibrated or uncalibrated), from, to, confidence,
            accuracy and images. Bars and dots are of the calibrated ones; the others are a line.
        error, uncalibrated_error: the expected calibration errors.
    """
    from matplotlib.figure import Figure

    rows, before = ([row for row in table if row["probabilities"] == name] for name in ("calibrated", "uncalibrated"))
    figure = Figure(figsize=(5, 5.5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    starts = [row["from"] for row in rows]
    widths = [row["to"] - row["from"] for row in rows]
    top.bar(starts, [row["accuracy"] for row in rows], widths, align="edge", color="C0", edgecolor="white")
    top.plot(
        [row["confidence"] for row in before],
        [row["accuracy"] for row in before],
        color="C1",
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
        color="C3",
        markersize=4,
        clip_on=False,
        label="mean confidence of a bin",
    )
    top.plot([0, 1], [0, 1], color="0.3", linestyle=":", label="perfect calibration")
    title = f"Expected calibration error {error:.3f}, before calibration {uncalibrated_error:.3f}"
    top.set(ylabel="accuracy", ylim=(0, 1))
    top.set_title(title, fontsize=10)
    bottom.bar(starts, [row["images"] for row in rows], widths, align="edge", color="0.6", edgecolor="white")
    bottom.set(xlabel="confidence", ylabel="images", xlim=(0, 1))
    # Below the chart, where it covers no bar.
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def draw_corruptions(path: Path, rows: list[Row], accuracy: float, mean: float) -> None:
    """Draw accuracy against the strength of each corruption, from the accuracy on unchanged images.

    Args:
        path: of the PNG.
        rows: corruption, strength and accuracy; the strengths of each corruption from the weakest.
        accuracy: on unchanged test images.
        mean: accuracy over all rows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["corruption"] for row in rows):
        of_name = [row for row in rows if row["corruption"] == name]
        strengths, accuracies = ([row[column] for row in of_name] for column in ("strength", "accuracy"))
        axes.plot([0, *strengths], [accuracy, *accuracies], marker="o", markersize=4, label=name.replace("_", " "))
    axes.set(xlabel="strength (severity of CIFAR-10-C); 0: unchanged", ylabel="test accuracy", ylim=(0, 1.02))
    axes.set_xticks(sorted({0, *(row["strength"] for row in rows)}))
    axes.set_title(f"Corrupted test images: accuracy {mean:.3f} on average, {accuracy:.3f} unchanged", fontsize=11)
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _line(rows: list[Row], column: str) -> tuple[list[int], list[float]]:
    known = [row for row in rows if row[column] is not None]
    return [row["epoch"] for row in known], [row[column] for row in known]
