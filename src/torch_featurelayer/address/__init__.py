"""Addresses: how a place in a model is written, and what it means in a given one."""

from .grammar import ATTENTION_WEIGHTS, PORTS, Address, Call, Port, Step, parse
from .listing import get_layer_candidates
from .resolve import Request, Selector, ancestors, checked, has_forward, located, resolve

__all__ = [
    "ATTENTION_WEIGHTS",
    "PORTS",
    "Address",
    "Call",
    "Port",
    "Request",
    "Selector",
    "Step",
    "ancestors",
    "checked",
    "get_layer_candidates",
    "has_forward",
    "located",
    "parse",
    "resolve",
]
