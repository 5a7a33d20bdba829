"""TABLE: everything that runs by itself, periodic or asked for. Each row can be repeated, and catches up after a stop.

When it runs next is a row of `job` (`billing/jobs.py`), so a restart neither forgets nor repeats: periodic work that is
overdue runs once, and finds everything that has become due meanwhile. `server/runner.py` runs the table.
"""

from datetime import datetime, timedelta

import structlog

from billing import (
    card_disputes,
    card_payments,
    card_refunds,
    maturity,
    packages,
    payouts,
    reconciliation,
    seals,
    settlement,
    stripe_events,
    top_ups,
)
from billing.jobs import Claim
from billing.stripe_api import StripeApi
from server import idempotency
from server.features.accounts import lockout, password_reset, tokens
from server.features.bookings import life as bookings
from server.features.notifications import notices
from server.gateway import history
from server.gateway.limits import Limits
from server.integrations.email import Mailer
from server.job import Job, Means, Once, Periodic

# Rows that one statement of a purge deletes: far below the statement limit of 5 s.
PURGE_ROWS = 5_000

# PROTOCOL 2 and 3: keys and publications are worth something for a day; B-23: notifications for 90.
KEPT = timedelta(hours=24)
NOTIFICATIONS_KEPT = timedelta(days=90)
# Stripe sends an event again for three days by itself, and for 30 when somebody asks it to.
STRIPE_EVENTS_KEPT = timedelta(days=31)

# Money that a lost webhook would hide is found within a quarter of an hour; sooner would cost requests for nothing.
RECONCILE_EVERY = timedelta(minutes=15)

log = structlog.get_logger()


async def settle_due(means: Means, now: datetime) -> int:
    """Settle what is due and was not settled at once: the net below the rooms."""
    return await settlement.sweep(means.sessions, now)


async def mature(means: Means, claim: Claim, now: datetime) -> None:
    """Make a tutor's share their earnings once its risk window is over."""
    await maturity.run(means.sessions, claim, now=now)


async def package_due(means: Means, claim: Claim, now: datetime) -> None:
    """Remind of a package's end, or settle what nobody took of it."""
    await packages.run(means.sessions, claim, now=now)


async def expire_request(means: Means, claim: Claim, now: datetime) -> None:
    """End a request for a lesson that its tutor did not answer (ED-39)."""
    await bookings.run_expiry(means.sessions, claim, now=now)


async def repay_debts(means: Means, now: datetime) -> int:
    """Repay what tutors owe from earnings that came without a risk window; no way out waits for this."""
    return await maturity.sweep(means.sessions, now)


async def seal_ledger(means: Means, _: datetime) -> int:
    """Seal the journals that can get no further ones beside them; return how many there were."""
    return await seals.seal(means.sessions)


async def check_integrity(means: Means, _: datetime) -> int:
    """Check every invariant anew, for the log and `/health/integrity`; return how many do not hold."""
    return len((await means.integrity.refresh()).violations)


async def purge_publications(means: Means, now: datetime) -> int:
    """Delete events that no client can recover any more."""
    before = now - timedelta(seconds=Limits().recover_age_s)
    removed = 0
    while True:
        async with means.sessions.begin() as session:
            count = await history.forget(session, before_ms=int(before.timestamp() * 1000), limit=PURGE_ROWS)
        removed += count
        if count < PURGE_ROWS:
            return removed


async def purge_keys(means: Means, now: datetime) -> int:
    """Delete the answers of old idempotency keys."""
    async with means.sessions.begin() as session:
        await idempotency.forget(session, before=now - KEPT)
    return 0


async def purge_logins(means: Means, now: datetime) -> int:
    """Delete sessions that are over, with their tokens, forgotten wrong passwords and links that ended."""
    async with means.sessions.begin() as session:
        await password_reset.forget_links(session, before=now)
        await tokens.forget_sessions(session, before=now - KEPT)
        await lockout.forget(session, before=now - KEPT)
    return 0


async def purge_stripe_events(means: Means, now: datetime) -> int:
    """Delete what Stripe told us long ago."""
    async with means.sessions.begin() as session:
        await stripe_events.forget(session, before=now - STRIPE_EVENTS_KEPT)
    return 0


async def purge_notifications(means: Means, now: datetime) -> int:
    """Delete notifications of long ago."""
    async with means.sessions.begin() as session:
        return await notices.forget(session, before=now - NOTIFICATIONS_KEPT)


def of_payments(payments: StripeApi) -> tuple[Job, ...]:
    """Return the jobs that speak to Stripe."""

    async def handle_event(means: Means, claim: Claim, now: datetime) -> None:
        """Fetch what an event of Stripe is about, and apply it."""
        await stripe_events.handle(means.sessions, payments, claim, now=now)

    async def end_top_up(means: Means, claim: Claim, now: datetime) -> None:
        """End a top-up that nobody has paid in time."""
        await top_ups.end(means.sessions, payments, claim, now=now)

    async def pay_out(means: Means, claim: Claim, now: datetime) -> None:
        """Carry a payout to a tutor on."""
        await payouts.run(means.sessions, payments, claim, now=now)

    async def look_at_card_disputes(means: Means, now: datetime) -> int:
        """Ask how the banks' disputes stand; return how many are not over."""
        return await card_disputes.look(means.sessions, payments, now=now)

    async def carry_card_on(means: Means, claim: Claim, now: datetime) -> None:
        """Authorise, capture or release the card of a booking's payment."""
        await card_payments.run(means.sessions, payments, claim, now=now)

    async def refund_card(means: Means, claim: Claim, now: datetime) -> None:
        """Send money back to a card, or see what became of it."""
        await card_refunds.run(means.sessions, payments, claim, now=now)

    async def reconcile(means: Means, now: datetime) -> int:
        """Compare Stripe's books with ours; return how much differs."""
        report = await reconciliation.run(means.sessions, payments, now=now)
        for finding in report.findings:
            log.error("stripe_differs", subject=finding.subject, outcome=finding.outcome, **finding.detail)
        log.info("stripe_reconciled", matched=report.matched, timing=report.timing, repaired=report.repaired)
        return len(report.findings)

    return (
        Once(stripe_events.JOB, handle_event, "business"),
        Once(top_ups.DUE_JOB, end_top_up, "business"),
        Once(payouts.JOB, pay_out, "business"),
        Periodic("look_at_card_disputes", timedelta(hours=1), look_at_card_disputes, "business"),
        Once(card_payments.JOB, carry_card_on, "business"),
        Once(card_refunds.JOB, refund_card, "business"),
        Periodic("reconcile_stripe", RECONCILE_EVERY, reconcile, "business"),
    )


def of_mail(mailer: Mailer, public_url: str) -> tuple[Job, ...]:
    """Return the jobs that send mail."""

    async def mail_account(means: Means, claim: Claim, now: datetime) -> None:
        """Send somebody a mail about their account."""
        await password_reset.send_letter(means.sessions, mailer, claim, public_url=public_url, wall=now)

    # Links are dated by the wall clock, as all tokens are.
    return (Once(password_reset.JOB, mail_account, "wall"),)


TABLE: tuple[Job, ...] = (
    Once(maturity.JOB, mature, "business"),
    Once(packages.JOB, package_due, "business"),
    Once(bookings.EXPIRY_JOB, expire_request, "business"),
    Periodic("repay_debts", timedelta(minutes=5), repay_debts, "business"),
    Periodic("settle_due", timedelta(minutes=5), settle_due, "business"),
    # Sealing goes by the database's transactions, so business time is nothing to it.
    Periodic("seal_ledger", timedelta(minutes=1), seal_ledger, "wall"),
    Periodic("check_integrity", timedelta(hours=1), check_integrity, "business"),
    Periodic("purge_notifications", timedelta(days=1), purge_notifications, "business"),
    Periodic("purge_publications", timedelta(hours=1), purge_publications, "wall"),
    Periodic("purge_stripe_events", timedelta(days=1), purge_stripe_events, "wall"),
    Periodic("purge_keys", timedelta(hours=1), purge_keys, "wall"),
    Periodic("purge_logins", timedelta(hours=1), purge_logins, "wall"),
)
