"""evaluate: the final model on the test split, into metrics/evaluate.json and plots/."""

from thaw import files, paths, stage
from thaw.params import Params, gallery_class

# Classes, at most, of a confusion matrix that can be read; more are counted by superclass, where there are any.
LEGIBLE = 25


def evaluate(params: Params) -> None:
    import numpy as np

    from thaw import charts, checkpoint, curves, evaluation, pictures, progress, splits, tables
    from thaw.feeding import Examples

    def predict(name: str, classifier, examples: Examples):
        with progress.Steps(f"evaluate: {name}", len(examples), "pictures") as doing:
            predicted = evaluation.probabilities(classifier, examples, params.batch_size, doing.reach)
        scores = evaluation.scores(examples.labels, predicted)
        print(f"evaluate: {name}, {len(examples):,} pictures, accuracy {scores['accuracy']:.4f}", flush=True)
        return scores, predicted

    network, info = checkpoint.load(paths.model(params.schedule.final))
    classifier, classes = network.classifier(), info.classes
    measured = {
        split: predict(split, classifier, Examples(*splits.read(split, classes)))[0] for split in ("train", "val")
    }
    test = Examples(*splits.read("test", classes))
    measured["test"], predicted = predict("test", classifier, test)
    labels = test.labels
    result = measured["test"] | {f"{split}_accuracy": measured[split]["accuracy"] for split in ("train", "val")}
    bins = evaluation.calibration(labels, predicted)
    result["calibration_error"] = evaluation.calibration_error(bins)
    per_class = evaluation.per_class(labels, predicted, classes)

    source = checkpoint.read_info(paths.BACKBONE)
    if source.head is not None:
        examples = Examples(*splits.read("test", source.classes))
        before, _ = checkpoint.load(paths.BACKBONE)
        result["source"], _ = predict("source task, before", before.classifier(), examples)
        # What is left of it: the source's head on the backbone as it is now.
        network.pool, network.head = before.pool, before.head
        result["source_after"], _ = predict("source task, after", network.classifier(), examples)
        measured |= {"source task, before": result["source"], "source task, after": result["source_after"]}

    tables.write(paths.PLOTS / "scores.csv", evaluation.side_by_side(measured))
    matrix = splits.superclasses(classes) if len(classes) > LEGIBLE else None
    tables.write(paths.PLOTS / "confusion.csv", evaluation.confusion(labels, predicted, matrix or classes))
    # A chart of no rows would be a blank without a title.
    confused = evaluation.confused(labels, predicted, classes) or [{"pair": "none", "pictures": 0}]
    tables.write(paths.PLOTS / "confused.csv", confused)
    tables.write(paths.PLOTS / "per_class.csv", per_class)
    tables.write(paths.PLOTS / "history.csv", info.history, curves.COLUMNS)
    charts.phases(paths.PLOTS / "phases.png", info.history, info.thawed)
    charts.calibration(paths.PLOTS / "calibration.png", bins, result["calibration_error"])

    chosen = gallery_class(params) or per_class[-1]["class"]
    label, wrong = classes.index(chosen), predicted.argmax(axis=1) != labels
    told = f"{np.sum(~wrong[labels == label]):,} of {np.sum(labels == label):,}"
    confident = f"The most confident of {wrong.sum():,} mistakes" if wrong.any() else "No mistakes"
    shown = {
        "gallery": (f"Test pictures of {chosen}: {told} are told right", evaluation.gallery(labels, label)),
        "mistakes": (f"{confident} on the test split", evaluation.mistakes(labels, predicted)),
    }
    for name, (title, rows) in shown.items():
        said, right = evaluation.said(labels[rows], predicted[rows], classes)
        pictures.labelled(paths.PLOTS / f"{name}.png", title, test.inputs[rows], said, right)
    files.write_json(paths.METRICS / "evaluate.json", result)


if __name__ == "__main__":
    stage.run("evaluate", evaluate, keras=True)
