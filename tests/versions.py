"""The PyTorch that runs the tests, and what only newer versions can do."""

from __future__ import annotations

import pytest
import torch

from torch_featurelayer.engine.compiled_forward import OLDEST_TRACING

TORCH = tuple(int(part) for part in torch.__version__.partition("+")[0].split(".")[:2])

traces = pytest.mark.skipif(TORCH < OLDEST_TRACING, reason=f"torch.compile traces our hooks from {OLDEST_TRACING} on")
compiles_ahead = pytest.mark.skipif(TORCH < (2, 6), reason="AOTInductor compiles to a file from 2.6 on")
runs_compiled_eagerly = pytest.mark.skipif(TORCH < (2, 6), reason="compiled models run eagerly from 2.6 on")
