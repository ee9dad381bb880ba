"""What a sweep shows while it runs: one line an experiment, live in a terminal. Start at `Lines`."""

import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from tqdm import tqdm

from thaw.errors import printable
from thaw.runtime.progress import in_terminal


class Lines:
    """One line for each experiment: redrawn in a terminal; in a log, a new one where the experiment gets to a stage.

    A terminal that has fewer lines than experiments shows those that fit, and counts them all in the last one.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._width = max(map(len, names))
        self._texts = dict.fromkeys(names, "waiting for a worker")
        self._ended: set[str] = set()
        self._opened = ExitStack()
        rows = min(len(names), max(1, shutil.get_terminal_size().lines - 3)) if in_terminal() else 0
        self._rows = [
            self._opened.enter_context(tqdm(bar_format="{desc}", position=row, dynamic_ncols=True, file=sys.stderr))
            for row in range(rows + 1 if rows else 0)
        ]
        self._draw()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def set(self, name: str, text: str, *, ended: bool = False) -> None:
        """Show another text for an experiment.

        Args:
            name: of the experiment.
            text: its stage and the last line of its log, or its end.
            ended: whether it is done or has failed.
        """
        text = printable(text)
        if ended:
            self._ended.add(name)
        if text == self._texts[name]:
            return
        before, self._texts[name] = self._texts[name], text
        if self._rows:
            self._draw()
        elif ended:
            print(f"{name}: {text}", flush=True)
        elif (stage := text.partition(":")[0]) != before.partition(":")[0]:
            print(f"{name}: {stage}", flush=True)

    def _draw(self) -> None:
        if not self._rows:
            return
        *rows, last = self._rows
        # Those that run come first where not all fit.
        names = self._names
        if len(rows) < len(names):
            names = sorted(names, key=lambda name: (name in self._ended, self._texts[name].startswith("waiting")))
        for row, name in zip(rows, names, strict=False):
            row.set_description_str(f"{name:{self._width}}  {self._texts[name]}")
        last.set_description_str(f"{len(self._ended)} of {len(self._names)} experiments ended")
