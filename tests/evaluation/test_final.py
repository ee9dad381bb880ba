"""Scores of the final model: what a temperature changes of them."""

import numpy as np

from thaw.evaluation.final import _calibration, _write_phases
from thaw.evaluation.scores import calibration_bins, compute_scores
from thaw.network.checkpoint import CheckpointInfo
from thaw.network.history import COLUMNS
from thaw.network.inference import softmax
from thaw.runtime.tables import read_table


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


def test_the_table_of_phases_tells_which_epoch_each_kept_and_0_for_its_start(tmp_path):
    def rows(phase: str, first: int, best: list[bool]) -> list[dict]:
        numbers = dict.fromkeys(COLUMNS[2:], 0.5)
        return [{"epoch": first + n, "phase": phase, **numbers, "best": flag} for n, flag in enumerate(best)]

    history = [*rows("head", 0, [False, False, True]), *rows("top", 2, [True, False]), *rows("all", 3, [True])]
    thawed = {"head": "nothing but the head", "top": "block4", "all": "all blocks"}
    _write_phases(tmp_path, CheckpointInfo(backbone={}, weights={}, history=history, thawed=thawed))
    assert read_table(tmp_path / "phases.csv") == [
        {"phase": "head", "trainable": "nothing but the head", "epochs": "2", "best_epoch": "2"},
        {"phase": "top", "trainable": "block4", "epochs": "1", "best_epoch": "0"},
        {"phase": "all", "trainable": "all blocks", "epochs": "0", "best_epoch": "0"},
    ]
