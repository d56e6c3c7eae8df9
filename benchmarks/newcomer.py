"""How long a newcomer takes: from a clone of the project to the first own feature map, typing what README says.

The repository is cloned into an empty folder, `make demo` creates the environment and draws a figure, and the first
example of the README runs from a file. pip downloads from the package index of this machine and uses its cache.

    python -m benchmarks.newcomer
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks._report import ROOT, report


def first_example() -> str:
    """The first block of Python in the README."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def main() -> None:
    steps: dict[str, float] = {}

    def step(name: str, *command: str, folder: Path) -> None:
        start = time.perf_counter()
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        subprocess.run(command, check=True, cwd=folder, capture_output=True, env=environment)
        steps[name] = time.perf_counter() - start
        print(f"{name}: {steps[name]:.0f} s", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        folder, clone = Path(temporary), Path(temporary) / "torch-featurelayer"
        step("git clone", "git", "clone", "--quiet", str(ROOT), str(clone), folder=folder)
        step("`make demo`, which makes the environment", "make", "demo", folder=clone)
        assert (clone / "demo.png").exists()
        (clone / "mine.py").write_text(first_example() + "print(feat.shape)\n")
        step("the README's first example, as a file", ".venv/bin/python", "mine.py", folder=clone)
    total = sum(steps.values())
    lines = ["| | seconds |", "|---|---|", *(f"| {name} | {taken:.0f} |" for name, taken in steps.items())]
    lines += [f"| **all** | **{total:.0f}** |"]
    report("newcomer", "Time to the first feature map", "\n".join((__doc__ or "").splitlines()[2:4]), lines,
           {**steps, "all": total})  # fmt: skip


if __name__ == "__main__":
    main()
