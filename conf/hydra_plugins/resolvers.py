"""The resolvers of conf/, for what DVC hashes, and the check before a run; DVC and `make params` load them.

DVC's option hydra.plugins_path names this folder.
"""

import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

CHECKOUT = Path(__file__).resolve().parents[2]


def weights_file(weights: str, otherwise: str, *, _root_: DictConfig) -> str:
    """The file or folder that DVC hashes for `backbone.weights`: itself, or `otherwise` where it names neither.

    DVC has no optional dependencies, so a backbone without a weights file needs another file that is
    always there. The path becomes absolute in the parameters, too, as `dataset.path` does.
    """
    file = otherwise if weights in ("imagenet", "none") else str(weights)
    absolute = os.path.abspath(os.path.expanduser(file))
    # What does not exist is refused as it was given; the absolute path of '' is this folder.
    if file not in ("", otherwise) and os.path.exists(absolute):
        _root_.backbone.weights = file = absolute
    return file


def dataset_files(path: str | None, otherwise: str, *, _root_: DictConfig) -> str:
    """The folder that DVC hashes for `dataset.path`: itself, or that of a CSV; `otherwise` without a path.

    The path becomes absolute in the parameters, too: a run of DVC's queue has another working folder.
    """
    if not isinstance(path, str) or not path:  # the schema refuses what is no text
        return otherwise
    absolute = os.path.abspath(os.path.expanduser(path))
    _root_.dataset.path = absolute
    return os.path.dirname(absolute) if os.path.isfile(absolute) else absolute


def at_most(usual: float, limit: Any) -> Any:
    """`usual`, or a smaller limit: a phase that is shortened on the command line has no longer warm-up than itself."""
    return min(usual, limit) if isinstance(limit, int | float) and limit > 0 else usual  # the schema refuses the rest


class Preflight(SearchPathPlugin):
    """Refuses what `dvc exp run` cannot run: Hydra calls it before it composes, and DVC has not written anything yet.

    A grid is checked whole, or DVC would queue all runs before the one that is refused.
    """

    _done = False

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if _is_dvc() and not Preflight._done:
            Preflight._done = True  # the check composes, too
            _check()


def _is_dvc() -> bool:
    """Whether this is `dvc` or `python -m dvc`: thaw's own commands compose without a network."""
    program = Path(sys.argv[0])
    return program.name == "dvc" or program.parts[-2:] == ("dvc", "__main__.py")


def _check() -> None:
    from dvc.cli import parse_args
    from dvc.exceptions import DvcException

    sys.path.insert(0, str(CHECKOUT))
    try:
        from thaw.app.preflight import check_experiment
        from thaw.errors import ThawError
    except (ImportError, AttributeError):  # a dvc of another environment than the stages', or with another PyYAML
        return
    finally:
        sys.path.remove(str(CHECKOUT))
    try:
        check_experiment(parse_args(), CHECKOUT)
    except ThawError as error:
        raise DvcException(str(error)) from None
    except OSError:  # a file that cannot be read; the stage that needs it says so
        return


for resolver in (weights_file, dataset_files, at_most):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
