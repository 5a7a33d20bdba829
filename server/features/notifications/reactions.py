"""What people are told of their own accounts, and of the payments of their bookings. Each may run twice."""

from collections.abc import Sequence
from typing import Any

import msgspec

from billing.messages import (
    AuthorizationNeeded,
    CardRefundFailed,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentMoved,
    PaymentRefunded,
    PaymentVoided,
)
from billing.models import PaymentReason
from server.features.accounts.messages import TutorApproved, TutorRejected
from server.features.notifications.notices import Notice, Page, notify
from server.reaction import Occasion, Post, Reaction, to_user

# Events on the wire, by domain event.
SHOWN: dict[type[PaymentMoved], str] = {
    PaymentAuthorized: "payment.authorized",
    PaymentCaptured: "payment.captured",
    PaymentVoided: "payment.voided",
    PaymentRefunded: "payment.refunded",
}


async def tell_of_approval(occasion: Occasion, event: TutorApproved) -> Sequence[Post]:
    """Tell a tutor that they may teach."""
    facts = {"referral_code": event.referral_code}
    return await notify(occasion, [Notice(event.user_id, "profile_approved", facts, Page.TEACHING)])


async def tell_of_rejection(occasion: Occasion, event: TutorRejected) -> Sequence[Post]:
    """Tell a tutor why they may not teach."""
    return await notify(
        occasion, [Notice(event.user_id, "profile_rejected", {"reason": event.reason}, Page.PROFILE)]
    )


async def show_payment(
    _: Occasion, event: PaymentAuthorized | PaymentCaptured | PaymentVoided | PaymentRefunded
) -> Sequence[Post]:
    """Show both parties how far a payment is."""
    return [to_user(party, SHOWN[type(event)], event) for party in (event.student_id, event.tutor_id)]


async def tell_of_card(occasion: Occasion, event: AuthorizationNeeded) -> Sequence[Post]:
    """Tell a student that their bank wants to see them; no page of the client is about the cards of bookings."""
    facts = {
        "amount": event.amount,
        "until": f"{event.until:%Y-%m-%d %H:%M}",
        "payment_id": event.payment_id,
    }
    return await notify(occasion, [Notice(event.student_id, "authorization_needed", facts)])


async def tell_of_loss(occasion: Occasion, event: PaymentVoided) -> Sequence[Post]:
    """Tell both parties that a card brought nothing; of everything else whoever let a payment go tells."""
    if event.reason is not PaymentReason.CARD_FAILED:
        return ()
    facts = {"amount": event.amount, "payment_id": event.payment_id}
    return await notify(
        occasion,
        [Notice(party, "payment_failed", facts) for party in (event.student_id, event.tutor_id)],
    )


async def tell_of_card_refund(occasion: Occasion, event: PaymentRefunded) -> Sequence[Post]:
    """Tell a student what goes back to their card; of what is in their wallet its own events tell."""
    if not event.to_card:
        return ()
    facts = {"refunded": event.refunded, "payment_id": event.payment_id}
    return await notify(occasion, [Notice(event.student_id, "refunded_to_card", facts, Page.WALLET)])


async def tell_of_failed_refund(occasion: Occasion, event: CardRefundFailed) -> Sequence[Post]:
    """Tell a student that their bank took no refund, and what of it their bank had given them already."""
    facts: dict[str, Any] = {"refunded": event.refunded, "payment_id": event.payment_id}
    notice = "card_refund_failed"
    if event.kept is not None:
        notice, facts = "card_refund_kept", facts | {"kept": event.kept}
    return await notify(occasion, [Notice(event.student_id, notice, facts, Page.WALLET)])


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    TutorApproved: (tell_of_approval,),
    TutorRejected: (tell_of_rejection,),
    AuthorizationNeeded: (tell_of_card,),
    PaymentAuthorized: (show_payment,),
    PaymentCaptured: (show_payment,),
    PaymentVoided: (show_payment, tell_of_loss),
    PaymentRefunded: (show_payment, tell_of_card_refund),
    CardRefundFailed: (tell_of_failed_refund,),
}
