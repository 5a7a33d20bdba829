"""A real participant: joins with a token and publishes sound. `python participant.py WS_URL TOKEN` runs one to be killed."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from livekit import rtc

SAMPLE_RATE = 48_000
# 10 ms a frame, as WebRTC sends them.
FRAME = SAMPLE_RATE // 100


class Participant:
    """One person in a media room; an async context manager.

    Raises:
        rtc.ConnectError: LiveKit refused (on entering).
    """

    def __init__(self, ws_url: str, token: str) -> None:
        self.room = rtc.Room()
        self._ws_url = ws_url
        self._token = token
        self._stack = asyncio.TaskGroup()

    @property
    def sid(self) -> str:
        return self.room.local_participant.sid

    async def __aenter__(self) -> Self:
        await self.room.connect(self._ws_url, self._token)
        await self._stack.__aenter__()
        source = rtc.AudioSource(SAMPLE_RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
        await self.room.local_participant.publish_track(track)
        self._talking = self._stack.create_task(self._talk(source))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._talking.cancel()
        await self._stack.__aexit__(None, None, None)
        await self.room.disconnect()

    async def _talk(self, source: rtc.AudioSource) -> None:
        while True:
            # Comes back when there is room for more: this is the pace of real sound.
            await source.capture_frame(rtc.AudioFrame.create(SAMPLE_RATE, 1, FRAME))


@asynccontextmanager
async def child(ws_url: str, token: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A participant in a process of its own, to be killed; it is in the room when this is entered."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, ws_url, token, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"in\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def main(ws_url: str, token: str) -> None:
    async with Participant(ws_url, token):
        sys.stdout.write("in\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
