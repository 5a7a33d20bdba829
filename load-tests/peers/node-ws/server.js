// Rooms on ws, after the broadcast of its readme: a set of sockets per room, one `send` per open socket.
import { randomUUID } from "node:crypto";
import { WebSocket, WebSocketServer } from "ws";

const rooms = new Map();

function broadcast(room, event) {
  const text = JSON.stringify(event);
  for (const client of rooms.get(room)) {
    if (client.readyState === WebSocket.OPEN) {
      client.send(text);
    }
  }
}

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) });

server.on("connection", (socket, request) => {
  const [, , room, user] = request.url.split("/");
  if (!rooms.has(room)) {
    rooms.set(room, new Set());
  }
  rooms.get(room).add(socket);

  socket.on("message", (data) => {
    const { id, op, ch, d } = JSON.parse(data);
    if (op === "room.send") {
      broadcast(room, { ch, ev: "room.message", ts: Date.now(), d: { from: user, ...d } });
    } else if (op === "chat.send") {
      const message = { id: randomUUID(), user_id: user, text: d.text, sent_at: new Date().toISOString() };
      broadcast(room, { ch, ev: "message.created", ts: Date.now(), d: message });
      socket.send(JSON.stringify({ id, ok: message }));
    }
  });

  socket.on("error", console.error);

  socket.on("close", () => {
    rooms.get(room).delete(socket);
    if (rooms.get(room).size === 0) {
      rooms.delete(room);
    }
  });
});
