"""Every invariant that the database is asked about: at the end of tests, hourly, by `fourtalk check` (DESIGN §5).

`TABLE` has what the database answers by itself: money, live rooms, courses, and here what joins them. Reactions
come after the commit of what they react to, so whatever has an event on its way is not yet held against them.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import checks as money, seals
from billing.checks import Check, Proof, Violation
from rooms import checks as rooms
from server.features.bookings import checks as bookings
from server.features.courses import checks as courses
from server.jobs import NOTIFICATIONS_KEPT

# What people were told is kept for a while; nothing is missed that the last purge may have taken.
_KEPT_SINCE = f"""
    (select coalesce((select last_run_at from job where kind = 'purge_notifications'), '-infinity')
      - interval '{NOTIFICATIONS_KEPT.days} days')
"""  # noqa: S608 - the words are ours
# One asks on each; more than this only wait for the same processors, and a server lends them from its pool.
CONNECTIONS = 4
# Of the transactions of a check alone.
SETTINGS = {
    # A whole-table question may take longer than a command's 5 s (server.db); longer than this it is a fault by itself.
    "statement_timeout": "60s",
    # Whoever has no more to ask waits for the others.
    "idle_in_transaction_session_timeout": "0",
    # Sums by account and by hold in memory instead of in files: a million of them fit.
    "work_mem": "256MB",
    # Compiling a plan costs more than these questions do.
    "jit": "off",
    # They are about everything, so whatever is joined is read once and hashed. PostgreSQL thinks otherwise where it
    # takes a join for selective, and a million looks into an index, or sorting, cost several times as much (measured).
    "enable_nestloop": "off",
    "enable_memoize": "off",
    "enable_sort": "off",
    # Several questions at a time keep the processors busy already.
    "max_parallel_workers_per_gather": "0",
}
# What takes longest begins first, so that nothing is waited for at the end.
LONGEST = (
    "rooms_retrace",
    "facts_by_intervals",
    "hold_moved",
    "settled_by_facts",
    "account_drift",
    "seals_match",
    "settlement_is_told",
    "hold_placed",
    "hold_status",
    "hold_adds_up",
)

CHECKS = (
    Check(
        "channel_head",
        "The newest event of a channel is not the one that its head names.",
        """
        select p.channel, max(p.off) as newest, h.off as head from publication p
        left join channel_head h on h.channel = p.channel
        group by p.channel, h.off having max(p.off) is distinct from h.off
        """,
    ),
    Check(
        # Whatever is near the age at which events are deleted may be half gone (jobs.KEPT: a day).
        "channel_is_whole",
        "The events of a channel have a gap.",
        """
        select channel, before, off from (
          select channel, off, lag(off) over (partition by channel order by off) as before from publication
          where ts > (extract(epoch from now() - interval '23 hours') * 1000)::bigint
        ) p
        where off <> before + 1
        """,
    ),
    Check(
        "parked_event",
        "The reactions to an event failed too often; somebody must look.",
        """
        select f.outbox_id, o.type, f.tries, f.error from relay_failure f left join outbox o on o.id = f.outbox_id
        where f.retry_at is null
        """,
    ),
    Check(
        "job_given_up",
        "Work failed too often; somebody must look.",
        "select kind, key, tries, error, dead_at from job where dead_at is not null",
    ),
    Check(
        "key_has_answer",
        "A key was taken and its answer is missing.",
        "select user_id, key, recorded_at from idempotency where status is null or body is null",
    ),
    Check(
        "admin_is_audited",
        "An administrator moved money, and the audit log does not know why.",
        """
        select j.id, j.kind, j.actor, j.reason, j.at from ledger_journal j
        where j.actor like 'admin:%' and not exists (
          select from audit_log a where a.actor_id::text = substr(j.actor, 7) and a.reason = j.reason
        )
        """,
    ),
    Check(
        "talk_follows_room",
        "A talk is listed although its room is closed, or the other way round, or somebody is still in it.",
        """
        select t.id, t.closed_at, r.state, s.user_id as still_in from talk t
        join room r on r.id = t.room_id
        left join talk_stay s on s.talk_id = t.id and s.left_at is null and r.state = 'closed'
        where ((t.closed_at is null) = (r.state = 'closed') or s.talk_id is not null)
          and not exists (
            select from outbox o where o.reacted_at is null and o.data->>'room_id' = r.id::text
              and o.type in ('room.updated', 'room.closed')
          )
        """,
    ),
    Check(
        "session_follows_room",
        "A session has another time than its room, or another status than follows from it.",
        """
        select s.id, s.status, r.state, f.cancelled, s.starts_at, r.starts_at as room_starts_at
        from course_session s
        join room r on r.id = s.room_id
        left join lesson_facts f on f.lesson_id = r.id and f.version = 1
        where ((s.starts_at, s.ends_at) <> (r.starts_at, r.ends_at)
            or r.state <> all (case s.status when 'scheduled' then array['open']
                                             when 'in_progress' then array['live', 'closing']
                                             else array['closed'] end)
            or (s.status = 'cancelled') <> coalesce(f.cancelled, false))
          and not exists (
            select from outbox o where o.reacted_at is null and o.data->>'room_id' = r.id::text
              and o.type like 'lesson.%'
          )
        """,
    ),
    Check(
        "purchase_follows_hold",
        "The purchase of one session does not say what became of its money.",
        """
        select p.id, p.status, h.status as hold, s.cause from purchase p
        join hold h on h.source_id = p.id
        left join hold_settlement s on s.hold_id = h.id and s.number = 0
        where p.kind = 'session'
          and p.status <> case when h.status = 'held' then 'active' when h.status = 'released' then 'attended'
                               when s.cause in ('attendance', 'tutor_absent') then 'missed' else 'cancelled' end
          and not exists (
            select from outbox o where o.reacted_at is null and o.data->>'source_id' = p.id::text
          )
        """,
    ),
    Check(
        "purchase_is_told",
        "A purchase was not told to its student or its tutor.",
        f"""
        select p.id, party.id as party from purchase p
        cross join lateral (values
          (p.student_id, 'purchase_confirmed'),
          (p.tutor_id, case p.kind when 'session' then 'new_session_purchase' else 'new_course_enrollment' end)
        ) party (id, type)
        where p.created_at >= {_KEPT_SINCE}
          and not exists (
            select from notification n where n.data->>'purchase_id' = p.id::text and n.user_id = party.id
              and n.type = party.type
          )
          and not exists (
            select from outbox o where o.reacted_at is null and o.data->>'source_id' = p.id::text
              and o.type = 'hold.placed'
          )
        """,  # noqa: S608 - the words are ours
    ),
    Check(
        "settlement_is_told",
        "What became of a hold was not told to whom it concerns.",
        f"""
        select s.hold_id, s.number, party.id as party, party.type from hold_settlement s
        join hold h on h.id = s.hold_id
        cross join lateral (
          select h.tutor_id as id, 'payment_received' as type where s.number = 0 and s.to_student < s.amount
          union all
          select h.student_id, 'refund_processed' where s.number = 0 and s.to_student = s.amount
          union all
          select h.student_id, 'hold_released' where s.cause = 'admin' and s.to_student < s.amount
          union all
          select h.tutor_id, 'hold_given_back' where s.cause = 'admin' and s.to_student = s.amount
            and (h.source_kind <> 'package_slice' or h.lesson_id is not null)
          union all
          select unnest(array[h.tutor_id, h.student_id]), 'settlement_adjusted' where s.cause = 'adjustment'
          union all
          select h.tutor_id, 'share_given_back' where s.cause in ('refund', 'dispute', 'card_dispute')
          union all
          select h.student_id, 'refund_processed' where s.cause in ('refund', 'dispute')
        ) party
        where s.settled_at >= {_KEPT_SINCE}
          and not exists (
            select from notification n where n.data->>'hold_id' = h.id::text and n.user_id = party.id
              and n.type = party.type and n.created_at = s.settled_at
          )
          and not exists (
            select from outbox o where o.reacted_at is null and o.data->>'hold_id' = h.id::text
              and o.type in ('hold.released', 'hold.refunded', 'hold.adjusted', 'hold.given_back')
          )
        """,  # noqa: S608 - the words are ours
    ),
)

TABLE = (*money.CHECKS, *rooms.CHECKS, *courses.CHECKS, *bookings.CHECKS, *CHECKS)


Ask = Callable[[AsyncSession], Awaitable[Sequence[Violation]]]
"""One part of the work; the session sees the moment that is asked about."""


async def run(session: AsyncSession, *, every_room: bool = False) -> Sequence[Violation]:
    """Return every invariant that does not hold; an empty list is the good answer."""
    return (await prove(session, every_room=every_room)).violations


async def prove(session: AsyncSession, *, every_room: bool = False, deep: bool = False) -> Proof:
    """Ask everything of one moment, several questions at a time.

    Args:
        session: In no transaction yet. Its engine lends some more connections, which see what this one sees.
        every_room: Retrace all rooms there ever were, instead of those that are open or were lately.
        deep: Compute every seal anew, instead of the newest.
    """
    began = time.perf_counter()
    await _look_only(session)
    snapshot = await session.scalar(text("select pg_export_snapshot()"))
    parts = _parts(every_room=every_room, deep=deep)
    found: dict[str, Sequence[Violation]] = {}
    took: dict[str, int] = {}
    waiting = deque(sorted(parts, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST)))

    async def ask(asker: AsyncSession) -> None:
        while waiting:
            name = waiting.popleft()
            start = time.perf_counter()
            found[name] = await parts[name](asker)
            took[name] = round((time.perf_counter() - start) * 1000)

    async def ask_beside() -> None:
        async with AsyncSession(session.bind) as beside:
            await _look_only(beside)
            await beside.execute(text(f"set transaction snapshot '{snapshot}'"))
            await ask(beside)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS - 1):
                tasks.create_task(ask_beside())
            await ask(session)
            sums = await money.ledger_sums(session)
            transfers = await session.scalar(text("select count(*) from ledger_transfer"))
            unsealed_s = await seals.unsealed_s(session)
    except ExceptionGroup as failed:
        # What one meets (a database that is away) is what they all met.
        raise failed.exceptions[0] from failed
    violations = [violation for name in parts for violation in found[name]]
    return Proof(
        ok=not violations,
        ledger_sum=sums,
        violations=violations,
        transfers=transfers or 0,
        unsealed_s=unsealed_s,
        took_ms=round((time.perf_counter() - began) * 1000),
        parts_ms=dict(sorted(took.items(), key=lambda one: one[1], reverse=True)),
    )


async def _look_only(session: AsyncSession) -> None:
    """Begin a transaction that writes nothing and sees one moment, with room for questions about whole tables."""
    await session.execute(text("set transaction isolation level repeatable read, read only"))
    for setting, value in SETTINGS.items():
        await session.execute(text(f"set local {setting} = '{value}'"))


def _parts(*, every_room: bool, deep: bool) -> dict[str, Ask]:
    """Return every part of the work by name."""

    async def retrace(session: AsyncSession) -> Sequence[Violation]:
        return await rooms.retrace(session, every_room=every_room)

    async def recheck(session: AsyncSession) -> Sequence[Violation]:
        return await seals.recheck(session, deep=deep)

    def asked(check: Check) -> Ask:
        async def ask(session: AsyncSession) -> Sequence[Violation]:
            return await money.run(session, (check,))

        return ask

    return {check.name: asked(check) for check in TABLE} | {"rooms_retrace": retrace, "seals_match": recheck}
