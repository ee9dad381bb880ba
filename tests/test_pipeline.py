"""dvc.yaml against the code: what a stage imports is what it depends on."""

from pathlib import Path

import pytest
import yaml

from tests.import_graph import files_of

ROOT = Path(__file__).parent.parent
KERAS = ["backbone", "extract", "train_head", "unfreeze", "evaluate"]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def stage(name: str) -> dict:
    return STAGES[name].get("do", STAGES[name])


def code(name: str) -> set[str]:
    return {dep for dep in stage(name)["deps"] if dep.endswith(".py")}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_its_module_and_all_it_imports(name):
    assert code(name) == files_of(name, ROOT)


@pytest.mark.parametrize("name", ["backbone", "extract", "train_head", "unfreeze"])
def test_a_change_of_charts_or_of_evaluation_trains_nothing_again(name):
    assert not code(name) & {"thaw/charts.py", "thaw/evaluation.py"}


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"evaluate", "preprocess"}))
def test_only_evaluate_reads_the_test_split(name):
    deps = stage(name)["deps"]
    assert "data/processed" not in deps
    assert "data/processed/test" not in deps


@pytest.mark.parametrize("name", KERAS)
def test_every_keras_stage_depends_on_the_backend(name):
    assert "backend" in stage(name)["params"]


def test_only_timings_may_differ_between_two_runs():
    names = {"unfreeze@${key}" if name == "unfreeze" else name for name in STAGES}
    timed = {f"metrics/time/{name}.json" for name in names}
    outputs = {out for name in STAGES for out in stage(name)["outs"]}
    assert {out for out in outputs if out.startswith("metrics/time/")} == timed


def test_every_keras_stage_records_what_it_computed_on():
    names = {"unfreeze@${key}" if name == "unfreeze" else name for name in KERAS}
    outputs = {out for name in STAGES for out in stage(name)["outs"]}
    recorded = {out for out in outputs if out.startswith("metrics/provenance/")}
    assert recorded == {f"metrics/provenance/{name}.json" for name in names}


def test_byte_code_is_no_dependency():
    assert "__pycache__" in (ROOT / ".dvcignore").read_text(encoding="utf-8").split()
