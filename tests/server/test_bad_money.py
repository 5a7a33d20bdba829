"""Hundreds of wrong orders for money, each one slip away from an order that would be carried out: none moves a cent.

The world is rich enough that every command here would succeed as it stands in `orders`; the last test sees that it does.
"""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from sqlalchemy import text

from billing.models import OwnerId
from server.commands import TABLE
from server.context import Command
from tests.billing.earner import Earner
from tests.server.school import START, Body, School
from tests.server.test_bad_input import BODIES, VALUES, assert_clear, fields_of, is_wrong, url_of
from tests.server.world import Person

LEAST = 300
RATE = 6_000
LESSON_AT = START + timedelta(days=40)
ROWS = {row.op: row for row in TABLE}
WHY = "This is why it is done."
BANK = {"bank_name": "Bank of Letters", "account_number": "1234567890", "account_holder": "Ann Lee"}

WRONG_AMOUNTS: tuple[Any, ...] = (
    *(None, True, "100", [], {}, 1.5, 1e300, 2**63, -(2**63) - 1, 10**30),
    {"amount": None},
    {"amount": "100"},
    {"amount": 1.5},
    {"amount": 2**63},
    {"amount": 10**19, "currency": "USD"},
    {"amount": -(10**19), "currency": "USD"},
    {"amount": 100, "currency": "usd"},
    {"amount": 100, "currency": "EUR"},
    {"amount": 100, "currency": ""},
    {"amount": 100, "currency": None},
    {"amount": 100, "currency": "US\0"},
    {"currency": "USD"},
)
# Numbers that are numbers, and no sums that anybody could pay in, take out or be paid.
NO_SUMS = (0, -1, -100, 10**12, 9_000_000_000_000_000, 2**63 - 1)
KEYS: tuple[str | None, ...] = (None, "", "x" * 256, "k" * 5_000)


class Order(msgspec.Struct, frozen=True):
    """Something that would be done."""

    person: Person
    body: Body


class Till:
    """People with money, and what they could do with it."""

    def __init__(self, school: School, student: Person, other: Person, orders: dict[str, Order]) -> None:
        self.school = school
        self.student = student
        self.other = other
        self.orders = orders

    async def ask(
        self,
        op: str,
        person: Person | None,
        body: Any,
        *,
        key: str | None = "new",
        content: bytes | None = None,
    ) -> httpx.Response:
        row = ROWS[op]
        headers = {} if person is None else dict(person.headers)
        if key is not None:
            headers["Idempotency-Key"] = uuid.uuid4().hex if key == "new" else key
        url = url_of(row, body if isinstance(body, dict) else self.orders[op].body)
        return await self.school.world.client.request(
            str(row.method),
            url,
            content=msgspec.json.encode(body) if content is None else content,
            headers=headers,
        )

    async def books(self) -> object:
        """Everything that a moved cent would change."""
        query = text("""
            select (select count(*) from ledger_journal), (select count(*) from ledger_transfer),
              (select count(*) from ledger_request), (select count(*) from hold), (select count(*) from withdrawal),
              (select array_agg(status order by id) from withdrawal), (select array_agg(status order by id) from hold),
              (select count(*) from top_up), (select count(*) from payout_account),
              (select array_agg((id, balance)::text order by id) from ledger_account where balance <> 0)
        """)
        async with self.school.world.parts.sessions() as session:
            return tuple((await session.execute(query)).one())


@pytest.fixture
async def till(school: School) -> Till:
    student, other = await school.students(2)
    earner = Earner(school.world.parts.sessions)
    earner.tutor = OwnerId(school.tutor.id)
    await earner.teach(90_000)
    await school.do("POST", "/payout-account/bank", school.tutor, BANK)
    course = await school.course()
    bought = await school.buy(other, course, course["sessions"][0])
    quote = await school.quote(student, course)
    await school.do("PATCH", "/tutor-profile", school.tutor, {"hourly_rate": {"amount": RATE}})
    lesson = {"tutor_id": str(school.tutor.id), "minutes": 60, "price": {"amount": RATE}}
    held = await school.do("POST", "/bookings", other, lesson | {"starts_at": LESSON_AT})
    orders = {
        "wallet.adjust": Order(
            school.admin, {"user_id": str(student.id), "money": {"amount": 100}, "reason": WHY}
        ),
        "earnings.spend": Order(school.tutor, {"amount": {"amount": 100}}),
        "payout_account.set_bank": Order(school.tutor, BANK),
        "payout_account.onboard": Order(school.tutor, {"country": "US"}),
        "withdrawal.request": Order(school.tutor, {"amount": {"amount": 2_000}, "note": "rent"}),
        "top_up.start": Order(student, {"amount": {"amount": 2_000}, "way": "hosted"}),
        "purchase.quote": Order(student, {"course_id": course["id"], "session_id": None}),
        "purchase.confirm": Order(student, {"quote_token": quote["quote_token"]}),
        "purchase.cancel": Order(other, {"purchase_id": bought["id"]}),
        "booking.request": Order(student, lesson | {"starts_at": LESSON_AT + timedelta(hours=1)}),
        "booking.cancel": Order(other, {"booking_id": held["id"]}),
    }
    made = Till(school, student, other, orders)
    asked = (await school.do("POST", "/withdrawals", school.tutor, orders["withdrawal.request"].body))["id"]
    for deed, more in {
        "hold": {"reason": WHY},
        "release": {},
        "approve": {},
        "complete": {"reference": "TT-1", "reason": WHY},
        "reject": {"answer": WHY},
    }.items():
        if f"admin.withdrawal.{deed}" in ROWS:
            orders[f"admin.withdrawal.{deed}"] = Order(school.admin, {"withdrawal_id": asked, **more})
    return made


def slips(row: Command, order: Order) -> Iterator[tuple[str, Any]]:
    """Bodies that differ from the right one in one thing."""
    named = {field.encode_name for field in fields_of(row)} - _in_path(row)
    for field in fields_of(row):
        name = field.encode_name
        if name not in named:
            continue
        for value in VALUES:
            if is_wrong(row, name, value):
                yield f"{name}={str(value)[:30]!r}", {**order.body, name: value}
        if field.required:
            yield f"no {name}", {key: value for key, value in order.body.items() if key != name}
        if name in ("amount", "money"):
            for value in WRONG_AMOUNTS:
                yield f"{name}={value!r}", {**order.body, name: value}
            for amount in NO_SUMS:
                yield f"{name} of {amount}", {**order.body, name: {"amount": _no_sum(row, amount)}}

        if name == "price":
            for amount in (*NO_SUMS, 1, RATE - 1, RATE + 1):
                yield f"{name} of {amount}", {**order.body, name: {"amount": amount}}


def _in_path(row: Command) -> set[str]:
    return {part[1:-1] for part in str(row.path).split("/") if part.startswith("{")}


def _no_sum(row: Command, amount: int) -> int:
    # An administrator may take what is there: more than anybody has, then.
    return amount if row.op != "wallet.adjust" or amount in (0, *NO_SUMS[3:]) else amount * 10**9


async def test_no_wrong_order_moves_a_cent(till: Till, record_property: Any) -> None:
    before = await till.books()
    count = 0

    async def refused(what: str, answer: httpx.Response) -> None:
        nonlocal count
        count += 1
        assert_clear(answer, what)
        assert answer.status_code >= 400, f"{what}: {answer.status_code} {answer.text[:200]}"

    for op, order in till.orders.items():
        row = ROWS[op]
        for what, body in slips(row, order):
            await refused(f"{op} {what}", await till.ask(op, order.person, body))
        if set(order.body) - _in_path(row):
            for name, content in BODIES.items():
                answer = await till.ask(op, order.person, order.body, content=content)
                await refused(f"{op} {name}", answer)
        if row.idempotent:
            for key in KEYS:
                await refused(f"{op} key", await till.ask(op, order.person, order.body, key=key))
        await refused(f"{op} by nobody", await till.ask(op, None, order.body))
        stranger = Person(uuid.uuid4(), "", "no.such.token")
        await refused(f"{op} by a stranger", await till.ask(op, stranger, order.body))
        for name in _in_path(row):
            for wrong in (str(UUID(int=0)), str(uuid.uuid4()), "x", "0" * 300, "%00", "%ff"):
                answer = await till.ask(op, order.person, {**order.body, name: wrong})
                await refused(f"{op} of {wrong[:20]}", answer)
    for what, answer in [one async for one in _foreign(till)]:
        await refused(what, answer)

    assert await till.books() == before
    assert count >= LEAST
    record_property("figures", f"{count} wrong orders for money: none moved a cent, none was a fault of ours")


async def _foreign(till: Till) -> Any:
    """Orders that are right, of somebody else, or of more than there is."""
    school = till.school
    for op, order in till.orders.items():
        if order.person is school.admin:
            for person in (till.student, school.tutor):
                yield f"{op} by no administrator", await till.ask(op, person, order.body)
        if op.startswith(("earnings.", "withdrawal.", "payout_account.")):
            yield f"{op} by a student", await till.ask(op, till.student, order.body)
    confirm = till.orders["purchase.confirm"].body
    yield "somebody's quote", await till.ask("purchase.confirm", till.other, confirm)
    token = str(confirm["quote_token"])
    for forged in (
        token[:-4] + "AAAA",
        token + "A",
        token[5:],
        token.upper(),
        ".".join(token.split(".")[::-1]),
    ):
        answer = await till.ask("purchase.confirm", till.student, {"quote_token": forged})
        yield f"forged quote {forged[:8]}", answer
    cancel = till.orders["purchase.cancel"].body
    yield "somebody's purchase", await till.ask("purchase.cancel", till.student, cancel)
    booked = till.orders["booking.cancel"].body
    yield "somebody's lesson", await till.ask("booking.cancel", till.student, booked)
    overlapping = {**till.orders["booking.request"].body, "starts_at": LESSON_AT}
    yield "somebody's hour", await till.ask("booking.request", till.student, overlapping)
    taken = {**till.orders["wallet.adjust"].body, "money": {"amount": -100_001}}
    yield "more than there is", await till.ask("wallet.adjust", school.admin, taken)
    for op, amount in (
        ("earnings.spend", 90_001),
        ("withdrawal.request", 90_001),
        ("withdrawal.request", 999),
    ):
        answer = await till.ask(op, school.tutor, {"amount": {"amount": amount}})
        yield f"{op} of {amount}", answer
    for amount in (1, 499, 10**9):
        yield "top-up", await till.ask("top_up.start", till.student, {"amount": {"amount": amount}})


@pytest.mark.parametrize(
    "op",
    [
        "wallet.adjust",
        "earnings.spend",
        "withdrawal.request",
        "top_up.start",
        "purchase.confirm",
        "purchase.cancel",
        "booking.request",
        "booking.cancel",
    ],
)
async def test_the_order_without_the_slip_is_carried_out(till: Till, op: str) -> None:
    before = await till.books()

    answer = await till.ask(op, till.orders[op].person, till.orders[op].body)

    assert answer.is_success, answer.text
    assert await till.books() != before
