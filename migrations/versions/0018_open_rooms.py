"""Index of the rooms that are not closed, for the live map."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Make the index."""
    op.create_index(
        "ix_room_open", "room", ["created_at", "id"], postgresql_where=sa.text("state <> 'closed'")
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_index("ix_room_open", "room")
