"""evaluate: the final model on the test split, into metrics/evaluate.json and plots/."""

from thaw import files, paths, stage
from thaw.params import Params


def evaluate(params: Params) -> None:
    from thaw import charts, checkpoint, curves, evaluation, splits, tables
    from thaw.feeding import Examples

    def predict(classifier, split: str, classes: list[str]):
        examples = Examples(*splits.read(split, classes))
        return examples.labels, evaluation.probabilities(classifier, examples, params.batch_size)

    network, info = checkpoint.load(paths.model(params.schedule.final))
    classifier = network.classifier()
    labels, predicted = predict(classifier, "test", info.classes)
    result = evaluation.scores(labels, predicted)
    for split in ("train", "val"):
        result[f"{split}_accuracy"] = evaluation.scores(*predict(classifier, split, info.classes))["accuracy"]
    tables.write(paths.PLOTS / "confusion.csv", evaluation.confusion(labels, predicted, info.classes))
    tables.write(paths.PLOTS / "per_class.csv", evaluation.per_class(labels, predicted, info.classes))
    tables.write(paths.PLOTS / "history.csv", info.history, curves.COLUMNS)
    charts.phases(paths.PLOTS / "phases.png", info.history)

    source = checkpoint.read_info(paths.BACKBONE)
    if source.head is not None:
        network, _ = checkpoint.load(paths.BACKBONE)
        result["source"] = evaluation.scores(*predict(network.classifier(), "test", source.classes))
    files.write_json(paths.METRICS / "evaluate.json", result)


if __name__ == "__main__":
    stage.run("evaluate", evaluate, keras=True)
