"""From what a client sent to a command's request, the same way for both doors.

What a field may hold is said by the request's Struct; what no field may hold is refused by `check_values`.
"""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, NoReturn, TypeVar
from uuid import UUID

import msgspec

from server.errors import BadRequestError, FieldError

Request = TypeVar("Request", bound=msgspec.Struct)

# The deepest request of the contract has four levels; each level of a hostile one costs stack.
DEPTH_MAX = 32
_INTEGER_MAX = 2**63 - 1
# Nothing of ours happened before, and nothing is planned for after; near the ends of the calendar a time cannot be
# moved by a minute.
_TIMES = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
_PATH = re.compile(r" - at `(\$|key in \$)?\.?(?P<field>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`$")
_NO_TEXTS: Mapping[str, str] = {}


def decode_request(
    request: type[Request], body: bytes = b"", texts: Mapping[str, str] = _NO_TEXTS
) -> Request:
    """Return the request that a JSON object says, with path and query values taken from their text.

    Unknown fields are ignored; a text wins over the object's field of the same name.

    Raises:
        BadRequestError: Not a JSON object, or a field is wrong; `errors` names every wrong one.
    """
    fields = _read_object(body)
    errors: list[FieldError] = []
    for field in msgspec.structs.fields(request):
        if (text := texts.get(field.encode_name)) is not None:
            try:
                fields[field.encode_name] = _from_text(field.type, text)
            except msgspec.ValidationError as error:
                errors.append(FieldError(field.encode_name, _words(error)))
    if errors:
        _refuse(errors)
    try:
        return msgspec.convert(fields, request)
    except msgspec.ValidationError as error:
        _refuse(_errors_of(request, fields) or [error_of(error)])


def check_values(request: msgspec.Struct) -> None:
    """Refuse what no column can hold, wherever it stands in a decoded request: for every door.

    Raises:
        BadRequestError: A text has NUL characters, an integer more than 64 bits, a time no zone or an absurd year, or
            something is nested too deep.
    """
    for name in request.__struct_fields__:
        if (trouble := _trouble(getattr(request, name))) is not None:
            _refuse([FieldError(name, trouble)])


def is_in_range(value: datetime) -> bool:
    """Return whether a time with a zone is one that a column can hold and that can be moved."""
    return _TIMES[0] <= value < _TIMES[1]


def in_utc(request: Request) -> Request:
    """Return a checked request with its times in UTC, whatever their offset was: every time is shown so (PROTOCOL 2)."""
    moved = {
        name: value.astimezone(UTC)
        for name in request.__struct_fields__
        if isinstance(value := getattr(request, name), datetime) and value.utcoffset()
    }
    return msgspec.structs.replace(request, **moved) if moved else request


def _trouble(value: object, depth: int = 0) -> str | None:
    if depth > DEPTH_MAX:
        return "This is nested too deep."
    if value is None or isinstance(value, UUID):
        return None
    if isinstance(value, str):
        return "The character NUL is not allowed." if "\0" in value else None
    if isinstance(value, int):
        return None if abs(value) <= _INTEGER_MAX else "This number is too large."
    if isinstance(value, float):
        return None if math.isfinite(value) else "Expected a finite number."
    if isinstance(value, date):
        return _trouble_of_time(value)
    inner: Iterable[object] = ()
    if isinstance(value, msgspec.Struct):
        inner = (getattr(value, name) for name in value.__struct_fields__)
    elif isinstance(value, dict):
        inner = (*value.keys(), *value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = value
    return next((trouble for item in inner if (trouble := _trouble(item, depth + 1)) is not None), None)


def _read_object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        found = msgspec.json.decode(body)
    except RecursionError:
        raise BadRequestError("The request is nested too deep.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"The request is not valid JSON: {error}.") from None
    if not isinstance(found, dict):
        raise BadRequestError("The request must be a JSON object.")
    return found


def _from_text(kind: Any, text: str) -> Any:
    """Return the JSON value that a text stands for where a value of this type is wanted."""
    return msgspec.to_builtins(msgspec.convert(text, kind, strict=False))


def _errors_of(request: type[msgspec.Struct], fields: Mapping[str, Any]) -> list[FieldError]:
    """Return what is wrong with each field; msgspec stops at the first."""
    errors = []
    for field in msgspec.structs.fields(request):
        name = field.encode_name
        if name not in fields:
            if field.required:
                errors.append(FieldError(name, "This field is required."))
            continue
        try:
            msgspec.convert(fields[name], field.type)
        except msgspec.ValidationError as error:
            inner = error_of(error)
            errors.append(FieldError(f"{name}.{inner.field}" if inner.field else name, inner.message))
    return errors


def error_of(error: msgspec.ValidationError) -> FieldError:
    """Return which field did not fit, and why; the field is empty where it was the request itself."""
    text = str(error)
    place = _PATH.search(text)
    field = place["field"] if place else ""
    if missing := _MISSING.match(_words(error).rstrip(".")):
        return FieldError(
            ".".join(part for part in (field, missing["field"]) if part), "This field is required."
        )
    return FieldError(field, _words(error))


def _words(error: msgspec.ValidationError) -> str:
    return _PATH.sub("", str(error)) + "."


def _refuse(errors: list[FieldError]) -> NoReturn:
    first = errors[0]
    raise BadRequestError(f"{first.field}: {first.message}" if first.field else first.message, tuple(errors))


def _trouble_of_time(value: date) -> str | None:
    if not isinstance(value, datetime):
        return None if _TIMES[0].date() <= value < _TIMES[1].date() else "This date is out of range."
    if value.tzinfo is None:
        return "This time needs a zone, `Z` at best."
    return None if is_in_range(value) else "This time is out of range."
