"""Writes results: a page of the docs, and the numbers as JSON, with date, machine, versions and code."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "benchmarks"
NUMBERS = ROOT / "benchmarks" / "results"
VERSIONS = ("torch", "torchvision", "timm", "transformers")


def report(name: str, title: str, about: str, lines: Sequence[str], numbers: dict[str, Any]) -> None:
    """Writes one benchmark's page and numbers, and prints the page.

    Args:
        name: The name of both files, without their endings.
        title: The title of the page.
        about: The method, in Markdown.
        lines: The tables, in Markdown.
        numbers: The numbers that the summary, the README and the docs quote.
    """
    made = setting()
    page = f"# {title}\n\n{about.strip()}\n\n{stamp(made)}\n\n" + "\n".join(lines).strip() + "\n"
    PAGES.mkdir(exist_ok=True)
    NUMBERS.mkdir(exist_ok=True)
    (PAGES / f"{name}.md").write_text(page)
    (NUMBERS / f"{name}.json").write_text(json.dumps({"setting": made, "numbers": numbers}, indent=1) + "\n")
    print(page)


def setting() -> dict[str, str]:
    """Returns the date, the machine and the versions, on which the numbers depend."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)
    return {
        "command": command(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {torch.get_num_threads()} threads",
        "versions": f"Python {platform.python_version()}, {versions}",
        "code": code(),
    }


def code() -> str:
    """Returns the hash that git gives to the package's folder, which other commits leave as it is."""
    run = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    package = "src/torch_featurelayer"
    found = run(["git", "rev-parse", "--short", f"HEAD:{package}"])
    if found.returncode:
        return "not from git"
    changed = run(["git", "status", "--porcelain", package]).stdout
    return found.stdout.strip() + (" with changes" if changed else "")


def command() -> str:
    """Returns the command line of this run."""
    spec = sys.modules["__main__"].__spec__
    return " ".join(["python -m", spec.name if spec else Path(sys.argv[0]).stem, *sys.argv[1:]])


def stamp(made: dict[str, str]) -> str:
    """A setting as a line of Markdown."""
    code = f"; code {made['code']}" if "code" in made else ""
    return f"`{made['command']}`, {made['date']}: {made['machine']}; {made['versions']}{code}."


def stop_cell(one: dict[str, Any]) -> str:
    """The time of a layer alone, with what is not right about it, in a few words."""
    return "raises" if one["time"] is None else f"{one['time']:.2f}{'' if one['right'] else ' (wrong)'}"


def counts_cell(counts: dict[str, int] | None) -> str:
    """What there is some of: `4 right, 1 missing`."""
    return ", ".join(f"{count} {part}" for part, count in (counts or {}).items() if count)


def _processor() -> str:
    """The processor as Linux names it, elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()} ({names[0]})" if names else platform.machine()
