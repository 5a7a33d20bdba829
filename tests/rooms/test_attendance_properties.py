"""Attendance against a world whose truth is known: visits are made up, evidence of them is lost, doubled and shuffled."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given, settings, strategies as st

from rooms import attendance
from rooms.attendance import Attended
from rooms.messages import Evidence, Identity

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
WINDOW_S = 1200
# The world is watched for longer than the lesson, so that a late webhook or poll can still come.
HORIZON_S = 1500
POLL_EVERY_S = 30
MAI = Identity("mai")


class Visit(msgspec.Struct, frozen=True):
    """One true stay, in seconds from the start of the lesson; it may begin before that."""

    session: str
    start: int
    end: int
    timeout_s: int = 0
    """For a person whose network died: how long LiveKit took to notice."""

    @property
    def noticed(self) -> int:
        return self.end + self.timeout_s


@st.composite
def visits(draw: st.DrawFn) -> list[Visit]:
    """Draw stays of one person, one after the other, as LiveKit allows."""
    found: list[Visit] = []
    clock = draw(st.integers(-120, 200))
    for number in range(draw(st.integers(1, 5))):
        timeout_s = draw(st.sampled_from([0, 0, 20, 21, 22]))
        end = clock + draw(st.integers(1, 500))
        found.append(Visit(f"PA_{number}", clock, end, timeout_s))
        clock = end + timeout_s + draw(st.integers(1, 200))
    return found


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def webhooks(world: Iterable[Visit]) -> list[Evidence]:
    """What LiveKit sends when nothing is lost, up to the horizon."""
    sent = []
    for visit in world:
        reason = "CONNECTION_TIMEOUT" if visit.timeout_s else "CLIENT_INITIATED"
        sent.append(Evidence("joined", at(visit.start), MAI, visit.session, joined_at=at(visit.start)))
        if visit.end - visit.start > 4:
            sent.append(Evidence("track", at(visit.start + 3), MAI, visit.session))
        sent.append(
            Evidence("left", at(visit.noticed), MAI, visit.session, reason=reason, joined_at=at(visit.start))
        )
    return [fact for fact in sent if fact.at < at(HORIZON_S)]


def polls(world: Iterable[Visit], times: Iterable[int]) -> list[Evidence]:
    """What LiveKit's list says at these times: the dead are in it until they are noticed."""
    world = tuple(world)
    facts = []
    for time in times:
        listed = [visit for visit in world if visit.start <= time < visit.noticed]
        for visit in listed:
            told = at(visit.start)
            facts.append(Evidence("seen", at(time), MAI, visit.session, source="poll", joined_at=told))
        if not listed:
            facts.append(Evidence("absent", at(time), MAI, source="poll"))
    return facts


ALL_POLLS = range(-POLL_EVERY_S, HORIZON_S, POLL_EVERY_S)


def lose(facts: list[Evidence], dice: random.Random) -> list[Evidence]:
    """Lose up to three in ten."""
    lost = set(dice.sample(range(len(facts)), k=dice.randint(0, len(facts) * 3 // 10)))
    return [fact for number, fact in enumerate(facts) if number not in lost]


def attended(facts: Iterable[Evidence], *, window_s: int = WINDOW_S, until_s: int = HORIZON_S) -> Attended:
    found = attendance.Known(facts).attendance(
        provider="livekit", starts_at=START, ends_at=at(window_s), until=at(until_s)
    )
    return found.get(MAI, attendance.NOT_SEEN)


def seconds(result: Attended) -> set[int]:
    """Return every second of the intervals; in these worlds all of them are whole."""
    counted: set[int] = set()
    for interval in result.intervals:
        start, end = ((edge - START) // timedelta(seconds=1) for edge in (interval.start, interval.end))
        counted |= set(range(start, end))
    return counted


def truth(world: Iterable[Visit], window_s: int = WINDOW_S) -> set[int]:
    return {second for visit in world for second in range(max(0, visit.start), min(window_s, visit.end))}


def proven(facts: list[Evidence]) -> set[int]:
    """Decide second by second what the evidence proves: the rules of DESIGN §4 once more, without cleverness."""
    sessions = {fact.session for fact in facts if fact.session}
    starts = {session: start_of(session, facts) for session in sessions}
    return {
        second
        for second in range(WINDOW_S)
        if any(starts[one] <= second and not is_over(one, second, facts, starts) for one in sessions)
    }


def offset(moment: datetime) -> int:
    return (moment - START) // timedelta(seconds=1)


def start_of(session: str, facts: list[Evidence]) -> int:
    own = [fact for fact in facts if fact.session == session]
    for kind in ("joined", "seen", "left"):
        for fact in own:
            if fact.kind == kind:
                return offset(fact.at if kind == "joined" or fact.joined_at is None else fact.joined_at)
    return min(offset(fact.at) for fact in own)


def is_over(session: str, second: int, facts: list[Evidence], starts: dict[str, int]) -> bool:
    own = [fact for fact in facts if fact.session == session]
    alive = [offset(fact.at) for fact in own if fact.kind in {"joined", "track"}] + [starts[session]]
    listed = [offset(fact.at) for fact in own if fact.kind == "seen"]
    if any(second < mark for mark in alive):
        return False
    for fact in own:
        if fact.kind == "left":
            return second >= offset(fact.at) - (22 if fact.reason == "CONNECTION_TIMEOUT" else 0)
    if any(second < poll - 22 for poll in listed):
        return False
    newest = max(alive + listed)
    missed = [offset(fact.at) for fact in facts if fact.kind == "absent" and offset(fact.at) - 2 > newest]
    return (len(missed) >= 2 and max(missed) - min(missed) >= 10) or any(
        start > starts[session] for start in starts.values()
    )


@given(visits(), st.randoms(use_true_random=False))
@settings(max_examples=120, deadline=None)
def test_it_says_what_the_evidence_proves(world: list[Visit], dice: random.Random) -> None:
    heard = lose(webhooks(world), dice)
    looked = polls(world, [time for time in ALL_POLLS if dice.random() > 0.3])

    result = attended(heard + looked)

    assert seconds(result) == proven(heard + looked)


@given(visits())
@settings(max_examples=150, deadline=None)
def test_nothing_lost_is_the_truth(world: list[Visit]) -> None:
    facts = webhooks(world) + polls(world, ALL_POLLS)

    result = seconds(attended(facts))

    # A dead client's end is known to within 2 s: LiveKit notices after 20 to 22 s, we subtract 22.
    assert truth(world) >= result
    assert len(truth(world)) - len(result) <= 2 * sum(1 for visit in world if visit.timeout_s)


@given(visits(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_lost_webhooks_never_pay_for_somebody_who_was_gone(world: list[Visit], dice: random.Random) -> None:
    facts = lose(webhooks(world), dice) + polls(world, ALL_POLLS)

    result = seconds(attended(facts))

    assert result <= truth(world)


@given(visits(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_lost_webhook_costs_less_than_a_minute(world: list[Visit], dice: random.Random) -> None:
    sent = webhooks(world)
    heard = lose(sent, dice)

    result = seconds(attended(heard + polls(world, ALL_POLLS)))

    # A visit that no poll saw can be lost whole when both of its webhooks are, so only longer ones are asked of.
    seen = [visit for visit in world if visit.end - visit.start > POLL_EVERY_S]
    # From the last poll back to what it proves: 30 + 22 s.
    assert len(truth(seen) - result) <= 52 * len(seen)


@given(visits(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_order_and_repeats_change_nothing(world: list[Visit], dice: random.Random) -> None:
    facts = lose(webhooks(world), dice) + polls(world, ALL_POLLS) + outages(dice)
    again = facts + dice.choices(facts, k=len(facts) // 2)
    dice.shuffle(again)

    assert attended(again) == attended(facts)


@given(visits(), st.randoms(use_true_random=False), st.integers(1, WINDOW_S))
@settings(max_examples=200, deadline=None)
def test_the_result_lies_in_the_window(world: list[Visit], dice: random.Random, window_s: int) -> None:
    facts = lose(webhooks(world), dice) + lose(polls(world, ALL_POLLS), dice) + outages(dice)

    result = attended(facts, window_s=window_s)

    edges = [edge for interval in result.intervals for edge in (interval.start, interval.end)]
    assert 0 <= result.attended_s <= window_s
    assert edges == sorted(edges)
    assert all(START <= edge <= at(window_s) for edge in edges)
    assert all(interval.start < interval.end and interval.sources for interval in result.intervals)
    assert result.attended_s == len(seconds(result))


@given(visits(), st.randoms(use_true_random=False), st.integers(1, WINDOW_S), st.integers(0, WINDOW_S))
@settings(max_examples=200, deadline=None)
def test_a_longer_lesson_or_a_later_look_never_takes_time_away(
    world: list[Visit], dice: random.Random, window_s: int, longer_s: int
) -> None:
    facts = lose(webhooks(world), dice) + lose(polls(world, ALL_POLLS), dice) + outages(dice)

    short = attended(facts, window_s=window_s)
    long = attended(facts, window_s=window_s + longer_s)
    early = attended(facts, until_s=window_s)
    late = attended(facts, until_s=window_s + longer_s)

    assert seconds(short) <= seconds(long)
    assert seconds(early) <= seconds(late)


@given(visits(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_an_outage_that_people_outlive_takes_nothing_from_them(
    world: list[Visit], dice: random.Random
) -> None:
    facts = webhooks(world) + polls(world, ALL_POLLS)

    result = attended(facts + outages(dice))

    assert seconds(result) >= seconds(attended(facts))


@given(visits(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_sockets_add_nothing_to_livekit(world: list[Visit], dice: random.Random) -> None:
    facts = lose(webhooks(world), dice)
    socket = Evidence("stay", at(0), MAI, "1", until=at(WINDOW_S), source="socket")

    assert attended([*facts, socket]) == attended(facts)


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 300), st.booleans()), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_sockets_alone_count_stays_and_graces(steps: list[tuple[int, int, bool]]) -> None:
    facts, expected, clock, held_until = [], set[int](), 0, -1
    for number, (gap, length, goodbye) in enumerate(steps):
        start = clock + gap
        if start <= held_until:
            expected |= set(range(clock, start))
        clock = start + length
        expected |= set(range(start, clock))
        held_until = -1 if goodbye else clock + 30
        reason = "left" if goodbye else None
        facts.append(
            Evidence("stay", at(start), MAI, str(number), until=at(clock), source="socket", reason=reason)
        )

    found = attendance.Known(facts).attendance(
        provider="socket", starts_at=START, ends_at=at(WINDOW_S), until=at(HORIZON_S)
    )

    assert seconds(found[MAI]) == {second for second in expected if second < WINDOW_S}


def outages(dice: random.Random) -> list[Evidence]:
    start, length = dice.randint(0, WINDOW_S), dice.randint(0, 90)
    whose = dice.choice(["ours", "media"])
    return [Evidence("outage", at(start), until=at(start + length), source=whose)]  # type: ignore[arg-type]  # one of the two
