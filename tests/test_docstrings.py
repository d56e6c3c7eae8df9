"""Docstrings say what a user needs: arguments with their defaults, what is returned, when an error is raised."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import torch_featurelayer as tl

PACKAGE = Path(tl.__file__).parent
PUBLIC = ["", "analysis", "figures", "images", "models", "similarity", "store", "extraction"]
# nn.Module calls its arguments the model's, and torch.compile's options are torch's
PASSED_ON = {"args", "kwargs", "options", "compile_options"}


def documented() -> Iterator[tuple[str, Any]]:
    """The public functions, classes and methods."""
    for module in PUBLIC:
        package = importlib.import_module(f"torch_featurelayer.{module}".rstrip("."))
        for name in package.__all__:
            item = getattr(package, name)
            if inspect.isfunction(item):
                yield f"{module}.{name}", item
            elif inspect.isclass(item) and not issubclass(item, Exception):
                yield f"{module}.{name}", item
                for member, method in vars(item).items():
                    ours = inspect.isfunction(method) and method.__module__.startswith("torch_featurelayer")
                    if ours and not member.startswith("_"):
                        yield f"{module}.{name}.{member}", method


CASES = dict(documented())


def sections(text: str) -> dict[str, str]:
    found = re.split(r"^(Args|Returns|Yields|Raises|Attributes|Note|Examples?):\n", text, flags=re.MULTILINE)
    return {"": found[0], **dict(zip(found[1::2], found[2::2], strict=True))}


@pytest.mark.parametrize("name", CASES)
def test_arguments_defaults_and_results(name: str) -> None:
    item = CASES[name]
    text = inspect.getdoc(item) or ""
    parts = sections(text)
    assert text.strip(), "no docstring"
    if dataclasses.is_dataclass(item):
        assert "Attributes" in parts
        return
    function = item.__init__ if inspect.isclass(item) else item
    # Of matplotlib, of nn.Module, or of a named tuple.
    if not (getattr(function, "__module__", None) or "").startswith("torch_featurelayer"):
        return
    signature = inspect.signature(function)
    wanted = [p for p in signature.parameters.values() if p.name not in ("self", "cls", "recorder", "single", "rows")]
    many = len(wanted) > 1 or (wanted and "`" not in parts[""] and not inspect.isclass(item))
    if not wanted or (not many and "Args" not in parts):
        return
    arguments = dict(re.findall(r"^    \*{0,2}(\w+): ((?:.|\n      )*)", parts.get("Args", ""), re.MULTILINE))
    for parameter in wanted:
        assert parameter.name in arguments, f"{parameter.name} is not described"
        if parameter.default not in (inspect.Parameter.empty, ...) and parameter.name not in PASSED_ON:
            assert re.search(r"\bdefault\b", arguments[parameter.name], re.IGNORECASE), f"{parameter.name}: no default"
    if inspect.isfunction(item) and signature.return_annotation not in ("None", None, inspect.Signature.empty):
        assert {"Returns", "Yields"} & set(parts) or parts[""].startswith(("Returns", "Yields", "Computes", "Whether"))


@pytest.mark.parametrize("name", CASES)
def test_raises_says_when(name: str) -> None:
    lines = sections(inspect.getdoc(CASES[name]) or "").get("Raises", "").splitlines()
    for line in lines:
        if re.match(r"    \w", line):
            assert re.match(r"    [\w.]+: (If|On|With|Unless|The other)\b", line), line


def texts() -> Iterator[tuple[str, str]]:
    """The docstrings of each file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield path.name, ast.get_docstring(node) or ""


@pytest.mark.parametrize(
    ("pattern", "most"),
    [
        (r"\bwhat\b", 1.0),  # "list the layers you can capture", not "what there is to name"
        (r"\b(nobody|somebody|whoever)\b", 0),
        (r"^\s*\w+: (Of|As) (the|in|for|there)\b", 0.3),  # no noun
        (r"[Ww]hat (they|it) says?\b", 0),
        (r"\b(stands for itself|goes on|let go|is told|lies)\b", 0.1),
    ],
)
def test_english(pattern: str, most: float) -> None:
    """How often a phrase of the project's former prose occurs in 1,000 words of docstrings."""
    words = sum(len(text.split()) for _, text in texts())
    found = [(name, line) for name, text in texts() for line in text.splitlines() if re.search(pattern, line, re.M)]
    assert len(found) / words * 1000 <= most, found


def test_defaults_and_comments() -> None:
    """As often as in the libraries that this one is read beside."""
    words = sum(len(text.split()) for _, text in texts())
    defaults = sum(len(re.findall(r"\bdefaults?\b", text, re.IGNORECASE)) for _, text in texts())
    assert defaults / words * 1000 >= 1.5
    lines = comments = 0
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text()
        lines += sum(bool(line.strip()) for line in source.splitlines())
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            comments += token.type == tokenize.COMMENT and not re.match(r"# (noqa|type:|fmt)", token.string)
    assert 2 <= comments / lines * 100 <= 5
