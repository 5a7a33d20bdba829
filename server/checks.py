"""TABLE: every invariant that the database is asked about: at the end of tests, hourly, by `fourtalk check`."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from billing import checks as money
from billing.checks import Violation
from server.features.courses import checks as courses

TABLE = (*money.CHECKS, *courses.CHECKS)


async def run(session: AsyncSession) -> Sequence[Violation]:
    """Return every invariant that does not hold; an empty list is the good answer."""
    return await money.run(session, TABLE)
