"""Rooms of python-socketio's asynchronous server, after its guide: `enter_room`, then `emit` to the room."""

import time

import socketio

sio = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(sio)


@sio.on("join")
async def join(sid, room, user):
    await sio.save_session(sid, {"room": room, "user": user})
    await sio.enter_room(sid, room)
    await sio.emit("joined", room, to=sid)


@sio.on("room.send")
async def room_send(sid, message):
    session = await sio.get_session(sid)
    event = {
        "ch": message["ch"],
        "ev": "room.message",
        "ts": time.time_ns() // 1_000_000,
        "d": {"from": session["user"], **message["d"]},
    }
    await sio.emit("event", event, room=session["room"])
