"""Charts of a finished run: what is written on them, and which lines they have."""

from itertools import combinations

import pytest

from thaw.figures import charts
from thaw.figures.charts import draw_calibration, draw_corruptions, draw_phases

TITLES = {"head": "head: nothing but the head", "all": "all: all blocks"}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figures = []
    monkeypatch.setattr(charts, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def rows(phase, first, last):
    """Of a phase: the row that it starts from, and one for each epoch."""
    start = {"epoch": first, "phase": phase, "learning_rate": None, "train_loss": None, "train_accuracy": None}
    trained = start | {"learning_rate": 0.1, "train_loss": 1.0, "train_accuracy": 0.5}
    every = [start, *(trained | {"epoch": epoch} for epoch in range(first + 1, last + 1))]
    return [row | {"val_loss": 1.0, "val_accuracy": 0.5} for row in every]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (rows("head", 0, 2) + rows("all", 2, 3), {"head: nothing but the head": 0, "all: all blocks": 2}),
        # As the schedule `scratch` has it: both start at epoch 0.
        (rows("head", 0, 0) + rows("all", 0, 3), {"all: all blocks": 0}),
        (rows("head", 0, 0), {"head: nothing but the head": 0}),
    ],
)
def test_a_phase_is_named_where_it_starts_and_no_two_at_one_place(drawn, tmp_path, history, expected):
    draw_phases(tmp_path / "phases.png", history, TITLES, {"head": 0, "all": 1})
    accuracy, _, rate = drawn[0].axes
    names = [text for text in accuracy.texts if text.get_text()]
    assert {text.get_text(): text.xy[0] for text in names} == expected
    assert not any(text.get_rotation() for text in names)
    boxes = [text.get_window_extent() for text in names]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    low, high = rate.get_xlim()
    ticks = [tick for tick in rate.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == round(tick) for tick in ticks)


@pytest.mark.parametrize(
    ("top", "ends", "levels"),
    [
        # A short phase between long ones: its name reaches beyond the start of the next.
        ("top: block4", (60, 65, 100), 2),
        # The head's name reaches beyond the start of the next phase, whose name is above that of the last.
        ("top: group160 and above", (3, 5, 17), 3),
    ],
)
def test_no_line_of_a_phase_goes_through_the_name_of_another(drawn, tmp_path, top, ends, levels):
    titles = {"head": "head: nothing but the head", "top": top, "all": "all: group24 and above"}
    history = [row for name, *span in zip(titles, (0, *ends), ends, strict=False) for row in rows(name, *span)]
    draw_phases(tmp_path / "phases.png", history, titles, dict.fromkeys(titles, 0))
    accuracy = drawn[0].axes[0]
    names, lines = ([text for text in accuracy.texts if bool(text.get_text()) is named] for named in (True, False))
    drawn[0].draw_without_rendering()
    boxes = [text.get_window_extent() for text in names]
    assert len({box.y0 for box in boxes}) == levels
    bars = [line.arrow_patch.get_window_extent() for line in lines]
    assert all(bar.height > 9 for bar in bars)
    assert not any(bar.overlaps(box) for bar in bars for box in boxes)


@pytest.mark.parametrize(("rate", "scale"), [(0.01, "linear"), (0.0001, "log")])
def test_rates_far_apart_are_drawn_on_a_logarithmic_axis(drawn, tmp_path, rate, scale):
    history = rows("head", 0, 2) + [row | {"learning_rate": row["learning_rate"] and rate} for row in rows("all", 2, 4)]
    draw_phases(tmp_path / "phases.png", history, TITLES, {"head": 0, "all": 1})
    axes = drawn[0].axes[2]
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert low < rate < history[1]["learning_rate"] < high


def test_of_a_phase_of_one_epoch_training_is_seen_too(drawn, tmp_path):
    draw_phases(tmp_path / "phases.png", rows("head", 0, 1), TITLES, {"head": 1})
    for axes in drawn[0].axes[:2]:
        (training,) = (line for line in axes.lines if line.get_linestyle() == ":" and len(line.get_xdata()) == 1)
        assert training.get_marker() != "None"


def test_the_epoch_that_a_phase_kept_has_a_ring_and_the_title_tells_its_accuracy(drawn, tmp_path):
    history = rows("head", 0, 2) + rows("all", 2, 4)
    history[4] |= {"val_accuracy": 0.75, "val_loss": 0.25}
    draw_phases(tmp_path / "phases.png", history, TITLES, {"head": 0, "all": 1})
    for axes, values in zip(drawn[0].axes, ([0.5, 0.75], [1.0, 0.25]), strict=False):
        rings = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
        assert [tuple(line.get_xydata()[0]) for line in rings] == [(0, values[0]), (3, values[1])]
    title = drawn[0].axes[0].get_title()
    assert title == "Validation accuracy 0.500 before training, 0.750 after 2 phases"


def test_each_corruption_is_a_line_from_the_unchanged_images_on(drawn, tmp_path):
    measured = {"gaussian_noise": (0.8, 0.6), "contrast": (0.9, 0.7)}
    rows = [
        {"corruption": name, "strength": float(strength), "accuracy": accuracy}
        for name, accuracies in measured.items()
        for strength, accuracy in zip((1, 5), accuracies, strict=True)
    ]
    draw_corruptions(tmp_path / "corruptions.png", rows, 0.95, 0.75)
    (axes,) = drawn[0].axes
    lines = {line.get_label(): list(line.get_xydata().ravel()) for line in axes.lines}
    assert lines == {"gaussian noise": [0, 0.95, 1, 0.8, 5, 0.6], "contrast": [0, 0.95, 1, 0.9, 5, 0.7]}
    low, high = axes.get_ylim()
    assert 0.5 < low < 0.6 and 0.95 < high < 1, "where the curves are"
    assert axes.get_title("left") == "Corrupted test images: accuracy 0.750 on average, 0.950 unchanged"


def test_calibration_is_drawn_with_its_state_before_beside_it(drawn, tmp_path):
    def bins(name: str, *places: tuple[float, float]) -> list[dict]:
        start = {"probabilities": name, "from": 0.6, "to": 0.8, "images": 4}
        return [start | {"confidence": confidence, "accuracy": accuracy} for confidence, accuracy in places]

    table = bins("calibrated", (0.7, 0.75)) + bins("uncalibrated", (0.72, 0.5), (0.98, 0.8))
    draw_calibration(tmp_path / "calibration.png", table, 0.0123, 0.2)
    chart, _ = drawn[0].axes
    assert chart.get_title() == "Expected calibration error 0.012, before calibration 0.200"
    assert [bar.get_height() for bar in chart.patches] == [0.75]
    assert chart.get_xlim() == chart.get_ylim() == (0.5, 1)
    lines = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in chart.lines}
    assert lines["mean confidence of a bin"] == [(0.7, 0.75)]
    assert lines["before calibration"] == [(0.72, 0.5), (0.98, 0.8)]
