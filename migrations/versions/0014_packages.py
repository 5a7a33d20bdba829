"""Packages: offers of tutors, what was bought of them, and holds that get their lesson and give it back."""

from alembic import op

revision = "0014"
down_revision = "0013"

TABLES = (
    """
    create table package_option (
      id uuid not null,
      tutor_id uuid not null,
      title text not null,
      description text not null,
      minutes integer not null,
      sessions integer not null,
      price bigint not null,
      currency text not null,
      validity_days integer,
      is_rolling boolean not null,
      is_popular boolean not null,
      position integer not null,
      hidden_at timestamptz,
      created_at timestamptz not null,
      updated_at timestamptz not null,
      constraint pk_package_option primary key (id),
      constraint ck_package_option_title_length check (length(title) between 3 and 255),
      constraint ck_package_option_description_length check (length(description) <= 5000),
      constraint ck_package_option_minutes_range check (minutes between 1 and 600),
      constraint ck_package_option_sessions_range check (sessions between 1 and 100),
      constraint ck_package_option_price_covers_sessions check (price >= sessions),
      constraint ck_package_option_currency_code check (currency ~ '^[A-Z]{3}$'),
      constraint ck_package_option_validity_positive check (validity_days is null or validity_days > 0),
      constraint ck_package_option_rolling_ends check (not is_rolling or validity_days is not null)
    )
    """,
    "create index ix_package_option_tutor_id_position_id on package_option (tutor_id, position, id)",
    """
    create table package (
      id uuid not null,
      option_id uuid not null,
      student_id uuid not null,
      tutor_id uuid not null,
      title text not null,
      minutes integer not null,
      price bigint not null,
      currency text not null,
      purchased integer not null,
      used integer default 0 not null,
      remaining integer generated always as (purchased - used) stored not null,
      validity_days integer,
      is_rolling boolean not null,
      tutor_bps integer not null,
      attribution text not null,
      policy_version integer not null,
      status text default 'active' not null,
      bought_at timestamptz not null,
      expires_at timestamptz,
      warned_at timestamptz,
      ended_at timestamptz,
      constraint pk_package primary key (id),
      constraint fk_package_option_id foreign key (option_id) references package_option (id),
      constraint fk_package_policy_version foreign key (policy_version) references policy (version),
      constraint ck_package_status_known check (status in ('active', 'exhausted', 'expired', 'refunded')),
      constraint ck_package_counts_sane check (purchased between 1 and 100 and used between 0 and purchased),
      constraint ck_package_exhausted_is_used_up check ((status = 'exhausted') = (used = purchased)),
      constraint ck_package_ended_has_time check ((status in ('expired', 'refunded')) = (ended_at is not null)),
      constraint ck_package_price_covers_sessions check (price >= purchased),
      constraint ck_package_currency_code check (currency ~ '^[A-Z]{3}$'),
      constraint ck_package_minutes_range check (minutes between 1 and 600),
      constraint ck_package_bps_range check (tutor_bps between 0 and 10000),
      constraint ck_package_two_people check (student_id <> tutor_id),
      constraint ck_package_end_by_validity check (
        (validity_days is null) = (expires_at is null) and (validity_days is null or validity_days > 0)
        and (expires_at is null or expires_at > bought_at)
      ),
      constraint ck_package_rolling_ends check (not is_rolling or validity_days is not null),
      constraint ck_package_warned_of_an_end check (warned_at is null or expires_at is not null)
    )
    """,
    "create index ix_package_student_id_bought_at_id on package (student_id, bought_at, id)",
    "create index ix_package_tutor_id_bought_at_id on package (tutor_id, bought_at, id)",
    "create index ix_package_bought_at_id on package (bought_at, id)",
)

# What was bought stays; the life goes along its arrows; the counts follow the holds.
TRIGGERS = (
    """
    create trigger keep_arrows before update of status on package for each row execute function
      keep_arrows('active>exhausted', 'active>expired', 'active>refunded', 'exhausted>active')
    """,
    """
    create trigger keep_frozen before update of id, option_id, student_id, tutor_id, title, minutes, price, currency,
      purchased, validity_days, is_rolling, tutor_bps, attribution, policy_version, bought_at
      on package for each row execute function keep_frozen()
    """,
    """
    create trigger keep_once before update on package for each row
      when (old.ended_at is not null) execute function keep_frozen()
    """,
    """
    create function package_counts() returns trigger language plpgsql as $$
    begin
      -- Deeper than one: the trigger of a hold is at work.
      if tg_op = 'INSERT' and new.used <> 0 or tg_op = 'UPDATE' and pg_trigger_depth() < 2 then
        raise exception 'PACKAGE_GUARD: % of the count', tg_op using errcode = 'restrict_violation';
      end if;
      return new;
    end$$
    """,
    "create trigger counts before insert or update of used on package for each row execute function package_counts()",
    *(
        f"create trigger {name} before {event} on package for each {each} execute function append_only()"
        for name, event, each in (
            ("never_deleted", "delete", "row"),
            ("never_truncated", "truncate", "statement"),
        )
    ),
    # A lesson that is taken, or given back, is counted in the statement that says so.
    """
    create function package_count() returns trigger language plpgsql as $$
    declare
      change int := case when new.lesson_id is null then -1 else 1 end;
    begin
      update package set
        used = used + change,
        status = case when used + change = purchased then 'exhausted' else 'active' end
      where id = new.source_id and status in ('active', 'exhausted');
      if not found then
        raise exception 'PACKAGE_GUARD: the package of this hold is over' using errcode = 'restrict_violation';
      end if;
      return null;
    end$$
    """,
    """
    create trigger count after update of lesson_id on hold for each row
      when (new.source_kind = 'package_slice' and (old.lesson_id is null) <> (new.lesson_id is null))
      execute function package_count()
    """,
)

# As before, and: a lesson of a package goes back to it while it is held and not frozen.
GUARD = """
create or replace function hold_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' then
    if to_jsonb(new) - 'status' - 'lesson_id' = to_jsonb(old) - 'status' - 'lesson_id' and old.status = 'held' and (
      (new.lesson_id is not distinct from old.lesson_id and pg_trigger_depth() > 1)
      or (old.lesson_id is null and new.lesson_id is not null and new.status = old.status)__UNASSIGN__
    ) then
      return new;
    end if;
  end if;
  raise exception 'HOLD_GUARD: % on hold', tg_op using errcode = 'restrict_violation';
end$$
"""
UNASSIGN = """
      or (old.lesson_id is not null and new.lesson_id is null and new.status = old.status
        and old.source_kind = 'package_slice')"""
UNASSIGNED_WHEN = """
create trigger lesson_not_over before update of lesson_id on hold
  for each row when (new.lesson_id is null and old.lesson_id is not null) execute function hold_lesson_not_over()
"""
NOT_OVER = """
create function hold_lesson_not_over() returns trigger language plpgsql as $$
begin
  if exists (select from lesson_facts f where f.lesson_id = old.lesson_id) then
    raise exception 'LESSON_OVER' using errcode = 'FT003';
  end if;
  return new;
end$$
"""

CAUSES_BEFORE = (
    "attendance",
    "tutor_absent",
    "cancelled",
    "outcome",
    "forfeited",
    "admin",
    "adjustment",
    "refund",
    "dispute",
    "card_dispute",
)
CAUSES = (*CAUSES_BEFORE, "expired")


def upgrade() -> None:
    """Make the tables, let slices go back to their package, and let what nobody took be settled."""
    for statement in (*TABLES, *TRIGGERS):
        op.execute(statement)
    op.execute(GUARD.replace("__UNASSIGN__", UNASSIGN))
    op.execute(NOT_OVER)
    op.execute(UNASSIGNED_WHEN)
    _say(CAUSES)


def downgrade() -> None:
    """Remove them; a database in which something expired refuses."""
    _say(CAUSES_BEFORE)
    op.execute("drop trigger lesson_not_over on hold")
    op.execute("drop function hold_lesson_not_over()")
    op.execute(GUARD.replace("__UNASSIGN__", ""))
    op.execute("drop trigger count on hold")
    op.execute("drop function package_count()")
    op.execute("delete from job where kind = 'package_due'")
    op.execute("drop table package")
    op.execute("drop function package_counts()")
    op.execute("drop table package_option")


def _say(causes: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{cause}'" for cause in causes)
    op.drop_constraint("ck_hold_settlement_cause_known", "hold_settlement")
    op.create_check_constraint("ck_hold_settlement_cause_known", "hold_settlement", f"cause in ({listed})")
