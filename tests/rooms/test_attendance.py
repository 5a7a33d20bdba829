"""What each kind of evidence proves, one example a rule."""

import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from rooms import attendance
from rooms.attendance import Attended, Confidence
from rooms.messages import Evidence, EvidenceKind, EvidenceMode, Identity

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PLANNED_S = 5400
MAI = Identity("mai")
EXACT, RECONCILED, INFERRED, OURS = Confidence


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def joined(seconds: float, session: str = "PA_1", *, who: Identity = MAI, generation: int = 1) -> Evidence:
    return Evidence("joined", at(seconds), who, session, generation=generation)


def left(seconds: float, session: str = "PA_1", reason: str = "CLIENT_INITIATED") -> Evidence:
    return Evidence("left", at(seconds), MAI, session, reason=reason)


def seen(seconds: float, session: str = "PA_1", *, joined_s: float | None = None) -> Evidence:
    return Evidence(
        "seen", at(seconds), MAI, session, source="poll", joined_at=None if joined_s is None else at(joined_s)
    )


def absent(seconds: float, session: str = "") -> Evidence:
    return Evidence("absent", at(seconds), MAI, session, source="poll")


def whole_room(kind: EvidenceKind, seconds: float, *, generation: int = 1) -> Evidence:
    return Evidence(kind, at(seconds), generation=generation)


def outage(start: float, end: float, *, of_media: bool = True) -> Evidence:
    return Evidence("outage", at(start), until=at(end), source="media" if of_media else "ours")


def stay(start: float, end: float, seat: str = "1", *, goodbye: bool = False) -> Evidence:
    reason = "left" if goodbye else None
    return Evidence("stay", at(start), MAI, seat, until=at(end), source="socket", reason=reason)


def attended(
    *evidence: Evidence, provider: EvidenceMode = "livekit", until: float = PLANNED_S, who: Identity = MAI
) -> Attended:
    found = attendance.Known(evidence).attendance(
        provider=provider, starts_at=START, ends_at=at(PLANNED_S), until=at(until)
    )
    return found.get(who, attendance.NOT_SEEN)


def spans(result: Attended) -> Sequence[tuple[float, float]]:
    return [
        ((interval.start - START).total_seconds(), (interval.end - START).total_seconds())
        for interval in result.intervals
    ]


# Ordinary visits -------------------------------------------------------------------------------------------------


def test_joined_and_left_are_exact() -> None:
    result = attended(joined(0), left(4800))

    assert result.attended_s == 4800
    assert result.confidence is EXACT
    assert result.intervals[0].sources == ("webhook",)


def test_two_visits_of_ten_minutes_are_twenty() -> None:
    result = attended(joined(0), left(600), joined(1000, "PA_2"), left(1600, "PA_2"))

    assert spans(result) == [(0, 600), (1000, 1600)]
    assert result.attended_s == 1200


def test_two_devices_at_once_count_once() -> None:
    result = attended(joined(0), left(600), joined(300, "PA_2"), left(900, "PA_2"))

    assert spans(result) == [(0, 900)]


def test_time_outside_the_window_is_cut_off() -> None:
    result = attended(joined(-600), left(PLANNED_S + 300))

    assert result.attended_s == PLANNED_S


def test_gaps_between_visits_are_not_bridged() -> None:
    result = attended(joined(0), left(600), joined(601, "PA_2"), left(1200, "PA_2"))

    assert result.attended_s == 1199


def test_fractions_are_cut_once_at_the_end() -> None:
    result = attended(joined(0), left(10.5), joined(20, "PA_2"), left(30.5, "PA_2"))

    assert result.attended_s == 21


def test_an_aborted_join_has_no_time() -> None:
    aborted = Evidence("aborted", at(60), MAI, "PA_1", reason="JOIN_FAILURE", joined_at=at(0))

    assert attended(aborted, seen(30, joined_s=0)).attended_s == 0


def test_a_joined_after_the_left_of_the_same_visit_does_not_revive_it() -> None:
    result = attended(left(100), joined(101))

    assert result.attended_s == 0


def test_people_are_counted_apart() -> None:
    tutor = Identity("tutor")

    result = attended(joined(0), left(60), joined(30, "PA_9", who=tutor), who=tutor)

    assert spans(result) == [(30, PLANNED_S)]


def test_somebody_without_evidence_was_not_seen() -> None:
    assert attended(joined(0), who=Identity("nobody")) == attendance.NOT_SEEN


# Lost starts and ends --------------------------------------------------------------------------------------------


def test_who_is_still_in_counts_until_now() -> None:
    result = attended(joined(0), until=90)

    assert result.attended_s == 90
    assert result.confidence is INFERRED


def test_a_fresh_poll_vouches_for_who_is_still_in() -> None:
    result = attended(joined(0), seen(60), until=90)

    assert result.attended_s == 90
    assert result.confidence is RECONCILED


def test_an_old_poll_vouches_for_nobody() -> None:
    assert attended(joined(0), seen(60), until=121).confidence is INFERRED


def test_a_poll_after_the_window_makes_an_open_end_exact() -> None:
    result = attended(joined(0), seen(PLANNED_S + 22), until=PLANNED_S + 60)

    assert result.attended_s == PLANNED_S
    assert result.confidence is EXACT


def test_a_lost_joined_is_known_from_the_left_webhook() -> None:
    lost = Evidence("left", at(600), MAI, "PA_1", reason="CLIENT_INITIATED", joined_at=at(100))

    result = attended(lost)

    assert spans(result) == [(100, 600)]
    assert result.confidence is INFERRED


def test_a_lost_joined_is_known_from_a_poll() -> None:
    result = attended(seen(130, joined_s=100), left(600))

    assert spans(result) == [(100, 600)]
    assert result.confidence is RECONCILED
    assert result.intervals[0].sources == ("poll", "webhook")


def test_nobody_was_in_before_the_media_room_was_made() -> None:
    result = attended(whole_room("started", 50), seen(130, joined_s=-4000), left(600))

    assert spans(result) == [(50, 600)]


def test_a_lost_joined_is_known_from_the_first_track() -> None:
    result = attended(Evidence("track", at(101), MAI, "PA_1"), left(600))

    assert spans(result) == [(101, 600)]
    assert result.confidence is INFERRED


def test_two_polls_without_somebody_end_the_visit_at_the_last_evidence() -> None:
    result = attended(joined(0), seen(300), absent(330), absent(340))

    assert spans(result) == [(0, 278)]
    assert result.confidence is RECONCILED


@pytest.mark.parametrize(
    "polls",
    [
        pytest.param([absent(330)], id="only one"),
        pytest.param([absent(330), absent(339)], id="less than ten seconds apart"),
        pytest.param([absent(301), absent(302)], id="crossing newer evidence"),
        pytest.param([absent(200), absent(250), seen(300)], id="seen again"),
        pytest.param([absent(330, "PA_7"), absent(360, "PA_7")], id="about another visit"),
    ],
)
def test_weaker_polls_end_nothing(polls: list[Evidence]) -> None:
    result = attended(joined(0), seen(300), *polls)

    assert result.attended_s == PLANNED_S


def test_an_exact_left_replaces_what_polls_said() -> None:
    result = attended(joined(0), seen(300), absent(330), absent(340), left(310))

    assert spans(result) == [(0, 310)]
    assert result.confidence is EXACT


def test_a_newer_visit_ends_an_older_open_one_at_its_last_evidence() -> None:
    result = attended(joined(0), seen(300), joined(3000, "PA_2"), left(3600, "PA_2"))

    assert spans(result) == [(0, 278), (3000, 3600)]
    assert result.confidence is INFERRED


def test_room_finished_ends_who_was_still_in() -> None:
    result = attended(joined(0), whole_room("finished", 600))

    assert spans(result) == [(0, 600)]
    assert result.confidence is INFERRED


def test_room_finished_of_another_generation_ends_nobody() -> None:
    result = attended(joined(700, generation=2), whole_room("finished", 800))

    assert spans(result) == [(700, PLANNED_S)]


# The 22 seconds --------------------------------------------------------------------------------------------------


def test_a_timeout_ends_22_seconds_before_it_was_noticed() -> None:
    result = attended(joined(0), left(600, reason="CONNECTION_TIMEOUT"))

    assert spans(result) == [(0, 578)]
    assert result.confidence is INFERRED


def test_an_exact_left_wins_over_a_timeout_of_the_same_visit() -> None:
    result = attended(joined(0), left(600), left(610, reason="CONNECTION_TIMEOUT"))

    assert spans(result) == [(0, 600)]


def test_newer_evidence_moves_the_end_of_a_timeout() -> None:
    result = attended(
        joined(0), Evidence("track", at(590), MAI, "PA_1"), left(600, reason="CONNECTION_TIMEOUT")
    )

    assert spans(result) == [(0, 590)]


def test_a_poll_proves_nothing_that_the_timeout_does_not_prove() -> None:
    result = attended(joined(0), seen(598), left(600, reason="CONNECTION_TIMEOUT"))

    assert spans(result) == [(0, 578)]


def test_a_visit_shorter_than_the_timeout_is_not_negative() -> None:
    result = attended(joined(590), left(600, reason="CONNECTION_TIMEOUT"))

    assert result.attended_s == 0


# Outages ---------------------------------------------------------------------------------------------------------


def test_an_outage_counts_for_who_is_back_within_two_minutes() -> None:
    result = attended(joined(0), seen(300), outage(310, 340), joined(460, "PA_2"), left(600, "PA_2"))

    assert [
        (interval.sources, *span) for interval, span in zip(result.intervals, spans(result), strict=True)
    ] == [
        (("poll", "webhook"), 0, 278),
        (("ours",), 278, 460),
        (("webhook",), 460, 600),
    ]
    assert result.confidence is OURS


def test_who_comes_back_later_has_the_last_evidence_only() -> None:
    result = attended(joined(0), seen(300), outage(310, 340), joined(461, "PA_2"), left(600, "PA_2"))

    assert spans(result) == [(0, 278), (461, 600)]


def test_who_does_not_come_back_has_the_last_evidence_only() -> None:
    result = attended(joined(0), seen(300), outage(310, 340))

    assert spans(result) == [(0, 278)]
    assert result.confidence is INFERRED


def test_an_outage_that_goes_on_ends_who_was_in_at_the_last_evidence() -> None:
    result = attended(joined(0), seen(300), Evidence("outage", at(310), source="media"), until=900)

    assert spans(result) == [(0, 278)]


def test_each_poll_without_an_answer_moves_the_time_to_come_back() -> None:
    unanswered = [outage(poll, poll) for poll in (330, 360, 390)]

    result = attended(joined(0), seen(300), *unanswered, joined(510, "PA_2"), left(600, "PA_2"))

    assert result.attended_s == 600
    assert result.confidence is OURS


def test_a_poll_without_an_answer_ends_nobody_who_is_seen_in_the_next() -> None:
    result = attended(joined(0), outage(330, 330), seen(360), left(600))

    assert result.attended_s == 600
    assert result.confidence is EXACT


def test_who_is_seen_after_the_outage_never_left() -> None:
    result = attended(joined(0), outage(310, 340), seen(345), left(600))

    assert spans(result) == [(0, 600)]
    assert result.confidence is EXACT


def test_who_is_seen_after_the_outage_is_still_in() -> None:
    result = attended(joined(0), outage(310, 340), seen(345), until=600)

    assert spans(result) == [(0, 600)]


def test_the_first_return_after_the_outage_is_the_one_that_counts() -> None:
    result = attended(
        joined(-100, "PA_0"),
        left(-50, "PA_0"),
        joined(0),
        seen(300),
        outage(310, 340),
        joined(400, "PA_2"),
        left(500, "PA_2"),
        joined(520, "PA_3"),
        left(600, "PA_3"),
    )

    assert spans(result) == [(0, 278), (278, 400), (400, 500), (520, 600)]


def test_who_left_before_the_outage_gets_nothing_from_it() -> None:
    result = attended(joined(0), left(300), outage(310, 340), joined(350, "PA_2"), left(600, "PA_2"))

    assert spans(result) == [(0, 300), (350, 600)]


def test_who_was_missed_before_the_outage_gets_nothing_from_it() -> None:
    result = attended(
        joined(0),
        seen(100),
        absent(200),
        absent(230),
        outage(310, 340),
        joined(350, "PA_2"),
        left(600, "PA_2"),
    )

    assert spans(result) == [(0, 78), (350, 600)]


def test_a_short_outage_of_ours_loses_no_webhook_and_ends_nobody() -> None:
    result = attended(joined(0), outage(310, 324, of_media=False))

    assert spans(result) == [(0, PLANNED_S)]


def test_a_long_outage_of_ours_ends_who_is_not_seen_again() -> None:
    result = attended(joined(0), seen(300), outage(310, 325, of_media=False))

    assert spans(result) == [(0, 278)]


@pytest.mark.parametrize("generation", [1, 2], ids=["LiveKit brought it back", "we made a new one"])
def test_a_crash_of_the_media_server_counts_for_who_is_back(generation: int) -> None:
    crash = whole_room("started", 303, generation=generation)

    result = attended(
        whole_room("started", -60),
        joined(0),
        crash,
        Evidence("joined", at(308), MAI, "PA_2", generation=generation),
        left(600, "PA_2"),
    )

    assert result.attended_s == 600
    assert result.confidence is OURS


def test_a_crash_without_return_ends_at_the_last_evidence() -> None:
    result = attended(joined(0), seen(300), whole_room("started", 400))

    assert spans(result) == [(0, 278)]


def test_a_new_media_room_after_an_orderly_end_is_no_crash() -> None:
    result = attended(
        joined(0),
        whole_room("finished", 600),
        whole_room("started", 700, generation=2),
        Evidence("joined", at(710), MAI, "PA_2", generation=2),
        left(900, "PA_2"),
    )

    assert Confidence.OURS is not result.confidence
    assert spans(result)[-1] == (710, 900)


def test_a_shutdown_of_the_media_server_counts_for_who_is_back() -> None:
    result = attended(joined(0), left(300, reason="SERVER_SHUTDOWN"), joined(301, "PA_2"), left(600, "PA_2"))

    assert result.attended_s == 600
    assert result.confidence is OURS


def test_a_timeout_in_an_outage_counts_for_who_is_back() -> None:
    result = attended(
        joined(0),
        left(320, reason="CONNECTION_TIMEOUT"),
        outage(310, 340),
        joined(400, "PA_2"),
        left(600, "PA_2"),
    )

    assert result.attended_s == 600


# Sockets ---------------------------------------------------------------------------------------------------------


def test_with_livekit_sockets_add_nothing() -> None:
    result = attended(stay(0, 5400), joined(0), left(60))

    assert result.attended_s == 60


def test_without_livekit_sockets_are_the_evidence() -> None:
    result = attended(stay(0, 600, goodbye=True), joined(0), left(60), provider="socket")

    assert spans(result) == [(0, 600)]
    assert result.intervals[0].sources == ("socket",)
    assert result.confidence is EXACT


def test_a_stay_that_grew_counts_once() -> None:
    result = attended(stay(0, 5), stay(0, 10), stay(0, 600), provider="socket")

    assert spans(result) == [(0, 600)]
    assert result.confidence is INFERRED


@pytest.mark.parametrize(
    ("back", "attended_s"),
    [
        pytest.param(330, 600, id="within the seat grace"),
        pytest.param(331, 300 + 269, id="later"),
    ],
)
def test_a_lost_socket_counts_through_the_seat_grace(back: float, attended_s: int) -> None:
    result = attended(stay(0, 300), stay(back, 600, "2"), provider="socket")

    assert result.attended_s == attended_s


def test_a_goodbye_starts_no_grace() -> None:
    result = attended(stay(0, 300, goodbye=True), stay(310, 600, "2"), provider="socket")

    assert result.attended_s == 590


@pytest.mark.parametrize("mark", [joined(10), seen(10.9)], ids=["joined", "seen"])
def test_a_crash_in_the_second_of_the_last_sign_is_no_silence(mark: Evidence) -> None:
    # LiveKit's clock shows whole seconds: its next room seems to be as old as the sign, or older.
    restart = whole_room("started", 10, generation=2)

    result = attended(joined(10), mark, restart, until=900)

    assert result.attended_s == 0


def test_who_is_back_in_the_second_of_the_crash_was_there_all_along() -> None:
    restart = whole_room("started", 10, generation=2)

    result = attended(joined(0), joined(10, "PA_2", generation=2), restart, left(600, "PA_2"))

    assert result.attended_s == 600


def test_a_second_crash_is_no_way_back_for_who_missed_the_first() -> None:
    first, second = (whole_room("started", time, generation=2 + n) for n, time in enumerate((300, 2400)))

    result = attended(
        joined(0), seen(290), first, second, joined(2430, "PA_2", generation=3), left(2500, "PA_2")
    )

    assert spans(result) == [(0, 268), (2430, 2500)]


def test_a_second_crash_before_anybody_could_be_back_prolongs_the_first() -> None:
    first, second = (whole_room("started", time, generation=2 + n) for n, time in enumerate((300, 400)))

    result = attended(
        joined(0), seen(290), first, second, joined(510, "PA_2", generation=3), left(600, "PA_2")
    )

    assert result.attended_s == 600


def test_who_is_back_and_gone_in_one_moment_was_held_until_then() -> None:
    result = attended(stay(0, 300), stay(310, 310, "2", goodbye=True), provider="socket")

    assert result.attended_s == 310


def test_a_goodbye_on_another_device_ends_the_grace() -> None:
    result = attended(stay(0, 300), stay(250, 310, "2", goodbye=True), stay(325, 600, "3"), provider="socket")

    assert spans(result) == [(0, 310), (325, 600)]


def test_our_outage_is_nobodys_absence() -> None:
    result = attended(stay(0, 300), outage(302, 340, of_media=False), stay(460, 600, "2"), provider="socket")

    assert result.attended_s == 600
    assert result.confidence is OURS


def test_our_outage_gives_nothing_to_who_had_left_long_before() -> None:
    result = attended(stay(0, 200), outage(302, 340, of_media=False), stay(400, 600, "2"), provider="socket")

    assert result.attended_s == 400


# Thresholds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attended_s", "shown", "reached"),
    [
        pytest.param(4800, 88, True, id="80 of 90 minutes"),
        pytest.param(900, 16, False, id="15 of 90 minutes"),
        pytest.param(1080, 20, True, id="exactly 18 minutes"),
        pytest.param(1079, 19, False, id="one second less"),
        pytest.param(10800, 100, True, id="twice the lesson"),
        pytest.param(0, 0, False, id="never there"),
    ],
)
def test_percent_and_threshold(attended_s: int, shown: int, reached: bool) -> None:
    assert attendance.percent(attended_s, PLANNED_S) == shown
    assert attendance.student_reached(attended_s, PLANNED_S, threshold_percent=20) is reached


def test_the_required_time_is_the_least_that_reaches() -> None:
    for total in (1, 7, 3599, 5400):
        needed = attendance.required_s(total, threshold_percent=20)

        assert attendance.student_reached(needed, total, threshold_percent=20)
        assert not attendance.student_reached(needed - 1, total, threshold_percent=20)


def test_a_lesson_without_time_reaches_nobody() -> None:
    assert attendance.percent(0, 0) == 0
    assert not attendance.student_reached(0, 0, threshold_percent=20)


@pytest.mark.parametrize(
    ("ended", "total"),
    [
        pytest.param(None, 5400, id="as planned"),
        pytest.param(1800, 1800, id="ended early by the tutor"),
        pytest.param(5600, 5400, id="ended late"),
        pytest.param(-60, 0, id="ended before the start"),
    ],
)
def test_students_are_measured_against_what_the_tutor_gave(ended: float | None, total: int) -> None:
    ended_at = None if ended is None else at(ended)

    assert attendance.total_s(START, at(PLANNED_S), ended_by_tutor_at=ended_at) == total


# Orders ----------------------------------------------------------------------------------------------------------

LIFE = (
    whole_room("started", 0),
    joined(0),
    left(1_200, reason="CONNECTION_TIMEOUT"),
    joined(1_500, "PA_2"),
    left(4_800, "PA_2"),
)


def test_every_order_of_five_webhooks_and_any_repeats_prove_the_same() -> None:
    dice = random.Random(5)
    told = attended(*LIFE)
    orders = list(itertools.permutations(LIFE))

    assert len(orders) == 120
    for order in orders:
        repeated = list(order)
        for _ in range(dice.randrange(6)):
            repeated.insert(dice.randrange(len(repeated) + 1), dice.choice(order))
        assert attended(*order) == attended(*repeated) == told
