"""Mail over SMTP, against a server that speaks it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from server.config import ConfigError, MailSettings, Smtp, from_env
from server.integrations.email import Mail, Mailer, MailError, MailRefusedError

MAIL = Mail(
    id="account-7-1", to="ann@example.org", subject="Chào bạn", text="Xin chào.\n", html="<p>Xin chào.</p>"
)


class Inbox:
    """What a server does with what it is handed."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.answer = "250 OK"

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self.answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.taken.append(envelope)
        return "250 OK"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def smtp(inbox: Inbox) -> AsyncIterator[Smtp]:
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(inbox, hostname="talk.example", enable_SMTPUTF8=True), "127.0.0.1", 0
    )
    async with server:
        yield Smtp("127.0.0.1", server.sockets[0].getsockname()[1], None, None, is_tls=False)


def mailer(smtp: Smtp, folder: Path) -> Mailer:
    settings = MailSettings(smtp, "fourtalk <no-reply@talk.example>")
    return Mailer(settings, folder=folder, wall=lambda: datetime(2030, 1, 7, 12, tzinfo=UTC))


async def test_mail_arrives_as_text_and_html(smtp: Smtp, inbox: Inbox, tmp_path: Path) -> None:
    await mailer(smtp, tmp_path / "mails").send(MAIL)

    [envelope] = inbox.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@talk.example", ["ann@example.org"])
    assert isinstance(envelope.content, bytes)
    arrived = message_from_bytes(envelope.content, policy=default)
    assert (arrived["From"], arrived["Subject"]) == ("fourtalk <no-reply@talk.example>", "Chào bạn")
    assert (arrived["Message-ID"], arrived["Auto-Submitted"]) == (
        "<account-7-1@talk.example>",
        "auto-generated",
    )
    bodies = {part.get_content_type(): part.get_content() for part in arrived.iter_parts()}
    assert {kind: body.strip() for kind, body in bodies.items()} == {
        "text/plain": "Xin chào.",
        "text/html": "<p>Xin chào.</p>",
    }
    assert not (tmp_path / "mails").exists()


@pytest.mark.parametrize(
    ("answer", "error"), [("550 no such mailbox", MailRefusedError), ("450 later", MailError)]
)
async def test_no_of_a_server_is_final_or_for_now_and_names_nobody(
    smtp: Smtp, inbox: Inbox, tmp_path: Path, answer: str, error: type[MailError]
) -> None:
    inbox.answer = answer

    with pytest.raises(MailError) as refused:
        await mailer(smtp, tmp_path).send(MAIL)

    assert type(refused.value) is error
    assert "example.org" not in str(refused.value)


async def test_password_is_not_sent_over_an_open_line(smtp: Smtp, inbox: Inbox, tmp_path: Path) -> None:
    with_password = Smtp(smtp.host, smtp.port, "user", "password", is_tls=False)

    with pytest.raises(MailError):
        await mailer(with_password, tmp_path).send(MAIL)

    assert inbox.taken == []


async def test_server_that_is_away_is_told_as_such(smtp: Smtp, tmp_path: Path) -> None:
    away = Smtp("127.0.0.1", 1, None, None, is_tls=False)

    with pytest.raises(MailError):
        await mailer(away, tmp_path).send(MAIL)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", Smtp("mail.example", 587, None, None, is_tls=False)),
        ("smtps://u:p%40ss@mail.example", Smtp("mail.example", 465, "u", "p@ss", is_tls=True)),
        ("smtp://mail.example:2525", Smtp("mail.example", 2525, None, None, is_tls=False)),
    ],
)
def test_server_is_named_by_one_variable(tmp_path: Path, url: str, expected: Smtp) -> None:
    env = {"SMTP_URL": url, "MAIL_FROM": "fourtalk <a@b.example>"}

    assert from_env(env, data_dir=tmp_path).mail.smtp == expected


@pytest.mark.parametrize(
    "env",
    [
        {"SMTP_URL": "smtp://mail.example"},
        {"SMTP_URL": "http://mail.example", "MAIL_FROM": "a@b.example"},
        {"SMTP_URL": "smtp://user@mail.example", "MAIL_FROM": "a@b.example"},
        {"SMTP_URL": "smtp://user:secret/s@mail.example", "MAIL_FROM": "a@b.example"},
        {"SMTP_URL": "smtp://user:1/s@mail.example", "MAIL_FROM": "a@b.example"},
        {"SMTP_URL": "smtp://mail.example", "MAIL_FROM": "nobody"},
    ],
)
def test_half_a_mail_server_stops_the_start(tmp_path: Path, env: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"SMTP_URL|MAIL_FROM"):
        from_env(env, data_dir=tmp_path)
