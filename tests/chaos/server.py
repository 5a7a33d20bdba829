"""`fourtalk serve` as a process of its own, killed by its pid; and the commands beside it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import psutil  # type: ignore[import-untyped]  # it has no types
from sqlalchemy import make_url

from server import embedded
from server.ports import free_port
from tests import beside
from tests.forked import Forked

# A first start makes a database cluster; on a busy machine with two cores that takes seconds.
START_TIMEOUT_S = 60.0
# Longer than any test.
TOKEN_S = 4 * 3600
# What of our own environment a server needs; everything else would configure it by accident.
KEPT = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "TMPDIR")
# The same for every server of a test, so that a token of one is good for the other.
SECRET = "chaos-" * 8


class Account(msgspec.Struct, frozen=True):
    """Somebody with a token."""

    user_id: str
    access_token: str


class Usage(msgspec.Struct, frozen=True):
    """What a process holds."""

    resident_bytes: int
    descriptors: int


class Server:
    """One server process on its own data dir; it can be killed, frozen, and started again on the same port.

    Args:
        folder: The data dir.
        database_url: A database shared with other servers; without it the server starts its own.
        redis_url: Goes with `database_url`.
        time_travel: Let business time be moved.
        workers: Processes that share the port.
        environment: More of it for the process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        time_travel: bool = False,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self._options = ["--port", str(self.port), "--workers", str(workers)]
        self._options += ["--time-travel"] if time_travel else []
        addresses = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        self._environment = {
            **{name: os.environ[name] for name in KEPT if name in os.environ},  # noqa: TID251 - for a child
            **{name: url for name, url in addresses.items() if url is not None},
            "RATE_LIMITS": "off",
            "FOURTALK_WEB": "off",
            "SECRET_KEY": SECRET,
            **(environment or {}),
        }
        sockets = embedded.socket_folder(folder.resolve())
        self.database_url = database_url or embedded.database_url(sockets, embedded.DATABASE)
        self.redis_url = redis_url or f"unix://{sockets / 'valkey.sock'}"
        self._process: Forked | None = None

    async def start(self) -> None:
        """Start the process, and return once it is ready.

        Raises:
            RuntimeError: It ended instead, or took too long.
        """
        if "DATABASE_URL" not in self._environment:
            await asyncio.to_thread(beside.prepare, self.folder)
        self._process = await asyncio.to_thread(
            Forked,
            *("serve", *self._options, "--data-dir", str(self.folder)),
            environment=self._environment,
            log=self._log,
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await asyncio.to_thread(self._process.line)
        except TimeoutError:
            line = ""
        if "fourtalk is ready" not in line:
            await self.kill()
            raise RuntimeError(f"the server did not start:\n{self._log.read_text()[-3000:]}")

    async def kill(self) -> None:
        """End the process as a power cut would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """End the process in good order and return its exit code."""
        return await self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Let the process do nothing until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._signal(signal.SIGCONT)

    def ask_to_end(self) -> None:
        """Ask the process to end in good order, without waiting for it."""
        self._signal(signal.SIGTERM)

    def workers(self) -> set[int]:
        """Return the processes that share the port, by their ids: forks have the parent's command line."""
        assert self._process is not None, "start it first"
        mine = Path(f"/proc/{self._process.pid}")
        children = (mine / f"task/{self._process.pid}/children").read_text().split()
        own = (mine / "cmdline").read_bytes()
        return {int(pid) for pid in children if Path(f"/proc/{pid}/cmdline").read_bytes() == own}

    def usage(self) -> Usage:
        """Return what the process holds now."""
        assert self._process is not None, "start it first"
        process = Path("/proc", str(self._process.pid))
        resident_pages = int((process / "statm").read_text().split()[1])
        return Usage(resident_pages * os.sysconf("SC_PAGE_SIZE"), len(list((process / "fd").iterdir())))

    def peers(self) -> set[int]:
        """Return the ports at the other ends of the sockets that the process has open."""
        assert self._process is not None, "start it first"
        sockets = psutil.Process(self._process.pid).net_connections("tcp")
        return {
            end.raddr.port
            for end in sockets
            if end.laddr.port == self.port and end.status != psutil.CONN_LISTEN
        }

    async def mint(self, count: int, *, role: str = "student", ttl_s: int = TOKEN_S) -> list[Account]:
        """Make accounts, as `fourtalk user mint` does."""
        minted = await asyncio.to_thread(
            beside.mint, self._environment, self.folder, count, role=role, ttl_s=ttl_s
        )
        return [Account(one["user_id"], one["access_token"]) for one in minted]

    async def violations(self) -> Any:
        """Return what `fourtalk check` finds wrong."""
        return await asyncio.to_thread(beside.violations, self._environment, self.folder)

    async def query(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database behind the server's back."""
        url = make_url(self.database_url)
        connection = await asyncpg.connect(
            host=str(url.query["host"]), user=url.username, database=url.database
        )
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    def logged(self, event: str) -> list[Mapping[str, Any]]:
        """Return the lines of its log with this name."""
        lines = (line for line in self._lines() if event.encode() in line)
        return [entry for entry in map(msgspec.json.decode, lines) if entry.get("event") == event]

    def errors(self) -> list[Mapping[str, Any]]:
        """Return what the server has logged as an error."""
        found: list[Mapping[str, Any]] = []
        for line in self._lines():
            try:
                entry = msgspec.json.decode(line)
            except msgspec.DecodeError:
                found.append({"event": line.decode(errors="replace")})
            else:
                if entry.get("level") in ("error", "critical"):
                    found.append(entry)
        return found

    def _lines(self) -> list[bytes]:
        """Return the lines of its log but one that is being written."""
        return self._log.read_bytes().split(b"\n")[:-1]

    @property
    def _log(self) -> Path:
        return self.folder / "fourtalk.log"

    async def _end(self, sig: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        code, _ = await asyncio.to_thread(process.end, sig)
        return code

    def _signal(self, sig: signal.Signals) -> None:
        assert self._process is not None, "start it first"
        self._process.send(sig)


@asynccontextmanager
async def running(*servers: Server) -> AsyncIterator[None]:
    """Start servers one after the other, and see that none of them is left behind."""
    try:
        for server in servers:
            await server.start()
        yield
    finally:
        for server in servers:
            await server.stop()
