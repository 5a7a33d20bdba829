"""When which room of a process has to be woken or looked after: three sorted lists, and no task a room."""

import heapq
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Generic, Literal, TypeVar
from uuid import UUID

from rooms.actor import Actor
from rooms.wishes import Clock

# Entries in the order of a clock that count no more, beside as many as there are rooms; sorting them out costs as much as
# adding them did.
STALE_MAX = 1_000

Moment = TypeVar("Moment", datetime, float)
Slot = Literal["business_entry", "wall_entry", "visit_entry"]


class _Order(Generic[Moment]):
    """Rooms in the order in which a clock comes to them. The entry that counts is the one that its room names."""

    def __init__(self, slot: Slot, actors: Mapping[UUID, Actor]) -> None:
        self._slot = slot
        self._actors = actors
        self._heap: list[tuple[Moment, UUID]] = []

    def put(self, actor: Actor, due: Moment) -> None:
        """Let a room's turn come at `due`, unless it comes before."""
        entry: tuple[Moment, UUID] | None = getattr(actor, self._slot)
        if entry is not None and entry[0] <= due:
            return
        entry = (due, actor.room_id)
        setattr(actor, self._slot, entry)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._actors) + STALE_MAX:
            self._heap = [entry for entry in self._heap if self._actor_of(entry) is not None]
            heapq.heapify(self._heap)

    def take(self, moment: Moment) -> list[Actor]:
        """Take out the rooms whose turn has come."""
        found: list[Actor] = []
        while self._heap and self._heap[0][0] <= moment:
            actor = self._actor_of(heapq.heappop(self._heap))
            if actor is not None:
                setattr(actor, self._slot, None)
                found.append(actor)
        return found

    def _actor_of(self, entry: tuple[Moment, UUID]) -> Actor | None:
        actor = self._actors.get(entry[1])
        return actor if actor is not None and getattr(actor, self._slot) is entry else None


class Agenda:
    """When which room has to be woken and looked after, instead of a sleeping task a timer or a walk over all rooms."""

    def __init__(self, actors: Mapping[UUID, Actor]) -> None:
        self._timers: dict[Clock, _Order[datetime]] = {
            "business": _Order("business_entry", actors),
            "wall": _Order("wall_entry", actors),
        }
        self._visits: _Order[float] = _Order("visit_entry", actors)

    def plan(self, actor: Actor) -> None:
        """Take over the timers of a room as they are now."""
        for clock, order in self._timers.items():
            if wakes := actor.wakes(clock):
                order.put(actor, min(due_at for _, due_at in wakes))

    def visit(self, actor: Actor, after_s: float) -> None:
        """Look after a room in so many seconds, unless that is done before."""
        self._visits.put(actor, time.monotonic() + after_s)

    def due(self, *, now: datetime, wall: datetime) -> list[tuple[Actor, list[str]]]:
        """Take out what is due."""
        found: list[tuple[Actor, list[str]]] = []
        moments: tuple[tuple[Clock, datetime], ...] = (("business", now), ("wall", wall))
        for clock, moment in moments:
            for actor in self._timers[clock].take(moment):
                names = [name for name, due_at in actor.wakes(clock) if due_at <= moment]
                if names:
                    found.append((actor, names))
                else:
                    self.plan(actor)  # what it was planned for was cleared or put off
        return found

    def visits(self) -> list[Actor]:
        """Take out the rooms to be looked after now."""
        return self._visits.take(time.monotonic())
