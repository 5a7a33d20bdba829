"""One history for all packages: it makes what the models say, and it can be undone."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

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
from tests.billing.seller import Seller
from tests.billing.world import violations


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


async def test_lessons_of_packages_that_attendance_settled_stay_and_others_bar_the_way_back(
    database_url: str, sessions: async_sessionmaker[AsyncSession]
) -> None:
    """What was settled and put back before is sound and explained as before; an older rule never judges what is newer."""
    config, seller = migrate.alembic_config(database_url), Seller(sessions)
    await asyncio.to_thread(command.upgrade, config, "head")
    went_back, paid, given = uuid4(), uuid4(), uuid4()
    package_id = await seller.sell()
    for lesson in (went_back, paid, given):
        await seller.use(package_id, lesson)
    await seller.taught_once(paid, attended_s=0)
    await seller.taught_once(went_back, tutor_attended_s=1)
    await asyncio.to_thread(command.downgrade, config, "0028")
    await asyncio.to_thread(command.upgrade, config, "head")
    sound = await violations(sessions)
    await seller.teach(given, attended_s=0)

    with pytest.raises(RuntimeError, match="settled by who came"):
        await asyncio.to_thread(command.downgrade, config, "0028")

    rows = await _fetch(database_url, "select cause, to_student from hold_settlement order by to_student")
    assert rows == [("outcome", 0), ("attendance", 2_000)]
    assert await _fetch(database_url, "select is_by_outcome from package_return") == [(False,)]
    assert sound == await violations(sessions) == []


async def test_a_lesson_of_a_package_that_went_back_as_none_came_bars_the_way_back(
    database_url: str, sessions: async_sessionmaker[AsyncSession]
) -> None:
    config, seller, lesson = migrate.alembic_config(database_url), Seller(sessions), uuid4()
    await asyncio.to_thread(command.upgrade, config, "head")
    await seller.use(await seller.sell(), lesson)
    await seller.teach(lesson, tutor_attended_s=0)

    with pytest.raises(RuntimeError, match="settled by who came"):
        await asyncio.to_thread(command.downgrade, config, "0028")


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
