"""Statements of one account: what was there before, each movement with the balance around it, and what is there after.

Movements stand in the order of business time, then of their ids; a period is half-open. So any way of cutting a period
in two gives two statements of which the first ends with what the second begins with.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import RowMapping, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.errors import EntryNotFoundError, StatementTooLongError
from billing.models import Account, AccountKind, JournalKind, OwnerId
from billing.money import Money
from billing.wallet import PERSONAL

# A busy year of one person; more is no paper that anybody reads, and a period can be cut.
LINES_MOST = 2_000


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One movement."""

    journal_id: int
    account_id: int
    kind: JournalKind
    amount: Money
    """Negative where money left the account."""
    before: Money
    after: Money
    reason: str | None
    ref_type: str
    ref_id: UUID
    at: datetime

    @property
    def entry_id(self) -> str:
        """Return what names the entry in lists (`wallet.Entry.cursor`)."""
        return f"{self.journal_id}-{self.account_id}"


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one account from `since` until before `until`."""

    account: AccountKind
    since: datetime
    until: datetime
    opening: Money
    closing: Money
    lines: tuple[Line, ...]
    """The oldest first. Where only some kinds were asked for, the balances around them are still the true ones."""


# What each journal did to the account, with the balance after it.
_MOVED = """
    select j.id, m.account_id, j.kind, j.reason, j.ref_type, j.ref_id, j.at, m.amount,
      (sum(m.amount) over (order by j.at, j.id))::bigint as after
    from (
      select journal_id, cast(:account as bigint) as account_id, sum(delta)::bigint as amount from (
        select journal_id, amount as delta from ledger_transfer where credit_account = :account
        union all
        select journal_id, -amount from ledger_transfer where debit_account = :account
      ) sides group by journal_id
    ) m
    join ledger_journal j on j.id = m.journal_id
"""
_LINES = text(
    f"""
    select * from ({_MOVED}) e
    where at >= :since and at < :until and (cast(:kinds as text[]) is null or kind = any(:kinds))
    order by at, id limit :most
    """  # noqa: S608 - the words are ours
)
_LINE = text(f"select * from ({_MOVED}) e where id = :journal")  # noqa: S608 - the words are ours
_BALANCE = text(
    f"select coalesce(sum(amount), 0)::bigint from ({_MOVED}) e where at < :moment"  # noqa: S608 - the words are ours
)


async def statement(
    session: AsyncSession,
    owner_id: OwnerId,
    account: AccountKind,
    *,
    since: datetime,
    until: datetime,
    kinds: Collection[JournalKind] = (),
    currency: str = "USD",
) -> Statement:
    """Return the statement of one account of somebody; an account that nobody opened has always been empty.

    Raises:
        StatementTooLongError: The period has more movements than one statement takes.
    """
    account_id = await _account(session, owner_id, account, currency)

    async def balance_at(moment: datetime) -> Money:
        found = await session.scalar(_BALANCE, {"account": account_id, "moment": moment})
        return Money(found or 0, currency)

    rows = await session.execute(
        _LINES,
        {
            "account": account_id,
            "since": since,
            "until": until,
            "kinds": [kind.value for kind in kinds] or None,
            "most": LINES_MOST + 1,
        },
    )
    lines = tuple(_line(row, currency) for row in rows.mappings())
    if len(lines) > LINES_MOST:
        raise StatementTooLongError(LINES_MOST)
    return Statement(
        account=account,
        since=since,
        until=until,
        opening=await balance_at(since),
        closing=await balance_at(until),
        lines=lines,
    )


async def entry(
    session: AsyncSession, owner_id: OwnerId, journal_id: int, account_id: int
) -> tuple[AccountKind, Line]:
    """Return what one journal did to one account of somebody.

    Raises:
        EntryNotFoundError: It did nothing to it, or the account is somebody else's.
    """
    account = await session.get(Account, account_id)
    if account is None or account.owner_id != owner_id or account.kind not in PERSONAL:
        raise EntryNotFoundError
    found = await session.execute(_LINE, {"account": account_id, "journal": journal_id})
    row = found.mappings().one_or_none()
    if row is None:
        raise EntryNotFoundError
    return AccountKind(account.kind), _line(row, account.currency)


async def _account(session: AsyncSession, owner_id: OwnerId, kind: AccountKind, currency: str) -> int | None:
    return await session.scalar(
        select(Account.id).where(
            Account.kind == kind,
            Account.owner_id == owner_id,
            Account.currency == currency,
            Account.shard == 0,
        )
    )


def _line(row: RowMapping, currency: str) -> Line:
    return Line(
        journal_id=row["id"],
        account_id=row["account_id"],
        kind=JournalKind(row["kind"]),
        amount=Money(row["amount"], currency),
        before=Money(row["after"] - row["amount"], currency),
        after=Money(row["after"], currency),
        reason=row["reason"],
        ref_type=row["ref_type"],
        ref_id=row["ref_id"],
        at=row["at"],
    )
