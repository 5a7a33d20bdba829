"""Registration, login, tokens and administration, over HTTP with the real database and Valkey."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import argon2
import httpx
import msgspec
import pytest
from sqlalchemy import func, select, update

from billing.models import Outbox
from server.audit import AuditEntry
from server.context import Principal, Role
from server.errors import TokenExpiredError, UnauthenticatedError
from server.features.accounts import lockout, passwords, registration, tokens
from server.features.accounts.models import LoginFailures, LoginSession, RefreshToken, User
from tests.server.world import PASSWORD, Person, World

REASON = {"reason": "because the rules say so"}


async def events(world: World, kind: str) -> list[dict[str, object]]:
    async with world.parts.sessions() as session:
        rows = await session.scalars(select(Outbox.data).where(Outbox.type == kind).order_by(Outbox.id))
        return list(rows)


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


class TestRegister:
    async def test_gives_an_account_and_tokens(self, world: World) -> None:
        response = await world.register(email=" Ann@Example.org ", timezone="Asia/Ho_Chi_Minh", locale="vi")

        answer = response.json()
        assert response.status_code == 201
        assert answer["user"]["email"] == "ann@example.org"
        assert answer["user"]["role"] == "student"
        assert answer["user"]["timezone"] == "Asia/Ho_Chi_Minh"
        assert answer["user"]["created_at"].endswith("Z")
        assert answer["expires_in_s"] == 1800
        me = await world.client.get(
            "/api/v1/me", headers={"Authorization": f"Bearer {answer['access_token']}"}
        )
        assert me.json() == answer["user"]
        [event] = await events(world, "user.registered")
        assert event["user_id"] == answer["user"]["id"]

    @pytest.mark.usefixtures("expensive_hashes")
    async def test_stores_an_argon2id_hash_and_no_token(self, world: World) -> None:
        answer = (await world.register()).json()

        async with world.parts.sessions() as session:
            stored = await session.scalar(select(User.password_hash))
            digest = await session.scalar(select(RefreshToken.digest))
        assert stored is not None
        assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
        assert digest is not None
        assert answer["refresh_token"].encode() not in digest

    async def test_a_tutor_begins_unapproved_and_without_code(self, world: World) -> None:
        user = (await world.register(role="tutor")).json()["user"]

        assert user["tutor_status"] == "incomplete"
        assert "referral_code" not in user

    @pytest.mark.parametrize("role", ["admin", "owner", "root", None])
    async def test_nobody_registers_as_administrator(self, world: World, role: str) -> None:
        response = await world.register(role=role)

        assert code_of(response) == (400, "bad_request")
        assert response.json()["errors"][0]["field"] == "role"

    async def test_second_account_of_an_address_is_refused_in_neutral_words(self, world: World) -> None:
        await world.register()

        response = await world.register(email="ANN@example.org")

        assert code_of(response) == (409, "registration_refused")
        assert "exists" not in response.json()["detail"]

    async def test_parallel_registrations_of_one_address_make_one_account(self, world: World) -> None:
        responses = await asyncio.gather(*(world.register() for _ in range(6)))

        assert sorted(response.status_code for response in responses) == [201] + [409] * 5

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("email", "not-an-address"),
            ("email", "a@b"),
            ("email", "x" * 250 + "@example.org"),
            ("email", "änn@example.org"),
            ("password", "Ab1-"),
            ("password", "alllower-7"),
            ("password", "ALLUPPER-7"),
            ("password", "NoDigits-x"),
            ("password", "NoSpecial77"),
            ("password", "Aa1-" + "x" * 125),
            ("first_name", "   "),
            ("first_name", "x" * 101),
            ("last_name", "tab\there"),
            ("timezone", "Mars/Olympus"),
            ("timezone", "../../etc/passwd"),
            ("timezone", "localtime"),
            ("timezone", "Factory"),
            ("timezone", "posixrules"),
            ("locale", "xx"),
            ("referral_code", "TEACHNOBODY1"),
        ],
    )
    async def test_names_the_wrong_field(self, world: World, field: str, value: str) -> None:
        response = await world.register(**{field: value})

        assert code_of(response) == (400, "bad_request")
        assert [error["field"] for error in response.json()["errors"]] == [field]

    async def test_a_referral_is_set_once_at_registration(self, world: World) -> None:
        tutor = await world.person(Role.TUTOR)
        code = (await world.client.get("/api/v1/me", headers=tutor.headers)).json()["referral_code"]

        answer = (await world.register(referral_code=code.lower())).json()

        async with world.parts.sessions() as session:
            referred_by = await session.scalar(
                select(User.referred_by).where(User.email == "ann@example.org")
            )
        assert referred_by == tutor.id
        headers = {"Authorization": f"Bearer {answer['access_token']}"}
        await world.client.patch("/api/v1/me", headers=headers, json={"referred_by": answer["user"]["id"]})
        async with world.parts.sessions() as session:
            assert (
                await session.scalar(select(User.referred_by).where(User.email == "ann@example.org"))
                == tutor.id
            )


class TestLogin:
    async def test_right_password_opens_a_session(self, world: World) -> None:
        await world.register()

        response = await world.log_in(email="ANN@example.org")

        assert response.status_code == 200
        assert response.json()["user"]["email"] == "ann@example.org"

    async def test_unknown_address_and_wrong_password_look_the_same(self, world: World) -> None:
        await world.register()

        wrong = await world.log_in(password="Wrong-horse-7")
        unknown = await world.log_in(email="nobody@example.org")

        assert code_of(wrong) == code_of(unknown) == (401, "login_failed")
        assert wrong.json()["detail"] == unknown.json()["detail"]

    async def test_account_without_password_cannot_be_opened(self, world: World) -> None:
        person = await world.person(Role.STUDENT)

        assert code_of(await world.log_in(email=person.email, password="")) == (400, "bad_request")
        assert code_of(await world.log_in(email=person.email)) == (401, "login_failed")

    @pytest.mark.parametrize("email", ["ann@example.org", "nobody@example.org"])
    async def test_five_failures_lock_an_address_known_or_not(self, world: World, email: str) -> None:
        await world.register()
        failed = [await world.log_in(email=email, password="Wrong-horse-7") for _ in range(5)]

        locked = await world.log_in(email=email)

        assert [response.status_code for response in failed] == [401] * 5
        assert code_of(locked) == (429, "too_many_requests")
        assert 800 < int(locked.headers["Retry-After"]) <= 900

    async def test_the_lock_ends_after_a_quarter_of_an_hour(self, world: World) -> None:
        await world.register()
        for _ in range(5):
            await world.log_in(password="Wrong-horse-7")
        async with world.parts.sessions.begin() as session:
            await session.execute(
                update(LoginFailures).values(last_at=LoginFailures.last_at - lockout.LOCKED_FOR)
            )

        response = await world.log_in()

        assert response.status_code == 200
        async with world.parts.sessions() as session:
            assert await session.scalar(select(func.count()).select_from(LoginFailures)) == 0

    async def test_a_right_password_among_wrong_ones_does_not_pass_the_lock(self, world: World) -> None:
        """Guesses that run at once are all checked before the first is counted; the count is read again after."""
        await world.register()

        guesses = [world.log_in(password=f"Wrong-horse-{n}") for n in range(8)]
        responses = await asyncio.gather(*guesses, world.log_in())

        assert responses[-1].status_code == 429

    async def test_a_full_queue_of_hashes_is_refused_at_once(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refused, at_work = 4, threading.Event()

        def verify(*_: str) -> bool:
            assert at_work.wait(30)
            raise argon2.exceptions.VerifyMismatchError

        monkeypatch.setattr(passwords, "_HASHER", SimpleNamespace(verify=verify))
        first = asyncio.as_completed(
            [
                world.log_in(email=f"{n}@example.org")
                for n in range(passwords.THREADS + passwords.QUEUE + refused)
            ]
        )
        answers = [await next(first) for _ in range(refused)]
        at_work.set()
        rest = [await one for one in first]

        assert {code_of(answer) for answer in answers} == {(503, "overloaded")}
        assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
        assert {answer.status_code for answer in rest} == {401}

    @pytest.mark.usefixtures("expensive_hashes")
    async def test_a_hash_that_is_given_up_makes_its_place_free(self) -> None:
        for _ in range(passwords.QUEUE * 2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await passwords.hash_password(PASSWORD)

        assert await passwords.is_password(PASSWORD, await passwords.hash_password(PASSWORD))


class TestRefresh:
    async def refresh(self, world: World, token: str) -> httpx.Response:
        world.client.cookies.clear()
        return await world.client.post("/api/v1/auth/refresh", json={"refresh_token": token})

    async def refresh_by_cookie(self, world: World, token: str) -> httpx.Response:
        world.client.cookies.clear()
        return await world.client.post(
            "/api/v1/auth/refresh", headers={"Cookie": f"fourtalk_refresh={token}"}
        )

    async def test_rotates(self, world: World) -> None:
        first = (await world.register()).json()["refresh_token"]

        second = (await self.refresh(world, first)).json()["refresh_token"]
        third = await self.refresh(world, second)

        assert first != second
        assert third.status_code == 200

    async def test_reuse_ends_the_whole_family(self, world: World) -> None:
        first = (await world.register()).json()["refresh_token"]
        second = (await self.refresh(world, first)).json()["refresh_token"]

        reused = await self.refresh(world, first)
        after = await self.refresh(world, second)

        assert code_of(reused) == code_of(after) == (401, "unauthorized")

    async def test_a_cookie_repeated_at_once_gives_the_same_successor(self, world: World) -> None:
        first = (await world.register()).json()["refresh_token"]
        second = (await self.refresh_by_cookie(world, first)).json()["refresh_token"]

        again = await self.refresh_by_cookie(world, first)

        assert again.json()["refresh_token"] == second
        assert (await self.refresh_by_cookie(world, second)).status_code == 200

    async def test_a_cookie_repeated_later_ends_the_whole_family(self, world: World) -> None:
        first = (await world.register()).json()["refresh_token"]
        second = (await self.refresh_by_cookie(world, first)).json()["refresh_token"]
        async with world.parts.sessions.begin() as session:
            earlier = RefreshToken.used_at - tokens.REPEAT_WITHIN
            await session.execute(update(RefreshToken).values(used_at=earlier))

        reused = await self.refresh_by_cookie(world, first)

        assert code_of(reused) == (401, "unauthorized")
        assert (await self.refresh(world, second)).status_code == 401

    async def test_a_cookie_from_which_somebody_went_on_ends_the_whole_family(self, world: World) -> None:
        first = (await world.register()).json()["refresh_token"]
        second = (await self.refresh_by_cookie(world, first)).json()["refresh_token"]
        third = (await self.refresh_by_cookie(world, second)).json()["refresh_token"]

        reused = await self.refresh_by_cookie(world, first)
        after = await self.refresh(world, third)

        assert code_of(reused) == code_of(after) == (401, "unauthorized")

    async def test_another_login_survives_the_end_of_a_family(self, world: World) -> None:
        first = (await world.register()).json()["refresh_token"]
        other = (await world.log_in()).json()["refresh_token"]
        await self.refresh(world, first)
        await self.refresh(world, first)

        assert (await self.refresh(world, other)).status_code == 200

    async def test_of_parallel_uses_one_wins_and_the_family_ends(self, world: World) -> None:
        first = (await world.register()).json()["refresh_token"]

        responses = await asyncio.gather(*(self.refresh(world, first) for _ in range(5)))

        won = [response for response in responses if response.status_code == 200]
        assert len(won) == 1
        assert (await self.refresh(world, won[0].json()["refresh_token"])).status_code == 401

    async def test_parallel_uses_of_a_cookie_all_get_the_one_successor(self, world: World) -> None:
        first = (await world.register()).json()["refresh_token"]

        responses = await asyncio.gather(*(self.refresh_by_cookie(world, first) for _ in range(5)))

        [second] = {response.json()["refresh_token"] for response in responses}
        assert (await self.refresh(world, second)).status_code == 200

    async def test_expired_and_unknown_tokens_do_not_hold(self, world: World) -> None:
        token = (await world.register()).json()["refresh_token"]
        async with world.parts.sessions.begin() as session:
            await session.execute(update(LoginSession).values(expires_at=world.parts.clock.wall()))

        assert (await self.refresh(world, token)).status_code == 401
        assert (await self.refresh(world, "nonsense")).status_code == 401

    async def test_an_access_token_is_no_refresh_token_nor_the_other_way(self, world: World) -> None:
        answer = (await world.register()).json()

        assert (await self.refresh(world, answer["access_token"][:256])).status_code == 401
        headers = {"Authorization": f"Bearer {answer['refresh_token']}"}
        assert (await world.client.get("/api/v1/me", headers=headers)).status_code == 401

    async def test_the_cookie_stands_in_for_the_body(self, world: World) -> None:
        registered = await world.register()

        cookie = registered.headers["Set-Cookie"]
        refreshed = await world.client.post("/api/v1/auth/refresh")

        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert refreshed.status_code == 200
        assert refreshed.headers["Set-Cookie"] != cookie

    async def test_without_body_and_cookie_nobody_is_there(self, world: World) -> None:
        assert code_of(await world.client.post("/api/v1/auth/refresh")) == (401, "unauthorized")

    async def test_logout_ends_the_session_and_the_cookie(self, world: World) -> None:
        token = (await world.register()).json()["refresh_token"]

        response = await world.client.post("/api/v1/auth/logout")

        assert response.status_code == 200
        assert "Max-Age=0" in response.headers["Set-Cookie"]
        assert (await self.refresh(world, token)).status_code == 401

    async def test_forget_sessions_removes_what_ended(self, world: World) -> None:
        await world.register()
        async with world.parts.sessions.begin() as session:
            await tokens.forget_sessions(session, before=world.parts.clock.wall() + timedelta(days=8))

        async with world.parts.sessions() as session:
            assert await session.scalar(select(func.count()).select_from(RefreshToken)) == 0


class TestAccessToken:
    async def test_expired_forged_and_foreign_tokens_are_told_apart(self, world: World) -> None:
        person = await world.person(Role.STUDENT)
        wall, secret = world.parts.clock.wall(), world.parts.settings.secret_key
        expired = tokens.access_token(
            secret, person.id, role="student", version=1, wall=wall - timedelta(hours=1)
        )
        foreign = tokens.access_token("x" * 32, person.id, role="student", version=1, wall=wall)

        with pytest.raises(TokenExpiredError):
            await world.authenticator.authenticate(expired)
        for token in (foreign, person.token[:-4] + "AAAA", "a.b.c", "", "é", "\ud800", "." * 2000):
            with pytest.raises(UnauthenticatedError):
                await world.authenticator.authenticate(token)

    async def test_token_of_a_node_whose_clock_is_ahead_holds(self, world: World) -> None:
        person = await world.person(Role.STUDENT)
        ahead = world.parts.clock.wall() + timedelta(seconds=5)
        secret = world.parts.settings.secret_key
        token = tokens.access_token(secret, person.id, role="student", version=1, wall=ahead)

        assert (await world.authenticator.authenticate(token)).user_id == person.id

    async def test_unsigned_token_does_not_hold(self, world: World) -> None:
        person = await world.person(Role.STUDENT)
        header = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"
        unsigned = f"{header}.{person.token.split('.')[1]}."

        response = await world.client.get("/api/v1/me", headers={"Authorization": f"Bearer {unsigned}"})

        assert code_of(response) == (401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"

    async def test_token_of_nobody_does_not_hold(self, world: World) -> None:
        token = tokens.access_token(
            world.parts.settings.secret_key,
            uuid4(),
            role="owner",
            version=1,
            wall=world.parts.clock.wall(),
        )

        with pytest.raises(UnauthenticatedError):
            await world.authenticator.authenticate(token)

    async def test_the_role_is_the_accounts_not_the_tokens(self, world: World) -> None:
        person = await world.person(Role.STUDENT)
        token = tokens.access_token(
            world.parts.settings.secret_key, person.id, role="owner", version=1, wall=world.parts.clock.wall()
        )

        assert (await world.authenticator.authenticate(token)).role is Role.STUDENT

    async def test_token_that_held_before_is_refused_once_it_is_over(self, world: World) -> None:
        person = await world.person(Role.STUDENT)
        now = [world.parts.clock.wall()]
        parts = world.parts
        authenticator = tokens.Authenticator(
            secret=parts.settings.secret_key, reads=parts.reads, redis=parts.redis, wall=lambda: now[0]
        )
        _, ends_at = await authenticator.log_in(person.token)

        now[0] = datetime.fromtimestamp(ends_at, UTC)

        with pytest.raises(TokenExpiredError):
            await authenticator.log_in(person.token)

    async def test_accounts_that_are_asked_for_together_stay_apart(self, world: World) -> None:
        people = [*await world.people(Role.STUDENT, 5), *await world.people(Role.TUTOR, 5)]
        async with world.parts.sessions.begin() as session:
            await session.execute(update(User).where(User.id == people[3].id).values(version=2))

        found = await asyncio.gather(
            *(world.authenticator.authenticate(one.token) for one in people), return_exceptions=True
        )

        refused = found.pop(3)
        assert isinstance(refused, UnauthenticatedError)
        assert [one.user_id for one in found if isinstance(one, Principal)] == [
            one.id for number, one in enumerate(people) if number != 3
        ]

    async def test_a_change_is_seen_within_a_second(self, world: World) -> None:
        person = await world.person(Role.STUDENT)
        await world.authenticator.authenticate(person.token)
        async with world.parts.sessions.begin() as session:
            await session.execute(update(User).where(User.id == person.id).values(version=2))

        async with asyncio.timeout(1):
            while True:
                try:
                    await world.authenticator.authenticate(person.token)
                except UnauthenticatedError:
                    break
                await asyncio.sleep(0.05)

    async def test_a_change_that_is_told_is_seen_at_once(self, world: World) -> None:
        person = await world.person(Role.STUDENT)
        await world.authenticator.authenticate(person.token)
        async with world.parts.sessions.begin() as session:
            await session.execute(update(User).where(User.id == person.id).values(version=2))

        world.authenticator.forget(person.id)

        with pytest.raises(UnauthenticatedError):
            await world.authenticator.authenticate(person.token)


class TestTicket:
    async def test_opens_one_socket(self, world: World) -> None:
        person = await world.person(Role.TUTOR)
        answer = (await world.client.post("/api/v1/auth/ws-ticket", headers=person.headers)).json()

        principal = await world.authenticator.redeem(answer["ticket"])

        assert answer["expires_in_s"] == 30
        assert (principal.user_id, principal.role) == (person.id, Role.TUTOR)
        with pytest.raises(UnauthenticatedError):
            await world.authenticator.redeem(answer["ticket"])

    async def test_lives_for_half_a_minute(self, world: World) -> None:
        person = await world.person(Role.STUDENT)
        await world.client.post("/api/v1/auth/ws-ticket", headers=person.headers)

        keys = [key async for key in world.parts.redis.scan_iter("fourtalk:ticket:*")]

        assert [0 < await world.parts.redis.ttl(key) <= 30 for key in keys] == [True] * len(keys)

    async def test_does_not_outlive_a_block(self, world: World) -> None:
        person, admin = await world.person(Role.STUDENT), await world.person(Role.ADMIN)
        answer = (await world.client.post("/api/v1/auth/ws-ticket", headers=person.headers)).json()
        world.authenticator.forget(person.id)
        await world.client.post(f"/api/v1/admin/users/{person.id}/block", headers=admin.headers, json=REASON)
        world.authenticator.forget(person.id)

        with pytest.raises(UnauthenticatedError):
            await world.authenticator.redeem(answer["ticket"])


class TestMe:
    async def test_changes_what_is_given_and_nothing_else(self, world: World) -> None:
        person = await world.person(Role.STUDENT)
        before = (await world.client.get("/api/v1/me", headers=person.headers)).json()

        changes = {"first_name": " Bea ", "timezone": "Europe/Paris", "region": "VN", "locale": "vi"}
        after = (await world.client.patch("/api/v1/me", headers=person.headers, json=changes)).json()

        assert after == before | changes | {"first_name": "Bea"}
        cleared = await world.client.patch("/api/v1/me", headers=person.headers, json={"region": None})
        assert "region" not in cleared.json()

    async def test_role_and_email_are_not_ones_own_to_change(self, world: World) -> None:
        person = await world.person(Role.STUDENT)

        response = await world.client.patch(
            "/api/v1/me",
            headers=person.headers,
            json={"role": "owner", "email": "x@example.org", "version": 0},
        )

        assert response.json()["role"] == "student"
        assert response.json()["email"] == person.email

    async def test_new_password_ends_other_sessions_and_opens_one(self, world: World) -> None:
        registered = (await world.register()).json()
        other = (await world.log_in()).json()
        world.client.cookies.clear()
        headers = {"Authorization": f"Bearer {registered['access_token']}"}

        response = await world.client.patch(
            "/api/v1/me", headers=headers, json={"password": "Better-horse-8", "current_password": PASSWORD}
        )

        answer = response.json()
        assert response.status_code == 200
        world.authenticator.forget(UUID(answer["id"]))
        assert (await world.client.get("/api/v1/me", headers=headers)).status_code == 401
        new_headers = {"Authorization": f"Bearer {answer['access_token']}"}
        assert (await world.client.get("/api/v1/me", headers=new_headers)).status_code == 200
        for token, status in [(other["refresh_token"], 401), (answer["refresh_token"], 200)]:
            world.client.cookies.clear()
            refreshed = await world.client.post("/api/v1/auth/refresh", json={"refresh_token": token})
            assert refreshed.status_code == status
        assert (await world.log_in()).status_code == 401
        assert (await world.log_in(password="Better-horse-8")).status_code == 200
        assert [event["change"] for event in await events(world, "account.changed")] == ["password"]

    async def test_new_password_needs_the_current_one(self, world: World) -> None:
        answer = (await world.register()).json()
        headers = {"Authorization": f"Bearer {answer['access_token']}"}

        for current in ({}, {"current_password": "Wrong-horse-7"}):
            response = await world.client.patch(
                "/api/v1/me", headers=headers, json={"password": "Better-horse-8"} | current
            )
            assert code_of(response) == (400, "bad_request")
            assert response.json()["errors"][0]["field"] == "current_password"
        assert (await world.log_in()).status_code == 200

    async def test_guessing_the_current_password_locks(self, world: World) -> None:
        answer = (await world.register()).json()
        headers = {"Authorization": f"Bearer {answer['access_token']}"}
        body = {"password": "Better-horse-8", "current_password": "Wrong-horse-7"}
        for _ in range(5):
            await world.client.patch("/api/v1/me", headers=headers, json=body)

        assert code_of(await world.client.patch("/api/v1/me", headers=headers, json=body)) == (
            429,
            "too_many_requests",
        )


class TestLogins:
    async def test_every_login_that_holds_is_listed(self, world: World) -> None:
        first = (await world.register()).json()
        second = (await world.log_in()).json()
        third = (await world.log_in()).json()
        await world.client.post("/api/v1/auth/logout", json={"refresh_token": second["refresh_token"]})

        headers = {"Authorization": f"Bearer {third['access_token']}"}
        listed = (await world.client.get("/api/v1/me/logins", headers=headers)).json()["items"]

        assert len(listed) == 2
        assert listed[0]["created_at"] == listed[0]["used_at"] > listed[1]["used_at"]
        assert listed[0]["address"] is not None
        assert first["refresh_token"] not in str(listed)

    async def test_logging_out_everywhere_ends_every_token(self, world: World) -> None:
        one, other = (await world.register()).json(), (await world.log_in()).json()
        headers = {"Authorization": f"Bearer {one['access_token']}"}

        ended = await world.client.post("/api/v1/me/logins/end", headers=headers)

        assert ended.status_code == 200
        assert "fourtalk_refresh=; Max-Age=0;" in ended.headers["set-cookie"]
        for tokens_ in (one, other):
            world.authenticator.forget(UUID(one["user"]["id"]))
            headers = {"Authorization": f"Bearer {tokens_['access_token']}"}
            assert code_of(await world.client.get("/api/v1/me", headers=headers)) == (401, "unauthorized")
            refreshed = await world.client.post(
                "/api/v1/auth/refresh", json={"refresh_token": tokens_["refresh_token"]}
            )
            assert code_of(refreshed) == (401, "unauthorized")
        [event] = await events(world, "account.changed")
        assert event["change"] == "logged_out"


class TestAdministration:
    async def act(self, world: World, who: Person, whom: Person, deed: str, **fields: str) -> httpx.Response:
        return await world.client.post(
            f"/api/v1/admin/users/{whom.id}/{deed}", headers=who.headers, json=REASON | fields
        )

    async def test_approval_gives_a_code_and_is_audited_and_told(self, world: World) -> None:
        user = (await world.register(role="tutor")).json()
        admin = await world.person(Role.ADMIN)
        path = f"/api/v1/admin/tutors/{user['user']['id']}/approve"

        first = await world.client.post(path, headers=admin.headers)
        again = await world.client.post(path, headers=admin.headers)

        me = await world.client.get("/api/v1/me", headers={"Authorization": f"Bearer {user['access_token']}"})
        assert me.json()["tutor_status"] == "approved"
        assert me.json()["referral_code"].startswith("TEACH")
        assert len(me.json()["referral_code"]) == 13
        assert first.json() == again.json()
        assert len(await events(world, "tutor.approved")) == 1
        async with world.parts.sessions() as session:
            [entry] = await session.scalars(select(AuditEntry))
        assert (entry.actor_id, entry.action) == (admin.id, "account.approved")
        assert (entry.before, entry.after) == ({"tutor_status": "incomplete"}, {"tutor_status": "approved"})

    async def test_only_tutors_are_approved(self, world: World) -> None:
        student, admin = await world.person(Role.STUDENT), await world.person(Role.ADMIN)

        response = await world.client.post(
            f"/api/v1/admin/tutors/{student.id}/approve", headers=admin.headers
        )

        assert code_of(response) == (409, "conflict")

    async def test_rejection_needs_a_reason(self, world: World) -> None:
        tutor, admin = await world.person(Role.TUTOR), await world.person(Role.ADMIN)
        path = f"/api/v1/admin/tutors/{tutor.id}/reject"

        short = await world.client.post(path, headers=admin.headers, json={"reason": ""})
        done = await world.client.post(path, headers=admin.headers, json={"reason": "no"})

        assert short.json()["errors"][0]["field"] == "reason"
        assert done.json()["tutor_status"] == "rejected"
        assert len(await events(world, "tutor.rejected")) == 1

    async def test_block_ends_everything_and_unblock_needs_a_new_login(self, world: World) -> None:
        answer = (await world.register()).json()
        admin = await world.person(Role.ADMIN)
        ann = Person(UUID(answer["user"]["id"]), "ann@example.org", answer["access_token"])

        blocked = await self.act(world, admin, ann, "block")

        world.authenticator.forget(ann.id)
        assert blocked.json()["blocked"] is True
        assert (await world.client.get("/api/v1/me", headers=ann.headers)).status_code == 401
        assert (await world.client.post("/api/v1/auth/refresh")).status_code == 401
        assert code_of(await world.log_in()) == (403, "account_blocked")
        assert code_of(await world.log_in(password="Wrong-horse-7")) == (401, "login_failed")
        await self.act(world, admin, ann, "unblock")
        world.authenticator.forget(ann.id)
        assert (await world.client.get("/api/v1/me", headers=ann.headers)).status_code == 401
        assert (await world.log_in()).status_code == 200
        assert [event["change"] for event in await events(world, "account.changed")] == [
            "blocked",
            "unblocked",
        ]

    async def test_a_role_change_ends_the_access_token_and_keeps_the_session(self, world: World) -> None:
        answer = (await world.register()).json()
        admin = await world.person(Role.ADMIN)
        ann = Person(UUID(answer["user"]["id"]), "ann@example.org", answer["access_token"])

        await self.act(world, admin, ann, "role", role="tutor")

        world.authenticator.forget(ann.id)
        assert (await world.client.get("/api/v1/me", headers=ann.headers)).status_code == 401
        refreshed = (await world.client.post("/api/v1/auth/refresh")).json()
        assert refreshed["user"]["role"] == "tutor"
        assert refreshed["user"]["tutor_status"] == "incomplete"

    @pytest.mark.parametrize(
        ("actor", "target", "deed", "role", "status"),
        [
            (Role.ADMIN, Role.STUDENT, "role", "tutor", 200),
            (Role.ADMIN, Role.STUDENT, "role", "admin", 403),
            (Role.ADMIN, Role.STUDENT, "role", "owner", 403),
            (Role.ADMIN, Role.ADMIN, "role", "student", 403),
            (Role.ADMIN, Role.OWNER, "role", "student", 403),
            (Role.ADMIN, Role.ADMIN, "block", "", 403),
            (Role.ADMIN, Role.OWNER, "block", "", 403),
            (Role.OWNER, Role.ADMIN, "role", "student", 200),
            (Role.OWNER, Role.STUDENT, "role", "admin", 200),
            (Role.OWNER, Role.STUDENT, "role", "owner", 200),
            (Role.OWNER, Role.OWNER, "role", "admin", 200),
            (Role.OWNER, Role.ADMIN, "block", "", 200),
        ],
    )
    async def test_who_may_change_whom(
        self, world: World, actor: Role, target: Role, deed: str, role: str, status: int
    ) -> None:
        who, whom = await world.person(actor), await world.person(target)

        response = await self.act(world, who, whom, deed, **({"role": role} if role else {}))

        assert response.status_code == status

    @pytest.mark.parametrize(("deed", "fields"), [("role", {"role": "student"}), ("block", {})])
    async def test_nobody_changes_themself(self, world: World, deed: str, fields: dict[str, str]) -> None:
        owner = await world.person(Role.OWNER)
        await world.person(Role.OWNER)

        assert (await self.act(world, owner, owner, deed, **fields)).status_code == 403

    async def test_two_owners_who_degrade_each_other_leave_one(self, world: World) -> None:
        for _ in range(5):
            first, second = await world.people(Role.OWNER, 2)
            responses = await asyncio.gather(
                self.act(world, first, second, "role", role="student"),
                self.act(world, second, first, "role", role="student"),
            )
            # The second is refused by its new role, or already by its token.
            assert sorted(response.status_code for response in responses) in ([200, 401], [200, 403])

    async def test_a_blocked_owner_counts_as_none(self, world: World) -> None:
        first, second, third = await world.people(Role.OWNER, 3)
        await self.act(world, first, second, "block")
        await self.act(world, first, third, "role", role="student")

        # The token of the degraded one is refused, and nobody is left who could degrade the first.
        world.authenticator.forget(third.id)
        assert (await self.act(world, third, first, "role", role="student")).status_code == 401

    async def test_an_unknown_user_is_not_found(self, world: World) -> None:
        owner = await world.person(Role.OWNER)
        nobody = Person(uuid4(), "", "")

        assert code_of(await self.act(world, owner, nobody, "block")) == (404, "not_found")


class TestList:
    async def ask(self, world: World, query: str) -> dict[str, Any]:
        admin = await world.person(Role.ADMIN)
        response = await world.client.get(f"/api/v1/admin/users?{query}", headers=admin.headers)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def test_pages_show_everybody_once(self, world: World) -> None:
        students = await world.people(Role.STUDENT, 7)

        seen: list[str] = []
        page: dict[str, Any] = {"next_cursor": ""}
        while page["next_cursor"] is not None:
            cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else ""
            page = await self.ask(world, f"role=student&limit=3{cursor}")
            seen += [item["id"] for item in page["items"]]

        assert len(seen) == 7
        assert set(seen) == {str(student.id) for student in students}

    async def test_finds_who_waits_for_approval_and_who_has_an_address(self, world: World) -> None:
        await world.person(Role.TUTOR)
        ann = (await world.register(role="tutor")).json()["user"]

        waiting = await self.ask(world, "tutor_status=incomplete")
        found = await self.ask(world, "email=ANN@example.org")

        assert [item["id"] for item in waiting["items"]] == [ann["id"]]
        assert [item["id"] for item in found["items"]] == [ann["id"]]


class TestMint:
    async def test_ten_thousand_accounts_take_seconds(self, world: World) -> None:
        async with asyncio.timeout(20):
            people = await world.people(Role.STUDENT, 10_000)

        assert len({person.id for person in people}) == 10_000
        principal = await world.authenticator.authenticate(people[-1].token)
        assert principal.user_id == people[-1].id

    async def test_created_owner_can_log_in(self, world: World) -> None:
        async with world.parts.sessions.begin() as session:
            await registration.create_user(
                session,
                email="Boss@Example.org",
                password=PASSWORD,
                role=Role.OWNER,
                now=world.parts.clock.now(),
            )

        assert (await world.log_in(email="boss@example.org")).json()["user"]["role"] == "owner"


def test_every_domain_event_has_a_tag() -> None:
    from server.features.accounts import messages

    for event in (
        messages.UserRegistered,
        messages.TutorApproved,
        messages.TutorRejected,
        messages.AccountChanged,
    ):
        assert isinstance(msgspec.inspect.type_info(event), msgspec.inspect.StructType)
        assert isinstance(event.__struct_config__.tag, str)


async def test_admins_find_people_by_how_name_or_address_begins(world: World) -> None:
    admin = await world.person(Role.ADMIN)
    await world.register("quynh@example.org", first_name="Quynh", last_name="Dang")
    await world.register("someone@example.org", first_name="Lan", last_name="Quyen")
    await world.register("other@example.org", first_name="Lan", last_name="Bui")

    async def found(search: str) -> set[str]:
        response = await world.client.get(
            "/api/v1/admin/users", params={"search": search}, headers=admin.headers
        )
        return {one["email"] for one in response.json()["items"]}

    assert await found("QUY") == {"quynh@example.org", "someone@example.org"}
    assert await found("%") == set()


async def test_admins_learn_whose_ids_a_list_has(world: World) -> None:
    admin, student = await world.person(Role.ADMIN), await world.person(Role.STUDENT)
    body = {"user_ids": [str(student.id), str(uuid4())]}

    named = await world.client.post("/api/v1/admin/users/names", headers=admin.headers, json=body)
    refused = await world.client.post("/api/v1/admin/users/names", headers=student.headers, json=body)

    assert [(one["id"], one["email"]) for one in named.json()["items"]] == [(str(student.id), student.email)]
    assert refused.status_code == 403
