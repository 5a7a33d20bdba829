"""What is made when the package is built or installed: the compiled outlet, and in a real wheel the browser client.

Not the client in an editable install: uv keeps the built editable wheel and would not run this again for a fresh checkout,
and `uv run pytest` would wait for npm. There `fourtalk serve` makes it.
"""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PackageHook(BuildHookInterface):  # type: ignore[misc]  # not installed where types are checked
    """Adds to a wheel what is not in the repository."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make both; the client is a must, the compiled module only makes it faster."""
        if self.target_name != "wheel":
            return
        # A build frontend imports this file by its path; what it needs of ours is found from the root.
        sys.path.insert(0, self.root)
        from server.gateway import outlet_build
        from server.web import build

        made = outlet_build.compile_outlet(Path(self.root))
        if made is not None:
            build_data["artifacts"].append(made.as_posix())
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
        if version != "editable":
            build.build()
            build_data["artifacts"].append("server/web/dist/**")
