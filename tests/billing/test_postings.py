"""Hundreds of thousands of random orders to the ledger itself, each answer and every balance foretold by a model."""

import asyncio
import hashlib
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import text

from billing import checks, ledger
from billing.ledger import AccountKey
from billing.models import PLATFORM, AccountKind, JournalKind
from tests.billing.world import Sessions

BATCH = 100
# Each has accounts of its own, so that its model knows what comes of them.
STREAMS = 2
WALLETS = 24
# Most people ask anew; some twice, some with another order under a key that was used.
AGAIN, CHANGED = 0.12, 0.05
UNKNOWN_ACCOUNT = 1 << 60
POSTED, REPLAYED = "posted", "replayed"
# Refusals: by their SQLSTATE. An account of another currency is no account for it.
SHORT, MISMATCH, NO_ACCOUNT, OUT_OF_RANGE = ledger.SHORT, ledger.MISMATCH, "23503", "23514"
CURRENCY, OTHER_CURRENCY = "USD", "EUR"

# Each order in a subtransaction of its own: what is refused leaves nothing, what is accepted stays.
ASK = """
create function pg_temp.ask(orders json) returns text[] language plpgsql as $$
declare
  o record;
  answer text;
  answers text[] := '{}';
begin
  for o in select * from json_to_recordset(orders) as
    (key text, hash text, kind text, debits bigint[], credits bigint[], currencies text[], amounts bigint[])
  loop
    begin
      select case when p.replayed then 'replayed' else 'posted' end into answer from ledger_post(
        o.kind, 'postings', o.key, decode(o.hash, 'hex'), 'admin:1', 'By the machine.', 'owner', gen_random_uuid(), now(),
        o.debits, o.credits, o.currencies, o.amounts, array_fill(null::uuid, array[cardinality(o.amounts)])
      ) p;
    exception when others then
      answer := sqlstate;
    end;
    answers := answers || answer;
  end loop;
  return answers;
end$$
"""


class Asked(msgspec.Struct):
    """One order, as `ledger_post` takes it."""

    key: str
    kind: str
    debits: list[int]
    credits: list[int]
    currencies: list[str]
    amounts: list[int]
    hash: str = ""

    def __post_init__(self) -> None:
        content = (self.debits, self.credits, self.currencies, self.amounts)
        self.hash = hashlib.sha256(msgspec.json.encode(content)).hexdigest()


class Book:
    """What is in the accounts, and which keys were used."""

    def __init__(self, wallets: list[int], platform: int, *, seed: int) -> None:
        self.balances = dict.fromkeys([*wallets, platform], 0)
        self._platform = platform
        self._accounts = list(self.balances)
        self._used: dict[str, Asked] = {}
        self._lately: deque[Asked] = deque(maxlen=1_000)
        self._chance = random.Random(seed)

    def orders(self, count: int) -> list[tuple[Asked, str]]:
        """Invent orders, and foretell the answer to each."""
        return [(asked, self._answer(asked)) for asked in (self._order() for _ in range(count))]

    def _order(self) -> Asked:
        chance = self._chance
        if self._lately and (way := chance.random()) < AGAIN + CHANGED:
            used = chance.choice(self._lately)
            if way < AGAIN:
                return used
            return msgspec.structs.replace(used, amounts=[amount + 1 for amount in used.amounts], hash="")
        legs = [self._leg() for _ in range(chance.choice((1, 1, 1, 2, 3)))]
        debits, payees, currencies, amounts = (list(column) for column in zip(*legs, strict=True))
        return Asked(str(uuid4()), JournalKind.ADMIN_ADJUSTMENT, debits, payees, currencies, amounts)

    def _leg(self) -> tuple[int, int, str, int]:
        chance = self._chance
        debit, credit = chance.sample(self._accounts, 2)
        if chance.random() < 0.1:
            debit, credit = self._platform, chance.choice(self._accounts[:-1])
        amount = chance.choice((1, chance.randint(1, 500), chance.randint(1, 20_000)))
        match chance.randrange(60):
            case 0:
                credit = UNKNOWN_ACCOUNT
            case 1:
                amount = -amount * chance.randrange(2)
            case 2:
                credit = debit
            case 3:
                return debit, credit, OTHER_CURRENCY, amount
            case _:
                pass
        return debit, credit, CURRENCY, amount

    def _answer(self, asked: Asked) -> str:
        if earlier := self._used.get(asked.key):
            return REPLAYED if earlier.hash == asked.hash else MISMATCH
        legs = list(zip(asked.debits, asked.credits, asked.currencies, asked.amounts, strict=True))
        if any(debit == credit or amount <= 0 for debit, credit, _, amount in legs):
            return OUT_OF_RANGE
        moved: Counter[int] = Counter()
        missing = False
        for debit, credit, currency, amount in legs:
            for account, delta in ((debit, -amount), (credit, amount)):
                if account in self.balances and currency == CURRENCY:
                    moved[account] += delta
                else:
                    missing = True
        after = self.balances | {account: self.balances[account] + delta for account, delta in moved.items()}
        if any(balance < 0 for account, balance in after.items() if account != self._platform):
            return SHORT
        if missing:
            return NO_ACCOUNT
        self.balances = after
        self._used[asked.key] = asked
        self._lately.append(asked)
        return POSTED


async def _stream(sessions: Sessions, wanted: int, *, number: int) -> Counter[str]:
    """Ask for so much, of accounts of its own, and return how often each answer came."""
    keys = [AccountKey(AccountKind.WALLET, uuid4(), CURRENCY) for _ in range(WALLETS)]
    platform = AccountKey(AccountKind.PLATFORM_EXPENSE, PLATFORM, CURRENCY, shard=number)
    async with sessions.begin() as session:
        ids = await ledger.accounts(session, [*keys, platform])
    book = Book([ids[key] for key in keys], ids[platform], seed=number)
    answers: Counter[str] = Counter()
    while answers.total() < wanted:
        orders = book.orders(BATCH)
        async with sessions.begin() as session:
            await session.execute(text("drop function if exists pg_temp.ask(json)"))
            await session.execute(text(ASK))
            # As the product does.
            await session.execute(text("set local plan_cache_mode = 'force_generic_plan'"))
            asked = msgspec.json.encode([order for order, _ in orders]).decode()
            found = await session.scalar(text("select pg_temp.ask(cast(:asked as json))"), {"asked": asked})
            assert found == [answer for _, answer in orders]
            rows = await session.execute(
                text("select id, balance from ledger_account where id = any(:ids)"),
                {"ids": list(ids.values())},
            )
            assert {row.id: row.balance for row in rows} == book.balances
        answers.update(found)
    return answers


@pytest.mark.timeout(7_200)
async def test_every_order_is_answered_as_foretold(
    sessions: Sessions,
    record_property: Callable[[str, object], None],
    operations: int | None,
    *,
    full: bool,
) -> None:
    wanted = operations or (200_000 if full else 4_000)
    began = time.perf_counter()
    streams = (_stream(sessions, wanted // STREAMS, number=number) for number in range(STREAMS))
    answers = sum(await asyncio.gather(*streams), Counter[str]())
    took_s = time.perf_counter() - began

    assert set(answers) == {POSTED, REPLAYED, MISMATCH, SHORT, NO_ACCOUNT, OUT_OF_RANGE}
    async with sessions() as session:
        await session.execute(text("set local statement_timeout = 0"))
        assert await checks.run(session) == []
    done = answers.total()
    record_property(
        "figures",
        f"{done:,} orders in {took_s:.0f} s, {done / took_s:,.0f}/s: {dict(sorted(answers.items()))}",
    )
