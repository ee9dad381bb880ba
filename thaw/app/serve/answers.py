"""What a checkpoint says of an image: classes, confidences, and the regions that support a class. Start at `Answers`.

One thread loads, decodes and computes: requests wait for each other, and one image at a time takes memory. No file is
written.
"""

import base64
import io
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thaw import paths
from thaw.app.classifier import Backend, Classifier, load
from thaw.app.predict import class_number
from thaw.errors import ThawError
from thaw.images.read import read_image
from thaw.network.checkpoint import CHECKPOINT_JSON, CheckpointInfo, read_checkpoint_info
from thaw.network.history import best_row

# Side in pixels of the image and of its map as the page shows them.
SHOWN = 480
# Classes of an answer: the most probable ones.
TOP = 10


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint to choose.

    Attributes:
        name: of its folder, or the path where another has that name.
        backbone, input_size, classes: as of CheckpointInfo.
        thawed: the trainable blocks of its phase, in words; None where the checkpoint does not tell.
        val_accuracy: of the weights; None without a history.
    """

    name: str
    backbone: str
    input_size: int
    classes: list[str]
    thawed: str | None
    val_accuracy: float | None

    @classmethod
    def of(cls, name: str, info: CheckpointInfo) -> "Checkpoint":
        accuracy, thawed = None, None
        if info.history:
            accuracy, thawed = best_row(info.history)["val_accuracy"], info.thawed.get(info.history[-1]["phase"])
        return cls(name, info.backbone["name"], info.input_size, info.classes, thawed, accuracy)


def find_checkpoints(folders: Sequence[Path]) -> list[Path]:
    """The checkpoints with a head, which each folder is or holds, in the order in which phases were trained.

    Of a folder that holds several, models/backbone is left out: a source task has other classes.

    Raises:
        ThawError: a folder has none, or one is damaged.
    """
    found: dict[Path, CheckpointInfo] = {}
    for folder in folders:
        held = sorted(folder.iterdir()) if folder.is_dir() else []
        candidates = [folder, *(path for path in held if path.name != paths.BACKBONE.name)]
        infos = {path: read_checkpoint_info(path) for path in candidates if (path / CHECKPOINT_JSON).is_file()}
        own = {path: info for path, info in infos.items() if info.head is not None}
        if not own:
            raise ThawError(f"{folder}: no checkpoint of a phase there; run `dvc repro` first, or name its folder")
        found |= own
    return sorted(found, key=lambda path: len(found[path].history))


class Answers:
    """Checkpoints, and what each says of an image. Each is loaded when it is first asked, and kept."""

    def __init__(self, folders: Sequence[Path], max_pixels: int, backend: Backend | None = None) -> None:
        """Args:
        folders: of checkpoints with a head.
        max_pixels: as for `read_image`.
        backend: as for `load`.
        """
        names = [folder.resolve().name for folder in folders]
        titles = [name if names.count(name) == 1 else str(path) for name, path in zip(names, folders, strict=True)]
        self.checkpoints = [
            Checkpoint.of(title, read_checkpoint_info(path)) for title, path in zip(titles, folders, strict=True)
        ]
        self._folders, self._max_pixels, self._backend = list(folders), max_pixels, backend
        self._loaded: dict[int, Classifier] = {}
        self._thread = ThreadPoolExecutor(1, "answers")

    def described(self) -> list[dict[str, Any]]:
        """The checkpoints, as JSON."""
        return [asdict(checkpoint) for checkpoint in self.checkpoints]

    def load(self, number: int) -> None:
        """Load a checkpoint now, and have it compute once: its first answer takes some times as long as later ones."""
        side = self.checkpoints[number].input_size
        self._thread.submit(lambda: self._classifier(number).grad_cam(np.zeros((side, side, 3), np.uint8))).result()

    def ask(self, number: int, content: bytes, of: str | None) -> "Future[dict[str, Any]]":
        """The answer of a checkpoint, as JSON, when its turn has come.

        Args:
            number: of the checkpoint.
            content: of an image file.
            of: the class whose regions are shown; None for the most probable one.

        Raises:
            ThawError: as the future's exception: no readable image, or no such class.
        """
        return self._thread.submit(self._answer, number, content, of)

    def close(self) -> None:
        """Drop what waits."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _classifier(self, number: int) -> Classifier:
        if number not in self._loaded:
            self._loaded[number] = load(self._folders[number], self._backend)
        return self._loaded[number]

    def _answer(self, number: int, content: bytes, of: str | None) -> dict[str, Any]:
        checkpoint = self.checkpoints[number]
        if of is not None:
            class_number(of, checkpoint.classes, "of")
        # Before the checkpoint is loaded, which takes seconds.
        seen = read_image(content, checkpoint.input_size, self._max_pixels).pixels
        shown = read_image(content, max(SHOWN, checkpoint.input_size), self._max_pixels).pixels
        classifier = self._classifier(number)
        probabilities = classifier.predict(seen)[0]
        order = np.argsort(-probabilities, kind="stable")[:TOP]
        explained = checkpoint.classes[order[0]] if of is None else of
        (heat,) = classifier.grad_cam(seen, explained)
        return {
            "classes": [{"name": checkpoint.classes[n], "probability": float(probabilities[n])} for n in order],
            "explained": explained,
            "image": _url(shown, "jpeg"),
            "input": _url(seen, "png"),
            "heat": _url(coloured(heat, SHOWN), "png") if heat.any() else None,
        }


def coloured(heat: np.ndarray, side: int) -> np.ndarray:
    """A map to lay over an image, uint8 RGBA (side, side, 4): opaque where `heat` (h, w) is 1, clear where it is 0."""
    from matplotlib import colormaps

    from thaw.app.explain import COLORS

    enlarged = np.asarray(Image.fromarray(heat).resize((side, side), Image.Resampling.BILINEAR)).clip(0, 1)
    colours = colormaps[COLORS](enlarged, bytes=True)
    colours[..., 3] = np.round(255 * enlarged)
    return colours


def _url(pixels: np.ndarray, form: str) -> str:
    """Pixels as a data: URL of a PNG or JPEG file."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form, quality=90)
    return f"data:image/{form};base64,{base64.b64encode(content.getvalue()).decode()}"
