"""The experiments of a sweep: overrides, names, what is missing, and what they share. Start at `plan`."""

import hashlib
import json
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from thaw import paths
from thaw.app.git import git
from thaw.app.preflight import check_runnable
from thaw.config.compose import check_grid, compose, expand
from thaw.config.overrides import typed
from thaw.errors import ThawError

# Tracked files that a run writes: `dvc exp run` composes or makes them anew.
RESULTS = (str(paths.PARAMS), "dvc.lock", str(paths.METRICS))
# Parameters that may be a path.
_PATHS = ("dataset.path", "backbone.weights")
# Longest readable part of a name.
_LONGEST = 60


@dataclass(frozen=True)
class Planned:
    """An experiment to be run.

    Attributes:
        name: of the experiment in DVC; the same for the same overrides on the same commit.
        overrides: as `-S` takes them, for any working folder.
        params: what they compose to.
    """

    name: str
    overrides: tuple[str, ...]
    params: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Shared:
    """Stages that the same experiments have in common.

    Attributes:
        name: of the stages and of a hash of what they follow from.
        overrides: of one of the experiments.
        stages: in the order in which they run.
        users: names of the experiments.
    """

    name: str
    overrides: tuple[str, ...]
    stages: tuple[str, ...]
    users: frozenset[str]


def plan(overrides: list[str]) -> tuple[str, list[Planned]]:
    """The experiments of a grid, on the last commit.

    Args:
        overrides: of all experiments, as `dvc exp run --queue -S` takes them.

    Returns:
        The commit and the experiments, in the order of DVC.

    Raises:
        ThawError: one of them cannot run, or the checkout has changes that a commit would take.
    """
    commit = git("sweep", "rev-parse", "HEAD")
    _refuse_changes()
    composed: list[dict[str, Any]] = []

    def check(run: list[str]) -> None:
        composed.append(compose(run))
        check_runnable(composed[-1], reachable=True)

    check_grid(overrides, check)
    runs = expand(overrides)
    constant = set.intersection(*map(set, runs))
    names = [_name(commit, run, [override for override in run if override not in constant]) for run in runs]
    planned = {
        name: Planned(name, _anywhere(run, params), params)
        for name, run, params in zip(names, runs, composed, strict=True)
    }
    return commit, list(planned.values())


def _refuse_changes() -> None:
    """Refuse what the experiments would not have: they are clones of the last commit."""
    without = [f":(exclude){name}" for name in RESULTS]
    changed = git("sweep", "status", "--porcelain", "--untracked-files=no", "--", ".", *without).splitlines()
    if changed:
        names = ", ".join(line.split(maxsplit=1)[1] for line in changed[:3]) + (" ..." if changed[3:] else "")
        raise ThawError(f"sweep: changes that are not committed: {names}; commit them, as experiments clone the commit")


def _name(commit: str, run: Sequence[str], varied: Sequence[str]) -> str:
    """Values that differ between the experiments, and a hash of commit and overrides."""
    words = "-".join(map(_words, varied))[:_LONGEST].strip("-.") or "sweep"
    return f"{words}-{hashlib.sha256(json.dumps([commit, *run]).encode()).hexdigest()[:7]}"


def _words(override: str) -> str:
    key, _, value = override.partition("=")
    # A name or a number; the key as well where the value says little by itself.
    words = value if value[:1].isalpha() else key.rpartition(".")[2] + value
    return re.sub(r"[^A-Za-z0-9.]+|\.{2,}", "-", words).strip("-.")


def _anywhere(run: Sequence[str], composed: dict[str, Any]) -> tuple[str, ...]:
    """The overrides of a run, with paths of this checkout in full: its clone has another working folder."""
    values = {key: composed[key.partition(".")[0]].get(key.partition(".")[2]) for key in _PATHS}
    # conf/ has made them so.
    full = {key: value for key, value in values.items() if isinstance(value, str) and value.startswith("/")}
    kept = [override for override in run if override.partition("=")[0] not in full]
    return (*kept, *(f"{key}={typed(value)}" for key, value in full.items()))


def finished(names: Sequence[str]) -> set[str]:
    """Those of the names that are experiments of this repository."""
    references = git("sweep", "for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    return {reference.rpartition("/")[2] for reference in references} & set(names)


def shared_stages(planned: Sequence[Planned]) -> list[Shared]:
    """The stages that two and more experiments have in common, grouped by who has them; first what more have."""
    keys = {experiment.name: _keys(experiment.params) for experiment in planned}
    users: dict[str, set[str]] = defaultdict(set)
    for name, of_stage in keys.items():
        for key in of_stage.values():
            users[key].add(name)
    groups: dict[frozenset[str], dict[str, str]] = defaultdict(dict)
    for of_stage in keys.values():
        for stage, key in of_stage.items():
            if len(users[key]) > 1:
                groups[frozenset(users[key])][stage] = key
    overrides = {experiment.name: experiment.overrides for experiment in planned}
    return [
        Shared(f"{_words(stages[-1])}-{key[:7]}", overrides[min(names)], stages, names)
        for names, of_stage in sorted(groups.items(), key=lambda group: -len(group[0]))
        for stages, key in [(tuple(of_stage), list(of_stage.values())[-1])]
    ]


def _keys(composed: dict[str, Any]) -> dict[str, str]:
    """Of each stage, in the order in which they run, a hash of what its outputs follow from on one commit."""
    import networkx
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    keys: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copy("dvc.yaml", folder)
        (folder / paths.PARAMS).write_text(yaml.safe_dump(composed), encoding="utf-8")
        (folder / ".dvc").mkdir()
        (folder / ".dvc/config").write_text("[core]\nno_scm = true\n", encoding="ascii")
        with Repo(temporary) as repo:
            graph = repo.index.graph
            for stage in reversed(list(networkx.topological_sort(graph))):
                params = [each for each in stage.deps if isinstance(each, ParamsDependency)]
                follows = [
                    stage.cmd,
                    [each.read_params() for each in params],
                    [each.def_path for each in stage.deps if each not in params],
                    sorted(keys[above.name] for above in graph.successors(stage)),
                ]
                keys[stage.name] = hashlib.sha256(json.dumps(follows, sort_keys=True).encode()).hexdigest()
    return keys
