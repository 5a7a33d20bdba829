"""What people are told of their own accounts. Each may run twice."""

from collections.abc import Sequence

import msgspec

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


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    TutorApproved: (tell_of_approval,),
    TutorRejected: (tell_of_rejection,),
}
