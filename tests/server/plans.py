"""What the database is asked, and how it means to answer."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine


class Asked(msgspec.Struct, frozen=True):
    statement: str
    values: tuple[Any, ...]


@contextmanager
def recorded(engine: AsyncEngine) -> Iterator[list[Asked]]:
    """Write down what the database is asked."""
    asked: list[Asked] = []

    def note(_: object, __: object, statement: str, values: Any, *___: object) -> None:
        if statement.lstrip().lower().startswith(("select", "with")):
            asked.append(Asked(statement, tuple(values)))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)


async def planned(
    engine: AsyncEngine, asked: Sequence[Asked], *, avoiding: Sequence[str] = ()
) -> AsyncIterator[dict[str, Any]]:
    """Tell all steps of the plans of these questions.

    What is to be avoided (`seqscan`, `sort`, …) is then planned only where there is no other way: so a table need not be
    large to show what would be done with a large one.
    """
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None, "the connection is open"
        for way in avoiding:
            await connection.execute(text(f"set local enable_{way} = off"))
        for one in asked:
            plan = await raw.fetchval(f"explain (format json) {one.statement}", *one.values)
            for step in _steps(plan[0]["Plan"]):
                yield step


def _steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _steps(part)
