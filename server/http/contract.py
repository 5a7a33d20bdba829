"""The contract for machines: OpenAPI 3.1 of the HTTP door and AsyncAPI 3 of the socket, made from the command table."""

import functools
import re
import types
import typing
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from server import errors
from server.commands import TABLE
from server.context import Command
from server.download import Download
from server.gateway import protocol
from server.http.door import PREFIX
from server.http.problem import MEDIA_TYPE, Problem

Schema = dict[str, Any]

VERSION = "1"
_REF = "#/components/schemas/{name}"

# The gateway's own operations (PROTOCOL 3): what they take and what they answer.
OWN: Mapping[str, tuple[type, type]] = {
    "connect": (protocol.Connect, protocol.Connected),
    "refresh": (protocol.Refresh, protocol.Refreshed),
    "subscribe": (protocol.Subscribe, protocol.SubscriptionView),
    "unsubscribe": (protocol.Unsubscribe, protocol.Done),
    "history": (protocol.ReadHistory, protocol.HistoryPage),
    "ping": (protocol.Ping, protocol.Pong),
    "room.send": (protocol.SendToRoom, protocol.Done),
    "typing.start": (protocol.Typing, protocol.Done),
    "typing.stop": (protocol.Typing, protocol.Done),
    "presence.set": (protocol.SetPresence, protocol.Done),
}


def files() -> dict[str, bytes]:
    """Return the contract's files by name."""
    return {"openapi.json": _encode(openapi(TABLE)), "asyncapi.json": _encode(asyncapi(TABLE))}


def routes() -> list[HTTPRouteHandler]:
    """Return the routes that serve the files; they are made at the first request."""
    made = functools.cache(files)

    @get("/schema/{name:str}", include_in_schema=False)
    async def get_contract(name: str) -> Response[bytes]:
        """Answer one of the contract's files."""
        content = made().get(name)
        if content is None:
            raise errors.NotFoundError("There is no such file.")
        return Response(content, media_type="application/json")

    return [get_contract]


def openapi(table: Iterable[Command]) -> Schema:
    """Return the description of every route."""
    rows = [row for row in table if row.path is not None]
    replies = [reply for reply in map(reply_of, rows) if not _is_file(reply)]
    schemas = _Schemas([*(row.request for row in rows), *replies, Problem])
    paths: Schema = {}
    for row in rows:
        assert row.path is not None
        assert row.method is not None
        paths.setdefault(PREFIX + row.path, {})[row.method.lower()] = _operation(row, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "fourtalk", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "responses": {
                "Problem": {
                    "description": "What went wrong; `code` is stable.",
                    "content": {MEDIA_TYPE: {"schema": schemas.ref(Problem)}},
                }
            },
        },
    }


def asyncapi(table: Iterable[Command]) -> Schema:
    """Return the description of every operation of the socket, and of what the server sends by itself."""
    pairs = {row.op: (row.request, reply_of(row)) for row in table if row.on_socket}
    pairs |= OWN
    sent = (protocol.Event, protocol.Control, protocol.Failed)
    schemas = _Schemas([*(kind for pair in pairs.values() for kind in pair), *sent])
    messages = {kind.__name__: {"payload": schemas.ref(kind)} for kind in sent}
    operations = {}
    for op, (request, reply) in pairs.items():
        messages[op] = {"payload": _asked(op, schemas.ref(request))}
        messages[f"{op}.ok"] = {"payload": _answered(schemas.ref(reply))}
        operations[op] = {
            "action": "receive",
            "channel": {"$ref": "#/channels/socket"},
            "summary": _summary(request),
            "messages": [_message(op)],
            "reply": {
                "channel": {"$ref": "#/channels/socket"},
                "messages": [_message(f"{op}.ok"), _message("Failed")],
            },
        }
    operations["publish"] = {
        "action": "send",
        "channel": {"$ref": "#/channels/socket"},
        "messages": [_message("Event"), _message("Control")],
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "fourtalk", "version": VERSION},
        "defaultContentType": "application/json",
        "channels": {"socket": {"address": "/ws", "messages": messages}},
        "operations": operations,
        "components": {"schemas": schemas.components},
        "x-subprotocols": list(protocol.CODECS),
        "x-errors": sorted(socket_errors(), key=lambda row: row.code),
        "x-close-codes": {str(int(code)): code.name.lower() for code in protocol.CloseCode},
    }


class _Schemas:
    """JSON schemas of many types, those with names kept once."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        known = list(dict.fromkeys(one for kind in kinds for one in alternatives(kind)))
        refs, components = msgspec.json.schema_components(map(_describable, known), ref_template=_REF)
        self.components: Schema = _in_ecma(components)
        self._refs = dict(zip(known, refs, strict=True))

    def ref(self, kind: Any) -> Schema:
        """Return the reference to a type's schema, or to those of its alternatives."""
        refs = [self._refs[one] for one in alternatives(kind)]
        return refs[0] if len(refs) == 1 else {"anyOf": refs}

    def fields(self, kind: Any) -> Schema:
        """Return a Struct's own schema."""
        schema: Schema = self.components[self._refs[kind]["$ref"].rsplit("/", 1)[1]]
        return schema


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type. An answer may be one of several Structs without a tag."""
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _in_ecma(schema: Any, name: str = "") -> Any:
    """Write the end of patterns as JSON schema does: there `$` is the end, for Python it is before a last newline too."""
    match schema:
        case dict():
            return {key: _in_ecma(value, key) for key, value in schema.items()}
        case list():
            return [_in_ecma(value) for value in schema]
        case str() if name == "pattern" and schema.endswith(r"\Z"):
            return schema.removesuffix(r"\Z") + "$"
        case _:
            return schema


def _describable(kind: Any) -> Any:
    """Return a type that msgspec can describe: it cannot when a default is ready-made JSON (`msgspec.Raw`)."""
    is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    fields = msgspec.structs.fields(kind) if is_struct else ()
    if not any(isinstance(field.default, msgspec.Raw) for field in fields):
        return kind
    described = [
        (field.name, Any, msgspec.json.decode(field.default))
        if isinstance(field.default, msgspec.Raw)
        else (field.name, field.type, field.default)
        for field in fields
    ]
    return msgspec.defstruct(kind.__name__, described, namespace={"__doc__": kind.__doc__})


def _takes_key(row: Command) -> bool:
    """Return whether a repetition under a key is given the first answer again; nobody's key is nobody's."""
    return row.idempotent or not (row.live or row.method == "GET" or row.guard == "public")


def _operation(row: Command, schemas: _Schemas) -> Schema:
    assert row.path is not None
    whole = schemas.fields(row.request)
    in_path = set(re.findall(r"{(\w+)}", row.path))
    rest = {name: schema for name, schema in whole["properties"].items() if name not in in_path}
    has_body = row.method in ("POST", "PATCH")
    operation: Schema = {
        "operationId": row.op,
        "summary": _summary(row.request),
        "parameters": [
            *(_parameter(name, "path", whole) for name in sorted(in_path)),
            *(_parameter(name, "query", whole) for name in rest if not has_body),
            *([_KEY | {"required": row.idempotent}] if _takes_key(row) else []),
        ],
        "responses": {
            str(row.status): {
                "description": HTTPStatus(row.status).phrase,
                "content": _content(reply_of(row), schemas),
            },
            "default": {"$ref": "#/components/responses/Problem"},
        },
        "x-guard": row.guard,
    }
    if row.guard != "public":
        operation["security"] = [{"bearer": []}]
    if has_body and rest:
        required = [name for name in whole.get("required", []) if name in rest]
        operation["requestBody"] = {
            "required": bool(required),
            "content": {
                "application/json": {"schema": {"type": "object", "properties": rest, "required": required}}
            },
        }
    return operation


_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def _parameter(name: str, place: str, whole: Schema) -> Schema:
    required = place == "path" or name in whole.get("required", [])
    return {"name": name, "in": place, "required": required, "schema": whole["properties"][name]}


def _asked(op: str, d: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {
            "id": {"type": "integer", "exclusiveMinimum": 0},
            "op": {"const": op},
            "ch": {"type": "string"},
            "key": {"type": "string", "minLength": 1, "maxLength": 255},
            "d": d,
        },
        "required": ["op"],
    }


def _answered(ok: Schema) -> Schema:
    return {"type": "object", "properties": {"id": {"type": "integer"}, "ok": ok}, "required": ["id", "ok"]}


def _message(name: str) -> Schema:
    return {"$ref": f"#/channels/socket/messages/{name}"}


def _summary(request: type) -> str:
    return (request.__doc__ or "").strip().split("\n", 1)[0]


def reply_of(row: Command) -> Any:
    """Return what the row's handler says that it answers."""
    return typing.get_type_hints(row.handler)["return"]


def _is_file(reply: Any) -> bool:
    return isinstance(reply, type) and issubclass(reply, Download)


def _content(reply: Any, schemas: _Schemas) -> Schema:
    """Return what an answer's body is."""
    if _is_file(reply):
        return {reply.type: {"schema": {"type": "string", "format": "binary"}}}
    return {"application/json": {"schema": schemas.ref(reply)}}


def socket_errors() -> Iterable[errors.SocketError]:
    """Return the rows of the socket's error table."""
    return (value for value in vars(errors).values() if isinstance(value, errors.SocketError))


def _encode(schema: Schema) -> bytes:
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"
