"""A real participant: joins with a token and publishes sound. `python participant.py WS_URL TOKEN` runs one to be killed."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from livekit import rtc
from livekit.rtc.participant import PublishTrackError

SAMPLE_RATE = 48_000
# 10 ms a frame, as WebRTC sends them.
FRAME = SAMPLE_RATE // 100
# 0.3 s on a machine that does nothing else.
ENTER_TIMEOUT_S = 30


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
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._settled = asyncio.Event()
        self.room.on("disconnected", self._note_end)

    @property
    def sid(self) -> str:
        return self.room.local_participant.sid

    async def end(self, *, timeout_s: float = 15.0) -> str:
        """Wait until the media are gone for good, and return the SDK's reason."""
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(self._ended)

    async def __aenter__(self) -> Self:
        await self.room.connect(self._ws_url, self._token)
        await self._stack.__aenter__()
        self._talking = self._stack.create_task(self._talk())
        # Not for the publishing alone: the SDK lets who is removed before it wait for ever.
        async with asyncio.timeout(ENTER_TIMEOUT_S):
            await self._settled.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._talking.cancel()
        await self._stack.__aexit__(None, None, None)
        await self.room.disconnect()

    def _note_end(self, reason: "rtc.DisconnectReason.ValueType") -> None:
        if not self._ended.done():
            self._ended.set_result(rtc.DisconnectReason.Name(reason))
        self._settled.set()

    async def _talk(self) -> None:
        source = rtc.AudioSource(SAMPLE_RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
        try:
            await self.room.local_participant.publish_track(track)
        except PublishTrackError:
            # Only for who is thrown out meanwhile.
            await self.end()
            return
        self._settled.set()
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
        async with asyncio.timeout(ENTER_TIMEOUT_S):
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
