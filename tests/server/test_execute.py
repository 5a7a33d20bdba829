"""One command: guard, key, one transaction with tries, answer. Against a real database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from server import audit, db
from server.audit import AuditEntry
from server.context import Command, Context, Guard, Principal, Role
from server.errors import (
    TIMEOUT_UNKNOWN_OUTCOME,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    IdempotencyMismatchError,
    OverloadedError,
    UnauthenticatedError,
    UnknownOutcomeError,
    socket_error_of,
)
from server.execute import TRIES, Executed, KeyRequiredError, check_guard, execute
from server.features.accounts.models import User
from tests.server.world import World

# It changes tables, not only what is in them.
OWN_DATABASE = True


class Deed(msgspec.Struct, frozen=True):
    """Do something that leaves a row."""

    words: str = "done"


class Done(msgspec.Struct, frozen=True):
    words: str
    number: int


HANG_UP = """
create function hang_up() returns trigger language plpgsql as
$$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$
"""
HANG_UP_IN_COMMIT = """
create constraint trigger hang_up after insert on audit_log deferrable initially deferred
for each row execute function hang_up()
"""

Handler = Callable[[Context, Any], Awaitable[Any]]


async def do_deed(ctx: Context, command: Deed) -> Done:
    before = await ctx.session.scalar(select(func.count()).select_from(AuditEntry)) or 0
    audit.record(ctx, command.words, ctx.user.user_id, before={}, after={})
    return Done(command.words, before)


def row_of(handler: Handler = do_deed, **options: Any) -> Command:
    return Command("deed.do", Deed, handler, **({"method": "POST", "path": "/deeds"} | options))


def ctx_of(
    world: World, key: str | None = None, user_id: UUID | None = None, role: Role = Role.STUDENT
) -> Context:
    principal = Principal(user_id or uuid4(), role, "Ann Lee", 1)
    return Context(world.parts, principal, world.parts.clock.now(), key=key)


async def deeds(world: World) -> int:
    async with world.parts.sessions() as session:
        return await session.scalar(select(func.count()).select_from(AuditEntry)) or 0


class Attempts:
    """A handler that fails in a given way until its n-th attempt."""

    def __init__(self, statement: str, *, succeed_at: int) -> None:
        self.count = 0
        self._statement = statement
        self._succeed_at = succeed_at

    async def __call__(self, ctx: Context, command: Deed) -> Done:
        self.count += 1
        done = await do_deed(ctx, command)
        if self.count < self._succeed_at:
            await ctx.session.execute(text(self._statement))
        return done


def raising(state: str) -> str:
    return f"do $$ begin raise sqlstate '{state}'; end $$"


class TestTransaction:
    async def test_what_a_command_did_is_committed(self, world: World) -> None:
        executed = await execute(row_of(status=201), ctx_of(world), Deed("hello"))

        assert executed == Executed(201, b'{"words":"hello","number":0}')
        assert await deeds(world) == 1

    async def test_a_refused_command_leaves_nothing(self, world: World) -> None:
        async def refuse(ctx: Context, command: Deed) -> Done:
            await do_deed(ctx, command)
            await ctx.session.flush()
            raise ConflictError("no")

        with pytest.raises(ConflictError):
            await execute(row_of(refuse), ctx_of(world), Deed())

        assert await deeds(world) == 0

    @pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
    async def test_the_whole_transaction_is_tried_again(self, world: World, state: str) -> None:
        attempts = Attempts(raising(state), succeed_at=3)

        await execute(row_of(attempts), ctx_of(world), Deed())

        assert attempts.count == 3
        assert await deeds(world) == 1

    async def test_after_five_tries_the_caller_is_told_to_come_back(self, world: World) -> None:
        attempts = Attempts(raising("40001"), succeed_at=100)

        with pytest.raises(OverloadedError):
            await execute(row_of(attempts), ctx_of(world), Deed())

        assert attempts.count == TRIES
        assert await deeds(world) == 0

    async def test_a_multixact_race_is_tried_again_and_another_internal_error_is_not(
        self, world: World
    ) -> None:
        race = Attempts(
            "do $$ begin raise 'new multixact has more than one updating member' using errcode = 'XX000'; end $$",
            succeed_at=2,
        )
        bug = Attempts(raising("XX000"), succeed_at=2)

        await execute(row_of(race), ctx_of(world), Deed())
        with pytest.raises(DBAPIError):
            await execute(row_of(bug), ctx_of(world), Deed())

        assert (race.count, bug.count) == (2, 1)

    async def test_commands_that_lock_each_other_both_succeed(self, world: World) -> None:
        first, second = await world.people(Role.STUDENT, 2)
        meeting = asyncio.Barrier(2)

        def locking(*order: UUID) -> Handler:
            async def lock(ctx: Context, command: Deed) -> Done:
                for user_id in order:
                    await ctx.session.execute(update(User).where(User.id == user_id).values(locale="vi"))
                    if meeting.n_waiting < 2 and not meeting.broken:
                        try:
                            async with asyncio.timeout(0.5):
                                await meeting.wait()
                        except (TimeoutError, asyncio.BrokenBarrierError):
                            await meeting.abort()
                return await do_deed(ctx, command)

            return lock

        await asyncio.gather(
            execute(row_of(locking(first.id, second.id)), ctx_of(world), Deed()),
            execute(row_of(locking(second.id, first.id)), ctx_of(world), Deed()),
        )

        assert await deeds(world) == 2

    async def test_a_connection_lost_before_the_commit_is_tried_again(self, world: World) -> None:
        attempts = Attempts("select pg_terminate_backend(pg_backend_pid())", succeed_at=2)

        await execute(row_of(attempts), ctx_of(world), Deed())

        assert attempts.count == 2
        assert await deeds(world) == 1

    @pytest.mark.parametrize(("key", "tries"), [(None, 1), ("k", TRIES)])
    async def test_a_connection_lost_in_the_commit_is_tried_again_only_under_a_key(
        self, world: World, key: str | None, tries: int
    ) -> None:
        async with world.parts.sessions.begin() as session:
            await session.execute(text(HANG_UP))
            await session.execute(text(HANG_UP_IN_COMMIT))
        attempts = Attempts("select 1", succeed_at=1)

        with pytest.raises(UnknownOutcomeError) as lost:
            await execute(row_of(attempts), ctx_of(world, key), Deed())

        assert attempts.count == tries
        assert socket_error_of(lost.value) is TIMEOUT_UNKNOWN_OUTCOME

    async def test_a_database_that_is_away_is_overload_and_no_bug(self, world: World, tmp_path: Any) -> None:
        engine = db.create_engine(f"postgresql://nobody@/nothing?host={tmp_path}")
        away: async_sessionmaker[AsyncSession] = db.create_sessions(engine)
        parts = msgspec.structs.replace(world.parts, sessions=away)

        with pytest.raises(OverloadedError):
            await execute(row_of(), msgspec.structs.replace(ctx_of(world), parts=parts), Deed())
        await engine.dispose()

    @pytest.mark.parametrize(
        ("statement", "refusal"),
        [
            ("select 1 from pg_sleep(1)", OverloadedError),
            ("select 2147483647::int + 1", BadRequestError),
            ("select 'x'::uuid", BadRequestError),
            (raising("23505"), ConflictError),
            (raising("23503"), ConflictError),
            (raising("23P01"), ConflictError),
        ],
    )
    async def test_what_the_database_refuses_is_no_bug(
        self, world: World, statement: str, refusal: type[Exception]
    ) -> None:
        async def ask(ctx: Context, command: Deed) -> Done:
            await ctx.session.execute(text("set local statement_timeout = 50"))
            await ctx.session.execute(text(statement))
            return Done("", 0)

        with pytest.raises(refusal):
            await execute(row_of(ask), ctx_of(world), Deed())

    async def test_a_broken_check_is_a_bug(self, world: World) -> None:
        async def ask(ctx: Context, command: Deed) -> Done:
            await ctx.session.execute(text(raising("23514")))
            return Done("", 0)

        with pytest.raises(IntegrityError):
            await execute(row_of(ask), ctx_of(world), Deed())

    async def test_a_live_command_has_no_transaction(self, world: World) -> None:
        async def live(ctx: Context, command: Deed) -> Done:
            assert ctx.transaction is None
            return Done(command.words, 1)

        assert (await execute(row_of(live, live=True), ctx_of(world, "k"), Deed())).replayed is False


class TestKey:
    async def test_a_live_command_gives_its_first_finished_answer_again(self, world: World) -> None:
        made: list[str] = []

        async def live(ctx: Context, command: Deed) -> Done:
            assert ctx.transaction is None
            made.append(command.words)
            return Done(command.words, len(made))

        row = row_of(live, live=True, idempotent=True)
        first = await execute(row, ctx_of(world, "k"), Deed("once"))
        user = ctx_of(world, "k")

        again = [await execute(row, user, Deed("mine")) for _ in range(2)]

        assert first.replayed is False
        assert [one.replayed for one in again] == [False, True]
        assert again[0].body == again[1].body
        assert made == ["once", "mine"]
        with pytest.raises(IdempotencyMismatchError):
            await execute(row, user, Deed("other"))

    async def test_of_two_live_commands_at_once_both_get_the_answer_that_was_kept(self, world: World) -> None:
        made: list[str] = []
        both = asyncio.Barrier(2)

        async def live(_: Context, command: Deed) -> Done:
            made.append(command.words)
            mine = len(made)
            await both.wait()
            return Done(command.words, mine)

        ctx = ctx_of(world, "k")
        one, two = await asyncio.gather(
            *(execute(row_of(live, live=True, idempotent=True), ctx, Deed("once")) for _ in range(2))
        )

        assert one.body == two.body
        assert sorted([one.replayed, two.replayed]) == [False, True]

    async def test_a_live_command_that_fails_frees_its_key(self, world: World) -> None:
        async def live(_: Context, command: Deed) -> Done:
            if command.words == "fails":
                raise ValueError
            return Done(command.words, 1)

        ctx = ctx_of(world, "k")
        with pytest.raises(ValueError):  # noqa: PT011
            await execute(row_of(live, live=True, idempotent=True), ctx, Deed("fails"))

        assert (await execute(row_of(live, live=True, idempotent=True), ctx, Deed("works"))).replayed is False

    async def test_the_same_request_gives_the_first_answer_again(self, world: World) -> None:
        ctx = ctx_of(world, "k")

        first = await execute(row_of(status=201), ctx, Deed("once"))
        again = await execute(row_of(status=201), ctx, Deed("once"))

        assert again == Executed(201, first.body, replayed=True)
        assert await deeds(world) == 1

    async def test_another_request_under_the_key_is_refused(self, world: World) -> None:
        ctx = ctx_of(world, "k")
        await execute(row_of(), ctx, Deed("once"))

        with pytest.raises(IdempotencyMismatchError):
            await execute(row_of(), ctx, Deed("twice"))
        with pytest.raises(IdempotencyMismatchError):
            await execute(msgspec.structs.replace(row_of(), op="deed.undo"), ctx, Deed("once"))

    async def test_a_key_belongs_to_one_user(self, world: World) -> None:
        await execute(row_of(), ctx_of(world, "k"), Deed("mine"))
        other = await execute(row_of(), ctx_of(world, "k"), Deed("other"))

        assert other.replayed is False

    async def test_a_refused_command_frees_its_key(self, world: World) -> None:
        ctx = ctx_of(world, "k")

        async def refuse(ctx: Context, command: Deed) -> Done:
            raise ConflictError("no")

        with pytest.raises(ConflictError):
            await execute(row_of(refuse), ctx, Deed("first"))

        assert (await execute(row_of(), ctx, Deed("second"))).replayed is False

    async def test_parallel_repeats_wait_for_the_first(self, world: World) -> None:
        user_id = uuid4()

        async def slow(ctx: Context, command: Deed) -> Done:
            done = await do_deed(ctx, command)
            await ctx.session.execute(text("select pg_sleep(0.2)"))
            return done

        for round_no in range(5):
            executed = await asyncio.gather(
                *(execute(row_of(slow), ctx_of(world, f"k{round_no}", user_id), Deed()) for _ in range(12))
            )
            assert len({one.body for one in executed}) == 1
            assert sum(not one.replayed for one in executed) == 1

        assert await deeds(world) == 5

    async def test_when_the_first_of_parallel_repeats_fails_another_does_it(self, world: World) -> None:
        user_id, failures = uuid4(), iter([True])

        async def fail_once(ctx: Context, command: Deed) -> Done:
            done = await do_deed(ctx, command)
            await ctx.session.execute(text("select pg_sleep(0.1)"))
            if next(failures, False):
                raise ConflictError("no")
            return done

        outcomes = await asyncio.gather(
            *(execute(row_of(fail_once), ctx_of(world, "k", user_id), Deed()) for _ in range(6)),
            return_exceptions=True,
        )

        assert sum(isinstance(one, ConflictError) for one in outcomes) == 1
        assert await deeds(world) == 1

    async def test_a_key_is_mandatory_where_the_row_says_so(self, world: World) -> None:
        for key in (None, ""):
            with pytest.raises(KeyRequiredError):
                await execute(row_of(idempotent=True), ctx_of(world, key), Deed())

    @pytest.mark.parametrize("key", ["x" * 256, "nul\0"])
    async def test_a_key_that_cannot_be_kept_is_refused(self, world: World, key: str) -> None:
        with pytest.raises(BadRequestError):
            await execute(row_of(), ctx_of(world, key), Deed())

    async def test_what_only_reads_keeps_no_answer(self, world: World) -> None:
        ctx = ctx_of(world, "k")

        executed = [await execute(row_of(method="GET"), ctx, Deed(words)) for words in ("a", "b")]

        assert [one.replayed for one in executed] == [False, False]


class TestGuard:
    @pytest.mark.parametrize(
        ("guard", "allowed"),
        [
            ("public", set(Role)),
            ("user", set(Role)),
            ("student", {Role.STUDENT}),
            ("tutor", {Role.TUTOR}),
            ("approved_tutor", {Role.TUTOR}),
            ("admin", {Role.ADMIN, Role.OWNER}),
            ("owner", {Role.OWNER}),
        ],
    )
    def test_owner_includes_admin_and_nothing_else(self, guard: Guard, allowed: set[Role]) -> None:
        row = row_of(guard=guard)
        for role in Role:
            principal = Principal(uuid4(), role, "Ann Lee", 1)
            if role in allowed:
                check_guard(row, principal)
            else:
                with pytest.raises(ForbiddenError):
                    check_guard(row, principal)

    def test_only_public_commands_are_for_nobody(self) -> None:
        check_guard(row_of(guard="public"), None)
        with pytest.raises(UnauthenticatedError):
            check_guard(row_of(), None)

    @pytest.mark.parametrize("live", [False, True])
    async def test_an_approved_tutor_is_asked_of_the_database(self, world: World, *, live: bool) -> None:
        async def answer(ctx: Context, command: Deed) -> Done:
            return Done("", 0)

        tutor = await world.person(Role.TUTOR)
        row, ctx = (
            row_of(answer, guard="approved_tutor", live=live),
            ctx_of(world, None, tutor.id, Role.TUTOR),
        )
        await execute(row, ctx, Deed())
        async with world.parts.sessions.begin() as session:
            await session.execute(update(User).where(User.id == tutor.id).values(tutor_status="rejected"))

        with pytest.raises(ForbiddenError):
            await execute(row, ctx, Deed())


@pytest.mark.parametrize("words", ["nul\0", "\0"])
async def test_nul_is_refused_behind_both_doors(world: World, words: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        await execute(row_of(), ctx_of(world), Deed(words))

    assert caught.value.errors[0].field == "words"
