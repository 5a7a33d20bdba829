"""A ledger with very many transfers, made in bulk: lessons of three students, paid, held, and settled by who came.

Everything that the product writes for such a lesson is there: accounts, journals, transfers, facts, presence, holds,
settlements, and what people were told. The triggers are off, since a million of anything through them takes minutes;
what they would have done is done at the end, and what they would have refused is for the checks to find.
"""

import asyncpg

# Each lesson: three gifts, three purchases, and six transfers of its settlement.
TRANSFERS_EACH = 12
BATCH = 2_000
STUDENTS, TUTORS = 20_000, 1_000

_LESSONS = """
create temp table lesson on commit drop as
select l, md5('lesson' || l)::uuid as id, md5('tutor' || l % {tutors})::uuid as tutor_id,
  (1767225600000::bigint << 20) + (l::bigint << 24) as first_id, l <= {settled} as is_settled,
  now() - ({lessons} - l + 1) * interval '300 days' / {lessons} as at
from generate_series({first}, {last}) l
"""
_SEATS = """
create temp table seat on commit drop as
select l.*, k, md5('hold' || l * 3 + k)::uuid as hold_id, md5('source' || l * 3 + k)::uuid as source_id,
  md5('student' || (l * 3 + k) % {students})::uuid as student_id,
  case when k = 0 then 300 else 4800 end as attended_s, 0 as to_student
from lesson l, generate_series(0, 2) k
"""
_BATCH = (
    _LESSONS,
    _SEATS,
    """
    insert into ledger_account (kind, owner_id, currency)
    select 'escrow', id, 'USD' from lesson
    """,
    "analyze seat",
    """
    create temp table place on commit drop as
    select s.*, w.id as wallet, e.id as escrow, t.id as earnings, r.id as revenue from seat s
    join ledger_account w on w.kind = 'wallet' and w.owner_id = s.student_id
    join ledger_account e on e.kind = 'escrow' and e.owner_id = s.id
    join ledger_account t on t.kind = 'earnings' and t.owner_id = s.tutor_id
    join ledger_account r on r.kind = 'platform_revenue' and r.shard = s.l % 32
    """,
    "analyze place",
    """
    insert into ledger_journal (id, kind, actor, reason, ref_type, ref_id, at)
    select first_id + k, 'goodwill', 'system:gift', 'A gift.', 'owner', student_id, at - interval '2 days' from place
    union all
    select first_id + 8 + k, 'purchase', 'user:' || student_id, null, 'purchase', source_id, at - interval '1 day'
    from place
    union all
    select first_id + 16, 'settlement', 'system:settlement', 'outcome', 'lesson', id, at from lesson
    where is_settled
    """,
    """
    insert into ledger_transfer (journal_id, leg, debit_account, credit_account, currency, amount, hold_id)
    select first_id + k, 1, (select id from ledger_account where kind = 'platform_expense'), wallet, 'USD', 1000, null
    from place
    union all
    select first_id + 8 + k, 1, wallet, escrow, 'USD', 1000, hold_id from place
    union all
    select first_id + 16, row_number() over (partition by l order by k, part), escrow, account, 'USD', amount, hold_id
    from place cross join lateral (values
      (1, wallet, to_student), (2, earnings, (1000 - to_student) * 3 / 10), (3, revenue, (1000 - to_student) * 7 / 10)
    ) parts (part, account, amount)
    where is_settled and amount > 0
    """,
    """
    insert into hold (id, student_id, tutor_id, lesson_id, source_kind, source_id, slice_no, amount, currency, tutor_bps,
      attribution, policy_version, wallet_account, escrow_account, status, placed_at, place_journal)
    select hold_id, student_id, tutor_id, id, 'booking', source_id, 1, 1000, 'USD', 3000, 'platform', 1, wallet, escrow,
      case when not is_settled then 'held' when to_student > 0 then 'refunded' else 'released' end,
      at - interval '1 day', first_id + 8 + k from place
    """,
    """
    insert into lesson_facts (lesson_id, version, tutor_id, planned_s, total_s, tutor_attended_s, tutor_absent,
      cancelled, absence_percent, ended_at, evidence, digest, recorded_at)
    select id, 1, tutor_id, 5400, 5400, 5400, false, false, 20, at, '{{}}', sha256(id::text::bytea), at from lesson
    where is_settled
    """,
    """
    insert into lesson_presence (lesson_id, version, student_id, attended_s, intervals, confidence)
    select id, 1, student_id, attended_s, jsonb_build_array(
      jsonb_build_object('from', at - interval '90 minutes', 'to', at - interval '90 minutes' + interval '300 seconds',
        'sources', jsonb_build_array('webhook'))
    ) || case when k = 0 then '[]' else jsonb_build_array(
      jsonb_build_object('from', at - interval '80 minutes', 'to', at - interval '5 minutes',
        'sources', jsonb_build_array('webhook', 'poll'))
    ) end, 'full' from place where is_settled
    """,
    """
    insert into hold_settlement (hold_id, number, amount, tutor_bps, to_tutor, to_platform, to_student, cause, actor,
      lesson_id, facts_version, attended_s, tutor_attended_s, total_s, threshold_percent, journal_id, settled_at)
    select hold_id, 0, 1000, 3000, (1000 - to_student) * 3 / 10, (1000 - to_student) * 7 / 10, to_student, 'outcome',
      'system:settlement', id, 1, attended_s, 5400, 5400, 20, first_id + 16, at from place where is_settled
    """,
    # What is older than its time was deleted.
    """
    insert into notification (id, user_id, type, event_key, data, created_at, title, body)
    select md5('notice' || hold_id)::uuid, case when to_student > 0 then student_id else tutor_id end,
      case when to_student > 0 then 'refund_processed' else 'payment_received' end, 'hold:' || hold_id,
      jsonb_build_object('hold_id', hold_id), at, 't', 'b'
    from place where is_settled and at > now() - interval '91 days'
    """,
)
_BALANCES = """
update ledger_account a set balance = moved.balance from (
  select account, sum(delta)::bigint as balance from (
    select debit_account as account, -amount as delta from ledger_transfer
    union all
    select credit_account, amount from ledger_transfer
  ) legs group by account
) moved where moved.account = a.id
"""
_PEOPLE = (
    """
    insert into ledger_account (kind, owner_id, currency, shard)
    select 'wallet', md5('student' || n)::uuid, 'USD', 0 from generate_series(0, {students} - 1) n
    union all
    select 'earnings', md5('tutor' || n)::uuid, 'USD', 0 from generate_series(0, {tutors} - 1) n
    union all
    select 'platform_revenue', '00000000-0000-0000-0000-000000000000', 'USD', n from generate_series(0, 31) n
    union all
    select 'platform_expense', '00000000-0000-0000-0000-000000000000', 'USD', 0
    """,
    """
    insert into users (id, email, first_name, last_name, role, tutor_status, timezone, locale, version)
    select md5(kind || n)::uuid, kind || n || '@example.com', kind, n::text, kind,
      case kind when 'tutor' then 'approved' end, 'UTC', 'en', 1
    from (values ('student', {students}), ('tutor', {tutors})) kinds (kind, count)
    cross join lateral generate_series(0, count - 1) n
    """,
    """
    insert into job (kind, key, payload, run_at, every, last_run_at)
    values ('purge_notifications', 'periodic', '{{}}', now(), interval '1 day', now())
    """,
)


async def fill(url: str, lessons: int) -> int:
    """Make so many lessons, of which the last in a hundred are still to come; return how many transfers there are."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return await _fill(connection, lessons)
    finally:
        await connection.close()


async def _fill(connection: asyncpg.Connection, lessons: int) -> int:
    words = {
        "lessons": lessons,
        "settled": lessons - lessons // 100,
        "students": min(STUDENTS, lessons),
        "tutors": min(TUTORS, lessons),
    }
    await connection.execute("set statement_timeout = 0; set synchronous_commit = off")
    await connection.execute("set session_replication_role = replica")
    for statement in _PEOPLE:
        await connection.execute(statement.format(**words))
    await connection.execute("analyze ledger_account")
    for first in range(1, lessons + 1, BATCH):
        async with connection.transaction():
            for statement in _BATCH:
                last = min(first + BATCH - 1, lessons)
                await connection.execute(statement.format(**words, first=first, last=last))
    await connection.execute(_BALANCES)
    await connection.execute("vacuum analyze")
    return int(await connection.fetchval("select count(*) from ledger_transfer"))
