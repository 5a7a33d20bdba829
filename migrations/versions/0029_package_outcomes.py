"""A lesson of a package is settled by who came to it, as a booking is, and may be paid whole for a late cancellation.

What was settled before stays as it was: its cause names the rule, and so does `is_by_outcome` of what went back. An older
process beside this one may still settle by the rule of once, and its rows say so.
"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"

CLOSE = """
create or replace function hold_close() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
  key text;
begin
  select case
      when h.id is null then 'hold_id_amount_tutor_bps'
      else 'cause'
    end into key
  from written s left join hold h on h.id = s.hold_id and h.amount = s.amount and h.tutor_bps = s.tutor_bps
  where h.id is null
    or h.source_kind = 'booking' and s.cause in ('attendance', 'tutor_absent')
    or h.source_kind __OTHERS__ and s.cause in ('outcome', 'forfeited')
  limit 1;
  if key = 'cause' then
    raise exception 'CAUSE_GUARD: __WORDS__'
      using errcode = 'check_violation';
  end if;
  select coalesce(
    key,
    (
      select 'lesson_id_facts_version'
      from (select distinct lesson_id, facts_version from written) s
      where s.lesson_id is not null and s.facts_version is not null and not exists (
        select from lesson_facts f where f.lesson_id = s.lesson_id and f.version = s.facts_version
      )
      limit 1
    ),
    (
      select 'journal_id' from (select distinct journal_id from written) s
      where not exists (select from ledger_journal j where j.id = s.journal_id)
      limit 1
    )
  ) into key;
  if key is not null then
    raise exception 'a settlement refers to what is not there' using errcode = 'foreign_key_violation',
      constraint = 'fk_hold_settlement_' || key, table = 'hold_settlement';
  end if;
  update hold h set status = case when s.to_student = s.amount then 'refunded' else 'released' end
  from written s where s.hold_id = h.id and s.number = 0;
  return null;
end$$
"""
CLOSE_NOW = CLOSE.replace("__OTHERS__", "not in ('booking', 'package_slice')").replace(
    "__WORDS__", "a booking is settled by who came, and a course is not"
)
CLOSE_BEFORE = CLOSE.replace("__OTHERS__", "<> 'booking'").replace(
    "__WORDS__", "a booking is settled by who came, and nothing else is"
)

# Where the terms ask for 0 %, a tutor who never came is not absent by attendance.
CAME_NEVER = "f.tutor_attended_s = 0 or "
NOT_OVER = """
create or replace function hold_lesson_not_over() returns trigger language plpgsql as $$
begin
  if exists (
    select from lesson_facts f where f.lesson_id = old.lesson_id
    and (exists (select from settle_due d where d.lesson_id = f.lesson_id)
      or not (__CAME_NEVER__f.total_s = 0 or f.tutor_attended_s * 100 < f.planned_s * case when f.is_by_hold
        then (select p.attendance_percent from policy p where p.version = old.policy_version)
        else f.absence_percent end or f.cancelled) and f.version = 1)
  ) then
    raise exception 'LESSON_OVER' using errcode = 'FT003';
  end if;
  return new;
end$$
"""


def upgrade() -> None:
    """Let who came decide."""
    op.execute("alter table package_return add column is_by_outcome boolean not null default false")
    op.execute(CLOSE_NOW)
    op.execute(NOT_OVER.replace("__CAME_NEVER__", CAME_NEVER))


def downgrade() -> None:
    """Let attendance decide again, where nothing else has."""
    decided = sa.text("""
        select exists (
          select from hold_settlement s join hold h on h.id = s.hold_id
          where h.source_kind = 'package_slice' and s.cause in ('outcome', 'forfeited')
        ) or exists (select from package_return where is_by_outcome)
    """)
    if op.get_bind().scalar(decided):
        raise RuntimeError(
            "lessons of packages were settled by who came; an older version would judge them again"
        )
    op.execute(NOT_OVER.replace("__CAME_NEVER__", ""))
    op.execute(CLOSE_BEFORE)
    op.execute("alter table package_return drop column is_by_outcome")
