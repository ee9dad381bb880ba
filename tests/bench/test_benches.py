"""The benchmarks as far as they run in a moment: what they make of their measurements, and toy runs of them."""

import json
import statistics
from pathlib import Path

import keras
import pytest

from bench import (
    ablations,
    common,
    frontier,
    gpu,
    runs,
    scale,
    schedule,
    small_maps,
    steps,
    store,
    sweep,
    time_report,
    torch_peer,
    workers,
)
from tests.helpers.project import ROOT
from thaw.network import convolution
from thaw.stage import composed_params


def one(side: str, seed: int, head: float, depth1: float, final: float, **more) -> dict:
    return {
        "side": side,
        "seed": seed,
        "seconds": {"head": head, "depth1": depth1} | more.pop("seconds", {}),
        "total": head + depth1 + more.pop("extract", 0.0),
        "accuracy": {} if side == "pytorch" else {"head": 0.5, "depth1": final},
        "final": None if side == "pytorch" else final,
        "epochs": {"head": 2, "depth1": 1},
        "images": 1000,
        "peak_gb": 1.0 + seed,
        **more,
    }


RUNS = [
    one("notebook", 0, 60, 30, 0.8),
    one("thaw", 0, 5, 10, 0.9, extract=10, seconds={"extract": 10}, reached=[[12, 0.7], [20, 0.85]], bound=15.0),
    one("pytorch", 0, 90, 45, 0.0),
    one("notebook", 1, 80, 30, 0.7),
    one("thaw", 1, 10, 10, 0.8, extract=10, seconds={"extract": 10}, reached=[[12, 0.7], [30, 0.8]], bound=25.0),
]


def test_extraction_counts_for_the_head_and_ratios_are_taken_seed_by_seed():
    head, depth1, whole, reached = schedule.summary(RUNS)
    assert head["seconds"] == {"notebook": 70, "thaw": 17.5, "pytorch": 90}
    assert head["ratio"]["thaw"] == [4.0, 4.0, 4.0]
    assert depth1["ratio"]["thaw"] == [3.0, 3.0, 3.0]
    assert whole["ratio"]["thaw"] == pytest.approx([90 / 25, (90 / 25 + 110 / 30) / 2, 110 / 30])
    assert whole["ratio"]["pytorch"] == pytest.approx([90 / 135] * 3)
    assert whole["images_per_second"]["notebook"] == pytest.approx(3000 / 100)
    assert whole["peak_gb"] == {"notebook": 2.0, "thaw": 2.0, "pytorch": 1.0}
    assert whole["bound"] == 20
    # 0.8 of seed 0 is reached after 20 s, 0.7 of seed 1 after 12.
    assert reached["seconds"]["thaw"] == 16
    assert reached["ratio"]["thaw"][0] == pytest.approx(90 / 20)


def test_an_accuracy_that_is_not_reached_gives_no_time():
    runs = [RUNS[0], RUNS[1] | {"reached": [[12, 0.7]]}]
    assert [row["phase"] for row in schedule.summary(runs)] == ["head", "depth1", "all"]


def test_the_table_has_a_row_for_each_phase_and_says_what_is_missing():
    text = schedule.table(schedule.summary(RUNS))
    lines = text.splitlines()
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "| head, extraction included | 70.0 | 17.5 | 90.0 | 4.00 (4.00 to 4.00) |" in text
    assert "Bound of thaw's seconds: 20.0" in text


def test_paths_stay_out_of_the_record():
    chosen = composed_params([])
    hidden = chosen.model_copy(update={"backbone": chosen.backbone.model_copy(update={"weights": "/home/me/a.h5"})})
    assert "/home/me" not in json.dumps(common.settings(hidden))


def test_overrides_are_composed_as_experiments_are():
    assert composed_params(["backbone=cnn", "batch_size=16"]).batch_size == 16


def test_operations_of_a_network_are_those_of_its_products():
    start = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3, padding="same")(start)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = keras.layers.Dense(7)(keras.layers.Flatten()(x))
    expected = 2 * (8 * 8 * 5 * 9 * 3 + 4 * 4 * 5 * 9 + 80 * 7)
    assert gpu.flops(keras.Model(start, x)) == expected


def test_vgg16_has_the_operations_that_are_published():
    # 15.5 billion multiply-adds at 224 pixels, the dense layers' 0.12 included (Canziani et al., 2016).
    assert gpu.flops(keras.applications.VGG16(weights=None)) / 2 == pytest.approx(15.5e9, rel=0.01)


def test_where_there_is_no_gpu_the_table_says_so():
    rows = [{"backbone": name, "image_size": 224} for name in gpu.NAMES]
    text = gpu.table({"rows": rows, "peak_tflops": None, "device": "cpu"})
    assert text.count(gpu.NOT_MEASURED) == 10 * len(rows) + 1


@pytest.mark.slow
def test_a_backbone_is_measured_at_every_depth_at_toy_size():
    row = gpu.measure("vgg16", 32, 4, 1, peak_tflops=1.0)
    assert list(row["train"]) == [0, 1, 2, 3, 4, 5]
    for cell in (row["extract"], *row["train"].values()):
        assert cell["images_per_second"] > 0
        assert 0 < cell["share"] < 1


def test_the_matrix_peak_is_some_rate():
    assert gpu.peak(64, keras.backend.backend()) > 0


def test_costs_by_size_are_compared_with_the_middle():
    runs = [
        {"images": n, "extract_ms_per_image": cost, "train_ms_per_image": 2.0, "peak_gb": 1.0}
        for n, cost in ((5_000, 0.6), (50_000, 0.5), (500_000, 0.55))
    ]
    assert "| 5,000 | 0.600 (1.20) | 2.000 (1.00) | 1.00 |" in scale.table(runs)


def test_workers_are_compared_by_what_an_image_more_costs():
    runs = [
        {"images": images, "workers": 2, "seconds": seconds, "peak_gb": [0.5, 0.4], "sha256": digest}
        for images, seconds, digest in ((1_000, 5.0, "a"), (11_000, 10.0, "b"))
    ]
    lines = workers.table([*runs, runs[1] | {"sha256": "c"}]).splitlines()
    assert lines[2] == "| 1,000 | 2 | 5 |  |  | 0.50, 0.40 | equal |"
    assert lines[3] == "| 11,000 | 2 | 10 |  | 0.500 | 0.50, 0.40 | equal |"
    assert lines[4].endswith("| differ |")


def test_the_model_of_workers_divides_starts_and_images_by_what_the_cores_are_worth():
    runs = [
        {"images": images, "workers": count, "seconds": seconds}
        for images, count, seconds in ((1_000, 1, 6.0), (1_000, 4, 0.0), (11_000, 1, 16.0), (11_000, 2, 0.0))
    ]
    # A start takes 5 s, an image 1 ms.
    assert workers.modelled(runs, 1.6) == [6.0, 5 + (15 + 1) / 1.6, 16.0, 5 + (5 + 11) / 1.6]


@pytest.mark.skipif(not torch_peer.available(), reason="torch is not installed")
@pytest.mark.parametrize("alpha", [0.35, 1.0, 1.4])
def test_pytorchs_network_has_the_weights_of_kerass(alpha):
    blocks, width = torch_peer.mobilenet(alpha)
    found = sum(weight.numel() for block in blocks for weight in block.parameters())
    found += sum(statistic.numel() for block in blocks for key, statistic in block.named_buffers() if "running" in key)
    model = keras.applications.MobileNetV2(alpha=alpha, include_top=False, weights=None, input_shape=(96, 96, 3))
    assert found == model.count_params()
    assert width == model.output.shape[-1]


def test_steps_are_compared_run_by_run():
    text = steps.table(
        {"inference": {"thaw": [600, 660], "pytorch": [500, 600]}, "train": {"thaw": [300], "pytorch": []}}
    )
    assert "| inference | 600, 660 | 500, 600 | 1.15 (1.10 to 1.20) |" in text
    assert "| train | 300 | not measured | not measured |" in text


def test_thaws_side_takes_steps():
    assert steps.rate(32, 0.35, 4, "train", 2) > 0


def test_small_maps_are_compared_pair_by_pair():
    text = small_maps.table({"cnn, 32 px, depth 1": {"backend": [400, 200, 100], "thaw": [100, 100, 80]}})
    assert "| cnn, 32 px, depth 1 | 400, 200, 100 | 100, 100, 80 | 0.50 (0.25 to 0.80) |" in text


@pytest.mark.parametrize("side", small_maps.SIDES)
def test_either_side_of_small_maps_takes_steps(side, monkeypatch):
    monkeypatch.setattr(convolution, "by_products", convolution.by_products)  # set back after the test
    assert small_maps.milliseconds("cnn", 32, 1, side, 4, 2) > 0


def finished(seed: int, accuracy: float, **more) -> dict:
    return {
        "settings": {"seed": seed},
        "metrics": {"accuracy": accuracy, "macro_f1": accuracy - 0.01, "train_accuracy": 0.9} | more,
        "seconds": {"download": 1000, "extract": 2, "unfreeze@all": 3.4},
        "val_accuracy": [[0, "head", 0.1], [1, "head", accuracy]],
    }


def test_a_run_that_was_cut_off_goes_on_in_its_clone_and_in_none_of_another_commit(tmp_path, monkeypatch):
    heads, kept, ran = {Path(): "a" * 40}, tmp_path / "kept", []

    def clone(revision, folder):
        (folder / ".git").mkdir(parents=True)
        heads[folder] = heads[Path()]

    def cut_off(folder, overrides):
        ran.append((folder, overrides))
        if len(ran) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(runs.clones, "clone", clone)
    monkeypatch.setattr(runs.clones, "head", heads.__getitem__)
    monkeypatch.setattr(runs.clones, "run", cut_off)
    monkeypatch.setattr(runs, "collect", lambda folder: {"folder": folder})
    with pytest.raises(KeyboardInterrupt):
        runs.run("demo", ["seed=0"], kept)
    assert runs.run("demo", ["seed=0"], kept) == {"name": "demo", "folder": kept}
    assert ran == [(kept, ["seed=0"])] * 2
    heads[Path()] = "b" * 40
    with pytest.raises(SystemExit, match="kept: a clone of commit aaaaaaa; accepted: of HEAD, or none"):
        runs.run("demo", ["seed=0"], kept)


def test_whole_runs_are_told_by_seed_with_their_source_tasks(tmp_path):
    task = {"source": {"accuracy": 0.85, "macro_f1": 0.84}, "source_after": {"accuracy": 0.7, "macro_f1": 0.69}}
    later = finished(1, 0.81, accuracy_low=0.8022, accuracy_high=0.8176)
    found = {"gradual": [finished(0, 0.8), later], "split": [finished(0, 0.9, **task)]}
    text = runs.table(found)
    assert "| gradual | 0, 1 | 0.8000, 0.8100 | -, 0.8022 to 0.8176 | 0.7900, 0.8000 | 0.9000, 0.9000 | 5, 5 |" in text
    assert "| its source task | | 0.8500 | - | 0.8400 | | |" in text
    assert "| its source task, after the transfer | | 0.7000 | - | 0.6900 | | |" in text


def test_the_schedules_whose_robustness_is_compared_differ_in_what_is_trained_and_when():
    planned = runs.planned([runs.ROBUSTNESS])
    assert {(bench, name) for bench, name, _ in planned} == {
        ("robustness", name) for name in runs.COMPARED["robustness"][1]
    }
    params = {name: composed_params(overrides) for _, name, overrides in planned}
    trained = {
        name: [("head", one.head.epochs > 0), *((phase, row.depth) for phase, row in one.schedule.phases.items())]
        for name, one in params.items()
    }
    assert trained == {
        "head-only": [("head", True)],
        "gradual": [("head", True), ("depth3", 3), ("depth4", 4)],
        "full": [("head", True), ("all", "all")],
        "at-once": [("head", False), ("all", "all")],
    }
    assert all(one.evaluate.corruptions for one in params.values())
    assert len({(one.backbone.model_dump_json(), one.dataset.model_dump_json()) for one in params.values()}) == 1


def test_the_runs_of_the_story_are_of_the_demo_and_differ_in_the_head_or_in_how_it_is_thawed():
    planned = {name: composed_params(overrides) for _, name, overrides in runs.planned([runs.STORY])}
    demo = composed_params(["recipe=demo"])
    assert planned["gradual"] == demo
    assert planned["head"].head == demo.head and not planned["head"].schedule.phases
    assert planned["head-twice"].head == demo.head.model_copy(update={"epochs": 2 * demo.head.epochs})
    thawed = [phase.epochs for phase in demo.schedule.phases.values()]
    (all_at_once,) = planned["at-once"].schedule.phases.values()
    assert all_at_once.epochs == sum(thawed) and planned["at-once"].head.epochs == 0
    assert {phase.learning_rate for phase in planned["too-fast"].schedule.phases.values()} == {0.01}
    (too_early,) = planned["too-early"].schedule.phases.values()
    assert too_early.learning_rate == demo.head.learning_rate
    assert len({one.backbone.model_dump_json() + one.dataset.model_dump_json() for one in planned.values()}) == 1


def test_the_runs_that_check_published_claims_differ_in_the_frozen_layers_and_in_the_augmentation():
    frozen = {name: composed_params(overrides) for _, name, overrides in runs.planned([runs.FROZEN])}
    assert {name: one.schedule.phases["layers50"].layers for name, one in frozen.items()} == {
        "layers-0": 0,
        "layers-50": 50,
        "layers-100": 100,
    }
    assert frozen["layers-50"] == composed_params(["recipe=cifar100-mobilenetv2", "dataset.limit=10000"])
    augmented = {name: composed_params(overrides) for _, name, overrides in runs.planned([runs.AUGMENTATION])}
    recipe, plain = augmented["augmented"], augmented["as-they-are"]
    assert recipe == composed_params(["recipe=resnet50-finetune", "dataset.limit=5000"])
    assert (recipe.augment.flip, plain.augment.flip, plain.augment.rotation, plain.augment.zoom) == (True, False, 0, 0)
    assert recipe.model_copy(update={"augment": plain.augment}) == plain


def test_a_recipe_that_is_named_is_planned_and_all_are_with_recipes():
    assert runs.planned(["demo"]) == [("recipes", "demo", ["recipe=demo"])]
    assert [name for _, name, _ in runs.planned(["recipes"])] == runs.recipes()


def test_robustness_is_told_by_seed_and_by_corruption():
    rows = [
        {"corruption": name, "strength": strength, "accuracy": accuracy}
        for name, accuracies in {"contrast": (0.8, 0.6), "pixelate": (0.7, 0.5)}.items()
        for strength, accuracy in zip((1, 5), accuracies, strict=True)
    ]
    found = {"full": [finished(0, 0.8, accuracy_corrupted=0.65) | {"corruptions": rows}]}
    text = runs.robustness_table(found)
    assert "| run | seeds | test accuracy | corrupted | contrast | pixelate |" in text
    assert "| full | 0 | 0.8000 | 0.6500 | 0.7000 | 0.6000 |" in text


def test_the_speed_of_reading_in_docs_is_that_which_was_measured():
    text = " ".join((ROOT / "docs/your-own-images.md").read_text().split())
    runs = json.loads((ROOT / "bench/results/folder.json").read_text())["runs"]
    photos, small = runs["photos"], runs["small"]
    speed = f"{photos['images_a_second']:.0f} a second, to {photos['side']} pixels"
    assert (
        f"it read {photos['images']:,} photographs of 500 x 375 pixels in {photos['seconds']:.0f} seconds ({speed}) "
        f"in {photos['peak_gb']:.1f} GB of memory, and "
        f"{small['images']:,} images of 32 x 32 in {small['seconds']:.0f} seconds in {small['peak_gb']:.1f} GB"
    ) in text


def test_what_several_machines_cost_in_docs_is_what_was_measured():
    text = (ROOT / "docs/more-machines.md").read_text(encoding="utf-8")
    made = {name: json.loads((ROOT / f"bench/results/{name}.json").read_text()) for name in ("sweep", "workers")}
    assert f"\n{sweep.table(made['sweep']['runs'])}\n" in text
    assert f"\n{workers.table(made['workers']['runs'])}\n" in text
    assert made["sweep"]["settings"]["worth"] == made["workers"]["cores are worth"]
    assert f" {made['workers']['cores are worth']} times as much as one" in text


def test_the_story_of_the_demo_in_docs_is_that_which_was_measured():
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    found = runs.by_name(store.read(runs.STORY), list(runs.COMPARED[runs.STORY][1]))
    mean = {}
    for name, of_name in found.items():
        accuracies = [run["metrics"]["accuracy"] for run in of_name]
        mean[name] = statistics.mean(accuracies)
        cells = [f"{accuracy:.3f}" for accuracy in accuracies] + ["-"] * (3 - len(accuracies))
        assert f" | {' | '.join(cells)} | {mean[name]:.3f} |\n" in text, name
    # What the demo is to show.
    assert mean["gradual"] > mean["head"] + 0.05 > mean["head-twice"] + 0.04
    assert mean["too-fast"] < mean["gradual"] - 0.05
    assert mean["too-early"] < mean["head"] - 0.05


@pytest.mark.parametrize(
    ("page", "name", "sides"),
    [
        ("benchmarks", "mobilenetv2-0.35-20000", {"full", "gradual", "second", "one-view", "longer"}),
        ("benchmarks", "mobilenetv2-0.35-20000-3-epochs", {"gradual", "second"}),
        ("benchmarks", "mobilenetv2-0.35-20000-fit", {"notebook", "gradual", "second"}),
        ("benchmarks", "mobilenetv2-0.35-20000-8-epochs", {"full", "gradual", "second"}),
        ("benchmarks", "mobilenetv2-0.35-20000-12-epochs", {"full", "gradual", "second", "full-16"}),
        ("thawing", "mobilenetv2-0.35-96px-20000", {"full", "gradual", "second"}),
        ("thawing", "mobilenetv2-0.35-96px-20000-depth4", {"gradual", "second"}),
        ("thawing", "resnet18-64px-20000", {"full", "gradual"}),
        ("thawing", "resnet18-96px-20000", {"full", "gradual"}),
        ("thawing", "vgg16-64px-20000", {"gradual", "full-1"}),
        ("thawing", "vgg16-32px-20000", {"full-mixup", "gradual"}),
    ],
)
def test_the_tables_of_whole_commands_in_docs_are_those_that_were_measured(page, name, sides):
    found = time_report.by_side(store.read(f"time_to_accuracy/{name}"))
    table = time_report.table(found).partition("\n\n")[0]
    assert f"\n{table}\n" in (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    assert sides <= set(found)


@pytest.mark.parametrize("name", ["mobilenetv2-0.35-20000", "mobilenetv2-0.35-96px-20000-six-views"])
def test_the_tables_of_ablations_in_docs_are_those_that_were_measured(name):
    found = ablations.read(f"time_to_accuracy/{name}")
    assert f"\n{ablations.table(found)}\n" in (ROOT / "docs/thawing.md").read_text(encoding="utf-8")
    assert {"not averaged", "not smoothed", "BatchNorm in inference mode", "mirrored at random"} <= set(found)


def test_the_picture_of_first_epochs_in_docs_is_that_of_the_ablations():
    name = "time_to_accuracy/mobilenetv2-0.35-96px-20000-six-views"
    assert set(ablations.DRAWN) <= set(ablations.read(name))
    drawn = ROOT / f"bench/results/{name}-ablations.png"
    assert (ROOT / "docs/first-epochs.png").read_bytes() == drawn.read_bytes()


def test_what_the_text_beside_the_frontier_tells_is_what_it_draws():
    text = " ".join((ROOT / "docs/benchmarks.md").read_text(encoding="utf-8").split())
    series = frontier.points(frontier.FOLDERS)
    for plain, gradual in zip(series["full"], series["gradual"], strict=True):
        epochs = plain.label.removeprefix("all blocks, ")
        ratio = statistics.mean(one / of for one, of in zip(gradual.seconds, plain.seconds, strict=True))
        assert f"{ratio:.2f} of {epochs}" in text
    assert (ROOT / "docs/frontier.png").read_bytes().startswith(b"\x89PNG")


def test_the_grid_of_plain_in_docs_is_that_which_was_measured():
    name = "mobilenetv2-0.35-96px-20000"
    text = (ROOT / "docs/thawing.md").read_text(encoding="utf-8")
    grid = json.loads((ROOT / f"bench/results/time_to_accuracy/{name}-grid.json").read_text(encoding="utf-8"))["grid"]
    told = [f"{row['val_accuracy']:.4f}" for row in grid if row["epochs"] == 8]
    assert f"{', '.join(told[:-1])} and {told[-1]}" in " ".join(text.split())


def test_the_figures_of_docs_recipes_are_those_that_were_measured():
    text = " ".join((ROOT / "docs/recipes.md").read_text(encoding="utf-8").split())
    found = runs.results()
    assert found

    def told(values, form: str) -> None:
        words = [form.format(value) for value in values]
        accepted = (", ".join(words), f"{', '.join(words[:-1])} and {words[-1]}")
        assert any(one in text for one in accepted), accepted

    for one in found.values():
        for key in ("accuracy", "macro_f1"):
            told([run["metrics"][key] for run in one], "{:.4f}")
    for bench in (runs.FROZEN, runs.AUGMENTATION):
        for one in store.read(bench):
            told([one["metrics"]["accuracy"]], "{:.4f}")
    again = json.loads((ROOT / "bench/results/transfer.json").read_text())["runs"]
    for of_recipe in (again[::2], again[1::2]):
        told([runs.seconds(run) for run in of_recipe], "{:.0f}")
    split = found["class-split"]
    told([run["metrics"]["source_after"]["accuracy"] for run in split], "{:.3f}")
    for key in ("accuracy", "macro_precision", "macro_recall", "macro_f1"):
        told([run["metrics"]["source"][key] for run in split], "{:.4f}")


def test_the_model_of_a_sweep_is_bound_by_the_experiments_at_once_or_by_what_the_cores_are_worth():
    one = {"jobs": 1, "seconds": 110.0, "start-up": 10.0}
    others = [{"jobs": jobs, "seconds": 0.0, "start-up": 0.0} for jobs in (2, 4, 8)]
    assert sweep.modelled([one, *others], 2.5) == [110, 60, 50, 50]


def test_the_phases_with_a_stored_cut_in_docs_are_what_was_measured():
    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    made = json.loads((ROOT / "bench/results/mobilenetv2-10000.json").read_text())
    assert schedule.table(made["summary"]) in text


def test_the_robustness_of_the_schedules_in_docs_is_what_was_measured():
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    found = runs.by_name(store.read(runs.ROBUSTNESS), list(runs.COMPARED[runs.ROBUSTNESS][1]))
    assert runs.robustness_table(found) in text
