"""Hostile input for every row of the command table: a clear refusal, never a 5xx. Made from the table and its types."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from msgspec import inspect

from server.commands import TABLE
from server.context import Command, Role
from server.http.door import BODY_MAX, PREFIX
from tests.server.world import World

ROUTES = [row for row in TABLE if row.path is not None]
WITH_BODY = [row for row in ROUTES if row.method in ("POST", "PATCH")]
CODE = re.compile(r"[a-z][a-z0-9_]*")

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    10**18,
    10**30,
    -(10**30),
    1e300,
    "",
    " ",
    "x",
    "x" * 60_000,
    "nul\0",
    "é💩\u202e",
    "' or 1=1 --",
    "2026-13-45T99:99:99Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "2026-12-01T10:00:00",
    "2026-12-01T10:00:00+23:59",
    "00000000-0000-0000-0000-000000000000",
    [],
    [[]] * 100,
    {},
    {"amount": -1, "currency": "US\0"},
    {"amount": 2**63, "currency": "USD"},
)

DEEP = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
BODIES: dict[str, bytes] = {
    "not_json": b"hello",
    "cut_short": b'{"a":',
    "number": b"7",
    "null": b"null",
    "list": b"[{}]",
    "text": b'"text"',
    "two_values": b"{}{}",
    "not_utf8": b'{"a":"\xff\xfe"}',
    "utf16": '{"a":1}'.encode("utf-16"),
    "lone_surrogate": b'{"a":"\\ud800"}',
    "nan": b'{"a":NaN}',
    "infinite": b'{"a":1e999}',
    "giant_number": b'{"a":' + b"9" * 10_000 + b"}",
    "deep_object": DEEP,
    "deep_list": b"[" * 30_000 + b"]" * 30_000,
    "form": b"a=1&b=2",
    "too_big": b'{"a":"' + b"x" * BODY_MAX + b'"}',
    "nul_bytes": b"\0" * 100,
}
# The short form asks each field with every third of them, beginning elsewhere: all of them, but not of everybody.
EVERY = 3
TEXTS = (
    "",
    "x",
    "-1",
    "1e5",
    "9" * 30,
    "nan",
    "true",
    "%00",
    "%ff",
    "%F0%9F%92%A9",
    "x" * 5_000,
    "[]",
    "{}",
    "null",
)


def role_for(row: Command) -> Role:
    match row.guard:
        case "admin" | "owner":
            return Role.OWNER
        case "tutor" | "approved_tutor":
            return Role.TUTOR
        case "public" | "user" | "student":
            return Role.STUDENT


# For every pattern that a required field has, a text that fits.
FITTING = ("US", "pm_1", "0001234567", "1-1", "Correct-horse-7")


def valid(kind: inspect.Type) -> Any:  # noqa: PLR0912 - one case a type
    """A JSON value that the type takes, so that one bad field is the only bad thing of a request."""
    match kind:
        case inspect.UUIDType():
            return str(uuid4())
        case inspect.DateTimeType():
            return (datetime.now(UTC) + timedelta(days=3)).isoformat()
        case inspect.StrType(pattern=str(pattern), min_length=least):
            return next(text for text in FITTING if re.search(pattern, text) and len(text) >= (least or 0))
        case inspect.StrType(min_length=least, max_length=most):
            return "Correct-horse-7 battery staple"[: most or 30].ljust(least or 0, "x")
        case inspect.IntType(ge=least, gt=above):
            return least if least is not None else (above or 0) + 1
        case inspect.FloatType(ge=least, gt=above):
            return least if least is not None else (above or 0) + 0.5
        case inspect.BoolType():
            return False
        case inspect.EnumType(cls=members):
            return next(iter(members)).value
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.StructType(fields=fields):
            return {field.encode_name: valid(field.type) for field in fields if field.required}
        case inspect.UnionType(types=types):
            return valid(next(one for one in types if not isinstance(one, inspect.NoneType)))
        case inspect.Metadata(type=inner):
            return valid(inner)
        case inspect.ListType() | inspect.VarTupleType():
            return []
        case inspect.DictType() | inspect.AnyType():
            return {}
        case _:
            raise AssertionError(f"no value for {kind}")


def fields_of(row: Command) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(row.request)
    assert isinstance(info, inspect.StructType)
    return info.fields


def valid_body(row: Command) -> dict[str, Any]:
    return {field.encode_name: valid(field.type) for field in fields_of(row) if field.required}


def url_of(row: Command, body: dict[str, Any]) -> str:
    """Return the row's address; what the body does not name is an id that nobody has."""
    types = {field.encode_name: field.type for field in fields_of(row)}
    return PREFIX + re.sub(
        r"{(\w+)}", lambda found: str(body.get(found[1], valid(types[found[1]]))), str(row.path)
    )


def is_wrong(row: Command, name: str, value: Any) -> bool:
    """Whether the field's own type refuses the value."""
    field = next(one for one in msgspec.structs.fields(row.request) if one.encode_name == name)
    try:
        msgspec.convert(value, field.type)
    except msgspec.ValidationError:
        return True
    return False


def assert_clear(response: httpx.Response, what: str) -> None:
    """No 5xx, and every refusal in the one shape with a stable code."""
    assert response.status_code < 500, f"{what}: {response.text}"
    if response.status_code >= 400:
        problem = response.json()
        assert response.headers["content-type"] == "application/problem+json", what
        assert problem["status"] == response.status_code
        assert CODE.fullmatch(problem["code"]), what
        assert problem["detail"]


class Client:
    """Somebody with the right role, who sends a new key each time."""

    def __init__(self, world: World, headers: dict[str, str]) -> None:
        self._world = world
        self._headers = headers

    async def send(self, row: Command, url: str, **content: Any) -> httpx.Response:
        headers = self._headers | {"Idempotency-Key": str(uuid4())}
        return await self._world.client.request(str(row.method), url, headers=headers, **content)


async def client_for(world: World, row: Command) -> Client:
    return Client(world, (await world.person(role_for(row))).headers)


@pytest.mark.parametrize("row", WITH_BODY, ids=lambda row: row.op)
async def test_every_field_with_every_value(whole: World, row: Command, full: bool) -> None:
    client = await client_for(whole, row)
    in_path = set(re.findall(r"{(\w+)}", str(row.path)))
    for place, field in enumerate(fields_of(row)):
        if field.encode_name in in_path:
            continue
        for value in VALUES if full else VALUES[place % EVERY :: EVERY]:
            body = valid_body(row) | {field.encode_name: value}
            content = msgspec.json.encode(body)

            response = await client.send(row, url_of(row, body), content=content)

            what = f"{row.op} {field.encode_name}={str(value)[:40]!r}"
            assert_clear(response, what)
            if is_wrong(row, field.encode_name, value):
                assert response.status_code == 400, f"{what}: {response.text}"
                named = [error["field"].split(".")[0] for error in response.json()["errors"]]
                assert field.encode_name in named, f"{what}: {response.text}"


async def test_every_missing_field_is_named(whole: World) -> None:
    for row in WITH_BODY:
        client = await client_for(whole, row)
        in_path = set(re.findall(r"{(\w+)}", str(row.path)))
        missing = {field.encode_name for field in fields_of(row) if field.required} - in_path
        if not missing:
            continue

        response = await client.send(row, url_of(row, {}), content=b"{}")

        assert response.status_code == 400, row.op
        assert {error["field"] for error in response.json()["errors"]} == missing


@pytest.mark.parametrize("row", WITH_BODY, ids=lambda row: row.op)
async def test_every_body_that_is_no_request(whole: World, row: Command) -> None:
    client = await client_for(whole, row)
    for name, body in BODIES.items():
        response = await client.send(row, url_of(row, {}), content=body)

        assert_clear(response, f"{row.op} {name}")
        assert response.status_code == (413 if name == "too_big" else 400), (
            f"{row.op} {name}: {response.text}"
        )


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.op)
async def test_every_text_in_path_and_query(whole: World, row: Command, full: bool) -> None:
    client = await client_for(whole, row)
    for name, url in hostile_urls(row, full=full):
        response = await client.send(row, url, **({} if row.method == "GET" else {"json": valid_body(row)}))

        assert_clear(response, f"{row.op} {name}: {url[:120]}")


def hostile_urls(row: Command, *, full: bool) -> Iterator[tuple[str, str]]:
    in_path = re.findall(r"{(\w+)}", str(row.path))
    path = url_of(row, {})
    required = "&".join(
        f"{field.encode_name}={quote(str(valid(field.type)))}"
        for field in fields_of(row)
        if field.required and field.encode_name not in in_path
    )
    for place, field in enumerate(fields_of(row)):
        for text in TEXTS if full else TEXTS[place % EVERY :: EVERY]:
            name = field.encode_name
            if name in in_path:
                template = str(row.path).replace(f"{{{name}}}", text or "%20")
                yield name, url_of(msgspec.structs.replace(row, path=template), {})
            else:
                yield name, f"{path}?{required}&{name}={text}"


async def test_ids_of_other_people_are_refused(whole: World) -> None:
    """A user's id where an id of something else belongs finds nothing."""
    other = await whole.person(Role.TUTOR)
    for row in ROUTES:
        names = re.findall(r"{(\w+)}", str(row.path))
        types = {field.encode_name: field.type for field in msgspec.structs.fields(row.request)}
        if (
            not names
            or {"user_id", "tutor_id"} & set(names)
            or any(types[name] is not UUID for name in names)
        ):
            continue
        client = await client_for(whole, row)

        response = await client.send(
            row,
            url_of(row, dict.fromkeys(names, other.id)),
            **({} if row.method == "GET" else {"json": valid_body(row)}),
        )

        assert_clear(response, row.op)
        assert response.status_code in (400, 403, 404, 409), f"{row.op}: {response.text}"
