"""The features of a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

from torch import Tensor
from torch.utils import _pytree as torch_pytree

from ._exceptions import FeatureNotFoundError
from ._pytree import snapshot
from .engine import GradientHandle

__all__ = ["Features"]


class Features(Sequence[Any]):
    """The features of one run: a sequence in the order asked for, that also answers by name.

    Iterating gives the features. A gradient (`layer:grad_output`) is looked up
    as it is read: before `backward()` has brought it, reading it is an error.

    Examples:
        >>> feats = Features(["conv", "relu"], [torch.zeros(2), torch.ones(2)])
        >>> feats[1] is feats["relu"], len(feats), "conv" in feats
        (True, 2, True)
        >>> conv, relu = feats
    """

    __slots__ = ("_names", "_not_run", "_values")

    def __init__(self, names: Iterable[str], values: Iterable[Any], not_run: Iterable[str] = ()) -> None:
        self._names, self._values, self._not_run = tuple(names), tuple(values), tuple(not_run)
        if len(self._names) != len(self._values):
            raise ValueError(f"{len(self._names)} names for {len(self._values)} features")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in the order of the request; a pattern gives the layers it matched that ran."""
        return self._names

    @property
    def not_run(self) -> tuple[str, ...]:
        """The layers that a pattern matched and this forward pass did not call, such as a `Dropout` in eval mode."""
        return self._not_run

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, key: int | str) -> Tensor | Any: ...
    @overload
    def __getitem__(self, key: slice) -> Features: ...
    def __getitem__(self, key: int | str | slice) -> Any:
        """Returns the feature at a position or of a name, or the features of a slice.

        Raises:
            FeatureNotFoundError: If there is no feature of that name.
            IndexError: If there is no such position.
            GradientError: If the gradient has not arrived.
        """
        if isinstance(key, slice):
            return Features(self.names[key], self._values[key], self.not_run)
        return _read(self._at(self._position(key) if isinstance(key, str) else key))

    def _at(self, position: int) -> Any:
        return self._values[position]

    def _position(self, name: str) -> int:
        if name not in self.names:
            raise FeatureNotFoundError(name, self.names)
        return self.names.index(name)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[Tensor | Any]:
        return map(_read, self._values)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def keys(self) -> tuple[str, ...]:
        """Returns the names, as a dict would."""
        return self.names

    def values(self) -> list[Tensor | Any]:
        """Returns the features, as a dict would."""
        return list(self)

    def items(self) -> list[tuple[str, Tensor | Any]]:
        """Returns pairs of name and feature, as a dict would."""
        return list(zip(self.names, self, strict=True))

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the feature of a name, or the default."""
        return self[name] if name in self else default  # noqa: SIM401 (this is that get)

    def to_dict(self) -> dict[str, Tensor | Any]:
        """Returns a new dict from name to feature, in the order asked for."""
        return dict(self.items())

    def to(self, *args: Any, **kwargs: Any) -> Features:
        """Returns features moved or converted as `torch.Tensor.to` does."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def cpu(self) -> Features:
        """Returns features in host memory."""
        return self._map(Tensor.cpu)

    def detach(self) -> Features:
        """Returns features cut from the graph: views of the same memory."""
        return self._map(Tensor.detach)

    def _map(self, fn: Callable[[Tensor], Tensor]) -> Features:
        return Features(self.names, [snapshot(_read(value), fn) for value in self._values], self.not_run)

    def __repr__(self) -> str:
        return f"Features({', '.join(f'{n!r}: {_summary(v)}' for n, v in zip(self.names, self._values, strict=True))})"


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(part) for part in value]
    return value.value if isinstance(value, GradientHandle) else value


def _summary(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return "gradient" if isinstance(value, GradientHandle) else type(value).__name__


torch_pytree.register_pytree_node(
    Features,
    lambda features: (features.values(), (features.names, features.not_run)),
    lambda values, context: Features(context[0], values, context[1]),
    serialized_type_name="torch_featurelayer.Features",
)
