"""The wheel on the oldest supported and the newest version of PyTorch, and on versions between.

Each version gets an environment with PyTorch and the matching torchvision. The wheel is installed there, which must
leave PyTorch as it is, and runs the README's first example. Then the tests of the core run on the installed wheel:
addresses, the engine, features, capture, edits and the table of layers, on torchvision models, some of them compiled.

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
from benchmarks.newcomer import first_example

VERSIONS = [
    "2.4.1=0.19.1",
    "2.6.0=0.21.0",
    "2.9.1=0.24.1",
    "2.13.0=0.28.0",
    "2.15.0=0.29.2",
]  # torch and its torchvision
INSTALLED = "installed, runs the example"
NEEDED = """
attrs hypothesis matplotlib pytest rich scikit-image setuptools sybil timm transformers<5.1 typer
""".split()  # noqa: SIM905 (transformers 5.1 needs a newer PyTorch than the oldest)


def python_of(folder: Path, torch: str, torchvision: str) -> Path:
    """Returns the Python of an environment with a version, made with nothing else where it is not there."""
    python = folder / f"v{torch}" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        install(python, f"torch=={torch}", f"torchvision=={torchvision}")
    return python


def install(python: Path, *what: str) -> None:
    """Installs packages in an environment, of any version that exists."""
    plain = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}  # no cap on torch's version
    subprocess.run([str(python), "-m", "pip", "install", "-q", *what], check=True, env=plain)


def make_wheel(folder: Path) -> Path:
    """Builds the wheel of the project."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def version_of(python: Path) -> str:
    """Returns what torch calls itself."""
    code = "import torch; print(torch.__version__)"
    return subprocess.check_output([str(python), "-c", code], text=True).strip()


def try_wheel(python: Path, wheel: Path) -> str:
    """Installs the wheel, and runs the README's first example; returns what fails."""
    before = version_of(python)
    subprocess.run([str(python), "-m", "pip", "uninstall", "-q", "-y", "torch-featurelayer"], check=True)
    install(python, str(wheel))
    if (after := version_of(python)) != before:
        return f"replaces PyTorch by {after}"
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [str(python), "-W", "error::FutureWarning", "-c", first_example()], cwd=elsewhere, check=False
        )
    return "the README's example fails" if done.returncode else INSTALLED


def tested(python: Path) -> tuple[str, list[str]]:
    """Returns pytest's last line on the installed wheel, and what failed."""
    install(python, *NEEDED)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-m", "pytest", "-q", "-k", SLOW, "-p", "no:cacheprovider", *CORE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr.strip()[-200:]
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return re.sub(r" in .*", "", last), failed or ([last] if done.returncode else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=VERSIONS)
    parser.add_argument("--folder", type=Path, help="where the environments are kept")
    given = parser.parse_args()
    lines, numbers = ["| torch | the wheel | tests |", "|---|---|---|"], {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        wheel = make_wheel(Path(temporary))
        for pair in given.versions:
            python = python_of(given.folder or Path(temporary), *pair.split("="))
            state, version = try_wheel(python, wheel), version_of(python)
            numbers[version], names = tested(python)
            lines.append(f"| {version} | {state} | {numbers[version]} |")
            failed += [f"- {version}: `{name}`" for name in ([] if state == INSTALLED else [state]) + names]
            print(lines[-1], flush=True)
    lines += ["", *failed]
    report("versions", "Versions of PyTorch", "\n".join((__doc__ or "").splitlines()[:6]), lines, numbers)
    sys.exit(1 if failed else 0)  # continuous integration runs this


if __name__ == "__main__":
    main()
