"""Money: tables, the one writer of the ledger, and what may never change.

What a constraint cannot say stands here as a function or trigger:

- `ledger_post` is the only way to move money. The tables of the ledger refuse every other writer, their owner too:
  the function alone runs with `ledger.posting` set.
- Balances are applied from the transfers by a trigger.
- Append-only tables refuse update, delete and truncate.
- A hold is closed by its settlement and by nothing else, and none is placed for a lesson that is over.
"""

from datetime import UTC, datetime

from alembic import op

from billing.models import Base

revision = "0001"
down_revision = None

# Journal ids begin with milliseconds since 1970, so a partition holds a span of time. Years of their own can be
# detached when the law no longer asks for them; what comes after the last one lands in the default partition.
YEARS = range(2026, 2031)
# A million journals a millisecond before two could meet, and milliseconds enough until the year 2248.
SEQUENCE_BITS = 20

PARTITIONED = {"ledger_journal": "id", "ledger_transfer": "journal_id"}

APPEND_ONLY = (
    "policy",
    "ledger_journal",
    "ledger_transfer",
    "ledger_request",
    "lesson_facts",
    "lesson_presence",
    "hold_settlement",
)

LEDGER_ONLY = ("ledger_journal", "ledger_transfer", "ledger_request")

APPEND = """
create function append_only() returns trigger language plpgsql as $$
begin
  raise exception 'APPEND_ONLY: % on %', tg_op, tg_table_name using errcode = 'restrict_violation';
end$$;
"""

LEDGER = """
create sequence ledger_journal_number;

create function ledger_writer() returns trigger language plpgsql as $$
begin
  if coalesce(current_setting('ledger.posting', true), '') <> 'on' then
    raise exception 'LEDGER_ONLY: % on %', tg_op, tg_table_name using errcode = 'insufficient_privilege';
  end if;
  return new;
end$$;

create trigger only_ledger before update or delete on ledger_account
  for each row execute function ledger_writer();
create trigger never_truncated before truncate on ledger_account
  for each statement execute function append_only();

-- An account starts empty; money comes by transfers.
create function account_starts_empty() returns trigger language plpgsql as $$
begin
  if new.balance <> 0 then
    raise exception 'LEDGER_ONLY: an account starts empty' using errcode = 'insufficient_privilege';
  end if;
  return new;
end$$;
create trigger starts_empty before insert on ledger_account
  for each row execute function account_starts_empty();

-- The account rows are locked by ledger_post, in the order of their ids.
create function ledger_apply() returns trigger language plpgsql as $$
begin
  update ledger_account a set balance = a.balance + d.delta
  from (
    select account, sum(delta)::bigint as delta from (
      select debit_account as account, -amount as delta from written
      union all
      select credit_account, amount from written
    ) legs group by account
  ) d
  where a.id = d.account;
  return null;
end$$;
create trigger apply after insert on ledger_transfer
  referencing new table as written for each statement execute function ledger_apply();

create function ledger_post(
  p_kind text, p_scope text, p_key text, p_hash bytea, p_actor text, p_reason text, p_ref_type text, p_ref_id uuid,
  p_at timestamptz, p_debits bigint[], p_credits bigint[], p_currencies text[], p_amounts bigint[], p_holds uuid[],
  out journal_id bigint, out replayed boolean
) language plpgsql security definer set search_path = public, pg_temp set ledger.posting = 'on' as $$
declare
  asked ledger_request;
  wanted bigint[];
  locked int;
  short record;
begin
  if coalesce(cardinality(p_amounts), 0) = 0 then
    raise exception 'NO_LEGS' using errcode = 'invalid_parameter_value';
  end if;

  journal_id := (floor(extract(epoch from clock_timestamp()) * 1000)::bigint << 20)
    | (nextval('ledger_journal_number') & 1048575);
  insert into ledger_request (scope, key, request_hash, journal_id)
    values (p_scope, p_key, p_hash, journal_id) on conflict do nothing;
  if not found then
    select * into asked from ledger_request r where r.scope = p_scope and r.key = p_key;
    if asked.request_hash <> p_hash then
      raise exception 'IDEMPOTENCY_MISMATCH' using errcode = 'FT002';
    end if;
    journal_id := asked.journal_id;
    replayed := true;
    return;
  end if;

  -- Sorted, and before any row that refers to an account: no deadlock, no lock upgrade under a foreign key.
  select array_agg(distinct id) into wanted from (select unnest(p_debits) union select unnest(p_credits)) s(id);
  perform 1 from ledger_account where id = any(wanted) order by id for no key update;
  get diagnostics locked = row_count;
  if locked <> cardinality(wanted) then
    raise exception 'ACCOUNT_NOT_FOUND' using errcode = 'foreign_key_violation';
  end if;

  -- The floor is a constraint of the table too; here it can still say how much is missing.
  select a.id, a.currency, -(a.balance + d.delta) as missing into short
    from ledger_account a join (
      select account, sum(delta) as delta from (
        select unnest(p_debits) as account, -unnest(p_amounts)::numeric as delta
        union all
        select unnest(p_credits), unnest(p_amounts)
      ) legs group by account
    ) d on d.account = a.id
    where a.kind not in ('platform_revenue', 'platform_expense') and a.balance + d.delta < 0
    order by a.id limit 1;
  if found then
    raise exception 'INSUFFICIENT_FUNDS' using errcode = 'FT001',
      detail = json_build_object('amount', short.missing, 'currency', short.currency)::text;
  end if;

  insert into ledger_journal (id, kind, actor, reason, ref_type, ref_id, at)
    values (journal_id, p_kind, p_actor, p_reason, p_ref_type, p_ref_id, p_at);
  insert into ledger_transfer (journal_id, leg, debit_account, credit_account, currency, amount, hold_id)
    select ledger_post.journal_id, l.leg, l.debit, l.credit, l.currency, l.amount, l.hold_id
    from unnest(p_debits, p_credits, p_currencies, p_amounts, p_holds)
      with ordinality as l(debit, credit, currency, amount, hold_id, leg);
  replayed := false;
end$$;
"""

HOLDS = """
-- Status and lesson change once, and nothing else ever does.
create function hold_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' then
    if to_jsonb(new) - 'status' - 'lesson_id' = to_jsonb(old) - 'status' - 'lesson_id' and old.status = 'held' and (
      (new.lesson_id is not distinct from old.lesson_id and pg_trigger_depth() > 1)
      or (old.lesson_id is null and new.lesson_id is not null and new.status = old.status)
    ) then
      return new;
    end if;
  end if;
  raise exception 'HOLD_GUARD: % on hold', tg_op using errcode = 'restrict_violation';
end$$;
create trigger guard before update or delete on hold for each row execute function hold_guard();
create trigger never_truncated before truncate on hold for each statement execute function append_only();

create function hold_opens() returns trigger language plpgsql as $$
begin
  if new.status <> 'held' then
    raise exception 'HOLD_GUARD: a hold begins held' using errcode = 'restrict_violation';
  end if;
  return new;
end$$;
create trigger opens before insert on hold for each row execute function hold_opens();

create function hold_lesson_open() returns trigger language plpgsql as $$
begin
  if exists (select from lesson_facts f where f.lesson_id = new.lesson_id) then
    raise exception 'LESSON_OVER' using errcode = 'FT003';
  end if;
  return new;
end$$;
create trigger lesson_open before insert or update of lesson_id on hold
  for each row when (new.lesson_id is not null) execute function hold_lesson_open();

create function hold_close() returns trigger language plpgsql as $$
begin
  update hold h set status = case when s.to_student = s.amount then 'refunded' else 'released' end
  from written s where s.hold_id = h.id and s.number = 0;
  return null;
end$$;
create trigger close after insert on hold_settlement
  referencing new table as written for each statement execute function hold_close();
"""

FIRST_POLICY = """
insert into policy (version, effective_from, course_platform_bps, course_referral_bps, attendance_percent, min_price,
                    course_risk_days, booking_risk_days, actor, reason)
values (1, '1970-01-01T00:00:00Z', 3000, 7000, 20, 100, 0, 7, 'system:migration', 'The terms at the start.');
"""


def upgrade() -> None:
    """Make the tables, then what guards them."""
    Base.metadata.create_all(op.get_bind())
    for table in PARTITIONED:
        for year in YEARS:
            op.execute(
                f"create table {table}_p_{year} partition of {table}"
                f" for values from ({first_id(year)}) to ({first_id(year + 1)})"
            )
        op.execute(f"create table {table}_p_default partition of {table} default")
    execute_all(APPEND)
    execute_all(LEDGER)
    execute_all(HOLDS)
    for table in APPEND_ONLY:
        op.execute(
            f"create trigger append_only before update or delete on {table}"
            " for each row execute function append_only()"
        )
        op.execute(
            f"create trigger never_truncated before truncate on {table}"
            " for each statement execute function append_only()"
        )
    for table in LEDGER_ONLY:
        op.execute(
            f"create trigger only_ledger before insert on {table} for each row execute function ledger_writer()"
        )
    op.execute(FIRST_POLICY)


def downgrade() -> None:
    """Remove everything."""
    Base.metadata.drop_all(op.get_bind())
    for function in (
        "ledger_post",
        "ledger_apply",
        "ledger_writer",
        "account_starts_empty",
        "hold_guard",
        "hold_opens",
        "hold_lesson_open",
        "hold_close",
        "append_only",
    ):
        op.execute(f"drop function {function}")
    op.execute("drop sequence ledger_journal_number")


def first_id(year: int) -> int:
    """Return the smallest journal id of a year."""
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000 << SEQUENCE_BITS


def execute_all(script: str) -> None:
    """Run statements one by one: the driver takes no more than one at a time.

    A statement ends with a semicolon at the end of a line that is not inside a function's body.
    """
    body = False
    lines: list[str] = []
    for line in script.splitlines():
        lines.append(line)
        body ^= line.count("$$") % 2 == 1
        if not body and line.endswith(";"):
            op.execute("\n".join(lines))
            lines = []
