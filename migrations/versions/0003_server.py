"""Tables of the server's features and its gateway."""

from alembic import op

import server.tables  # noqa: F401
from server.models import Base

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables."""
    Base.metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Remove them."""
    Base.metadata.drop_all(op.get_bind())
