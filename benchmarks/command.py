"""Overhead of the command line beside what it cannot avoid.

python -m benchmarks.command [--runs 7]
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks._report import report
from benchmarks._timing import race

BUILD = "import torch, torchvision; torchvision.models.resnet50(weights=None)"
COMMAND = [sys.executable, "-m", "torch_featurelayer"]
CONTENDERS = {
    "import torch and torchvision, build ResNet-50": [sys.executable, "-c", BUILD],
    "`featurelayer layers torchvision:resnet50`": [*COMMAND, "layers", "torchvision:resnet50"],
    "`featurelayer --help`": [*COMMAND, "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    calls = {
        name: lambda command=command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for name, command in CONTENDERS.items()
    }
    timings = race(calls, runs, warmup=1)
    base = next(iter(timings.values())).median
    lines = [
        "| | median (quartiles) | × building the model |", "|---|---|---|",
        *(f"| {name} | {timing} | {timing.median / base:.2f} |" for name, timing in timings.items()),
    ]  # fmt: skip
    numbers = {name: timing.median for name, timing in timings.items()}
    report(
        "command",
        "Overhead of the command line",
        "Whole processes, run in turns; medians and quartiles.",
        lines,
        numbers,
    )


if __name__ == "__main__":
    main()
