"""What lessons and gifts brought the platform, by day and by product."""

from datetime import date, timedelta
from typing import Any
from uuid import uuid4

from billing import revenue, wallet
from billing.models import JournalKind, SourceKind
from billing.money import Money
from billing.revenue import Cost, Revenue, RevenuePeriod, SourceRevenue, Split
from tests.billing.earner import Earner
from tests.billing.world import NOW, PLANNED_S, Sessions, buy, end, facts, fund, new_hold, owner, usd

DAY = timedelta(days=1)
FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
SPAN: dict[str, Any] = {"by": "day", "zone": "UTC", "since": FIRST, "until": SECOND + DAY}


def parts(tutors: int, platform: int, students: int) -> dict[str, Money]:
    return {"to_tutors": usd(tutors), "to_platform": usd(platform), "to_students": usd(students)}


async def test_each_day_and_product_has_what_it_brought(sessions: Sessions) -> None:
    earner = Earner(sessions)
    for amount, tutor_attended_s, settled_at in ((1_000, PLANNED_S, NOW), (500, 0, NOW + DAY)):
        student, lesson = owner(), uuid4()
        await fund(sessions, student, amount)
        await buy(sessions, student, new_hold(amount, lesson_id=lesson, tutor_id=earner.tutor))
        known = facts(lesson, {student: PLANNED_S}, tutor_id=earner.tutor, tutor_attended_s=tutor_attended_s)
        await end(sessions, known, now=settled_at)
    await earner.teach(900, kind=SourceKind.BOOKING)

    async with sessions() as session:
        found = await revenue.revenue(session, **SPAN)
        second = await revenue.revenue(session, **SPAN | {"since": SECOND})

    gifts = usd(-2_400)
    assert found == Revenue(
        total=Split(**parts(1_200, 700, 500)),
        costs_in_all=gifts,
        net=usd(-1_700),
        sources=(
            SourceRevenue(source_kind=SourceKind.COURSE_SESSION, **parts(300, 700, 500)),
            SourceRevenue(source_kind=SourceKind.BOOKING, **parts(900, 0, 0)),
        ),
        costs=(Cost(kind=JournalKind.ADMIN_ADJUSTMENT, amount=gifts),),
        periods=(
            RevenuePeriod(begins=FIRST, **parts(1_200, 700, 0), costs=gifts, net=usd(-1_700)),
            RevenuePeriod(begins=SECOND, **parts(0, 0, 500), costs=usd(0), net=usd(0)),
        ),
    )
    assert second.periods == found.periods[1:]
    assert (second.costs, second.net) == ((), usd(0))


async def test_each_currency_is_summed_by_itself(sessions: Sessions) -> None:
    gift, nothing = Money(500, "EUR"), Money(0, "EUR")
    async with sessions.begin() as session:
        await wallet.adjust(
            session, owner(), gift, actor="admin:1", reason="A gift in euros.", key="euro", now=NOW
        )
    await fund(sessions, owner(), 700)

    async with sessions() as session:
        found = await revenue.revenue(session, **SPAN, currency="EUR")

    none = {"to_tutors": nothing, "to_platform": nothing, "to_students": nothing}
    cost = Money(-500, "EUR")
    assert found == Revenue(
        total=Split(**none),
        costs_in_all=cost,
        net=cost,
        sources=(),
        costs=(Cost(kind=JournalKind.ADMIN_ADJUSTMENT, amount=cost),),
        periods=(RevenuePeriod(begins=FIRST, **none, costs=cost, net=cost),),
    )
