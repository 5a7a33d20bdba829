"""Rows that only say that a room has published carry spans from now on; the old ones are let go.

Such a row is a net for an owner that died between its commit and its push: without it people see the event at the next
look at the journal, half a minute later.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Delete what the relay could not read."""
    op.execute(sa.text("delete from outbox where type = 'room.published' and not data ? 'spans'"))


def downgrade() -> None:
    """Delete what the relay before could not read."""
    op.execute(sa.text("delete from outbox where type = 'room.published'"))
