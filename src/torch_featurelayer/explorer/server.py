"""The server: requests to views, views to frames."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from collections.abc import Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from io import BytesIO
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from .. import images
from .._exceptions import FeatureLayerError
from .._optional import need
from . import frames
from .guard import Guard
from .queue import ModelThread, StaleError
from .views import Explorer, Picture

UPLOAD_BYTES: Final = 20_000_000
UPLOAD_PIXELS: Final = 40_000_000
_STATIC: Final = files(__package__) / "static"


def application(explorer: Explorer, token: str, hosts: frozenset[str] = frozenset()) -> Guard:
    """Returns the web application.

    Args:
        explorer: What is looked at.
        token: What the page must send.
        hosts: Names besides those of this machine that it may be called by.
    """
    thread = ModelThread()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        yield
        thread.close()

    async def view(request: Request) -> Response:
        name = request.path_params["view"]
        if name not in frames.VIEWS:
            raise HTTPException(404, f"there is no view {name!r}")
        options = dict(request.query_params)
        kind = f"{request.headers.get('x-featurelayer-page', '')}/{name}/{options.get('panel', '')}"
        content = await thread.run(kind, lambda: frames.VIEWS[name](explorer, options))
        return Response(content, media_type="application/octet-stream")

    async def upload(request: Request) -> Response:
        content = await _body(request)
        number = await thread.run(secrets.token_hex(4), lambda: _added(explorer, request.query_params["name"], content))
        return JSONResponse({"picture": number, "pictures": [picture.name for picture in explorer.pictures]})

    app = Starlette(
        routes=[
            Route("/api/upload", upload, methods=["POST"]),
            Route("/api/{view}", view),
            Mount("/", StaticFiles(directory=str(_STATIC), html=True)),
        ],
        exception_handlers={
            StaleError: lambda _, __: Response(status_code=204),  # browsers log anything above 399
            FeatureLayerError: _refused,
            ValueError: _refused,
            LookupError: _refused,
        },
        lifespan=lifespan,
    )
    return Guard(app, token, hosts)


def serve(explorer: Explorer, *, port: int = 0, browser: bool = True, say: Callable[[str], None] = print) -> None:
    """Serves the page on this machine until it is stopped.

    Args:
        explorer: What is looked at.
        port: Where; 0 takes one that is free.
        browser: Whether to open the page.
        say: Told the address, with its token.
    """
    uvicorn = need("uvicorn", "explore")
    token = secrets.token_urlsafe(24)
    listener = socket.create_server(("127.0.0.1", port))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/#token={token}"
    say(address)
    config = uvicorn.Config(application(explorer, token), log_level="error", access_log=False, server_header=False)
    if browser:
        webbrowser.open(address)
    uvicorn.Server(config).run(sockets=[listener])


async def _refused(_: Request, error: Exception) -> Response:
    """A mistake in what was asked for: its text, which names no path of this machine."""
    return JSONResponse({"error": str(error.args[0] if isinstance(error, KeyError) else error)}, status_code=400)


async def _body(request: Request) -> bytes:
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > UPLOAD_BYTES:
            raise HTTPException(413, f"an image may have {UPLOAD_BYTES // 1_000_000} MB")
    return content


def _added(explorer: Explorer, name: str, content: bytes) -> int:
    """Adds an uploaded picture.

    Raises:
        ImageError: It cannot be read.
        ValueError: It has too many pixels.
    """
    pillow = need("PIL.Image", "images")
    try:
        picture = pillow.open(BytesIO(content))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError("this is no image that can be read") from error
    if picture.width * picture.height > UPLOAD_PIXELS:
        raise ValueError(f"an image may have {UPLOAD_PIXELS // 1_000_000} million pixels")
    explorer.pictures.append(Picture(name.rpartition("/")[2][:80], images.opened(picture)))
    return len(explorer.pictures) - 1
