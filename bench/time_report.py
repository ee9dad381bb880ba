"""Table and figure of bench/time_to_accuracy.py, made from the results that are there. Start at `write_report`."""

import statistics
from pathlib import Path

from bench import store

PLAIN = {"full": "plain: thaw's full", "notebook": "plain: Keras fit", "pytorch": "plain: PyTorch"}
TITLES = PLAIN | {"gradual": "gradual", "second": "gradual, second experiment"}


def write_report(bench: str) -> None:
    """Write and print the table, and draw the figure, of the runs that are there."""
    results = by_side(store.read(bench))
    file = store.RESULTS / f"{bench}.md"
    text = table(results)
    file.write_text(text + "\n", encoding="utf-8")
    draw(file.with_suffix(".png"), results)
    print(text, f"{file} and {file.with_suffix('.png')} written", sep="\n\n")


def by_side(results: list[store.Result]) -> dict[str, list[store.Result]]:
    """The runs of each side by seed; plain sides first."""
    names = dict.fromkeys([*TITLES, *(result["name"] for result in results)])
    seeded = sorted(results, key=lambda result: result["settings"]["seed"])
    found = {name: [result for result in seeded if result["name"] == name] for name in names}
    return {name: of_side for name, of_side in found.items() if of_side}


def table(results: dict[str, list[store.Result]]) -> str:
    """The sides in Markdown, and the seconds of each stage."""
    lines = [
        "| side | images | seeds | seconds (range) | test accuracy | validation accuracy "
        "| seconds / fastest plain | commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    plain = {name: _mean_seconds(of_side) for name, of_side in results.items() if name in PLAIN}
    fastest = min(plain, key=lambda name: plain[name], default=None)
    for name, of_side in results.items():
        seconds = [result["wall_seconds"] for result in of_side]
        columns = [
            TITLES.get(name, name),
            ", ".join(sorted({f"{result['settings']['backbone']['image_size']} px" for result in of_side})),
            ", ".join(str(result["settings"]["seed"]) for result in of_side),
            f"{statistics.mean(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})",
            *(interval([result["metrics"][key] for result in of_side]) for key in ("accuracy", "val_accuracy")),
            "" if fastest is None else _ratio(of_side, results[fastest]),
            ", ".join(sorted({store.made_at(result).removeprefix("commit ") for result in of_side})),
        ]
        lines.append(f"| {' | '.join(columns)} |")
    lines += ["", "Seconds of whole commands. Accuracy: mean ± half of the 95 % t-interval over the seeds."]
    phases = [result["settings"]["schedule"]["phases"]["all"] for name in plain for result in results[name]]
    trained = {f"{phase['epochs']} epochs of all blocks at {phase['learning_rate']:g}" for phase in phases}
    if trained:
        lines[-1] += f" Plain: {', '.join(sorted(trained))}."
    return "\n".join([*lines, "", "Seconds by stage:", "", *map(_parts, results.values())])


def _mean_seconds(results: list[store.Result]) -> float:
    return statistics.mean(result["wall_seconds"] for result in results)


def interval(values: list[float]) -> str:
    """The mean and, of more than one value, half of the 95 % t-interval."""
    if len(values) == 1:
        return f"{values[0]:.4f}"
    from scipy import stats

    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.4f} ± {half:.4f}"


def _ratio(results: list[store.Result], others: list[store.Result]) -> str:
    """The mean, over the seeds that both have, of the ratio of seconds."""
    seconds, of_others = (
        {result["settings"]["seed"]: result["wall_seconds"] for result in of_side} for of_side in (results, others)
    )
    ratios = [seconds[seed] / of_others[seed] for seed in seconds if seed in of_others]
    return f"{statistics.mean(ratios):.2f}" if ratios else ""


def _parts(results: list[store.Result]) -> str:
    """A line of a side's seconds by stage; those of a notebook are by phase."""
    stages = [_stage_seconds(result) for result in results]
    means = {stage: statistics.mean(one.get(stage, 0.0) for one in stages) for stage in stages[0]}
    return f"- {results[0]['name']}: {', '.join(f'{stage} {seconds:.0f}' for stage, seconds in means.items())}"


def _stage_seconds(result: store.Result) -> dict[str, float]:
    """Seconds of each stage and of what lies between them; of a notebook, by phase, start-up in the first."""
    if "seconds" in result:
        return result["seconds"] | {"start-up and DVC": result["wall_seconds"] - sum(result["seconds"].values())}
    ends = {phase: seconds for seconds, phase, _ in result["reached"]}
    parts, last = {}, 0.0
    for phase, end in [*ends.items(), ("evaluation", result["wall_seconds"])]:
        parts[phase], last = end - last, end
    return parts


def draw(path: Path, results: dict[str, list[store.Result]]) -> None:
    """Draw validation accuracy over seconds, a line for each run, and its test accuracy at its end, a point."""
    from matplotlib.figure import Figure

    from thaw.figures.grids import save_figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, of_side) in enumerate(results.items()):
        for result in of_side:
            label = TITLES.get(name, name) if result is of_side[0] else None
            seconds, values = [row[0] for row in result["reached"]], [row[2] for row in result["reached"]]
            axes.plot(seconds, values, color=f"C{number}", linewidth=0.8, alpha=0.6)
            axes.plot(result["wall_seconds"], result["metrics"]["accuracy"], "o", color=f"C{number}", label=label)
    axes.set(xlabel="seconds of the whole command", ylabel="accuracy")
    axes.set_title("points: test accuracy of a run; lines: validation accuracy after each epoch", fontsize="medium")
    axes.set_xlim(left=0)
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
