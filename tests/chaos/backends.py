"""The database and Valkey of one test, each of which can be taken away."""

import asyncio
import signal
import subprocess

from server import embedded


class Backends:
    """The database and Valkey that a server uses, each of which can be taken away."""

    def __init__(self, postgres: embedded.Embedded, valkey: embedded.Embedded) -> None:
        self.database_url = postgres.database_url
        self.redis_url = valkey.redis_url
        self._postgres = postgres
        self._valkey = valkey

    async def stop_postgres(self, sig: signal.Signals) -> None:
        """Send PostgreSQL a signal that ends it, and wait until it is gone."""
        await _end(self._postgres, sig)

    async def start_postgres(self) -> None:
        """Bring it back."""
        await asyncio.to_thread(self._postgres.start_postgres)

    def freeze_valkey(self) -> None:
        """Let Valkey keep its connections and answer nothing, until `thaw_valkey`."""
        _child(self._valkey).send_signal(signal.SIGSTOP)

    def thaw_valkey(self) -> None:
        """Undo `freeze_valkey`."""
        _child(self._valkey).send_signal(signal.SIGCONT)

    async def kill_valkey(self) -> None:
        """End Valkey as a crash would."""
        await _end(self._valkey, signal.SIGKILL)

    async def start_valkey(self) -> None:
        """Bring it back, empty."""
        await asyncio.to_thread(self._valkey.start_valkey)


async def _end(servers: embedded.Embedded, sig: signal.Signals) -> None:
    child = _child(servers)
    child.send_signal(sig)
    await asyncio.to_thread(child.wait)


def _child(servers: embedded.Embedded) -> subprocess.Popen[bytes]:
    return servers._children[-1][0]
