"""A local web page that looks inside one or two models.

`views` computes what is shown, `wire` packs it, `guard` decides who may ask,
`queue` runs the model in one thread, `server` puts them together; `static`
holds the page, which asks no other host for anything.
"""

from __future__ import annotations

from .server import application, serve
from .views import Explorer

__all__ = ["Explorer", "application", "serve"]
