"""Each check finds the fault it is there for: the guards are switched off and the fault is planted."""

import re
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from sqlalchemy import text

from billing import card_disputes, checks, reversal, seals, wallet
from billing.models import SourceKind
from tests.billing.booker import Booker
from tests.billing.earner import Earner
from tests.billing.payments import open_shop
from tests.billing.seller import Seller
from tests.billing.world import (
    NOW,
    PLANNED_S,
    Sessions,
    buy,
    end,
    events,
    facts,
    fund,
    new_hold,
    owner,
    violations,
)

# It changes tables, not only what is in them.
OWN_DATABASE = True

World = Callable[[Sessions], Awaitable[None]]

ANY_HOLD = "(select id from hold where status = 'held' limit 1)"

FAULTS = {
    "ledger_sum": ["update ledger_account set balance = balance + 1 where kind = 'platform_revenue'"],
    "account_drift": ["update ledger_account set balance = balance + 1 where kind = 'platform_expense'"],
    "account_floor": [
        "alter table ledger_account drop constraint ck_ledger_account_floor",
        "update ledger_account set balance = -1 where kind = 'wallet'",
    ],
    "escrow_is_held": ["update ledger_account set balance = balance + 1 where kind = 'escrow'"],
    "hold_placed": [f"update hold set amount = amount + 1 where id = {ANY_HOLD}"],
    "hold_status": ["update hold set status = 'refunded' where status = 'released'"],
    "hold_adds_up": [
        "alter table hold_settlement drop constraint ck_hold_settlement_parts_add_up",
        "update hold_settlement set to_platform = to_platform + 1",
    ],
    "hold_moved": ["delete from ledger_transfer where hold_id in (select hold_id from hold_settlement)"],
    "settled_by_facts": ["update lesson_presence set attended_s = 0"],
    "facts_by_intervals": ["update lesson_presence set attended_s = attended_s + 1"],
    "tutor_absence": ["update lesson_facts set tutor_attended_s = 0"],
    "pending_is_at_risk": ["delete from maturing"],
    "withdrawal_is_reserved": [
        """
        update withdrawal set status = 'rejected', ended_at = now(), end_journal = request_journal,
          rejected_by = tutor_id, answer = 'Nobody knows why.'
        """,
    ],
    "held_after_settlement": [
        f"update hold set lesson_id = (select lesson_id from lesson_facts limit 1) where id = {ANY_HOLD}"
    ],
    "late_evidence_is_heard": [
        """
        insert into lesson_facts (lesson_id, version, tutor_id, planned_s, total_s, tutor_attended_s, tutor_absent,
          cancelled, absence_percent, ended_at, evidence, digest, recorded_at)
        select lesson_id, 9, tutor_id, planned_s, total_s, 0, true, cancelled, absence_percent, ended_at, evidence,
          digest, recorded_at from lesson_facts where version = 1
        """,
    ],
    "return_is_heard": ["delete from hold_review"],
    "payment_follows_hold": ["update payment set refunded = refunded + 1"],
    "payment_refunds": ["delete from payment_refund"],
    "payment_is_newest": [
        """
        insert into payment_event (payment_id, seq, from_state, to_state, reason, actor, at)
        select id, seq + 1, state, 'REFUNDED', 'OTHER', 'system:x', now() from payment
        """,
    ],
    "card_is_booked": ["update payment set student_id = gen_random_uuid()"],
    "card_refund_is_reserved": ["update card_refund set amount = amount + 1"],
    "stripe_is_told": ["delete from stripe_entry"],
    "top_up_is_credited": ["update top_up set owner_id = gen_random_uuid()"],
    "package_counts": ["update package set used = used + 1"],
    "slice_has_package": [
        "update hold set source_id = gen_random_uuid() where source_kind = 'package_slice'"
    ],
    "reversal_mirrors": ["delete from ledger_reversal"],
    "seal_covers": [
        (
            "insert into ledger_journal select id + 1, kind, actor, reason, ref_type, ref_id, at, recorded_at, xid"
            " from ledger_journal where id = (select min(id) from ledger_journal)"
        ),
    ],
    "stripe_agrees": [
        "insert into stripe_finding values ('txn_1', 'missing_here', '{}', now(), null)",
    ],
}

# The same for what is given back and disputed; one world for all of them.
LATER = {
    "frozen_is_disputed": ["update ledger_account set balance = balance + 1 where kind = 'frozen'"],
    "freeze_has_dispute": ["delete from dispute"],
    "dispute_is_decided": [
        "alter table dispute drop constraint ck_dispute_refunded_has_amount",
        "update dispute set refunded = 1",
    ],
    "given_back_grows": [
        """
        update hold_settlement s
        set to_tutor = b.to_tutor, to_platform = b.to_platform, to_student = b.to_student
        from hold_settlement b where b.hold_id = s.hold_id and b.number = s.previous
        """,
    ],
    "debt_is_repaid": ["update ledger_account set balance = balance + 1 where kind = 'earnings'"],
    "debt_is_explained": ["update ledger_account set balance = balance - 1 where kind = 'tutor_debt'"],
    "disputed_at_stripe": ["delete from card_dispute"],
}


async def lived(sessions: Sessions) -> None:
    """A world where one lesson is settled, another is still to come, and somebody has paid by card."""
    came, missed, lesson = owner(), owner(), uuid4()
    for student in (came, missed):
        await fund(sessions, student, 30_000)
        await buy(sessions, student, new_hold(lesson_id=lesson))
        await buy(sessions, student, new_hold(lesson_id=uuid4()))
    await end(sessions, facts(lesson, {came: PLANNED_S, missed: 1}))
    async with open_shop(sessions) as shop:
        step = await shop.start(came)
        await shop.fake.pay(step.top_up.checkout_id or "")
        await shop.refresh(step.top_up.id)
    seller, not_given, forfeited = Seller(sessions), uuid4(), uuid4()
    package_id = await seller.sell()
    await seller.use(package_id)
    await seller.use(package_id, not_given)
    await seller.teach(not_given, tutor_attended_s=0)
    await seller.hears_late(not_given, attended_s=PLANNED_S)
    await seller.use(package_id, forfeited)
    await seller.forfeit(package_id, forfeited)
    earner = Earner(sessions)
    await earner.teach(3_000)
    await earner.teach(1_000, kind=SourceKind.BOOKING)
    await earner.set_bank()
    await earner.ask(2_000)
    booker = Booker(sessions, fake=shop.fake)
    payment_id = await booker.by_card()
    await booker.accept(payment_id)
    await booker.ends(payment_id)
    await booker.run()
    await booker.refund(payment_id, 1_000, to_card=True)
    gift = owner()
    await fund(sessions, gift, 500)
    async with sessions.begin() as session:
        [entry] = await wallet.entries(session, gift, limit=1)
        await reversal.reverse(
            session, entry.journal_id, actor="admin:test", reason="It was a mistake.", key="1", now=NOW
        )


async def disputed(sessions: Sessions) -> None:
    """A world where a lesson is disputed, another was given back, a tutor owes, and a bank has taken a payment."""
    earner, ann = Earner(sessions), owner()
    await earner.give_back(await earner.teach(3_000), 500)
    await earner.dispute(await earner.teach(1_000, kind=SourceKind.BOOKING))
    await Earner(sessions).owe(300)
    async with open_shop(sessions) as shop:
        step = await shop.start(ann)
        await shop.fake.pay(step.top_up.checkout_id or "")
        paid = (await shop.refresh(step.top_up.id)).top_up
        answer = await shop.fake.act(f"/payments/{paid.payment_id}/dispute")
        found = await shop.api.retrieve_dispute(answer.body["id"])
        async with sessions.begin() as session:
            await card_disputes.apply(session, found, now=shop.now)


# Kind, scope, key, actor, reason, and what it is about.
SAID = {
    "lived": {
        "admin_adjustment | adjust:admin:test | * | admin:test | Money for the test. | owner",
        "card_refund | card_refund | *:ask | system:card_refunds | - | card_refund",
        "purchase | purchase:* | * | user:* | - | purchase",
        "purchase | purchase:* | payment:* | user:* | - | purchase",
        "refund | give_back:admin:1 | payment:*:0 | admin:1 | By a call. | hold",
        "reversal | reversal:admin:test | 1 | admin:test | It was a mistake. | owner",
        "settlement | forfeit | * | user:* | cannot come | hold",
        "settlement | payment | *:capture | system:settlement | COMPLETED | booking",
        "settlement | settle | * | system:settlement | attendance | lesson",
        "settlement | settle | * | system:settlement | outcome | lesson",
        "top_up | stripe | card_authorization:pi_* | user:* | - | booking",
        "top_up | stripe | top_up:pi_* | user:* | - | top_up",
        "withdrawal | withdrawal:* | * | user:* | - | withdrawal",
    },
    "disputed": {
        "admin_adjustment | adjust:admin:test | * | admin:test | Money for the test. | owner",
        "card_dispute | card_dispute | *:freeze:0:0 | system:card_dispute | - | card_dispute",
        "card_dispute | card_dispute | *:movement:txn_* | system:card_dispute | - | card_dispute",
        "dispute | dispute | freeze:*:* | system:dispute | - | hold",
        "dispute | test | * | system:test | - | test",
        "purchase | purchase:* | * | user:* | - | purchase",
        "refund | give_back:admin:* | * | admin:* | Too early. | hold",
        "settlement | settle | * | system:settlement | attendance | lesson",
        "settlement | settle | * | system:settlement | outcome | lesson",
        "top_up | stripe | top_up:pi_* | user:* | - | top_up",
    },
}


def test_every_check_has_its_fault() -> None:
    assert [check.name for check in checks.CHECKS] == [*FAULTS, *LATER]


async def test_what_is_given_back_and_disputed_is_checked(sessions: Sessions) -> None:
    await disputed(sessions)
    before = await violations(sessions)

    for name, faults in LATER.items():
        async with sessions() as session:
            await session.execute(text("set local session_replication_role = replica"))
            for fault in faults:
                await session.execute(text(fault))
            [check] = [check for check in checks.CHECKS if check.name == name]
            [found] = await checks.run(session, [check])
        assert (found.name, found.detail) == (name, check.detail)
    assert before == []


async def test_the_ledger_sums_up_to_nothing(sessions: Sessions) -> None:
    await lived(sessions)

    async with sessions() as session:
        sums = await checks.ledger_sums(session)

    assert sums == {"USD": 0}


@pytest.mark.parametrize("world", [lived, disputed], ids=["lived", "disputed"])
async def test_every_journal_says_who_did_what_and_to_what(sessions: Sessions, world: World) -> None:
    await world(sessions)

    async with sessions() as session:
        rows = await session.execute(
            text("""
                select j.kind, r.scope, r.key, j.actor, coalesce(j.reason, '-'), j.ref_type
                from ledger_journal j join ledger_request r on r.journal_id = j.id
            """)
        )
        told = {re.sub("[0-9a-f-]{36}|[0-9a-f]{24}", "*", " | ".join(row)) for row in rows}

    assert told == SAID[world.__name__]
    assert await events(sessions)


async def test_a_good_world_has_no_violations(sessions: Sessions) -> None:
    await lived(sessions)
    await seals.seal(sessions)

    assert await violations(sessions) == []


async def test_a_planted_fault_is_found_and_named(sessions: Sessions) -> None:
    """Each is planted in the same good world, and rolled back."""
    await lived(sessions)
    await seals.seal(sessions)

    for name, faults in FAULTS.items():
        async with sessions() as session:
            await session.execute(text("set local session_replication_role = replica"))
            for fault in faults:
                await session.execute(text(fault))
            found = {violation.name: violation for violation in await checks.run(session)}
        assert name in found
        assert 1 <= len(found[name].rows) <= checks.ROWS_MOST
        assert found[name].detail


async def test_what_moved_for_a_hold_without_a_settlement_is_found(sessions: Sessions) -> None:
    await lived(sessions)

    async with sessions() as session:
        await session.execute(text("set local session_replication_role = replica"))
        await session.execute(
            text("""
                insert into ledger_transfer (journal_id, leg, debit_account, credit_account, currency, amount, hold_id)
                select s.journal_id + 500000, 1, h.escrow_account, h.wallet_account, h.currency, 1, h.id
                from hold h join hold_settlement s on s.hold_id = h.id limit 1
            """)
        )
        [check] = [check for check in checks.CHECKS if check.name == "hold_moved"]
        [found] = await checks.run(session, [check])

    assert [row["student"] - row["to_student"] for row in found.rows] == [1]
