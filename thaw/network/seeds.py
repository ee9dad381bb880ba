"""Seeds derived from their purpose, such as ("unfreeze@all", "epoch", 3), so that a resumed run draws the same numbers.

Start at `derive_seed`.
"""

import hashlib
import random

import numpy as np


def derive_seed(*parts: object) -> int:
    """A seed from 0 to 2**32 - 1 for parts such as (seed, "unfreeze@all", "epoch", 3)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def random_generator(*parts: object) -> np.random.Generator:
    """A NumPy generator with the seed of these parts."""
    return np.random.default_rng(derive_seed(*parts))


def seed_initialisers(*parts: object) -> None:
    """Fix the initial weights of the layers that are built next.

    Keras's initialisers take their seeds from Python's generator. `keras.utils.set_random_seed` seeds it, too, but
    imports TensorFlow if it is installed, under JAX, too: 4 seconds.
    """
    random.seed(derive_seed(*parts))


def reseed_layers(model, *parts: object) -> None:
    """Set the state of every random layer of a model (dropout, augmentation) to the seed of these parts."""
    states = [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
    for number, state in enumerate(states):
        state.assign(np.array([derive_seed(*parts, number), 0], state.dtype))
