"""Time to accuracy: which runs are made, what is made of them, and toy runs of all programs."""

import json
import sys

import keras
import numpy as np
import pytest

from bench import ablations, frontier, store, time_report, time_to_accuracy, torch_peer
from tests.helpers.project import Project
from tests.helpers.weights_files import layers_of, write_keras2

ON = ["--on", "backbone=mobilenetv2", "backbone.alpha=0.35", "backbone.weights=none"]
FOLDER = "time_to_accuracy/mobilenetv2-0.35-160px-20000"


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Runs that take no time: a list of side, overrides and seed, in their order."""
    made = []

    def measure(name, side, seed):
        made.append((name, side, seed))
        params = time_to_accuracy.composed_params(side.overrides)
        phase = params.schedule.phases[params.schedule.final]
        # Best at 8 epochs and a rate of 0.001.
        score = 0.9 - abs(phase.epochs - 8) / 100 - abs(phase.learning_rate - 0.001)
        seconds = {"full": 300, "notebook": 900, "gradual": 120}.get(name, 60) + seed
        settings = params.model_dump() | {"seed": seed}
        return {
            "name": name,
            "settings": settings,
            "wall_seconds": seconds,
            "seconds": {"extract": 20.0, "train_head": 5.0},
            "metrics": {"accuracy": score + seed / 1000, "val_accuracy": score},
            "reached": [[30.0, "head", 0.5], [seconds - 20.0, "all", score]],
        }

    monkeypatch.setattr(store, "RESULTS", tmp_path)
    monkeypatch.setattr(time_to_accuracy, "measure", measure)
    monkeypatch.setattr(time_to_accuracy, "find_spec", lambda name: None)
    return made


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["time_to_accuracy", *ON, *arguments])
    time_to_accuracy.main()


def test_sides_alternate_by_seed_and_finished_runs_are_skipped(measured, monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--plain", "8,0.002", "--seeds", "0", "1")
    order = ["full", "notebook", "gradual", "second"]
    assert [(name, seed) for name, _, seed in measured] == [
        *((name, 0) for name in order),
        *((name, 1) for name in reversed(order)),
    ]
    told = capsys.readouterr().out
    assert "pytorch: skipped, torch is not installed" in told
    assert "| plain: thaw's full | 160 px | 0, 1 | 300 (300 to 301) |" in told
    assert "Plain: 8 epochs of all blocks at 0.002." in told
    run(monkeypatch, "--plain", "8,0.002", "--seeds", "0", "1", "2", "--only", "gradual")
    assert [(name, seed) for name, _, seed in measured[8:]] == [("gradual", 2)]
    assert capsys.readouterr().out.count("skipped, exists since commit") == 2
    assert (tmp_path / f"{FOLDER}.png").read_bytes().startswith(b"\x89PNG")
    assert "| gradual | 160 px | 0, 1, 2 | 121 (120 to 122) |" in (tmp_path / f"{FOLDER}.md").read_text()


def test_a_run_of_other_settings_under_the_same_name_is_refused(measured, monkeypatch):
    run(monkeypatch, "--plain", "8,0.002", "--seeds", "0", "--only", "full")
    with pytest.raises(SystemExit, match="asked for"):
        run(monkeypatch, "--plain", "4,0.002", "--seeds", "0", "--only", "full")


def test_the_grid_chooses_on_a_seed_of_its_own_and_the_plain_sides_take_its_best(
    measured, monkeypatch, capsys, tmp_path
):
    with pytest.raises(SystemExit, match="run --grid first, or give --plain EPOCHS,RATE"):
        run(monkeypatch)
    run(monkeypatch, "--grid", "--rates", "0.0005", "0.001", "0.002", "--epochs", "4", "8", "12")
    assert {(seed, side.program) for _, side, seed in measured} == {(100, None)}
    told = capsys.readouterr().out
    assert "| 8 | 0.8995 | 0.9000 | 0.8990 |" in told
    assert "Best: 8 epochs at 0.001, inside the epochs, inside the rates." in told
    grid = json.loads((tmp_path / f"{FOLDER}-grid.json").read_text())
    assert grid["best"] == {"epochs": 8, "learning_rate": 0.001} and len(grid["grid"]) == 9
    run(monkeypatch, "--seeds", "0", "--only", "full", "notebook")
    for _, side, _ in measured[9:]:
        phase = time_to_accuracy.composed_params(side.overrides).schedule.phases["all"]
        assert (phase.epochs, phase.learning_rate, phase.patience) == (8, 0.001, None)
    with pytest.raises(SystemExit, match="--plain: received 5 epochs without a rate; .* has 4, 8, 12"):
        run(monkeypatch, "--plain", "5", "--name", "mobilenetv2-0.35-160px-20000")


def test_a_best_at_the_edge_of_the_grid_is_told(measured, monkeypatch, capsys):
    run(monkeypatch, "--grid", "--rates", "0.001", "0.002", "--epochs", "4", "8")
    assert "Best: 8 epochs at 0.001, at the edge of the epochs, at the edge of the rates." in capsys.readouterr().out


def test_the_second_experiment_halves_all_rates_after_the_same_extraction(measured, monkeypatch):
    run(monkeypatch, "--seeds", "0", "--only", "second", "--name", "second")
    ((_, side, _),) = measured
    before, after = map(time_to_accuracy.composed_params, (side.before, side.overrides))
    assert side.until == "extract"
    assert before.extract == after.extract and before.augment == after.augment
    assert after.head.learning_rate == before.head.learning_rate / 2
    assert after.head.final_learning_rate == before.head.final_learning_rate / 2
    for name, phase in after.schedule.phases.items():
        assert phase.learning_rate == pytest.approx(before.schedule.phases[name].learning_rate / 2)
        assert phase.patience is None


def test_another_side_is_gradual_with_overrides(measured, monkeypatch, capsys):
    also = ["--also", "wide", "head.units=512", "--also", "narrow", "head.units=8"]
    run(monkeypatch, "--seeds", "0", *also, "--only", "wide", "narrow")
    units = [time_to_accuracy.composed_params(side.overrides).head.units for _, side, _ in measured]
    assert units == [512, 8]
    with pytest.raises(SystemExit, match="--only: received other; accepted: .*wide, narrow"):
        run(monkeypatch, "--plain", "8,0.001", *also, "--only", "other")


def test_ablations_run_gradual_with_one_of_its_means_changed(measured, monkeypatch, capsys, tmp_path):
    on, folder = ["--on", "backbone=vgg16", "backbone.weights=none"], "time_to_accuracy/vgg16-64px-20000"
    with pytest.raises(SystemExit, match="has no run of gradual; run that first, with --only gradual"):
        run(monkeypatch, *on, "--ablations", "--seeds", "0", "--only", "not averaged")
    assert not measured
    run(monkeypatch, *on, "--seeds", "0", "--only", "gradual")
    run(monkeypatch, *on, "--ablations", "--seeds", "0", "1")
    base = time_to_accuracy.composed_params(measured[0][1].overrides).model_dump()
    changed = {name: time_to_accuracy.composed_params(side.overrides).model_dump() for name, side, _ in measured[1:]}
    for name, key in {"not averaged": "average", "not smoothed": "label_smoothing"}.items():
        for phase, values in changed[name]["schedule"]["phases"].items():
            assert values == base["schedule"]["phases"][phase] | {key: 0, "patience": None}, name
    assert changed["twice the views"]["augment"] == base["augment"] | {"views": 4}
    before = changed["before"]["schedule"]
    assert [phase["depth"] for phase in before["phases"].values()] == [1, 2, "all"] and before["final"] == "all"
    # VGG16 has no BatchNorm, and its phases are in inference mode anyway.
    assert "BatchNorm in inference mode" not in changed and len(changed) == 7
    assert len({json.dumps(one) for one in (base, *changed.values())}) == 8
    assert (tmp_path / f"{folder}-ablations.png").read_bytes().startswith(b"\x89PNG")
    # Seed 1, which gradual does not have, is left out.
    assert "| not averaged | 0 | " in (tmp_path / f"{folder}-ablations.md").read_text()
    with pytest.raises(SystemExit, match="--only: received gradual; accepted: not averaged, before, "):
        run(monkeypatch, *on, "--ablations", "--only", "gradual")


def test_the_table_of_ablations_has_gains_by_seed_and_what_first_epochs_do():
    def made(seed: int, accuracy: float, *reached: list) -> dict:
        metrics = {"val_accuracy": accuracy, "accuracy": accuracy - 0.01}
        return {"settings": {"seed": seed}, "metrics": metrics, "reached": [[1.0, *row] for row in reached]}

    head = (["head", 0.7], ["head", 0.65])
    base = [made(0, 0.9, *head, ["top", 0.75]), made(1, 0.8, *head, ["top", 0.72])]
    other = [made(1, 0.83, *head, ["top", 0.6], ["top", 0.75], ["all", 0.76])]
    first, second = ablations.table({"gradual": base, "mixup": other}).splitlines()[2:]
    # The phase starts from the best epoch of the head, not from its last.
    assert first.endswith("|  | top +3.5 (+2.0 to +5.0) |")
    assert second == (
        "| mixup | 1 | 0.8300 | +3.0 (+3.0 to +3.0) | 0.8200 | +3.0 (+3.0 to +3.0) "
        "| top -10.0 (-10.0 to -10.0); all +1.0 (+1.0 to +1.0) |"
    )


def test_a_wrong_parameter_is_one_line(measured, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--only", "gradual", "--on", "head.dropout=2")
    assert capsys.readouterr().err.endswith("head.dropout: received 2; accepted: a number from 0 to below 1\n")


def test_the_frontier_has_a_point_for_each_length_of_each_side(measured, monkeypatch, capsys, tmp_path):
    sides = ["--only", "full", "gradual", "second"]
    run(monkeypatch, "--plain", "4,0.002", "--seeds", "0", "1", *sides, "--name", "short")
    run(monkeypatch, "--plain", "8,0.001", "--seeds", "0", "--only", "full", "--name", "long")
    with pytest.raises(SystemExit, match="long: has no run of gradual, second"):
        frontier.points(("short", "long"))
    run(monkeypatch, "--plain", "8,0.001", "--seeds", "0", *sides, "--name", "long")
    found = frontier.points(("short", "long"))
    assert {side: [point.label for point in of_side] for side, of_side in found.items()} == {
        "full": ["all blocks, 4 epochs", "all blocks, 8 epochs"],
        **dict.fromkeys(("gradual", "second"), ["depth 3, 4 epochs"] * 2),
    }
    assert found["full"][0].seconds == [300, 301] and found["gradual"][1].seconds == [120]
    assert found["full"][0].accuracy == pytest.approx([0.859, 0.860])
    picture = tmp_path / "frontier.png"
    frontier.draw(picture, found)
    assert picture.read_bytes().startswith(b"\x89PNG")


def result(name: str, seed: int, wall: float, accuracy: float, **more) -> dict:
    phase = {"epochs": 8, "learning_rate": 0.001}
    return {
        "name": name,
        "commit": "0123456789",
        "dirty": False,
        "settings": {"seed": seed, "backbone": {"image_size": 96}, "schedule": {"phases": {"all": phase}}},
        "wall_seconds": wall,
        "metrics": {"accuracy": accuracy, "val_accuracy": accuracy + 0.01},
        "reached": [[20.0, "head", 0.5], [wall - 10, "all", accuracy]],
        **more,
    }


def test_the_table_compares_with_the_fastest_plain_side_seed_by_seed():
    results = [
        result("gradual", 1, 200.0, 0.82, seconds={"extract": 50.0, "unfreeze@all": 100.0}),
        result("gradual", 0, 100.0, 0.80, seconds={"extract": 50.0, "unfreeze@all": 30.0}),
        *(result("notebook", seed, 900.0, 0.8) for seed in (0, 1)),
        *(result("full", seed, 400.0, 0.8, seconds={"unfreeze@all": 350.0}) for seed in (0, 1)),
    ]
    text = time_report.table(time_report.by_side(results))
    lines = text.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == [
        "| plain: thaw's full", "| plain: Keras fit", "| gradual",
    ]  # fmt: skip
    # Half of the interval: 12.706 standard errors of two values.
    gradual = "| gradual | 96 px | 0, 1 | 150 (100 to 200) | 0.8100 ± 0.1271 | 0.8200 ± 0.1271 | 0.38 | 0123456 |"
    assert lines[4] == gradual
    assert "| 2.25 |" in lines[3]
    assert "- gradual: extract 50, unfreeze@all 65, start-up and DVC 35" in text
    assert "- notebook: head 20, all 870, evaluation 10" in text


def test_the_end_of_an_epoch_is_noted_by_its_line(tmp_path, capsys):
    program = """
print("Running stage 'unfreeze@all':")
print("unfreeze@all: epoch 1/2, 0.8 s, at most 7 s left, train loss 1.1 accuracy 0.4, val loss 0.7 accuracy 0.7674")
print("train_head: waited for data at most 1.0% of 2.0 s of steps")
"""
    timed = time_to_accuracy.run_timed([sys.executable, "-c", program], tmp_path)
    ((seconds, phase, accuracy),) = timed.reached
    assert (phase, accuracy, timed.stages) == ("all", 0.7674, ["unfreeze@all"])
    assert 0 <= seconds <= timed.seconds + 0.01  # rounded
    assert capsys.readouterr().out.startswith("unfreeze@all: epoch 1/2")


def test_a_command_that_fails_ends_the_bench_with_its_last_lines(tmp_path):
    with pytest.raises(SystemExit, match="no such thing\n.*ended with 1"):
        time_to_accuracy.run_timed([sys.executable, "-c", "raise ValueError('no such thing')"], tmp_path)


@pytest.mark.parametrize("mode", ["inference", "train"])
def test_batch_norm_of_the_notebook_is_in_the_mode_of_the_settings(mode):
    from bench import notebook

    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    backbone = notebook.InMode(network, mode)
    model = keras.Model(inputs, keras.layers.Dense(2)(backbone(inputs)))
    model.compile("adam", "mse")
    before = [weight.numpy() for weight in network.weights]
    model.fit(np.random.default_rng(0).normal(size=(8, 4)), np.ones((8, 2)), verbose=0)
    moved = [not np.array_equal(weight.numpy(), value) for weight, value in zip(network.weights, before, strict=True)]
    assert moved == [True, True, mode == "train", mode == "train"]


def test_the_notebooks_learn_at_the_rates_of_thaw():
    from bench import notebook
    from thaw.training.adam import Adam
    from thaw.training.schedules import rate_schedule, warmup_steps

    params = time_to_accuracy.composed_params(["backbone=mobilenetv2", "schedule=full", "head.epochs=2"])
    phase, steps = params.head.model_copy(update={"final_learning_rate": 0.0002}), 5
    rate, thaw = notebook.Rate(phase.model_dump(), steps), rate_schedule(phase, steps)
    adam = Adam(thaw, warmup=warmup_steps(phase, steps))
    expected = [float(adam._rate_and_age(step + 1, thaw(step), 1.0, 0)[0]) for step in range(2 * steps)]
    np.testing.assert_allclose([float(rate(step)) for step in range(2 * steps)], expected, rtol=1e-5)
    if torch_peer.available():
        from bench import torch_notebook

        found = torch_notebook.learning_rates(phase.model_dump(), steps)
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5)


@pytest.mark.skipif(not torch_peer.available(), reason="torch is not installed")
def test_pytorchs_network_computes_what_kerass_does(tmp_path):
    import torch

    model = keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(96, 96, 3))
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    blocks, _ = torch_peer.mobilenet(0.35)
    torch_peer.load_weights(blocks, str(write_keras2(tmp_path / "weights.h5", layers_of(model))))
    trainer = torch_peer.Trainer((torch.nn.Sequential(), torch.nn.Sequential(*blocks)), 96, 1e-3)
    trainer.trained.train(False)
    images = generator.integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    expected = model.predict(keras.layers.Resizing(96, 96)(images / np.float32(127.5) - 1), verbose=0)
    with torch.no_grad():
        found = (
            trainer._logits(torch.from_numpy(images).permute(0, 3, 1, 2), trainer.trained).permute(0, 2, 3, 1).numpy()
        )
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.slow
def test_whole_commands_are_timed_in_fresh_clones(tmp_path):
    """On random weights and a few digits: that every program runs to its end, and that a second call runs nothing."""
    project = Project(tmp_path)
    command = [
        "python", "-m", "bench.time_to_accuracy", "--name", "toy", "--images", "100", "--seeds", "0",
        "--plain", "1,0.001", "--only", "full", "notebook", "second", "--on", "dataset=digits", "batch_size=32",
        "backbone=mobilenetv2", "backbone.weights=none", "backbone.alpha=0.35", "backbone.image_size=32", "min_steps=0",
    ]  # fmt: skip
    output = project.run(*command)
    folder = tmp_path / "bench/results/time_to_accuracy"
    found = {
        name: json.loads((folder / f"toy/{name}-seed-0.json").read_text()) for name in ("full", "notebook", "second")
    }
    head = project.git("rev-parse", "HEAD").strip()
    for name, made in found.items():
        assert made["commit"] == head and not made["dirty"]
        ends = [seconds for seconds, _, _ in made["reached"]]
        assert ends == sorted(ends) and 0 < ends[-1] < made["wall_seconds"], name
        assert 0 <= made["metrics"]["accuracy"] <= 1
    assert [phase for _, phase, _ in found["notebook"]["reached"]] == ["head", "head", "all"]
    assert [phase for _, phase, _ in found["full"]["reached"]] == ["head", "head", "all"]
    stages = ["backbone", "evaluate", "extract", "figures", "train_head", "unfreeze@all"]
    assert sorted(found["full"]["seconds"]) == stages
    phases = found["second"]["settings"]["schedule"]["phases"]
    assert set(found["second"]["seconds"]) == {"train_head", "evaluate", "figures", *(f"unfreeze@{p}" for p in phases)}
    for name, made in found.items():
        assert f"{name}, seed 0: {made['wall_seconds']:.0f} s" in output
    again = project.run(*command)
    assert again.count("skipped, exists since commit") == 3
    assert "| plain: Keras fit | 32 px | 0 |" in again and (folder / "toy.png").exists()
