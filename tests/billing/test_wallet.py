from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from billing import wallet
from billing.errors import (
    IdempotencyMismatchError,
    InsufficientFundsError,
    InvalidAmountError,
    InvalidKeyError,
    UnknownCurrencyError,
)
from billing.models import AccountKind, JournalKind, OwnerId
from billing.money import Money
from tests.billing.earner import Earner
from tests.billing.world import (
    NOW,
    Sessions,
    balance,
    buy,
    end,
    events,
    facts,
    fund,
    new_hold,
    newest_journal,
    owner,
    refusals,
    usd,
    violations,
)

REASON = "A present."


async def adjust(
    sessions: Sessions, who: OwnerId, money: Money, *, reason: str = REASON, key: str = "key"
) -> int:
    async with sessions.begin() as session:
        return await wallet.adjust(session, who, money, actor="admin:test", reason=reason, key=key, now=NOW)


async def test_who_never_had_anything_has_zeros(sessions: Sessions) -> None:
    async with sessions() as session:
        found = await wallet.balances(session, owner())

    assert found == wallet.Balances(
        balance=usd(0), held=usd(0), earnings_pending=usd(0), earnings_available=usd(0)
    )


async def test_an_adjustment_gives_and_takes(sessions: Sessions) -> None:
    student = owner()

    await adjust(sessions, student, usd(500), key="give")
    await adjust(sessions, student, usd(-200), key="take")

    assert await balance(sessions, student) == 300
    assert await events(sessions) == ["wallet.changed", "wallet.changed"]
    assert await violations(sessions) == []


async def test_the_same_key_adjusts_once(sessions: Sessions) -> None:
    student = owner()

    first = await adjust(sessions, student, usd(500))
    second = await adjust(sessions, student, usd(500))

    assert first == second
    assert await balance(sessions, student) == 500
    assert await events(sessions) == ["wallet.changed"]


async def test_the_same_key_with_another_amount_is_refused(sessions: Sessions) -> None:
    student = owner()
    await adjust(sessions, student, usd(500))

    with pytest.raises(IdempotencyMismatchError):
        await adjust(sessions, student, usd(501))

    assert await balance(sessions, student) == 500


async def test_no_more_can_be_taken_than_is_there(sessions: Sessions) -> None:
    student = owner()
    await adjust(sessions, student, usd(500), key="give")

    with pytest.raises(InsufficientFundsError) as refused:
        await adjust(sessions, student, usd(-750), key="take")

    assert refused.value.shortfall == usd(250)
    assert refused.value.facts == {"shortfall": usd(250)}
    assert str(refused.value) == "2.50 USD are missing."


@pytest.mark.parametrize("reason", ["", "too short", "         x         "])
async def test_an_admin_says_why(sessions: Sessions, reason: str) -> None:
    codes = await refusals(
        sessions,
        partial(
            wallet.adjust, owner_id=owner(), money=usd(1), actor="admin:1", reason=reason, key="k", now=NOW
        ),
    )

    assert codes == ["reason_too_short"]


@pytest.mark.parametrize("amount", [0, 10**16, -(10**16)])
async def test_an_amount_that_no_account_can_hold_is_refused(sessions: Sessions, amount: int) -> None:
    with pytest.raises(InvalidAmountError):
        await adjust(sessions, owner(), usd(amount))


@pytest.mark.parametrize("currency", ["XXX", "usd", "", "US", "\0\0\0"])
async def test_a_foreign_currency_is_refused(sessions: Sessions, currency: str) -> None:
    with pytest.raises(UnknownCurrencyError):
        await adjust(sessions, owner(), Money(1, currency))


@pytest.mark.parametrize("key", ["", "k" * 256, "nul\0"])
async def test_a_key_has_1_to_255_characters(sessions: Sessions, key: str) -> None:
    with pytest.raises(InvalidKeyError):
        await adjust(sessions, owner(), usd(1), key=key)


async def test_a_key_may_have_255_characters(sessions: Sessions) -> None:
    student = owner()

    for key in ("k", "k" * 255):
        await adjust(sessions, student, usd(1), key=key)

    assert await balance(sessions, student) == 2


async def test_currencies_do_not_mix(sessions: Sessions) -> None:
    student = owner()

    await adjust(sessions, student, Money(500, "EUR"), key="euro")

    assert await balance(sessions, student) == 0
    async with sessions() as session:
        assert (await wallet.balances(session, student, "EUR")).balance == Money(500, "EUR")


async def test_goodwill_is_our_expense_and_given_once_for_each_key(sessions: Sessions) -> None:
    student = owner()

    async def give(amount: int) -> int:
        async with sessions.begin() as session:
            return await wallet.give(
                session,
                student,
                usd(amount),
                why="outage",
                actor="admin:1",
                reason="An outage.",
                key="k",
                now=NOW,
            )

    journals = [await give(500) for _ in range(2)]
    with pytest.raises(IdempotencyMismatchError):
        await give(600)
    more: dict[str, Any] = {"owner_id": student, "why": "outage", "actor": "admin:1", "key": "l", "now": NOW}
    codes = await refusals(
        sessions,
        partial(wallet.give, money=usd(500), reason="short", **more),
        partial(wallet.give, money=usd(-500), reason="An outage.", **more),
    )

    assert codes == ["reason_too_short", "invalid_amount"]
    assert len(set(journals)) == 1
    newest = await newest_journal(sessions)
    assert (newest.kind, newest.actor, newest.reason) == ("goodwill", "admin:1", "An outage.")
    assert (newest.ref_type, newest.ref_id, newest.at) == ("owner", student, NOW)
    assert await balance(sessions, student) == 500
    assert await events(sessions) == ["goodwill.given", "wallet.changed"]
    assert await violations(sessions) == []


async def test_entries_of_a_tutor_name_what_they_owe(sessions: Sessions) -> None:
    earner = Earner(sessions)
    await earner.owe(1_000)

    async with sessions() as session:
        found = await wallet.entries(session, earner.tutor, limit=10)

    assert (found[0].account, found[0].amount) == (AccountKind.TUTOR_DEBT, usd(-1_000))


async def test_entries_tell_the_whole_story_newest_first(sessions: Sessions) -> None:
    student, tutor, lesson = owner(), owner(), uuid4()
    await fund(sessions, student, 20_000)
    hold = new_hold(lesson_id=lesson, tutor_id=tutor)
    await buy(sessions, student, hold)
    await end(sessions, facts(lesson, {student: 900}))

    async with sessions() as session:
        found = await wallet.entries(session, student, limit=10)

    assert [(entry.kind, entry.amount.amount) for entry in found] == [
        (JournalKind.SETTLEMENT, 10_000),
        (JournalKind.PURCHASE, -10_000),
        (JournalKind.ADMIN_ADJUSTMENT, 20_000),
    ]
    assert [entry.reason for entry in found] == ["attendance", None, "Money for the test."]
    assert [(entry.ref_type, entry.ref_id) for entry in found] == [
        ("lesson", lesson),
        ("purchase", hold.source_id),
        ("owner", student),
    ]


async def test_entries_of_a_tutor_are_earnings(sessions: Sessions) -> None:
    student, tutor, lesson = owner(), owner(), uuid4()
    await fund(sessions, student, 10_000)
    await buy(sessions, student, new_hold(lesson_id=lesson, tutor_id=tutor))
    await end(sessions, facts(lesson, {student: 4_800}))

    async with sessions() as session:
        found = await wallet.entries(session, tutor, limit=10)

    assert [(entry.account, entry.amount) for entry in found] == [(AccountKind.EARNINGS, usd(3_000))]


async def test_pages_of_entries_follow_each_other_without_gap(sessions: Sessions) -> None:
    student = owner()
    for number in range(5):
        await adjust(sessions, student, usd(number + 1), key=str(number))

    async with sessions() as session:
        first = await wallet.entries(session, student, limit=2)
        second = await wallet.entries(session, student, limit=2, before=first[-1].cursor)
        third = await wallet.entries(session, student, limit=2, before=second[-1].cursor)

    assert [entry.amount.amount for entry in (*first, *second, *third)] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("cursor", ["", "1", "1-2-3", "x-y", "-1-2", f"{10**19}-1"])
async def test_a_cursor_of_nobody_is_refused(sessions: Sessions, cursor: str) -> None:
    async with sessions() as session:
        with pytest.raises(ValueError, match="cursor"):
            await wallet.entries(session, owner(), limit=1, before=cursor)
