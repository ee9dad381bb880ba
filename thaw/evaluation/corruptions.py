"""Corruptions of test images, and the accuracy under each. Start at `corruption_rows`.

Five of the 19 corruptions of CIFAR-10-C (Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", 2019), made on the spot at its severities 1, 3 and 5, of 1 to 5. Constants and formulas
are those of the authors' script for images of 32 pixels, ImageNet-C/create_c/make_cifar_c.py of hendrycks/robustness;
as there, values are computed in double precision and cut to uint8. The noise differs: its seed is the image's own.
"""

import io
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from thaw.data.examples import Examples
from thaw.network.inference import chunk_size, predict_logits
from thaw.network.seeds import random_generator
from thaw.runtime.progress import unseen


def _gaussian_noise(image: np.ndarray, deviation: float) -> np.ndarray:
    # One draw for all severities: the seed is of corruption and pixels, so that the order of images changes nothing.
    noise = random_generator("gaussian_noise", image.tobytes()).normal(size=image.shape)
    return _pixels(image / 255 + deviation * noise)


def _gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    # As scikit-image's `gaussian`, which the authors call: repeated edges, and a kernel up to 4 sigma.
    return _pixels(gaussian_filter(image / 255, (sigma, sigma, 0), mode="nearest", truncate=4))


def _contrast(image: np.ndarray, factor: float) -> np.ndarray:
    mean = np.mean(image / 255, axis=(0, 1))
    return _pixels((image / 255 - mean) * factor + mean)


def _jpeg_compression(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _pixelate(image: np.ndarray, share: float) -> np.ndarray:
    height, width, _ = image.shape
    small = Image.fromarray(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def _pixels(shares: np.ndarray) -> np.ndarray:
    return (np.clip(shares, 0, 1) * 255).astype(np.uint8)


SEVERITIES = (1, 3, 5)

# By name in CIFAR-10-C: what corrupts an image, and its constant at each of SEVERITIES.
CORRUPTIONS: dict[str, tuple[Callable[[np.ndarray, Any], np.ndarray], tuple[float, float, float]]] = {
    "gaussian_noise": (_gaussian_noise, (0.04, 0.08, 0.1)),  # standard deviation, of pixels from 0 to 1
    "gaussian_blur": (_gaussian_blur, (0.4, 0.7, 1)),  # standard deviation, in pixels
    "contrast": (_contrast, (0.75, 0.4, 0.15)),  # factor of the distance from the image's mean colour
    "jpeg_compression": (_jpeg_compression, (80, 58, 40)),  # quality, 1 to 95
    "pixelate": (_pixelate, (0.95, 0.85, 0.65)),  # share of the side to which the image shrinks on the way
}

# All pairs of corruption and severity.
PAIRS = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]


def corrupt(images: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Corrupted copies of images; each depends on its own image alone.

    Args:
        images: uint8 (n, side, side, 3).
        name: a key of CORRUPTIONS.
        severity: one of SEVERITIES.
    """
    corrupt_image, constants = CORRUPTIONS[name]
    constant = constants[SEVERITIES.index(severity)]
    return np.stack([corrupt_image(np.asarray(image), constant) for image in images])


def corruption_rows(
    classifier: keras.Model, test: Examples, batch_size: int, reach: Callable[[int], None] = unseen
) -> list[dict[str, Any]]:
    """Accuracy on the test images under each corruption, at each strength.

    Args:
        classifier: from images to logits.
        test: images, uint8 (n, side, side, 3), and labels.
        batch_size: images per step.
        reach: called after each batch, from any thread, with the number of finished images, of len(PAIRS) * n.

    Returns:
        Rows of corruption, strength (a severity of CIFAR-10-C) and accuracy, in the order of PAIRS.
    """
    correct, before = dict.fromkeys(PAIRS, 0), 0
    for pair, chunk in _corrupted_chunks(test, chunk_size(classifier, batch_size)):

        def reach_image(done: int, before: int = before) -> None:
            reach(before + done)

        best = predict_logits(classifier, chunk.inputs, batch_size, reach_image).argmax(axis=1)
        correct[pair] += int((best == chunk.labels).sum())
        before += len(chunk)
    return [
        {"corruption": name, "strength": severity, "accuracy": count / len(test)}
        for (name, severity), count in correct.items()
    ]


def _corrupted_chunks(test: Examples, size: int) -> Iterator[tuple[tuple[str, int], Examples]]:
    """The pairs of PAIRS with corrupted examples, at most `size` at a time, so that memory does not grow with both."""
    for name, severity in PAIRS:
        for start in range(0, len(test), size):
            images, labels = (array[start : start + size] for array in (test.inputs, test.labels))
            yield (name, severity), Examples(corrupt(images, name, severity), labels)
