"""What each of the means of `gradual` is worth: table and picture of bench/time_to_accuracy.py --ablations.

Start at `overrides`, what is run, and `write_report`.
"""

import statistics
from collections.abc import Iterable
from pathlib import Path

from bench import store, time_report
from thaw.config.schema import Params

# The side that all others are compared with, and the two that the picture shows besides.
BASE, DRAWN = "gradual", ("before", "not averaged")


def overrides(params: Params) -> dict[str, list[str]]:
    """The sides by name, as overrides of what gradual composes to, `params`: each without one of its means, or with one
    that it does not have; `before` is the schedule of before thaw had any of them."""

    def of(phases: Iterable[str], *values: str) -> list[str]:
        return [f"schedule.phases.{name}.{value}" for name in phases for value in values]

    own = list(params.schedule.phases)
    before = ("epochs=5", "warmup_epochs=1", "final_learning_rate=0", "mixup=0.1", "label_smoothing=0", "average=0")
    return {
        "not averaged": of(own, "average=0"),
        "before": [
            # The top block, the top two, all.
            "schedule/gradual@_global_=usual",
            "head.epochs=10",
            "augment.views=3",
            "augment.flip=true",
            *of(("depth1", "depth2", "all"), *before, "moments=zero", "batch_norm=inference"),
        ],
        "BatchNorm in inference mode": of(own, "batch_norm=inference"),
        "not smoothed": of(own, "label_smoothing=0"),
        "twice the views": [f"augment.views={2 * params.augment.views}"],
        "mirrored at random": ["augment.flip=true"],
        "rates by block, 0.7": of(own, "lr_decay=0.7"),
        "mixup 0.1": of(own, "mixup=0.1"),
    }


def write_report(bench: str) -> None:
    """Write and print the table, and draw the picture, of the runs that are there.

    Args:
        bench: folder of gradual's results; those of the others lie in its folder ablations.
    """
    results = read(bench)
    file = store.RESULTS / f"{bench}-ablations.md"
    text = table(results)
    file.write_text(text + "\n", encoding="utf-8")
    print(text, f"{file} written", sep="\n\n")
    drawn = {name: results[name] for name in (*DRAWN, BASE) if name in results}
    draw(file.with_suffix(".png"), drawn)


def read(bench: str) -> dict[str, list[store.Result]]:
    """The runs of each side by its name, by seed, gradual first; without the seeds that gradual does not have.

    Raises:
        SystemExit: gradual has no run.
    """
    base = time_report.by_side(store.read(bench)).get(BASE)
    if base is None:
        raise SystemExit(f"{store.RESULTS / bench}: has no run of {BASE}; run that first, with --only {BASE}")
    seeds = [result["settings"]["seed"] for result in base]
    others = time_report.by_side(store.read(f"{bench}/ablations"))
    found = {
        name: [result for result in of_side if result["settings"]["seed"] in seeds] for name, of_side in others.items()
    }
    return {BASE: base, **{name: of_side for name, of_side in found.items() if of_side}}


def phases(result: store.Result) -> dict[str, list[float]]:
    """Validation accuracy after each epoch, by phase."""
    found: dict[str, list[float]] = {}
    for _, phase, accuracy in result["reached"]:
        found.setdefault(phase, []).append(accuracy)
    return found


def changes(result: store.Result) -> dict[str, float]:
    """Points of validation accuracy that the first epoch of each phase gains on what it starts from, the best epoch
    of the phase before."""
    found = list(phases(result).items())
    return {name: 100 * (after[0] - max(before)) for (_, before), (name, after) in zip(found, found[1:], strict=False)}


def table(results: dict[str, list[store.Result]]) -> str:
    """Accuracy of each side, its gain on gradual seed by seed, and the changes in first epochs, in Markdown."""
    lines = [
        "| gradual, but | seeds | validation accuracy | more than gradual, points | test accuracy "
        "| more than gradual, points | first epoch of each phase, points of validation |",
        "|---|---|---|---|---|---|---|",
    ]
    base = {result["settings"]["seed"]: result["metrics"] for result in results[BASE]}
    for name, of_side in results.items():
        seeds = [result["settings"]["seed"] for result in of_side]
        cells = [name, ", ".join(map(str, seeds))]
        for key in ("val_accuracy", "accuracy"):
            values = [result["metrics"][key] for result in of_side]
            gains = [100 * (value - base[seed][key]) for seed, value in zip(seeds, values, strict=True)]
            cells += [time_report.interval(values), "" if name == BASE else _points(gains)]
        first = [changes(result) for result in of_side]
        cells.append("; ".join(f"{phase} {_points([one[phase] for one in first])}" for phase in first[0]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _points(values: list[float]) -> str:
    """The mean and the range of differences."""
    return f"{statistics.mean(values):+.1f} ({min(values):+.1f} to {max(values):+.1f})"


def draw(path: Path, results: dict[str, list[store.Result]]) -> None:
    """Draw validation accuracy by epochs after the head's, a panel for each side and a line for each run; a dotted
    line is where a phase starts."""
    from matplotlib.figure import Figure

    from thaw.figures.grids import save_figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, (name, of_side) in zip(panels, results.items(), strict=True):
        for number, result in enumerate(of_side):
            head, *others = phases(result).values()
            # The head's best epoch is where the first phase starts.
            line = [max(head), *(accuracy for phase in others for accuracy in phase)]
            axes.plot(line, ".-", color=f"C{number}", linewidth=0.8, label=f"seed {result['settings']['seed']}")
        start = 0
        for phase, accuracies in list(phases(of_side[0]).items())[1:]:
            axes.axvline(start, color="0.7", linestyle=":", linewidth=0.8)
            axes.annotate(f" {phase}", (start, 1), xycoords=("data", "axes fraction"), va="top", fontsize="small")
            start += len(accuracies)
        axes.set(xlabel="epochs after the head's")
        axes.set_title(name, fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("validation accuracy")
    panels[-1].legend(loc="lower right", frameon=False)
    save_figure(figure, path)
