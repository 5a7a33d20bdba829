"""The rules of a booking's payment: every arrow, every end of a lesson, and what a card needs next."""

from datetime import datetime, timedelta
from itertools import pairwise, product
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from billing import payment_states
from billing.errors import PaymentStateError
from billing.facts import decide_booking
from billing.models import (
    START,
    AuthorizationStatus,
    CardAuthorization,
    Cause,
    Payment,
    PaymentMethod,
    PaymentReason,
    PaymentState,
    Verdict,
)
from billing.payment_states import CardStep, next_card_step
from tests.billing.world import NOW, Sessions, owner

# Those of the requirements, ED-50 to ED-56, written down once more.
ARROWS = {
    ("PENDING", "AUTHORIZED"),
    ("AUTHORIZED", "CAPTURED"),
    ("CAPTURED", "REFUNDED"),
    ("PENDING", "VOIDED"),
    ("AUTHORIZED", "VOIDED"),
    ("CAPTURED", "PARTIALLY_REFUNDED"),
    ("PARTIALLY_REFUNDED", "REFUNDED"),
}
HOUR = timedelta(hours=1)


def test_exactly_the_arrows_of_the_requirements_are_open() -> None:
    every = list(product(PaymentState, PaymentState))

    open_ = {(a.value, b.value) for a, b in every if payment_states.may_go(a, b)}

    assert len(every) == 36
    assert open_ == ARROWS


@pytest.mark.parametrize(("state", "to"), sorted(ARROWS))
def test_an_open_arrow_is_no_error(state: str, to: str) -> None:
    payment_states.require_arrow(PaymentState(state), PaymentState(to))


@pytest.mark.parametrize(
    ("state", "to"),
    [pair for pair in product(PaymentState, PaymentState) if (pair[0].value, pair[1].value) not in ARROWS],
)
def test_every_other_arrow_is_refused(state: PaymentState, to: PaymentState) -> None:
    with pytest.raises(PaymentStateError) as refused:
        payment_states.require_arrow(state, to)
    assert refused.value.facts == {"state": state, "verdict": None}


async def test_the_database_has_the_same_arrows(sessions: Sessions) -> None:
    async with sessions() as session:
        rows = await session.execute(text("select from_state, to_state from payment_transition"))

        assert {(a, b) for a, b in rows} == ARROWS | {("NEW", "PENDING")}


async def test_the_database_refuses_every_other_arrow(sessions: Sessions) -> None:
    """A history is led to each state, and from there to each."""
    refused = {}
    for state, to in product(PaymentState, PaymentState):
        async with sessions() as session:
            refused[state.value, to.value] = await refusal(session, [*WAYS[state], to])

    assert {arrow for arrow, name in refused.items() if name is None} == ARROWS
    assert set(refused.values()) == {None, "fk_payment_event_from_state_to_state"}


async def test_a_history_has_no_gaps_no_forks_and_one_beginning(sessions: Sessions) -> None:
    begun, agreed, voided = PaymentState.PENDING, PaymentState.AUTHORIZED, PaymentState.VOIDED
    cases: list[tuple[str, list[tuple[int, str, str]]]] = [
        ("ck_payment_event_begins_new", [(1, begun, agreed)]),
        ("fk_payment_event_payment_id_prev_seq_from_state", [(1, START, begun), (3, begun, agreed)]),
        ("pk_payment_event", [(1, START, begun), (2, begun, agreed), (2, begun, voided)]),
        # After a void there is no capture, by any detour.
        (
            "fk_payment_event_payment_id_prev_seq_from_state",
            [(1, START, begun), (2, begun, voided), (3, agreed, PaymentState.CAPTURED)],
        ),
    ]

    for name, steps in cases:
        async with sessions() as session:
            assert await refused_by(session, steps) == name


INSERT = text(
    "insert into payment_event (payment_id, seq, from_state, to_state, reason, actor, at)"
    " values (:id, :seq, :from, :to, 'OTHER', 'system:test', :now)"
)
WAYS: dict[PaymentState, list[PaymentState]] = {
    PaymentState.PENDING: [PaymentState.PENDING],
    PaymentState.AUTHORIZED: [PaymentState.PENDING, PaymentState.AUTHORIZED],
    PaymentState.VOIDED: [PaymentState.PENDING, PaymentState.VOIDED],
}
WAYS[PaymentState.CAPTURED] = [*WAYS[PaymentState.AUTHORIZED], PaymentState.CAPTURED]
WAYS[PaymentState.REFUNDED] = [*WAYS[PaymentState.CAPTURED], PaymentState.REFUNDED]
WAYS[PaymentState.PARTIALLY_REFUNDED] = [*WAYS[PaymentState.CAPTURED], PaymentState.PARTIALLY_REFUNDED]


async def refusal(session: AsyncSession, states: list[PaymentState]) -> str | None:
    return await refused_by(
        session, [(seq, *pair) for seq, pair in enumerate(pairwise([START, *states]), start=1)]
    )


async def refused_by(session: AsyncSession, steps: list[tuple[int, str, str]]) -> str | None:
    """Name of the constraint that refuses a history."""
    payment_id = uuid4()
    try:
        for seq, state, to in steps:
            values = {"id": payment_id, "seq": seq, "from": state, "to": to, "now": NOW}
            await session.execute(INSERT, values)
    except DBAPIError as error:
        return str(getattr(getattr(error.orig, "__cause__", None), "constraint_name", error))
    return None


@pytest.mark.parametrize(
    ("student_came", "tutor_came", "verdict", "reason"),
    [
        (True, True, Verdict.CAPTURE, PaymentReason.COMPLETED),
        (False, True, Verdict.CAPTURE, PaymentReason.NO_SHOW_STUDENT),
        (True, False, Verdict.RETURN, PaymentReason.NO_SHOW_TUTOR),
        (False, False, Verdict.VOID, PaymentReason.NOT_HELD),
    ],
)
def test_who_came_decides_how_a_payment_ends(
    student_came: bool, tutor_came: bool, verdict: Verdict, reason: PaymentReason
) -> None:
    came = {"student_came": student_came, "tutor_came": tutor_came}

    assert payment_states.outcome(**came, cancelled=False) == (verdict, reason)
    assert payment_states.outcome(**came, cancelled=True) == (Verdict.VOID, PaymentReason.CANCELLED)


@pytest.mark.parametrize("cancelled", [True, False])
@pytest.mark.parametrize("student_s", [0, 1, 5_400])
@pytest.mark.parametrize("tutor_s", [0, 1, 5_400])
def test_the_hold_is_divided_as_its_payment_ends(tutor_s: int, student_s: int, cancelled: bool) -> None:
    decision = decide_booking(
        amount=3_333,
        tutor_bps=3_000,
        attended_s=student_s,
        total_s=5_400,
        threshold_percent=20,
        tutor_attended_s=tutor_s,
        cancelled=cancelled,
    )
    verdict, _ = payment_states.outcome(
        student_came=student_s > 0, tutor_came=tutor_s > 0, cancelled=cancelled
    )

    paid = (999, 2_334, 0)
    assert (decision.to_tutor, decision.to_platform, decision.to_student) == (
        paid if verdict is Verdict.CAPTURE else (0, 0, 3_333)
    )
    assert decision.cause is (Cause.CANCELLED if cancelled else Cause.OUTCOME)


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("state", payment_states.UNDECIDED)
def test_every_way_of_a_verdict_is_made_of_arrows(state: PaymentState, verdict: Verdict) -> None:
    steps = [state, *payment_states.path(state, verdict)]

    assert all(payment_states.may_go(a, b) for a, b in pairwise(steps))
    assert (
        steps[-1]
        is {
            Verdict.CAPTURE: PaymentState.CAPTURED,
            Verdict.RETURN: PaymentState.REFUNDED,
            Verdict.VOID: PaymentState.VOIDED,
        }[verdict]
    )


def test_what_is_back_whole_is_refunded_and_less_is_a_part() -> None:
    assert payment_states.after_refund(100, 99) is PaymentState.PARTIALLY_REFUNDED
    assert payment_states.after_refund(100, 100) is PaymentState.REFUNDED
    for refunded in (0, 101):
        with pytest.raises(AssertionError):
            payment_states.after_refund(100, refunded)


def test_six_days_are_near() -> None:
    assert payment_states.is_near(NOW + timedelta(days=6), NOW)
    assert not payment_states.is_near(NOW + timedelta(days=6, seconds=1), NOW)


def payment(
    *,
    starts_in: timedelta,
    state: PaymentState = PaymentState.PENDING,
    verdict: Verdict | None = None,
    card: str | None = "pm_1",
    is_held: bool = False,
) -> Payment:
    return Payment(
        id=uuid4(),
        student_id=owner(),
        tutor_id=owner(),
        starts_at=NOW + starts_in,
        method=PaymentMethod.CARD,
        state=state,
        verdict=verdict,
        card=card,
        hold_id=uuid4() if is_held else None,
    )


def authorization(
    status: AuthorizationStatus, *, number: int = 1, has_begun: bool = True, ends_in: timedelta | None = None
) -> CardAuthorization:
    return CardAuthorization(
        number=number,
        status=status,
        began_at=NOW if has_begun else None,
        capture_before=None if ends_in is None else NOW + ends_in,
    )


AUTH = AuthorizationStatus
STEPS: list[tuple[str, Payment, CardAuthorization | None, CardStep, timedelta | None]] = [
    ("far: two days before", payment(starts_in=49 * HOUR), None, CardStep.WAIT, HOUR),
    ("far: it is time", payment(starts_in=48 * HOUR), None, CardStep.TRY, None),
    ("far: no card yet", payment(starts_in=HOUR, card=None), None, CardStep.WAIT, HOUR),
    ("far: no card in time", payment(starts_in=timedelta(), card=None), None, CardStep.LOSE, None),
    ("wanted", payment(starts_in=HOUR), authorization(AUTH.WANTED, has_begun=False), CardStep.BEGIN, None),
    ("perhaps made", payment(starts_in=HOUR), authorization(AUTH.WANTED), CardStep.CREATE, None),
    ("asked", payment(starts_in=HOUR), authorization(AUTH.ASKED), CardStep.WAIT, HOUR),
    ("asked too long", payment(starts_in=timedelta()), authorization(AUTH.ASKED), CardStep.LOSE, None),
    (
        "authorised",
        payment(starts_in=HOUR),
        authorization(AUTH.AUTHORIZED, ends_in=13 * HOUR),
        CardStep.WAIT,
        HOUR,
    ),
    (
        "about to be lost",
        payment(starts_in=HOUR),
        authorization(AUTH.AUTHORIZED, ends_in=12 * HOUR),
        CardStep.CAPTURE,
        None,
    ),
    ("lost", payment(starts_in=50 * HOUR), authorization(AUTH.CANCELLED), CardStep.TRY, None),
    (
        "lost too often",
        payment(starts_in=-HOUR),
        authorization(AUTH.CANCELLED, number=3),
        CardStep.LOSE,
        None,
    ),
    (
        "to be captured",
        payment(starts_in=-HOUR, verdict=Verdict.CAPTURE, state=PaymentState.AUTHORIZED),
        authorization(AUTH.AUTHORIZED, ends_in=99 * HOUR),
        CardStep.CAPTURE,
        None,
    ),
    (
        "to be captured, and lost",
        payment(starts_in=-HOUR, verdict=Verdict.CAPTURE, state=PaymentState.AUTHORIZED),
        authorization(AUTH.CANCELLED),
        CardStep.TRY,
        None,
    ),
    (
        "to be captured, and refused",
        payment(starts_in=-HOUR, verdict=Verdict.CAPTURE, state=PaymentState.AUTHORIZED),
        authorization(AUTH.ASKED),
        CardStep.LOSE,
        None,
    ),
    (
        "in escrow",
        payment(starts_in=HOUR, is_held=True),
        authorization(AUTH.CAPTURED),
        CardStep.NOTHING,
        None,
    ),
    (
        "let go, unheard of",
        payment(starts_in=HOUR, state=PaymentState.VOIDED, verdict=Verdict.VOID),
        authorization(AUTH.WANTED, has_begun=False),
        CardStep.DROP,
        None,
    ),
    (
        "let go",
        payment(starts_in=HOUR, state=PaymentState.VOIDED, verdict=Verdict.VOID),
        authorization(AUTH.AUTHORIZED, ends_in=HOUR),
        CardStep.CANCEL,
        None,
    ),
    (
        "let go, and released",
        payment(starts_in=HOUR, state=PaymentState.VOIDED, verdict=Verdict.VOID),
        authorization(AUTH.CANCELLED),
        CardStep.NOTHING,
        None,
    ),
    (
        "given up, although it was to be captured",
        payment(starts_in=-HOUR, state=PaymentState.VOIDED, verdict=Verdict.CAPTURE),
        authorization(AUTH.ASKED),
        CardStep.CANCEL,
        None,
    ),
]


@pytest.mark.parametrize(
    ("row", "newest", "step", "wait"), [case[1:] for case in STEPS], ids=[case[0] for case in STEPS]
)
def test_what_a_card_needs_next(
    row: Payment, newest: CardAuthorization | None, step: CardStep, wait: timedelta | None
) -> None:
    until: datetime | None = None if wait is None else NOW + wait

    assert next_card_step(row, newest, NOW) == (step, until)
