"""A new head takes over what an earlier one has learnt, by the names of the classes."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from tests.helpers.examples import scramble, small_network
from thaw.network.build import Network, build_head
from thaw.network.checkpoint import CheckpointInfo
from thaw.network.heads import EarlierHead

EARLIER = ["cat", "dog", "frog", "horse"]
FEATURES = np.random.default_rng(0).normal(size=(200, 6)).astype("float32")


def earlier(units: int | None = 5) -> EarlierHead:
    model = build_head(6, units, 0.5, len(EARLIER), scale=0.25)
    scramble(model, seed=1)
    return EarlierHead(model, {"pool": "avg", "units": units, "dropout": 0.5, "scale": 0.25}, EARLIER)


def handed_over(of: EarlierHead, classes: list[str]) -> keras.Model:
    """A new head, of another dropout, for these classes."""
    head = build_head(6, of.settings["units"], 0.0, len(classes), of.scale)
    scramble(head, seed=2)
    of.hand_over(head, classes)
    return head


def logits(head: keras.Model) -> np.ndarray:
    return np.asarray(head(FEATURES))


@pytest.mark.parametrize("units", [None, 5])
@pytest.mark.parametrize("classes", [EARLIER, ["horse", "cat", "frog", "dog"], ["frog", "cat"]])
def test_a_class_of_the_same_name_keeps_its_logit_whatever_the_order(units, classes):
    of = earlier(units)
    expected = logits(of.model)[:, [EARLIER.index(name) for name in classes]]
    np.testing.assert_allclose(logits(handed_over(of, classes)), expected, rtol=1e-6)


@pytest.mark.parametrize("units", [None, 5])
def test_a_new_class_starts_with_the_mean_logit_of_those_that_are_kept(units):
    of = earlier(units)
    before = logits(of.model)[:, [3, 1, 0]]
    after = logits(handed_over(of, ["bird", "horse", "dog", "mouse", "cat"]))
    np.testing.assert_allclose(after[:, [1, 2, 4]], before, rtol=1e-6)
    np.testing.assert_allclose(after[:, [0, 3]], before.mean(axis=1, keepdims=True).repeat(2, axis=1), atol=1e-5)
    predicted = np.array(["bird", "horse", "dog", "mouse", "cat"])[after.argmax(axis=1)]
    assert list(predicted) == [["horse", "dog", "cat"][best] for best in before.argmax(axis=1)]


def test_without_a_class_of_both_the_hidden_layer_alone_is_copied():
    of, classes = earlier(), ["bird", "mouse"]
    untouched = build_head(6, 5, 0.0, 2, of.scale)
    scramble(untouched, seed=2)
    head = handed_over(of, classes)
    for name, other in (("hidden", of.model), ("logits", untouched)):
        for value, expected in zip(
            head.get_layer(name).get_weights(), other.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize(
    ("settings", "classes", "words"),
    [
        ({"units": 8}, EARLIER, "head.units is 8, 5 in the checkpoint"),
        ({"units": None}, EARLIER, "head.units is null, 5 in the checkpoint"),
        ({"pool": "flatten"}, EARLIER, "head.pool is flatten, avg in the checkpoint"),
        ({}, ["bird", "mouse"], ""),
        ({}, EARLIER, ""),
    ],
)
def test_a_head_of_other_layers_takes_nothing_over_and_that_is_said(settings, classes, words):
    assert earlier().misfit(**{"pool": "avg", "units": 5} | settings, classes=classes) == words


def test_a_head_without_a_hidden_layer_needs_a_class_of_both():
    assert earlier(None).misfit("avg", None, ["bird", "mouse"]) == "no class is one of the checkpoint's"
    assert earlier(None).misfit("avg", None, ["bird", "cat"]) == ""


@pytest.mark.parametrize(
    ("units", "classes", "words"),
    [
        (5, ["dog", "bird", "cat"], "the hidden layer and the output of dog, cat; new classes: bird"),
        (None, ["dog", "cat"], "the output of dog, cat; new classes: none"),
        (5, ["bird", "mouse"], "the hidden layer; new classes: bird, mouse"),
        (
            5,
            ["dog", *map(str, range(11))],
            "the hidden layer and the output of dog; new classes: 11 classes, such as 0",
        ),
    ],
)
def test_what_is_kept_is_described(units, classes, words):
    assert earlier(units).describe(classes) == words


def of_origin(origin: str) -> tuple[Network, CheckpointInfo]:
    network = small_network()
    head = {"pool": "avg", "units": None, "dropout": 0.0}
    network.attach(**head, classes=len(EARLIER))
    return network, CheckpointInfo({}, {"origin": origin}, head, EARLIER)


def test_the_head_of_a_checkpoint_is_taken_over_and_that_of_a_source_task_is_not():
    network, info = of_origin("checkpoint")
    found = EarlierHead.of(network, info)
    assert (found.model, found.classes, found.scale) == (network.head, EARLIER, 1.0)
    assert EarlierHead.of(*of_origin("none")) is None
    assert EarlierHead.of(small_network(), replace(info, head=None)) is None
