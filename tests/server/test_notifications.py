"""Notifications: one record an event and person, in their language, pushed and readable."""

import re
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import func, select, update

from billing.messages import CardRefundFailed
from billing.models import OwnerId, PaymentReason
from billing.money import Money
from server import texts
from server.context import Principal
from server.errors import NotFoundError
from server.features.accounts.models import User
from server.features.notifications import reactions
from server.features.notifications.models import Notification
from server.features.notifications.notices import Notice, Page, forget, notify
from server.reaction import Occasion
from tests.server.stage import Stage

REFUND = "refund_processed"
FACTS = {"amount": Money(1_250)}


async def tell(stage: Stage, *people: Principal, key: str = "1") -> list[str]:
    """Tell people of a refund and return the channels to push to."""
    async with stage.parts.sessions.begin() as session:
        occasion = Occasion(session, key, stage.parts.clock.now())
        posts = await notify(
            occasion, [Notice(person.user_id, REFUND, FACTS, Page.WALLET) for person in people]
        )
    assert {post.ev for post in posts} <= {"notification.created"}
    return sorted(post.channel for post in posts)


async def test_everybody_is_told_and_pushed_to(stage: Stage) -> None:
    ann, bob = await stage.people(2)

    channels = await tell(stage, ann, bob)

    [shown] = (await stage.do("notification.list", ann))["items"]
    assert channels == sorted(f"user:{person.user_id}" for person in (ann, bob))
    assert (shown["type"], shown["title"], shown["text"]) == (
        REFUND,
        "Refund",
        "12.50 USD are back in your wallet.",
    )
    assert shown["data"] == {"amount": {"amount": 1_250, "currency": "USD"}}
    assert (shown["link"], shown["read_at"]) == ("/wallet", None)


async def test_repeated_reaction_makes_no_second_record(stage: Stage) -> None:
    [ann] = await stage.people(1)

    await tell(stage, ann)
    again = await tell(stage, ann)
    other = await tell(stage, ann, key="2")

    assert again == []
    assert len(other) == 1
    assert (await stage.do("notification.count", ann)) == {"unread": 2}


async def test_people_are_told_in_their_language(stage: Stage) -> None:
    [ann] = await stage.people(1)
    async with stage.parts.sessions.begin() as session:
        await session.execute(update(User).where(User.id == ann.user_id).values(locale="vi"))

    await tell(stage, ann)

    [shown] = (await stage.do("notification.list", ann))["items"]
    assert shown["text"] == "12,50 USD đã được hoàn vào ví của bạn."


async def test_a_student_is_told_of_a_refund_that_no_card_took_and_of_what_their_bank_gave_them(
    stage: Stage,
) -> None:
    [ann] = await stage.people(1)
    moved = CardRefundFailed(
        payment_id=UUID(int=1),
        lesson_id=UUID(int=2),
        student_id=OwnerId(ann.user_id),
        tutor_id=OwnerId(UUID(int=3)),
        amount=Money(10_000),
        reason=PaymentReason.CARD_FAILED,
        refunded=Money(4_000),
    )
    lost = msgspec.structs.replace(moved, refunded=Money(0), kept=Money(4_000))

    for number, event in enumerate((moved, lost)):
        async with stage.parts.sessions.begin() as session:
            occasion = Occasion(session, f"card_refund:{number}", stage.parts.clock.now())
            await reactions.tell_of_failed_refund(occasion, event)

    told = (await stage.do("notification.list", ann))["items"]
    assert {one["text"] for one in told} == {
        "40.00 USD came back and are in your wallet.",
        "40.00 USD of it your bank had given you already, so they stay with us; 0.00 USD are in your wallet.",
    }


async def test_account_that_is_gone_is_not_told(stage: Stage) -> None:
    async with stage.parts.sessions.begin() as session:
        occasion = Occasion(session, "1", stage.parts.clock.now())
        posts = await notify(occasion, [Notice(UUID(int=9), REFUND, FACTS)])

    assert posts == []


async def test_list_is_newest_first_paged_and_filtered(stage: Stage) -> None:
    [ann] = await stage.people(1)
    for number in range(5):
        await tell(stage, ann, key=str(number))

    first = await stage.do("notification.list", ann, limit=3)
    second = await stage.do("notification.list", ann, limit=3, cursor=first["next_cursor"])
    await stage.do("notification.read", ann, notification_id=first["items"][0]["id"])
    unread = await stage.do("notification.list", ann, unread=True)

    times = [one["created_at"] for one in first["items"] + second["items"]]
    assert times == sorted(times, reverse=True)
    assert (len(first["items"]), len(second["items"]), second["next_cursor"]) == (3, 2, None)
    assert (len(unread["items"]), unread["unread"]) == (4, 4)


async def test_reading_is_kept_and_may_be_repeated(stage: Stage) -> None:
    [ann] = await stage.people(1)
    await tell(stage, ann)
    await tell(stage, ann, key="2")
    [first, _] = (await stage.do("notification.list", ann))["items"]

    once = await stage.do("notification.read", ann, notification_id=first["id"])
    twice = await stage.do("notification.read", ann, notification_id=first["id"])
    everything = await stage.do("notification.read_all", ann)

    assert once["read_at"] == twice["read_at"] is not None
    assert everything == await stage.do("notification.count", ann) == {"unread": 0}


async def test_notification_of_others_is_not_found(stage: Stage) -> None:
    ann, bob = await stage.people(2)
    await tell(stage, ann)
    [own] = (await stage.do("notification.list", ann))["items"]

    with pytest.raises(NotFoundError):
        await stage.do("notification.read", bob, notification_id=own["id"])

    assert (await stage.do("notification.list", bob))["items"] == []


async def test_old_notifications_are_forgotten(stage: Stage) -> None:
    [ann] = await stage.people(1)
    await tell(stage, ann)

    async with stage.parts.sessions.begin() as session:
        removed = await forget(session, before=stage.parts.clock.now())
        left = await session.scalar(select(func.count()).select_from(Notification))

    assert (removed, left) == (1, 0)


@pytest.mark.parametrize(
    "key", texts.NOTICES | texts.PAGES | texts.TERMS | texts.PACKAGE_RULES | texts.REFUND_RULES
)
def test_text_has_the_same_facts_in_every_language(key: str) -> None:
    entry = (texts.NOTICES | texts.PAGES | texts.TERMS | texts.PACKAGE_RULES | texts.REFUND_RULES)[key]

    facts = [set(re.findall(r"{(\w+)}", text.title + text.body)) for text in entry]

    assert facts[0] == facts[1]


@pytest.mark.parametrize(
    ("cents", "english", "vietnamese"),
    [
        (0, "0.00 USD", "0,00 USD"),
        (123_456_789, "1,234,567.89 USD", "1.234.567,89 USD"),
        (-5, "-0.05 USD", "-0,05 USD"),
    ],
)
def test_money_is_written_as_people_write_it(cents: int, english: str, vietnamese: str) -> None:
    assert (texts.money(Money(cents), "en"), texts.money(Money(cents), "vi")) == (english, vietnamese)


def test_notices_lead_to_pages_that_the_client_has(root: Path) -> None:
    tables = (root / "server/web/app").glob("*/routes.ts")
    routes = {path for table in tables for path in re.findall(r'path: "([^"]+)", page:', table.read_text())}

    assert set(Page) - routes == set()
