"""Runs the command as `python -m torch_featurelayer.cli`."""

from . import main

main()
