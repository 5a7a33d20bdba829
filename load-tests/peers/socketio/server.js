// Rooms of Socket.IO, after its guide: `socket.join`, then `io.to(room).emit`.
import { createServer } from "node:http";
import { Server } from "socket.io";

const server = createServer();
const io = new Server(server, { transports: ["websocket"] });

io.on("connection", (socket) => {
  socket.on("join", (room, user) => {
    socket.data = { room, user };
    socket.join(room);
    socket.emit("joined", room);
  });

  socket.on("room.send", ({ ch, d }) => {
    const { room, user } = socket.data;
    io.to(room).emit("event", { ch, ev: "room.message", ts: Date.now(), d: { from: user, ...d } });
  });
});

server.listen(Number(process.argv[2]), "127.0.0.1");
