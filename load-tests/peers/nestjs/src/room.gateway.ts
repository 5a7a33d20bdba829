// Rooms as a gateway, after the NestJS guide: a method per message, the server's rooms to send to.
import {
  ConnectedSocket,
  MessageBody,
  SubscribeMessage,
  WebSocketGateway,
  WebSocketServer,
  type WsResponse,
} from "@nestjs/websockets";
import type { Server, Socket } from "socket.io";

interface Place {
  room: string;
  user: string;
}

interface RoomSend {
  ch: string;
  d: Record<string, unknown>;
}

@WebSocketGateway({ transports: ["websocket"] })
export class RoomGateway {
  @WebSocketServer()
  private readonly server!: Server;

  @SubscribeMessage("join")
  async join(
    @ConnectedSocket() socket: Socket,
    @MessageBody() [room, user]: [string, string],
  ): Promise<WsResponse<string>> {
    socket.data = { room, user } satisfies Place;
    await socket.join(room);
    return { event: "joined", data: room };
  }

  @SubscribeMessage("room.send")
  send(@ConnectedSocket() socket: Socket, @MessageBody() { ch, d }: RoomSend): void {
    const { room, user } = socket.data as Place;
    this.server.to(room).emit("event", { ch, ev: "room.message", ts: Date.now(), d: { from: user, ...d } });
  }
}
