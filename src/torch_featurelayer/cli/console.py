"""Output of the commands: text for people, JSON for programs, progress on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .._table import Table
    from ..models import LoadedModel


def print_json(value: Any) -> None:
    """Prints a value as JSON to standard output."""
    typer.echo(json.dumps(value, indent=2))


def print_lines(*lines: str) -> None:
    """Prints lines to standard output."""
    for line in lines:
        typer.echo(line)


def print_table(table: Table[Any]) -> None:
    """Prints a table: formatted for the terminal, or as plain text of any width if output is piped."""
    console = Console()
    if console.is_terminal:
        console.print(table)
    else:
        typer.echo(str(table))


@contextmanager
def status(activity: str) -> Iterator[Callable[[str], None]]:
    """Shows an activity on the terminal while it lasts; shows nothing if output is piped.

    Yields a function that adds how far it is.
    """
    console = Console(stderr=True)
    with console.status(f"{activity} ...") as shown:
        yield lambda text: shown.update(f"{activity}: {text} ...")


def load_model(spec: str, weights: str, device: str | None, seed: int) -> LoadedModel:
    """Loads a model; anything that its library prints goes to standard error, since standard output may be JSON."""
    with status(f"Loading {spec}"), redirect_stdout(sys.stderr):
        from ..models import load

        return load(spec, weights=weights, device=device, seed=seed)


def save_figure(figure: Figure, out: Path) -> Path:
    """Writes a figure, and the folders of its path.

    Args:
        figure: The figure.
        out: The file. A name without an ending gets `.png`.

    Returns:
        The file that was written.
    """
    # matplotlib would append the ending too, but the command must print the real name.
    file = out if out.suffix else out.with_name(f"{out.name}.png")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150, bbox_inches="tight")
    return file
