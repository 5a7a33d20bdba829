"""Every stable code that a caller can meet is met by a test."""

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import server.app  # noqa: F401 - whatever is served is imported, with the errors of its own
from billing.errors import BillingError
from rooms.errors import RoomError
from server.errors import ServerError

TREES = (BillingError, RoomError, ServerError)
LEAST = 64
PACKAGES = ("billing", "rooms", "server")


def tree(root: type) -> Iterator[type]:
    """The classes below one, and itself."""
    yield root
    child: type
    for child in root.__subclasses__():
        yield from tree(child)


def classes() -> dict[str, set[str]]:
    """Codes that classes carry, with the names of those classes."""
    found: dict[str, set[str]] = {}
    for one in itertools.chain.from_iterable(map(tree, TREES)):
        code = getattr(one, "code", None)
        if isinstance(code, str) and one.__module__.split(".")[0] in PACKAGES:
            found.setdefault(code, set()).add(one.__name__)
    return found


def literals(root: Path) -> set[str]:
    """Codes that are given where an error is raised."""
    found: set[str] = set()
    for package in PACKAGES:
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
                    found |= {
                        str(one.value.value)
                        for one in node.keywords
                        if one.arg == "code" and isinstance(one.value, ast.Constant)
                    }
    return found


@pytest.fixture(scope="module")
def words(root: Path) -> set[str]:
    """Every name and every text in the tests, but for this file."""
    found: set[str] = set()
    for path in (root / "tests").rglob("*.py"):
        if path.name == Path(__file__).name:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_every_code_is_met_by_a_test(root: Path, words: set[str]) -> None:
    by_class, given = classes(), literals(root)
    codes = by_class.keys() | given

    unmet = {
        code
        for code in codes
        # A test names the code as a caller sees it, or the class as the package raises it.
        if code not in words and not by_class.get(code, set()) & words
    }

    assert unmet == set()
    assert len(codes) >= LEAST


def test_a_code_means_one_thing(root: Path) -> None:
    """Errors of different packages may share a code only where they share its kind: a program reads the code alone."""
    kinds: dict[str, set[str]] = {}
    for one in itertools.chain.from_iterable(map(tree, TREES)):
        code = getattr(one, "code", None)
        if isinstance(code, str):
            kinds.setdefault(code, set()).add(str(getattr(one, "kind", "")))

    assert {code: found for code, found in kinds.items() if len(found) > 1} == {}
