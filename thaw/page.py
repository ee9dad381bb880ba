"""The page about a run: its sections, each a function of what `thaw.report` read."""

from collections import Counter
from pathlib import Path
from typing import Any

from thaw import experiments, naming, progress, report, svg
from thaw.datasets import DATASETS
from thaw.html import Html, bar, element, image, join, scrolling, table

# Rows of a table that are shown without a click.
_SHOWN = 40
# Classes, at most, of a confusion matrix with numbers in its cells.
_LEGIBLE = 25


def page(run: report.Run) -> str:
    """The whole document."""
    name = f"{run.params['backbone']['name']} on {run.params['dataset']['name']}"
    style = Html(Path(__file__).with_name("page.css").read_text(encoding="utf-8"))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{name}: {run.name}"),
        element("style", style),
    )
    schedule = naming.schedule(run.params)
    title = element(
        "header",
        element("p", "thaw", class_="brand"),
        element("h1", name),
        element("p", f"{_which(run)}, schedule {schedule}, seed {run.params['seed']}", class_="note"),
    )
    sections = (_numbers, _splits, _phases, _curves, _classes, _confusion, _calibration, _pictures, _again, _parameters)
    body = element("body", title, element("main", *(section(run) for section in sections)))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _which(run: report.Run) -> str:
    if run.name == "workspace":
        return f"The workspace, on commit {run.commit[:9]}"
    if run.experiment:
        return f"Experiment {run.name}, of commit {run.commit[:9]}"
    return f"Commit {run.name}" + ("" if run.commit.startswith(run.name) else f" ({run.commit[:9]})")


def _section(title: str, *content: Any) -> Html:
    return element("section", element("h2", title), *content)


def _note(*content: Any) -> Html:
    return element("p", *content, class_="note")


def _numbers(run: report.Run) -> Html:
    metrics = run.metrics
    training = [run.spent[stage] for stage in experiments.training_stages(run.params)]
    shown = [
        ("test accuracy", f"{metrics['accuracy']:.4f}"),
        ("macro F1", f"{metrics['macro_f1']:.4f}"),
        ("macro precision", f"{metrics['macro_precision']:.4f}"),
        ("macro recall", f"{metrics['macro_recall']:.4f}"),
        ("top-5 accuracy", f"{metrics['top5_accuracy']:.4f}" if "top5_accuracy" in metrics else None),
        ("loss, nats", f"{metrics['loss']:.4f}"),
        ("calibration error", f"{metrics['calibration_error']:.4f}"),
        ("training time", progress.duration(sum(stage["seconds"] for stage in training))),
        ("memory at most", f"{max(stage['peak_gb'] for stage in training):.2f} GB"),
    ]
    tiles = [
        element("div", element("dt", name), element("dd", value), class_="tile first" if not number else "tile")
        for number, (name, value) in enumerate(shown)
        if value is not None
    ]
    pictures = sum(int(row["pictures"]) for row in run.tables["per_class"])
    return _section(
        "Numbers",
        _note(f"On the {pictures:,} pictures of the test split; no choice was made on them."),
        element("dl", *tiles, class_="tiles"),
    )


def _splits(run: report.Run) -> Html:
    metrics = run.metrics
    train, test = metrics["train_accuracy"], metrics["accuracy"]
    gap = (
        f"{train:.1%} of the training pictures are told right and {test:.1%} of the test pictures: "
        f"{100 * abs(train - test):.1f} points {'fewer' if test <= train else 'more'}."
    )
    scores: dict[str, dict[str, float]] = {}
    for row in run.tables["scores"]:
        scores.setdefault(row["of"], {})[row["score"]] = float(row["value"])
    columns = ["accuracy", "precision", "recall", "F1"]
    rows = [
        [name, _measured(values["accuracy"], _kind(name)), *(f"{values[column]:.4f}" for column in columns[1:])]
        for name, values in scores.items()
    ]
    parts: list[Any] = [_note(gap), table(["pictures", *columns], rows, "Scores of each split", range(2, 5))]
    if "source" in metrics:
        before, after = metrics["source"]["accuracy"], metrics["source_after"]["accuracy"]
        parts.append(
            _note(f"Of the source task {after:.1%} is still told right after the move, of {before:.1%} before.")
        )
    return _section("Training, validation, test", *parts)


def _kind(split: str) -> str:
    return {"train": "soft", "val": "soft"}.get(split, "soft" if "before" in split else "")


def _measured(value: float, kind: str = "") -> Html:
    return _counted(f"{value:.4f}", value, kind)


def _counted(number: str, share: float, kind: str = "") -> Html:
    return element("span", element("span", number, class_="value"), bar(share, kind), class_="measured")


def _phases(run: report.Run) -> Html:
    history, thawed = run.checkpoint["history"], run.checkpoint["thawed"]
    phases = list(dict.fromkeys(row["phase"] for row in history))
    rows: list[list[Any]] = []
    for stage in experiments.training_stages(run.params):
        phase = {"train_head": "head"}.get(stage, stage.removeprefix("unfreeze@"))
        mine = [row for row in history if row["phase"] == phase]
        cells: list[Any] = [_chip(phase, phases.index(phase)) if mine else stage, thawed.get(phase, "")]
        if stage == "backbone" and run.source["history"]:
            mine, cells[1] = run.source["history"], "all blocks, on the source task"
        if mine:
            best = next(row for row in mine if row["best"])
            change = f"{mine[0]['val_accuracy']:.4f} → {best['val_accuracy']:.4f}"
            cells += [change, len(mine) - 1, best["epoch"]]
        else:
            cells += ["", "", ""]
        spent = run.spent[stage]
        rows.append([*cells, f"{spent['seconds']:,.1f}", f"{spent['peak_gb']:.2f}"])
    return _section(
        "Phases",
        _note(
            "Each phase starts from the best epoch of the one before, and keeps its own best, by validation accuracy."
        ),
        table(
            ["phase", "trains", "validation accuracy", "epochs", "best epoch", "seconds", "peak GB"],
            rows,
            "Phases and the stages that prepare them",
            range(2, 7),
        ),
    )


def _chip(phase: str, number: int) -> Html:
    dot = element("span", class_=f"dot phase{number % 8}", aria_hidden="true")
    return element("span", dot, phase, class_="chip")


def _curves(run: report.Run) -> Html:
    history = run.checkpoint["history"]
    drawings = [
        svg.curves(history, "accuracy", {"val_accuracy": "solid", "train_accuracy": "dotted"}),
        svg.curves(history, "loss", {"val_loss": "solid", "train_loss": "dotted"}),
        svg.curves(history, "learning rate", {"learning_rate": "solid"}, zoom=False),
    ]
    phases = dict.fromkeys(row["phase"] for row in history)
    chips = join((_chip(phase, number) for number, phase in enumerate(phases)), " ")
    words = "Solid with dots: validation. Dotted: training, on augmented and mixed pictures with dropout."
    return _section(
        "Curves", element("p", chips, class_="legend"), element("div", *drawings, class_="curves"), _note(words)
    )


def _classes(run: report.Run) -> Html:
    rows = [
        [
            row["class"],
            _measured(float(row["f1"])),
            f"{float(row['precision']):.4f}",
            f"{float(row['recall']):.4f}",
            f"{int(row['pictures']):,}",
        ]
        for row in run.tables["per_class"]
    ]
    titles = ["class", "F1", "precision", "recall", "pictures"]
    if len(rows) <= _SHOWN:
        return _section("Classes", table(titles, rows, "Scores of each class", range(2, 5)))
    half = _SHOWN // 4
    return _section(
        "Classes",
        _note(f"The best {half} and the worst {half} of {len(rows)} classes by F1."),
        element(
            "div",
            table(titles, rows[:half], "The best classes", range(2, 5)),
            table(titles, rows[-half:], "The worst classes", range(2, 5)),
            class_="halves",
        ),
        element(
            "details", element("summary", f"All {len(rows)} classes"), table(titles, rows, "All classes", range(2, 5))
        ),
    )


def _confusion(run: report.Run) -> Html:
    counts = Counter((row["actual"], row["predicted"]) for row in run.tables["confusion"])
    totals = Counter(row["actual"] for row in run.tables["confusion"])
    classes = list(run.checkpoint["classes"])
    if not set(totals) <= set(classes):  # superclasses, which evaluate counts where classes are too many
        classes = sorted({name for pair in counts for name in pair})
    pairs = [[row["pair"], int(row["pictures"])] for row in run.tables["confused"] if int(row["pictures"])]
    most = max((count for _, count in pairs), default=1)
    confused = [[pair, _counted(f"{count:,}", count / most, "error")] for pair, count in pairs[:10]]
    what = "Shares of the actual class in percent, with the number of pictures below."
    if len(classes) > _LEGIBLE:
        what = "Shares of the actual class by colour; the numbers are in each cell's tooltip."
    worst = table(["taken for each other", "pictures"], confused, "Pairs of classes that are mixed up most")
    return _section(
        "Confusion",
        _note(f"Rows are what pictures show, columns what the model says. {what}"),
        element("div", _matrix(classes, counts, totals), worst if confused else None, class_="beside"),
    )


def _matrix(classes: list[str], counts: Counter, totals: Counter) -> Html:
    numbers = len(classes) <= _LEGIBLE
    head = element("tr", element("td"), *(element("th", element("span", name), scope="col") for name in classes))
    rows = []
    for actual in classes:
        cells = []
        for predicted in classes:
            count = counts[actual, predicted]
            share = count / max(1, totals[actual])
            # Errors are few: their square root is what the eye can tell apart.
            strength = share if actual == predicted else share**0.5
            inside = [f"{100 * share:.1f}", element("small", f"{count:,}")] if numbers and count else []
            cells.append(
                element(
                    "td", *inside,
                    class_=("right" if actual == predicted else "wrong") + (" strong" if strength > 0.8 else ""),
                    style=f"--share:{strength:.3f}" if count else None,
                    title=f"{actual}, taken for {predicted}: {count:,}, {share:.1%}" if count else None,
                )
            )  # fmt: skip
        rows.append(element("tr", element("th", actual, scope="row"), *cells))
    caption = element("caption", "Confusion on the test split")
    matrix = element(
        "table",
        caption,
        element("thead", head),
        element("tbody", *rows),
        class_="matrix dense" if not numbers else "matrix many" if len(classes) > 12 else "matrix",
    )
    return scrolling(matrix, "Confusion on the test split")


def _calibration(run: report.Run) -> Html:
    error = run.metrics["calibration_error"]
    drawing = image(
        run.pictures["calibration"],
        f"Accuracy against confidence in 15 bins, and how many pictures have which confidence; error {error:.4f}",
    )
    words = (
        f"How far the model's confidence can be believed: on average it is {100 * error:.1f} points off. A bar is the "
        "share that is told right of the pictures in its range of confidence, a dot their mean confidence. Bars below "
        "the dotted line: more confident than right. Below, how many pictures there are in each range."
    )
    return _section("Calibration", element("div", element("div", drawing), _note(words), class_="beside"))


def _pictures(run: report.Run) -> Html:
    label = run.params["evaluate"]["gallery_class"]
    if isinstance(label, int):
        label = DATASETS[run.params["dataset"]["name"]].classes[label]
    label = label or run.tables["per_class"][-1]["class"]  # the one of the lowest F1
    gallery = image(run.pictures["gallery"], f"Test pictures of {label} with what the model says of each")
    mistakes = image(run.pictures["mistakes"], "Test pictures that the model gets wrong with the highest confidence")
    return _section(
        "Pictures",
        element("h3", f"Test pictures of {label}, as they come"),
        scrolling(gallery, f"Test pictures of {label}"),
        element("h3", "The most confident mistakes"),
        scrolling(mistakes, "The most confident mistakes"),
    )


def _again(run: report.Run) -> Html:
    commands = join((join((element("span", f"# {why}", class_="why"), "\n", it)) for it, why in run.commands()), "\n")
    dataset = run.params["dataset"]
    facts = [
        ("dataset", dataset["name"]),
        ("archive", dataset["url"]),
        ("SHA-256 of the archive", dataset["sha256"]),
        ("DVC's hash of its content", run.data),
        *_computed_on(run),
    ]
    parts: list[Any] = [scrolling(element("pre", commands), "Commands")]
    if run.changed:
        files = ", ".join(run.changed[:8]) + (f" and {len(run.changed) - 8} more" if len(run.changed) > 8 else "")
        parts.insert(0, _note(f"Its code is not that of commit {run.commit[:9]} alone. Changed: {files}."))
    rows = [part for name, value in facts if value for part in (element("dt", name), element("dd", value))]
    parts.append(element("dl", *rows, class_="facts"))
    return _section("How to run it again", *parts)


def _computed_on(run: report.Run) -> list[tuple[str, str]]:
    """What the stages computed on, each fact once where all stages agree."""
    found: dict[str, dict[str, list[str]]] = {}
    for stage, facts in run.provenance.items():
        versions, cores = facts["versions"], f"{facts['cores']} cores"
        its = {
            "computed by": ", ".join(f"{name} {versions[name]}" for name in versions),
            "on": ", ".join([facts["device"], *([] if cores in facts["device"] else [cores]), facts["processor"]]),
            "as": f"{facts['precision']}, {'XLA' if facts['xla'] else 'no XLA'}",
        }
        for name, value in its.items():
            found.setdefault(name, {}).setdefault(value, []).append(stage)
    return [
        (name if len(values) == 1 else f"{name} ({', '.join(stages)})", value)
        for name, values in found.items()
        for value, stages in values.items()
    ]


def _parameters(run: report.Run) -> Html:
    changed, defaults = report.differing(run), naming.flat(run.defaults)
    everything = naming.flat(run.params)

    def rows(names: list[str]) -> list[list[Any]]:
        return [
            [
                element("code", name, class_="changed" if name in changed else None),
                element("code", _plain(everything[name])),
                element("code", _plain(defaults[name]) if name in defaults else "-") if name in changed else "",
            ]
            for name in names
        ]

    titles = ["parameter", "value", "conf/'s default"]
    mine = [name for name in everything if name in changed]
    summary = f"All {len(everything)} parameters; {len(mine)} differ from what conf/ composes to without -S"
    listed = table(titles, rows(list(everything)), "All parameters")
    return _section("Parameters", element("details", element("summary", summary), listed))


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )
