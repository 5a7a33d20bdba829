// The floor: what rooms cost when nothing is left but the system calls. One thread, one epoll, one send per delivery.
//
// It does the work of the other peers and no more. A command is not parsed but scanned for its fields, and its `d` is
// spliced into the event as the bytes it came in. It trusts its client: a frame that is not a whole masked text frame
// below MAX_MESSAGE bytes, or a send that would block, ends the connection.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_MESSAGE = 16 << 10,
    MAX_NAME = 64,
    MAX_HEAD = 10,
    MAX_EVENTS = 512,
    // A power of two, for some thousand rooms.
    BUCKETS = 1 << 12,
};

typedef struct Connection Connection;
typedef struct Room Room;

struct Room {
    char name[MAX_NAME];
    Connection **members;
    size_t size, capacity;
    Room *next;
};

struct Connection {
    int fd;
    // Where it stands among the members of its room; it has none before the handshake.
    Room *room;
    size_t place;
    char user[MAX_NAME];
    // What has come and is not yet a whole request or frame.
    uint8_t *rest;
    size_t rest_size;
    // It could not be written to. It is closed when its own turn ends, since others may be iterating its room.
    int broken;
};

static Room *rooms[BUCKETS];
static int epoll;

// ---- SHA-1 and base64, for the handshake (RFC 6455, 4.2.2)

static uint32_t rotate(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

static void sha1(const uint8_t *data, size_t size, uint8_t digest[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t padded[128] = {0};
    size_t total = size + 9 <= 64 ? 64 : 128;
    memcpy(padded, data, size);
    padded[size] = 0x80;
    padded[total - 2] = (uint8_t)(size * 8 >> 8);
    padded[total - 1] = (uint8_t)(size * 8);
    for (size_t block = 0; block < total; block += 64) {
        uint32_t w[80];
        for (int i = 0; i < 16; i++) {
            const uint8_t *p = padded + block + 4 * i;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) f = (b & c) | (~b & d), k = 0x5A827999;
            else if (i < 40) f = b ^ c ^ d, k = 0x6ED9EBA1;
            else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8F1BBCDC;
            else f = b ^ c ^ d, k = 0xCA62C1D6;
            uint32_t next = rotate(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *data, size_t size, char *text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t bits = (uint32_t)data[i] << 16 | (left > 1 ? data[i + 1] << 8 : 0) | (left > 2 ? data[i + 2] : 0);
        *text++ = digits[bits >> 18];
        *text++ = digits[bits >> 12 & 63];
        *text++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *text++ = left > 2 ? digits[bits & 63] : '=';
    }
    *text = 0;
}

// ---- Rooms

static Room *find_room(const char *name) {
    uint32_t hash = 2166136261u;
    for (const char *c = name; *c; c++) hash = (hash ^ (uint8_t)*c) * 16777619u;
    Room **at = &rooms[hash & (BUCKETS - 1)];
    while (*at && strcmp((*at)->name, name)) at = &(*at)->next;
    if (!*at) {
        *at = calloc(1, sizeof(Room));
        strcpy((*at)->name, name);
    }
    return *at;
}

static void join(Connection *connection, const char *name) {
    Room *room = find_room(name);
    if (room->size == room->capacity) {
        room->capacity = room->capacity ? 2 * room->capacity : 4;
        room->members = realloc(room->members, room->capacity * sizeof(*room->members));
    }
    connection->room = room;
    connection->place = room->size;
    room->members[room->size++] = connection;
}

static void leave(Connection *connection) {
    Room *room = connection->room;
    Connection *last = room->members[--room->size];
    room->members[connection->place] = last;
    last->place = connection->place;
}

// ---- Frames

// Write the header of a text frame so that it ends where the payload begins; return where it starts.
static uint8_t *put_head(uint8_t *payload, size_t size) {
    uint8_t *head;
    if (size < 126) {
        head = payload - 2;
        head[1] = (uint8_t)size;
    } else {
        head = payload - 4;
        head[1] = 126;
        head[2] = (uint8_t)(size >> 8);
        head[3] = (uint8_t)size;
    }
    head[0] = 0x81;
    return head;
}

static void deliver(Connection *to, const uint8_t *frame, size_t size) {
    if (!to->broken && send(to->fd, frame, size, MSG_NOSIGNAL) != (ssize_t)size) {
        to->broken = 1;
        shutdown(to->fd, SHUT_RDWR);  // its own turn comes with the hang-up
    }
}

static void broadcast(Room *room, uint8_t *payload, size_t size) {
    uint8_t *frame = put_head(payload, size);
    size += (size_t)(payload - frame);
    for (size_t i = 0; i < room->size; i++) deliver(room->members[i], frame, size);
}

// ---- Commands

typedef struct {
    const char *at;
    size_t size;
} Span;

// The value of a top-level member of a JSON object, as it stands; empty when there is none.
static Span member(Span object, const char *name) {
    size_t name_size = strlen(name);
    const char *at = object.at, *end = at + object.size, *key = NULL, *begin = NULL;
    size_t key_size = 0;
    int depth = 0;
    for (; at < end; at++) {
        char c = *at;
        if (c == '"') {
            const char *from = at + 1;
            for (at = from; at < end && *at != '"'; at++) at += *at == '\\';
            if (depth == 1 && !begin) key = from, key_size = (size_t)(at - from);
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == ':' && depth == 1) {
            begin = at + 1;
        } else if (c == '}' || c == ']' || c == ',') {
            if (depth == 1 && begin && key_size == name_size && !memcmp(key, name, name_size)) {
                while (*begin == ' ') begin++;
                return (Span){begin, (size_t)(at - begin)};
            }
            if (depth == 1) begin = NULL;
            depth -= c != ',';
        }
    }
    return (Span){"", 0};
}

static int is(Span value, const char *text) {
    return value.size == strlen(text) && !memcmp(value.at, text, value.size);
}

static void put_uuid(char text[37]) {
    uint8_t b[16];
    if (getrandom(b, sizeof b, 0) != sizeof b) abort();
    b[6] = (b[6] & 0x0F) | 0x40, b[8] = (b[8] & 0x3F) | 0x80;
    snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
             b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static void obey(Connection *from, const char *text, size_t size) {
    static uint8_t out[MAX_HEAD + 2 * MAX_MESSAGE];
    static char message[2 * MAX_MESSAGE];
    char *payload = (char *)out + MAX_HEAD;
    size_t room_for = sizeof out - MAX_HEAD;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int ms = (int)(now.tv_nsec / 1000000);
    long long ts = (long long)now.tv_sec * 1000 + ms;
    Span command = {text, size};
    Span op = member(command, "op"), ch = member(command, "ch"), d = member(command, "d");
    if (is(op, "\"room.send\"") && d.size > 2) {
        // The fields of `d` follow `from` as they stand.
        int length = snprintf(payload, room_for,
                              "{\"ch\":%.*s,\"ev\":\"room.message\",\"ts\":%lld,\"d\":{\"from\":\"%s\",%.*s}", (int)ch.size,
                              ch.at, ts, from->user, (int)d.size - 1, d.at + 1);
        broadcast(from->room, (uint8_t *)payload, (size_t)length);
    } else if (is(op, "\"chat.send\"")) {
        Span id = member(command, "id"), said = member(d, "text");
        char uuid[37], at[32];
        struct tm utc;
        put_uuid(uuid);
        strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &utc));
        snprintf(message, sizeof message, "{\"id\":\"%s\",\"user_id\":\"%s\",\"text\":%.*s,\"sent_at\":\"%s.%03dZ\"}", uuid,
                 from->user, (int)said.size, said.at, at, ms);
        int length = snprintf(payload, room_for, "{\"ch\":%.*s,\"ev\":\"message.created\",\"ts\":%lld,\"d\":%s}",
                              (int)ch.size, ch.at, ts, message);
        broadcast(from->room, (uint8_t *)payload, (size_t)length);
        length = snprintf(payload, room_for, "{\"id\":%.*s,\"ok\":%s}", (int)id.size, id.at, message);
        uint8_t *frame = put_head((uint8_t *)payload, (size_t)length);
        deliver(from, frame, (size_t)length + (size_t)((uint8_t *)payload - frame));
    }
}

// ---- Connections. Both readers return how many bytes they used: 0 when more must come, -1 to end the connection.

static ssize_t read_handshake(Connection *connection, uint8_t *data, size_t size) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return size < MAX_MESSAGE ? 0 : -1;
    *end = 0;
    char room[MAX_NAME], key[64], answer[32], reply[256];
    const char *field = strcasestr((char *)data, "\r\nSec-WebSocket-Key:");
    if (sscanf((char *)data, "GET /ws/%63[^/ ?]/%63[^/ ?]", room, connection->user) != 2) return -1;
    if (!field || sscanf(field + 20, " %24[^\r ]", key) != 1) return -1;
    uint8_t digest[20];
    strcat(key, guid);
    sha1((uint8_t *)key, strlen(key), digest);
    base64(digest, sizeof digest, answer);
    int length = snprintf(reply, sizeof reply,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n",
                          answer);
    deliver(connection, (uint8_t *)reply, (size_t)length);
    join(connection, room);
    return end + 4 - data;
}

static ssize_t read_frame(Connection *connection, uint8_t *data, size_t size) {
    if (size < 6) return 0;
    size_t length = data[1] & 0x7F, start = 6;
    if (!(data[1] & 0x80) || length == 127) return -1;
    if (length == 126) {
        if (size < 8) return 0;
        length = (size_t)data[2] << 8 | data[3];
        start = 8;
    }
    if (length > MAX_MESSAGE - start) return -1;
    if (size < start + length) return 0;
    uint8_t *payload = data + start;
    uint32_t mask;
    memcpy(&mask, payload - 4, 4);
    size_t i = 0;
    for (; i + 4 <= length; i += 4) {
        uint32_t word;
        memcpy(&word, payload + i, 4);
        word ^= mask;
        memcpy(payload + i, &word, 4);
    }
    for (; i < length; i++) payload[i] ^= (payload - 4)[i & 3];
    switch (data[0]) {
    case 0x81:
        obey(connection, (char *)payload, length);
        break;
    case 0x89: {
        uint8_t pong[2 + 125] = {0x8A, (uint8_t)length};
        if (length > 125) return -1;
        memcpy(pong + 2, payload, length);
        deliver(connection, pong, 2 + length);
        break;
    }
    case 0x8A:
        break;
    default:
        return -1;
    }
    return (ssize_t)(start + length);
}

static void hang_up(Connection *connection) {
    if (connection->room) leave(connection);
    close(connection->fd);
    free(connection->rest);
    free(connection);
}

static void serve(Connection *connection) {
    static uint8_t data[2 * MAX_MESSAGE];
    size_t size = connection->rest_size, used = 0;
    if (size) memcpy(data, connection->rest, size);
    ssize_t got = recv(connection->fd, data + size, sizeof data - size, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        hang_up(connection);
        return;
    }
    size += (size_t)got;
    ssize_t step;
    do {
        step = (connection->room ? read_frame : read_handshake)(connection, data + used, size - used);
        used += step > 0 ? (size_t)step : 0;
    } while (step > 0 && used < size);
    if (step < 0) {
        hang_up(connection);
        return;
    }
    if (size - used || connection->rest_size) {
        connection->rest_size = size - used;
        connection->rest = realloc(connection->rest, connection->rest_size ? connection->rest_size : 1);
        memcpy(connection->rest, data + used, connection->rest_size);
    }
}

static void watch(int fd, void *owner) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) perror("epoll_ctl"), exit(1);
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (argc != 2) return fprintf(stderr, "usage: relay PORT\n"), 2;
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024))
        return perror("listen"), 1;
    epoll = epoll_create1(0);
    watch(listener, NULL);
    for (;;) {
        struct epoll_event events[MAX_EVENTS];
        int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr) {
                serve(events[i].data.ptr);
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            Connection *connection = calloc(1, sizeof *connection);
            connection->fd = fd;
            watch(fd, connection);
        }
    }
}
