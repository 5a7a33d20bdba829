"""Compiles `_outlet.c` when the package is built or installed; without a compiler `outlet.py` does its work."""

import tempfile
from pathlib import Path

from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError

SOURCE = "server/gateway/_outlet.c"


def compile_outlet(root: Path) -> Path | None:
    """Compile the extension in the tree and return its path below `root`; None where that cannot be done.

    An editable install finds it beside its source, a wheel takes it along.
    """
    try:
        return _compile(root)
    except (BaseError, OSError):
        return None


def _compile(root: Path) -> Path:
    extension = Extension(
        "server.gateway._outlet", [str(root / SOURCE)], extra_compile_args=["-O2", "-g0", "-Wall", "-Wextra"]
    )
    command = build_ext(Distribution({"ext_modules": [extension]}))
    command.build_lib = str(root)
    with tempfile.TemporaryDirectory() as folder:
        command.build_temp = folder
        command.ensure_finalized()
        command.run()
    return Path(command.get_ext_fullpath(extension.name)).relative_to(root)
