"""The grammar of addresses, `path[@call][:operation[.k]][:port][index]`, from text to a frozen `Address` and back.

It uses only the standard library: `resolve` checks whether a layer exists.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from .._exceptions import AddressError
from .._suggest import nearest

Call: TypeAlias = int | Literal["*"] | None
Step: TypeAlias = int | str
Port: TypeAlias = Literal["output", "input", "grad_output", "grad_input"]

PORTS: Final[tuple[Port, ...]] = ("output", "input", "grad_output", "grad_input")
GRADIENT_PORTS: Final[frozenset[Port]] = frozenset({"grad_output", "grad_input"})

ATTENTION_WEIGHTS: Final = "attention_weights"  # an operation that is computed on request, beside the model

# Parts of a mixture of experts, which are computed from the arguments of its experts.
EXPERT: Final = "expert"
ROUTER_LOGITS: Final = "router_logits"
ROUTER_INDICES: Final = "router_indices"
ROUTER_SCORES: Final = "router_scores"
EXPERT_PARTS: Final = frozenset({EXPERT, ROUTER_LOGITS, ROUTER_INDICES, ROUTER_SCORES})

_PATH = re.compile(r"[^@:\[\]]*")
_CALL = re.compile(r"\*|-?\d+")
_WORD = re.compile(r"[A-Za-z_]\w*")
_NUMBER = re.compile(r"\d+")
_QUOTED = re.compile(r"'(?:[^'\\\n]|\\[^\n])*'|\"(?:[^\"\\\n]|\\[^\n])*\"")
_STEP = re.compile(rf"-?\d+|[A-Za-z_]\w*|{_QUOTED.pattern}")
_NEEDS_QUOTES = re.compile(r"[@:\[\]'\"\\\s]")


@dataclass(frozen=True, slots=True)
class Address:
    """A place in a model: a module, one of its calls, a port, and a part of the value.

    Attributes:
        path: The path of a module, or a glob; `""` for the model itself. In text, a path with blanks, quotes or any of
            `@:[]` is quoted.
        call: The call: a number from 0, a negative number from the end, `"*"` for all calls, or None for the last call.
        port: One of `PORTS`.
        index: Steps into a structured value: positions of tuples, keys or attributes.
        operation: The functional operation inside the module that the port belongs to; None for the module itself.
        number: The number of the operation among those of its name in one call of the module, from 0; or the number of
            an expert.
    """

    path: str
    call: Call = None
    port: Port = "output"
    index: tuple[Step, ...] = ()
    operation: str | None = None
    number: int | None = None

    @property
    def is_gradient(self) -> bool:
        """Whether the value is a gradient, which `backward()` computes."""
        return self.port in GRADIENT_PORTS

    @property
    def is_expert_part(self) -> bool:
        """Whether the value is a part of a mixture of experts."""
        return self.operation in EXPERT_PARTS

    @property
    def is_glob(self) -> bool:
        """Whether the path can match several modules."""
        return "*" in self.path or "?" in self.path

    def __str__(self) -> str:
        call = "" if self.call is None else f"@{self.call}"
        number = "" if self.number is None else f"[{self.number}]" if self.is_expert_part else f".{self.number}"
        operation = "" if self.operation is None else f":{self.operation}{number}"
        port = "" if self.port == "output" else f":{self.port}"
        path = repr(self.path) if _NEEDS_QUOTES.search(self.path) else self.path
        return f"{path}{call}{operation}{port}" + "".join(f"[{step!r}]" for step in self.index)


def parse(text: str) -> Address:
    """Parses an address.

    Args:
        text: The address.

    Raises:
        AddressError: If the address cannot be parsed. It shows the position of the error.

    Examples:
        >>> parse("encoder.3@-1:output[0]['last']")
        Address(path='encoder.3', call=-1, port='output', index=(0, 'last'), operation=None, number=None)
        >>> parse("layer1.0:add.1:input").operation
        'add'
    """
    return _Reader(text).address()


class _Reader:
    """A cursor over the text of an address."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def address(self) -> Address:
        path = self.path()
        call = self.call() if self.skip("@") else None
        operation, number, port = self.place() if self.skip(":") else (None, None, "output")
        index = []
        while self.skip("["):
            index.append(self.step())
        if self.at < len(self.text):
            raise self.error(f"{self.text[self.at]!r} is not expected here")
        if operation == ATTENTION_WEIGHTS and port != "output":
            raise self.error(f"{ATTENTION_WEIGHTS!r} is not computed by the model: it has only an output")
        if operation in EXPERT_PARTS and port not in (("output", "input") if operation == EXPERT else ("output",)):
            raise self.error(f"{operation!r} is computed beside the model: it has no {port}")
        return Address(path, call, port, tuple(index), operation, number)

    def path(self) -> str:
        if self.text[:1] in ("'", '"'):
            return self.unquote(self.take(_QUOTED, "the closing quote of the path is missing"))
        path = self.take(_PATH, "a module path")
        for blank in re.finditer(r"\s", path):
            raise AddressError(self.text, blank.start(), "a path with blanks must be quoted: \"'my layer':input\"")
        for empty in re.finditer(r"^\.|\.(?=\.)|\.$", path):
            raise AddressError(self.text, empty.start(), "a name is missing next to this dot")
        return path

    def call(self) -> Call:
        call = self.take(_CALL, "expected a call after '@': a number from 0, a negative number from the end, or '*'")
        return "*" if call == "*" else int(call)

    def place(self) -> tuple[str | None, int | None, Port]:
        """Reads a port, or an operation and its optional port."""
        start = self.at
        word = self.take(_WORD, f"expected a port ({', '.join(PORTS)}) or an operation, such as 'add', after ':'")
        if port := self.port(word):
            return None, None, port
        near = nearest(word, PORTS, limit=1, cutoff=0.8)
        if near:
            raise AddressError(self.text, start, f"no port {word!r} (did you mean {near[0]!r}?)")
        if word == EXPERT:
            return word, self.expert(), self.last_port() if self.skip(":") else "output"
        number = (
            int(self.take(_NUMBER, "expected the number of an operation, from 0, after '.'"))
            if self.skip(".")
            else None
        )
        return word, number, self.last_port() if self.skip(":") else "output"

    def expert(self) -> int:
        """Reads the number of an expert, in brackets."""
        problem = "expected the number of an expert, such as 'expert[5]'"
        if not self.skip("["):
            raise self.error(problem)
        number = int(self.take(_NUMBER, problem))
        if not self.skip("]"):
            raise self.error("']' is missing")
        return number

    def last_port(self) -> Port:
        start = self.at
        word = self.take(_WORD, f"expected a port after ':': {', '.join(PORTS)}")
        if port := self.port(word):
            return port
        near = nearest(word, PORTS, limit=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise AddressError(self.text, start, f"no port {word!r}{hint}; the ports are {', '.join(PORTS)}")

    @staticmethod
    def port(word: str) -> Port | None:
        return next((port for port in PORTS if port == word), None)

    def step(self) -> Step:
        token = self.take(_STEP, "expected a position, a key or an attribute after '[': [0], ['key'], [name]")
        if not self.skip("]"):
            raise self.error("']' is missing")
        if token[0] in "'\"":
            return self.unquote(token)
        return token if token[0].isalpha() or token[0] == "_" else int(token)

    def unquote(self, token: str) -> str:
        try:
            return str(ast.literal_eval(token))
        except (SyntaxError, ValueError):  # such as a backslash that escapes nothing
            raise self.error(f"{token} is not a valid string") from None

    def skip(self, mark: str) -> bool:
        found = self.text.startswith(mark, self.at)
        self.at += found
        return found

    def take(self, pattern: re.Pattern[str], problem: str) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise self.error(problem)
        self.at = match.end()
        return match.group()

    def error(self, problem: str) -> AddressError:
        return AddressError(self.text, self.at, problem)
