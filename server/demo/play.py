"""Start a server of its own, play the stories, report, and clean up."""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from server import embedded
from server.demo.people import Person, Town
from server.demo.stories import Claim, Seat, Share, Stage, course, talk
from server.integrations.media_fake import MediaFake, rough
from server.ports import free_port

# It takes half a minute (PROTOCOL 1: under 60 s); on a machine that is busy with something else it may take longer, stuck it may not be.
LIMIT_S = 150.0
READY = b"fourtalk is ready"
TALKERS = ("An", "Binh", "Chi", "Dung", "Em")


def play(*, as_json: bool) -> int:
    """Play the demo; return 0 only if every claim held. The configured database is not touched."""
    started = time.monotonic()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="fourtalk-demo-") as folder:
        seats, shares, claims = asyncio.run(_play(Path(folder), console))
    held = all(claim.held for claim in claims)
    took_s = round(time.monotonic() - started, 1)
    _report(Console(), seats, shares, claims, took_s)
    if as_json:
        content = {
            "ok": held,
            "took_s": took_s,
            "seats": seats,
            "attendance_and_money": shares,
            "claims": [
                {"claim": c.claim, "expected": c.expected, "seen": c.seen, "held": c.held} for c in claims
            ],
        }
        print(msgspec.json.encode(content).decode())
    return 0 if held else 1


async def _play(folder: Path, console: Console) -> tuple[list[Seat], list[Share], list[Claim]]:
    began = time.monotonic()

    def tell(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.1f} s[/]  {text}")

    port, key, secret = free_port(), "demo", secrets.token_urlsafe(32)
    base = f"http://127.0.0.1:{port}"
    clock = _Ahead()
    async with asyncio.timeout(LIMIT_S):
        media = MediaFake(key=key, secret=secret, webhook_url=f"{base}/webhooks/livekit", now=clock.now)
        async with media:
            media.fate = rough(7, doubled=0.3, late=0.3)
            environment = {
                "LIVEKIT_URL": media.url,
                "LIVEKIT_API_KEY": key,
                "LIVEKIT_API_SECRET": secret,
                "PUBLIC_URL": base,
                "FOURTALK_LOG_LEVEL": "error",
                "FOURTALK_WEB": "off",
            }
            tell("starting a server with its own PostgreSQL and Valkey")
            async with _server(folder, port, environment) as command, Town(base) as town:
                tell(f"it is ready at {base}")
                town.on_advance = clock.set
                # Its first letter is no dash, which the command would take for an option.
                password = "aA1!" + secrets.token_urlsafe(16)
                await command(
                    "user",
                    "create",
                    "--email",
                    "admin@demo.example",
                    "--password",
                    password,
                    "--role",
                    "admin",
                )
                admin = await town.log_in("admin", "admin@demo.example", password)

                async def approve(tutor: Person) -> None:
                    await admin.call("POST", f"/api/v1/admin/tutors/{tutor.user_id}/approve")

                async with asyncio.TaskGroup() as tasks:
                    stage = Stage(town, media, tasks, tell)
                    minted = (await command("user", "mint", "--count", str(len(TALKERS)))).splitlines()
                    talkers = [
                        town.person(name, *_minted(line)) for name, line in zip(TALKERS, minted, strict=True)
                    ]
                    seats, of_talk = await talk(stage, talkers)
                    shares, of_course = await course(stage, admin, approve)
                    await town.hang_up()
                checked = msgspec.json.decode(await command("check", "--json"))
                books = [
                    Claim("every invariant holds", [], checked["violations"]),
                    Claim("the ledger's sum is 0", {"USD": 0}, checked["ledger_sum"]),
                ]
    return seats, shares, [*of_talk, *of_course, *books]


class _Ahead:
    """The server's business time, as the media server's clock must show it too."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def set(self, now: datetime) -> None:
        self._offset = now - datetime.now(UTC)


@contextlib.asynccontextmanager
async def _server(folder: Path, port: int, environment: dict[str, str]) -> AsyncIterator[Any]:
    """Run `fourtalk serve`; yield a function that runs another command beside it and returns its output."""
    keep = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "TMPDIR")
    environment |= {name: os.environ[name] for name in keep if name in os.environ}  # noqa: TID251 -- for a child

    async def run(*arguments: str, stdout: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *embedded.dying_with_parent(signal.SIGTERM, sys.executable, "-m", "server", *arguments),
            "--data-dir",
            str(folder),
            stdout=stdout,
            env=environment,
        )

    async def command(*arguments: str) -> bytes:
        process = await run(*arguments)
        out, _ = await process.communicate()
        return out

    server = await run("serve", "--port", str(port), "--time-travel")
    assert server.stdout is not None, "it was asked for"
    try:
        line = await server.stdout.readline()
        if READY not in line:
            raise RuntimeError("the server did not start; its messages are above")
        yield command
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.terminate()
        await server.wait()


def _minted(line: bytes) -> tuple[str, str]:
    account = msgspec.json.decode(line)
    return account["user_id"], account["access_token"]


def _report(
    console: Console, seats: list[Seat], shares: list[Share], claims: list[Claim], took_s: float
) -> None:
    """Print the tables of what happened and what was claimed."""
    of_talk = Table("person", "came", "seat", title="The talk: at most four")
    for seat in seats:
        of_talk.add_row(seat.person, seat.came, seat.seat)
    of_course = Table(
        "student",
        "came by",
        "attended",
        "shown",
        "hold",
        "tutor",
        "platform",
        "back",
        title="The lesson of 90 minutes",
    )
    for share in shares:
        of_course.add_row(
            share.student,
            share.came_by,
            f"{share.attended_s // 60}:{share.attended_s % 60:02}",
            f"{share.percent} %",
            share.status,
            *(
                f"${amount // 100}.{amount % 100:02}"
                for amount in (share.tutor, share.platform, share.refunded)
            ),
        )
    of_claims = Table("claim", "", title=f"What was claimed, after {took_s} s")
    for claim in claims:
        of_claims.add_row(
            claim.claim, "held" if claim.held else f"BROKEN: {claim.seen} instead of {claim.expected}"
        )
    for table in (of_talk, of_course, of_claims):
        console.print(table)
