"""Picture of docs: the test accuracy that whole commands end at, over their seconds, runs of several lengths together.

    python -m bench.frontier

Start at `points`. A folder of bench/results/time_to_accuracy has, of each side, runs of one length.
"""

import statistics
from pathlib import Path
from typing import NamedTuple

from bench import store, time_report
from bench.time_to_accuracy import BENCH

# From the shortest runs to the longest.
FOLDERS = ("mobilenetv2-0.35-20000", "mobilenetv2-0.35-20000-8-epochs", "mobilenetv2-0.35-20000-12-epochs")
# Those that the picture shows.
SIDES = ("full", "gradual", "second")
PICTURE = Path("docs/frontier.png")


class Point(NamedTuple):
    """The runs of a side in a folder, a value for each seed: seconds of the whole command, and test accuracy."""

    seconds: list[float]
    accuracy: list[float]
    label: str


def main() -> None:
    draw(PICTURE, points(FOLDERS))
    print(f"{PICTURE} written")


def points(folders: tuple[str, ...]) -> dict[str, list[Point]]:
    """The points of each side, in the order of the folders.

    Raises:
        SystemExit: a folder lacks a side.
    """
    found: dict[str, list[Point]] = {side: [] for side in SIDES}
    for folder in folders:
        sides = time_report.by_side(store.read(f"{BENCH}/{folder}"))
        if missing := set(SIDES) - set(sides):
            raise SystemExit(f"{store.RESULTS / BENCH / folder}: has no run of {', '.join(sorted(missing))}")
        for side in SIDES:
            results = sides[side]
            schedule = results[0]["settings"]["schedule"]
            phase = schedule["phases"][schedule["final"]]
            blocks = "all blocks" if phase["depth"] == "all" else f"depth {phase['depth']}"
            found[side].append(
                Point(
                    [result["wall_seconds"] for result in results],
                    [result["metrics"]["accuracy"] for result in results],
                    f"{blocks}, {phase['epochs']} epochs",
                )
            )
    return found


def draw(path: Path, series: dict[str, list[Point]]) -> None:
    """Draw a line for each side through the means of its points, and a small mark for each run."""
    from matplotlib.figure import Figure

    from thaw.figures.grids import save_figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (side, of_side) in enumerate(series.items()):
        color = f"C{number}"
        means = [(statistics.mean(point.seconds), statistics.mean(point.accuracy)) for point in of_side]
        axes.plot(*zip(*means, strict=True), "o-", color=color, label=time_report.TITLES[side])
        for point, mean in zip(of_side, means, strict=True):
            axes.plot(point.seconds, point.accuracy, ".", color=color, alpha=0.5, markersize=4)
            # A second experiment has the phases of gradual.
            if side != "second":
                offset = (6, -14) if side in time_report.PLAIN else (9, -4)
                axes.annotate(point.label, mean, offset, textcoords="offset points", color=color, fontsize="small")
    axes.set(xlabel="seconds of the whole command", ylabel="test accuracy")
    axes.set_xlim(left=0)
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
