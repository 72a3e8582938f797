"""Who may ask the server: hosts, origins, the token; and bodies too large or too slow."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SILENCE = 20.0  # seconds without a byte of a body, after which the client is dropped
SLOWEST = 10_000  # bytes a second that a body has to come at, once it has taken `SILENCE`
COOKIE = "ast_audio_{port}"  # browsers send cookies of a host to all its ports

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses requests of other sites and of strangers before the application sees them.

    - The Host has to name this machine: a page of another site whose name was pointed at this
      address (DNS rebinding) sends its own.
    - An Origin has to be that Host, and what a browser says that another site asked for is refused,
      but for following a link to the page.
    - With a token, a request has to bring it: in the address of the page, which sets a cookie; as
      that cookie; or as `Authorization: Bearer TOKEN`.

    Args:
        app: the application.
        hosts: names, beside those of the local machine, that it is reached by; None: no others, and
            addresses of other machines' networks are refused as well.
        token: that a request has to bring; None: none.
    """

    def __init__(
        self, app: ASGIApp, hosts: Collection[str] | None = None, token: str | None = None
    ) -> None:
        self.app = app
        self.hosts = hosts
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope)
        cookie = COOKIE.format(port=scope["server"][1])
        by_address = self._brings(request.query_params.get("token")) and scope["path"] == "/"

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
                if by_address:
                    headers.append(
                        "Set-Cookie", f"{cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
                    )
            await send(message)

        refused = self._refusal(request, by_address, request.cookies.get(cookie))
        await (refused or self.app)(scope, receive, send_guarded)
        return None

    def _refusal(
        self, request: Request, by_address: bool, cookie: str | None
    ) -> PlainTextResponse | None:
        host = request.headers.get("host", "")
        if not self._is_this_machine(host):
            return PlainTextResponse(f"{host!r:.100} is no name of this server\n", 403)
        origin = request.headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return PlainTextResponse("requests of other sites are refused\n", 403)
        site = request.headers.get("sec-fetch-site", "none")
        is_link = request.headers.get("sec-fetch-mode") == "navigate" and request.url.path == "/"
        if site not in ("none", "same-origin") and not (is_link and request.method == "GET"):
            return PlainTextResponse("requests of other sites are refused\n", 403)
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        brought = bearer if kind.lower() == "bearer" else cookie
        if self.token is None or by_address or self._brings(brought):
            return None
        return PlainTextResponse("open the address that the server printed, with its token\n", 401)

    def _brings(self, token: str | None) -> bool:
        if self.token is None or token is None:
            return False
        return hmac.compare_digest(token.encode(), self.token.encode())

    def _is_this_machine(self, host: str) -> bool:
        """Whether a Host header names this server; the port may be that of a tunnel."""
        name = None
        with suppress(ValueError):
            name = urlsplit(f"//{host}").hostname
        if name is None:
            return False
        if name == "localhost" or name in (self.hosts or ()):
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(name).is_loopback or self.hosts is not None
        return False


async def body_of(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body of a request in the pieces in which it comes.

    Args:
        most: bytes.

    Raises:
        HTTPException: it is larger (413), comes too slowly (408), or breaks off (400).
    """
    too_large = HTTPException(413, f"larger than {most / 2**20:,.0f} MiB")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > most:
        raise too_large
    pieces, total, start = aiter(request.stream()), 0, time.monotonic()
    while True:
        try:
            piece = await asyncio.wait_for(anext(pieces), SILENCE)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError as error:
            raise HTTPException(408, "nothing came for too long") from error
        except ClientDisconnect as error:
            raise HTTPException(400, "the request broke off") from error
        total += len(piece)
        if total > most:
            raise too_large
        lasted = time.monotonic() - start
        if lasted > SILENCE and total < SLOWEST * lasted:
            raise HTTPException(408, "the request comes too slowly")
        yield piece
