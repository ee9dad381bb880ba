"""The resolvers of conf/, for what DVC hashes; DVC and `make params` load them (hydra.plugins_path).

DVC resolves them after it has composed conf/ and before it writes params.yaml, so this is where `dvc exp run` is
refused what cannot run.
"""

import contextlib
import os
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

CHECKOUT = Path(__file__).resolve().parents[2]


def weights_file(weights: str, otherwise: str, *, _root_: DictConfig) -> str:
    """The file or folder that DVC hashes for `backbone.weights`: itself, or `otherwise` where it names neither.

    DVC has no optional dependencies, so a backbone without a weights file needs another file that is
    always there. The path becomes absolute in the parameters, too, as `dataset.path` does.
    """
    file = otherwise if weights in ("imagenet", "none") else str(weights)
    absolute = os.path.abspath(os.path.expanduser(file))
    if file != otherwise and os.path.exists(absolute):  # what does not exist is refused as it was given
        _root_.backbone.weights = file = absolute
    if _is_dvc():
        _check(_root_, file)
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


def _is_dvc() -> bool:
    """Whether this is `dvc` or `python -m dvc`: thaw's own commands compose without a network."""
    program = Path(sys.argv[0])
    return program.name == "dvc" or program.parts[-2:] == ("dvc", "__main__.py")


def _check(root: DictConfig, file: str) -> None:
    from dvc.cli import parse_args
    from dvc.exceptions import DvcException

    sys.path.insert(0, str(CHECKOUT))
    try:
        from thaw.app.preflight import check_runnable
        from thaw.errors import ThawError
    except (ImportError, AttributeError):  # a dvc of another environment than the stages', or with another PyYAML
        return
    finally:
        sys.path.remove(str(CHECKOUT))

    # As OmegaConf raises it, DVC would show four lines.
    class Refused(InterpolationResolutionError, DvcException):
        _initialized = True

    params = OmegaConf.create(OmegaConf.to_container(root))
    params.backbone.weights_file = file  # or it would be resolved for ever
    # Here, since a path is meant from the user's folder.
    OmegaConf.resolve(params)
    arguments = parse_args()
    # A single stage may need neither, and a remote may have both.
    reachable = not (arguments.targets or arguments.pull)
    with contextlib.chdir(CHECKOUT):
        try:
            check_runnable(OmegaConf.to_container(params), reachable=reachable)
        except ThawError as error:
            raise Refused(str(error)) from None
        except OSError:  # a file that cannot be read; the stage that needs it says so
            return


for resolver in (weights_file, dataset_files):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
