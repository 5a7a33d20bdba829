"""What follows when a top-up ends. Each may run twice."""

from collections.abc import Sequence

import msgspec

from billing.messages import TopUpFailed, TopUpSucceeded
from billing.models import TopUpStatus
from server.features.notifications.notices import Notice, Page, notify
from server.reaction import Occasion, Post, Reaction, to_user


class TopUpUpdated(msgspec.Struct, frozen=True):
    """What the payer's other windows see."""

    top_up_id: str
    status: TopUpStatus


async def tell_of_success(occasion: Occasion, event: TopUpSucceeded) -> Sequence[Post]:
    """Tell the payer that the money is there."""
    notice = Notice(event.owner_id, "top_up_succeeded", _facts(event), Page.WALLET)
    return [_shown(event, TopUpStatus.SUCCEEDED), *await notify(occasion, [notice])]


async def tell_of_failure(occasion: Occasion, event: TopUpFailed) -> Sequence[Post]:
    """Tell the payer that it is not; who just did not pay knows that, and is not told."""
    posts = [_shown(event, event.status)]
    if event.status is TopUpStatus.FAILED:
        posts += await notify(occasion, [Notice(event.owner_id, "top_up_failed", _facts(event), Page.WALLET)])
    return posts


def _facts(event: TopUpSucceeded | TopUpFailed) -> dict[str, object]:
    return {"amount": event.amount, "top_up_id": event.top_up_id}


def _shown(event: TopUpSucceeded | TopUpFailed, status: TopUpStatus) -> Post:
    return to_user(event.owner_id, "top_up.updated", TopUpUpdated(str(event.top_up_id), status))


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    TopUpSucceeded: (tell_of_success,),
    TopUpFailed: (tell_of_failure,),
}
