"""The optimizer: Keras's Adam, with rates, moments and averages of its own for each variable."""

import keras
import numpy as np
import pytest

from thaw.training.adam import Adam, Moments, Update

RATE = 0.01


def variables() -> list[keras.Variable]:
    return [keras.Variable(np.linspace(-1, 1, 6).astype(np.float32).reshape(2, 3)), keras.Variable(np.float32([3, 4]))]


def gradients(step: int) -> list[np.ndarray]:
    generator = np.random.default_rng(step)
    return [generator.normal(size=shape).astype(np.float32) for shape in ((2, 3), (2,))]


def steps(optimizer: keras.optimizers.Optimizer, trained: list[keras.Variable], first: int, count: int) -> None:
    if not optimizer.built:
        optimizer.build(trained)
    for step in range(first, first + count):
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients(step)], trained)


def values(trained: list[keras.Variable]) -> list[np.ndarray]:
    return [variable.numpy() for variable in trained]


def assert_close(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_it_is_keras_adam():
    ours, theirs = variables(), variables()
    steps(Adam(RATE), ours, 0, 20)
    steps(keras.optimizers.Adam(RATE), theirs, 0, 20)
    assert_close(values(ours), values(theirs))


def test_a_factor_scales_the_rate_of_its_variable_alone():
    ours, plain, slow = variables(), variables(), variables()
    steps(Adam(RATE, [Update(variable=ours[1], factor=0.25)]), ours, 0, 10)
    steps(keras.optimizers.Adam(RATE), plain, 0, 10)
    steps(keras.optimizers.Adam(RATE / 4), slow, 0, 10)
    assert_close(values(ours), [plain[0].numpy(), slow[1].numpy()])


def test_a_run_that_carries_the_moments_of_another_goes_on_as_if_there_was_one():
    ours, whole = variables(), variables()
    steps(keras.optimizers.Adam(RATE), whole, 0, 20)
    first = Adam(RATE)
    steps(first, ours, 0, 8)
    carried = [Update(variable=variable, moments=first.moments(variable)) for variable in ours]
    assert {update.moments.steps for update in carried} == {8}
    second = Adam(RATE, carried)
    steps(second, ours, 8, 12)
    assert_close(values(ours), values(whole))
    assert second.moments(ours[0]).steps == 20


def test_a_variable_without_moments_beside_one_with_them_is_corrected_for_its_own_age():
    ours, new = variables(), variables()
    moments = Moments(first=np.zeros((2, 3), np.float32), second=np.ones((2, 3), np.float32), steps=1000)
    steps(Adam(RATE, [Update(variable=ours[0], moments=moments)]), ours, 0, 5)
    steps(keras.optimizers.Adam(RATE), new, 0, 5)
    assert_close(values(ours)[1:], values(new)[1:])
    assert not np.allclose(ours[0].numpy(), new[0].numpy())


def test_warm_up_raises_the_rate_of_what_has_no_moments():
    ours, by_hand = variables(), variables()
    moments = Moments(first=np.zeros((2, 3), np.float32), second=np.zeros((2, 3), np.float32), steps=1)
    steps(Adam(RATE, [Update(variable=ours[0], moments=moments)], warmup=4), ours, 0, 1)
    before = values(by_hand)
    steps(keras.optimizers.Adam(RATE), by_hand, 0, 1)
    moved = by_hand[1].numpy() - before[1]
    assert_close([ours[1].numpy()], [before[1] + moved / 4])
    # m = 0.1 g and v = 0.001 g², corrected for two gradients: 0.1 / (1 - 0.9²) over sqrt(0.001 / (1 - 0.999²)).
    ratio = 0.1 / (1 - 0.9**2) / np.sqrt(0.001 / (1 - 0.999**2))
    assert_close([ours[0].numpy()], [before[0] + ratio * (by_hand[0].numpy() - before[0])])


@pytest.mark.parametrize("momentum", [0.2, 0.9])
def test_averages_are_of_the_values_after_each_step_and_shorter_at_first(momentum):
    ours, plain = variables(), variables()
    optimizer = Adam(RATE, average=momentum)
    reference, average = keras.optimizers.Adam(RATE), None
    for step in range(6):
        steps(optimizer, ours, step, 1)
        steps(reference, plain, step, 1)
        now = plain[1].numpy()
        share = min(momentum, step / (step + 9))
        average = share * (0 if average is None else average) + (1 - share) * now
    optimizer.finalize_variable_values(ours)
    assert_close(values(ours), values(plain))
    optimizer.assign_averages()
    assert_close([ours[1].numpy()], [average])


def test_without_averages_nothing_is_assigned():
    ours = variables()
    optimizer = Adam(RATE)
    steps(optimizer, ours, 0, 3)
    before = values(ours)
    optimizer.assign_averages()
    assert_close(values(ours), before)
