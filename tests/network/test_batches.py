"""Arrays in batches for Keras: the same as Keras's own way, without what that costs."""

import time

import keras
import numpy as np
import pytest

from thaw.network.batches import in_batches, read_ahead

X = {"own": np.arange(14, dtype=np.int32).reshape(7, 2), "share": np.linspace(0, 1, 7, dtype=np.float32)}
Y = np.eye(7, 3, dtype=np.float32)
WEIGHTS = np.arange(7, dtype=np.float32)


class OneByOne(keras.utils.PyDataset):
    """The arrays in batches of 3, the last of which has 1."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int):
        return keras.tree.map_structure(lambda array: array[3 * number : 3 * number + 3], (X, Y, WEIGHTS))


@pytest.mark.parametrize("arrays", [(X,), (X, Y), (X, Y, WEIGHTS)])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 8])
def test_all_rows_come_in_order_and_the_last_batch_may_be_shorter(arrays, batch_size):
    (dataset,) = in_batches(batch_size, *arrays).values()
    batches = list(dataset.as_numpy_iterator())
    assert dataset.cardinality() == len(batches) == -(-7 // batch_size)
    for number, batch in enumerate(batches):
        rows = slice(number * batch_size, (number + 1) * batch_size)
        expected = keras.tree.map_structure(lambda array, rows=rows: array[rows], arrays)
        keras.tree.map_structure(np.testing.assert_array_equal, batch, expected)


def test_the_number_of_rows_is_no_part_of_the_shape_so_that_other_rows_are_not_traced():
    shapes = {
        tuple(spec.shape for spec in keras.tree.flatten(in_batches(3, X["own"][:count], Y[:count])["x"].element_spec))
        for count in (1, 3, 6, 7)
    }
    assert shapes == {((None, 2), (None, 3))}


@pytest.mark.parametrize("made", [lambda: in_batches(3, X, Y, WEIGHTS)["x"], lambda: read_ahead(OneByOne())])
def test_keras_computes_the_same_bits_as_of_arrays(made):
    def trained(**arrays) -> tuple[list[np.ndarray], list[float], np.ndarray]:
        keras.utils.set_random_seed(0)
        own, share = keras.Input((2,), name="own"), keras.Input((), name="share")
        hidden = keras.layers.Concatenate()([keras.ops.cast(own, "float32"), keras.ops.reshape(share, (-1, 1))])
        model = keras.Model({"own": own, "share": share}, keras.layers.Dense(3)(hidden))
        model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        history = model.fit(**arrays, shuffle=False, verbose=0).history
        scores = model.evaluate(**arrays, verbose=0, return_dict=True)
        predicted = model.predict(arrays["x"], batch_size=arrays.get("batch_size"), verbose=0)
        return model.get_weights(), [*scores.values(), *(values[0] for values in history.values())], predicted

    plain = trained(x=X, y=Y, sample_weight=WEIGHTS, batch_size=3)
    ours = trained(x=made())
    keras.tree.map_structure(np.testing.assert_array_equal, plain, ours)


def test_batches_that_are_made_one_by_one_are_counted_and_of_any_number_of_rows():
    dataset = read_ahead(OneByOne())
    assert dataset.cardinality() == 3
    assert [len(labels) for _, labels, _ in dataset.as_numpy_iterator()] == [3, 3, 1]
    assert {spec.shape[0] for spec in keras.tree.flatten(dataset.element_spec)} == {None}


@pytest.mark.parametrize("made", [lambda: in_batches(1, np.zeros(10**6))["x"], lambda: read_ahead(Endless())])
@pytest.mark.slow
def test_the_end_of_an_epoch_waits_for_no_tuning(made):
    """After 1.35 s the thread that tunes a dataset would sleep for 1.2 s more, and not be woken half of the times."""
    for _ in range(8):
        batches, started = iter(made()), time.monotonic()
        while time.monotonic() - started < 1.35:
            next(batches)
            time.sleep(0.01)
        ended = time.monotonic()
        del batches
        assert time.monotonic() - ended < 0.6


class Endless(OneByOne):
    def __len__(self) -> int:
        return 10**6


def test_no_function_is_traced_for_a_call(monkeypatch):
    from tensorflow.python.data.ops import structured_function

    def refuse(*_, **__):
        raise AssertionError("a function of a dataset")

    monkeypatch.setattr(structured_function.StructuredFunctionWrapper, "__init__", refuse)
    list(in_batches(3, X, Y, WEIGHTS)["x"])


def test_other_backends_get_the_arrays(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert in_batches(3, X, Y) == {"x": X, "y": Y, "batch_size": 3}
    assert in_batches(3, X) == {"x": X, "batch_size": 3}
    own = OneByOne()
    assert read_ahead(own) is own
