"""Randomness as a function of what it is for, not of a stream that a crash loses."""

import hashlib
import random

import numpy as np


def derive_seed(*parts: object) -> int:
    """A seed from 0 to 2**32 - 1 for, say, (seed, "unfreeze@all", "epoch", 3)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def random_generator(*parts: object) -> np.random.Generator:
    """A NumPy generator of its own for these parts."""
    return np.random.default_rng(derive_seed(*parts))


def seed_initialisers(*parts: object) -> None:
    """Fix what layers that are built next draw their initial weights from.

    Keras's initialisers take their seeds from Python's generator. `keras.utils.set_random_seed` sets
    it too, but imports TensorFlow, where it is installed, also under JAX: 4 seconds.
    """
    random.seed(derive_seed(*parts))


def reseed_layers(model, *parts: object) -> None:
    """Set the state of every random layer of a model (dropout, augmentation) for these parts."""
    states = [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
    for number, state in enumerate(states):
        state.assign(np.array([derive_seed(*parts, number), 0], state.dtype))
