"""Invariants of money, asked of the database: at the end of tests, hourly in production, by `fourtalk check`.

A violation is a bug or a broken database; nothing here repairs anything.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.money import Money

# A violation names so many rows: enough to look, and the answer stays small.
ROWS_MOST = 20


class Violation(msgspec.Struct, frozen=True):
    """Something that must never be."""

    name: str
    detail: str
    rows: tuple[dict[str, Any], ...]


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What was found when everything was asked of one moment."""

    ok: bool
    ledger_sum: dict[str, int]
    """Of all balances, by currency."""
    violations: Sequence[Violation]
    transfers: int
    """How many there are, and were added up."""
    unsealed_s: float
    """How long the oldest journal waits that no seal covers; 0 when all are sealed."""
    took_ms: int
    parts_ms: dict[str, int]
    """What each question took, the longest first; they are asked at the same time."""


class Check(msgspec.Struct, frozen=True):
    """A query that finds what must not exist."""

    name: str
    detail: str
    query: str


CHECKS = (
    Check(
        "ledger_sum",
        "The balances of a currency do not add up to zero.",
        "select currency, sum(balance)::bigint as sum from ledger_account group by currency having sum(balance) <> 0",
    ),
    Check(
        "account_drift",
        "A balance differs from the sum of its transfers.",
        """
        select a.id, a.kind, a.owner_id, a.balance, coalesce(t.sum, 0)::bigint as transfers
        from ledger_account a left join (
          select account, sum(delta) as sum from (
            select debit_account as account, -amount as delta from ledger_transfer
            union all
            select credit_account, amount from ledger_transfer
          ) legs group by account
        ) t on t.account = a.id
        where a.balance <> coalesce(t.sum, 0)
        """,
    ),
    Check(
        "account_floor",
        "An account of a person, or an escrow, is below zero.",
        """
        select id, kind, owner_id, balance from ledger_account
        where case when kind = 'tutor_debt' then balance > 0
                   else balance < 0 and kind not in ('platform_revenue', 'platform_expense', 'stripe',
                                                     'stripe_disputed', 'bank', 'suspense') end
        """,
    ),
    Check(
        "escrow_is_held",
        "An escrow account differs from the holds that are held in it.",
        """
        select a.id, a.owner_id, a.balance, coalesce(h.sum, 0)::bigint as held
        from ledger_account a left join (
          select escrow_account, sum(amount) as sum from hold where status = 'held' group by escrow_account
        ) h on h.escrow_account = a.id
        where a.kind = 'escrow' and a.balance <> coalesce(h.sum, 0)
        """,
    ),
    Check(
        "hold_placed",
        "The journal of a purchase did not move the amount of its hold from wallet to escrow.",
        """
        select h.id, h.amount, h.place_journal from hold h
        where not exists (
          select from ledger_transfer t
          where t.journal_id = h.place_journal and t.hold_id = h.id and t.amount = h.amount
            and t.debit_account = h.wallet_account and t.credit_account = h.escrow_account
        )
        """,
    ),
    Check(
        "hold_status",
        "The status of a hold does not follow from its settlement.",
        """
        select h.id, h.status, s.to_student, h.amount
        from hold h left join hold_settlement s on s.hold_id = h.id and s.number = 0
        where h.status <> case when s.hold_id is null then 'held'
                               when s.to_student = h.amount then 'refunded' else 'released' end
        """,
    ),
    Check(
        "hold_adds_up",
        "The parts of a settled hold are not its amount, or not its frozen split.",
        """
        select s.hold_id, s.number, s.to_tutor, s.to_platform, s.to_student, h.amount, h.tutor_bps
        from hold_settlement s join hold h on h.id = s.hold_id
        where s.to_tutor + s.to_platform + s.to_student <> h.amount
           or s.to_tutor <> (h.amount - s.to_student) * h.tutor_bps / 10000
        """,
    ),
    Check(
        "hold_moved",
        "What the ledger moved for a hold is not what its newest settlement says.",
        """
        with parts as materialized (
          select id, case kind when 'earnings' then 1 when 'earnings_pending' then 1 when 'platform_revenue' then 2
            when 'wallet' then 3 else 0 end as part
          from ledger_account
        )
        select s.hold_id, s.number, s.to_tutor, s.to_platform, s.to_student, m.tutor, m.platform, m.student
        from hold_settlement s
        left join (
          select t.hold_id,
            sum(t.amount * ((c.part = 1)::int - (d.part = 1)::int))::bigint as tutor,
            sum(t.amount * ((c.part = 2)::int - (d.part = 2)::int))::bigint as platform,
            sum(t.amount * ((c.part = 3)::int - (d.part = 3)::int))::bigint as student
          from hold_settlement every
          join ledger_transfer t on t.journal_id = every.journal_id and t.hold_id = every.hold_id
          join parts d on d.id = t.debit_account
          join parts c on c.id = t.credit_account
          group by t.hold_id
        ) m on m.hold_id = s.hold_id
        where not exists (select from hold_settlement n where n.hold_id = s.hold_id and n.number > s.number)
          and (coalesce(m.tutor, 0), coalesce(m.platform, 0), coalesce(m.student, 0))
            <> (s.to_tutor, s.to_platform, s.to_student)
        """,
    ),
    Check(
        "settled_by_facts",
        "A settlement is not what the stored facts and the policy of the hold ask for.",
        """
        select s.hold_id, s.number, s.cause, s.to_student, d.to_student as asked, s.attended_s, d.attended_s as known
        from hold_settlement s
        join hold h on h.id = s.hold_id
        join policy p on p.version = h.policy_version
        join lesson_facts f on f.lesson_id = s.lesson_id and f.version = s.facts_version
        left join lesson_presence a
          on a.lesson_id = f.lesson_id and a.version = f.version and a.student_id = h.student_id
        cross join lateral (
          select coalesce(a.attended_s, 0) as attended_s,
            case when f.cancelled or f.tutor_absent then h.amount
                 when coalesce(a.attended_s, 0) * 100 >= p.attendance_percent * f.total_s then 0
                 else h.amount end as to_student
        ) d
        where s.to_student <> d.to_student or s.attended_s <> d.attended_s or s.total_s <> f.total_s
           or s.threshold_percent <> p.attendance_percent
           or s.number = 0 and s.cause <> case when f.cancelled then 'cancelled'
                                               when f.tutor_absent then 'tutor_absent' else 'attendance' end
        """,
    ),
    Check(
        "facts_by_intervals",
        "The seconds of a student are not the sum of the intervals that prove them.",
        """
        select a.lesson_id, a.version, a.student_id, a.attended_s, i.sum
        from lesson_presence a cross join lateral (
          select coalesce(floor(extract(epoch from sum((x->>'to')::timestamptz - (x->>'from')::timestamptz))), 0)::bigint
            as sum
          from jsonb_array_elements(a.intervals) x
        ) i
        where a.attended_s <> i.sum
        """,
    ),
    Check(
        "tutor_absence",
        "A tutor is called absent, or present, against the threshold.",
        """
        select lesson_id, version, tutor_attended_s, planned_s, tutor_absent from lesson_facts
        where not cancelled and tutor_absent <> (tutor_attended_s * 100 < absence_percent * planned_s)
        """,
    ),
    Check(
        "pending_is_at_risk",
        "The pending earnings of a tutor are not what is still at risk and not frozen.",
        """
        select coalesce(a.owner_id, m.tutor_id) as tutor_id, coalesce(a.currency, m.currency) as currency,
          coalesce(a.balance, 0) as balance, coalesce(m.sum, 0)::bigint as at_risk
        from (select owner_id, currency, balance from ledger_account where kind = 'earnings_pending') a
        full join (
          select h.tutor_id, h.currency, sum(s.to_tutor) as sum
          from maturing m
          join hold h on h.id = m.hold_id
          join hold_settlement s on s.hold_id = h.id
            and s.number = (select max(number) from hold_settlement n where n.hold_id = h.id)
          where m.frozen_by is null
          group by h.tutor_id, h.currency
        ) m on m.tutor_id = a.owner_id and m.currency = a.currency
        where coalesce(a.balance, 0) <> coalesce(m.sum, 0)
        """,
    ),
    Check(
        "withdrawal_is_reserved",
        "What is reserved for a tutor's withdrawals is not what they wait for.",
        """
        select coalesce(a.owner_id, w.tutor_id) as tutor_id, coalesce(a.currency, w.currency) as currency,
          coalesce(a.balance, 0) as balance, coalesce(w.sum, 0)::bigint as waits
        from (select owner_id, currency, balance from ledger_account where kind = 'withdrawal') a
        full join (
          select w.tutor_id, w.currency, sum(w.amount) as sum from withdrawal w
          where w.status in ('pending', 'processing') and not exists (
            select from payout_attempt p
            where p.withdrawal_id = w.id and p.transfer is not null and p.reversal is null
          )
          group by w.tutor_id, w.currency
        ) w on w.tutor_id = a.owner_id and w.currency = a.currency
        where coalesce(a.balance, 0) <> coalesce(w.sum, 0)
        """,
    ),
    Check(
        "held_after_settlement",
        "A hold is still held although its lesson was settled.",
        """
        select h.id, h.lesson_id from hold h
        where h.status = 'held'
          and exists (select from lesson_facts f where f.lesson_id = h.lesson_id)
          and not exists (select from settle_due d where d.lesson_id = h.lesson_id)
        """,
    ),
    Check(
        # Where there is none, `settled_by_facts` says it all.
        "late_evidence_is_heard",
        "What late evidence asks for is neither where the money is nor noted for review, or noted without need.",
        """
        with late as (
          select s.hold_id from hold_settlement s join lesson_facts f on f.lesson_id = s.lesson_id where f.version > 1
          union
          select hold_id from hold_review
        )
        select s.hold_id, f.version, s.to_student, d.to_student as asked, r.to_student as noted
        from late
        join hold_settlement s on s.hold_id = late.hold_id
        join hold h on h.id = s.hold_id
        join lesson_facts f on f.lesson_id = s.lesson_id
        left join lesson_presence a
          on a.lesson_id = f.lesson_id and a.version = f.version and a.student_id = h.student_id
        left join hold_review r on r.hold_id = h.id
        cross join lateral (
          select case when f.cancelled or f.tutor_absent then h.amount
                      when coalesce(a.attended_s, 0) * 100 >= s.threshold_percent * f.total_s then 0
                      else h.amount end as to_student
        ) d
        where s.cause in ('attendance', 'tutor_absent', 'adjustment')
          and not exists (select from hold_settlement n where n.hold_id = s.hold_id and n.number > s.number)
          and not exists (select from lesson_facts n where n.lesson_id = f.lesson_id and n.version > f.version)
          and r.to_student is distinct from nullif(d.to_student, s.to_student)
        """,
    ),
    Check(
        "stripe_is_told",
        "A journal that touches our money at Stripe stands for none of its movements, or says something else.",
        """
        select t.journal_id, a.currency, e.id,
          sum(case when t.debit_account = a.id then t.amount else -t.amount end)::bigint as net
        from ledger_account a
        join ledger_transfer t on t.debit_account = a.id or t.credit_account = a.id
        left join stripe_entry e on e.journal_id = t.journal_id
        where a.kind = 'stripe'
        group by t.journal_id, a.currency, e.id, e.currency, e.amount, e.fee
        having e.id is null or e.currency <> a.currency
          or sum(case when t.debit_account = a.id then t.amount else -t.amount end) <> e.amount - e.fee
        """,
    ),
    Check(
        "top_up_is_credited",
        "A top-up that succeeded has not moved its amount into the wallet of its owner.",
        """
        select u.id, u.owner_id, u.amount from top_up u
        where u.status = 'succeeded' and not exists (
          select from ledger_transfer t join ledger_account c on c.id = t.credit_account
          where t.journal_id = u.journal_id and c.kind = 'wallet' and c.owner_id = u.owner_id
            and t.amount = u.amount and t.currency = u.currency
        )
        """,
    ),
    Check(
        "reversal_mirrors",
        "A reversal undoes nothing, or something else than the whole of one journal.",
        """
        select j.id, r.reverses_id from ledger_journal j left join ledger_reversal r on r.journal_id = j.id
        where j.kind = 'reversal' and (r.reverses_id is null or exists (
          (
            select leg, debit_account, credit_account, currency, amount from ledger_transfer
            where journal_id = r.reverses_id
            except all
            select leg, credit_account, debit_account, currency, amount from ledger_transfer where journal_id = j.id
          ) union all (
            select leg, credit_account, debit_account, currency, amount from ledger_transfer where journal_id = j.id
            except all
            select leg, debit_account, credit_account, currency, amount from ledger_transfer
            where journal_id = r.reverses_id
          )
        ))
        """,
    ),
    Check(
        # Which seal it is, is asked only where the total says that one must be wrong.
        "seal_covers",
        "A seal covers more or fewer journals than when it was made.",
        """
        with total as (
          select (select sum(journals) from ledger_seal) as sealed, count(*) as found from ledger_journal
          where xid < (select upto_xid from ledger_seal order by number desc limit 1)
        )
        select s.number, s.journals, c.found, s.since_xid, s.upto_xid from ledger_seal s
        cross join lateral (
          select count(*) as found from ledger_journal j where j.xid >= s.since_xid and j.xid < s.upto_xid
        ) c
        where (select sealed is distinct from found from total) and c.found <> s.journals
        """,
    ),
    Check(
        "stripe_agrees",
        "Stripe's books and ours differ; somebody must look.",
        "select subject, outcome, detail, found_at from stripe_finding where solved_at is null",
    ),
)


async def ledger_sums(session: AsyncSession) -> dict[str, int]:
    """Return the sum of all balances of each currency: nothing but zeros, or money was made or lost."""
    query = "select currency, sum(balance)::bigint from ledger_account group by currency order by currency"
    sums = {Money(0).currency: 0}
    return sums | dict((await session.execute(text(query))).all())


async def run(session: AsyncSession, wanted: Sequence[Check] = CHECKS) -> Sequence[Violation]:
    """Return every invariant that does not hold; an empty list is the good answer."""
    violations: list[Violation] = []
    for check in wanted:
        found = await session.execute(text(check.query))
        rows = tuple(dict(row) for row in found.mappings().fetchmany(ROWS_MOST))
        if rows:
            violations.append(Violation(check.name, check.detail, rows))
    return violations
