"""Tables of the server's features and its gateway."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

# A state moves only along the arrows that its trigger lists; see `server/features/courses/rules.py`.
KEEP_ARROWS = """
create or replace function keep_arrows() returns trigger language plpgsql as $$
begin
  if new.status <> old.status and not (old.status || '>' || new.status) = any (tg_argv) then
    raise exception '% may not go from % to %', tg_table_name, old.status, new.status
      using errcode = 'check_violation';
  end if;
  return new;
end $$
"""

# What somebody bought never changes, whatever code runs.
KEEP_FROZEN = """
create or replace function keep_frozen() returns trigger language plpgsql as $$
begin
  raise exception 'a % never changes what it was made with', tg_table_name using errcode = 'check_violation';
end $$
"""

TRIGGERS = (
    """
    create trigger keep_arrows before update of status on course for each row execute function keep_arrows('upcoming>cancelled', 'upcoming>ongoing', 'ongoing>completed')
    """,
    """
    create trigger keep_arrows before update of status on course_session for each row execute function keep_arrows('scheduled>cancelled', 'scheduled>in_progress', 'in_progress>completed')
    """,
    """
    create trigger keep_arrows before update of status on purchase for each row execute function keep_arrows('active>attended', 'active>cancelled', 'active>completed', 'active>missed')
    """,
    """
    create trigger keep_frozen before update of id, kind, course_id, session_id, student_id, tutor_id, amount, currency, tutor_bps, attribution, policy_version, created_at on purchase for each row execute function keep_frozen()
    """,
)

TABLES = (
    "course_place",
    "purchase",
    "talk_stay",
    "refresh_token",
    "course_session",
    "talk",
    "notification",
    "login_session",
    "course",
    "users",
    "relay_failure",
    "publication",
    "login_failures",
    "job_run",
    "idempotency",
    "clock_offset",
    "channel_head",
    "audit_log",
)


def upgrade() -> None:
    """Make the tables, then what keeps their states on their arrows."""
    op.execute("create extension if not exists btree_gist")
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Uuid(), nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_actor_id"), "audit_log", ["actor_id"], unique=False)
    op.create_index(op.f("ix_audit_log_target_id"), "audit_log", ["target_id"], unique=False)
    op.create_table(
        "channel_head",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("off", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("channel", name=op.f("pk_channel_head")),
    )
    op.create_table(
        "clock_offset",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ahead", sa.Interval(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_clock_offset_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clock_offset")),
    )
    op.create_table(
        "idempotency",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_recorded_at"), "idempotency", ["recorded_at"], unique=False)
    op.create_table(
        "job_run",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("next_due", sa.DateTime(timezone=True), nullable=False),
        sa.Column("node", sa.Uuid(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_duration_ms", sa.Integer(), nullable=True),
        sa.Column("last_count", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_run")),
    )
    op.create_table(
        "login_failures",
        sa.Column("email_digest", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("email_digest", name=op.f("pk_login_failures")),
    )
    op.create_index(op.f("ix_login_failures_last_at"), "login_failures", ["last_at"], unique=False)
    op.create_table(
        "publication",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("off", sa.BigInteger(), nullable=False),
        sa.Column("ev", sa.Text(), nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("d", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "off", name=op.f("pk_publication")),
    )
    op.create_index(op.f("ix_publication_ts"), "publication", ["ts"], unique=False)
    op.create_table(
        "relay_failure",
        sa.Column("outbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("outbox_id", name=op.f("pk_relay_failure")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("first_name", sa.Text(), nullable=False),
        sa.Column("last_name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("tutor_status", sa.Text(), nullable=True),
        sa.Column("referral_code", sa.Text(), nullable=True),
        sa.Column("referred_by", sa.Uuid(), nullable=True),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("blocked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "role <> 'tutor' or tutor_status is not null", name=op.f("ck_users_tutor_has_status")
        ),
        sa.CheckConstraint(
            "role in ('student', 'tutor', 'admin', 'owner')", name=op.f("ck_users_role_is_known")
        ),
        sa.CheckConstraint(
            "tutor_status in ('incomplete', 'pending', 'approved', 'rejected')",
            name=op.f("ck_users_tutor_status_is_known"),
        ),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_users_email_is_lower_case")),
        sa.CheckConstraint("referred_by <> id", name=op.f("ck_users_nobody_refers_themself")),
        sa.ForeignKeyConstraint(["referred_by"], ["users.id"], name=op.f("fk_users_referred_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.UniqueConstraint("referral_code", name=op.f("uq_users_referral_code")),
    )
    op.create_index(
        "ix_users_administrators",
        "users",
        ["role"],
        unique=False,
        postgresql_where=sa.text("role in ('admin', 'owner')"),
    )
    op.create_index("ix_users_created_at_id", "users", ["created_at", "id"], unique=False)
    op.create_table(
        "course",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tutor_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("duration_hours", sa.Double(), nullable=False),
        sa.Column("total_sessions", sa.SmallInteger(), nullable=False),
        sa.Column("price_type", sa.Text(), nullable=False),
        sa.Column("price_per_session", sa.BigInteger(), nullable=True),
        sa.Column("price_full_course", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("max_students", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default="upcoming", nullable=False),
        sa.Column("publication", sa.Text(), server_default="draft", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "case price_type when 'full_course' then price_full_course else price_per_session end is not null",
            name=op.f("ck_course_leading_price_given"),
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_course_currency_code")),
        sa.CheckConstraint(
            "level in ('A1', 'A2', 'B1', 'B2', 'C1', 'C2')", name=op.f("ck_course_level_known")
        ),
        sa.CheckConstraint(
            "price_type in ('per_session', 'full_course')", name=op.f("ck_course_price_type_known")
        ),
        sa.CheckConstraint("publication in ('draft', 'published')", name=op.f("ck_course_publication_known")),
        sa.CheckConstraint(
            "status in ('upcoming', 'ongoing', 'completed', 'cancelled')", name=op.f("ck_course_status_known")
        ),
        sa.CheckConstraint("duration_hours > 0", name=op.f("ck_course_duration_positive")),
        sa.CheckConstraint("length(category) between 1 and 100", name=op.f("ck_course_category_length")),
        sa.CheckConstraint("length(description) <= 5000", name=op.f("ck_course_description_length")),
        sa.CheckConstraint("length(title) between 1 and 255", name=op.f("ck_course_title_length")),
        sa.CheckConstraint("max_students between 1 and 1000", name=op.f("ck_course_max_students_range")),
        sa.CheckConstraint(
            "price_per_session > 0 and price_full_course > 0", name=op.f("ck_course_prices_positive")
        ),
        sa.CheckConstraint("total_sessions between 1 and 100", name=op.f("ck_course_total_sessions_range")),
        sa.ForeignKeyConstraint(["tutor_id"], ["users.id"], name=op.f("fk_course_tutor_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_course")),
    )
    op.create_index(
        op.f("ix_course_created_at_id"),
        "course",
        ["created_at", "id"],
        unique=False,
        postgresql_where=sa.text("publication = 'published'"),
    )
    op.create_index(op.f("ix_course_tutor_id_created_at"), "course", ["tutor_id", "created_at"], unique=False)
    op.create_table(
        "login_session",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_login_session_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_session")),
    )
    op.create_index(op.f("ix_login_session_expires_at"), "login_session", ["expires_at"], unique=False)
    op.create_index(op.f("ix_login_session_user_id"), "login_session", ["user_id"], unique=False)
    op.create_table(
        "notification",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("event_key", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("link", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_notification_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification")),
        sa.UniqueConstraint("event_key", "user_id", name=op.f("uq_notification_event_key_user_id")),
    )
    op.create_index(op.f("ix_notification_created_at"), "notification", ["created_at"], unique=False)
    op.create_index(
        "ix_notification_unread",
        "notification",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("read_at is null"),
    )
    op.create_index(
        op.f("ix_notification_user_id_created_at_id"),
        "notification",
        ["user_id", "created_at", "id"],
        unique=False,
    )
    op.create_table(
        "talk",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("room_id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("host_id", sa.Uuid(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=True),
        sa.Column("topic", sa.Text(), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("city", sa.Text(), nullable=True),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("read_to", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("region ~ '^[A-Z]{2}$'", name=op.f("ck_talk_region_is_a_country")),
        sa.ForeignKeyConstraint(["host_id"], ["users.id"], name=op.f("fk_talk_host_id")),
        sa.ForeignKeyConstraint(["room_id"], ["room.id"], name=op.f("fk_talk_room_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_talk")),
        sa.UniqueConstraint("code", name=op.f("uq_talk_code")),
        sa.UniqueConstraint("room_id", name=op.f("uq_talk_room_id")),
    )
    op.create_index(op.f("ix_talk_host_id_created_at"), "talk", ["host_id", "created_at"], unique=False)
    op.create_index(
        "ix_talk_listed",
        "talk",
        ["created_at", "id"],
        unique=False,
        postgresql_where=sa.text("is_public and closed_at is null"),
    )
    op.create_index(
        "ix_talk_nearby",
        "talk",
        ["region", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("is_public and closed_at is null"),
    )
    op.create_table(
        "course_session",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("tutor_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), server_default="scheduled", nullable=False),
        sa.Column("room_id", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        postgresql.ExcludeConstraint(
            (sa.text("tutor_id"), "="),
            (sa.text("tstzrange(starts_at, ends_at)"), "&&"),
            where=sa.text("status in ('scheduled', 'in_progress')"),
            using="gist",
            name="ex_course_session_tutor_id",
        ),
        sa.CheckConstraint(
            "ends_at - starts_at between interval '15 minutes' and interval '480 minutes'",
            name=op.f("ck_course_session_duration_range"),
        ),
        sa.CheckConstraint(
            "status in ('scheduled', 'in_progress', 'completed', 'cancelled')",
            name=op.f("ck_course_session_status_known"),
        ),
        sa.CheckConstraint("length(title) between 1 and 255", name=op.f("ck_course_session_title_length")),
        sa.CheckConstraint("number between 1 and 100", name=op.f("ck_course_session_number_range")),
        sa.ForeignKeyConstraint(["course_id"], ["course.id"], name=op.f("fk_course_session_course_id")),
        sa.ForeignKeyConstraint(["room_id"], ["room.id"], name=op.f("fk_course_session_room_id")),
        sa.ForeignKeyConstraint(["tutor_id"], ["users.id"], name=op.f("fk_course_session_tutor_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_course_session")),
        sa.UniqueConstraint("course_id", "number", name=op.f("uq_course_session_course_id_number")),
        sa.UniqueConstraint("room_id", name=op.f("uq_course_session_room_id")),
    )
    op.create_table(
        "refresh_token",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"], ["login_session.id"], name=op.f("fk_refresh_token_session_id"), ondelete="cascade"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_refresh_token")),
    )
    op.create_index(op.f("ix_refresh_token_session_id"), "refresh_token", ["session_id"], unique=False)
    op.create_table(
        "talk_stay",
        sa.Column("talk_id", sa.Uuid(), nullable=False),
        sa.Column("seat_generation", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["talk_id"], ["talk.id"], name=op.f("fk_talk_stay_talk_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_talk_stay_user_id")),
        sa.PrimaryKeyConstraint("talk_id", "seat_generation", name=op.f("pk_talk_stay")),
    )
    op.create_index(
        "ix_talk_stay_open",
        "talk_stay",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("left_at is null"),
    )
    op.create_index(op.f("ix_talk_stay_user_id_taken_at"), "talk_stay", ["user_id", "taken_at"], unique=False)
    op.create_table(
        "purchase",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("tutor_id", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("tutor_bps", sa.SmallInteger(), nullable=False),
        sa.Column("attribution", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'session') = (session_id is not null)", name=op.f("ck_purchase_session_fits_kind")
        ),
        sa.CheckConstraint(
            "(status = 'active') = (ended_at is null)", name=op.f("ck_purchase_ended_unless_active")
        ),
        sa.CheckConstraint(
            "kind = 'full_course' or status <> 'completed'", name=op.f("ck_purchase_session_life")
        ),
        sa.CheckConstraint(
            "kind = 'session' or status not in ('attended', 'missed')",
            name=op.f("ck_purchase_full_course_life"),
        ),
        sa.CheckConstraint("kind in ('full_course', 'session')", name=op.f("ck_purchase_kind_known")),
        sa.CheckConstraint(
            "status in ('active', 'attended', 'missed', 'completed', 'cancelled')",
            name=op.f("ck_purchase_status_known"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_purchase_amount_positive")),
        sa.CheckConstraint("student_id <> tutor_id", name=op.f("ck_purchase_two_people")),
        sa.CheckConstraint("tutor_bps between 0 and 10000", name=op.f("ck_purchase_bps_range")),
        sa.ForeignKeyConstraint(["course_id"], ["course.id"], name=op.f("fk_purchase_course_id")),
        sa.ForeignKeyConstraint(["session_id"], ["course_session.id"], name=op.f("fk_purchase_session_id")),
        sa.ForeignKeyConstraint(["student_id"], ["users.id"], name=op.f("fk_purchase_student_id")),
        sa.ForeignKeyConstraint(["tutor_id"], ["users.id"], name=op.f("fk_purchase_tutor_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purchase")),
    )
    op.create_index(
        op.f("ix_purchase_course_id_created_at"), "purchase", ["course_id", "created_at"], unique=False
    )
    op.create_index(
        op.f("ix_purchase_student_id_created_at"), "purchase", ["student_id", "created_at"], unique=False
    )
    op.create_index(
        "uq_purchase_live_course",
        "purchase",
        ["student_id", "course_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'full_course' and status = 'active'"),
    )
    op.create_index(
        "uq_purchase_live_session",
        "purchase",
        ["student_id", "session_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'session' and status <> 'cancelled'"),
    )
    op.create_table(
        "course_place",
        sa.Column("hold_id", sa.Uuid(), nullable=False),
        sa.Column("purchase_id", sa.Uuid(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("seat_no", sa.SmallInteger(), nullable=False),
        sa.Column("max_students", sa.SmallInteger(), nullable=False),
        sa.Column("live", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.CheckConstraint(
            "seat_no between 1 and max_students", name=op.f("ck_course_place_seat_within_maximum")
        ),
        sa.ForeignKeyConstraint(["course_id"], ["course.id"], name=op.f("fk_course_place_course_id")),
        sa.ForeignKeyConstraint(["hold_id"], ["hold.id"], name=op.f("fk_course_place_hold_id")),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchase.id"], name=op.f("fk_course_place_purchase_id")),
        sa.ForeignKeyConstraint(["student_id"], ["users.id"], name=op.f("fk_course_place_student_id")),
        sa.PrimaryKeyConstraint("hold_id", name=op.f("pk_course_place")),
    )
    op.create_index(op.f("ix_course_place_purchase_id"), "course_place", ["purchase_id"], unique=False)
    op.create_index(
        "uq_course_place_seat",
        "course_place",
        ["course_id", "number", "seat_no"],
        unique=True,
        postgresql_where=sa.text("live"),
    )
    op.create_index(
        "uq_course_place_student",
        "course_place",
        ["course_id", "number", "student_id"],
        unique=True,
        postgresql_where=sa.text("live"),
    )
    for statement in (KEEP_ARROWS, KEEP_FROZEN, *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    """Remove them, the last made first."""
    for table in TABLES:
        op.drop_table(table)
    op.execute("drop function keep_frozen()")
    op.execute("drop function keep_arrows()")
