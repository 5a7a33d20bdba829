"""What guards money is asked once for each statement instead of once for each row, where that says the same.

A settlement writes hundreds of rows in one statement, and a foreign key, or a trigger in PL/pgSQL, costs each of them
more than the row itself. What they refused is refused as before, by the same names:

- `ledger_apply` and `hold_close`, which look at all rows of a statement anyway, also see that what these refer to is
  there. None of it can ever be deleted or get another key.
- A guard that lets nearly everything pass says when it would not in its `when`, which is no call of a function.
- `ledger_post` looked for accounts that are not there, and for those that would fall below zero, before it wrote
  anything; now the balances themselves refuse, with the same words, but for absurd amounts.
"""

from alembic import op

revision = "0022"
down_revision = "0021"

YEARS = range(2026, 2031)
TRANSFERS = (*(f"ledger_transfer_p_{year}" for year in YEARS), "ledger_transfer_p_default")

KEYS = {
    "ledger_transfer": {
        "journal_id": "(journal_id) references ledger_journal (id)",
        "debit_account_currency": "(debit_account, currency) references ledger_account (id, currency)",
        "credit_account_currency": "(credit_account, currency) references ledger_account (id, currency)",
    },
    "hold_settlement": {
        "journal_id": "(journal_id) references ledger_journal (id)",
        "hold_id_amount_tutor_bps": "(hold_id, amount, tutor_bps) references hold (id, amount, tutor_bps)",
        "lesson_id_facts_version": "(lesson_id, facts_version) references lesson_facts (lesson_id, version)",
    },
}

# The accounts of a journal are locked, in the order of their ids, by `ledger_post`. The path: a temporary table is not
# what a row may refer to.
APPLY = """
create or replace function ledger_apply() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
  key text;
begin
  with moved as materialized (
    select account, currency, sum(delta)::bigint as delta from (
      select debit_account as account, currency, -amount as delta from written
      union all
      select credit_account, currency, amount from written
    ) legs group by account, currency
  ), applied as (
    update ledger_account a set balance = a.balance + m.delta from moved m
    where a.id = m.account and a.currency = m.currency
    returning a.id, a.currency
  )
  select coalesce(
    (
      select case when exists (
          select from written w where w.debit_account = m.account and w.currency = m.currency
        ) then 'debit_account_currency' else 'credit_account_currency' end
      from moved m
      where not exists (select from applied a where a.id = m.account and a.currency = m.currency)
      limit 1
    ),
    (
      select 'journal_id' from (select distinct journal_id from written) w
      where not exists (select from ledger_journal j where j.id = w.journal_id)
      limit 1
    )
  ) into key;
  if key is not null then
    raise exception 'a transfer refers to what is not there' using errcode = 'foreign_key_violation',
      constraint = 'fk_ledger_transfer_' || key, table = 'ledger_transfer';
  end if;
  return null;
end$$
"""
APPLY_BEFORE = """
create or replace function ledger_apply() returns trigger language plpgsql as $$
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
end$$
"""

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
    or h.source_kind <> 'booking' and s.cause in ('outcome', 'forfeited')
  limit 1;
  if key = 'cause' then
    raise exception 'CAUSE_GUARD: a booking is settled by who came, and nothing else is'
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
CLOSE_BEFORE = """
create or replace function hold_close() returns trigger language plpgsql as $$
begin
  if exists (
    select from written s join hold h on h.id = s.hold_id
    where h.source_kind = 'booking' and s.cause in ('attendance', 'tutor_absent')
       or h.source_kind <> 'booking' and s.cause in ('outcome', 'forfeited')
  ) then
    raise exception 'CAUSE_GUARD: a booking is settled by who came, and nothing else is'
      using errcode = 'check_violation';
  end if;
  update hold h set status = case when s.to_student = s.amount then 'refunded' else 'released' end
  from written s where s.hold_id = h.id and s.number = 0;
  return null;
end$$
"""

# Rows come by the table that has the triggers of a statement, and by no part of it.
PARTS = """
create function ledger_parts() returns trigger language plpgsql as $$
begin
  raise exception 'LEDGER_ONLY: % on %', tg_op, tg_table_name using errcode = 'insufficient_privilege';
end$$
"""

POST = """
create or replace function ledger_post(
  p_kind text, p_scope text, p_key text, p_hash bytea, p_actor text, p_reason text, p_ref_type text, p_ref_id uuid,
  p_at timestamptz, p_debits bigint[], p_credits bigint[], p_currencies text[], p_amounts bigint[], p_holds uuid[],
  out journal_id bigint, out replayed boolean
) language plpgsql security definer set search_path = public, pg_temp set ledger.posting = 'on' as $$
declare
  asked ledger_request;
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

  -- Sorted, and before any row that refers to an account: no deadlock. What is not there, or would fall below zero,
  -- is refused where the balances are changed.
  perform 1 from ledger_account where id = any(p_debits || p_credits) order by id for no key update;

  -- But for amounts with which the receiver would have more than any account may: that would be told first.
  if __ABSURD__ <= any(p_amounts) then
    select a.currency, -(a.balance + d.delta) as missing into short
      from ledger_account a join (
        select account, sum(delta) as delta from (
          select unnest(p_debits) as account, -unnest(p_amounts)::numeric as delta
          union all
          select unnest(p_credits), unnest(p_amounts)
        ) legs group by account
      ) d on d.account = a.id
      where a.kind not in (__FLOORLESS__) and a.balance + d.delta < 0
      order by a.id limit 1;
    if found then
      raise exception 'INSUFFICIENT_FUNDS' using errcode = 'FT001',
        detail = json_build_object('amount', short.missing, 'currency', short.currency)::text;
    end if;
  end if;

  insert into ledger_journal (id, kind, actor, reason, ref_type, ref_id, at)
    values (journal_id, p_kind, p_actor, p_reason, p_ref_type, p_ref_id, p_at);
  insert into ledger_transfer (journal_id, leg, debit_account, credit_account, currency, amount, hold_id)
    select ledger_post.journal_id, l.leg, l.debit, l.credit, l.currency, l.amount, l.hold_id
    from unnest(p_debits, p_credits, p_currencies, p_amounts, p_holds)
      with ordinality as l(debit, credit, currency, amount, hold_id, leg);
  replayed := false;
end$$
"""
POST_BEFORE = """
create or replace function ledger_post(
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
    where a.kind not in (__FLOORLESS__) and a.balance + d.delta < 0
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
end$$
"""
# The floor is a constraint of the table too; this one can still say how much is missing.
SHORT = """
create function account_short() returns trigger language plpgsql as $$
begin
  raise exception 'INSUFFICIENT_FUNDS' using errcode = 'FT001', constraint = 'ck_ledger_account_floor',
    table = 'ledger_account', detail = json_build_object('amount', -new.balance, 'currency', new.currency)::text;
end$$
"""
FLOORLESS = (
    "'platform_revenue', 'platform_expense', 'stripe', 'stripe_disputed', 'bank', 'suspense', 'tutor_debt'"
)

# A thousandth of what an account may have at most, which is ninety million millions of dollars.
ABSURD = 9_000_000_000_000

NOT_POSTING = "coalesce(current_setting('ledger.posting', true), '') <> 'on'"
# Everything of a hold but its status: who changes one of these is asked for each row.
ASKED = (
    "id, student_id, tutor_id, lesson_id, source_kind, source_id, slice_no, amount, currency, tutor_bps, attribution,"
    " policy_version, wallet_account, escrow_account, placed_at, place_journal"
)
# Where a trigger stands, and how it is made: before, and now.
GUARDS = (
    (
        "only_ledger on ledger_journal",
        "before insert on ledger_journal for each row execute function ledger_writer()",
        f"before insert on ledger_journal for each row when ({NOT_POSTING}) execute function ledger_writer()",
    ),
    (
        "only_ledger on ledger_transfer",
        "before insert on ledger_transfer for each row execute function ledger_writer()",
        f"before insert on ledger_transfer for each row when ({NOT_POSTING}) execute function ledger_writer()",
    ),
    (
        "only_ledger on ledger_request",
        "before insert on ledger_request for each row execute function ledger_writer()",
        f"before insert on ledger_request for each row when ({NOT_POSTING}) execute function ledger_writer()",
    ),
    (
        "only_ledger on ledger_account",
        "before update or delete on ledger_account for each row execute function ledger_writer()",
        (
            f"before update or delete on ledger_account for each row when ({NOT_POSTING})"
            " execute function ledger_writer()"
        ),
    ),
    (
        "starts_empty on ledger_account",
        "before insert on ledger_account for each row execute function account_starts_empty()",
        (
            "before insert on ledger_account for each row when (new.balance <> 0)"
            " execute function account_starts_empty()"
        ),
    ),
    (
        "opens on hold",
        "before insert on hold for each row execute function hold_opens()",
        "before insert on hold for each row when (new.status <> 'held') execute function hold_opens()",
    ),
    (
        "guard on hold",
        "before update or delete on hold for each row execute function hold_guard()",
        f"before update of {ASKED} or delete on hold for each row execute function hold_guard()",
    ),
)
# A status is written by the trigger of a settlement alone, and once.
STATUS = """
create trigger guard_status before update of status on hold
  for each row when (old.status <> 'held' or pg_trigger_depth() = 0) execute function hold_guard()
"""
FLOOR = f"""
create trigger short before update of balance on ledger_account
  for each row when (new.balance < 0 and new.kind not in ({FLOORLESS})) execute function account_short()
"""
# Nobody but the ledger could change these anyway; now it cannot either.
KEPT = (
    """
    create trigger keep_frozen before update of id, kind, owner_id, currency, shard on ledger_account
      for each row execute function keep_frozen()
    """,
    """
    create trigger stays before delete on ledger_account for each row execute function append_only()
    """,
)


def upgrade() -> None:
    """Ask once for each statement."""
    for function in (APPLY, CLOSE, PARTS, SHORT):
        op.execute(function)
    op.execute(POST.replace("__FLOORLESS__", FLOORLESS).replace("__ABSURD__", str(ABSURD)))
    for table, keys in KEYS.items():
        for key in keys:
            op.drop_constraint(f"fk_{table}_{key}", table)
    for part in TRANSFERS:
        op.execute(
            f"create trigger never_directly before insert or truncate on {part}"
            " for each statement execute function ledger_parts()"
        )
    for name, _, now in GUARDS:
        op.execute(f"drop trigger {name}")
        op.execute(f"create trigger {name.split()[0]} {now}")
    for statement in (STATUS, FLOOR, *KEPT):
        op.execute(statement)


def downgrade() -> None:
    """Ask for each row."""
    op.execute(POST_BEFORE.replace("__FLOORLESS__", FLOORLESS))
    for name in (
        "short on ledger_account",
        "stays on ledger_account",
        "keep_frozen on ledger_account",
        "guard_status on hold",
    ):
        op.execute(f"drop trigger {name}")
    for name, before, _ in GUARDS:
        op.execute(f"drop trigger {name}")
        op.execute(f"create trigger {name.split()[0]} {before}")
    for part in TRANSFERS:
        op.execute(f"drop trigger never_directly on {part}")
    for function in ("ledger_parts", "account_short"):
        op.execute(f"drop function {function}()")
    for table, keys in KEYS.items():
        for key, rule in keys.items():
            op.execute(f"alter table {table} add constraint fk_{table}_{key} foreign key {rule}")
    op.execute(CLOSE_BEFORE)
    op.execute(APPLY_BEFORE)
