"""The comparison of experiments, on experiments made by hand."""

import copy
import functools
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from PIL import Image

from tests.helpers.project import ROOT
from thaw.app import compare
from thaw.app.compare import _error, comparison_table, draw_comparison, front, group_setups, write_comparison
from thaw.app.experiments import Experiment, _experiment, _kept_start
from thaw.app.lockfile import (
    all_stages,
    changed_params,
    computing_stages,
    recorded_stages,
    training_stages,
)
from thaw.config.compose import compose
from thaw.errors import ThawError
from thaw.figures.style import PHASES


@pytest.fixture(scope="module")
def params():
    """What conf/ composes to under overrides, each composed once."""

    @functools.cache
    def composed(*overrides):
        return compose(list(overrides))

    return lambda *overrides: copy.deepcopy(composed(*overrides))


@pytest.fixture
def grid(params):
    """Two backbones, two schedules, two seeds; gradual is better by 0.02 and takes half the time."""
    found = []
    for accuracy, seconds, backbone in ((0.7, 100, "vgg16"), (0.8, 400, "mobilenetv2")):
        for better, times, schedule in ((0.02, 1, "gradual"), (0, 2, "full")):
            for seed in (0, 1):
                its = params(f"backbone={backbone}", f"schedule={schedule}", f"seed={seed}")
                name = f"{backbone}-{schedule}-{seed}"
                of_run = accuracy + better + seed / 100
                interval = (of_run - 0.01, of_run + 0.01)
                found.append(Experiment(name, its, of_run, seconds * times + 10 * seed, interval=interval))
    return found


def test_a_lock_that_a_merge_has_left_its_marks_in_is_told():
    assert recorded_stages("schema: '2.0'\nstages: {a: {cmd: b}}\n") == {"a": {"cmd": "b"}}
    with pytest.raises(ThawError, match="dvc.lock: not a YAML file"):
        recorded_stages("<<<<<<< HEAD\nstages:\n=======\n>>>>>>> other\n")


def test_experiments_that_differ_by_seeds_are_one_set_up(grid):
    found, _ = group_setups(grid)
    assert [setup.label for setup in found] == [
        {"backbone": "mobilenetv2", "schedule": "gradual"},
        {"backbone": "mobilenetv2", "schedule": "full"},
        {"backbone": "vgg16", "schedule": "gradual"},
        {"backbone": "vgg16", "schedule": "full"},
    ]
    assert [one.name for one in found[0].runs] == ["mobilenetv2-gradual-0", "mobilenetv2-gradual-1"]
    assert found[0].accuracy == pytest.approx(0.825)
    assert found[0].seconds == 405


def test_what_follows_from_the_backbone_is_no_column_but_is_named(grid):
    _, in_step = group_setups(grid)
    assert {"backbone.image_size", "backbone.learning_rate", "head.pool"} <= set(in_step)
    # Not what one of the schedules does not have.
    assert not any("phases.depth" in name for name in in_step)


def test_long_values_that_begin_or_end_alike_are_not_taken_for_one(params):
    found = []
    for number, last in enumerate(("dog", "frog", "frog")):
        its = params(f"dataset.classes=[airplane,automobile,bird,{last}]", f"seed={number}")
        found.append(Experiment(str(number), its, number / 10, 10))
    made, _ = group_setups(found)
    assert [[one.name for one in setup.runs] for setup in made] == [["1", "2"], ["0"]]
    assert made[1].label == {"dataset.classes": "['airplane', 'automobile', 'bird', 'dog']"}
    folders = [f"/somewhere/far/away/{folder}" for folder in ("a", "b")]
    for one, folder in zip(found, folders, strict=False):
        one.params["dataset"]["classes"], one.params["backbone"]["weights"] = None, f"{folder}/vgg16.h5"
    assert [setup.label for setup in group_setups(found[:2])[0]] == [
        {"backbone.weights": f"{folder}/vgg16.h5"} for folder in reversed(folders)
    ]


def test_what_differs_within_a_backbone_is_a_column(grid, params):
    other = params("backbone=vgg16", "schedule=full", "head.units=64", "schedule.phases.all.epochs=3")
    found, _ = group_setups([*grid, Experiment("other", other, 0.5, 50)])
    assert found[-1].label == {
        "backbone": "vgg16", "schedule": "full", "head.units": "64", "phases.all.epochs": "3",
    }  # fmt: skip
    assert found[0].label["head.units"] == "256"


def test_a_schedule_whose_values_were_changed_keeps_its_name_and_has_them_beside_it(params):
    schedule = "schedule=recipe/vgg16-gradual"
    before = params(schedule, "schedule.phases.depth2.depth=2", "schedule.phases.all.epochs=4")
    changed = params(schedule, "schedule.phases.depth2.depth=3", "schedule.phases.all.epochs=7")
    found, _ = group_setups([Experiment("a", before, 0.6, 1), Experiment("b", changed, 0.5, 1)])
    assert [setup.label for setup in found] == [
        {"phases.depth2.depth": "2", "phases.all.epochs": "4"},
        {"phases.depth2.depth": "3", "phases.all.epochs": "7"},
    ]


def test_a_head_or_augmentation_is_a_column_where_the_backbone_does_not_decide_it(params):
    names = [("a", "head=gap"), ("b", "head=flatten"), ("c", "augment=strong")]
    made = [Experiment(name, params(override), 0.9 - n / 10, 1) for n, (name, override) in enumerate(names)]
    found, in_step = group_setups(made)
    assert [setup.label for setup in found] == [
        {"head": "gap", "augment": "standard"}, {"head": "flatten", "augment": "standard"},
        {"head": "flatten", "augment": "strong"},
    ]  # fmt: skip
    assert {"head.pool", "head.dropout", "augment.rotation"} <= set(in_step)


def test_what_changes_no_result_is_no_column(params):
    made = [Experiment(name, params(f"run.data_gb={name}"), 0.5, 1) for name in "12"]
    assert [setup.label for setup in group_setups(made)[0]] == [{}]


def test_a_parameter_that_one_does_not_have_is_a_dash(params):
    ours, theirs = params("backbone=mobilenetv2"), params("backbone=mobilenetv2")
    del theirs["backbone"]["alpha"]
    found, _ = group_setups([Experiment("a", ours, 0.6, 1), Experiment("b", theirs, 0.5, 1)])
    assert [setup.label for setup in found] == [{"backbone.alpha": "1.0"}, {"backbone.alpha": "-"}]


def test_long_values_are_cut_where_they_are_told_but_not_where_they_are_compared(params):
    weights = [params("backbone=vgg16", f"backbone.weights=/{'x' * 30}/{end}.h5") for end in "ab"]
    archives = [params(f"dataset.sha256={end * 64}") for end in "ab"]
    labels = [
        [setup.label for setup in group_setups([Experiment(str(n), p, 0.5, n) for n, p in enumerate(pair)])[0]]
        for pair in (weights, archives)
    ]
    assert labels[0] == [{"backbone.weights": "a.h5"}, {"backbone.weights": "b.h5"}]
    assert labels[1] == [{"dataset.sha256": "aaaaaaaaaa..."}, {"dataset.sha256": "bbbbbbbbbb..."}]


def test_the_front_leaves_out_what_another_beats():
    points = [(3.0, 0.9), (1.0, 0.5), (2.0, 0.5), (2.0, 0.7), (4.0, 0.9), (5.0, 0.95)]
    assert front(points) == [(1.0, 0.5), (2.0, 0.7), (3.0, 0.9), (5.0, 0.95)]


@given(st.lists(st.tuples(st.integers(0, 9).map(float), st.integers(0, 9).map(float)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_point_beats(points):
    def beaten(point):
        seconds, accuracy = point
        return any(s <= seconds and a >= accuracy and (s, a) != point for s, a in points)

    assert front(points) == sorted({point for point in points if not beaten(point)})


def test_the_table_tells_ranges_seeds_and_the_front(grid):
    lines = comparison_table(*group_setups(grid)).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == [
        "#",
        "backbone",
        "schedule",
        "seeds",
        "test accuracy",
        "95 % interval",
        "training, s",
        "experiments",
    ]
    assert cells[2] == [
        "1", "mobilenetv2", "gradual", "0, 1", "**0.8250 (0.8200 to 0.8300)**", "0.8150 to 0.8350", "405 (400 to 410)",
        "mobilenetv2-gradual-0, mobilenetv2-gradual-1",
    ]  # fmt: skip
    assert [row[4].startswith("**") for row in cells[2:]] == [True, False, True, False]
    assert "backbone.image_size" in lines[-1]


def test_the_table_holds_whatever_a_name_holds(params):
    text = comparison_table(*group_setups([Experiment("a|b", params(), 0.5, 1)]))
    assert text.splitlines()[2].count("|") - text.splitlines()[2].count("\\|") == 7


def test_a_set_up_has_the_mean_interval_of_its_runs_unless_one_has_none(grid):
    (setup, *_), _ = group_setups(grid)
    assert setup.interval == pytest.approx((0.815, 0.835))
    earlier = [replace(run, interval=None) if run is setup.runs[0] else run for run in setup.runs]
    assert replace(setup, runs=earlier).interval is None
    table = comparison_table([replace(setup, runs=earlier)], []).splitlines()
    assert "| **0.8250 (0.8200 to 0.8300)** | -   " in table[2]


def test_the_chart_has_a_bar_for_each_interval(grid, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(compare, "save_figure", lambda figure, path: drawn.append(figure))
    setups, _ = group_setups([*grid[2:], replace(grid[0], interval=None)])
    draw_comparison(tmp_path / "compare.png", setups)
    (axes,) = drawn[0].axes
    (bars,) = (lines for lines in axes.collections if lines.get_label() == "95 % interval")
    expected = [[[setup.seconds, bound] for bound in setup.interval] for setup in setups if setup.interval]
    assert [segment.tolist() for segment in bars.get_segments()] == expected and len(expected) == 3


def test_the_chart_shows_every_set_up(grid, params, tmp_path):
    for found in (grid[:1], grid, [*grid, Experiment("long", params("backbone=cnn"), 0.6, 90_000)]):
        draw_comparison(tmp_path / "compare.png", group_setups(found)[0])
        with Image.open(tmp_path / "compare.png") as image:
            assert image.size == (1350, 825)
            # Each backbone has the next colour of phases.
            colors = {color for _, color in image.convert("RGB").getcolors(1 << 20)}
        assert tuple(round(255 * share) for share in to_rgb(PHASES[0])) in colors
        assert (tuple(round(255 * share) for share in to_rgb(PHASES[1])) in colors) == (len(found) > 1)


# Of three of each, the mean of numpy lies below the first and above the second.
@pytest.mark.parametrize("value", [234.58999999999997, 0.1])
def test_a_chart_of_equal_runs_is_drawn(params, tmp_path, value):
    equal = [Experiment(str(seed), params(f"seed={seed}"), value / 1000, value) for seed in range(3)]
    (setup,), _ = group_setups(equal)
    assert (setup.accuracy, setup.seconds) == (value / 1000, value)
    draw_comparison(tmp_path / "compare.png", [setup])
    assert (tmp_path / "compare.png").is_file()


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9), st.integers(1, 5))
def test_no_error_bar_is_negative(values, times):
    assert (_error([values * times]) >= 0).all()


def test_equal_set_ups_share_the_front_whatever_the_number_of_their_seeds(params):
    several = [Experiment(str(seed), params("head.units=64", f"seed={seed}"), 0.1, 9.0) for seed in range(3)]
    setups, in_step = group_setups([*several, Experiment("one", params(), 0.1, 9.0)])
    assert comparison_table(setups, in_step).count("**") == 4


def row(name, accuracy, rev="a" * 40):
    params, metrics = {"params.yaml": {"data": {"seed": 0}}}, {}
    if accuracy is not None:
        metrics = {"metrics/evaluate.json": {"data": {"accuracy": accuracy}}}
    return {"rev": rev, "name": name, "data": {"params": params, "metrics": metrics}, "experiments": None}


@pytest.mark.parametrize(
    ("state", "accuracy", "said"),
    [("queued", None, "queued"), ("running", None, "running"), ("failed", None, "failed"),
     ("success", None, "without a result"), ("commit", None, None)],
)  # fmt: skip
def test_what_did_not_finish_is_left_out_with_its_reason(state, accuracy, said):
    assert _experiment(state, row("one", accuracy), None) == said


@pytest.mark.parametrize("metrics", [{"loss": 1.0}, [1.0], 1.0])
def test_metrics_of_another_pipeline_are_no_result(metrics):
    its = row("one", 0.5)
    its["data"]["metrics"]["metrics/evaluate.json"]["data"] = metrics
    assert _experiment("commit", its, None) is None


def test_the_stages_are_those_of_dvc_yaml(params):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    its = params("recipe=demo")
    assert all_stages(its) == [
        name
        for stage, section in stages.items()
        for name in ([f"{stage}@{phase}" for phase in its["schedule"]["phases"]] if "do" in section else [stage])
    ]
    assert training_stages(its) == ["backbone", "extract", "train_head", "unfreeze@top", "unfreeze@all"]
    assert computing_stages(its) == [*training_stages(its), "evaluate"]


def test_what_was_changed_since_the_run_is_named(params):
    its = params("head.learning_rate=1e-5", "schedule=full")
    recorded = {
        "train_head": {"params": {"params.yaml": {"seed": 0, "head": its["head"]}}},
        "unfreeze@all": {"params": {"params.yaml": {"schedule.phases.all": its["schedule"]["phases"]["all"]}}},
        "unfreeze@gone": {"params": {"params.yaml": {"schedule.phases.gone": {"epochs": 1}}}},  # of another schedule
    }
    assert changed_params(its, recorded) == []
    its["schedule"]["phases"]["all"] = its["schedule"]["phases"]["all"] | {"epochs": 7}
    assert changed_params(its | {"seed": 1}, recorded) == ["seed", "schedule.phases.all"]


def test_experiments_are_named_or_all(grid, monkeypatch, tmp_path):
    monkeypatch.setattr(compare, "read_experiments", lambda all_commits: (grid[:3], ["1 queued"]))
    for names in ([], [grid[2].name, grid[0].name]):
        text = write_comparison(tmp_path, names=names)
        assert [run.name in text for run in grid[:3]] == [not names or run.name in names for run in grid[:3]]
        assert (tmp_path / "compare.md").read_text() == text + "\n"
    names = "vgg16-gradual-0, vgg16-gradual-1, vgg16-full-0"
    with pytest.raises(ThawError, match=f"^compare: received other; accepted: {names}. Left out: 1 queued.$"):
        write_comparison(tmp_path, names=["other"])


def test_phases_that_kept_their_start_are_named(grid, params, monkeypatch, tmp_path):
    def recorded(phase: str, max_epochs: int, best_epoch: int) -> dict:
        numbers = {"val_accuracy": 0.5, "max_epochs": max_epochs, "best_epoch": best_epoch}
        return {f"metrics/phases/{phase}.json": {"data": {name: {phase: value} for name, value in numbers.items()}}}

    metrics = recorded("head", 0, 0) | recorded("depth1", 5, 0) | recorded("depth2", 5, 3) | recorded("all", 5, 0)
    its = params("schedule=recipe/vgg16-gradual")
    assert _kept_start(its, metrics) == ("depth1", "all")
    earlier = {"metrics/phases/depth1.json": {"data": {"val_accuracy": {"depth1": 0.5}}}}
    assert _kept_start(its, earlier) == ()
    runs = [replace(grid[0], kept_start=("depth1", "all")), *grid[1:3]]
    monkeypatch.setattr(compare, "read_experiments", lambda all_commits: (runs, []))
    said = "No epoch was better on validation than the start, which was kept: vgg16-gradual-0 (depth1, all)."
    assert said in write_comparison(tmp_path)
    assert "start" not in write_comparison(tmp_path, names=[grid[1].name])


def test_outside_a_repository_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ThawError, match="compare: you are not inside of a DVC repository"):
        write_comparison()
