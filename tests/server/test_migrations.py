"""One history for all packages: it makes what the models say, and it can be undone."""

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg
from alembic import command

from billing.models import ATTEMPT_ARROWS, WITHDRAWAL_ARROWS
from server import embedded, migrate
from server.features.courses import rules


async def test_models_and_migrations_say_the_same(database_url: str) -> None:
    await asyncio.to_thread(migrate.check, database_url)


async def test_every_migration_can_be_undone_and_done_again(database_url: str) -> None:
    config = migrate.alembic_config(database_url)

    await asyncio.to_thread(command.downgrade, config, "base")
    await asyncio.to_thread(command.upgrade, config, "head")

    await asyncio.to_thread(migrate.check, database_url)


async def test_upgrade_of_a_database_at_head_changes_nothing(database_url: str) -> None:
    await asyncio.to_thread(migrate.upgrade, database_url)

    await asyncio.to_thread(migrate.check, database_url)


async def test_triggers_know_the_arrows_of_the_rules(servers: embedded.Embedded, template: str) -> None:
    connection = await asyncpg.connect(host=str(servers.sockets), user=embedded.USER, database=template)
    try:
        rows = await connection.fetch(
            "select tgrelid::regclass::text as name, tgargs from pg_trigger where tgname = 'keep_arrows'"
        )
    finally:
        await connection.close()

    stored = {row["name"]: set(row["tgargs"].decode().rstrip("\0").split("\0")) for row in rows}
    of_rules: dict[str, Mapping[Any, frozenset[Any]]] = {
        "course": rules.COURSE_ARROWS,
        "course_session": rules.SESSION_ARROWS,
        "purchase": rules.PURCHASE_ARROWS,
        "withdrawal": WITHDRAWAL_ARROWS,
        "payout_attempt": ATTEMPT_ARROWS,
    }
    assert stored == {
        name: {f"{old}>{new}" for old, news in arrows.items() for new in news}
        for name, arrows in of_rules.items()
    }
