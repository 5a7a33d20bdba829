"""Sends mail: by SMTP, or where none is configured into a folder, to be read there. The only importer of aiosmtplib."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as MAIL_POLICY
from email.utils import format_datetime, parseaddr
from pathlib import Path

import aiosmtplib
import msgspec
import structlog

from server.config import MailSettings, Smtp

log = structlog.get_logger()

# RFC 5321 4.5.3.2 would have us wait for minutes at each step. A server that takes that long is no help to somebody who
# waits for the link; the job comes back, and a place among the runner's eight is free meanwhile.
TIMEOUT_S = 20.0
# RFC 5321 4.2.1: from here on the answer is final.
FINAL = 500


class MailError(Exception):
    """The mail was not taken this time; its words name nobody."""


class MailRefusedError(MailError):
    """The mail will never be taken: there is no such mailbox."""


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """One mail to one person, as text and as HTML."""

    id: str
    """The same at each try, so that a server may notice a repetition."""
    to: str
    subject: str
    text: str
    html: str


class Mailer:
    """Sends from one address.

    Args:
        settings: By which server, and from whom.
        folder: Where mail goes that no server takes.
        wall: The wall clock.
    """

    def __init__(self, settings: MailSettings, *, folder: Path, wall: Callable[[], datetime]) -> None:
        name, address = parseaddr(settings.sender)
        self._smtp = settings.smtp
        self._sender = _address(address, name)
        self._folder = folder
        self._wall = wall

    async def send(self, mail: Mail) -> None:
        """Hand a mail over, or write it where somebody can read it.

        Raises:
            MailRefusedError: The server says that it will never take it.
            MailError: It did not take it this time.
        """
        message = self._message(mail)
        if self._smtp is None:
            path = self._folder / f"{self._wall():%Y%m%dT%H%M%S}-{mail.id}.eml"
            message["X-Not-Sent"] = "SMTP_URL is not set, so this mail was only written down"
            await asyncio.to_thread(_write, path, message.as_bytes(policy=MAIL_POLICY))
            log.warning("mail_written_not_sent", path=str(path))
            return
        await self._deliver(self._smtp, message, _address(mail.to).addr_spec)
        log.info("mail_sent", mail=mail.id)

    async def _deliver(self, smtp: Smtp, message: EmailMessage, to: str) -> None:
        try:
            # The library's own limit is of each step.
            async with asyncio.timeout(TIMEOUT_S):
                await aiosmtplib.send(
                    message,
                    sender=self._sender.addr_spec,
                    recipients=[to],
                    hostname=smtp.host,
                    port=smtp.port,
                    username=smtp.username,
                    password=smtp.password,
                    use_tls=smtp.is_tls,
                    # A password goes over no open line; without one, a line is closed where the server offers it.
                    start_tls=None if smtp.is_tls or smtp.username is None else True,
                    timeout=None,
                )
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [refused.code for refused in error.recipients]
            kind = MailRefusedError if min(codes) >= FINAL else MailError
            # Not chained: the vendor's words have the address in them.
            raise kind(f"the server took no recipient: {codes}") from None
        except aiosmtplib.SMTPResponseException as error:
            raise MailError(f"{type(error).__name__}: {error.code}") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailError(type(error).__name__) from None

    def _message(self, mail: Mail) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = _address(mail.to)
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(self._wall())
        message["Message-ID"] = f"<{mail.id}@{self._sender.domain}>"
        # RFC 3834: nobody's holiday answers it.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text, cte="quoted-printable")
        message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
        return message


def _address(address: str, name: str = "") -> Address:
    """Return an address in which every character of the mailbox means itself: a comma begins no second one."""
    mailbox, _, domain = address.rpartition("@")
    return Address(name, mailbox, domain)


def _write(path: Path, content: bytes) -> None:
    # It may hold a way into an account.
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_bytes(content)
