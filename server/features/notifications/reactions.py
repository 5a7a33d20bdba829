"""What people are told of their own accounts, and of the payments of their bookings. Each may run twice."""

from collections.abc import Sequence

import msgspec

from billing.messages import AuthorizationNeeded, CardRefundFailed, PaymentRefunded, PaymentVoided
from billing.models import PaymentReason
from server.features.accounts.messages import TutorApproved, TutorRejected
from server.features.notifications.notices import Notice, notify
from server.reaction import Occasion, Post, Reaction


async def tell_of_approval(occasion: Occasion, event: TutorApproved) -> Sequence[Post]:
    """Tell a tutor that they may teach."""
    facts = {"referral_code": event.referral_code}
    return await notify(occasion, [Notice(event.user_id, "profile_approved", facts, "/settings")])


async def tell_of_rejection(occasion: Occasion, event: TutorRejected) -> Sequence[Post]:
    """Tell a tutor why they may not teach."""
    return await notify(
        occasion, [Notice(event.user_id, "profile_rejected", {"reason": event.reason}, "/settings")]
    )


async def tell_of_card(occasion: Occasion, event: AuthorizationNeeded) -> Sequence[Post]:
    """Tell a student that their bank wants to see them."""
    facts = {
        "amount": event.amount,
        "until": f"{event.until:%Y-%m-%d %H:%M}",
        "payment_id": event.payment_id,
    }
    return await notify(occasion, [Notice(event.student_id, "authorization_needed", facts, "/bookings")])


async def tell_of_loss(occasion: Occasion, event: PaymentVoided) -> Sequence[Post]:
    """Tell both parties that a card brought nothing; of everything else whoever let a payment go tells."""
    if event.reason is not PaymentReason.CARD_FAILED:
        return ()
    facts = {"amount": event.amount, "payment_id": event.payment_id}
    return await notify(
        occasion,
        [Notice(party, "payment_failed", facts, "/bookings") for party in (event.student_id, event.tutor_id)],
    )


async def tell_of_card_refund(occasion: Occasion, event: PaymentRefunded) -> Sequence[Post]:
    """Tell a student what goes back to their card; of what is in their wallet its own events tell."""
    if not event.to_card:
        return ()
    facts = {"refunded": event.refunded, "payment_id": event.payment_id}
    return await notify(occasion, [Notice(event.student_id, "refunded_to_card", facts, "/wallet")])


async def tell_of_failed_refund(occasion: Occasion, event: CardRefundFailed) -> Sequence[Post]:
    """Tell a student that their bank took no refund."""
    facts = {"refunded": event.refunded, "payment_id": event.payment_id}
    return await notify(occasion, [Notice(event.student_id, "card_refund_failed", facts, "/wallet")])


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    TutorApproved: (tell_of_approval,),
    TutorRejected: (tell_of_rejection,),
    AuthorizationNeeded: (tell_of_card,),
    PaymentVoided: (tell_of_loss,),
    PaymentRefunded: (tell_of_card_refund,),
    CardRefundFailed: (tell_of_failed_refund,),
}
