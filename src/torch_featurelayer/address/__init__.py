"""Addresses: the text that names a place in a model, and its meaning in a given model."""

from .grammar import (
    ATTENTION_WEIGHTS,
    EXPERT,
    EXPERT_PARTS,
    GRADIENT_PORTS,
    PORTS,
    ROUTER_INDICES,
    ROUTER_LOGITS,
    ROUTER_SCORES,
    Address,
    Call,
    Port,
    Step,
    parse,
)
from .listing import get_layer_candidates
from .prefixes import plain_paths
from .resolve import Request, Selector, ancestors, check_model, has_forward, locate, resolve

__all__ = [
    "ATTENTION_WEIGHTS",
    "EXPERT",
    "EXPERT_PARTS",
    "GRADIENT_PORTS",
    "PORTS",
    "ROUTER_INDICES",
    "ROUTER_LOGITS",
    "ROUTER_SCORES",
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
    "plain_paths",
    "resolve",
]
