"""Compiles `_outlet.c` when the package is built or installed; without a compiler `outlet.py` does its work."""

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError

SOURCE = "server/gateway/_outlet.c"


class OutletHook(BuildHookInterface):  # type: ignore[misc]  # not installed where types are checked
    """Puts the compiled module beside its source: an editable install finds it there, a wheel takes it along."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a failure costs speed, not the installation."""
        del version
        if self.target_name != "wheel":
            return
        try:
            made = _compile(Path(self.root))
        except (BaseError, OSError):
            return
        build_data["artifacts"].append(made.as_posix())
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def _compile(root: Path) -> Path:
    """Compile the extension in the tree and return its path below `root`."""
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
