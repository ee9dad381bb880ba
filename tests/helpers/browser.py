"""A real browser without a network, for pages that need none."""

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def opened(page: Path) -> str:
    """The document as it is when the page has loaded and its scripts have run; skips where there is no browser."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip(f"no browser here ({', '.join(NAMES)})")
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
                "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000", "--dump-dom", page.as_uri(),
            ],
            check=True, capture_output=True, text=True, timeout=120,
        ).stdout  # fmt: skip


def measured(pages: list[Path], widths: tuple[int, ...]) -> dict[tuple[str, int], dict[str, Any]]:
    """What pages of one folder are like in frames of these widths in pixels, as a browser's window has at least 500.

    Returns:
        By name of the page and width: width, as the page has it; scroll: how wide its content is; images: the pixels
        across of each that is loaded; loaded: addresses that it asked for.
    """
    script = """<script>addEventListener("load", () => parent.postMessage({
        name: location.hash, width: innerWidth, scroll: document.documentElement.scrollWidth,
        images: [...document.images].map(image => image.naturalWidth),
        loaded: performance.getEntriesByType("resource").map(one => one.name).filter(name => !name.startsWith("data:")),
    }, "*"))</script></body>"""
    frames = []
    for page in pages:
        inside = page.with_name(f"inside-{page.name}")
        # The last one: scripts of a page may hold the word too.
        inside.write_text(script.join(page.read_text(encoding="utf-8").rsplit("</body>", 1)), encoding="utf-8")
        frames += [
            f'<iframe src="{inside.name}#{page.name}" style="border:0;width:{width}px"></iframe>' for width in widths
        ]
    outside = pages[0].with_name("frames.html")
    outside.write_text(
        """<script>const seen = []; addEventListener("message", it => { seen.push(it.data);
        document.body.dataset.seen = JSON.stringify(seen); })</script><body>"""
        + "".join(frames),
        encoding="utf-8",
    )
    found = re.search(r'data-seen="(.*?)"', opened(outside))
    seen = json.loads(html.unescape(found.group(1)))
    return {(one["name"].removeprefix("#"), one["width"]): one for one in seen}
