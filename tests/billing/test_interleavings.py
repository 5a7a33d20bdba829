"""Two who decide about the same at once: whichever comes between whose statements, one of them decided.

Each pair is lived in every order in which one can come between two statements of the other (`between.py`): who is second
waits, or finds what the first left. Random crowds are in `test_races.py`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from itertools import combinations, count
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from billing import holds, jobs, packages, policy, refunds, releases, settlement, wallet
from billing.errors import (
    HoldNotHeldError,
    LeaseLostError,
    LessonNotTakenError,
    PaymentStateError,
    PolicyMovedError,
    RefundTooLargeError,
)
from billing.models import Cause, HoldId, JobRow, PaymentMethod, PaymentReason, SourceKind, Verdict
from billing.money import split
from billing.policy import Changes, Enacted
from billing.refunds import GivenBack
from billing.settlement import Reconsidered
from tests.billing import older
from tests.billing.between import Do, Scene, every_way
from tests.billing.booker import Booker
from tests.billing.seller import Seller, enact
from tests.billing.world import (
    NOW,
    PLANNED_S,
    Sessions,
    balance,
    buy,
    earnings,
    end,
    facts,
    fund,
    new_hold,
    owner,
    usd,
    violations,
)

# The long form lives a pair some dozens of times.
pytestmark = pytest.mark.timeout(900)

ADMIN, WORDS = "admin:1", "The tutor was ill."
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
async def no_deadlocks(engine: AsyncEngine) -> AsyncIterator[None]:
    """After each test: nobody waited in a ring. A connection tells what it counted when it ends."""
    yield
    await engine.dispose()
    async with engine.connect() as connection:
        counted = await connection.scalar(
            text("select deadlocks from pg_stat_database where datname = current_database()")
        )
    assert counted == 0


class Stage(msgspec.Struct, frozen=True):
    """What everybody could do in one world, and what must have come of those two who did."""

    deeds: Mapping[str, Do]
    verify: Callable[[Mapping[str, object]], Awaitable[None]]


async def live(
    engine: AsyncEngine,
    pair: tuple[str, str],
    stage: Callable[[], Awaitable[Stage]],
    *,
    full: bool,
    most: int = 2,
) -> None:
    """Let these two meet in every way, or in the short form in some, each time in a new world."""

    async def scene() -> Scene:
        made = await stage()

        async def verify(*answers: object) -> None:
            await made.verify(dict(zip(pair, answers, strict=True)))

        return Scene((made.deeds[pair[0]], made.deeds[pair[1]]), verify)

    assert await every_way(engine, scene, most=None if full else most) >= 4


def pairs(*names: str) -> list[tuple[str, str]]:
    return list(combinations(names, 2))


def within(sessions: Sessions, deed: Callable[[AsyncSession], Awaitable[object]]) -> Do:
    """A deed in a transaction of its own."""

    async def do() -> object:
        async with sessions.begin() as session:
            return await deed(session)

    return do


# A hold ------------------------------------------------------------------------------------------------------------

PRICE, HALF = 10_000, 5_000


@pytest.mark.parametrize("pair", pairs("settle", "release", "refund"), ids="-".join)
async def test_a_hold_is_settled_released_or_refunded_by_one_of_two(
    sessions: Sessions, engine: AsyncEngine, pair: tuple[str, str], *, full: bool
) -> None:
    async def stage() -> Stage:
        student, tutor, lesson = owner(), owner(), uuid4()
        await fund(sessions, student, PRICE)
        [hold] = await buy(sessions, student, new_hold(PRICE, lesson_id=lesson, tutor_id=tutor))
        async with sessions.begin() as session:
            await settlement.due(session, facts(lesson, {student: PLANNED_S}), now=NOW)

        def settle(session: AsyncSession) -> Awaitable[object]:
            return settlement.settle(session, lesson, now=NOW)

        def release(session: AsyncSession) -> Awaitable[object]:
            return releases.by_hand(session, hold, percent=50, actor=ADMIN, reason=WORDS, now=NOW)

        def refund(session: AsyncSession) -> Awaitable[object]:
            why = Cause.ADMIN
            return holds.refund(session, [hold], cause=why, actor=ADMIN, reason=WORDS, key=str(hold), now=NOW)

        async def verify(answers: Mapping[str, object]) -> None:
            [by] = [
                name
                for name, answer in answers.items()
                if not isinstance(answer, HoldNotHeldError) and getattr(answer, "released", True) != ()
            ]
            assert (await balance(sessions, student), await earnings(sessions, tutor)) == {
                "settle": (0, split(PRICE, 3_000)[0]),
                "release": (HALF, split(HALF, 3_000)[0]),
                "refund": (PRICE, 0),
            }[by]

        deeds = {
            name: within(sessions, do)
            for name, do in (("settle", settle), ("release", release), ("refund", refund))
        }
        return Stage(deeds, verify)

    await live(engine, pair, stage, full=full)
    assert await violations(sessions) == []


# A package ---------------------------------------------------------------------------------------------------------

LESSON_PRICE = 1_000


@pytest.mark.parametrize(
    "pair", [*pairs("taken", "back", "rest"), ("taken", "settle"), ("rest", "settle")], ids="-".join
)
async def test_a_lesson_of_a_package_goes_back_one_way(
    sessions: Sessions, engine: AsyncEngine, pair: tuple[str, str], *, full: bool
) -> None:
    """An administrator gives its money back, its booking the lesson, somebody all that is left, or its end the lesson."""

    async def stage() -> Stage:
        seller, lesson = Seller(sessions), uuid4()
        package = await seller.sell(lessons=2, price=2 * LESSON_PRICE)
        hold = await seller.use(package, lesson)
        if "settle" in pair:
            known = facts(lesson, {seller.student: PLANNED_S}, tutor_attended_s=0)
            async with sessions.begin() as session:
                await settlement.due(session, known, now=NOW)

        def taken(session: AsyncSession) -> Awaitable[object]:
            return packages.refund_taken(session, package, hold, actor=ADMIN, reason=WORDS, now=NOW)

        def back(session: AsyncSession) -> Awaitable[object]:
            return packages.give_back(session, package, lesson, now=NOW)

        def rest(session: AsyncSession) -> Awaitable[object]:
            return packages.refund_rest(session, package, actor=ADMIN, reason=WORDS, now=NOW)

        def settle(session: AsyncSession) -> Awaitable[object]:
            return settlement.settle(session, lesson, now=NOW)

        async def verify(answers: Mapping[str, object]) -> None:
            status, _, used, _ = await seller.counts(package)
            by_admin = answers.get("taken", "nobody asked") is None
            if "taken" in answers and not by_admin:
                assert isinstance(answers["taken"], LessonNotTakenError)
            refunds = getattr(answers.get("settle"), "refunded", ())
            # The lesson is in its package again, or it stays taken; then its money went back, or is still held.
            returned = "back" in answers and answers["back"] is True
            returned |= "settle" in answers and not by_admin and refunds == ()
            assert used == 1 - returned
            money = by_admin or refunds == (hold,)
            assert by_admin + (refunds != ()) + returned == 1 or pair == ("back", "rest")
            over = "rest" in answers
            assert status == ("refunded" if over else "active")
            worth = LESSON_PRICE * (money + (1 + returned if over else 0))
            assert await balance(sessions, seller.student) == worth

        deeds = {"taken": taken, "back": back, "rest": rest, "settle": settle}
        return Stage({name: within(sessions, do) for name, do in deeds.items()}, verify)

    await live(engine, pair, stage, full=full)
    assert await violations(sessions) == []


# Terms -------------------------------------------------------------------------------------------------------------


async def test_planned_terms_are_replaced_by_one_of_two_owners(
    sessions: Sessions, engine: AsyncEngine, *, full: bool
) -> None:
    """Each knows the plan as the newest version; who comes second is told of what the first one made."""

    # Terms are everybody's, so each world plans for a little sooner than the one before it.
    worlds = count()

    async def stage() -> Stage:
        first = NOW + 300 * DAY - 3 * next(worlds) * DAY
        async with sessions.begin() as session:
            base = (await policy.newest(session)).version
            await policy.enact(
                session,
                Changes(min_price=200 + base),
                base_version=base,
                effective_from=first + 2 * DAY,
                actor=ADMIN,
                reason=WORDS,
                replace_planned=True,
                now=NOW,
            )

        def replacing(days: int) -> Do:
            return within(
                sessions,
                lambda session: policy.enact(
                    session,
                    Changes(course_risk_days=days + 1),
                    base_version=base + 1,
                    effective_from=first + days * DAY,
                    actor=ADMIN,
                    reason=WORDS,
                    replace_planned=True,
                    now=NOW,
                ),
            )

        async def verify(answers: Mapping[str, object]) -> None:
            [made] = [one for one in answers.values() if isinstance(one, Enacted)]
            [late] = [one for one in answers.values() if isinstance(one, PolicyMovedError)]
            assert late.facts == {"newest": base + 2}
            async with sessions() as session:
                newest, planned = await policy.history(session, limit=2)
                assert (newest.policy, newest.is_replaced, planned.is_replaced) == (made.policy, False, True)
                assert await policy.next_change(session, NOW) == made.effective_from
                assert await policy.current(session, made.effective_from) == made.policy
                assert await policy.current(session, first + 2 * DAY) == made.policy

        return Stage({"sooner": replacing(0), "later": replacing(1)}, verify)

    await live(engine, ("sooner", "later"), stage, full=full)


# Work --------------------------------------------------------------------------------------------------------------


class Nothing(msgspec.Struct):
    """What this work needs to know."""


@pytest.mark.parametrize("pair", pairs("do", "ask", "call off"), ids="-".join)
async def test_work_is_done_asked_for_again_or_called_off(
    sessions: Sessions, engine: AsyncEngine, pair: tuple[str, str], *, full: bool
) -> None:
    """Of work that is called off nothing happens afterwards, and what was asked for meanwhile is not forgotten."""

    async def stage() -> Stage:
        ann, key = owner(), str(uuid4())

        async def ask(session: AsyncSession) -> None:
            await jobs.enqueue(session, "credit", Nothing(), key=key, run_at=NOW)

        async with sessions.begin() as session:
            await ask(session)
        async with sessions.begin() as session:
            [claim] = await jobs.claim(session, [(("credit",), NOW)], limit=1, lease=timedelta(minutes=1))

        order = []

        async def do(session: AsyncSession) -> None:
            await jobs.require(session, claim)
            why = "Work that is done."
            await wallet.adjust(session, ann, usd(100), actor=ADMIN, reason=why, key=key, now=NOW)
            # What leaves the house, and no rollback brings back.
            order.append("sent")
            await jobs.finish(session, claim)

        async def call_off() -> None:
            async with sessions.begin() as session:
                await jobs.call_off(session, "credit", key=key)
            order.append("called off")

        async def verify(answers: Mapping[str, object]) -> None:
            done = "do" in answers and answers["do"] is None
            assert done or isinstance(answers.get("do", LeaseLostError("credit", key)), LeaseLostError)
            async with sessions.begin() as session:
                asked = await session.scalar(select(JobRow.asked).where(JobRow.key == key))
                await jobs.call_off(session, "credit", key=key)
            assert await balance(sessions, ann) == 100 * done
            assert order != ["called off", "sent"]
            if "ask" not in answers:
                assert asked is None
            elif "call off" not in answers:
                assert (done, asked) in ((True, 1), (True, 2))
            else:
                # Whoever asks after it was called off asks for something new.
                assert asked in (None, 1)

        deeds = {"do": within(sessions, do), "ask": within(sessions, ask), "call off": call_off}
        return Stage(deeds, verify)

    await live(engine, pair, stage, full=full)
    assert await violations(sessions) == []


# A lesson's end, beside a process of before migration 0026 ---------------------------------------------------------


@pytest.mark.parametrize("frozen_by", ["older", "newer"])
async def test_a_lesson_is_settled_once_by_an_older_process_or_a_newer_one(
    sessions: Sessions, engine: AsyncEngine, frozen_by: str, *, full: bool
) -> None:
    """By the rule of who froze its facts: one threshold for all, or that of each sale, which an older process breaks."""
    async with sessions.begin() as session:
        await policy.enact(
            session,
            Changes(attendance_percent=60),
            base_version=1,
            effective_from=NOW,
            actor=ADMIN,
            reason=WORDS,
            now=NOW,
        )

    refusals: list[str] = []

    async def stage() -> Stage:
        student, newer, tutor, lesson = owner(), owner(), owner(), uuid4()
        for one, version in ((student, 1), (newer, 2)):
            await fund(sessions, one, PRICE)
            wanted = new_hold(PRICE, lesson_id=lesson, tutor_id=tutor, policy_version=version)
            await buy(sessions, one, wanted)
        # 40 of 90 minutes: enough by the terms of the first sale, too little by those at the lesson's end.
        known = facts(lesson, {student: PLANNED_S, newer: PLANNED_S}, tutor_id=tutor, tutor_attended_s=2_400)
        known = msgspec.structs.replace(known, tutor_absent=True)
        async with sessions.begin() as session:
            await (older if frozen_by == "older" else settlement).due(session, known, now=NOW)

        async def verify(answers: Mapping[str, object]) -> None:
            await settlement.sweep(sessions, NOW)
            was_given = frozen_by == "newer"
            assert await balance(sessions, student) == PRICE * (not was_given)
            assert await balance(sessions, newer) == PRICE
            assert await earnings(sessions, tutor) == split(PRICE, 3_000)[0] * was_given

        async def older_settle() -> object:
            try:
                return await within(sessions, lambda session: older.settle(session, lesson, now=NOW))()
            except IntegrityError as error:
                # It stays due, as the sweeper of such a process leaves it.
                refusals.append(str(error))
                return None

        deeds = {
            "older": older_settle,
            "newer": within(sessions, lambda session: settlement.settle(session, lesson, now=NOW)),
        }
        return Stage(deeds, verify)

    await live(engine, ("older", "newer"), stage, full=full)
    assert bool(refusals) is (frozen_by == "newer")
    assert all("TUTOR_GUARD" in refusal for refusal in refusals)
    assert await violations(sessions) == []


# The payment of a booking ------------------------------------------------------------------------------------------

ENDS = {
    Verdict.VOID: ["VOIDED"],
    Verdict.CAPTURE: ["CAPTURED"],
    Verdict.RETURN: ["CAPTURED", "REFUNDED"],
}
WITH_LESSON = [("settle", deed) for deed in ("capture", "void", "return", "accept")]
BEFORE_IT = pairs("accept", "expire", "cancel")


@pytest.mark.parametrize("pair", [*WITH_LESSON, *BEFORE_IT], ids="-".join)
async def test_how_a_payment_ends_is_decided_by_one_of_two(
    sessions: Sessions, engine: AsyncEngine, pair: tuple[str, str], *, full: bool
) -> None:
    """People, or the lesson to which only the student came."""

    async def stage() -> Stage:
        booker = Booker(sessions)
        return await decided(booker, await booker.by_wallet(), pair)

    await live(engine, pair, stage, full=full)
    assert await violations(sessions) == []


async def test_how_a_card_is_asked_is_decided_by_one_of_two(
    sessions: Sessions, engine: AsyncEngine, *, full: bool
) -> None:
    """The money is nowhere yet: whoever decided, Stripe captures it or lets it go."""
    bookers: list[Booker] = []

    async def stage() -> Stage:
        booker = Booker(sessions, fake=bookers[0].fake if bookers else None)
        bookers.append(booker)
        return await decided(booker, await booker.by_card(), pair)

    for pair in [*WITH_LESSON, *BEFORE_IT] if full else WITH_LESSON[:1]:
        await live(engine, pair, stage, full=full)
    await bookers[0].checked()


async def decided(booker: Booker, payment: UUID, pair: tuple[str, str]) -> Stage:
    """A payment about which these two are to decide."""
    sessions = booker.sessions
    if "accept" not in pair and "expire" not in pair:
        await booker.accept(payment)
    lesson = (await booker.row(payment)).lesson_id
    if "settle" in pair:
        known = facts(lesson, {booker.student: PLANNED_S}, tutor_id=booker.tutor, tutor_attended_s=0)
        async with sessions.begin() as session:
            await settlement.due(session, known, now=NOW)
    deeds: dict[str, Do] = {
        "settle": within(sessions, lambda session: settlement.settle(session, lesson, now=NOW)),
        "capture": lambda: booker.capture(payment),
        "void": lambda: booker.void(payment),
        "return": lambda: booker.return_whole(payment),
        "accept": lambda: booker.accept(payment),
        "expire": lambda: booker.void(payment, PaymentReason.EXPIRED),
        "cancel": lambda: booker.void(payment, PaymentReason.WITHDRAWN),
    }

    async def verify(answers: Mapping[str, object]) -> None:
        await booker.run()
        row = await booker.row(payment)
        refused = {name for name, answer in answers.items() if isinstance(answer, PaymentStateError)}
        assert row.verdict is not None
        by_lesson = row.verdict_actor == settlement.ACTOR
        if "settle" in pair:
            assert refused == ({pair[1]} if by_lesson else set()) or pair[1] in ("accept", "return")
        else:
            # What was agreed can still be let go, and what was let go is not agreed any more.
            assert refused == ({"accept"} if "accept" in pair and row.accepted_at is None else set())
        agreed = ["AUTHORIZED"] if row.verdict != Verdict.VOID or row.accepted_at is not None else []
        assert await booker.way(payment) == ["PENDING", *agreed, *ENDS[Verdict(row.verdict)]]
        is_back = row.method == PaymentMethod.WALLET and row.verdict != Verdict.CAPTURE
        assert await balance(sessions, booker.student) == PRICE * is_back

    return Stage(deeds, verify)


# Late evidence ------------------------------------------------------------------------------------------------------


async def test_late_evidence_and_who_gives_money_back_meet_at_the_hold(
    sessions: Sessions, engine: AsyncEngine, *, full: bool
) -> None:
    """What people gave back is not judged again, also where they did while late evidence waited for them."""

    async def stage() -> Stage:
        student, tutor, lesson = owner(), owner(), uuid4()
        await fund(sessions, student, PRICE)
        wanted = new_hold(
            PRICE, lesson_id=lesson, tutor_id=tutor, source_kind=SourceKind.COURSE_SESSION, policy_version=2
        )
        [hold] = await buy(sessions, student, wanted)
        await end(sessions, facts(lesson, {student: PLANNED_S}, tutor_id=tutor))
        late = facts(lesson, {student: 0}, tutor_id=tutor)

        def hear(session: AsyncSession) -> Awaitable[object]:
            return settlement.reconsider(session, late, now=NOW)

        def give(session: AsyncSession) -> Awaitable[object]:
            return refunds.give_back(
                session,
                hold,
                amount=usd(HALF),
                cause=Cause.REFUND,
                actor=ADMIN,
                reason=WORDS,
                key=str(hold),
                now=NOW,
            )

        async def verify(answers: Mapping[str, object]) -> None:
            heard = answers["hear"]
            assert isinstance(heard, Reconsidered)
            if heard.adjusted:
                assert isinstance(answers["give"], RefundTooLargeError)
            else:
                assert heard == Reconsidered()
                assert isinstance(answers["give"], GivenBack)
            assert await balance(sessions, student) == (PRICE if heard.adjusted else HALF)

        return Stage({"hear": within(sessions, hear), "give": within(sessions, give)}, verify)

    await enact(sessions, Changes(course_risk_days=7))
    await live(engine, ("hear", "give"), stage, full=full)
    assert await violations(sessions) == []


async def test_late_evidence_of_many_waits_in_no_ring(
    sessions: Sessions, engine: AsyncEngine, *, full: bool
) -> None:
    """It adjusts hold by hold, in their order; the wallets of the same people are wanted in another one."""

    async def stage() -> Stage:
        students, tutor, lesson, other = [owner(), owner()], owner(), uuid4(), uuid4()
        # The holds of the lesson are in the other order than the wallets.
        for student, id_ in zip(students, sorted((uuid4(), uuid4()), reverse=True), strict=True):
            await fund(sessions, student, 2 * PRICE)
            for where in (lesson, other):
                wanted = new_hold(PRICE, lesson_id=where, tutor_id=tutor, policy_version=2)
                if where == lesson:
                    wanted = msgspec.structs.replace(wanted, id=HoldId(id_))
                await buy(sessions, student, wanted)
        await end(sessions, facts(lesson, dict.fromkeys(students, PLANNED_S), tutor_id=tutor))
        late = facts(lesson, dict.fromkeys(students, 0), tutor_id=tutor)
        async with sessions.begin() as session:
            await settlement.due(session, facts(other, {}, tutor_id=tutor), now=NOW)

        async def verify(answers: Mapping[str, object]) -> None:
            assert [await balance(sessions, student) for student in students] == [2 * PRICE] * 2

        deeds = {
            "hear": within(sessions, lambda session: settlement.reconsider(session, late, now=NOW)),
            "settle": within(sessions, lambda session: settlement.settle(session, other, now=NOW)),
        }
        return Stage(deeds, verify)

    await enact(sessions, Changes(course_risk_days=7))
    # One of these places is between the first hold and the second.
    await live(engine, ("hear", "settle"), stage, full=full, most=3)
    assert await violations(sessions) == []
