"""Paths of all files of the pipeline, relative to the root of the checkout."""

from pathlib import Path

from thaw.errors import ThawError

PARAMS = Path("params.yaml")
CONF = Path("conf")

RAW = Path("data/raw")
PROCESSED = Path("data/processed")
FEATURES = Path("data/features")
VIEWS = Path("data/views")
MODELS = Path("models")
BACKBONE = MODELS / "backbone"
# The part of PROCESSED that training reads; only evaluate reads the test split.
SPLITS_LEARNT = [PROCESSED / "classes.json", PROCESSED / "train", PROCESSED / "val"]

METRICS = Path("metrics")
EVALUATED = METRICS / "evaluate.json"
PLOTS = Path("plots")
CURVES = PLOTS / "curves"
TABLES = PLOTS / "tables"
FIGURES = PLOTS / "figures"


def model(phase: str) -> Path:
    """The checkpoint of a phase; the first phase is `head`."""
    return MODELS / phase


def moments(phase: str) -> Path:
    """Adam's moments at the end of a phase."""
    return MODELS / "moments" / phase


def not_found(file: Path) -> ThawError:
    """The refusal to work where `file` of the root is not: it names the root above, if there is one."""
    root = next((folder for folder in Path.cwd().parents if (folder / file).exists()), None)
    where = f"the root of the checkout, {root}" if root else "the root of a checkout"
    written = "; there `thaw params` writes it" if not root and file.name == PARAMS.name else ""
    return ThawError(f"{file}: not found; run from {where}{written}")


def main_checkout() -> Path:
    """The checkout that the user works in, from inside a temporary copy of DVC's, too.

    `dvc exp run --temp` and DVC's queue run in MAIN/.dvc/tmp/exps/..., which DVC deletes afterwards.
    """
    here = Path.cwd()
    for folder in here.parents:
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2]
    return here


def downloads() -> Path:
    """Folder of archives and partial downloads; not a DVC output, since DVC deletes outputs before a run."""
    return main_checkout() / "downloads"
