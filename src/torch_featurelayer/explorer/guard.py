"""Who may ask: this machine's own browser, on a page that the server gave it, and nobody else.

A page anywhere on the web can make a browser send requests to this machine; a
name that resolves to 127.0.0.1 would let it read the answers. So the host must be a
loopback name, everything but the page itself needs the token, which
travels in the fragment of the address (never sent, never logged) and comes back
as a header, and what changes something must come from the page's own origin.
"""

from __future__ import annotations

import secrets
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
TOKEN_HEADER: Final = "x-featurelayer-token"  # noqa: S105 (the name of a header)
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Refuses requests that are not the page's own, and gives every answer its headers.

    Args:
        app: What is guarded.
        token: What must come with every request below `/api`.
        hosts: Names that the server may be called by, without the port, besides those of this machine.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str] = frozenset()) -> None:
        self._app, self._token, self._hosts = app, token, LOOPBACK | hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        app = self._app if problem is None else PlainTextResponse(problem, status_code=403)
        await app(scope, receive, _with_headers(send))

    def _problem(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        if _name(headers.get("host", "")) not in self._hosts:
            return "This server answers to the names of this machine only."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return "This request comes from another page."
        if scope["path"].startswith("/api/"):
            given = headers.get(TOKEN_HEADER, "")
            if not secrets.compare_digest(given.encode(), self._token.encode()):
                return "The token is missing or wrong: open the address that featurelayer printed."
        return None


def _name(host: str) -> str:
    """Returns a host without its port, which differs where a port is forwarded."""
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return sending
