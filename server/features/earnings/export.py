"""Withdrawals as a table for a spreadsheet. Pure."""

from collections.abc import Iterable

from billing.earnings import WithdrawalView
from server import spreadsheet

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


def table(rows: Iterable[WithdrawalView]) -> bytes:
    """Return the CSV, the heading first."""
    return spreadsheet.table(
        COLUMNS,
        (
            (
                row.id,
                row.requested_at,
                row.status.value,
                row.amount,
                row.amount.currency,
                row.method.value,
                None if row.account_last4 is None else f"*{row.account_last4}",
                row.ended_at,
                row.reference,
                row.note,
                row.answer,
            )
            for row in rows
        ),
    )
