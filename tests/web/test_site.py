"""How the browser client is served: what comes for which address, how it is packed, and what a page may do."""

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
from litestar import Litestar, get
from structlog.testing import capture_logs

from server import config
from server.http import problem
from server.web import build
from server.web.site import Site, make

PAGE = {"Accept": "text/html,*/*;q=0.8"}


def write(dist: Path, *, script: str = "main-1", pages: tuple[str, ...] = ("/", "/rooms/:id")) -> Path:
    """Write a client as the bundler leaves it."""
    (dist / "assets").mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("index.html", f"<script src=/assets/{script}.js>"),
        ("worker.js", "worker"),
        ("manifest.webmanifest", "{}"),
        (f"assets/{script}.js", f"content of {script}"),
    ):
        (dist / name).write_text(content)
        (dist / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
        (dist / f"{name}.br").write_bytes(b"brotli")
    (dist / "site.json").write_bytes(msgspec.json.encode({"pages": pages}))
    return dist


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return write(tmp_path / "dist")


@asynccontextmanager
async def client_of(dist: Path, **environment: str) -> AsyncIterator[httpx.AsyncClient]:
    @get("/api/v1/thing")
    async def thing() -> dict[str, str]:
        return {"thing": "there"}

    api = Litestar(
        [thing], exception_handlers={Exception: problem.answer}, openapi_config=None, logging_config=None
    )
    settings = config.from_env({"SECRET_KEY": "s" * 32, **environment}, data_dir=dist.parent)
    site = Site(cast(Any, api), settings, dist=dist)
    await site.look()
    transport = httpx.ASGITransport(app=cast(Any, site))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_link_is_a_page_for_people_and_a_text_for_what_draws_its_preview(dist: Path) -> None:
    write(dist, pages=("/t/:code",))
    async with client_of(dist) as client:
        looked_at = await client.get("/t/abc", headers=PAGE)
        drawn = await client.get("/t/abc", headers={"Accept": "*/*"})

    assert "<script" in looked_at.text
    assert "Accept," in looked_at.headers["vary"]
    # This API has no such page.
    assert drawn.status_code == 404


async def test_page_comes_for_every_address_of_a_page(dist: Path) -> None:
    async with client_of(dist) as client:
        for path in ("/", "/rooms/7"):
            page = await client.get(path, headers=PAGE)

            assert page.status_code == 200
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert page.headers["cache-control"] == "no-cache"
            assert "main-1" in page.text


async def test_address_of_nothing_is_a_page_that_says_so_with_status_404(dist: Path) -> None:
    async with client_of(dist) as client:
        for path in ("/nowhere", "/rooms/7/8", "/rooms", "/assets/nothing.js"):
            page = await client.get(path, headers=PAGE)

            assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
            assert "main-1" in page.text


async def test_programs_and_the_api_are_not_answered_with_a_page(dist: Path) -> None:
    async with client_of(dist) as client:
        for path, headers in (("/nowhere", {}), ("/api/v1/nowhere", PAGE)):
            answer = await client.get(path, headers=headers)

            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert (await client.get("/api/v1/thing", headers=PAGE)).json() == {"thing": "there"}
        assert (await client.post("/", headers=PAGE)).status_code == 404


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip, deflate, br", "br"), ("gzip", "gzip"), ("identity", None), ("", None)],
)
async def test_files_are_packed_as_the_browser_likes_best(
    dist: Path, accepted: str, encoding: str | None
) -> None:
    async with (
        client_of(dist) as client,
        client.stream("GET", "/assets/main-1.js", headers={"Accept-Encoding": accepted}) as asset,
    ):
        raw = b"".join([part async for part in asset.aiter_raw()])

    assert asset.headers.get("content-encoding") == encoding
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "Accept-Encoding" in asset.headers["vary"]
    plain = {"br": b"brotli", "gzip": gzip.compress(b"content of main-1"), None: b"content of main-1"}
    assert (raw[:2], len(raw)) == (plain[encoding][:2], len(plain[encoding]))


async def test_head_is_answered_without_the_content(dist: Path) -> None:
    async with client_of(dist) as client:
        head = await client.head("/", headers={**PAGE, "Accept-Encoding": "identity"})

    assert head.status_code == 200
    assert int(head.headers["content-length"]) > 0
    assert head.content == b""


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("worker.js", "worker", "text/javascript; charset=utf-8"),
        ("manifest.webmanifest", "{}", "application/manifest+json"),
    ],
)
async def test_what_keeps_its_name_is_asked_for_again_each_time(
    dist: Path, name: str, content: str, kind: str
) -> None:
    async with client_of(dist) as client:
        await client.get("/", headers=PAGE)
        file = await client.get(f"/{name}")

    assert file.text == content
    assert file.headers["content-type"] == kind
    assert file.headers["cache-control"] == "no-cache"


async def test_page_may_load_its_own_files_and_ask_us_and_the_media_server(dist: Path) -> None:
    environment = {
        "PUBLIC_URL": "https://talk.example",
        "LIVEKIT_URL": "wss://media.example",
        "LIVEKIT_API_KEY": "key",
        "LIVEKIT_API_SECRET": "s" * 32,
    }
    async with client_of(dist, **environment) as client:
        page = await client.get("/", headers=PAGE)

    policy = page.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "manifest-src 'self'"} <= set(policy)
    assert "connect-src 'self' wss://talk.example https://media.example wss://media.example" in policy
    assert "unsafe" not in page.headers["content-security-policy"]
    assert "camera=(self)" in page.headers["permissions-policy"]


async def test_without_a_client_the_start_says_what_to_do_and_the_api_works(tmp_path: Path) -> None:
    async with client_of(tmp_path / "dist") as client:
        start = await client.get("/", headers=PAGE)
        thing = await client.get("/api/v1/thing")

    assert start.status_code == 503
    assert "uv run python -m server.web.build" in start.text
    assert start.headers["retry-after"]
    assert thing.json() == {"thing": "there"}


async def test_sources_that_cannot_be_read_go_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_current() -> bool:
        raise PermissionError("not for you")

    monkeypatch.setattr(build, "is_current", is_current)

    with capture_logs() as logs:
        await make()

    assert [(entry["event"], entry["reason"]) for entry in logs] == [("client_not_made", "not for you")]


async def test_new_client_is_served_at_once_and_the_files_of_the_old_one_stay(dist: Path) -> None:
    async with client_of(dist) as client:
        await client.get("/", headers=PAGE)

        for path in (dist / "assets").iterdir():
            path.unlink()
        write(dist, script="main-2")
        page = await client.get("/", headers=PAGE)

        assert "main-2" in page.text
        assert (await client.get("/assets/main-2.js")).text == "content of main-2"
        assert (await client.get("/assets/main-1.js")).text == "content of main-1"
