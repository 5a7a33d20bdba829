"""When a LiveKit server is started beside ours, and when not. What it does then is in tests/livekit."""

from pathlib import Path

import pytest

from server import config, embedded
from server.config import Settings
from server.integrations import livekit_server


@pytest.fixture
def nothing_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def settings(data_dir: Path, **environ: str) -> Settings:
    return config.from_env({"SECRET_KEY": "s" * 32, **environ}, data_dir=data_dir)


def program(folder: Path, script: str) -> str:
    path = folder / "livekit-server"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_configured_server_is_used_as_it_is(tmp_path: Path) -> None:
    configured = settings(
        tmp_path,
        LIVEKIT_URL="wss://media.example",
        LIVEKIT_API_KEY="key",
        LIVEKIT_API_SECRET="s" * 32,
        FOURTALK_LIVEKIT_BIN=program(tmp_path, "exit 1"),
    )

    assert livekit_server.beside(configured, port=8000) is None


@pytest.mark.usefixtures("nothing_on_path")
def test_without_a_binary_none_is_started(tmp_path: Path) -> None:
    assert livekit_server.beside(settings(tmp_path), port=8000) is None


def test_a_binary_that_ends_says_why(tmp_path: Path) -> None:
    broken = program(tmp_path, "echo no such luck; exit 1")
    server = livekit_server.beside(settings(tmp_path, FOURTALK_LIVEKIT_BIN=broken), port=8000)

    assert server is not None
    with pytest.raises(embedded.EmbeddedError, match="no such luck"), server:
        pass


def test_the_secret_is_readable_by_us_alone(tmp_path: Path) -> None:
    broken = program(tmp_path, "exit 1")
    server = livekit_server.beside(settings(tmp_path, FOURTALK_LIVEKIT_BIN=broken), port=8000)

    assert server is not None
    with pytest.raises(embedded.EmbeddedError), server:
        pass
    assert (tmp_path / "livekit.json").stat().st_mode & 0o077 == 0
