"""Measures how a model runs fastest on this machine."""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from dataclasses import replace
from operator import itemgetter
from typing import Any, Final

from .batches import count_rows
from .modes import EAGER, Mode
from .runner import FeatureRunner, FeatureSpec
from .sources import MapSource

_ROUNDS: Final = 3
_MOST_BATCHES: Final = 8  # in which a full batch of one shape is searched


def tune(spec: FeatureSpec, items: MapSource, batch_size: int, begun: str | None) -> FeatureSpec:
    """Returns a specification with the mode that a store was begun in, or with the fastest mode for a new store."""
    example = first_batch(items, batch_size)
    if example is None:
        return spec
    spec = replace(spec, example=example)
    return replace(spec, mode=Mode.parse(begun) if begun else choose_mode(spec))


def first_batch(items: MapSource, batch_size: int) -> Any:
    """Returns the first readable batch: a full one if there is one, otherwise the largest."""
    largest = None
    for start in range(0, len(items), batch_size):
        batch = items[range(start, min(start + batch_size, len(items)))]
        for arranged in items.collator.arrange([batch], batch_size):
            inputs = arranged.groups[0].inputs if arranged.groups else None
            if inputs is None:
                continue
            if count_rows(inputs) == batch_size:
                return inputs
            largest = inputs if largest is None or count_rows(inputs) > count_rows(largest) else largest
        if start >= _MOST_BATCHES * batch_size:
            break
    return largest


def choose_mode(spec: FeatureSpec) -> Mode:
    """Measures modes alternately on the example of a specification, and returns the fastest.

    The number of items at a time is chosen with channels last, before compiling. If the model cannot be compiled here,
    for example without a C++ compiler, a warning says so and the mode is left out.
    """
    part = count_rows(spec.example) // 4
    try:
        copy.deepcopy(spec.model)
    except Exception as error:  # noqa: BLE001 (a module may refuse in any way)
        _warn(f"the model cannot be copied, so it runs eagerly: {error}")
        return EAGER
    # Modes are measured in turn, so that a change of the clock rate affects all of them.
    eager, *others = _measure(spec, [EAGER, Mode("channels_last"), *([Mode("channels_last", part)] if part else [])])
    best = min(others, key=itemgetter(1))[0]
    try:
        compiled = _measure(spec, [Mode("compiled", best.part)])
    except Exception as error:  # noqa: BLE001 (the compiler may fail in any way)
        _warn(f"the model cannot be compiled here: {error}")
        compiled = []
    return min([eager, *others, *compiled], key=itemgetter(1))[0]


def _warn(text: str) -> None:
    warnings.warn(text.strip().partition("\n")[0], UserWarning, stacklevel=5)


def _measure(spec: FeatureSpec, modes: list[Mode]) -> list[tuple[Mode, float]]:
    """Returns modes with the medians of their times in seconds."""
    runners = {mode: FeatureRunner(replace(spec, mode=mode)) for mode in modes}
    taken: dict[Mode, list[float]] = {mode: [] for mode in modes}
    for turn in range(_ROUNDS + 1):
        for mode, runner in runners.items():
            start = time.perf_counter()
            runner(spec.example)
            runner.check_overflow()  # waits for the device
            if turn:  # the first one warms up
                taken[mode].append(time.perf_counter() - start)
    return [(mode, statistics.median(times)) for mode, times in taken.items()]
