"""A project of the user's own: what `thaw new` lays into a new git repository. Start at `new_project`."""

import json
import tempfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from thaw import paths
from thaw.app.demo import AUTHOR
from thaw.app.git import git
from thaw.app.layout import LAID, ONCE, layout
from thaw.config.compose import compose_params
from thaw.config.load import load_params
from thaw.datasets import described
from thaw.errors import ParamError
from thaw.stage import TABLES

# The folder of the new project, as the command line names it.
_DIR = "DIR"


def new_project(folder: Path, images: Path | None) -> None:
    """Lay a project into a new or an empty folder, as a git repository with one commit.

    Args:
        folder: of the project.
        images: folder of class folders, or a CSV, that the recipe photos is to learn from; None for CIFAR-10.

    Raises:
        ParamError: the folder has something in it, or there is nothing to learn from in the images.
        ThawError: git refuses.
    """
    received, folder = str(folder), folder.absolute()
    if folder.is_symlink() or folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ParamError(_DIR, received, "a folder that is new or empty")
    path = None if images is None else images.expanduser().resolve()
    if path is not None:
        watched = path.parent if path.is_file() else path
        if folder.resolve().is_relative_to(watched):
            raise ParamError(_DIR, received, f"a folder apart from the images in {watched}")
    files = layout(folder.name, None if path is None else str(path))
    files[str(LAID)] = laid_json(files, None if path is None else str(path))
    files[str(paths.PARAMS)] = _composed(files)
    git("new", "version")  # git is there, before anything is written
    for name, text in files.items():
        write(folder / name, text)
    _commit(folder)


def _composed(files: dict[str, str]) -> str:
    """params.yaml as conf/ among the files composes it, checked with a look at the images."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name, text in files.items():
            if Path(name).is_relative_to(paths.CONF):
                write(root / name, text)
        compose_params([], root / paths.PARAMS, root / paths.CONF)
        load_params(replace(TABLES, describe=described), root / paths.PARAMS)
        return (root / paths.PARAMS).read_text(encoding="utf-8")


def laid_json(files: dict[str, str], images: str | None) -> str:
    """What `thaw upgrade` compares with, to tell edited files: the hash of each that was laid."""
    hashes = {name: text_hash(text) for name, text in sorted(files.items()) if name not in ONCE}
    about = "written by `thaw new` and `thaw upgrade`, to tell which files you have edited"
    return json.dumps({"about": about, "images": images, "files": hashes}, indent=2, ensure_ascii=False) + "\n"


def text_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())


def _commit(folder: Path) -> None:
    git("new", "init", "--quiet", folder=folder)
    git("new", "add", "--force", "--all", folder=folder)
    author = () if git("new", "config", "--default", "", "user.email", folder=folder) else AUTHOR
    git("new", *author, "commit", "--quiet", "--no-verify", "--no-gpg-sign", "-m", "A project of thaw", folder=folder)
