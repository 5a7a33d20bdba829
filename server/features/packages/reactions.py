"""What people are told of packages. Each may run twice; what becomes of single holds is told by the wallet."""

from collections.abc import Sequence

import msgspec

from billing.messages import (
    PackageBought,
    PackageEnding,
    PackageEvent,
    PackageExpired,
    PackageLessonReturned,
    PackageRefunded,
)
from server.features.accounts.models import names_of
from server.features.notifications.notices import Notice, Page, notify
from server.reaction import Occasion, Post, Reaction, to_user


async def show(_: Occasion, event: PackageEvent) -> Sequence[Post]:
    """Have the windows of both parties look at the package again."""
    name = str(type(event).__struct_config__.tag)
    return [to_user(party, name, event) for party in (event.student_id, event.tutor_id)]


async def tell_of_purchase(occasion: Occasion, event: PackageBought) -> Sequence[Post]:
    """Tell tutor and student what was bought."""
    student = (await names_of(occasion.session, [event.student_id]))[event.student_id]
    facts = _facts(event) | {"student": student, "price": event.price, "sessions": event.sessions}
    return await _tell(occasion, event, facts, student="package_confirmed", tutor="new_package_purchase")


async def tell_of_end(occasion: Occasion, event: PackageEnding) -> Sequence[Post]:
    """Remind the student of what is left."""
    facts = _facts(event) | {"remaining": event.remaining, "expires_at": f"{event.expires_at:%Y-%m-%d %H:%M}"}
    return await _tell(occasion, event, facts, student="package_ending")


async def tell_of_expiry(occasion: Occasion, event: PackageExpired) -> Sequence[Post]:
    """Tell both what became of the lessons that nobody took."""
    facts = _facts(event) | {"lessons": event.lessons, "amount": event.amount}
    kind = "package_expired" if event.is_released else "package_expired_refunded"
    return await _tell(occasion, event, facts, student=kind, tutor=kind)


async def tell_of_return(occasion: Occasion, event: PackageLessonReturned) -> Sequence[Post]:
    """Tell the student that a lesson can be taken again."""
    facts = _facts(event) | {"remaining": event.remaining}
    return await _tell(occasion, event, facts, student="package_lesson_returned")


async def tell_of_refund(occasion: Occasion, event: PackageRefunded) -> Sequence[Post]:
    """Tell both that the rest went back."""
    facts = _facts(event) | {"lessons": event.lessons, "amount": event.amount}
    return await _tell(occasion, event, facts, student="package_refunded", tutor="package_refunded")


async def _tell(
    occasion: Occasion,
    event: PackageEvent,
    facts: dict[str, object],
    *,
    student: str,
    tutor: str | None = None,
) -> Sequence[Post]:
    notices = [Notice(event.student_id, student, facts, Page.PACKAGE, event.package_id)]
    if tutor is not None:
        notices.append(Notice(event.tutor_id, tutor, facts, Page.PACKAGE, event.package_id))
    return await notify(occasion, notices)


def _facts(event: PackageEvent) -> dict[str, object]:
    return {"title": event.title, "package_id": event.package_id}


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    PackageBought: (show, tell_of_purchase),
    PackageEnding: (show, tell_of_end),
    PackageExpired: (show, tell_of_expiry),
    PackageLessonReturned: (show, tell_of_return),
    PackageRefunded: (show, tell_of_refund),
}
