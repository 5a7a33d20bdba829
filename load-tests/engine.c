/* The hot loop of the load client: one thread, one epoll, no allocation per message, no JSON.
 *
 * Python opens sockets, shakes hands and joins rooms; then it hands file descriptors and ready-made frames over to
 * this loop, which sends, receives, counts and samples latencies. Frames are walked by their headers; an event is
 * counted by a marker in the payload, so several events in one frame are several. A frame that the end of a read has
 * cut is kept and seen whole with the next read, so no marker is ever cut.
 *
 * engine.py declares every function here; the structs stay opaque to it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (1 << 20) /* a whole batch of a hot room, many times over */
#define READY_MAX 512
#define MARKER_MAX 64
#define STAMPS_MAX 2
#define BURST_MAX 256       /* open loop: read in between, however late the sender is */
#define UNSENT_MAX (4 << 20) /* what one socket may owe to a server that reads slowly */
#define TEXT_MAX 400

#define STAMP "@#@"
#define STAMP_LEN 3
#define STAMP_DIGITS 16
#define STAMP_BASE 1000000000000000LL /* 16 digits that begin with 1: also a valid id of a request */

enum mode {
    BY_MARKER, /* WebSocket: each marker in a data frame is an event */
    BY_FRAME,  /* WebSocket with compressed payloads: each data frame is an event */
    RAW,       /* any bytes, HTTP for one: each marker is an answer */
};

struct group {
    char marker[MARKER_MAX];
    int marker_len, mode;
    int64_t sample_every, sample_in;
    int64_t sent, received, frames, reads, errors, closed; /* frames: those with an event in them */
    int is_paced;
    int64_t step_ns, due_ns;
    int *rooms, room_count, next_room;
    int64_t *samples;
    int64_t sample_count, sample_room;
    const uint8_t *feed; /* messages that are sent once each, in order, instead of the rooms' own */
    const int64_t *feed_ends;
    int64_t feed_count, feed_next;
    char text[TEXT_MAX]; /* the first error or close, in the server's words */
};

struct room {
    int group, *conns, conn_count, turn, sender_count; /* 0: everybody sends */
    uint8_t *frame;
    int frame_len, stamps[STAMPS_MAX], stamp_count;
    int64_t sent;
};

struct conn {
    int fd, group, room, is_pacer, is_watched, is_sampled, close_code;
    int64_t sent, received, sent_ns, closed_ns;
    uint8_t *kept, *unsent;
    size_t kept_len, kept_room, unsent_len, unsent_room;
};

struct engine {
    int epoll;
    struct group *groups;
    struct room *rooms;
    struct conn *conns;
    int group_count, room_count, conn_count;
    uint8_t *buffer;
    char fault[TEXT_MAX]; /* why the run cannot go on */
};

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *grown(void *old, int count, size_t size) {
    /* Doubling at powers of two keeps this one line everywhere. */
    if (count & (count - 1)) return old;
    void *made = realloc(old, (count ? 2 * (size_t)count : 1) * size);
    if (made == NULL) abort();
    return made;
}

static void append(uint8_t **bytes, size_t *len, size_t *room, const uint8_t *more, size_t more_len) {
    if (*len + more_len > *room) {
        *room = 2 * (*len + more_len);
        *bytes = realloc(*bytes, *room);
        if (*bytes == NULL) abort();
    }
    memcpy(*bytes + *len, more, more_len);
    *len += more_len;
}

/* --- Setting up --- */

struct engine *engine_new(void) {
    struct engine *e = calloc(1, sizeof *e);
    if (e == NULL) return NULL;
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    e->buffer = malloc(READ_BYTES);
    /* An open loop wakes when a message is due, not up to 50 us later. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    return e;
}

void engine_free(struct engine *e) {
    for (int i = 0; i < e->conn_count; i++) free(e->conns[i].kept), free(e->conns[i].unsent);
    for (int i = 0; i < e->room_count; i++) free(e->rooms[i].conns), free(e->rooms[i].frame);
    for (int i = 0; i < e->group_count; i++) free(e->groups[i].rooms), free(e->groups[i].samples);
    close(e->epoll);
    free(e->groups), free(e->rooms), free(e->conns), free(e->buffer), free(e);
}

int engine_group(struct engine *e, int mode, const char *marker, int marker_len, int64_t sample_every) {
    if (marker_len > MARKER_MAX) return -1;
    e->groups = grown(e->groups, e->group_count, sizeof *e->groups);
    struct group *g = &e->groups[e->group_count];
    memset(g, 0, sizeof *g);
    memcpy(g->marker, marker, marker_len);
    g->marker_len = marker_len;
    g->mode = mode;
    g->sample_every = g->sample_in = sample_every;
    return e->group_count++;
}

int engine_room(struct engine *e, int group) {
    e->rooms = grown(e->rooms, e->room_count, sizeof *e->rooms);
    struct room *r = &e->rooms[e->room_count];
    memset(r, 0, sizeof *r);
    r->group = group;
    struct group *g = &e->groups[group];
    g->rooms = grown(g->rooms, g->room_count, sizeof *g->rooms);
    g->rooms[g->room_count++] = e->room_count;
    return e->room_count++;
}

/* Give a room the frame that its members send; `stamps` are where in it the time goes. */
void engine_message(struct engine *e, int room, const uint8_t *frame, int len, const int *stamps, int stamp_count) {
    struct room *r = &e->rooms[room];
    r->frame = realloc(r->frame, len);
    if (r->frame == NULL || stamp_count > STAMPS_MAX) abort();
    memcpy(r->frame, frame, len);
    r->frame_len = len;
    memcpy(r->stamps, stamps, stamp_count * sizeof *stamps);
    r->stamp_count = stamp_count;
}

static void watch(struct engine *e, int conn, int operation, uint32_t events) {
    struct epoll_event wanted = {.events = events, .data.u32 = (uint32_t)conn};
    if (epoll_ctl(e->epoll, operation, e->conns[conn].fd, &wanted) && !*e->fault)
        snprintf(e->fault, TEXT_MAX, "epoll_ctl: %s", strerror(errno));
}

/* Take a connection over. `kept` is what Python has read of a frame that was not whole yet. */
int engine_conn(struct engine *e, int fd, int room, const uint8_t *kept, int kept_len) {
    e->conns = grown(e->conns, e->conn_count, sizeof *e->conns);
    struct conn *c = &e->conns[e->conn_count];
    memset(c, 0, sizeof *c);
    c->fd = fd;
    c->room = room;
    c->is_watched = c->is_sampled = 1;
    append(&c->kept, &c->kept_len, &c->kept_room, kept, kept_len);
    struct room *r = &e->rooms[room];
    c->group = r->group;
    /* Whoever came last is the pacer: only who sees an event last decides when the next is sent. */
    if (r->conn_count) e->conns[r->conns[r->conn_count - 1]].is_pacer = 0;
    c->is_pacer = 1;
    r->conns = grown(r->conns, r->conn_count, sizeof *r->conns);
    r->conns[r->conn_count++] = e->conn_count;
    watch(e, e->conn_count, EPOLL_CTL_ADD, EPOLLIN);
    return e->conn_count++;
}

/* --- Sending --- */

static void ended(struct engine *e, int conn, int code, const char *why, int why_len) {
    struct conn *c = &e->conns[conn];
    struct group *g = &e->groups[c->group];
    if (c->closed_ns) return;
    c->closed_ns = now_ns();
    c->close_code = code;
    g->closed++;
    if (!*g->text) snprintf(g->text, TEXT_MAX, "the server closed a connection: %d %.*s", code, why_len, why);
    epoll_ctl(e->epoll, EPOLL_CTL_DEL, c->fd, NULL);
}

static void send_bytes(struct engine *e, int conn, const uint8_t *bytes, size_t len) {
    struct conn *c = &e->conns[conn];
    ssize_t done = 0;
    if (c->closed_ns) return;
    if (!c->unsent_len) {
        done = send(c->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (done == (ssize_t)len) return;
        if (done < 0 && errno != EAGAIN && errno != EINTR) {
            /* What the server said before it closed may still be readable: the read sees the end. */
            if (errno != EPIPE && errno != ECONNRESET) ended(e, conn, 1006, strerror(errno), TEXT_MAX / 2);
            return;
        }
        if (done < 0) done = 0;
        watch(e, conn, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    append(&c->unsent, &c->unsent_len, &c->unsent_room, bytes + done, len - done);
    if (c->unsent_len > UNSENT_MAX && !*e->fault)
        snprintf(e->fault, TEXT_MAX, "a server has taken nothing for %d bytes", UNSENT_MAX);
}

static void send_rest(struct engine *e, int conn) {
    struct conn *c = &e->conns[conn];
    ssize_t done = send(c->fd, c->unsent, c->unsent_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done <= 0) return;
    c->unsent_len -= done;
    memmove(c->unsent, c->unsent + done, c->unsent_len);
    if (!c->unsent_len) watch(e, conn, EPOLL_CTL_MOD, EPOLLIN);
}

/* Send a short control frame. The mask key is 0: a server does the same work for it as for any other. */
static void send_frame(struct engine *e, int conn, int opcode, const uint8_t *payload, int len) {
    uint8_t frame[6 + 125] = {0x80 | opcode, 0x80 | len};
    memcpy(frame + 6, payload, len);
    send_bytes(e, conn, frame, 6 + len);
}

static void send_next(struct engine *e, int room, int64_t at_ns, int skips_pacer) {
    struct room *r = &e->rooms[room];
    struct group *g = &e->groups[r->group];
    int conn = -1;
    /* The pacer of a closed loop does not send, so that the loop closes whether or not servers echo to the sender. */
    int senders = r->conn_count - (skips_pacer && r->conn_count > 1);
    if (r->sender_count) senders = r->sender_count;
    for (int tries = 0; tries < senders; tries++) {
        int candidate = r->conns[r->turn++ % senders];
        if (!e->conns[candidate].closed_ns && e->conns[candidate].is_watched) {
            conn = candidate;
            break;
        }
    }
    if (conn < 0) return;
    struct conn *c = &e->conns[conn];
    if (g->feed != NULL) {
        if (g->feed_next == g->feed_count) return;
        int64_t start = g->feed_next ? g->feed_ends[g->feed_next - 1] : 0;
        send_bytes(e, conn, g->feed + start, g->feed_ends[g->feed_next++] - start);
    } else {
        int64_t rest = STAMP_BASE + at_ns;
        uint8_t digits[STAMP_DIGITS];
        for (int i = STAMP_DIGITS - 1; i >= 0; i--, rest /= 10) digits[i] = '0' + rest % 10;
        for (int i = 0; i < r->stamp_count; i++) memcpy(r->frame + r->stamps[i], digits, STAMP_DIGITS);
        send_bytes(e, conn, r->frame, r->frame_len);
    }
    c->sent_ns = at_ns;
    c->sent++;
    r->sent++;
    g->sent++;
}

/* --- Receiving --- */

static void sampled(struct group *g, int64_t latency_ns) {
    if (g->sample_count == g->sample_room) {
        g->sample_room = g->sample_room ? 2 * g->sample_room : 1024;
        g->samples = realloc(g->samples, g->sample_room * sizeof *g->samples);
        if (g->samples == NULL) abort();
    }
    g->samples[g->sample_count++] = latency_ns;
    g->sample_in = g->sample_every;
}

/* Look for the stamp behind a marker. Without one the next event is looked at instead. */
static void sample_stamp(struct group *g, const uint8_t *from, const uint8_t *end) {
    const uint8_t *at = memmem(from, end - from, STAMP, STAMP_LEN);
    if (at == NULL || end - at < STAMP_LEN + STAMP_DIGITS) return;
    int64_t stamp = 0;
    for (int i = 0; i < STAMP_DIGITS; i++) stamp = 10 * stamp + (at[STAMP_LEN + i] - '0');
    sampled(g, now_ns() + STAMP_BASE - stamp);
}

static int count_markers(struct group *g, struct conn *c, const uint8_t *from, const uint8_t *end) {
    int count = 0;
    while ((from = memmem(from, end - from, g->marker, g->marker_len)) != NULL) {
        from += g->marker_len;
        count++;
        if (!c->is_sampled || --g->sample_in > 0) continue;
        if (g->mode == RAW)
            sampled(g, now_ns() - c->sent_ns);
        else
            sample_stamp(g, from, end);
    }
    return count;
}

static int is_heartbeat(const uint8_t *data, size_t len) {
    /* Alone, or the first or last of several messages in a frame. */
    return (len == 2 && !memcmp(data, "{}", 2)) ||
           (len > 3 && (!memcmp(data, "{}\n", 3) || !memcmp(data + len - 3, "\n{}", 3)));
}

static int take_data(struct engine *e, int conn, const uint8_t *data, size_t len) {
    struct group *g = &e->groups[e->conns[conn].group];
    if (is_heartbeat(data, len)) send_frame(e, conn, 1, (const uint8_t *)"{}", 2);
    if (len == 1 && *data == '2') send_frame(e, conn, 1, (const uint8_t *)"3", 1); /* Engine.IO's */
    if (len <= 2) return 0;
    int count = g->mode == BY_FRAME ? 1 : count_markers(g, &e->conns[conn], data, data + len);
    g->frames += count > 0;
    if (!count && memmem(data, len, "\"err\":{", 7)) {
        g->errors++;
        if (!*g->text) snprintf(g->text, TEXT_MAX, "the server answered: %.*s", (int)len, data);
    }
    return count;
}

/* Take the whole frames of these bytes; return how many bytes they were. */
static size_t take_frames(struct engine *e, int conn, const uint8_t *data, size_t size, int *count) {
    size_t at = 0;
    while (size - at >= 2) {
        const uint8_t *frame = data + at;
        size_t len = frame[1] & 0x7f, head = 2;
        if (len == 126) {
            head = 4;
            if (size - at < head) break;
            len = (size_t)frame[2] << 8 | frame[3];
        } else if (len == 127) {
            head = 10;
            if (size - at < head) break;
            len = 0;
            for (int i = 2; i < 10; i++) len = len << 8 | frame[i];
        }
        if (size - at < head + len) break;
        const uint8_t *payload = frame + head;
        at += head + len;
        switch (frame[0] & 0x0f) {
        case 0x8: /* close */
            ended(e, conn, len < 2 ? 1005 : payload[0] << 8 | payload[1], (const char *)payload + 2,
                 len < 2 ? 0 : (int)len - 2);
            return size;
        case 0x9: /* ping */
            if (len <= 125) send_frame(e, conn, 0xA, payload, (int)len);
            break;
        case 0xA:
            break;
        default:
            *count += take_data(e, conn, payload, len);
        }
    }
    return at;
}

static void receive(struct engine *e, int conn) {
    struct conn *c = &e->conns[conn];
    struct group *g = &e->groups[c->group];
    size_t size = c->kept_len;
    if (size) memcpy(e->buffer, c->kept, size);
    ssize_t got = recv(c->fd, e->buffer + size, READ_BYTES - size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        ended(e, conn, 1006, got ? "reset" : "no close frame", TEXT_MAX / 2);
        return;
    }
    size += got;
    g->reads++;
    int count = 0;
    size_t taken;
    if (g->mode == RAW) {
        count = count_markers(g, c, e->buffer, e->buffer + size);
        /* Keep what may be the beginning of a marker, and never a whole one. */
        size_t kept = (size_t)g->marker_len - 1;
        taken = count ? size : size < kept ? 0 : size - kept;
    } else {
        taken = take_frames(e, conn, e->buffer, size, &count);
    }
    c->kept_len = 0;
    if (taken < size) {
        append(&c->kept, &c->kept_len, &c->kept_room, e->buffer + taken, size - taken);
        if (c->kept_len == READ_BYTES && !*e->fault) snprintf(e->fault, TEXT_MAX, "a frame above %d bytes", READ_BYTES);
    }
    c->received += count;
    g->received += count;
    if (c->is_pacer && g->is_paced)
        for (int i = 0; i < count; i++) send_next(e, c->room, now_ns(), 1);
}

/* --- The loop --- */

static int64_t send_due(struct engine *e, int64_t now, int64_t wake) {
    for (int i = 0; i < e->group_count; i++) {
        struct group *g = &e->groups[i];
        if (!g->step_ns) continue;
        for (int burst = 0; g->due_ns <= now && burst < BURST_MAX; burst++) {
            send_next(e, g->rooms[g->next_room++ % g->room_count], g->due_ns, 0);
            g->due_ns += g->step_ns;
        }
        if (g->due_ns < wake) wake = g->due_ns;
    }
    return wake;
}

/* Send and read for so long, or until `group` has received `until` events. Returns -1 when it cannot go on. */
int engine_run(struct engine *e, int64_t duration_ns, int group, int64_t until) {
    struct epoll_event ready[READY_MAX];
    int64_t now = now_ns(), end = now + duration_ns;
    do {
        int64_t wait = send_due(e, now, end) - now;
        struct timespec timeout = {0, 0};
        if (wait > 0) timeout = (struct timespec){wait / 1000000000, wait % 1000000000};
        int count = epoll_pwait2(e->epoll, ready, READY_MAX, &timeout, NULL);
        if (count < 0 && errno != EINTR) snprintf(e->fault, TEXT_MAX, "epoll_pwait2: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            int conn = (int)ready[i].data.u32;
            struct conn *c = &e->conns[conn];
            if (!c->is_watched) {
                ended(e, conn, 1006, "while nobody read", TEXT_MAX / 2);
                continue;
            }
            if (ready[i].events & EPOLLOUT) send_rest(e, conn);
            if (ready[i].events & ~(uint32_t)EPOLLOUT) receive(e, conn);
        }
        if (*e->fault) return -1;
        if (group >= 0 && e->groups[group].received >= until) return 0;
        now = now_ns();
    } while (now < end);
    return 0;
}

/* Closed loop: `in_flight` messages per room from now on. */
void engine_pace(struct engine *e, int group, int in_flight) {
    struct group *g = &e->groups[group];
    g->is_paced = 1;
    for (int i = 0; i < in_flight; i++)
        for (int j = 0; j < g->room_count; j++) send_next(e, g->rooms[j], now_ns(), 1);
}

/* Open loop: a message every `step_ns` from now on, room after room, whether or not the server keeps up. */
void engine_rate(struct engine *e, int group, int64_t step_ns) {
    e->groups[group].step_ns = step_ns;
    e->groups[group].due_ns = now_ns();
}

/* No new messages; what is in flight arrives. */
void engine_stop(struct engine *e, int group) { e->groups[group].is_paced = 0, e->groups[group].step_ns = 0; }

/* Send one message in a room, by the next of its members who is not the pacer. */
void engine_send(struct engine *e, int room) { send_next(e, room, now_ns(), 1); }

/* Send these messages once each instead of the rooms' own; the memory stays Python's. */
void engine_feed(struct engine *e, int group, const uint8_t *bytes, const int64_t *ends, int64_t count) {
    struct group *g = &e->groups[group];
    g->feed = bytes, g->feed_ends = ends, g->feed_count = count, g->feed_next = 0;
}

/* Let only the first members of a room send, and sample only what the others get. */
void engine_senders(struct engine *e, int room, int count) {
    struct room *r = &e->rooms[room];
    r->sender_count = count;
    for (int i = 0; i < count; i++) e->conns[r->conns[i]].is_sampled = 0;
}

/* Stop or resume reading a connection. While it is not read, only its end is noticed. */
void engine_watch(struct engine *e, int conn, int is_watched) {
    if (e->conns[conn].closed_ns) return;
    e->conns[conn].is_watched = is_watched;
    watch(e, conn, EPOLL_CTL_MOD, is_watched ? EPOLLIN : EPOLLRDHUP);
}

/* Let go of a connection; its socket is Python's again. */
void engine_forget(struct engine *e, int conn) {
    if (!e->conns[conn].closed_ns) epoll_ctl(e->epoll, EPOLL_CTL_DEL, e->conns[conn].fd, NULL);
    e->conns[conn].closed_ns = now_ns();
}

/* --- Reading results --- */

const char *engine_fault(struct engine *e) { return e->fault; }
const char *engine_text(struct engine *e, int group) { return e->groups[group].text; }
const int64_t *engine_samples(struct engine *e, int group) { return e->groups[group].samples; }
void engine_clear_samples(struct engine *e, int group) { e->groups[group].sample_count = 0; }

void engine_counts(struct engine *e, int group, int64_t *counts) {
    struct group *g = &e->groups[group];
    int64_t all[] = {g->sent, g->received, g->frames, g->reads, g->errors, g->closed, g->sample_count};
    memcpy(counts, all, sizeof all);
}

void engine_conn_counts(struct engine *e, int conn, int64_t *counts) {
    struct conn *c = &e->conns[conn];
    int64_t all[] = {c->sent, c->received, c->closed_ns, c->close_code};
    memcpy(counts, all, sizeof all);
}

int64_t engine_room_sent(struct engine *e, int room) { return e->rooms[room].sent; }
