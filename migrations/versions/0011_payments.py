"""Payments of bookings: states and history, authorisations of cards, refunds; and how a booking is settled."""

from alembic import op

revision = "0011"
down_revision = "0010"

REASONS = ", ".join(
    f"'{word}'"
    for word in (
        "BOOKED",
        "ACCEPTED",
        "COMPLETED",
        "NO_SHOW_STUDENT",
        "NO_SHOW_TUTOR",
        "NOT_HELD",
        "DECLINED",
        "WITHDRAWN",
        "EXPIRED",
        "STUDENT_CANCEL",
        "STUDENT_CANCEL_LATE",
        "TUTOR_CANCEL",
        "CANCELLED",
        "CARD_FAILED",
        "LATE_EVIDENCE",
        "GOODWILL",
        "OTHER",
    )
)

CAUSES_BEFORE = ("attendance", "tutor_absent", "cancelled", "admin", "adjustment")
CAUSES = ("attendance", "tutor_absent", "cancelled", "outcome", "forfeited", "admin", "adjustment", "refund")
LATER_BEFORE, LATER = ("adjustment",), ("adjustment", "refund")

SETTLEMENT = """
alter table hold_settlement
  add column tutor_attended_s bigint,
  add constraint ck_hold_settlement_outcome_rule check (
    cause <> 'outcome' or (attended_s is not null and tutor_attended_s is not null
      and to_student = case when tutor_attended_s > 0 then 0 else amount end)
  ),
  add constraint ck_hold_settlement_forfeited_is_paid check (cause <> 'forfeited' or to_student = 0)
"""

TABLES = (
    """
    create table payment_transition (
      from_state text not null,
      to_state text not null,
      constraint pk_payment_transition primary key (from_state, to_state)
    )
    """,
    """
    insert into payment_transition (from_state, to_state) values
      ('NEW', 'PENDING'),
      ('PENDING', 'AUTHORIZED'),
      ('PENDING', 'VOIDED'),
      ('AUTHORIZED', 'CAPTURED'),
      ('AUTHORIZED', 'VOIDED'),
      ('CAPTURED', 'PARTIALLY_REFUNDED'),
      ('CAPTURED', 'REFUNDED'),
      ('PARTIALLY_REFUNDED', 'REFUNDED')
    """,
    f"""
    create table payment_event (
      payment_id uuid not null,
      seq integer not null,
      prev_seq integer generated always as (nullif(seq - 1, 0)) stored,
      from_state text not null,
      to_state text not null,
      reason text not null,
      actor text not null,
      at timestamptz not null,
      constraint pk_payment_event primary key (payment_id, seq),
      constraint uq_payment_event_payment_id_seq_to_state unique (payment_id, seq, to_state),
      constraint fk_payment_event_from_state_to_state
        foreign key (from_state, to_state) references payment_transition (from_state, to_state),
      constraint fk_payment_event_payment_id_prev_seq_from_state
        foreign key (payment_id, prev_seq, from_state) references payment_event (payment_id, seq, to_state),
      constraint ck_payment_event_reason_known check (reason in ({REASONS})),
      constraint ck_payment_event_seq_positive check (seq >= 1),
      constraint ck_payment_event_begins_new check ((seq = 1) = (from_state = 'NEW'))
    )
    """,
    f"""
    create table payment (
      id uuid not null,
      lesson_id uuid not null,
      student_id uuid not null,
      tutor_id uuid not null,
      amount bigint not null,
      currency text not null,
      tutor_bps integer not null,
      attribution text not null,
      policy_version integer not null,
      starts_at timestamptz not null,
      method text not null,
      state text not null,
      seq integer not null,
      authorized bigint default 0 not null,
      captured bigint default 0 not null,
      refunded bigint default 0 not null,
      hold_id uuid,
      accepted_at timestamptz,
      accepted_by text,
      verdict text,
      verdict_reason text,
      verdict_actor text,
      verdict_words text,
      setup_id text,
      card text,
      opened_at timestamptz not null,
      constraint pk_payment primary key (id),
      constraint uq_payment_hold_id unique (hold_id),
      constraint uq_payment_setup_id unique (setup_id),
      constraint fk_payment_id_seq_state
        foreign key (id, seq, state) references payment_event (payment_id, seq, to_state),
      constraint fk_payment_hold_id_amount_tutor_bps
        foreign key (hold_id, amount, tutor_bps) references hold (id, amount, tutor_bps),
      constraint fk_payment_policy_version foreign key (policy_version) references policy (version),
      constraint ck_payment_state_known check (
        state in ('PENDING', 'AUTHORIZED', 'CAPTURED', 'VOIDED', 'PARTIALLY_REFUNDED', 'REFUNDED')
      ),
      constraint ck_payment_method_known check (method in ('wallet', 'card')),
      constraint ck_payment_verdict_known check (verdict in ('capture', 'return', 'void')),
      constraint ck_payment_verdict_reason_known check (verdict_reason in ({REASONS})),
      constraint ck_payment_amount_positive check (amount > 0),
      constraint ck_payment_currency_code check (currency ~ '^[A-Z]{{3}}$'),
      constraint ck_payment_bps_range check (tutor_bps between 0 and 10000),
      constraint ck_payment_two_people check (student_id <> tutor_id),
      constraint ck_payment_amounts_ordered
        check (0 <= refunded and refunded <= captured and captured <= authorized and authorized <= amount),
      constraint ck_payment_amounts_fit_state check (
        case state when 'PENDING' then authorized = 0
          when 'AUTHORIZED' then authorized = amount and captured = 0
          when 'CAPTURED' then captured = amount and refunded = 0
          when 'PARTIALLY_REFUNDED' then refunded > 0 and refunded < captured
          when 'REFUNDED' then captured > 0 and refunded = captured
          when 'VOIDED' then captured = 0 else false end
      ),
      constraint ck_payment_wallet_is_held check (method <> 'wallet' or hold_id is not null),
      constraint ck_payment_captured_by_hold check (captured = 0 or hold_id is not null),
      constraint ck_payment_card_by_card check (method = 'card' or (card is null and setup_id is null)),
      constraint ck_payment_verdict_whole check (
        (verdict is null) = (verdict_reason is null) and (verdict is null) = (verdict_actor is null)
      ),
      constraint ck_payment_admin_needs_words check (
        coalesce(verdict_actor, '') not like 'admin:%' or coalesce(length(verdict_words), 0) >= 10
      ),
      constraint ck_payment_ended_by_verdict check (state in ('PENDING', 'AUTHORIZED') or verdict is not null)
    )
    """,
    "create index ix_payment_lesson_id on payment (lesson_id)",
    "create index ix_payment_student_id_opened_at_id on payment (student_id, opened_at, id)",
    "create index ix_payment_tutor_id_opened_at_id on payment (tutor_id, opened_at, id)",
    f"""
    create table payment_refund (
      id uuid not null,
      payment_id uuid not null,
      key text,
      amount bigint not null,
      is_whole boolean not null,
      to_card boolean not null,
      reason text not null,
      words text,
      actor text not null,
      hold_id uuid not null,
      settlement_no integer not null,
      at timestamptz not null,
      constraint pk_payment_refund primary key (id),
      constraint uq_payment_refund_payment_id_key unique (payment_id, key),
      constraint fk_payment_refund_payment_id foreign key (payment_id) references payment (id),
      constraint fk_payment_refund_hold_id_settlement_no
        foreign key (hold_id, settlement_no) references hold_settlement (hold_id, number),
      constraint ck_payment_refund_reason_known check (reason in ({REASONS})),
      constraint ck_payment_refund_amount_positive check (amount > 0),
      constraint ck_payment_refund_key_length check (length(key) between 1 and 255),
      constraint ck_payment_refund_admin_needs_words
        check (actor not like 'admin:%' or coalesce(length(words), 0) >= 10)
    )
    """,
    """
    create table card_authorization (
      id uuid not null,
      payment_id uuid not null,
      number integer not null,
      card text,
      off_session boolean not null,
      status text default 'wanted' not null,
      opened_at timestamptz not null,
      began_at timestamptz,
      broken integer default 0 not null,
      intent text,
      capture_before timestamptz,
      failure text,
      journal_id bigint,
      ended_at timestamptz,
      constraint pk_card_authorization primary key (id),
      constraint uq_card_authorization_payment_id_number unique (payment_id, number),
      constraint uq_card_authorization_intent unique (intent),
      constraint uq_card_authorization_journal_id unique (journal_id),
      constraint fk_card_authorization_payment_id foreign key (payment_id) references payment (id),
      constraint fk_card_authorization_journal_id foreign key (journal_id) references ledger_journal (id),
      constraint ck_card_authorization_status_known
        check (status in ('wanted', 'asked', 'authorized', 'captured', 'cancelled')),
      constraint ck_card_authorization_number_positive check (number >= 1),
      constraint ck_card_authorization_broken_not_negative check (broken >= 0),
      constraint ck_card_authorization_off_session_by_card check (not off_session or card is not null),
      constraint ck_card_authorization_begun_before_intent check (intent is null or began_at is not null),
      constraint ck_card_authorization_known_at_stripe
        check (status not in ('asked', 'authorized', 'captured') or intent is not null),
      constraint ck_card_authorization_authorized_has_end
        check (status <> 'authorized' or capture_before is not null),
      constraint ck_card_authorization_captured_is_booked
        check ((status = 'captured') = (journal_id is not null)),
      constraint ck_card_authorization_ended_has_time
        check ((status in ('captured', 'cancelled')) = (ended_at is not null))
    )
    """,
    """
    create unique index uq_card_authorization_one_live on card_authorization (payment_id)
      where status in ('wanted', 'asked', 'authorized')
    """,
    """
    create table card_refund (
      id uuid not null,
      payment_id uuid not null,
      authorization_id uuid not null,
      student_id uuid not null,
      key text not null,
      amount bigint not null,
      currency text not null,
      status text default 'asked' not null,
      broken integer default 0 not null,
      refund text,
      failure text,
      asked_at timestamptz not null,
      ask_journal bigint not null,
      sent_journal bigint,
      back_journal bigint,
      constraint pk_card_refund primary key (id),
      constraint uq_card_refund_payment_id_key unique (payment_id, key),
      constraint uq_card_refund_refund unique (refund),
      constraint uq_card_refund_ask_journal unique (ask_journal),
      constraint uq_card_refund_sent_journal unique (sent_journal),
      constraint uq_card_refund_back_journal unique (back_journal),
      constraint fk_card_refund_payment_id foreign key (payment_id) references payment (id),
      constraint fk_card_refund_authorization_id foreign key (authorization_id) references card_authorization (id),
      constraint fk_card_refund_ask_journal foreign key (ask_journal) references ledger_journal (id),
      constraint fk_card_refund_sent_journal foreign key (sent_journal) references ledger_journal (id),
      constraint fk_card_refund_back_journal foreign key (back_journal) references ledger_journal (id),
      constraint ck_card_refund_status_known check (status in ('asked', 'sent', 'failed')),
      constraint ck_card_refund_amount_positive check (amount > 0),
      constraint ck_card_refund_key_length check (length(key) between 1 and 255),
      constraint ck_card_refund_broken_not_negative check (broken >= 0),
      constraint ck_card_refund_sent_is_booked check ((refund is null) = (sent_journal is null)),
      constraint ck_card_refund_sent_by_refund check (status <> 'sent' or refund is not null),
      constraint ck_card_refund_failed_is_back check (
        (status = 'failed') = (back_journal is not null) and (status = 'failed') = (failure is not null)
      )
    )
    """,
    "create index ix_card_refund_status on card_refund (status)",
)

# A lesson that is over takes no hold but one: the money of a card that was captured for it, which is settled in the
# same transaction. That transaction says so, and is held to it when it ends.
LESSON_OPEN = """
create or replace function hold_lesson_open() returns trigger language plpgsql as $$
begin
  if exists (select from lesson_facts f where f.lesson_id = new.lesson_id)
    and not (new.source_kind = 'booking'
      and coalesce(current_setting('billing.settling', true), '') = new.source_id::text)
  then
    raise exception 'LESSON_OVER' using errcode = 'FT003';
  end if;
  return new;
end$$
"""
LESSON_OPEN_BEFORE = """
create or replace function hold_lesson_open() returns trigger language plpgsql as $$
begin
  if exists (select from lesson_facts f where f.lesson_id = new.lesson_id) then
    raise exception 'LESSON_OVER' using errcode = 'FT003';
  end if;
  return new;
end$$
"""
SETTLED_AT_ONCE = """
create function hold_settled_at_once() returns trigger language plpgsql as $$
begin
  if exists (select from lesson_facts f where f.lesson_id = new.lesson_id)
    and not exists (select from settle_due d where d.lesson_id = new.lesson_id)
    and exists (select from hold h where h.id = new.id and h.status = 'held')
  then
    raise exception 'LESSON_OVER' using errcode = 'FT003';
  end if;
  return null;
end$$
"""

# A booking is judged by who came, and nothing else is; the row that closes a hold says why.
CLOSE = """
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
CLOSE_BEFORE = """
create or replace function hold_close() returns trigger language plpgsql as $$
begin
  update hold h set status = case when s.to_student = s.amount then 'refunded' else 'released' end
  from written s where s.hold_id = h.id and s.number = 0;
  return null;
end$$
"""

# What was agreed stays; the history goes forward with its payment, amounts only grow, and what is decided is decided.
TRIGGERS = (
    """
    create constraint trigger settled_at_once after insert on hold deferrable initially deferred
      for each row when (new.source_kind = 'booking' and new.lesson_id is not null)
      execute function hold_settled_at_once()
    """,
    """
    create trigger keep_frozen before update of id, lesson_id, student_id, tutor_id, amount, currency, tutor_bps,
      attribution, policy_version, method, opened_at on payment for each row execute function keep_frozen()
    """,
    """
    create trigger keep_once before update on payment for each row when (
      new.seq < old.seq
      or new.authorized < old.authorized or new.captured < old.captured or new.refunded < old.refunded
      or old.hold_id is not null and new.hold_id is distinct from old.hold_id
      or old.accepted_at is not null
        and (new.accepted_at, new.accepted_by) is distinct from (old.accepted_at, old.accepted_by)
      or old.verdict is not null and (new.verdict, new.verdict_reason, new.verdict_actor, new.verdict_words)
        is distinct from (old.verdict, old.verdict_reason, old.verdict_actor, old.verdict_words)
      or old.setup_id is not null and new.setup_id is distinct from old.setup_id
    ) execute function keep_frozen()
    """,
    """
    create trigger keep_arrows before update of status on card_authorization for each row execute function
      keep_arrows('asked>authorized', 'asked>cancelled', 'asked>captured', 'authorized>cancelled',
        'authorized>captured', 'wanted>asked', 'wanted>authorized', 'wanted>cancelled', 'wanted>captured')
    """,
    """
    create trigger keep_once before update on card_authorization for each row when (
      old.ended_at is not null and new is distinct from old
      or (new.id, new.payment_id, new.number, new.card, new.off_session, new.opened_at)
        is distinct from (old.id, old.payment_id, old.number, old.card, old.off_session, old.opened_at)
      or old.began_at is not null and new.began_at is distinct from old.began_at
      or old.intent is not null and new.intent is distinct from old.intent
    ) execute function keep_frozen()
    """,
    """
    create trigger keep_arrows before update of status on card_refund for each row execute function
      keep_arrows('asked>failed', 'asked>sent', 'sent>failed')
    """,
    """
    create trigger keep_once before update on card_refund for each row when (
      old.status = 'failed' and new is distinct from old
      or (new.id, new.payment_id, new.authorization_id, new.student_id, new.key, new.amount, new.currency,
          new.asked_at, new.ask_journal)
        is distinct from (old.id, old.payment_id, old.authorization_id, old.student_id, old.key, old.amount,
          old.currency, old.asked_at, old.ask_journal)
      or old.refund is not null and new.refund is distinct from old.refund
      or old.sent_journal is not null and new.sent_journal is distinct from old.sent_journal
    ) execute function keep_frozen()
    """,
    *(
        f"create trigger {name} before {event} on {table} for each {each} execute function append_only()"
        for table in ("payment", "card_authorization", "card_refund")
        for name, event, each in (
            ("never_deleted", "delete", "row"),
            ("never_truncated", "truncate", "statement"),
        )
    ),
    *(
        f"create trigger {name} before {event} on {table} for each {each} execute function append_only()"
        for table in ("payment_transition", "payment_event", "payment_refund")
        for name, event, each in (
            ("append_only", "update or delete", "row"),
            ("never_truncated", "truncate", "statement"),
        )
    ),
)


def upgrade() -> None:
    """Make them."""
    _say(CAUSES, LATER)
    op.execute(SETTLEMENT)
    _facts_decide("attendance", "tutor_absent", "outcome")
    for statement in (*TABLES, LESSON_OPEN, SETTLED_AT_ONCE, CLOSE, *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    """Remove them; what was settled by their rules must be gone."""
    op.execute("delete from job where kind in ('card_payment', 'card_refund')")
    op.execute("drop trigger settled_at_once on hold")
    op.execute("drop function hold_settled_at_once()")
    op.execute(LESSON_OPEN_BEFORE)
    op.execute(CLOSE_BEFORE)
    for table in (
        "card_refund",
        "card_authorization",
        "payment_refund",
        "payment",
        "payment_event",
        "payment_transition",
    ):
        op.execute(f"drop table {table}")
    _facts_decide("attendance", "tutor_absent")
    op.execute("alter table hold_settlement drop constraint ck_hold_settlement_forfeited_is_paid")
    op.execute("alter table hold_settlement drop constraint ck_hold_settlement_outcome_rule")
    op.drop_column("hold_settlement", "tutor_attended_s")
    _say(CAUSES_BEFORE, LATER_BEFORE)


def _say(causes: tuple[str, ...], later: tuple[str, ...]) -> None:
    for name, rule in (
        ("cause_known", f"cause in ({_list(causes)})"),
        ("number_fits_cause", f"(number = 0) = (cause not in ({_list(later)}))"),
    ):
        op.drop_constraint(f"ck_hold_settlement_{name}", "hold_settlement")
        op.create_check_constraint(f"ck_hold_settlement_{name}", "hold_settlement", rule)


def _facts_decide(*causes: str) -> None:
    op.drop_constraint("ck_hold_settlement_facts_decide", "hold_settlement")
    op.create_check_constraint(
        "ck_hold_settlement_facts_decide",
        "hold_settlement",
        f"cause not in ({_list(causes)})"
        " or (lesson_id is not null and facts_version is not null and facts_version = 1)",
    )


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)
