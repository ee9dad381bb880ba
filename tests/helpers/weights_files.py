"""Weights files in the layouts that thaw reads, of any values."""

from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import keras
import numpy as np

Layers = list[tuple[str, list[np.ndarray]]]


def layers_of(model: keras.Model) -> Layers:
    return [(layer.name, [weight.numpy() for weight in layer.weights]) for layer in model.layers]


def write_keras2(path: Path, layers: Iterable[tuple[str, list[np.ndarray]]], text: Callable = str.encode) -> Path:
    """A file as Keras 2's `save_weights` wrote it: a group for each layer, also where it has no weights."""
    with h5py.File(path, "w") as file:
        names = []
        for layer, values in layers:
            group = file.create_group(layer)
            weights = [f"{layer}/weight{number}:0" for number in range(len(values))]
            group.attrs["weight_names"] = [text(weight) for weight in weights]
            for weight, value in zip(weights, values, strict=True):
                group[weight] = value
            names.append(text(layer))
        file.attrs["layer_names"] = names
    return path


def write_keras3(path: Path, model: keras.Model) -> Path:
    path = path.with_suffix(".weights.h5")
    model.save_weights(path)
    return path
