"""PostgreSQL and Valkey that a test may take away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server import embedded
from tests import beside
from tests.chaos.backends import Backends


@pytest.fixture
def backends(tmp_path: Path) -> Iterator[Backends]:
    """PostgreSQL and Valkey of one test."""
    beside.prepare(tmp_path / "postgres")
    with (
        embedded.Embedded(tmp_path / "postgres") as postgres,
        embedded.Embedded(tmp_path / "valkey") as valkey,
    ):
        postgres.acquire()
        postgres.start_postgres()
        valkey.acquire()
        valkey.start_valkey()
        yield Backends(postgres, valkey)
