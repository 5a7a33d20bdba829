"""Bring a database to head with alembic, and say whether it is there."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from server import db


def upgrade(database_url: str) -> None:
    """Run every migration that the database does not have yet. Blocks; call it outside the event loop."""
    command.upgrade(alembic_config(database_url), "head")


def check(database_url: str) -> None:
    """Compare the models with a migrated database.

    Raises:
        alembic.util.CommandError: The models have something that no migration makes.
    """
    command.check(alembic_config(database_url))


def alembic_config(database_url: str) -> Config:
    """Return alembic's configuration for a database; the scripts are found in a checkout and in the wheel."""
    here = Path(__file__).parent
    scripts = here / "migrations"
    config = Config()
    config.set_main_option(
        "script_location", str(scripts if scripts.is_dir() else here.parent / "migrations")
    )
    config.attributes["database_url"] = db.driver_url(database_url)
    return config
