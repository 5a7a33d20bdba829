"""One node with the product's own limits."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway.harness import Node, serving


@pytest.fixture
async def node(redis_url: str) -> AsyncIterator[Node]:
    async with serving(redis_url) as running:
        yield running
