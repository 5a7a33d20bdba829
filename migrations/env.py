"""One history for the tables of all packages. Run through `fourtalk migrate`."""

import asyncio
from typing import Any

from alembic import context
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

from server.tables import METADATA


def include_object(item: Any, name: str | None, kind: str, reflected: bool, _compare_to: Any) -> bool:  # noqa: FBT001
    """Leave partitions out of the comparison: their parent stands for them, in foreign keys too."""
    if kind == "foreign_key_constraint":
        return "_p_" not in item.elements[0].target_fullname
    return not (kind == "table" and reflected and name is not None and "_p_" in name)


def run(connection: Connection) -> None:
    """Run the migrations in one transaction each, with a lock limit: a migration never stops the product."""
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        include_object=include_object,
        transaction_per_migration=True,
        compare_server_default=False,
    )
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    """Connect and run."""
    engine = create_async_engine(
        context.config.attributes["database_url"],
        poolclass=pool.NullPool,
        connect_args={"server_settings": {"lock_timeout": "4s"}},
    )
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(main())
