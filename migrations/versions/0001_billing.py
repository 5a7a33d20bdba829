"""Money: tables, the one writer of the ledger, and what may never change.

What a constraint cannot say stands here as a function or trigger:

- `ledger_post` is the only way to move money. The tables of the ledger refuse every other writer, their owner too:
  the function alone runs with `ledger.posting` set.
- Balances are applied from the transfers by a trigger.
- Append-only tables refuse update, delete and truncate.
- A hold is closed by its settlement and by nothing else, and none is placed for a lesson that is over.
"""

import re
from datetime import UTC, datetime

from alembic import op

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

TABLES = """
create table ledger_account (
  id bigint generated always as identity,
  kind text not null,
  owner_id uuid not null,
  currency text not null,
  shard smallint default 0 not null,
  balance bigint default 0 not null,
  constraint pk_ledger_account primary key (id),
  constraint uq_ledger_account_kind_owner_id_currency_shard unique (kind, owner_id, currency, shard),
  constraint uq_ledger_account_id_currency unique (id, currency),
  constraint ck_ledger_account_kind_known
    check (kind in ('wallet', 'escrow', 'earnings_pending', 'earnings', 'platform_revenue', 'platform_expense')),
  constraint ck_ledger_account_currency_code check (currency ~ '^[A-Z]{3}$'),
  constraint ck_ledger_account_floor check (kind in ('platform_revenue', 'platform_expense') or balance >= 0),
  constraint ck_ledger_account_sane check (balance between -9000000000000000 and 9000000000000000)
) with (fillfactor = 60);

create table ledger_journal (
  id bigint not null,
  kind text not null,
  actor text not null,
  reason text,
  ref_type text not null,
  ref_id uuid not null,
  at timestamptz not null,
  recorded_at timestamptz default clock_timestamp() not null,
  constraint pk_ledger_journal primary key (id),
  constraint ck_ledger_journal_kind_known
    check (kind in ('purchase', 'refund', 'settlement', 'adjustment', 'admin_adjustment')),
  constraint ck_ledger_journal_admin_needs_reason
    check (actor not like 'admin:%' or coalesce(length(reason), 0) >= 10)
) partition by range (id);

create table ledger_request (
  scope text not null,
  key text not null,
  request_hash bytea not null,
  journal_id bigint not null,
  constraint pk_ledger_request primary key (scope, key),
  constraint ck_ledger_request_key_length check (length(key) between 1 and 255),
  constraint ck_ledger_request_hash_length check (length(request_hash) = 32)
);

create table lesson_facts (
  lesson_id uuid not null,
  version integer not null,
  tutor_id uuid not null,
  planned_s bigint not null,
  total_s bigint not null,
  tutor_attended_s bigint not null,
  tutor_absent boolean not null,
  cancelled boolean not null,
  actor text,
  reason text,
  absence_percent integer not null,
  ended_at timestamptz not null,
  evidence jsonb not null,
  digest bytea not null,
  recorded_at timestamptz not null,
  constraint pk_lesson_facts primary key (lesson_id, version),
  constraint ck_lesson_facts_version_positive check (version >= 1),
  constraint ck_lesson_facts_seconds_sane check (planned_s > 0 and tutor_attended_s >= 0),
  constraint ck_lesson_facts_total_within_plan check (total_s between 0 and planned_s),
  constraint ck_lesson_facts_total_needed check (total_s > 0 or tutor_absent or cancelled),
  constraint ck_lesson_facts_percent_range check (absence_percent between 0 and 100)
);

create table outbox (
  id bigint generated always as identity,
  type text not null,
  data jsonb not null,
  at timestamptz not null,
  recorded_at timestamptz default now() not null,
  reacted_at timestamptz,
  node uuid,
  constraint pk_outbox primary key (id)
);

create table policy (
  version integer not null,
  effective_from timestamptz not null,
  course_platform_bps integer not null,
  course_referral_bps integer not null,
  attendance_percent integer not null,
  min_price bigint not null,
  course_risk_days integer not null,
  booking_risk_days integer not null,
  actor text not null,
  reason text not null,
  constraint pk_policy primary key (version),
  constraint ck_policy_bps_range
    check (course_platform_bps between 0 and 10000 and course_referral_bps between 0 and 10000),
  constraint ck_policy_percent_range check (attendance_percent between 0 and 100),
  constraint ck_policy_min_price_positive check (min_price > 0),
  constraint ck_policy_risk_not_negative check (course_risk_days >= 0 and booking_risk_days >= 0),
  constraint ck_policy_reason_given check (length(reason) >= 10)
);

create table hold (
  id uuid not null,
  student_id uuid not null,
  tutor_id uuid not null,
  lesson_id uuid,
  source_kind text not null,
  source_id uuid not null,
  slice_no integer not null,
  amount bigint not null,
  currency text not null,
  tutor_bps integer not null,
  attribution text not null,
  policy_version integer not null,
  wallet_account bigint not null,
  escrow_account bigint not null,
  status text default 'held' not null,
  placed_at timestamptz not null,
  place_journal bigint not null,
  constraint pk_hold primary key (id),
  constraint uq_hold_id_amount_tutor_bps unique (id, amount, tutor_bps),
  constraint uq_hold_source_id_slice_no unique (source_id, slice_no),
  constraint fk_hold_wallet foreign key (wallet_account, currency) references ledger_account (id, currency),
  constraint fk_hold_escrow foreign key (escrow_account, currency) references ledger_account (id, currency),
  constraint ck_hold_status_known check (status in ('held', 'released', 'refunded')),
  constraint ck_hold_source_kind_known
    check (source_kind in ('course_session', 'course_slice', 'booking', 'package_slice')),
  constraint ck_hold_amount_positive check (amount > 0),
  constraint ck_hold_bps_range check (tutor_bps between 0 and 10000),
  constraint ck_hold_slice_positive check (slice_no >= 1),
  constraint ck_hold_two_people check (student_id <> tutor_id),
  constraint fk_hold_policy_version foreign key (policy_version) references policy (version),
  constraint fk_hold_place_journal foreign key (place_journal) references ledger_journal (id)
);
create index ix_hold_lesson_id on hold (lesson_id);
create index ix_hold_place_journal on hold (place_journal);
create index ix_hold_placed_at_id on hold (placed_at, id);
create index ix_hold_student_id_placed_at_id on hold (student_id, placed_at, id);
create index ix_hold_tutor_id_placed_at_id on hold (tutor_id, placed_at, id);
create unique index uq_hold_one_open on hold (student_id, lesson_id) where status = 'held' and lesson_id is not null;

create table ledger_transfer (
  journal_id bigint not null,
  leg smallint not null,
  debit_account bigint not null,
  credit_account bigint not null,
  currency text not null,
  amount bigint not null,
  hold_id uuid,
  constraint pk_ledger_transfer primary key (journal_id, leg),
  constraint fk_ledger_transfer_debit_account_currency
    foreign key (debit_account, currency) references ledger_account (id, currency),
  constraint fk_ledger_transfer_credit_account_currency
    foreign key (credit_account, currency) references ledger_account (id, currency),
  constraint ck_ledger_transfer_amount_positive check (amount > 0),
  constraint ck_ledger_transfer_two_accounts check (debit_account <> credit_account),
  constraint fk_ledger_transfer_journal_id foreign key (journal_id) references ledger_journal (id)
) partition by range (journal_id);
create index ix_ledger_transfer_credit_account_journal_id on ledger_transfer (credit_account, journal_id);
create index ix_ledger_transfer_debit_account_journal_id on ledger_transfer (debit_account, journal_id);

create table lesson_presence (
  lesson_id uuid not null,
  version integer not null,
  student_id uuid not null,
  attended_s bigint not null,
  intervals jsonb not null,
  confidence text not null,
  constraint pk_lesson_presence primary key (lesson_id, version, student_id),
  constraint fk_lesson_presence_lesson_id_version
    foreign key (lesson_id, version) references lesson_facts (lesson_id, version),
  constraint ck_lesson_presence_attended_not_negative check (attended_s >= 0)
);

create table settle_due (
  lesson_id uuid not null,
  version integer default 1 not null,
  due_at timestamptz not null,
  constraint pk_settle_due primary key (lesson_id),
  constraint ck_settle_due_first_version check (version = 1),
  constraint fk_settle_due_lesson_id_version
    foreign key (lesson_id, version) references lesson_facts (lesson_id, version)
);

create table hold_review (
  hold_id uuid not null,
  lesson_id uuid not null,
  facts_version integer not null,
  to_student bigint not null,
  opened_at timestamptz not null,
  constraint pk_hold_review primary key (hold_id),
  constraint fk_hold_review_lesson_id_facts_version
    foreign key (lesson_id, facts_version) references lesson_facts (lesson_id, version),
  constraint ck_hold_review_part_not_negative check (to_student >= 0),
  constraint fk_hold_review_hold_id foreign key (hold_id) references hold (id)
);

create table hold_settlement (
  hold_id uuid not null,
  number integer not null,
  previous integer generated always as (nullif(number - 1, -1)) stored,
  amount bigint not null,
  tutor_bps integer not null,
  to_tutor bigint not null,
  to_platform bigint not null,
  to_student bigint not null,
  cause text not null,
  actor text not null,
  reason text,
  lesson_id uuid,
  facts_version integer,
  attended_s bigint,
  total_s bigint,
  threshold_percent integer,
  risk_until timestamptz,
  journal_id bigint not null,
  settled_at timestamptz not null,
  constraint pk_hold_settlement primary key (hold_id, number),
  constraint fk_hold_settlement_hold_id_amount_tutor_bps
    foreign key (hold_id, amount, tutor_bps) references hold (id, amount, tutor_bps),
  constraint fk_hold_settlement_hold_id_previous
    foreign key (hold_id, previous) references hold_settlement (hold_id, number),
  constraint fk_hold_settlement_lesson_id_facts_version
    foreign key (lesson_id, facts_version) references lesson_facts (lesson_id, version),
  constraint ck_hold_settlement_cause_known
    check (cause in ('attendance', 'tutor_absent', 'cancelled', 'admin', 'adjustment')),
  constraint ck_hold_settlement_number_fits_cause check ((number = 0) = (cause <> 'adjustment')),
  constraint ck_hold_settlement_number_not_negative check (number >= 0),
  constraint ck_hold_settlement_parts_not_negative check (to_tutor >= 0 and to_platform >= 0 and to_student >= 0),
  constraint ck_hold_settlement_parts_add_up check (to_tutor + to_platform + to_student = amount),
  constraint ck_hold_settlement_frozen_split check (to_tutor = (amount - to_student) * tutor_bps / 10000),
  constraint ck_hold_settlement_attendance_rule
    check (cause <> 'attendance' or (attended_s is not null and total_s is not null and total_s > 0
      and threshold_percent is not null and to_student =
      case when attended_s * 100 >= threshold_percent * total_s then 0 else amount end)),
  constraint ck_hold_settlement_undelivered_is_refunded
    check (cause not in ('tutor_absent', 'cancelled') or to_student = amount),
  constraint ck_hold_settlement_facts_decide
    check (cause not in ('attendance', 'tutor_absent')
      or (lesson_id is not null and facts_version is not null and facts_version = 1)),
  constraint ck_hold_settlement_facts_whole check ((lesson_id is null) = (facts_version is null)),
  constraint ck_hold_settlement_admin_needs_reason check (cause <> 'admin' or coalesce(length(reason), 0) >= 10),
  constraint fk_hold_settlement_journal_id foreign key (journal_id) references ledger_journal (id)
);
create index ix_hold_settlement_lesson_id on hold_settlement (lesson_id);
"""

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
    execute_all(TABLES)
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
    for table in reversed(re.findall(r"^create table (\w+)", TABLES, re.MULTILINE)):
        op.execute(f"drop table {table}")
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
