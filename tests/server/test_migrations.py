"""One history for all packages: it makes what the models say, and it can be undone."""

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg
import pytest
from alembic import command
from sqlalchemy import text

from billing.models import (
    ATTEMPT_ARROWS,
    AUTHORIZATION_ARROWS,
    CARD_DISPUTE_ARROWS,
    CARD_REFUND_ARROWS,
    DISPUTE_ARROWS,
    PACKAGE_ARROWS,
    WITHDRAWAL_ARROWS,
)
from server import db, embedded, migrate
from server.features.bookings.rules import ARROWS as BOOKING_ARROWS
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
        "dispute": DISPUTE_ARROWS,
        "card_dispute": CARD_DISPUTE_ARROWS,
        "card_authorization": AUTHORIZATION_ARROWS,
        "card_refund": CARD_REFUND_ARROWS,
        "package": PACKAGE_ARROWS,
        "booking": BOOKING_ARROWS,
    }
    assert stored == {
        name: {f"{old}>{new}" for old, news in arrows.items() for new in news}
        for name, arrows in of_rules.items()
    }


async def test_when_a_job_ran_moves_with_it_and_back(database_url: str) -> None:
    config = migrate.alembic_config(database_url)
    ran = "select last_run_at::text, last_count from {} where {} = 'settle_due'"

    await asyncio.to_thread(command.downgrade, config, "0007")
    await _execute(
        database_url,
        "insert into job_run (name, next_due, last_run_at, last_count)"
        " values ('settle_due', '2030-01-07 12:05Z', '2030-01-07 12:00Z', 3), ('of yesterday', now(), null, null)",
    )
    await asyncio.to_thread(command.upgrade, config, "head")
    there = await _fetch(database_url, ran.format("job", "kind"))
    await asyncio.to_thread(command.downgrade, config, "0007")
    back = await _fetch(database_url, ran.format("job_run", "name"))

    assert there == back == [("2030-01-07 12:00:00+00", 3)]


async def test_terms_that_were_replaced_are_not_brought_into_force_by_a_way_back(database_url: str) -> None:
    config = migrate.alembic_config(database_url)
    await asyncio.to_thread(command.upgrade, config, "head")
    await _execute(database_url, "alter table policy disable trigger all")
    await _execute(database_url, "update policy set replaces_planned = true")

    with pytest.raises(RuntimeError, match="terms were replaced"):
        await asyncio.to_thread(command.downgrade, config, "0026")

    await _execute(database_url, "update policy set replaces_planned = false")
    await _execute(database_url, "alter table policy enable trigger all")


async def _execute(url: str, statement: str) -> None:
    engine = db.create_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


async def _fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    engine = db.create_engine(url)
    async with engine.connect() as connection:
        rows = [tuple(row) for row in await connection.execute(text(query))]
    await engine.dispose()
    return rows
