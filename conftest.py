"""Runs the examples of README, docs and docstrings as tests."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sybil import Example, Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

ROOT = Path(__file__).parent


def _seed(names: dict[str, Any]) -> None:
    """Seeds, and imports torch for the examples in docstrings."""
    torch.manual_seed(0)
    names.setdefault("torch", torch)


def _run(example: Example) -> None:
    """Runs the lines of a shell block that call our command: each must succeed."""
    from typer.testing import CliRunner

    from torch_featurelayer.cli.app import app

    for line in example.parsed.splitlines():
        program, *arguments = shlex.split(line, comments=True) or [""]
        if program != "featurelayer":
            raise ValueError(f"only featurelayer is run in a block of shell: {line!r}")
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        if result.exit_code:
            raise AssertionError(f"{line}: {result.output}")


_pages = Sybil(
    [PythonCodeBlockParser(), CodeBlockParser("sh", _run)],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=_seed,
    fixtures=["_elsewhere"],
)
_docstrings = Sybil(
    [DocTestParser()], patterns=["src/**/*.py"], setup=_seed, document_types={".py": PythonDocStringDocument}
)
pytest_collect_file = (_pages + _docstrings).pytest()


@pytest.fixture
def _elsewhere(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs each page in a folder of its own, where there are a photo of a cat and some photos."""
    from skimage import data

    page = request.node.path.relative_to(ROOT).as_posix().replace("/", "-")
    folder = tmp_path_factory.getbasetemp() / page
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    Image.fromarray(data.chelsea()).save("cat.jpg")
    photos = Path("photos")
    photos.mkdir(exist_ok=True)
    for name, photo in {"cat": "chelsea", "astronaut": "astronaut", "coffee": "coffee", "rocket": "rocket"}.items():
        Image.fromarray(getattr(data, photo)()).save(photos / f"{name}.jpg")
    Image.fromarray(data.chelsea()[20:, 20:]).save(photos / "cat-closer.jpg")
    yield
    os.chdir(ROOT)
