"""Runs the command as `python -m torch_featurelayer`."""

from .cli import main

main()
