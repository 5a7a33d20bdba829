"""Disputes of people and of banks, whose share they freeze, and causes of what is given back later."""

from alembic import op

revision = "0012"
down_revision = "0011"

CAUSES_BEFORE = (
    "attendance",
    "tutor_absent",
    "cancelled",
    "outcome",
    "forfeited",
    "admin",
    "adjustment",
    "refund",
)
CAUSES = (*CAUSES_BEFORE, "dispute", "card_dispute")
LATER_BEFORE = ("adjustment", "refund")
LATER = (*LATER_BEFORE, "dispute", "card_dispute")

TABLES = (
    """
    create table hold_freeze (
      hold_id uuid not null,
      dispute_id uuid not null,
      constraint pk_hold_freeze primary key (hold_id, dispute_id),
      constraint fk_hold_freeze_hold_id foreign key (hold_id) references hold (id)
    )
    """,
    "create index ix_hold_freeze_dispute_id on hold_freeze (dispute_id)",
    """
    alter table maturing add constraint fk_maturing_hold_id_frozen_by
      foreign key (hold_id, frozen_by) references hold_freeze (hold_id, dispute_id)
    """,
    """
    create table dispute (
      id uuid not null,
      hold_id uuid not null,
      ruling integer not null,
      opened_by text not null,
      reason text not null,
      words text not null,
      frozen bigint not null,
      status text default 'open' not null,
      opened_at timestamptz not null,
      resolved_by uuid,
      notes text,
      refunded bigint,
      resolved_at timestamptz,
      constraint pk_dispute primary key (id),
      constraint uq_dispute_hold_id unique (hold_id),
      constraint fk_dispute_hold_id foreign key (hold_id) references hold (id),
      constraint fk_dispute_hold_id_ruling
        foreign key (hold_id, ruling) references hold_settlement (hold_id, number),
      constraint ck_dispute_status_known check (status in ('open', 'resolved_upheld', 'resolved_refunded')),
      constraint ck_dispute_reason_known check (
        reason in ('tutor_no_show', 'session_quality', 'technical_issues', 'incorrect_charge',
                   'unauthorised_charge', 'not_as_described', 'other', 'contradicting_evidence')
      ),
      constraint ck_dispute_words_length check (length(words) between 10 and 2000),
      constraint ck_dispute_frozen_not_negative check (frozen >= 0),
      constraint ck_dispute_resolved_whole check (
        (status <> 'open') = (resolved_at is not null) and (resolved_at is null) = (resolved_by is null)
        and (resolved_at is null) = (notes is null)
      ),
      constraint ck_dispute_notes_length check (notes is null or length(notes) between 10 and 2000),
      constraint ck_dispute_refunded_has_amount
        check ((status = 'resolved_refunded') = (coalesce(refunded, 0) > 0))
    )
    """,
    "create index ix_dispute_status_opened_at_id on dispute (status, opened_at, id)",
    "create index ix_dispute_opened_at_id on dispute (opened_at, id)",
    """
    create table card_dispute (
      id uuid not null,
      dispute text not null,
      charge text not null,
      owner_id uuid not null,
      amount bigint not null,
      currency text not null,
      reason text not null,
      status text not null,
      covered bigint default 0 not null,
      paid_at timestamptz not null,
      opened_at timestamptz not null,
      ended_at timestamptz,
      constraint pk_card_dispute primary key (id),
      constraint uq_card_dispute_dispute unique (dispute),
      constraint ck_card_dispute_status_known check (status in ('inquiry', 'open', 'won', 'lost', 'closed')),
      constraint ck_card_dispute_amount_positive check (amount > 0),
      constraint ck_card_dispute_currency_code check (currency ~ '^[A-Z]{3}$'),
      constraint ck_card_dispute_covered_not_negative check (covered >= 0),
      constraint ck_card_dispute_only_lost_is_covered check (status = 'lost' or covered = 0),
      constraint ck_card_dispute_ended_has_time
        check ((status in ('won', 'lost', 'closed')) = (ended_at is not null))
    )
    """,
    "create index ix_card_dispute_owner_id on card_dispute (owner_id)",
    "create index ix_card_dispute_opened_at on card_dispute (opened_at) where ended_at is null",
)

# A dispute begins open, goes along its arrows, and what was said and decided stays.
BEGIN = """
create function dispute_begins() returns trigger language plpgsql as $$
begin
  if new.status <> tg_argv[0] then
    raise exception 'DISPUTE_GUARD: a % begins %', tg_table_name, tg_argv[0] using errcode = 'restrict_violation';
  end if;
  return new;
end$$
"""
TRIGGERS = (
    "create trigger begins before insert on dispute for each row execute function dispute_begins('open')",
    "create trigger begins before insert on card_dispute for each row execute function dispute_begins('inquiry')",
    """
    create trigger keep_arrows before update of status on dispute for each row execute function
      keep_arrows('open>resolved_refunded', 'open>resolved_upheld')
    """,
    """
    create trigger keep_arrows before update of status on card_dispute for each row execute function
      keep_arrows('inquiry>closed', 'inquiry>lost', 'inquiry>open', 'inquiry>won', 'open>lost', 'open>won')
    """,
    """
    create trigger keep_frozen before update of id, hold_id, ruling, opened_by, reason, words, frozen, opened_at
      on dispute for each row execute function keep_frozen()
    """,
    """
    create trigger keep_once before update on dispute for each row
      when (old.resolved_at is not null and new is distinct from old) execute function keep_frozen()
    """,
    """
    create trigger keep_frozen before update of id, dispute, charge, owner_id, amount, currency, paid_at, opened_at
      on card_dispute for each row execute function keep_frozen()
    """,
    """
    create trigger keep_once before update on card_dispute for each row
      when (new.covered < old.covered or old.ended_at is not null and new.ended_at is distinct from old.ended_at)
      execute function keep_frozen()
    """,
    *(
        f"create trigger {name} before {event} on {table} for each {each} execute function append_only()"
        for table in ("dispute", "card_dispute")
        for name, event, each in (
            ("never_deleted", "delete", "row"),
            ("never_truncated", "truncate", "statement"),
        )
    ),
)


def upgrade() -> None:
    """Make them."""
    _say(CAUSES, LATER)
    for statement in (*TABLES, BEGIN, *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    """Remove them; a database in which something was given back refuses."""
    op.execute("alter table maturing drop constraint fk_maturing_hold_id_frozen_by")
    for table in ("card_dispute", "dispute", "hold_freeze"):
        op.execute(f"drop table {table}")
    op.execute("drop function dispute_begins()")
    _say(CAUSES_BEFORE, LATER_BEFORE)


def _say(causes: tuple[str, ...], later: tuple[str, ...]) -> None:
    for name, rule in (
        ("cause_known", f"cause in ({_listed(causes)})"),
        ("number_fits_cause", f"(number = 0) = (cause not in ({_listed(later)}))"),
    ):
        op.drop_constraint(f"ck_hold_settlement_{name}", "hold_settlement")
        op.create_check_constraint(f"ck_hold_settlement_{name}", "hold_settlement", rule)


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)
