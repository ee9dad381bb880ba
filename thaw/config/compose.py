"""Compose conf/ into parameters, with the code that `dvc exp run` does it with."""

import tempfile
from pathlib import Path
from typing import Any

import yaml

from thaw import paths
from thaw.config.naming import parse_yaml
from thaw.errors import ParamError, ThawError


def compose_params(overrides: list[str], output: Path = paths.PARAMS, conf: Path = paths.CONF) -> None:
    """Write what conf/, or another folder of its kind, composes to under the given overrides, as `-S` takes them.

    Raises:
        ParamError: a group has no such choice.
        ThawError: Hydra refuses an override, or a file in conf/ is no YAML.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    folder = str(conf.resolve())
    try:
        compose_and_dump(str(output), folder, None, "config", folder, overrides)
    # ValueError: a group that is null or a number, or a file that is no UTF-8.
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        _check_choices(overrides, conf)
        raise ThawError(" ".join(str(error).split())) from None


def compose(overrides: list[str], conf: Path = paths.CONF) -> dict[str, Any]:
    """The parameters that conf/ composes to, nested and unchecked; raises as `compose_params`."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / paths.PARAMS
        compose_params(overrides, output, conf)
        return parse_yaml(output.read_text(encoding="utf-8"))


def _check_choices(overrides: list[str], conf: Path) -> None:
    """Refuse the first override that names an option that a group of conf/ has not, such as an unknown recipe."""
    for override in overrides:
        group, _, option = override.partition("=")
        options = sorted(file.stem for file in (conf / group).glob("*.yaml")) if group.isidentifier() else []
        if options and option not in options:
            raise ParamError(group, option, ", ".join(options))
