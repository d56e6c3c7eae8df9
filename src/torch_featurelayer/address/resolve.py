"""Resolves requests in a model: paths, globs, modules, types and regular expressions to named addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import nn

from .._exceptions import (
    DuplicateRequestError,
    EmptyRequestError,
    LayerNotFoundError,
    NotAModuleError,
    ScriptedModuleError,
)
from .._suggest import nearest
from .grammar import EXPERT, Address, parse
from .prefixes import aliases, without_wrappers

Selector: TypeAlias = str | nn.Module | type[nn.Module] | re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Request:
    """An address and the name of its feature.

    Attributes:
        name: The name of the feature.
        address: The address.
        pattern: The glob, type or regular expression that matched it; empty for a layer that was named itself.
    """

    name: str
    address: Address
    pattern: str = ""


def check_model(model: object) -> nn.Module:
    """Returns the model if it is an `nn.Module`.

    Raises:
        NotAModuleError: If it is not.
    """
    if not isinstance(model, nn.Module):
        raise NotAModuleError(type(model))
    return model


def resolve(model: nn.Module, selectors: Selector | Iterable[Selector]) -> tuple[Request, ...]:
    """Resolves the layers that a user requested, in the order of the request.

    The matches of a pattern are in the order of definition; a match that was named earlier keeps its place.

    Args:
        model: The model.
        selectors: The layers: addresses, globs, modules, module types or compiled regular expressions, one or several.

    Raises:
        AddressError: If an address cannot be parsed.
        LayerNotFoundError: If the model has no such layer, or no layer matches a pattern.
        EmptyRequestError: If no layer is named.
        DuplicateRequestError: If a layer is named twice.
        NotAModuleError: If the model is not an `nn.Module`.
        ScriptedModuleError: If a layer is inside a TorchScript module.
    """
    modules = dict(check_model(model).named_modules(remove_duplicate=False))
    found: dict[str, Request] = {}
    for selector in _as_list(selectors):
        requests, is_pattern = _expand(model, modules, selector)
        for request in requests:
            known = found.get(request.name)
            if known is None:
                _check_scripted(modules, request.address.path)
                found[request.name] = request
            elif not is_pattern:
                if not known.pattern:
                    raise DuplicateRequestError(request.name)
                found[request.name] = request  # named after a pattern matched it: now it must run
    if not found:
        raise EmptyRequestError
    return tuple(found.values())


def _as_list(selectors: Selector | Iterable[Selector]) -> Sequence[Selector]:
    single = isinstance(selectors, (str, nn.Module, type, re.Pattern)) or not isinstance(selectors, Iterable)
    return [selectors] if single else list(selectors)  # type: ignore[list-item, arg-type]


def _expand(model: nn.Module, modules: dict[str, nn.Module], selector: Selector) -> tuple[list[Request], bool]:
    """Returns the requests of one selector, and whether it is a pattern."""
    if isinstance(selector, str):
        requests, is_pattern = _expand_text(model, modules, selector)
        return [replace(each, address=_expert_as_module(modules, each.address)) for each in requests], is_pattern
    if isinstance(selector, nn.Module):
        return [_to_request(_find_path(model, modules, selector))], False
    if isinstance(selector, re.Pattern):
        paths = [path for path in modules if selector.fullmatch(path)]
        hint = "A regular expression must match the complete path."
        return _matches(model, modules, f"matching re.compile({selector.pattern!r})", paths, hint), True
    if isinstance(selector, type) and issubclass(selector, nn.Module):
        paths = [path for path, module in modules.items() if isinstance(module, selector)]
        return _matches(model, modules, f"of type {selector.__name__}", paths, ""), True
    raise TypeError(
        "a layer must be an address, a glob, a module, a type of modules or a compiled regular expression, "
        f"not a {type(selector).__qualname__}"
    )


def _expand_text(model: nn.Module, modules: dict[str, nn.Module], text: str) -> tuple[list[Request], bool]:
    # Such as a child that is registered as "layer:input".
    if text in modules:  # a module's own name always wins over the grammar
        return [_to_request(text)], False
    address = parse(text)
    if address.path in modules:
        return [Request(text, address)], False
    # Computed only if the path is not found: it walks all modules.
    unwrapped = aliases(modules)
    for path in (address.path, without_wrappers(address.path)):
        real = unwrapped.get(path, path)
        if real in modules and (real or not address.path):
            return [Request(text, replace(address, path=real))], False
    if not address.is_glob:
        near = nearest(address.path, modules)
        raise LayerNotFoundError(address.path, type(model).__name__, near)
    glob = _glob(address.path)
    paths = [path for path in modules if path and glob.fullmatch(path)]
    hint = "'*' matches inside one name, '**' across dots."
    plain = {} if paths else {path: real for path, real in unwrapped.items() if glob.fullmatch(path)}
    found = _matches(model, modules, address.path, paths or [*plain.values()], hint)
    names = {real: path for path, real in plain.items()}
    return [_rename(address, request.address.path, names, text) for request in found], True


def _expert_as_module(modules: dict[str, nn.Module], address: Address) -> Address:
    """Returns the address of the module of an expert, where each expert is a module of its own."""
    if address.operation != EXPERT:
        return address
    number = address.number
    places = (f"{address.path}.{inside}" for inside in (number, f"experts.{number}", f"experts.expert_{number}"))
    own = next((place for place in places if place in modules), None)
    return address if own is None else replace(address, path=own, operation=None, number=None)


def _to_request(path: str) -> Request:
    return Request(path, Address(path))


def _rename(address: Address, path: str, names: dict[str, str], pattern: str) -> Request:
    shown = replace(address, path=names.get(path, path))
    return Request(str(shown), replace(address, path=path), pattern)


def _find_path(model: nn.Module, modules: dict[str, nn.Module], wanted: nn.Module) -> str:
    for path, module in modules.items():
        if module is wanted:
            return path
    same = [path for path, module in modules.items() if type(module) is type(wanted)]
    hint = "This module is not part of the model; it may have been copied or replaced."
    raise LayerNotFoundError(f"<{type(wanted).__name__}>", type(model).__name__, same[:3], hint)


def _matches(model: nn.Module, modules: dict[str, nn.Module], what: str, paths: list[str], hint: str) -> list[Request]:
    """Returns requests for the paths that can run; a container without a forward cannot."""
    runnable = [path for path in paths if has_forward(modules[path])]
    hookable = [path for path in runnable if _find_script_module(modules, path) is None]
    runnable = hookable or runnable  # a pattern of scripted layers alone is refused where they are check_model
    if not runnable:
        raise LayerNotFoundError(what, type(model).__name__, nearest(what, modules), hint)
    return [Request(path, Address(path), what) for path in runnable]


def has_forward(module: nn.Module) -> bool:
    """Whether a module has a forward, unlike a container such as `nn.ModuleList`."""
    return getattr(type(module), "forward", None) is not nn.Module.forward or "forward" in vars(module)


def _glob(pattern: str) -> re.Pattern[str]:
    """Translates `*` and `?` (inside one name) and `**` (across dots) to a regular expression."""
    wild = {"**": ".*", "*": r"[^.]*", "?": r"[^.]"}
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    return re.compile("".join(wild.get(part, re.escape(part)) for part in parts))


def _check_scripted(modules: dict[str, nn.Module], path: str) -> None:
    scripted = _find_script_module(modules, path)
    if scripted is not None:
        raise ScriptedModuleError(path, scripted)


def _find_script_module(modules: dict[str, nn.Module], path: str) -> str | None:
    """Returns the path of the TorchScript module that a layer is, or is inside."""
    around = (*ancestors(path), path)
    return next((outer for outer in around if isinstance(modules.get(outer), torch.jit.ScriptModule)), None)


def locate(model: nn.Module, requests: Iterable[Request]) -> dict[str, nn.Module]:
    """Returns the modules that requests name and the modules around those, by path: outer before inner.

    Raises:
        LayerNotFoundError: If a layer has been removed from the model since the request was resolved.
    """
    found = {"": model}
    for request in requests:
        path, module, outer = request.address.path, model, ""
        if path in found:
            continue
        for name in path.split("."):
            child = module._modules.get(name)
            if child is None:
                break
            module, outer = child, f"{outer}.{name}" if outer else name
            found[outer] = module
        if path not in found:
            found[path] = _with_dots(model, path)
    return found


def _with_dots(model: nn.Module, path: str) -> nn.Module:
    """Returns a module in whose path a name contains a dot.

    Raises:
        LayerNotFoundError: If a layer has been removed from the model since the request was resolved.
    """
    found: nn.Module | None = dict(model.named_modules(remove_duplicate=False)).get(path)
    if found is not None:
        return found
    raise LayerNotFoundError(path, type(model).__name__, [], "It was there before.")


def ancestors(path: str) -> Iterator[str]:
    """Yields the paths of the modules around a module, the model (`""`) first.

    Examples:
        >>> list(ancestors("layer1.0.conv1"))
        ['', 'layer1', 'layer1.0']
    """
    if path:
        yield ""
    dot = path.find(".")
    while dot >= 0:
        yield path[:dot]
        dot = path.find(".", dot + 1)
