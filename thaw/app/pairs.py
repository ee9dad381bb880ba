"""Pairs of experiments, tested for a difference on the same test images. Start at `describe_pairs`."""

import csv
from dataclasses import dataclass

import numpy as np
from scipy import stats
from tabulate import tabulate

from thaw.app.experiments import Experiment, format_interval

# Probability that a table calls any of its pairs different where none is.
LEVEL = 0.05

NOTE = f"""\
Alone correct: test images that the experiment classifies correctly and the most accurate one does not; alone wrong: the
reverse. p: exact McNemar test on these images. Differs: p is below {LEVEL} divided by the number of rows (Bonferroni).
This is about the trained models on other test images; the range over seeds is about another training."""

NO_PREDICTIONS = """\
predictions not in DVC's cache (`dvc pull` and `dvc exp pull` fetch them; results of an earlier version have none)"""


@dataclass(frozen=True)
class Answers:
    """The test images of an experiment, and which of them it classifies correctly.

    Attributes:
        experiment: the experiment.
        images: DVC's hash of the test split, and row and class of each image: equal for the same images and labels.
        correct: bool (n,).
    """

    experiment: Experiment
    images: tuple[str, tuple[tuple[str, str], ...]]
    correct: np.ndarray


def describe_pairs(experiments: list[Experiment]) -> str:
    """Say in Markdown whether experiments differ from the most accurate one on the same test images.

    Returns:
        A table for each set of test images that several experiments have, and the experiments that are not compared,
        with the reason; empty for a single experiment.
    """
    if len(experiments) < 2:
        return ""
    groups: dict[tuple, list[Answers]] = {}
    missing = []
    for experiment in experiments:
        if answers := read_answers(experiment):
            groups.setdefault(answers.images, []).append(answers)
        else:
            missing.append(experiment.name)
    tables = [_table(group) for group in groups.values() if len(group) > 1]
    parts = [*tables, NOTE] if tables else []
    if len(groups) > 1:
        names = (", ".join(answers.experiment.name for answers in group) for group in groups.values())
        parts.append(f"Not compared, since test images or labels differ: {'; '.join(names)}.")
    if missing:
        parts.append(f"Not compared: {', '.join(missing)}: {NO_PREDICTIONS}.")
    return "\n\n".join(parts)


def read_answers(experiment: Experiment) -> Answers | None:
    """Read the table of predictions of an experiment; None where it is not in DVC's cache."""
    if experiment.test_images is None or experiment.predictions is None:
        return None
    try:
        with open(experiment.predictions, newline="", encoding="utf-8") as file:
            rows = [(row["index"], row["class"], row["predicted"]) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return None
    images = tuple((index, label) for index, label, _ in rows)
    correct = np.array([label == predicted for _, label, predicted in rows])
    return Answers(experiment, (experiment.test_images, images), correct)


def exact_p(alone_correct: int, alone_wrong: int) -> float:
    """Two-sided p of the exact McNemar test: how likely one is at least as far from an even division by chance.

    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages" (1947), with
    the binomial distribution in place of its chi-square, which few images do not follow.

    Args:
        alone_correct: images that the first alone classifies correctly.
        alone_wrong: images that the second alone classifies correctly.
    """
    discordant = alone_correct + alone_wrong
    return float(stats.binomtest(alone_correct, discordant).pvalue) if discordant else 1.0


def _table(group: list[Answers]) -> str:
    """A row for each experiment but the most accurate one, which all are compared with."""
    best = max(group, key=lambda answers: answers.correct.sum())
    others = [answers for answers in group if answers is not best]
    rows = [_row(answers, best, LEVEL / len(others)) for answers in others]
    titles = ["experiment", "test accuracy", "95 % interval", "alone correct", "alone wrong", "p", "differs"]
    words = f"{best.experiment.accuracy:.4f}, 95 % interval {format_interval(best.experiment.interval)}"
    title = f"Against {best.experiment.name}, the most accurate on these {len(best.correct):,} test images ({words}):"
    return "\n\n".join([title, tabulate(rows, titles, "github", disable_numparse=True)])


def _row(answers: Answers, best: Answers, level: float) -> list[str]:
    experiment = answers.experiment
    alone_correct = int((answers.correct & ~best.correct).sum())
    alone_wrong = int((best.correct & ~answers.correct).sum())
    p = exact_p(alone_correct, alone_wrong)
    return [
        experiment.name.replace("|", "\\|"),
        f"{experiment.accuracy:.4f}",
        format_interval(experiment.interval),
        f"{alone_correct:,}",
        f"{alone_wrong:,}",
        f"{p:.4f}" if p >= 0.0001 else "< 0.0001",
        "yes" if p < level else "not shown",
    ]
