"""Rooms as the Channels tutorial writes them: a consumer per socket, a group per room, one file.

`CHANNEL_REDIS_URL` chooses the Redis layer, else the groups are in memory. JSON is written without spaces, as the
others do.
"""

import json
import os
import time
import uuid
from datetime import UTC, datetime

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

redis_url = os.environ.get("CHANNEL_REDIS_URL")
settings.configure(
    SECRET_KEY="signs nothing here",
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=[],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # The layer waits in blocking calls and takes a connection for every send under way. redis-py 8 would end
            # the first after five seconds and refuse the hundred-and-first of the others, and the consumer with them.
            "CONFIG": {"hosts": [{"address": redis_url, "socket_timeout": None, "max_connections": 10_000}]},
        }
        if redis_url
        else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    },
)


class RoomConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self):
        route = self.scope["url_route"]["kwargs"]
        self.room, self.user = route["room"], route["user"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive_json(self, content):
        event = {"ch": content["ch"], "ev": "", "ts": time.time_ns() // 1_000_000}
        if content["op"] == "room.send":
            event["ev"] = "room.message"
            event["d"] = {"from": self.user, **content["d"]}
            await self.channel_layer.group_send(self.room, {"type": "room.event", "event": event})
        elif content["op"] == "chat.send":
            event["ev"] = "message.created"
            event["d"] = {
                "id": str(uuid.uuid4()),
                "user_id": self.user,
                "text": content["d"]["text"],
                "sent_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            }
            await self.channel_layer.group_send(self.room, {"type": "room.event", "event": event})
            await self.send_json({"id": content["id"], "ok": event["d"]})

    async def room_event(self, message):
        await self.send_json(message["event"])

    @classmethod
    async def encode_json(cls, content):
        return json.dumps(content, separators=(",", ":"))


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws/<room>/<user>", RoomConsumer.as_asgi())]),
    }
)
