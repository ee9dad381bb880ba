"""McNemar's test of experiments, on tables of predictions made by hand."""

import pytest

from thaw.app.experiments import Experiment, _predictions
from thaw.app.pairs import describe_pairs, exact_p, read_answers
from thaw.runtime.files import write_json
from thaw.runtime.tables import write_table


@pytest.fixture
def made(tmp_path):
    """Makes an experiment that classifies these of ten cats correctly."""

    def make(name, correct, test_images="abc.dir", label="cat", first=0, **fields):
        rows = [
            {"index": first + row, "label": 0, "class": label, "predicted": label if row in correct else "dog"}
            | {"confidence": 0.75, "p_cat": 0.25}
            for row in range(10)
        ]
        file = tmp_path / f"{name}.csv"
        write_table(file, rows)
        accuracy = len(correct) / 10
        return Experiment(
            name, {}, accuracy, 1.0, interval=(accuracy / 2, 1.0), test_images=test_images, predictions=file, **fields
        )

    return make


def table(text):
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[:1] + lines[2:]]


@pytest.mark.parametrize(
    ("alone_correct", "alone_wrong", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 2 / 2**5),
        (1, 9, 2 * (1 + 10) / 2**10),
        # Agresti, "Categorical Data Analysis": approval of a prime minister, 86 and 150 who changed their mind.
        (86, 150, 3.716e-05),
    ],
)
def test_p_is_that_of_a_fair_coin_for_each_image_that_one_alone_classifies_correctly(alone_correct, alone_wrong, p):
    assert exact_p(alone_correct, alone_wrong) == pytest.approx(p, rel=1e-3)
    assert exact_p(alone_wrong, alone_correct) == exact_p(alone_correct, alone_wrong)


def test_each_experiment_is_compared_with_the_most_accurate_one(made):
    text = describe_pairs([made("some", range(7)), made("best", range(1, 10)), made("few", range(2))])
    assert "Against best, the most accurate on these 10 test images (0.9000, 95 % interval 0.4500 to 1.0000):" in text
    assert table(text) == [
        ["experiment", "test accuracy", "95 % interval", "alone correct", "alone wrong", "p", "differs"],
        ["some", "0.7000", "0.3500 to 1.0000", "1", "3", "0.6250", "not shown"],
        # 0.0391 is below 0.05, but not below half of it.
        ["few", "0.2000", "0.1000 to 1.0000", "1", "8", "0.0391", "not shown"],
    ]
    assert "Not compared" not in text


def test_one_pair_differs_below_0_05(made):
    assert table(describe_pairs([made("best", range(1, 10)), made("few", range(2))]))[1][-2:] == ["0.0391", "yes"]


def test_images_that_both_classify_alike_say_nothing_of_a_difference(made):
    assert table(describe_pairs([made("one", range(9)), made("other", range(9))]))[1][3:] == [
        "0", "0", "1.0000", "not shown",
    ]  # fmt: skip


@pytest.mark.parametrize("other", [{"test_images": "def.dir"}, {"label": "frog"}, {"first": 10}])
def test_experiments_on_other_test_images_or_labels_are_not_compared(made, other):
    first, second = made("first", range(9)), made("second", range(2), **other)
    text = describe_pairs([first, second])
    assert text == "Not compared, since test images or labels differ: first; second."
    text = describe_pairs([first, second, made("third", range(8))])
    assert [row[0] for row in table(text)[1:]] == ["third"]
    assert text.endswith("Not compared, since test images or labels differ: first, third; second.")


def test_each_set_of_test_images_has_a_table(made):
    runs = [
        made(name, range(number), test_images=images)
        for name, number, images in zip("abcd", range(4), "xxyy", strict=True)
    ]
    text = describe_pairs(runs)
    assert [line.split()[1] for line in text.splitlines() if line.startswith("Against")] == ["b,", "d,"]
    assert "differ: a, b; c, d." in text


@pytest.mark.parametrize("missing", ["file", "list", "split"])
def test_without_predictions_in_the_cache_the_others_are_compared(made, missing):
    runs = [made("first", range(9)), made("second", range(2)), made("third", range(8))]
    if missing == "file":
        runs[1].predictions.unlink()
    else:
        object.__setattr__(runs[1], {"list": "predictions", "split": "test_images"}[missing], None)
    assert read_answers(runs[1]) is None
    text = describe_pairs(runs)
    assert [row[0] for row in table(text)[1:]] == ["third"]
    assert "\n\nNot compared: second: predictions not in DVC's cache (`dvc pull` and `dvc exp pull` fetch them;" in text


def test_a_single_experiment_has_no_pair(made):
    assert describe_pairs([made("one", range(9))]) == ""


def test_experiments_of_one_name_are_two(made):
    # Of two commits.
    assert len(table(describe_pairs([made("one", range(9)), made("one", range(9))]))) == 2


class Cache:
    """What `_predictions` asks of a DVC repository."""

    def __init__(self, folder):
        self.cache = self.local = self
        self.folder = folder

    def oid_to_path(self, value):
        return str(self.folder / value[:2] / value[2:])


def test_the_table_of_predictions_is_found_by_hash(tmp_path):
    repo, outs = Cache(tmp_path), {"plots/tables": {"hash": "0123.dir"}}
    assert _predictions({}, repo) is None
    assert _predictions({"plots/tables": {"hash": None}}, repo) is None
    assert _predictions(outs, repo) is None, "the list is not in the cache"
    files = [{"md5": "aa11", "relpath": "scores.csv"}, {"md5": "bb22", "relpath": "predictions.csv"}]
    write_json(tmp_path / "01/23.dir", files)
    assert _predictions(outs, repo) == tmp_path / "bb/22"
    write_json(tmp_path / "01/23.dir", files[:1])
    assert _predictions(outs, repo) is None, "an earlier version wrote none"
