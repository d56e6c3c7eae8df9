"""Which layer? Probes of the layers of a store, and heads on them."""

from __future__ import annotations

from ._head import Head, head
from ._probe import ProbeRow, ProbeTable, probe

__all__ = ["Head", "ProbeRow", "ProbeTable", "head", "probe"]
