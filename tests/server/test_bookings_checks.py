"""Each invariant of bookings finds what breaks it, once the database's own guards are put to sleep."""

from sqlalchemy import text

from billing import checks as money
from server.features.bookings.checks import CHECKS
from tests.server.desk import DAY, HOUR, NOON, Desk
from tests.server.stage import Stage

# It changes tables, not only what is in them.
OWN_DATABASE = True

OVER = "outcome = 'not_held', ended_at = now()"
BREAKS = {
    "tutor_time": "delete from tutor_time",
    "booking_overlap": "update booking set starts_at = '2030-01-08T12:00Z', ends_at = '2030-01-08T13:00Z'",
    "booking_payment": "delete from payment",
    "booking_is_paid": "update booking set status = 'requested', accepted_at = null where accepted_at is not null",
    "booking_takes_lesson": "update hold set lesson_id = null where source_kind = 'package_slice'",
    "booking_room": "delete from room",
}
# What else must not pass unseen.
MORE = (
    (
        "tutor_time",
        "insert into tutor_time select gen_random_uuid(), tutor_id, now(), now() from tutor_time limit 1",
    ),
    ("tutor_time", "update tutor_time set ends_at = ends_at + interval '1 second'"),
    ("booking_payment", "update booking set price = price + 1 where price > 0"),
    ("booking_payment", "update payment set starts_at = starts_at - interval '1 second'"),
    ("booking_is_paid", f"update booking set status = 'expired', {OVER}, accepted_at = null"),
    ("booking_is_paid", f"update booking set status = 'cancelled', cancelled_by = 'tutor', {OVER}"),
    ("booking_is_paid", f"update booking set status = 'ended', {OVER} where accepted_at is not null"),
    ("booking_takes_lesson", f"update booking set status = 'cancelled', cancelled_by = 'tutor', {OVER}"),
    ("booking_takes_lesson", f"update booking set status = 'expired', {OVER}, accepted_at = null"),
    ("booking_room", "update room set starts_at = starts_at - interval '1 minute'"),
    ("booking_room", "update room set kind = 'course_session'"),
)


def test_every_check_has_a_break() -> None:
    assert BREAKS.keys() == {check.name for check in CHECKS}


async def found(stage: Stage) -> set[str]:
    async with stage.parts.sessions() as session:
        return {violation.name for violation in await money.run(session, CHECKS)}


async def test_a_check_finds_what_breaks_it(stage: Stage) -> None:
    desk = await Desk.open(stage)
    package = await desk.package()
    await desk.ask(NOON + DAY)
    await desk.agreed(NOON + 2 * DAY)
    await desk.agreed(NOON + 3 * DAY, package_id=package["id"])
    await desk.ask(NOON + 3 * DAY + HOUR, package_id=package["id"])
    await desk.run()
    assert await found(stage) == set()

    for name, statement in (*BREAKS.items(), *MORE):
        async with stage.parts.sessions() as session:
            # Neither triggers nor other constraints see this transaction, and nobody keeps what it did.
            await session.execute(text("set local session_replication_role = replica"))
            await session.execute(text("alter table booking drop constraint ex_booking_student_id"))
            done = await session.execute(text(statement))
            assert getattr(done, "rowcount", 0) > 0, statement
            violations = {violation.name for violation in await money.run(session, CHECKS)}
            await session.rollback()
        assert name in violations, statement


async def test_a_check_waits_for_what_is_still_to_be_told(stage: Stage) -> None:
    desk = await Desk.open(stage)
    agreed = await desk.agreed()
    await desk.run()

    await desk.do("hold.refund", desk.admin, hold_id=agreed["hold_id"], reason="After a call with them.")
    before = await found(stage)
    await desk.run()

    assert (before, await found(stage)) == (set(), set())
