"""The client's package: its types, its own tests, and its size."""

import subprocess

import pytest

from tests.client import node

# npm takes 8 s with a cold cache on two cores, its tests 5 s; the rest is for a busy machine and a slow registry.
pytestmark = pytest.mark.timeout(300)


def test_package_is_sound() -> None:
    if not _is_installed():
        _run(*node.npm(), "ci", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1")

    _run(node.node(), "node_modules/typescript/bin/tsc")
    _run(node.node(), "node_modules/vitest/vitest.mjs", "run", "--no-isolate", "--reporter=dot")


def _is_installed() -> bool:
    """Return whether the packages are those of the lock; npm writes its own copy of it last."""
    installed = node.PACKAGE / "node_modules/.package-lock.json"
    lock = node.PACKAGE / "package-lock.json"
    return installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime


def _run(*command: object) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=node.PACKAGE,
        env=node.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
