"""Rooms as a FastAPI team writes them, after the ConnectionManager of the FastAPI guide.

JSON is encoded once per event and not once per member; the rest is the guide's.
"""

import json
import time
import uuid
from datetime import UTC, datetime

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()


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

    async def broadcast(self, room: str, text: str):
        # A copy: people come and go while the loop waits for a slow one.
        for websocket in list(self.rooms[room]):
            await websocket.send_text(text)


manager = ConnectionManager()


def encode(message: dict) -> str:
    return json.dumps(message, separators=(",", ":"))


@app.websocket("/ws/{room}/{user}")
async def serve_room(websocket: WebSocket, room: str, user: str):
    await manager.connect(room, websocket)
    try:
        while True:
            message = json.loads(await websocket.receive_text())
            event = {"ch": message["ch"], "ev": "", "ts": time.time_ns() // 1_000_000}
            if message["op"] == "room.send":
                event["ev"] = "room.message"
                event["d"] = {"from": user, **message["d"]}
                await manager.broadcast(room, encode(event))
            elif message["op"] == "chat.send":
                event["ev"] = "message.created"
                event["d"] = {
                    "id": str(uuid.uuid4()),
                    "user_id": user,
                    "text": message["d"]["text"],
                    "sent_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                }
                await manager.broadcast(room, encode(event))
                await websocket.send_text(encode({"id": message["id"], "ok": event["d"]}))
    except WebSocketDisconnect:
        pass
    finally:
        manager.disconnect(room, websocket)
