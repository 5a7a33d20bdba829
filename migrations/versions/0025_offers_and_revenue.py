"""What is on sale can be listed by time, and the journals of a period are found."""

from alembic import op

revision = "0025"
down_revision = "0024"

INDEXES = (
    "create index ix_package_option_on_sale on package_option (created_at, id) where hidden_at is null",
    "create index ix_ledger_journal_at on ledger_journal using brin (at) with (pages_per_range = 32, autosummarize = on)",
)


def upgrade() -> None:
    """Make the indexes."""
    for statement in INDEXES:
        op.execute(statement)


def downgrade() -> None:
    """Remove them."""
    op.execute("drop index ix_ledger_journal_at")
    op.execute("drop index ix_package_option_on_sale")
