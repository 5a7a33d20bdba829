"""Whatever happens in whatever order: the cap holds, replay equals live, the queue is fair, nobody haunts a seat."""

from datetime import timedelta

import msgspec
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rooms import errors, messages as m
from rooms.messages import Identity, RoomStatus, SeatStatus
from rooms.state import State
from rooms.wishes import effects, timers
from tests.rooms.kit import Room, person, socket, talk

PEOPLE = st.sampled_from([person(n) for n in range(1, 9)])
DEVICES = st.sampled_from(["1", "2"])


class Talk(RuleBasedStateMachine):
    """A talk under any sequence of commands, lost sockets, webhooks and time."""

    @initialize(evidence=st.sampled_from(["socket", "livekit"]), cap=st.integers(2, 4))
    def open(self, evidence: m.EvidenceMode, cap: int) -> None:
        self.room = Room(talk(cap=cap, evidence=evidence))
        self.sid = 0

    def send(self, message: m.Message) -> None:
        before = [w.identity for w in self.room.state.queue]
        try:
            self.room.send(message)
        except errors.RoomError:
            return
        self.check_fairness(before)

    def check_fairness(self, before: list[Identity]) -> None:
        """Nobody overtakes: who still waits keeps the order, and offers go from the front."""
        state = self.room.state
        still = [w.identity for w in state.queue if w.identity in before]
        assert still == [who for who in before if who in still]
        offered = [w.offered_until_wall is not None for w in state.queue]
        assert offered == sorted(offered, reverse=True)

    @rule(who=PEOPLE, device=DEVICES, queue=st.booleans())
    def join(self, who: Identity, device: str, queue: bool) -> None:
        self.send(m.Join(who, "Name", "member", socket(f"{who}/{device}"), queue))

    @rule(who=PEOPLE)
    def join_without_socket(self, who: Identity) -> None:
        self.send(m.Join(who, "Name", "member"))

    @rule(who=PEOPLE)
    def leave(self, who: Identity) -> None:
        self.send(m.Leave(who))

    @rule(who=PEOPLE, device=DEVICES)
    def lose(self, who: Identity, device: str) -> None:
        self.send(m.SocketGone(who, socket(f"{who}/{device}")))

    @rule(who=PEOPLE, device=DEVICES)
    def beat(self, who: Identity, device: str) -> None:
        self.send(m.SocketsSeen("node", {who: (socket(f"{who}/{device}"),)}, self.room.now))

    @rule(by=PEOPLE, who=PEOPLE, ban=st.booleans())
    def kick(self, by: Identity, who: Identity, ban: bool) -> None:
        self.send(m.Kick(by, who, ban))

    @rule(who=PEOPLE)
    def evict(self, who: Identity) -> None:
        self.send(m.Evict(who, "refunded"))

    @rule(seconds=st.sampled_from([1, 5, 19, 20, 30, 120]))
    def wait(self, seconds: int) -> None:
        time = timedelta(seconds=seconds)
        self.room.now += time
        self.room.wall += time
        self.send(m.TimerDue("any"))

    @rule()
    def adopt(self) -> None:
        self.send(m.Adopt(self.room.now))

    @rule(who=PEOPLE, kind=st.sampled_from(["joined", "left", "aborted", "finished"]), is_new=st.booleans())
    def webhook(self, who: Identity, kind: m.EvidenceKind, is_new: bool) -> None:
        self.sid += is_new
        identity = None if kind == "finished" else who
        evidence = m.Evidence(
            kind, self.room.now, identity, f"PA_{self.sid}", generation=self.room.state.generation
        )
        if self.room.state.uses_livekit:
            self.send(m.MediaChanged(evidence))

    @rule()
    def carry_out(self) -> None:
        for effect in effects(self.room.state):
            self.send(m.EffectResult(effect))

    @rule(who=PEOPLE)
    def say(self, who: Identity) -> None:
        self.send(m.SendChat(who, "hello"))

    @invariant()
    def cap_holds(self) -> None:
        state = self.room.state
        assert state.taken <= state.spec.cap
        numbers = [seat.no for seat in state.seats.values()]
        assert len(set(numbers)) == len(numbers)
        assert all(1 <= no <= state.spec.cap for no in numbers)

    @invariant()
    def nobody_haunts_a_seat(self) -> None:
        for seat in self.room.state.seats.values():
            assert (seat.until_wall is None) == (seat.status is SeatStatus.CONNECTED)
            if seat.until_wall is not None:
                assert seat.until_wall > self.room.wall or self.room.last.events == ()

    @invariant()
    def whoever_is_connected_is_there(self) -> None:
        state = self.room.state
        for seat in state.seats.values():
            if seat.status is SeatStatus.CONNECTED:
                assert seat.identity in state.media if state.uses_livekit else seat.connections

    @invariant()
    def the_host_has_a_seat(self) -> None:
        state = self.room.state
        if state.status is RoomStatus.LIVE:
            assert state.host in state.seats if state.seats else state.host is None

    @invariant()
    def nobody_sits_and_waits(self) -> None:
        state = self.room.state
        assert not state.seats.keys() & {w.identity for w in state.queue}
        assert not state.banned & (state.seats.keys() | {w.identity for w in state.queue})

    @invariant()
    def a_free_seat_is_offered(self) -> None:
        state = self.room.state
        if state.taken < state.spec.cap:
            assert all(w.offered_until_wall is not None for w in state.queue)

    @invariant()
    def an_empty_room_will_close(self) -> None:
        state = self.room.state
        if state.status is RoomStatus.LIVE and not state.seats and not state.queue:
            assert state.empty_close_at is not None
        if state.status is RoomStatus.CLOSED:
            assert not state.seats
            assert timers(state, now=self.room.now, wall=self.room.wall) == {}

    @invariant()
    def replay_equals_live(self) -> None:
        assert self.room.replayed() == self.room.state

    @invariant()
    def a_snapshot_loses_nothing(self) -> None:
        packed = msgspec.msgpack.encode(self.room.state)
        assert msgspec.msgpack.decode(packed, type=State) == self.room.state


Talk.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestTalk = Talk.TestCase
