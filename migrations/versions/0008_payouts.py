"""Periodic work is a row like any other work."""

from alembic import op

revision = "0008"
down_revision = "0007"

PERIODIC = """
alter table job
  add column asked integer default 1 not null,
  add column every interval,
  add column last_run_at timestamptz,
  add column last_duration_ms integer,
  add column last_count bigint,
  add constraint ck_job_asked_positive check (asked >= 1),
  add constraint ck_job_periodic_lives check (every is null or (every > interval '0' and dead_at is null)),
  add constraint ck_job_only_periodic_has_runs check (every is not null or last_run_at is null)
"""

# The periods of this moment; the runner writes down what it knows when it starts.
MOVE_THERE = """
insert into job (kind, key, payload, run_at, every, last_run_at, last_duration_ms, last_count, error)
select r.name, 'periodic', '{}', r.next_due, p.every, r.last_run_at, r.last_duration_ms, r.last_count, r.last_error
from job_run r
join (values
  ('settle_due', interval '5 minutes'),
  ('check_integrity', interval '1 hour'),
  ('purge_notifications', interval '1 day'),
  ('purge_publications', interval '1 hour'),
  ('purge_keys', interval '1 hour'),
  ('purge_logins', interval '1 hour')
) p (name, every) on p.name = r.name
"""

RUNS = """
create table job_run (
  name text not null,
  next_due timestamptz not null,
  node uuid,
  leased_until timestamptz,
  last_run_at timestamptz,
  last_duration_ms integer,
  last_count integer,
  last_error text,
  constraint pk_job_run primary key (name)
)
"""

MOVE_BACK = """
insert into job_run (name, next_due, last_run_at, last_duration_ms, last_count, last_error)
select kind, run_at, last_run_at, last_duration_ms, last_count, error from job where every is not null
"""


def upgrade() -> None:
    """Move the runs of the jobs to the other jobs."""
    op.execute(PERIODIC)
    op.execute(MOVE_THERE)
    op.execute("drop table job_run")


def downgrade() -> None:
    """Move them back."""
    op.execute(RUNS)
    op.execute(MOVE_BACK)
    op.execute("delete from job where every is not null")
    for column in ("asked", "every", "last_run_at", "last_duration_ms", "last_count"):
        op.execute(f"alter table job drop column {column}")
