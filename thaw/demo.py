"""The demo: the recipe `demo` in a clone of this checkout, so that the user's own work stays as it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

from thaw import checkpoint, params, paths
from thaw.errors import ThawError

FOLDER = Path("demo")


def run() -> None:
    """Clone the checkout, uncommitted changes of tracked files included, into demo/; run; say what came out.

    A demo that is there is brought up to date and gone on with: what has not changed does not run again.

    Raises:
        ThawError: no git checkout, or a stage failed (what it said stands above).
    """
    _clone()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in (["thaw", "params", "recipe=demo"], ["dvc", "repro"]):
        if subprocess.run([sys.executable, "-m", *command], cwd=FOLDER, env=environment).returncode:
            raise ThawError(f"demo: {' '.join(command)} failed in {FOLDER}/; see above")
    print(summary(FOLDER))


def _clone() -> None:
    # A commit of the work in progress that no branch and no stash refers to; nothing where there is none.
    changed = _git("-c", "user.name=thaw", "-c", "user.email=thaw@localhost", "stash", "create")
    revision = changed or _git("rev-parse", "HEAD")
    if not (FOLDER / ".git").is_dir():
        _git("clone", "--quiet", "--no-checkout", ".", str(FOLDER))
    _git("fetch", "--quiet", str(Path.cwd()), revision, folder=FOLDER)
    _git("checkout", "--quiet", "--force", "--detach", revision, folder=FOLDER)


def _git(*arguments: str, folder: Path = Path()) -> str:
    result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ThawError(f"demo: needs git and a checkout with a commit: git {arguments[0]}: {last}")
    return result.stdout.strip()


def summary(folder: Path) -> str:
    """A table of the phases and the test figures of a finished run in `folder`."""
    metrics = json.loads((folder / paths.METRICS / "evaluate.json").read_text(encoding="utf-8"))
    final = params.load(folder / paths.PARAMS).schedule.final
    history = checkpoint.read_info(folder / paths.model(final)).history
    lines = ["", "phase      epochs  validation accuracy, before -> after", "-" * 52]
    for phase in dict.fromkeys(row["phase"] for row in history):
        rows = [row for row in history if row["phase"] == phase]
        best = next(row for row in rows if row["best"])
        change = f"{rows[0]['val_accuracy']:.3f} -> {best['val_accuracy']:.3f}"
        lines.append(f"{phase:10} {len(rows) - 1:6}  {change}")
    lines += ["", f"on test pictures: accuracy {metrics['accuracy']:.3f}, macro F1 {metrics['macro_f1']:.3f}"]
    if "source" in metrics:
        before, after = (metrics[key]["accuracy"] for key in ("source", "source_after"))
        lines.append(f"the source task: accuracy {before:.3f} before the move, {after:.3f} after it")
    lines += [
        "",
        f"Look at {folder / paths.PLOTS / 'phases.png'} and {folder / paths.METRICS / 'evaluate.json'}; {folder}/ is a",
        f"clone of its own to play with: cd {folder} && dvc plots show",
    ]
    return "\n".join(lines)
