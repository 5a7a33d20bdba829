"""Which hold a lesson went back from to its package, so that later evidence of that lesson finds it."""

from alembic import op

revision = "0019"
down_revision = "0018"

UP = (
    """
    create table package_return (
      lesson_id uuid not null,
      hold_id uuid not null,
      facts_version integer default 1 not null,
      returned_at timestamptz not null,
      constraint pk_package_return primary key (lesson_id, hold_id),
      constraint fk_package_return_hold_id foreign key (hold_id) references hold (id),
      constraint fk_package_return_lesson_id_facts_version
        foreign key (lesson_id, facts_version) references lesson_facts (lesson_id, version),
      constraint ck_package_return_first_version check (facts_version = 1)
    )
    """,
    """
    create trigger append_only before update or delete on package_return
      for each row execute function append_only()
    """,
    """
    create trigger never_truncated before truncate on package_return
      for each statement execute function append_only()
    """,
    # Whoever was given another lesson may be in review for both.
    "alter table hold_review drop constraint pk_hold_review",
    "alter table hold_review add constraint pk_hold_review primary key (hold_id, lesson_id)",
)

DOWN = (
    """
    delete from hold_review r using package_return b
    where b.hold_id = r.hold_id and b.lesson_id = r.lesson_id
    """,
    "drop table package_return",
    "alter table hold_review drop constraint pk_hold_review",
    "alter table hold_review add constraint pk_hold_review primary key (hold_id)",
)


def upgrade() -> None:
    """Make the table, and let a hold be in review for each of its lessons."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Forget the returns, and what is in review for them."""
    for statement in DOWN:
        op.execute(statement)
