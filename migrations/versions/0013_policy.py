"""All business numbers of money are terms; a version comes into force no earlier than the one before it."""

from alembic import op

revision = "0013"
down_revision = "0012"

# From nothing on, then upwards; a fee is a share of the price.
TIERS_ARE_GOOD = """
create function policy_tiers_are_good(tiers jsonb) returns boolean language sql immutable as $$
  select case
    when jsonb_typeof(tiers) is distinct from 'array' then false
    when jsonb_array_length(tiers) not between 1 and 20 then false
    else (
      select bool_and(coalesce(
        fee_bps between 0 and 10000 and (place = 1) = (from_earned = 0) and (place = 1 or from_earned > before), false
      ))
      from (
        select place, (tier->>'fee_bps')::integer as fee_bps, (tier->>'from_earned')::bigint as from_earned,
          lag((tier->>'from_earned')::bigint) over (order by place) as before
        from jsonb_array_elements(tiers) with ordinality listed (tier, place)
      ) steps
    )
  end
$$
"""

COLUMNS = """
alter table policy
  add column booking_tiers jsonb default
    '[{"from_earned": 0, "fee_bps": 2000}, {"from_earned": 100000, "fee_bps": 1500},
      {"from_earned": 500000, "fee_bps": 1000}]' not null,
  add column tiers_count_everything boolean default false not null,
  add column free_cancel_hours integer default 24 not null,
  add column free_cancel_kindness_minutes integer default 5 not null,
  add column late_cancel_percent integer default 0 not null,
  add column dispute_days integer default 30 not null,
  add column goodwill_admin_most bigint default 5000 not null,
  add column goodwill_most bigint default 50000 not null,
  add column package_expiry text default 'release' not null,
  add column package_warning_days integer default 7 not null,
  add column package_refund_days integer default 14 not null,
  add constraint ck_policy_tiers_sane check (policy_tiers_are_good(booking_tiers)),
  add constraint ck_policy_cancel_sane check (
    free_cancel_hours >= 0 and free_cancel_kindness_minutes >= 0 and late_cancel_percent between 0 and 100
  ),
  add constraint ck_policy_dispute_not_negative check (dispute_days >= 0),
  add constraint ck_policy_goodwill_range check (goodwill_admin_most between 0 and goodwill_most),
  add constraint ck_policy_package_expiry_known check (package_expiry in ('release', 'refund')),
  add constraint ck_policy_package_sane check (package_warning_days >= 0 and package_refund_days >= 0)
"""
ADDED = (
    "booking_tiers",
    "tiers_count_everything",
    "free_cancel_hours",
    "free_cancel_kindness_minutes",
    "late_cancel_percent",
    "dispute_days",
    "goodwill_admin_most",
    "goodwill_most",
    "package_expiry",
    "package_warning_days",
    "package_refund_days",
)

IN_ORDER = (
    """
    create function policy_in_order() returns trigger language plpgsql as $$
    begin
      if exists (select from policy p where p.version < new.version and p.effective_from > new.effective_from) then
        raise exception 'POLICY_ORDER: an earlier version comes into force later' using errcode = 'restrict_violation';
      end if;
      return new;
    end$$
    """,
    "create trigger in_order before insert on policy for each row execute function policy_in_order()",
)


def upgrade() -> None:
    """Add the numbers with what the code used so far, and the order of versions."""
    op.execute(TIERS_ARE_GOOD)
    op.execute(COLUMNS)
    for statement in IN_ORDER:
        op.execute(statement)


def downgrade() -> None:
    """Remove them."""
    op.execute("drop trigger in_order on policy")
    op.execute("drop function policy_in_order()")
    for column in ADDED:
        op.drop_column("policy", column)
    op.execute("drop function policy_tiers_are_good(jsonb)")
