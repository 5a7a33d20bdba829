"""Each invariant of courses finds what breaks it, once the database's own guards are put to sleep."""

import pytest
from sqlalchemy import text

from server.features.courses.checks import CHECKS
from tests.server.school import School

# It changes tables, not only what is in them.
OWN_DATABASE = True

BREAKS = {
    "purchase_by_holds": "update purchase set amount = amount + 1",
    "hold_by_purchase": "delete from course_place",
    "course_seats": "update course set max_students = 1",
    "place_of_purchase": "update course_session set room_id = gen_random_uuid()",
    "held_without_place": "update course_place set live = false",
    "place_is_paid": "update hold set status = 'refunded'",
    "course_life": "update course set status = 'completed'",
}


def test_every_check_has_a_break() -> None:
    assert BREAKS.keys() == {check.name for check in CHECKS}


@pytest.mark.parametrize("name", BREAKS)
async def test_a_check_finds_what_breaks_it(school: School, name: str) -> None:
    course = await school.course()
    first, second = await school.students(2)
    await school.buy(first, course)
    await school.buy(second, course, course["sessions"][0])
    before = await school.violations()

    async with school.world.parts.sessions.begin() as session:
        # Neither triggers nor foreign keys see this transaction.
        await session.execute(text("set local session_replication_role = replica"))
        await session.execute(text(BREAKS[name]))

    assert before == []
    assert name in {violation.name for violation in await school.violations()}
