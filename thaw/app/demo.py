"""The demo: the recipe `demo` in demo/, a clone that leaves the user's work alone. Start at `run_demo`."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from tabulate import tabulate

from thaw import paths
from thaw.app.git import git
from thaw.errors import ThawError
from thaw.network.checkpoint import read_checkpoint_info
from thaw.network.history import best_row, by_phase, kept_start
from thaw.runtime.files import replacing, replacing_folder
from thaw.runtime.watched import DVC_YAML
from thaw.stage import read_params

FOLDER = Path("demo")
BRANCH = "demo"
# The last commit made by the demo; later ones are the user's.
OWN = "refs/thaw/demo"
# The commit of the checkout that the demo has.
SOURCE = "refs/thaw/source"
# What `dvc exp run` composes without a recipe is that of the demo there.
DEFAULTS = paths.CONF / "config.yaml"
# Test images as files, to predict and explain.
EXAMPLES = Path("examples")
# Tracked files that a run writes. A killed run leaves them uncommitted; the next one writes them again.
RESULTS = ("dvc.lock", "metrics/evaluate.json", "metrics/phases")
AUTHOR = ("-c", "user.name=thaw", "-c", "user.email=thaw@localhost")


def run_demo() -> None:
    """Run the demo in demo/, a clone of the checkout with uncommitted changes of tracked files; print the results.

    An existing demo/ is updated, and unchanged stages do not run again. A demo/ with edits or commits of the user's
    is not updated, and runs with its own params.yaml.

    Raises:
        ThawError: no root of a git checkout, or that of a demo; demo/ is another folder; or a stage failed (its message
            stands above).
    """
    if not DVC_YAML.exists():
        raise paths.not_found(DVC_YAML)
    if _git("for-each-ref", OWN, folder=Path()):
        raise ThawError(f"demo: {Path.cwd()} is a demo itself; run from the checkout that made it")
    # A commit of the work in progress that no branch and no stash refers to; nothing where there is none.
    revision = _git(*AUTHOR, "stash", "create", folder=Path()) or _git("rev-parse", "HEAD", folder=Path())
    if FOLDER.is_symlink() or FOLDER.exists() and not _is_empty(FOLDER):
        _refuse_other_folder()
        users_work = _users_work()
    else:
        _clone(revision)
        users_work = None
    if users_work:
        print(f"{FOLDER}/ is not updated: it has {users_work}; for a new demo move it away and run again", flush=True)
    else:
        _update(revision)
        _compose_by_default("demo")
        _python("thaw", "params")
        _commit("Parameters of the demo", paths.PARAMS, DEFAULTS)
    _python("dvc", "repro")
    if not users_work:
        _commit("Results of the demo", *RESULTS)
    write_examples(FOLDER)
    print(demo_summary(FOLDER))


def _compose_by_default(recipe: str) -> None:
    """Have conf/ compose to a recipe where none is named."""
    file = FOLDER / DEFAULTS
    text = file.read_text(encoding="utf-8")
    with replacing(file) as beside:
        beside.write_text(
            re.sub(r"^(  - recipe: )none$", rf"\g<1>{recipe}", text, flags=re.MULTILINE), encoding="utf-8"
        )


def _python(*command: str) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if subprocess.run([sys.executable, "-m", *command], cwd=FOLDER, env=environment).returncode:
        raise ThawError(f"demo: {' '.join(command)} failed in {FOLDER}/; see above")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _refuse_other_folder() -> None:
    # In a folder without .git, git would answer for the checkout around it.
    origin = _git("config", "--default", "", "remote.origin.url") if (FOLDER / ".git").is_dir() else ""
    if not origin or (FOLDER / origin).resolve() != Path.cwd():
        raise ThawError(f"demo: {FOLDER}/ is not a clone of this checkout; move it away and run again")


def _clone(revision: str) -> None:
    # A relative address lets both move together.
    with replacing_folder(FOLDER) as folder:
        for command in (("init", "--quiet"), ("remote", "add", "origin", "..")):
            _git(*command, folder=folder)
        _fetch(revision, folder)
        _git("checkout", "--quiet", "-B", BRANCH, revision, folder=folder)
        for reference in (OWN, SOURCE):
            _git("update-ref", reference, revision, folder=folder)


def _fetch(revision: str, folder: Path) -> None:
    # The checkout may be a shallow clone, as those of CI are.
    _git("fetch", "--quiet", "--update-shallow", str(Path.cwd()), revision, folder=folder)


def _users_work() -> str | None:
    """The user's work in demo/, in words: edited and untracked files, commits or a branch; None for none."""
    changed = _git("status", "--porcelain", "--untracked-files=all", "--", ".", *_without(RESULTS)).splitlines()
    if changed:
        names = [line.split(maxsplit=1)[1] for line in changed]
        return f"changed files: {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if names[3:] else "")
    branch = _git("branch", "--show-current")
    if branch != BRANCH:
        return f"branch {branch}" if branch else "a detached HEAD"
    commits = _git("rev-list", "--count", "HEAD", "--not", "--glob=refs/thaw")
    return f"commits of yours: {commits}" if commits != "0" else None


def _update(revision: str) -> None:
    """Merge the checkout into the demo's branch; its files replace the branch's."""
    _fetch(revision, FOLDER)
    known = _git("for-each-ref", "--format=%(objectname)", SOURCE)
    if not known or _git("diff", "--name-only", known, revision):
        # Experiments stay on an ancestor of the branch.
        merge = _git(
            *AUTHOR, "commit-tree", f"{revision}^{{tree}}", "-p", "HEAD", "-p", revision, "-m", "The checkout as it is"
        )
        _git("reset", "--quiet", "--hard", merge)
        _git("update-ref", OWN, merge)
        _git("update-ref", SOURCE, revision)


def _commit(message: str, *names: str | Path) -> None:
    """Commit files that the demo has written, if they changed."""
    existing = [str(name) for name in names if (FOLDER / name).exists()]
    _git("add", "--", *existing)
    if _git("diff", "--cached", "--name-only", "--", *existing):
        _git(*AUTHOR, "commit", "--quiet", "--no-verify", "--no-gpg-sign", "-m", message, "--", *existing)
        _git("update-ref", OWN, "HEAD")


def _without(names: tuple[str, ...]) -> list[str]:
    return [f":(exclude){name}" for name in names]


def _git(*arguments: str, folder: Path = FOLDER) -> str:
    return git("demo", *arguments, folder=folder)


def demo_summary(folder: Path) -> str:
    """Table of the phases and test scores of a finished run in `folder`."""
    metrics = json.loads((folder / paths.EVALUATED).read_text(encoding="utf-8"))
    final = read_params(folder / paths.PARAMS).schedule.final
    history = read_checkpoint_info(folder / paths.model(final)).history
    phases = []
    for phase, rows in by_phase(history).items():
        change = f"{rows[0]['val_accuracy']:.3f} -> {best_row(rows)['val_accuracy']:.3f}"
        change += " (start kept)" if kept_start(rows) else ""
        phases.append([phase, len(rows) - 1, change])
    table = tabulate(phases, ["phase", "epochs", "validation accuracy, before -> after"])
    lines = ["", table, "", f"test images: accuracy {_accuracy(metrics)}, macro F1 {metrics['macro_f1']:.3f}"]
    if "source" in metrics:
        before, after = (_accuracy(metrics[key]) for key in ("source", "source_after"))
        lines.append(f"source task: accuracy {before} before the transfer, {after} after it")
    lines += [
        "",
        f"Look at {folder / paths.FIGURES / 'phases.png'}. {folder}/ is a separate clone to try things in. Next:",
        f"    {_activation()}cd {folder}",
        "    dvc plots show                     # all curves and tables as a page",
        f"    thaw predict {EXAMPLES}              # what the model says of image files",
        "    dvc exp run -S schedule=head-only  # what the head alone reaches; then: dvc metrics diff",
    ]
    return "\n".join(lines)


def write_examples(folder: Path) -> None:
    """Write the first test image of three classes of a finished run as PNG files, where there are none yet."""
    from PIL import Image

    examples = folder / EXAMPLES
    if examples.exists():
        return
    names = json.loads((folder / paths.PROCESSED / "classes.json").read_text(encoding="utf-8"))["classes"]
    test = folder / paths.PROCESSED / "test"
    images, labels = (np.load(test / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    examples.mkdir()
    for label in np.unique(labels)[-3:].tolist():
        Image.fromarray(images[int(np.argmax(labels == label))]).save(examples / f"{names[label]}.png")


def _activation() -> str:
    """The command, with ` && `, after which a shell finds `dvc`; nothing where this environment is the active one."""
    script = Path(sys.prefix) / "bin/activate"
    active = os.environ.get("VIRTUAL_ENV")
    if not script.is_file() or active and Path(active).resolve() == Path(sys.prefix).resolve():
        return ""
    shown = script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script
    return f". {shlex.quote(str(shown))} && "


def _accuracy(scores: dict[str, float]) -> str:
    """The accuracy with its 95 % interval, which a demo/ that is not updated may lack."""
    if "accuracy_low" not in scores:
        return f"{scores['accuracy']:.3f}"
    return f"{scores['accuracy']:.3f} (95 %: {scores['accuracy_low']:.3f} to {scores['accuracy_high']:.3f})"
