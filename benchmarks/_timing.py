"""Timing side by side: contenders take turns in one process, medians of many runs."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Contenders = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Timing:
    """Seconds of one contender: the median, and the quartiles around it."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median * 1000:.2f} ms ({self.low * 1000:.2f} to {self.high * 1000:.2f})"


def race(contenders: Contenders, runs: int, warmup: int = 3) -> dict[str, Timing]:
    """Times contenders in random order, round by round; a round's noise falls on all of them."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(warmup + runs):
        random.shuffle(names)
        for name in names:
            start = time.perf_counter()
            result = contenders[name]()
            took = time.perf_counter() - start
            del result
            if turn >= warmup:
                times[name].append(took)
        if turn % 10 == 0:
            gc.collect()
    return {name: _summary(seconds) for name, seconds in times.items()}


def _summary(seconds: list[float]) -> Timing:
    low, median, high = statistics.quantiles(seconds, n=4)
    return Timing(median, low, high)
