"""The made client: how heavy its first page is, and whether its types are those of the server."""

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.web import build, wire

# A phone on a slow line (400 kbit/s) has it within a second.
FIRST_PAGE_BYTES = 40 * 1024


@pytest.fixture(scope="module")
def outputs(in_ci: bool) -> dict[str, Any]:
    """What the bundler says of each file of the client."""
    meta = build.DIST / "meta.json"
    if not meta.is_file() and not in_ci:
        pytest.skip("the client is not made: uv run python -m server.web.build")
    found: dict[str, Any] = msgspec.json.decode(meta.read_bytes())["outputs"]
    return found


def first_page(outputs: dict[str, Any]) -> set[str]:
    """The files that come before anything is shown: the entry and what it imports without waiting."""
    wanted = [path for path, output in outputs.items() if output.get("entryPoint") == "app/main.tsx"]
    found: set[str] = set()
    while wanted:
        path = wanted.pop()
        found.add(path)
        imports = (one for one in outputs[path]["imports"] if one["kind"] == "import-statement")
        wanted += [one["path"] for one in imports if one["path"] not in found]
    return found


def test_first_page_is_light(outputs: dict[str, Any]) -> None:
    files = [build.DIST / Path(path).relative_to("dist.new") for path in first_page(outputs)]

    size = sum(len(gzip.compress(file.read_bytes(), 9)) for file in files)

    assert size <= FIRST_PAGE_BYTES, f"{size} bytes of script"


def test_media_library_is_not_in_the_first_page(outputs: dict[str, Any]) -> None:
    inputs = {source for path in first_page(outputs) for source in outputs[path]["inputs"]}

    assert not [source for source in inputs if "livekit" in source]


def test_clients_types_are_those_of_the_server(root: Path) -> None:
    committed = (root / "server/web/app" / wire.NAME).read_bytes()

    assert committed == wire.module(), "run: uv run fourtalk schema wire.ts --out server/web/app"
