"""The files of a project made by `thaw new`, made from those of thaw itself: one source for both. Start at `layout`."""

import io
import json
import re
from pathlib import Path
from typing import Any

import yaml

import thaw
from thaw import paths
from thaw.runtime.code import SECTION, code_digests
from thaw.runtime.installed import requirement

# Has the names and hashes of what was laid, and how.
LAID = Path(".thaw.json")
# The group of conf/ that composes section `code:`.
CODE = paths.CONF / SECTION / "installed.yaml"
# What DVC watches where there is no file of weights and no folder of images: it has no optional dependencies.
NOTHING = paths.CONF / "nothing.txt"
# Files that an upgrade leaves alone, whether they are edited or not.
ONCE = ("README.md", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore", str(paths.PARAMS))

_DVC_HEADER = """\
# download -> preprocess -> backbone -> extract -> train_head -> unfreeze@<phase> ... -> evaluate -> figures
#
# The code is that of the installed thaw. In place of its files, a stage depends on digests of the packages that decide
# its numbers, `code.<package>`: `thaw upgrade` writes them, and reruns what an upgrade by pip has changed.
"""

_README = """\
# {name}

An image classifier, trained by thaw as a DVC pipeline.

    pip install -r requirements.txt
    dvc repro                              # run what params.yaml or data have changed
    dvc exp run -S {example}    # compose params.yaml from conf/ with other values, and run
    dvc metrics diff && dvc plots show     # look at it; also: thaw summary, report, compare, predict, export
    thaw upgrade                           # after a newer thaw has been installed: reruns what it changed
"""


def source() -> Path:
    """Folder of thaw's own conf/, dvc.yaml and .dvc/: in the wheel, or the root of the checkout."""
    package = Path(thaw.__file__).parent
    packaged = package / "project"
    return packaged if packaged.is_dir() else package.parent


def layout(name: str, images: str | None) -> dict[str, str]:
    """Text by path of all files of a project but params.yaml, which conf/ composes to, and `LAID`.

    Args:
        name: of the project, for its README.
        images: absolute path of a folder or a CSV that the project is about; None for CIFAR-10, the default of conf/.
    """
    root = source()
    conf = [*(root / paths.CONF).rglob("*.yaml"), *(root / paths.CONF / "hydra_plugins").glob("*.py")]
    files = {file.relative_to(root).as_posix(): _adapted(_read(file)) for file in sorted(conf)}
    files["conf/config.yaml"] = _config(files["conf/config.yaml"], "none" if images is None else "photos")
    if images is not None:
        files["conf/recipe/photos.yaml"] = _with_path(files["conf/recipe/photos.yaml"], images)
    files[CODE.as_posix()] = code_yaml()
    files[NOTHING.as_posix()] = "What DVC watches where there is no weights file, or no folder of images.\n"
    files["dvc.yaml"] = _dvc_yaml(_read(root / "dvc.yaml"))
    for file in [*(root / ".dvc/plots").glob("*.json"), root / ".dvc/plots/page.html"]:
        files[file.relative_to(root).as_posix()] = _read(file)
    for same in (".dvc/config", ".dvc/.gitignore", ".dvcignore"):
        files[same] = _read(root / same)
    files[".gitignore"] = _gitignore(_read(root / ".gitignore"))
    example = "recipe=demo         " if images is None else "augment=strong      "
    files["README.md"] = _README.format(name=name, example=example)
    files["requirements.txt"] = f"{requirement()}\n"
    return files


def code_yaml() -> str:
    head = "# Digests of the code of the installed thaw. `thaw upgrade` writes this file; edits are lost.\n"
    return head + yaml.safe_dump(code_digests(), sort_keys=True)


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _adapted(text: str) -> str:
    """A file of conf/ for where there is no Makefile, no code and no checkout of thaw."""
    for pattern, words in (
        (r"thaw/(backbones|datasets)/\$\{\w+\.name\}\.py", NOTHING.as_posix()),
        (r", or `make demo`", ""),
        (r"`make params`", "`thaw params`"),
    ):
        text = re.sub(pattern, words, text)
    return text


def _config(text: str, recipe: str) -> str:
    text = re.sub(r"^(  - recipe: ).*$", rf"\g<1>{recipe}", text, flags=re.MULTILINE)
    return re.sub(r"^  - _self_$", f"  - _self_\n  - {SECTION}: {CODE.stem}", text, flags=re.MULTILINE)


def _with_path(text: str, images: str) -> str:
    # In JSON's quotes, which are YAML's; OmegaConf would take `${` for an interpolation.
    quoted = json.dumps(images.replace("${", "\\${"), ensure_ascii=False)
    return re.sub(r"^dataset:$", lambda _: f"dataset:\n  path: {quoted}", text, flags=re.MULTILINE)


def _gitignore(text: str) -> str:
    """Without what only a checkout of thaw has."""
    text = re.sub(r"^# made by `(make`|pip ).*\n(^[^#].*\n)+", "", text, flags=re.MULTILINE)
    return f"/.venv/\n{text}"


def _dvc_yaml(text: str) -> str:
    from ruamel.yaml import YAML  # comes with DVC; keeps comments

    loader = YAML()
    loader.width = 4096
    loader.indent(mapping=2, sequence=4, offset=2)
    content: Any = loader.load(text[text.index("\nstages:") + 1 :])
    for name, entry in content["stages"].items():
        stage = entry.get("do", entry)
        phase = " ${key}" if "foreach" in entry else ""
        stage["cmd"] = f"thaw stage {name}{phase.replace(' ', '@')}"
        code = [dep for dep in stage["deps"] if dep.split("/")[0] in ("thaw", "stages")]
        for dep in code:
            stage["deps"].remove(dep)
        if not stage["deps"]:
            del stage["deps"]
        if "params" not in stage:
            position = list(stage).index("outs")
            stage.insert(position, "params", [])
        for number, dep in enumerate(dep for dep in code if dep.startswith("thaw/")):
            stage["params"].insert(number, ".".join([SECTION, *dep.removesuffix(".py").split("/")[1:]]))
    written = io.StringIO()
    loader.dump(content, written)
    return _DVC_HEADER + written.getvalue()
