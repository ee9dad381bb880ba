"""Image files of any format, size, mode and rotation, as uint8 RGB. Start at `read_image`; `read_images` reads many.

Imports neither Keras nor TensorFlow. Safe in threads, and Pillow decodes and resizes in several at once.
"""

import io
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base as Tag

from thaw.errors import ThawError, printable
from thaw.images.decoding import LARGE, block_side, eight_bits, formats, mend_transparency, open_image, shrink
from thaw.images.numbers import Numbers, Refused, numbers_of
from thaw.runtime.installed import install_command
from thaw.runtime.threads import map_ahead

# Of 4 bytes each, and as many for a rotated copy: below 1 GB.
MAX_PIXELS = 100_000_000
# What HEIC has at byte 8, after "ftyp" (ISO/IEC 23008-12).
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

# From a decoded image in mode L or RGB, and its width and height in its pixels.
Resize = Callable[[Image.Image, float, float], Image.Image]

# Of images above LARGE, one at a time is in memory.
_one_large = Lock()


class UnreadableImage(ThawError):
    """A file that gives no image.

    Attributes:
        why: the message without the file's name.
    """

    def __init__(self, file: Path | bytes, why: str) -> None:
        name = "image" if isinstance(file, bytes) else printable(str(file))
        super().__init__(f"{name}: {why}")
        self.why = why


@dataclass(frozen=True)
class ReadImage:
    """An image and what was done to it.

    Attributes:
        pixels: uint8 (height, width, 3).
        converted: what was done beyond decoding and resizing, such as "rotated by EXIF".
    """

    pixels: np.ndarray
    converted: tuple[str, ...]


def find_images(arguments: Iterable[Path]) -> list[Path]:
    """List each file, and all files below each folder, sorted by name, without hidden ones.

    A linked folder is searched, too, unless it was already. A folder that cannot be listed is itself in the list.
    """
    files = []
    for path in arguments:
        if os.path.isdir(path):  # Path.is_dir fails on a name that is too long, or in a folder without permission
            files += sorted(_files_below(path))
        else:
            files.append(path)
    return files


def _files_below(top: Path) -> Iterator[Path]:
    searched: set[str] = set()
    unlisted: list[str] = []
    starts = deque([str(top)])
    while starts:
        for folder, folders, names in os.walk(starts.popleft(), onerror=lambda error: unlisted.append(error.filename)):
            real = os.path.realpath(folder)
            folders[:] = [] if real in searched else sorted(name for name in folders if not name.startswith("."))
            # Links last, so that a folder is found by its own name; `walk` follows none.
            starts += filter(os.path.islink, (os.path.join(folder, name) for name in folders))
            if real not in searched:
                searched.add(real)
                yield from _files_of(folder, names)
    yield from map(Path, unlisted)


def _files_of(folder: str, names: list[str]) -> Iterator[Path]:
    for file in (Path(folder, name) for name in names if not name.startswith(".")):
        # Reading a broken link reports it.
        if file.is_file() or (file.is_symlink() and not file.exists()):
            yield file


def read_image(file: Path | bytes, side: int, max_pixels: int = MAX_PIXELS) -> ReadImage:
    """Read an image as the network takes it: the central square of the upright image, on white, (side, side, 3).

    A file of that size is not resized. JPEG is decoded at 1/2, 1/4 or 1/8 where `side` pixels are left; other images
    of more than `LARGE` pixels are averaged over blocks to three times that. The rest is one step of Lanczos' filter.

    Args:
        file: of any format that Pillow reads, or its content; the first of several frames is taken.
        side: of the square, in pixels.
        max_pixels: limit for a file. WebP, AVIF and HEIC may have half of it and JPEG 2000 a quarter, since their
            decoders take more memory. A JPEG file may have more: it counts as it is decoded, and a progressive one by
            its samples, 3 of which count as a pixel.

    Raises:
        UnreadableImage: names the file and tells why.
    """

    def square(image: Image.Image, width: float, height: float) -> Image.Image:
        left, top = max(0, width - height) / 2, max(0, height - width) / 2
        return image.resize((side, side), Image.Resampling.LANCZOS, (left, top, width - left, height - top))

    return _read(file, max_pixels, lambda size: side, square)


def read_upright(file: Path, most: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image for display, uint8 (height, width, 3): upright, on white, its long side reduced to `most` pixels.

    Raises:
        UnreadableImage: as `read_image`.
    """

    def reduced(image: Image.Image, width: float, height: float) -> Image.Image:
        scale = min(1, most / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return image.resize(size, Image.Resampling.LANCZOS, (0, 0, width, height))

    return _read(file, max_pixels, lambda size: math.ceil(most * min(size) / max(size)), reduced).pixels


def read_images(
    files: Sequence[Path], side: int, max_pixels: int = MAX_PIXELS, threads: int | None = None
) -> Iterator[ReadImage | UnreadableImage]:
    """Read images in threads, and give for each file, in order, the image or the error that tells why there is none.

    Args:
        side, max_pixels: as of `read_image`.
        threads: how many; None for a few more than processor cores.
    """

    def read(file: Path) -> ReadImage | UnreadableImage:
        try:
            return read_image(file, side, max_pixels)
        except UnreadableImage as error:
            return error

    yield from map_ahead(read, files, threads)


def _read(
    file: Path | bytes, max_pixels: int, short_side: Callable[[tuple[int, int]], int], resize: Resize
) -> ReadImage:
    """Read a file, with `short_side` from the size of the image to the pixels of its short side that `resize` keeps."""
    try:
        # Reading a pipe would wait.
        if not isinstance(file, bytes) and os.path.exists(file) and not os.path.isfile(file):
            raise Refused(_what_is_no_file(file))
        return _open_and_decode(file, max_pixels, short_side, resize)
    # Pillow fails in many ways on damaged files: SyntaxError, ValueError, struct.error, DecompressionBombError.
    except Exception as error:
        why = printable(_reason(file, error, max_pixels))
    # Below `except`: within it, Pillow's error and the decoded image would live as long as this one.
    raise UnreadableImage(file, why)


def _open_and_decode(
    file: Path | bytes, max_pixels: int, short_side: Callable[[tuple[int, int]], int], resize: Resize
) -> ReadImage:
    with _stream(file) as stream, open_image(stream, max_pixels) as image:
        short = short_side(image.size)
        extent = shrink(image, short, max_pixels)
        with _one_large if math.prod(image.size) > LARGE else nullcontext(), closing(image):
            return _decode(image, short, extent, resize)


def _stream(file: Path | bytes) -> IO[bytes]:
    return io.BytesIO(file) if isinstance(file, bytes) else open(file, "rb")


def _decode(image: ImageFile.ImageFile, short: int, extent: tuple[float, float], resize: Resize) -> ReadImage:
    numbers = numbers_of(image)
    mend_transparency(image)
    converted = _conversions(image, numbers)
    if _orientation(image) in range(2, 9):  # after these: to tell it, Pillow decodes a PNG file
        converted.append("rotated by EXIF")
    image.load()
    block = block_side(image, short)
    small = eight_bits(image, block, numbers)
    left = _orientation(image)  # 1 for TIFF, which Pillow rotates while it decodes
    final = _resized(small, extent[0] / block, extent[1] / block, left, resize)
    return ReadImage(np.asarray(final.convert("RGB")), tuple(converted + _frames(image)))


def _resized(image: Image.Image, width: float, height: float, orientation: int, resize: Resize) -> Image.Image:
    """The image upright and resized."""
    if image.size == (width, height):
        upright = _upright(image, orientation)
        return resize(upright, *upright.size)
    # Some of the last pixels lies beyond the edge; after a rotation that would be another edge.
    return _upright(resize(image, width, height), orientation)


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(Tag.Orientation, 1)


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    image.info = {}  # EXIF data that are damaged could not be written again
    image.getexif()[Tag.Orientation] = orientation
    return ImageOps.exif_transpose(image)


def _conversions(image: ImageFile.ImageFile, numbers: Numbers | None) -> list[str]:
    """What will be done to an image that is not decoded yet."""
    converted = []
    if numbers is not None:
        converted.append(str(numbers))
    elif any(";16" in str(tile.args) for tile in image.tile):
        converted.append("16 bits, 0 to 65535, scaled to 8")
    if image.mode in ("P", "PA"):
        converted.append("palette")
    elif image.mode in ("CMYK", "LAB"):
        converted.append(image.mode)
    if image.has_transparency_data:
        converted.append("on white")
    return converted


def _frames(image: ImageFile.ImageFile) -> list[str]:
    if image.format == "PSD":  # its frames are layers; what was read is all of them
        return []
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception:  # a later one is damaged
        return ["first frame of several"]
    return [f"first frame of {frames}"] if frames > 1 else []


def _reason(file: Path | bytes, error: Exception, max_pixels: int) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "not found"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * max_pixels:,} pixels; accepted: {max_pixels:,}, by max_pixels={max_pixels}"
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(file)
    why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return f"not a readable image ({why})"


def _what_is_no_file(path: Path) -> str:
    if not os.path.isdir(path):
        return "not a file"
    try:
        os.scandir(path).close()
    except OSError:
        return "a folder that cannot be listed"
    return "a folder; accepted: an image file"


def _unidentified(file: Path | bytes) -> str:
    with _stream(file) as stream:
        start = stream.read(12)
    if not start:
        return "not a readable image (0 bytes)"
    if start[4:8] == b"ftyp" and start[8:] in _HEIC and "HEIF" not in formats():
        return f"HEIC, which iPhones write; to read it: {install_command('heic')}"
    return "not a readable image"
