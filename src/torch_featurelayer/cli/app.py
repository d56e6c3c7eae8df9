"""The application: all commands, their errors and exit codes, and the version."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from .._exceptions import FeatureLayerError
from .._version import __version__
from . import cam, check, compare, demo, diff, duplicates, explore, extract, layers, probe, search, show, stats
from .messages import describe_error


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Prints a warning as one line."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[yellow]warning:[/] {escape(str(message))}")


class _App(typer.Typer):
    """Prints a user's error as one line, without a traceback, and exits with 1; usage errors exit with 2."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().__call__(*args, **kwargs)
        # Everything else is a fault of this package, and keeps its traceback.
        except (FeatureLayerError, OSError, ValueError) as error:
            text = escape(describe_error(error))
            Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {text}")
            sys.exit(1)


app = _App(
    name="featurelayer",
    help="See, keep and change what happens inside a PyTorch model.",
    epilog="First steps: [bold]featurelayer demo[/], then [bold]featurelayer layers torchvision:resnet18[/].",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("layers")(layers.layers)
app.command("show")(show.show)
app.command("compare")(compare.compare)
app.command("cam")(cam.cam)
app.command("diff")(diff.diff)
app.command("check")(check.check)
app.command("stats")(stats.stats)
app.command("probe")(probe.probe)
app.command("extract")(extract.extract)
app.command("search")(search.search)
app.command("duplicates")(duplicates.duplicates)
app.command("explore")(explore.explore)
app.command("demo")(demo.demo)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"featurelayer {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See, keep and change what happens inside a PyTorch model."""
