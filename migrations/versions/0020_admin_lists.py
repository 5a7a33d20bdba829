"""Indexes of what administrators list by time: what providers told us, and rooms that are closed."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Make the indexes."""
    op.create_index("ix_media_event_recorded_at_event_id", "media_event", ["recorded_at", "event_id"])
    op.create_index("ix_stripe_event_all", "stripe_event", ["received_at", "id"])
    op.create_index(
        "ix_room_closed", "room", ["created_at", "id"], postgresql_where=sa.text("state = 'closed'")
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_index("ix_room_closed", "room")
    op.drop_index("ix_stripe_event_all", "stripe_event")
    op.drop_index("ix_media_event_recorded_at_event_id", "media_event")
