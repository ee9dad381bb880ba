"""The temperature of a phase: the one that the cross-entropy on validation is least at, and 1 where there is none."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.examples import data, example_images, extraction, run, small_network, training
from tests.helpers.project import ROOT
from thaw import paths
from thaw.config.compose import compose
from thaw.config.schema import Extract, Params
from thaw.data.stored import phase_data
from thaw.extraction.extract import extract_features
from thaw.network.build import Network
from thaw.network.checkpoint import CheckpointInfo, read_checkpoint_info
from thaw.network.inference import predict_logits, softmax
from thaw.network.seeds import seed_initialisers
from thaw.runtime.resume import State
from thaw.training import phase
from thaw.training.calibration import RANGE, fit_temperature, validation_temperature
from thaw.training.loop import train_network
from thaw.training.phase import PreparedPhase, train_phase

CLASSES = ["cat", "dog", "frog", "horse"]


def drawn(count: int, sharpened: float = 1.0, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn from the probabilities of the logits before they were multiplied."""
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=(count, classes))
    labels = (softmax(logits).cumsum(axis=1) < generator.random((count, 1))).sum(axis=1)
    return (logits * sharpened).astype(np.float32), labels.astype(np.int32)


@pytest.mark.parametrize("sharpened", [0.2, 1.0, 3.0, 30.0])
def test_logits_that_were_multiplied_are_divided_by_as_much(sharpened):
    assert fit_temperature(*drawn(20_000, sharpened)) == pytest.approx(sharpened, rel=0.02)


@pytest.mark.parametrize("count", [3, 40, 2000])
def test_no_temperature_of_a_grid_has_a_lower_loss(count):
    logits, labels = drawn(count, 1.7)

    def loss(temperature: float) -> float:
        return -np.log(softmax(logits, temperature)[np.arange(count), labels] + 1e-300).mean()

    assert loss(fit_temperature(logits, labels)) <= min(map(loss, np.geomspace(*RANGE, 500))) + 1e-6


def test_the_classes_keep_their_order_at_any_temperature():
    logits, _ = drawn(500)
    order = np.argsort(logits, axis=1)
    for temperature in (*RANGE, 0.37, 1.0, 2.9):
        predicted = softmax(logits, temperature)
        np.testing.assert_array_equal(predicted.argmax(axis=1), order[:, -1])
        assert (np.diff(np.take_along_axis(predicted, order, axis=1)) >= 0).all()


def test_the_temperature_is_the_same_each_time_and_has_four_digits():
    logits, labels = drawn(300, 1.3)
    found = fit_temperature(logits, labels)
    assert found == fit_temperature(logits.copy(), labels) == float(f"{found:.4g}")
    assert type(found) is float, "which JSON takes"


SURE = np.float32([[9, 0, 0], [0, 7, 0], [0, 0, 8]])


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (SURE, [0, 1, 2]),
        (SURE[:1], [0]),
        (np.zeros((4, 3), np.float32), [0, 1, 2, 0]),
        (np.float32([[np.nan, 0, 0], [0, 7, 0]]), [1, 1]),
        (np.float32([[0, -np.inf, 0], [0, 7, 0]]), [2, 2]),
        (np.zeros((0, 3), np.float32), []),
    ],
    ids=["all correct", "one image", "an untrained head", "not a number", "infinite", "no image"],
)
def test_where_there_is_no_best_temperature_it_is_1(logits, labels):
    assert fit_temperature(logits, np.array(labels, np.int32)) == 1.0


def test_where_no_image_is_classified_correctly_probabilities_are_almost_equal():
    found = fit_temperature(SURE, np.array([1, 2, 0]))
    assert found == pytest.approx(RANGE[1], rel=1e-3)
    np.testing.assert_allclose(softmax(SURE, found), 1 / 3, atol=0.04)


def test_large_logits_do_no_harm():
    logits, labels = drawn(500)
    assert fit_temperature(logits * 50, labels) == pytest.approx(50 * fit_temperature(logits, labels), rel=1e-3)


TRAIN, VAL = example_images(24), example_images(40, seed=1)
# Images that show two classes at once: some are misclassified.
VAL.inputs[:] = (0.55 * VAL.inputs + 0.45 * VAL.inputs[::-1]).astype(np.uint8)


def started() -> Network:
    network = small_network()
    seed_initialisers(0, "head")
    network.attach("avg", None, 0.3, len(CLASSES))
    return network


def of_images(network: Network) -> float:
    """The temperature for all of a network, from images."""
    return fit_temperature(predict_logits(network.classifier(), VAL.inputs, 8), VAL.labels)


def test_stored_activations_give_the_temperature_of_the_images(tmp_path, capsys):
    network = small_network()
    settings = Extract(cuts=[0, 1], budget_gb=1.0, dtype="float32", batch_size=8)
    extract_features(tmp_path / "features", network, extraction(TRAIN, VAL, settings))
    network = started()
    network.freeze(len(network.order))
    train_network(network, run(training(epochs=3, learning_rate=0.02)), data(TRAIN, VAL))
    capsys.readouterr()
    expected = of_images(network)
    assert expected != 1
    for depth in (0, 1):
        stored = phase_data(tmp_path / "features", depth, CLASSES)
        assert stored.depth == depth
        assert validation_temperature(network, stored, "train_head", 8) == pytest.approx(expected, rel=1e-3)
    said = f"train_head: temperature {expected:.3g}"
    assert all(line.startswith(said[:-1]) for line in capsys.readouterr().out.splitlines())


class Killed(Exception):
    pass


class Opened(State):
    """State as `shared_state` gives it, that is kept."""

    def __enter__(self) -> State:
        return self

    def __exit__(self, *error) -> None:
        pass


def run_phase(network: Network, monkeypatch) -> None:
    """A phase that starts from a network, in the working directory."""
    info = CheckpointInfo(backbone={}, weights={}, head={}, classes=CLASSES, temperature=7.0)
    settings = run(training(epochs=2, learning_rate=0.01, average=0.8), batch_norm="train")
    prepared = PreparedPhase(network, info, data(TRAIN, VAL), settings)
    monkeypatch.setattr(phase, "prepare_phase", lambda params, name: prepared)
    monkeypatch.setattr(phase, "shared_state", lambda *given: Opened("unfreeze@all", Path("state")))
    train_phase(Params.model_validate(compose(["schedule=full"], ROOT / "conf")), "all")


def test_a_phase_keeps_the_temperature_of_its_weights_also_where_it_was_killed_before_that(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "dvclive", None)
    fitted = []

    def kill(*given):
        fitted.append(validation_temperature(*given))
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(phase, "validation_temperature", kill)
        run_phase(started(), patched)
    assert not paths.model("all").exists()
    network = started()
    run_phase(network, monkeypatch)
    (temperature,) = fitted
    assert read_checkpoint_info(paths.model("all")).temperature == temperature
    assert temperature == pytest.approx(of_images(network), rel=1e-3) != 1
