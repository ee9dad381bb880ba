"""Test-time views: copies of the images to classify, whose predictions are averaged. Start at `mean_over_views`."""

from collections.abc import Callable, Iterator

import keras
import numpy as np

from thaw.network.inference import predict_logits, softmax
from thaw.runtime.progress import unseen

# Length of a shift, as a share of the side: 2 of 32 pixels.
SHIFT = 1 / 16

# No shift, then one towards each corner: (down, right), in lengths of a shift. With mirror images, as the ten crops of
# Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks" (2012).
OFFSETS = ((0, 0), (-1, -1), (1, 1), (-1, 1), (1, -1))


def further_views(images: np.ndarray, count: int, mirrored: bool) -> Iterator[np.ndarray]:
    """The views after the first, which is the image as it is; each has the shape of `images`.

    View 2 is the mirror image. Views 3, 5, 7 and 9 are the image shifted by a sixteenth of its side towards each
    corner, views 4, 6, 8 and 10 their mirror images. Where nothing may be mirrored, views 2 to 5 are the shifted ones.

    Args:
        images: uint8 (n, side, side, 3).
        count: number of views with the first, 10 at most, or 5 if not mirrored.
        mirrored: whether mirror images are among the views.
    """
    side = images.shape[1]
    shift = max(1, round(SHIFT * side))
    # Reflected edges as in augmentation: b a | a b c d | d c.
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="symmetric")
    for number in range(1, count):
        down, right = OFFSETS[number // 2 if mirrored else number]
        top, left = shift * (1 - down), shift * (1 - right)
        shifted = padded[:, top : top + side, left : left + side]
        yield shifted[:, :, ::-1] if mirrored and number % 2 else shifted


def describe_views(count: int, mirrored: bool) -> str:
    """Views in words, such as `10 views, mirrored and shifted`."""
    kinds = ["mirrored"] * mirrored + ["shifted"] * (count > 1 + mirrored)
    return f"{count} views, {' and '.join(kinds)}"


def mean_over_views(
    classifier: keras.Model,
    images: np.ndarray,
    predicted: np.ndarray,
    temperature: float,
    count: int,
    mirrored: bool,
    batch_size: int,
    reach: Callable[[int], None] = unseen,
) -> np.ndarray:
    """Mean class probabilities over the views, float64 (n, classes).

    Args:
        classifier: from images to logits.
        images, count, mirrored: as for `further_views`.
        predicted: probabilities of the first view, (n, classes).
        temperature: of the checkpoint, for the other views.
        batch_size: images per step.
        reach: called after each batch, from any thread, with the number of finished images of the further views.
    """
    total = predicted.copy()
    for number, view in enumerate(further_views(images, count, mirrored)):

        def reach_image(done: int, before: int = number * len(images)) -> None:
            reach(before + done)

        total += softmax(predict_logits(classifier, view, batch_size, reach_image), temperature)
    return total / count
