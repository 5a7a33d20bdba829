"""A real LiveKit server, built once from source into the user's cache folder, and an ear for its webhooks."""

import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from rooms.media import LiveKitMedia
from server.integrations.livekit_server import LiveKitServer
from tests.livekit.ear import KEY, SECRET, Ear

VERSION = "1.13.5"
HERE = Path(__file__).parent
# 1 min 44 s from nothing on two cores; five times that for a busy machine.
BUILD_TIMEOUT_S = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test in this folder, and give the first of them the time to build the server."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("livekit")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(BUILD_TIMEOUT_S + 60))


@pytest.fixture(scope="session")
def livekit_bin(in_ci: bool) -> Path:
    """The LiveKit server: named, in the cache, or built now."""
    named = os.environ.get("FOURTALK_LIVEKIT_BIN")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fourtalk"
    binary = cache / f"livekit-server-{VERSION}"
    if not binary.exists():
        if shutil.which("go") is None:
            why = (
                "There is no LiveKit server: set FOURTALK_LIVEKIT_BIN, or install Go so that it can be built."
            )
            pytest.fail(why) if in_ci else pytest.skip(why)
        _build(binary)
    return binary


def _build(binary: Path) -> None:
    binary.parent.mkdir(parents=True, exist_ok=True)
    # Built beside its place and moved there: another test worker may be building too.
    draft = binary.with_name(f"{binary.name}.{uuid.uuid4().hex}")
    package = "github.com/livekit/livekit-server/cmd/server"
    command = ["go", "build", "-C", str(HERE), "-ldflags=-s -w", "-o", str(draft), package]
    subprocess.run(command, check=True, timeout=BUILD_TIMEOUT_S)
    draft.rename(binary)


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    ear = Ear()
    application = web.Application()
    application.router.add_post("/webhooks/livekit", ear.receive)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ear.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/livekit"
    yield ear
    await runner.cleanup()


@pytest.fixture
def livekit(livekit_bin: Path, ear: Ear, tmp_path: Path) -> Iterator[LiveKitServer]:
    """A running server that tells `ear`."""
    server = LiveKitServer(str(livekit_bin), tmp_path, key=KEY, secret=SECRET, webhook_url=ear.url)
    with server:
        yield server


@pytest.fixture
async def rooms(livekit: LiveKitServer) -> AsyncIterator[LiveKitMedia]:
    async with LiveKitMedia(livekit.url, KEY, SECRET) as rooms:
        yield rooms
