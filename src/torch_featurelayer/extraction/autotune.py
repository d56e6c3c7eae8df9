"""Measures how a model runs fastest on this machine, and remembers it."""

from __future__ import annotations

import copy
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from .batches import count_rows, signature
from .identity import digest
from .memory import keep_memory
from .modes import EAGER, Mode, default_mode
from .runner import FeatureRunner, FeatureSpec
from .sources import MapSource

_ROUNDS: Final = 3
_MOST_BATCHES: Final = 8  # in which a full batch of one shape is searched
_MOST_REMEMBERED: Final = 200  # modes


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
    key = _key(spec)
    if (known := _remembered().get(key)) is not None:
        return replace(spec, mode=Mode.parse(known)), None
    with keep_memory():  # as when the features are computed
        best = choose_mode(spec)
    if best.runner is not None:
        _remember(key, best.mode)
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

    The number of items at a time is chosen with channels last, before compiling. If the model cannot be compiled here,
    for example without a C++ compiler, a warning says so and the mode is left out.
    """
    part = count_rows(spec.example) // 4
    try:
        copy.deepcopy(spec.model)
    except Exception as error:  # noqa: BLE001 (a module may refuse in any way)
        _warn(f"the model cannot be copied, so it runs eagerly: {error}")
        return Measured(EAGER, 0.0, None)
    # Modes are measured in turn, so that a change of the clock rate affects all of them.
    eager, *others = _measure(spec, [EAGER, Mode("channels_last"), *([Mode("channels_last", part)] if part else [])])
    best = min(others, key=itemgetter(1))
    try:
        compiled = _measure(spec, [Mode("compiled", best.mode.part)])
    except Exception as error:  # noqa: BLE001 (the compiler may fail in any way)
        _warn(f"the model cannot be compiled here: {error}")
        compiled = []
    return min([eager, *others, *compiled], key=itemgetter(1))


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


def _key(spec: FeatureSpec) -> str:
    """Returns a key of what the times of modes depend on: the machine, PyTorch, and the shapes of the model."""
    shapes = [(name, tuple(value.shape), str(value.dtype)) for name, value in spec.model.state_dict().items()]
    classes = [(name, type(module).__qualname__) for name, module in spec.model.named_modules()]
    machine = platform.node(), platform.machine(), os.cpu_count(), str(spec.device), torch.get_num_threads()
    request = (
        spec.layers,
        str(spec.precision),
        str(spec.autocast),
        count_rows(spec.example),
        str(signature(spec.example)),
    )
    return digest(machine, torch.__version__, shapes, classes, request)


def _file() -> Path:
    """Returns the file of remembered modes, in `FEATURELAYER_CACHE` or the cache folder of the user."""
    folder = os.environ.get("FEATURELAYER_CACHE")
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder or Path(root, "torch_featurelayer"), "modes.json")


def _remembered() -> Mapping[str, str]:
    """Returns the modes that were measured on this machine; none if they cannot be read."""
    with suppress(OSError, ValueError, RuntimeError):
        found = json.loads(_file().read_text())
        return found if isinstance(found, dict) else {}
    return {}


def _remember(key: str, mode: Mode) -> None:
    """Remembers a mode; where no file can be written, it is measured again."""
    kept = {**_remembered(), key: str(mode)}
    latest = dict(list(kept.items())[-_MOST_REMEMBERED:])
    with suppress(OSError, RuntimeError):
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(latest))
        temporary.replace(file)
