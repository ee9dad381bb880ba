"""The schedule as a chain of phases: names of stages, where each starts, and their order."""

from pathlib import Path

from thaw import paths
from thaw.config.schema import HEAD, Head, Params, Phase, Schedule
from thaw.errors import ParamError


def phase_section(params: Params, name: str) -> Head | Phase:
    """The section of a phase.

    Raises:
        ParamError: there is no such phase.
    """
    phases = {HEAD: params.head} | params.schedule.phases
    if name not in phases:
        raise ParamError("phase", name, f"one of {', '.join(phases)}")
    return phases[name]


def stage_of(name: str) -> str:
    """The DVC stage of a phase."""
    return "train_head" if name == HEAD else f"unfreeze@{name}"


def start_of(phase: Head | Phase) -> Path:
    """The checkpoint that a phase starts from."""
    return paths.model(phase.after) if isinstance(phase, Phase) else paths.BACKBONE


def chain_of(schedule: Schedule) -> list[str]:
    """The phases from head to the final one."""
    chain = [schedule.final]
    while chain[0] != "head":
        before = schedule.phases[chain[0]].after
        if before in chain:
            raise ParamError(
                f"schedule.phases.{chain[0]}.after", before, "a phase that does not itself come after this one"
            )
        chain.insert(0, before)
    return chain
