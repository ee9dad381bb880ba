"""The stage evaluate: the final model on the test split, into metrics/evaluate.json and plots/."""

import numpy as np

from thaw import paths
from thaw.config.schema import Params
from thaw.data.examples import Examples
from thaw.data.splits import class_names, read_split, superclasses_of
from thaw.evaluation.scores import (
    calibration_bins,
    calibration_error,
    captions,
    class_scores,
    compute_scores,
    confused_pairs,
    confusion_rows,
    gallery_rows,
    misclassified_rows,
    probabilities,
    score_rows,
)
from thaw.figures.charts import draw_calibration, draw_phases
from thaw.figures.grids import draw_labelled
from thaw.network.checkpoint import load_checkpoint, read_checkpoint_info
from thaw.network.history import COLUMNS
from thaw.runtime.files import write_json
from thaw.runtime.progress import Progress
from thaw.runtime.tables import write_table

# Classes, at most, of a confusion matrix that can be read; more are counted by superclass, where there are any.
LEGIBLE = 25


def _gallery_class(params: Params) -> str | None:
    """The name of evaluate.gallery_class, which may be a number."""
    wanted = params.evaluate.gallery_class
    return None if wanted is None else class_names([wanted])[0]


def evaluate(params: Params) -> None:

    def predict(name: str, classifier, examples: Examples):
        with Progress(f"evaluate: {name}", len(examples), "pictures") as doing:
            predicted = probabilities(classifier, examples, params.batch_size, doing.reach)
        scores = compute_scores(examples.labels, predicted)
        print(f"evaluate: {name}, {len(examples):,} pictures, accuracy {scores['accuracy']:.4f}", flush=True)
        return scores, predicted

    network, info = load_checkpoint(paths.model(params.schedule.final))
    classifier, classes = network.classifier(), info.classes
    measured = {
        split: predict(split, classifier, Examples(*read_split(split, classes)))[0] for split in ("train", "val")
    }
    test = Examples(*read_split("test", classes))
    measured["test"], predicted = predict("test", classifier, test)
    labels = test.labels
    result = measured["test"] | {f"{split}_accuracy": measured[split]["accuracy"] for split in ("train", "val")}
    bins = calibration_bins(labels, predicted)
    result["calibration_error"] = calibration_error(bins)
    per_class = class_scores(labels, predicted, classes)

    source = read_checkpoint_info(paths.BACKBONE)
    if source.head is not None:
        examples = Examples(*read_split("test", source.classes))
        before, _ = load_checkpoint(paths.BACKBONE)
        result["source"], _ = predict("source task, before", before.classifier(), examples)
        # What is left of it: the source's head on the backbone as it is now.
        network.pool, network.head = before.pool, before.head
        result["source_after"], _ = predict("source task, after", network.classifier(), examples)
        measured |= {"source task, before": result["source"], "source task, after": result["source_after"]}

    write_table(paths.PLOTS / "scores.csv", score_rows(measured))
    matrix = superclasses_of(classes) if len(classes) > LEGIBLE else None
    write_table(paths.PLOTS / "confusion.csv", confusion_rows(labels, predicted, matrix or classes))
    # A chart of no rows would be a blank without a title.
    confused = confused_pairs(labels, predicted, classes) or [{"pair": "none", "pictures": 0}]
    write_table(paths.PLOTS / "confused.csv", confused)
    write_table(paths.PLOTS / "per_class.csv", per_class)
    write_table(paths.PLOTS / "history.csv", info.history, COLUMNS)
    draw_phases(paths.PLOTS / "phases.png", info.history, info.thawed)
    draw_calibration(paths.PLOTS / "calibration.png", bins, result["calibration_error"])

    chosen = _gallery_class(params) or per_class[-1]["class"]
    label, wrong = classes.index(chosen), predicted.argmax(axis=1) != labels
    told = f"{np.sum(~wrong[labels == label]):,} of {np.sum(labels == label):,}"
    confident = f"The most confident of {wrong.sum():,} mistakes" if wrong.any() else "No mistakes"
    shown = {
        "gallery": (f"Test pictures of {chosen}: {told} are told right", gallery_rows(labels, label)),
        "mistakes": (f"{confident} on the test split", misclassified_rows(labels, predicted)),
    }
    for name, (title, rows) in shown.items():
        said, right = captions(labels[rows], predicted[rows], classes)
        draw_labelled(paths.PLOTS / f"{name}.png", title, test.inputs[rows], said, right)
    write_json(paths.METRICS / "evaluate.json", result)
