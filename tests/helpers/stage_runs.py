"""Stages run as functions on the inputs that dvc.yaml names: what they write, as hashes; `Runs` is the way in.

python -m tests.helpers.stage_runs JOBS.json runs some in a process of their own.
"""

import contextlib
import copy
import functools
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.project import ROOT
from thaw.config.compose import compose
from thaw.config.schema import Params
from thaw.errors import ThawError
from thaw.network.backend import use_backend
from thaw.stage import STAGES as WORK

# By path, the SHA-256 of each file; what a stage cannot make from its parameters is one entry, `refused`.
Outputs = dict[str, str]
# They differ between two runs, or only repeat what a parameter says.
_APART = ("metrics/time/", "metrics/provenance/")


@functools.cache
def entries() -> dict[str, Any]:
    """The stages of dvc.yaml."""
    return yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def entry(stage: str) -> dict[str, Any]:
    """What dvc.yaml says of a stage, such as unfreeze@top."""
    found = entries()[stage.partition("@")[0]]
    return found.get("do", found)


def named(stage: str) -> list[str]:
    """The parameters that dvc.yaml names for a stage."""
    return [name.replace("${key}", stage.partition("@")[2]) for name in entry(stage).get("params", [])]


def paths_of(stage: str, kind: str, raw: dict[str, Any]) -> list[str]:
    """The data that a stage depends on (`deps`) or writes (`outs`, `metrics`), for some parameters."""
    phase = stage.partition("@")[2]
    values = {"${key}": phase, "${schedule.final}": raw["schedule"]["final"]}
    if phase:
        values["${item.after}"] = raw["schedule"]["phases"][phase]["after"]
    names = [next(iter(item)) if isinstance(item, dict) else item for item in entry(stage).get(kind, [])]
    for variable, value in values.items():
        names = [name.replace(variable, value) for name in names]
    return [name for name in names if not name.startswith(("thaw/", "stages/", "${"))]


def changed(raw: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Parameters with other values, by dotted name."""
    raw = copy.deepcopy(raw)
    for key, value in changes.items():
        *above, name = key.split(".")
        section = functools.reduce(lambda section, part: section[part], above, raw)
        section[name] = value
    return raw


class Runs:
    """Runs of stages for one set of parameters, and for others that share its inputs."""

    def __init__(self, folder: Path, overrides: Iterable[str]) -> None:
        self.folder = folder
        self.raw = compose(list(overrides), ROOT / "conf")
        self._base: dict[str, Outputs] = {}
        self._count = 0

    def stages(self) -> list[str]:
        """All stages, in the order of the pipeline."""
        phases = self.raw["schedule"]["phases"]
        return [
            name
            for stage in entries()
            for name in ([f"{stage}@{phase}" for phase in phases] if stage == "unfreeze" else [stage])
        ]

    def base(self, stage: str) -> Outputs:
        """The outputs with this set of parameters; what the stage depends on is made first."""
        if stage not in self._base:
            for before in self._before(stage, self.raw):
                self.base(before)
            self._base[stage] = run(stage, self.raw, self.prepare(stage, self.raw, self.folder))
        return self._base[stage]

    def other(self, stage: str, changes: dict[str, Any]) -> Outputs:
        """The outputs with other values of some parameters, from the inputs of this set."""
        raw = changed(self.raw, changes)
        for before in self._before(stage, raw):
            self.base(before)
        folder = self.prepare(stage, raw, self._beside())
        outputs = run(stage, raw, folder)
        shutil.rmtree(folder)
        return outputs

    def job(self, stage: str, changes: dict[str, Any]) -> "Job":
        """As `other`, for a process of its own."""
        raw = changed(self.raw, changes)
        return stage, raw, self.prepare(stage, raw, self._beside())

    def has(self, key: str) -> bool:
        """Whether there is such a parameter."""
        section: Any = self.raw
        for name in key.split("."):
            if not isinstance(section, dict) or name not in section:
                return False
            section = section[name]
        return True

    def _beside(self) -> Path:
        self._count += 1
        return self.folder.with_name(f"{self.folder.name}-{self._count}")

    def prepare(self, stage: str, raw: dict[str, Any], folder: Path) -> Path:
        """A folder in which a stage finds what it depends on, and nothing else."""
        for name in paths_of(stage, "deps", raw):
            link = folder / name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(self.folder / name)
        folder.mkdir(exist_ok=True)
        return folder

    def _before(self, stage: str, raw: dict[str, Any]) -> list[str]:
        needs = paths_of(stage, "deps", raw)
        return [
            other
            for other in self.stages()
            if other != stage
            and any(f"{need}/".startswith(f"{made}/") for need in needs for made in written(other, self.raw))
        ]


def written(stage: str, raw: dict[str, Any]) -> list[str]:
    return paths_of(stage, "outs", raw) + paths_of(stage, "metrics", raw)


def run(stage: str, raw: dict[str, Any], folder: Path) -> Outputs:
    """Run a stage in a folder that has its inputs, on backend and device of the parameters."""
    kind, _, phase = stage.partition("@")
    params = Params.model_validate(raw)
    if WORK[kind].keras:
        use_backend(params.backend, params.device, params.run.data_gb)
    work = getattr(import_module(WORK[kind].module), WORK[kind].function)
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        try:
            work(params, *([phase] if phase else []))
        except ThawError as error:
            return {"refused": str(error)}
    return dict(_hashes(folder, written(stage, raw)))


def _hashes(folder: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if not name.startswith(_APART):
            top = folder / name
            for file in sorted(top.rglob("*")) if top.is_dir() else [top]:
                if file.is_file():
                    yield file.relative_to(folder).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()


Job = tuple[str, dict[str, Any], Path]


def run_apart(jobs: list[Job], file: Path) -> list[Outputs]:
    """Run stages in a process of their own, since a process has one backend.

    Args:
        jobs: stage, parameters, and folder that has the inputs.
        file: to be written for the process.
    """
    file.write_text(json.dumps([(stage, raw, str(folder)) for stage, raw, folder in jobs]), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    command = [sys.executable, "-m", "tests.helpers.stage_runs", str(file)]
    result = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    sys.modules["dvclive"] = None  # a stage also runs without it, and sooner
    jobs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps([run(stage, raw, Path(folder)) for stage, raw, folder in jobs]))


if __name__ == "__main__":
    main()
