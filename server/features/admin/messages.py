"""What the machinery is asked by administrators, and what it answers."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from billing.jobs import JobView, State
from server.pages import PAGE, Limit


class ListJobs(msgspec.Struct, frozen=True):
    """Ask for work that waits, runs or was given up, newest first."""

    state: State | None = None
    limit: Limit = PAGE
    cursor: UUID | None = None


class JobPage(msgspec.Struct, frozen=True):
    """A page of jobs."""

    items: tuple[JobView, ...]
    next_cursor: UUID | None


class RetryJob(msgspec.Struct, frozen=True):
    """Have work tried anew that was given up."""

    job_id: UUID
    reason: Annotated[str, Meta(min_length=10, max_length=500)]
