"""The parts of code and the values that it refers to, for its identity."""

from __future__ import annotations

import dis
import functools
import os
import re
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module, metadata
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

_ADDED: Final = frozenset(
    ["__module__", "__doc__", "__qualname__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__"]
)
_SLOTS: Final = (types.MemberDescriptorType, types.GetSetDescriptorType)
_CODE: Final = (types.FunctionType, property, classmethod, staticmethod, functools.partial)
_CONSTANTS: Final = (type(None), type(...), bool, int, float, complex, str, tuple, list, dict, Tensor)
# Where packages are installed, in an environment, by a user or by a system.
_LIBRARIES: Final = frozenset(["site-packages", "dist-packages"])


def code_parts(code: types.CodeType) -> tuple[Any, ...]:
    """Returns the bytecode, the constants and the names of code."""
    # Without line numbers, names of variables and names of files, which do not change what the code computes.
    return code.co_code, code.co_consts, code.co_names, code.co_argcount, code.co_kwonlyargcount, code.co_flags


def references(function: types.FunctionType) -> tuple[list[Any], list[tuple[str, Any]]]:
    """Returns the values that a function, and those inside, refer to: of enclosing functions, and by name of others.

    A module of the user stands for its attributes that the code may read: those that have a name in the code.
    """
    codes = list(_codes(function.__code__))
    names = {name for code in codes for name in code.co_names if not name.startswith("__")}
    known = function.__globals__
    found = {name: known[name] for code in codes for name in _global_names(code) if name in known}
    for code in codes:
        found.update(_imported(code, known))
    seen: set[str] = set()
    enclosed = [_read_of(_content(cell), names, seen) for cell in function.__closure__ or ()]
    return enclosed, [(name, _read_of(value, names, seen)) for name, value in sorted(found.items())]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _codes(part)


def _global_names(code: types.CodeType) -> Iterator[str]:
    return (found.argval for found in dis.get_instructions(code) if found.opname in ("LOAD_GLOBAL", "LOAD_NAME"))


def _imported(code: types.CodeType, known: Mapping[str, Any]) -> Iterator[tuple[str, types.ModuleType]]:
    """Yields the modules that code imports when it runs; those of the user are imported now."""
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("EXTENDED_ARG", "CACHE")]
    for level, names, step in zip(steps, steps[1:], steps[2:], strict=False):
        if step.opname != "IMPORT_NAME":
            continue
        with suppress(Exception):  # the code says what it does then
            name = resolve_name("." * level.argval + step.argval, known.get("__package__") or "")
            # `import a.b` gives the code `a`, and `from a.b import c` what is in `a.b`.
            module = name if names.argval else name.partition(".")[0]
            if not is_installed(module):
                import_module(name)
            if module in sys.modules:
                yield name, sys.modules[module]


def _read_of(value: Any, names: set[str], seen: set[str]) -> Any:
    """Returns a value; of a module of the user, its attributes with some names."""
    if not isinstance(value, types.ModuleType) or is_installed(value.__name__):
        return value
    if value.__name__ in seen:
        return value.__name__
    seen.add(value.__name__)
    return [(name, _read_of(getattr(value, name), names, seen)) for name in sorted(names) if hasattr(value, name)]


def script_parts(script: torch.jit.ScriptModule) -> list[Any]:
    """Returns the code of a TorchScript module, with the constants and attributes that it reads, without submodules."""
    handle = script._c
    methods = [handle._get_method(name).code_with_constants for name in sorted(handle._method_names())]
    sources = [_without_numbers(source) for source, _ in methods]
    names = sorted({name for source in sources for name in re.findall(r"\.(\w+)", source)})
    values = [(name, handle.getattr(name)) for name in names if handle.hasattr(name)]
    own = [pair for pair in values if not isinstance(pair[1], torch.ScriptObject)]
    return [sources, [constants for _, constants in methods], own]


def script_function_parts(function: Any) -> list[Any]:
    """Returns the code of a TorchScript function, with the tensors that are constants in it."""
    nodes = function.graph.findAllNodes("prim::Constant")
    tensors = [node.t("value") for node in nodes if node.hasAttribute("value") and node.kindOf("value") == "t"]
    return [_without_numbers(function.code), tensors]


def graph_parts(module: torch.fx.GraphModule) -> list[Any]:
    """Returns the code of a traced module, with the functions and tensors that it refers to."""
    functions = [node.target for node in module.graph.nodes if callable(node.target)]
    tensors = [pair for pair in sorted(vars(module).items()) if isinstance(pair[1], Tensor)]
    return [module.code, functions, tensors]


def _without_numbers(source: str) -> str:
    """Returns TorchScript without the numbers that make names of types unique: other ones in each process."""
    return re.sub(r"\.___torch_mangle_\d+", "", source)


def class_members(kind: type) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Returns the attributes of a class by name: its code and constants, and other objects."""
    members = [pair for pair in sorted(vars(kind).items()) if _is_own(*pair)]
    code = [(name, value) for name, value in members if isinstance(value, (*_CODE, *_CONSTANTS))]
    return code, [(name, value) for name, value in members if not isinstance(value, (*_CODE, *_CONSTANTS))]


def _is_own(name: str, value: Any) -> bool:
    """Whether an attribute of a class is not one that Python adds to every class."""
    return name not in _ADDED and not name.startswith(("_abc_", "__annot")) and not isinstance(value, _SLOTS)


def replaced_functions(kind: type) -> list[tuple[str, types.FunctionType]]:
    """Returns the functions of the user in an installed class, in its bases, and in their modules.

    They were put there when the program runs, in place of functions of the package.
    """
    modules = {base.__module__: sys.modules.get(base.__module__) for base in kind.__mro__}
    functional = torch.nn.functional if issubclass(kind, torch.nn.Module) else None
    places = [place for place in (*kind.__mro__, *modules.values(), functional) if place is not None]
    return [pair for place in places for pair in sorted(vars(place).items()) if _is_replaced(pair[1])]


def _is_replaced(value: Any) -> bool:
    return isinstance(value, types.FunctionType) and not is_installed(value.__module__ or "builtins")


def wrapped_functions(value: Any) -> list[Any]:
    """Returns the functions of a property, a cached property, a class method or a static method."""
    names = ("fget", "fset", "func", "__func__")
    return [getattr(value, name) for name in names if hasattr(value, name)]


def _content(cell: types.CellType) -> Any:
    """Returns the value of a variable of an enclosing function; None if it is assigned later."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


@functools.cache
def is_installed(module: str) -> bool:
    """Whether a module is part of Python or of an installed package, not code of the user."""
    root = module.partition(".")[0]
    if root in ("torch_featurelayer", "builtins"):
        return True
    if root in ("__main__", "__mp_main__"):  # also of a process that a package starts, such as a kernel or a worker
        return False
    places = [Path(place) for place in _places(root)]
    if root in sys.stdlib_module_names:
        return all(_is_python(place) for place in places)  # a file of the user may have the name of one of Python
    return any(_holds_packages(place.parent) for place in places)


def _places(root: str) -> Iterable[str]:
    """Returns the folders of a package, or the file of a module; nothing for one that is built in."""
    found: Any = sys.modules.get(root)
    if found is None:
        with suppress(ImportError, ValueError):
            found = find_spec(root)
    folders = getattr(found, "__path__", None) or getattr(found, "submodule_search_locations", None)
    file = getattr(found, "__file__", None) or (
        getattr(found, "origin", None) if getattr(found, "has_location", False) else None
    )
    return folders or ([file] if file else [])


def _is_python(place: Path) -> bool:
    roots = sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), Path(os.__file__).parent
    return any(place.resolve().is_relative_to(Path(root).resolve()) for root in roots)


def _holds_packages(folder: Path) -> bool:
    """Whether packages are installed to a folder: site-packages or a folder inside, or one of `pip --target`."""
    return not _LIBRARIES.isdisjoint(folder.parts) or any(folder.glob("*.dist-info"))


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns the versions of packages, as the packages or else their metadata state them."""
    found = {name: _version(name) for name in sorted(packages)}
    return {name: version for name, version in found.items() if version is not None}


def _version(name: str) -> str | None:
    stated = getattr(sys.modules.get(name), "__version__", None)
    if stated is not None:
        return str(stated)
    for distribution in metadata.packages_distributions().get(name, ()):
        return metadata.version(distribution)
    return None
