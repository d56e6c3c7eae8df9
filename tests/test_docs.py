"""The site: every page can be found, every page's code is run, and every measured number is the result's.

`python -m tests.test_docs` writes the tables of the command line's page and `docs/llms.txt` anew.
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from benchmarks import summary
from torch_featurelayer.cli.app import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TABLES = "<!-- tables: python -m tests.test_docs -->"
SUMMARY = (
    "Name a layer of any PyTorch model and get its features, gradients and operations; edit them; draw them; extract "
    "and search the features of a dataset. A feature is never silently wrong."
)


def pages_of(nav: list[dict[str, Any]]) -> Iterator[str]:
    for entry in nav:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from pages_of(target)


def test_every_page_is_found() -> None:
    """In the navigation, which stays short, or by a link from a page that is in it."""
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    listed = list(pages_of(nav))
    assert len(listed) + sum(isinstance(target, list) for entry in nav for target in entry.values()) <= 34
    linked = {
        (DOCS / page).parent.joinpath(target).resolve().relative_to(DOCS)
        for page in listed
        for target in re.findall(r"\]\(([\w./-]+\.md)", (DOCS / page).read_text())
    }
    assert {path.relative_to(DOCS) for path in DOCS.rglob("*.md")} == linked | set(map(Path, listed))


@pytest.mark.slow
def test_the_tutorial_runs_in_an_empty_folder(tmp_path: Path) -> None:
    """As somebody pastes it: all of its code in one script, with nothing there before."""
    code = re.findall(r"```python\n(.*?)```", (DOCS / "tutorial.md").read_text(), re.DOTALL)
    (tmp_path / "tutorial.py").write_text("\n".join(code))
    done = subprocess.run([sys.executable, "tutorial.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("chelsea.jpg")
    assert {"features.png", "cam.png", "my-features"} <= {path.name for path in tmp_path.iterdir()}


def commands() -> str:
    """The tables of the command line's page: each command with its arguments and options, as its help says them."""
    return "\n".join(_command(str(command.name), command.callback) for command in app.registered_commands)


def _command(name: str, function: Any) -> str:
    about, _, example = _plain(inspect.getdoc(function) or "").partition("Example: ")
    hints = get_type_hints(function, include_extras=True)
    rows = "\n".join(_row(parameter, hints[key]) for key, parameter in inspect.signature(function).parameters.items())
    text = f"## {name}\n\n{about.strip()}\n\n" + (f"```\n{example.strip()}\n```\n\n" if example else "")
    return f"{text}| Argument or option | Meaning |\n|---|---|\n{rows}\n"


def _row(parameter: inspect.Parameter, hint: Any) -> str:
    info, kind = hint.__metadata__[-1], hint.__origin__
    written = (info.default, *(info.param_decls or ()))  # typer takes the first name for a default
    names = ", ".join(f"`{name}`" for name in written if isinstance(name, str) and name.startswith("-"))
    is_enum = isinstance(kind, type) and issubclass(kind, Enum)
    choices = "|".join(kind) if is_enum else getattr(kind, "__name__", "").upper()
    value = " or ".join(f"`{one}`" for one in (info.metavar or choices).split("|"))  # a bar would end the cell
    spelled = f"`{info.metavar}`" if not names else names if kind is bool else f"{names} {value}"
    text, default = _plain(info.help or ""), getattr(parameter.default, "value", parameter.default)
    shown = names and kind is not bool and default is not None and default is not parameter.empty
    said = f"{text} [default: {default}]" if shown and "[default" not in text else text
    return f"| {spelled} | {said} |"


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"(?<!\\)\[/?[a-z ]*\]", "", text)).replace("\\[", "[").strip()


def command_page() -> str:
    page = (DOCS / "guides" / "command-line.md").read_text()
    return page[: page.index(TABLES) + len(TABLES)] + "\n\n" + commands()


def test_the_page_of_the_command_line_is_that_of_the_command() -> None:
    assert (DOCS / "guides" / "command-line.md").read_text() == command_page(), "run python -m tests.test_docs"


def llms() -> str:
    """The list of pages for language models, https://llmstxt.org: each with its first sentence."""
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    parts = ["# torch-featurelayer\n", f"> {SUMMARY}\n"]
    for entry in nav:
        for title, target in entry.items():
            pages = [target] if isinstance(target, str) else list(pages_of(target))
            parts.append(f"## {title}\n\n" + "\n".join(map(_linked, pages)) + "\n")
    return "\n".join(parts)


def _linked(page: str) -> str:
    text = (DOCS / page).read_text()
    paragraphs = (part.strip() for part in re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL).split("\n\n"))
    first = next((part for part in paragraphs if part and part[0] not in "#!|:-"), "")
    sentence = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(first.split()).split(". ")[0].rstrip(".:"))
    return f"- [{text.partition(chr(10))[0].lstrip('# ')}]({page}): {sentence}."


def test_llms_txt_lists_the_pages() -> None:
    assert (DOCS / "llms.txt").read_text() == llms(), "run python -m tests.test_docs"


def test_the_code_of_every_page_is_collected() -> None:
    """By the patterns that Sybil runs: no page lies deeper than they look."""
    (pattern,) = re.findall(r"patterns=(\[.*?\]),\n    setup=_seed,\n    fixtures", (ROOT / "conftest.py").read_text())
    found = {path for one in json.loads(pattern) for path in ROOT.glob(one)}
    assert {path for path in DOCS.rglob("*.md") if "```python" in path.read_text()} <= found


def test_every_picture_is_there_and_used() -> None:
    """None is missing, none is left over, none is larger than 200 kB, and the film is not larger than 2 MB."""
    used: set[Path] = set()
    for page in (ROOT / "README.md", *DOCS.rglob("*.md")):
        used |= {(page.parent / target).resolve() for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())}
    pictures = {path for path in (DOCS / "images").rglob("*") if path.is_file()}
    assert used == pictures
    assert all(path.stat().st_size < (2_000_000 if path.suffix == ".gif" else 200_000) for path in pictures)


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


if __name__ == "__main__":
    (DOCS / "guides" / "command-line.md").write_text(command_page())
    (DOCS / "llms.txt").write_text(llms())
