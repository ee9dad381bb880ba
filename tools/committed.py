"""Whether what is committed and made from other files is up to date: params.yaml and pages of docs/.

python -m tools.committed

For CI: in a clone of a user's own they may differ, as params.yaml does after an experiment. Exit code 1: one does.
"""

import sys
from pathlib import Path

import yaml

from thaw.config.compose import compose
from tools import commands, messages, parameters

ROOT = Path(__file__).parents[1]


PAGES = {"docs/commands.md": commands, "docs/parameters.md": parameters, "docs/messages.md": messages}


def outdated(root: Path = ROOT) -> list[str]:
    """The files that are not what they are made from, each with the command that makes it."""
    texts = {name: (root / name).read_text(encoding="utf-8") for name in ("params.yaml", *PAGES)}
    commands = {"params.yaml": "make params"} if yaml.safe_load(texts["params.yaml"]) != compose([]) else {}
    commands |= {
        name: f"python -m {module.__name__} > {name}" for name, module in PAGES.items() if texts[name] != module.page()
    }
    return [f"{name} is not up to date: {command}" for name, command in commands.items()]


if __name__ == "__main__":
    sys.exit("\n".join(outdated()) or None)
