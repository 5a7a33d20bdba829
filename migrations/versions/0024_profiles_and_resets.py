"""What tutors say of themselves, so that somebody can decide whether they may teach; links that set a new password."""

from alembic import op

revision = "0024"
down_revision = "0023"


TABLES = (
    """
    create table tutor_profile (
      user_id uuid not null,
      title text not null,
      description text not null,
      subjects text[] not null,
      languages text[] not null,
      hourly_rate integer,
      experience_years integer,
      is_adult boolean not null,
      updated_at timestamptz not null,
      submitted_at timestamptz,
      answer text,
      constraint pk_tutor_profile primary key (user_id),
      constraint fk_tutor_profile_user_id foreign key (user_id) references users (id),
      constraint ck_tutor_profile_hourly_rate_is_sane check (hourly_rate between 500 and 50000),
      constraint ck_tutor_profile_experience_is_sane check (experience_years between 0 and 80)
    )
    """,
    """
    create table password_reset (
      digest bytea not null,
      user_id uuid not null,
      expires_at timestamptz not null,
      constraint pk_password_reset primary key (digest),
      constraint fk_password_reset_user_id foreign key (user_id) references users (id)
    )
    """,
    "create index ix_password_reset_user_id on password_reset (user_id)",
    "create index ix_password_reset_expires_at on password_reset (expires_at)",
)


def upgrade() -> None:
    """Make the tables; nobody has a profile or a link yet."""
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    """Forget what they said, and end every link."""
    op.execute("drop table password_reset")
    op.execute("drop table tutor_profile")
