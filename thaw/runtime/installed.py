"""Where the installed thaw came from, and so what to type for more of it. Start at `install_command`."""

import json
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import thaw


def install_command(extra: str = "") -> str:
    """What to type in any folder to install thaw as it is installed, with one of its extras."""
    origin = _origin()
    extras = f"[{extra}]" if extra else ""
    if origin is None:
        return f'pip install "thaw{extras}"'
    if not _editable(origin):
        return f'pip install "{requirement().replace("thaw", f"thaw{extras}", 1)}"'
    folder = url2pathname(urlsplit(origin["url"]).path)
    project = f"{'.' if Path(folder) == Path.cwd() else folder}{extras}"
    return f'pip install -e "{project}"' if extras or " " in project else f"pip install -e {project}"


def requirement() -> str:
    """Line of a requirements.txt for this thaw: by its address, since `thaw` on PyPI is another project."""
    origin = _origin()
    if origin is None:
        return f"thaw=={thaw.__version__}"
    if _editable(origin):
        return f"-e {origin['url']}"
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        return f"thaw @ {vcs['vcs']}+{origin['url']}@{vcs['commit_id']}"
    return f"thaw @ {origin['url']}"


def _origin() -> dict[str, Any] | None:
    """The address that pip installed thaw from, as PEP 610 records it; None for a package index."""
    # In a checkout there is a second distribution, without this file: the egg-info of its build.
    for text in (distribution.read_text("direct_url.json") for distribution in distributions(name="thaw")):
        if text:
            return json.loads(text)
    root = Path(thaw.__file__).parents[1]
    return {"url": root.as_uri(), "dir_info": {"editable": True}} if (root / "pyproject.toml").is_file() else None


def _editable(origin: dict[str, Any]) -> bool:
    return origin.get("dir_info", {}).get("editable", False)
