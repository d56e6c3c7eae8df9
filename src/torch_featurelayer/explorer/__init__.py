"""A local web page that shows the features of one or two models.

`session` computes the contents of the page, `serialization` encodes them, `middleware` checks requests, `queue` runs
the model in one thread, `routes` and `server` connect them. `static` holds the page, which contacts no other host.
"""

from __future__ import annotations

from .server import application, serve
from .session import Explorer

__all__ = ["Explorer", "application", "serve"]
