"""A real browser without a network, for pages that need none. `opened` gives a document, `tab` one to act on."""

import base64
import fcntl
import html
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def _browser() -> str:
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip(f"no browser here ({', '.join(NAMES)})")
    return browser


def _command(profile: str, reached: str) -> list[str]:
    return [
        _browser(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
        f"--host-resolver-rules=MAP * ~NOTFOUND{reached}",
    ]  # fmt: skip


def opened(page: Path) -> str:
    """The document as it is when the page has loaded and its scripts have run; skips where there is no browser."""
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            [*_command(profile, ""), "--virtual-time-budget=10000", "--dump-dom", page.as_uri()],
            check=True, capture_output=True, text=True, timeout=120,
        ).stdout  # fmt: skip


class Tab:
    """A page to act on, by the DevTools protocol over two pipes: messages of JSON, each with a zero byte behind it."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer, self._left, self._count = reader, writer, b"", 0
        self._session: dict[str, str] = {}
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.said: list[str] = []
        self.loaded: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method of the protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters} | self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            assert select.select([self._reader], [], [], 60)[0], "the browser says nothing"
            part = os.read(self._reader, 2**16)
            assert part, "the browser has ended"
            self._left += part
        message, self._left = self._left.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what the console says, refusals by a policy included, and what is asked for."""
        parameters = event.get("params", {})
        if event.get("method") == "Log.entryAdded":
            self.said.append(parameters["entry"]["text"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.said.append(str(parameters["exceptionDetails"]))
        elif event.get("method") == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            self.loaded += [] if url.startswith("data:") else [url]

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> Any:
        """The value of an expression as soon as it is true."""
        until = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < until, f"{expression}; {self.said}; {self.evaluate('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def open(self, url: str, width: int = 1280, height: int = 900) -> None:
        """Open a page in a window of this size."""
        self.resize(width, height)
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def resize(self, width: int, height: int = 900) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def drop(self, file: Path, selector: str) -> None:
        """Drop a file of the disk on an element, as a mouse does."""
        place = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = self.evaluate(f"(() => {{ const it = {place}; return [it.x + it.width / 2, it.y + it.height / 2]; }})()")
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def screenshot(self, file: Path) -> None:
        """Write all of the page as a PNG."""
        taken = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def tab() -> Iterator[Tab]:
    """A tab of a browser that reaches this machine alone; skips where there is no browser."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [*_command(profile, ", EXCLUDE 127.0.0.1"), "--remote-debugging-pipe", "about:blank"]
        theirs, writer = os.pipe()
        reader, also_theirs = os.pipe()
        # The browser reads from 3 and writes to 4, which may be other ends here: from 10 on, none is in the way.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs, also_theirs)]
        moved = ["bash", "-c", f'exec "$@" 3<&{high[0]} 4>&{high[1]}', "bash", *command]
        process = subprocess.Popen(moved, pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for end in (theirs, also_theirs, *high):
            os.close(end)
        try:
            yield Tab(reader, writer)
        finally:
            process.kill()
            process.wait()
            os.close(reader)
            os.close(writer)


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
