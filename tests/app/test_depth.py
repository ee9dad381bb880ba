"""Short runs at each depth: how long each is, and what they recommend."""

import math

import pytest

from thaw.app import depth
from thaw.app.depth import MOST, Trial, recommended, try_depths
from thaw.errors import ThawError


def trial(depth: int, accuracy: float, epochs: int = 2, seconds: float = 1.0, rate: float = 0.01) -> Trial:
    return Trial(
        depth=depth, trains="", rate=rate, epochs=epochs, seconds=seconds, accuracy=accuracy, images=10_000
    )  # fmt: skip


class Played:
    """Runs that end at once: an epoch at a depth takes `seconds`, and rates have the accuracies of `by_rate`."""

    seconds = (0.1, 1.0, 3.0, 4.0)
    by_rate = {0.01: 0.5, 0.1: 0.6, 10.0: math.nan}

    def __init__(self, *arguments: object) -> None:
        self.depths = range(len(self.seconds))

    def train(self, depth: int, epochs: int, rate: float) -> Trial:
        return trial(depth, self.by_rate[rate], epochs, self.seconds[depth], rate)


@pytest.fixture
def played(monkeypatch):
    monkeypatch.setattr(depth, "DepthTrials", Played)


def test_the_second_run_has_the_epochs_that_the_seconds_of_the_slowest_depth_allow(played):
    pairs = try_depths(None, "all", 100, 2, [0.01])
    assert [first.epochs for first, _ in pairs] == [2] * 4
    # 8 seconds in all: 80 epochs, 8, 2, and the slowest's own.
    assert [second.epochs for _, second in pairs] == [2 * MOST, 8, 2, 2]
    assert all(second is first for first, second in pairs[2:]), "nothing is trained again"


def test_the_second_run_has_the_rate_of_the_highest_accuracy(played):
    pairs = try_depths(None, "all", 100, 2, [10.0, 0.01, 0.1])
    assert {part.rate for pair in pairs for part in pair} == {0.1}


def test_a_loss_that_is_not_finite_at_any_rate_has_no_second_run(played):
    pairs = try_depths(None, "all", 100, 2, [10.0])
    assert all(second is first for first, second in pairs)
    with pytest.raises(ThawError, match="no loss was finite"):
        recommended([second for _, second in pairs])


def test_the_shallowest_depth_within_one_standard_error_is_recommended():
    # Of 0.9 in 10,000 images the standard error is 0.003.
    trials = [trial(0, 0.8), trial(1, math.nan), trial(2, 0.8969), trial(3, 0.8971), trial(4, 0.9), trial(5, 0.899)]
    best, shallowest = recommended(trials)
    assert (best.depth, shallowest.depth) == (4, 3)
    assert best.error == pytest.approx(0.003, rel=1e-3)
    assert trial(0, 1.0).error > 0


def test_of_equal_depths_the_shallowest_is_best():
    assert [found.depth for found in recommended([trial(1, 0.9), trial(2, 0.9)])] == [1, 1]
