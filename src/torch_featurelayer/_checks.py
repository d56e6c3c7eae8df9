"""Checks of options, before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from operator import index
from typing import Any, get_args

import torch

__all__ = ["check_arguments", "check_choice", "check_counts", "check_device", "check_dtype"]


def check_counts(least: int = 1, **counts: Any) -> None:
    """Checks that options are whole numbers.

    Args:
        least: The least number that is allowed. Default: 1.
        **counts: The options by name; None is allowed for all.

    Raises:
        TypeError: If one is not a whole number.
        ValueError: If one is less.
    """
    for name, count in counts.items():
        if count is None:
            continue
        try:
            index(count)
        except (TypeError, RuntimeError):  # a tensor without elements
            raise TypeError(f"{name} must be a whole number, not {count!r}") from None
        if count < least:
            raise ValueError(f"{name} must be at least {least}, not {count}")


def check_arguments(name: str, given: Any, known: Collection[str] = ()) -> None:
    """Checks that an option is a dict of arguments.

    Args:
        name: The name of the option.
        given: The option; None is allowed.
        known: The names of the arguments. Default: empty, any names.

    Raises:
        TypeError: If it is no dict, or has an argument of another name.
    """
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a dict of arguments, not {given!r}")
    if unknown := [each for each in given or () if known and each not in known]:
        raise TypeError(f"{name} has the arguments {', '.join(known)}, and not {unknown[0]!r}")


def check_choice(choices: Any, **options: Any) -> None:
    """Checks that options have one of some values.

    Args:
        choices: A `Literal` of the values.
        **options: The options by name.

    Raises:
        ValueError: If one has another value.
    """
    names = get_args(choices)
    for name, value in options.items():
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"{name} must be {' or '.join(map(repr, names))}, not {value!r}")


def check_dtype(dtype: Any, name: str = "dtype") -> None:
    """Checks that an option is a floating-point dtype.

    Args:
        dtype: The option; None is allowed.
        name: The name of the option. Default: `"dtype"`.

    Raises:
        TypeError: If it is not a dtype.
        ValueError: If it is a dtype of integers, complex numbers or bools, which would change values.
    """
    if dtype is None:
        return
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{name} must be a torch.dtype, such as torch.float16, not {dtype!r}")
    if not dtype.is_floating_point:
        raise ValueError(f"{name} must be a floating-point type, not {dtype}, which would change values")


def check_device(device: Any) -> None:
    """Checks that an option names a device, which need not exist on this machine.

    Args:
        device: The option; None is allowed.

    Raises:
        TypeError: If it is neither a text, a number nor a device.
        ValueError: If PyTorch knows no such device.
    """
    if device is None:
        return
    if isinstance(device, bool) or not isinstance(device, (str, int, torch.device)):
        raise TypeError(f"device must be a name such as 'cuda:0', a number or a torch.device, not {device!r}")
    try:
        torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r}: {str(error).splitlines()[0]}") from None
