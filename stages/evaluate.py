"""evaluate: the final model on the test split, into metrics/evaluate.json and plots/."""

from thaw import files, paths, stage
from thaw.params import Params, gallery_class

# Classes, at most, of a confusion matrix that can be read; more are counted by superclass, where there are any.
LEGIBLE = 25


def evaluate(params: Params) -> None:
    from thaw import charts, checkpoint, curves, evaluation, pictures, splits, tables
    from thaw.feeding import Examples

    def predict(classifier, examples: Examples):
        return examples.labels, evaluation.probabilities(classifier, examples, params.batch_size)

    network, info = checkpoint.load(paths.model(params.schedule.final))
    classifier, classes = network.classifier(), info.classes
    test = Examples(*splits.read("test", classes))
    labels, predicted = predict(classifier, test)
    measured = {
        split: evaluation.scores(*predict(classifier, Examples(*splits.read(split, classes))))
        for split in ("train", "val")
    }
    measured["test"] = evaluation.scores(labels, predicted)
    result = measured["test"] | {f"{split}_accuracy": measured[split]["accuracy"] for split in ("train", "val")}
    bins = evaluation.calibration(labels, predicted)
    result["calibration_error"] = evaluation.calibration_error(bins)
    per_class = evaluation.per_class(labels, predicted, classes)

    source = checkpoint.read_info(paths.BACKBONE)
    if source.head is not None:
        examples = Examples(*splits.read("test", source.classes))
        before, _ = checkpoint.load(paths.BACKBONE)
        result["source"] = evaluation.scores(*predict(before.classifier(), examples))
        # What is left of it: the source's head on the backbone as it is now.
        network.pool, network.head = before.pool, before.head
        result["source_after"] = evaluation.scores(*predict(network.classifier(), examples))
        measured |= {"source task, before": result["source"], "source task, after": result["source_after"]}

    tables.write(paths.PLOTS / "scores.csv", evaluation.side_by_side(measured))
    matrix = splits.superclasses(classes) if len(classes) > LEGIBLE else None
    tables.write(paths.PLOTS / "confusion.csv", evaluation.confusion(labels, predicted, matrix or classes))
    tables.write(paths.PLOTS / "confused.csv", evaluation.confused(labels, predicted, classes), ["pair", "pictures"])
    tables.write(paths.PLOTS / "per_class.csv", per_class)
    tables.write(paths.PLOTS / "history.csv", info.history, curves.COLUMNS)
    charts.phases(paths.PLOTS / "phases.png", info.history, info.thawed)
    charts.calibration(paths.PLOTS / "calibration.png", bins, result["calibration_error"])

    chosen = gallery_class(params) or per_class[-1]["class"]
    shown = {
        "gallery": evaluation.gallery(labels, classes.index(chosen)),
        "mistakes": evaluation.mistakes(labels, predicted),
    }
    for name, rows in shown.items():
        said, right = evaluation.said(labels[rows], predicted[rows], classes)
        pictures.labelled(paths.PLOTS / f"{name}.png", test.inputs[rows], said, right)
    files.write_json(paths.METRICS / "evaluate.json", result)


if __name__ == "__main__":
    stage.run("evaluate", evaluate, keras=True)
