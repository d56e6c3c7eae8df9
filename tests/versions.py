"""The PyTorch that runs the tests."""

from __future__ import annotations

import torch

TORCH = tuple(int(part) for part in torch.__version__.partition("+")[0].split(".")[:2])
