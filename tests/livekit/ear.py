"""Stands where our server would, and keeps what LiveKit tells it."""

import asyncio
from datetime import UTC, datetime

from aiohttp import web

from rooms import media
from rooms.media import Webhook

KEY, SECRET = "fourtalk", "a secret of more than thirty-two characters"


class Ear:
    """Receives webhooks as our server does, and keeps those whose signature holds."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, Webhook]] = []
        self.url = ""
        self._news = asyncio.Condition()

    async def receive(self, request: web.Request) -> web.Response:
        body, token = await request.read(), request.headers["Authorization"]
        webhook = media.decode_webhook(body, token, {KEY: SECRET}, datetime.now(UTC))
        async with self._news:
            self.heard.append((asyncio.get_running_loop().time(), webhook))
            self._news.notify_all()
        return web.Response()

    def of(self, room: str, kind: str = "") -> list[Webhook]:
        """Return what was heard of a room, in order."""
        return [hook for _, hook in self.heard if hook.room_name == room and kind in {"", hook.type}]

    async def hear(self, room: str, kind: str, *, count: int = 1, timeout_s: float = 5.0) -> Webhook:
        """Wait for the n-th webhook of a kind."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: len(self.of(room, kind)) >= count)
        return self.of(room, kind)[count - 1]
