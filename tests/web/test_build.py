"""How the client is made: by one process after the other, whoever is killed meanwhile."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Holds the lock while a tool runs that says when it began, and ends when its input does.
MAKE = """
import sys
from pathlib import Path
from server.web import build

build.WEB = Path(sys.argv[1])
with build._alone() as lock:
    build._run("sh", "-c", "echo > began; read word", lock=lock, timeout_s=60)
"""


def test_a_tool_that_outlives_its_killed_caller_keeps_others_out(tmp_path: Path, root: Path) -> None:
    os.mkfifo(tmp_path / "began")
    caller = subprocess.Popen([sys.executable, "-c", MAKE, tmp_path], cwd=root, stdin=subprocess.PIPE)
    assert caller.stdin is not None
    with (tmp_path / "began").open() as began:
        began.read()

    caller.kill()
    caller.wait()

    with caller.stdin, (tmp_path / ".lock").open("w") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        caller.stdin.close()
        fcntl.flock(file, fcntl.LOCK_EX)
