"""Every error of money says a sentence, and the edge gets what it knows."""

import inspect
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from billing.errors import BillingError, Problem, StripeAwayError
from billing.money import Money

EXAMPLES: dict[object, object] = {
    Money: Money(5),
    UUID: UUID(int=7),
    str: "Words.",
    str | None: "Words.",
    int: 9,
    bool: True,
    datetime: datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
    tuple[Problem, ...]: (Problem("Field", "code", "is wrong"), Problem("Other", "code", "is not")),
}


def leaves(root: type[BillingError]) -> Iterator[type[BillingError]]:
    below = root.__subclasses__()
    if not below:
        yield root
    for one in below:
        yield from leaves(one)


@pytest.mark.parametrize("kind", list(leaves(BillingError)), ids=lambda kind: kind.__name__)
def test_an_error_says_a_sentence_and_keeps_what_it_was_told(kind: type[BillingError]) -> None:
    parameters = list(inspect.signature(kind).parameters)
    told = {name: EXAMPLES[typing.get_type_hints(kind.__init__)[name]] for name in parameters}

    error = kind(**told)

    said = str(error)
    assert said[0] == said[0].upper()
    assert said.endswith(".")
    assert any(letter.islower() for letter in said)
    # The ids of journals are too long for the numbers of a browser; why a delivery is refused is only said.
    assert error.facts == {
        name: str(value) if name == "journal_id" else value
        for name, value in told.items()
        if name in error.facts
    }
    assert all(name in error.facts or str(value) in said for name, value in told.items())
    assert "None" not in said


def test_stripe_has_answered_only_where_that_is_said() -> None:
    assert StripeAwayError("why").facts == {"why": "why", "answered": False}


def test_every_wrong_value_is_said() -> None:
    [kind] = [one for one in leaves(BillingError) if one.code == "policy_invalid"]

    assert str(kind(EXAMPLES[tuple[Problem, ...]])) == "Field is wrong; Other is not."
