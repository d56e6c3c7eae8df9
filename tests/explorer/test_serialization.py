"""Frames hold what was put in, wherever the header ends."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from torch_featurelayer.explorer.serialization import frame, quantize


def unpacked(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the page does."""
    length = int.from_bytes(content[:4], "little")
    header = json.loads(content[4 : 4 + length])
    body = content[4 + length :]
    arrays = {
        name: torch.from_numpy(
            np.frombuffer(body, told["dtype"], int(np.prod(told["shape"])), told["offset"])
            .reshape(told["shape"])
            .copy()
        )
        for name, told in header.pop("arrays").items()
    }
    return header, arrays


@given(text=st.text(), shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=4))
def test_a_frame_gives_back_what_it_holds(text: str, shapes: list[list[int]]) -> None:
    arrays = {
        str(number): (torch.rand(shape) * 100).to(dtype)
        for number, shape in enumerate(shapes)
        for dtype in [[torch.uint8, torch.float32, torch.int32][number % 3]]
    }
    content = frame({"text": text}, arrays)
    header, found = unpacked(content)
    assert header == {"text": text}
    assert (4 + int.from_bytes(content[:4], "little")) % 8 == 0
    for name, array in arrays.items():
        assert torch.equal(found[name], array)


def test_levels_span_the_range_and_leave_zero_for_what_is_no_number() -> None:
    maps = torch.tensor([[[0.0, 0.5, 1.0, float("nan"), float("inf"), 7.0]]])
    levels = quantize(maps, torch.tensor([0.0]), torch.tensor([1.0]))
    assert levels.tolist() == [[[1, 128, 255, 0, 0, 255]]]


def test_numbers_that_json_does_not_have() -> None:
    """NaN and infinite numbers come as null."""
    told = frame({"classes": [("cat", math.nan)], "low": [1.0, math.inf]}, {})
    length = int.from_bytes(told[:4], "little")
    header = json.loads(told[4 : 4 + length])
    assert header["classes"] == [["cat", None]]
    assert header["low"] == [1.0, None]
