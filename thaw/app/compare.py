"""Comparison of experiments: a table, and a chart of test accuracy by training time. Start at `write_comparison`."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from tabulate import tabulate

from thaw import paths
from thaw.app.experiments import Experiment, format_interval, read_experiments
from thaw.app.pairs import describe_pairs
from thaw.app.replaced import name_replaced
from thaw.app.versions import other_versions
from thaw.config.naming import flat
from thaw.errors import ThawError
from thaw.figures.grids import save_figure
from thaw.figures.style import INK, RULE, SOFT, new_chart, phase_color, plain
from thaw.runtime.files import replacing

# Runs that differ by these alone are one point with error bars.
SEEDS = ("seed", "dataset.seed", "augment.seed")


# These name a set-up; what differs in step with them is not shown beside them.
_LEADING = {f"{group}.name": group for group in ("dataset", "backbone", "schedule", "head", "augment")}


# Follow from the other names, as a rule.
_USUAL = ("head.name", "augment.name")


# Follow from other parameters, or change nothing that is measured here.
_DULL = (
    "recipe", "backbone.weights_file", "dataset.url", "dataset.files", "evaluate.gallery_class", "schedule.final",
    "run.data_gb", "run.workers", "run.replicas",
)  # fmt: skip


# Digests, also of backbones that the run does not have.
_CODE = "code."


_NONE = object()


# Positions of a label beside its point: offset to the right and up in points, and alignment.
_PLACES = (
    (8, 5, "left"),
    (8, -12, "left"),
    (-8, 5, "right"),
    (-8, -12, "right"),
    (0, 11, "center"),
    (0, -19, "center"),
)


@dataclass(frozen=True)
class Setup:
    """Experiments that differ by seeds alone.

    Attributes:
        label: the values that distinguish this set-up, by column.
        backbone: name of its backbone.
        runs: its experiments, one or more.
    """

    label: dict[str, str]
    backbone: str
    runs: list[Experiment]

    @property
    def accuracy(self) -> float:
        """The mean over the runs."""
        return mean(run.accuracy for run in self.runs)

    @property
    def seconds(self) -> float:
        """The mean over the runs."""
        return mean(run.seconds for run in self.runs)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The mean bounds of the 95 % interval of the accuracy over the runs; None where a run has none."""
        bounds = [run.interval for run in self.runs if run.interval]
        if len(bounds) < len(self.runs):
            return None
        low, high = zip(*bounds, strict=True)
        return mean(low), mean(high)


def group_setups(runs: list[Experiment]) -> tuple[list[Setup], list[str]]:
    """Group experiments by set-up, the most accurate set-up first.

    Returns:
        The set-ups, and the parameters that differ in step with dataset, backbone and schedule, and so are no column.
    """
    values = [_values(run) for run in runs]
    columns, in_step = _columns(values)
    groups: dict[tuple[str, ...], list[Experiment]] = {}
    for run, parameters in zip(runs, values, strict=True):
        groups.setdefault(tuple(_text(parameters.get(name, _NONE)) for name in columns), []).append(run)
    titles = [_LEADING.get(name, name.removeprefix("schedule.")) for name in columns]
    short = [_shortened(set(texts)) for texts in zip(*groups, strict=True)]
    setups = [
        Setup(
            {title: texts[text] for title, texts, text in zip(titles, short, key, strict=True)},
            str(_values(group[0]).get("backbone.name")),
            group,
        )
        for key, group in groups.items()
    ]
    return sorted(setups, key=lambda setup: (-setup.accuracy, setup.seconds)), in_step


def _values(experiment: Experiment) -> dict[str, Any]:
    """Parameters that may distinguish set-ups, the leading ones first."""
    values = flat(experiment.params)
    return {name: values.pop(name) for name in _LEADING if name in values} | {
        name: value for name, value in values.items() if name not in (*SEEDS, *_DULL) and not name.startswith(_CODE)
    }


def _columns(values: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Parameters that differ: those that distinguish set-ups, and those that follow from the leading ones."""
    names = dict.fromkeys(name for parameters in values for name in parameters)
    differ = [name for name in names if len({_text(parameters.get(name, _NONE)) for parameters in values}) > 1]
    leading: list[str] = []
    for name in _LEADING:
        # A head that each backbone brings, for one, is no column.
        if name in differ and (name not in _USUAL or not _follows(name, leading, values)):
            leading.append(name)
    in_step = [name for name in differ if name not in leading and _follows(name, leading, values)]
    # Parameters that some set-ups lack (phases of another schedule) are not listed.
    everywhere = [name for name in in_step if all(name in parameters for parameters in values)]
    return [name for name in differ if name not in in_step], everywhere


def _follows(name: str, leading: list[str], values: list[dict[str, Any]]) -> bool:
    """Whether the leading parameters decide this one in all experiments listed."""
    seen: dict[tuple[str, ...], str] = {}
    for parameters in values:
        value = _text(parameters.get(name, _NONE))
        if seen.setdefault(tuple(str(parameters.get(lead)) for lead in leading), value) != value:
            return False
    return True


def _text(value: Any) -> str:
    if value is _NONE:
        return "-"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _shortened(texts: set[str]) -> dict[str, str]:
    """Shorten paths to file names and hashes to their start, where all stay distinct."""
    short = {
        text: text if len(text) <= 24 else text.rsplit("/", 1)[1] if "/" in text else text[:10] + "..."
        for text in texts
    }
    return short if len(set(short.values())) == len(texts) else {text: text for text in texts}


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front of (seconds, accuracy), by seconds: no other point is both as fast and as good."""
    best, on_front = -np.inf, []
    for seconds, accuracy in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if accuracy > best:
            best = accuracy
            on_front.append((seconds, accuracy))
    return on_front


def _front(setups: list[Setup]) -> list[tuple[float, float]]:
    return front((setup.seconds, setup.accuracy) for setup in setups)


NOTE = """\
Bold: on the Pareto front, no other set-up is both faster and better. Ranges are over seeds. 95 % interval: Wilson's, of
the test accuracy on other images of this kind; over seeds, the mean of its bounds. Training time is the sum of the
seconds of all stages but download, preprocess, evaluate and figures, each measured when the stage ran. A stage that
several experiments share (the extraction, the head) ran once, and counts for each. Times are not comparable between
machines, or where experiments ran side by side."""


def comparison_table(setups: list[Setup], in_step: list[str]) -> str:
    """Markdown table: differing parameters, test accuracy and training seconds with ranges over seeds, names."""
    titles = ["#", *setups[0].label, "seeds", "test accuracy", "95 % interval", "training, s", "experiments"]
    on_front = _front(setups)
    rows = []
    for number, setup in enumerate(setups, 1):
        accuracy = _range([run.accuracy for run in setup.runs], ".4f")
        if (setup.seconds, setup.accuracy) in on_front:
            accuracy = f"**{accuracy}**"
        seeds = ", ".join(map(str, sorted({run.params["seed"] for run in setup.runs})))
        names = ", ".join(run.name for run in setup.runs)
        seconds = _range([run.seconds for run in setup.runs], ",.0f")
        interval = format_interval(setup.interval)
        rows.append([str(number), *setup.label.values(), seeds, accuracy, interval, seconds, names])
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    notes = [NOTE]
    if in_step:
        notes.append(f"In step with dataset, backbone and schedule, and no columns: {', '.join(in_step)}.")
    notes += _version_notes(run for setup in setups for run in setup.runs)
    return "\n\n".join([tabulate(rows, titles, "github", disable_numparse=True), *notes])


def _version_notes(runs: Iterable[Experiment]) -> list[str]:
    """A line for each set of versions other than the installed ones, with the names of its experiments."""
    names_of: dict[str, list[str]] = {}
    for run in runs:
        if other := other_versions(run.versions):
            names_of.setdefault(other, []).append(run.name)
    return [f"{', '.join(names)}: {other}." for other, names in names_of.items()]


def _range(values: list[float], form: str) -> str:
    middle = f"{mean(values):{form}}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{form}} to {max(values):{form}})"


def draw_comparison(path: Path, setups: list[Setup]) -> None:
    """Draw test accuracy against training seconds.

    Each set-up is a point in its backbone's colour; the Pareto front is a dashed line. Error bars span the seeds,
    from the minimum to the maximum; broad pale bars span the 95 % interval. Times far apart get a logarithmic axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    figure = new_chart(9, 5.5)
    FigureCanvasAgg(figure)  # measures text
    axes = figure.subplots()
    plain(axes)
    on_front = _front(setups)
    if len(on_front) > 1:
        axes.plot(
            *zip(*on_front, strict=True),
            color=SOFT, linestyle="--", linewidth=1, drawstyle="steps-post", zorder=1,
            label="Pareto front: none is\nboth faster and better",
        )  # fmt: skip
    backbones = sorted({setup.backbone for setup in setups})
    _draw_intervals(axes, setups)
    for number, backbone in enumerate(backbones):
        same = [setup for setup in setups if setup.backbone == backbone]
        axes.errorbar(
            [setup.seconds for setup in same],
            [setup.accuracy for setup in same],
            _error([[run.accuracy for run in setup.runs] for setup in same]),
            _error([[run.seconds for run in setup.runs] for setup in same]),
            fmt="o", color=phase_color(number), capsize=2, elinewidth=1, markersize=6, label=backbone,
        )  # fmt: skip
    axes.set(xlabel="training time, seconds", ylabel="test accuracy")
    axes.set_title(_chart_title(setups), fontsize=12, color=INK)
    axes.margins(0.12)
    times = [run.seconds for setup in setups for run in setup.runs]
    if max(times) > 10 * min(times) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(left=max(0, axes.get_xlim()[0]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    # A single backbone, without a front and intervals, needs no word of explanation.
    handles, _ = axes.get_legend_handles_labels()
    if len(handles) > 1:
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    _annotate(axes, setups)
    save_figure(figure, path)


def _chart_title(setups: list[Setup]) -> str:
    """What the points are; the backbone's name where all have one."""
    backbones = {setup.backbone for setup in setups}
    of_backbone = f" of {backbones.pop()}" if len(backbones) == 1 else ""
    count = "1 set-up" if len(setups) == 1 else f"{len(setups)} set-ups"
    return f"Test accuracy{of_backbone} by training time, {count}"


def _draw_intervals(axes, setups: list[Setup]) -> None:
    """Draw a broad pale bar for the 95 % interval of each set-up that has one."""
    bars = [(setup.seconds, *setup.interval) for setup in setups if setup.interval]
    if bars:
        axes.vlines(*zip(*bars, strict=True), color="0.85", linewidth=7, label="95 % interval", zorder=0.5)


def _error(values: list[list[float]]) -> np.ndarray:
    """Error bars for matplotlib: distances from each mean down to the minimum and up to the maximum, (2, n).

    No distance is negative, which matplotlib refuses: `statistics.mean` rounds once. numpy.mean rounds each sum, and
    its mean of three equal values may lie outside them.
    """
    return np.array([[mean(each) - min(each), max(each) - mean(each)] for each in values]).T


def _annotate(axes, setups: list[Setup]) -> None:
    """Label each point with its number in the table, and with its name where there is room."""
    from matplotlib.patheffects import withStroke

    axes.figure.draw_without_rendering()
    points = [axes.transData.transform((setup.seconds, setup.accuracy)) for setup in setups]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    for number, setup in enumerate(setups, 1):
        words = ", ".join(_short(name, value) for name, value in setup.label.items() if name != "backbone")
        texts = [f"{number}: {words}", str(number)] if words else [str(number)]
        for text, place in product(texts, _PLACES):
            label = axes.annotate(
                text, (setup.seconds, setup.accuracy), place[:2], textcoords="offset points", ha=place[2],
                fontsize=8, color=INK, path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip
            box = label.get_window_extent().extents
            if _within(box, axes.get_window_extent().extents) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                break
            label.remove()


def _within(box, frame) -> bool:
    return frame[0] <= box[0] and box[2] <= frame[2] and frame[1] <= box[1] and box[3] <= frame[3]


def _overlap(box, other) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _short(name: str, value: str) -> str:
    """A value with the last part of its parameter's name, unless the value is a name itself."""
    return value if name in _LEADING.values() else f"{name.rsplit('.', 1)[-1]} {value}"


def write_comparison(folder: Path = paths.PLOTS, all_commits: bool = False, names: Collection[str] = ()) -> str:
    """Compare experiments; write compare.md and compare.png into `folder`.

    Args:
        folder: folder of the two files.
        all_commits: also read experiments of other commits than the last.
        names: the experiments to compare; all by default.

    Returns:
        The content of compare.md.

    Raises:
        ThawError: no experiment is finished, or none has one of the names.
    """
    runs, left_out = read_experiments(all_commits)
    note = f"Left out: {'; '.join(left_out)}." if left_out else ""
    if not runs:
        raise ThawError(f"compare: no finished experiment; `dvc exp run` makes one. {note}".strip())
    setups, in_step = group_setups(_named(runs, names, note))
    table, chart = folder / "compare.md", folder / "compare.png"
    name_replaced("compare", table, chart)
    compared = [run for setup in setups for run in setup.runs]
    parts = [comparison_table(setups, in_step), describe_pairs(compared), describe_kept_starts(compared), note]
    text = "\n\n".join(filter(None, parts))
    with replacing(table) as beside:
        beside.write_text(text + "\n", encoding="utf-8")
    draw_comparison(chart, setups)
    return text


def describe_kept_starts(runs: list[Experiment]) -> str:
    """The phases of each experiment that kept the weights they started from, in words; empty where none did."""
    kept = [f"{run.name} ({', '.join(run.kept_start)})" for run in runs if run.kept_start]
    return f"No epoch was better on validation than the start, which was kept: {'; '.join(kept)}." if kept else ""


def _named(runs: list[Experiment], names: Collection[str], note: str) -> list[Experiment]:
    """The experiments of these names, or all of them."""
    accepted = [run.name for run in runs]
    if unknown := [name for name in names if name not in accepted]:
        raise ThawError(f"compare: received {unknown[0]}; accepted: {', '.join(accepted)}. {note}".strip())
    return [run for run in runs if not names or run.name in names]
