"""A training run: its learning rate, the epoch it keeps, when it stops, and that it can be repeated."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from tests.helpers.examples import (
    DataByEpoch,
    OnRows,
    augment,
    data,
    example_images,
    points,
    run,
    small_network,
    training,
)
from thaw.config.schema import Head
from thaw.data.examples import Examples
from thaw.errors import ThawError
from thaw.network.build import build_head
from thaw.network.history import Row, best_epoch, best_row, kept_start
from thaw.network.seeds import seed_initialisers
from thaw.runtime.resume import State
from thaw.training import loop
from thaw.training.adam import Adam
from thaw.training.class_weights import class_weight_array, describe_class_weights
from thaw.training.feed import BatchPlan, Feed
from thaw.training.loop import Run, Trained, TrainingLoop, steps_at_once, train_network
from thaw.training.reporting import EpochEnd, Observer, Printer
from thaw.training.schedules import rate_schedule, warmup_steps, with_min_steps

TRAIN, VAL = points(48, spread=0.4), points(21, seed=1, spread=0.4)
# Labels that undo what was learnt.
WRONG = Examples(TRAIN.inputs, (TRAIN.labels + 1) % 3)


def new_head(dropout: float = 0.0) -> keras.Model:
    seed_initialisers(0, "test")
    return build_head(TRAIN.inputs.shape[1], None, dropout, 3)


def fit(
    model: keras.Model, of: Run, views: Callable[[int], Examples] = lambda epoch: TRAIN, val: Examples = VAL
) -> list[Row]:
    return TrainingLoop(model, of, DataByEpoch(None, views, val), [Printer(of.stage, of.training)]).run()


def wrong_from(first: int) -> Callable[[int], Examples]:
    """Views that teach up to an epoch and undo it from there on; in many small steps, at once."""
    return lambda epoch: WRONG if epoch >= first else TRAIN


@cache
def good_weights() -> list[np.ndarray]:
    head = new_head()
    fit(head, run(training(epochs=8, learning_rate=0.05)))
    return head.get_weights()


def learnt() -> keras.Model:
    """A head that is as good as it gets, so that training on wrong labels can only make it worse."""
    head = new_head()
    head.set_weights(good_weights())
    return head


def accuracy(model: keras.Model, examples: Examples) -> float:
    logits = np.asarray(model(examples.inputs.astype("float32"), training=False))
    return float(np.mean(logits.argmax(axis=1) == examples.labels))


def assert_equal_weights(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def cosine(**chosen) -> list[float]:
    """The learning rate at every step and at the end of the last, of a run of 10 steps an epoch."""
    settings = training(lr_schedule="cosine", **chosen)
    schedule = rate_schedule(settings, steps=10)
    return [float(schedule(step)) for step in range(settings.epochs * 10 + 1)]


def test_a_constant_learning_rate_has_neither_warm_up_nor_decay():
    assert rate_schedule(training(learning_rate=0.1, warmup_epochs=2.0), steps=10) == 0.1


@pytest.mark.parametrize(("first", "final"), [(0.1, 0.0), (0.1, 0.02), (0.02, 0.1)])
def test_a_cosine_leads_from_the_first_to_the_final_rate(first, final):
    rates = cosine(epochs=2, learning_rate=first, final_learning_rate=final)
    expected = [final + (first - final) * (1 + np.cos(np.pi * step / 20)) / 2 for step in range(21)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("schedule", "steps"), [("cosine", 15), ("constant", 0)])
def test_warm_up_is_told_in_steps(schedule, steps):
    assert warmup_steps(training(lr_schedule=schedule, warmup_epochs=1.5), steps=10) == steps


@pytest.mark.parametrize(
    ("min_steps", "epochs", "warmup", "patience"),
    [(0, 4, 1.0, 3), (40, 4, 1.0, 3), (41, 5, 1.25, 4), (200, 20, 5.0, 15)],
)
def test_a_run_with_fewer_steps_than_the_least_has_more_whole_epochs_of_the_same_course(
    min_steps, epochs, warmup, patience
):
    given = training(epochs=4, warmup_epochs=1.0, patience=3, lr_schedule="cosine", average=0.9)
    found = with_min_steps(given, min_steps, steps=10)
    expected = {"epochs": epochs, "warmup_epochs": warmup, "patience": patience}
    assert found == given.model_copy(update=expected)
    assert warmup_steps(found, 10) == pytest.approx(10 * found.epochs / 4, abs=1), "the share of warm-up stays"


def test_a_run_that_never_stops_early_or_trains_nothing_stays_so_with_a_least_number_of_steps():
    assert with_min_steps(training(epochs=1, patience=None), 200, steps=4).patience is None
    untrained = training().model_copy(update={"epochs": 0})
    assert with_min_steps(untrained, 200, steps=4) is untrained
    # No step: the loop refuses the batch size.
    assert with_min_steps(training(), 200, steps=0) == training()


def test_the_learning_rate_follows_the_schedule_through_all_epochs_and_rows_tell_it_halfway_through_each(monkeypatch):
    made = []
    monkeypatch.setattr(loop, "Adam", lambda *options: made.append(Adam(*options)) or made[-1])
    first, *rest = fit(new_head(), run(training(epochs=2, learning_rate=0.1, lr_schedule="cosine")))
    assert int(made[0].iterations) == 12, "and does not start anew in each epoch"
    assert float(made[0].learning_rate) == pytest.approx(0, abs=1e-7)
    assert first["learning_rate"] is None
    expected = [0.05 * (1 + np.cos(np.pi * share)) for share in (0.25, 0.75)]
    assert [row["learning_rate"] for row in rest] == pytest.approx(expected, rel=1e-4)


def test_averages_are_validated_and_kept_and_training_starts_from_the_weights_themselves():
    settings = training(epochs=3, learning_rate=0.05)
    plain, averaged = new_head(), new_head()
    before = plain.get_weights()
    loops = [
        TrainingLoop(head, run(of), data(TRAIN, VAL))
        for head, of in ((plain, settings), (averaged, settings.model_copy(update={"average": 0.9})))
    ]
    rows, rows_averaged = (each.run() for each in loops)
    for row, other in zip(rows, rows_averaged, strict=True):
        assert row["train_loss"] == other["train_loss"], "the same weights are trained"
    assert [row["val_loss"] for row in rows[1:]] != [row["val_loss"] for row in rows_averaged[1:]]
    best = best_row(rows_averaged)
    assert accuracy(averaged, VAL) == pytest.approx(best["val_accuracy"])
    assert not any(np.array_equal(old, new) for old, new in zip(before, averaged.get_weights(), strict=True))


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="this is that run")
def test_averages_are_kept_on_jax_too():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        __file__,
        "-k",
        "averages_are_validated",
    ]
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    result = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_a_phase_that_carries_moments_on_is_as_one_run():
    """With a constant rate, and no order of examples but that of the data."""
    settings = training(epochs=2, learning_rate=0.01)
    network = small_network()
    network.attach("avg", None, 0.0, 4)
    network.freeze(0)
    images = example_images(16)
    start = [layer.get_weights() for layer in (*network.layers(), *network.head.layers)]

    def train(epochs: int, moments=None) -> Trained:
        of = run(settings.model_copy(update={"epochs": epochs}), batch_size=16, moments=moments or {})
        return train_network(network, of, data(images, images))

    train(4)
    expected = network.classifier().get_weights()
    for layer, weights in zip((*network.layers(), *network.head.layers), start, strict=True):
        layer.set_weights(weights)
    half = train(2)
    assert {each.steps for each in half.moments.values()} == {2}
    whole = train(2, moments=half.moments)
    assert {each.steps for each in whole.moments.values()} == {4}
    for ours, theirs in zip(network.classifier().get_weights(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_the_weights_of_the_best_epoch_are_restored():
    head = new_head()
    rows = fit(head, run(training(epochs=5, learning_rate=0.05), batch_size=2), wrong_from(3))
    assert len(rows) == 6, "without patience it goes on, bad as it is"
    best = [row for row in rows if row["best"]]
    assert best == [rows[2]], "wrong labels follow"
    assert best[0]["val_accuracy"] == max(row["val_accuracy"] for row in rows) > rows[-1]["val_accuracy"]
    assert accuracy(head, VAL) == pytest.approx(best[0]["val_accuracy"])
    logits = head(VAL.inputs, training=False)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(VAL.labels, logits)
    assert float(loss) == pytest.approx(best[0]["val_loss"], rel=1e-5)


def test_among_epochs_of_one_accuracy_the_lowest_loss_is_best():
    easy = points(48, spread=0.01)
    rows = fit(new_head(), run(training(epochs=6, learning_rate=0.05)), lambda epoch: easy, easy)
    top = [row for row in rows if row["val_accuracy"] == 1.0]
    assert len(top) > 1
    assert [row for row in rows if row["best"]] == [min(top, key=lambda row: row["val_loss"])]


def test_a_run_that_only_does_harm_ends_with_the_weights_that_it_started_from():
    head = learnt()
    before = head.get_weights()
    rows = fit(head, run(training(epochs=2, learning_rate=10.0)), wrong_from(1))
    assert [row["best"] for row in rows] == [True, False, False]
    assert rows[0]["val_accuracy"] > max(rows[1]["val_accuracy"], rows[2]["val_accuracy"])
    assert_equal_weights(head.get_weights(), before)
    assert kept_start(rows)
    assert best_epoch(rows) == 0


def test_a_run_that_keeps_its_start_says_so_and_no_other_does(capsys):
    said = "unfreeze@all: no epoch was better on validation than the start, which is kept"
    fit(learnt(), run(training(epochs=2, learning_rate=10.0)), wrong_from(1))
    assert said in capsys.readouterr().out.splitlines()
    better = fit(new_head(), run(training(epochs=2, learning_rate=0.05)))
    assert best_epoch(better) == 2
    none = fit(new_head(), run(training().model_copy(update={"epochs": 0})))
    assert not kept_start(better) and not kept_start(none)
    assert said not in capsys.readouterr().out.splitlines()


def test_each_epoch_fetches_the_weights_once_and_validates_once(monkeypatch):
    fetched, validated = [], []
    get_weights, evaluate = keras.Model.get_weights, Feed.evaluate
    monkeypatch.setattr(keras.Model, "get_weights", lambda model: fetched.append(1) or get_weights(model))
    monkeypatch.setattr(Feed, "evaluate", lambda *given: validated.append(1) or evaluate(*given))
    fit(new_head(), run(training(epochs=3)))
    assert len(fetched) == len(validated) == 4, "and once before the first epoch"


def test_observers_are_told_in_their_order_once_the_state_is_saved(tmp_path):
    told, state = [], State("unfreeze@all", tmp_path)

    class Listener(Observer):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_start(self, rows: list[Row], resumed: bool) -> None:
            told.append((self.name, "start", len(rows), resumed))

        def on_epoch(self, end: EpochEnd) -> None:
            assert len(state.content["rows"]) == end.epoch + 1
            told.append((self.name, "epoch", end.epoch, len(end.rows) - 1))

        def on_end(self, rows: list[Row], stopped_early: bool) -> None:
            told.append((self.name, "end", best_epoch(rows), stopped_early))

    TrainingLoop(new_head(), run(training(epochs=2)), data(TRAIN, VAL), [Listener("a"), Listener("b")], state).run()
    events = [("start", 1, False), ("epoch", 1, 1), ("epoch", 2, 2), ("end", 2, False)]
    assert told == [(name, *event) for event in events for name in "ab"]


def test_a_run_that_stops_early_says_why(capsys):
    fit(learnt(), run(training(epochs=7, patience=2)), wrong_from(1))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == "unfreeze@all: validation accuracy did not improve in 2 epochs: stopping"


def test_the_first_row_is_of_the_starting_weights():
    head = new_head()
    expected = accuracy(head, VAL)
    seen = []
    rows = TrainingLoop(head, run(), data(TRAIN, VAL), [OnRows(lambda so_far: seen.append(len(so_far)))]).run()
    assert rows[0]["val_accuracy"] == pytest.approx(expected), "the last short batch of validation counted in"
    assert rows[0]["train_loss"] is rows[0]["train_accuracy"] is None
    assert seen == [1, 2, 3, 4], "the curve starts before the first epoch"


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (3, 5)])
def test_patience_counts_from_the_best_epoch(patience, epochs):
    # Wrong labels from epoch 3 on, so that epoch 2 is best.
    rows = fit(new_head(), run(training(epochs=7, learning_rate=0.05, patience=patience), batch_size=2), wrong_from(3))
    assert [row["epoch"] for row in rows] == list(range(epochs + 1))
    assert rows[2]["best"]


@pytest.mark.parametrize(
    ("lr_schedule", "warmup", "epochs"),
    [("cosine", 2.5, 5), ("cosine", 0.0, 2), ("constant", 3.0, 2)],
)
def test_warm_up_does_not_try_the_patience(lr_schedule, warmup, epochs):
    settings = training(epochs=7, learning_rate=0.1, lr_schedule=lr_schedule, warmup_epochs=warmup, patience=2)
    rows = fit(learnt(), run(settings), wrong_from(1))
    assert rows[0]["best"]
    assert len(rows) - 1 == epochs


def test_no_epochs_leave_the_head_as_it_is():
    head = new_head()
    before = head.get_weights()
    settings = Head(name="gap", pool="avg", units=8, dropout=0.0, mixup=0.0, **training().model_dump() | {"epochs": 0})
    for schedule in ("constant", "cosine"):
        rows = fit(head, run(settings.model_copy(update={"lr_schedule": schedule})))
        assert len(rows) == 1
        assert rows[0]["best"]
        assert_equal_weights(head.get_weights(), before)


def test_epochs_are_counted_on_from_the_phases_before_and_patience_is_not():
    settings = training(epochs=8, learning_rate=0.05, patience=1)
    ended = {"epoch": 3, "val_loss": 2.5, "val_accuracy": 0.25, "best": True}
    of = run(settings, phase="later", batch_size=2, history=[ended, ended | {"epoch": 7, "best": False}])
    rows = fit(new_head(), of, wrong_from(3))
    assert [row["epoch"] for row in rows] == [7, 8, 9, 10]
    assert {row["phase"] for row in rows} == {"later"}
    assert (rows[0]["val_loss"], rows[0]["val_accuracy"]) == (2.5, 0.25), "and are not evaluated again"


@cache
def trained(seed: int, stage: str, time: int = 1) -> tuple[list[np.ndarray], list[Row]]:
    """A run with dropout; kept, so that another `time` is another run."""
    of = run(seed=seed, stage=stage)
    head = new_head(dropout=0.5)
    rows = fit(head, of)
    assert not rows[0]["best"], "or there would be nothing to compare"
    return head.get_weights(), rows


def test_two_runs_are_equal_to_the_bit_whatever_was_drawn_between_them():
    first, rows = trained(0, "unfreeze@all")
    keras.random.normal((10,))
    again, same_rows = trained(0, "unfreeze@all", time=2)
    assert_equal_weights(first, again)
    assert rows == same_rows


@pytest.mark.parametrize("other", [(1, "unfreeze@all"), (0, "unfreeze@other")])
def test_another_seed_or_stage_gives_another_run(other):
    first, _ = trained(0, "unfreeze@all")
    second, _ = trained(*other)
    assert not any(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_network_trains_equally_to_the_bit_with_augmentation_and_moving_statistics():
    examples = example_images(16)

    def once() -> tuple[list[np.ndarray], list[Row]]:
        network = small_network()
        network.attach("avg", None, 0.3, 4)
        network.freeze(4)
        varied = augment(flip=True, translation=0.1)
        settings = run(training(epochs=2, learning_rate=0.003), augment=varied, batch_norm="train")
        rows = train_network(network, settings, data(examples)).rows
        return network.classifier().get_weights(), rows

    (first, rows), (again, same_rows) = once(), once()
    assert not rows[0]["best"], "or there would be nothing to compare"
    assert rows == same_rows
    assert_equal_weights(first, again)


@pytest.mark.parametrize("spoilt", ["training", "validation"])
def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(spoilt):
    bad = Examples(np.full_like(TRAIN.inputs, np.nan), TRAIN.labels)
    views = (lambda epoch: bad if epoch == 2 else TRAIN) if spoilt == "training" else (lambda epoch: TRAIN)
    of = run(training(learning_rate=0.025))
    with pytest.raises(ThawError) as caught:
        fit(new_head(), of, views, bad if spoilt == "validation" else VAL)
    message = str(caught.value)
    where = "epoch 2/3, step 1, " if spoilt == "training" else "epoch 1/3, step 6, "
    what = "the loss" if spoilt == "training" else "the loss in validation"
    assert message.startswith(f"unfreeze@all: {what} is not finite at {where}learning rate 0.025; ")
    assert "\n" not in message


def test_a_batch_larger_than_the_training_set_is_refused_in_one_line():
    with pytest.raises(ThawError, match=r"^batch_size: received 49; accepted: 1 to 48, the training images$"):
        fit(new_head(), run(batch_size=49))


def test_each_epoch_trains_on_the_view_that_it_is_given():
    asked = set()

    def views(epoch: int) -> Examples:
        asked.add(epoch)
        return wrong_from(3)(epoch)

    rows = fit(learnt(), run(training(epochs=4, learning_rate=0.001)), views)
    assert asked == {1, 2, 3, 4}
    assert min(rows[1]["train_accuracy"], rows[2]["train_accuracy"]) > 0.8
    assert max(rows[3]["train_accuracy"], rows[4]["train_accuracy"]) < 0.2


@pytest.mark.slow
def test_a_class_that_counts_more_is_told_more_often():
    def predictions(**chosen) -> np.ndarray:
        head = new_head()
        # Classes that overlap: nothing is right for all.
        train, val = points(96, spread=3.0), points(300, seed=1, spread=3.0)
        fit(head, run(training(epochs=5, learning_rate=0.05), **chosen), lambda epoch: train, train)
        return np.bincount(np.asarray(head(val.inputs)).argmax(axis=1), minlength=3)

    plain = predictions()
    for label in (0, 2):
        weights = np.ones(3, np.float32)
        weights[label] = 8
        assert predictions(class_weights=weights)[label] > plain[label] + 50


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_a_class_of_double_weight_is_learnt_as_if_its_loss_were_double(mixup, place):
    weights = np.array([2, 1, 0.5], np.float32)
    head, other = new_head(), new_head()
    settings = training(epochs=1, learning_rate=0.05)
    row = fit(head, run(settings, batch_size=48, mixup=mixup, class_weights=weights))[-1]
    plan = BatchPlan.draw(48, 48, mixup, 0, "unfreeze@all", 1)
    x, y = TRAIN.inputs[plan.rows[0]], plan.targets(TRAIN.labels, 3)
    if mixup:
        x = plan.shares[0] * x + (1 - plan.shares[0]) * x[plan.partners[0]]
    shares = np.exp(np.asarray(other(x), np.float64))
    losses = -(y * np.log(shares / shares.sum(axis=1, keepdims=True))).sum(axis=1)
    assert row["train_loss"] == pytest.approx(np.mean(losses * (y @ weights)), rel=1e-4)


def test_balanced_classes_count_as_much_less_as_there_are_more_of_them():
    labels = np.array([0, 0, 0, 1, 2, 2])
    classes = ["cat", "dog", "owl"]
    np.testing.assert_allclose(
        class_weight_array("balanced", classes, labels),
        compute_class_weight("balanced", classes=np.arange(3), y=labels),
    )
    np.testing.assert_allclose(class_weight_array({"dog": 3}, classes, labels), [1, 3, 1])
    assert class_weight_array(None, classes, labels) is None


def test_a_balanced_class_without_examples_spoils_no_loss():
    weights = class_weight_array("balanced", ["cat", "dog", "owl"], np.array([0, 0, 1]))
    assert weights.tolist() == [0.5, 1, 1]
    assert np.isfinite(np.eye(3) @ weights).all()


def test_weights_of_three_of_four_classes_leave_the_fourth_at_1_and_are_told():
    classes = ["cat", "dog", "frog", "horse"]
    weights = class_weight_array({"horse": 2, "cat": 0.25, "dog": 3}, classes, np.array([3, 2, 1, 0, 0]))
    assert weights.tolist() == [0.25, 3, 1, 2]
    assert describe_class_weights(weights, classes) == "cat 0.25, dog 3, frog 1, horse 2"
    many = [str(number) for number in range(11)]
    weights = class_weight_array({"4": 2, "7": 0.5}, many, np.arange(11))
    assert describe_class_weights(weights, many) == "from 7 0.5 to 4 2"


def test_inputs_stored_as_float16_train_as_their_values_in_float32_do():
    half = Examples(TRAIN.inputs.astype(np.float16), TRAIN.labels)
    single = Examples(half.inputs.astype(np.float32), TRAIN.labels)
    results = []
    for examples in (half, single):
        head = new_head()
        rows = fit(head, run(), lambda epoch, examples=examples: examples, examples)
        results.append((head.get_weights(), rows))
    assert_equal_weights(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_a_run_says_how_long_its_steps_may_have_waited_for_data(capsys, streamed):
    class Slow(np.ndarray):
        """An array that takes its time to be read."""

        def __getitem__(self, rows):
            time.sleep(0.05)
            return np.asarray(self).__getitem__(rows)

    def waited(inputs: np.ndarray) -> float:
        slow = Examples(inputs, TRAIN.labels)
        fit(new_head(), run(training(epochs=2)), lambda epoch: slow)
        line = next(line for line in capsys.readouterr().out.splitlines() if "waited for data" in line)
        return float(re.search(r"at most ([0-9.]+)% of [0-9.]+ s of steps", line)[1])

    # Each of the batches, but for what the first one overlaps with tracing, waits for its 50 ms.
    assert waited(TRAIN.inputs.view(Slow)) > 3 * waited(TRAIN.inputs)


def test_steps_that_the_backend_does_at_once_do_not_show_in_the_result():
    assert (steps_at_once(None), steps_at_once(0)) == (1, 16)
    one, many = new_head(0.3), new_head(0.3)
    # 24 steps: 16 at once, and a rest.
    rows = [
        TrainingLoop(head, run(batch_size=2), data(TRAIN, VAL, depth)).run() for head, depth in ((one, None), (many, 0))
    ]
    assert rows[0] == rows[1]
    assert_equal_weights(one.get_weights(), many.get_weights())


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_weight_that_is_not_finite_ends_the_run_though_the_loss_does_not_show_it():
    head = new_head()
    unseen = keras.layers.Dense(2, name="unseen")
    unseen.build((None, 2))
    model = keras.Model(head.input, head.output)
    model.unseen = unseen  # its weights are the model's, and nothing is computed from them
    unseen.kernel.assign(np.full((2, 2), np.nan, np.float32))
    assert len(model.get_weights()) == 4
    with pytest.raises(ThawError, match=r"^unfreeze@all: a weight is not finite at epoch 1/3, step 6, learning rate"):
        fit(model, run())


class SlowToTrace(keras.layers.Layer):
    """Passes its inputs on; takes its time when it is compiled."""

    def call(self, inputs):
        time.sleep(1.5)
        return inputs


@pytest.mark.slow
def test_a_line_says_how_long_the_epochs_that_are_left_take_without_what_is_compiled_once(capsys):
    head = new_head()
    features = keras.Input(head.input.shape[1:])
    model = keras.Model(features, head(SlowToTrace()(features)))
    fit(model, run(training(epochs=10)))
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert len(lines) == 10
    seconds, left = re.search(r"epoch 1/10, ([0-9.]+) s, at most (\d+) s left, train loss", lines[0]).groups()
    assert float(seconds) > 1.5
    # An epoch takes some hundredths of a second; with what was compiled, those left would take 13 s or more.
    assert int(left) < 9
    assert all("at most " in line for line in lines[:-1])
    assert "left" not in lines[-1]
