"""A backbone's weights: from ImageNet, a file, a checkpoint, or seeded random values. Start at `load_backbone`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from thaw.backbones import BACKBONES
from thaw.config.schema import Backbone
from thaw.errors import ParamError
from thaw.network.build import Network, split_backbone
from thaw.network.checkpoint import CHECKPOINT_JSON, FROM_CHECKPOINT, load_weights, read_checkpoint_info
from thaw.network.seeds import seed_initialisers
from thaw.runtime.files import Damaged, sha256

# Layers of the classifier in a file "with top"; a backbone does not have them.
CLASSIFIER = {"fc1", "fc2", "fc1000", "predictions", "probs", "Logits", "convnext_tiny_head_dense"}


def load_backbone(section: Backbone, seed: int, input_size: int) -> Network:
    """Build the backbone of the parameters and load its weights; of a checkpoint also the head, where it fits.

    Args:
        section: section `backbone` of the parameters.
        seed: of random weights.
        input_size: side of the images that the network takes, in pixels.

    Raises:
        ParamError: ImageNet weights cannot be downloaded, or a weights file or checkpoint is damaged or does not fit.
    """
    seed_initialisers(seed, "backbone")
    build = BACKBONES[section.name].build
    if section.weights == "imagenet":
        try:
            model = build(section.image_size, section.alpha, "imagenet")
        except Exception as error:  # Keras and kagglehub raise plain `Exception`
            cause = (str(error).strip() or repr(error)).splitlines()[0]
            accepted = "a weights file, or schedule=scratch from random values, if they cannot be downloaded"
            raise ParamError("backbone.weights", "imagenet", f"{accepted}: {cause}") from None
    else:
        model = build(section.image_size, section.alpha, None)
        if section.has_weights_path and not is_checkpoint(section):
            load_weights_file(model, Path(section.weights_file))
    network = split_backbone(section.name, model, section.alpha, input_size)
    if is_checkpoint(section):
        _load_checkpoint_of(section, network)
    return network


def is_checkpoint(section: Backbone) -> bool:
    """Whether the weights are those of a checkpoint, which is a folder."""
    return section.has_weights_path and Path(section.weights_file).is_dir()


def _load_checkpoint_of(section: Backbone, network: Network) -> None:
    """Load a checkpoint's weights; its head is left out where it flattened activations of another size."""
    folder = Path(section.weights_file)
    try:
        info = read_checkpoint_info(folder)
        fits = info.head is None or info.head["pool"] == "avg" or info.backbone["image_size"] == section.image_size
        load_weights(network, folder, with_head=fits)
    except Damaged as error:
        raise ParamError(
            "backbone.weights", section.weights, f"a checkpoint that is whole; {error.path} is not"
        ) from None


def weights_origin(section: Backbone, seed: int) -> dict[str, object]:
    """Origin of a backbone's weights, for checkpoint.json: a file's hash but no path, and the seed if it was used.

    The hash of a checkpoint is that of its checkpoint.json, which has those of its other files.
    """
    origin: dict[str, object] = {"origin": section.weights}
    if is_checkpoint(section):
        origin = {"origin": FROM_CHECKPOINT, "sha256": sha256(Path(section.weights_file) / CHECKPOINT_JSON)}
    elif section.has_weights_path:
        origin = {"origin": "file", "sha256": sha256(Path(section.weights_file))}
    if section.weights == "none" or section.source is not None:
        origin["seed"] = seed
    if section.source is not None:
        origin["source"] = section.source.model_dump()
    return origin


def load_weights_file(model: keras.Model, path: Path) -> None:
    """Load a weights file into a backbone; all shapes are compared first, so that an error names the layer.

    Args:
        model: the backbone, without its classifier.
        path: an HDF5 file in keras.applications' layout (with or without the classifier), or one that
            Keras 3's `save_weights` wrote.

    Raises:
        ParamError: the file is missing or damaged, or a layer does not fit; the message names the first.
    """
    try:
        with h5py.File(path, "r") as file:
            if "layer_names" in file.attrs:
                stored = _read_applications_layout(file)
            elif "layers" in file:
                stored = _read_keras3_layout(file["layers"], model.layers)
            else:
                raise ParamError("backbone.weights", str(path), "a file in keras.applications' or Keras 3's layout")
    except (OSError, KeyError, ValueError):  # KeyError: the file lists a layer that it does not hold
        raise ParamError("backbone.weights", str(path), "an HDF5 weights file that is not damaged") from None
    layers = [layer for layer in model.layers if layer.weights]
    for number, layer in enumerate(layers):
        name, values = stored[number] if number < len(stored) else ("no such layer", [])
        expected, shapes = [tuple(w.shape) for w in layer.weights], [value.shape for value in values]
        if expected != shapes:
            raise ParamError(
                "backbone.weights",
                str(path),
                f"a file that fits layer {layer.name} of {model.name} with {expected}; "
                f"layer {number + 1} of the {len(stored)} in this one ({name}) has {shapes}",
            )
    extra = [name for name, _ in stored[len(layers) :] if name not in CLASSIFIER]
    if extra:
        raise ParamError(
            "backbone.weights",
            str(path),
            f"a file of the {len(layers)} layers of {model.name} alone; this one also has {extra[0]}",
        )
    for layer, (_, values) in zip(layers, stored, strict=False):
        layer.set_weights(values)


def _read_applications_layout(file: h5py.File) -> list[tuple[str, list[np.ndarray]]]:
    """Layers with weights in the order of a file of keras.applications; its names may differ from the model's."""
    stored = []
    for name in map(_text, file.attrs["layer_names"]):
        weights = [file[name][_text(weight)][()] for weight in file[name].attrs["weight_names"]]
        if weights:
            stored.append((name, weights))
    return stored


def _read_keras3_layout(group: Mapping, layers: Sequence[keras.Layer]) -> list[tuple[str, list[np.ndarray]]]:
    """Layers with weights in the order of `layers`; Keras 3 names them by class and number in its files."""
    counts: dict[str, int] = {}
    stored = []
    for layer in layers:
        kind = _snake_case(type(layer).__name__)
        number = counts[kind] = counts.get(kind, -1) + 1
        if not layer.weights:
            continue
        name = f"{kind}_{number}" if number else kind
        if isinstance(layer, keras.Sequential):
            inside = _read_keras3_layout(group.get(f"{name}/layers", {}), layer.layers)
            values = [value for _, weights in inside for value in weights]
        else:
            variables = group.get(f"{name}/vars", {})
            values = [variables[key][()] for key in sorted(variables, key=int)]
        stored.append((name, values))
    names = {name for name, _ in stored}
    for name, other in group.items():
        if name not in names and len(other.get("vars", ())):
            stored.append((name, []))
    return stored


def _snake_case(name: str) -> str:
    """Keras's name of a layer class in its files, such as batch_normalization for BatchNormalization."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
