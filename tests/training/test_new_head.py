"""The head of a phase: new, or what an earlier model has learnt."""

import numpy as np
import pytest

from tests.helpers.examples import points, small_network, training
from thaw.config.schema import Head
from thaw.data.examples import TrainingData
from thaw.network.build import Network
from thaw.network.checkpoint import CheckpointInfo
from thaw.network.seeds import seed_initialisers
from thaw.training.phase import _attach_head

CLASSES = ["cat", "dog", "frog"]
# As many features as the small network has.
DATA = points(60, width=16, spread=0.4)


def start(network: Network, info: CheckpointInfo, classes: list[str], **chosen) -> str:
    usual = {"name": "gap", "pool": "avg", "units": None, "dropout": 0.0, "mixup": 0.0}
    section = Head(**training().model_dump() | usual | chosen)
    return _attach_head(network, info, section, 0, {"pool": "avg", "classes": classes}, TrainingData(0, [DATA], DATA))


def accuracy(network: Network, classes: list[str]) -> float:
    """The share of right classes, by name."""
    predicted = np.asarray(network.head(DATA.inputs)).argmax(axis=1)
    return float(
        np.mean([classes[guess] == CLASSES[label] for guess, label in zip(predicted, DATA.labels, strict=True)])
    )


@pytest.fixture
def finished() -> tuple[Network, CheckpointInfo]:
    """A model that knows the classes, by the nearest mean of their features, as the stage backbone hands it on."""
    network, info = small_network(), CheckpointInfo({}, {"origin": "none"})
    assert start(network, info, CLASSES) == ""
    assert accuracy(network, CLASSES) < 0.5, "a new head"
    scaled = DATA.inputs * info.head["scale"]
    means = np.stack([scaled[DATA.labels == label].mean(axis=0) for label in range(len(CLASSES))], axis=1)
    network.head.get_layer("logits").set_weights([2 * means, -np.sum(means**2, axis=0)])
    assert accuracy(network, CLASSES) > 0.9
    info.weights = {"origin": "checkpoint"}
    return network, info


@pytest.mark.parametrize("classes", [CLASSES, ["frog", "bird", "dog", "cat"]])
def test_a_head_starts_at_the_accuracy_of_the_finished_model(finished, classes):
    network, info = finished
    before, scale = accuracy(network, CLASSES), info.head["scale"]
    told = start(network, info, classes)
    assert told.startswith("keeps the output of ")
    assert told.endswith("; new classes: bird" if "bird" in classes else "; new classes: none")
    assert (info.classes, info.head["scale"], info.history) == (classes, scale, [])
    assert accuracy(network, classes) == before


def test_a_head_of_other_layers_is_new_and_measures_its_features_again(finished):
    network, info = finished
    info.head["scale"] = 123.0
    assert start(network, info, CLASSES, units=4) == "a new head: head.units is 4, null in the checkpoint"
    assert info.head["scale"] < 123
    assert accuracy(network, CLASSES) < 0.5


def test_the_head_of_a_source_task_is_not_kept(finished):
    network, info = finished
    info.weights = {"origin": "imagenet", "source": {}}
    assert start(network, info, CLASSES) == ""
    assert accuracy(network, CLASSES) < 0.5


def test_a_head_starts_the_same_each_time(finished):
    network, info = finished
    before = network.head, info.head, info.classes
    values = []
    for number in (1, 2):
        network.head, info.head, info.classes = before
        seed_initialisers(number, "something else")
        start(network, info, ["frog", "bird", "dog", "cat"])
        values.append(network.head.get_weights())
    for one, other in zip(*values, strict=True):
        np.testing.assert_array_equal(one, other)
