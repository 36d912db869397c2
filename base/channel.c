/* SPDX-License-Identifier: Apache-2.0 */
/* Messages over SOCK_SEQPACKET. The difficulty: either callback may close the channel, and a lost
 * peer is found while sending, where nobody expects to be called back. */
#include "base/channel.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/list.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGES_PER_WAKE 64

struct queued {
    struct kg_list link;
    size_t n;
    char bytes[];
};

struct kg_channel {
    uv_poll_t poll;
    int fd;
    bool lost, closing;
    kg_channel_message *on_message;
    kg_channel_lost *on_lost;
    kg_channel_closed *on_closed;
    void *arg;
    struct kg_list queue;
    size_t queued;
    _Alignas(16) char in[KG_MAX_MESSAGE_BYTES];
};

int kg_channel_pair(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0 ? 0
                                                                                           : KG_EIO;
}

static void watch(struct kg_channel *c);

static void lose(struct kg_channel *c)
{
    if (c->closing)
        return;
    uv_poll_stop(&c->poll);
    c->lost = true;
    c->on_lost(c->arg);
}

/* 1: sent; 0: would block; -1: the peer is gone. */
static int send_now(struct kg_channel *c, const void *bytes, size_t n)
{
    ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent == (ssize_t)n)
        return 1;
    return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -1;
}

static void flush(struct kg_channel *c)
{
    struct kg_list *first;

    while ((first = kg_list_first(&c->queue)) != NULL) {
        struct queued *q = KG_LIST_ENTRY(first, struct queued, link);
        int rc = send_now(c, q->bytes, q->n);
        if (rc < 0)
            c->lost = true;
        if (rc <= 0)
            return;
        kg_list_remove(&q->link);
        free(q);
        c->queued--;
    }
    watch(c);
}

static void receive(struct kg_channel *c)
{
    for (int i = 0; i < MESSAGES_PER_WAKE && !c->closing && !c->lost; i++) {
        ssize_t n = recv(c->fd, c->in, sizeof c->in, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0 || (size_t)n > sizeof c->in) {
            c->lost = true;
            return;
        }
        c->on_message(c->arg, c->in, (size_t)n);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct kg_channel *c = poll->data;

    if (status < 0)
        c->lost = true;
    if (!c->lost && (events & UV_WRITABLE))
        flush(c);
    if (!c->lost && (events & UV_READABLE))
        receive(c);
    if (c->lost)
        lose(c);
}

static void watch(struct kg_channel *c)
{
    int events = UV_READABLE | (kg_list_empty(&c->queue) ? 0 : UV_WRITABLE);

    if (!c->closing)
        uv_poll_start(&c->poll, events, on_poll);
}

struct kg_channel *kg_channel_open(uv_loop_t *loop, int fd, kg_channel_message *on_message,
                                   kg_channel_lost *on_lost, void *arg)
{
    struct kg_channel *c = calloc(1, sizeof *c);

    if (!c || uv_poll_init(loop, &c->poll, fd) != 0) {
        free(c);
        close(fd);
        return NULL;
    }
    c->poll.data = c;
    c->fd = fd;
    c->on_message = on_message;
    c->on_lost = on_lost;
    c->arg = arg;
    kg_list_init(&c->queue);
    watch(c);
    return c;
}

static int enqueue(struct kg_channel *c, const void *bytes, size_t n)
{
    struct queued *q = c->queued < KG_MAX_CHANNEL_QUEUE ? malloc(sizeof *q + n) : NULL;

    if (!q) {
        shutdown(c->fd, SHUT_RDWR); /* the loop finds the end and says so */
        return KG_ELIMIT;
    }
    q->n = n;
    memcpy(q->bytes, bytes, n);
    kg_list_push_back(&c->queue, &q->link);
    c->queued++;
    watch(c);
    return 0;
}

int kg_channel_send(struct kg_channel *c, const void *bytes, size_t n)
{
    int rc;

    if (n == 0 || n > KG_MAX_MESSAGE_BYTES)
        return KG_ELIMIT;
    if (c->lost || c->closing)
        return KG_ECLOSED;
    if (!kg_list_empty(&c->queue))
        return enqueue(c, bytes, n);
    rc = send_now(c, bytes, n);
    if (rc < 0) {
        shutdown(c->fd, SHUT_RDWR);
        return KG_ECLOSED;
    }
    return rc > 0 ? 0 : enqueue(c, bytes, n);
}

size_t kg_channel_queued(const struct kg_channel *c)
{
    return c->queued;
}

static void on_closed(uv_handle_t *h)
{
    struct kg_channel *c = h->data;
    kg_channel_closed *closed = c->on_closed;
    void *arg = c->arg;

    KG_LIST_EACH_SAFE(it, &c->queue)
    free(KG_LIST_ENTRY(it, struct queued, link));
    close(c->fd);
    free(c);
    if (closed)
        closed(arg);
}

void kg_channel_close(struct kg_channel *c, kg_channel_closed *closed)
{
    KG_ASSERT(!c->closing);
    c->closing = true;
    c->on_closed = closed;
    uv_close((uv_handle_t *)&c->poll, on_closed);
}
