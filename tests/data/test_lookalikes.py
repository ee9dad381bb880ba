"""Which images look the same: copies in another encoding do, other photographs do not."""

import io

import numpy as np
import pytest
from PIL import Image

from thaw.data.lookalikes import find_lookalikes


def photograph(number: int, side: int = 96) -> Image.Image:
    generator = np.random.default_rng(number)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), np.uint8)).resize((side, side))
    grain = generator.normal(0, 10, (side, side, 3))
    return Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str, **options) -> Image.Image:
    file = io.BytesIO()
    image.save(file, form, **options)
    return Image.open(file).convert("RGB")


COPIES = {
    "jpeg 50": lambda image: encoded(image, "JPEG", quality=50),
    "jpeg 95": lambda image: encoded(image, "JPEG", quality=95),
    "webp": lambda image: encoded(image, "WEBP", quality=80),
    "png": lambda image: encoded(image, "PNG"),
    "half the size": lambda image: image.resize((48, 48), Image.Resampling.BICUBIC).resize((96, 96)),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("side", [96, 30, 4])
def test_a_copy_in_another_encoding_looks_the_same(copy, side):
    own = [photograph(number) for number in range(40)]
    others = [copy(own[7]), copy(own[33]), *(photograph(number) for number in range(100, 140))]
    images = np.stack([np.asarray(image.resize((side, side), Image.Resampling.LANCZOS)) for image in own + others])
    assert find_lookalikes(images, np.arange(40, 82), np.arange(40)) == {40: 7, 41: 33}


def test_many_images_are_compared_in_parts(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (3000, 8, 8, 3), np.uint8)
    images[2900:] = images[:100]
    found = find_lookalikes(images, np.arange(1000, 3000), np.arange(1000))
    assert found == {2900 + number: number for number in range(100)}
    monkeypatch.setattr("thaw.data.lookalikes._PAIRS", 7_000)
    assert find_lookalikes(images, np.arange(1000, 3000), np.arange(1000)) == found


@pytest.mark.parametrize(("rows", "others"), [([], [0, 1]), ([0, 1], []), ([0], [1])])
def test_where_nothing_looks_the_same_nothing_is_found(rows, others):
    images = np.stack([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)])
    assert find_lookalikes(images, np.array(rows, int), np.array(others, int)) == {}
