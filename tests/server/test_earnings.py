"""Earnings and withdrawals as tutors and administrators see them."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select, text

from billing.earnings import WithdrawalView
from billing.errors import NoPayoutAccountError, PayoutAccountFrozenError, WithdrawalStateError
from billing.models import AccountKind, OwnerId, PayoutMethod, SourceKind, WithdrawalStatus
from billing.money import Money
from server import checks, jobs
from server.audit import AuditEntry
from server.context import Principal, Role
from server.errors import BadRequestError, ForbiddenError
from server.features.earnings import export
from server.gateway.metrics import Metrics
from server.job import Means
from server.runner import Runner
from tests.billing.earner import RISK, Earner
from tests.server.stage import Stage

NUMBER = "DE89 3704 0044 0532 0130 00"
BANK: dict[str, Any] = {"bank_name": "Bank of Letters", "account_number": NUMBER, "account_holder": "Ann Lee"}
USD = {"currency": "USD"}


class Payday:
    """A tutor with earnings, and an administrator."""

    def __init__(self, stage: Stage, tutor: Principal, admin: Principal, earner: Earner) -> None:
        self.stage = stage
        self.tutor = tutor
        self.admin = admin
        self.earner = earner

    async def ask(self, amount: int, **fields: Any) -> dict[str, Any]:
        money = {"amount": amount, **USD}
        found: dict[str, Any] = await self.stage.do("withdrawal.request", self.tutor, amount=money, **fields)
        return found

    async def deed(self, name: str, withdrawal: dict[str, Any], **fields: Any) -> Any:
        return await self.stage.do(
            f"admin.withdrawal.{name}", self.admin, withdrawal_id=withdrawal["id"], **fields
        )

    async def told(self, person: Principal) -> list[str]:
        await self.stage.relay.flush()
        items = (await self.stage.do("notification.list", person))["items"]
        return [item["type"] for item in reversed(items)]


@pytest.fixture
async def payday(stage: Stage) -> Payday:
    [tutor] = await stage.people(1, Role.TUTOR)
    [admin] = await stage.people(1, Role.ADMIN)
    earner = Earner(stage.parts.sessions)
    earner.tutor = OwnerId(tutor.user_id)
    await earner.teach(9_000)
    # The lesson was bought past the product: nobody could be told of its purchase.
    async with stage.parts.sessions.begin() as session:
        await session.execute(text("delete from outbox"))
    return Payday(stage, tutor, admin, earner)


async def test_a_withdrawal_goes_from_the_request_to_the_bank_and_everybody_hears_of_it(
    payday: Payday,
) -> None:
    stage = payday.stage
    account = await stage.do("payout_account.set_bank", payday.tutor, **BANK)
    asked = await payday.ask(4_000, note="For the rent")

    approved = await payday.deed("approve", asked)
    bank = await payday.deed("reveal", asked, reason="I make the bank transfer now.")
    paid = await payday.deed("complete", asked, reference="TT-1")

    standing = (await stage.do("earnings.get", payday.tutor))["standing"]
    statuses = [one["status"] for one in (asked, approved, paid)]
    assert statuses == ["pending", "processing", "completed"]
    assert (account["last4"], asked["account_last4"], bank["account_number"]) == ("3000", "3000", NUMBER)
    assert standing["available"]["amount"] == 5_000
    assert (standing["reserved"]["amount"], standing["withdrawn"]["amount"]) == (0, 4_000)
    assert await payday.told(payday.tutor) == [
        "payout_account_changed",
        "withdrawal_approved",
        "withdrawal_completed",
    ]
    assert await payday.told(payday.admin) == ["withdrawal_requested"]
    shown = [one.data["status"] for one in stage.seen(f"user:{payday.tutor.user_id}", "withdrawal.updated")]
    assert shown == statuses


async def test_every_look_at_bank_data_and_every_deed_is_audited(payday: Payday) -> None:
    await payday.stage.do("payout_account.set_bank", payday.tutor, **BANK)
    asked, other = await payday.ask(4_000), await payday.ask(1_000)
    await payday.deed("hold", asked, reason="I want to ask first.")
    await payday.deed("let_go", asked)
    await payday.deed("approve", asked)
    await payday.deed("reveal", asked, reason="I make the bank transfer now.")
    await payday.deed("complete", asked, reference="TT-1")
    await payday.deed("reject", other, answer="Please ask for it again.")

    async with payday.stage.parts.sessions() as session:
        entries = (await session.scalars(select(AuditEntry).order_by(AuditEntry.id))).all()
    async with payday.stage.parts.sessions() as session:
        found = {one.name: one.rows for one in await checks.run(session)}
    assert [entry.action.rpartition(".")[2] for entry in entries] == [
        "set_bank",
        "hold",
        "let_go",
        "approve",
        "reveal",
        "complete",
        "reject",
    ]
    assert NUMBER not in repr([(entry.before, entry.after) for entry in entries])
    # The money and the lesson of the test itself came past the product.
    assert {row["kind"] for row in found["admin_is_audited"]} == {"admin_adjustment"}


async def test_the_number_of_a_bank_account_is_nowhere_in_clear(payday: Payday) -> None:
    await payday.stage.do("payout_account.set_bank", payday.tutor, **BANK)
    asked = await payday.ask(1_000)
    await payday.deed("reveal", asked, reason="I make the bank transfer now.", key="k")
    answers = [
        await payday.stage.do("payout_account.get", payday.tutor),
        await payday.stage.do("withdrawal.list", payday.tutor),
        await payday.stage.do("admin.withdrawal.list", payday.admin),
        asked,
    ]

    async with payday.stage.parts.sessions() as session:
        tables = await session.scalars(
            text("select table_name from information_schema.tables where table_schema = 'public'")
        )
        rows = [repr((await session.execute(text(f"select * from {table}"))).all()) for table in tables]

    assert not any(NUMBER in shown for shown in (*map(repr, answers), *rows))


async def test_a_rejected_withdrawal_is_back_and_says_why(payday: Payday) -> None:
    await payday.stage.do("payout_account.set_bank", payday.tutor, **BANK)
    asked = await payday.ask(4_000)

    rejected = await payday.deed("reject", asked, answer="The name is not yours.")

    assert (rejected["status"], rejected["answer"]) == ("rejected", "The name is not yours.")
    assert await payday.earner.has(AccountKind.EARNINGS) == [9_000]
    assert (await payday.told(payday.tutor))[-1] == "withdrawal_rejected"
    with pytest.raises(WithdrawalStateError):
        await payday.deed("complete", asked, reference="TT-1")


async def test_a_changed_account_is_paid_to_later(payday: Payday) -> None:
    for number in ("12345678", "87654321"):
        await payday.stage.do("payout_account.set_bank", payday.tutor, **BANK | {"account_number": number})

    with pytest.raises(PayoutAccountFrozenError) as error:
        await payday.ask(1_000)

    usable_from = error.value.usable_from
    assert usable_from - payday.stage.parts.clock.now() > timedelta(hours=71)


async def test_withdrawals_are_listed_by_status_in_pages(payday: Payday) -> None:
    await payday.stage.do("payout_account.set_bank", payday.tutor, **BANK)
    asked = [await payday.ask(1_000) for _ in range(3)]
    await payday.deed("approve", asked[1])

    first = await payday.stage.do("withdrawal.list", payday.tutor, limit=2)
    second = await payday.stage.do("withdrawal.list", payday.tutor, limit=2, cursor=first["next_cursor"])
    pending = await payday.stage.do("admin.withdrawal.list", payday.admin, status="pending")
    [other] = await payday.stage.people(1, Role.TUTOR)

    ids = [one["id"] for one in asked]
    assert [one["id"] for one in (*first["items"], *second["items"])] == ids[::-1]
    assert second["next_cursor"] is None
    assert {one["id"] for one in pending["items"]} == {ids[0], ids[2]}
    assert (await payday.stage.do("withdrawal.list", other))["items"] == []


async def test_the_same_key_asks_once(payday: Payday) -> None:
    await payday.stage.do("payout_account.set_bank", payday.tutor, **BANK)

    first, again = [await payday.ask(1_000, key="k") for _ in range(2)]

    assert first == again
    assert await payday.earner.has(AccountKind.WITHDRAWAL) == [1_000]


async def test_earnings_become_credit(payday: Payday) -> None:
    spent = await payday.stage.do("earnings.spend", payday.tutor, amount={"amount": 2_500, **USD})

    assert spent["standing"]["available"]["amount"] == 6_500
    assert (await payday.stage.do("wallet.get", payday.tutor))["balance"]["amount"] == 2_500


async def test_earnings_are_shown_by_the_tutors_own_calendar(payday: Payday) -> None:
    earner = payday.earner
    # Late in the evening in London is the next day in Hanoi.
    earner.now = datetime(2026, 3, 31, 20, 0, tzinfo=UTC)
    await earner.teach(1_000, kind=SourceKind.BOOKING)
    await earner.teach(500, tutor_attended_s=0)
    async with payday.stage.parts.sessions.begin() as session:
        await session.execute(text("update users set timezone = 'Asia/Ho_Chi_Minh'"))

    span: dict[str, Any] = {"since": "2026-03-01", "until": "2026-04-30"}
    months = await payday.stage.do("earnings.get", payday.tutor, **span)
    days = await payday.stage.do("earnings.get", payday.tutor, by="day", **span)

    def shown(found: Any) -> list[tuple[str, int, int, int]]:
        return [
            (one["begins"], one["net"]["amount"], one["refunded"]["amount"], one["lessons"])
            for one in found["periods"]
        ]

    assert shown(months) == [("2026-03-01", 9_000, 0, 1), ("2026-04-01", 1_000, 500, 1)]
    assert shown(days) == [("2026-03-01", 9_000, 0, 1), ("2026-04-01", 1_000, 500, 1)]
    kinds = {one["source_kind"]: one["net"]["amount"] for one in months["shares"]}
    assert kinds == {"booking": 1_000, "course_session": 9_000}
    standing = months["standing"]
    assert (standing["pending"]["amount"], standing["available"]["amount"]) == (1_000, 9_000)


async def test_without_a_span_a_year_or_a_month_is_shown(payday: Payday) -> None:
    today = payday.stage.parts.clock.now().date()

    months = await payday.stage.do("earnings.get", payday.tutor)
    days = await payday.stage.do("earnings.get", payday.tutor, by="day")

    first = date.fromisoformat(months["since"])
    assert (first.day, (today.year - first.year) * 12 + today.month - first.month) == (1, 11)
    assert date.fromisoformat(days["until"]) - date.fromisoformat(days["since"]) == timedelta(days=30)
    with pytest.raises(BadRequestError):
        await payday.stage.do("earnings.get", payday.tutor, since="2020-01-01", by="day")


async def test_shares_at_risk_mature_by_the_jobs_of_the_product(payday: Payday) -> None:
    await payday.earner.teach(1_000, kind=SourceKind.BOOKING)
    parts = payday.stage.parts
    parts.clock.pin(payday.earner.now + RISK)
    table = [job for job in jobs.TABLE if job.kind == "mature"]
    runner = Runner(
        Means(parts.sessions, cast(Any, None)),
        table,
        clock=parts.clock,
        metrics=Metrics(CollectorRegistry()),
    )

    done = await runner.run_due()

    assert done == 1
    assert await payday.earner.has(AccountKind.EARNINGS_PENDING, AccountKind.EARNINGS) == [0, 10_000]


async def test_a_tutor_is_sent_to_stripe_and_paid_there(payday: Payday) -> None:
    stage, earner = payday.stage, payday.earner
    stage.parts = msgspec.structs.replace(stage.parts, payments=earner.api)
    await earner.put_at_stripe(10_000)
    with pytest.raises(NoPayoutAccountError):
        await stage.do("payout_account.stripe", payday.tutor)

    link = await stage.do("payout_account.onboard", payday.tutor, country="US")
    [account] = [name for name in earner.fake.objects if name.startswith("acct_")]
    begun = await stage.do("payout_account.stripe", payday.tutor)
    await earner.fake.act(f"/accounts/{account}/onboard")
    whole = await stage.do("payout_account.stripe", payday.tutor)
    asked = await payday.ask(4_000)
    await payday.deed("approve", asked)
    earner.now = stage.parts.clock.now()
    await earner.run("pay_out")

    assert account in link["url"]
    assert begun == {"may_receive": False, "may_pay_out": False, "wanted": ["external_account"], "test": True}
    assert whole == {"may_receive": True, "may_pay_out": True, "wanted": [], "test": True}
    assert (
        earner.fake.onboarded_at(account)
        == f"{stage.parts.settings.public_url}/teach/earnings?stripe=returned"
    )
    listed = (await stage.do("withdrawal.list", payday.tutor))["items"]
    assert (link["test"], asked["method"], [one["test"] for one in (asked, *listed)]) == (
        True,
        "stripe",
        [True, True],
    )
    assert await earner.has(AccountKind.STRIPE) == [-6_000]


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("earnings.get", {}),
        ("withdrawal.request", {"amount": {"amount": 1_000, **USD}}),
        ("withdrawal.list", {}),
        ("payout_account.set_bank", BANK),
        ("admin.withdrawal.list", {}),
    ],
)
async def test_students_have_no_earnings(stage: Stage, op: str, fields: dict[str, Any]) -> None:
    [student] = await stage.people(1)

    with pytest.raises(ForbiddenError):
        await stage.do(op, student, **fields)


async def test_only_approved_tutors_withdraw(payday: Payday) -> None:
    await payday.stage.do("payout_account.set_bank", payday.tutor, **BANK)
    async with payday.stage.parts.sessions.begin() as session:
        await session.execute(text("update users set tutor_status = 'rejected' where role = 'tutor'"))

    with pytest.raises(ForbiddenError):
        await payday.ask(1_000)


def test_a_spreadsheet_takes_no_cell_for_a_formula() -> None:
    row = WithdrawalView(
        id=UUID(int=1),
        tutor_id=UUID(int=2),
        amount=Money(12_345),
        status=WithdrawalStatus.COMPLETED,
        method=PayoutMethod.BANK,
        account_last4="7890",
        note='=HYPERLINK("http://x", "a,b")',
        is_held=False,
        held_reason=None,
        approvals=1,
        approvals_needed=1,
        answer=None,
        reference="TT-1",
        requested_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        ended_at=None,
    )

    heading, line = csv.reader(io.StringIO(export.table([row]).decode("utf-8-sig")))

    cells = dict(zip(heading, line, strict=True))
    assert (cells["amount"], cells["account"], cells["ended_at"]) == ("123.45", "*7890", "")
    assert (cells["note"], cells["reference"]) == ('\'=HYPERLINK("http://x", "a,b")', "TT-1")
