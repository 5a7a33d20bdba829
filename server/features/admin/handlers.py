"""The commands of the machinery."""

import msgspec

from billing import jobs
from billing.jobs import Revived
from server import audit, pages
from server.context import Command, Context
from server.features.admin.messages import JobPage, ListJobs, RetryJob


async def list_jobs(ctx: Context, command: ListJobs) -> JobPage:
    """Return what runs by itself: waiting, running, or given up."""
    found = await jobs.find(ctx.session, state=command.state, limit=command.limit + 1, before=command.cursor)
    shown, more = pages.cut(found, command.limit, lambda one: one.id)
    return JobPage(tuple(shown), more)


async def retry_job(ctx: Context, command: RetryJob) -> Revived:
    """Have work tried anew that was given up.

    Raises:
        JobNotFoundError: There is no such work, or it was not given up.
    """
    revived = await jobs.revive(ctx.session, command.job_id)
    audit.record(
        ctx, "job.retry", command.job_id, before=msgspec.to_builtins(revived), after={}, reason=command.reason
    )
    return revived


COMMANDS = (
    Command("job.list", ListJobs, list_jobs, guard="admin", method="GET", path="/admin/jobs"),
    Command(
        "job.retry", RetryJob, retry_job, guard="admin", method="POST", path="/admin/jobs/{job_id}/retry"
    ),
)
