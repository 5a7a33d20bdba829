"""What follows from an application to teach, and from its refusal. Each may run twice."""

from collections.abc import Sequence

import msgspec

from server.features.accounts.messages import TutorRejected
from server.features.accounts.models import admins, user_of
from server.features.notifications.notices import Notice, Page, notify
from server.features.tutors.messages import TutorApplied
from server.features.tutors.models import profile_of
from server.reaction import Occasion, Post, Reaction


async def tell_of_application(occasion: Occasion, event: TutorApplied) -> Sequence[Post]:
    """Tell administrators that somebody waits for their decision."""
    tutor = await user_of(occasion.session, event.user_id)
    facts = {"name": tutor.name}
    found = await admins(occasion.session)
    return await notify(
        occasion, [Notice(admin, "tutor_applied", facts, Page.ADMIN_TUTORS) for admin in found]
    )


async def keep_answer(occasion: Occasion, event: TutorRejected) -> Sequence[Post]:
    """Keep why a tutor was refused where they read and change what they had written."""
    profile = await profile_of(occasion.session, event.user_id, now=occasion.at)
    profile.answer = event.reason
    occasion.session.add(profile)
    return ()


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    TutorApplied: (tell_of_application,),
    TutorRejected: (keep_answer,),
}
