"""Stripe's own mock of its API, built once from source into the user's cache folder."""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server.ports import free_port

VERSION = "0.203.0"
HERE = Path(__file__).parent
# 11 s from nothing on two busy cores.
BUILD_TIMEOUT_S = 300
START_TIMEOUT_S = 20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test the time to build the server."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(BUILD_TIMEOUT_S + 60))


@pytest.fixture(scope="session")
def stripe_mock_bin(in_ci: bool) -> Path:
    """The mock: in the cache, or built now."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fourtalk"
    binary = cache / f"stripe-mock-{VERSION}"
    if not binary.exists():
        if shutil.which("go") is None:
            why = "There is no stripe-mock: install Go so that it can be built."
            pytest.fail(why) if in_ci else pytest.skip(why)
        binary.parent.mkdir(parents=True, exist_ok=True)
        # Built beside its place and moved there: another test worker may be building too.
        draft = binary.with_name(f"{binary.name}.{uuid.uuid4().hex}")
        command = ["go", "build", "-C", str(HERE), "-ldflags=-s -w", "-o", str(draft)]
        subprocess.run([*command, "github.com/stripe/stripe-mock"], check=True, timeout=BUILD_TIMEOUT_S)
        draft.rename(binary)
    return binary


@pytest.fixture(scope="session")
def stripe_mock(stripe_mock_bin: Path) -> Iterator[str]:
    """The address of a running mock."""
    process, port = _started(stripe_mock_bin)
    with process:
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def _started(binary: Path) -> tuple[subprocess.Popen[bytes], int]:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        port = free_port()
        command = [str(binary), "-http-addr", f"127.0.0.1:{port}", "-strict-version-check=false"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Somebody else may take the port first: then it ends, and another one is tried.
        while process.poll() is None and time.monotonic() < until:
            if _answers(port):
                return process, port
            time.sleep(0.05)
        process.kill()
        process.wait()
    pytest.fail("stripe-mock does not answer")


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/v1/balance")
    except httpx.TransportError:
        return False
    return True
