"""The path of a call stays short enough to read: how many of our functions and files it passes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

import torch_featurelayer as tl
from torch_featurelayer.engine import _torch_private

PACKAGE = str(Path(tl.__file__).parent)


def passed(call: Callable[[], object]) -> set[tuple[str, str]]:
    """The files and functions of the package that a call passes."""
    found = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            found.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize(("layer", "functions", "files"), [("1", 35, 8), ("2:flatten", 60, 9)])
def test_functions_and_files_of_a_call(layer: str, functions: int, files: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    wrapped, image = tl.FeatureLayer(model, layer), torch.randn(1, 3, 8, 8)
    wrapped(image)  # what happens once, such as the import of a module, is not the path of a call
    found = passed(lambda: wrapped(image))
    # Without the cheap check for a checkpointed region, which older versions lack, the region is searched for.
    if _torch_private._saved_tensor_hooks is None:
        functions, files = functions + 4, files + 2
    assert len(found) <= functions, sorted(found)
    assert len({file for file, _ in found}) <= files
