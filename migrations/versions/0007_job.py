"""Work that waits, as rows."""

from alembic import op

revision = "0007"
down_revision = "0006"

TABLE = """
create table job (
  id bigint generated always as identity,
  kind text not null,
  key text not null,
  payload jsonb not null,
  run_at timestamptz not null,
  tries integer default 0 not null,
  lease uuid,
  leased_until timestamptz,
  error text,
  dead_at timestamptz,
  enqueued_at timestamptz default clock_timestamp() not null,
  constraint pk_job primary key (id),
  constraint uq_job_kind_key unique (kind, key),
  constraint ck_job_key_length check (length(key) between 1 and 255),
  constraint ck_job_tries_not_negative check (tries >= 0),
  constraint ck_job_lease_whole check ((lease is null) = (leased_until is null)),
  constraint ck_job_dead_has_error check (dead_at is null or (lease is null and error is not null))
)
"""


def upgrade() -> None:
    """Make the table."""
    op.execute(TABLE)
    op.execute("create index ix_job_run_at_id on job (run_at, id) where dead_at is null")
    op.execute("create index ix_job_dead_at on job (dead_at) where dead_at is not null")


def downgrade() -> None:
    """Remove it."""
    op.execute("drop table job")
