"""Compose conf/ into params.yaml, with the code that `dvc exp run` does it with."""

from pathlib import Path

from thaw import paths
from thaw.errors import ThawError


def compose(overrides: list[str], output: Path = paths.PARAMS) -> None:
    """Write what conf/ composes to under the given overrides, as `-S` takes them.

    Raises:
        ThawError: Hydra refuses an override.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    conf = str(paths.CONF.resolve())
    try:
        compose_and_dump(str(output), conf, None, "config", conf, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ThawError(" ".join(str(error).split())) from None
