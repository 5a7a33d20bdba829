"""Courses as a tutor offers them and students buy them, all over HTTP."""

from datetime import datetime, timedelta

import pytest

from rooms import receipts
from tests.journeys.people import Body, Person, Town, instant, parsed, usd

LESSON_MINUTES = 90
PRICE = 10_000


async def tutor_of(town: Town, admin: Person, name: str = "Thao") -> Person:
    """Return a tutor who registered and was approved."""
    tutor = await town.register(name, role="tutor")
    await admin.call("POST", f"/api/v1/admin/tutors/{tutor.id}/approve")
    return tutor


async def referral_code(tutor: Person) -> str:
    """Return the code by which students come to a tutor."""
    return str((await tutor.call("GET", "/api/v1/me"))["referral_code"])


async def course(tutor: Person, **more: object) -> Body:
    """Make a draft; by default of one session, sold for $100.00."""
    body = {
        "title": "Vietnamese in an evening",
        "description": "Greetings, numbers, tea.",
        "language": "vi",
        "level": "A1",
        "category": "languages",
        "duration_hours": 1.5,
        "total_sessions": 1,
        "price_type": "per_session",
        "price_per_session": usd(PRICE),
    }
    made: Body = await tutor.call("POST", "/api/v1/courses", body | more)
    return made


async def session(
    tutor: Person, made: Body, starts_at: datetime, *, number: int = 1, minutes: int = LESSON_MINUTES
) -> Body:
    """Announce a session."""
    body = {
        "number": number,
        "title": f"Evening {number}",
        "starts_at": instant(starts_at),
        "duration_minutes": minutes,
    }
    announced: Body = await tutor.call("POST", f"/api/v1/courses/{made['id']}/sessions", body)
    return announced


async def publish(tutor: Person, made: Body) -> None:
    """Put a course on sale."""
    await tutor.call("POST", f"/api/v1/courses/{made['id']}/publish")


async def credit(admin: Person, person: Person, amount: int = PRICE) -> None:
    """Give somebody money."""
    body = {"user_id": person.id, "money": usd(amount), "reason": "credit for the journey"}
    await admin.call("POST", "/api/v1/admin/wallet-adjustments", body)


async def buy(student: Person, course_id: str, session_id: str | None = None) -> Body:
    """Buy a course or one session of it, and return the purchase."""
    wanted = {"course_id": course_id} | ({"session_id": session_id} if session_id else {})
    quote = await student.call("POST", "/api/v1/purchases/quote", wanted)
    bought: Body = await student.call("POST", "/api/v1/purchases", {"quote_token": quote["quote_token"]})
    return bought


async def buy_package(tutor: Person, student: Person) -> Body:
    """Have a tutor offer some lessons, and a student buy them."""
    lessons = {"title": "Three lessons", "minutes": 60, "sessions": 3, "price": usd(900), "validity_days": 30}
    offer = await tutor.call("POST", "/api/v1/package-options", lessons)
    quote = await student.call("POST", "/api/v1/packages/quote", {"option_id": offer["id"]})
    bought: Body = await student.call(
        "POST", "/api/v1/packages", {"option_id": offer["id"], "terms": quote["terms"]}
    )
    return bought


async def hold(person: Person, bought: Body, number: int = 0) -> Body:
    """Return one hold of a purchase as its party sees it."""
    found: Body = await person.call("GET", f"/api/v1/holds/{bought['holds'][number]['id']}")
    return found


async def settled(person: Person, bought: Body, number: int = 0) -> Body:
    """Return one settled hold of a purchase as its party sees it; its receipt proves the same."""
    return await proven(person, bought["holds"][number]["id"])


async def proven(person: Person, hold_id: str) -> Body:
    """Return a settled hold as its party sees it, once its receipt has proven the same to who has nothing else."""
    seen: Body = await person.call("GET", f"/api/v1/holds/{hold_id}")
    key = (await person.call("GET", "/api/v1/receipts/key"))["key"]
    file = (await person.send("GET", f"/api/v1/holds/{hold_id}/receipt")).content
    told = [(one["cause"], parts(one)) for one in (seen, *seen["adjustments"])]
    rulings = receipts.verify(file, pinned=key).receipt.rulings
    assert told == [(one.cause, (one.to_tutor, one.to_platform, one.to_student)) for one in rulings]
    middle = len(file) // 2
    with pytest.raises(receipts.ReceiptError):
        receipts.verify(file[:middle] + bytes([file[middle] ^ 1]) + file[middle + 1 :], pinned=key)
    return seen


def parts(shown: Body) -> tuple[int, int, int]:
    """Return how money was divided: the tutor's part, the platform's, and what went back."""
    tutor, platform, refunded = (
        shown[name]["amount"] for name in ("tutor_share", "platform_share", "refunded")
    )
    return tutor, platform, refunded


def money(hold: Body) -> tuple[str, int, int, int]:
    """Return how a hold was settled: its status, and where its money went."""
    assert sum(parts(hold)) == hold["amount"]["amount"]
    return (hold["status"], *parts(hold))


class Lesson:
    """One session that is sold: who teaches, where it is held and when."""

    def __init__(self, tutor: Person, made: Body, announced: Body) -> None:
        self.tutor = tutor
        self.course_id: str = made["id"]
        self.session_id: str = announced["id"]
        self.room_id: str = announced["room_id"]
        self.starts_at = parsed(announced["starts_at"])
        self.ends_at = parsed(announced["ends_at"])

    def minute(self, number: float) -> datetime:
        """Return a moment counted from the start."""
        return self.starts_at + timedelta(minutes=number)

    async def status(self) -> str:
        """Return what the course's list says of it."""
        listed = await self.tutor.call("GET", f"/api/v1/courses/{self.course_id}/sessions")
        return str(next(one for one in listed["items"] if one["id"] == self.session_id)["status"])


async def offer(town: Town, admin: Person, *, minutes: int = LESSON_MINUTES) -> Lesson:
    """Have a new tutor offer one session of $100.00, starting tomorrow."""
    tutor = await tutor_of(town, admin)
    made = await course(tutor)
    starts_at = (await town.now() + timedelta(days=1)).replace(second=0, microsecond=0)
    announced = await session(tutor, made, starts_at, minutes=minutes)
    await publish(tutor, made)
    return Lesson(tutor, made, announced)


async def sell(lesson: Lesson, admin: Person, student: Person) -> Body:
    """Have a student with $100.00 buy it."""
    await credit(admin, student)
    return await buy(student, lesson.course_id, lesson.session_id)


async def attend(
    town: Town, lesson: Lesson, until: dict[Person, float], *, tutor_until: float = LESSON_MINUTES
) -> None:
    """Have the tutor and students in from before the start, and each leave at their minute."""
    await town.go_to(lesson.minute(-5))
    ends = {lesson.tutor: tutor_until} | until
    for person in ends:
        await person.connect()
        assert (await person.join(lesson.room_id))["seat"]["state"] == "connected"
    for minute in sorted(set(ends.values())):
        await town.go_to(lesson.minute(minute))
        for person in [one for one, end in ends.items() if end == minute]:
            await person.leave(lesson.room_id)


async def over(town: Town, lesson: Lesson) -> None:
    """Let the lesson end and the time for late evidence pass; its room is closed then."""
    await town.go_to(lesson.ends_at + timedelta(minutes=8))
    room = await lesson.tutor.call("GET", f"/api/v1/rooms/{lesson.room_id}")
    assert room["state"] == "closed"
    assert room["participants"] == []
