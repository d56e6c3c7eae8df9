"""Fixtures shared by the tests."""

from __future__ import annotations

import os

# The workers of pytest-xdist, and the processes that tests start, share the cores: threads that wait must not spin.
# Before torch is imported, which reads it once.
os.environ["OMP_WAIT_POLICY"] = "passive"

import pytest
import torch
from torch import nn
from torchvision import models

torch.set_num_threads(1)  # more threads in each worker makes it ten times slower


@pytest.fixture(autouse=True)
def _seeded(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    # No mode that was measured in another test, or for the user of this machine, is remembered.
    monkeypatch.setenv("FEATURELAYER_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64)


@pytest.fixture
def resnet18() -> nn.Module:
    return models.resnet18(weights=None).eval()


@pytest.fixture
def small() -> nn.Module:
    """Linear, in-place ReLU, Linear: the smallest model that plain hooks get wrong."""
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
