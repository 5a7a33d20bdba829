"""Periodic work is a row like any other work; earnings that mature, and how they leave."""

from alembic import op

revision = "0008"
down_revision = "0007"

PERIODIC = """
alter table job
  add column asked integer default 1 not null,
  add column every interval,
  add column last_run_at timestamptz,
  add column last_duration_ms integer,
  add column last_count bigint,
  add constraint ck_job_asked_positive check (asked >= 1),
  add constraint ck_job_periodic_lives check (every is null or (every > interval '0' and dead_at is null)),
  add constraint ck_job_only_periodic_has_runs check (every is not null or last_run_at is null)
"""

# The periods of this moment; the runner writes down what it knows when it starts.
MOVE_THERE = """
insert into job (kind, key, payload, run_at, every, last_run_at, last_duration_ms, last_count, error)
select r.name, 'periodic', '{}', r.next_due, p.every, r.last_run_at, r.last_duration_ms, r.last_count, r.last_error
from job_run r
join (values
  ('settle_due', interval '5 minutes'),
  ('check_integrity', interval '1 hour'),
  ('purge_notifications', interval '1 day'),
  ('purge_publications', interval '1 hour'),
  ('purge_keys', interval '1 hour'),
  ('purge_logins', interval '1 hour')
) p (name, every) on p.name = r.name
"""

RUNS = """
create table job_run (
  name text not null,
  next_due timestamptz not null,
  node uuid,
  leased_until timestamptz,
  last_run_at timestamptz,
  last_duration_ms integer,
  last_count integer,
  last_error text,
  constraint pk_job_run primary key (name)
)
"""

MOVE_BACK = """
insert into job_run (name, next_due, last_run_at, last_duration_ms, last_count, last_error)
select kind, run_at, last_run_at, last_duration_ms, last_count, error from job where every is not null
"""


TABLES = (
    """
    create table maturing (
      hold_id uuid not null,
      tutor_id uuid not null,
      mature_at timestamptz not null,
      frozen_by uuid,
      constraint pk_maturing primary key (hold_id),
      constraint fk_maturing_hold_id foreign key (hold_id) references hold (id)
    )
    """,
    "create index ix_maturing_tutor_id on maturing (tutor_id)",
    "create index ix_maturing_frozen_by on maturing (frozen_by) where frozen_by is not null",
    """
    create table payout_account (
      id uuid not null,
      tutor_id uuid not null,
      method text not null,
      sealed bytea,
      last4 text,
      stripe_account text,
      created_at timestamptz not null,
      usable_from timestamptz not null,
      replaced_at timestamptz,
      constraint pk_payout_account primary key (id),
      constraint uq_payout_account_stripe_account unique (stripe_account),
      constraint ck_payout_account_method_known check (method in ('bank', 'stripe')),
      constraint ck_payout_account_bank_is_sealed
        check ((method = 'bank') = (sealed is not null) and (method = 'bank') = (last4 is not null)),
      constraint ck_payout_account_last4_is_short check (last4 is null or length(last4) between 1 and 4),
      constraint ck_payout_account_stripe_has_account check (method = 'stripe' or stripe_account is null),
      constraint ck_payout_account_usable_after_made check (usable_from >= created_at)
    )
    """,
    "create unique index uq_payout_account_one_current on payout_account (tutor_id) where replaced_at is null",
    """
    create table withdrawal (
      id uuid not null,
      tutor_id uuid not null,
      payout_account uuid not null,
      method text not null,
      amount bigint not null,
      currency text not null,
      two_people_above bigint not null,
      note text,
      status text default 'pending' not null,
      approved_by uuid,
      confirmed_by uuid,
      held_by uuid,
      held_reason text,
      rejected_by uuid,
      answer text,
      reference text,
      requested_at timestamptz not null,
      ended_at timestamptz,
      request_journal bigint not null,
      end_journal bigint,
      constraint pk_withdrawal primary key (id),
      constraint uq_withdrawal_request_journal unique (request_journal),
      constraint uq_withdrawal_end_journal unique (end_journal),
      constraint fk_withdrawal_payout_account foreign key (payout_account) references payout_account (id),
      constraint fk_withdrawal_request_journal foreign key (request_journal) references ledger_journal (id),
      constraint fk_withdrawal_end_journal foreign key (end_journal) references ledger_journal (id),
      constraint ck_withdrawal_status_known check (status in ('pending', 'processing', 'completed', 'rejected')),
      constraint ck_withdrawal_method_known check (method in ('bank', 'stripe')),
      constraint ck_withdrawal_amount_positive check (amount > 0),
      constraint ck_withdrawal_limit_not_negative check (two_people_above >= 0),
      constraint ck_withdrawal_note_length check (note is null or length(note) <= 500),
      constraint ck_withdrawal_two_people
        check (confirmed_by is null or coalesce(confirmed_by <> approved_by, false)),
      constraint ck_withdrawal_not_by_oneself
        check (coalesce(approved_by <> tutor_id, true) and coalesce(confirmed_by <> tutor_id, true)),
      constraint ck_withdrawal_approved_first check (
        status not in ('processing', 'completed')
        or (approved_by is not null and (amount <= two_people_above or confirmed_by is not null))
      ),
      constraint ck_withdrawal_held_with_reason check (
        (held_by is null) = (held_reason is null)
        and (held_by is null or (length(held_reason) >= 10 and status in ('pending', 'processing')))
      ),
      constraint ck_withdrawal_ended_whole check (
        (status in ('completed', 'rejected')) = (ended_at is not null)
        and (ended_at is null) = (end_journal is null)
      ),
      constraint ck_withdrawal_rejected_with_answer
        check (status <> 'rejected' or (rejected_by is not null and coalesce(length(answer), 0) >= 10)),
      constraint ck_withdrawal_bank_transfer_has_reference
        check (status <> 'completed' or method <> 'bank' or coalesce(length(reference), 0) > 0)
    )
    """,
    "create index ix_withdrawal_tutor_id_requested_at_id on withdrawal (tutor_id, requested_at, id)",
    "create index ix_withdrawal_status_requested_at_id on withdrawal (status, requested_at, id)",
    """
    create table payout_attempt (
      id uuid not null,
      withdrawal_id uuid not null,
      number integer not null,
      status text default 'submitted' not null,
      submitted_at timestamptz not null,
      began_at timestamptz,
      broken integer default 0 not null,
      transfer text,
      transfer_journal bigint,
      payout text,
      failure text,
      reversal text,
      reversal_journal bigint,
      ended_at timestamptz,
      constraint pk_payout_attempt primary key (id),
      constraint uq_payout_attempt_withdrawal_id_number unique (withdrawal_id, number),
      constraint uq_payout_attempt_transfer unique (transfer),
      constraint uq_payout_attempt_payout unique (payout),
      constraint uq_payout_attempt_reversal unique (reversal),
      constraint fk_payout_attempt_withdrawal_id foreign key (withdrawal_id) references withdrawal (id),
      constraint fk_payout_attempt_transfer_journal foreign key (transfer_journal) references ledger_journal (id),
      constraint fk_payout_attempt_reversal_journal foreign key (reversal_journal) references ledger_journal (id),
      constraint ck_payout_attempt_status_known check (status in ('submitted', 'paid', 'failed', 'cancelled')),
      constraint ck_payout_attempt_number_positive check (number >= 1),
      constraint ck_payout_attempt_broken_not_negative check (broken >= 0),
      constraint ck_payout_attempt_transfer_is_booked check ((transfer is null) = (transfer_journal is null)),
      constraint ck_payout_attempt_reversal_is_booked check ((reversal is null) = (reversal_journal is null)),
      constraint ck_payout_attempt_begun_before_transfer check (transfer is null or began_at is not null),
      constraint ck_payout_attempt_transfer_before_payout check (payout is null or transfer is not null),
      constraint ck_payout_attempt_reversal_undoes
        check (reversal is null or (transfer is not null and failure is not null)),
      constraint ck_payout_attempt_ended_has_time check ((status = 'submitted') = (ended_at is null)),
      constraint ck_payout_attempt_paid_by_payout
        check (status <> 'paid' or (payout is not null and failure is null)),
      constraint ck_payout_attempt_failed_is_back
        check (status <> 'failed' or (failure is not null and (transfer is null) = (reversal is null))),
      constraint ck_payout_attempt_cancelled_never_began check (status <> 'cancelled' or began_at is null)
    )
    """,
    """
    create unique index uq_payout_attempt_one_live on payout_attempt (withdrawal_id)
      where status in ('submitted', 'paid')
    """,
)

# What was asked for stays; statuses go along their arrows; what Stripe named is named once.
TRIGGERS = (
    """
    create trigger keep_frozen before update of id, tutor_id, method, sealed, last4, created_at, usable_from
      on payout_account for each row execute function keep_frozen()
    """,
    """
    create trigger keep_once before update on payout_account for each row when (
      old.replaced_at is not null and new is distinct from old
      or old.stripe_account is not null and new.stripe_account is distinct from old.stripe_account
    ) execute function keep_frozen()
    """,
    """
    create trigger keep_arrows before update of status on withdrawal for each row execute function
      keep_arrows('pending>processing', 'pending>rejected', 'processing>completed', 'processing>rejected')
    """,
    """
    create trigger keep_frozen before update of id, tutor_id, payout_account, method, amount, currency,
      two_people_above, note, requested_at, request_journal on withdrawal for each row execute function keep_frozen()
    """,
    """
    create trigger keep_once before update on withdrawal for each row when (
      old.ended_at is not null and new is distinct from old
      or old.approved_by is not null and new.approved_by is distinct from old.approved_by
      or old.confirmed_by is not null and new.confirmed_by is distinct from old.confirmed_by
    ) execute function keep_frozen()
    """,
    """
    create trigger keep_arrows before update of status on payout_attempt for each row execute function
      keep_arrows('submitted>cancelled', 'submitted>failed', 'submitted>paid')
    """,
    """
    create trigger keep_once before update on payout_attempt for each row when (
      old.ended_at is not null and new is distinct from old
      or (new.id, new.withdrawal_id, new.number, new.submitted_at)
        is distinct from (old.id, old.withdrawal_id, old.number, old.submitted_at)
      or old.began_at is not null and new.began_at is distinct from old.began_at
      or old.transfer is not null and new.transfer is distinct from old.transfer
      or old.payout is not null and new.payout is distinct from old.payout
      or old.reversal is not null and new.reversal is distinct from old.reversal
    ) execute function keep_frozen()
    """,
    *(
        f"create trigger {name} before {event} on {table} for each {each} execute function append_only()"
        for table in ("payout_account", "withdrawal", "payout_attempt")
        for name, event, each in (
            ("never_deleted", "delete", "row"),
            ("never_truncated", "truncate", "statement"),
        )
    ),
)

TERMS = """
alter table policy
  add column withdrawal_least bigint default 1000 not null,
  add column withdrawal_two_people_above bigint default 100000 not null,
  add column payout_freeze_hours integer default 72 not null,
  add constraint ck_policy_withdrawal_sane
    check (withdrawal_least > 0 and withdrawal_two_people_above >= 0 and payout_freeze_hours >= 0)
"""

# Whatever was settled with a risk window waits for its end from now on.
MATURING = (
    """
    insert into maturing (hold_id, tutor_id, mature_at)
    select s.hold_id, h.tutor_id, s.risk_until from hold_settlement s join hold h on h.id = s.hold_id
    where s.number = 0 and s.risk_until is not null
    """,
    """
    insert into job (kind, key, payload, run_at)
    select 'mature', hold_id, json_build_object('hold_id', hold_id), mature_at from maturing
    """,
)


def upgrade() -> None:
    """Move the runs of the jobs to the other jobs, and make the tables."""
    op.execute(PERIODIC)
    op.execute(MOVE_THERE)
    op.execute("drop table job_run")
    op.execute(TERMS)
    for statement in (*TABLES, *TRIGGERS, *MATURING):
        op.execute(statement)


def downgrade() -> None:
    """Remove the tables, and move the runs back."""
    op.execute("delete from job where kind in ('mature', 'pay_out')")
    for table in ("payout_attempt", "withdrawal", "payout_account", "maturing"):
        op.execute(f"drop table {table}")
    op.execute("alter table policy drop constraint ck_policy_withdrawal_sane")
    for column in ("withdrawal_least", "withdrawal_two_people_above", "payout_freeze_hours"):
        op.execute(f"alter table policy drop column {column}")
    op.execute(RUNS)
    op.execute(MOVE_BACK)
    op.execute("delete from job where every is not null")
    for column in ("asked", "every", "last_run_at", "last_duration_ms", "last_count"):
        op.execute(f"alter table job drop column {column}")
