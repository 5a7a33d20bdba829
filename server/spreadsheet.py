"""Tables for spreadsheets: CSV that a spreadsheet takes for nothing but values. Pure."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from billing.money import EXPONENTS, Money

Cell = str | int | Money | datetime | UUID | None

# A spreadsheet takes a cell that begins so for a formula (OWASP, CSV Injection). Where the list separator is `;`, as in
# Vietnamese, a quote in the middle of what is a cell there protects nothing: a cell begins after each `;` and each line.
_FORMULA = re.compile(r"""(^|[;\t\r\n])(?=["\s]*[=+\-@]|[\t\r\n])""")
# Excel takes a file without it for the machine's own code page, and shows no Vietnamese.
_MARK = "\ufeff"


def table(heading: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """Return RFC 4180 lines, the heading first.

    An amount is a bare decimal number, its currency is a cell of its own; a time is UTC.
    """
    out = io.StringIO()
    out.write(_MARK)
    writer = csv.writer(out)
    writer.writerow(heading)
    writer.writerows([_written(cell) for cell in row] for row in rows)
    return out.getvalue().encode()


def _written(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case Money():
            return _decimal(cell)
        case datetime():
            return f"{cell:%Y-%m-%dT%H:%M:%SZ}"
        case int() | UUID():
            return str(cell)
        case str():
            return _FORMULA.sub(r"\1'", cell)


def _decimal(money: Money) -> str:
    exponent = EXPONENTS[money.currency]
    sign = "-" if money.amount < 0 else ""
    major, minor = divmod(abs(money.amount), 10**exponent)
    return f"{sign}{major}.{minor:0{exponent}}" if exponent else f"{sign}{major}"
