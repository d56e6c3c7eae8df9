"""The commands over a whole dataset: extract, search, duplicates."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from skimage.data import astronaut, chelsea, coffee, rocket
from typer.testing import CliRunner

import torch_featurelayer as tl
from torch_featurelayer.cli.app import app

pytestmark = pytest.mark.slow


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four photos, one of them twice in other sizes and formats, and a broken one."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, make in {"cat": chelsea, "coffee": coffee, "more/astronaut": astronaut, "more/rocket": rocket}.items():
        Image.fromarray(make()).resize((320, 256)).save(folder / f"{name}.jpg")
    Image.fromarray(chelsea()).resize((310, 248)).save(folder / "more" / "same-cat.png")
    (folder / "broken.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return folder


def run(*arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_extract_search_and_duplicates(photos: Path) -> None:
    """The commands of the docs: errors are said, the same cat is found, and drawn."""
    command = ("extract", "efficientnet-lite0", "photos", "--out", "features", "--num-workers", "0")
    told, errors = run(*command)
    assert "5 rows, 1 errors, mode channels_last images" in told
    assert "broken.jpg: " in errors
    store = tl.open_store("features")
    assert store.ids == ("cat.jpg", "coffee.jpg", "more/astronaut.jpg", "more/rocket.jpg", "more/same-cat.png")
    again = json.loads(run(*command, "--json")[0])
    assert (again["rows"], [error["id"] for error in again["errors"]]) == (5, ["broken.jpg"])
    assert again["was_complete"]
    assert "already complete: nothing was extracted" in run(*command)[0]
    Image.fromarray(coffee()).save(photos / "broken.jpg")
    assert "6 rows, 0 errors" in run(*command, "--retry-errors")[0]
    Image.fromarray(rocket()).resize((300, 240)).save(photos / "more" / "rocket.jpg")
    changed = subprocess.run([sys.executable, "-m", "torch_featurelayer", *command], capture_output=True, check=False)
    assert changed.returncode == 1
    assert b"changed since they were read: 'more/rocket.jpg'" in changed.stderr
    assert b"or --redo to extract them again" in changed.stderr
    assert "6 rows, 0 errors" in run(*command, "--redo")[0]
    found = run("search", "features", "photos/cat.jpg", "-k", "3", "-o", "results.png")[0].splitlines()
    assert found[0] == "1.0000  cat.jpg"
    assert found[1].endswith("more/same-cat.png")
    with Image.open("results.png") as sheet:
        assert sheet.width > 600
    assert "no pair with a cosine similarity of at least 1.0" in run("duplicates", "features", "-t", "1.0")[0]
    misspelled = CliRunner().invoke(app, ("search", "features", "photos/cat.jpg", "-l", "_conv_hed"))
    assert "Did you mean '_conv_head'" in str(misspelled.exception)
    pairs = json.loads(run("duplicates", "features", "--threshold", "0.9", "--json")[0])
    assert {(pair["first"], pair["second"]) for pair in pairs} == {
        ("cat.jpg", "more/same-cat.png"), ("broken.jpg", "coffee.jpg"),
    }  # fmt: skip


def test_other_weights_are_refused(photos: Path) -> None:
    """Features of other weights compare with nothing."""
    run("extract", "torchvision:squeezenet1_1", str(photos), "-w", "random", "-o", "features", "-l", "features.3")
    result = CliRunner().invoke(app, ("search", "features", "photos/cat.jpg", "-w", "random", "--seed", "1"))
    assert isinstance(result.exception, (tl.StoreMismatchError, SystemExit))


def test_ctrl_c_keeps_what_is_finished(photos: Path) -> None:
    """One line, exit code 130, a store that opens; the same command goes on."""
    for number in range(60):
        Image.open(photos / "cat.jpg").save(photos / f"{number:02}.jpg")
    command = [sys.executable, "-m", "torch_featurelayer", "extract", "efficientnet-lite0", "photos", "-o", "features",
               "--shard-size", "4", "-b", "4", "-j", "1"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    shards = Path("features/shards")
    while process.poll() is None and (not shards.exists() or len(list(shards.glob("*.safetensors"))) < 2):
        pass
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip().splitlines() == [
        "interrupted: finished shards are kept, and the same command continues from there"
    ]
    rows = len(tl.open_store("features"))
    assert 8 <= rows < 65
    rest = ("extract", "efficientnet-lite0", "photos", "-o", "features", "--shard-size", "4", "-b", "4", "-j", "0")
    assert "65 rows, 1 errors" in run(*rest)[0]
