// Rooms on gorilla/websocket, after its chat example: two goroutines and a channel of 256 per connection, a hub per
// server. An event is encoded and framed once (PreparedMessage) for all members of its room.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
)

const (
	writeWait      = 10 * time.Second
	maxMessageSize = 64 << 10
	// A member this far behind is let go of, as in the example.
	sendBuffer = 256
)

type command struct {
	ID json.RawMessage `json:"id"`
	Op string          `json:"op"`
	Ch string          `json:"ch"`
	D  struct {
		Kind string `json:"kind"`
		Data string `json:"data"`
		Text string `json:"text"`
	} `json:"d"`
}

type event struct {
	Ch string `json:"ch"`
	Ev string `json:"ev"`
	Ts int64  `json:"ts"`
	D  any    `json:"d"`
}

type reaction struct {
	From string `json:"from"`
	Kind string `json:"kind"`
	Data string `json:"data"`
}

type chatMessage struct {
	ID     string    `json:"id"`
	UserID string    `json:"user_id"`
	Text   string    `json:"text"`
	SentAt time.Time `json:"sent_at"`
}

type reply struct {
	ID json.RawMessage `json:"id"`
	OK any             `json:"ok"`
}

// Hub has the rooms. An empty room is forgotten.
type Hub struct {
	mu    sync.Mutex
	rooms map[string]map[*Client]struct{}
}

func (h *Hub) join(c *Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	room := h.rooms[c.room]
	if room == nil {
		room = make(map[*Client]struct{})
		h.rooms[c.room] = room
	}
	room[c] = struct{}{}
}

// leave may be called twice: by the reader, and by a publisher that met a full channel.
func (h *Hub) leave(c *Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(c)
}

func (h *Hub) remove(c *Client) {
	room := h.rooms[c.room]
	if _, ok := room[c]; !ok {
		return
	}
	delete(room, c)
	close(c.send)
	if len(room) == 0 {
		delete(h.rooms, c.room)
	}
}

func (h *Hub) broadcast(room string, message *websocket.PreparedMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.rooms[room] {
		h.push(c, message)
	}
}

func (h *Hub) reply(c *Client, message *websocket.PreparedMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.rooms[c.room][c]; ok {
		h.push(c, message)
	}
}

func (h *Hub) push(c *Client, message *websocket.PreparedMessage) {
	select {
	case c.send <- message:
	default:
		h.remove(c)
	}
}

// Client is one connection in one room.
type Client struct {
	hub        *Hub
	conn       *websocket.Conn
	room, user string
	send       chan *websocket.PreparedMessage
}

func (c *Client) readPump() {
	defer func() {
		c.hub.leave(c)
		c.conn.Close()
	}()
	c.conn.SetReadLimit(maxMessageSize)
	for {
		_, data, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		var in command
		if err := json.Unmarshal(data, &in); err != nil {
			return
		}
		now := time.Now()
		switch in.Op {
		case "room.send":
			d := reaction{From: c.user, Kind: in.D.Kind, Data: in.D.Data}
			c.hub.broadcast(c.room, prepare(event{in.Ch, "room.message", now.UnixMilli(), d}))
		case "chat.send":
			d := chatMessage{uuid.NewString(), c.user, in.D.Text, now.UTC()}
			c.hub.broadcast(c.room, prepare(event{in.Ch, "message.created", now.UnixMilli(), d}))
			c.hub.reply(c, prepare(reply{in.ID, d}))
		}
	}
}

func (c *Client) writePump() {
	defer c.conn.Close()
	for message := range c.send {
		c.conn.SetWriteDeadline(time.Now().Add(writeWait))
		if err := c.conn.WritePreparedMessage(message); err != nil {
			return
		}
	}
}

func prepare(message any) *websocket.PreparedMessage {
	data, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	prepared, err := websocket.NewPreparedMessage(websocket.TextMessage, data)
	if err != nil {
		panic(err)
	}
	return prepared
}

func main() {
	hub := &Hub{rooms: make(map[string]map[*Client]struct{})}
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	http.HandleFunc("GET /ws/{room}/{user}", func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		client := &Client{
			hub:  hub,
			conn: conn,
			room: r.PathValue("room"),
			user: r.PathValue("user"),
			send: make(chan *websocket.PreparedMessage, sendBuffer),
		}
		hub.join(client)
		go client.writePump()
		go client.readPump()
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
