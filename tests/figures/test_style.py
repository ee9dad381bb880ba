"""The colours of phases, as eyes of all kinds see them."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from thaw.figures.style import PHASES, PHASES_DARK

# Linear RGB as seen without the cones for long, middle or short waves (Machado, Oliveira and Fernandes, "A
# Physiologically-based Model for Simulation of Color Vision Deficiency", 2009, severity 1.0).
SEEN = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
# Oklab (Ottosson, 2020), in which distances are about as large as they are seen.
LMS = [[0.41222147, 0.53633254, 0.05144599], [0.2119035, 0.68069955, 0.10739696], [0.08830246, 0.28171884, 0.6299787]]
LAB = [
    [0.21045426, 0.79361779, -0.00407205],
    [1.9779985, -2.42859221, 0.45059371],
    [0.02590404, 0.78277177, -0.80867577],
]


def linear(color: str) -> np.ndarray:
    values = np.array(to_rgb(color))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def distance(one: str, other: str, seen: str) -> float:
    first, second = (LAB @ np.cbrt(LMS @ np.clip(SEEN[seen] @ linear(color), 0, 1)) for color in (one, other))
    return float(np.linalg.norm(first - second))


def contrast(color: str, page: str) -> float:
    """As WCAG defines it."""
    dark, light = sorted(float(linear(one) @ [0.2126, 0.7152, 0.0722]) for one in (color, page))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("colors", [PHASES, PHASES_DARK], ids=["light", "dark"])
def test_neighbours_and_any_two_of_the_first_five_phases_are_told_apart(colors, seen):
    pairs = {*pairwise(colors), *combinations(colors[:5], 2)}
    assert min(distance(*pair, seen) for pair in pairs) > 0.08
    # The colours of matplotlib, which were here before, do not reach it.
    assert distance("#d62728", "#2ca02c", "deuteranopia") < 0.08


def test_every_colour_is_seen_on_its_page():
    assert min(contrast(color, "#ffffff") for color in PHASES) > 3
    assert min(contrast(color, "#171b22") for color in PHASES_DARK) > 3
