"""The peer: rooms as a Python team writes them, after the ConnectionManager of the FastAPI and Starlette guides.

It stores nothing and asks nobody for permission: `chat.send` costs it what `room.send` does. Its events have the
shape and about the size of the product's, and go to the sender too exactly when the product's do. It is fair to it:
JSON is encoded once per event and not once per member, nobody offers compression, uvloop and httptools are there.
"""

import json
import time
import uuid
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


class ConnectionManager:
    def __init__(self):
        self.rooms: dict[str, list[WebSocket]] = {}

    async def connect(self, room: str, websocket: WebSocket):
        await websocket.accept()
        self.rooms.setdefault(room, []).append(websocket)

    def disconnect(self, room: str, websocket: WebSocket):
        self.rooms[room].remove(websocket)
        if not self.rooms[room]:
            del self.rooms[room]

    async def broadcast(self, room: str, text: str, but: WebSocket | None = None):
        for websocket in list(self.rooms[room]):
            if websocket is not but:
                await websocket.send_text(text)


manager = ConnectionManager()


async def serve_room(websocket: WebSocket):
    room, user = websocket.path_params["room"], websocket.path_params["user"]
    await manager.connect(room, websocket)
    offset = 0
    try:
        while True:
            message = json.loads(await websocket.receive_text())
            event = {"ch": message["ch"], "ts": time.time_ns() // 1_000_000}
            if message["op"] == "room.send":
                event["ev"] = "room.message"
                event["d"] = {"from": user, **message["d"]}
                text = json.dumps(event, separators=(",", ":"))
                await manager.broadcast(room, text, but=websocket)
            elif message["op"] == "chat.send":
                offset += 1
                event["off"] = offset
                event["ev"] = "message.created"
                event["d"] = {
                    "id": str(uuid.uuid4()),
                    "user_id": user,
                    "text": message["d"]["text"],
                    "sent_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                }
                text = json.dumps(event, separators=(",", ":"))
                await manager.broadcast(room, text)
                reply = {"id": message["id"], "ok": event["d"]}
                await websocket.send_text(json.dumps(reply, separators=(",", ":")))
    except WebSocketDisconnect:
        pass
    finally:
        manager.disconnect(room, websocket)


async def health(request: Request):
    return PlainTextResponse("ready")


app = Starlette(
    routes=[
        WebSocketRoute("/ws/{room}/{user}", serve_room),
        Route("/health/ready", health),
    ]
)
