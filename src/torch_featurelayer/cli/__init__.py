"""The command line interface, `featurelayer`.

No module here imports torch before a command needs it, so that `--help` is fast.
"""

from __future__ import annotations

import sys

from .._exceptions import MissingExtraError
from .._optional import need


def main() -> None:
    """Runs the command line interface: the entry point of the distribution."""
    try:
        need("typer", "cli")
    except MissingExtraError as error:
        sys.exit(f"error: {error}")
    from .app import app

    app(prog_name="featurelayer")
