"""Faults seeded over the packages, one at a time: which of them does `make test` find?

    python -m tools.seeded_faults [NAME ...]

Each fault is a change of one line in a copy of the checkout. The quick tests that mirror the changed package run there;
a fault that they miss is tried against all quick tests with --all. Exit code 1 where fewer than 20 of 25 are found.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.clones import copy

ROOT = Path(__file__).parents[1]
WANTED = 20


@dataclass(frozen=True)
class Fault:
    """One change.

    Attributes:
        file: below thaw/.
        right: what stands there, once.
        wrong: what is put in its place.
        tests: folders or files below tests/ that are tried.
    """

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


FAULTS = {
    "a block of VGG16 one layer too long": Fault(
        "backbones/vgg16.py", '("block4", 4), ("block5", 4)', '("block4", 5), ("block5", 3)', ("backbones",)
    ),
    "images normalised by another deviation": Fault(
        "backbones/cnn.py", "std=(127.5, 127.5, 127.5)", "std=(127.5, 127.5, 255.0)", ("backbones", "network")
    ),
    "every sixth digit for test": Fault("datasets/digits.py", "every=5", "every=6", ("datasets", "data")),
    "rows and columns of an image swapped": Fault(
        "datasets/archives.py", "transpose(0, 2, 3, 1)", "transpose(0, 3, 2, 1)", ("datasets",)
    ),
    "an archive of another hash kept": Fault(
        "datasets/fetch.py", "if actual != wanted:\n        part", "if actual == 0:\n        part", ("datasets",)
    ),
    "validation images not drawn by class": Fault(
        "data/splits.py",
        "np.flatnonzero(labels == value))[:size]",
        "np.flatnonzero(labels >= 0))[:size]",
        ("data",),
    ),
    "a changed file of a split accepted": Fault(
        "runtime/files.py",
        "whole = sha256(file) == self.hashes.get(name)",
        "whole = file.is_file()",
        ("data", "network"),
    ),
    "one layer too few frozen": Fault(
        "network/build.py", "self.order[:layers]", "self.order[: layers - 1]", ("network",)
    ),
    "channels not turned round": Fault(
        "network/build.py", 'if self.channels == "bgr":', 'if self.channels == "gbr":', ("network", "backbones")
    ),
    "BatchNorm folded without its epsilon": Fault(
        "network/folding.py", "norm.moving_variance + norm.epsilon", "norm.moving_variance", ("network",)
    ),
    "frozen statistics move": Fault(
        "network/modes.py", "self.layer(x, training=False)", "self.layer(x, training=None)", ("network", "training")
    ),
    "all random layers drawn alike": Fault(
        "network/seeds.py", "derive_seed(*parts, number)", "derive_seed(*parts)", ("network", "extraction", "training")
    ),
    "a head of a checkpoint not loaded": Fault(
        "network/checkpoint.py",
        "if with_head and info.head is not None:",
        "if not with_head and info.head is not None:",
        ("network",),
    ),
    "outputs of the padding kept": Fault(
        "network/inference.py", "output[:own]", "output[:]", ("training", "extraction", "network")
    ),
    "the cosine ends too late": Fault("training/schedules.py", "max(total, 1)", "max(total + steps, 1)", ("training",)),
    "patience ignores warm-up": Fault("training/schedules.py", "max(best, warmup)", "best", ("training",)),
    "Adam corrects for one step too few": Fault(
        "training/adam.py", "self.iterations + 1, rate", "self.iterations + 2, rate", ("training",)
    ),
    "mixed labels keep the wrong share": Fault(
        "training/feed.py",
        "own = share * own + (1 - share) * other",
        "own = (1 - share) * own + share * other",
        ("training",),
    ),
    "the last epoch counts as the best": Fault(
        "training/loop.py", "if rank(self.rows[-1]) > rank(self.rows[self.best]):", "if True:", ("training",)
    ),
    "balanced weights upside down": Fault(
        "training/class_weights.py", "(len(labels) / (len(classes) * counts))", "(counts / len(labels))", ("training",)
    ),
    "a cut over the budget stored": Fault(
        "extraction/plan.py", "return self.size <= self.left", "return self.size >= 0", ("extraction",)
    ),
    "macro scores weighted by class": Fault(
        "evaluation/scores.py", 'average="macro"', 'average="weighted"', ("evaluation",)
    ),
    "a phase may thaw less than the one before": Fault(
        "config/checks.py", "no less deep than in", "as deep as one likes after", ("config",)
    ),
    "a file written in its place": Fault(
        "runtime/files.py", "beside.replace(path)", "shutil.copyfile(beside, path)", ("runtime", "network")
    ),
    "state of another machine used": Fault(
        "runtime/resume.py", '"machine": machine,', '"machine": "any",', ("runtime",)
    ),
}


def seed(fault: Fault, folder: Path) -> None:
    """Put a fault into a copy of the checkout.

    Raises:
        ValueError: the line is not there, or more than once.
    """
    file = folder / "thaw" / fault.file
    text = file.read_text(encoding="utf-8")
    if text.count(fault.right) != 1:
        raise ValueError(f"{fault.file}: {fault.right!r} stands there {text.count(fault.right)} times; expected once")
    file.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")


def finds(fault: Fault, folders: tuple[str, ...]) -> bool:
    """Whether a quick test fails with the fault; the copy is the checkout as it is now."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copy(ROOT, folder)
        seed(fault, folder)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider"]
        command += [f"tests/{name}" for name in folders]
        return subprocess.run(command, cwd=folder, capture_output=True).returncode == 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.seeded_faults", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of faults; all by default")
    parser.add_argument("--all", action="store_true", help="try all quick tests where the mirrored ones find nothing")
    arguments = parser.parse_args()
    names = arguments.names or list(FAULTS)
    missed = []
    for name in names:
        fault = FAULTS[name]
        found = finds(fault, fault.tests) or (arguments.all and finds(fault, ("",)))
        print(f"{'found ' if found else 'MISSED'} {fault.file}: {name}", flush=True)
        if not found:
            missed.append(name)
    print(f"{len(names) - len(missed)} of {len(names)} found")
    sys.exit(len(names) - len(missed) < WANTED and not arguments.names)


if __name__ == "__main__":
    main()
