"""Opening and decoding by Pillow: silent, within a limit of memory, into 8 bits. Start at `open_image`."""

import ctypes
import logging
import math
import os
import warnings
from contextlib import suppress
from functools import cache
from typing import IO, Any

from PIL import Image, ImageFile
from PIL.ExifTags import Base as Tag
from PIL.JpegImagePlugin import JpegImageFile

from thaw.images.numbers import Numbers, Refused

# Pixels above which a decoded image is averaged over blocks before anything else.
LARGE = 2**24
# Pixels for each pixel asked for, along a side, that averaging over blocks leaves. From 3 on, Pillow's documentation
# calls the result mostly "indistinguishable" from resizing in one step. Photographs tried at 32 pixels differed by 6 of
# 255 at most, by 0.4 on average.
_GAP = 3
# How many times a pixel counts by format, since its decoder takes so much: 9 to 14 bytes for AVIF, 7 for 8-bit HEIC,
# 17 for WebP and 20 to 25 for JPEG 2000, against 4 for PNG (measured, Pillow 13.0).
_WEIGHTS = {"AVIF": 2, "HEIF": 2, "WEBP": 2, "JPEG2000": 4}
# Side of the tiles that are converted at once.
_TILE = 512
# Pillow would run Ghostscript on it.
_NOT_TRIED = {"EPS"}


@cache
def formats() -> tuple[str, ...]:
    """Formats that are read, in an order that neither a file's suffix nor the files before change.

    Formats without a mark at the start of the file, such as TGA, are tried last. The first call makes Pillow silent.
    """
    Image.init()
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    _silence()
    return tuple(sorted(set(Image.OPEN) - _NOT_TRIED, key=lambda name: (Image.OPEN[name][1] is None, name)))


def _silence() -> None:
    """Have Pillow and libtiff print nothing: their lines do not name the file."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # libtiff writes to file descriptor 2. To redirect that would take other threads' lines, too.
    library = ctypes.CDLL(Image.core.__file__)  # and what it is linked with
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        with suppress(AttributeError):  # linked statically: it stays loud
            getattr(library, name)(None)


def open_image(stream: IO[bytes], max_pixels: int) -> ImageFile.ImageFile:
    """Open an image without decoding it.

    Raises:
        Exception: of any kind.
    """
    accepted, start = formats(), stream.read(3)
    stream.seek(0)
    # Pillow refuses twice as many, also of a frame or of an icon within a file.
    Image.MAX_IMAGE_PIXELS = max_pixels
    if start == b"\xff\xd8\xff":
        return JpegImageFile(stream)  # without that limit
    return Image.open(stream, formats=accepted)


def shrink(image: ImageFile.ImageFile, short: int, max_pixels: int) -> tuple[float, float]:
    """Have a JPEG image decoded at 1/2, 1/4 or 1/8 where that leaves `short` pixels of the short side.

    libjpeg then leaves out the high frequencies of each block, which is a good filter: 90 crops of photographs, of 322
    to 640 pixels, had features of MobileNetV2 (ImageNet weights, 160 pixels) with a cosine of 0.992 to those after one
    step of Lanczos' filter. After a bilinear filter it was 0.982, after a shift by one pixel 0.984.

    Returns:
        Width and height in decoded pixels; the last of them may lie beyond the edge in part.

    Raises:
        Refused: decoding takes more memory than `max_pixels` pixels of PNG.
    """
    if not isinstance(image, JpegImageFile):
        weight = _WEIGHTS.get(image.format or "", 1) + _share_of_a_strip(image)
        if any(tile.codec_name in Image.DECODERS for tile in image.tile):  # in Python, which holds all bytes, too
            weight = 2
        _check_pixels(image, weight, max_pixels)
        return image.size
    if not _in_one_scan(image):
        sampling = [vertical * horizontal for _, vertical, horizontal, _ in image.layer]
        _check_pixels(image, sum(sampling) / max(sampling) / 3, max_pixels)
    drafted = image.draft(None, (short, short))
    _check_pixels(image, 1, max_pixels)
    return drafted[1][2:] if drafted else image.size


def _in_one_scan(image: JpegImageFile) -> bool:
    """Whether pixels are decoded as the file is read. If not, libjpeg holds 2 bytes for each sample of it."""
    assert image.fp is not None
    length = 6 + 2 * image.layers
    image.fp.seek(-length, os.SEEK_CUR)  # to the header of the first scan, up to whose end Pillow has read
    return int.from_bytes(image.fp.read(2)) == length and "progressive" not in image.info


def _share_of_a_strip(image: Any) -> float:
    """Share of a compressed TIFF image in one strip, which libtiff holds beside the image; 0 for other images."""
    if image.format != "TIFF" or not image.use_load_libtiff:
        return 0.0
    width, height = image.size
    if Tag.TileLength in image.tag_v2:
        strip = image.tag_v2[Tag.TileWidth] * image.tag_v2[Tag.TileLength]
    else:
        strip = width * image.tag_v2.get(Tag.RowsPerStrip, height)
    return min(1.0, strip / (width * height))


def _check_pixels(image: ImageFile.ImageFile, weight: float, max_pixels: int) -> None:
    most = int(max_pixels / weight)
    if math.prod(image.size) > most:
        size, kind = f"{image.width:,} x {image.height:,} pixels", f"this kind of {image.format}"
        raise Refused(f"{size}; accepted: {most:,} of {kind}, by max_pixels={max_pixels}")


def block_side(image: Image.Image, short: int) -> int:
    """Side of the blocks to average over, so that three times `short` pixels are left of the short side; mostly 1."""
    return max(1, min(image.size) // (short * _GAP)) if math.prod(image.size) > LARGE else 1


def mend_transparency(image: ImageFile.ImageFile) -> None:
    """Give the transparent colour of a PNG file, not decoded yet, as many bits as its pixels get."""
    colour = image.info.get("transparency")
    kind = image.tile[0].args if image.format == "PNG" and image.tile else None
    if isinstance(colour, int) and kind in ("L;2", "L;4"):
        image.info["transparency"] = colour * (85 if kind == "L;2" else 17)
    elif isinstance(colour, tuple) and kind == "RGB;16B":
        image.info["transparency"] = tuple(number >> 8 for number in colour)


def eight_bits(image: Image.Image, block: int, numbers: Numbers | None) -> Image.Image:
    """The image on white, in mode L or RGB, averaged over blocks.

    Tile by tile: a conversion of all of it would take its memory two to eight times.

    Args:
        block: side of the blocks.
        numbers: how they become 0 to 255; None for 8 bits.

    Raises:
        Refused: as `Numbers.scaled`.
    """
    if image.mode in ("L", "RGB") and not image.has_transparency_data:
        return Image.Image.reduce(image, block) if block > 1 else image
    width, height = image.size
    step = max(1, _TILE // block) * block
    small = None
    for top in range(0, height, step):
        for left in range(0, width, step):
            tile = image.crop((left, top, min(left + step, width), min(top + step, height)))
            part = (numbers.scaled(tile) if numbers else _opaque(tile)).reduce(block)
            small = small or Image.new(part.mode, (-(-width // block), -(-height // block)))
            small.paste(part, (left // block, top // block))
    assert small is not None
    return small


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("L" if image.mode == "1" else "RGB")
    colours = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")
