"""Where every file of the pipeline lies, from the root of the checkout."""

from pathlib import Path

PARAMS = Path("params.yaml")
CONF = Path("conf")

RAW = Path("data/raw")
PROCESSED = Path("data/processed")
FEATURES = Path("data/features")
VIEWS = Path("data/views")
MODELS = Path("models")
BACKBONE = MODELS / "backbone"
# What training reads of it; the test split is for evaluate.
SPLITS_LEARNT = [PROCESSED / "classes.json", PROCESSED / "train", PROCESSED / "val"]

METRICS = Path("metrics")
EVALUATED = METRICS / "evaluate.json"
PLOTS = Path("plots")
CURVES = PLOTS / "curves"
TABLES = PLOTS / "tables"
FIGURES = PLOTS / "figures"


def model(phase: str) -> Path:
    """The checkpoint of a phase; `head` is the first."""
    return MODELS / phase


def main_checkout() -> Path:
    """The checkout that a person works in, also from inside one of DVC's temporary copies.

    `dvc exp run --temp` and the queue run in MAIN/.dvc/tmp/exps/..., which is deleted afterwards.
    """
    here = Path.cwd()
    for folder in here.parents:
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2]
    return here


def downloads() -> Path:
    """Archives and part files: no DVC output, since DVC deletes an output before its stage runs."""
    return main_checkout() / "downloads"
