"""What follows from live rooms: what people see on their own channels, and what they are told. Each may run twice."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import select

from rooms.messages import LessonStarted, Personal
from server.features.courses.models import Course, CourseSession, Place
from server.features.notifications.notices import Notice, Page, notify
from server.reaction import Occasion, Post, Reaction, to_user


async def show_personal(_: Occasion, event: Personal) -> Sequence[Post]:
    """Show one person what concerns nobody else: an offered seat, a place in the queue, the own attendance."""
    return [to_user(event.user_id, event.ev, event.data)]


async def tell_of_start(occasion: Occasion, event: LessonStarted) -> Sequence[Post]:
    """Tell everybody with a place that the session is on."""
    query = (
        select(Place.student_id, Course.id, Course.title, CourseSession.title)
        .join(Course, Course.id == Place.course_id)
        .join(
            CourseSession,
            (CourseSession.course_id == Place.course_id) & (CourseSession.number == Place.number),
        )
        .where(CourseSession.room_id == event.room_id, Place.live)
    )
    found = await occasion.session.execute(query)
    return await notify(
        occasion,
        [
            Notice(
                student_id,
                "session_started",
                {"course": course, "session": title, "course_id": course_id, "room_id": event.room_id},
                Page.ROOM,
                event.room_id,
            )
            for student_id, course_id, course, title in found
        ],
    )


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    Personal: (show_personal,),
    LessonStarted: (tell_of_start,),
}
