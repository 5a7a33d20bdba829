"""Who is told of disputes, of people and of banks. Each may run twice."""

from collections.abc import Sequence

import msgspec

from billing.messages import CardDisputeChanged, DisputeEvent, DisputeOpened, DisputeResolved
from billing.models import DisputeStatus, OwnerId
from server.features.accounts.models import admins
from server.features.notifications.notices import Notice, Page, notify
from server.reaction import Occasion, Post, Reaction, to_user


class DisputeUpdated(msgspec.Struct, frozen=True):
    """What the windows of both parties see."""

    dispute_id: str
    status: DisputeStatus


async def tell_of_dispute(occasion: Occasion, event: DisputeOpened) -> Sequence[Post]:
    """Tell both parties, and the administrators, who decide."""
    facts = {**_facts(event), "frozen": event.frozen}
    notices = [Notice(party, "dispute_opened", facts, Page.HOLD, event.hold_id) for party in _parties(event)]
    notices += [
        Notice(admin, "dispute_opened", facts, Page.ADMIN_DISPUTES)
        for admin in await admins(occasion.session)
    ]
    return [*_shown(event, DisputeStatus.OPEN), *await notify(occasion, notices)]


async def tell_of_decision(occasion: Occasion, event: DisputeResolved) -> Sequence[Post]:
    """Tell both parties what was decided, and why."""
    facts = {**_facts(event), "notes": event.notes, "refunded": event.refunded}
    kind = "dispute_upheld" if event.status is DisputeStatus.UPHELD else "dispute_refunded"
    notices = [Notice(party, kind, facts, Page.HOLD, event.hold_id) for party in _parties(event)]
    return [*_shown(event, event.status), *await notify(occasion, notices)]


async def tell_of_bank(occasion: Occasion, event: CardDisputeChanged) -> Sequence[Post]:
    """Tell the payer what their bank does, and the administrators, who have some days to give evidence."""
    facts = {"amount": event.amount, "card_dispute_id": event.card_dispute_id}
    kind = f"card_dispute_{event.status}"
    notices = [Notice(event.owner_id, kind, facts, Page.WALLET)]
    more = {**facts, "dispute": event.dispute}
    notices += [Notice(admin, kind, more, Page.ADMIN_DISPUTES) for admin in await admins(occasion.session)]
    return await notify(occasion, notices)


def _parties(event: DisputeEvent) -> tuple[OwnerId, OwnerId]:
    return event.student_id, event.tutor_id


def _facts(event: DisputeEvent) -> dict[str, object]:
    return {"dispute_id": event.dispute_id, "hold_id": event.hold_id, "reason": event.reason}


def _shown(event: DisputeEvent, status: DisputeStatus) -> list[Post]:
    data = DisputeUpdated(str(event.dispute_id), status)
    return [to_user(party, "dispute.updated", data) for party in _parties(event)]


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    DisputeOpened: (tell_of_dispute,),
    DisputeResolved: (tell_of_decision,),
    CardDisputeChanged: (tell_of_bank,),
}
