"""One self-contained HTML file about one run: read it, and write the page."""

import csv
import io
import json
import re
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw import experiments, files, naming, paths, reproduce
from thaw.errors import ThawError
from thaw.params import load as load_params

# Of evaluate, for the page.
PICTURES = ("calibration", "gallery", "mistakes")
TABLES = ("scores", "per_class", "confusion", "confused")
# Longer commands are broken at their options.
_LINE = 80
# What a run writes: a change of these alone is no change of code.
_WRITTEN = (str(paths.PARAMS), "dvc.lock", f"{paths.METRICS}/")


@dataclass(frozen=True)
class Run:
    """What the page tells of.

    Attributes:
        name: of the experiment, branch or tag, a commit's hash, or `workspace`.
        commit: where its code is, in full.
        experiment: whether DVC knows it as an experiment, which can be applied.
        changed: tracked files in which its code differs from that commit.
        params: all of params.yaml, nested.
        defaults: what conf/ composes to when nothing is given.
        overrides: what to give -S to have these parameters; None where that is not known.
        metrics: of metrics/evaluate.json.
        spent: by stage, seconds and peak_gb.
        provenance: by stage, what it computed on.
        checkpoint: of the final model, without its weights.
        source: the same of the backbone; with a history where it learnt a source task.
        data: DVC's hash of the archive's content.
        tables: by name, the rows of plots/<name>.csv.
        pictures: by name, plots/<name>.png.
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
    tables: dict[str, list[dict[str, str]]]
    pictures: dict[str, bytes]

    def commands(self) -> list[tuple[str, str]]:
        """Commands that make this run again, and what each is for."""
        found = [(f"git checkout {self.commit[:12]}", "the code")]
        if self.experiment:
            found.append((f"dvc exp apply {shlex.quote(self.name)}", "its parameters and results, without a run"))
        if self.overrides is not None:
            values = [f"-S {shlex.quote(override)}" for override in self.overrides]
            line = " ".join(["dvc exp run", *values])
            lines = " \\\n    ".join(["dvc exp run", *values]) if len(line) > _LINE else line
            found.append((lines, "run what DVC's cache does not have"))
        else:
            found.append(("dvc repro", "with the parameters of this page in params.yaml"))
        return found


def write(revision: str | None, output: Path | None = None) -> Path:
    """Write the page of a run.

    Args:
        revision: an experiment, or a commit by any name; None for the workspace.
        output: report.html, or report-<revision>.html, by default.

    Returns:
        Where it is.

    Raises:
        ThawError: there is no such revision, or it has no complete results, or those of another version of thaw.
    """
    from thaw import page

    run = read(None if revision == "workspace" else revision)
    if output is None:
        output = Path(f"report-{run.name.replace('/', '-')}.html" if revision else "report.html")
    with files.replacing(output) as beside:
        beside.write_text(page.page(run), encoding="utf-8")
    return output


def read(revision: str | None) -> Run:
    """All that the page needs: from git and DVC's cache, without touching the workspace; for None, the workspace's."""
    from dvc.exceptions import DvcException

    if revision is None:
        load_params()  # what DVC says of a damaged file names none
    try:
        commit, base = _resolve(revision)
        with experiments.opened(commit) as fs:
            return _read(fs, revision, commit, base)
    except DvcException as error:
        raise ThawError(f"report: {error}") from None


def _resolve(revision: str | None) -> tuple[str | None, str]:
    """Two commits: of the results, None for the workspace, and of the code, which an experiment's results lie upon."""
    from dvc.repo import Repo
    from dvc.scm import RevError, resolve_rev

    with Repo() as repo:
        if revision is None:
            return None, _git("rev-parse", "HEAD")
        try:
            found = resolve_rev(repo.scm, revision) if revision else ""  # which DVC takes for HEAD
            commit = _git("rev-parse", "--verify", f"{found}^{{commit}}")  # no folder, no file
        except (RevError, ThawError):
            accepted = "a finished experiment (`dvc exp list` names them), or a commit, branch or tag"
            raise ThawError(f"report: received {revision or 'nothing'}; accepted: {accepted}") from None
        is_experiment = any(
            # refs/exps/<its commit's hash, in two parts>/<name>; DVC keeps notes of its own in other folders there.
            re.match(r"refs/exps/[0-9a-f]{2}/", reference) and repo.scm.get_ref(reference) == commit
            for reference in repo.scm.iter_refs("refs/exps/")
        )
    return commit, _git("rev-parse", f"{commit}^") if is_experiment else commit


def _read(fs, revision: str | None, commit: str | None, base: str) -> Run:
    try:
        params = naming.parsed(fs.read_text(str(paths.PARAMS)))
        lock = experiments.recorded(fs.read_text("dvc.lock"))
        if changed := experiments.changed(params, lock):
            names = ", ".join(changed[:3])
            raise ThawError(
                f"report: params.yaml was changed since the results were made ({names}); run `dvc repro` first"
            )
        stages = ["download", "preprocess", *experiments.training_stages(params), "evaluate"]
        computing = [stage for stage in stages if stage not in ("download", "preprocess")]
        overrides, defaults = _composed(fs, commit, params)
        return Run(
            name=revision or "workspace",
            commit=base,
            experiment=commit not in (None, base),
            changed=_changed(commit, base),
            params=params,
            defaults=defaults,
            overrides=overrides,
            metrics=json.loads(fs.read_text(experiments.EVALUATED)),
            spent={stage: json.loads(fs.read_text(f"{paths.METRICS}/time/{stage}.json")) for stage in stages},
            provenance={
                stage: json.loads(fs.read_text(f"{paths.METRICS}/provenance/{stage}.json")) for stage in computing
            },
            checkpoint=json.loads(fs.read_text(f"{paths.model(params['schedule']['final'])}/checkpoint.json")),
            source=json.loads(fs.read_text(f"{paths.BACKBONE}/checkpoint.json")),
            data=next(out["md5"] for out in lock["download"]["outs"] if out["path"] == str(paths.RAW)),
            tables={name: _rows(fs.read_text(f"{paths.PLOTS}/{name}.csv")) for name in TABLES},
            pictures={name: fs.read_bytes(f"{paths.PLOTS}/{name}.png") for name in PICTURES},
        )
    except FileNotFoundError as error:
        file = error.filename or str(error).split(": ")[-1].strip("'")
        if revision is None:
            raise ThawError(f"report: {file} is not there; run `dvc repro` first") from None
        raise ThawError(
            f"report: {revision} has no {file} in git or in DVC's cache; `dvc exp pull` and `dvc pull` fetch results, "
            "`dvc repro` makes them"
        ) from None
    except (KeyError, TypeError) as error:
        told = f"report: what {revision or 'the workspace'} has is of another version of thaw (no {error})"
        raise ThawError(f"{told}; `dvc repro` makes results anew") from None


def _composed(fs, commit: str | None, params: dict[str, Any]) -> tuple[list[str] | None, dict[str, Any]]:
    """What conf/ of that revision needs to be given to compose these parameters, and what it composes to without."""
    if commit is None:
        return reproduce.overrides(params), reproduce.composed([])
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder) / paths.CONF
        fs.get(str(paths.CONF), str(conf), recursive=True)
        return reproduce.overrides(params, conf), reproduce.composed([], conf)


def _changed(commit: str | None, base: str) -> list[str]:
    if commit == base:
        return []
    names = _git("diff", "--name-only", base, *([commit] if commit else [])).splitlines()
    return [name for name in names if not name.startswith(_WRITTEN)]


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if result.returncode:
        raise ThawError(f"report: git {arguments[0]}: {(result.stderr.strip().splitlines() or ['no message'])[-1]}")
    return result.stdout.strip()


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def differing(run: Run) -> set[str]:
    """The parameters, by dotted name, that conf/'s defaults do not have or have otherwise."""
    defaults = naming.flat(run.defaults)
    return {name for name, value in naming.flat(run.params).items() if name not in defaults or defaults[name] != value}
