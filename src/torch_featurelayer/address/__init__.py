"""Addresses: how a place in a model is written, and what it means in a given one."""

from .grammar import ATTENTION_WEIGHTS, GRADIENT_PORTS, PORTS, Address, Call, Port, Step, parse
from .listing import get_layer_candidates
from .resolve import Request, Selector, ancestors, check_model, has_forward, locate, resolve

__all__ = [
    "ATTENTION_WEIGHTS",
    "GRADIENT_PORTS",
    "PORTS",
    "Address",
    "Call",
    "Port",
    "Request",
    "Selector",
    "Step",
    "ancestors",
    "check_model",
    "get_layer_candidates",
    "has_forward",
    "locate",
    "parse",
    "resolve",
]
