"""The tests of the core on the oldest supported and the newest version of PyTorch, and on versions between.

Each version runs in its own environment, with the matching torchvision. The tests cover addresses, the engine,
features, capture, edits and the table of layers, on torchvision models, some of them compiled.

    python -m benchmarks.versions [2.4.1=0.19.1 ...] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._core_tests import CORE, SLOW
from benchmarks._report import ROOT, report

VERSIONS = [
    "2.4.1=0.19.1",
    "2.6.0=0.21.0",
    "2.9.1=0.24.1",
    "2.13.0=0.28.0",
    "2.15.0=0.29.2",
]  # torch and its torchvision
NEEDED = """
attrs hypothesis matplotlib pytest rich scikit-image setuptools sybil timm transformers<5.1 typer
""".split()  # noqa: SIM905 (transformers 5.1 needs a newer PyTorch than the oldest)


def python_of(folder: Path, torch: str, torchvision: str) -> Path:
    """Returns the Python of an environment with a version, made where it is not there."""
    python = folder / f"v{torch}" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        versions = [f"torch=={torch}", f"torchvision=={torchvision}"]
        plain = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}  # no cap on torch's version
        subprocess.run([str(python), "-m", "pip", "install", "-q", *versions, *NEEDED], check=True, env=plain)
    return python


def tested(python: Path) -> tuple[str, str, list[str]]:
    """Returns what torch calls itself, pytest's last line, and the tests that failed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [str(python), "-m", "pytest", "-q", "-k", SLOW, "-p", "no:cacheprovider", *CORE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    version = subprocess.check_output([str(python), "-c", "import torch; print(torch.__version__)"], text=True)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr.strip()[-200:]
    return (
        version.strip(),
        re.sub(r" in .*", "", last),
        re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=VERSIONS)
    parser.add_argument("--folder", type=Path, help="where the environments are kept")
    given = parser.parse_args()
    lines, numbers = ["| torch | tests |", "|---|---|"], {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        for pair in given.versions:
            version, said, names = tested(python_of(given.folder or Path(temporary), *pair.split("=")))
            lines.append(f"| {version} | {said} |")
            failed += [f"- {version}: `{name}`" for name in names]
            numbers[version] = said
            print(lines[-1], flush=True)
    lines += ["", *failed]
    report("versions", "Versions of PyTorch", "\n".join((__doc__ or "").splitlines()[:4]), lines, numbers)


if __name__ == "__main__":
    main()
