"""Small models with one awkward habit each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Pair(NamedTuple):
    first: Tensor
    second: Tensor | None


@dataclass
class Answer:
    logits: Tensor
    hidden: tuple[Tensor, ...]
    note: str = "as it was"


class Cache:
    """A plain object that holds tensors and is written to later."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys


class Returns(nn.Module):
    """Returns what a function makes of its input."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.make(*args, **kwargs)


class Spoils(nn.Module):
    """Overwrites every tensor its layer returned, after a copy for itself."""

    def __init__(self, layer: nn.Module, spoil: Any) -> None:
        super().__init__()
        self.layer, self.spoil = layer, spoil

    def forward(self, x: Tensor) -> Any:
        value = self.layer(x)
        self.spoil(value)
        return x.sum()


class Repeats(nn.Module):
    """Calls one layer several times; counts how often anything ran."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.layer, self.after = nn.Linear(4, 4), nn.Linear(4, 2)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.layer(x).relu_()
        return self.after(x)


class RepeatsByValue(Repeats):
    """Calls its layer as often as the first value of its input says."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x[0, 0])):
            x = self.layer(x).relu_()
        return self.after(x)


TIMES = 1


class RepeatsByGlobal(Repeats):
    """Calls its layer as often as a global variable says."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(TIMES):
            x = self.layer(x).relu_()
        return self.after(x)


class Keywords(nn.Module):
    """Can be called by keywords only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Returns(lambda *, x, scale: x * scale)

    def forward(self, *, x: Tensor, scale: float = 2.0) -> Tensor:
        return self.layer(x=x, scale=scale)


class Swallows(nn.Module):
    """Catches every exception of its layers, as robust code does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.after = nn.Linear(4, 4), nn.Linear(4, 2)
        self.reached = 0

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = self.layer(x)
        except Exception:  # noqa: BLE001
            x = torch.zeros_like(x)
        self.reached += 1
        return self.after(x)


class Discards(nn.Module):
    """Relies on a layer changing its input in place, and ignores what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        self.act(x)
        return self.last(x)


class Raises(nn.Module):
    """Wraps a layer so that it raises instead of running."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, *_: Any, **__: Any) -> Any:
        raise self.error
