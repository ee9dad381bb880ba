"""The faster gradient of a convolution's kernel is the one that TensorFlow computes."""

import numpy as np
import pytest

from thaw.network import convolution
from thaw.network.backend import ComputeDevice
from thaw.network.convolution import convolve

tf = pytest.importorskip("tensorflow")

GRADIENT = "Conv2DBackpropFilter"


def losses_and_gradients(convolve, x, kernel):
    """Of a loss that weighs each place of the output, for the input and the kernel; and the operations of the graph."""

    @tf.function(autograph=False)
    def run(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = convolve(x, kernel)
            loss = tf.reduce_sum(y * tf.reshape(tf.range(tf.size(y), dtype=tf.float32), tf.shape(y)))
        return y, *tape.gradient(loss, [x, kernel])

    operations = run.get_concrete_function(x, kernel).graph.get_operations()
    return [value.numpy() for value in run(x, kernel)], {operation.type for operation in operations}


def arrays(map_size, kernel_size, channels=5, filters=4):
    generator = np.random.default_rng(0)
    shapes = (6, *map_size, channels), (*kernel_size, channels, filters)
    return [tf.constant(generator.normal(size=shape).astype("float32")) for shape in shapes]


@pytest.fixture
def onednn(monkeypatch):
    monkeypatch.setattr(convolution, "active_device", lambda: ComputeDevice(onednn=True))


# (1, 1) and (2, 2) are smaller than the kernel: some of its places meet nothing but padding.
@pytest.mark.parametrize("map_size", [(1, 1), (2, 2), (3, 5), (8, 8), (1, 64)], ids=str)
@pytest.mark.parametrize("kernel_size", [(3, 3), (5, 5), (7, 1)], ids=str)
def test_the_gradient_of_a_small_map_is_a_sum_of_products_and_equal(map_size, kernel_size, onednn):
    assert_equal_by_products(map_size, kernel_size)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("map_size", [(1, 1), (8, 8), (8, 9), (40, 40)], ids=str)
def test_the_gradient_of_a_kernel_of_one_place_is_a_product_and_equal(map_size, padding, onednn):
    assert_equal_by_products(map_size, (1, 1), padding)


def assert_equal_by_products(map_size, kernel_size, padding="same"):
    x, kernel = arrays(map_size, kernel_size)
    expected, plain = losses_and_gradients(lambda x, k: tf.nn.conv2d(x, k, 1, padding.upper()), x, kernel)
    values, operations = losses_and_gradients(lambda x, k: convolve(x, k, (1, 1), padding, (1, 1)), x, kernel)
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())
    assert GRADIENT in plain
    assert GRADIENT not in operations


OTHERS = {
    "a larger map": {"map_size": (8, 9)},
    "strides": {"strides": (2, 2)},
    "no padding": {"padding": "valid"},
    "dilated": {"dilation_rate": (2, 2)},
    "an even kernel": {"kernel_size": (2, 2)},
    "a kernel of one place with strides": {"kernel_size": (1, 1), "strides": (2, 2)},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_convolutions_are_the_backend_s(other, onednn):
    settings = {
        "map_size": (8, 8),
        "kernel_size": (3, 3),
        "strides": (1, 1),
        "padding": "same",
        "dilation_rate": (1, 1),
    }
    settings |= other
    x, kernel = arrays(settings.pop("map_size"), settings.pop("kernel_size"))
    _, operations = losses_and_gradients(lambda x, k: convolve(x, k, **settings), x, kernel)
    assert GRADIENT in operations


def test_without_onednn_the_backend_computes_it(monkeypatch):
    monkeypatch.setattr(convolution, "active_device", lambda: ComputeDevice(onednn=False))
    x, kernel = arrays((2, 2), (3, 3))
    _, operations = losses_and_gradients(lambda x, k: convolve(x, k, (1, 1), "same", (1, 1)), x, kernel)
    assert GRADIENT in operations
