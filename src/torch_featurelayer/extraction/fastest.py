"""Which mode is fastest here, measured."""

from __future__ import annotations

import statistics
import time
import warnings
from dataclasses import replace
from typing import Any, Final

from .batches import rows
from .modes import EAGER, Mode, candidates
from .runner import Recipe, Runner
from .sources import Items

_ROUNDS: Final = 5
_SEARCHED: Final = 8  # batches


def with_mode(recipe: Recipe, items: Items, batch_size: int, begun: str | None) -> Recipe:
    """Returns a recipe in the mode that a store was begun in, for a new one in the fastest."""
    example = _example(items, batch_size)
    if example is None:
        return recipe
    recipe = replace(recipe, example=example)
    return replace(recipe, mode=Mode.parse(begun) if begun else fastest(recipe))


def _example(items: Items, batch_size: int) -> Any:
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
    """Runs the example of a recipe in each mode, in turns, and returns the mode of the least median time.

    What cannot run here, as compiling without a C++ compiler, is left out with a warning.
    """
    runners = _runners(recipe)
    taken: dict[Mode, list[float]] = {mode: [] for mode in runners}
    for _ in range(_ROUNDS):
        for mode, runner in runners.items():
            start = time.perf_counter()
            list(runner(recipe.example))  # features come to the host, so this waits for the device
            taken[mode].append(time.perf_counter() - start)
    return min(runners, key=lambda mode: statistics.median(taken[mode]))


def _runners(recipe: Recipe) -> dict[Mode, Runner]:
    runners, broken = {EAGER: Runner(recipe)}, set()
    for mode in candidates(rows(recipe.example))[1:]:
        if mode.name in broken:
            continue
        try:
            runners[mode] = Runner(replace(recipe, mode=mode))
        except Exception as error:  # noqa: BLE001 (the compiler may fail in any way)
            broken.add(mode.name)
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"the model does not run {mode.name} here: {reason}", UserWarning, stacklevel=5)
    return runners
