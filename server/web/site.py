"""Serves the browser client: its pages, its files with a hash in their name, its worker and its manifest.

An ASGI application in front of the API: what is neither a page nor a file of the client goes on to it. Everything is in
memory, compressed when it was made; a client that is made anew takes the old one's place at the next page.
"""

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from server import embedded
from server.config import Settings
from server.web import build

log = structlog.get_logger()

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

PAGE: Final = "index.html"
WORKER: Final = "worker.js"
MANIFEST: Final = "manifest.webmanifest"
# Files that keep their names whatever is in them.
_NAMED: Final = (PAGE, WORKER, MANIFEST)
_TYPES: Final = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".webmanifest": b"application/manifest+json",
}
# By their suffix; the smaller one first.
_ENCODINGS: Final = {".br": b"br", ".gz": b"gzip"}
# The name of an asset changes with its content, so it is kept for a year, which is what "for ever" is called.
_KEPT: Final = b"public, max-age=31536000, immutable"
_ASKED_AGAIN: Final = b"no-cache"
# Rooms need camera, microphone and a screen to share; nothing needs more.
_PERMISSIONS: Final = b"camera=(self), microphone=(self), display-capture=(self), geolocation=()"
# Links that people hand on. What draws a preview of one asks for no page and runs no script: it gets the API's own, whose
# words are in it.
_SHARED: Final = ("/t/", "/courses/")
_NOT_THERE: Final = (
    b"The API is running; the browser client is not here yet. At the first start it takes some seconds to be made: load"
    b" this page again.\nIf that does not help, run\n\n    uv run python -m server.web.build\n\non the server: it says"
    b" what is missing.\n"
)


class _Site(msgspec.Struct):
    """`site.json`: what the bundler knows and the server does not."""

    pages: list[str]


class Client(msgspec.Struct, frozen=True):
    """A client as it was made."""

    made_ns: int
    pages: re.Pattern[str]
    files: Mapping[str, Mapping[bytes, bytes]]
    """Contents by path and encoding."""


class Site:
    """The browser client in front of the API.

    Args:
        app: The API.
        settings: Where the media server is, and how the browser reaches us.
        dist: The folder of the made client.
    """

    def __init__(self, app: ASGIApp, settings: Settings, *, dist: Path = build.DIST) -> None:
        self._app = app
        self._dist = dist
        self._client: Client | None = None
        allowed = (b"content-security-policy", policy(settings).encode())
        self._on_pages: Headers = [
            (b"cache-control", _ASKED_AGAIN),
            allowed,
            (b"permissions-policy", _PERMISSIONS),
        ]
        # A shared worker is bound by the policy that its own file came with.
        self._on_assets: Headers = [(b"cache-control", _KEPT), allowed]

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Answer what is the client's, and hand on everything else."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        is_looked_at = b"text/html" in _header(scope, b"accept") and not path.startswith("/api/")
        if is_looked_at or path == "/":
            await self.look()
        client = self._client
        if client is None:
            await (_say_not_there(scope, send) if path == "/" else self._app(scope, receive, send))
        elif path.startswith("/assets/") and path[1:] in client.files:
            await self._answer(scope, send, path[1:], headers=self._on_assets)
        elif path in (f"/{WORKER}", f"/{MANIFEST}"):
            # What the worker may ask is what a page may ask.
            await self._answer(scope, send, path[1:], headers=self._on_pages)
        elif client.pages.fullmatch(path) and (is_looked_at or not path.startswith(_SHARED)):
            await self._answer(scope, send, PAGE, headers=self._on_pages)
        elif is_looked_at:
            await self._app(scope, receive, self._showing_missing(scope, send))
        else:
            await self._app(scope, receive, send)

    def _showing_missing(self, scope: Scope, send: Send) -> Send:
        """Return a `send` that turns the API's "there is nothing here" into the client's page that says so."""
        is_missing = False

        async def send_or_show(message: Message) -> None:
            nonlocal is_missing
            if message["type"] == "http.response.start":
                types = [value for name, value in message["headers"] if name.lower() == b"content-type"]
                is_missing = message["status"] == HTTPStatus.NOT_FOUND and b"text/html" not in types[0]
                if is_missing:
                    await self._answer(scope, send, PAGE, headers=self._on_pages, status=HTTPStatus.NOT_FOUND)
            if not is_missing:
                await send(message)

        return send_or_show

    async def _answer(
        self, scope: Scope, send: Send, path: str, *, headers: Headers, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        assert self._client is not None, "there is something to answer"
        contents = self._client.files[path]
        accepted = _header(scope, b"accept-encoding")
        encoding = next((name for name in _ENCODINGS.values() if name in accepted and name in contents), b"")
        own = [
            (b"content-type", _TYPES[Path(path).suffix]),
            # The edge's CORS headers depend on the origin; who does not look at a page may get something else there.
            (b"vary", (b"Accept, " if path == PAGE else b"") + b"Accept-Encoding, Origin"),
            *([(b"content-encoding", encoding)] if encoding else []),
        ]
        await _send(scope, send, status, contents[encoding], own + headers)

    async def look(self) -> None:
        """Take the client that is there now."""
        self._client = await asyncio.to_thread(_read, self._dist, self._client)


def policy(settings: Settings) -> str:
    """Return what the client's pages may load and whom they may ask (Content Security Policy Level 3)."""
    # Safari before 15.4 does not count a socket to the page's own address as 'self'.
    sockets = [re.sub("^http", "ws", origin) for origin in settings.allowed_origins]
    media = [address for address in (settings.livekit.url, settings.livekit.ws_url) if address is not None]
    asked = " ".join(("'self'", *sockets, *media))
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "media-src 'self' blob:",
            f"connect-src {asked}",
            "worker-src 'self'",
            "manifest-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        )
    )


async def make() -> None:
    """Make the client if a source has changed; a failure goes to the log, and the API serves without it."""
    command = embedded.dying_with_parent(signal.SIGTERM, sys.executable, "-m", build.__name__)
    try:
        if await asyncio.to_thread(build.is_current):
            return
        maker = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        log.exception("client_not_made", reason=str(error))
        return
    try:
        _, said = await maker.communicate()
    except asyncio.CancelledError:
        # It may have ended by itself.
        with contextlib.suppress(ProcessLookupError):
            maker.terminate()
        raise
    if maker.returncode:
        log.error("client_not_made", reason=said.decode(errors="replace").strip())
    else:
        log.info("client_made")


def _read(dist: Path, before: Client | None) -> Client | None:
    """Return the client in a folder: the one from before unless there is a newer one."""
    try:
        made_ns = (dist / "site.json").stat().st_mtime_ns
        if before is not None and before.made_ns == made_ns:
            return before
        site = msgspec.json.decode((dist / "site.json").read_bytes(), type=_Site)
        files: dict[str, dict[bytes, bytes]] = {}
        for path in (*(dist / name for name in _NAMED), *sorted((dist / "assets").iterdir())):
            _keep(files, dist, path)
        for path in (dist / (name + suffix) for name in _NAMED for suffix in _ENCODINGS):
            if path.is_file():
                _keep(files, dist, path)
    except FileNotFoundError:
        # It is not there, or is being replaced in this moment.
        return before
    # Who has a page of the client before still asks for its files.
    old = {} if before is None else {name: found for name, found in before.files.items() if "/" in name}
    return Client(made_ns, _pattern(site.pages), {**old, **files})


def _keep(files: dict[str, dict[bytes, bytes]], dist: Path, path: Path) -> None:
    name = path.relative_to(dist).as_posix()
    encoding = _ENCODINGS.get(path.suffix, b"")
    files.setdefault(name.removesuffix(path.suffix) if encoding else name, {})[encoding] = path.read_bytes()


def _pattern(pages: list[str]) -> re.Pattern[str]:
    """Return what the addresses of all pages match; `:name` stands for one part of a path."""
    return re.compile("|".join(re.sub(r":\w+", "[^/]+", page) for page in pages))


async def _say_not_there(scope: Scope, send: Send) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"retry-after", b"5"),
    ]
    await _send(scope, send, HTTPStatus.SERVICE_UNAVAILABLE, _NOT_THERE, headers)


async def _send(scope: Scope, send: Send, status: HTTPStatus, body: bytes, headers: Headers) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": int(status), "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _header(scope: Scope, name: bytes) -> bytes:
    return b",".join(value for header, value in scope["headers"] if header == name)
