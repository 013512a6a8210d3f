"""Who may ask: a browser or program of this machine that knows the token.

The server listens on 127.0.0.1 alone. Three more checks are needed, because every page that a browser shows
can send requests to that address:

- the token keeps out other users of the machine, and pages that guess the port;
- the Host header keeps out pages whose own name resolves to 127.0.0.1 (DNS rebinding);
- the Origin header keeps out requests that other pages send with the browser's cookie (request forgery).
"""

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN_NAMES = ("127.0.0.1", "localhost")
READING = ("GET", "HEAD")
# The page at / is replaced at once by the page without the token in its address. A redirection would not do:
# browsers do not send a cookie of SameSite=Strict with it when the first link was on another page.
ENTRANCE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>tomohet</title><link rel="icon" href="data:,">
<meta http-equiv="refresh" content="0;url=/"></html>
"""
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """ASGI middleware that answers 403 to every request without the token, or from another page."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token
        # Cookies are shared by all ports of a machine, so each server has a name of its own.
        self.cookie = "tomohet_" + hashlib.sha256(token.encode()).hexdigest()[:8]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"this server has no {scope['type']}")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        answer = self._answer(Request(scope))
        await (answer or self.app)(scope, receive, send_guarded)

    def _answer(self, request: Request) -> Response | None:
        """Return the refusal, or the entrance of a browser that comes with the token; None lets through."""
        host = request.headers.get("host", "")
        if _name(host) not in OWN_NAMES:
            return _refused(f"The Host header names {host or 'nothing'}; open the address that was printed.")
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return _refused(f"The request comes from a page of {origin}; open the address that was printed.")
        header = request.headers.get("authorization", "")
        if self._is_token(header.removeprefix("Bearer ")):
            return None
        if self._is_token(request.cookies.get(self.cookie, "")):
            if origin is None and request.method not in READING:
                return _refused("The request has a cookie but no Origin header; send the token as a header.")
            return None
        if request.method in READING and self._is_token(request.query_params.get("token", "")):
            entrance = HTMLResponse(ENTRANCE)
            entrance.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return entrance
        return _refused("The token is missing or wrong; open the address that `tomohet serve` printed.")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())


def _name(host: str) -> str | None:
    """Return the name in a Host header, without the port: a tunnel may end at another one."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _refused(sentence: str) -> Response:
    return PlainTextResponse(sentence + "\n", status_code=403)
