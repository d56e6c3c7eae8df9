"""The site: every page is in it, every page's code is run, and every measured number is the result's."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import summary

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def pages_of(nav: list[dict[str, Any]]) -> Iterator[str]:
    for entry in nav:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from pages_of(target)


def test_every_page_is_in_the_navigation() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    assert sorted(pages_of(nav)) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_the_code_of_every_page_is_collected() -> None:
    """By the patterns that Sybil runs: no page lies deeper than they look."""
    (pattern,) = re.findall(r"patterns=(\[.*?\]),\n    setup=_seed,\n    fixtures", (ROOT / "conftest.py").read_text())
    found = {path for one in json.loads(pattern) for path in ROOT.glob(one)}
    assert {path for path in DOCS.rglob("*.md") if "```python" in path.read_text()} <= found


def test_every_picture_is_there_and_used() -> None:
    """None is missing, none is left over, none is larger than 200 kB."""
    used: set[Path] = set()
    for page in (ROOT / "README.md", *DOCS.rglob("*.md")):
        used |= {(page.parent / target).resolve() for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())}
    pictures = {path for path in (DOCS / "images").rglob("*") if path.is_file()}
    assert used == pictures
    assert all(path.stat().st_size < 200_000 for path in pictures)


def test_every_example_has_its_picture_its_section_and_its_test() -> None:
    names = {path.stem for path in (ROOT / "examples").glob("[a-z]*.py")}
    page = (DOCS / "examples.md").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "examples").glob("*.py"))
    assert names == {path.stem for path in (DOCS / "images" / "examples").iterdir()}
    assert all(f"examples/{name}.py" in page and f"{name}." in tests for name in names)


@pytest.mark.parametrize("page", summary.pages(), ids=lambda page: page.name)
def test_measured_numbers_are_those_of_the_results(page: Path) -> None:
    assert page.read_text() == summary.filled(page), "run python -m benchmarks.summary"


def test_the_summary_is_that_of_the_results() -> None:
    assert (DOCS / "benchmarks" / "index.md").read_text() == summary.index(), "run python -m benchmarks.summary"


@pytest.mark.parametrize("name", summary.results())
def test_every_result_says_when_and_where(name: str) -> None:
    """Its page and its numbers are of one run, with the date, the machine and the versions."""
    made = summary.results()[name]["setting"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", made["date"])
    assert "torch " in made["versions"]
    assert "cores" in made["machine"]
    assert f"benchmarks.{'coverage' if name.startswith('coverage') else name}" in made["command"]
    assert summary.stamp(made) in (DOCS / "benchmarks" / f"{name}.md").read_text()
