"""The only writer of money: one call of the SQL function `ledger_post` is one indivisible movement.

The database does the rest (migration `0001_billing`): it locks the accounts sorted by id before anything that
refers to them is written, refuses an account below its floor, remembers the request by its key, and applies
the legs to the balances. Journals and transfers cannot be changed or written by any other way.

Locks are taken in one order everywhere: lesson → holds by id → request key → accounts by id.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NoReturn
from uuid import UUID

import msgspec
from sqlalchemy import TextClause, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from billing.errors import (
    BalanceLimitError,
    IdempotencyMismatchError,
    InsufficientFundsError,
    InvalidAmountError,
    InvalidKeyError,
    UnknownCurrencyError,
)
from billing.models import PLATFORM, Account, AccountKind, HoldId, JournalKind, Request, violated
from billing.money import EXPONENTS, Money
from billing.rows import Rows, Shape, insert_sql

# One row that every settlement updates limits the whole product to what one row can take; 32 of them took
# three times as many settlements a second, and more brought nothing (measured, DESIGN decision 10).
SHARDS = 32

# SQLSTATE of the two refusals of `ledger_post` that a caller can meet.
SHORT = "FT001"
MISMATCH = "FT002"
# And one of the table: no single sum reaches it, millions of them do.
LIMIT = "ck_ledger_account_sane"

KEY_MOST = 255

# Larger than any balance may become, and far from the edge of 64 bits.
AMOUNT_MOST = 9_000_000_000_000_000


class AccountKey(msgspec.Struct, frozen=True, order=True):
    """What identifies an account."""

    kind: AccountKind
    owner_id: UUID
    currency: str
    shard: int = 0


class Leg(msgspec.Struct, frozen=True):
    """Moves an amount from the debited account to the credited one."""

    debit: int | AccountKey
    """By its id; or by what identifies it, and it is looked up, or opened, on the way."""
    credit: int | AccountKey
    money: Money
    hold_id: HoldId | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Why money moves: everything about a movement but its legs."""

    kind: JournalKind
    scope: str
    """Keys are unique within their scope."""
    key: str
    request: object
    """What was asked for; the same key with another request is refused."""
    actor: str
    reason: str | None
    ref_type: str
    ref_id: UUID
    at: datetime

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the request in canonical JSON."""
        return hashlib.sha256(msgspec.json.encode(self.request, order="deterministic")).digest()


class Posted(msgspec.Struct, frozen=True):
    """A journal, and whether the key had made it before."""

    journal_id: int
    replayed: bool


def revenue(source: UUID, currency: str) -> AccountKey:
    """Name the shard of our revenue that settlements of this source use."""
    return AccountKey(AccountKind.PLATFORM_REVENUE, PLATFORM, currency, source.int % SHARDS)


def require_movable(money: Money) -> None:
    """Refuse what no transfer can carry.

    Raises:
        InvalidAmountError: Not positive, or beyond any balance.
        UnknownCurrencyError: The ledger does not keep this currency.
    """
    if money.currency not in EXPONENTS:
        raise UnknownCurrencyError(money.currency)
    if not 0 < money.amount <= AMOUNT_MOST:
        raise InvalidAmountError(money)


async def accounts(session: AsyncSession, wanted: Iterable[AccountKey]) -> dict[AccountKey, int]:
    """Return the ids of these accounts; those that do not exist yet are opened."""
    # Sorted: two transactions that open the same accounts meet at the first one instead of crossing.
    keys = sorted(set(wanted))
    found = await _find(session, keys)
    missing = [key for key in keys if key not in found]
    if missing:
        rows = [msgspec.structs.asdict(key) for key in missing]
        await session.execute(insert(Account).values(rows).on_conflict_do_nothing())
        found |= await _find(session, missing)
    return found


class Locked(msgspec.Struct, frozen=True):
    """An account that stays as it is until the end of the transaction, but for what this transaction posts."""

    id: int
    balance: int


async def locked(session: AsyncSession, wanted: Iterable[AccountKey]) -> dict[AccountKey, Locked]:
    """Lock accounts, sorted by id as `post` does, and return what is in them; those that do not exist have nothing."""
    columns = (Account.kind, Account.owner_id, Account.currency, Account.shard)
    rows = await session.execute(
        select(Account.id, *columns, Account.balance)
        .where(
            tuple_(*columns).in_([(key.kind.value, key.owner_id, key.currency, key.shard) for key in wanted])
        )
        .order_by(Account.id)
        .with_for_update(key_share=True)
    )
    return {
        AccountKey(AccountKind(row.kind), row.owner_id, row.currency, row.shard): Locked(row.id, row.balance)
        for row in rows
    }


async def post(
    session: AsyncSession,
    order: Order,
    legs: Sequence[Leg],
    *,
    rows: Sequence[Rows] = (),
    lessons: Collection[UUID] = (),
) -> Posted:
    """Move money, once for each key, in one way to the database and back.

    Args:
        session: Commits it.
        order: Why, and under which key.
        legs: What goes where.
        rows: What is written with it, if the key is new.
        lessons: Kept as they are until the commit, as by `lock_lessons`, shared; locked before anything else.

    Raises:
        InvalidKeyError: The key is empty or too long.
        IdempotencyMismatchError: The key was used with another request.
        InsufficientFundsError: An account would fall below zero; nothing was written.
        BalanceLimitError: An account would have more than any may.
    """
    if not 1 <= len(order.key) <= KEY_MOST or "\0" in order.key:
        raise InvalidKeyError
    assert legs, "a journal has legs"
    # Each account once, in the order in which the legs name them.
    named = list(dict.fromkeys(side for leg in legs for side in (leg.debit, leg.credit)))
    parameters = _parameters(order, legs, named) | {"lessons": _locks(lessons)}
    for place, one in enumerate(rows):
        parameters |= one.parameters(place)
    if rows and session.new:
        # Events that were recorded before come before those that are among the rows.
        await session.flush()
    query = _post(tuple(one.shape for one in rows))
    try:
        row = (await session.execute(query, parameters)).one_or_none()
        if row is None:
            await accounts(session, [side for side in named if isinstance(side, AccountKey)])
            row = (await session.execute(query, parameters)).one()
    except DBAPIError as error:
        _refuse(error)
    return Posted(row.journal_id, row.replayed)


async def replayed(session: AsyncSession, order: Order) -> int | None:
    """Return the journal that this key made before.

    Raises:
        IdempotencyMismatchError: The key was used with another request.
    """
    row = await session.get(Request, (order.scope, order.key))
    if row is None:
        return None
    if row.request_hash != order.digest:
        raise IdempotencyMismatchError
    return row.journal_id


async def lock_lessons(session: AsyncSession, lesson_ids: Iterable[UUID], *, shared: bool) -> None:
    """Keep a lesson as it is until the commit: shared to hold money for it, alone to freeze its attendance.

    A lesson is no row of billing, so the lock is an advisory one, by the last 64 bits of its id. Two lessons that
    collide share a lock, which costs a wait and nothing else.
    """
    await session.execute(_LOCK_SHARED if shared else _LOCK_ALONE, {"keys": _locks(lesson_ids)})


def _locks(lesson_ids: Iterable[UUID]) -> list[int]:
    return sorted({int.from_bytes(lesson_id.bytes[8:], signed=True) for lesson_id in lesson_ids})


_LOCK_SHARED = text("select pg_advisory_xact_lock_shared(key) from unnest(cast(:keys as bigint[])) as key")
_LOCK_ALONE = text("select pg_advisory_xact_lock(key) from unnest(cast(:keys as bigint[])) as key")

# One look into the index for each account, whatever the planner thinks of the size of the table.
_ID = """(
    select a.id from ledger_account a
    where a.kind = w.kind and a.owner_id = w.owner_id and a.currency = w.currency and a.shard = w.shard
  )"""
_FIND = text(f"""
  select cast(place - 1 as int) as place, {_ID} as id
  from unnest(
    cast(:kinds as text[]), cast(:owners as uuid[]), cast(:currencies as text[]), cast(:shards as smallint[])
  ) with ordinality as w(kind, owner_id, currency, shard, place)
""")  # noqa: S608 -- a constant
# Whoever waits here for a lesson sees afterwards what was committed meanwhile: `ledger_post` and every trigger look
# anew. One account that does not exist leaves everything undone. Until the commit plans are kept instead of made anew
# for the length of each array, also those inside `ledger_post`: 40 % of PostgreSQL's time for a lesson of twenty.
_POST = f"""
  with locked as materialized (
    select cast(pg_advisory_xact_lock_shared(key) as text) as lock from unnest(cast(:lessons as bigint[])) as key
  ), named as materialized (
    select array_agg(coalesce(w.id, {_ID}) order by w.place) as ids
    from (select count(lock), set_config('plan_cache_mode', 'force_generic_plan', true) from locked) as ready,
      rows from (
        json_to_recordset(cast(:named as json))
          as (id bigint, kind text, owner_id uuid, currency text, shard smallint)
      ) with ordinality as w(id, kind, owner_id, currency, shard, place)
  ), legs as materialized (
    select array_agg(n.ids[l.debit] order by l.place) as debits, array_agg(n.ids[l.credit] order by l.place) as credits,
      array_agg(l.currency order by l.place) as currencies, array_agg(l.amount order by l.place) as amounts,
      array_agg(l.hold_id order by l.place) as holds
    from named n, rows from (
      json_to_recordset(cast(:legs as json)) as (debit int, credit int, currency text, amount bigint, hold_id uuid)
    ) with ordinality as l(debit, credit, currency, amount, hold_id, place)
    where array_position(n.ids, null) is null
    having count(*) > 0
  ), posted as materialized (
    select p.journal_id, p.replayed, l.debits, l.credits
    from legs l, ledger_post(
      :kind, :scope, :key, :hash, :actor, :reason, :ref_type, :ref_id, :at,
      l.debits, l.credits, l.currencies, l.amounts, l.holds
    ) p
  )
"""  # noqa: S608 -- a constant


@lru_cache(maxsize=64)
def _post(shapes: tuple[Shape, ...]) -> TextClause:
    """Return the statement that moves money and writes rows of these shapes."""
    parts = "".join(
        f", written_{place} as ({insert_sql(shape, place)})" for place, shape in enumerate(shapes)
    )
    return text(f"{_POST}{parts} select journal_id, replayed from posted")  # noqa: S608 -- no word of it comes from outside


def _parameters(order: Order, legs: Sequence[Leg], named: Sequence[int | AccountKey]) -> dict[str, object]:
    # Arrays of SQL begin with one.
    places = {side: place for place, side in enumerate(named, start=1)}
    sides = [{"id": side} if isinstance(side, int) else msgspec.structs.asdict(side) for side in named]
    moves = [
        {
            "debit": places[leg.debit],
            "credit": places[leg.credit],
            "currency": leg.money.currency,
            "amount": leg.money.amount,
            "hold_id": leg.hold_id,
        }
        for leg in legs
    ]
    return {
        "named": msgspec.json.encode(sides).decode(),
        "legs": msgspec.json.encode(moves).decode(),
        "kind": order.kind.value,
        "scope": order.scope,
        "key": order.key,
        "hash": order.digest,
        "actor": order.actor,
        "reason": order.reason,
        "ref_type": order.ref_type,
        "ref_id": order.ref_id,
        "at": order.at,
    }


def _refuse(error: DBAPIError) -> NoReturn:
    """Translate the refusals that a caller can meet; everything else is not ours to explain."""
    code = getattr(error.orig, "sqlstate", None)
    if code == MISMATCH:
        raise IdempotencyMismatchError from error
    if code == SHORT:
        assert error.orig is not None
        raise InsufficientFundsError(
            msgspec.json.decode(getattr(error.orig.__cause__, "detail"), type=Money)  # noqa: B009 -- asyncpg's, untyped
        ) from error
    if violated(error) == LIMIT:
        raise BalanceLimitError from error
    raise error


async def _find(session: AsyncSession, keys: Sequence[AccountKey]) -> dict[AccountKey, int]:
    if not keys:
        return {}
    rows = await session.execute(
        _FIND,
        {
            "kinds": [key.kind.value for key in keys],
            "owners": [key.owner_id for key in keys],
            "currencies": [key.currency for key in keys],
            "shards": [key.shard for key in keys],
        },
    )
    return {keys[row.place]: row.id for row in rows if row.id is not None}
