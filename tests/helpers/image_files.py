"""Image files that Pillow does not write: PNG of 2, 4 and 16 bits, and TIFF with any tags."""

import struct
import zlib
from pathlib import Path

import numpy as np

# TIFF types, and how struct packs them.
SHORT, LONG, FLOAT, DOUBLE = 3, 4, 11, 12
_CODES = {SHORT: "H", LONG: "I", FLOAT: "f", DOUBLE: "d"}
_GREY, _COLOUR = 0, 2  # PNG colour types


def write_png(file: Path, values: np.ndarray, bits: int = 16, transparent: tuple[int, ...] | None = None) -> None:
    """Write a PNG of 2, 4 or 16 bits.

    Args:
        file: to write.
        values: (height, width), or, of 16 bits, (height, width, 3).
        bits: of each value.
        transparent: the transparent colour.
    """
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + _packed(row, bits) for row in values)
    header = struct.pack(">IIBBBBB", width, height, bits, _COLOUR if values.ndim == 3 else _GREY, 0, 0, 0)
    colour = b"" if transparent is None else _chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    parts = [_chunk(b"IHDR", header), colour, _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b"")]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def _packed(row: np.ndarray, bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    return np.packbits(np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]).tobytes()


def empty_png(width: int, height: int) -> bytes:
    """A PNG of black pixels, in few bytes."""
    packer = zlib.compressobj()
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, _GREY, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def write_tiff(
    file: Path, values: np.ndarray, tags: dict[int, tuple[int, list[float]]], planar: bool = False, packed: bool = False
) -> None:
    """Write a TIFF with a strip for each plane.

    Args:
        file: to write.
        values: (height, width), or (height, width, channels), of the type that is stored.
        tags: more of them, or others than usual: type and values by number.
        planar: a plane for each channel.
        packed: by Deflate.
    """
    height, width, *rest = values.shape
    channels = rest[0] if rest else 1
    planes = [values[..., channel] for channel in range(channels)] if planar else [values]
    strips = [plane.astype(plane.dtype.newbyteorder("<")).tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    offsets = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [values.dtype.itemsize * 8] * channels),
        259: (SHORT, [8 if packed else 1]),
        262: (SHORT, [2 if channels > 1 else 1]),
        273: (LONG, offsets),
        277: (SHORT, [channels]),
        278: (LONG, [height]),
        279: (LONG, [len(strip) for strip in strips]),
        284: (SHORT, [2 if planar else 1]),
        339: (SHORT, [kind] * channels),
    } | tags
    body = b"".join(strips)
    file.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + _directory(8 + len(body), tags))


def _directory(start: int, tags: dict[int, tuple[int, list[float]]]) -> bytes:
    entries, beyond = b"", b""
    after = start + 2 + 12 * len(tags) + 4
    for number, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{_CODES[kind]}", *values)
        if len(packed) > 4:
            place = struct.pack("<I", after + len(beyond))
            beyond += packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", number, kind, len(values)) + place
    return struct.pack("<H", len(tags)) + entries + bytes(4) + beyond
