"""The two stories of the demo. Each plays over real sockets, tells what it does, and returns what it claims."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from server.demo.people import Person, RefusedError, Town
from server.integrations.media_fake import MediaFake

ROOM_FULL = 120
PRICE = 10_000
LESSON_MINUTES = 90

Tell = Callable[[str], None]


class Claim(msgspec.Struct, frozen=True):
    """Something the product says of itself, what was seen, and whether that is it."""

    claim: str
    expected: Any
    seen: Any

    @property
    def held(self) -> bool:
        """Return whether it was so."""
        return bool(self.expected == self.seen)


class Seat(msgspec.Struct, frozen=True):
    """One line of the talk's table."""

    person: str
    came: str
    seat: str


class Share(msgspec.Struct, frozen=True):
    """One line of the lesson's table; money in minor units."""

    student: str
    came_by: str
    attended_s: int
    percent: int
    status: str
    tutor: int
    platform: int
    refunded: int


class Stage:
    """What both stories need: the people, the media server, and the way to let time pass."""

    def __init__(self, town: Town, media: MediaFake, tasks: asyncio.TaskGroup, tell: Tell) -> None:
        self.town = town
        self.media = media
        self.tasks = tasks
        self.tell = tell

    async def enter(self, person: Person, room_id: str, **options: Any) -> dict[str, Any]:
        """Join the room over the socket and let the person's media come up, as a browser does."""
        joined = await person.ask("room.join", {"room_id": room_id, **options})
        if "seat" in joined:
            snapshot = joined["room"]
            self.media.join(f"ft_{room_id}_{snapshot['generation']}", person.user_id, person.name)
            await self.media.settled()
        return joined

    def drop(self, person: Person, room_id: str, generation: int = 1) -> None:
        """Let the person's media go."""
        room = f"ft_{room_id}_{generation}"
        if person.user_id in self.media.people(room):
            self.media.leave(room, person.user_id)


async def talk(stage: Stage, people: list[Person]) -> tuple[list[Seat], list[Claim]]:
    """Five people want one talk: four get in, the fifth waits, gets the seat of who leaves; empty, it closes."""
    tell = stage.tell
    for person in people:
        await person.connect(stage.tasks)
    host, leaver, fifth = people[0], people[1], people[4]
    made = await host.call(
        "POST", "/api/v1/talks", {"title": "Coffee and verbs", "language": "en", "level": "B1"}
    )
    room_id = made["room_id"]
    tell(f"{host.name} made a talk; its link is {made['share_link']}")
    seats = []
    for person in people[:4]:
        joined = await stage.enter(person, room_id)
        seats.append(Seat(person.name, "joined by the link", f"seat {joined['seat']['no']}"))
        tell(f"{person.name} has seat {joined['seat']['no']}")
    try:
        await fifth.ask("room.join", {"room_id": room_id})
        refusal: int | str = "let in"
    except RefusedError as error:
        refusal = error.code
    queued = await fifth.ask("room.join", {"room_id": room_id, "queue": True})
    tell(f"{fifth.name} is told that it is full, and waits at position {queued['queue']['position']}")
    await leaver.ask("room.leave", {"room_id": room_id})
    stage.drop(leaver, room_id)
    tell(f"{leaver.name} leaves")
    await fifth.saw("seat.offered")
    joined = await stage.enter(fifth, room_id)
    seats.append(Seat(fifth.name, "waited in the queue", f"seat {joined['seat']['no']}"))
    tell(f"{fifth.name} was offered the seat and took it: seat {joined['seat']['no']}")
    most = max(
        sum(1 for _ in snapshot["participants"])
        for snapshot in [joined["room"], await host.call("GET", f"/api/v1/rooms/{room_id}")]
    )
    for person in (people[0], people[2], people[3], fifth):
        await person.ask("room.leave", {"room_id": room_id})
        stage.drop(person, room_id)
    await stage.media.settled()
    await stage.town.advance(25)
    closed = await host.call("GET", f"/api/v1/rooms/{room_id}")
    tell("all have left, and the talk closed by itself")
    return seats, [
        Claim("a fifth person is refused with room_full", ROOM_FULL, refusal),
        Claim("the fifth waits at position 1 of the queue", 1, queued["queue"]["position"]),
        Claim("the one who waited got the free seat", 2, joined["seat"]["no"]),
        Claim("never more than four people were seated", 4, most),
        Claim("the empty talk closed by itself", "closed", closed["state"]),
    ]


async def course(
    stage: Stage, admin: Person, approve: Callable[[Person], Any]
) -> tuple[list[Share], list[Claim]]:
    """A course session of 90 minutes: two students attend 80, a third 15; the money follows by itself."""
    tell = stage.tell
    tutor = await stage.town.register("Thao", role="tutor")
    await approve(tutor)
    code = (await tutor.call("GET", "/api/v1/me"))["referral_code"]
    platform = await stage.town.register("Pham")
    referred = await stage.town.register("Rosa", referral_code=code)
    missed = await stage.town.register("Minh")
    students = [(platform, "platform"), (referred, "referral"), (missed, "platform")]
    room_id, session_id, course_id, starts_at = await _publish(stage, tutor)
    tell(f"{tutor.name} published a course; {referred.name} came by the tutor's own link")
    holds = {}
    for student, _ in students:
        await admin.call(
            "POST",
            "/api/v1/admin/wallet-adjustments",
            {"user_id": student.user_id, "money": _usd(PRICE), "reason": "credit for the demo"},
        )
        quote = await student.call(
            "POST", "/api/v1/purchases/quote", {"course_id": course_id, "session_id": session_id}
        )
        bought = await student.call("POST", "/api/v1/purchases", {"quote_token": quote["quote_token"]})
        holds[student.user_id] = bought["holds"][0]
        tell(
            f"{student.name} bought the session: $100.00 set aside in hold {str(_id(bought['holds'][0]))[:8]}"
        )
    await stage.town.travel(starts_at - timedelta(minutes=1))
    for person in (tutor, platform, referred, missed):
        await person.connect(stage.tasks)
        await stage.enter(person, room_id)
    tell("the doors are open and all four are in; webhooks arrive signed, some twice, some late")
    await stage.town.travel(starts_at + timedelta(minutes=15))
    stage.drop(missed, room_id)
    await stage.media.settled()
    tell(f"after 15 minutes {missed.name} leaves")
    await stage.town.travel(starts_at + timedelta(minutes=80))
    for person in (platform, referred):
        stage.drop(person, room_id)
    await stage.media.settled()
    tell(f"after 80 minutes {platform.name} and {referred.name} leave")
    await stage.town.travel(starts_at + timedelta(minutes=90))
    stage.drop(tutor, room_id)
    await stage.media.settled()
    await stage.town.travel(starts_at + timedelta(minutes=100))
    tell("the lesson is over, its room actor finished, the holds are settled")
    shares = [await _share(student, came, _id(holds[student.user_id])) for student, came in students]
    return shares, _course_claims(shares)


async def _publish(stage: Stage, tutor: Person) -> tuple[str, str, str, datetime]:
    """Make and publish a course with one session tomorrow."""
    made = await tutor.call(
        "POST",
        "/api/v1/courses",
        {
            "title": "Vietnamese in an evening",
            "description": "Greetings, numbers, tea.",
            "language": "vi",
            "level": "A1",
            "category": "languages",
            "duration_hours": 2,
            "total_sessions": 1,
            "price_type": "per_session",
            "price_per_session": _usd(PRICE),
        },
    )
    starts_at = (await stage.town.advance(0) + timedelta(days=1)).replace(minute=0, second=0, microsecond=0)
    session = await tutor.call(
        "POST",
        f"/api/v1/courses/{made['id']}/sessions",
        {
            "number": 1,
            "title": "Xin chào",
            "starts_at": starts_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration_minutes": LESSON_MINUTES,
        },
    )
    await tutor.call("POST", f"/api/v1/courses/{made['id']}/publish")
    return session["room_id"], session["id"], made["id"], starts_at


async def _share(student: Person, came_by: str, hold_id: str) -> Share:
    hold = await student.call("GET", f"/api/v1/holds/{hold_id}")
    return Share(
        student=student.name,
        came_by=came_by,
        attended_s=hold["attendance"]["attended_s"],
        percent=hold["attendance"]["percent"],
        status=hold["status"],
        tutor=hold["tutor_share"]["amount"],
        platform=hold["platform_share"]["amount"],
        refunded=hold["refunded"]["amount"],
    )


def _course_claims(shares: list[Share]) -> list[Claim]:
    by_platform, by_referral, missed = shares
    return [
        Claim("80 of 90 minutes are shown as 88 %", [88, 88], [by_platform.percent, by_referral.percent]),
        Claim("15 of 90 minutes are shown as 16 %", 16, missed.percent),
        Claim(
            "a platform student's money is split 30/70",
            [3000, 7000],
            [by_platform.tutor, by_platform.platform],
        ),
        Claim(
            "a referred student's money is split 70/30",
            [7000, 3000],
            [by_referral.tutor, by_referral.platform],
        ),
        Claim(
            "who missed the lesson gets everything back",
            ["refunded", PRICE],
            [missed.status, missed.refunded],
        ),
    ]


def _usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


def _id(reference: Any) -> str:
    """Return the id of a hold, named by itself or as an object."""
    return str(reference["id"] if isinstance(reference, dict) else reference)
