"""One-to-one lessons as students ask for them and tutors give them, all over HTTP and sockets."""

from datetime import datetime, timedelta

from tests.journeys import school
from tests.journeys.people import Body, Person, Town, eventually, instant, parsed, usd

# By the tutor's rate of 60.00 an hour; of it 20 % are the platform's in the first tier.
RATE, MINUTES, PRICE = 6_000, 60, 6_000
TUTORS, OURS = 4_800, 1_200


async def tutor_of(town: Town, admin: Person, name: str = "Linh") -> Person:
    """Return an approved tutor with a rate, connected."""
    tutor = await school.tutor_of(town, admin, name)
    await tutor.call("PATCH", "/api/v1/tutor-profile", {"hourly_rate": usd(RATE)})
    await tutor.connect()
    return tutor


async def introduce(tutor: Person) -> None:
    """Have a tutor say who they are and what they teach."""
    profile = {
        "title": "Tones for beginners",
        "description": "Slowly, with many songs and much patience. " * 10,
        "subjects": ["conversation", "tones"],
        "languages": ["vi", "en"],
        "is_adult": True,
    }
    await tutor.call("PATCH", "/api/v1/tutor-profile", profile)


async def student_of(town: Town, admin: Person, name: str = "Khoa", amount: int = PRICE) -> Person:
    """Return a connected student with the price of a lesson."""
    student = await town.register(name)
    if amount:
        await school.credit(admin, student, amount)
    await student.connect()
    return student


async def tomorrow(town: Town, *, days: float = 2) -> datetime:
    """Return a round moment some days ahead."""
    return (await town.now() + timedelta(days=days)).replace(second=0, microsecond=0)


async def ask(student: Person, tutor: Person, starts_at: datetime, **more: object) -> Body:
    """Ask for a lesson; the tutor hears of it."""
    body: Body = {"tutor_id": tutor.id, "starts_at": instant(starts_at)}
    if "package_id" not in more:
        body |= {"minutes": MINUTES, "price": usd(PRICE)}
    asked: Body = await student.call("POST", "/api/v1/bookings", body | more)
    assert asked["status"] == "requested"
    return asked


async def accept(tutor: Person, asked: Body) -> Body:
    """Agree to a request over the socket."""
    agreed = await tutor.ask("booking.accept", {"booking_id": asked["id"], "version": asked["version"]})
    assert (agreed["status"], agreed["room_id"]) == ("scheduled", asked["id"])
    return agreed


async def get(person: Person, booking: Body) -> Body:
    """Return a booking as somebody sees it."""
    found: Body = await person.call("GET", f"/api/v1/bookings/{booking['id']}")
    return found


async def held(town: Town, booking: Body, *people: Person) -> Body:
    """Let the hour of a lesson pass with these people in its room, and return the booking once it has ended."""
    starts_at, ends_at = parsed(booking["starts_at"]), parsed(booking["ends_at"])
    await town.go_to(starts_at)
    for person in people:
        joined = await person.join(booking["room_id"])
        assert (joined["seat"]["state"], joined["room"]["kind"]) == ("connected", "booking")
    await town.go_to(ends_at - timedelta(minutes=1))
    await town.go_to(ends_at + timedelta(minutes=8))
    somebody = people[0] if people else None
    if somebody is None:
        return booking

    async def is_over() -> bool:
        return bool((await get(somebody, booking))["status"] == "ended")

    await eventually(is_over, "the booking has ended")
    return await get(somebody, booking)
