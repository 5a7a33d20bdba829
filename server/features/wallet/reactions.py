"""What follows from moved money: what its parties see at once, and what they are told. Each may run twice."""

from collections.abc import Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from billing import wallet
from billing.messages import (
    GoodwillGiven,
    HoldAdjusted,
    HoldEvent,
    HoldGivenBack,
    HoldPlaced,
    HoldRefunded,
    HoldReleased,
    WalletChanged,
)
from billing.models import PLATFORM, Cause, SourceKind
from billing.money import Money
from server.features.accounts.models import names_of
from server.features.courses.models import Purchase, course_of
from server.features.courses.rules import PurchaseKind
from server.features.notifications.notices import Notice, Page, notify, notify_of_each
from server.features.wallet.messages import Earnings, WalletView
from server.reaction import Happened, Occasion, Post, Reaction, Together, to_user

# Events on the wire, by domain event; an adjustment shows itself with the notice that explains it.
SHOWN: dict[type[HoldEvent], str] = {
    HoldPlaced: "hold.placed",
    HoldReleased: "hold.released",
    HoldRefunded: "hold.refunded",
}


async def show_hold(_: Occasion, event: HoldPlaced | HoldReleased | HoldRefunded) -> Sequence[Post]:
    """Show both parties what became of a hold."""
    return [to_user(party, SHOWN[type(event)], event) for party in (event.student_id, event.tutor_id)]


async def show_wallets(session: AsyncSession, happened: Sequence[Happened]) -> Sequence[Sequence[Post]]:
    """Show people what they have now: once, however many of these changes were theirs."""
    last = {
        (event.owner_id, event.currency): number
        for number, (_, event) in enumerate(happened)
        if event.owner_id != PLATFORM
    }
    posts: list[list[Post]] = [[] for _ in happened]
    for currency in {currency for _, currency in last}:
        owners = [owner_id for owner_id, held in last if held == currency]
        for owner_id, has in (await wallet.balances_of(session, owners, currency)).items():
            view = WalletView(has.balance, has.held, Earnings(has.earnings_pending, has.earnings_available))
            posts[last[owner_id, currency]].append(to_user(owner_id, "wallet.updated", view))
    return posts


async def tell_of_purchase(occasion: Occasion, event: HoldPlaced) -> Sequence[Post]:
    """Tell tutor and student of a purchase: once, however many holds it has (F4-19)."""
    if event.source_kind not in (SourceKind.COURSE_SESSION, SourceKind.COURSE_SLICE):
        return ()
    purchase = await occasion.session.get(Purchase, event.source_id)
    assert purchase is not None, "a purchase and its holds are placed in one transaction"
    course = await course_of(occasion.session, purchase.course_id)
    names = await names_of(occasion.session, [purchase.student_id])
    facts = {
        "student": names[purchase.student_id],
        "course": course.title,
        "price": Money(purchase.amount, purchase.currency),
        "course_id": course.id,
        "purchase_id": purchase.id,
    }
    sold = "new_course_enrollment" if purchase.kind == PurchaseKind.FULL_COURSE else "new_session_purchase"
    return await notify(
        msgspec.structs.replace(occasion, key=f"purchase:{purchase.id}"),
        [
            Notice(purchase.tutor_id, sold, facts, Page.COURSE, course.id),
            Notice(purchase.student_id, "purchase_confirmed", facts, Page.COURSE, course.id),
        ],
    )


async def tell_of_settlements(
    session: AsyncSession, happened: Sequence[Happened]
) -> Sequence[Sequence[Post]]:
    """Tell each tutor what was paid out (F4-96), each student what came back (F4-97); of people's deeds, both (B-12)."""
    return await notify_of_each(session, [(occasion, _settled(event)) for occasion, event in happened])


def _settled(event: HoldReleased | HoldRefunded) -> list[Notice]:
    facts: dict[str, object] = {"amount": event.amount, "hold_id": event.hold_id}
    if isinstance(event, HoldReleased):
        paid = {"share": event.tutor_share, **facts}
        notices = [Notice(event.tutor_id, "payment_received", paid, Page.WALLET)]
        if event.cause is Cause.ADMIN:
            released = event.tutor_share.amount + event.platform_share.amount
            facts["released"] = Money(released, event.amount.currency)
            facts["refunded"] = Money(event.amount.amount - released, event.amount.currency)
            notices.append(Notice(event.student_id, "hold_released", facts, Page.HOLD, event.hold_id))
        return notices
    facts["cause"] = event.cause
    notices = [Notice(event.student_id, "refund_processed", facts, Page.WALLET)]
    # What was never taken of a package goes back at once, and is told with it.
    is_untaken = event.source_kind is SourceKind.PACKAGE_SLICE and event.lesson_id is None
    if event.cause is Cause.ADMIN and not is_untaken:
        notices.append(Notice(event.tutor_id, "hold_given_back", facts, Page.HOLD, event.hold_id))
    return notices


async def tell_of_adjustment(occasion: Occasion, event: HoldAdjusted) -> Sequence[Post]:
    """Tell both parties that late evidence corrected a settlement."""
    facts = {"share": event.tutor_share, "refunded": event.refunded, "hold_id": event.hold_id}
    return await notify(
        occasion,
        [
            Notice(party, "settlement_adjusted", facts, Page.WALLET)
            for party in (event.student_id, event.tutor_id)
        ],
    )


async def tell_of_return(occasion: Occasion, event: HoldGivenBack) -> Sequence[Post]:
    """Tell both parties that money of a settled lesson went back; what a bank took never was in the wallet."""
    facts = {
        "given": event.given,
        "from_tutor": event.from_tutor,
        "owed": event.owed,
        "cause": event.cause,
        "hold_id": event.hold_id,
    }
    notices = [Notice(event.tutor_id, "share_given_back", facts, Page.EARNINGS)]
    if event.cause is not Cause.CARD_DISPUTE:
        back = {"amount": event.given, "cause": event.cause, "hold_id": event.hold_id}
        notices.append(Notice(event.student_id, "refund_processed", back, Page.WALLET))
    return await notify(occasion, notices)


async def tell_of_goodwill(occasion: Occasion, event: GoodwillGiven) -> Sequence[Post]:
    """Tell somebody that we gave them credit."""
    facts = {"amount": event.amount, "why": event.why}
    return await notify(occasion, [Notice(event.owner_id, "goodwill_given", facts, Page.WALLET)])


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    HoldPlaced: (show_hold, tell_of_purchase),
    HoldReleased: (show_hold,),
    HoldRefunded: (show_hold,),
    HoldAdjusted: (tell_of_adjustment,),
    HoldGivenBack: (tell_of_return,),
    GoodwillGiven: (tell_of_goodwill,),
}

TOGETHER: dict[type[msgspec.Struct], tuple[Together, ...]] = {
    HoldReleased: (tell_of_settlements,),
    HoldRefunded: (tell_of_settlements,),
    WalletChanged: (show_wallets,),
}
