"""The checks that join rooms, courses, money and people, and what is said of all checks together."""

from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text

from billing.checks import ROWS_MOST, Proof
from server import checks, cli
from server.clock import Clock
from tests.server.stage import Stage
from tests.server.test_talks import TALK


class World(msgspec.Struct, frozen=True):
    """A lesson was sold and then cancelled by an administrator; its student had opened a talk and closed it."""

    stage: Stage
    student: UUID
    admin: UUID
    talk: UUID
    session: UUID
    purchase: UUID
    hold: UUID


class Fault(msgspec.Struct, frozen=True):
    """What is planted, and which thing of the world the violation names."""

    statement: str
    names: str


FAULTS = {
    "channel_head": Fault(
        "update channel_head set off = off + 1 where channel = 'user:{student}'", "student"
    ),
    "channel_is_whole": Fault(
        "delete from publication where channel = 'user:{student}' and off = 2", "student"
    ),
    "parked_event": Fault(
        "insert into relay_failure (outbox_id, tries, error) values (7, 10, 'hold {hold} is odd')", "hold"
    ),
    "job_given_up": Fault(
        "insert into job (kind, key, payload, run_at, error, dead_at) values ('x', '{hold}', '{{}}', now(), 'x', now())",
        "hold",
    ),
    "key_has_answer": Fault(
        "insert into idempotency (user_id, key, digest) values ('{student}', 'key', '')", "student"
    ),
    "admin_is_audited": Fault("delete from audit_log where action = 'wallet.adjust'", "admin"),
    "talk_follows_room": Fault("update talk set closed_at = null where id = '{talk}'", "talk"),
    "session_follows_room": Fault(
        "update course_session set starts_at = starts_at + interval '1 minute' where id = '{session}'",
        "session",
    ),
    "purchase_follows_hold": Fault(
        "update purchase set status = 'missed' where id = '{purchase}'", "purchase"
    ),
    "purchase_is_told": Fault(
        "delete from notification where user_id = '{student}' and type = 'purchase_confirmed'", "purchase"
    ),
    "settlement_is_told": Fault(
        "delete from notification where user_id = '{student}' and type = 'refund_processed'", "hold"
    ),
}


@pytest.fixture
async def world(stage: Stage) -> World:
    sold = await stage.sell_lesson()
    [student] = sold.students
    await stage.do(
        "course.session.cancel",
        sold.admin,
        course_id=sold.course["id"],
        session_id=sold.session["id"],
        reason="the tutor is ill",
    )
    talk = await stage.do("talk.create", student, **TALK)
    await stage.do("talk.close", student, talk_id=talk["id"])
    await stage.relay.flush()
    [purchase] = (await stage.do("purchase.list", student))["items"]
    return World(
        stage,
        student=student.user_id,
        admin=sold.admin.user_id,
        talk=UUID(talk["id"]),
        session=UUID(sold.session["id"]),
        purchase=UUID(purchase["id"]),
        hold=UUID(sold.holds[student.user_id]),
    )


async def prove(stage: Stage) -> Proof:
    async with stage.parts.sessions() as session:
        return await checks.prove(session, every_room=True)


async def plant(stage: Stage, statement: str) -> None:
    """Write a fault; neither triggers nor foreign keys see it."""
    async with stage.parts.sessions.begin() as session:
        await session.execute(text("set local session_replication_role = replica"))
        await session.execute(text(statement))


def test_every_check_has_its_fault() -> None:
    assert [check.name for check in checks.CHECKS] == list(FAULTS)


def test_no_two_checks_have_the_same_name() -> None:
    names = [check.name for check in checks.TABLE]

    assert len(names) == len(set(names))


async def test_a_good_world_proves_everything(world: World) -> None:
    proof = await prove(world.stage)

    assert (proof.ok, proof.ledger_sum, proof.violations) == (True, {"USD": 0}, [])
    assert proof.transfers > 0
    assert proof.parts_ms.keys() == {check.name for check in checks.TABLE} | {"rooms_retrace", "seals_match"}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_planted_fault_is_found_and_named(world: World, name: str) -> None:
    fault = FAULTS[name]

    await plant(world.stage, fault.statement.format_map(msgspec.structs.asdict(world)))
    proof = await prove(world.stage)

    assert (proof.ok, [violation.name for violation in proof.violations]) == (False, [name])
    [violation] = proof.violations
    assert str(getattr(world, fault.names)) in repr(violation.rows)
    assert 1 <= len(violation.rows) <= ROWS_MOST


async def test_what_has_an_event_on_its_way_is_no_violation(stage: Stage) -> None:
    await stage.sell_lesson()
    [host] = await stage.people(1)
    talk = await stage.do("talk.create", host, **TALK)
    await stage.do("talk.close", host, talk_id=talk["id"])

    before = await prove(stage)
    await stage.relay.flush()
    after = await prove(stage)

    assert (before.violations, after.violations) == ([], [])


async def test_what_the_purge_took_is_not_missed(world: World, clock: Clock) -> None:
    await plant(world.stage, "delete from notification")
    await plant(
        world.stage,
        "insert into job (kind, key, payload, run_at, every, last_run_at)"
        " select 'purge_notifications', 'periodic', '{}', at, interval '1 day', at from (select now() + interval '91 days' as at) later",
    )

    assert (await prove(world.stage)).ok


async def test_money_that_was_made_is_said_in_the_sum(world: World) -> None:
    await plant(
        world.stage, "update ledger_account set balance = balance + 5 where kind = 'platform_expense'"
    )

    proof = await prove(world.stage)

    assert proof.ledger_sum == {"USD": 5}
    assert {violation.name for violation in proof.violations} == {"ledger_sum", "account_drift"}


async def test_checking_writes_nothing(stage: Stage) -> None:
    async with stage.parts.sessions() as session:
        await checks.run(session)
        settings = await session.execute(
            text("select current_setting('transaction_read_only'), current_setting('transaction_isolation')")
        )

        assert settings.one() == ("on", "repeatable read")


def test_the_command_says_the_sum_and_each_violation(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    codes = cli.main(["check"]), cli.main(["check", "--json"])

    human, _, machine = capsys.readouterr().out.rstrip().rpartition("\n")
    assert codes == (0, 0)
    assert human.startswith("the ledger's sum is 0.00 USD\n0 transfers in ")
    assert human.endswith("\nevery invariant holds")
    found = msgspec.json.decode(machine)
    assert (found["ok"], found["ledger_sum"], found["violations"]) == (True, {"USD": 0}, [])
