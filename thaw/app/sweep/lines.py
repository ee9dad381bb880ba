"""What a sweep shows while it runs: one line an experiment, live in a terminal. Start at `Lines`."""

from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from thaw.errors import printable
from thaw.runtime.progress import in_terminal

_WAITS = "waiting for a worker"


class Lines:
    """One line for each experiment: redrawn in a terminal; in a log, a new one where the experiment gets to a stage.

    A terminal with fewer lines than experiments shows those that run first, and all at the end.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._texts = dict.fromkeys(names, _WAITS)
        self._width = max(map(len, names))
        self._ended: set[str] = set()
        console = Console(stderr=True, highlight=False)
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") if in_terminal() else None

    def __enter__(self) -> "Lines":
        if self._live:
            self._live.start()
            self._draw()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._draw(all_in_order=True)
            self._live.stop()

    def set(self, name: str, text: str, *, ended: bool = False) -> None:
        """Show another text for an experiment.

        Args:
            name: of the experiment.
            text: its stage and the last line of its log, or its end.
            ended: whether it is done or has failed.
        """
        before, self._texts[name] = self._texts[name], printable(text)
        if ended:
            self._ended.add(name)
        if self._live:
            self._draw()
        elif ended:
            print(f"{name}: {self._texts[name]}", flush=True)
        elif (stage := self._texts[name].partition(":")[0]) != before.partition(":")[0]:
            print(f"{name}: {stage}", flush=True)

    def _draw(self, *, all_in_order: bool = False) -> None:
        assert self._live is not None
        names = list(self._texts)
        if not all_in_order and len(names) >= self._live.console.height:
            names.sort(key=lambda name: (name in self._ended, self._texts[name] == _WAITS))
        lines = [f"{len(self._ended)} of {len(names)} ended"]
        lines += [f"{name:{self._width}}  {self._texts[name]}" for name in names]
        self._live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)
