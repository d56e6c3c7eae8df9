"""What the commands print: to a person, or as JSON to a program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .._layers import LayerTable
    from ..models import LoadedModel


def print_json(value: Any) -> None:
    """Prints a value as JSON, to standard output, without colour."""
    typer.echo(json.dumps(value, indent=2))


def say(*lines: str) -> None:
    """Prints lines to standard output."""
    for line in lines:
        typer.echo(line)


def say_table(table: LayerTable) -> None:
    """Prints a table: in colour and as wide as the terminal, plain and whole where it is piped."""
    console = Console()
    if console.is_terminal:
        console.print(table)
    else:
        typer.echo(str(table))


@contextmanager
def working(what: str) -> Iterator[None]:
    """Says on the terminal what takes so long, while it does; nothing where output is piped."""
    console = Console(stderr=True)
    with console.status(f"{what} ..."):
        yield


def loaded(spec: str, weights: str, device: str | None, seed: int) -> LoadedModel:
    """Loads a model, saying so."""
    with working(f"Loading {spec}"):
        from ..models import load

        return load(spec, weights=weights, device=device, seed=seed)


def save(figure: Figure, out: Path) -> None:
    """Writes a figure; folders on the way are made."""
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150, bbox_inches="tight")
