"""Accounts and movements beyond holds: cards, withdrawals, disputes, debts.

`ledger_post` is as before but for the accounts that may have any balance.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

KINDS_BEFORE = ("wallet", "escrow", "earnings_pending", "earnings", "platform_revenue", "platform_expense")
KINDS = (
    *KINDS_BEFORE[:4],
    "tutor_debt",
    "withdrawal",
    "card_refund",
    "frozen",
    *KINDS_BEFORE[4:],
    "stripe",
    "stripe_disputed",
    "bank",
    "suspense",
)
FLOORLESS_BEFORE = ("platform_revenue", "platform_expense")
FLOORLESS = (*FLOORLESS_BEFORE, "stripe", "stripe_disputed", "bank", "suspense")

JOURNALS_BEFORE = ("purchase", "refund", "settlement", "adjustment", "admin_adjustment")
JOURNALS = (
    *JOURNALS_BEFORE,
    "top_up",
    "card_fee",
    "card_refund",
    "card_dispute",
    "maturity",
    "earnings_spent",
    "withdrawal",
    "dispute",
    "debt",
    "goodwill",
    "expiry",
    "reversal",
)

POST = """
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


def upgrade() -> None:
    """Open the new kinds."""
    _say(KINDS, FLOORLESS, JOURNALS)
    op.create_check_constraint(
        "ck_ledger_account_debt", "ledger_account", "kind <> 'tutor_debt' or balance <= 0"
    )
    op.drop_constraint("ck_ledger_account_floor", "ledger_account")
    op.create_check_constraint(
        "ck_ledger_account_floor",
        "ledger_account",
        f"kind in ({_listed(FLOORLESS)}, 'tutor_debt') or balance >= 0",
    )


def downgrade() -> None:
    """Close them; a database that uses one refuses."""
    _say(KINDS_BEFORE, FLOORLESS_BEFORE, JOURNALS_BEFORE)
    op.drop_constraint("ck_ledger_account_debt", "ledger_account")
    op.drop_constraint("ck_ledger_account_floor", "ledger_account")
    op.create_check_constraint(
        "ck_ledger_account_floor", "ledger_account", f"kind in ({_listed(FLOORLESS_BEFORE)}) or balance >= 0"
    )


def _say(kinds: tuple[str, ...], floorless: tuple[str, ...], journals: tuple[str, ...]) -> None:
    for table, known in (("ledger_account", kinds), ("ledger_journal", journals)):
        name = f"ck_{table}_kind_known"
        op.drop_constraint(name, table)
        op.create_check_constraint(name, table, f"kind in ({_listed(known)})")
    op.execute(POST.replace("__FLOORLESS__", _listed((*floorless, "tutor_debt"))))


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)
