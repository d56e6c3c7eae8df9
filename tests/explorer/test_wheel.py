"""The page is in the wheel, whole."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_in_the_wheel(tmp_path: Path) -> None:
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True, capture_output=True)  # noqa: S603
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    static = ROOT / "src" / "torch_featurelayer" / "explorer" / "static"
    assert {f"torch_featurelayer/explorer/static/{file.name}" for file in static.iterdir()} <= inside
    assert "torch_featurelayer/py.typed" in inside
    assert not any(name.startswith("tests/") for name in inside)
