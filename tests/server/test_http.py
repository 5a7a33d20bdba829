"""The HTTP door: every route with every role, and what every answer has."""

import asyncio
import re
from collections.abc import AsyncIterator, MutableMapping
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from server.clock import Clock
from server.commands import TABLE
from server.config import Settings
from server.context import Command, Context, Role
from server.http.door import BODY_MAX
from tests.server.test_bad_input import url_of, valid_body
from tests.server.world import Person, World, open_world

ROUTES = [row for row in TABLE if row.path is not None]
ALLOWED: dict[str, set[Role]] = {
    "user": set(Role),
    "student": {Role.STUDENT},
    "tutor": {Role.TUTOR},
    "approved_tutor": {Role.TUTOR},
    "admin": {Role.ADMIN, Role.OWNER},
    "owner": {Role.OWNER},
}


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["trace_id"] == response.headers["X-Trace-Id"]


class TestGuards:
    """Made from the table: a new row is tested by being there."""

    async def test_without_a_token_only_public_routes_answer(self, world: World) -> None:
        for row in ROUTES:
            response = await world.client.request(str(row.method), url_of(row, {}))
            if row.guard == "public":
                assert response.json().get("code") != "permission_denied", row.op
            else:
                assert_problem(response, 401, "unauthorized")

    async def test_every_role_but_the_right_one_is_refused(self, world: World) -> None:
        people = {role: await world.person(role) for role in Role}
        for row in ROUTES:
            for role in Role:
                if row.guard == "public" or role in ALLOWED[row.guard]:
                    continue
                response = await world.client.request(
                    str(row.method), url_of(row, {}), headers=people[role].headers
                )
                assert_problem(response, 403, "permission_denied")

    async def test_an_id_of_nothing_is_not_found_for_who_may_ask(self, whole: World) -> None:
        people = {role: await whole.person(role) for role in Role}
        for row in ROUTES:
            if "{" not in str(row.path):
                continue
            role = Role.TUTOR if row.guard == "public" else max(ALLOWED[row.guard])
            response = await whole.client.request(
                str(row.method),
                url_of(row, {}),
                headers=people[role].headers | {"Idempotency-Key": "k"},
                json=None if row.method == "GET" else {"reason": "because the rules say so"},
            )
            # A body that lacks something else is named before anything is looked for.
            assert response.status_code in (400, 404), f"{row.op}: {response.text}"

    async def test_an_id_that_is_none_names_the_field(self, world: World) -> None:
        people = {role: await world.person(role) for role in Role}
        for row in ROUTES:
            names = re.findall(r"{(\w+)}", str(row.path))
            types = {field.encode_name: field.type for field in msgspec.structs.fields(row.request)}
            for name in names:
                if types[name] is not UUID:
                    continue
                url = url_of(
                    msgspec.structs.replace(row, path=str(row.path).replace(f"{{{name}}}", "no-id")), {}
                )
                role = Role.TUTOR if row.guard == "public" else max(ALLOWED[row.guard])
                response = await world.client.request(
                    str(row.method), url, headers=people[role].headers | {"Idempotency-Key": "k"}
                )
                assert_problem(response, 400, "bad_request")
                assert name in [error["field"] for error in response.json()["errors"]], row.op

    async def test_rows_that_need_a_key_say_so(self, world: World) -> None:
        people = {role: await world.person(role) for role in Role}
        rows = [row for row in ROUTES if row.idempotent]
        assert rows
        for row in rows:
            response = await world.client.request(
                str(row.method),
                url_of(row, {}),
                headers=people[max(ALLOWED[row.guard])].headers,
                json=valid_body(row),
            )
            assert_problem(response, 400, "idempotency_key_required")


class TestToken:
    @pytest.mark.parametrize(
        "header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer \xff", "bearer x"]
    )
    async def test_a_malformed_header_is_nobody(self, world: World, header: str) -> None:
        response = await world.client.get(
            "/api/v1/me", headers=[(b"Authorization", header.encode("latin-1"))]
        )

        assert_problem(response, 401, "unauthorized")

    async def test_a_token_in_the_address_is_ignored(self, world: World) -> None:
        person = await world.person(Role.STUDENT)

        response = await world.client.get(f"/api/v1/me?access_token={person.token}&token={person.token}")

        assert_problem(response, 401, "unauthorized")

    async def test_where_everybody_may_ask_a_dead_token_is_nobodys(self, world: World) -> None:
        response = await world.client.get("/api/v1/courses", headers={"Authorization": "Bearer dead"})

        assert response.status_code == 200


class Echo(msgspec.Struct, frozen=True):
    """Say back."""

    echo_id: UUID
    text: str = ""
    number: int = 0
    is_loud: bool = False


async def say_back(ctx: Context, command: Echo) -> Echo:
    if command.text == "bug":
        raise RuntimeError("a secret of the server")
    return command


async def write_down(ctx: Context, command: Echo) -> Echo:
    return msgspec.structs.replace(command, number=ctx.now.microsecond)


ECHO = (
    Command("echo.read", Echo, say_back, guard="public", method="GET", path="/echo/{echo_id}"),
    Command("echo.write", Echo, say_back, guard="public", method="POST", path="/echo/{echo_id}", status=201),
    Command("echo.once", Echo, write_down, method="POST", path="/once/{echo_id}", idempotent=True),
)


@pytest.fixture
async def echo(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], redis: Redis, clock: Clock
) -> AsyncIterator[World]:
    async with open_world(settings, sessions, redis, clock, ECHO) as world:
        yield world


@pytest.fixture
def echo_id() -> str:
    return str(uuid4())


class TestRequest:
    async def test_query_values_are_read_from_their_text(self, echo: World, echo_id: str) -> None:
        response = await echo.client.get(f"/api/v1/echo/{echo_id}?text=7&number=7&is_loud=true&unknown=1")

        assert response.json() == {"echo_id": echo_id, "text": "7", "number": 7, "is_loud": True}

    async def test_a_body_is_strict_where_a_query_is_not(self, echo: World, echo_id: str) -> None:
        response = await echo.client.post(f"/api/v1/echo/{echo_id}", json={"number": "7"})

        assert_problem(response, 400, "bad_request")
        assert response.json()["errors"] == [{"field": "number", "message": "Expected `int`, got `str`."}]

    async def test_the_paths_id_wins_over_the_bodys(self, echo: World, echo_id: str) -> None:
        response = await echo.client.post(f"/api/v1/echo/{echo_id}", json={"echo_id": str(uuid4())})

        assert response.status_code == 201
        assert response.json()["echo_id"] == echo_id

    async def test_every_wrong_field_is_named(self, echo: World) -> None:
        response = await echo.client.post("/api/v1/echo/none", json={"text": 1, "number": []})

        assert {error["field"] for error in response.json()["errors"]} >= {"echo_id"}
        response = await echo.client.post(f"/api/v1/echo/{uuid4()}", json={"text": 1, "number": []})
        assert {error["field"] for error in response.json()["errors"]} == {"text", "number"}

    async def test_a_body_has_at_most_64_kib(self, echo: World, echo_id: str) -> None:
        fits = await echo.client.post(f"/api/v1/echo/{echo_id}", json={"text": "x" * (BODY_MAX - 20)})
        too_big = await echo.client.post(f"/api/v1/echo/{echo_id}", json={"text": "x" * BODY_MAX})

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(9):
                yield b"x" * 8192

        unannounced = await echo.client.post(f"/api/v1/echo/{echo_id}", content=chunks())

        assert fits.status_code == 201
        assert_problem(too_big, 413, "payload_too_large")
        assert_problem(unannounced, 413, "payload_too_large")

    async def test_a_client_that_goes_away_in_its_body_is_no_bug(self, echo: World, echo_id: str) -> None:
        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.disconnect"}

        sent: list[MutableMapping[str, Any]] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        path = f"/api/v1/echo/{echo_id}"
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
        }
        scope |= {
            "headers": [(b"transfer-encoding", b"chunked")],
            "client": ("192.0.2.1", 1),
            "root_path": "",
        }
        await echo.app(scope, receive, send)

        assert sent[0]["status"] == 400

    @pytest.mark.parametrize(
        "query", ["number=nan", "number=1e99", "number=", "is_loud=perhaps", "number=%00", "text=%00"]
    )
    async def test_a_wrong_query_value_is_named(self, echo: World, echo_id: str, query: str) -> None:
        response = await echo.client.get(f"/api/v1/echo/{echo_id}?{query}")

        assert_problem(response, 400, "bad_request")
        assert response.json()["errors"][0]["field"] == query.split("=", maxsplit=1)[0]

    @pytest.mark.parametrize("raw", ["text=%ff", "%ff=1", "&&&==", "text=%", "text=%zz", "a" * 4000])
    async def test_no_query_breaks_the_server(self, echo: World, echo_id: str, raw: str) -> None:
        url = httpx.URL(f"http://test/api/v1/echo/{echo_id}").copy_with(query=raw.encode())

        assert (await echo.client.get(url)).status_code < 500

    @pytest.mark.parametrize("raw", ["%00", "%ff", "%2e%2e%2f", "%f0%9f%92%a9", "a" * 4000, "%2F"])
    async def test_no_path_breaks_the_server(self, echo: World, raw: str) -> None:
        response = await echo.client.get(f"http://test/api/v1/echo/{raw}")

        assert response.status_code in (400, 404)
        assert response.headers["content-type"] == "application/problem+json"


class TestIdempotency:
    async def test_the_first_answer_is_given_again_with_a_mark(self, echo: World, echo_id: str) -> None:
        person = await echo.person(Role.STUDENT)
        headers = person.headers | {"Idempotency-Key": "k"}

        first = await echo.client.post(f"/api/v1/once/{echo_id}", headers=headers, json={"text": "a"})
        again = await echo.client.post(f"/api/v1/once/{echo_id}", headers=headers, json={"text": "a"})
        other = await echo.client.post(f"/api/v1/once/{echo_id}", headers=headers, json={"text": "b"})
        elsewhere = await echo.client.post(f"/api/v1/once/{uuid4()}", headers=headers, json={"text": "a"})

        assert "Idempotent-Replay" not in first.headers
        assert again.headers["Idempotent-Replay"] == "true"
        assert again.content == first.content
        assert_problem(other, 422, "idempotency_mismatch")
        assert_problem(elsewhere, 422, "idempotency_mismatch")

    async def test_parallel_repeats_have_one_answer(self, echo: World, echo_id: str) -> None:
        person = await echo.person(Role.STUDENT)
        headers = person.headers | {"Idempotency-Key": "k"}

        responses = await asyncio.gather(
            *(echo.client.post(f"/api/v1/once/{echo_id}", headers=headers) for _ in range(20))
        )

        assert {response.status_code for response in responses} == {200}
        assert len({response.content for response in responses}) == 1
        assert sum("Idempotent-Replay" not in response.headers for response in responses) == 1

    @pytest.mark.parametrize(("key", "status"), [("x" * 255, 200), ("x" * 256, 400)])
    async def test_a_key_has_1_to_255_characters(
        self, echo: World, echo_id: str, key: str, status: int
    ) -> None:
        person = await echo.person(Role.STUDENT)
        headers = person.headers | {"Idempotency-Key": key}

        response = await echo.client.post(f"/api/v1/once/{echo_id}", headers=headers)

        assert response.status_code == status


class TestAnswer:
    async def test_a_bug_keeps_its_words_to_itself(self, echo: World, echo_id: str) -> None:
        response = await echo.client.get(f"/api/v1/echo/{echo_id}?text=bug")

        assert_problem(response, 500, "internal")
        assert "secret" not in response.text

    async def test_an_address_of_nothing(self, echo: World) -> None:
        for path in ("/", "/api/v1/nothing", "/api/v2/me", "/api/v1/echo", "/../etc/passwd"):
            assert_problem(await echo.client.get(path), 404, "not_found")

    async def test_a_method_of_nothing(self, echo: World, echo_id: str) -> None:
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "BREW"):
            response = await echo.client.request(method, f"/api/v1/echo/{echo_id}")
            assert_problem(response, 405, "method_not_allowed")
            assert "GET" in response.headers["Allow"]

    async def test_every_answer_has_the_security_headers(self, echo: World, echo_id: str) -> None:
        for path in (f"/api/v1/echo/{echo_id}", "/nothing"):
            headers = (await echo.client.get(path)).headers
            assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
            assert headers["Permissions-Policy"] == "camera=(), microphone=(), geolocation=()"
            assert re.fullmatch("[0-9a-f]{32}", headers["X-Trace-Id"])
            assert "Strict-Transport-Security" not in headers
            assert "Server" not in headers

    async def test_behind_tls_browsers_are_told_to_stay_there(
        self, settings: Settings, sessions: async_sessionmaker[AsyncSession], redis: Redis, clock: Clock
    ) -> None:
        settings = msgspec.structs.replace(settings, public_url="https://fourtalk.example")
        async with open_world(settings, sessions, redis, clock) as world:
            registered = await world.register()

        assert "max-age=31536000" in registered.headers["Strict-Transport-Security"]
        assert "; Secure" in registered.headers["Set-Cookie"]

    async def test_trace_ids_differ(self, echo: World) -> None:
        ids = {(await echo.client.get("/x")).headers["X-Trace-Id"] for _ in range(10)}

        assert len(ids) == 10


class TestCors:
    async def test_a_listed_origin_may_read_with_credentials(self, echo: World, echo_id: str) -> None:
        origin = echo.parts.settings.allowed_origins[0]

        for path in (f"/api/v1/echo/{echo_id}", "/api/v1/nothing"):
            headers = (await echo.client.get(path, headers={"Origin": origin})).headers
            assert headers["Access-Control-Allow-Origin"] == origin
            assert headers["Access-Control-Allow-Credentials"] == "true"
            assert "X-Trace-Id" in headers["Access-Control-Expose-Headers"]
            assert headers["Vary"] == "Origin"

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", "http://127.0.0.1:8000.evil.example", "*"]
    )
    async def test_another_origin_may_not(self, echo: World, echo_id: str, origin: str) -> None:
        headers = (await echo.client.get(f"/api/v1/echo/{echo_id}", headers={"Origin": origin})).headers

        assert "Access-Control-Allow-Origin" not in headers

    async def test_preflight(self, echo: World) -> None:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        listed = echo.parts.settings.allowed_origins[0]

        allowed = await echo.client.options("/api/v1/me", headers=asked | {"Origin": listed})
        refused = await echo.client.options("/api/v1/me", headers=asked | {"Origin": "https://evil.example"})

        assert allowed.status_code == 204
        assert "PATCH" in allowed.headers["Access-Control-Allow-Methods"]
        assert "Idempotency-Key" in allowed.headers["Access-Control-Allow-Headers"]
        assert allowed.headers["Access-Control-Max-Age"] == "600"
        assert "Access-Control-Allow-Methods" not in refused.headers
        assert "Access-Control-Allow-Origin" not in refused.headers


async def test_a_database_that_is_away_is_never_a_500(
    settings: Settings, redis: Redis, clock: Clock, world: World, tmp_path: object
) -> None:
    from server import db

    person = await world.person(Role.STUDENT)
    engine = db.create_engine(f"postgresql://nobody@/nothing?host={tmp_path}")
    async with open_world(settings, db.create_sessions(engine), redis, clock) as away:
        responses = [
            await away.client.get("/api/v1/me", headers=person.headers),
            await away.log_in(),
            await away.register(),
            await away.client.get("/api/v1/courses"),
        ]
    await engine.dispose()

    for response in responses:
        assert_problem(response, 503, "overloaded")
        assert response.headers["Retry-After"] == "1"


async def test_valkey_that_is_away_refuses_tickets_and_nothing_else(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], clock: Clock
) -> None:
    settings = msgspec.structs.replace(settings, rate_limits=True)
    away = Redis.from_url("unix:///nowhere.sock", socket_timeout=None)
    async with open_world(settings, sessions, away, clock) as world:
        person: Person = await world.person(Role.STUDENT)
        ticket = await world.client.post("/api/v1/auth/ws-ticket", headers=person.headers)
        me = await world.client.get("/api/v1/me", headers=person.headers)
    await away.aclose()

    assert_problem(ticket, 503, "overloaded")
    assert me.status_code == 200
