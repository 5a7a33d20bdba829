"""The servers from wheels: one owner a data dir, and no orphan however the parent ends."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import asyncpg
import pytest

from server import embedded

OWNER = """
import sys, time
from pathlib import Path
from server.embedded import Embedded
servers = Embedded(Path(sys.argv[1]), fsync=False)
servers.acquire()
servers.start_postgres()
servers.start_valkey()
print(*[child.pid for child, _ in servers._children], flush=True)
time.sleep(60)
"""


def test_second_owner_of_a_data_dir_gets_a_clear_error(tmp_path: Path) -> None:
    with embedded.Embedded(tmp_path) as first:
        first.acquire()

        with pytest.raises(embedded.DataDirBusyError, match=f"pid {os.getpid()}"):
            embedded.Embedded(tmp_path).acquire()

    with embedded.Embedded(tmp_path) as next_owner:
        next_owner.acquire()


def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2

        parent.send_signal(signal.SIGKILL)

        end = time.monotonic() + 20
        while any(_runs(pid) for pid in pids):
            assert time.monotonic() < end, "a child outlived its parent"
            time.sleep(0.05)


def test_a_start_waits_for_the_server_of_a_process_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        postgres = int(parent.stdout.readline().split()[0])
        # Busy with something else, so that it hears of its end later.
        os.kill(postgres, signal.SIGSTOP)
        parent.kill()
        parent.wait()

    thaw = threading.Timer(0.5, os.kill, (postgres, signal.SIGCONT))
    thaw.start()
    with embedded.Embedded(tmp_path, fsync=False) as servers:
        servers.acquire()
        servers.start_postgres()

        assert asyncio.run(_execute(servers, "select 7")) == [(7,)]
    thaw.join()


def test_data_survives_a_restart(tmp_path: Path) -> None:
    with embedded.Embedded(tmp_path, fsync=False) as servers:
        servers.acquire()
        servers.start_postgres()
        asyncio.run(_execute(servers, "create table kept (x int); insert into kept values (7)"))

    with embedded.Embedded(tmp_path, fsync=False) as servers:
        servers.acquire()
        servers.start_postgres()

        assert asyncio.run(_execute(servers, "select x from kept")) == [(7,)]


def test_long_path_still_has_a_socket(tmp_path: Path) -> None:
    folder = embedded.socket_folder(tmp_path / ("x" * 100))

    assert len(str(folder)) <= embedded.SOCKET_FOLDER_MAX
    folder.rmdir()


def test_start_that_fails_shows_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9\n")

    with embedded.Embedded(tmp_path) as servers:
        servers.acquire()

        with pytest.raises(embedded.EmbeddedError, match="did not start"):
            servers.start_postgres()


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


async def _execute(servers: embedded.Embedded, statement: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(
        host=str(servers.sockets), user=embedded.USER, database=embedded.DATABASE
    )
    try:
        if not statement.startswith("select"):
            await connection.execute(statement)
            return []
        return [tuple(row.values()) for row in await connection.fetch(statement)]
    finally:
        await connection.close()
