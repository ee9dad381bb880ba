"""Pages of the site from outside of docs/, a hook of mkdocs.yml: README.md is the front page. Start at `on_files`."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Name in the site of each file.
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=in_site((ROOT / name).read_text(encoding="utf-8"))))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    return in_site(markdown)


def in_site(text: str) -> str:
    """A page's text with its links as the site has them, where docs/ and what is beside it are one folder."""
    return re.sub(r"\]\((?:docs/|\.\./)", "](", text).replace("](README.md", "](index.md")
