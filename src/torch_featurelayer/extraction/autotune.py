"""Measures how a model runs fastest on this machine, and remembers it."""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from dataclasses import replace
from operator import itemgetter
from typing import Any, Final, NamedTuple

from . import cache
from .batches import count_rows
from .memory import keep_memory
from .modes import EAGER, Mode, default_mode, is_on_cpu
from .runner import FeatureRunner
from .sources import MapSource
from .spec import FeatureSpec

_ROUNDS: Final = 3
_MOST_BATCHES: Final = 8  # in which a full batch of one shape is searched


class Measured(NamedTuple):
    """A mode that was measured.

    Attributes:
        mode: The mode.
        seconds: The median of its times.
        runner: The runner that was timed, with its compiled code.
    """

    mode: Mode
    seconds: float
    runner: FeatureRunner | None


def choose(
    spec: FeatureSpec, example: Any, begun: str | None, *, measure: bool
) -> tuple[FeatureSpec, FeatureRunner | None]:
    """Returns a specification with the mode that a store was begun in, that is remembered, or that is the fastest.

    Args:
        spec: The specification.
        example: A full batch; None if there is none.
        begun: The mode of a continued store; None for a new one.
        measure: Whether modes are measured. Otherwise a model in another precision has channels last, since it is
            copied anyway, and any other model runs in the default mode.

    Returns:
        The specification, and the runner that was measured for it if there is one.
    """
    if example is None:
        # A store that was begun before this default existed keeps its mode.
        return replace(spec, mode=EAGER if begun == str(EAGER) else default_mode(spec.model)), None
    spec = replace(spec, example=example)
    if not measure:
        return replace(spec, mode=Mode("channels_last")), None
    if begun is not None:
        return replace(spec, mode=Mode.parse(begun)), None
    with keep_memory():  # as when the features are computed
        best = _remembered(spec) or choose_mode(spec)
    if best.runner is not None:
        cache.keep_mode(spec, best.mode)
    return replace(spec, mode=best.mode), best.runner


def first_batch(items: MapSource, batch_size: int) -> Any:
    """Returns the first readable batch: a full one if there is one, otherwise the largest."""
    largest = None
    for start in range(0, len(items), batch_size):
        batch = items[range(start, min(start + batch_size, len(items)))]
        for arranged in items.collator.arrange([batch], batch_size):
            for group in arranged.groups:
                if count_rows(group.inputs) == batch_size:
                    return group.inputs
                is_larger = largest is None or count_rows(group.inputs) > count_rows(largest)
                largest = group.inputs if is_larger else largest
        if start >= _MOST_BATCHES * batch_size:
            break
    return largest


def choose_mode(spec: FeatureSpec) -> Measured:
    """Measures modes alternately on the example of a specification, and returns the fastest.

    If the model cannot be compiled here, such as without a C++ compiler, a warning says so and the mode is left out.
    """
    part = count_rows(spec.example) // 4
    try:
        copy.deepcopy(spec.model)
    except Exception as error:  # noqa: BLE001 (a module may refuse in any way)
        _warn(f"the model cannot be copied, so it runs eagerly: {error}")
        return Measured(EAGER, 0.0, None)
    # Modes are measured in turn, so that a change of the clock rate affects all of them.
    eager, *others = _measure(spec, [EAGER, Mode("channels_last"), *([Mode("channels_last", part)] if part else [])])
    return min([eager, *others, *_measure_compiled(spec)], key=itemgetter(1))


def _measure_compiled(spec: FeatureSpec) -> list[Measured]:
    """Measures the model compiled ahead of time, or otherwise by `torch.compile`; returns nothing if neither works."""
    # For whole batches: parts are faster only where the memory of activations is allocated each time.
    for name in ("aot_inductor", "compiled") if is_on_cpu(spec.model) else ("compiled",):
        try:
            return _measure(spec, [Mode(name)])
        except Exception as error:  # noqa: BLE001 (the compiler may fail in any way)
            problem = str(error)
    _warn(f"the model cannot be compiled here: {problem}")
    return []


def _remembered(spec: FeatureSpec) -> Measured | None:
    """Returns the mode that was measured before, with its runner; None if there is none, or it fails for this model."""
    known = cache.find_mode(spec)
    if known is None:
        return None
    try:
        return Measured(known, 0.0, FeatureRunner(replace(spec, mode=known)))
    except Exception as error:  # noqa: BLE001 (the compiler may fail in any way)
        _warn(f"the mode {str(known)!r}, which was the fastest before, fails for this model: {error}")
        return None


def _warn(text: str) -> None:
    warnings.warn(text.strip().partition("\n")[0], UserWarning, stacklevel=6)


def _measure(spec: FeatureSpec, modes: list[Mode]) -> list[Measured]:
    """Returns modes with their times and runners."""
    runners = {mode: FeatureRunner(replace(spec, mode=mode)) for mode in modes}
    taken: dict[Mode, list[float]] = {mode: [] for mode in modes}
    for turn in range(_ROUNDS + 1):
        for mode, runner in runners.items():
            start = time.perf_counter()
            runner(spec.example)
            runner.check_overflow()  # waits for the device
            if turn:  # the first one warms up
                taken[mode].append(time.perf_counter() - start)
    return [Measured(mode, statistics.median(times), runners[mode]) for mode, times in taken.items()]
