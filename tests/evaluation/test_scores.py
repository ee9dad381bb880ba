"""The numbers of the evaluation, against counts by hand and against scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

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
from thaw.network.build import build_head
from thaw.network.inference import predict_logits, softmax
from thaw.network.seeds import seed_initialisers

# Four images of three classes; the last class is never predicted.
LABELS = np.array([0, 0, 1, 2], np.int32)
PREDICTED = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.6, 0.3], [0.3, 0.4, 0.3]])
CLASSES = ["cat", "dog", "frog"]


def drawn(classes: int, count: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that are right more often than not."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count).astype(np.int32)
    logits = generator.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    return labels, softmax(logits)


def test_softmax_by_hand():
    found = softmax(np.log([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]]))
    np.testing.assert_allclose(found, [[0.125, 0.25, 0.625], [0.375, 0.375, 0.25]])


def test_a_temperature_divides_the_logits():
    found = softmax(np.log([[1.0, 4.0, 25.0]]), 2.0)
    np.testing.assert_allclose(found, [[1 / 8, 2 / 8, 5 / 8]])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_softmax_is_exact_in_double_for_logits_of_any_type_and_size(dtype):
    logits = np.array([[6e4, 0, -6e4], [-6e4, -6e4, -6e4], [0, -30, -700]], dtype)
    found = softmax(logits)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found[0], [1, 0, 0])
    np.testing.assert_allclose(found[1], 1 / 3)
    values = logits[2].astype(float)
    np.testing.assert_allclose(found[2], np.exp(values) / np.exp(values).sum(), rtol=1e-12)
    assert found[2, 2] > 0, "which a float32 could not hold"


def test_scores_by_hand():
    assert compute_scores(LABELS, PREDICTED) == pytest.approx(
        {
            "accuracy": 2 / 4,
            "loss": -np.log([0.8, 0.2, 0.6, 0.3]).mean(),
            "macro_precision": (1 + 1 / 3 + 0) / 3,
            "macro_recall": (1 / 2 + 1 + 0) / 3,
            "macro_f1": (2 / 3 + 1 / 2 + 0) / 3,
            "balanced_accuracy": (1 / 2 + 1 + 0) / 3,
        }
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("classes", [2, 5, 6, 10, 100])
def test_scores_equal_those_of_scikit_learn(classes):
    labels, predicted = drawn(classes)
    guesses, every = predicted.argmax(axis=1), np.arange(classes)
    options = {"average": "macro", "labels": np.unique(labels), "zero_division": 0}
    expected = {
        "accuracy": metrics.accuracy_score(labels, guesses),
        "loss": metrics.log_loss(labels, predicted, labels=every),
        "macro_precision": metrics.precision_score(labels, guesses, **options),
        "macro_recall": metrics.recall_score(labels, guesses, **options),
        "macro_f1": metrics.f1_score(labels, guesses, **options),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, guesses),
    }
    if classes > 5:
        expected["top5_accuracy"] = metrics.top_k_accuracy_score(labels, predicted, k=5, labels=every)
    assert compute_scores(labels, predicted) == pytest.approx(expected)


def test_balanced_accuracy_is_told_where_classes_differ_in_size_and_counts_those_that_have_images():
    labels, predicted = drawn(4, count=100)
    labels[labels == 2] = 1
    guesses = predicted.argmax(axis=1)
    assert 2 in guesses
    with pytest.warns(UserWarning, match="classes not in y_true"):
        expected = metrics.balanced_accuracy_score(labels, guesses)
    result = compute_scores(labels, predicted)
    assert result["balanced_accuracy"] == pytest.approx(expected)
    assert result["macro_recall"] == result["balanced_accuracy"]
    even = np.arange(100) % 4
    assert "balanced_accuracy" not in compute_scores(even, predicted)


def test_a_balanced_accuracy_is_told_beside_the_accuracy():
    scores = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.94, "balanced_accuracy": 0.5}
    assert describe_accuracy(scores) == "accuracy 0.9000 (95 %: 0.8500 to 0.9400), balanced 0.5000"


def test_scores_are_numbers_that_json_takes():
    assert {type(value) for value in compute_scores(*drawn(10)).values()} == {float}


def interval(correct: int, images: int) -> tuple[float, float]:
    bounds = accuracy_interval(np.ones(images, int), np.where(np.arange(images)[:, None] < correct, [0, 1], [1, 0]))
    return bounds["accuracy_low"], bounds["accuracy_high"]


@pytest.mark.parametrize(("correct", "images"), [(0, 1), (1, 1), (3, 10), (107, 107), (8_859, 10_000)])
def test_the_interval_of_an_accuracy_is_wilsons(correct, images):
    # The two proportions that lie 1.96 of their own standard errors from the one seen.
    z, share = 1.959963984540054, correct / images
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * np.sqrt(share * (1 - share) / images + (z / images) ** 2 / 4)
    assert interval(correct, images) == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_the_interval_holds_its_accuracy_and_ends_within_0_and_1():
    for correct in range(11):
        low, high = interval(correct, 10)
        assert 0 <= low <= correct / 10 <= high <= 1
    assert (interval(0, 10)[0], interval(10, 10)[1]) == (0, 1)


def test_the_interval_holds_the_true_accuracy_in_95_of_100_draws():
    shares = {}
    for true in (0.5, 0.9, 0.97):
        holds = [low <= true <= high for low, high in (interval(correct, 100) for correct in range(101))]
        shares[true] = float(np.dot(holds, stats.binom.pmf(np.arange(101), 100, true)))
    assert shares == pytest.approx(dict.fromkeys(shares, 0.95), abs=0.02)


def test_an_accuracy_is_told_with_its_interval_where_it_has_one():
    assert describe_accuracy({"accuracy": 0.88594}) == "accuracy 0.8859"
    scores = {"accuracy": 0.88594, "accuracy_low": 0.87952, "accuracy_high": 0.892}
    assert describe_accuracy(scores) == "accuracy 0.8859 (95 %: 0.8795 to 0.8920)"


@pytest.mark.parametrize(("classes", "told"), [(3, False), (5, False), (6, True), (10, True)])
def test_top5_accuracy_is_told_for_more_than_five_classes(classes, told):
    assert ("top5_accuracy" in compute_scores(*drawn(classes))) == told


def test_top5_accuracy_by_hand():
    # The label is the most likely class, the fifth, and the sixth.
    order = np.array([0.3, 0.25, 0.2, 0.12, 0.08, 0.05])
    result = compute_scores(np.array([0, 4, 5, 5]), np.tile(order, (4, 1)))
    assert result["top5_accuracy"] == 2 / 4
    assert result["accuracy"] == 1 / 4


def test_a_class_without_images_does_not_count_in_the_macro_averages():
    result = compute_scores(np.array([0, 1, 1]), np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]]))
    assert (result["accuracy"], result["macro_precision"]) == (pytest.approx(2 / 3), 1)
    assert result["macro_recall"] == pytest.approx((1 + 1 / 2) / 2)
    assert result["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_probability_of_zero_costs_much_and_not_infinity():
    result = compute_scores(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert result["loss"] == pytest.approx(-np.log(np.finfo(np.float64).tiny) / 2)


def test_per_class_by_hand():
    rows = class_scores(LABELS, PREDICTED, CLASSES)
    expected = [("cat", 1, 1 / 2, 2 / 3, 2), ("dog", 1 / 3, 1, 1 / 2, 1), ("frog", 0, 0, 0, 1)]
    assert [row["class"] for row in rows] == CLASSES, "the best F1 first"
    for row, (_, precision, recall, f1, count) in zip(rows, expected, strict=True):
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx((precision, recall, f1))
        assert row["images"] == count


def test_per_class_puts_the_best_first():
    rows = class_scores(np.array([0, 1, 2]), np.eye(3)[[1, 1, 2]], CLASSES)
    assert [row["class"] for row in rows] == ["frog", "dog", "cat"]


def test_scores_side_by_side_are_those_of_each():
    measured = {"val": compute_scores(*drawn(3, seed=1)), "test": compute_scores(*drawn(3, seed=2))}
    rows = score_rows(measured)
    assert [(row["of"], row["score"]) for row in rows] == [
        (name, score) for name in measured for score in ("accuracy", "precision", "recall", "F1")
    ]
    assert [row["value"] for row in rows[4:]] == [
        measured["test"][name] for name in ("accuracy", "macro_precision", "macro_recall", "macro_f1")
    ]
    assert [(row["low"], row["high"]) for row in rows] == [(None, None)] * 8


def test_scores_side_by_side_have_the_interval_of_an_accuracy_that_has_one():
    labels, predicted = drawn(3)
    bounds = accuracy_interval(labels, predicted)
    rows = score_rows({"test": compute_scores(labels, predicted) | bounds})
    assert [(row["low"], row["high"]) for row in rows] == [tuple(bounds.values()), *[(None, None)] * 3]


def test_per_class_averages_to_the_macro_scores():
    labels, predicted = drawn(10)
    rows = class_scores(labels, predicted, [str(number) for number in range(10)])
    result = compute_scores(labels, predicted)
    for name in ("precision", "recall", "f1"):
        assert np.mean([row[name] for row in rows]) == pytest.approx(result[f"macro_{name}"])
    assert sum(row["images"] for row in rows) == 200


def test_confusion_has_a_row_for_each_image_in_order():
    assert confusion_rows(LABELS, PREDICTED, CLASSES) == [
        {"actual": "cat", "predicted": "cat"},
        {"actual": "cat", "predicted": "dog"},
        {"actual": "dog", "predicted": "dog"},
        {"actual": "frog", "predicted": "dog"},
    ]


def test_confusion_by_superclass_counts_classes_of_one_superclass_together():
    assert confusion_rows(LABELS, PREDICTED, ["pet", "pet", "amphibian"]) == [
        {"actual": "pet", "predicted": "pet"},
        {"actual": "pet", "predicted": "pet"},
        {"actual": "pet", "predicted": "pet"},
        {"actual": "amphibian", "predicted": "pet"},
    ]


def test_confusion_counts_as_scikit_learn_does():
    labels, predicted = drawn(4)
    names = ["a", "b", "c", "d"]
    counts = np.zeros((4, 4), int)
    for row in confusion_rows(labels, predicted, names):
        counts[names.index(row["actual"]), names.index(row["predicted"])] += 1
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(labels, predicted.argmax(axis=1)))


def test_logits_are_of_all_examples_also_of_the_last_short_batch():
    seed_initialisers(0, "test")
    model = build_head(6, 5, 0.5, 3)
    x = np.random.default_rng(0).normal(size=(11, 6)).astype("float32")
    found = predict_logits(model, x, batch_size=4)
    np.testing.assert_allclose(found, np.asarray(model(x, training=False)), rtol=1e-5)
    assert found.dtype == np.float32


def test_calibration_by_hand():
    # Confidences 0.9 and 0.85, of which one is right, and 0.55, which is.
    predicted = np.array([[0.9, 0.1], [0.85, 0.15], [0.45, 0.55]])
    rows = calibration_bins(np.array([0, 1, 1]), predicted, bins=5)
    assert [row["images"] for row in rows] == [1, 2]
    assert [(row["from"], row["to"]) for row in rows] == [(2 / 5, 3 / 5), (4 / 5, 1)]
    assert [row["confidence"] for row in rows] == pytest.approx([0.55, 0.875])
    assert [row["accuracy"] for row in rows] == [1, 0.5]
    assert calibration_error(rows) == pytest.approx((1 * 0.45 + 2 * 0.375) / 3)


def test_a_confidence_on_the_edge_of_two_bins_belongs_to_the_lower():
    rows = calibration_bins(np.array([0, 0]), np.array([[0.6, 0.4], [1.0, 0.0]]), bins=5)
    assert [row["to"] for row in rows] == [3 / 5, 1]


def test_probabilities_that_labels_are_drawn_from_are_calibrated_and_their_squares_are_not():
    generator = np.random.default_rng(0)
    predicted = generator.dirichlet(np.ones(4), 20_000)
    labels = (predicted.cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    assert calibration_error(calibration_bins(labels, predicted)) < 0.015
    sharper = predicted**2 / (predicted**2).sum(axis=1, keepdims=True)
    assert calibration_error(calibration_bins(labels, sharper)) > 0.1


def test_confused_pairs_count_both_directions_the_most_first():
    labels = np.array([0, 1, 1, 2, 2, 2])
    predicted = np.eye(3)[[1, 0, 1, 1, 2, 2]]
    assert confused_pairs(labels, predicted, CLASSES) == [
        {"pair": "cat, dog", "images": 2},
        {"pair": "dog, frog", "images": 1},
    ]
    assert len(confused_pairs(labels, predicted, CLASSES, most=1)) == 1


def test_nothing_is_confused_where_all_is_right():
    assert confused_pairs(np.arange(3), np.eye(3), CLASSES) == []


def test_the_gallery_takes_the_images_of_a_class_as_they_come():
    np.testing.assert_array_equal(gallery_rows(np.array([2, 0, 2, 1, 2]), 2, most=2), [0, 2])


def test_mistakes_come_by_confidence_and_right_answers_not_at_all():
    predicted = np.array([[0.9, 0.1, 0], [0.2, 0.6, 0.2], [0.05, 0.95, 0], [0.3, 0.4, 0.3]])
    np.testing.assert_array_equal(misclassified_rows(np.array([0, 0, 0, 2]), predicted), [2, 1, 3])


def test_a_row_of_predictions_holds_what_is_predicted_and_all_probabilities_to_the_last_bit():
    rows = prediction_rows(np.array([4, 7, 8, 9]), LABELS, PREDICTED, CLASSES)
    assert rows[1] == {
        "index": 7, "label": 0, "class": "cat", "predicted": "dog", "confidence": 0.5,
        "p_cat": 0.2, "p_dog": 0.5, "p_frog": 0.3,
    }  # fmt: skip
    assert [[row[f"p_{name}"] for name in CLASSES] for row in rows] == PREDICTED.tolist()
    assert list(rows[0])[: len(PREDICTION)] == PREDICTION


def test_a_class_may_have_the_name_of_a_column():
    row = prediction_rows(np.arange(1), np.zeros(1, int), np.array([[0.25, 0.75]]), ["label", "confidence"])[0]
    assert (row["label"], row["class"], row["confidence"]) == (0, "label", 0.75)
    assert (row["p_label"], row["p_confidence"]) == (0.25, 0.75)
