"""The web server: routes requests to views, and runs them in the thread of the models."""

from __future__ import annotations

import asyncio
import secrets
import socket
import webbrowser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
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
from ..extraction.memory import keep_memory
from . import dataset_routes, routes
from .middleware import SecurityMiddleware
from .queue import ModelThread, StaleError
from .session import Explorer, Picture

UPLOAD_BYTES: Final = 20_000_000
UPLOAD_PIXELS: Final = 40_000_000
_VIEWS: Final = {**routes.VIEWS, **dataset_routes.VIEWS}
_STATIC: Final = files(__package__) / "static"


def application(explorer: Explorer, token: str, hosts: frozenset[str] = frozenset()) -> SecurityMiddleware:
    """Returns the web application.

    Args:
        explorer: The models and images.
        token: The token that requests must carry.
        hosts: Additional host names of the server. Default: none.
    """
    thread = ModelThread()
    # Thumbnails and projections do not wait for the model, and one does not replace another.
    reading = ThreadPoolExecutor(2, thread_name_prefix="dataset")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        with keep_memory():
            yield
        thread.close()
        reading.shutdown(cancel_futures=True)

    async def view(request: Request) -> Response:
        name = request.path_params["view"]
        options = dict(request.query_params)
        if name in dataset_routes.WITHOUT_MODEL:
            call = partial(dataset_routes.WITHOUT_MODEL[name], explorer, options)
            content = await asyncio.get_running_loop().run_in_executor(reading, call)
        elif name in _VIEWS:
            kind = f"{request.headers.get('x-featurelayer-page', '')}/{name}/{options.get('panel', '')}"
            number = request.headers.get("x-featurelayer-number", "")
            call = partial(_VIEWS[name], explorer, options)
            content = await thread.run(kind, call, int(number) if number.isdecimal() else None)
        else:
            raise HTTPException(404, f"no view {name!r}")
        return Response(content, media_type="application/octet-stream")

    async def upload(request: Request) -> Response:
        content = await _body(request)
        add = _add_text if explorer.kind == "text" else _add_upload
        number = await thread.run(secrets.token_hex(4), partial(add, explorer, request.query_params["name"], content))
        return JSONResponse({"picture": number, "pictures": [picture.name for picture in explorer.pictures]})

    app = Starlette(
        routes=[
            Route("/api/upload", upload, methods=["POST"]),
            Route("/api/{view}", view),
            Mount("/", StaticFiles(directory=str(_STATIC), html=True)),
        ],
        exception_handlers={
            StaleError: lambda _, __: Response(status_code=204),  # browsers log every status above 399
            FeatureLayerError: _error_response,
            ValueError: _error_response,
            LookupError: _error_response,
            Exception: _failure_response,
        },
        lifespan=lifespan,
    )
    return SecurityMiddleware(app, token, hosts)


def serve(explorer: Explorer, *, port: int = 0, browser: bool = True, say: Callable[[str], None] = print) -> None:
    """Serves the page on this machine until it is stopped.

    Args:
        explorer: The models and images.
        port: The port; 0 for any free port. Default: 0.
        browser: Whether to open the page. Default: True.
        say: A function that is called with the address, which includes the token. Default: `print`.
    """
    uvicorn = need("uvicorn", "explore")
    token = secrets.token_urlsafe(24)
    # Bound before the address is printed, so that the printed port is the real one.
    listener = socket.create_server(("127.0.0.1", port))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/#token={token}"
    say(address)
    config = uvicorn.Config(application(explorer, token), log_level="error", access_log=False, server_header=False)
    if browser:
        webbrowser.open(address)
    uvicorn.Server(config).run(sockets=[listener])


async def _error_response(_: Request, error: Exception) -> Response:
    """Returns the message of a user's error, which names no path of this machine."""
    return JSONResponse({"error": str(error.args[0] if isinstance(error, KeyError) else error)}, status_code=400)


async def _failure_response(_: Request, error: Exception) -> Response:
    """Says that the server failed; Starlette then raises the error, so that its traceback is in the terminal."""
    text = f"the model or the server failed ({type(error).__name__}): the terminal has the details"
    return JSONResponse({"error": text}, status_code=500)


async def _body(request: Request) -> bytes:
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > UPLOAD_BYTES:
            raise HTTPException(413, f"an image may have at most {UPLOAD_BYTES // 1_000_000} MB")
    return content


def _add_text(explorer: Explorer, _: str, content: bytes) -> int:
    """Adds a text.

    Raises:
        ValueError: If it is not a text, or empty.
    """
    text = content.decode().strip()
    if not text:
        raise ValueError("the text is empty")
    explorer.pictures.append(Picture(text[:80], text))
    return len(explorer.pictures) - 1


def _add_upload(explorer: Explorer, name: str, content: bytes) -> int:
    """Adds an uploaded image.

    Raises:
        ImageError: If it cannot be read.
        ValueError: If it is not an image, or has too many pixels.
    """
    pillow = need("PIL.Image", "images")
    try:
        picture = pillow.open(BytesIO(content))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError("the file is not an image that can be read") from error
    if picture.width * picture.height > UPLOAD_PIXELS:
        raise ValueError(f"an image may have at most {UPLOAD_PIXELS // 1_000_000} million pixels")
    explorer.pictures.append(Picture(name.rpartition("/")[2][:80], images.open_image(picture)))
    return len(explorer.pictures) - 1
