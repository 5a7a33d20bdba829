"""`fourtalk ledger`: the whole ledger as a file, and the proof of such a file."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import seals
from server import cli
from tests.billing.world import fund, owner

Sessions = async_sessionmaker[AsyncSession]


async def test_a_file_is_written_and_proven_and_a_changed_one_is_refused(
    database_url: str,
    sessions: Sessions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    await fund(sessions, owner(), 100)
    await seals.seal(sessions)
    file, changed = tmp_path / "ledger", tmp_path / "changed"

    async def run(*arguments: str) -> tuple[int, str]:
        code = await asyncio.to_thread(cli.main, ["ledger", *arguments])
        return code, capsys.readouterr().out

    exported, _ = await run("export", str(file))
    changed.write_bytes(file.read_bytes().replace(b"Money for", b"Honey for"))
    proven, said = await run("verify", str(file))
    known = said.partition("seal 1 is ")[2].partition("\n")[0]
    pinned, also_said = await run("verify", str(file), "--seal", known)
    unknown, _ = await run("verify", str(file), "--seal", "0" * 64)
    refused, why = await run("verify", str(changed))
    missing, _ = await run("verify", str(tmp_path / "nothing"))

    assert (exported, proven, pinned, unknown, refused, missing) == (0, 0, 0, 1, 1, 1)
    assert said.startswith(
        "1 journals with 1 transfers are as they were written\nthe sum of 2 accounts is 0.00 USD"
    )
    assert said.endswith("no seal is pinned: the file agrees with itself, and only it says who wrote it\n")
    assert also_said.endswith("seal 1 is the one that was known\n")
    assert "the hash of seal 1 does not fit" in why
