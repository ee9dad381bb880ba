"""A phase: how long it trains, and what it tells and records."""

import json
import sys
from pathlib import Path

import pytest

from tests.helpers.examples import data, example_images, small_network
from tests.helpers.project import ROOT
from thaw import paths
from thaw.config.compose import compose
from thaw.config.schema import Params
from thaw.network.checkpoint import CheckpointInfo
from thaw.network.seeds import seed_initialisers
from thaw.runtime.resume import State
from thaw.training import phase

CLASSES = ["cat", "dog", "frog", "horse"]
# 16 images in batches of 8: two steps an epoch.
EXAMPLES = data(example_images(16), example_images(8, seed=1))


class Opened(State):
    """State as `open_state` gives it."""

    def __enter__(self) -> State:
        return self

    def __exit__(self, *error) -> None:
        pass


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Trains the phase `all` of a small network, with some overrides; its metrics, and the lines that it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "dvclive", None)
    seed_initialisers(0, "test")
    network = small_network()
    network.attach("avg", None, 0.0, len(CLASSES))
    network.freeze(0)
    info = CheckpointInfo(backbone={}, weights={}, head={}, classes=CLASSES)
    given = {
        "load_checkpoint": (network, info),
        "thaw_network": 2,
        "_refuse_other_features": None,
        "read_features_info": {"classes": CLASSES, "pool": "avg"},
        "phase_data": EXAMPLES,
        "class_names": CLASSES,
        "shared_state": Opened("unfreeze@all", Path("state")),
    }
    for name, value in given.items():
        monkeypatch.setattr(phase, name, lambda *arguments, value=value, **options: value)

    def run(*overrides: str) -> tuple[dict, list[str]]:
        usual = ["schedule=full", "batch_size=8", "schedule.phases.all.epochs=2"]
        phase.train_phase(Params.model_validate(compose([*usual, *overrides], ROOT / "conf")), "all")
        metrics = json.loads((paths.METRICS / "phases/all.json").read_text(encoding="utf-8"))
        return metrics, capsys.readouterr().out.splitlines()

    return run


def test_a_phase_of_few_images_has_the_least_number_of_steps_and_says_and_records_how_it_comes_by_them(train):
    metrics, lines = train("min_steps=9")
    assert "unfreeze@all: 5 epochs of 2 steps in place of 2, for min_steps 9" in lines
    assert metrics["max_epochs"] == {"all": 5}
    assert any("epoch 5/5" in line for line in lines)


def test_a_phase_records_which_epoch_it_kept_and_that_it_kept_its_start(train):
    metrics, lines = train("min_steps=0", "schedule.phases.all.learning_rate=1e-12")
    assert metrics["best_epoch"] == {"all": 0}
    assert "unfreeze@all: no epoch was better on validation than the start, which is kept" in lines
    metrics, lines = train("min_steps=12", "schedule.phases.all.learning_rate=0.01")
    assert metrics["best_epoch"]["all"] > 0
    assert not any("kept" in line for line in lines)


@pytest.mark.parametrize(
    ("weights", "said"),
    [("{horse: 2, 0: 0.5, dog: 3}", "cat 0.5, dog 3, frog 1, horse 2"), ("balanced", "cat 1, dog 1, frog 1, horse 1")],
)
def test_a_phase_says_what_each_class_weighs(train, weights, said):
    _, lines = train("min_steps=0", "schedule.phases.all.epochs=1", f"class_weights={weights}")
    assert f"unfreeze@all: class weights {said}" in lines


def test_a_phase_with_steps_enough_has_its_own_epochs(train):
    metrics, lines = train("min_steps=4")
    assert metrics["max_epochs"] == {"all": 2}
    assert not any("in place of" in line for line in lines)
