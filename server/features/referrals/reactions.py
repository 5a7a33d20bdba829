"""What tutors are told of who came by them. It may run twice."""

from collections.abc import Sequence

import msgspec

from server.features.accounts.messages import UserRegistered
from server.features.accounts.models import user_of
from server.features.notifications.notices import Notice, Page, notify
from server.reaction import Occasion, Post, Reaction


async def tell_referrer(occasion: Occasion, event: UserRegistered) -> Sequence[Post]:
    """Tell a tutor that somebody registered with a code of theirs."""
    if event.referred_by is None:
        return ()
    user = await user_of(occasion.session, event.user_id)
    facts = {"name": user.name, "code": user.referred_code}
    return await notify(occasion, [Notice(event.referred_by, "new_referral", facts, Page.EARNINGS)])


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {UserRegistered: (tell_referrer,)}
