"""Stripe: top-ups, customers, events, what its movements made here, and where its books differ from ours."""

from alembic import op

revision = "0009"
down_revision = "0008"

JOURNALS_BEFORE = (
    "purchase",
    "refund",
    "settlement",
    "adjustment",
    "admin_adjustment",
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
JOURNALS = (*JOURNALS_BEFORE, "bank_transfer")

TABLES = (
    """
    create table top_up (
      id uuid not null,
      owner_id uuid not null,
      key text not null,
      amount bigint not null,
      currency text not null,
      way text not null,
      method_id text,
      status text default 'created' not null,
      attempt integer default 0 not null,
      checkout_id text,
      payment_id text,
      reason text,
      journal_id bigint,
      created_at timestamptz not null,
      expires_at timestamptz not null,
      ended_at timestamptz,
      constraint pk_top_up primary key (id),
      constraint uq_top_up_owner_id_key unique (owner_id, key),
      constraint uq_top_up_checkout_id unique (checkout_id),
      constraint uq_top_up_payment_id unique (payment_id),
      constraint uq_top_up_journal_id unique (journal_id),
      constraint fk_top_up_journal_id foreign key (journal_id) references ledger_journal (id),
      constraint ck_top_up_status_known check (status in ('created', 'pending', 'succeeded', 'failed', 'expired')),
      constraint ck_top_up_way_known check (way in ('hosted', 'elements', 'saved')),
      constraint ck_top_up_amount_positive check (amount > 0),
      constraint ck_top_up_currency_code check (currency ~ '^[A-Z]{3}$'),
      constraint ck_top_up_key_length check (length(key) between 1 and 255),
      constraint ck_top_up_attempt_not_negative check (attempt >= 0),
      constraint ck_top_up_way_has_method check ((way = 'saved') = (method_id is not null)),
      constraint ck_top_up_pending_is_known
        check (status <> 'pending' or coalesce(checkout_id, payment_id) is not null),
      constraint ck_top_up_succeeded_is_credited
        check ((status = 'succeeded') = (journal_id is not null) and (status <> 'succeeded' or payment_id is not null)),
      constraint ck_top_up_ended_has_time
        check ((status in ('succeeded', 'failed', 'expired')) = (ended_at is not null))
    )
    """,
    "create index ix_top_up_owner_id_created_at_id on top_up (owner_id, created_at, id)",
    """
    create table stripe_customer (
      owner_id uuid not null,
      customer_id text not null,
      created_at timestamptz not null,
      constraint pk_stripe_customer primary key (owner_id),
      constraint uq_stripe_customer_customer_id unique (customer_id)
    )
    """,
    """
    create table stripe_entry (
      id text not null,
      journal_id bigint not null,
      source text not null,
      category text not null,
      amount bigint not null,
      fee bigint not null,
      currency text not null,
      at timestamptz not null,
      constraint pk_stripe_entry primary key (id),
      constraint uq_stripe_entry_journal_id unique (journal_id),
      constraint fk_stripe_entry_journal_id foreign key (journal_id) references ledger_journal (id),
      constraint ck_stripe_entry_currency_code check (currency ~ '^[A-Z]{3}$'),
      constraint ck_stripe_entry_moves_something check (amount <> 0 or fee <> 0)
    )
    """,
    "create index ix_stripe_entry_at on stripe_entry (at)",
    "create index ix_stripe_entry_source on stripe_entry (source)",
    """
    create table stripe_event (
      id text not null,
      type text not null,
      object_id text,
      account text,
      digest bytea not null,
      created_at timestamptz not null,
      received_at timestamptz default clock_timestamp() not null,
      handled_at timestamptz,
      constraint pk_stripe_event primary key (id),
      constraint ck_stripe_event_id_length check (length(id) between 1 and 255),
      constraint ck_stripe_event_digest_length check (length(digest) = 32)
    )
    """,
    "create index ix_stripe_event_received_at_id on stripe_event (received_at, id) where handled_at is null",
    """
    create table stripe_finding (
      subject text not null,
      outcome text not null,
      detail jsonb not null,
      found_at timestamptz not null,
      solved_at timestamptz,
      constraint pk_stripe_finding primary key (subject),
      constraint ck_stripe_finding_outcome_known check (
        outcome in ('missing_here', 'missing_there', 'amount_differs', 'owner_differs', 'balance_differs')
      )
    )
    """,
    "create index ix_stripe_finding_found_at on stripe_finding (found_at) where solved_at is null",
    """
    create table test_payment_call (
      id bigint generated always as identity,
      data jsonb not null,
      constraint pk_test_payment_call primary key (id)
    )
    """,
)

# A top-up is what it was asked to be, moves only forward, gets the ids of Stripe once, and stays.
GUARD = """
create function top_up_guard() returns trigger language plpgsql as $$
declare
  changing text[] := array['status', 'attempt', 'checkout_id', 'payment_id', 'reason', 'journal_id', 'ended_at'];
begin
  if tg_op = 'INSERT' then
    if new.status <> 'created' then
      raise exception 'TOP_UP_GUARD: a top-up begins created' using errcode = 'restrict_violation';
    end if;
    return new;
  end if;
  if tg_op = 'UPDATE' then
    if to_jsonb(new) - changing = to_jsonb(old) - changing
      and old.status in ('created', 'pending')
      and (new.status = old.status or new.status <> 'created')
      and (old.checkout_id is null or new.checkout_id is not distinct from old.checkout_id)
      and (old.payment_id is null or new.payment_id is not distinct from old.payment_id)
    then
      return new;
    end if;
  end if;
  raise exception 'TOP_UP_GUARD: % on top_up', tg_op using errcode = 'restrict_violation';
end$$
"""
TRIGGERS = (
    "create trigger guard before insert or update or delete on top_up for each row execute function top_up_guard()",
    "create trigger never_truncated before truncate on top_up for each statement execute function append_only()",
    "create trigger append_only before update or delete on stripe_entry for each row execute function append_only()",
    "create trigger never_truncated before truncate on stripe_entry for each statement execute function append_only()",
)


def upgrade() -> None:
    """Make them."""
    _say(JOURNALS)
    op.execute("alter table policy add column top_up_least bigint default 500 not null")
    op.execute("alter table policy add column top_up_most bigint default 1000000 not null")
    op.create_check_constraint(
        "ck_policy_top_up_range", "policy", "top_up_least > 0 and top_up_least <= top_up_most"
    )
    for statement in (*TABLES, GUARD, *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    """Remove them."""
    for table in (
        "test_payment_call",
        "stripe_finding",
        "stripe_event",
        "stripe_entry",
        "stripe_customer",
        "top_up",
    ):
        op.execute(f"drop table {table}")
    op.execute("drop function top_up_guard()")
    op.drop_constraint("ck_policy_top_up_range", "policy")
    op.drop_column("policy", "top_up_most")
    op.drop_column("policy", "top_up_least")
    _say(JOURNALS_BEFORE)


def _say(journals: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{word}'" for word in journals)
    op.drop_constraint("ck_ledger_journal_kind_known", "ledger_journal")
    op.create_check_constraint("ck_ledger_journal_kind_known", "ledger_journal", f"kind in ({listed})")
