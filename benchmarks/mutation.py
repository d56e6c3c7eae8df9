"""Mutation testing of the engine, the grammar and the identity of stores: which changes do the tests notice?

cosmic-ray applies mutations (another operator, number or comparison, a `not`, a removed decorator, ...) to the source
files. Each mutant runs the tests in its own process until the first failure, so the engine and the identity of stores
are tested with a random sample of mutants, and the other files with all of them. The process is a fork of one that has
imported PyTorch, which takes longer than many of the tests. A mutant that passes all tests has
*survived*. Mutations of type annotations have no effect and are left out.

    python -m benchmarks.mutation [--engine 120] [--identity 120] [--seed 0] [--workers 1]
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import os
import random
import shlex
import signal
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import pytest

from benchmarks._core_tests import CORE, SLOW
from benchmarks._report import ROOT, report

PACKAGE = Path("src/torch_featurelayer")
# Of each part, the files and the tests.
PARTS = {
    "grammar": (["address/grammar.py"], ["tests/address/test_grammar.py"]),
    "call selector": (["engine/call_selector.py"], ["tests/engine/test_call_selector.py"]),
    "identity": (
        ["extraction/identity.py", "extraction/code.py"],
        ["-m", "not slow", "tests/extraction/test_identity.py"],
    ),
    "engine": ([f"engine/{path.name}" for path in sorted((ROOT / PACKAGE / "engine").glob("[a-z]*.py"))], CORE),
}
SAMPLED = ("engine", "identity")
TIMEOUT = 400
IMPORTED = ("torchvision.models", "timm", "transformers", "hypothesis", "pyarrow")  # and none of the project


def command(part: str) -> str:
    """The arguments of pytest, some of whose plugins are imported already in a fork."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return shlex.join([*options, "-k", f"{SLOW} and not inductor", *PARTS[part][1]])


def run_tests(arguments: str, timeout: float) -> tuple[Any, str]:
    """Runs tests in a fork of this process, in the place of cosmic-ray's function that starts a new one."""
    from cosmic_ray.work_item import TestOutcome

    process = get_context("fork").Process(target=_run_pytest, args=(shlex.split(arguments),))
    process.start()
    process.join(timeout)
    if process.is_alive():
        os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
    return TestOutcome.KILLED if process.exitcode else TestOutcome.SURVIVED, ""


def _run_pytest(arguments: list[str]) -> None:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.dont_write_bytecode = True  # a change may be as long as the code it replaces
    sys.exit(pytest.main(arguments))


def annotation_lines(path: Path) -> set[int]:
    """The lines that only say types: imports under TYPE_CHECKING, aliases, and annotated fields without a value."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        checking = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        alias = isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias"
        if checking or alias or (isinstance(node, ast.AnnAssign) and node.value is None):
            found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def mutations(files: list[Path]) -> list[Any]:
    """Every change to some files, without those of annotations."""
    from cosmic_ray.commands.init import _all_work_items

    found = []
    for path in files:
        source, types = path.read_text().splitlines(), annotation_lines(path)
        for item in _all_work_items([path], {}):
            (mutation,) = item.mutations
            row = mutation.start_pos[0]
            line = source[row - 1]
            union = "BitOr" in mutation.operator_name and (
                line.lstrip().startswith("def ") or "->" in line or ": " in line
            )
            if row not in types and not union:
                found.append(mutation)
    return found


def tried(job: tuple[str, Any]) -> tuple[str, str, str]:
    """Returns the file, what became of a change in this worker's copy of the project, and the change."""
    from cosmic_ray import mutating

    mutating.run_tests = run_tests
    part, mutation = job
    result = mutating.mutate_and_test([mutation], command(part), TIMEOUT)
    outcome = str(result.test_outcome.value if result.test_outcome else "no change")
    return str(mutation.module_path), outcome, result.diff or ""


def passes_unchanged(part: str) -> bool:
    """Whether the tests of a part pass in this worker's copy of the project."""
    return bool(run_tests(command(part), TIMEOUT)[0].value == "survived")


def changed_line(diff: str) -> str:
    """A line as it was, and as it became."""
    changed = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return " → ".join(f"`{line[1:].strip()}`" for line in changed[:2])


def copied() -> None:
    """Gives a worker a copy of the project of its own, goes there, and imports what most tests need."""
    folder = Path(tempfile.mkdtemp(prefix="mutation-")) / "project"
    copytree(ROOT, folder, ignore=ignore_patterns(".venv", ".git", ".cache", "site", "*.png", "*.jpg"))
    os.chdir(folder)
    os.environ["PYTHONPATH"] = f"{folder / 'src'}:{folder}"
    os.environ["OMP_NUM_THREADS"] = "1"  # workers have a core each
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder.parent)  # in one folder, they would remove each other's links
    sys.path[:0] = [str(folder / "src"), str(folder)]
    for package in IMPORTED:
        importlib.import_module(package)
    gc.collect()
    gc.freeze()  # what this process leaves behind is no failure of a test in its forks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for part in SAMPLED:
        parser.add_argument(f"--{part}", type=int, default=120, help=f"how many changes to the {part} are tried")
    parser.add_argument("--seed", type=int, default=0, help="of the sample: another one finds what tests still miss")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    os.chdir(ROOT)
    found = {part: mutations([PACKAGE / name for name in files]) for part, (files, _) in PARTS.items()}
    every = {part: len(changes) for part, changes in found.items()}
    for part in SAMPLED:
        found[part] = random.Random(given.seed).sample(found[part], min(getattr(given, part), every[part]))
    jobs = [(part, one) for part, changes in found.items() for one in changes]
    counts: dict[str, dict[str, Counter[str]]] = {part: {} for part in PARTS}
    survivors: list[str] = []
    with ProcessPoolExecutor(given.workers, initializer=copied) as pool:
        for part, passes in zip(PARTS, pool.map(passes_unchanged, PARTS), strict=True):
            if not passes:
                raise SystemExit(f"the tests of the {part} fail anyway, so they would notice every change")
        for (part, _), (path, outcome, diff) in zip(jobs, pool.map(tried, jobs), strict=True):
            counts[part].setdefault(path.removeprefix(f"{PACKAGE}/"), Counter())[outcome] += 1
            said = f"- `{Path(path).name}`: {changed_line(diff)}"
            print(outcome, said, flush=True)
            if outcome == "survived":
                survivors.append(said)
    write(counts, survivors, every)


def write(counts: dict[str, dict[str, Counter[str]]], survivors: list[str], every: dict[str, int]) -> None:
    lines = ["| file | changes tried | noticed | survived | score |", "|---|---|---|---|---|"]
    numbers: dict[str, Any] = {}
    for part, files in counts.items():
        whole = sum(files.values(), Counter())
        for name, some in [
            *((f"`{name}`", some) for name, some in files.items()),
            (f"**the {part}**, {every[part]:,} changes", whole),
        ]:
            total, survived = sum(some.values()), some["survived"]
            score = (total - survived) / max(total, 1)
            lines.append(f"| {name} | {total} | {total - survived} | {survived} | {score:.0%} |")
            numbers[part] = {"tried": total, "survived": survived, "score": score, "every": every[part]}
    about = (__doc__ or "").split("\n\n")[1]
    lines += ["", "## What survived", "", *survivors]
    report("mutation", "Mutation testing", about, lines, numbers)


if __name__ == "__main__":
    main()
