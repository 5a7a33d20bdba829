"""The contract files say what the table says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from rooms import published
from server import events
from server.commands import TABLE
from server.features.notifications import reactions as notifications
from server.features.packages import reactions as packages
from server.features.wallet import reactions as wallet
from server.gateway.dispatch import OWN_OPS
from server.http import contract
from server.http.door import PREFIX


@pytest.fixture(scope="module")
def files() -> dict[str, Any]:
    return {name: msgspec.json.decode(content) for name, content in contract.files().items()}


def every_ref(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(every_ref, value.values())) if value else own
    return set().union(*map(every_ref, value)) if isinstance(value, list) and value else set()


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
def test_every_reference_points_at_something(files: dict[str, Any], name: str) -> None:
    for ref in every_ref(files[name]):
        target = files[name]
        for part in ref.removeprefix("#/").split("/"):
            target = target[part]


def test_openapi_has_every_route_once(files: dict[str, Any]) -> None:
    operations = [
        (path, method.upper(), operation["operationId"])
        for path, methods in files["openapi.json"]["paths"].items()
        for method, operation in methods.items()
    ]

    assert sorted(operations) == sorted(
        (PREFIX + row.path, str(row.method), row.op) for row in TABLE if row.path
    )


def test_every_path_parameter_is_a_required_field(files: dict[str, Any]) -> None:
    for row in TABLE:
        fields = {field.encode_name: field for field in msgspec.structs.fields(row.request)}
        for name in re.findall(r"{(\w+)}", row.path or ""):
            assert fields[name].required, f"{row.op}: {name}"


def test_asyncapi_has_every_operation_of_the_socket(files: dict[str, Any]) -> None:
    operations = set(files["asyncapi.json"]["operations"])

    assert operations == {row.op for row in TABLE if row.on_socket} | OWN_OPS | {"publish"}


def test_asyncapi_has_the_error_table_and_the_close_codes(files: dict[str, Any]) -> None:
    asyncapi = files["asyncapi.json"]

    assert {"code": 120, "name": "room_full", "retryable": True} in asyncapi["x-errors"]
    assert asyncapi["x-close-codes"]["4205"] == "slow_consumer"


def test_operations_and_routes_are_named_once() -> None:
    assert len({row.op for row in TABLE}) == len(TABLE)
    routes = [(row.method, re.sub(r"{\w+}", "{}", row.path)) for row in TABLE if row.path]
    assert len(set(routes)) == len(routes)


def test_every_request_and_answer_says_what_it_is() -> None:
    for row in TABLE:
        assert row.request.__doc__, f"{row.op} needs a docstring on its request"
        assert row.handler.__doc__, f"{row.op} needs a docstring on its handler"


def patterns(kind: object) -> Iterator[str]:
    """Every pattern of what msgspec knows of a type."""
    match kind:
        case inspect.StrType(pattern=str(pattern)):
            yield pattern
        case msgspec.Struct():
            for name in kind.__struct_fields__:
                yield from patterns(getattr(kind, name))
        case tuple():
            for one in kind:
                yield from patterns(one)
        case _:
            return


def test_no_request_takes_a_line_more_than_its_pattern(files: dict[str, Any]) -> None:
    """For Python `$` is before a last newline too, so requests end in `\\Z`; the files say it as JSON schema does."""
    asked = {pattern for row in TABLE for pattern in patterns(inspect.type_info(row.request))}
    told = {
        schema["pattern"]
        for file in files.values()
        for kind in file["components"]["schemas"].values()
        for schema in kind.get("properties", {}).values()
        if "pattern" in schema
    }

    assert r"^[A-Z]{2}\Z" in asked
    assert [pattern for pattern in asked if re.search(r"(?<!\\)\$", pattern)] == []
    assert r"^[A-Z]{2}$" in told
    assert [pattern for pattern in told if r"\Z" in pattern] == []


def test_every_event_that_is_shown_has_its_row(root: Path) -> None:
    said = {ev for ev, _ in published.SHOWN.values()}
    said |= {*wallet.SHOWN.values(), *notifications.SHOWN.values()}
    said |= {
        str(kind.__struct_config__.tag)
        for kind, reactions in packages.REACTIONS.items()
        if packages.show in reactions
    }
    for package in ("rooms", "server"):
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                    ("note", "say", "to_user", "_show")
                ):
                    texts = (one.value for one in node.args if isinstance(one, ast.Constant))
                    said |= {text for text in texts if isinstance(text, str)}

    assert said - {""} <= events.TABLE.keys()
    assert "seat.offered" in said
