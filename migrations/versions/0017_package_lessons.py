"""A lesson of a package that was not given goes back to it when it is settled."""

from alembic import op

revision = "0017"
down_revision = "0016"

# Whoever settles has taken the row of `settle_due`; before that nobody knows what becomes of the lesson.
GIVEN = """
    and (exists (select from settle_due d where d.lesson_id = f.lesson_id)
      or not (f.tutor_absent or f.cancelled) and f.version = 1)"""
NOT_OVER = """
create or replace function hold_lesson_not_over() returns trigger language plpgsql as $$
begin
  if exists (select from lesson_facts f where f.lesson_id = old.lesson_id__GIVEN__) then
    raise exception 'LESSON_OVER' using errcode = 'FT003';
  end if;
  return new;
end$$
"""


def upgrade() -> None:
    """Let it go back."""
    op.execute(NOT_OVER.replace("__GIVEN__", GIVEN))


def downgrade() -> None:
    """Let none go back that is over."""
    op.execute(NOT_OVER.replace("__GIVEN__", ""))
