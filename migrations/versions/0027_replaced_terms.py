"""Terms that have not begun can be replaced by newer ones that begin before them.

A migration of its own: together with 0026 it would lock `lesson_facts` and `policy` in another order than a lesson's end does.
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"

IN_ORDER = """
create or replace function policy_in_order() returns trigger language plpgsql as $$
begin
  if __NOT_REPLACED__exists (
    select from policy p where p.version < new.version and p.effective_from > new.effective_from
  ) then
    raise exception 'POLICY_ORDER: an earlier version comes into force later' using errcode = 'restrict_violation';
  end if;
  return new;
end$$
"""


def upgrade() -> None:
    """Let only what says so come into force before an earlier version."""
    op.execute("alter table policy add column replaces_planned boolean not null default false")
    op.execute(IN_ORDER.replace("__NOT_REPLACED__", "not new.replaces_planned and "))


def downgrade() -> None:
    """Keep the order of versions, where nothing was replaced: before, those would come into force after all."""
    if op.get_bind().scalar(sa.text("select exists (select from policy where replaces_planned)")):
        raise RuntimeError(
            "terms were replaced before they began; an older version would bring them into force"
        )
    op.execute(IN_ORDER.replace("__NOT_REPLACED__", ""))
    op.execute("alter table policy drop column replaces_planned")
