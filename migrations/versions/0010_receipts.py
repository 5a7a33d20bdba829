"""Facts of a lesson say up to which moment of the database they know evidence: what a receipt needs to judge again."""

from alembic import op

revision = "0010"
down_revision = "0009"

# What was known when a lesson was frozen: everything up to the transaction that closed its room. Of later facts only
# business time was kept; the newest evidence before the next ones is what they knew.
BACKFILL = """
update lesson_facts f set known_at = coalesce(
  case when f.version = 1 then (
    select e.recorded_at from room_event e where e.room_id = f.lesson_id and e.type = 'room_closed'
  ) else (select max(w.recorded_at) from evidence w where w.room_id = f.lesson_id) end,
  f.recorded_at)
"""


def upgrade() -> None:
    """Add the moment."""
    op.execute("alter table lesson_facts add column known_at timestamptz default now() not null")
    op.execute("alter table lesson_facts disable trigger append_only")
    op.execute(BACKFILL)
    op.execute("alter table lesson_facts enable trigger append_only")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("lesson_facts", "known_at")
