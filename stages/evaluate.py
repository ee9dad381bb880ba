"""evaluate: the final model on the test split, into metrics/evaluate.json and plots/."""

from thaw import files, paths, stage
from thaw.params import Params, gallery_class


def evaluate(params: Params) -> None:
    from thaw import charts, checkpoint, curves, evaluation, pictures, splits, tables
    from thaw.feeding import Examples

    def predict(classifier, split: str, classes: list[str]):
        examples = Examples(*splits.read(split, classes))
        return examples.labels, evaluation.probabilities(classifier, examples, params.batch_size)

    network, info = checkpoint.load(paths.model(params.schedule.final))
    classifier, classes = network.classifier(), info.classes
    labels, predicted = predict(classifier, "test", classes)
    result = evaluation.scores(labels, predicted)
    for split in ("train", "val"):
        result[f"{split}_accuracy"] = evaluation.scores(*predict(classifier, split, classes))["accuracy"]
    bins = evaluation.calibration(labels, predicted)
    result["calibration_error"] = evaluation.calibration_error(bins)
    per_class = evaluation.per_class(labels, predicted, classes)

    accuracies = {"train": result["train_accuracy"], "validation": result["val_accuracy"], "test": result["accuracy"]}
    tables.write(paths.PLOTS / "accuracy.csv", [{"split": name, "accuracy": a} for name, a in accuracies.items()])
    tables.write(paths.PLOTS / "confusion.csv", evaluation.confusion(labels, predicted, classes))
    tables.write(paths.PLOTS / "confused.csv", evaluation.confused(labels, predicted, classes), ["pair", "pictures"])
    tables.write(paths.PLOTS / "per_class.csv", per_class)
    tables.write(paths.PLOTS / "history.csv", info.history, curves.COLUMNS)
    charts.phases(paths.PLOTS / "phases.png", info.history)
    charts.calibration(paths.PLOTS / "calibration.png", bins, result["calibration_error"])

    images, _ = splits.read("test", classes)
    chosen = gallery_class(params) or min(per_class, key=lambda row: row["f1"])["class"]
    shown = {
        "gallery": evaluation.gallery(labels, classes.index(chosen)),
        "mistakes": evaluation.mistakes(labels, predicted),
    }
    for name, rows in shown.items():
        said, right = evaluation.said(labels[rows], predicted[rows], classes)
        pictures.labelled(paths.PLOTS / f"{name}.png", images[rows], said, right)

    source = checkpoint.read_info(paths.BACKBONE)
    if source.head is not None:
        before, _ = checkpoint.load(paths.BACKBONE)
        result["source"] = evaluation.scores(*predict(before.classifier(), "test", source.classes))
        # What is left of it: the source's head on the backbone as it is now.
        network.pool, network.head = before.pool, before.head
        result["source_after"] = evaluation.scores(*predict(network.classifier(), "test", source.classes))
    files.write_json(paths.METRICS / "evaluate.json", result)


if __name__ == "__main__":
    stage.run("evaluate", evaluate, keras=True)
