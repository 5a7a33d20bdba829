"""Whether the tutor was absent is asked of each hold by its own terms."""

from alembic import op

revision = "0026"
down_revision = "0025"

BY_LESSON = "f.tutor_absent"
BY_HOLD = """f.total_s = 0 or f.tutor_attended_s * 100 < f.planned_s * case when f.is_by_hold
        then (select p.attendance_percent from policy p where p.version = old.policy_version)
        else f.absence_percent end"""
NOT_OVER = """
create or replace function hold_lesson_not_over() returns trigger language plpgsql as $$
begin
  if exists (
    select from lesson_facts f where f.lesson_id = old.lesson_id
    and (exists (select from settle_due d where d.lesson_id = f.lesson_id)
      or not (__ABSENT__ or f.cancelled) and f.version = 1)
  ) then
    raise exception 'LESSON_OVER' using errcode = 'FT003';
  end if;
  return new;
end$$
"""


def upgrade() -> None:
    """Facts that are written keep the one threshold that decided, as do those that an older process writes meanwhile."""
    op.execute("alter table lesson_facts add column is_by_hold boolean not null default false")
    op.execute(NOT_OVER.replace("__ABSENT__", BY_HOLD))


def downgrade() -> None:
    """Measure all holds of a lesson by one threshold again."""
    op.execute(NOT_OVER.replace("__ABSENT__", BY_LESSON))
    op.execute("alter table lesson_facts drop column is_by_hold")
