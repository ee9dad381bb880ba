"""dvc.lock: the stages of a run by name, and the parameters that they ran with. Start at `changed_params`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thaw import paths
from thaw.config.naming import parse_yaml
from thaw.config.schedule import chain_of, phase_section, stage_of, start_of
from thaw.config.schema import HEAD, Params
from thaw.errors import ThawError
from thaw.network.checkpoint import read_checkpoint_info
from thaw.stage import STAGES

# Stages that train or prepare training: the sum of their seconds is the training time.
_TRAINING = ("backbone", "extract", "train_head", "unfreeze")


def all_stages(params: dict[str, Any]) -> list[str]:
    """Names in DVC of all stages of dvc.yaml, such as unfreeze@all, in order."""
    phases = [stage_of(phase) for phase in params["schedule"]["phases"] or {}]
    return [name for kind in STAGES for name in (phases if kind == "unfreeze" else [kind])]


def training_stages(params: dict[str, Any]) -> list[str]:
    """Stages that train or prepare training: all but download, preprocess and those after the phases."""
    return [stage for stage in all_stages(params) if stage.split("@")[0] in _TRAINING]


def computing_stages(params: dict[str, Any]) -> list[str]:
    """Stages that compute with Keras and record their versions and device."""
    return [stage for stage in all_stages(params) if STAGES[stage.split("@")[0]].keras]


def recorded_stages(lock: str) -> dict[str, Any]:
    """Entries of dvc.lock by stage, from its text.

    Raises:
        ThawError: not YAML, for example because of conflict markers.
    """
    from dvc.exceptions import DvcException

    try:
        return parse_yaml(lock)["stages"]
    except DvcException:
        raise ThawError("dvc.lock: not a YAML file; `git checkout HEAD dvc.lock` brings the last one back") from None


def changed_params(params: dict[str, Any], lock: dict[str, Any], stages: Sequence[str] = ()) -> list[str]:
    """Names of the parameters that changed since stages (default: all) ran; `recorded_stages` gives the lock."""
    recorded = {
        name: value
        for stage in stages or all_stages(params)
        for name, value in lock.get(stage, {}).get("params", {}).get(str(paths.PARAMS), {}).items()
    }
    return [name for name, value in recorded.items() if _at(params, name) != value]


def _at(params: Any, name: str) -> Any:
    for part in name.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params


def refuse_stale(command: str, params: Params, name: str) -> None:
    """Refuse to start from what other parameters than those of params.yaml have made.

    Raises:
        ParamError: there is no such phase.
        ThawError: what the phase starts from is missing, or was made with others, as far as dvc.lock tells.
    """
    start = start_of(phase_section(params, name))
    read_checkpoint_info(start)
    lock = Path("dvc.lock")
    if not lock.is_file():  # stages that were run without DVC
        return
    chain = chain_of(params.schedule)
    earlier = map(stage_of, chain[: chain.index(name)])
    now = parse_yaml(paths.PARAMS.read_text(encoding="utf-8"))
    stages = all_stages(now)
    stages = [*stages[: stages.index(stage_of(HEAD))], *earlier]
    changed = changed_params(now, recorded_stages(lock.read_text(encoding="utf-8")), stages)
    if changed:
        raise ThawError(f"{command}: {start} was made with another {changed[0]}; run `dvc repro` first")
