"""The stage evaluate: writes metrics/evaluate.json and plots/tables, from predictions of the final model.

Start at `evaluate`. The stage figures draws the tables.
"""

import math
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from thaw import paths
from thaw.config.schema import Params
from thaw.data.examples import Examples
from thaw.data.splits import class_names, read_split, split_rows, superclasses_of
from thaw.data.stored import unaugmented_data
from thaw.evaluation.corruptions import PAIRS, corruption_rows
from thaw.evaluation.scores import (
    PREDICTION,
    accuracy_interval,
    calibration_bins,
    calibration_error,
    class_scores,
    compute_scores,
    confused_pairs,
    confusion_rows,
    describe_accuracy,
    gallery_rows,
    misclassified_rows,
    prediction_rows,
    score_rows,
)
from thaw.evaluation.views import describe_views, mean_over_views
from thaw.network.build import Network
from thaw.network.checkpoint import (
    FROM_CHECKPOINT,
    CheckpointInfo,
    block_hashes,
    load_checkpoint,
    read_checkpoint_info,
)
from thaw.network.history import COLUMNS, best_epoch, by_phase
from thaw.network.inference import predict_logits, softmax
from thaw.runtime.files import replacing_folder, save_array, write_json
from thaw.runtime.progress import Progress
from thaw.runtime.tables import write_table

# Classes of a legible confusion matrix, at most; a dataset of more classes is counted by superclass, if it has any.
LEGIBLE = 25

# Training images that are scored, at most: the accuracy's standard error is 0.007 at most.
# All of them would take longer than an epoch of a phase with a stored cut.
TRAINING_SAMPLE = 5_000

# Splits that training or its choices have seen: their accuracy says nothing of new images, with or without an interval.
SEEN = ("train", "val")


def evaluate(params: Params) -> None:
    """Score the final model on all splits and, if there is one, on the source task; write metrics and tables."""
    folder = paths.model(params.schedule.final)
    network, info = load_checkpoint(folder)
    scores = _seen_scores(network, folder, info, params.batch_size)
    classifier, test = network.classifier(), Examples(*read_split("test", info.classes))
    scores["test"], logits = _predict("test", classifier, test, info.temperature, params.batch_size)
    predicted = softmax(logits, info.temperature)
    superclasses = superclasses_of(info.classes)
    calibration, bins = _calibration(test.labels, logits, info.temperature)
    corruptions = _corruption_rows(params, classifier, test)
    source = _source_scores(params, network)
    metrics: dict[str, Any] = {
        **scores["test"],
        **{
            f"{split}_{name}": scores[split][name]
            for split in SEEN
            for name in ("accuracy", "balanced_accuracy")
            if name in scores[split]
        },
        **_superclass_score(test.labels, predicted, superclasses),
        **calibration,
        **_views_scores(params, classifier, test, predicted, info.temperature),
        **_corrupted_score(corruptions),
        **source,
    }
    titles = {"source": "source task, before", "source_after": "source task, after"}
    rows = score_rows(scores | {titles[name]: scores for name, scores in source.items()})
    with replacing_folder(paths.TABLES) as folder:
        write_table(folder / "scores.csv", rows)
        write_table(folder / "calibration.csv", bins)
        if corruptions:
            write_table(folder / "corruptions.csv", corruptions)
        _write_phases(folder, info)
        _write_predictions(folder, test, predicted, info.classes, superclasses, _gallery_class(params))
    write_json(paths.EVALUATED, metrics)


def _seen_scores(network: Network, folder: Path, info: CheckpointInfo, batch_size: int) -> dict[str, dict[str, float]]:
    """Scores on the training and validation images: through the blocks alone that have been thawed, where the
    activations below these are stored.
    """
    hashes = block_hashes(folder)
    data = unaugmented_data(paths.FEATURES, {block.name: hashes[block.name] for block in network.blocks}, info.classes)
    if data.depth is not None:
        print(f"evaluate: train and val from activations stored at depth {data.depth}", flush=True)
    classifier, (train,) = network.classifier(data.depth), data.views
    step = training_step(len(train))
    splits = {"train": Examples(train.inputs[::step], train.labels[::step]), "val": data.val}
    return {
        split: _predict(split, classifier, examples, info.temperature, batch_size)[0]
        for split, examples in splits.items()
    }


def training_step(count: int) -> int:
    """Every so many of the training images are scored: TRAINING_SAMPLE at most."""
    return max(1, math.ceil(count / TRAINING_SAMPLE))


def _calibration(
    labels: np.ndarray, logits: np.ndarray, temperature: float
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Calibration error with the temperature and without it, the loss without it, and the bins of both as a table."""
    probabilities = {"calibrated": softmax(logits, temperature), "uncalibrated": softmax(logits)}
    bins = {name: calibration_bins(labels, predicted) for name, predicted in probabilities.items()}
    scores = {
        "calibration_error": calibration_error(bins["calibrated"]),
        "calibration_error_uncalibrated": calibration_error(bins["uncalibrated"]),
        "loss_uncalibrated": compute_scores(labels, probabilities["uncalibrated"])["loss"],
    }
    return scores, [{"probabilities": name, **row} for name, rows in bins.items() for row in rows]


def _superclass_score(labels: np.ndarray, predicted: np.ndarray, superclasses: list[str] | None) -> dict[str, float]:
    """The share of images whose predicted class is of the right superclass, where there are superclasses."""
    if superclasses is None:
        return {}
    of_class = np.array(superclasses)
    return {"superclass_accuracy": float(np.mean(of_class[labels] == of_class[predicted.argmax(axis=1)]))}


def _write_phases(folder: Path, info: CheckpointInfo) -> None:
    """Write the tables of the phases, with the epoch that each kept (0: its start), and of all epochs."""
    phases = []
    for phase, rows in by_phase(info.history).items():
        numbers = {"epochs": len(rows) - 1, "best_epoch": best_epoch(rows)}
        phases.append({"phase": phase, "trainable": info.thawed[phase]} | numbers)
    write_table(folder / "phases.csv", phases)
    write_table(folder / "history.csv", info.history, COLUMNS)


def _write_predictions(
    folder: Path,
    test: Examples,
    predicted: np.ndarray,
    classes: list[str],
    superclasses: list[str] | None,
    gallery_class: str | None,
) -> None:
    """Write the tables of predictions, by image and by class, and the images that figures shows, with their rows.

    Args:
        folder: folder of the tables.
        test: images, uint8 (n, side, side, 3), and labels.
        predicted: probabilities (n, classes).
        classes: names, in the order of the labels.
        superclasses: of each class, if the dataset has any: many classes are confused by superclass.
        gallery_class: class of the gallery; None for the class with the lowest F1.
    """
    per_class = class_scores(test.labels, predicted, classes)
    lowest = [row for row in per_class if row["images"]][-1]
    predictions = prediction_rows(split_rows("test", classes), test.labels, predicted, classes)
    named = superclasses if superclasses and len(classes) > LEGIBLE else classes
    # One row at least: DVC draws a chart without rows as a blank without a title.
    confused = confused_pairs(test.labels, predicted, classes) or [{"pair": "none", "images": 0}]
    write_table(folder / "per_class.csv", per_class)
    write_table(folder / "confusion.csv", confusion_rows(test.labels, predicted, named))
    write_table(folder / "confused.csv", confused)
    write_table(folder / "predictions.csv", predictions)
    shown = {
        "gallery": gallery_rows(test.labels, classes.index(gallery_class or lowest["class"])),
        "mistakes": misclassified_rows(test.labels, predicted),
    }
    for name, numbers in shown.items():
        write_table(folder / f"{name}.csv", [predictions[number] for number in numbers], PREDICTION)
        save_array(folder / f"{name}.npy", test.inputs[numbers])


def _predict(
    name: str, classifier: keras.Model, examples: Examples, temperature: float, batch_size: int
) -> tuple[dict[str, float], np.ndarray]:
    """Scores of a classifier, calibrated by a temperature, and its logits; prints progress and accuracy.

    The scores of test images have the interval of the accuracy.
    """
    with Progress(f"evaluate: {name}", len(examples), "images") as doing:
        logits = predict_logits(classifier, examples.inputs, batch_size, doing.reach)
    predicted = softmax(logits, temperature)
    scores = compute_scores(examples.labels, predicted)
    if name not in SEEN:
        scores |= accuracy_interval(examples.labels, predicted)
    print(f"evaluate: {name}, {len(examples):,} images, {describe_accuracy(scores)}", flush=True)
    return scores, logits


def _views_scores(
    params: Params, classifier: keras.Model, test: Examples, predicted: np.ndarray, temperature: float
) -> dict[str, float]:
    """Scores of the mean over `evaluate.views` test-time views, under names of their own; empty for one view.

    All other figures are of the single view, whatever the number: two runs with other views stay comparable.

    Args:
        predicted: probabilities of the images as they are, (n, classes).
        temperature: of the checkpoint, for the other views.
    """
    count, mirrored = params.evaluate.views, bool(params.augment.flip)
    if count == 1:
        return {}
    started, images = time.perf_counter(), (count - 1) * len(test)
    with Progress("evaluate: test, further views", images, "images") as progress:
        mean = mean_over_views(
            classifier, test.inputs, predicted, temperature, count, mirrored, params.batch_size, progress.reach
        )
    scores = compute_scores(test.labels, mean) | accuracy_interval(test.labels, mean)
    print(
        f"evaluate: test, mean of {describe_views(count, mirrored)}, {describe_accuracy(scores)}, "
        f"{time.perf_counter() - started:.1f} s more",
        flush=True,
    )
    scores["calibration_error"] = calibration_error(calibration_bins(test.labels, mean))
    bounds = {f"accuracy_views_{bound}": scores[f"accuracy_{bound}"] for bound in ("low", "high")}
    return {f"{name}_views": scores[name] for name in ("accuracy", "loss", "calibration_error")} | bounds


def _corruption_rows(params: Params, classifier: keras.Model, test: Examples) -> list[dict[str, Any]]:
    """Accuracy under each corruption, at each strength; empty without `evaluate.corruptions`."""
    if not params.evaluate.corruptions:
        return []
    started = time.perf_counter()
    with Progress("evaluate: test, corrupted", len(PAIRS) * len(test), "images") as progress:
        rows = corruption_rows(classifier, test, params.batch_size, progress.reach)
    (accuracy,) = _corrupted_score(rows).values()
    seconds = time.perf_counter() - started
    print(
        f"evaluate: test, {len(PAIRS)} times corrupted, mean accuracy {accuracy:.4f}, {seconds:.1f} s more", flush=True
    )
    return rows


def _corrupted_score(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The mean accuracy over all corruptions and strengths, under a name of its own; empty without rows."""
    return {"accuracy_corrupted": math.fsum(row["accuracy"] for row in rows) / len(rows)} if rows else {}


def _source_scores(params: Params, network: Network) -> dict[str, dict[str, float]]:
    """Scores on the source task's test images before and after the transfer; empty without a source task.

    A backbone from a checkpoint has that one's head, whose classes may not be in the dataset: no source task.

    After the transfer, the final network gets the head of the source task, and keeps it; both scores have the
    temperature of the source task. Test-time views are not for these: the two compare what the backbone knows.
    """
    source = read_checkpoint_info(paths.BACKBONE)
    if source.head is None or source.weights.get("origin") == FROM_CHECKPOINT:
        return {}
    examples = Examples(*read_split("test", source.classes))
    before, _ = load_checkpoint(paths.BACKBONE)
    given = examples, source.temperature, params.batch_size
    scores = {"source": _predict("source task, before", before.classifier(), *given)[0]}
    network.pool, network.head = before.pool, before.head
    scores["source_after"] = _predict("source task, after", network.classifier(), *given)[0]
    return scores


def _gallery_class(params: Params) -> str | None:
    """The name of the class evaluate.gallery_class, which may be given by number."""
    wanted = params.evaluate.gallery_class
    return None if wanted is None else class_names([wanted])[0]
