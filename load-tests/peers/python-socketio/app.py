"""Rooms of python-socketio's asynchronous server, after its guide: `enter_room`, then `emit` to the room."""

import time

import socketio

sio = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(sio)


@sio.on("join")
async def join(sid, place):
    await sio.save_session(sid, place)
    await sio.enter_room(sid, place["room"])
    await sio.emit("joined", place, to=sid)


@sio.on("room.send")
async def room_send(sid, message):
    place = await sio.get_session(sid)
    event = {
        "ch": message["ch"],
        "ev": "room.message",
        "ts": time.time_ns() // 1_000_000,
        "d": {"from": place["user"], **message["d"]},
    }
    await sio.emit("event", event, room=place["room"])
