"""Reviews of late evidence can be listed by time, and closed with a word."""

from alembic import op

revision = "0021"
down_revision = "0020"

UP = (
    """
    alter table hold_review
      add column id uuid not null default gen_random_uuid(),
      add column closed_at timestamptz,
      add column closed_by uuid,
      add column notes text,
      add constraint uq_hold_review_id unique (id),
      add constraint ck_hold_review_closed_whole
        check ((closed_at is null) = (closed_by is null) and (closed_at is null) = (notes is null)),
      add constraint ck_hold_review_notes_length check (notes is null or length(notes) between 10 and 2000)
    """,
    "create index ix_hold_review_opened_at_id on hold_review (opened_at, id)",
)

DOWN = (
    """
    alter table hold_review
      drop column id, drop column closed_at, drop column closed_by, drop column notes
    """,
    "drop index if exists ix_hold_review_opened_at_id",
)


def upgrade() -> None:
    """Add who closed a review, when, and why."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Forget who closed what: what was closed is open again."""
    for statement in DOWN:
        op.execute(statement)
