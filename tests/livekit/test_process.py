"""The LiveKit server of our own lives and dies with us."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import httpx
import pytest

from server.integrations.livekit_server import LiveKitServer
from tests.livekit.ear import KEY, SECRET

NOBODY = "http://127.0.0.1:9/"
PARENT = f"""
    import sys, time
    from pathlib import Path
    from server.integrations.livekit_server import LiveKitServer
    binary, folder = sys.argv[1:]
    server = LiveKitServer(binary, Path(folder), key="{KEY}", secret="{SECRET}", webhook_url="{NOBODY}")
    server.start()
    sys.stdout.write(server.url + "\\n")
    sys.stdout.flush()
    time.sleep(60)
"""


def test_it_dies_with_its_parent_even_when_that_is_killed(
    livekit_bin: Path, tmp_path: Path, root: Path
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PARENT), str(livekit_bin), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert answers(url)

        parent.kill()

        end = time.monotonic() + 5
        while answers(url) and time.monotonic() < end:
            time.sleep(0.02)
        assert not answers(url)


def test_it_ends_and_can_start_again(livekit_bin: Path, tmp_path: Path) -> None:
    server = LiveKitServer(str(livekit_bin), tmp_path, key=KEY, secret=SECRET, webhook_url=NOBODY)

    for _ in range(2):
        with server:
            assert answers(server.url)
        with pytest.raises(httpx.TransportError):
            httpx.get(server.url)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
