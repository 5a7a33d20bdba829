"""Between the gateway and the rest: who is on a socket is looked at again where it matters."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from sqlalchemy import update

from server import bridge
from server.context import Command, Context, Principal, Role
from server.errors import UnauthenticatedError
from server.features.accounts.models import User
from tests.server.world import World


class Nothing(msgspec.Struct, frozen=True):
    """A request that asks for nothing."""


async def answer(ctx: Context, _: Nothing) -> Nothing:
    return Nothing()


ADMINISTRATE = Command("test.administrate", Nothing, answer, guard="admin")
LOOK = Command("test.look", Nothing, answer)


@pytest.mark.parametrize(("row", "is_looked_at"), [(ADMINISTRATE, True), (LOOK, False)])
async def test_changed_account_may_not_administrate_over_an_open_socket(
    world: World, row: Command, is_looked_at: bool
) -> None:
    admin = await world.person(Role.ADMIN)
    principal = Principal(admin.id, Role.ADMIN, "Ann", 1)
    call = cast(Any, SimpleNamespace(login=SimpleNamespace(person=principal), address=None, id="c1"))
    run = bridge.executor(world.parts, world.authenticator)
    first = await run(row, call, Nothing(), None)

    async with world.parts.sessions.begin() as session:
        await session.execute(update(User).where(User.id == admin.id).values(version=2))
    world.authenticator.forget(admin.id)

    assert bytes(first) == b"{}"
    if is_looked_at:
        with pytest.raises(UnauthenticatedError):
            await run(row, call, Nothing(), None)
    else:
        assert bytes(await run(row, call, Nothing(), None)) == b"{}"
