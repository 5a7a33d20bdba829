"""Papers that people are given, with numbers that have no gap within a year.

Whoever issues one holds the year's counter until the commit, so a number that was given is a paper that exists. Asked
for again while it says the same, the same paper is given again, byte for byte; once it says something else (a hold was
corrected, a period went on), it is another paper with a number of its own.
"""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from billing.models import OwnerId, Paper, PaperCount, PaperKind


class Issue(msgspec.Struct, frozen=True):
    """The number and the time of a paper."""

    year: int
    number: int
    issued_at: datetime

    def __str__(self) -> str:
        """Write the number as it stands on the paper: `2026-000042`."""
        return f"{self.year}-{self.number:06}"


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a paper is to be about."""

    owner_id: OwnerId
    kind: PaperKind
    subject: str
    """Which entry, hold, top-up or period."""
    facts: object
    """All that it says but its number and date."""


async def issue(
    session: AsyncSession, wish: Wish, render: Callable[[Issue], Awaitable[bytes]], *, now: datetime
) -> tuple[Issue, bytes]:
    """Return the paper that says this: the one that was issued before, or a new one.

    Args:
        session: The number counts once it is committed.
        wish: What it is about.
        render: Writes the file; the same facts and number must give the same bytes.
        now: Business time; its year in UTC is the number's.
    """
    digest = hashlib.sha256(msgspec.json.encode(wish.facts, order="deterministic")).digest()
    same = select(Paper).where(
        Paper.owner_id == wish.owner_id,
        Paper.kind == wish.kind,
        Paper.subject == wish.subject,
        Paper.facts_sha256 == digest,
    )
    known = await session.scalar(same)
    if known is not None:
        return _again(known)
    await session.execute(insert(PaperCount).values(year=now.year, last=0).on_conflict_do_nothing())
    last = await session.scalar(
        select(PaperCount.last).where(PaperCount.year == now.year).with_for_update(key_share=True)
    )
    assert last is not None, "the year was opened"
    # Somebody may have issued it while this one waited for the counter.
    known = await session.scalar(same)
    if known is not None:
        return _again(known)
    made = Issue(now.year, last + 1, now)
    pdf = await render(made)
    await session.execute(update(PaperCount).where(PaperCount.year == made.year).values(last=made.number))
    session.add(
        Paper(
            year=made.year,
            number=made.number,
            owner_id=wish.owner_id,
            kind=wish.kind,
            subject=wish.subject,
            facts_sha256=digest,
            pdf=pdf,
            pdf_sha256=hashlib.sha256(pdf).digest(),
            issued_at=made.issued_at,
        )
    )
    await session.flush()
    return made, pdf


def _again(paper: Paper) -> tuple[Issue, bytes]:
    return Issue(paper.year, paper.number, paper.issued_at), paper.pdf
