"""Bookings, tutors' strikes, and one place for the time in which tutors teach, whatever they teach."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0028"
down_revision = "0027"

# The row of a live lesson keeps its tutor's time; an exclusion constraint there sees all kinds of lessons together.
KEEP_TUTOR_TIME = """
create or replace function keep_tutor_time() returns trigger language plpgsql as $$
begin
  if new.status = any (tg_argv) then
    insert into tutor_time (source_id, tutor_id, starts_at, ends_at)
    values (new.id, new.tutor_id, new.starts_at, new.ends_at)
    on conflict (source_id) do update
      set tutor_id = excluded.tutor_id, starts_at = excluded.starts_at, ends_at = excluded.ends_at;
  else
    delete from tutor_time where source_id = new.id;
  end if;
  return null;
end $$
"""

TRIGGERS = (
    """
    create trigger keep_tutor_time after insert or update of status, tutor_id, starts_at, ends_at on course_session
      for each row execute function keep_tutor_time('scheduled', 'in_progress')
    """,
    """
    create trigger keep_tutor_time after insert or update of status, tutor_id, starts_at, ends_at on booking
      for each row execute function keep_tutor_time('requested', 'scheduled', 'active')
    """,
    """
    create trigger keep_arrows before update of status on booking for each row execute function
      keep_arrows('requested>scheduled', 'requested>cancelled', 'requested>expired', 'scheduled>active',
        'scheduled>cancelled', 'active>ended', 'active>cancelled')
    """,
    """
    create trigger keep_frozen before update of id, student_id, tutor_id, package_id, hourly_rate, price, currency,
      policy_version, starts_at, ends_at, requested_at on booking for each row execute function keep_frozen()
    """,
)

FILL = """
insert into tutor_time (source_id, tutor_id, starts_at, ends_at)
select id, tutor_id, starts_at, ends_at from course_session where status in ('scheduled', 'in_progress')
"""


def upgrade() -> None:
    """Make the tables; what is announced already keeps its tutor's time."""
    op.create_table(
        "tutor_time",
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("tutor_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        postgresql.ExcludeConstraint(
            (sa.text("tutor_id"), "="),
            (sa.text("tstzrange(starts_at, ends_at)"), "&&"),
            using="gist",
            name="ex_tutor_time_tutor_id",
        ),
        sa.ForeignKeyConstraint(["tutor_id"], ["users.id"], name=op.f("fk_tutor_time_tutor_id")),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_tutor_time")),
    )
    op.create_table(
        "booking",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("tutor_id", sa.Uuid(), nullable=False),
        sa.Column("package_id", sa.Uuid(), nullable=True),
        sa.Column("hourly_rate", sa.BigInteger(), nullable=True),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("student_timezone", sa.Text(), nullable=False),
        sa.Column("tutor_timezone", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("cancelled_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        postgresql.ExcludeConstraint(
            (sa.text("student_id"), "="),
            (sa.text("tstzrange(starts_at, ends_at)"), "&&"),
            where=sa.text("status in ('requested', 'scheduled', 'active')"),
            using="gist",
            name="ex_booking_student_id",
        ),
        sa.CheckConstraint(
            "status in ('requested', 'scheduled', 'active', 'ended', 'cancelled', 'expired')",
            name=op.f("ck_booking_status_known"),
        ),
        sa.CheckConstraint(
            "outcome in ('completed', 'not_held', 'no_show_student', 'no_show_tutor')",
            name=op.f("ck_booking_outcome_known"),
        ),
        sa.CheckConstraint(
            "cancelled_by in ('student', 'tutor', 'admin', 'system')",
            name=op.f("ck_booking_cancelled_by_known"),
        ),
        sa.CheckConstraint(
            "(status in ('ended', 'cancelled', 'expired')) = (outcome is not null and ended_at is not null)",
            name=op.f("ck_booking_over_has_outcome"),
        ),
        sa.CheckConstraint("status = 'ended' or outcome = 'not_held'", name=op.f("ck_booking_held_if_ended")),
        sa.CheckConstraint(
            "case when status in ('scheduled', 'active', 'ended') then accepted_at is not null"
            " when status in ('requested', 'expired') then accepted_at is null else true end",
            name=op.f("ck_booking_agreed_if_held"),
        ),
        sa.CheckConstraint(
            "(status = 'cancelled') = (cancelled_by is not null)",
            name=op.f("ck_booking_cancelled_by_somebody"),
        ),
        sa.CheckConstraint(
            "(package_id is null) = (hourly_rate is not null)", name=op.f("ck_booking_paid_one_way")
        ),
        sa.CheckConstraint(
            "(package_id is null) = (price > 0) and price >= 0", name=op.f("ck_booking_price_fits_way")
        ),
        sa.CheckConstraint("student_id <> tutor_id", name=op.f("ck_booking_two_people")),
        sa.CheckConstraint(
            "ends_at - starts_at between interval '1 minute' and interval '600 minutes'",
            name=op.f("ck_booking_duration_range"),
        ),
        sa.CheckConstraint(
            "answer_by > requested_at and answer_by <= starts_at", name=op.f("ck_booking_answer_before_start")
        ),
        sa.CheckConstraint("length(topic) <= 255", name=op.f("ck_booking_topic_length")),
        sa.CheckConstraint("length(notes) <= 2000", name=op.f("ck_booking_notes_length")),
        sa.CheckConstraint("version > 0", name=op.f("ck_booking_version_positive")),
        sa.ForeignKeyConstraint(["student_id"], ["users.id"], name=op.f("fk_booking_student_id")),
        sa.ForeignKeyConstraint(["tutor_id"], ["users.id"], name=op.f("fk_booking_tutor_id")),
        sa.ForeignKeyConstraint(["package_id"], ["package.id"], name=op.f("fk_booking_package_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_booking")),
    )
    op.create_index(op.f("ix_booking_package_id"), "booking", ["package_id"])
    op.create_index(op.f("ix_booking_student_id_starts_at_id"), "booking", ["student_id", "starts_at", "id"])
    op.create_index(op.f("ix_booking_tutor_id_starts_at_id"), "booking", ["tutor_id", "starts_at", "id"])
    op.create_index(op.f("ix_booking_starts_at_id"), "booking", ["starts_at", "id"])
    op.create_table(
        "tutor_strike",
        sa.Column("booking_id", sa.Uuid(), nullable=False),
        sa.Column("tutor_id", sa.Uuid(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("cause in ('no_show', 'late_cancel')", name=op.f("ck_tutor_strike_cause_known")),
        sa.ForeignKeyConstraint(["booking_id"], ["booking.id"], name=op.f("fk_tutor_strike_booking_id")),
        sa.ForeignKeyConstraint(["tutor_id"], ["users.id"], name=op.f("fk_tutor_strike_tutor_id")),
        sa.PrimaryKeyConstraint("booking_id", name=op.f("pk_tutor_strike")),
    )
    op.create_index(op.f("ix_tutor_strike_tutor_id_at"), "tutor_strike", ["tutor_id", "at"])
    # Nobody announces a session between the copy and the triggers; a constraint goes below, which needs the table alone.
    op.execute("lock table course_session in access exclusive mode")
    op.execute(FILL)
    op.execute(KEEP_TUTOR_TIME)
    for trigger in TRIGGERS:
        op.execute(trigger)
    op.drop_constraint("ex_course_session_tutor_id", "course_session")


def downgrade() -> None:
    """Remove them; money that bookings hold would have no owner, so there must be none."""
    op.execute("lock table course_session, booking in access exclusive mode")
    if op.get_bind().scalar(sa.text("select exists (select from booking)")):
        raise RuntimeError("there are bookings, and an older version knows nothing of them")
    op.execute(
        "alter table course_session add constraint ex_course_session_tutor_id exclude using gist"
        " (tutor_id with =, tstzrange(starts_at, ends_at) with &&) where (status in ('scheduled', 'in_progress'))"
    )
    op.execute("drop trigger keep_tutor_time on course_session")
    op.drop_table("tutor_strike")
    op.drop_table("booking")
    op.execute("drop function keep_tutor_time()")
    op.drop_table("tutor_time")
