"""The versions of the packages that run the tests, and what only newer ones can do."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

from torch_featurelayer.engine.compiled_forward import OLDEST_TRACING


def installed(package: str) -> tuple[int, ...]:
    """The first two numbers of a version; 0 for a package that is not installed."""
    try:
        return tuple(int(part) for part in version(package).partition("+")[0].split(".")[:2])
    except PackageNotFoundError:
        return (0,)


TORCH, TRANSFORMERS = installed("torch"), installed("transformers")
# Where the states of a token are in the output of a block: in transformers 4, some blocks return a tuple.
STATES = "[0]" if TRANSFORMERS < (5,) else ""

traces = pytest.mark.skipif(TORCH < OLDEST_TRACING, reason=f"torch.compile traces our hooks from {OLDEST_TRACING} on")
compiles_ahead = pytest.mark.skipif(TORCH < (2, 6), reason="AOTInductor compiles to a file from 2.6 on")
runs_compiled_eagerly = pytest.mark.skipif(TORCH < (2, 6), reason="compiled models run eagerly from 2.6 on")
adapts = pytest.mark.skipif(installed("torchao") < (0, 16), reason="peft needs torchao 0.16, which needs PyTorch 2.8")
shards = pytest.mark.skipif(TORCH < (2, 6), reason="FSDP2 runs on CPUs from PyTorch 2.6 on")
