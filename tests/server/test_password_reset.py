"""A forgotten password: a link by mail that opens the account once, and an answer that tells nothing."""

import email
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from email.policy import default
from pathlib import Path
from typing import Any, Literal, cast

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import delete, func, select, update

from billing import jobs as queue
from billing.errors import LeaseLostError
from billing.models import JobRow
from server import jobs, mails, texts
from server.config import MailSettings
from server.context import Role
from server.features.accounts import password_reset, passwords
from server.features.accounts.models import PasswordReset, User
from server.features.accounts.registration import NewUser, add_user
from server.gateway.metrics import Metrics
from server.http.limits import rules_of
from server.integrations.email import Mail, Mailer, MailError, MailRefusedError
from server.job import Means
from server.runner import Runner
from tests.server.world import PASSWORD, World

NEW = "Better-horse-8"
ANN = "ann@example.org"
KINDS: tuple[Literal["password_reset", "password_changed"], ...] = ("password_reset", "password_changed")


class Postman(Mailer):
    """Keeps what is sent; a test may have it fail first."""

    def __init__(self) -> None:
        self.sent: list[Mail] = []
        self.trouble: Exception | None = None
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def send(self, mail: Mail) -> None:
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise trouble
        self.sent.append(mail)


@pytest.fixture
def database_url(module_database: str) -> str:
    return module_database


@pytest.fixture
def postman() -> Postman:
    return Postman()


def runner(world: World, mailer: Mailer) -> Runner:
    table = jobs.of_mail(mailer, "https://talk.example")
    means = Means(world.parts.sessions, cast(Any, None))
    return Runner(
        means,
        table,
        clock=world.parts.clock,
        metrics=Metrics(CollectorRegistry()),
        draw=lambda: 0.0,
    )


async def ask(world: World, step: str, **body: str) -> httpx.Response:
    return await world.client.post(f"/api/v1/auth/password/{step}", json=body)


async def link_of(world: World, postman: Postman, address: str = ANN) -> str:
    """Return the secret of a new link."""
    await ask(world, "reset-request", email=address)
    await runner(world, postman).run_due()
    found = re.search(r"https://talk\.example/reset#(\S+)", postman.sent[-1].text)
    assert found is not None
    return found[1]


async def count(world: World, table: type[Any]) -> int:
    async with world.parts.sessions() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def jobs_waiting(world: World) -> int:
    return await count(world, JobRow)


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def fresh(world: World, *, locale: str = "en", first_name: str = "Ann") -> None:
    """Make Ann's account; nothing is left of what an earlier test of this database did."""
    new = NewUser(
        email=ANN,
        # Hashed once: it is meant to be expensive.
        password_hash=await _hash(),
        first_name=first_name,
        last_name="Lee",
        role=Role.STUDENT,
        locale=locale,
    )
    async with world.parts.sessions.begin() as session:
        await session.execute(
            update(User).where(User.email == ANN).values(email=func.concat(User.id, "@gone.invalid"))
        )
        await session.execute(delete(JobRow))
        await session.execute(delete(PasswordReset))
        await add_user(session, new, now=world.parts.clock.now())


_hashes: list[str] = []


async def _hash() -> str:
    if not _hashes:
        _hashes.append(await passwords.hash_password(PASSWORD))
    return _hashes[0]


async def test_link_sets_a_new_password_and_ends_every_session(world: World, postman: Postman) -> None:
    await fresh(world)
    before = (await world.log_in()).json()
    token = await link_of(world, postman)

    holds = await ask(world, "verify-token", token=token)
    answer = await ask(world, "reset-confirm", token=token, password=NEW)

    assert 0 < holds.json()["expires_in_s"] <= 3600
    assert (answer.status_code, answer.json()) == (200, {})
    assert code_of(await world.log_in()) == (401, "login_failed")
    assert (await world.log_in(password=NEW)).status_code == 200
    again = await world.client.post("/api/v1/auth/refresh", json={"refresh_token": before["refresh_token"]})
    assert code_of(again) == (401, "unauthorized")
    await runner(world, postman).run_due()
    assert [mail.subject for mail in postman.sent] == ["Set a new password", "Your password was changed"]


async def test_link_works_once_and_takes_every_other_with_it(world: World, postman: Postman) -> None:
    await fresh(world)
    first, second = await link_of(world, postman), await link_of(world, postman)

    assert (await ask(world, "reset-confirm", token=second, password=NEW)).status_code == 200

    for token in (second, first, "unknown"):
        for step, more in (("verify-token", {}), ("reset-confirm", {"password": NEW})):
            refused = await ask(world, step, token=token, **more)
            assert code_of(refused) == (400, "reset_link_invalid")


async def test_link_holds_for_an_hour(world: World, postman: Postman) -> None:
    await fresh(world)
    token = await link_of(world, postman)
    async with world.parts.sessions.begin() as session:
        await session.execute(update(PasswordReset).values(expires_at=world.parts.clock.wall()))

    refused = await ask(world, "verify-token", token=token)

    assert timedelta(hours=1) == password_reset.TTL
    assert code_of(refused) == (400, "reset_link_invalid")


async def test_password_changed_in_the_settings_ends_links_and_those_that_are_on_their_way(
    world: World, postman: Postman
) -> None:
    await fresh(world)
    token = await link_of(world, postman)
    await ask(world, "reset-request", email=ANN)
    access = (await world.log_in()).json()["access_token"]
    body = {"current_password": PASSWORD, "password": NEW}

    changed = await world.client.patch("/api/v1/me", json=body, headers={"Authorization": f"Bearer {access}"})

    assert changed.status_code == 200
    assert code_of(await ask(world, "verify-token", token=token)) == (400, "reset_link_invalid")
    await runner(world, postman).run_due()
    assert [mail.subject for mail in postman.sent] == ["Set a new password", "Your password was changed"]


async def test_a_link_that_is_being_written_while_the_password_changes_is_not_sent(
    world: World, postman: Postman
) -> None:
    await fresh(world)
    token = await link_of(world, postman)
    await ask(world, "reset-request", email=ANN)
    wall = world.parts.clock.wall()
    async with world.parts.sessions.begin() as session:
        due = [((password_reset.JOB,), wall)]
        [claim] = await queue.claim(session, due, limit=1, lease=timedelta(minutes=1))

    assert (await ask(world, "reset-confirm", token=token, password=NEW)).status_code == 200

    with pytest.raises(LeaseLostError):
        await password_reset.send_letter(
            world.parts.sessions, postman, claim, public_url="https://talk.example", wall=wall
        )
    assert len(postman.sent) == 1
    assert await count(world, PasswordReset) == 0


async def test_answer_and_work_are_the_same_for_an_address_without_account(
    world: World, postman: Postman
) -> None:
    await fresh(world)
    known = await ask(world, "reset-request", email=ANN)
    after_known = await jobs_waiting(world)

    unknown = await ask(world, "reset-request", email="nobody@example.org")

    assert (known.status_code, known.content) == (unknown.status_code, unknown.content) == (200, b"{}")
    assert await jobs_waiting(world) == after_known + 1
    await runner(world, postman).run_due()
    assert [mail.to for mail in postman.sent] == [ANN]


async def test_blocked_people_get_no_link_and_cannot_use_one(world: World, postman: Postman) -> None:
    await fresh(world)
    token = await link_of(world, postman)
    async with world.parts.sessions.begin() as session:
        await session.execute(
            update(User).where(User.email == ANN).values(blocked_at=world.parts.clock.wall())
        )
    await ask(world, "reset-request", email=ANN)

    await runner(world, postman).run_due()

    assert len(postman.sent) == 1
    refused = await ask(world, "reset-confirm", token=token, password=NEW)
    assert code_of(refused) == (400, "reset_link_invalid")


async def test_secret_of_a_link_is_stored_nowhere(world: World, postman: Postman) -> None:
    await fresh(world)
    token = await link_of(world, postman)

    async with world.parts.sessions() as session:
        digests = (await session.scalars(select(PasswordReset.digest))).all()

    assert token.encode() not in digests
    assert await jobs_waiting(world) == 0


async def test_mail_that_was_not_taken_is_sent_by_a_later_try(world: World, postman: Postman) -> None:
    await fresh(world)
    tried: list[object] = []

    async def look() -> None:
        async with world.parts.sessions() as session:
            tried.append(await session.scalar(select(JobRow.tries)))

    postman.meanwhile, postman.trouble = look, ConnectionRefusedError()
    await ask(world, "reset-request", email=ANN)

    await runner(world, postman).run_due()

    assert tried == [1, 2]
    assert len(postman.sent) == 1
    assert await jobs_waiting(world) == 0


async def test_link_that_nobody_waits_for_is_not_sent_but_a_warning_is(
    world: World, postman: Postman
) -> None:
    await fresh(world)
    wall = world.parts.clock.wall()
    async with world.parts.sessions.begin() as session:
        for kind in KINDS:
            letter = password_reset.Letter(kind, ANN, wall - password_reset.TTL - timedelta(seconds=1))
            await queue.enqueue(session, password_reset.JOB, letter, key=kind, run_at=wall)

    await runner(world, postman).run_due()

    assert [mail.subject for mail in postman.sent] == ["Your password was changed"]


async def test_mail_for_no_mailbox_is_given_up_at_once(world: World, postman: Postman) -> None:
    await fresh(world)
    postman.trouble = MailRefusedError("550")
    await ask(world, "reset-request", email=ANN)

    await runner(world, postman).run_due()

    assert (postman.sent, await jobs_waiting(world)) == ([], 0)


async def test_nobody_fills_a_mailbox(world: World, postman: Postman) -> None:
    await fresh(world)

    for _ in range(password_reset.LINKS_MOST + 2):
        await ask(world, "reset-request", email=ANN)
        await runner(world, postman).run_due()

    assert len(postman.sent) == password_reset.LINKS_MOST


async def test_mail_that_nobody_took_has_no_link_that_counts(world: World, postman: Postman) -> None:
    async def is_down() -> None:
        raise MailError("451")

    await fresh(world)
    postman.meanwhile = is_down
    for _ in range(password_reset.LINKS_MOST + 2):
        await ask(world, "reset-request", email=ANN)
        await runner(world, postman).run_due()

    assert await count(world, PasswordReset) == 0
    postman.meanwhile = None
    await link_of(world, postman)


async def test_weak_password_is_refused_and_leaves_the_link(world: World, postman: Postman) -> None:
    await fresh(world)
    token = await link_of(world, postman)

    refused = await ask(world, "reset-confirm", token=token, password="weakweak")

    assert [error["field"] for error in refused.json()["errors"]] == ["password"]
    assert (await ask(world, "verify-token", token=token)).status_code == 200


async def test_mail_is_in_the_readers_language(world: World, postman: Postman) -> None:
    await fresh(world, locale="vi", first_name="See https://evil.example")

    token = await link_of(world, postman)

    [mail] = postman.sent
    assert mail.subject == "Đặt mật khẩu mới"
    assert "evil.example" not in mail.text + mail.html, "a stranger may have registered with this address"
    assert f'<a href="https://talk.example/reset#{token}"' in mail.html


async def test_without_a_server_mail_is_written_down_and_says_so(tmp_path: Path) -> None:
    def wall() -> datetime:
        return datetime(2030, 1, 7, 12).astimezone()

    mailer = Mailer(MailSettings(None, "fourtalk <nobody@localhost>"), folder=tmp_path / "mails", wall=wall)

    await mailer.send(
        mails.write("password_reset", "en", id="one", to="a,b@example.org", link="https://x/reset#t")
    )

    [path] = (tmp_path / "mails").iterdir()
    written = email.message_from_bytes(path.read_bytes(), policy=default)
    assert "SMTP_URL is not set" in written["X-Not-Sent"]
    assert (str(written["To"]), written["Subject"]) == ('"a,b"@example.org', "Set a new password")
    assert [part.get_content_type() for part in written.walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]
    assert path.stat().st_mode & 0o077 == 0


def test_requests_and_uses_of_links_are_limited() -> None:
    asked, used = (
        rules_of(f"/api/v1/auth/password/{step}")[0] for step in ("reset-request", "reset-confirm")
    )

    assert (asked.requests, asked.window_s) == (3, 60)
    assert (used.requests, used.window_s) == (10, 60)


@pytest.mark.parametrize("letter", sorted(texts.MAILS))
def test_letters_have_their_link_and_the_same_facts_in_every_language(letter: str) -> None:
    facts = {
        locale: sorted(re.findall(r"\{\w+\}", msgspec.json.encode(one).decode()))
        for locale, one in texts.MAILS[letter]._asdict().items()
    }

    assert facts["en"] == facts["vi"]
    assert all(mails.LINK in one.body.split("\n\n") for one in texts.MAILS[letter])
