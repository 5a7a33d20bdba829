"""Two indexes of holds that others can stand for: each settlement of a hold writes an entry into every one of them.

The holds of a journal are found by its transfers. That a payment says what its hold says is asked when it gets the hold,
which nobody changes afterwards.
"""

from alembic import op

revision = "0023"
down_revision = "0022"

UP = (
    "drop index ix_hold_place_journal",
    "alter table payment drop constraint fk_payment_hold_id_amount_tutor_bps",
    "alter table hold drop constraint uq_hold_id_amount_tutor_bps",
    """
    create function payment_fits_hold() returns trigger language plpgsql set search_path = public, pg_temp as $$
    begin
      if not exists (
        select from hold h where h.id = new.hold_id and h.amount = new.amount and h.tutor_bps = new.tutor_bps
      ) then
        raise exception 'a payment refers to a hold that is not there, or says something else'
          using errcode = 'foreign_key_violation', constraint = 'fk_payment_hold_id_amount_tutor_bps', table = 'payment';
      end if;
      return null;
    end$$
    """,
    """
    create trigger fits_hold after insert or update of hold_id, amount, tutor_bps on payment
      for each row when (new.hold_id is not null) execute function payment_fits_hold()
    """,
)

DOWN = (
    "drop trigger fits_hold on payment",
    "drop function payment_fits_hold()",
    "alter table hold add constraint uq_hold_id_amount_tutor_bps unique (id, amount, tutor_bps)",
    """
    alter table payment add constraint fk_payment_hold_id_amount_tutor_bps
      foreign key (hold_id, amount, tutor_bps) references hold (id, amount, tutor_bps)
    """,
    "create index ix_hold_place_journal on hold (place_journal)",
)


def upgrade() -> None:
    """Drop them."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Make them again."""
    for statement in DOWN:
        op.execute(statement)
