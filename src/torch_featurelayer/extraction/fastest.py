"""Which mode is fastest here, measured."""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from dataclasses import replace
from operator import itemgetter
from typing import Any, Final

from .batches import rows
from .modes import EAGER, Mode
from .runner import Recipe, Runner
from .sources import Items

_ROUNDS: Final = 3
_SEARCHED: Final = 8  # batches


def with_mode(recipe: Recipe, items: Items, batch_size: int, begun: str | None) -> Recipe:
    """Returns a recipe in the mode that a store was begun in, for a new one in the fastest."""
    example = first_inputs(items, batch_size)
    if example is None:
        return recipe
    recipe = replace(recipe, example=example)
    return replace(recipe, mode=Mode.parse(begun) if begun else fastest(recipe))


def first_inputs(items: Items, batch_size: int) -> Any:
    """Returns the first inputs that can be read, a whole batch of them where there is one."""
    largest = None
    for start in range(0, len(items), batch_size):
        for inputs in items[range(start, min(start + batch_size, len(items)))].inputs:
            if rows(inputs) == batch_size:
                return inputs
            largest = inputs if largest is None or rows(inputs) > rows(largest) else largest
        if start >= _SEARCHED * batch_size:
            break
    return largest


def fastest(recipe: Recipe) -> Mode:
    """Measures modes on the example of a recipe, in turns, and returns the fastest.

    The number of items at a time is settled with channels last, before that is compiled. What cannot be compiled
    here, as without a C++ compiler, is left out with a warning.
    """
    part = rows(recipe.example) // 4
    try:
        copy.deepcopy(recipe.model)
    except Exception as error:  # noqa: BLE001 (a module may refuse in any way)
        _warn(f"the model cannot be copied, so it runs as it is: {error}")
        return EAGER
    eager, *others = _measured(recipe, [EAGER, Mode("channels_last"), *([Mode("channels_last", part)] if part else [])])
    best = min(others, key=itemgetter(1))[0]
    try:
        compiled = _measured(recipe, [Mode("compiled", best.part)])
    except Exception as error:  # noqa: BLE001 (the compiler may fail in any way)
        _warn(f"the model does not run compiled here: {error}")
        compiled = []
    return min([eager, *others, *compiled], key=itemgetter(1))[0]


def _warn(text: str) -> None:
    warnings.warn(text.strip().partition("\n")[0], UserWarning, stacklevel=5)


def _measured(recipe: Recipe, modes: list[Mode]) -> list[tuple[Mode, float]]:
    """Returns modes with the median of their times, in seconds."""
    runners = {mode: Runner(replace(recipe, mode=mode)) for mode in modes}
    taken: dict[Mode, list[float]] = {mode: [] for mode in modes}
    for turn in range(_ROUNDS + 1):
        for mode, runner in runners.items():
            start = time.perf_counter()
            list(runner(recipe.example))  # features come to the host, so this waits for the device
            if turn:  # the first is to warm up
                taken[mode].append(time.perf_counter() - start)
    return [(mode, statistics.median(times)) for mode, times in taken.items()]
