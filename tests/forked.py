"""`fourtalk` as a process of its own, without the seconds that loading it takes: forked from one that has loaded it."""

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from server import cli, embedded

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])

END_TIMEOUT_S = 60.0


class Forked:
    """One command of the product, with an environment of its own; what it logs is added to a file.

    It is sent SIGTERM should the tests be killed.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        heard, said = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_live, args=(arguments, dict(environment), said, log))
        self._process.start()
        said.close()
        self._out = open(os.dup(heard.fileno()), "rb")  # noqa: PTH123, SIM115 - until it ends
        heard.close()

    @property
    def pid(self) -> int:
        """Return its process id."""
        assert self._process.pid is not None, "it was started"
        return self._process.pid

    def line(self) -> str:
        """Wait for a line of its output; there is none once it has ended."""
        return self._out.readline().decode()

    def send(self, sig: signal.Signals) -> None:
        """Send it a signal, if it still lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, sig)

    def end(self, sig: signal.Signals | None = None) -> tuple[int, str]:
        """Wait until it ends, by a signal or by itself; return its exit code and the rest of its output."""
        if sig is not None:
            self.send(signal.SIGCONT)
            self.send(sig)
        impatient = threading.Timer(END_TIMEOUT_S, self.send, [signal.SIGKILL])
        impatient.start()
        with self._out:
            out = self._out.read().decode()
        self._process.join()
        impatient.cancel()
        code = self._process.exitcode
        assert code is not None, "it has ended"
        self._process.close()
        return code, out


def _live(arguments: tuple[str, ...], environment: dict[str, str], said: Connection, log: Path) -> None:
    embedded.die_with_parent(signal.SIGTERM)
    os.dup2(said.fileno(), sys.stdout.fileno())
    said.close()
    with log.open("ab") as kept:
        os.dup2(kept.fileno(), sys.stderr.fileno())
    if "LD_PRELOAD" in environment:
        # What the linker does at the start cannot be done to a fork.
        os.execve(sys.executable, [sys.executable, "-m", "server", *arguments], environment)
    os.environ.clear()  # noqa: TID251 - this is the process that has it
    os.environ.update(environment)  # noqa: TID251
    gc.freeze()
    sys.exit(cli.main(arguments))
