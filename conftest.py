"""Runs the examples of README, docs and docstrings as tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

ROOT = Path(__file__).parent


def _seed(_: dict[str, Any]) -> None:
    torch.manual_seed(0)


_pages = Sybil([PythonCodeBlockParser()], patterns=["README.md", "docs/*.md"], setup=_seed, fixtures=["_elsewhere"])
_docstrings = Sybil(
    [DocTestParser()], patterns=["src/**/*.py"], setup=_seed, document_types={".py": PythonDocStringDocument}
)
pytest_collect_file = (_pages + _docstrings).pytest()


@pytest.fixture
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Files that an example writes go to a folder of their own."""
    os.chdir(tmp_path_factory.getbasetemp())
    yield
    os.chdir(ROOT)
