"""What measures the tutor for each sale is what settles it, also where a process of before 0026 does."""

from alembic import op

revision = "0030"
down_revision = "0029"

# Once for each statement: the holds of a lesson have few terms. The path: a temporary table is not what a row refers to.
OWN_TERMS = """
create function settled_by_own_terms() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
  if exists (
    select from (
      select distinct s.lesson_id, s.facts_version, s.cause, h.policy_version
      from written s join hold h on h.id = s.hold_id
      where s.cause in ('attendance', 'tutor_absent')
    ) d
    join lesson_facts f on f.lesson_id = d.lesson_id and f.version = d.facts_version
    join policy p on p.version = d.policy_version
    where f.is_by_hold and (d.cause = 'tutor_absent')
      <> (f.total_s = 0 or f.tutor_attended_s * 100 < p.attendance_percent * f.planned_s)
  ) then
    raise exception 'TUTOR_GUARD: each sale measures the tutor by its own terms' using errcode = 'check_violation';
  end if;
  return null;
end$$
"""


def upgrade() -> None:
    """Refuse what an older process makes of newer facts: its lesson stays due, and a newer one settles it."""
    op.execute(OWN_TERMS)
    op.execute(
        "create trigger own_terms after insert on hold_settlement referencing new table as written"
        " for each statement execute function settled_by_own_terms()"
    )


def downgrade() -> None:
    """Ask only what the checks ask."""
    op.execute("drop trigger own_terms on hold_settlement")
    op.execute("drop function settled_by_own_terms()")
