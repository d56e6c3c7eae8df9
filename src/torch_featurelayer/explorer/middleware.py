"""Security of the server: only the page that the server printed the address of may send requests.

Any page on the web can make a browser send requests to this machine, and a host name that resolves to 127.0.0.1 would
let it read the responses. Therefore the host must be a loopback name; everything except the page itself needs a token,
which is in the fragment of the printed address (never sent, never logged) and comes back as a header; and requests that
change something must come from the origin of the page.
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


class SecurityMiddleware:
    """Rejects requests that do not come from the page, and adds security headers to every response.

    Args:
        app: The application.
        token: The token that every request below `/api` must carry.
        hosts: Additional host names of the server, without the port. Default: none.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str] = frozenset()) -> None:
        self._app, self._token, self._hosts = app, token, LOOPBACK | hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers or rejects a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        app = self._app if problem is None else PlainTextResponse(problem, status_code=403)
        await app(scope, receive, _with_headers(send))

    def _problem(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        if _name(headers.get("host", "")) not in self._hosts:
            return "This server accepts only requests to the names of this machine."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return "This request comes from another page."
        if scope["path"].startswith("/api/"):
            given = headers.get(TOKEN_HEADER, "")
            # In constant time, so that the token cannot be guessed from response times.
            if not secrets.compare_digest(given.encode(), self._token.encode()):
                return "The token is missing or wrong: open the address that featurelayer printed."
        return None


def _name(host: str) -> str:
    """Returns a host without its port, which differs if a port is forwarded."""
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
