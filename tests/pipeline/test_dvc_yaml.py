"""dvc.yaml against the code: what decides a stage's numbers is what it depends on, and nothing else is."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from tests.helpers.import_graph import closure, imports
from thaw.backbones import BACKBONES
from thaw.datasets import DATASETS
from thaw.stage import STAGES as WORK

ROOT = Path(__file__).parents[2]
KERAS = ["backbone", "extract", "train_head", "unfreeze", "evaluate"]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# What is slow to import, and computes.
LEARNING = {"keras", "tensorflow", "jax", "sklearn", "keras_hub"}
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "thaw").rglob("*.py"))
# Packages that decide a number, or draw an output's image; stages depend on them.
STARRED = ("backbones", "data", "datasets", "evaluation", "extraction", "figures", "images", "network", "training")
# What may be edited without a stage running again.
FREE = (
    "thaw/app/", "thaw/config/", "thaw/runtime/", "thaw/__main__.py", "thaw/__init__.py", "thaw/errors.py",
    "thaw/paths.py", "thaw/stage.py", "thaw/backbones/__init__.py", "thaw/datasets/__init__.py",
)  # fmt: skip


# Modules that are found by name, and what they share.
SHARED = {
    "thaw/backbones/${backbone.name}.py": {"thaw/backbones/resnets.py"},
    "thaw/datasets/${dataset.name}.py": {"thaw/datasets/embedded.py"},
}


def stage(name: str) -> dict:
    return STAGES[name].get("do", STAGES[name])


def code(name: str) -> set[str]:
    return {dep for dep in stage(name)["deps"] if dep.startswith(("thaw", "stages"))}


def packages(file: str) -> set[str]:
    """The packages that a file imports, at any level and inside functions too."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


def module_of(name: str) -> str:
    return f"{WORK[name].module.replace('.', '/')}.py"


@pytest.mark.parametrize("name", STAGES)
def test_what_a_stage_imports_lies_within_what_it_depends_on_or_decides_nothing(name):
    deps = code(name)
    outside = {
        file
        for file in closure(module_of(name), ROOT)
        if not any(file == dep or file.startswith(f"{dep}/") for dep in deps) and not file.startswith(FREE)
    }
    assert not outside


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_no_package_that_it_does_not_import(name):
    reached = closure(module_of(name), ROOT)
    found_by_name = {file for one in SHARED.keys() & code(name) for file in (one, *SHARED[one])}
    unused = {
        dep
        for dep in code(name) - found_by_name - {f"stages/{name}.py"}
        if not any(file == dep or file.startswith(f"{dep}/") for file in reached)
    }
    assert not unused


@pytest.mark.parametrize("name", SHARED)
def test_what_a_module_found_by_name_imports_is_a_dependency_of_each_stage_that_names_it(name):
    package = Path(name).parent
    for known in {"backbones": BACKBONES, "datasets": DATASETS}[package.name]:
        file = f"{package}/{known}.py"
        shared = {imported for imported in closure(file, ROOT) - {file} if not imported.startswith(FREE)}
        assert shared <= SHARED[name]
    assert all(code(stage) >= SHARED[name] for stage in STAGES if name in code(stage))


@pytest.mark.parametrize("name", STAGES)
def test_a_module_of_stages_does_nothing_but_run_the_stage(name):
    assert imports(f"stages/{name}.py", ROOT) == {"thaw/stage.py", "thaw/__init__.py"} - {"thaw/__init__.py"}


@pytest.mark.parametrize("file", [file for file in MODULES if file.startswith(FREE) and "/app/" not in file])
def test_what_decides_no_number_imports_nothing_that_does(file):
    allowed = {"thaw/backbones/__init__.py", "thaw/datasets/__init__.py"}
    if file in ("thaw/stage.py", "thaw/__main__.py"):  # the one hands the tables in, the other hands over
        return
    starred = {name for name in imports(file, ROOT) if name.startswith(tuple(f"thaw/{each}/" for each in STARRED))}
    assert not starred - allowed


@pytest.mark.parametrize("file", [file for file in MODULES if file.startswith(("thaw/config/", "thaw/runtime/"))])
def test_config_and_runtime_import_no_machine_learning(file):
    assert not packages(file) & LEARNING
    # What writes and reads arrays.
    assert "numpy" not in packages(file) or file in ("thaw/runtime/files.py", "thaw/runtime/resume.py")


def test_imports_have_no_circle():
    graph = {file: imports(file, ROOT) - {"thaw/__init__.py"} for file in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


# From the ground up: a package imports from those before it alone.
FLOORS = [
    ["thaw/errors.py", "thaw/paths.py", "thaw/__init__.py"],
    ["thaw/runtime/"],
    ["thaw/config/", "thaw/backbones/", "thaw/datasets/", "thaw/images/"],
    ["thaw/figures/", "thaw/data/"],
    ["thaw/network/"],
    ["thaw/extraction/", "thaw/training/", "thaw/evaluation/"],
    ["thaw/stage.py"],
    ["thaw/app/"],
    ["thaw/__main__.py"],
]


def floor(file: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if file.startswith(tuple(names)))


# The package's own file names what is above it: it is imported when somebody asks for it.
@pytest.mark.parametrize("file", [file for file in MODULES if file != "thaw/__init__.py"])
def test_no_module_imports_from_a_floor_above_its_own(file):
    assert not {name for name in imports(file, ROOT) if floor(name) > floor(file)}


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"evaluate"}))
def test_only_evaluate_reads_the_test_split(name):
    deps = stage(name)["deps"]
    assert "data/processed" not in deps
    assert "data/processed/test" not in deps


def test_figures_reads_no_split_and_computes_nothing_with_keras():
    assert not [dep for dep in stage("figures")["deps"] if dep.startswith(("data/processed", "data/raw", "models"))]
    assert not WORK["figures"].keras
    reached = closure(module_of("figures"), ROOT)
    assert not [file for file in reached if file.startswith(("thaw/network/", "thaw/data/", "thaw/evaluation/"))]
    assert not set().union(*(packages(file) for file in reached)) & LEARNING


def test_a_caption_is_a_dependency_of_figures_alone():
    assert [name for name in STAGES if any(dep.startswith("thaw/figures") for dep in code(name))] == ["figures"]


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


def test_every_stage_is_described_in_one_line():
    assert all(re.fullmatch(r"[A-Z][^\n]{20,}", stage(name)["desc"]) for name in STAGES)


def test_byte_code_is_no_dependency():
    assert "__pycache__" in (ROOT / ".dvcignore").read_text(encoding="utf-8").split()
