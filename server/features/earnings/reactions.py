"""What follows when earnings leave: what the tutor sees at once, and who is told. Each may run twice."""

from collections.abc import Sequence

import msgspec

from billing.messages import (
    PayoutAccountChanged,
    PayoutFailed,
    WithdrawalApproved,
    WithdrawalCompleted,
    WithdrawalEvent,
    WithdrawalRejected,
    WithdrawalRequested,
)
from billing.models import WithdrawalStatus
from server.features.accounts.models import admins, names_of
from server.features.notifications.notices import Notice, Page, notify
from server.reaction import Occasion, Post, Reaction, to_user


class WithdrawalUpdated(msgspec.Struct, frozen=True):
    """What the tutor's windows see."""

    withdrawal_id: str
    status: WithdrawalStatus


async def tell_of_request(occasion: Occasion, event: WithdrawalRequested) -> Sequence[Post]:
    """Tell the administrators that somebody wants money."""
    facts = {**_facts(event), "tutor": await _name(occasion, event)}
    notices = [
        Notice(admin, "withdrawal_requested", facts, Page.ADMIN_WITHDRAWALS)
        for admin in await admins(occasion.session)
    ]
    return [_shown(event, WithdrawalStatus.PENDING), *await notify(occasion, notices)]


async def tell_of_approval(occasion: Occasion, event: WithdrawalApproved) -> Sequence[Post]:
    """Tell the tutor that the money is on its way."""
    notice = Notice(event.tutor_id, "withdrawal_approved", _facts(event), Page.EARNINGS)
    return [_shown(event, WithdrawalStatus.PROCESSING), *await notify(occasion, [notice])]


async def tell_of_completion(occasion: Occasion, event: WithdrawalCompleted) -> Sequence[Post]:
    """Tell the tutor that the money has left."""
    facts = {**_facts(event), "reference": event.reference}
    notice = Notice(event.tutor_id, "withdrawal_completed", facts, Page.EARNINGS)
    return [_shown(event, WithdrawalStatus.COMPLETED), *await notify(occasion, [notice])]


async def tell_of_rejection(occasion: Occasion, event: WithdrawalRejected) -> Sequence[Post]:
    """Tell the tutor why not, and that the money is back."""
    facts = {**_facts(event), "answer": event.answer}
    notice = Notice(event.tutor_id, "withdrawal_rejected", facts, Page.EARNINGS)
    return [_shown(event, WithdrawalStatus.REJECTED), *await notify(occasion, [notice])]


async def tell_of_failure(occasion: Occasion, event: PayoutFailed) -> Sequence[Post]:
    """Tell the administrators that Stripe could not pay: they try again, or give the money back."""
    facts = {**_facts(event), "tutor": await _name(occasion, event), "failure": event.failure}
    return await notify(
        occasion,
        [
            Notice(admin, "payout_failed", facts, Page.ADMIN_WITHDRAWALS)
            for admin in await admins(occasion.session)
        ],
    )


async def tell_of_account(occasion: Occasion, event: PayoutAccountChanged) -> Sequence[Post]:
    """Tell the tutor that their money goes somewhere else: it may not have been them."""
    facts = {"usable_from": f"{event.usable_from:%Y-%m-%d %H:%M}"}
    return await notify(occasion, [Notice(event.tutor_id, "payout_account_changed", facts, Page.EARNINGS)])


async def _name(occasion: Occasion, event: WithdrawalEvent) -> str:
    return (await names_of(occasion.session, [event.tutor_id]))[event.tutor_id]


def _facts(event: WithdrawalEvent) -> dict[str, object]:
    return {"amount": event.amount, "withdrawal_id": event.withdrawal_id}


def _shown(event: WithdrawalEvent, status: WithdrawalStatus) -> Post:
    data = WithdrawalUpdated(str(event.withdrawal_id), status)
    return to_user(event.tutor_id, "withdrawal.updated", data)


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    WithdrawalRequested: (tell_of_request,),
    WithdrawalApproved: (tell_of_approval,),
    WithdrawalCompleted: (tell_of_completion,),
    WithdrawalRejected: (tell_of_rejection,),
    PayoutFailed: (tell_of_failure,),
    PayoutAccountChanged: (tell_of_account,),
}
