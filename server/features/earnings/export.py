"""Withdrawals as a table for a spreadsheet. Pure."""

import csv
import io
from collections.abc import Iterable

from billing.earnings import WithdrawalView
from billing.money import EXPONENTS, Money

COLUMNS = (
    "id",
    "requested_at",
    "status",
    "amount",
    "currency",
    "method",
    "account",
    "ended_at",
    "reference",
    "note",
    "answer",
)
# A spreadsheet takes a cell that begins so for a formula (OWASP, CSV Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def table(rows: Iterable[WithdrawalView]) -> str:
    """Return RFC 4180 lines, the heading first."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(
            (
                row.id,
                f"{row.requested_at:%Y-%m-%dT%H:%M:%SZ}",
                row.status,
                _decimal(row.amount),
                row.amount.currency,
                row.method,
                "" if row.account_last4 is None else f"*{row.account_last4}",
                "" if row.ended_at is None else f"{row.ended_at:%Y-%m-%dT%H:%M:%SZ}",
                *(_plain(text) for text in (row.reference, row.note, row.answer)),
            )
        )
    return out.getvalue()


def _decimal(money: Money) -> str:
    exponent = EXPONENTS[money.currency]
    major, minor = divmod(money.amount, 10**exponent)
    return f"{major}.{minor:0{exponent}}" if exponent else str(major)


def _plain(text: str | None) -> str:
    if text is None:
        return ""
    return f"'{text}" if text.startswith(_FORMULA) else text
