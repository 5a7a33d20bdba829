"""Each constraint and trigger of the money tables refuses what it is there for, by its own name.

The rows are written past the ledger's own guard, so that what is tested is the constraint under it.
"""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from billing.models import Base, Hold
from billing.money import Money
from tests.billing.world import NOW, PLANNED_S, Sessions, buy, end, facts, fund, new_hold, owner

# It changes tables, not only what is in them.
OWN_DATABASE = True

Row = dict[str, Any]


class Stage:
    """A world with one settled hold, one held, and for each table a row that may be added."""

    def __init__(self, rows: Mapping[str, Row], others: Mapping[str, Any]) -> None:
        self.rows = rows
        self.others = others

    def named(self, change: Row) -> Row:
        """Put what the stage made where a change names it."""
        return {
            name: self.others[value[1:-1]] if isinstance(value, str) and value.startswith("<") else value
            for name, value in change.items()
        }


@pytest.fixture
async def stage(sessions: Sessions) -> Stage:
    student, tutor, lesson, planned = owner(), owner(), uuid4(), uuid4()
    await fund(sessions, student, 50_000)
    [settled] = await buy(sessions, student, new_hold(lesson_id=lesson, tutor_id=tutor))
    [held] = await buy(sessions, student, new_hold(lesson_id=planned, tutor_id=tutor))
    known = facts(lesson, {student: PLANNED_S}, tutor_id=tutor)
    await end(sessions, known)
    async with sessions() as session:
        hold = await session.get_one(Hold, held)
        journal = await session.scalar(text("select max(id) from ledger_journal"))
        expense = await session.scalar(text("select id from ledger_account where kind = 'platform_expense'"))
    async with sessions.begin() as session:
        await session.execute(
            text("insert into job (kind, key, payload, run_at) values ('x', 'waits', '{}', :now)"),
            {"now": NOW},
        )
        debt = await session.scalar(
            text(
                "insert into ledger_account (kind, owner_id, currency) values ('tutor_debt', :tutor, 'USD') returning id"
            ),
            {"tutor": tutor},
        )
    rows: dict[str, Row] = {
        "outbox": {"type": "x", "data": "{}", "at": NOW},
        "policy": {
            "version": 2,
            "effective_from": NOW,
            "course_platform_bps": 1,
            "course_referral_bps": 1,
            "attendance_percent": 1,
            "min_price": 1,
            "course_risk_days": 0,
            "booking_risk_days": 0,
            "actor": "admin:1",
            "reason": "A reason to change.",
        },
        "ledger_account": {"kind": "wallet", "owner_id": uuid4(), "currency": "USD"},
        "ledger_journal": {
            "id": 1,
            "kind": "purchase",
            "actor": "user:1",
            "reason": None,
            "ref_type": "x",
            "ref_id": uuid4(),
            "at": NOW,
        },
        "ledger_transfer": {
            "journal_id": journal,
            "leg": 100,
            "debit_account": expense,
            "credit_account": hold.wallet_account,
            "currency": "USD",
            "amount": 1,
        },
        "ledger_request": {"scope": "s", "key": "k", "request_hash": b"h" * 32, "journal_id": 1},
        "hold": {
            "id": uuid4(),
            "student_id": student,
            "tutor_id": tutor,
            "lesson_id": uuid4(),
            "source_kind": "course_session",
            "source_id": uuid4(),
            "slice_no": 1,
            "amount": 1,
            "currency": "USD",
            "tutor_bps": 1,
            "attribution": "platform",
            "policy_version": 1,
            "wallet_account": hold.wallet_account,
            "escrow_account": hold.escrow_account,
            "placed_at": NOW,
            "place_journal": journal,
        },
        "lesson_facts": {
            "lesson_id": uuid4(),
            "version": 1,
            "tutor_id": tutor,
            "planned_s": 100,
            "total_s": 100,
            "tutor_attended_s": 100,
            "tutor_absent": False,
            "cancelled": False,
            "absence_percent": 20,
            "ended_at": NOW,
            "evidence": "{}",
            "digest": b"d",
            "recorded_at": NOW,
        },
        "lesson_presence": {
            "lesson_id": lesson,
            "version": 1,
            "student_id": uuid4(),
            "attended_s": 1,
            "intervals": "[]",
            "confidence": "full",
        },
        "settle_due": {"lesson_id": lesson, "due_at": NOW},
        "hold_settlement": {
            "hold_id": held,
            "number": 0,
            "amount": 10_000,
            "tutor_bps": 3_000,
            "to_tutor": 3_000,
            "to_platform": 7_000,
            "to_student": 0,
            "cause": "attendance",
            "actor": "system:settlement",
            "lesson_id": lesson,
            "facts_version": 1,
            "attended_s": 20,
            "total_s": 100,
            "threshold_percent": 20,
            "journal_id": journal,
            "settled_at": NOW,
        },
        "hold_review": {
            "hold_id": held,
            "lesson_id": lesson,
            "facts_version": 1,
            "to_student": 1,
            "opened_at": NOW,
        },
        "package_return": {"hold_id": held, "lesson_id": lesson, "returned_at": NOW},
        "job": {"kind": "x", "key": "new", "payload": "{}", "run_at": NOW},
        "top_up": {
            "id": uuid4(),
            "owner_id": uuid4(),
            "key": "k",
            "amount": 500,
            "currency": "USD",
            "way": "hosted",
            "created_at": NOW,
            "expires_at": NOW,
        },
        "stripe_customer": {"owner_id": uuid4(), "customer_id": "cus_1", "created_at": NOW},
        "stripe_entry": {
            "id": "txn_2",
            "journal_id": journal,
            "source": "ch_1",
            "category": "charge",
            "amount": 100,
            "fee": 3,
            "currency": "USD",
            "at": NOW,
        },
        "stripe_event": {"id": "evt_1", "type": "x", "digest": b"d" * 32, "created_at": NOW},
        "stripe_finding": {
            "subject": "txn_1",
            "outcome": "missing_here",
            "detail": "{}",
            "found_at": NOW,
        },
    }
    rows |= {
        "ledger_seal": {
            "number": 1,
            "since_xid": 0,
            "upto_xid": 9,
            "journals": 1,
            "first_id": 1,
            "last_id": 1,
            "sha256": b"s" * 32,
            "sealed_at": NOW,
        },
        # Journals without legs mirror each other.
        "ledger_reversal": {"reverses_id": 13, "journal_id": 14},
        "paper_count": {"year": 2027, "last": 0},
        "paper": {
            "year": 2026,
            "number": 2,
            "owner_id": tutor,
            "kind": "entry",
            "subject": "other",
            "facts_sha256": b"f" * 32,
            "pdf": b"",
            "pdf_sha256": hashlib.sha256(b"").digest(),
            "issued_at": NOW,
        },
    }
    account, pending, over, attempt, dispute = uuid4(), uuid4(), uuid4(), uuid4(), uuid4()
    option, package = uuid4(), uuid4()
    async with sessions() as session:
        journals = (await session.scalars(text("select id from ledger_journal order by id"))).all()
    second = uuid4()
    [disputable] = await buy(sessions, student, new_hold(lesson_id=second, tutor_id=tutor))
    await end(sessions, facts(second, {student: PLANNED_S}, tutor_id=tutor))
    rows |= {
        "hold_freeze": {"hold_id": held, "dispute_id": uuid4()},
        "dispute": {
            "id": uuid4(),
            "hold_id": disputable,
            "ruling": 0,
            "opened_by": "user:1",
            "reason": "other",
            "words": "x" * 10,
            "frozen": 0,
            "opened_at": NOW,
        },
        "card_dispute": {
            "id": uuid4(),
            "dispute": "dp_2",
            "charge": "ch_1",
            "owner_id": student,
            "amount": 100,
            "currency": "USD",
            "reason": "fraudulent",
            "status": "open",
            "paid_at": NOW,
            "opened_at": NOW,
        },
        "maturing": {"hold_id": held, "tutor_id": tutor, "mature_at": NOW},
        "payout_account": {
            "id": uuid4(),
            "tutor_id": uuid4(),
            "method": "bank",
            "sealed": b"s",
            "last4": "1234",
            "created_at": NOW,
            "usable_from": NOW,
        },
        "withdrawal": {
            "id": uuid4(),
            "tutor_id": tutor,
            "payout_account": account,
            "method": "bank",
            "amount": 1_000,
            "currency": "USD",
            "two_people_above": 5_000,
            "requested_at": NOW,
            "request_journal": journals[2],
        },
        "payout_attempt": {
            "id": uuid4(),
            "withdrawal_id": over,
            "number": 1,
            "submitted_at": NOW,
        },
    }
    rows["package_option"] = {
        "id": uuid4(),
        "tutor_id": tutor,
        "title": "Five lessons",
        "description": "",
        "minutes": 90,
        "sessions": 5,
        "price": 500,
        "currency": "USD",
        "validity_days": 30,
        "is_rolling": False,
        "is_popular": False,
        "position": 0,
        "created_at": NOW,
        "updated_at": NOW,
    }
    rows["package"] = {
        "id": uuid4(),
        "option_id": option,
        "student_id": student,
        "tutor_id": tutor,
        "title": "Five lessons",
        "minutes": 90,
        "price": 500,
        "currency": "USD",
        "purchased": 5,
        "validity_days": 30,
        "is_rolling": False,
        "tutor_bps": 8_000,
        "attribution": "tier",
        "policy_version": 1,
        "bought_at": NOW,
        "expires_at": NOW + timedelta(days=30),
    }
    booking, taken, other = uuid4(), uuid4(), uuid4()
    rows |= {
        "payment_transition": {"from_state": "VOIDED", "to_state": "PENDING"},
        "payment_event": {
            "payment_id": booking,
            "seq": 2,
            "from_state": "PENDING",
            "to_state": "AUTHORIZED",
            "reason": "ACCEPTED",
            "actor": "user:1",
            "at": NOW,
        },
        "payment": {
            "id": other,
            "lesson_id": uuid4(),
            "student_id": student,
            "tutor_id": tutor,
            "amount": 10_000,
            "currency": "USD",
            "tutor_bps": 3_000,
            "attribution": "platform",
            "policy_version": 1,
            "starts_at": NOW,
            "method": "card",
            "state": "PENDING",
            "seq": 1,
            "opened_at": NOW,
        },
        "payment_refund": {
            "id": uuid4(),
            "payment_id": booking,
            "key": "k2",
            "amount": 1,
            "is_whole": False,
            "to_card": False,
            "reason": "GOODWILL",
            "actor": "user:1",
            "hold_id": settled,
            "settlement_no": 0,
            "at": NOW,
        },
        "card_authorization": {
            "id": uuid4(),
            "payment_id": booking,
            "number": 2,
            "off_session": False,
            "opened_at": NOW,
            "status": "cancelled",
            "ended_at": NOW,
        },
        "card_refund": {
            "id": uuid4(),
            "payment_id": booking,
            "authorization_id": taken,
            "student_id": student,
            "key": "k2",
            "amount": 1,
            "currency": "USD",
            "asked_at": NOW,
            "ask_journal": journals[1],
        },
    }
    begun = rows["payment_event"] | {"seq": 1, "from_state": "NEW", "to_state": "PENDING"}
    sent, refund = uuid4(), uuid4()
    there: list[tuple[str, Row]] = [
        ("package_option", rows["package_option"] | {"id": option}),
        ("package", rows["package"] | {"id": package}),
        ("payment_event", begun),
        ("payment_event", begun | {"payment_id": other}),
        ("payment", rows["payment"] | {"id": booking, "hold_id": settled, "setup_id": "seti_1"}),
        ("payment_refund", rows["payment_refund"] | {"id": refund, "key": "k"}),
        (
            "card_authorization",
            rows["card_authorization"]
            | {"id": taken, "number": 1, "status": "captured", "began_at": NOW, "intent": "pi_1"}
            | {"journal_id": journals[0]},
        ),
        (
            "card_authorization",
            rows["card_authorization"] | {"id": uuid4(), "number": 9, "status": "wanted", "ended_at": None},
        ),
        (
            "card_refund",
            rows["card_refund"]
            | {"id": sent, "key": "k", "ask_journal": journals[0], "status": "failed", "refund": "re_1"}
            | {"sent_journal": journals[0], "back_journal": journals[0], "failure": "x"},
        ),
        ("top_up", rows["top_up"]),
        ("stripe_customer", rows["stripe_customer"]),
        ("hold_freeze", {"hold_id": settled, "dispute_id": dispute}),
        ("dispute", rows["dispute"] | {"id": dispute, "hold_id": settled}),
        ("card_dispute", rows["card_dispute"] | {"id": dispute, "dispute": "dp_1"}),
        ("ledger_seal", dict(rows["ledger_seal"])),
        *(
            ("ledger_journal", rows["ledger_journal"] | {"id": number, "kind": kind})
            for number, kind in ((11, "goodwill"), (12, "reversal"), (13, "goodwill"), (14, "reversal"))
        ),
        ("ledger_reversal", {"reverses_id": 11, "journal_id": 12}),
        ("paper_count", {"year": 2026, "last": 1}),
        ("paper", rows["paper"] | {"number": 1, "subject": "first"}),
        ("maturing", rows["maturing"] | {"hold_id": settled}),
        (
            "payout_account",
            rows["payout_account"]
            | {"id": account, "tutor_id": tutor, "method": "stripe", "sealed": None, "last4": None}
            | {"stripe_account": "acct_1"},
        ),
        ("withdrawal", rows["withdrawal"] | {"id": pending, "request_journal": journals[0]}),
        (
            "withdrawal",
            rows["withdrawal"]
            | {"id": over, "request_journal": journals[1], "end_journal": journals[0], **REJECTED},
        ),
        (
            "payout_attempt",
            rows["payout_attempt"]
            | {"id": attempt, "withdrawal_id": pending, "began_at": NOW, "failure": "x"}
            | {"transfer": "tr_1", "transfer_journal": journals[0], "payout": "po_1"}
            | {"reversal": "trr_1", "reversal_journal": journals[0]},
        ),
    ]
    for table, row in there:
        async with sessions.begin() as session:
            await add(session, table, row)
    stored = {"top_up": dict(rows["top_up"]), "customer": dict(rows["stripe_customer"])}
    rows["top_up"] |= {"id": uuid4(), "key": "k2"}
    rows["stripe_customer"] |= {"owner_id": uuid4(), "customer_id": "cus_2"}
    rows["ledger_seal"] |= {"number": 2, "since_xid": 9, "upto_xid": 10}
    others = {
        "booking": booking,
        "taken": taken,
        "sent": sent,
        "refund": refund,
        "option": option,
        "package": package,
        "reversed": 11,
        "reversal": 12,
        "account": account,
        "pending": pending,
        "attempt": attempt,
        "dispute": dispute,
        "first_journal": journals[0],
        "payer": stored["top_up"]["owner_id"],
        "top_up": stored["top_up"]["id"],
        "customer": stored["customer"]["owner_id"],
        "settled": settled,
        "held": held,
        "student": student,
        "planned": planned,
        "lesson": lesson,
        "journal": journal,
        "source": hold.source_id,
        "wallet": hold.wallet_account,
        "expense": expense,
        "debt": debt,
        "tutor": tutor,
    }
    return Stage(rows, others)


async def add(session: AsyncSession, table: str, row: Row) -> None:
    await session.execute(text("select set_config('ledger.posting', 'on', true)"))
    if table in BEGINS:
        await session.execute(text(f"alter table {table} disable trigger {BEGINS[table]}"))
    names = ", ".join(row)
    values = ", ".join(f"cast(:{name} as jsonb)" if name in JSON else f":{name}" for name in row)
    await session.execute(text(f"insert into {table} ({names}) values ({values})"), row)
    if table in BEGINS:
        await session.execute(text(f"alter table {table} enable trigger {BEGINS[table]}"))


async def refusal(sessions: Sessions, table: str, row: Row) -> str | None:
    """Name of the constraint that refuses a row; a primary key has a name of its own in each partition."""
    async with sessions() as session:
        try:
            await add(session, table, row)
        except DBAPIError as error:
            name = str(getattr(getattr(error.orig, "__cause__", None), "constraint_name", error))
            return f"pk_{table}" if name == f"{table}_p_2026_pkey" else name
    return None


# What stands in the way of rows that are somewhere in their lives.
BEGINS = {"top_up": "guard", "dispute": "begins", "card_dispute": "begins"}
JSON = ("booking_tiers", "detail", "data", "evidence", "intervals", "payload")

ENDED: Row = {"status": "succeeded", "ended_at": NOW}

# Somebody, and withdrawals and attempts that are somewhere in their lives.
SOMEBODY = UUID(int=1)
REJECTED: Row = {"status": "rejected", "ended_at": NOW, "rejected_by": SOMEBODY, "answer": "x" * 10}
# A payment whose history is as far as its state; the database asks for the rest first.
BY_WALLET: Row = {"method": "wallet", "hold_id": "<held>"}
VERDICT: Row = {"verdict": "void", "verdict_reason": "EXPIRED", "verdict_actor": "system:x"}
LIVE: Row = {"status": "asked", "ended_at": None, "began_at": NOW, "intent": "pi_2"}
TAKEN: Row = {"status": "captured", "began_at": NOW, "intent": "pi_2", "journal_id": "<journal>"}
RETURNED: Row = {"status": "failed", "back_journal": "<journal>", "failure": "x"}
SENT: Row = {"began_at": NOW, "transfer": "tr_2", "transfer_journal": "<journal>"}

RESOLVED: Row = {"status": "resolved_upheld", "resolved_at": NOW, "resolved_by": SOMEBODY, "notes": "x" * 10}

# Constraint → the change of a good row that breaks it. A name in angle brackets stands for what the stage made.
BAD: dict[str, tuple[str, Row]] = {
    "pk_policy": ("policy", {"version": 1}),
    "ck_policy_bps_range": ("policy", {"course_platform_bps": 10_001}),
    "ck_policy_percent_range": ("policy", {"attendance_percent": 101}),
    "ck_policy_min_price_positive": ("policy", {"min_price": 0}),
    "ck_policy_risk_not_negative": ("policy", {"booking_risk_days": -1}),
    "ck_policy_top_up_range": ("policy", {"top_up_least": 2, "top_up_most": 1}),
    "ck_policy_tiers_sane": ("policy", {"booking_tiers": "[]"}),
    "ck_policy_cancel_sane": ("policy", {"late_cancel_percent": 101}),
    "ck_policy_dispute_not_negative": ("policy", {"dispute_days": -1}),
    "ck_policy_goodwill_range": ("policy", {"goodwill_admin_most": 2, "goodwill_most": 1}),
    "ck_policy_package_expiry_known": ("policy", {"package_expiry": "keep"}),
    "ck_policy_package_sane": ("policy", {"package_refund_days": -1}),
    "ck_policy_reason_given": ("policy", {"reason": "short"}),
    "uq_ledger_account_kind_owner_id_currency_shard": ("ledger_account", {"owner_id": "<student>"}),
    "ck_ledger_account_kind_known": ("ledger_account", {"kind": "pocket"}),
    "ck_ledger_account_currency_code": ("ledger_account", {"currency": "usd"}),
    "pk_ledger_journal": ("ledger_journal", {"id": "<journal>"}),
    "ck_ledger_journal_kind_known": ("ledger_journal", {"kind": "theft"}),
    "ck_ledger_journal_admin_needs_reason": ("ledger_journal", {"actor": "admin:1"}),
    "pk_ledger_transfer": ("ledger_transfer", {"leg": 1}),
    "ck_ledger_transfer_amount_positive": ("ledger_transfer", {"amount": 0}),
    "ck_ledger_transfer_two_accounts": ("ledger_transfer", {"debit_account": "<wallet>"}),
    "ck_ledger_account_floor": (
        "ledger_transfer",
        {"debit_account": "<wallet>", "credit_account": "<expense>", "amount": 10**6},
    ),
    "ck_ledger_account_debt": (
        "ledger_transfer",
        {"debit_account": "<expense>", "credit_account": "<debt>"},
    ),
    "ck_ledger_account_sane": ("ledger_transfer", {"amount": 9 * 10**15 + 1}),
    "ck_ledger_request_key_length": ("ledger_request", {"key": ""}),
    "ck_ledger_request_hash_length": ("ledger_request", {"request_hash": b"h"}),
    "pk_hold": ("hold", {"id": "<held>"}),
    "uq_hold_source_id_slice_no": ("hold", {"source_id": "<source>"}),
    "uq_hold_one_open": ("hold", {"lesson_id": "<planned>"}),
    "fk_hold_wallet": ("hold", {"wallet_account": 10**9}),
    "fk_hold_escrow": ("hold", {"escrow_account": 10**9}),
    "fk_hold_policy_version": ("hold", {"policy_version": 99}),
    "fk_hold_place_journal": ("hold", {"place_journal": 7}),
    "ck_hold_source_kind_known": ("hold", {"source_kind": "gift"}),
    "ck_hold_amount_positive": ("hold", {"amount": 0}),
    "ck_hold_bps_range": ("hold", {"tutor_bps": 10_001}),
    "ck_hold_slice_positive": ("hold", {"slice_no": 0}),
    "ck_hold_two_people": ("hold", {"student_id": "<tutor>"}),
    "pk_lesson_facts": ("lesson_facts", {"lesson_id": "<lesson>"}),
    "ck_lesson_facts_version_positive": ("lesson_facts", {"version": 0}),
    "ck_lesson_facts_seconds_sane": ("lesson_facts", {"tutor_attended_s": -1}),
    "ck_lesson_facts_total_within_plan": ("lesson_facts", {"total_s": 101}),
    "ck_lesson_facts_total_needed": ("lesson_facts", {"total_s": 0}),
    "ck_lesson_facts_percent_range": ("lesson_facts", {"absence_percent": 101}),
    "pk_lesson_presence": ("lesson_presence", {"student_id": "<student>"}),
    "fk_lesson_presence_lesson_id_version": ("lesson_presence", {"version": 9}),
    "ck_lesson_presence_attended_not_negative": ("lesson_presence", {"attended_s": -1}),
    "fk_settle_due_lesson_id_version": ("settle_due", {"lesson_id": UUID(int=1)}),
    "ck_settle_due_first_version": ("settle_due", {"version": 2}),
    "pk_hold_settlement": (
        "hold_settlement",
        {"hold_id": "<settled>"},
    ),
    "fk_hold_settlement_hold_id_previous": (
        "hold_settlement",
        {"hold_id": "<settled>", "number": 2, "cause": "adjustment"},
    ),
    "ck_hold_settlement_cause_known": (
        "hold_settlement",
        {"cause": "mood"},
    ),
    "ck_hold_settlement_number_fits_cause": ("hold_settlement", {"number": 1}),
    "ck_hold_settlement_number_not_negative": ("hold_settlement", {"number": -1, "cause": "adjustment"}),
    "ck_hold_settlement_parts_not_negative": (
        "hold_settlement",
        {
            "to_platform": 7_001,
            "to_student": -1,
            "to_tutor": 3_000,
            "cause": "admin",
            "reason": "long enough",
        },
    ),
    "ck_hold_settlement_parts_add_up": ("hold_settlement", {"to_platform": 6_999}),
    "ck_hold_settlement_frozen_split": ("hold_settlement", {"to_tutor": 7_000, "to_platform": 3_000}),
    "ck_hold_settlement_attendance_rule": ("hold_settlement", {"attended_s": 19}),
    "ck_hold_settlement_undelivered_is_refunded": ("hold_settlement", {"cause": "cancelled"}),
    "ck_hold_settlement_facts_decide": ("hold_settlement", {"lesson_id": None, "facts_version": None}),
    "ck_hold_settlement_facts_whole": (
        "hold_settlement",
        {"cause": "admin", "reason": "x" * 10, "lesson_id": None},
    ),
    "ck_hold_settlement_admin_needs_reason": ("hold_settlement", {"cause": "admin", "reason": None}),
    "fk_hold_review_hold_id": ("hold_review", {"hold_id": UUID(int=1)}),
    "fk_hold_review_lesson_id_facts_version": ("hold_review", {"facts_version": 9}),
    "ck_hold_review_part_not_negative": ("hold_review", {"to_student": -1}),
    "ck_hold_review_closed_whole": ("hold_review", {"closed_at": NOW}),
    "ck_hold_review_notes_length": (
        "hold_review",
        {"closed_at": NOW, "closed_by": uuid4(), "notes": "too short"},
    ),
    "fk_package_return_hold_id": ("package_return", {"hold_id": SOMEBODY}),
    "fk_package_return_lesson_id_facts_version": ("package_return", {"lesson_id": SOMEBODY}),
    "ck_package_return_first_version": ("package_return", {"facts_version": 2}),
    "pk_top_up": ("top_up", {"id": "<top_up>"}),
    "uq_top_up_owner_id_key": ("top_up", {"owner_id": "<payer>", "key": "k"}),
    "fk_top_up_journal_id": ("top_up", {"journal_id": 7, "payment_id": "pi_1", **ENDED}),
    "ck_top_up_status_known": ("top_up", {"status": "lost"}),
    "ck_top_up_way_known": ("top_up", {"way": "cash"}),
    "ck_top_up_amount_positive": ("top_up", {"amount": 0}),
    "ck_top_up_currency_code": ("top_up", {"currency": "usd"}),
    "ck_top_up_key_length": ("top_up", {"key": ""}),
    "ck_top_up_attempt_not_negative": ("top_up", {"attempt": -1}),
    "ck_top_up_way_has_method": ("top_up", {"way": "saved"}),
    "ck_top_up_pending_is_known": ("top_up", {"status": "pending"}),
    "ck_top_up_succeeded_is_credited": ("top_up", {"payment_id": "pi_1", **ENDED}),
    "ck_top_up_ended_has_time": ("top_up", {"status": "expired"}),
    "pk_stripe_customer": ("stripe_customer", {"owner_id": "<customer>"}),
    "uq_stripe_customer_customer_id": ("stripe_customer", {"customer_id": "cus_1"}),
    "fk_stripe_entry_journal_id": ("stripe_entry", {"journal_id": 7}),
    "ck_stripe_entry_currency_code": ("stripe_entry", {"currency": "usd"}),
    "ck_stripe_entry_moves_something": ("stripe_entry", {"amount": 0, "fee": 0}),
    "ck_stripe_event_id_length": ("stripe_event", {"id": ""}),
    "ck_stripe_event_digest_length": ("stripe_event", {"digest": b"d"}),
    "ck_stripe_finding_outcome_known": ("stripe_finding", {"outcome": "fine"}),
    "ck_policy_withdrawal_sane": ("policy", {"withdrawal_least": 0}),
    "pk_hold_freeze": ("hold_freeze", {"hold_id": "<settled>", "dispute_id": "<dispute>"}),
    "fk_hold_freeze_hold_id": ("hold_freeze", {"hold_id": SOMEBODY}),
    "pk_dispute": ("dispute", {"id": "<dispute>"}),
    "uq_dispute_hold_id": ("dispute", {"hold_id": "<settled>"}),
    "fk_dispute_hold_id": ("dispute", {"hold_id": SOMEBODY}),
    "fk_dispute_hold_id_ruling": ("dispute", {"hold_id": "<held>"}),
    "ck_dispute_status_known": ("dispute", {**RESOLVED, "status": "lost"}),
    "ck_dispute_reason_known": ("dispute", {"reason": "mood"}),
    "ck_dispute_words_length": ("dispute", {"words": "x" * 9}),
    "ck_dispute_frozen_not_negative": ("dispute", {"frozen": -1}),
    "ck_dispute_resolved_whole": ("dispute", {**RESOLVED, "resolved_by": None}),
    "ck_dispute_notes_length": ("dispute", {**RESOLVED, "notes": "x" * 9}),
    "ck_dispute_refunded_has_amount": ("dispute", {**RESOLVED, "status": "resolved_refunded"}),
    "pk_card_dispute": ("card_dispute", {"id": "<dispute>"}),
    "uq_card_dispute_dispute": ("card_dispute", {"dispute": "dp_1"}),
    "ck_card_dispute_status_known": ("card_dispute", {"status": "mood"}),
    "ck_card_dispute_amount_positive": ("card_dispute", {"amount": 0}),
    "ck_card_dispute_currency_code": ("card_dispute", {"currency": "usd"}),
    "ck_card_dispute_covered_not_negative": ("card_dispute", {"covered": -1}),
    "ck_card_dispute_only_lost_is_covered": ("card_dispute", {"covered": 1}),
    "ck_card_dispute_ended_has_time": ("card_dispute", {"status": "lost"}),
    "fk_maturing_hold_id_frozen_by": ("maturing", {"frozen_by": SOMEBODY}),
    "pk_maturing": ("maturing", {"hold_id": "<settled>"}),
    "fk_maturing_hold_id": ("maturing", {"hold_id": SOMEBODY}),
    "pk_payout_account": ("payout_account", {"id": "<account>"}),
    "uq_payout_account_one_current": ("payout_account", {"tutor_id": "<tutor>"}),
    "uq_payout_account_stripe_account": (
        "payout_account",
        {"method": "stripe", "sealed": None, "last4": None, "stripe_account": "acct_1"},
    ),
    "ck_payout_account_method_known": ("payout_account", {"method": "cash", "sealed": None, "last4": None}),
    "ck_payout_account_bank_is_sealed": ("payout_account", {"sealed": None}),
    "ck_payout_account_last4_is_short": ("payout_account", {"last4": "12345"}),
    "ck_payout_account_stripe_has_account": ("payout_account", {"stripe_account": "acct_2"}),
    "ck_payout_account_usable_after_made": ("payout_account", {"usable_from": NOW - timedelta(seconds=1)}),
    "pk_withdrawal": ("withdrawal", {"id": "<pending>"}),
    "uq_withdrawal_request_journal": ("withdrawal", {"request_journal": "<first_journal>"}),
    "uq_withdrawal_end_journal": ("withdrawal", {"end_journal": "<first_journal>", **REJECTED}),
    "fk_withdrawal_payout_account": ("withdrawal", {"payout_account": SOMEBODY}),
    "fk_withdrawal_request_journal": ("withdrawal", {"request_journal": 7}),
    "fk_withdrawal_end_journal": ("withdrawal", {"end_journal": 7, **REJECTED}),
    "ck_withdrawal_status_known": ("withdrawal", {"status": "lost"}),
    "ck_withdrawal_method_known": ("withdrawal", {"method": "cash"}),
    "ck_withdrawal_amount_positive": ("withdrawal", {"amount": 0}),
    "ck_withdrawal_limit_not_negative": ("withdrawal", {"two_people_above": -1}),
    "ck_withdrawal_note_length": ("withdrawal", {"note": "x" * 501}),
    "ck_withdrawal_two_people": ("withdrawal", {"confirmed_by": SOMEBODY}),
    "ck_withdrawal_not_by_oneself": ("withdrawal", {"approved_by": "<tutor>"}),
    "ck_withdrawal_approved_first": ("withdrawal", {"status": "processing"}),
    "ck_withdrawal_held_with_reason": ("withdrawal", {"held_by": SOMEBODY}),
    "ck_withdrawal_ended_whole": ("withdrawal", {"ended_at": NOW, "end_journal": "<journal>"}),
    "ck_withdrawal_rejected_with_answer": (
        "withdrawal",
        {"end_journal": "<journal>", **REJECTED, "answer": "x" * 9},
    ),
    "ck_withdrawal_bank_transfer_has_reference": (
        "withdrawal",
        {"status": "completed", "approved_by": SOMEBODY, "ended_at": NOW, "end_journal": "<journal>"},
    ),
    "pk_payout_attempt": ("payout_attempt", {"id": "<attempt>"}),
    "uq_payout_attempt_withdrawal_id_number": (
        "payout_attempt",
        {"withdrawal_id": "<pending>", "status": "cancelled", "ended_at": NOW},
    ),
    "uq_payout_attempt_transfer": ("payout_attempt", {**SENT, "transfer": "tr_1"}),
    "uq_payout_attempt_payout": ("payout_attempt", {**SENT, "payout": "po_1"}),
    "uq_payout_attempt_reversal": (
        "payout_attempt",
        {**SENT, "failure": "x", "reversal": "trr_1", "reversal_journal": "<journal>"},
    ),
    "uq_payout_attempt_one_live": ("payout_attempt", {"withdrawal_id": "<pending>", "number": 2}),
    "fk_payout_attempt_withdrawal_id": ("payout_attempt", {"withdrawal_id": SOMEBODY}),
    "fk_payout_attempt_transfer_journal": ("payout_attempt", {**SENT, "transfer_journal": 7}),
    "fk_payout_attempt_reversal_journal": (
        "payout_attempt",
        {**SENT, "failure": "x", "reversal": "trr_2", "reversal_journal": 7},
    ),
    "ck_payout_attempt_status_known": ("payout_attempt", {"status": "lost", "ended_at": NOW}),
    "ck_payout_attempt_number_positive": ("payout_attempt", {"number": 0}),
    "ck_payout_attempt_broken_not_negative": ("payout_attempt", {"broken": -1}),
    "ck_payout_attempt_transfer_is_booked": ("payout_attempt", {"transfer": "tr_2", "began_at": NOW}),
    "ck_payout_attempt_reversal_is_booked": (
        "payout_attempt",
        {**SENT, "failure": "x", "reversal": "trr_2"},
    ),
    "ck_payout_attempt_begun_before_transfer": ("payout_attempt", {**SENT, "began_at": None}),
    "ck_payout_attempt_transfer_before_payout": ("payout_attempt", {"payout": "po_2"}),
    "ck_payout_attempt_reversal_undoes": (
        "payout_attempt",
        {**SENT, "reversal": "trr_2", "reversal_journal": "<journal>"},
    ),
    "ck_payout_attempt_ended_has_time": ("payout_attempt", {"ended_at": NOW}),
    "ck_payout_attempt_paid_by_payout": ("payout_attempt", {"status": "paid", "ended_at": NOW}),
    "ck_payout_attempt_failed_is_back": ("payout_attempt", {"status": "failed", "ended_at": NOW}),
    "ck_payout_attempt_cancelled_never_began": (
        "payout_attempt",
        {"status": "cancelled", "ended_at": NOW, "began_at": NOW},
    ),
    "ck_hold_settlement_outcome_rule": (
        "hold_settlement",
        {"cause": "outcome", "tutor_attended_s": 0},
    ),
    "ck_hold_settlement_forfeited_is_paid": (
        "hold_settlement",
        {"cause": "forfeited", "to_tutor": 0, "to_platform": 0, "to_student": 10_000},
    ),
    "pk_payment_transition": ("payment_transition", {"from_state": "PENDING", "to_state": "VOIDED"}),
    "pk_payment_event": (
        "payment_event",
        {"seq": 1, "from_state": "NEW", "to_state": "PENDING"},
    ),
    "fk_payment_event_from_state_to_state": ("payment_event", {"to_state": "CAPTURED"}),
    "fk_payment_event_payment_id_prev_seq_from_state": ("payment_event", {"seq": 3}),
    "ck_payment_event_reason_known": ("payment_event", {"reason": "MOOD"}),
    "ck_payment_event_seq_positive": ("payment_event", {"seq": 0}),
    "ck_payment_event_begins_new": ("payment_event", {"seq": 1}),
    "pk_payment": ("payment", {"id": "<booking>"}),
    "uq_payment_hold_id": ("payment", {"hold_id": "<settled>"}),
    "uq_payment_setup_id": ("payment", {"setup_id": "seti_1"}),
    "fk_payment_id_seq_state": ("payment", {"seq": 2}),
    "fk_payment_policy_version": ("payment", {"policy_version": 99}),
    "ck_payment_method_known": ("payment", {"method": "cash"}),
    "ck_payment_verdict_known": ("payment", {**VERDICT, "verdict": "mood"}),
    "ck_payment_verdict_reason_known": ("payment", {**VERDICT, "verdict_reason": "MOOD"}),
    "ck_payment_amount_positive": ("payment", {"amount": 0}),
    "ck_payment_currency_code": ("payment", {"currency": "usd"}),
    "ck_payment_bps_range": ("payment", {"tutor_bps": 10_001}),
    "ck_payment_two_people": ("payment", {"student_id": "<tutor>"}),
    "ck_payment_amounts_ordered": ("payment", {"refunded": 1}),
    "ck_payment_amounts_fit_state": ("payment", {"authorized": 10_000}),
    "ck_payment_wallet_is_held": ("payment", {"method": "wallet"}),
    "ck_payment_card_by_card": ("payment", {**BY_WALLET, "card": "pm_1"}),
    "ck_payment_verdict_whole": ("payment", {"verdict": "void"}),
    "ck_payment_admin_needs_words": ("payment", {**VERDICT, "verdict_actor": "admin:1"}),
    "ck_payment_ended_by_verdict": ("payment", {"state": "VOIDED"}),
    "pk_payment_refund": ("payment_refund", {"id": "<refund>"}),
    "uq_payment_refund_payment_id_key": ("payment_refund", {"key": "k"}),
    "fk_payment_refund_payment_id": ("payment_refund", {"payment_id": SOMEBODY}),
    "fk_payment_refund_hold_id_settlement_no": ("payment_refund", {"settlement_no": 9}),
    "ck_payment_refund_reason_known": ("payment_refund", {"reason": "MOOD"}),
    "ck_payment_refund_amount_positive": ("payment_refund", {"amount": 0}),
    "ck_payment_refund_key_length": ("payment_refund", {"key": ""}),
    "ck_payment_refund_admin_needs_words": ("payment_refund", {"actor": "admin:1"}),
    "pk_card_authorization": ("card_authorization", {"id": "<taken>"}),
    "uq_card_authorization_payment_id_number": ("card_authorization", {"number": 1}),
    "uq_card_authorization_intent": ("card_authorization", {"began_at": NOW, "intent": "pi_1"}),
    "uq_card_authorization_journal_id": ("card_authorization", {**TAKEN, "journal_id": "<first_journal>"}),
    "uq_card_authorization_one_live": ("card_authorization", LIVE),
    "fk_card_authorization_payment_id": ("card_authorization", {"payment_id": SOMEBODY}),
    "fk_card_authorization_journal_id": ("card_authorization", {**TAKEN, "journal_id": 7}),
    "ck_card_authorization_status_known": ("card_authorization", {"status": "lost", "ended_at": None}),
    "ck_card_authorization_number_positive": ("card_authorization", {"number": 0}),
    "ck_card_authorization_broken_not_negative": ("card_authorization", {"broken": -1}),
    "ck_card_authorization_off_session_by_card": ("card_authorization", {"off_session": True}),
    "ck_card_authorization_begun_before_intent": ("card_authorization", {"intent": "pi_2"}),
    "ck_card_authorization_known_at_stripe": ("card_authorization", {**LIVE, "intent": None}),
    "ck_card_authorization_authorized_has_end": ("card_authorization", {**LIVE, "status": "authorized"}),
    "ck_card_authorization_captured_is_booked": ("card_authorization", {**TAKEN, "journal_id": None}),
    "ck_card_authorization_ended_has_time": ("card_authorization", {"ended_at": None}),
    "pk_card_refund": ("card_refund", {"id": "<sent>"}),
    "uq_card_refund_payment_id_key": ("card_refund", {"key": "k"}),
    "uq_card_refund_refund": ("card_refund", {"refund": "re_1", "sent_journal": "<journal>"}),
    "uq_card_refund_ask_journal": ("card_refund", {"ask_journal": "<first_journal>"}),
    "uq_card_refund_sent_journal": ("card_refund", {"refund": "re_2", "sent_journal": "<first_journal>"}),
    "uq_card_refund_back_journal": ("card_refund", {**RETURNED, "back_journal": "<first_journal>"}),
    "fk_card_refund_payment_id": ("card_refund", {"payment_id": SOMEBODY}),
    "fk_card_refund_authorization_id": ("card_refund", {"authorization_id": SOMEBODY}),
    "fk_card_refund_ask_journal": ("card_refund", {"ask_journal": 7}),
    "fk_card_refund_sent_journal": ("card_refund", {"refund": "re_2", "sent_journal": 7}),
    "fk_card_refund_back_journal": ("card_refund", {**RETURNED, "back_journal": 7}),
    "ck_card_refund_status_known": ("card_refund", {"status": "lost"}),
    "ck_card_refund_amount_positive": ("card_refund", {"amount": 0}),
    "ck_card_refund_key_length": ("card_refund", {"key": ""}),
    "ck_card_refund_broken_not_negative": ("card_refund", {"broken": -1}),
    "ck_card_refund_sent_is_booked": ("card_refund", {"refund": "re_2"}),
    "ck_card_refund_sent_by_refund": ("card_refund", {"status": "sent"}),
    "ck_card_refund_failed_is_back": ("card_refund", {"status": "failed", "failure": "x"}),
    "pk_package_option": ("package_option", {"id": "<option>"}),
    "ck_package_option_title_length": ("package_option", {"title": "ab"}),
    "ck_package_option_description_length": ("package_option", {"description": "x" * 5_001}),
    "ck_package_option_minutes_range": ("package_option", {"minutes": 601}),
    "ck_package_option_sessions_range": ("package_option", {"sessions": 0}),
    "ck_package_option_price_covers_sessions": ("package_option", {"price": 1}),
    "ck_package_option_currency_code": ("package_option", {"currency": "usd"}),
    "ck_package_option_validity_positive": ("package_option", {"validity_days": 0}),
    "ck_package_option_rolling_ends": ("package_option", {"is_rolling": True, "validity_days": None}),
    "pk_package": ("package", {"id": "<package>"}),
    "fk_package_option_id": ("package", {"option_id": SOMEBODY}),
    "fk_package_policy_version": ("package", {"policy_version": 99}),
    "ck_package_status_known": ("package", {"status": "lost"}),
    "ck_package_counts_sane": ("package", {"purchased": 0, "status": "exhausted"}),
    "ck_package_exhausted_is_used_up": ("package", {"status": "exhausted"}),
    "ck_package_ended_has_time": ("package", {"status": "refunded"}),
    "ck_package_price_covers_sessions": ("package", {"price": 1}),
    "ck_package_currency_code": ("package", {"currency": "usd"}),
    "ck_package_minutes_range": ("package", {"minutes": 0}),
    "ck_package_bps_range": ("package", {"tutor_bps": 10_001}),
    "ck_package_two_people": ("package", {"student_id": "<tutor>", "tutor_id": "<tutor>"}),
    "ck_package_end_by_validity": ("package", {"expires_at": NOW}),
    "ck_package_rolling_ends": (
        "package",
        {"is_rolling": True, "validity_days": None, "expires_at": None},
    ),
    "ck_package_warned_of_an_end": (
        "package",
        {"validity_days": None, "expires_at": None, "warned_at": NOW},
    ),
    "pk_ledger_seal": ("ledger_seal", {"number": 1, "since_xid": 0}),
    "fk_ledger_seal_previous_since_xid": ("ledger_seal", {"since_xid": 8}),
    "ck_ledger_seal_number_positive": ("ledger_seal", {"number": 0, "since_xid": 0}),
    "ck_ledger_seal_first_from_nothing": ("ledger_seal", {"number": 1}),
    "ck_ledger_seal_span_not_empty": ("ledger_seal", {"upto_xid": 9}),
    "ck_ledger_seal_journals_positive": ("ledger_seal", {"journals": 0}),
    "ck_ledger_seal_hash_length": ("ledger_seal", {"sha256": b"s"}),
    "pk_ledger_reversal": ("ledger_reversal", {"reverses_id": "<reversed>"}),
    "uq_ledger_reversal_journal_id": ("ledger_reversal", {"journal_id": "<reversal>"}),
    "fk_ledger_reversal_reverses_id": ("ledger_reversal", {"reverses_id": 7}),
    "fk_ledger_reversal_journal_id": ("ledger_reversal", {"journal_id": 7}),
    "ck_ledger_reversal_two_journals": ("ledger_reversal", {"reverses_id": 14}),
    "pk_paper_count": ("paper_count", {"year": 2026}),
    "ck_paper_count_last_not_negative": ("paper_count", {"last": -1}),
    "pk_paper": ("paper", {"number": 1}),
    "fk_paper_year": ("paper", {"year": 2025, "number": 1}),
    "fk_paper_year_previous": ("paper", {"number": 3}),
    "uq_paper_owner_id_kind_subject_facts_sha256": ("paper", {"subject": "first"}),
    "ck_paper_kind_known": ("paper", {"kind": "note"}),
    "ck_paper_number_positive": ("paper", {"number": 0}),
    "ck_paper_facts_length": ("paper", {"facts_sha256": b"f"}),
    "ck_paper_hash_of_pdf": ("paper", {"pdf": b"other"}),
    "uq_job_kind_key": ("job", {"key": "waits"}),
    "ck_job_key_length": ("job", {"key": ""}),
    "ck_job_asked_positive": ("job", {"asked": 0}),
    "ck_job_tries_not_negative": ("job", {"tries": -1}),
    "ck_job_lease_whole": ("job", {"lease": UUID(int=1)}),
    "ck_job_dead_has_error": ("job", {"dead_at": NOW}),
    "ck_job_periodic_lives": ("job", {"every": timedelta()}),
    "ck_job_only_periodic_has_runs": ("job", {"last_run_at": NOW}),
}

# The same constraint, broken in ways that a first version let pass.
MORE: list[tuple[str, str, Row]] = [
    ("ck_hold_settlement_attendance_rule", "hold_settlement", {"attended_s": None}),
    ("ck_hold_settlement_attendance_rule", "hold_settlement", {"total_s": 0}),
    ("ck_hold_settlement_attendance_rule", "hold_settlement", {"threshold_percent": None}),
    (
        "ck_hold_settlement_attendance_rule",
        "hold_settlement",
        {"to_tutor": 0, "to_platform": 0, "to_student": 10_000},
    ),
    (
        "ck_hold_settlement_attendance_rule",
        "hold_settlement",
        {"to_tutor": 1_500, "to_platform": 3_500, "to_student": 5_000},
    ),
    ("ck_hold_settlement_undelivered_is_refunded", "hold_settlement", {"cause": "tutor_absent"}),
    *(
        ("ck_hold_settlement_number_fits_cause", "hold_settlement", {"cause": cause})
        for cause in ("refund", "dispute", "card_dispute")
    ),
    ("ck_dispute_words_length", "dispute", {"words": "x" * 2_001}),
    ("ck_dispute_notes_length", "dispute", {**RESOLVED, "notes": "x" * 2_001}),
    ("ck_dispute_resolved_whole", "dispute", {**RESOLVED, "notes": None}),
    ("ck_dispute_resolved_whole", "dispute", {**RESOLVED, "status": "open"}),
    ("ck_dispute_refunded_has_amount", "dispute", {**RESOLVED, "status": "resolved_refunded", "refunded": 0}),
    ("ck_dispute_refunded_has_amount", "dispute", {"refunded": 1}),
    ("ck_card_dispute_ended_has_time", "card_dispute", {"ended_at": NOW}),
    ("ck_ledger_request_key_length", "ledger_request", {"key": "k" * 256}),
    # Of the triggers that look at all rows of a statement.
    ("fk_ledger_transfer_journal_id", "ledger_transfer", {"journal_id": 7}),
    ("fk_ledger_transfer_debit_account_currency", "ledger_transfer", {"debit_account": 10**9}),
    ("fk_ledger_transfer_credit_account_currency", "ledger_transfer", {"credit_account": 10**9}),
    ("fk_ledger_transfer_debit_account_currency", "ledger_transfer", {"currency": "EUR"}),
    ("fk_hold_settlement_hold_id_amount_tutor_bps", "hold_settlement", {"hold_id": UUID(int=1)}),
    (
        "fk_hold_settlement_hold_id_amount_tutor_bps",
        "hold_settlement",
        {"amount": 20_000, "to_tutor": 6_000, "to_platform": 14_000},
    ),
    (
        "fk_hold_settlement_hold_id_amount_tutor_bps",
        "hold_settlement",
        {"tutor_bps": 5_000, "to_tutor": 5_000, "to_platform": 5_000},
    ),
    ("fk_hold_settlement_lesson_id_facts_version", "hold_settlement", {"lesson_id": UUID(int=1)}),
    ("fk_hold_settlement_journal_id", "hold_settlement", {"journal_id": 7}),
    ("fk_payment_hold_id_amount_tutor_bps", "payment", {"hold_id": SOMEBODY}),
    ("fk_payment_hold_id_amount_tutor_bps", "payment", {"hold_id": "<held>", "amount": 1}),
    ("fk_payment_hold_id_amount_tutor_bps", "payment", {"hold_id": "<held>", "tutor_bps": 1}),
    ("ck_ledger_journal_admin_needs_reason", "ledger_journal", {"actor": "admin:1", "reason": "short"}),
    ("ck_hold_settlement_facts_decide", "hold_settlement", {"facts_version": None}),
    (
        "ck_job_dead_has_error",
        "job",
        {"dead_at": NOW, "error": "x", "lease": UUID(int=1), "leased_until": NOW},
    ),
    ("ck_job_lease_whole", "job", {"leased_until": NOW}),
    *(
        ("ck_policy_tiers_sane", "policy", {"booking_tiers": tiers})
        for tiers in (
            "{}",
            "null",
            '[{"from_earned": 1, "fee_bps": 1}]',
            '[{"from_earned": 0, "fee_bps": 10001}]',
            '[{"from_earned": 0, "fee_bps": -1}]',
            '[{"from_earned": 0}]',
            '[{"fee_bps": 1}]',
            '[{"from_earned": 0, "fee_bps": 1}, {"from_earned": 0, "fee_bps": 1}]',
            '[{"from_earned": 0, "fee_bps": 1}, {"from_earned": 9, "fee_bps": 1}, {"from_earned": 9, "fee_bps": 1}]',
        )
    ),
    ("ck_policy_cancel_sane", "policy", {"free_cancel_hours": -1}),
    ("ck_policy_cancel_sane", "policy", {"free_cancel_kindness_minutes": -1}),
    ("ck_policy_package_sane", "policy", {"package_warning_days": -1}),
    ("ck_policy_goodwill_range", "policy", {"goodwill_admin_most": -1}),
    ("ck_package_end_by_validity", "package", {"validity_days": None}),
    ("ck_package_end_by_validity", "package", {"expires_at": None}),
    ("ck_package_end_by_validity", "package", {"validity_days": 0}),
    ("ck_package_ended_has_time", "package", {"ended_at": NOW}),
    ("ck_ledger_seal_journals_positive", "ledger_seal", {"first_id": 2}),
    ("ck_payout_account_bank_is_sealed", "payout_account", {"last4": None}),
    ("ck_withdrawal_two_people", "withdrawal", {"approved_by": SOMEBODY, "confirmed_by": SOMEBODY}),
    (
        "ck_withdrawal_not_by_oneself",
        "withdrawal",
        {"approved_by": SOMEBODY, "confirmed_by": "<tutor>"},
    ),
    (
        "ck_withdrawal_approved_first",
        "withdrawal",
        {"status": "processing", "approved_by": SOMEBODY, "amount": 5_001},
    ),
    ("ck_withdrawal_held_with_reason", "withdrawal", {"held_by": SOMEBODY, "held_reason": "short"}),
    (
        "ck_withdrawal_held_with_reason",
        "withdrawal",
        {"held_by": SOMEBODY, "held_reason": "x" * 10, "end_journal": "<journal>", **REJECTED},
    ),
    ("ck_withdrawal_ended_whole", "withdrawal", {**REJECTED, "ended_at": None}),
    (
        "ck_withdrawal_rejected_with_answer",
        "withdrawal",
        {"end_journal": "<journal>", **REJECTED, "rejected_by": None},
    ),
    (
        "ck_payout_attempt_paid_by_payout",
        "payout_attempt",
        {**SENT, "payout": "po_2", "failure": "x", "status": "paid", "ended_at": NOW},
    ),
    (
        "ck_payout_attempt_failed_is_back",
        "payout_attempt",
        {**SENT, "failure": "x", "status": "failed", "ended_at": NOW},
    ),
    ("ck_hold_settlement_outcome_rule", "hold_settlement", {"cause": "outcome"}),
    (
        "ck_hold_settlement_outcome_rule",
        "hold_settlement",
        {"cause": "outcome", "tutor_attended_s": 1, "to_tutor": 0, "to_platform": 0, "to_student": 10_000},
    ),
    (
        "ck_hold_settlement_outcome_rule",
        "hold_settlement",
        {"cause": "outcome", "tutor_attended_s": 1, "attended_s": None},
    ),
    (
        "ck_hold_settlement_facts_decide",
        "hold_settlement",
        {"cause": "outcome", "tutor_attended_s": 1, "lesson_id": None, "facts_version": None},
    ),
    ("ck_hold_settlement_number_fits_cause", "hold_settlement", {"cause": "refund"}),
    ("fk_payment_id_seq_state", "payment", {"state": "AUTHORIZED", "authorized": 10_000}),
    ("ck_payment_amounts_ordered", "payment", {"captured": 1}),
    ("ck_payment_amounts_ordered", "payment", {"refunded": -1}),
    ("ck_payment_verdict_whole", "payment", {**VERDICT, "verdict_actor": None}),
    (
        "ck_payment_admin_needs_words",
        "payment",
        {**VERDICT, "verdict_actor": "admin:1", "verdict_words": "short"},
    ),
    ("ck_payment_card_by_card", "payment", {**BY_WALLET, "setup_id": "seti_2"}),
    ("ck_card_authorization_known_at_stripe", "card_authorization", {**TAKEN, "intent": None}),
    ("ck_card_authorization_captured_is_booked", "card_authorization", {"journal_id": "<journal>"}),
    ("ck_card_refund_sent_is_booked", "card_refund", {"sent_journal": "<journal>"}),
    ("ck_card_refund_failed_is_back", "card_refund", {"failure": "x"}),
    ("ck_job_periodic_lives", "job", {"every": timedelta(days=1), "dead_at": NOW, "error": "x"}),
]

# Not reachable by a single bad row, with the reason.
ELSEWHERE = {
    "pk_outbox": "identity always",
    "pk_ledger_account": "identity always",
    "pk_job": "identity always",
    "uq_ledger_account_id_currency": "id is the key already; the pair is there to be referred to",
    "uq_ledger_seal_number_upto_xid": "number is the key already; the pair is there to be referred to",
    "ck_hold_status_known": "the trigger lets a hold begin held only, and closing writes two words",
    "pk_ledger_request": "test_a_key_is_taken_once",
    "uq_top_up_checkout_id": "test_an_id_of_stripe_is_known_once",
    "uq_top_up_payment_id": "test_an_id_of_stripe_is_known_once",
    "uq_top_up_journal_id": "test_an_id_of_stripe_is_known_once",
    "pk_stripe_entry": "test_a_key_is_taken_once",
    "uq_stripe_entry_journal_id": "test_a_journal_tells_of_one_movement",
    "pk_stripe_event": "test_a_key_is_taken_once",
    "pk_stripe_finding": "test_a_key_is_taken_once",
    "uq_payment_event_payment_id_seq_to_state": "seq is the key already; the three are there to be referred to",
    "ck_payment_state_known": "a state that is none ends no event, and fits no amounts",
    "ck_payment_captured_by_hold": "test_a_captured_payment_has_a_hold",
    "pk_settle_due": "test_a_key_is_taken_once",
    "pk_hold_review": "test_a_key_is_taken_once",
    "uq_hold_review_id": "test_a_key_is_taken_once",
    "pk_package_return": "test_a_key_is_taken_once",
}


def names() -> set[str]:
    """Every constraint and unique index of the models."""
    found: set[str] = set()
    for table in Base.metadata.tables.values():
        found |= {str(index.name) for index in table.indexes if index.unique}
        found |= {
            str(constraint.name)
            for constraint in table.constraints
            if isinstance(
                constraint, CheckConstraint | ForeignKeyConstraint | PrimaryKeyConstraint | UniqueConstraint
            )
        }
    return found


def test_every_constraint_has_a_row_that_breaks_it() -> None:
    assert names() == BAD.keys() | ELSEWHERE.keys()


async def test_the_good_rows_are_good(sessions: Sessions, stage: Stage) -> None:
    for table, row in stage.rows.items():
        async with sessions() as session:
            await add(session, table, row)


async def test_a_bad_row_is_refused_by_its_constraint(sessions: Sessions, stage: Stage) -> None:
    cases = [(name, *bad) for name, bad in BAD.items()] + MORE

    refused = [
        await refusal(sessions, table, stage.rows[table] | stage.named(bad)) for _, table, bad in cases
    ]

    assert refused == [name for name, _, _ in cases]


@pytest.mark.parametrize(
    "table",
    [
        "ledger_request",
        "settle_due",
        "hold_review",
        "package_return",
        "stripe_entry",
        "stripe_event",
        "stripe_finding",
    ],
)
async def test_a_key_is_taken_once(sessions: Sessions, stage: Stage, table: str) -> None:
    async with sessions() as session:
        await add(session, table, stage.rows[table])
        with pytest.raises(DBAPIError, match=f"pk_{table}"):
            await add(session, table, stage.rows[table])


@pytest.mark.parametrize("name", ["checkout_id", "payment_id", "journal_id"])
async def test_an_id_of_stripe_is_known_once(sessions: Sessions, stage: Stage, name: str) -> None:
    values = {"checkout_id": "cs_1", "payment_id": "pi_1", "journal_id": stage.others["journal"]}
    async with sessions() as session:
        for number, other in enumerate(("a", "b")):
            ids = {key: f"{value}{other}" for key, value in values.items() if key != "journal_id"}
            ids |= {"journal_id": stage.others["journal"]} | (
                {name: values[name]} if name != "journal_id" else {}
            )
            row = stage.rows["top_up"] | {"id": uuid4(), "key": other, **ENDED, **ids}
            if name != "journal_id":
                # Every succeeded row has a journal of its own; only one journal is at hand.
                row |= {"status": "failed", "journal_id": None}
            if number == 0:
                await add(session, "top_up", row)
            else:
                with pytest.raises(DBAPIError, match=f"uq_top_up_{name}"):
                    await add(session, "top_up", row)


async def test_a_booking_is_settled_by_who_came_and_a_course_is_not(sessions: Sessions, stage: Stage) -> None:
    row, fit = stage.rows["hold_settlement"], {"tutor_attended_s": 1}
    facts_less: Row = {"lesson_id": None, "facts_version": None}
    booking = stage.rows["hold"] | {"source_kind": "booking", "amount": 10_000, "tutor_bps": 3_000}
    cases: list[tuple[Row, Row]] = [
        ({}, fit | {"cause": "outcome"}),
        ({}, {"cause": "forfeited"} | facts_less),
        ({"hold_id": booking["id"]}, {"cause": "attendance"}),
    ]
    for hold, change in cases:
        async with sessions() as session:
            await add(session, "hold", booking)
            with pytest.raises(DBAPIError, match="CAUSE_GUARD"):
                await add(session, "hold_settlement", row | hold | change)
    slice_ = booking | {"source_kind": "package_slice"}
    allowed: list[tuple[Row, Row]] = [
        (booking, fit | {"cause": "outcome"}),
        (slice_, fit | {"cause": "outcome"}),
        (slice_, {"cause": "forfeited"} | facts_less),
        # As it was settled once.
        (slice_, {"cause": "attendance"}),
    ]
    for hold, change in allowed:
        async with sessions() as session:
            await add(session, "hold", hold)
            await add(session, "hold_settlement", row | {"hold_id": hold["id"]} | change)


async def test_each_sale_is_settled_by_what_its_own_terms_make_of_the_tutor(
    sessions: Sessions, stage: Stage
) -> None:
    """Terms of 60 % where half of the lesson was given; facts of before are measured by what decided then."""
    row = stage.rows["hold_settlement"]
    told = stage.rows["lesson_facts"] | {"tutor_attended_s": 50, "evidence": "{}", "lesson_id": uuid4()}
    ids: Row = {"hold_id": (hold := uuid4()), "lesson_id": told["lesson_id"]}
    absent = ids | {"cause": "tutor_absent", "to_tutor": 0, "to_platform": 0, "to_student": 10_000}
    cases = [
        (20, True, ids, absent),
        (60, True, absent, ids),
        (20, False, absent, None),
        (60, False, ids, None),
    ]
    for percent, is_by_hold, good, bad in cases:
        async with sessions() as session:
            await session.execute(text("alter table policy disable trigger user"))
            await session.execute(
                text("update policy set attendance_percent = :percent"), {"percent": percent}
            )
            await add(session, "lesson_facts", told | {"is_by_hold": is_by_hold})
            sold = {"id": hold, "lesson_id": None, "source_id": uuid4(), "amount": 10_000, "tutor_bps": 3_000}
            await add(session, "hold", stage.rows["hold"] | sold)
            if bad is not None:
                with pytest.raises(DBAPIError, match="TUTOR_GUARD"):
                    async with session.begin_nested():
                        await add(session, "hold_settlement", row | bad)
            await add(session, "hold_settlement", row | good)


async def test_a_captured_payment_has_a_hold(sessions: Sessions, stage: Stage) -> None:
    """Led to where only that is missing."""
    row = stage.rows["payment"] | VERDICT | {"verdict": "capture", "state": "CAPTURED", "seq": 3}
    async with sessions() as session:
        for seq, state, to in ((2, "PENDING", "AUTHORIZED"), (3, "AUTHORIZED", "CAPTURED")):
            step = {"payment_id": row["id"], "seq": seq, "from_state": state, "to_state": to}
            await add(session, "payment_event", stage.rows["payment_event"] | step)
        with pytest.raises(DBAPIError, match="ck_payment_captured_by_hold"):
            await add(session, "payment", row | {"authorized": 10_000, "captured": 10_000})


async def test_a_journal_tells_of_one_movement(sessions: Sessions, stage: Stage) -> None:
    async with sessions() as session:
        await add(session, "stripe_entry", stage.rows["stripe_entry"])
        with pytest.raises(DBAPIError, match="uq_stripe_entry_journal_id"):
            await add(session, "stripe_entry", stage.rows["stripe_entry"] | {"id": "txn_3"})


GUARDED = [
    # The ledger is written by ledger_post alone, whoever asks.
    ("LEDGER_ONLY", "update ledger_account set balance = balance + 1"),
    ("LEDGER_ONLY", "delete from ledger_account"),
    (
        "LEDGER_ONLY",
        "insert into ledger_account (kind, owner_id, currency, balance) values ('wallet', gen_random_uuid(), 'USD', 5)",
    ),
    (
        "LEDGER_ONLY",
        "insert into ledger_journal select 9, kind, actor, reason, ref_type, ref_id, at from ledger_journal limit 1",
    ),
    (
        "LEDGER_ONLY",
        "insert into ledger_transfer select journal_id, 99, debit_account, credit_account, currency, 1 from ledger_transfer limit 1",
    ),
    (
        "LEDGER_ONLY",
        "insert into ledger_transfer_p_2026 select journal_id, 99, debit_account, credit_account, currency, 1 from ledger_transfer limit 1",
    ),
    ("a ledger_account never changes what it was made with", "update ledger_account set currency = 'EUR'"),
    ("LEDGER_ONLY", "insert into ledger_request values ('s', 'k', sha256('x'), 1)"),
    ("APPEND_ONLY", "truncate ledger_account cascade"),
    # What was written stays.
    ("APPEND_ONLY", "update policy set reason = 'Rewritten history.'"),
    ("APPEND_ONLY", "delete from policy"),
    ("APPEND_ONLY", "truncate policy cascade"),
    ("APPEND_ONLY", "update ledger_journal set reason = 'other'"),
    ("APPEND_ONLY", "delete from ledger_journal"),
    ("APPEND_ONLY", "delete from ledger_journal_p_2026"),
    ("APPEND_ONLY", "truncate ledger_journal cascade"),
    ("APPEND_ONLY", "update ledger_transfer set amount = amount + 1"),
    ("APPEND_ONLY", "delete from ledger_transfer"),
    ("APPEND_ONLY", "truncate ledger_transfer"),
    ("APPEND_ONLY", "update ledger_request set key = 'other'"),
    ("APPEND_ONLY", "delete from ledger_request"),
    ("APPEND_ONLY", "update ledger_seal set journals = journals + 1"),
    ("APPEND_ONLY", "delete from ledger_seal"),
    ("APPEND_ONLY", "truncate ledger_seal"),
    ("APPEND_ONLY", "update ledger_reversal set journal_id = 13"),
    ("APPEND_ONLY", "delete from ledger_reversal"),
    ("APPEND_ONLY", "truncate ledger_reversal"),
    ("APPEND_ONLY", "update paper set subject = 'other'"),
    ("APPEND_ONLY", "delete from paper"),
    ("APPEND_ONLY", "truncate paper"),
    ("APPEND_ONLY", "truncate ledger_request"),
    ("APPEND_ONLY", "update lesson_facts set total_s = 1"),
    ("APPEND_ONLY", "delete from lesson_facts"),
    ("APPEND_ONLY", "truncate lesson_facts cascade"),
    ("APPEND_ONLY", "update lesson_presence set attended_s = 1"),
    ("APPEND_ONLY", "delete from lesson_presence"),
    ("APPEND_ONLY", "truncate lesson_presence"),
    ("APPEND_ONLY", "update hold_settlement set to_tutor = 0"),
    ("APPEND_ONLY", "delete from hold_settlement"),
    ("APPEND_ONLY", "truncate hold_settlement cascade"),
    ("APPEND_ONLY", "truncate package_return"),
    ("TOP_UP_GUARD", "delete from top_up"),
    ("TOP_UP_GUARD", "update top_up set amount = 1"),
    ("APPEND_ONLY", "truncate top_up"),
    ("APPEND_ONLY", "truncate stripe_entry"),
    # What a withdrawal was asked for stays, and its life goes forward.
    ("a withdrawal never changes what it was made with", "update withdrawal set amount = 1"),
    ("a withdrawal never changes what it was made with", "update withdrawal set answer = 'Another answer.'"),
    (
        "withdrawal may not go from pending to completed",
        "update withdrawal set status = 'completed' where status = 'pending'",
    ),
    ("APPEND_ONLY", "delete from withdrawal"),
    ("APPEND_ONLY", "truncate withdrawal cascade"),
    ("a payout_account never changes what it was made with", "update payout_account set last4 = '9999'"),
    (
        "a payout_account never changes what it was made with",
        "update payout_account set stripe_account = 'x'",
    ),
    ("APPEND_ONLY", "delete from payout_account"),
    ("a payout_attempt never changes what it was made with", "update payout_attempt set transfer = 'tr_9'"),
    ("a payout_attempt never changes what it was made with", "update payout_attempt set number = 9"),
    ("APPEND_ONLY", "delete from payout_attempt"),
    # What was disputed and decided stays.
    ("a dispute never changes what it was made with", "update dispute set words = 'Something else.'"),
    ("APPEND_ONLY", "delete from dispute"),
    ("APPEND_ONLY", "truncate dispute"),
    ("a card_dispute never changes what it was made with", "update card_dispute set amount = 1"),
    (
        "card_dispute may not go from open to closed",
        "update card_dispute set status = 'closed', ended_at = now()",
    ),
    ("APPEND_ONLY", "delete from card_dispute"),
    ("APPEND_ONLY", "truncate card_dispute"),
    # Arrows, histories and refunds are written once; what a payment was opened with stays.
    ("APPEND_ONLY", "delete from payment_transition"),
    ("APPEND_ONLY", "update payment_event set to_state = 'VOIDED'"),
    ("APPEND_ONLY", "delete from payment_event"),
    ("APPEND_ONLY", "truncate payment_event cascade"),
    ("a payment never changes what it was made with", "update payment set amount = 1"),
    ("a payment never changes what it was made with", "update payment set setup_id = 'seti_9'"),
    ("APPEND_ONLY", "delete from payment"),
    ("APPEND_ONLY", "update payment_refund set amount = 2"),
    ("APPEND_ONLY", "delete from payment_refund"),
    (
        "card_authorization may not go from captured to cancelled",
        "update card_authorization set status = 'cancelled' where status = 'captured'",
    ),
    (
        "a card_authorization never changes what it was made with",
        "update card_authorization set intent = 'pi_9' where intent is not null",
    ),
    ("APPEND_ONLY", "delete from card_authorization"),
    ("card_refund may not go from failed to sent", "update card_refund set status = 'sent'"),
    ("a card_refund never changes what it was made with", "update card_refund set amount = 2"),
    ("APPEND_ONLY", "delete from card_refund"),
    # A hold changes its status by its settlement, and gets its lesson once.
    ("HOLD_GUARD", "update hold set status = 'refunded' where status = 'held'"),
    ("HOLD_GUARD", "update hold set status = 'held' where status = 'released'"),
    ("HOLD_GUARD", "update hold set amount = amount + 1"),
    ("HOLD_GUARD", "update hold set tutor_bps = 10000"),
    ("HOLD_GUARD", "update hold set lesson_id = gen_random_uuid()"),
    ("HOLD_GUARD", "update hold set lesson_id = null"),
    ("HOLD_GUARD", "delete from hold"),
    ("APPEND_ONLY", "truncate hold cascade"),
]


async def test_nobody_writes_past_the_guards(sessions: Sessions, stage: Stage) -> None:
    refused = []
    for _, statement in GUARDED:
        async with sessions() as session:
            with pytest.raises(DBAPIError) as error:
                await session.execute(text(statement))
        refused.append((str(getattr(error.value.orig, "__cause__", "")).partition(":")[0], statement))

    assert refused == GUARDED


@pytest.mark.parametrize(
    ("refusal", "statement"),
    [
        # By the table alone are its rows applied to the balances.
        (
            "LEDGER_ONLY",
            (
                "insert into ledger_transfer_p_2026 select journal_id, 99, debit_account, credit_account, currency, 1"
                " from ledger_transfer limit 1"
            ),
        ),
        ("LEDGER_ONLY", "truncate ledger_transfer_p_2026"),
        ("APPEND_ONLY", "delete from ledger_account"),
        ("never changes", "update ledger_account set id = default"),
    ],
)
async def test_what_the_ledger_itself_may_not_do(
    sessions: Sessions, stage: Stage, refusal: str, statement: str
) -> None:
    async with sessions() as session:
        await session.execute(text("select set_config('ledger.posting', 'on', true)"))
        with pytest.raises(DBAPIError, match=refusal):
            await session.execute(text(statement))


async def test_a_temporary_table_is_nothing_to_refer_to(sessions: Sessions, stage: Stage) -> None:
    async with sessions() as session:
        await session.execute(text("create temporary table ledger_journal (id bigint) on commit drop"))
        await session.execute(text("insert into ledger_journal values (7)"))
        with pytest.raises(DBAPIError, match="refers to what is not there"):
            await add(session, "hold_settlement", stage.rows["hold_settlement"] | {"journal_id": 7})


@pytest.mark.parametrize("table", ["ledger_journal", "ledger_transfer"])
async def test_every_part_of_the_ledger_is_closed(sessions: Sessions, table: str) -> None:
    """A part that is made later has what the others have."""
    async with sessions() as session:
        parts = await session.execute(
            text(
                "select c.oid::regclass::text as name, array_agg(t.tgname::text) as guards from pg_inherits i"
                " join pg_class c on c.oid = i.inhrelid left join pg_trigger t on t.tgrelid = c.oid"
                " where i.inhparent = cast(cast(:table as text) as regclass) group by c.oid"
            ),
            {"table": table},
        )
        missing = {row.name: GUARDS_OF_PARTS[table] - set(row.guards) for row in parts}
    assert missing
    assert not any(missing.values()), missing


GUARDS_OF_PARTS = {
    "ledger_journal": {"append_only", "only_ledger"},
    "ledger_transfer": {"append_only", "only_ledger", "never_directly"},
}


async def test_every_column_of_a_hold_is_guarded(sessions: Sessions) -> None:
    """A change of the status alone has a guard of its own, and costs no call of a function where it is right."""
    async with sessions() as session:
        free = await session.scalars(
            text(
                "select attname::text from pg_attribute a where attrelid = 'hold'::regclass and attnum > 0"
                " and not attisdropped and not exists (select from pg_trigger t where t.tgrelid = a.attrelid"
                " and t.tgname = 'guard' and a.attnum = any(t.tgattr))"
            )
        )
        assert list(free) == ["status"]


async def test_a_hold_begins_held(sessions: Sessions, stage: Stage) -> None:
    async with sessions() as session:
        with pytest.raises(DBAPIError, match="HOLD_GUARD"):
            await add(session, "hold", stage.rows["hold"] | {"status": "released"})


async def test_a_hold_for_a_lesson_that_is_over_is_refused(sessions: Sessions, stage: Stage) -> None:
    async with sessions() as session:
        with pytest.raises(DBAPIError, match="LESSON_OVER"):
            await add(session, "hold", stage.rows["hold"] | {"lesson_id": stage.others["lesson"]})


async def test_money_written_down_by_hand_moves_no_balance_without_its_other_half(
    sessions: Sessions, stage: Stage
) -> None:
    async with sessions() as session:
        await add(session, "ledger_transfer", stage.rows["ledger_transfer"])
        total = await session.scalar(text("select sum(balance)::bigint from ledger_account"))

    assert Money(int(total or 0)) == Money(0)
