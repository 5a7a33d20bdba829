"""Indexes of the lobby's filters and of the administrators' history."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

LISTED = sa.text("is_public and closed_at is null")


def upgrade() -> None:
    """Make the indexes."""
    op.create_index(
        "ix_talk_language",
        "talk",
        [sa.text("lower(language)"), "created_at", "id"],
        postgresql_where=LISTED,
    )
    op.create_index("ix_talk_level", "talk", ["level", "created_at", "id"], postgresql_where=LISTED)
    op.create_index(
        "ix_talk_topic", "talk", [sa.text("lower(topic)"), "created_at", "id"], postgresql_where=LISTED
    )
    op.create_index(
        "ix_talk_language_level",
        "talk",
        [sa.text("lower(language)"), "level", "created_at", "id"],
        postgresql_where=LISTED,
    )
    op.create_index(
        "ix_talk_nearby_language",
        "talk",
        ["region", sa.text("lower(language)"), "created_at", "id"],
        postgresql_where=LISTED,
    )
    op.create_index("ix_talk_created_at_id", "talk", ["created_at", "id"])


def downgrade() -> None:
    """Remove them."""
    for name in (
        "ix_talk_language",
        "ix_talk_level",
        "ix_talk_topic",
        "ix_talk_language_level",
        "ix_talk_nearby_language",
        "ix_talk_created_at_id",
    ):
        op.drop_index(name, "talk")
