"""The viewer on a local server: for this machine alone, for reading alone.

It listens on the loopback address. What a page of somebody else's can make a browser do (ask a name that it has turned
to this address) fails at the Host header; what another user of the machine can do fails at the token in the address.
"""

import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

from harness.contracts.records import Image
from harness.system.errors import HarnessError, UsageError
from harness.viewing.folder import LARGE, SMALL
from harness.viewing.items import Viewed
from harness.viewing.shell import shell
from reports.items import decoded, encoded

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOSTS = {"127.0.0.1", "localhost"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def needs() -> None:
    """UsageError where what the server needs is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise UsageError(
            'the local server needs two packages more: pip install "vlm-alignment-harness[view]"; '
            "or write a folder, --static FOLDER, which needs none."
        ) from None


def application(viewed: Viewed, token: str) -> "Starlette":
    """What answers: the page at /TOKEN/, its data and pictures below; 404 without the token, 400 for another host."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    lock, index = Lock(), viewed.index()
    page, policy = shell(index["title"], "server")
    headers = {**HEADERS, "Content-Security-Policy": f"{policy}; frame-ancestors 'none'"}

    def pictured(image: Image) -> Mapping[str, str]:
        """Where the page finds a picture, small and large."""
        name = viewed.name(image)
        return {"small": f"pictures/{name}", "large": f"pictures/{name}-large"}

    @lru_cache(maxsize=500)
    def picture(name: str, side: int) -> tuple[str, bytes] | None:
        """Its format and bytes, at most `side` pixels wide and high; None for one that is gone or unknown."""
        image = viewed.pictures.get(name)
        found = decoded(image, viewed.sets[0].places) if image else None
        return encoded(found, side) if found else None

    def root(request: "Request") -> "Response":
        """The page."""
        return HTMLResponse(page)

    def data(request: "Request") -> "Response":
        """The index, a set's list, or a part of it; 404 for what there is not, 500 where a run cannot be read."""
        name = request.path_params["name"]
        if name == "index.json":
            return JSONResponse(index)
        known = re.fullmatch(r"(\d{1,4})-(list|\d{1,7})\.json", name, re.ASCII)
        if not known or int(known[1]) >= len(viewed.sets):
            return PlainTextResponse("there is no such part", 404)
        try:
            with lock:  # one set is in memory at a time
                one = viewed.set(int(known[1]))
                return JSONResponse(one.listing() if known[2] == "list" else one.part(int(known[2]), pictured))
        except (HarnessError, UsageError) as error:
            return PlainTextResponse(str(error), 500)

    def image(request: "Request") -> "Response":
        """A picture; 404 where it is gone or has changed."""
        name = request.path_params["name"]
        found = picture(name.removesuffix("-large"), LARGE if name.endswith("-large") else SMALL)
        if not found:
            return PlainTextResponse("this picture is gone or has changed", 404)
        return Response(found[1], media_type=f"image/{found[0]}")

    async def guarded(request: "Request", go_on: Callable[["Request"], Awaitable["Response"]]) -> "Response":
        """400 for a host that is not this machine, 404 without the token; else the answer, with the headers of all."""
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        first = request.url.path.split("/")[1]
        if host not in HOSTS:
            response: Response = PlainTextResponse("this address is for this machine's browser alone", 400)
        elif not secrets.compare_digest(first.encode("utf-8", "surrogatepass"), token.encode()):
            response = PlainTextResponse("the address lacks the token that `harness view` printed", 404)
        else:
            response = await go_on(request)
        response.headers.update(headers)
        return response

    routes = [
        Route(f"/{token}/", root),
        Route(f"/{token}/data/{{name}}", data),
        Route(f"/{token}/pictures/{{name}}", image),
    ]
    return Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=guarded)])


def serve(viewed: Viewed, port: int, ready: Callable[[str], object]) -> None:
    """Serve until Ctrl-C; `ready` is told the address. UsageError where the port cannot be had; 0 is any."""
    import uvicorn

    token = secrets.token_urlsafe(16)
    app = application(viewed, token)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(f"--port {port} cannot be had ({error.strerror}); give another, or none.") from None
        listener.listen()  # whoever has the address is answered, be it a moment later
        ready(f"http://127.0.0.1:{listener.getsockname()[1]}/{token}/")
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, ws="none")
        uvicorn.Server(config).run(sockets=[listener])
