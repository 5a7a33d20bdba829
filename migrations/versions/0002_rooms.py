"""Tables of the live rooms."""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = (
    """
    create table media_event (
      event_id text not null,
      room_id uuid,
      generation bigint,
      room_name text not null,
      room_sid text,
      type text not null,
      identity text,
      participant_sid text,
      counted boolean not null,
      created_at timestamptz not null,
      joined_at timestamptz,
      reason text,
      body jsonb not null,
      received_at timestamptz not null,
      recorded_at timestamptz default now() not null,
      read_at timestamptz,
      constraint pk_media_event primary key (event_id)
    )
    """,
    "create index ix_media_event_room_id_unread on media_event (room_id) where read_at is null",
    """
    create table room (
      id uuid not null,
      kind text not null,
      title text not null,
      epoch text not null,
      state text not null,
      cap bigint not null,
      seated bigint not null,
      owner text not null,
      host text,
      reason text,
      starts_at timestamptz,
      ends_at timestamptz,
      started_at timestamptz,
      closed_at timestamptz,
      created_at timestamptz not null,
      updated_at timestamptz not null,
      constraint pk_room primary key (id),
      constraint ck_room_seats check (cap > 0 AND seated BETWEEN 0 AND cap),
      constraint ck_room_window check (kind = 'talk' OR ends_at > starts_at),
      constraint ck_room_state check (state IN ('open', 'live', 'closing', 'closed'))
    )
    """,
    "create index ix_room_seated on room (id) where seated > 0",
    """
    create table room_dead_letter (
      id bigint generated always as identity,
      room_id uuid not null,
      message jsonb not null,
      error text not null,
      recorded_at timestamptz default now() not null,
      constraint pk_room_dead_letter primary key (id)
    )
    """,
    "create index ix_room_dead_letter_room_id on room_dead_letter (room_id)",
    """
    create table room_node (
      id uuid not null,
      address text not null,
      renewed_at timestamptz not null,
      expires_at timestamptz not null,
      constraint pk_room_node primary key (id)
    )
    """,
    """
    create table attendance (
      room_id uuid not null,
      identity text not null,
      attended_s bigint not null,
      required_s bigint not null,
      percent bigint not null,
      reached boolean not null,
      intervals jsonb not null,
      confidence text not null,
      constraint pk_attendance primary key (room_id, identity),
      constraint fk_attendance_room_id foreign key (room_id) references room (id)
    )
    """,
    """
    create table evidence (
      id bigint generated always as identity,
      room_id uuid not null,
      kind text not null,
      at timestamptz not null,
      identity text,
      session text not null,
      until timestamptz,
      generation bigint not null,
      source text not null,
      reason text,
      room_sid text,
      joined_at timestamptz,
      received_at timestamptz,
      ref text,
      recorded_at timestamptz default now() not null,
      constraint pk_evidence primary key (id),
      constraint uq_evidence_ref unique (ref),
      constraint ck_evidence_interval check (until is null or until >= at),
      constraint fk_evidence_room_id foreign key (room_id) references room (id)
    )
    """,
    "create index ix_evidence_room_id on evidence (room_id)",
    "create unique index ix_evidence_stay on evidence (room_id, identity, session) where kind = 'stay'",
    """
    create table room_ban (
      room_id uuid not null,
      identity text not null,
      constraint pk_room_ban primary key (room_id, identity),
      constraint fk_room_ban_room_id foreign key (room_id) references room (id)
    )
    """,
    """
    create table room_event (
      room_id uuid not null,
      seq bigint not null,
      "off" bigint,
      fence bigint not null,
      type text not null,
      data jsonb not null,
      at timestamptz not null,
      recorded_at timestamptz default now() not null,
      constraint pk_room_event primary key (room_id, seq),
      constraint fk_room_event_room_id foreign key (room_id) references room (id)
    )
    """,
    'create unique index ix_room_event_room_id_off on room_event (room_id, "off") where "off" is not null',
    """
    create table room_owner (
      room_id uuid not null,
      node_id uuid,
      fence bigint not null,
      released_at timestamptz,
      constraint pk_room_owner primary key (room_id),
      constraint fk_room_owner_room_id foreign key (room_id) references room (id),
      constraint fk_room_owner_node_id foreign key (node_id) references room_node (id)
    )
    """,
    "create index ix_room_owner_node_id on room_owner (node_id)",
    """
    create table room_seat (
      room_id uuid not null,
      seat_no bigint not null,
      identity text not null,
      cap bigint not null,
      constraint pk_room_seat primary key (room_id, seat_no),
      constraint uq_room_seat_room_id_identity unique (room_id, identity),
      constraint ck_room_seat_cap check (seat_no BETWEEN 1 AND cap),
      constraint fk_room_seat_room_id foreign key (room_id) references room (id)
    )
    """,
    """
    create table room_snapshot (
      room_id uuid not null,
      seq bigint not null,
      "off" bigint not null,
      version bigint not null,
      state bytea not null,
      constraint pk_room_snapshot primary key (room_id),
      constraint fk_room_snapshot_room_id foreign key (room_id) references room (id)
    )
    """,
    """
    create table room_timer (
      room_id uuid not null,
      name text not null,
      due_at timestamptz not null,
      clock text not null,
      constraint pk_room_timer primary key (room_id, name),
      constraint ck_room_timer_clock check (clock IN ('business', 'wall')),
      constraint fk_room_timer_room_id foreign key (room_id) references room (id)
    )
    """,
    "create index ix_room_timer_clock_due_at on room_timer (clock, due_at)",
)

# Those that refer to others come first.
DROPPED = (
    "room_timer",
    "room_snapshot",
    "room_seat",
    "room_owner",
    "room_event",
    "room_ban",
    "evidence",
    "attendance",
    "room_node",
    "room_dead_letter",
    "room",
    "media_event",
)


def upgrade() -> None:
    """Make the tables."""
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    """Remove them."""
    for table in DROPPED:
        op.execute(f"drop table {table}")
