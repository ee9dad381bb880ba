"""dvc.lock: what stages ran with."""

from collections.abc import Sequence
from typing import Any

from thaw import paths
from thaw.config.naming import parse_yaml
from thaw.errors import ThawError


def training_stages(params: dict[str, Any]) -> list[str]:
    """The stages that train, and those that prepare that, in their order."""
    phases = params["schedule"]["phases"] or {}
    return ["backbone", "extract", "train_head", *(f"unfreeze@{phase}" for phase in phases)]


def all_stages(params: dict[str, Any]) -> list[str]:
    """The stages of dvc.yaml, in their order."""
    return ["download", "preprocess", *training_stages(params), "evaluate", "figures"]


def recorded_stages(lock: str) -> dict[str, Any]:
    """By stage, what it ran with, of the text of dvc.lock.

    Raises:
        ThawError: it is no YAML, as where a merge has left its marks.
    """
    from dvc.exceptions import DvcException

    try:
        return parse_yaml(lock)["stages"]
    except DvcException:
        raise ThawError("dvc.lock: not a YAML file; `git checkout HEAD dvc.lock` brings the last one back") from None


def changed_params(params: dict[str, Any], lock: dict[str, Any], stages: Sequence[str] = ()) -> list[str]:
    """The parameters that are not what stages, or all of them, ran with; dvc.lock holds the values (`recorded`)."""
    stages = stages or all_stages(params)
    recorded = {
        name: value
        for stage in stages
        for name, value in lock.get(stage, {}).get("params", {}).get(str(paths.PARAMS), {}).items()
    }
    return [name for name, value in recorded.items() if _at(params, name) != value]


def _at(params: Any, name: str) -> Any:
    for part in name.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params
