"""The page and what it asks for, over HTTP. Start at `application`; `serve` runs it until a signal ends it.

The page loads nothing from elsewhere, so that it works without a network, and other sites can neither read answers nor
have images computed.
"""

import asyncio
import socket
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from thaw.app.serve.answers import Answers
from thaw.errors import ThawError, printable
from thaw.images.read import UnreadableImage

# Seconds for the bytes of an image to arrive.
UPLOAD_TIMEOUT = 60.0
# Requests at a time; further ones are answered with 503. Each holds as many bytes as an image may have.
CONNECTIONS = 16

_FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Refused(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


def application(answers: Answers, max_bytes: int, hosts: list[str]) -> Starlette:
    """The application.

    Args:
        answers: of the checkpoints.
        max_bytes: limit for an image file, refused before it is decoded.
        hosts: names of the server, so that a site whose own name leads here is refused; "*" for any.
    """

    def described(request: Request) -> Response:
        return JSONResponse({"checkpoints": answers.described(), "max_bytes": max_bytes})

    async def ask(request: Request) -> Response:
        try:
            _refuse_other_sites(request)
            number = _number(request, len(answers.checkpoints))
            content = await _body(request, max_bytes)
            asked = answers.ask(number, content, request.query_params.get("of"))
            return JSONResponse(await asyncio.wrap_future(asked))
        except _Refused as refused:
            # What is left of the body is not waited for.
            return JSONResponse({"error": refused.line}, refused.status, {"Connection": "close"})
        except UnreadableImage as error:
            return JSONResponse({"error": error.why}, 400)
        except ThawError as error:
            return JSONResponse({"error": printable(str(error))}, 400)
        except ClientDisconnect:  # nobody reads the answer
            return Response(status_code=400)

    files = [Route(path, _file(name)) for path, name in _FILES.items()]
    routes = [*files, Route("/checkpoints", described), Route("/ask/{number}", ask, methods=["POST"])]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    return Starlette(routes=routes, middleware=[trusted])


def _file(name: str) -> Any:
    def send(request: Request) -> Response:
        return FileResponse(Path(__file__).with_name(name))

    return send


def _refuse_other_sites(request: Request) -> None:
    """Refuse what a page of another site has sent: browsers tell, programs need not."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise _Refused(403, "a request of another site")


def _number(request: Request, count: int) -> int:
    text = request.path_params["number"]
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and int(text) < count):
        raise _Refused(404, f"checkpoint: received {text[:20]!r}; accepted: 0 to {count - 1}")
    return int(text)


async def _body(request: Request, max_bytes: int) -> bytes:
    """The bytes of an image, of which no more than accepted are taken."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    content = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT):
            async for part in request.stream():
                content += part
                if len(content) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise _Refused(408, f"the image did not arrive within {UPLOAD_TIMEOUT:.0f} s") from None
    return bytes(content)


def _too_large(max_bytes: int) -> _Refused:
    return _Refused(413, f"a file of more than {max_bytes / 1e6:g} MB; accepted: {max_bytes / 1e6:g} MB, by --max-mb")


def server(app: Starlette) -> uvicorn.Server:
    """What runs the application, on sockets that are handed to its `run`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            headers=list(HEADERS.items()),
            server_header=False,
            proxy_headers=False,
            access_log=False,
            log_level="error",
            lifespan="off",
            ws="none",
            limit_concurrency=CONNECTIONS,
            # A signal ends it at once: a model that computes cannot be stopped otherwise.
            timeout_graceful_shutdown=1,
        )
    )


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """A socket of a host's name or address, and the address.

    Raises:
        ThawError: there is no such host, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family), str(address[0])
    except OSError as error:
        why = (error.strerror or str(error)).split(" (")[0]  # Python adds the address to the system's words
        raise ThawError(f"serve: {host}, port {port}: {why}; another port: --port N, or 0 for a free one") from None
