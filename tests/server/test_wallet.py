"""Wallets, entries and adjustments over HTTP."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from billing import wallet
from billing.ledger import AMOUNT_MOST
from billing.models import OwnerId
from billing.money import Money
from tests.server.school import School

REASON = "paid in at the desk"


def adjustment(user_id: object, amount: object, **fields: Any) -> dict[str, Any]:
    return {"user_id": user_id, "money": {"amount": amount, "currency": "USD"}, "reason": REASON} | fields


async def test_a_new_wallet_is_empty(school: School) -> None:
    (student,) = await school.students(1, cents=0)
    nothing = {"amount": 0, "currency": "USD"}

    wallet = await school.do("GET", "/wallet", student)

    assert wallet == {
        "balance": nothing,
        "held": nothing,
        "earnings": {"pending": nothing, "available": nothing},
    }


async def test_an_adjustment_gives_and_takes_and_is_audited(school: School) -> None:
    (student,) = await school.students(1, cents=0)

    given = await school.do("POST", "/admin/wallet-adjustments", school.admin, adjustment(student.id, 5_000))
    taken = await school.do("POST", "/admin/wallet-adjustments", school.admin, adjustment(student.id, -1_250))

    assert (given["balance"]["amount"], taken["balance"]["amount"]) == (5_000, 3_750)
    async with school.world.parts.sessions() as db:
        audited = await db.execute(text("select before, after, reason from audit_log order by id"))
    assert [tuple(row) for row in audited] == [
        ({"balance": 0}, {"balance": 5_000}, REASON),
        ({"balance": 5_000}, {"balance": 3_750}, REASON),
    ]
    assert await school.violations() == []


async def test_the_same_key_adjusts_once(school: School) -> None:
    (student,) = await school.students(1, cents=0)
    body = adjustment(student.id, 5_000)
    path = "/admin/wallet-adjustments"

    answers = await asyncio.gather(
        *(school.ask("POST", path, school.admin, body, key="desk-1") for _ in range(4))
    )
    other = await school.ask("POST", path, school.admin, adjustment(student.id, 6_000), key="desk-1")

    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.headers.get("Idempotent-Replay", "") for answer in answers) == ["", *["true"] * 3]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert await school.balance(student) == 5_000


async def test_only_administrators_adjust(school: School) -> None:
    (student,) = await school.students(1, cents=0)
    body = adjustment(student.id, 5_000)

    answers = [
        await school.ask("POST", "/admin/wallet-adjustments", who, body)
        for who in (None, student, school.tutor)
    ]

    assert [answer.status_code for answer in answers] == [401, 403, 403]


async def test_nobody_adjusts_their_own_wallet_or_gives_to_themself(school: School) -> None:
    own = adjustment(school.admin.id, 5_000)

    answers = [
        await school.ask("POST", "/admin/wallet-adjustments", school.admin, own),
        await school.ask("POST", "/admin/goodwill", school.admin, own | {"why": "outage"}),
    ]

    assert [(one.status_code, one.json()["code"]) for one in answers] == [(409, "second_person_needed")] * 2
    assert await school.balance(school.admin) == 0


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"reason": "too short"}, 400),
        ({"reason": " " * 12}, 400),
        ({"money": {"amount": 0}}, 400),
        ({"money": {"amount": 2**63}}, 400),
        ({"money": {"amount": 1.5}}, 400),
        ({"money": {"amount": "5"}}, 400),
        ({"money": {"amount": 5, "currency": "XXX"}}, 400),
        ({"money": {"amount": -1}}, 409),
        ({"user_id": "00000000-0000-4000-8000-000000000000"}, 404),
        ({"user_id": "me"}, 400),
    ],
    ids=str,
)
async def test_a_wrong_adjustment_moves_nothing(school: School, fields: dict[str, Any], status: int) -> None:
    (student,) = await school.students(1, cents=0)
    body = adjustment(student.id, 5_000) | fields

    answer = await school.ask("POST", "/admin/wallet-adjustments", school.admin, body)

    assert answer.status_code == status
    assert await school.balance(student) == 0


async def test_the_edge_of_a_balance_is_far_from_one_request_and_refused_by_its_name(school: School) -> None:
    """Nine million of the largest adjustments reach it; the one after them is told so."""
    (student,) = await school.students(1, cents=0)
    path = "/admin/wallet-adjustments"
    too_much = await school.ask("POST", path, school.admin, adjustment(student.id, AMOUNT_MOST))
    async with school.world.parts.sessions.begin() as db:
        # What they would have brought.
        await wallet.adjust(
            db,
            OwnerId(student.id),
            Money(AMOUNT_MOST - 5_000),
            actor="admin:test",
            reason=REASON,
            key="nine million",
            now=school.world.parts.clock.now(),
        )

    edge = await school.ask("POST", path, school.admin, adjustment(student.id, 5_000))
    over = [
        await school.ask("POST", path, school.admin, adjustment(student.id, 1)),
        await school.ask(
            "POST", "/admin/goodwill", school.admin, adjustment(student.id, 1) | {"why": "outage"}
        ),
    ]

    assert (too_much.status_code, edge.status_code) == (400, 200)
    assert [(one.status_code, one.json()["code"]) for one in over] == [(409, "balance_limit")] * 2
    assert await school.balance(student) == AMOUNT_MOST
    assert await school.violations() == []


async def test_entries_tell_why_money_moved_newest_first(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1, cents=20_000)
    bought = await school.buy(student, course, course["sessions"][0])
    await school.do("POST", f"/purchases/{bought['id']}/cancel", student)

    first = await school.do("GET", "/wallet/entries?limit=2", student)
    second = await school.do("GET", f"/wallet/entries?limit=2&cursor={first['next_cursor']}", student)

    entries = first["items"] + second["items"]
    assert [(entry["kind"], entry["amount"]["amount"]) for entry in entries] == [
        ("refund", 10_000),
        ("purchase", -10_000),
        ("admin_adjustment", 20_000),
    ]
    assert [entry["reason"] for entry in entries] == [
        "cancelled by the student",
        "Held for a purchase",
        "money for the test",
    ]
    assert entries[1]["reference"] == {"type": "purchase", "id": bought["id"]}
    assert second["next_cursor"] is None


@pytest.mark.parametrize("cursor", ["x", "1", "1-x", f"{10**30}-1", "-1--1"])
async def test_a_foreign_cursor_is_refused(school: School, cursor: str) -> None:
    (student,) = await school.students(1, cents=0)

    assert (await school.ask("GET", f"/wallet/entries?cursor={cursor}", student)).status_code == 400
