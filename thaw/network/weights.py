"""Where a backbone's weights come from: ImageNet, a file, or seeded random values."""

import re
from pathlib import Path

import h5py
import keras
import numpy as np

from thaw.backbones import BACKBONES
from thaw.config.schema import Backbone
from thaw.errors import ParamError
from thaw.network.build import Network, split_backbone
from thaw.network.seeds import seed_initialisers
from thaw.runtime.files import sha256

# Layers of a classifier on top, which a file "with top" has and a backbone has not.
CLASSIFIER = {"fc1", "fc2", "fc1000", "predictions", "probs", "Logits"}


def load_backbone(chosen: Backbone, seed: int) -> Network:
    """Build the backbone that the parameters ask for, with its weights.

    Raises:
        ParamError: ImageNet weights that cannot be downloaded, or a file that does not fit.
    """
    seed_initialisers(seed, "backbone")
    build = BACKBONES[chosen.name].build
    if chosen.weights == "imagenet":
        try:
            model = build(chosen.image_size, chosen.alpha, "imagenet")
        except Exception as error:  # Keras and kagglehub raise bare ones
            cause = (str(error).strip() or repr(error)).splitlines()[0]
            raise ParamError(
                "backbone.weights", "imagenet", f"the path of a weights file, where they cannot be had: {cause}"
            ) from None
    else:
        model = build(chosen.image_size, chosen.alpha, None)
        if chosen.weights != "none":
            load_weights_file(model, Path(chosen.weights))
    return split_backbone(chosen.name, model, chosen.alpha)


def weights_origin(chosen: Backbone, seed: int) -> dict[str, object]:
    """What a checkpoint says of its backbone's weights: no path, and no seed that made no difference."""
    told: dict[str, object] = {"origin": chosen.weights}
    if chosen.weights not in ("imagenet", "none"):
        told = {"origin": "file", "sha256": sha256(Path(chosen.weights))}
    if chosen.weights == "none" or chosen.source is not None:
        told["seed"] = seed
    if chosen.source is not None:
        told["source"] = chosen.source.model_dump()
    return told


def load_weights_file(model: keras.Model, path: Path) -> None:
    """Load a weights file into a backbone, compared first, so that a misfit names its layer.

    Args:
        model: the backbone, without its classifier.
        path: an HDF5 file in keras.applications' layout (with or without the classifier), or as
            Keras 3's `save_weights` writes it.

    Raises:
        ParamError: no such file, or the first layer that does not fit.
    """
    try:
        with h5py.File(path, "r") as file:
            if "layer_names" in file.attrs:
                found = _in_order(file)
            elif "layers" in file:
                found = _by_class(file, model)
            else:
                raise ParamError("backbone.weights", str(path), "a file in keras.applications' or Keras 3's layout")
    except (OSError, KeyError, ValueError):  # KeyError: what the file lists is not all in it
        raise ParamError("backbone.weights", str(path), "an HDF5 weights file that is not damaged") from None
    layers = [layer for layer in model.layers if layer.weights]
    for number, layer in enumerate(layers):
        name, values = found[number] if number < len(found) else ("no such layer", [])
        wanted, has = [tuple(w.shape) for w in layer.weights], [value.shape for value in values]
        if wanted != has:
            raise ParamError(
                "backbone.weights",
                str(path),
                f"a file that fits layer {layer.name} of {model.name} with {wanted}; "
                f"layer {number + 1} of the {len(found)} in this one ({name}) has {has}",
            )
    extra = [name for name, _ in found[len(layers) :] if name not in CLASSIFIER]
    if extra:
        raise ParamError(
            "backbone.weights",
            str(path),
            f"a file of the {len(layers)} layers of {model.name} alone; this one also has {extra[0]}",
        )
    for layer, (_, values) in zip(layers, found, strict=False):
        layer.set_weights(values)


def _in_order(file: h5py.File) -> list[tuple[str, list[np.ndarray]]]:
    """Layers with weights in the order of keras.applications' files, where names may differ from ours."""
    found = []
    for name in map(_text, file.attrs["layer_names"]):
        weights = [file[name][_text(weight)][()] for weight in file[name].attrs["weight_names"]]
        if weights:
            found.append((name, weights))
    return found


def _by_class(file: h5py.File, model: keras.Model) -> list[tuple[str, list[np.ndarray]]]:
    """Layers with weights in the model's order, under the names that Keras 3 gives: class and number."""
    counts: dict[str, int] = {}
    found = []
    for layer in model.layers:
        kind = _snake_case(type(layer).__name__)
        number = counts[kind] = counts.get(kind, -1) + 1
        if not layer.weights:
            continue
        name = f"{kind}_{number}" if number else kind
        variables = file["layers"].get(f"{name}/vars", {})
        values = [variables[key][()] for key in sorted(variables, key=int)]
        found.append((name, values))
    names = {name for name, _ in found}
    for name, group in file["layers"].items():
        if name not in names and len(group.get("vars", ())):
            found.append((name, []))
    return found


def _snake_case(name: str) -> str:
    """Conv2D to conv2d and BatchNormalization to batch_normalization, as Keras names layers in its files."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
