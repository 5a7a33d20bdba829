"""Rules of live rooms: seats, chat, sockets and the media server."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)

from rooms.media import room_name
from rooms.messages import ConnectionId, Identity, SocketGone, SocketsSeen
from server.context import Principal
from tests.server.stage import Connection
from tests.simulation.life import HOURS, INDEX, KEYS, STUDENT, Body
from tests.simulation.market import Market


class LiveRooms(Market):
    """People come, talk and go, on purpose or not."""

    # --- Rooms ----------------------------------------------------------------------------------------------

    @rule(who=STUDENT, seats=st.integers(2, 4), hours=st.none() | HOURS)
    def create_talk(self, who: int, seats: int, hours: int | None) -> None:
        self.run(self._create_talk(self.student(who), seats, hours))

    async def _create_talk(self, host: Principal, seats: int, hours: int | None) -> None:
        starts_at = None if hours is None else self.clock.now() + timedelta(hours=hours)
        made = await self.ask(
            "talk.create", host, title="Tea", language="es", max_participants=seats, starts_at=starts_at
        )
        self.talks.append((UUID(made["id"]), UUID(made["room_id"])))
        self.rooms.append(UUID(made["room_id"]))

    def _room(self, index: int) -> UUID:
        """A room; the newest ones, where more happens, come first."""
        return self.rooms[-1 - index % min(len(self.rooms), 6)]

    def _person(self, index: int) -> Principal:
        return self.everybody[index % len(self.everybody)]

    def _insider(self, room_id: UUID, index: int) -> Principal:
        """Mostly somebody with a seat, the host before others; sometimes anybody."""
        actor = self.node.rooms._actors.get(room_id)
        seated = [] if actor is None else list(actor.state.seats)
        if not seated or index % 5 == 0:
            return self._person(index)
        chosen = seated[index // 5 % len(seated)] if index % 2 else seated[0]
        return next(person for person in self.everybody if str(person.user_id) == chosen)

    def _guest(self, room_id: UUID, index: int) -> Principal:
        """Mostly somebody who may enter, sometimes anybody."""
        course_id = self.course_of.get(room_id)
        if course_id is None or index % 5 == 0:
            return self._person(index)
        buyers = [
            buyer for purchase_id, buyer in self.purchases if self.course_bought[purchase_id] == course_id
        ]
        people = [self.tutor_of[course_id], *buyers]
        return people[index // 5 % len(people)]

    @rule(who=INDEX, room=INDEX, with_socket=st.booleans(), queue=st.booleans())
    def join(self, who: int, room: int, with_socket: bool, queue: bool) -> None:
        room_id = self._room(room)
        self.run(self._join(self._guest(room_id, who), room_id, with_socket, queue))

    @rule(room=INDEX, queue=st.booleans())
    def everybody_joins(self, room: int, queue: bool) -> None:
        self.run(self._rush(self._room(room), queue))

    @rule(who=STUDENT, seats=st.integers(2, 4), queue=st.booleans())
    def hold_talk(self, who: int, seats: int, queue: bool) -> None:
        """A new talk, and everybody wants to be in it."""

        async def hold() -> None:
            await self._create_talk(self.student(who), seats, None)
            await self._rush(self.rooms[-1], queue)

        self.run(hold())

    async def _rush(self, room_id: UUID, queue: bool) -> None:
        """Everybody who may joins at the same moment, and somebody who may not."""
        people = dict.fromkeys(self._guest(room_id, index) for index in range(50))
        async with asyncio.TaskGroup() as tasks:
            for person in people:
                tasks.create_task(self._join(person, room_id, True, queue))

    async def _join(self, person: Principal, room_id: UUID, with_socket: bool, queue: bool) -> None:
        connection = Connection() if with_socket else None
        joined = await self.ask("room.join", person, connection=connection, room_id=room_id, queue=queue)
        if joined is not None and connection is not None:
            self.sockets.setdefault((room_id, person), []).append(connection)

    @rule(who=INDEX, room=INDEX)
    def leave(self, who: int, room: int) -> None:
        room_id = self._room(room)
        person = self._insider(room_id, who)
        known = self.sockets.get((room_id, person), [])
        connection = known.pop() if known else None
        self.run(self.ask("room.leave", person, connection=connection, room_id=room_id))

    @rule(by=INDEX, who=INDEX, room=INDEX, ban=st.booleans())
    def kick(self, by: int, who: int, room: int, ban: bool) -> None:
        room_id = self._room(room)
        user_id = self._insider(room_id, who).user_id
        self.run(self.ask("room.kick", self._insider(room_id, by), room_id=room_id, user_id=user_id, ban=ban))

    @rule(by=INDEX, room=INDEX)
    def close_room(self, by: int, room: int) -> None:
        room_id = self._room(room)
        self.run(self.ask("room.close", self._insider(room_id, by), room_id=room_id))

    @precondition(lambda self: self.talks)
    @rule(by=INDEX, talk=INDEX, close=st.booleans())
    def change_talk(self, by: int, talk: int, close: bool) -> None:
        talk_id, room_id = self.talks[talk % len(self.talks)]
        changes: Body = {} if close else {"title": f"Tea of {self.age}", "public": self.age % 2 == 0}
        op = "talk.close" if close else "talk.update"
        self.run(self.ask(op, self._insider(room_id, by), talk_id=talk_id, **changes))

    @rule(who=INDEX, room=INDEX, text=st.sampled_from(("hello", " ")), key=KEYS)
    def say(self, who: int, room: int, text: str, key: str | None) -> None:
        room_id = self._room(room)
        said = self.run(
            self.ask("chat.send", self._insider(room_id, who), key=key, room_id=room_id, text=text)
        )
        if said is not None:
            self.messages.append((room_id, UUID(said["message"]["id"])))

    @precondition(lambda self: self.messages)
    @rule(who=INDEX, index=INDEX, op=st.sampled_from(("chat.edit", "chat.delete", "chat.read")), key=KEYS)
    def change_message(self, who: int, index: int, op: str, key: str | None) -> None:
        room_id, message_id = self.messages[index % len(self.messages)]
        text: Body = {"text": "hello again"} if op == "chat.edit" else {}
        self.run(
            self.ask(op, self._insider(room_id, who), key=key, room_id=room_id, message_id=message_id, **text)
        )

    # --- Sockets and media ----------------------------------------------------------------------------------

    @precondition(lambda self: any(self.sockets.values()))
    @rule(index=INDEX, silent_s=st.sampled_from((0, 4, 20)))
    def lose_socket(self, index: int, silent_s: int) -> None:
        bound = [(room_id, who, one) for (room_id, who), known in self.sockets.items() for one in known]
        room_id, person, connection = bound[index % len(bound)]
        self.sockets[room_id, person].remove(connection)
        seen_at = self.clock.now() - timedelta(seconds=silent_s)
        gone = SocketGone(Identity(str(person.user_id)), ConnectionId(connection.id), seen_at)
        self.run(self._tell(room_id, gone))

    async def _beat(self, room_id: UUID) -> None:
        people = {
            Identity(str(who.user_id)): tuple(ConnectionId(one.id) for one in known)
            for (where, who), known in self.sockets.items()
            if where == room_id and known
        }
        await self._tell(room_id, SocketsSeen("gateway", people, self.clock.now()))

    async def _tell(self, room_id: UUID, signal: SocketGone | SocketsSeen) -> None:
        self.node.rooms.tell(room_id, signal)

    @precondition(lambda self: self.media is not None)
    @rule(who=INDEX, room=INDEX, generation=st.sampled_from((0, 0, 0, -1)))
    def enter_media(self, who: int, room: int, generation: int) -> None:
        room_id = self._room(room)
        self.run(self._enter_media(self._insider(room_id, who), room_id, generation))

    async def _enter_media(self, person: Principal, room_id: UUID, generation: int = 0) -> None:
        if self.media is not None:
            newest = (await self.node.rooms.snapshot(room_id)).generation
            self.media.enter(room_name(room_id, newest + generation), Identity(str(person.user_id)))

    @precondition(lambda self: self.media is not None and any(self.media.rooms.values()))
    @rule(
        index=INDEX, reason=st.sampled_from(("CLIENT_INITIATED", "CONNECTION_TIMEOUT")), all_of=st.booleans()
    )
    def exit_media(self, index: int, reason: str, all_of: bool) -> None:
        assert self.media is not None, "see above"
        inside = [(name, who) for name, people in self.media.rooms.items() for who in people]
        name, identity = inside[index % len(inside)]
        if all_of:
            self.media.finish(name)
        else:
            self.media.exit(name, identity, reason=reason)

    @precondition(lambda self: self.media is not None and self.media.news)
    @rule(index=INDEX, fate=st.sampled_from(("once", "once", "twice", "lost")))
    def deliver(self, index: int, fate: str) -> None:
        """News arrive in any order, twice, or never."""
        assert self.media is not None, "see above"
        news = self.media.news.pop(index % len(self.media.news))
        if fate != "lost":
            self.run(self._deliver([news] * (2 if fate == "twice" else 1)))

    @precondition(lambda self: self.media is not None and self.media.news)
    @rule()
    def deliver_all(self) -> None:
        assert self.media is not None, "see above"
        news, self.media.news = self.media.news, []
        self.run(self._deliver(news))

    async def _deliver(self, news: Sequence[bytes]) -> None:
        assert self.media is not None, "it has news"
        for body in news:
            await self.node.receive(body, self.media.sign(body))
