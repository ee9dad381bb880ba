"""Grids of images: what is written on them, and that images are shown as they are."""

import warnings

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from thaw.figures import grids
from thaw.figures.grids import CAPTION_WIDTH, caption, draw_grid, draw_predictions


def prediction(actual: str, predicted: str, confidence: float = 0.9) -> dict[str, str | float]:
    return {"class": actual, "predicted": predicted, "confidence": confidence}


@pytest.mark.parametrize("count", [0, 1, 9])
def test_images_with_their_captions_stand_under_their_title(monkeypatch, tmp_path, count):
    figures = []
    monkeypatch.setattr(grids, "save_figure", lambda figure, path: figures.append(figure))
    rows = [prediction("cat", "cat" if number % 2 else "dog") for number in range(count)]
    draw_predictions(tmp_path / "gallery.png", "Test images", np.zeros((count, 32, 32, 3), np.uint8), rows)
    (figure,) = figures
    assert figure.get_suptitle() == "Test images"
    assert [axes.get_title() for axes in figure.axes] == [caption(row) for row in rows]
    colors = [to_rgb(axes.title.get_color()) for axes in figure.axes]
    assert [green > red for red, green, _ in colors] == [row["predicted"] == "cat" for row in rows]


def test_a_caption_names_the_actual_class_where_the_prediction_is_wrong():
    assert caption(prediction("ship", "ship", 0.984)) == "predicted ship (98\u00a0%)"
    assert caption(prediction("ship", "automobile", 1.0)) == "predicted automobile\n(100\u00a0%), actual\u00a0ship"


def test_the_lines_of_a_caption_are_no_wider_than_its_image():
    text = caption(prediction("sweet_pepper", "aquarium_fish"))
    assert all(len(line) <= CAPTION_WIDTH for line in text.splitlines()), text


NAMES = ["🤚", "고양이", "$x$ and $", "a_b^c\\frac{", "é ", 'a, "b"']


def test_any_name_is_drawn_as_it_is_and_without_a_word(tmp_path, monkeypatch):
    images = np.zeros((len(NAMES), 32, 32, 3), np.uint8)
    with warnings.catch_warnings(action="error"):
        draw_predictions(tmp_path / "a.png", f"Test images of {NAMES[2]}", images, [prediction(n, n) for n in NAMES])
        draw_grid(tmp_path / "b.png", NAMES[2], images[None], [NAMES[0]], NAMES)
    figures = []
    monkeypatch.setattr(grids, "save_figure", lambda figure, path: figures.append(figure))
    draw_grid(tmp_path / "b.png", "Views", images[None], [""], NAMES)
    assert [axes.get_title() for axes in figures[0].axes] == NAMES
    assert not any(axes.title.get_parse_math() for axes in figures[0].axes)


def test_a_grid_shows_the_pixels_as_they_are(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 10, 32, 32, 3), np.uint8)
    path = tmp_path / "grid.png"
    draw_grid(path, "Views", images, ["view 0", "view 1"], list("abcdefghij"))
    drawn = (imread(path, format="png")[..., :3] * 255).round()
    height, width, _ = drawn.shape
    assert width > 2.5 * height
    # Enlarged without mixing: each colour is there as it was.
    assert colors(images) <= colors(drawn)


@pytest.mark.parametrize(("side", "least"), [(8, 95), (32, 95), (96, 100), (160, 150), (1000, 150)])
def test_larger_images_are_drawn_larger_to_a_limit_and_reduced_ones_with_all_of_their_pixels(tmp_path, side, least):
    # A chessboard, of which `nearest` may show one colour alone.
    images = np.broadcast_to((np.indices((side, side)).sum(axis=0) % 2 * 255)[..., None], (8, side, side, 3))
    draw_predictions(tmp_path / "gallery.png", "Test", images.astype(np.uint8), [prediction("cat", "cat")] * 8)
    drawn = imread(tmp_path / "gallery.png", format="png")[..., :3]
    height, width, _ = drawn.shape
    assert least * 8 <= width <= 200 * 8 and height < 300
    if side == 1000:
        assert (abs(drawn - 0.5) < 0.1).all(axis=-1).sum() > 8 * least**2 * 0.8, "grey"


def colors(image: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, image.reshape(-1, 3).astype(int).tolist()))
