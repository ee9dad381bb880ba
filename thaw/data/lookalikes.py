"""Images of two splits that look the same, such as a re-encoded copy. Start at `find_lookalikes`."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

# Side of the thumbnails that are compared: a JPEG of low quality has the same means over such large blocks.
SIDE = 8

# Largest root mean square difference of two thumbnails, of 255. Of 200 crops of two photographs, JPEG copies of quality
# 50 were at most 1.9 away, of quality 75 1.6, of half the size 0.8. Of 10,000 images of CIFAR-10's test set, none is as
# close to one of 20,000 training images.
LIMIT = 2.0

# Pairs of thumbnails that are compared at once.
_PAIRS = 2**24


def find_lookalikes(images: np.ndarray, rows: np.ndarray, others: np.ndarray) -> dict[int, int]:
    """For each of `rows` that looks like one of `others`, that one.

    Args:
        images: uint8 (n, side, side, 3), perhaps memory-mapped.
        rows, others: row numbers.
    """
    found: dict[int, int] = {}
    if not len(rows) or not len(others):
        return found
    few, many = _thumbnails(images, rows), _thumbnails(images, others)
    # Two that are close are of about the same brightness: the difference of means is no larger than that of all values.
    rows, few = _by_brightness(rows, few)
    others, many = _by_brightness(others, many)
    brightness = many.mean(axis=1)
    step = max(1, _PAIRS // len(others))
    for start in range(0, len(rows), step):
        some = few[start : start + step]
        low, high = some[0].mean() - LIMIT, some[-1].mean() + LIMIT
        first, last = np.searchsorted(brightness, (low, high))
        for number, other in _closest(some, many[first:last]):
            found[int(rows[start + number])] = int(others[first + other])
    return found


def _thumbnails(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Means over SIDE x SIDE blocks of each channel, float32 (n, SIDE * SIDE * 3)."""
    side = images.shape[1]
    starts = np.linspace(0, side, min(SIDE, side) + 1).astype(int)
    sizes = np.diff(starts)
    result = np.empty((len(rows), len(sizes) ** 2 * 3), np.float32)
    step = max(1, 2**24 // (side * side * 3))
    for start in range(0, len(rows), step):
        pixels = images[rows[start : start + step]]
        # Twelve times as fast as `np.add.reduceat`, which is only fast where little is left.
        bands = [pixels[:, top:bottom].sum(axis=1, dtype=np.uint32) for top, bottom in pairwise(starts)]
        sums = np.add.reduceat(np.stack(bands, axis=1), starts[:-1], axis=2)
        result[start : start + step] = (sums / (sizes[:, None, None] * sizes[:, None])).reshape(len(pixels), -1)
    return result


def _by_brightness(rows: np.ndarray, thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(thumbnails.mean(axis=1), kind="stable")
    return rows[order], thumbnails[order]


def _closest(some: np.ndarray, many: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of a row of `some` and the closest row of `many`, where they look the same."""
    if not len(many):
        return
    squares = (some**2).sum(axis=1)[:, None] + (many**2).sum(axis=1) - 2 * some @ many.T
    closest = squares.argmin(axis=1)
    for number in np.flatnonzero(squares[np.arange(len(some)), closest] <= LIMIT**2 * some.shape[1]):
        yield int(number), int(closest[number])
