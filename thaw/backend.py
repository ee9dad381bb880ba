"""The one place where the Keras backend is chosen and set up."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from thaw.errors import ParamError


def use(backend: str) -> None:
    """Make Keras compute with `backend`, repeatably. Called before anything imports keras.

    Raises:
        ParamError: KERAS_BACKEND says otherwise, or the backend is not installed.
    """
    set_already = os.environ.get("KERAS_BACKEND", backend)
    if set_already != backend:
        raise ParamError(
            "backend", backend, f"{set_already}, which the variable KERAS_BACKEND asks for; unset one of the two"
        )
    os.environ["KERAS_BACKEND"] = backend
    try:
        with _quiet():
            import keras  # noqa: F401, with what it loads of the backend
    except ModuleNotFoundError as error:
        install = {"tensorflow": "requirements.txt", "jax": "requirements-jax.txt"}[backend]
        raise ParamError(
            "backend", backend, f"a backend that is installed; no module {error.name!r}: pip install -r {install}"
        ) from None
    if backend == "tensorflow":
        import tensorflow as tf

        # It warns of functions traced anew, which several models in one stage mean.
        tf.get_logger().setLevel("ERROR")
        # Same bits twice on one machine; on JAX that is so without asking.
        tf.config.experimental.enable_op_determinism()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what TensorFlow's libraries write to standard error while they are loaded from the screen.

    It comes from C++, before any setting of a log level takes effect; errors come as exceptions.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    screen = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)
