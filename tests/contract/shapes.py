"""What an answer must look like: shapes written as the protocol writes them, and what holds for every JSON of ours."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

Check = Callable[[Any], bool]
Shape: TypeAlias = Any
"""A check; or an object, list or value of shapes. mypy cannot follow such a type through `{**a, ...}`."""

SNAKE_CASE = re.compile(r"[a-z][a-z0-9_]*")
# Ids that are no UUIDs by decision: journal ids are 64-bit (DESIGN §4), and an entry is half of a journal's line.
OTHER_IDS = {"trace_id"}


def uuid(value: Any) -> bool:
    try:
        return bool(str(UUID(value)) == value)
    except (ValueError, TypeError, AttributeError):
        return False


def at(value: Any) -> bool:
    """Whether this is an instant: RFC 3339, in UTC, ending in Z."""
    if not isinstance(value, str) or not value.endswith("Z"):
        return False
    return msgspec.convert(value, datetime).tzinfo is not None


def text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def truth(value: Any) -> bool:
    return isinstance(value, bool)


def anything(_: Any) -> bool:
    return True


def mapping(value: Any) -> bool:
    return isinstance(value, dict)


def svg(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("<svg")


def one_of(*choices: Any) -> Check:
    return lambda value: value in choices


def maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


MONEY: Shape = {"amount": integer, "currency": "USD"}


def page(item: Shape) -> Shape:
    return {"items": [item], "next_cursor": maybe(text)}


def fits(value: Any, shape: Shape, *, at: str = "$", exactly: bool = False) -> None:
    """Fail unless a value has this shape; more fields than the shape names are fine, unless `exactly`."""
    if isinstance(shape, Mapping):
        assert isinstance(value, dict), f"{at}: {value!r} is no object"
        missing = shape.keys() - value.keys()
        assert not missing, f"{at}: {sorted(missing)} missing in {sorted(value)}"
        if exactly:
            assert value.keys() == shape.keys(), f"{at}: {sorted(value.keys() - shape.keys())} are too many"
        for name, inner in shape.items():
            fits(value[name], inner, at=f"{at}.{name}", exactly=exactly)
    elif isinstance(shape, list):
        assert isinstance(value, list), f"{at}: {value!r} is no list"
        for index, item in enumerate(value):
            fits(item, shape[0], at=f"{at}[{index}]", exactly=exactly)
    elif callable(shape):
        assert shape(value), f"{at}: {value!r} is no {getattr(shape, '__name__', shape)}"
    else:
        assert value == shape, f"{at}: {value!r} is not {shape!r}"


def keeps_conventions(value: Any, *, where: str = "$") -> None:
    """Fail unless names, instants, ids and money are written as the protocol says, however deep they stand."""
    if isinstance(value, dict):
        if value.keys() == {"amount", "currency"}:
            assert integer(value["amount"]), where
            assert re.fullmatch("[A-Z]{3}", value["currency"]), where
        for name, inner in value.items():
            assert SNAKE_CASE.fullmatch(name) or ":" in name or "." in name, f"{where}: {name}"
            if name.endswith("_at") and inner is not None:
                assert at(inner), f"{where}.{name}: {inner!r}"
            if name.endswith("_id") and name not in OTHER_IDS and inner is not None:
                assert uuid(inner), f"{where}.{name}: {inner!r}"
            keeps_conventions(inner, where=f"{where}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            keeps_conventions(inner, where=f"{where}[{index}]")
