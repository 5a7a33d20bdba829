"""Withdrawals: reserved when asked for, out once or back once, by two people where it is much."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from billing import maturity, payout_accounts, withdrawals
from billing.errors import (
    BillingError,
    IdempotencyMismatchError,
    InsufficientFundsError,
    NoPayoutAccountError,
    PayoutAccountFrozenError,
    SealBrokenError,
    SecondPersonError,
    WithdrawalHeldError,
    WithdrawalNotFoundError,
    WithdrawalStateError,
    WithdrawalTooSmallError,
)
from billing.models import AccountKind, PayoutAccount, SourceKind
from billing.money import Money
from billing.payout_accounts import BankData
from billing.vault import Vault
from tests.billing.earner import BANK, RISK, Earner
from tests.billing.world import NOW, Sessions, events, refusals, violations

WHERE = (AccountKind.EARNINGS, AccountKind.WITHDRAWAL, AccountKind.BANK)
# Of the policy.
TWO_PEOPLE_ABOVE = 100_000
FREEZE = timedelta(hours=72)


@pytest.fixture
def earner(sessions: Sessions) -> Earner:
    return Earner(sessions)


async def refused(doing: Awaitable[object]) -> type[Exception] | None:
    try:
        await doing
    except BillingError as error:
        return type(error)
    return None


# Asking


async def test_money_is_reserved_when_it_is_asked_for_and_leaves_when_it_is_paid(earner: Earner) -> None:
    await earner.teach(5_000)
    await earner.set_bank()

    asked = await earner.ask(3_000)
    reserved = await earner.has(*WHERE)
    approved = await earner.approve(asked)
    await earner.complete(asked)

    row = await earner.withdrawal(asked)
    assert reserved == [2_000, 3_000, 0]
    assert (approved, row.status, row.reference) == ("processing", "completed", "TT-1")
    assert await earner.has(*WHERE) == [2_000, 0, 3_000]
    assert await violations(earner.sessions) == []
    assert [name for name in await events(earner.sessions) if name.startswith("withdrawal")] == [
        "withdrawal.requested",
        "withdrawal.approved",
        "withdrawal.completed",
    ]


async def test_what_is_rejected_is_back_in_the_earnings(earner: Earner) -> None:
    await earner.teach(5_000)
    await earner.set_bank()
    pending, approved = await earner.ask(2_000), await earner.ask(3_000)
    await earner.approve(approved)

    for one in (pending, approved):
        await earner.reject(one)

    row = await earner.withdrawal(approved)
    assert (row.status, row.rejected_by) == ("rejected", earner.admin)
    assert await earner.has(*WHERE) == [5_000, 0, 0]
    assert await violations(earner.sessions) == []


async def test_nobody_withdraws_less_than_the_least_or_more_than_there_is(earner: Earner) -> None:
    await earner.teach(5_000)
    await earner.set_bank()

    found = [await refused(earner.ask(amount)) for amount in (999, 5_001, 1_000)]

    assert found == [WithdrawalTooSmallError, InsufficientFundsError, None]
    assert await earner.has(*WHERE) == [4_000, 1_000, 0]


async def test_a_request_is_made_once_for_its_key(earner: Earner) -> None:
    await earner.teach(5_000)
    await earner.set_bank()

    first, again = await earner.ask(2_000, key="k"), await earner.ask(2_000, key="k")

    assert first == again
    assert await refused(earner.ask(3_000, key="k")) is IdempotencyMismatchError
    assert await earner.has(*WHERE) == [3_000, 2_000, 0]


async def test_debts_are_repaid_before_anything_leaves(earner: Earner) -> None:
    await earner.teach(5_000)
    await earner.set_bank()
    await earner.owe(2_000)

    too_much = await refused(earner.ask(4_000))
    await earner.ask(3_000)

    assert too_much is InsufficientFundsError
    assert await earner.has(*WHERE, AccountKind.TUTOR_DEBT) == [0, 3_000, 0, 0]
    assert await violations(earner.sessions) == []


async def test_earnings_become_credit_and_debts_come_first(earner: Earner) -> None:
    await earner.teach(5_000)
    await earner.owe_beside(2_000)

    async def spend(amount: int, key: str) -> int:
        async with earner.sessions.begin() as session:
            return await withdrawals.spend(session, earner.tutor, Money(amount), key=key, now=earner.now)

    too_much = await refused(spend(3_001, "a"))
    journals = [await spend(2_500, "b") for _ in range(2)]

    assert too_much is InsufficientFundsError
    assert len(set(journals)) == 1
    kinds = (AccountKind.EARNINGS, AccountKind.WALLET, AccountKind.TUTOR_DEBT)
    assert await earner.has(*kinds) == [500, 2_500, 0]


async def test_of_many_withdrawals_of_one_balance_as_many_are_made_as_it_pays(earner: Earner) -> None:
    await earner.teach(5_000)
    await earner.set_bank()

    made = await asyncio.gather(*(refused(earner.ask(2_000)) for _ in range(8)))

    assert made.count(None) == 2
    assert set(made) == {None, InsufficientFundsError}
    assert await earner.has(*WHERE) == [1_000, 4_000, 0]
    assert await violations(earner.sessions) == []


# Where it goes


async def test_without_a_payout_account_nothing_is_withdrawn(earner: Earner) -> None:
    await earner.teach(5_000)

    assert await refused(earner.ask(2_000)) is NoPayoutAccountError


async def test_a_changed_payout_account_is_not_paid_to_for_three_days(earner: Earner) -> None:
    await earner.teach(9_000)
    first = await earner.set_bank()
    before = await earner.ask(1_000)
    second = await earner.set_bank(BankData(bank_name="B", account_number="99887766", account_holder="E"))

    frozen = await refused(earner.ask(1_000, at=earner.now + FREEZE - timedelta(seconds=1)))
    earner.passes(FREEZE)
    after = await earner.ask(1_000)

    assert frozen is PayoutAccountFrozenError
    accounts = [(await earner.withdrawal(one)).payout_account for one in (before, after)]
    assert accounts == [first, second]


async def test_a_payout_account_says_when_another_took_its_place(earner: Earner) -> None:
    made = []
    for _ in range(3):
        made.append(await earner.set_bank())
        earner.passes(FREEZE)

    async with earner.sessions() as session:
        replaced = [(await session.get_one(PayoutAccount, one)).replaced_at for one in made]
    assert replaced == [NOW + FREEZE, NOW + 2 * FREEZE, None]


async def test_two_changes_at_once_leave_one_payout_account(earner: Earner) -> None:
    made = await asyncio.gather(*(earner.set_bank() for _ in range(4)))

    async with earner.sessions() as session:
        current = await payout_accounts.current(session, earner.tutor)
    assert current.id in made


async def test_bank_data_is_sealed_for_its_row_and_its_secret(earner: Earner) -> None:
    row_id = await earner.set_bank()
    async with earner.sessions() as session:
        row = await session.get_one(PayoutAccount, row_id)
    assert row.sealed is not None

    opened = payout_accounts.open_bank(row, vault=earner.vault)
    with pytest.raises(SealBrokenError):
        payout_accounts.open_bank(row, vault=Vault("another secret of the server"))
    for broken in (row.sealed[:-1] + bytes([row.sealed[-1] ^ 1]), b"\2" + row.sealed[1:], b""):
        with pytest.raises(SealBrokenError):
            earner.vault.open(broken, row_id=row_id)
    with pytest.raises(SealBrokenError):
        earner.vault.open(row.sealed, row_id=uuid4())

    assert (opened, row.last4) == (BANK, "7890")
    assert BANK.account_number.encode() not in row.sealed
    assert earner.vault.seal(b"x", row_id=row_id) != earner.vault.seal(b"x", row_id=row_id)


# Who decides


async def test_much_money_needs_a_second_administrator(earner: Earner) -> None:
    await earner.teach(3 * TWO_PEOPLE_ABOVE)
    await earner.set_bank()
    much, limit = await earner.ask(TWO_PEOPLE_ABOVE + 1), await earner.ask(TWO_PEOPLE_ABOVE)

    first = await earner.approve(much)
    too_soon = await refused(earner.complete(much))
    twice = await refused(earner.approve(much))
    second = await earner.approve(much, earner.other_admin)

    assert (first, too_soon, twice, second) == (
        "pending",
        WithdrawalStateError,
        SecondPersonError,
        "processing",
    )
    assert await earner.approve(limit) == "processing"


async def test_nobody_approves_their_own_withdrawal(earner: Earner) -> None:
    await earner.teach(2_000)
    await earner.set_bank()
    asked = await earner.ask(2_000)

    assert await refused(earner.approve(asked, earner.tutor)) is SecondPersonError


async def test_two_administrators_who_approve_at_once_count_as_two(earner: Earner) -> None:
    await earner.teach(2 * TWO_PEOPLE_ABOVE)
    await earner.set_bank()
    asked = await earner.ask(2 * TWO_PEOPLE_ABOVE)

    statuses = await asyncio.gather(*(earner.approve(asked, admin) for admin in (uuid4(), uuid4())))

    assert sorted(statuses) == ["pending", "processing"]


async def test_a_held_withdrawal_goes_nowhere_but_back(earner: Earner) -> None:
    await earner.teach(5_000)
    await earner.set_bank()
    one, other = await earner.ask(2_000), await earner.ask(3_000)
    await earner.approve(other)
    for held in (one, other):
        await earner.hold(held)

    found = [
        await refused(earner.approve(one)),
        await refused(earner.complete(other)),
        await refused(earner.hold(one)),
    ]
    await earner.reject(one)
    await earner.let_go(other)
    await earner.complete(other)

    assert set(found) == {WithdrawalHeldError}
    assert await earner.has(*WHERE) == [2_000, 0, 3_000]


async def test_reasons_are_at_least_ten_characters(earner: Earner) -> None:
    await earner.teach(2_000)
    await earner.set_bank()
    asked = await earner.ask(2_000)

    codes = await refusals(
        earner.sessions,
        lambda session: withdrawals.reject(
            session, asked, admin_id=earner.admin, answer="no" + " " * 9, now=earner.now
        ),
        lambda session: withdrawals.hold(session, asked, admin_id=earner.admin, reason="odd"),
    )

    assert codes == ["reason_too_short"] * 2


async def test_what_is_over_stays_over(earner: Earner) -> None:
    await earner.teach(2_000)
    await earner.set_bank()
    asked = await earner.ask(2_000)
    await earner.reject(asked)

    deeds: list[Callable[[UUID], Awaitable[object]]] = [
        earner.approve,
        earner.complete,
        earner.reject,
        earner.hold,
        earner.let_go,
        earner.retry,
    ]
    for deed in deeds:
        with pytest.raises(WithdrawalStateError, match="This withdrawal is rejected"):
            await deed(asked)
    unknown = [await refused(deed(uuid4())) for deed in deeds]

    assert unknown == [WithdrawalNotFoundError] * 6


async def test_money_goes_one_way_and_is_not_sent_by_the_other_too(earner: Earner) -> None:
    await earner.teach(5_000)
    await earner.set_bank()
    by_bank = await earner.ask(2_000)
    await earner.approve(by_bank)
    with pytest.raises(WithdrawalStateError, match="This withdrawal is processing"):
        await earner.retry(by_bank)
    await earner.complete(by_bank)

    await earner.set_stripe()
    # A new account is not paid to at once.
    earner.passes(timedelta(days=4))
    by_stripe = await earner.ask(2_000)
    await earner.approve(by_stripe)
    with pytest.raises(WithdrawalStateError, match="This withdrawal is processing"):
        await earner.complete(by_stripe)

    assert [one.withdrawal_id for one in await earner.attempts()] == [by_stripe]
    assert await earner.has(*WHERE) == [1_000, 2_000, 2_000]


async def test_rejected_and_completed_at_once_is_one_of_both(earner: Earner) -> None:
    rounds = 8
    await earner.teach(rounds * 1_000)
    await earner.set_bank()
    ends: list[str] = []
    for _ in range(rounds):
        asked = await earner.ask(1_000)
        await earner.approve(asked)
        found = await asyncio.gather(refused(earner.reject(asked)), refused(earner.complete(asked)))
        assert sorted(map(str, found)) == sorted(map(str, (None, WithdrawalStateError)))
        ends.append((await earner.withdrawal(asked)).status)

    back = ends.count("rejected") * 1_000
    assert await earner.has(*WHERE) == [back, 0, rounds * 1_000 - back]
    assert await violations(earner.sessions) == []


async def test_whatever_happens_at_once_no_cent_is_lost_and_nobody_waits_in_a_ring(
    earner: Earner, full: bool
) -> None:
    """Deadlocks would come out as an error of the database, which no deed here answers."""
    dice = random.Random(7)
    await earner.set_bank()
    holds = [await earner.teach(1_000, kind=SourceKind.BOOKING) for _ in range(6)]
    await earner.teach(20_000)
    earner.passes(RISK)
    asked: list[UUID] = []

    async def ask() -> None:
        asked.append(await earner.ask(dice.randrange(1_000, 4_000)))

    async def mature() -> None:
        async with earner.sessions.begin() as session:
            await maturity.mature(session, dice.choice(holds), now=earner.now)

    async def spend() -> None:
        async with earner.sessions.begin() as session:
            money = Money(dice.randrange(1, 500))
            await withdrawals.spend(session, earner.tutor, money, key=str(uuid4()), now=earner.now)

    async def repay() -> None:
        await maturity.sweep(earner.sessions, earner.now)

    async def owe() -> None:
        await earner.owe(dice.randrange(1, 300))

    def to_one(deed: Callable[[UUID], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        return lambda: deed(dice.choice(asked or [uuid4()]))

    of_one: tuple[Callable[[UUID], Awaitable[object]], ...] = (
        earner.approve,
        earner.complete,
        earner.reject,
        earner.hold,
        earner.let_go,
    )
    deeds = (ask, ask, mature, spend, repay, owe, *map(to_one, of_one))

    async def live() -> None:
        for _ in range(400 if full else 25):
            await refused(dice.choice(deeds)())

    # Where six wait for each other on a busy core, one may wait for longer than a command may.
    await asyncio.gather(*(live() for _ in range(6 if full else 3)))

    assert asked
    assert await violations(earner.sessions) == []
