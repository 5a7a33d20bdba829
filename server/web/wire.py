"""The wire's types for the browser client: TypeScript made from the structs of commands and events.

`fourtalk schema` writes it; a copy is committed as `app/wire.ts`, and a test compares the two. So a field that is renamed
here fails the client's type check.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any, Final, Literal

import msgspec
from msgspec import inspect

import server.app  # noqa: F401 - whatever is served is imported, with the errors of its own
from billing.errors import BillingError
from rooms.errors import RoomError
from server import events
from server.commands import TABLE
from server.context import Command
from server.download import Download
from server.errors import ServerError
from server.gateway import protocol
from server.http import contract

NAME: Final = "wire.ts"
_HEAD: Final = """\
// Made by `fourtalk schema` from the server's structs; not to be edited. `uv run fourtalk schema wire.ts --out server/web/app`

export type Id = string;
/** RFC 3339, in UTC. */
export type Instant = string;
/** A date without a time: `2026-11-26`. */
export type Day = string;
"""
# What a struct is for decides which fields may be missing: those with a default may be left out of a request, while an
# answer has all of them, unless it says that it leaves defaults out.
_Use = Literal["asked", "shown"]
_PLAIN: Final[dict[type, str]] = {
    inspect.AnyType: "unknown",
    inspect.BoolType: "boolean",
    inspect.DateTimeType: "Instant",
    inspect.DateType: "Day",
    inspect.FloatType: "number",
    inspect.IntType: "number",
    inspect.NoneType: "null",
    inspect.RawType: "unknown",
    inspect.StrType: "string",
    inspect.UUIDType: "Id",
}


def module() -> bytes:
    """Return the TypeScript module."""
    rows = [(row.op, row.request, contract.reply_of(row)) for row in TABLE]
    rows += [(op, request, reply) for op, (request, reply) in contract.OWN.items()]
    rows.sort(key=lambda row: row[0])
    types = _Types()
    operations = [
        f"  {msgspec.json.encode(op).decode()}: {{ d: {types.of(request, 'asked')}; ok: {types.of(reply, 'shown')} }};"
        for op, request, reply in rows
    ]
    shown = [f'  "{ev}": {types.of(kind, "shown")};' for ev, kind in sorted(events.TABLE.items())]
    parts = (
        _HEAD,
        _block("Operations", "Every command: what it takes and what it answers.", operations),
        _block("Events", "Every event: its `d`.", shown),
        _http(TABLE),
        _errors(),
        _close_codes(),
        *types.declarations(),
    )
    return "\n".join(parts).encode()


class _Types:
    """Names of structs and enums, each declared once a use."""

    def __init__(self) -> None:
        self._known: dict[tuple[type, _Use], str] = {}
        self._owners: dict[str, tuple[type, _Use]] = {}
        self._bodies: dict[str, str] = {}

    def of(self, kind: Any, use: _Use) -> str:
        """Return the expression for a type."""
        return " | ".join(
            dict.fromkeys(self._one(alternative, use) for alternative in contract.alternatives(kind))
        )

    def declarations(self) -> Iterator[str]:
        """Return what has been named, in the order of the names."""
        for _, body in sorted(self._bodies.items()):
            yield body

    def _one(self, kind: Any, use: _Use) -> str:
        if isinstance(kind, type) and issubclass(kind, Download):
            return "Blob"
        return self._text(inspect.type_info(kind), use)

    def _text(self, kind: inspect.Type, use: _Use) -> str:
        if (plain := _PLAIN.get(type(kind))) is not None:
            return plain
        match kind:
            case inspect.Metadata(type=inner):
                return self._text(inner, use)
            case inspect.StructType(cls=cls):
                return self._struct(cls, kind, use)
            case inspect.EnumType(cls=cls):
                return self._enum(cls)
            case inspect.LiteralType(values=values):
                return " | ".join(msgspec.json.encode(value).decode() for value in values)
            case inspect.UnionType(types=alternatives):
                return " | ".join(self._text(alternative, use) for alternative in alternatives)
            case inspect.DictType(key_type=_, value_type=value):
                return f"Record<string, {self._text(value, use)}>"
            case inspect.TupleType(item_types=items):
                return f"readonly [{', '.join(self._text(item, use) for item in items)}]"
            case inspect.CollectionType(item_type=item):
                return _many(self._text(item, use))
            case _:
                raise TypeError(f"the wire has no {kind}")

    def _struct(self, cls: type, kind: inspect.StructType, use: _Use) -> str:
        use = use if any(not field.required for field in kind.fields) else "shown"
        if (known := self._known.get((cls, use))) is not None:
            return known
        name = self._name(cls, use)
        fields = (
            [] if kind.tag is None else [f"  {kind.tag_field}: {msgspec.json.encode(kind.tag).decode()};"]
        )
        for field in kind.fields:
            mark = "?" if _may_miss(cls, field, use) else ""
            fields.append(f"  {field.encode_name}{mark}: {self._text(field.type, use)};")
        self._bodies[name] = _block(name, _summary(cls), fields)
        return name

    def _enum(self, cls: type[Enum]) -> str:
        if (known := self._known.get((cls, "shown"))) is not None:
            return known
        name = self._name(cls, "shown")
        values = " | ".join(msgspec.json.encode(member.value).decode() for member in cls)
        self._bodies[name] = f"/** {_summary(cls)} */\nexport type {name} = {values};\n"
        return name

    def _name(self, cls: type, use: _Use) -> str:
        """Name a class: as in Python, with its feature where another has the name, with its use where it has two."""
        wanted = (
            cls.__name__,
            f"{_feature(cls)}{cls.__name__}",
            f"{_feature(cls)}{cls.__name__}{use.title()}",
        )
        name = next(name for name in wanted if name not in self._owners)
        self._owners[name] = self._owners.get(name, (cls, use))
        self._known[cls, use] = name
        return name


def _may_miss(cls: type, field: inspect.Field, use: _Use) -> bool:
    if field.default is msgspec.UNSET:
        return True
    leaves_out = use == "asked" or bool(getattr(cls, "__struct_config__").omit_defaults)  # noqa: B009 - any struct's
    return not field.required and leaves_out


def _many(item: str) -> str:
    return f"readonly ({item})[]" if "|" in item else f"readonly {item}[]"


def _feature(cls: type) -> str:
    """Return the word for where a class stands: `server.features.talks.messages` is `Talks`."""
    parts = cls.__module__.split(".")
    return parts[2 if parts[:2] == ["server", "features"] else len(parts) - 1].title().replace("_", "")


def _summary(cls: type) -> str:
    return (cls.__doc__ or "").strip().split("\n", 1)[0]


def _block(name: str, summary: str, lines: Sequence[str]) -> str:
    return "\n".join((f"/** {summary} */", f"export interface {name} {{", *lines, "}", ""))


def _http(table: Iterable[Command]) -> str:
    """Return the routes that the client needs: who has no socket asks by them."""
    rows = sorted(
        (row.op, row.method, row.path)
        for row in table
        if row.path is not None and (row.guard == "public" or not row.on_socket)
    )
    lines = [f'  "{op}": ["{method}", "{path}"],' for op, method, path in rows]
    return "\n".join(
        (
            "/** Routes of what is asked without a socket, below `/api/v1`. */",
            "export const HTTP = {",
            *lines,
            "} as const;",
            "",
        )
    )


def _errors() -> str:
    """Return the names of the socket's errors, and the codes that say more."""
    rows = contract.socket_errors()
    numbers = [f"  {row.name}: {row.code};" for row in sorted(rows, key=lambda row: row.code)]
    more = set(map(_code, itertools.chain(*map(_tree, (BillingError, RoomError, ServerError)))))
    codes = sorted(more - {"", *(row.name for row in contract.socket_errors())})
    return "\n".join(
        (
            _block("Errors", "The socket's errors by name.", numbers),
            "/** What went wrong, for programs: the name of the socket's error, or what says it more closely. */",
            f"export type ErrorCode = keyof Errors | {' | '.join(msgspec.json.encode(code).decode() for code in codes)};",
            "",
        )
    )


def _tree(root: type) -> Iterator[type]:
    yield root
    child: type
    for child in root.__subclasses__():
        yield from _tree(child)


def _code(cls: type) -> str:
    is_ours = cls.__module__.split(".")[0] in ("billing", "rooms", "server")
    code = getattr(cls, "code", None)
    return code if is_ours and isinstance(code, str) else ""


def _close_codes() -> str:
    lines = [f"  {code.name.lower()}: {int(code)};" for code in protocol.CloseCode]
    return _block("CloseCodes", "Why the server closes a socket.", lines)
