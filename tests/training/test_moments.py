"""Adam's moments between phases: by the names of variables, in a folder, whole or refused."""

import numpy as np
import pytest

from tests.helpers.examples import data, example_images, run, small_network, training
from thaw.errors import ThawError
from thaw.network.build import Network
from thaw.network.history import best_row
from thaw.network.seeds import seed_initialisers
from thaw.training.adam import Moments
from thaw.training.loop import train_network
from thaw.training.moments import MOMENTS_JSON, TENSORS, load_moments, save_moments, updates_of

IMAGES = example_images(16)


def network(frozen: int = 0) -> Network:
    built = small_network()
    seed_initialisers(0, "head")
    built.attach("avg", None, 0.0, 4)
    built.freeze(frozen)
    return built


def moments_after(built: Network, **options) -> tuple[dict[str, Moments], int]:
    """The moments of the best epoch, and its steps."""
    trained = train_network(built, run(training(epochs=4, learning_rate=0.05), **options), data(IMAGES, IMAGES))
    best = trained.rows.index(best_row(trained.rows))
    assert best, "something is learnt"
    return trained.moments, best * len(IMAGES) // 8


def test_a_folder_holds_what_was_saved_in_the_same_bytes_each_time(tmp_path):
    moments, steps = moments_after(network())
    for folder in ("one", "other"):
        save_moments(tmp_path / folder, moments)
    for name in (TENSORS, MOMENTS_JSON):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    read = load_moments(tmp_path / "one")
    assert read.keys() == moments.keys()
    for name, each in moments.items():
        np.testing.assert_array_equal(read[name].first, each.first)
        np.testing.assert_array_equal(read[name].second, each.second)
        assert read[name].steps == each.steps == steps


@pytest.mark.parametrize("name", [TENSORS, MOMENTS_JSON])
@pytest.mark.parametrize("damage", ["gone", "other bytes"])
def test_what_is_missing_or_damaged_is_refused(tmp_path, name, damage):
    save_moments(tmp_path / "moments", moments_after(network())[0])
    file = tmp_path / "moments" / name
    file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ThawError, match=f"{name}: missing or damaged"):
        load_moments(tmp_path / "moments")


def test_moments_are_of_what_was_trained_alone():
    built = network(frozen=4)
    names, _ = moments_after(built)
    assert names and not any(name.startswith("low/") for name in names)
    assert {name.partition("/")[0] for name in names} == {"high", "head"}


def test_blocks_below_learn_at_a_lower_rate_and_the_head_at_the_full_one():
    factors = {}
    for update in updates_of(network(), 0.5, {}):
        factors.setdefault(update.factor, []).append(update.variable.path)
    assert set(factors) == {1.0, 0.5}
    assert all("low" in path for path in factors[0.5])
    assert any("logits" in path for path in factors[1.0]) and any("high" in path for path in factors[1.0])


def test_what_is_newly_thawed_starts_with_zero_moments_beside_what_carries_its_own_on():
    built = network(frozen=4)
    before, earlier = moments_after(built)
    built.freeze(0)
    after, steps = moments_after(built, moments=before)
    ages = {name.partition("/")[0]: each.steps for name, each in after.items()}
    assert ages == {"low": steps, "high": earlier + steps, "head": earlier + steps}
