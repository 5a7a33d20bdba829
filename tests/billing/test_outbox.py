from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import text

from billing import outbox
from billing.messages import Event, HoldPlaced, WalletChanged
from billing.models import HoldId, SourceKind
from tests.billing.world import NOW, Sessions, owner, usd

PLACED = HoldPlaced(
    hold_id=HoldId(uuid4()),
    student_id=owner(),
    tutor_id=owner(),
    lesson_id=None,
    source_kind=SourceKind.COURSE_SLICE,
    source_id=uuid4(),
    amount=usd(5),
)


async def test_an_event_is_read_as_it_was_recorded(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        outbox.record(session, PLACED, at=NOW)
    async with sessions() as session:
        row = (await session.execute(text("select type, data, at, reacted_at, node from outbox"))).one()

    assert (row.type, row.at, row.reacted_at, row.node) == ("hold.placed", NOW, None, None)
    assert msgspec.convert(row.data, Event) == PLACED


async def test_events_keep_their_order(sessions: Sessions) -> None:
    people = [owner() for _ in range(20)]
    async with sessions.begin() as session:
        for who in people:
            outbox.record(session, WalletChanged(who, "USD"), at=NOW)
    async with sessions() as session:
        rows = (await session.scalars(text("select data->>'owner_id' from outbox order by id"))).all()

    assert rows == [str(who) for who in people]


async def test_an_event_of_a_transaction_that_failed_never_was(sessions: Sessions) -> None:
    async with sessions() as session:
        outbox.record(session, PLACED, at=NOW)
        await session.flush()
        await session.rollback()
    async with sessions() as session:
        assert await session.scalar(text("select count(*) from outbox")) == 0


async def test_the_session_remembers_that_something_was_recorded_and_the_node(sessions: Sessions) -> None:
    node = uuid4()
    async with sessions.begin() as session:
        session.info[outbox.NODE] = node
        assert outbox.RECORDED not in session.info
        outbox.record(session, PLACED, at=NOW)
        assert session.info[outbox.RECORDED] is True
    async with sessions() as session:
        assert await session.scalar(text("select node from outbox")) == node


async def test_rows_of_events_name_the_node_and_have_a_value_for_each_column(sessions: Sessions) -> None:
    node = uuid4()
    async with sessions() as session:
        session.info[outbox.NODE] = node
        rows = outbox.rows(session, [PLACED, WalletChanged(owner(), "USD")], at=NOW)

        assert session.info[outbox.RECORDED] is True
    assert rows.columns["type"] == ["hold.placed", "wallet.changed"]
    assert rows.constants == {"at": NOW, "node": node}
    torn = msgspec.structs.replace(rows, columns={**rows.columns, "type": ["hold.placed"]})
    with pytest.raises(ValueError, match="is longer than"):
        torn.parameters(0)
