"""Money that proves itself: seals over the ledger, whole journals reversed, and papers with gapless numbers."""

from alembic import op

revision = "0016"
down_revision = "0015"

XID = (
    # Journals of before are all given the number of this migration's transaction, without being rewritten.
    """
    alter table ledger_journal
      add column xid bigint default (pg_current_xact_id()::text::bigint) not null
    """,
    # Numbers of transactions rise with the pages: some bytes for each 32 of them find a minute among years.
    "create index ix_ledger_journal_xid on ledger_journal using brin (xid) with (pages_per_range = 32, autosummarize = on)",
)

TABLES = (
    """
    create table ledger_seal (
      number bigint not null,
      previous bigint generated always as (nullif(number - 1, 0)) stored,
      since_xid bigint not null,
      upto_xid bigint not null,
      journals bigint not null,
      first_id bigint not null,
      last_id bigint not null,
      sha256 bytea not null,
      sealed_at timestamptz not null,
      constraint pk_ledger_seal primary key (number),
      constraint uq_ledger_seal_number_upto_xid unique (number, upto_xid),
      constraint fk_ledger_seal_previous_since_xid
        foreign key (previous, since_xid) references ledger_seal (number, upto_xid),
      constraint ck_ledger_seal_number_positive check (number >= 1),
      constraint ck_ledger_seal_first_from_nothing check (number > 1 or since_xid = 0),
      constraint ck_ledger_seal_span_not_empty check (upto_xid > since_xid),
      constraint ck_ledger_seal_journals_positive check (journals > 0 and first_id <= last_id),
      constraint ck_ledger_seal_hash_length check (length(sha256) = 32)
    )
    """,
    """
    create table ledger_reversal (
      reverses_id bigint not null,
      journal_id bigint not null,
      constraint pk_ledger_reversal primary key (reverses_id),
      constraint uq_ledger_reversal_journal_id unique (journal_id),
      constraint fk_ledger_reversal_reverses_id foreign key (reverses_id) references ledger_journal (id),
      constraint fk_ledger_reversal_journal_id foreign key (journal_id) references ledger_journal (id),
      constraint ck_ledger_reversal_two_journals check (reverses_id <> journal_id)
    )
    """,
    """
    create table paper_count (
      year integer not null,
      last integer not null,
      constraint pk_paper_count primary key (year),
      constraint ck_paper_count_last_not_negative check (last >= 0)
    )
    """,
    """
    create table paper (
      year integer not null,
      number integer not null,
      previous integer generated always as (nullif(number - 1, 0)) stored,
      owner_id uuid not null,
      kind text not null,
      subject text not null,
      facts_sha256 bytea not null,
      pdf bytea not null,
      pdf_sha256 bytea not null,
      issued_at timestamptz not null,
      constraint pk_paper primary key (year, number),
      constraint fk_paper_year foreign key (year) references paper_count (year),
      constraint fk_paper_year_previous foreign key (year, previous) references paper (year, number),
      constraint uq_paper_owner_id_kind_subject_facts_sha256 unique (owner_id, kind, subject, facts_sha256),
      constraint ck_paper_kind_known check (kind in ('entry', 'hold', 'top_up', 'statement')),
      constraint ck_paper_number_positive check (number >= 1),
      constraint ck_paper_facts_length check (length(facts_sha256) = 32),
      constraint ck_paper_hash_of_pdf check (pdf_sha256 = sha256(pdf))
    )
    """,
)

TRIGGERS = (
    """
    create function reversal_mirrors() returns trigger language plpgsql as $$
    begin
      if (select kind from ledger_journal where id = new.journal_id) <> 'reversal'
        or (select kind from ledger_journal where id = new.reverses_id) = 'reversal'
        or exists (
          select from (
            (
              select leg, debit_account, credit_account, currency, amount, hold_id
              from ledger_transfer where journal_id = new.reverses_id
              except all
              select leg, credit_account, debit_account, currency, amount, hold_id
              from ledger_transfer where journal_id = new.journal_id
            ) union all (
              select leg, credit_account, debit_account, currency, amount, hold_id
              from ledger_transfer where journal_id = new.journal_id
              except all
              select leg, debit_account, credit_account, currency, amount, hold_id
              from ledger_transfer where journal_id = new.reverses_id
            )
          ) other
        )
      then
        raise exception 'REVERSAL_MIRRORS: a reversal is the whole of another journal, backwards'
          using errcode = 'restrict_violation';
      end if;
      return null;
    end$$
    """,
    "create trigger mirrors after insert on ledger_reversal for each row execute function reversal_mirrors()",
    *(
        f"create trigger {name} before {event} on {table} for each {each} execute function append_only()"
        for table in ("ledger_seal", "ledger_reversal", "paper")
        for name, event, each in (
            ("append_only", "update or delete", "row"),
            ("never_truncated", "truncate", "statement"),
        )
    ),
)


def upgrade() -> None:
    """Number the transactions of journals, and make the tables."""
    for statement in (*XID, *TABLES, *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    """Remove both."""
    for table in ("paper", "paper_count", "ledger_reversal", "ledger_seal"):
        op.execute(f"drop table {table}")
    op.execute("drop function reversal_mirrors")
    op.drop_column("ledger_journal", "xid")
