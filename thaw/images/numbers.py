"""Numbers of more than 8 bits as grey from 0 to 255. Start at `numbers_of`.

The rule is that of the type and of what the file declares, never of the values that it happens to hold:

- Unsigned: white is the largest number of the bits (TIFF BitsPerSample; 65535 for PNG, PGM and JPEG 2000). A TIFF
  MaxSampleValue of 2^n - 1 declares that n bits are used. Any other is a statistic, which must not show in brightness
  (TIFF 6.0, section 8). PNG's sBIT changes nothing: such samples are scaled to 16 bits already (PNG, 11.3.2.7).
- Floating point: black is 0 and white is 1, or TIFF SMinSampleValue and SMaxSampleValue where a file has both. A file
  that has not, and holds another number, is refused, and so is NaN.
- Signed: black and white are TIFF SMinSampleValue and SMaxSampleValue. A file that has not both is refused.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFile
from PIL.ExifTags import Base as Tag

# TIFF SampleFormat.
_UNSIGNED, _SIGNED, _FLOATING = 1, 2, 3


class Refused(Exception):
    """Why thaw does not take a file that Pillow would read."""


@dataclass(frozen=True)
class Numbers:
    """How numbers of more than 8 bits become 0 to 255.

    Attributes:
        kind: such as "16 bits".
        black, white: the numbers that become 0 and 255.
        clipped: whether numbers beyond these two become black or white; if not, the file is refused.
    """

    kind: str
    black: float
    white: float
    clipped: bool = True

    def __str__(self) -> str:
        return f"{self.kind}, {self.black:.10g} to {self.white:.10g}, scaled to 8"

    def scaled(self, image: Image.Image) -> Image.Image:
        """The image in mode L; a number that the file declares transparent is white.

        Raises:
            Refused: a number is neither accepted nor clipped.
        """
        numbers = np.asarray(image)
        if max(self.black, self.white) >= 2**31:
            numbers = numbers.view(np.uint32)  # Pillow holds them as signed ones
        if numbers.dtype.kind == "f":
            self._check(numbers)
        values = numbers.astype(np.float64)
        values -= self.black
        values *= 255 / (self.white - self.black)
        grey = values.clip(0, 255, out=values).round(out=values).astype(np.uint8)
        if "transparency" in image.info:
            grey[numbers == image.info["transparency"]] = 255
        return Image.fromarray(grey)

    def _check(self, numbers: np.ndarray) -> None:
        low, high = sorted((self.black, self.white))
        if low <= numbers.min() and numbers.max() <= high:  # false with NaN
            return
        wrong = numbers[~np.isfinite(numbers)] if self.clipped else numbers[~((numbers >= low) & (numbers <= high))]
        if wrong.size:
            accepted = "finite ones" if self.clipped else "0 to 1, or TIFF SMinSampleValue and SMaxSampleValue"
            raise Refused(f"has the floating-point number {wrong[0]:g}; accepted: {accepted}")


def numbers_of(image: ImageFile.ImageFile) -> Numbers | None:
    """How the numbers of an image, which need not be decoded, become 0 to 255; None where Pillow sees to it.

    Raises:
        Refused: the file does not declare its black and white, or Pillow reads it wrong.
    """
    if image.format == "TIFF":
        return _numbers_of_tiff(image)
    if image.mode == "F":
        return Numbers("floating point", 0, 1, clipped=False)
    if image.mode[0] == "I":
        if image.format not in ("PNG", "PPM", "JPEG2000"):
            raise Refused(f"{image.format} of more than 8 bits, whose black and white are not declared")
        return Numbers("16 bits", 0, 65535)
    return None


def _numbers_of_tiff(image: Any) -> Numbers | None:
    tags = image.tag_v2
    bits, kind = _largest(tags, Tag.BitsPerSample) or 1, _largest(tags, Tag.SampleFormat) or _UNSIGNED
    used = _bits_used(tags, bits)
    if image.mode[0] not in "IF":
        _refuse_misread(tags, bits, kind, used)
        return None
    if kind == _UNSIGNED:
        name, black, white, clipped = f"{used} bits", 0.0, 2.0**used - 1, True
    else:
        name = "floating point" if kind == _FLOATING else f"{bits} bits, signed"
        black, white, clipped = _declared_range(tags, kind)
    if tags.get(Tag.PhotometricInterpretation) == 0:  # WhiteIsZero, which Pillow heeds for 8 bits only
        black, white = white, black
    return Numbers(name, black, white, clipped)


def _bits_used(tags: Any, bits: int) -> int:
    white = _largest(tags, Tag.MaxSampleValue) or 0
    declared = int(white).bit_length() if white > 0 else 0
    return declared if 0 < declared < bits and white == 2**declared - 1 else bits


def _declared_range(tags: Any, kind: int) -> tuple[float, float, bool]:
    """Black, white, and whether numbers beyond them are clipped."""
    black, white = _largest(tags, Tag.SMinSampleValue), _largest(tags, Tag.SMaxSampleValue)
    if black is not None and white is not None and black < white:
        return black, white, True
    if kind == _SIGNED:
        raise Refused("TIFF with signed numbers, but without SMinSampleValue and SMaxSampleValue")
    return 0, 1, False


def _refuse_misread(tags: Any, bits: int, kind: int, used: int) -> None:
    """Refuse an image that Pillow reads as 8 bits a channel, but not as it is meant."""
    if kind == _SIGNED:
        raise Refused(f"TIFF with signed numbers of {bits} bits, which Pillow reads as unsigned ones")
    if bits > 8 and tags.get(Tag.PlanarConfiguration) == 2:
        raise Refused(f"TIFF of {bits} bits with a plane for each channel, which Pillow reads wrong")
    if bits > 8 and used < bits:
        raise Refused(f"TIFF in colour with {used} of {bits} bits used, of which Pillow reads the upper 8")


def _largest(tags: Any, tag: Tag) -> Any:
    """The largest of the values that a tag has for the channels; None without the tag."""
    value = tags.get(tag)
    return max(value, default=None) if isinstance(value, tuple) else value
