"""Tables of the live rooms."""

from alembic import op

from rooms.models import Base

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    Base.metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Remove them."""
    Base.metadata.drop_all(op.get_bind())
