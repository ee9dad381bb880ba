"""When the epochs of a run end. It imports Keras: import it after `use_backend`."""

import time

from thaw.network.history import Row
from thaw.training.reporting import EpochEnd, Observer


class Clock(Observer):
    """Notes the time.

    Attributes:
        ends: before the first epoch, and after each, in seconds of `time.perf_counter`.
    """

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_start(self, rows: list[Row], resumed: bool) -> None:
        self.ends.append(time.perf_counter())

    def on_epoch(self, end: EpochEnd) -> None:
        self.ends.append(time.perf_counter())
