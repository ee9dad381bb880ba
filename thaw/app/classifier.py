"""The Python API: `load` gives a `Classifier`, `features` what a checkpoint's backbone makes of images.

Both need the checkpoint's folder alone, and print nothing. Keras is imported when a checkpoint is loaded, not before;
what the process computes with it besides is left as it is.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Never, get_args

import numpy as np
from numpy.typing import NDArray

from thaw.app.metadata import model_name
from thaw.app.predict import BATCH, BatchSizes, Predictor, class_number, image_batches
from thaw.backbones import BACKBONES
from thaw.config.schema import Device
from thaw.errors import ParamError, ThawError, Words
from thaw.images.read import MAX_PIXELS, UnreadableImage
from thaw.network.backend import load_backend
from thaw.network.checkpoint import CHECKPOINT_JSON, CheckpointInfo, load_checkpoint, read_checkpoint_info

if TYPE_CHECKING:
    from keras import Model

    from thaw.app.explain import GradCam
    from thaw.network.build import Network

__all__ = ["Backend", "Classifier", "Images", "UnreadableImage", "features", "load"]

File = str | os.PathLike[str]

# Images of the network's size, a file, or several.
Images = np.ndarray | File | Iterable[File]

Backend = Literal["tensorflow", "jax"]


def load(path: File, backend: Backend | None = None) -> "Classifier":
    """Load the classifier of a checkpoint.

    Args:
        path: folder of a phase's checkpoint, such as models/all, here or elsewhere.
        backend: of Keras. None: that of Keras if it is imported already, that of KERAS_BACKEND, or tensorflow.

    Raises:
        ThawError: there is no checkpoint, it is damaged or without a head, or the process has another backend.
    """
    folder = Path(path)
    info = _read_info(folder)
    if info.head is None:
        raise ThawError(f"{folder}: a backbone without a head; accepted: the checkpoint of a phase, such as models/all")
    _set_up(backend)
    with _float32():
        predictor = Predictor(folder, batch_size=BATCH)
    return Classifier(folder, info.classes, info.input_size, info.temperature, predictor)


def features(path: File, images: Images, depth: int = 0, backend: Backend | None = None) -> NDArray[np.float32]:
    """Features of images, float32 (n, d), by the backbone of a checkpoint, which may have no head: models/backbone.

    Each call loads the checkpoint: `Classifier.features` does not.

    Args:
        path, backend: as for `load`.
        images, depth: as for `Classifier.features`. Without a head, activations are averaged.

    Raises:
        ThawError: as `load` and `Classifier.features`.
    """
    folder = Path(path)
    info = _read_info(folder)
    _check_depth(depth, info)
    _set_up(backend)
    with _float32():
        network, _ = load_checkpoint(folder)
        computed = PooledFeatures(network, depth)
    return _computed(computed, (computed.width,), images, info.input_size)


@dataclass(frozen=True, eq=False)
class Classifier:
    """An image classifier, from images to calibrated probabilities of its classes. `load` makes one.

    Attributes:
        path: folder of the checkpoint.
        classes: names of the classes, in the order of the probabilities.
        input_size: side in pixels of the images that the network takes.
        temperature: what logits are divided by, so that probabilities are calibrated; 1 where none was fitted.
    """

    path: Path
    classes: list[str]
    input_size: int
    temperature: float
    _predictor: Predictor = field(repr=False)
    _by_depth: dict[int, "PooledFeatures"] = field(default_factory=dict, repr=False)
    _explained: list["GradCam"] = field(default_factory=list, repr=False)  # one, from the first map on

    def predict(self, images: Images) -> NDArray[np.float32]:
        """Calibrated probabilities of the classes, float32 (n, classes): those of `thaw predict`.

        Args:
            images: RGB of 0 to 255, uint8 (n, side, side, 3) or (side, side, 3), side being `input_size`; or the path
                of an image file, or several paths. Files are of any format and size, and few are in memory at a time.

        Raises:
            UnreadableImage: a file gives no image; the error names it, and no later file is predicted.
            ThawError: images of another shape or type; a folder in place of files.
        """
        return _computed(self._predictor.probabilities, (len(self.classes),), images, self.input_size)

    def features(self, images: Images, depth: int = 0) -> NDArray[np.float32]:
        """Features of images by the backbone, float32 (n, d), such as for a search for similar images.

        Args:
            images: as for `predict`.
            depth: of the cut: the number of blocks above it. The features of 0 are what the head takes. Those of a
                deeper cut are its activations, pooled as for the head: averaged, or flattened.

        Raises:
            ThawError: as `predict`; the backbone has no such depth.
        """
        _check_depth(depth, self._predictor.info)
        if depth not in self._by_depth:
            with _float32():
                self._by_depth[depth] = PooledFeatures(self._predictor.network, depth)
        computed = self._by_depth[depth]
        return _computed(computed, (computed.width,), images, self.input_size)

    def grad_cam(self, images: Images, of: str | None = None) -> NDArray[np.float32]:
        """How much each region of an image supports a class (Grad-CAM), float32 (n, height, width) from 0 to 1.

        The map is that of the backbone's last convolution, and covers the image. Its maximum is 1, or 0 where nothing
        supports the class. `thaw explain` draws it.

        Args:
            images: as for `predict`.
            of: name of the class; None for the most probable one of each image.

        Raises:
            ThawError: as `predict`; there is no such class.
        """
        label = None if of is None else class_number(of, self.classes, "of")
        if not self._explained:
            from thaw.app.explain import GradCam

            with _float32():
                self._explained.append(GradCam(self._predictor.network))
        (explained,) = self._explained

        def maps(batch: np.ndarray) -> np.ndarray:
            if label is not None:
                return explained(batch, np.full(len(batch), label))
            return explained(batch, self._predictor.probabilities(batch).argmax(axis=1))

        return _computed(maps, explained.shape, images, self.input_size)

    def keras(self) -> "Model":
        """A Keras model from images, uint8 (n, side, side, 3), to probabilities, float32 (n, classes).

        It has Keras's own layers alone, normalises and resizes by itself, and can be saved, or trained further: its
        weights are copies. Probabilities differ from those of `predict` by rounding, as BatchNorm is not folded.
        """
        import keras

        from thaw.app.export import standalone

        with _float32():
            model = standalone(self._predictor.network, self.temperature, model_name(self._predictor.info))
            copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        return copy


class PooledFeatures:
    """The activations at a cut, pooled as for the head, or averaged where there is none. Needs the backend set up."""

    def __init__(self, network: "Network", depth: int) -> None:
        """Args:
        network: of a checkpoint.
        depth: of the cut.
        """
        import keras

        network.pool = network.pool or "avg"
        model = network.features([depth], network.pool, None)
        (activations,) = model.outputs
        self._model = model if depth == 0 else keras.Model(model.input, network.pooled(activations))
        self._sizes = BatchSizes(BATCH)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features (n, d) of images, uint8 (n, side, side, 3)."""
        from thaw.network.inference import predict_chunks

        filled, size = self._sizes.fill(images)
        return np.concatenate([part for _, (part,) in predict_chunks(self._model, filled, size)])[: len(images)]

    @property
    def width(self) -> int:
        """d."""
        return self._model.outputs[0].shape[-1]


def _read_info(folder: Path) -> CheckpointInfo:
    if not (folder / CHECKPOINT_JSON).is_file():
        where = "such as models/all after `dvc repro` or `dvc pull`"
        raise ThawError(f"{folder}: no checkpoint there; accepted: a folder with {CHECKPOINT_JSON}, {where}")
    info = read_checkpoint_info(folder)
    name = info.backbone["name"]
    if name not in BACKBONES:
        raise ThawError(f"{folder}: the backbone is {name!r}, of which thaw/backbones has no module")
    return info


def _check_depth(depth: int, info: CheckpointInfo) -> None:
    name = info.backbone["name"]
    blocks = len(BACKBONES[name].blocks)
    if depth not in range(blocks):
        raise ParamError("depth", depth, f"0 to {blocks - 1}, as {name} has {blocks} blocks")


def _set_up(backend: str | None) -> None:
    """Load Keras, on a backend that it has not loaded yet, or has."""
    loaded = sys.modules["keras"].config.backend() if "keras" in sys.modules else None
    wanted = backend or loaded or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if wanted not in get_args(Backend):
        raise ParamError("backend", wanted, " or ".join(get_args(Backend)))
    if loaded not in (None, wanted):
        raise ParamError("backend", wanted, f"{loaded}, with which Keras is loaded already in this process")
    # On each device the same: bfloat16, which stages compute in on some GPUs, would round features to 3 digits.
    load_backend(wanted, Device(xla="auto", precision="float32"))


@contextmanager
def _float32() -> Iterator[None]:
    """Have layers that are made within the block compute in float32, whatever Keras's policy is otherwise."""
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def _computed(
    compute: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], images: Images, side: int
) -> NDArray[np.float32]:
    """What `compute` makes of images, float32 (n, *shape), (0, *shape) if there are none."""
    parts = [compute(batch).astype(np.float32) for batch in _batches(images, side)]
    return np.concatenate([np.zeros((0, *shape), np.float32), *parts])


def _batches(images: Images, side: int) -> Iterator[np.ndarray]:
    """Images, uint8 (n, side, side, 3): of files in batches, of an array at once, since it is in memory anyway."""
    files = _files(images)
    if files is None:
        array = _checked(images, side)
        if len(array):
            yield array
    else:
        yield from (batch for _, batch in image_batches(files, side, MAX_PIXELS, _fail))


def _files(images: Images) -> list[Path] | None:
    """The paths of files; None where `images` is something else."""
    if isinstance(images, (str, os.PathLike)):
        images = [images]
    if isinstance(images, np.ndarray) or not isinstance(images, Iterable):
        return None
    items = list(images)
    if not all(isinstance(item, (str, os.PathLike)) for item in items):
        return None
    files = [Path(item) for item in items]
    for file in files:
        if os.path.isdir(file):
            raise ThawError(f"{file}: a folder; accepted: its files, such as sorted(Path({str(file)!r}).glob('*.jpg'))")
    return files


def _checked(images: object, side: int) -> np.ndarray:
    """An array of images, uint8 (n, side, side, 3)."""
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape[-3:] == (side, side, 3):
        if images.ndim == 4:
            return images
        if images.ndim == 3:
            return images[None]
    received = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
    size = f"RGB images, uint8 (n, {side}, {side}, 3) or ({side}, {side}, 3)"
    raise ParamError("images", Words(received), f"{size}; or paths of image files, of any size")


def _fail(error: UnreadableImage) -> Never:
    raise error
