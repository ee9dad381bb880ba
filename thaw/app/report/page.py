"""The page of a report: the values that report.html.j2 shows, computed from a run. Start at `render`."""

import base64
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from thaw.app.experiments import format_interval
from thaw.app.lockfile import training_stages
from thaw.app.report.curves import COLORS, draw_curves
from thaw.app.report.read import Run
from thaw.app.versions import other_versions, recorded_versions
from thaw.config.naming import flat
from thaw.config.schedule import stage_of
from thaw.config.schema import HEAD
from thaw.figures.grids import LARGEST, SHARP
from thaw.figures.style import PHASES, PHASES_DARK
from thaw.network.backend import what_computes
from thaw.network.history import best_row, by_phase, kept_start
from thaw.runtime.progress import format_duration

# Rows of a table that show without a click.
_SHOWN = 40
# Scores of metrics/evaluate.json that have a tile, the most important one first.
_TILES = {
    "accuracy": "test accuracy",
    "accuracy_views": "test accuracy, mean of views",  # for evaluate.views above 1
    "accuracy_corrupted": "test accuracy, corrupted images",  # with evaluate.corruptions
    "balanced_accuracy": "balanced accuracy",  # where classes differ in their number of test images
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "top5_accuracy": "top-5 accuracy",  # for more than five classes
    "superclass_accuracy": "superclass accuracy",  # where the dataset has superclasses
    "loss": "loss, nats",
    "calibration_error": "calibration error",
}
# A confusion matrix of at most this many classes has numbers in its cells.
_LEGIBLE = 25


def render(run: Run) -> str:
    """Render the page: one HTML document."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "score": "{:.4f}".format,
        "count": "{:,}".format,
        "percent": _percent,
        "png": lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}",
    }
    return environment.get_template("report.html.j2").render(
        run=run,
        metrics=run.metrics,
        network=f"{run.params['backbone']['name']} on {_dataset(run)}",
        revision=_revision(run),
        test_images=sum(int(row["images"]) for row in run.tables["per_class"]),
        tiles=_tiles(run),
        intervals=_intervals(run),
        scores=_scores(run),
        phases=_phases(run),
        chips=_chips(run),
        curves=_curves(run),
        classes=_classes(run),
        shown_classes=_SHOWN,
        confusion=_confusion(run),
        confused=_confused(run),
        gallery_class=_gallery_class(run),
        galleries={name: _gallery(rows, images) for name, (rows, images) in run.galleries.items()},
        colors={"light": PHASES, "dark": PHASES_DARK},
        facts=_facts(run),
        other_versions=other_versions(recorded_versions(run.provenance.values())),
        parameters=_parameters(run),
    )


def _dataset(run: Run) -> str:
    """Name of the dataset, or of the folder or CSV of images."""
    section = run.params["dataset"]
    return section["name"] if section["path"] is None else Path(section["path"]).name


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", "\u00a0%")


def _revision(run: Run) -> str:
    if run.name == "workspace":
        return f"Workspace on commit {run.commit[:9]}"
    if run.experiment:
        return f"Experiment {run.name} on commit {run.commit[:9]}"
    return f"Commit {run.name}" + ("" if run.commit.startswith(run.name) else f" ({run.commit[:9]})")


def _tiles(run: Run) -> dict[str, str]:
    """The headline numbers by name, the most important one first."""
    training = [run.spent[stage] for stage in training_stages(run.params)]
    return {name: f"{run.metrics[key]:.4f}" for key, name in _TILES.items() if key in run.metrics} | {
        "training time": format_duration(sum(stage["seconds"] for stage in training)),
        "peak memory": f"{max(stage['peak_gb'] for stage in training):.2f} GB",
    }


def _intervals(run: Run) -> dict[str, str]:
    """95 % intervals of the accuracies, by name of the tile; none in results of a version of thaw without intervals."""
    return {
        name: format_interval((run.metrics[f"{key}_low"], run.metrics[f"{key}_high"]))
        for key, name in _TILES.items()
        if f"{key}_low" in run.metrics
    }


def _scores(run: Run) -> dict[str, dict[str, Any]]:
    """Scores by name, with the interval of an accuracy that has one, for each split and for the source task."""
    scores: dict[str, dict[str, Any]] = {}
    for row in run.tables["scores"]:
        of_split = scores.setdefault(row["of"], {"interval": ""})
        of_split[row["score"]] = float(row["value"])
        if row.get("low", "nan") != "nan":
            of_split["interval"] = format_interval((float(row["low"]), float(row["high"])))
    return scores


def _phases(run: Run) -> list[dict[str, Any]]:
    """For each training stage: name, trainable blocks, validation accuracy, time and memory."""
    chips, trainable = _chips(run), run.checkpoint["thawed"]
    phase_of = {stage_of(phase): phase for phase in [HEAD, *run.params["schedule"]["phases"]]}
    trained, phases = by_phase(run.checkpoint["history"]), []
    for stage in training_stages(run.params):
        phase = phase_of.get(stage, stage)
        rows = trained.get(phase, [])
        if stage == "backbone" and run.source["history"]:
            rows, trainable = run.source["history"], trainable | {phase: "all blocks, on the source task"}
        phases.append({
            "name": phase,
            "color": chips.get(phase),
            "trainable": trainable.get(phase, ""),
            "first": rows[0]["val_accuracy"] if rows else None,
            "best": best_row(rows) if rows else None,
            "kept_start": kept_start(rows),
            "epochs": len(rows) - 1,
            **run.spent[stage],
        })  # fmt: skip
    return phases


def _chips(run: Run) -> dict[str, int]:
    """Number of the colour, by phase."""
    return {phase: number % COLORS for number, phase in enumerate(by_phase(run.checkpoint["history"]))}


def _curves(run: Run) -> dict[str, str | None]:
    """Charts as svg elements, by title; None where nothing was trained."""
    history = run.checkpoint["history"]
    return {
        "accuracy": draw_curves(history, "accuracy", "val_accuracy", "train_accuracy"),
        "loss": draw_curves(history, "loss", "val_loss", "train_loss"),
        "learning rate": draw_curves(history, "learning rate", "learning_rate", zoom=False),
    }


def _classes(run: Run) -> list[dict[str, Any]]:
    """The scores of each class, the best F1 first."""
    return [
        {"name": row["class"], "images": int(row["images"])}
        | {score: float(row[score]) for score in ("f1", "precision", "recall")}
        for row in run.tables["per_class"]
    ]


def _confusion(run: Run) -> dict[str, Any]:
    """The confusion matrix: classes in order, and by actual class a row of cells."""
    counts = Counter((row["actual"], row["predicted"]) for row in run.tables["confusion"])
    totals = Counter(row["actual"] for row in run.tables["confusion"])
    classes = list(run.checkpoint["classes"])
    if not set(totals) <= set(classes):  # superclasses: evaluate counts these where classes are too many
        classes = sorted({name for pair in counts for name in pair})
    rows = {
        actual: [_cell(actual, predicted, counts[actual, predicted], totals[actual]) for predicted in classes]
        for actual in classes
    }
    legible = len(classes) <= _LEGIBLE
    return {
        "classes": classes,
        "rows": rows,
        "legible": legible,
        "size": "dense" if not legible else "many" if len(classes) > 12 else "",
    }


def _cell(actual: str, predicted: str, images: int, total: int) -> dict[str, Any]:
    share = images / max(1, total)
    return {
        "actual": actual,
        "predicted": predicted,
        "images": images,
        "share": share,
        # Errors are few: square roots make small shares visible.
        "strength": share if actual == predicted else share**0.5,
    }


def _confused(run: Run) -> list[dict[str, Any]]:
    """The ten most confused pairs of classes; without errors, evaluate writes one pair of 0 images."""
    pairs = [{"pair": row["pair"], "images": int(row["images"])} for row in run.tables["confused"][:10]]
    return [pair for pair in pairs if pair["images"]]


def _gallery_class(run: Run) -> str:
    label = run.params["evaluate"]["gallery_class"]
    if isinstance(label, int):
        label = run.classes[label]
    # The class of the lowest F1, of those with test images.
    return label or [row["class"] for row in run.tables["per_class"] if int(row["images"])][-1]


def _gallery(rows: list[dict[str, str]], images: np.ndarray) -> list[dict[str, Any]]:
    """Test images as PNG, with the actual and the predicted class and the confidence."""
    return [
        {
            "actual": row["class"],
            "predicted": row["predicted"],
            "confidence": f"{float(row['confidence']):.0%}".replace("%", "\u00a0%"),
            "png": _png(image),
            "small": len(image) <= SHARP,
        }
        for row, image in zip(rows, images, strict=True)
    ]


def _png(image: np.ndarray) -> bytes:
    """An image, reduced where it is larger than the page shows it."""
    content, picture = io.BytesIO(), Image.fromarray(image)
    picture.thumbnail((LARGEST, LARGEST))
    picture.save(content, "png")
    return content.getvalue()


def _facts(run: Run) -> list[tuple[str, str]]:
    """Dataset, versions, devices and precision of the run."""
    dataset = run.params["dataset"]
    facts = [
        ("dataset", dataset["name"]),
        ("archive", dataset["url"]),
        ("images", dataset["path"]),
        ("SHA-256 of the archive", dataset["sha256"]),
        ("DVC's hash of its content", run.data),
        *_computed_on(run),
    ]
    return [(name, value) for name, value in facts if value]


def _computed_on(run: Run) -> list[tuple[str, str]]:
    """Versions, device and precision of the stages, each once where all stages agree."""
    stages_of: dict[str, dict[str, list[str]]] = {"versions": {}, "device": {}, "precision": {}}
    for stage, provenance in run.provenance.items():
        cores = f"{provenance['cores']} cores"
        device = [provenance["device"], cores, provenance["processor"]]
        if cores in provenance["device"]:
            device.remove(cores)
        # Of versions without oneDNN, provenance does not name it.
        computes = what_computes(provenance["xla"], provenance.get("onednn", False))
        values = {
            "versions": ", ".join(f"{name} {version}" for name, version in provenance["versions"].items()),
            "device": ", ".join(device),
            "precision": f"{provenance['precision']}, {computes}",
        }
        for name, value in values.items():
            stages_of[name].setdefault(value, []).append(stage)
    return [
        (name if len(values) == 1 else f"{name} ({', '.join(stages)})", value)
        for name, values in stages_of.items()
        for value, stages in values.items()
    ]


def _parameters(run: Run) -> list[dict[str, Any]]:
    """All parameters as YAML text, with the default of conf/ where it differs; `-` for no default."""
    defaults = flat(run.defaults)
    parameters = []
    for name, value in flat(run.params).items():
        differs = name not in defaults or defaults[name] != value
        default = _plain(defaults[name]) if name in defaults else "-"
        parameters.append({"name": name, "value": _plain(value), "default": default if differs else None})
    return parameters


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
