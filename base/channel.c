/* SPDX-License-Identifier: Apache-2.0 */
/* The message channel. The difficulty: a loss may be found in the middle of the owner's send, or in
 * a callback that closes the channel; so losses are told by the loop, and a close is looked for
 * after each callback. */
#include "base/channel.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/list.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Messages per wake-up, so that a chatty peer does not starve the rest of the loop. */
#define BATCH 64

struct queued {
    struct kg_list link;
    size_t n;
    unsigned char bytes[];
};

/* Once not OPEN a channel only moves on: DOOMED still reads what the peer said before it went. */
enum channel_state { OPEN, DOOMED, LOST, CLOSING };

struct kg_channel {
    uv_poll_t poll;
    uv_idle_t doom;  /* runs while DOOMED */
    int fd, watched; /* events that poll is started for */
    enum channel_state state;
    unsigned handles; /* of the two, not yet closed */
    struct kg_list queue;
    size_t queue_count;
    kg_channel_message *on_message;
    kg_channel_lost *on_lost;
    kg_channel_closed *on_closed;
    void *arg;
};

static void on_poll(uv_poll_t *poll, int status, int events);

int kg_channel_pair(int fds[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        return KG_EIO;
    return 0;
}

static void watch(struct kg_channel *c, int events)
{
    if (c->watched == events)
        return;
    c->watched = events;
    KG_ASSERT(uv_poll_start(&c->poll, events, on_poll) == 0);
}

/* A message may be a secret. */
static void forget(struct queued *q)
{
    explicit_bzero(q->bytes, q->n);
    free(q);
}

static void drop_queue(struct kg_channel *c)
{
    while (!kg_list_empty(&c->queue)) {
        struct queued *q = KG_LIST_ENTRY(kg_list_first(&c->queue), struct queued, link);
        kg_list_remove(&q->link);
        forget(q);
    }
    c->queue_count = 0;
}

static void lose(struct kg_channel *c)
{
    KG_ASSERT(c->state == OPEN || c->state == DOOMED);
    c->state = LOST;
    uv_poll_stop(&c->poll);
    uv_idle_stop(&c->doom);
    drop_queue(c);
    c->on_lost(c->arg);
}

/* One message: 1 handed over, 0 nothing there, KG_ECLOSED the end or broken framing. */
static int receive_one(struct kg_channel *c)
{
    _Alignas(16) unsigned char bytes[KG_MAX_MESSAGE_BYTES];
    ssize_t n;

    do {
        n = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_TRUNC);
        /* A peer that died with unread messages shows up as a reset in front of its last words. */
    } while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : KG_ECLOSED;
    if (n == 0 || (size_t)n > sizeof bytes)
        return KG_ECLOSED;
    c->on_message(c->arg, bytes, (size_t)n);
    return 1;
}

/* As receive_one, for a batch; stops when a callback closed the channel. */
static int receive_batch(struct kg_channel *c)
{
    int got = 1;

    for (int i = 0; i < BATCH && got == 1 && c->state != CLOSING; i++)
        got = receive_one(c);
    return got;
}

/* The doomed channel's turn: hears the rest out, then tells the loss. */
static void on_doom(uv_idle_t *doom)
{
    struct kg_channel *c = doom->data;

    if (receive_batch(c) != 1 && c->state == DOOMED)
        lose(c);
}

/* Sending is over. Safe anywhere: the owner hears of it from the loop. */
static void condemn(struct kg_channel *c)
{
    if (c->state != OPEN)
        return;
    c->state = DOOMED;
    drop_queue(c);
    uv_poll_stop(&c->poll);
    KG_ASSERT(uv_idle_start(&c->doom, on_doom) == 0);
}

/* 0 sent, KG_EAGAIN the peer is slow, KG_ECLOSED it is gone. */
static int try_send(struct kg_channel *c, const void *bytes, size_t n)
{
    ssize_t sent;

    do {
        sent = send(c->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return 0;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? KG_EAGAIN : KG_ECLOSED;
}

static int enqueue(struct kg_channel *c, const void *bytes, size_t n)
{
    struct queued *q = c->queue_count < KG_MAX_CHANNEL_QUEUE ? malloc(sizeof *q + n) : NULL;

    if (!q) {
        condemn(c);
        return KG_ELIMIT;
    }
    q->n = n;
    memcpy(q->bytes, bytes, n);
    kg_list_push_back(&c->queue, &q->link);
    c->queue_count++;
    watch(c, UV_READABLE | UV_WRITABLE);
    return 0;
}

static void flush_batch(struct kg_channel *c)
{
    for (int i = 0; i < BATCH && !kg_list_empty(&c->queue); i++) {
        struct queued *q = KG_LIST_ENTRY(kg_list_first(&c->queue), struct queued, link);
        const int code = try_send(c, q->bytes, q->n);

        if (code == KG_EAGAIN)
            return;
        if (code != 0) {
            condemn(c);
            return;
        }
        kg_list_remove(&q->link);
        forget(q);
        c->queue_count--;
    }
    if (kg_list_empty(&c->queue))
        watch(c, UV_READABLE);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct kg_channel *c = poll->data;

    if (status < 0) { /* libuv's word for a socket in error; it watches it no more */
        condemn(c);
        return;
    }
    if (events & UV_WRITABLE)
        flush_batch(c);
    if (c->state == OPEN && (events & UV_READABLE) && receive_batch(c) == KG_ECLOSED &&
        (c->state == OPEN || c->state == DOOMED))
        lose(c);
}

static struct kg_channel *channel_new(uv_loop_t *loop, int fd)
{
    struct kg_channel *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    if (uv_poll_init(loop, &c->poll, fd) != 0) {
        free(c);
        return NULL;
    }
    KG_ASSERT(uv_idle_init(loop, &c->doom) == 0);
    c->poll.data = c->doom.data = c;
    c->handles = 2;
    c->fd = fd;
    kg_list_init(&c->queue);
    return c;
}

struct kg_channel *kg_channel_open(uv_loop_t *loop, int fd, kg_channel_message *on_message,
                                   kg_channel_lost *on_lost, void *arg)
{
    struct kg_channel *c = channel_new(loop, fd);

    if (!c) {
        close(fd);
        return NULL;
    }
    c->on_message = on_message;
    c->on_lost = on_lost;
    c->arg = arg;
    watch(c, UV_READABLE);
    return c;
}

int kg_channel_send(struct kg_channel *c, const void *bytes, size_t n)
{
    int code;

    KG_ASSERT(n > 0); /* an empty message would read as the end */
    if (c->state != OPEN)
        return KG_ECLOSED;
    if (n > KG_MAX_MESSAGE_BYTES) {
        condemn(c);
        return KG_ELIMIT;
    }
    if (!kg_list_empty(&c->queue))
        return enqueue(c, bytes, n);
    code = try_send(c, bytes, n);
    if (code == KG_EAGAIN)
        return enqueue(c, bytes, n);
    if (code != 0)
        condemn(c);
    return code;
}

size_t kg_channel_queued(const struct kg_channel *c)
{
    return c->queue_count;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct kg_channel *c = handle->data;
    kg_channel_closed *on_closed = c->on_closed;
    void *arg = c->arg;

    if (--c->handles > 0)
        return;
    free(c);
    if (on_closed)
        on_closed(arg);
}

void kg_channel_close(struct kg_channel *c, kg_channel_closed *on_closed)
{
    KG_ASSERT(c->state != CLOSING);
    c->state = CLOSING;
    c->on_closed = on_closed;
    drop_queue(c);
    uv_close((uv_handle_t *)&c->poll, on_handle_closed);
    uv_close((uv_handle_t *)&c->doom, on_handle_closed);
    close(c->fd); /* not watched any more; the peer learns it now */
    c->fd = -1;
}
