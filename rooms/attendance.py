"""Joins and leaves → intervals → presence and billable time. Pure.

Presence is a function of the *set* of evidence (DESIGN §4): how often and in which order evidence arrives
changes nothing, and what arrives later only replaces what was guessed without it. What each piece of evidence
proves was measured on a real server (livekit-server 1.13.5) and is written beside the constants.

A visit is one stay of one person: one LiveKit participant sid, or one connection of ours. Its start and end
come from the best evidence there is:

    start   the joined webhook; else joinedAt as a poll or the left webhook tells it; else the first track
    end     the left webhook; with CONNECTION_TIMEOUT max(newest other evidence, left - 22 s)
            else the last evidence, when something contradicts that the person stayed: two polls without them,
            a newer visit of theirs, a restart of the media room, an outage after which they were not seen
            else room_finished, else the end of the lesson

Silence alone is no contradiction: a person whose joined webhook came is in until something says otherwise.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

import msgspec

from rooms.messages import Evidence, EvidenceMode, Identity, Interval

# A dead client is listed as ACTIVE until LiveKit notices, 20.0 to 21.9 s after its last packet: a poll that
# lists a person, and a left by CONNECTION_TIMEOUT, prove presence only until 22 s before. A smaller value pays
# for people who were gone, a larger one takes time from people who were there.
BLIND = timedelta(seconds=22)
# A poll and a webhook about the same moment may cross on the way; a poll says nothing about the last 2 s.
POLL_SETTLES = timedelta(seconds=2)
# One poll without a person can be a list that is being rewritten; two this far apart are not.
ABSENT_TWICE = timedelta(seconds=10)
# A poll so fresh still vouches for somebody at the end: poll interval (30 s) + BLIND, rounded up.
POLL_VOUCHES = timedelta(seconds=60)
# Who was in before an outage and is back this soon after it was there all along: the JavaScript SDK tries for
# about a minute, and a person needs as long again to reload the page (DESIGN §4).
RETURN_AFTER_OUTAGE = timedelta(seconds=120)
# LiveKit repeats a webhook 1, 3, 7 and 15 s after the first try, so while we were away for less than this none
# was lost and silence still means that nothing happened.
LOSES_NOTHING = timedelta(seconds=15)
# The seat grace: a seat waits this long for its person after the last socket is gone (DESIGN §4). A phone that changes
# from Wi-Fi to mobile is back within it; longer keeps a place from others for nothing.
SEAT_GRACE = timedelta(seconds=30)
# Gateways tell every 5 s who is seen, so the last frame of a lost socket may be known this much too early.
BEAT = timedelta(seconds=5)

CONNECTION_TIMEOUT = "CONNECTION_TIMEOUT"
SERVER_SHUTDOWN = "SERVER_SHUTDOWN"
# Goodbyes that the person did not say: where they were then, other evidence has to tell.
_UNSURE = (CONNECTION_TIMEOUT, SERVER_SHUTDOWN)


class Confidence(StrEnum):
    """How well the time is known, best first; shown, never a reason to block."""

    EXACT = "exact"
    """Every start and end was told by a webhook or a goodbye."""
    RECONCILED = "reconciled"
    """A start or an end is known from polls."""
    INFERRED = "inferred"
    """A start or an end follows from a rule: the 22 s, the last evidence, the end of the room."""
    OURS = "ours"
    """Some of the time passed in an outage that was not the person's."""


class Attended(msgspec.Struct, frozen=True):
    """What the evidence proves about one person in a window."""

    intervals: tuple[Interval, ...]
    attended_s: int
    """Whole seconds of all intervals together, cut once at the end."""
    confidence: Confidence


NOT_SEEN = Attended(intervals=(), attended_s=0, confidence=Confidence.EXACT)
"""The attendance of a person without any evidence."""


class Known:
    """What evidence tells, without the evidence: it comes in any order and any number of times.

    A fact costs the same whatever is known already, and so does the attendance however many facts there were.
    """

    __slots__ = ("_outages", "_people", "_room")

    def __init__(self, evidence: Iterable[Evidence] = ()) -> None:
        self._people: dict[Identity, _Person] = {}
        self._room = _Room()
        self._outages: set[tuple[datetime, datetime | None, bool]] = set()
        for fact in evidence:
            self.add(fact)

    def add(self, fact: Evidence) -> None:
        """Take in one fact."""
        if fact.kind == "outage":
            self._outages.add((fact.at, fact.until, fact.source == "media"))
        elif fact.kind == "started":
            self._room.started.add((fact.generation, fact.at))
        elif fact.kind == "finished":
            self._room.finished.add((fact.generation, fact.at))
        if fact.identity is not None:
            person = self._people.get(fact.identity)
            if person is None:
                person = self._people[fact.identity] = _Person()
            person.add(fact)

    def attendance(
        self, *, provider: EvidenceMode, starts_at: datetime, ends_at: datetime, until: datetime
    ) -> dict[Identity, Attended]:
        """Return who of all identities in the evidence was there, clipped to `[starts_at, ends_at)`.

        Only the evidence of the room's provider makes time: with LiveKit our own sockets never add any.
        `until` is now while the lesson runs and the moment of its end afterwards; who is still in counts until then.
        An outage begins at the last moment known to be well; without `until` it goes on. A poll that got no answer
        is an outage of the media server of its own, with no length.
        """
        outages = [_Outage(start, end or until, of_media) for start, end, of_media in self._outages]
        end = max(starts_at, min(ends_at, until))
        found: dict[Identity, Attended] = {}
        for identity, person in self._people.items():
            if provider == "livekit":
                spans = _livekit_spans(person, self._room, outages, until)
            else:
                spans = _socket_spans(person, outages)
            found[identity] = _attended(spans, starts_at, end)
        return found


def total_s(starts_at: datetime, ends_at: datetime, *, ended_by_tutor_at: datetime | None) -> int:
    """Return the seconds a student is measured against: planned, or what the tutor gave when that was less."""
    end = ends_at if ended_by_tutor_at is None else min(ends_at, ended_by_tutor_at)
    return max(0, (end - starts_at) // timedelta(seconds=1))


def percent(attended_s: int, total_s: int) -> int:
    """Return the attendance as shown: whole percent, cut, never above 100 (4,800 of 5,400 s are 88)."""
    return min(100, attended_s * 100 // total_s) if total_s else 0


def student_reached(attended_s: int, total_s: int, *, threshold_percent: int) -> bool:
    """Say whether a student was there long enough for the hold to be released; the threshold itself suffices."""
    return total_s > 0 and attended_s * 100 >= threshold_percent * total_s


def required_s(total_s: int, *, threshold_percent: int) -> int:
    """Return the smallest number of seconds for which `student_reached` says yes."""
    return -(-threshold_percent * total_s // 100)


class _Outage(msgspec.Struct, frozen=True):
    """Nobody could be seen in `[start, end]`; a restart of the media room has both at the same moment."""

    start: datetime
    end: datetime
    of_media: bool = True

    @property
    def lost_evidence(self) -> bool:
        """Say whether silence after it proves nothing any more."""
        return self.of_media or self.end - self.start >= LOSES_NOTHING


class _Span(msgspec.Struct, frozen=True):
    """Time that counts, before clipping and union."""

    start: datetime
    end: datetime
    sources: frozenset[str]
    start_confidence: Confidence
    end_confidence: Confidence
    proven: datetime
    """Until here presence needs no trust in silence; equals `end` unless the person is still in."""


class _Visit(msgspec.Struct, frozen=True):
    """One LiveKit session of a person as far as its own evidence tells it."""

    generation: int
    start: datetime
    start_confidence: Confidence
    proven: datetime
    """Until here presence is proven without trusting silence."""
    last_mark: datetime
    """The newest moment at which anything vouched for the person; nothing older contradicts it."""
    last_poll: datetime | None
    left: datetime | None
    """When LiveKit said that they were gone."""
    left_reason: str | None
    sources: frozenset[str]


class _Room(msgspec.Struct):
    """What is known about the media rooms of a room, by generation."""

    started: set[tuple[int, datetime]] = msgspec.field(default_factory=set)
    finished: set[tuple[int, datetime]] = msgspec.field(default_factory=set)


class _Session(msgspec.Struct):
    """What the facts about one LiveKit session of a person come to; each field is the extreme of what was told."""

    generation: int
    first: datetime
    """The oldest sign of it."""
    joined: datetime | None = None
    told: datetime | None = None
    """When it joined, as others than the joined webhook tell."""
    was_polled: bool = False
    """Whether a poll told that."""
    last_seen: datetime | None = None
    """The newest joined or track."""
    last_poll: datetime | None = None
    left: tuple[bool, datetime, str] | None = None
    """The best goodbye: whether a time-out noticed it late, when, and why."""
    was_aborted: bool = False

    def add(self, fact: Evidence) -> None:
        """Take in one fact."""
        self.generation = max(self.generation, fact.generation)
        self.first = min(self.first, fact.at)
        if fact.joined_at is not None:
            self.told = fact.joined_at if self.told is None else min(self.told, fact.joined_at)
        match fact.kind:
            case "joined" | "track":
                self.last_seen = fact.at if self.last_seen is None else max(self.last_seen, fact.at)
                if fact.kind == "joined":
                    self.joined = fact.at if self.joined is None else min(self.joined, fact.at)
            case "seen":
                self.last_poll = fact.at if self.last_poll is None else max(self.last_poll, fact.at)
                self.was_polled = self.was_polled or fact.joined_at is not None
            case "left":
                # What was noticed at the very moment comes before what a time-out noticed late.
                left = (fact.reason == CONNECTION_TIMEOUT, fact.at, fact.reason or "")
                self.left = left if self.left is None else min(self.left, left)
            case "aborted":
                self.was_aborted = True
            case "absent" | "stay" | "outage" | "started" | "finished":
                pass  # says nothing about one session


class _Stay(msgspec.Struct):
    """What the facts about one socket stay come to."""

    start: datetime
    end: datetime
    goodbye: datetime | None = None

    def add(self, fact: Evidence) -> None:
        """Take in one fact."""
        end = fact.until or fact.at
        self.start, self.end = min(self.start, fact.at), max(self.end, end)
        if fact.reason is not None:
            self.goodbye = end if self.goodbye is None else min(self.goodbye, end)


class _Person:
    """What is known about one person."""

    __slots__ = ("absences", "sessions", "stays")

    def __init__(self) -> None:
        self.sessions: dict[str, _Session] = {}
        self.stays: dict[str, _Stay] = {}
        self.absences: set[tuple[str, datetime]] = set()
        """Session, or "" for any, and moment of each poll that missed them."""

    def add(self, fact: Evidence) -> None:
        """Take in one fact."""
        if fact.kind == "absent":
            self.absences.add((fact.session, fact.at))
        elif fact.kind == "stay":
            stay = self.stays.get(fact.session)
            if stay is None:
                stay = self.stays[fact.session] = _Stay(fact.at, fact.until or fact.at)
            stay.add(fact)
        elif fact.session:
            session = self.sessions.get(fact.session)
            if session is None:
                session = self.sessions[fact.session] = _Session(fact.generation, fact.at)
            session.add(fact)


# LiveKit ------------------------------------------------------------------------------------------------------


def _livekit_spans(
    person: _Person, room: _Room, outages: Sequence[_Outage], until: datetime
) -> Iterable[_Span]:
    """Yield the visits of one person, and the outages between them that were not theirs."""
    found = {key: _visit(known, room) for key, known in person.sessions.items() if not known.was_aborted}
    for session, visit in found.items():
        if visit.left is not None and visit.left_reason not in _UNSURE:
            # Nearly every visit that is over: nothing else says anything about its end.
            yield _span(visit, (), (), (), room, until)
            continue
        others = [other for key, other in found.items() if key != session]
        missing = sorted(
            at
            for missed, at in person.absences
            if missed in ("", session) and at - POLL_SETTLES > visit.last_mark
        )
        breaks = _breaks(visit, others, missing, room, outages)
        span = _span(visit, others, missing, breaks, room, until)
        yield span
        back = [other.start for other in others if other.start >= span.end]
        returned = _return(span.end, back, breaks)
        if returned is not None:
            yield _counted(span.end, returned, "ours", Confidence.OURS)


def _visit(known: _Session, room: _Room) -> _Visit:
    """Read one session's own evidence; nothing comes of an aborted one, which never had media."""
    start, start_confidence = _start(known, room)
    marks = [start] if known.last_seen is None else [start, known.last_seen]
    has_webhook = known.last_seen is not None or known.left is not None
    polls = [] if known.last_poll is None else [known.last_poll]
    return _Visit(
        generation=known.generation,
        start=start,
        start_confidence=start_confidence,
        proven=max([*marks, *(poll - BLIND for poll in polls)]),
        last_mark=max([*marks, *polls]),
        last_poll=known.last_poll,
        left=known.left[1] if known.left else None,
        left_reason=known.left[2] if known.left else None,
        sources=frozenset({"poll"} if polls else ()) | frozenset({"webhook"} if has_webhook else ()),
    )


def _start(known: _Session, room: _Room) -> tuple[datetime, Confidence]:
    """Return when the visit began; nobody was in a media room before it was first made."""
    if known.joined is not None:
        return known.joined, Confidence.EXACT
    if known.told is None:
        return known.first, Confidence.INFERRED
    opened = [at for generation, at in room.started if generation == known.generation]
    confidence = Confidence.RECONCILED if known.was_polled else Confidence.INFERRED
    return max(known.told, min(opened, default=known.told)), confidence


def _breaks(
    visit: _Visit,
    others: Sequence[_Visit],
    missing: Sequence[datetime],
    room: _Room,
    outages: Sequence[_Outage],
) -> list[_Outage]:
    """Return the outages that found the person in the room and that this visit did not outlive."""
    restarts = _restarts(visit, room)
    if visit.left is None:
        gaps = [*restarts, *(gap for gap in outages if gap.lost_evidence)]
        return [
            gap for gap in gaps if visit.last_mark < gap.end and _was_in(visit, others, missing, room, gap)
        ]
    if visit.left_reason == SERVER_SHUTDOWN:
        back = min((gap.end for gap in restarts if gap.end >= visit.left), default=visit.left)
        return [_Outage(visit.left, back), *(gap for gap in outages if gap.start <= visit.left <= gap.end)]
    if visit.left_reason == CONNECTION_TIMEOUT:
        return [gap for gap in outages if gap.start <= visit.left and gap.end >= visit.left - BLIND]
    return []


def _restarts(visit: _Visit, room: _Room) -> list[_Outage]:
    """Return when the media room was made anew although it had not been closed: its server had crashed.

    A room is made before anyone joins, so one made after the visit began is never the visit's own. It has the
    same generation when LiveKit brings it back, and a later one when we notice the loss first. A later one comes
    after every sign of the visit, whatever LiveKit's clock of whole seconds says.
    """
    again = [at for generation, at in room.started if generation == visit.generation and at > visit.start]
    closed = any(generation == visit.generation for generation, _ in room.finished)
    later = [at for generation, at in room.started if generation > visit.generation and not closed]
    just_after = visit.last_mark + timedelta.resolution
    return [_Outage(at, at) for at in again] + [_Outage(at, max(at, just_after)) for at in later]


def _was_in(
    visit: _Visit, others: Sequence[_Visit], missing: Sequence[datetime], room: _Room, gap: _Outage
) -> bool:
    """Say whether an open visit was still the person's current one when the outage began.

    It was not if they had not come back from an earlier outage in time.
    """
    superseded = any(visit.start < other.start < gap.start for other in others)
    missed = any(
        generation > visit.generation and at + RETURN_AFTER_OUTAGE < gap.start
        for generation, at in room.started
    )
    return not superseded and not missed and not _gone([at for at in missing if at < gap.start])


def _gone(missing: Sequence[datetime]) -> bool:
    """Say whether two polls far enough apart missed the person."""
    return bool(missing) and missing[-1] - missing[0] >= ABSENT_TWICE


def _span(
    visit: _Visit,
    others: Sequence[_Visit],
    missing: Sequence[datetime],
    breaks: Sequence[_Outage],
    room: _Room,
    until: datetime,
) -> _Span:
    """Decide where the visit ended, and how well that is known."""
    end, confidence = visit.proven, Confidence.INFERRED
    if visit.left is not None and visit.left_reason != CONNECTION_TIMEOUT:
        end, confidence = visit.left, Confidence.EXACT
    elif visit.left is not None:
        end = max(visit.left - BLIND, min(visit.proven, visit.left))
    elif _gone(missing):
        confidence = Confidence.RECONCILED
    elif not breaks and not any(other.start > visit.start for other in others):
        return _still_in(visit, room, until)
    end = max(visit.start, end)
    sources = visit.sources | {"poll"} if confidence is Confidence.RECONCILED else visit.sources
    return _Span(visit.start, end, sources, visit.start_confidence, confidence, proven=end)


def _still_in(visit: _Visit, room: _Room, until: datetime) -> _Span:
    """Return the span of a visit that nothing ended before the media room or the lesson did."""
    finished = [at for generation, at in room.finished if generation == visit.generation]
    end = max(visit.start, min([until, *finished]))
    vouched = visit.last_poll is not None and end - visit.last_poll <= POLL_VOUCHES
    confidence = Confidence.RECONCILED if vouched else Confidence.INFERRED
    proven = min(visit.proven, end)
    return _Span(visit.start, end, visit.sources, visit.start_confidence, confidence, proven=proven)


# Our sockets --------------------------------------------------------------------------------------------------


def _socket_spans(person: _Person, outages: Sequence[_Outage]) -> Iterable[_Span]:
    """Yield the stays of one person, the gaps within the seat grace, and the outages that were not theirs."""
    stays = [_stay(known) for known in person.stays.values()]
    for stay in stays:
        yield stay
        if stay.end_confidence is Confidence.EXACT:
            continue
        back = [other.start for other in stays if other.start >= stay.end and other is not stay]
        left = [
            other.end
            for other in stays
            if other.end_confidence is Confidence.EXACT and other.start < stay.end <= other.end
        ]
        if back and left and min(left) <= min(back):
            # The person said goodbye on another device before coming back: the seat was free, no grace ran.
            continue
        if back and min(back) - stay.end <= SEAT_GRACE:
            yield _counted(stay.end, min(back), "socket", Confidence.EXACT)
            continue
        held = [gap for gap in outages if gap.start - SEAT_GRACE - BEAT <= stay.end <= gap.end]
        returned = _return(stay.end, back, held)
        if returned is not None:
            yield _counted(stay.end, returned, "ours", Confidence.OURS)


def _stay(known: _Stay) -> _Span:
    confidence = Confidence.INFERRED if known.goodbye is None else Confidence.EXACT
    end = max(known.start, known.goodbye or known.end)
    return _Span(known.start, end, frozenset({"socket"}), Confidence.EXACT, confidence, proven=end)


# Both ---------------------------------------------------------------------------------------------------------


def _return(end: datetime, back: Sequence[datetime], breaks: Sequence[_Outage]) -> datetime | None:
    """Return when the person was back, if soon enough after one of the outages that took them out."""
    returned = min(back, default=None)
    if returned is None:
        return None
    soon = any(gap.start <= returned <= gap.end + RETURN_AFTER_OUTAGE for gap in breaks)
    return returned if soon and returned > end else None


def _counted(start: datetime, end: datetime, source: str, confidence: Confidence) -> _Span:
    """Return a gap that counts as presence."""
    return _Span(start, end, frozenset({source}), confidence, confidence, proven=end)


def _attended(spans: Iterable[_Span], starts_at: datetime, ends_at: datetime) -> Attended:
    """Return the union of the spans, clipped to the window."""
    spans = sorted((span for span in spans if span.start <= ends_at and span.end >= starts_at), key=_start_of)
    edges = sorted({min(max(edge, starts_at), ends_at) for span in spans for edge in (span.start, span.end)})
    intervals: list[Interval] = []
    coming, there = deque(spans), list[_Span]()
    for start, end in pairwise(edges):
        while coming and coming[0].start <= start:
            there.append(coming.popleft())
        there = [span for span in there if span.end >= end]
        sources = frozenset[str]().union(*(span.sources for span in there))
        if not sources:
            continue
        named = tuple(sorted(sources))
        if intervals and intervals[-1].end == start and intervals[-1].sources == named:
            start = intervals.pop().start  # noqa: PLW2901  (one longer interval instead of two that touch)
        intervals.append(Interval(start, end, named))
    attended = sum((interval.end - interval.start for interval in intervals), timedelta())
    return Attended(
        tuple(intervals), attended // timedelta(seconds=1), _confidence(spans, starts_at, ends_at)
    )


def _start_of(span: _Span) -> datetime:
    return span.start


def _confidence(spans: Sequence[_Span], starts_at: datetime, ends_at: datetime) -> Confidence:
    """Return the worst of all starts and ends inside the window; what lies outside it was cut off anyway."""
    starts = [span.start_confidence for span in spans if span.start > starts_at]
    ends = [span.end_confidence for span in spans if span.proven < ends_at]
    order = list(Confidence)
    return max([Confidence.EXACT, *starts, *ends], key=order.index)
