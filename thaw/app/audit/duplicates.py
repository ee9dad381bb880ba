"""Duplicates: images with the same pixels, and images whose whitened features have nearly the same direction.

Start at `first_copies` and at `near_duplicates`. Barz and Denzler, "Do We Train on Test Data? Purging CIFAR of
Near-Duplicates" (2020), found both kinds in CIFAR-10 and CIFAR-100: 3.25 % and 10 % of the test images have a duplicate
in the official training set.
"""

import hashlib
from collections.abc import Callable, Iterable
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from thaw.errors import ParamError
from thaw.runtime.progress import unseen

# Images of a block: the product of two blocks takes 16 MB.
BLOCK = 2048

# Pairs that are listed, at most: with more, the threshold does not tell duplicates from what is similar.
MOST = 100_000


class Pair(NamedTuple):
    """Numbers of two images, the first the smaller, and the cosine of their components; 1 for the same pixels."""

    first: int
    second: int
    cosine: float


def first_copies(images: Iterable[np.ndarray]) -> np.ndarray:
    """For each image the number of the first image with the same pixels, which may be itself, by their SHA-256."""
    firsts: dict[bytes, int] = {}
    hashes = (hashlib.sha256(image.tobytes()).digest() for image in images)
    return np.array([firsts.setdefault(value, number) for number, value in enumerate(hashes)])


def exact_duplicates(firsts: np.ndarray) -> list[Pair]:
    """Each image that has the same pixels as an earlier one, with the first such one; `firsts` is of `first_copies`."""
    copies = np.flatnonzero(firsts != np.arange(len(firsts)))
    return [Pair(int(firsts[number]), int(number), 1.0) for number in copies]


def near_duplicates(
    components: np.ndarray, firsts: np.ndarray, threshold: float, reach: Callable[[float], None] = unseen
) -> list[Pair]:
    """Pairs of images whose components have a cosine of `threshold` or more, the highest first.

    All pairs are compared, block by block: memory does not grow with their number. Images with the same pixels are
    compared with others once, by the first of them.

    Args:
        components: of the features of all images, float32 (n, d).
        firsts: from `first_copies`.
        threshold: the least cosine of a pair.
        reach: called after each product of two blocks, with the share of the work that is done.

    Raises:
        ParamError: more than `MOST` pairs reach the threshold.
    """
    numbers = np.flatnonzero(firsts == np.arange(len(firsts)))
    # Components that are all 0 have no direction: their cosine with any others is 0.
    lengths = np.maximum(np.linalg.norm(components[numbers], axis=1, keepdims=True), np.finfo(np.float32).tiny)
    vectors = components[numbers] / lengths
    places = list(combinations_with_replacement(range(0, len(vectors), BLOCK), 2))
    found: list[Pair] = []
    for done, (top, left) in enumerate(places, start=1):
        cosines = vectors[top : top + BLOCK] @ vectors[left : left + BLOCK].T
        if top == left:  # each pair once, and no image with itself
            cosines = np.triu(cosines, 1)
        rows, columns = np.nonzero(cosines >= threshold)
        if len(found) + len(rows) > MOST:
            raise ParamError("--threshold", threshold, f"a higher one: more than {MOST:,} pairs are as similar")
        first, second = numbers[top + rows].tolist(), numbers[left + columns].tolist()
        found += map(Pair, first, second, cosines[rows, columns].tolist())
        reach(done / len(places))
    return sorted(found, key=lambda pair: -pair.cosine)


def leaked(firsts: np.ndarray, near: list[Pair], learnt: int) -> np.ndarray:
    """Numbers of the test images that have a duplicate, exact or near, among the training and validation images.

    Args:
        firsts: from `first_copies`.
        near: from `near_duplicates`.
        learnt: number of training and validation images, which come before the test images.
    """
    similar = [pair.second for pair in near if pair.first < learnt <= pair.second]
    test = np.arange(learnt, len(firsts))
    return test[(firsts[test] < learnt) | np.isin(firsts[test], similar)]
