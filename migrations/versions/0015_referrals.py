"""Referrals: codes of courses, which code somebody came by, and a referrer that is set once and never in a circle."""

from alembic import op

revision = "0015"
down_revision = "0014"

TABLES = (
    """
    create table referral_code (
      code text not null,
      owner_id uuid not null,
      course_id uuid not null,
      constraint pk_referral_code primary key (code),
      constraint uq_referral_code_course_id unique (course_id),
      constraint fk_referral_code_owner_id foreign key (owner_id) references users (id),
      constraint ck_referral_code_code_form check (code ~ '^COURSE_[0-9A-Z]{8}$')
    )
    """,
    "create index ix_referral_code_owner_id on referral_code (owner_id)",
    """
    insert into referral_code (code, owner_id, course_id)
    select 'COURSE_' || upper(substr(replace(gen_random_uuid()::text, '-', ''), 1, 8)), tutor_id, id from course
    """,
    """
    alter table users
      add column referred_code text,
      add constraint ck_users_code_has_referrer check (referred_code is null or referred_by is not null)
    """,
    """
    create index ix_users_referred_by on users (referred_by, created_at, id) where referred_by is not null
    """,
)

# A new account is in nobody's chain, so only a later change can close one. Two at once would not see each other.
KEEP = (
    """
    create function keep_referrer() returns trigger language plpgsql as $$
    declare
      above uuid := new.referred_by;
    begin
      if old.referred_by is not null then
        raise exception 'REFERRER_KEPT: a referrer never changes' using errcode = 'restrict_violation';
      end if;
      perform pg_advisory_xact_lock(hashtextextended('referrer', 0));
      while above is not null loop
        if above = new.id then
          raise exception 'REFERRER_CIRCLE: nobody refers themself' using errcode = 'restrict_violation';
        end if;
        select u.referred_by into above from users u where u.id = above;
      end loop;
      return new;
    end$$
    """,
    """
    create trigger keep_referrer before update of referred_by, referred_code on users for each row
      when ((new.referred_by, new.referred_code) is distinct from (old.referred_by, old.referred_code))
      execute function keep_referrer()
    """,
)


def upgrade() -> None:
    """Make the codes, for the courses that are there too."""
    for statement in (*TABLES, *KEEP):
        op.execute(statement)


def downgrade() -> None:
    """Remove them."""
    op.execute("drop trigger keep_referrer on users")
    op.execute("drop function keep_referrer()")
    op.execute("drop index ix_users_referred_by")
    op.drop_column("users", "referred_code")
    op.execute("drop table referral_code")
