"""A run of a revision or of the workspace, read from git and DVC's cache. Start at `read_run`."""

import csv
import io
import json
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths
from thaw.app.experiments import EVALUATED, open_revision
from thaw.app.git import git, refuse_other_owner
from thaw.app.lockfile import all_stages, changed_params, computing_stages, recorded_stages
from thaw.config.compose import compose
from thaw.config.naming import parse_yaml
from thaw.config.overrides import overrides_for
from thaw.errors import ThawError
from thaw.stage import read_params

# Names of outputs: of the stage figures, in plots/figures, and of evaluate, in plots/tables.
IMAGES = ("calibration",)
# Of evaluate: a table of predictions each, and their images.
GALLERIES = ("gallery", "mistakes")
TABLES = ("scores", "per_class", "confusion", "confused")
# Longer commands are split into lines, one for each option.
_LINE = 80
# Files that a run writes: changes in these are no changes of code.
_WRITTEN = (str(paths.PARAMS), "dvc.lock", f"{paths.METRICS}/")


@dataclass(frozen=True)
class Run:
    """A run with its results.

    Attributes:
        name: name of the experiment, branch or tag, hash of a commit, or `workspace`.
        commit: full hash of the commit with the run's code.
        experiment: whether DVC knows the run as an experiment, which `dvc exp apply` takes.
        changed: tracked files that differ from that commit.
        params: all of params.yaml, nested.
        defaults: parameters that conf/ composes without overrides, nested.
        overrides: the values of -S that compose these parameters; None where no values do.
        metrics: content of metrics/evaluate.json.
        spent: seconds and peak_gb, by stage.
        provenance: versions, device and precision, by stage.
        checkpoint: checkpoint.json of the final model.
        source: checkpoint.json of the backbone; has a history where it was trained on a source task.
        data: DVC's hash of the archive's content, or of the folder of images.
        classes: names of the dataset's classes, in the order of their numbers.
        tables: rows of plots/tables/<name>.csv, by name.
        images: bytes of plots/figures/<name>.png, by name.
        galleries: rows of plots/tables/<name>.csv and their test images, uint8 (n, side, side, 3), by name.
    """

    name: str
    commit: str
    experiment: bool
    changed: list[str]
    params: dict[str, Any]
    defaults: dict[str, Any]
    overrides: list[str] | None
    metrics: dict[str, Any]
    spent: dict[str, dict[str, float]]
    provenance: dict[str, dict[str, Any]]
    checkpoint: dict[str, Any]
    source: dict[str, Any]
    data: str
    classes: list[str]
    tables: dict[str, list[dict[str, str]]]
    images: dict[str, bytes]
    galleries: dict[str, tuple[list[dict[str, str]], np.ndarray]]

    def commands(self) -> list[tuple[str, str]]:
        """Commands that reproduce this run, and the purpose of each."""
        commands = [(f"git checkout {self.commit[:12]}", "the code")]
        if self.experiment:
            commands.append((f"dvc exp apply {shlex.quote(self.name)}", "its parameters and results, without a run"))
        if self.overrides is None:
            return [*commands, ("dvc repro", "a run with the parameters of this page in params.yaml")]
        parts = ["dvc exp run", *(f"-S {shlex.quote(override)}" for override in self.overrides)]
        line = " ".join(parts)
        return [*commands, (line if len(line) <= _LINE else " \\\n    ".join(parts), "run what is not in DVC's cache")]


def read_run(revision: str | None) -> Run:
    """Read the run of a revision without changing the workspace; None reads the workspace's run.

    Raises:
        ThawError: the revision does not exist, its results are incomplete, or another version of thaw made them.
    """
    from dvc.exceptions import DvcException

    refuse_other_owner("report")
    if revision is None:
        read_params()  # names the file where it is damaged, which DVC's message does not
    try:
        commit, base = _resolve(revision)
        with open_revision(commit) as fs:
            return _read(fs, revision, commit, base)
    except DvcException as error:
        raise ThawError(f"report: {error}") from None


def _resolve(revision: str | None) -> tuple[str | None, str]:
    """The commit of the results (None for the workspace), and that of the code (an experiment's parent)."""
    from dvc.repo import Repo
    from dvc.scm import RevError, resolve_rev

    with Repo() as repo:
        if revision is None:
            return None, git("report", "rev-parse", "HEAD")
        try:
            resolved = resolve_rev(repo.scm, revision) if revision else ""  # DVC takes "" for HEAD
            commit = git("report", "rev-parse", "--verify", f"{resolved}^{{commit}}")  # refuses a tree or a file
        except (RevError, ThawError):
            accepted = "a finished experiment (`dvc exp list` names them), or a commit, branch or tag"
            raise ThawError(f"report: received {revision or 'nothing'}; accepted: {accepted}") from None
        is_experiment = any(
            # refs/exps/<hash of its commit, in two parts>/<name>; other folders there are DVC's own.
            re.match(r"refs/exps/[0-9a-f]{2}/", reference) and repo.scm.get_ref(reference) == commit
            for reference in repo.scm.iter_refs("refs/exps/")
        )
    return commit, git("report", "rev-parse", f"{commit}^") if is_experiment else commit


def _read(fs, revision: str | None, commit: str | None, base: str) -> Run:
    try:
        params = parse_yaml(fs.read_text(str(paths.PARAMS)))
        lock = recorded_stages(fs.read_text("dvc.lock"))
        if differing := changed_params(params, lock):
            names, frozen = ", ".join(differing[:3]), _frozen(parse_yaml(fs.read_text("dvc.yaml")))
            remedy = f"`dvc unfreeze {' '.join(frozen)}` and " if frozen else ""
            raise ThawError(
                f"report: params.yaml was changed since the results were made ({names}); run {remedy}`dvc repro` first"
            )
        overrides, defaults = _composed(fs, commit, params)
        return Run(
            name=revision or "workspace",
            commit=base,
            experiment=commit not in (None, base),
            changed=_changed_files(commit, base),
            params=params,
            defaults=defaults,
            overrides=overrides,
            metrics=json.loads(fs.read_text(EVALUATED)),
            spent={
                stage: json.loads(fs.read_text(f"{paths.METRICS}/time/{stage}.json")) for stage in all_stages(params)
            },
            provenance={
                stage: json.loads(fs.read_text(f"{paths.METRICS}/provenance/{stage}.json"))
                for stage in computing_stages(params)
            },
            checkpoint=json.loads(fs.read_text(f"{paths.model(params['schedule']['final'])}/checkpoint.json")),
            source=json.loads(fs.read_text(f"{paths.BACKBONE}/checkpoint.json")),
            data=_data_hash(params, lock),
            classes=json.loads(fs.read_text(f"{paths.PROCESSED}/classes.json"))["classes"],
            tables={name: _rows(fs.read_text(f"{paths.TABLES}/{name}.csv")) for name in TABLES},
            images={name: fs.read_bytes(f"{paths.FIGURES}/{name}.png") for name in IMAGES},
            galleries={name: _gallery(fs, f"{paths.TABLES}/{name}") for name in GALLERIES},
        )
    except FileNotFoundError as error:
        file = error.filename or str(error).split(": ")[-1].strip("'")
        if revision is None:
            raise ThawError(f"report: {file}: missing; run `dvc repro` first") from None
        raise ThawError(
            f"report: {revision} has no {file} in git or in DVC's cache; `dvc exp pull` and `dvc pull` fetch results, "
            "`dvc repro` makes them"
        ) from None
    except (KeyError, TypeError) as error:
        raise ThawError(
            f"report: {revision or 'the workspace'} has results of another version of thaw (no {error}); "
            "`dvc repro` makes results anew"
        ) from None


def _gallery(fs, path: str) -> tuple[list[dict[str, str]], np.ndarray]:
    images = np.load(io.BytesIO(fs.read_bytes(f"{path}.npy")), allow_pickle=False)
    return _rows(fs.read_text(f"{path}.csv")), images


def _frozen(pipeline: dict[str, Any]) -> list[str]:
    """Stages that `dvc freeze` keeps from running, in order."""
    return [name for name, stage in pipeline["stages"].items() if stage.get("do", stage).get("frozen")]


def _data_hash(params: dict[str, Any], lock: dict[str, Any]) -> str:
    """DVC's hash of what the stage preprocess has read."""
    if params["dataset"]["path"] is None:
        return next(out["md5"] for out in lock["download"]["outs"] if out["path"] == str(paths.RAW))
    for dep in lock["preprocess"]["deps"]:
        if dep["path"] == params["dataset"]["files"]:
            return dep["md5"]
    raise ThawError("report: params.yaml was changed since the results were made (dataset.path); run `dvc repro` first")


def _composed(fs, commit: str | None, params: dict[str, Any]) -> tuple[list[str] | None, dict[str, Any]]:
    """The overrides that compose these parameters from the revision's conf/, and its parameters without overrides."""
    if commit is None:
        return overrides_for(params), compose([])
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder) / paths.CONF
        fs.get(str(paths.CONF), str(conf), recursive=True)
        return overrides_for(params, conf), compose([], conf)


def _changed_files(commit: str | None, base: str) -> list[str]:
    if commit == base:
        return []
    names = git("report", "diff", "--name-only", base, *([commit] if commit else [])).splitlines()
    return [name for name in names if not name.startswith(_WRITTEN)]


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))
