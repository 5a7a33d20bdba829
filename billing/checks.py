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


# The same words as `facts.is_absent`, for a lesson `f` and the terms `p` of a hold.
_ABSENT = """(f.total_s = 0 or f.tutor_attended_s * 100
                   < case when f.is_by_hold then p.attendance_percent else f.absence_percent end * f.planned_s)"""
# The same words as `facts.is_by_outcome`, for a hold `h` and any settlement `s` of it; few have another before them.
_BY_OUTCOME = """(h.source_kind = 'booking' or h.source_kind = 'package_slice' and 'outcome' = case s.number
                   when 0 then s.cause
                   else (select o.cause from hold_settlement o where o.hold_id = s.hold_id and o.number = 0) end)"""

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
          where t.journal_id = h.place_journal and t.hold_id = h.id
            -- No part of what is hashed.
            and (t.amount, t.debit_account, t.credit_account)
              is not distinct from (h.amount, h.wallet_account, h.escrow_account)
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
        # All that was ever moved for it, its placing too. A look into an array costs a fraction of a join of accounts.
        "hold_moved",
        "What the ledger moved for a hold is not what its newest settlement says.",
        """
        with account as materialized (
          select array_agg(case when kind in ('earnings', 'earnings_pending', 'frozen', 'tutor_debt') then 1
            when kind = 'platform_revenue' then 2 when kind = 'wallet' then 3 else 0 end order by place) as parts
          from generate_series(1, (select max(id) from ledger_account)) place
          left join ledger_account a on a.id = place
        ), moved as (
          select hold_id,
            sum(case 1 when taker then amount when giver then -amount end)::bigint as tutor,
            sum(case 2 when taker then amount when giver then -amount end)::bigint as platform,
            sum(case 3 when taker then amount when giver then -amount end)::bigint as student
          from (
            select t.hold_id, t.amount, account.parts[t.debit_account] as giver, account.parts[t.credit_account] as taker
            from ledger_transfer t cross join account where t.hold_id is not null
            offset 0  -- so that each account is looked up once
          ) legs
          where giver is distinct from taker group by hold_id
        )
        select s.hold_id, s.number, s.to_tutor, s.to_platform, s.to_student, m.tutor, m.platform,
          m.student + s.amount as student
        from hold_settlement s left join moved m on m.hold_id = s.hold_id
        where not exists (
            -- Few have a number above 0: only these are hashed.
            select from hold_settlement n where n.hold_id = s.hold_id and n.number > s.number and n.number > 0
          )
          and (coalesce(m.tutor, 0), coalesce(m.platform, 0), coalesce(m.student, 0) + s.amount)
            <> (s.to_tutor, s.to_platform, s.to_student)
        """,
    ),
    Check(
        "settled_by_facts",
        "A settlement is not what the stored facts and the policy of the hold ask for.",
        f"""
        select s.hold_id, s.number, s.cause, s.to_student, d.to_student as asked, s.attended_s, d.attended_s as known
        from hold_settlement s
        join hold h on h.id = s.hold_id
        join policy p on p.version = h.policy_version
        join lesson_facts f on f.lesson_id = s.lesson_id and f.version = s.facts_version
        left join lesson_presence a
          on a.lesson_id = f.lesson_id and a.version = f.version and a.student_id = h.student_id
        cross join lateral (
          select coalesce(a.attended_s, 0) as attended_s,
            case when f.cancelled then h.amount
                 when {_BY_OUTCOME} then case when f.tutor_attended_s > 0 then 0 else h.amount end
                 when {_ABSENT} then h.amount
                 when coalesce(a.attended_s, 0) * 100 >= p.attendance_percent * f.total_s then 0
                 else h.amount end as to_student
        ) d
        where s.to_student <> d.to_student or s.attended_s <> d.attended_s or s.total_s <> f.total_s
           or s.threshold_percent <> p.attendance_percent
           or s.tutor_attended_s <> f.tutor_attended_s
           or {_BY_OUTCOME} and s.tutor_attended_s is null
           or s.number = 0 and s.cause <> case when f.cancelled then 'cancelled'
                                               when {_BY_OUTCOME} then 'outcome'
                                               when {_ABSENT} then 'tutor_absent' else 'attendance' end
        """,  # noqa: S608 - the words are ours
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
        where not cancelled and tutor_absent
          <> (total_s = 0 or tutor_attended_s * 100 < absence_percent * planned_s)
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
        f"""
        with late as (
          select s.hold_id from hold_settlement s join lesson_facts f on f.lesson_id = s.lesson_id where f.version > 1
          union
          select hold_id from hold_review
        )
        select s.hold_id, f.version, s.to_student, d.to_student as asked, r.to_student as noted
        from late
        join hold_settlement s on s.hold_id = late.hold_id
        join hold h on h.id = s.hold_id
        join policy p on p.version = h.policy_version
        join lesson_facts f on f.lesson_id = s.lesson_id
        left join lesson_presence a
          on a.lesson_id = f.lesson_id and a.version = f.version and a.student_id = h.student_id
        left join hold_review r on r.hold_id = h.id and r.lesson_id = s.lesson_id
        cross join lateral (
          select case when f.cancelled then h.amount
                      when {_BY_OUTCOME} then case when f.tutor_attended_s > 0 then 0 else h.amount end
                      when {_ABSENT} then h.amount
                      when coalesce(a.attended_s, 0) * 100 >= s.threshold_percent * f.total_s then 0
                      else h.amount end as to_student
        ) d
        where s.cause in ('attendance', 'tutor_absent', 'outcome', 'adjustment')
          and not exists (select from hold_settlement n where n.hold_id = s.hold_id and n.number > s.number)
          and not exists (select from lesson_facts n where n.lesson_id = f.lesson_id and n.version > f.version)
          and r.to_student is distinct from nullif(d.to_student, s.to_student)
        """,  # noqa: S608 - the words are ours
    ),
    Check(
        "return_is_heard",
        "Late evidence says that a lesson which went back to its package was given, and nobody is told, or without need.",
        f"""
        select b.hold_id, b.lesson_id, f.version, d.to_student as asked, r.to_student as noted
        from package_return b
        join hold h on h.id = b.hold_id
        join policy p on p.version = h.policy_version
        join lesson_facts f on f.lesson_id = b.lesson_id
        left join lesson_presence a
          on a.lesson_id = f.lesson_id and a.version = f.version and a.student_id = h.student_id
        left join hold_review r on r.hold_id = b.hold_id and r.lesson_id = b.lesson_id
        cross join lateral (
          select case when f.cancelled then h.amount
                      when b.is_by_outcome then case when f.tutor_attended_s > 0 then 0 else h.amount end
                      when {_ABSENT} then h.amount
                      when coalesce(a.attended_s, 0) * 100 >= p.attendance_percent * f.total_s then 0
                      else h.amount end as to_student
        ) d
        where not exists (select from lesson_facts n where n.lesson_id = f.lesson_id and n.version > f.version)
          and r.to_student is distinct from nullif(d.to_student, h.amount)
        """,  # noqa: S608 - the words are ours
    ),
    Check(
        "payment_follows_hold",
        "A payment is not where its hold is, or says another amount.",
        """
        select p.id, p.state, p.captured, p.refunded, h.status, s.to_student
        from payment p
        left join hold h on h.id = p.hold_id
        left join hold_settlement s on s.hold_id = h.id
          and s.number = (select max(number) from hold_settlement n where n.hold_id = h.id)
        where case when h.id is null then p.captured > 0
                   when p.state in ('PENDING', 'AUTHORIZED') then h.status <> 'held'
                   when p.state = 'VOIDED' then s.to_student is distinct from p.amount
                   else s.to_student is distinct from p.refunded end
          or h.id is not null and (h.source_kind <> 'booking' or h.source_id <> p.id or h.currency <> p.currency
            or h.student_id <> p.student_id or h.tutor_id <> p.tutor_id)
        """,
    ),
    Check(
        "payment_refunds",
        "What was refunded of a payment is not the sum of its refunds.",
        """
        select p.id, p.refunded, coalesce(r.sum, 0)::bigint as refunds
        from payment p left join (
          select payment_id, sum(amount) as sum from payment_refund group by payment_id
        ) r on r.payment_id = p.id
        where p.refunded <> coalesce(r.sum, 0)
        """,
    ),
    Check(
        "payment_is_newest",
        "The history of a payment goes on behind its state, or belongs to none.",
        """
        select e.payment_id, e.seq, e.to_state, p.seq as known from payment_event e
        left join payment p on p.id = e.payment_id
        where p.id is null or e.seq > p.seq
        """,
    ),
    Check(
        "card_is_booked",
        "What was captured from a card has not moved its amount into the wallet of its owner.",
        """
        select a.id, a.payment_id, p.amount from card_authorization a join payment p on p.id = a.payment_id
        where a.status = 'captured' and not exists (
          select from ledger_transfer t join ledger_account c on c.id = t.credit_account
          where t.journal_id = a.journal_id and c.kind = 'wallet' and c.owner_id = p.student_id
            and t.amount = p.amount and t.currency = p.currency
        )
        """,
    ),
    Check(
        "card_refund_is_reserved",
        "What is on its way from a wallet to a card is not what its refunds wait for, or is more than came from it.",
        """
        select coalesce(a.owner_id, r.student_id) as student_id, coalesce(a.balance, 0) as balance,
          coalesce(r.sum, 0)::bigint as waits
        from (select owner_id, currency, balance from ledger_account where kind = 'card_refund') a
        full join (
          select student_id, currency, sum(amount) as sum from card_refund where status = 'asked'
          group by student_id, currency
        ) r on r.student_id = a.owner_id and r.currency = a.currency
        where coalesce(a.balance, 0) <> coalesce(r.sum, 0)
        union all
        select p.student_id, p.amount, sum(r.amount)::bigint from payment p
        join card_refund r on r.payment_id = p.id and r.status <> 'failed'
        group by p.id having sum(r.amount) > p.amount
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
        "package_counts",
        "A package is not what its holds are: their number, their worth, how many are taken, what became of the rest.",
        """
        select p.id, p.status, p.purchased, p.used, h.holds, h.taken, h.left, h.worth, p.price
        from package p cross join lateral (
          select count(*) as holds, count(h.lesson_id) as taken,
            count(*) filter (where h.lesson_id is null and h.status = 'held') as left,
            coalesce(sum(h.amount), 0)::bigint as worth,
            count(*) filter (where (h.student_id, h.tutor_id, h.currency, h.tutor_bps, h.attribution, h.policy_version)
              <> (p.student_id, p.tutor_id, p.currency, p.tutor_bps, p.attribution, p.policy_version)) as others
          from hold h where h.source_id = p.id and h.source_kind = 'package_slice'
        ) h
        where h.holds <> p.purchased or h.taken <> p.used or h.worth <> p.price or h.others > 0
          or h.left <> case when p.status in ('active', 'exhausted') then p.remaining else 0 end
        """,
    ),
    Check(
        "slice_has_package",
        "A hold is a slice of a package that is not there.",
        """
        select h.id, h.source_id from hold h
        where h.source_kind = 'package_slice' and not exists (select from package p where p.id = h.source_id)
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
    Check(
        "frozen_is_disputed",
        "What is frozen is not the share of a disputed hold, nor the credit of a payer whose bank disputes.",
        """
        select a.owner_id, a.balance, s.to_tutor, c.status, c.amount from ledger_account a
        left join hold_settlement s on s.hold_id = a.owner_id
          and s.number = (select max(number) from hold_settlement n where n.hold_id = a.owner_id)
          and exists (select from hold_freeze f where f.hold_id = a.owner_id)
        left join maturing m on m.hold_id = a.owner_id
        left join card_dispute c on c.id = a.owner_id
        where a.kind = 'frozen' and not case
          when c.status = 'open' then a.balance <= c.amount
          when s.hold_id is null then a.balance = 0
          when m.hold_id is not null then a.balance = s.to_tutor
          else a.balance <= s.to_tutor end
        """,
    ),
    Check(
        "freeze_has_dispute",
        "A share is frozen for no open dispute, an open dispute freezes nothing, or what is frozen might mature.",
        """
        select f.hold_id, f.dispute_id, m.frozen_by from hold_freeze f
        left join maturing m on m.hold_id = f.hold_id
        where m.hold_id is not null and m.frozen_by is null
          or not exists (
            select from dispute d where d.id = f.dispute_id and d.hold_id = f.hold_id and d.status = 'open'
            union all
            select from card_dispute c where c.id = f.dispute_id and c.status = 'open'
          )
        union all
        select d.hold_id, d.id, null from dispute d
        where d.status = 'open'
          and not exists (select from hold_freeze f where f.hold_id = d.hold_id and f.dispute_id = d.id)
        """,
    ),
    Check(
        "dispute_is_decided",
        "What a dispute gave back is not what its hold's settlements say.",
        """
        select d.id, d.hold_id, d.status, d.refunded, r.back from dispute d
        left join lateral (
          select sum(s.to_student - b.to_student)::bigint as back from hold_settlement s
          join hold_settlement b on b.hold_id = s.hold_id and b.number = s.previous
          where s.hold_id = d.hold_id and s.cause = 'dispute'
        ) r on true
        where d.refunded is distinct from r.back
        """,
    ),
    Check(
        "given_back_grows",
        "What was given back of a hold became less, or not more.",
        """
        select s.hold_id, s.number, s.cause, b.to_student as before, s.to_student from hold_settlement s
        join hold_settlement b on b.hold_id = s.hold_id and b.number = s.previous
        where s.cause in ('refund', 'dispute', 'card_dispute') and s.to_student <= b.to_student
        """,
    ),
    Check(
        "debt_is_repaid",
        "A tutor owes something and has earnings beside it.",
        """
        select d.owner_id, d.currency, d.balance as debt, e.balance as earnings from ledger_account d
        join ledger_account e on e.kind = 'earnings' and e.owner_id = d.owner_id and e.currency = d.currency
        where d.kind = 'tutor_debt' and d.balance < 0 and e.balance > 0
        """,
    ),
    Check(
        "debt_is_explained",
        "What a tutor owes is not what was given back of their lessons after it had left us, less what they repaid.",
        """
        select a.owner_id, a.currency, a.balance, t.sum from ledger_account a
        cross join lateral (
          select coalesce(sum(case when t.credit_account = a.id then t.amount else -t.amount end), 0)::bigint as sum
          from ledger_transfer t join ledger_journal j on j.id = t.journal_id
          left join hold h on h.id = t.hold_id and h.tutor_id = a.owner_id
          where a.id in (t.debit_account, t.credit_account)
            and (j.kind = 'debt' and t.credit_account = a.id or j.kind = 'refund' and h.id is not null)
        ) t
        where a.kind = 'tutor_debt' and a.balance <> t.sum
        """,
    ),
    Check(
        "disputed_at_stripe",
        "What banks have of ours is not what open disputes took, or a lost one is borne by nobody.",
        """
        select coalesce(a.currency, d.currency) as currency, coalesce(a.balance, 0) as balance, d.taken, d.covered
        from (
          select currency, sum(balance)::bigint as balance from ledger_account
          where kind = 'stripe_disputed' group by currency
        ) a
        full join (
          select c.currency, coalesce(sum(e.taken), 0)::bigint as taken, sum(c.covered)::bigint as covered
          from card_dispute c
          left join lateral (
            select -sum(s.amount) as taken from stripe_entry s where s.source = c.dispute
          ) e on true
          group by c.currency
        ) d on d.currency = a.currency
        where coalesce(a.balance, 0) <> coalesce(d.covered - d.taken, 0)
        union all
        select c.currency, null, e.taken, c.covered from card_dispute c
        cross join lateral (
          select coalesce(-sum(s.amount), 0)::bigint as taken from stripe_entry s where s.source = c.dispute
        ) e
        where c.status = 'lost' and e.taken <> c.covered
        """,
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
