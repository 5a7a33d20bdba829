"""What happens to an account reaches its open sockets within a second."""

import asyncio
import time

import pytest

from tests.journeys.people import PASSWORD, Person, Town, story
from tests.journeys.product import Product

pytestmark = pytest.mark.journey

# PROTOCOL: within a second, and what a busy machine takes.
REACHES_WITHIN_S = 1.0 + 2.0
REASON = {"reason": "because the journey says so"}


async def closes(person: Person, deed: str, path: str, by: Person, body: object) -> int:
    """Do something to an account and return the code with which its socket ends, in time."""
    device = await person.connect()
    await by.call(deed, path, body)
    began = time.monotonic()
    code = await device.closed()
    assert time.monotonic() - began <= REACHES_WITHIN_S
    return code


async def test_block_closes_open_sockets_and_the_way_back(product: Product) -> None:
    async with story(product) as town:
        admin, person = await town.admin(), await town.register("Blocked")

        code = await closes(person, "POST", f"/api/v1/admin/users/{person.id}/block", admin, REASON)

        assert code == 4001
        assert (await person.send("GET", "/api/v1/me")).status == 401
        device = await town.open_socket()
        refusal = await device.refused("connect", {"token": person.token})
        assert refusal["code"] == 101
        assert await device.closed() == 4001
        login = await town.send("POST", "/api/v1/auth/login", {"email": person.email, "password": PASSWORD})
        assert (login.status, login.body["code"]) == (403, "account_blocked")


async def test_change_of_role_closes_open_sockets(product: Product) -> None:
    async with story(product) as town:
        admin, person = await town.admin(), await town.register("Promoted")
        body = {"role": "tutor", **REASON}

        assert await closes(person, "POST", f"/api/v1/admin/users/{person.id}/role", admin, body) == 4001
        again = await log_in(town, person)
        assert (await again.connect()).connected["user"] == {"id": person.id, "role": "tutor"}


async def test_new_password_closes_open_sockets_but_gives_new_tokens(product: Product) -> None:
    async with story(product) as town:
        person = await town.register("Careful")
        body = {"password": "Another-horse-8", "current_password": PASSWORD}
        device = await person.connect()

        changed = await person.call("PATCH", "/api/v1/me", body)

        assert await device.closed(within_s=REACHES_WITHIN_S) == 4001
        assert (await person.send("GET", "/api/v1/me")).status == 401
        person.token = changed["access_token"]
        assert (await person.call("GET", "/api/v1/me"))["id"] == person.id


async def test_blocked_person_loses_the_seat_after_the_grace_and_not_before(product: Product) -> None:
    async with story(product) as town:
        admin, (host, person) = await town.admin(), await town.mint(2)
        made = await host.call("POST", "/api/v1/talks", {"title": "Open door", "language": "en"})
        for one in (host, person):
            await one.connect()
            await one.join(made["room_id"])

        await admin.call("POST", f"/api/v1/admin/users/{person.id}/block", REASON)

        await host.saw("participant.updated", user_id=person.id, state="grace")
        assert await person.device.closed() == 4001
        assert host.device.seen("participant.left") == []


async def test_ticket_opens_one_socket_once(product: Product) -> None:
    async with story(product) as town:
        person = await town.register("Ticket")
        made = await person.call("POST", "/api/v1/auth/ws-ticket")
        devices = [await town.open_socket() for _ in range(2)]

        connected = await devices[0].ask("connect", {"ticket": made["ticket"]})

        assert connected["user"]["id"] == person.id
        assert (await devices[1].refused("connect", {"ticket": made["ticket"]}))["code"] == 101
        assert await devices[1].closed() == 4001


async def test_refresh_rotates_and_a_stolen_token_ends_the_family(product: Product) -> None:
    async with story(product) as town:
        body = {"email": "rotates@journey.example", "password": PASSWORD}
        names = {"first_name": "Ro", "last_name": "Tates", "role": "student"}
        first = (await town.send("POST", "/api/v1/auth/register", body | names)).body["refresh_token"]

        second = await town.send("POST", "/api/v1/auth/refresh", {"refresh_token": first})
        stolen = await town.send("POST", "/api/v1/auth/refresh", {"refresh_token": first})
        third = await town.send(
            "POST", "/api/v1/auth/refresh", {"refresh_token": second.body["refresh_token"]}
        )

        assert [second.status, stolen.status, third.status] == [200, 401, 401]


async def test_wrong_passwords_do_not_hold_up_the_sockets(product: Product) -> None:
    """Hashing is bounded and beside the loop: a socket answers while it goes on."""
    async with story(product) as town:
        people = [await town.register(f"Hash{number}") for number in range(3)]
        device = await people[0].connect()
        wrong = [{"email": person.email, "password": "Wrong-horse-9"} for person in people] * 3

        attempts = asyncio.gather(*(town.send("POST", "/api/v1/auth/login", body) for body in wrong))
        await device.ask("ping")
        is_first = not attempts.done()
        answers = await attempts

        assert is_first
        assert {answer.status for answer in answers} <= {401, 429}


async def log_in(town: Town, person: Person) -> Person:
    """Return the person with new tokens."""
    answer = await town.send("POST", "/api/v1/auth/login", {"email": person.email, "password": PASSWORD})
    assert answer.status == 200, answer.content
    return Person(town, user_id=person.id, token=answer.body["access_token"], email=person.email)
