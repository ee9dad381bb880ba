"""The wheel, with what `thaw new` lays: conf/, dvc.yaml and .dvc/, as thaw/project/. The rest is in pyproject.toml.

A checkout has these files once, at its root, where thaw/app/layout.py finds them if there is no thaw/project/.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# Of files that `thaw new` lays or makes others of; thaw/app/layout.py reads them.
PATTERNS = (
    "conf/**/*.yaml", "conf/hydra_plugins/*.py", "dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".dvc/plots/*.json",
    ".dvc/plots/page.html", ".dvcignore", ".gitignore",
)  # fmt: skip


class BuildWithProject(build_py):
    """Also copies the files of a project."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "thaw/project"
        shutil.rmtree(target, ignore_errors=True)
        for file in sorted(file for pattern in PATTERNS for file in ROOT.glob(pattern)):
            copy = target / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


setup(cmdclass={"build_py": BuildWithProject})
