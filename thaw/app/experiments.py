"""The finished experiments of a DVC repository: parameters, accuracy, training time. Start at `read_experiments`."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaw import paths
from thaw.app.git import refuse_other_owner
from thaw.app.lockfile import changed_params, computing_stages, recorded_stages, training_stages
from thaw.app.versions import Versions, recorded_versions
from thaw.config.schema import HEAD
from thaw.errors import ThawError

EVALUATED = str(paths.EVALUATED)


@dataclass(frozen=True)
class Experiment:
    """One finished experiment.

    Attributes:
        name: DVC's name, such as pedal-jerk; the branch, tag or hash of a commit; or `workspace`.
        params: all of params.yaml, nested.
        accuracy: on the test split.
        seconds: duration of its training stages when they ran.
        versions: versions of the packages that its stages ran with.
        interval: bounds of the 95 % interval of the accuracy; None for results of a version of thaw without it.
        test_images: DVC's hash of the test split; None if the pipeline had no such output.
        predictions: table of predictions in DVC's cache; None if it is not there.
        kept_start: phases that kept the weights they started from.
    """

    name: str
    params: dict[str, Any]
    accuracy: float
    seconds: float
    versions: Versions = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    test_images: str | None = None
    predictions: Path | None = None
    kept_start: tuple[str, ...] = ()


def read_experiments(all_commits: bool = False) -> tuple[list[Experiment], list[str]]:
    """Read the finished experiments of the last commit, that commit and the workspace; equal results count once.

    Args:
        all_commits: also read all other commits and their experiments.

    Returns:
        The experiments, and counts of those left out, such as "2 queued".

    Raises:
        ThawError: no DVC repository, or one without a commit.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    refuse_other_owner("compare")
    finished: list[Experiment] = []
    left_out: Counter[str] = Counter()
    try:
        # The source of dvc.api.exp_show, which turns all values into text and reads no other commits.
        with Repo() as repo:
            states = [state.dumpd() for state in repo.experiments.show(all_commits=all_commits)]
            for kind, row in _rows(states):
                experiment = _experiment(kind, row, repo)
                if isinstance(experiment, str):
                    left_out[experiment] += 1
                elif experiment is None or any(_same(experiment, other) for other in finished):
                    continue
                elif kind in ("commit", "workspace") and _is_changed(experiment, row["rev"]):
                    left_out[f"changed since the results there ({experiment.name})"] += 1
                else:
                    finished.append(experiment)
    except DvcException as error:
        raise ThawError(f"compare: {error}") from None
    if not states:
        raise ThawError("compare: this repository has no commit yet")
    return finished, [f"{count} {why}" for why, count in sorted(left_out.items())]


def _rows(states: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Experiments first, then commits, the workspace last: the first of equal results is kept."""
    for state in states:
        for experiment in state["experiments"] or []:
            kind = (experiment["executor"] or {}).get("state", "success")
            yield kind, experiment["revs"][0] | {"name": experiment["name"] or experiment["revs"][0]["name"]}
    for state in reversed(states):
        yield "commit" if state["rev"] != "workspace" else "workspace", state


def _experiment(kind: str, row: dict[str, Any], repo) -> Experiment | str | None:
    """An experiment, or the reason to leave it out, or None for a commit without a result."""
    if kind not in ("success", "commit", "workspace"):
        return kind  # queued, running, failed
    data = row["data"] or {"params": {}, "metrics": {}}
    params = data["params"].get(str(paths.PARAMS), {}).get("data")
    metrics = data["metrics"].get(EVALUATED, {}).get("data")
    # A commit may have another pipeline.
    if not params or not isinstance(metrics, dict) or "accuracy" not in metrics:
        return "without a result" if kind == "success" else None
    try:
        times = _read_all("time", training_stages(params), data["outs"], repo)
        provenance = _read_all("provenance", computing_stages(params), data["outs"], repo)
    except (OSError, KeyError, TypeError):  # the last two: a commit with another pipeline
        pulled = "whose metrics/time and metrics/provenance are not in DVC's cache (`dvc pull`, `dvc exp pull`)"
        return f"{pulled}, or whose run was cut off (`dvc repro`): the workspace" if kind == "workspace" else pulled
    return Experiment(
        name=row["name"] or row["rev"][:9],
        params=params,
        accuracy=float(metrics["accuracy"]),
        seconds=sum(stage["seconds"] for stage in times),
        versions=recorded_versions(provenance),
        interval=interval_of(metrics),
        test_images=data["outs"].get(str(paths.PROCESSED / "test"), {}).get("hash"),
        predictions=_predictions(data["outs"], repo),
        kept_start=_kept_start(params, data["metrics"]),
    )


def _kept_start(params: dict[str, Any], metrics: dict[str, Any]) -> tuple[str, ...]:
    """Phases that trained and kept their start; none in results of a version of thaw that did not record it."""
    kept = []
    for phase in [HEAD, *(params["schedule"]["phases"] or {})]:
        recorded = metrics.get(f"{paths.METRICS}/phases/{phase}.json", {}).get("data") or {}
        trained, best = (recorded.get(name, {}).get(phase) for name in ("max_epochs", "best_epoch"))
        if trained and best == 0:
            kept.append(phase)
    return tuple(kept)


def _predictions(outs: dict[str, dict[str, Any]], repo) -> Path | None:
    """The table of predictions in DVC's cache, by the cached list of the files of plots/tables."""
    value = outs.get(str(paths.TABLES), {}).get("hash")
    try:
        files = json.loads(Path(repo.cache.local.oid_to_path(value)).read_text(encoding="utf-8")) if value else []
    except FileNotFoundError:
        return None
    hashes = [file["md5"] for file in files if file["relpath"] == "predictions.csv"]
    return Path(repo.cache.local.oid_to_path(hashes[0])) if hashes else None


def _is_changed(experiment: Experiment, revision: str) -> bool:
    with open_revision(None if revision == "workspace" else revision) as fs:
        return bool(changed_params(experiment.params, recorded_stages(fs.read_text("dvc.lock"))))


def open_revision(revision: str | None):
    """A context with the files of a revision, in git and in DVC's cache; None opens the workspace."""
    from dvc.api import DVCFileSystem

    return closing(DVCFileSystem(rev=revision))


def _read_all(kind: str, stages: list[str], outs: dict[str, dict[str, Any]], repo) -> list[dict[str, Any]]:
    """Read metrics/<kind> of stages from DVC's cache by hash: opening each revision takes far longer."""
    hashes = [outs[f"{paths.METRICS}/{kind}/{stage}.json"]["hash"] for stage in stages]
    files = [Path(repo.cache.local.oid_to_path(value)) for value in hashes]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _same(experiment: Experiment, other: Experiment) -> bool:
    """Whether two experiments are one run under two names: equal to the hundredth of a second."""
    return (experiment.params, experiment.accuracy, experiment.seconds) == (
        other.params, other.accuracy, other.seconds,
    )  # fmt: skip


def interval_of(metrics: dict[str, Any]) -> tuple[float, float] | None:
    """The 95 % interval of the test accuracy in metrics/evaluate.json; None in that of a version of thaw without it."""
    return (metrics["accuracy_low"], metrics["accuracy_high"]) if "accuracy_low" in metrics else None


def format_interval(interval: tuple[float, float] | None) -> str:
    """A 95 % interval of an accuracy in words; a dash where there is none."""
    return "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
