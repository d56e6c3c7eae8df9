"""A capture belongs to its thread and its asyncio task."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from torch import Tensor, nn

import torch_featurelayer as tl


async def steps(model: nn.Module, x: Tensor, count: int) -> None:
    for _ in range(count):
        model(x)
        await asyncio.sleep(0)


def test_captures_of_two_tasks(small: nn.Module) -> None:
    x = torch.randn(1, 4)

    async def work(count: int, scale: float) -> int:
        with tl.capture(small, ["0", "1:relu"], keep="all") as record:
            await steps(small, x * scale, count)
        assert all(torch.equal(feat, small[0](x * scale)) for feat in record["0"])
        assert len(record["1:relu"]) == count
        return len(record["0"])

    async def both() -> list[int]:
        return await asyncio.gather(work(3, 1.0), work(5, 2.0), work(1, 3.0))

    assert asyncio.run(both()) == [3, 5, 1]


def test_edits_of_two_tasks(small: nn.Module) -> None:
    x = torch.randn(1, 4)

    async def work(value: float | None) -> list[Tensor]:
        outputs = []
        for _ in range(3):
            if value is None:
                outputs.append(small(x))
            else:
                with tl.edit(small, {"0": value}):
                    await asyncio.sleep(0)
                    outputs.append(small(x))
            await asyncio.sleep(0)
        return outputs

    async def both() -> list[list[Tensor]]:
        return await asyncio.gather(work(2.0), work(None), work(-1.0))

    right = [small[2:](torch.full((1, 3), value).relu()) for value in (2.0, -1.0)]
    edited, plain, other = asyncio.run(both())
    assert all(torch.equal(output, small(x)) for output in plain)
    for outputs, wanted in ((edited, right[0]), (other, right[1])):
        assert all(torch.equal(output, wanted) for output in outputs)


def test_a_task_started_inside_belongs_to_it(small: nn.Module) -> None:
    x = torch.randn(1, 4)

    async def outer() -> int:
        with tl.capture(small, "0", keep="all") as record:
            await asyncio.create_task(steps(small, x, 2))
        return len(record["0"])

    assert asyncio.run(outer()) == 2


def test_a_context_that_is_closed_elsewhere(small: nn.Module) -> None:
    """As pytest plug-ins close fixtures: entered in one context, left in another."""
    import contextvars

    x = torch.randn(1, 4)
    manager = tl.capture(small, "0", keep="all")
    record = contextvars.copy_context().run(manager.__enter__)
    small(x)
    manager.__exit__(None, None, None)
    with pytest.raises(tl.LayerNotRunError, match="ran in another thread or asyncio task"):
        _ = record["0"]
    assert not small[0]._forward_hooks


def test_layers_in_a_thread_are_named_in_the_error() -> None:
    class InThread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            done: list[Tensor] = []
            thread = threading.Thread(target=lambda: done.append(self.layer(x)))
            thread.start()
            thread.join()
            return done[0]

    with pytest.raises(tl.LayerNotRunError, match="ran in another thread"):
        tl.FeatureLayer(InThread(), "layer")(torch.randn(1, 4))
