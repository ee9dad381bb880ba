"""Scores of the final model: what a temperature changes of them."""

import numpy as np

from thaw.evaluation.final import _calibration
from thaw.evaluation.scores import calibration_bins, compute_scores
from thaw.network.inference import softmax


def test_errors_losses_and_bins_are_told_with_the_temperature_and_without_it():
    generator = np.random.default_rng(0)
    logits = 4 * generator.normal(size=(5000, 4))
    labels = (softmax(logits, 2.0).cumsum(axis=1) < generator.random((5000, 1))).sum(axis=1)
    scores, table = _calibration(labels, logits, 2.0)
    assert scores["calibration_error"] < 0.02 < 0.08 < scores["calibration_error_uncalibrated"]
    assert scores["loss_uncalibrated"] == compute_scores(labels, softmax(logits))["loss"]
    for name, temperature in (("calibrated", 2.0), ("uncalibrated", 1.0)):
        bins = calibration_bins(labels, softmax(logits, temperature))
        assert [row for row in table if row["probabilities"] == name] == [
            {"probabilities": name, **row} for row in bins
        ]
    assert list(table[0])[0] == "probabilities"
