"""Scores of the final model: what a temperature changes of them, and whether they are of activations or of images."""

import numpy as np
import pytest

from tests.helpers.examples import augment, example_images, extraction, small_network
from thaw import paths
from thaw.config.schema import Extract
from thaw.data.examples import TrainingData
from thaw.data.stored import features_origin
from thaw.evaluation import final
from thaw.evaluation.final import _calibration, _seen_scores, _write_phases
from thaw.evaluation.scores import calibration_bins, compute_scores
from thaw.extraction.extract import extract_features
from thaw.network.checkpoint import CheckpointInfo, block_hashes, save_checkpoint
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


def test_stored_activations_give_the_scores_of_the_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    classes, train, val = ["cat", "dog", "frog", "horse"], example_images(20), example_images(9, seed=1)
    for split in paths.SPLITS_LEARNT:
        split.mkdir(parents=True)
    info, folder = CheckpointInfo(backbone={}, weights={}, classes=classes, temperature=1.5), paths.model("top")
    network = small_network()
    save_checkpoint(paths.BACKBONE, info, network)
    of = extraction(
        train, val, Extract(cuts=[0, 1], budget_gb=1.0, dtype="float32", batch_size=8),
        origin=features_origin(block_hashes(paths.BACKBONE), augment()),
    )  # fmt: skip
    extract_features(paths.FEATURES, network, of)
    network.attach("avg", None, 0.0, len(classes))
    kernel = network.blocks[1].layers[1].kernel
    kernel.assign(1.5 * kernel)
    save_checkpoint(folder, info, network)
    # Every third of 20, which are 7.
    monkeypatch.setattr(final, "TRAINING_SAMPLE", 7)
    capsys.readouterr()
    stored = _seen_scores(network, folder, info, 8)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "evaluate: train and val from activations stored at depth 1"
    assert [line.split(" images")[0] for line in said[1:]] == ["evaluate: train, 7", "evaluate: val, 9"]
    monkeypatch.setattr(final, "unaugmented_data", lambda *given: TrainingData(None, [train], val))
    for split, scores in _seen_scores(network, folder, info, 8).items():
        assert stored[split] == pytest.approx(scores, rel=1e-4)
    assert "stored" not in capsys.readouterr().out
