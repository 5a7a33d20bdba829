"""What the machinery is asked by administrators, and what it answers."""

from typing import Annotated

import msgspec
from msgspec import Meta

from billing.jobs import JobView, State
from server.pages import PAGE, Limit

# Rows of jobs are numbered by 64 bits.
JobId = Annotated[str, Meta(pattern=r"^[0-9]{1,18}$")]


class ListJobs(msgspec.Struct, frozen=True):
    """Ask for work that waits, runs or was given up, newest first."""

    state: State | None = None
    limit: Limit = PAGE
    cursor: JobId | None = None


class JobPage(msgspec.Struct, frozen=True):
    """A page of jobs."""

    items: tuple[JobView, ...]
    next_cursor: str | None


class RetryJob(msgspec.Struct, frozen=True):
    """Have work tried anew that was given up."""

    job_id: JobId
    reason: Annotated[str, Meta(min_length=10, max_length=500)]
