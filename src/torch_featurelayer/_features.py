"""`Features`: the features of one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, overload

from torch import Tensor
from torch.utils import _pytree as torch_pytree

from ._exceptions import FeatureLayerError, FeatureNotFoundError
from ._pytree import snapshot
from .engine import GradientHandle

__all__ = ["Features"]


class Features:
    """The features of one forward pass, in the order of the request, which can also be indexed by layer name.

    As in a pandas `Series`, iteration and unpacking give the features, and `in` tests the names. `keys`, `values` and
    `items` are those of a dict. A gradient (`layer:grad_output`) is read when it is indexed: before `backward()` has
    computed it, that raises a `GradientError`.

    Args:
        names: The names of the features.
        values: The features, one for each name.
        not_run: The names of layers that a pattern matches and that did not run. Default: none.

    Raises:
        ValueError: If the numbers of names and features differ.

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
            raise ValueError(f"{len(self._names)} names were given for {len(self._values)} features")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features in the order of the request; for a pattern, those of its layers that ran."""
        return self._names

    @property
    def not_run(self) -> tuple[str, ...]:
        """The names of the layers that match a pattern and were not called, such as a `Dropout` in eval mode."""
        return self._not_run

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, key: int | str) -> Tensor | Any: ...
    @overload
    def __getitem__(self, key: slice) -> Features: ...
    def __getitem__(self, key: int | str | slice) -> Any:
        """Returns the feature at a position or of a name, or the `Features` of a slice.

        Raises:
            FeatureNotFoundError: If no feature has this name.
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

    def keys(self) -> tuple[str, ...]:
        """Returns the names of the features."""
        return self.names

    def values(self) -> list[Tensor | Any]:
        """Returns the features."""
        return list(self)

    def items(self) -> list[tuple[str, Tensor | Any]]:
        """Returns pairs of name and feature."""
        return list(zip(self.names, self, strict=True))

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the feature of a name.

        Args:
            name: The name of the feature.
            default: The value to return if no feature has this name. Default: None.
        """
        return self[name] if name in self else default  # noqa: SIM401 (this is that get)

    def to_dict(self) -> dict[str, Tensor | Any]:
        """Returns a new dict from name to feature, in the order of the request."""
        return dict(self.items())

    def to(self, *args: Any, **kwargs: Any) -> Features:
        """Moves or converts the tensors.

        Args:
            *args: The positional arguments of `torch.Tensor.to`.
            **kwargs: The keyword arguments of `torch.Tensor.to`.

        Returns:
            A new `Features`. As in `torch.Tensor.to`, tensors that need no change are not copied.
        """
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def cpu(self) -> Features:
        """Returns a new `Features` with tensors on the CPU; those that are there are not copied."""
        return self._map(Tensor.cpu)

    def detach(self) -> Features:
        """Returns a new `Features` with detached tensors: views of the same memory."""
        return self._map(Tensor.detach)

    def _map(self, fn: Callable[[Tensor], Tensor]) -> Features:
        return Features(self.names, [snapshot(_read(value), fn) for value in self._values], self.not_run)

    def __repr__(self) -> str:
        pairs = zip(self.names, self._values, strict=True)
        return f"{type(self).__name__}({', '.join(f'{name!r}: {_summary(value)}' for name, value in pairs)})"

    def _repr_html_(self) -> str:
        """Returns a table for notebooks: name, shape, dtype, range, values that are not finite, and a small map."""
        from ._html import features_table  # needed only in notebooks

        return features_table(type(self).__name__, self._rows(), self.not_run)

    def _rows(self) -> Iterator[tuple[str, Any]]:
        """Yields names and features; in place of a feature that cannot be read yet, the exception."""
        for position, name in enumerate(self.names):
            try:
                yield name, _read(self._at(position))
            except FeatureLayerError as error:
                yield name, error


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
