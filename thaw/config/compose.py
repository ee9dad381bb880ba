"""Compose conf/ into parameters, with the code that `dvc exp run` does it with."""

import re
import tempfile
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from thaw import paths
from thaw.config.load import parse_params
from thaw.config.naming import flat, parse_yaml
from thaw.errors import ParamError, ThawError, Words


def compose_params(overrides: list[str], output: Path = paths.PARAMS, conf: Path = paths.CONF) -> None:
    """Write what conf/, or another folder of its kind, composes to under the given overrides, as `-S` takes them.

    Raises:
        ParamError: an override is no KEY=VALUE of Hydra's, a group has no such choice, or there is no such key.
        ThawError: Hydra refuses an override for another reason, or a file in conf/ is no YAML.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    if not conf.is_dir():
        raise paths.not_found(conf)
    if nameless := next((override for override in overrides if override.startswith("=")), None):
        raise ParamError("overrides", nameless, "KEY=VALUE")
    folder = str(conf.resolve())
    try:
        compose_and_dump(str(output), folder, None, "config", folder, overrides)
    # ValueError: a group that is null or a number, or a file that is no UTF-8.
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        if (runs := len(expand(overrides))) > 1:
            raise ParamError(
                "overrides", Words(f"a grid of {runs} runs"), "one run; dvc exp run --queue takes a grid"
            ) from None
        _check_choices(overrides, conf)
        if isinstance(error, OverrideParseException):
            raise _unreadable(error.override) from None
        if key := re.match(r"Could not override '(.+?)'", str(error)):
            _refuse_unknown(key[1], overrides, conf)
        raise ThawError(" ".join(str(error).split())) from None


def compose(overrides: list[str], conf: Path = paths.CONF) -> dict[str, Any]:
    """The parameters that conf/ composes to, nested and unchecked; raises as `compose_params`."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / paths.PARAMS
        compose_params(overrides, output, conf)
        return parse_yaml(output.read_text(encoding="utf-8"))


def check_grid(overrides: list[str], check: Callable[[list[str]], object]) -> int:
    """Check each run of a grid, which `dvc exp run --queue` makes of values separated by commas.

    Args:
        overrides: of all runs, as `-S` takes them.
        check: gets the overrides of one run; raises ThawError, which then names the run.

    Returns:
        Number of runs; 1 where no override has several values.
    """
    grid = expand(overrides)
    for run in grid:
        try:
            check(run)
        except ThawError as error:
            if len(grid) == 1:
                raise
            raise ThawError(f"{error} (in the run of {' '.join(run)})") from None
    return len(grid)


def expand(overrides: list[str]) -> list[list[str]]:
    """The overrides of each run of a grid; themselves where they are unreadable, as composing them tells."""
    from dvc.exceptions import InvalidArgumentError
    from dvc.utils.hydra import get_hydra_sweeps, to_hydra_overrides
    from hydra.errors import OverrideParseException

    try:
        if not any(override.is_sweep_override() for override in to_hydra_overrides(overrides)):
            return [overrides]
        return [run[""] for run in get_hydra_sweeps({"": overrides})]
    except OverrideParseException:
        return [overrides]
    except InvalidArgumentError as error:  # glob(*)
        raise ThawError(str(error)) from None


def _check_choices(overrides: list[str], conf: Path) -> None:
    """Refuse the first override that names an option that a group of conf/ has not, such as an unknown recipe."""
    for override in overrides:
        group, _, option = override.partition("=")
        options = sorted(file.stem for file in (conf / group).glob("*.yaml")) if group.isidentifier() else []
        if options and option not in options:
            raise ParamError(group, option, ", ".join(options))


def _unreadable(override: str) -> ParamError:
    """The refusal of an override that is not in Hydra's grammar."""
    key, equals, value = override.partition("=")
    if not equals:
        return ParamError(key, None, f"a value: {key}=VALUE")
    quoted = "'" + value.strip("'").replace("'", "\\'") + "'"
    return ParamError(key, value, f'a value in the grammar of Hydra, such as text in quotes: "{key}={quoted}"')


def _refuse_unknown(key: str, overrides: list[str], conf: Path) -> None:
    """Refuse a key that conf/ does not compose to: in the words of the schema where that lacks it, too."""
    value = {one.partition("=")[0]: one.partition("=")[2] for one in overrides}[key]
    there = flat(compose([one for one in overrides if one != f"{key}={value}"], conf))
    near = get_close_matches(key, [one for one in there if not key.startswith(f"{one}.")], 1, cutoff=0.8)
    accepted = ", such as ".join(["a key that conf/ composes to", *near])
    try:
        parse_params(compose([f"++{one}" if one == f"{key}={value}" else one for one in overrides], conf))
        accepted += f"; +{key}={value} adds one"
    except ParamError as error:
        if error.parameter == key:
            raise
    except ThawError:
        pass
    raise ParamError(key, value, accepted)
