"""Invariants of courses and purchases (REQUIREMENTS F.1 items 2, 4, 5, 9), in the form of `billing.checks`."""

from billing.checks import Check

CHECKS = (
    Check(
        "purchase_by_holds",
        "A purchase is not worth what its holds are.",
        "select p.id, p.amount, sum(h.amount)::bigint as held from purchase p left join hold h on h.source_id = p.id"
        " group by p.id, p.amount having sum(h.amount) is distinct from p.amount",
    ),
    Check(
        "hold_by_purchase",
        "A hold of a course has no purchase, another split than its purchase, or no place.",
        "select h.id from hold h left join purchase p on p.id = h.source_id left join course_place c on c.hold_id = h.id"
        " where h.source_kind in ('course_session', 'course_slice') and (p.id is null or c.hold_id is null"
        " or (h.student_id, h.tutor_id, h.currency, h.tutor_bps, h.attribution, h.policy_version, h.slice_no)"
        " is distinct from"
        " (p.student_id, p.tutor_id, p.currency, p.tutor_bps, p.attribution, p.policy_version, c.number))",
    ),
    Check(
        "course_seats",
        "A session has more places than its course has students.",
        "select c.course_id, c.number, count(*) as places from course_place c join course on course.id = c.course_id"
        " where c.live group by c.course_id, c.number, course.max_students having count(*) > course.max_students",
    ),
    Check(
        "place_of_purchase",
        "An active purchase has no live place, or a live place an open hold of another lesson.",
        "select p.id from purchase p where p.status = 'active'"
        " and not exists (select from course_place c where c.purchase_id = p.id and c.live)"
        " union all"
        " select h.id from hold h join course_place c on c.hold_id = h.id and c.live"
        " left join course_session s on s.course_id = c.course_id and s.number = c.number"
        " where h.status = 'held' and h.lesson_id is distinct from s.room_id",
    ),
    Check(
        "held_without_place",
        "Money is still held for a place that was given back.",
        "select h.id from hold h join course_place c on c.hold_id = h.id where h.status = 'held' and not c.live",
    ),
    Check(
        # What a room tells of its lesson may still be on its way to the session.
        "place_is_paid",
        "A live place has no money held for it, and its session has not begun.",
        "select c.hold_id, h.status, s.id as session_id from course_place c join hold h on h.id = c.hold_id"
        " left join course_session s on s.course_id = c.course_id and s.number = c.number"
        " where c.live and h.status <> 'held' and (s.id is null or s.status in ('scheduled', 'cancelled'))"
        " and not exists (select from outbox o where o.reacted_at is null and o.data->>'room_id' = s.room_id::text"
        " and o.type in ('lesson.started', 'lesson.ended', 'lesson.cancelled'))",
    ),
    Check(
        "course_life",
        "A course's status does not fit those of its sessions.",
        "select c.id, c.status from course c where"
        " (c.status = 'upcoming' and exists (select from course_session s where s.course_id = c.id"
        " and s.status in ('in_progress', 'completed')))"
        " or (c.status = 'ongoing' and not exists (select from course_session s where s.course_id = c.id"
        " and s.status in ('in_progress', 'completed')))"
        " or (c.status in ('completed', 'cancelled') and exists (select from course_session s"
        " where s.course_id = c.id and s.status in ('scheduled', 'in_progress')))"
        " or (c.status in ('completed', 'cancelled') and exists (select from purchase p where p.course_id = c.id"
        " and p.kind = 'full_course' and p.status = 'active'))",
    ),
)
