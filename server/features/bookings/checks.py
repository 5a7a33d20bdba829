"""Invariants of bookings and of tutors' time (REQUIREMENTS F.1 items 7, 9, 13), in the form of `billing.checks`."""

from billing.checks import Check

# What a room or a payment tells of a booking may still be on its way to it.
_TOLD = (
    "not exists (select from outbox o where o.reacted_at is null"
    " and b.id::text in (o.data->>'room_id', o.data->>'payment_id', o.data->>'lesson_id'))"
)

CHECKS = (
    Check(
        "tutor_time",
        "The time of a live lesson is not kept for its tutor, or other time is.",
        "with live as ("
        " select id, tutor_id, starts_at, ends_at from course_session where status in ('scheduled', 'in_progress')"
        " union all"
        " select id, tutor_id, starts_at, ends_at from booking where status in ('requested', 'scheduled', 'active'))"
        " select coalesce(live.id, t.source_id) as id from live full join tutor_time t on t.source_id = live.id"
        " where (live.tutor_id, live.starts_at, live.ends_at) is distinct from (t.tutor_id, t.starts_at, t.ends_at)",
    ),
    Check(
        "booking_overlap",
        "A student has two lessons at once.",
        "select a.id, b.id as other from booking a join booking b on a.student_id = b.student_id"
        " and a.id < b.id and tstzrange(a.starts_at, a.ends_at) && tstzrange(b.starts_at, b.ends_at)"
        " where a.status in ('requested', 'scheduled', 'active') and b.status in ('requested', 'scheduled', 'active')",
    ),
    Check(
        "booking_payment",
        "A booking and its payment are of different people, prices or times.",
        "select b.id from booking b left join payment p on p.id = b.id where b.package_id is null"
        " and (b.student_id, b.tutor_id, b.price, b.currency, b.policy_version, b.starts_at)"
        " is distinct from (p.student_id, p.tutor_id, p.amount, p.currency, p.policy_version, p.starts_at)",
    ),
    Check(
        "booking_is_paid",
        "The state of a booking does not fit that of its payment.",
        f"""
        select b.id, b.status, p.state from booking b join payment p on p.id = b.id
        where {_TOLD} and case b.status
          when 'requested' then p.state <> 'PENDING'
          when 'scheduled' then p.state not in ('PENDING', 'AUTHORIZED')
          when 'active' then false
          when 'expired' then p.state <> 'VOIDED'
          when 'cancelled' then p.state in ('PENDING', 'AUTHORIZED') and p.verdict is null
          else p.state in ('PENDING', 'AUTHORIZED') and p.verdict is null
            and not exists (select from settle_due d where d.lesson_id = b.id)
        end
        """,  # noqa: S608 - the words are ours
    ),
    Check(
        "booking_takes_lesson",
        "A booking that a package pays for has no lesson of it, or keeps one that it gave back.",
        f"""
        select b.id, b.status, h.status as hold from booking b left join hold h on h.lesson_id = b.id
        where b.package_id is not null and {_TOLD} and case
          when b.status in ('requested', 'scheduled') then h.status is distinct from 'held'
          when b.status in ('cancelled', 'expired') then h.status is not distinct from 'held'
          else false
        end
        """,  # noqa: S608 - the words are ours
    ),
    Check(
        "booking_room",
        "A lesson that is agreed has no room, or one of another time.",
        "select b.id, b.status from booking b left join room r on r.id = b.id"
        " where b.accepted_at is not null and (r.id is null or r.kind <> 'booking'"
        " or (r.starts_at, r.ends_at) is distinct from (b.starts_at, b.ends_at))",
    ),
)
