"""Named moments at which a crash would matter, so that a test can end the process exactly there.

A point does nothing and costs a look at one variable, until a process that is meant to die calls `arm`. What must hold
after each is in `tests/chaos/test_money.py`, which fails when one of them is never reached.
"""

from collections.abc import Callable
from typing import Literal, get_args

Point = Literal[
    # Purchases and settlements. "written": inside the transaction, with everything in it; "returned": a lesson that was
    # not given is back in its package, and nothing else is done yet; "forfeited": one that was cancelled too late is paid.
    "purchase.written",
    "refund.written",
    "due.written",
    "settlement.claimed",
    "settlement.returned",
    "settlement.written",
    "package.forfeited",
    "sweep.found",
    "adjustment.written",
    "maturity.written",
    # Every transaction of money: its commit was not sent; it was answered, and nobody knows yet.
    "commit.unsent",
    "commit.answered",
    # Jobs, whatever they do.
    "job.claimed",
    "job.finished",
    # Top-ups: Stripe has not heard of it; it has, and we have not written that down; it is paid and credited.
    "top_up.unsent",
    "top_up.answered",
    "top_up.charged",
    "top_up.credited",
    "top_up.closed",
    # Webhooks.
    "webhook.stored",
    "webhook.fetched",
    "webhook.applied",
    "reconciliation.looked",
    "reconciliation.repaired",
    # Withdrawals: reserved; begun; each step done at Stripe and not written down; written down.
    "withdrawal.reserved",
    "payout.begun",
    "payout.transferred",
    "payout.paid_out",
    "payout.looked",
    "payout.reversed",
    "payout.noted",
    "withdrawal.ended",
    # Payments of bookings, whatever pays for them.
    "payment.opened",
    "payment.decided",
    # Their cards: Stripe has not heard of it; each step done at Stripe and not written down; the captured money is here.
    "card.unsent",
    "card.authorized",
    "card.captured",
    "card.released",
    "card.looked",
    "card.booked",
    # A far lesson's card is made ready; an authorisation is wanted (again), or none comes and the payment is given up.
    "card.set_up",
    "card.wanted",
    "card.given_up",
    # Back to a card: out of the wallet; made at Stripe; out of our books; in the wallet again.
    "card_refund.asked",
    "card_refund.answered",
    "card_refund.sent",
    "card_refund.returned",
    # Disputes of banks.
    "card_dispute.looked",
    "card_dispute.booked",
    "card_dispute.frozen",
    "card_dispute.covered",
    "card_dispute.thawed",
]
POINTS: tuple[Point, ...] = get_args(Point)

_reached: Callable[[Point], None] | None = None


def crashpoint(point: Point) -> None:
    """Say that the process is at this point."""
    if _reached is not None:
        _reached(point)


def arm(reached: Callable[[Point], None] | None) -> None:
    """Have this called at every point of this process, or nothing any more."""
    global _reached  # noqa: PLW0603 - one process, one fate
    _reached = reached
