"""Every module of many architectures: is each output and input captured, and right?

Each module's output and input, captured in one run, against a deep copy made at hook time in another run, in eval
mode (without gradients) and in train mode (with). Random weights, the smallest variants, small inputs.

    python -m benchmarks.coverage [torchvision] [timm] [transformers] [--limit N] [--processes N]
"""

from __future__ import annotations

import argparse
import random
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy
import torch
from torch import nn

import torch_featurelayer as tl
from benchmarks import _architectures
from benchmarks._report import report
from tests.reference import agree, frozen

Case = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
FORKING = get_context("forkserver")  # forks from a process that has one thread


@dataclass
class Outcome:
    """What became of one model, over both modes.

    `crash` is ours; `unable` says why the bare model could not be built or run here, which is not.
    """

    compared: int = 0
    wrong: int = 0
    missing: int = 0
    equal: bool = True
    crash: str = ""
    unable: str = ""


def seed(number: int) -> None:
    """Some models draw from numpy's generator, or from Python's."""
    torch.manual_seed(number)
    numpy.random.seed(number)
    random.seed(number)


def recorded(model: nn.Module, call: Callable[[], Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last output and input of each module that ran, frozen at hook time."""
    outputs: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    handles = []
    for name, module in model.named_modules(remove_duplicate=False):
        handles += [
            module.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: inputs.update({name: frozen(_as_input(args, kwargs))}),
                with_kwargs=True,
            ),
            module.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: frozen(output)})),
        ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return outputs, inputs


def _as_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `:input` promises: the one argument itself, or the values in order (names are another test's)."""
    values = (*args, *kwargs.values())
    return values[0] if len(values) == 1 else values


def compare(case: Case, outcome: Outcome) -> None:
    model, args, kwargs = case
    for training in (False, True):
        model.train(training)

        def call() -> Any:
            seed(1)
            return model(*args, **kwargs)

        with torch.set_grad_enabled(training):
            bare = frozen(call())
            outputs, inputs = recorded(model, call)
            names = [*outputs, *(f"{name}:input" for name in inputs)]
            seed(1)
            feats, output = tl.FeatureLayers(model, names)(*args, **kwargs)
        outcome.compared += len(names)
        outcome.missing += len(names) - len(feats)
        outcome.equal &= agree(frozen(output), bare)
        for name, right in outputs.items():
            outcome.wrong += not agree(frozen(feats[name]), right)
        for name, right in inputs.items():
            given = feats[f"{name}:input"]
            single = isinstance(given, dict) and isinstance(right, list)
            outcome.wrong += not agree(frozen(tuple(given.values()) if single else given), right)


def measure(name: str, build: Callable[[], Case]) -> Outcome:
    outcome = Outcome()
    try:
        seed(0)
        case = model, args, kwargs = build()
        for training in (False, True):
            with torch.set_grad_enabled(training):
                model.train(training)(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 (whatever it is)
        outcome.unable = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        print(f"{name}: not run: {outcome.unable}", flush=True)
        return outcome
    try:
        compare(case, outcome)
    except Exception as error:  # noqa: BLE001 (a crash of any kind is a result)
        outcome.crash = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        traceback.print_exc(limit=-4)
        print(f"{name}: {outcome.crash}", flush=True)
    return outcome


def measure_apart(library: str, name: str) -> tuple[Outcome, float]:
    """Measures in a process of its own, so that one model too large for the machine ends only itself.

    Returns:
        The outcome and the seconds it took.
    """
    start = time.perf_counter()
    outcome = _measure_apart(library, name)
    return outcome, time.perf_counter() - start


def _measure_apart(library: str, name: str) -> Outcome:
    with ProcessPoolExecutor(1, FORKING) as pool:
        try:
            return pool.submit(_measure_named, library, name).result()
        except BrokenProcessPool:
            print(f"{name}: the process was killed", flush=True)
            return Outcome(unable="the process was killed: out of memory")


def _measure_named(library: str, name: str) -> Outcome:
    warnings.simplefilter("ignore")
    return measure(name, dict(_architectures.LIBRARIES[library]())[name])


def survey(library: str, limit: int | None, processes: int) -> None:
    """Measures the models, so many at a time, and writes the table."""
    lines: list[str] = []
    outcomes: list[Outcome] = []
    unable: list[str] = []
    names = [name for name, _ in _architectures.LIBRARIES[library]()][:limit]
    with ThreadPoolExecutor(processes) as pool:
        for name, (one, seconds) in zip(names, pool.map(partial(measure_apart, library), names), strict=True):
            if one.unable:
                unable.append(f"- {name}: {one.unable}")
                continue
            outcomes.append(one)
            counts = f"{one.compared} | {one.wrong} | {one.missing}"
            lines.append(f"| {name} | {counts} | {one.equal} | {one.crash} | {seconds:.1f} |")
            print(lines[-1], flush=True)
    if limit is None:
        write(library, [*lines, total(outcomes)], outcomes, unable)


def total(outcomes: list[Outcome]) -> str:
    whole = [sum(getattr(one, part) for one in outcomes) for part in ("compared", "wrong", "missing", "equal")]
    return f"| **{len(outcomes)} models** | {' | '.join(map(str, whole))} | {_crashed(outcomes)} | |"


def _crashed(outcomes: list[Outcome]) -> int:
    return sum(bool(one.crash) for one in outcomes)


def write(library: str, lines: list[str], outcomes: list[Outcome], unable: list[str]) -> None:
    columns = ["| model | features compared | wrong | missing | output bit-equal | crash | seconds |", "|" + "---|" * 7]
    count = f"Not built or not run bare with the inputs of this script, so not measured: {len(unable)}."
    numbers = {
        "models": len(outcomes), "features": sum(one.compared for one in outcomes), "crashed": _crashed(outcomes),
        "wrong": sum(one.wrong for one in outcomes), "missing": sum(one.missing for one in outcomes),
        "not_measured": len(unable),
    }  # fmt: skip
    about = (__doc__ or "").split("\n\n")[1]
    report(f"coverage_{library}", f"Coverage: {library}", about, [*columns, *lines, "", count, "", *unable], numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("libraries", nargs="*", default=[*_architectures.LIBRARIES])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--processes", type=int, default=1, help="how many models at a time")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    FORKING.set_forkserver_preload(["timm", "torchvision", "transformers"])
    for library in given.libraries:
        survey(library, given.limit, given.processes)


if __name__ == "__main__":
    main()
