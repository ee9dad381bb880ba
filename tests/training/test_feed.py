"""How examples reach a model: the plan of an epoch, and that it does not matter where they lie."""

import keras
import numpy as np
import pytest

from tests.helpers.examples import data, points, run, training
from thaw.data.examples import Examples
from thaw.network import inference
from thaw.network.build import build_head
from thaw.network.history import Row
from thaw.network.inference import chunk_size, predict_chunks
from thaw.network.seeds import seed_initialisers
from thaw.training.feed import Batches, BatchPlan, Feed, WatchLoss
from thaw.training.loop import TrainingLoop

CLASSES = 3


def examples(count: int, dtype: str = "float32") -> Examples:
    """Inputs whose every value is the number of the row."""
    return Examples(np.arange(count, dtype=dtype)[:, None] * np.ones((count, 2), dtype), np.arange(count) % CLASSES)


def echo(classes: int = CLASSES) -> keras.Model:
    """A model whose logits are its inputs, padded; one weight, so that there is something to train."""
    start = keras.Input((2,))
    return keras.Model(start, keras.layers.Dense(classes, kernel_initializer="ones", name="echo")(start))


def test_a_plan_takes_each_example_once_but_for_a_last_short_batch():
    plan = BatchPlan.draw(11, 4, 0.0, 0, "stage", 1)
    assert plan.rows.shape == (2, 4)
    assert len(set(plan.rows.flat)) == 8
    assert set(plan.rows.flat) <= set(range(11))
    assert all(np.array_equal(rows, np.sort(rows)) for rows in plan.rows), "a batch is read from front to back"
    assert plan.partners is plan.shares is None


def test_a_plan_follows_what_it_is_drawn_for_and_nothing_else():
    first = BatchPlan.draw(64, 8, 0.4, 0, "stage", 1)
    keras.random.normal((3,))
    np.random.rand(3)  # noqa: NPY002, a stream that nothing may depend on
    again = BatchPlan.draw(64, 8, 0.4, 0, "stage", 1)
    for mine, theirs in zip(vars(first).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for other in ((1, "stage", 1), (0, "other", 1), (0, "stage", 2)):
        assert not np.array_equal(BatchPlan.draw(64, 8, 0.4, *other).rows, first.rows)
    # What is mixed does not move what is learnt from.
    np.testing.assert_array_equal(BatchPlan.draw(64, 8, 0.0, 0, "stage", 1).rows, first.rows)


def test_shares_are_drawn_once_for_a_batch_from_a_beta_distribution():
    shares = BatchPlan.draw(40_000, 10, 0.2, 0).shares
    assert shares.shape == (4000,)
    assert ((shares >= 0) & (shares <= 1)).all()
    # Mean 1/2 and variance 1 / (4 (2 alpha + 1)) of Beta(alpha, alpha).
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * 1.4), rel=0.05)


def test_partners_are_another_order_of_the_same_batch():
    plan = BatchPlan.draw(64, 8, 1.0, 0)
    assert all(np.array_equal(np.sort(places), np.arange(8)) for places in plan.partners)
    assert len({places.tobytes() for places in plan.partners}) > 1


def test_targets_are_mixed_as_the_inputs_are():
    plan = BatchPlan.draw(24, 8, 1.0, 0)
    labels = np.arange(24) % CLASSES
    found = plan.targets(labels, CLASSES).reshape(3, 8, CLASSES)
    np.testing.assert_allclose(found.sum(axis=2), 1, rtol=1e-6)
    rows = np.eye(CLASSES, dtype=np.float32)[labels]
    for step in range(3):
        own = rows[plan.rows[step]]
        expected = plan.shares[step] * own + (1 - plan.shares[step]) * own[plan.partners[step]]
        np.testing.assert_allclose(found[step], expected, rtol=1e-6)
    np.testing.assert_array_equal(
        BatchPlan.draw(24, 8, 0.0, 0).targets(labels, CLASSES), rows[BatchPlan.draw(24, 8, 0.0, 0).rows.flat]
    )


@pytest.mark.parametrize("mixup", [0.0, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_a_model_gets_the_batches_of_the_plan(place, mixup, dtype):
    seen = []

    class Seen(keras.layers.Layer):
        def call(self, x):
            seen.append(np.asarray(x))
            return x

        def compute_output_shape(self, input_shape):
            return input_shape

    start = keras.Input((2,), dtype="uint8" if dtype == "uint8" else None)
    model = keras.Model(start, keras.layers.Dense(CLASSES)(Seen(dtype=start.dtype)(start)))
    known = examples(12, dtype)
    feed = Feed(model, known, 4, mixes=mixup > 0)
    assert (feed.rows is None) == (place == "streamed")
    feed.model.compile(loss="mse", run_eagerly=True, jit_compile=False)
    plan = BatchPlan.draw(12, 4, mixup, 0)
    seen.clear()
    feed.fit(known, plan)
    assert len(seen) == 3
    for step, batch in enumerate(seen):
        own = known.inputs[plan.rows[step]].astype(np.float32)
        if mixup:
            own = plan.shares[step] * own + (1 - plan.shares[step]) * own[plan.partners[step]]
        # Pictures are rounded to whole numbers again.
        np.testing.assert_allclose(batch, own, rtol=1e-6, atol=0.5 + 1e-6 if dtype == "uint8" else 0)


def test_all_examples_are_evaluated_the_last_short_batch_included(place):
    model = echo()
    known = examples(11)
    feed = Feed(model, known, 4, mixes=False)
    feed.model.compile(loss="mse", metrics=["accuracy"], jit_compile=False)
    targets = np.eye(CLASSES)[known.labels]
    expected = np.square(np.asarray(model(known.inputs)) - targets).mean()
    assert feed.evaluate(known)["loss"] == pytest.approx(expected, rel=1e-5)


def test_another_view_replaces_the_one_on_the_device():
    known, other = examples(8), Examples(examples(8).inputs + 100, examples(8).labels)
    feed = Feed(echo(), known, 4, mixes=False)
    feed.model.compile(loss="mse", metrics=["accuracy"], jit_compile=False)
    first = feed.evaluate(known)["loss"]
    assert feed.evaluate(other)["loss"] > 10 * first
    assert feed.evaluate(known)["loss"] == first


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_where_the_examples_lie_does_not_show_in_the_result(request, mixup):
    train, val = points(48, spread=0.4), points(21, seed=1, spread=0.4)

    def once() -> tuple[list[np.ndarray], list[Row]]:
        seed_initialisers(0, "test")
        head = build_head(train.inputs.shape[1], 8, 0.3, 3)
        rows = TrainingLoop(head, run(training(), mixup=mixup), data(train, val)).run()
        return head.get_weights(), rows

    on_device, rows = once()
    request.getfixturevalue("streamed")
    streamed, same = once()
    assert not rows[0]["best"], "or there would be nothing to compare"
    assert [row["val_loss"] for row in rows] == pytest.approx([row["val_loss"] for row in same], rel=1e-5)
    for mine, theirs in zip(on_device, streamed, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_batches_without_a_plan_hold_all_examples_as_they_lie():
    known = examples(11)
    targets = np.eye(CLASSES)[known.labels]
    batches = Batches(known, 4, targets)
    found = [batches[number] for number in range(len(batches))]
    assert [len(rows) for _, rows in found] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([inputs for inputs, _ in found]), known.inputs)
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in found]), targets)


def test_predictions_come_chunk_by_chunk_and_all_of_them(monkeypatch):
    monkeypatch.setattr(inference, "CHUNK", 9)  # two batches and a rest
    model, known = echo(), examples(21)
    chunks = list(predict_chunks(model, known.inputs, 4))
    assert [(place.start, place.stop) for place, _ in chunks] == [(0, 8), (8, 16), (16, 21)]
    found = np.concatenate([logits for _, (logits,) in chunks])
    np.testing.assert_allclose(found, np.asarray(model(known.inputs)), rtol=1e-6)


def test_a_chunk_is_as_large_as_its_values_allow(monkeypatch):
    monkeypatch.setattr(inference, "CHUNK_BYTES", 1000)
    model = keras.Model(start := keras.Input((10,)), keras.layers.Dense(15)(start))  # 100 bytes an example
    assert [chunk_size(model, batch_size) for batch_size in (1, 4, 16)] == [10, 8, 10]


def test_the_first_step_is_traced_once():
    """A variable that were made in the first step would have TensorFlow trace it a second time."""
    calls = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            calls.append(x)
            return x

        def compute_output_shape(self, input_shape):
            return input_shape

    start = keras.Input((2,))
    known = examples(12)
    feed = Feed(keras.Model(start, keras.layers.Dense(CLASSES)(Counted()(start))), known, 4, mixes=True)
    feed.compile(keras.optimizers.Adam(1e-3))
    calls.clear()
    plan = BatchPlan.draw(12, 4, 1.0, 0)
    feed.fit(known, plan)
    assert len(calls) == 1
    feed.fit(known, plan)
    assert len(calls) == 1, "nor anew in each epoch"


def test_the_first_bad_step_is_named_in_whatever_order_steps_are_looked_at():
    watch = WatchLoss()
    for step, loss in [(3, np.nan), (0, 1.0), (2, np.inf)]:
        watch.on_train_batch_end(step, {"loss": loss})  # on a thread of its own, where Keras has no model for it
    assert watch.step == 3
    model = keras.Sequential()
    model.stop_training = False
    watch.set_model(model)
    watch.on_train_batch_begin(4)
    assert model.stop_training


@pytest.mark.parametrize("steps_at_once", [1, 2])
def test_it_is_told_how_many_steps_are_done(place, steps_at_once):
    known, told = examples(12), []
    feed = Feed(echo(), known, batch_size=2, mixes=False)
    feed.compile(keras.optimizers.SGD(0.01), steps_at_once)
    feed.fit(known, BatchPlan.draw(12, 2, 0.0, 0), reach=told.append)
    # From several threads, in any order.
    assert sorted(told) == list(range(steps_at_once, 7, steps_at_once))
    told.clear()
    feed.evaluate(known, told.append)
    assert sorted(told) == list(range(steps_at_once, 7, steps_at_once))
    assert feed.steps(known) == 6
    assert feed.steps(examples(13)) == 7


def test_it_is_told_how_many_examples_are_predicted(monkeypatch):
    monkeypatch.setattr(inference, "CHUNK", 4)
    told = []
    list(predict_chunks(echo(), examples(5).inputs, 2, reach=told.append))
    assert sorted(told) == [2, 4, 5]
