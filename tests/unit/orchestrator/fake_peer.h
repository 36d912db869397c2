/* SPDX-License-Identifier: Apache-2.0 */
/* A peer on a Unix socket that says exactly the bytes a test wants, on the test's own loop: for
 * faults that no real engine shows. The difficulty: one byte at a time must arrive as such. */
#ifndef TESTS_FAKE_PEER_H
#define TESTS_FAKE_PEER_H

#include "base/buf.h"
#include "base/list.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

struct fake_peer;
struct fake_conn {
    struct kg_list link;
    uv_pipe_t pipe;
    uv_idle_t drip;
    struct fake_peer *peer;
    struct kg_buf in;
    const char *left; /* still to be dripped */
    size_t left_n;
    bool close_after;
    int open_handles;
};
/* A request's head has come (its body too, when it came along). */
typedef void fake_request(struct fake_conn *c, const char *request);
struct fake_peer {
    uv_loop_t *loop;
    uv_pipe_t listener;
    char path[64];
    fake_request *on_request;
    void *arg;
    struct kg_list conns;
    int accepted, requests;
};

static inline void fake_conn_freed(uv_handle_t *h)
{
    struct fake_conn *c = h->data;

    if (--c->open_handles > 0)
        return;
    kg_buf_fini(&c->in);
    free(c);
}

static inline void fake_conn_close(struct fake_conn *c)
{
    if (uv_is_closing((uv_handle_t *)&c->pipe))
        return;
    kg_list_remove(&c->link);
    uv_close((uv_handle_t *)&c->pipe, fake_conn_freed);
    uv_close((uv_handle_t *)&c->drip, fake_conn_freed);
}

static inline void fake_wrote(uv_write_t *w, int status)
{
    (void)status;
    free(w);
}

static inline void fake_say_n(struct fake_conn *c, const void *bytes, size_t n)
{
    uv_write_t *w = malloc(sizeof *w + n);
    uv_buf_t b;

    ck_assert_ptr_nonnull(w);
    memcpy(w + 1, bytes, n);
    b = uv_buf_init((char *)(w + 1), (unsigned)n);
    if (uv_write(w, (uv_stream_t *)&c->pipe, &b, 1, fake_wrote) != 0)
        free(w);
}

static inline void fake_say(struct fake_conn *c, const char *text)
{
    fake_say_n(c, text, strlen(text));
}

static inline void fake_drip_one(uv_idle_t *idle)
{
    struct fake_conn *c = idle->data;

    if (c->left_n > 0) {
        fake_say_n(c, c->left++, 1);
        c->left_n--;
        return;
    }
    uv_idle_stop(idle);
    if (c->close_after)
        fake_conn_close(c);
}

/* One byte per turn of the loop, so that the reader gets them one at a time. `bytes` must live on.
 */
static inline void fake_drip(struct fake_conn *c, const char *bytes, size_t n, bool close_after)
{
    c->left = bytes;
    c->left_n = n;
    c->close_after = close_after;
    uv_idle_start(&c->drip, fake_drip_one);
}

static inline void fake_alloc(uv_handle_t *h, size_t wanted, uv_buf_t *b)
{
    (void)h;
    *b = uv_buf_init(malloc(wanted), (unsigned)wanted);
}

static inline void fake_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    struct fake_conn *c = s->data;

    if (n > 0)
        kg_buf_append(&c->in, b->base, (size_t)n);
    free(b->base);
    if (n < 0) {
        fake_conn_close(c);
        return;
    }
    if (c->in.data && strstr(c->in.data, "\r\n\r\n")) {
        char *request = kg_buf_take(&c->in);
        kg_buf_init(&c->in, 1 << 20);
        c->peer->requests++;
        c->peer->on_request(c, request);
        free(request);
    }
}

static inline void fake_accept(uv_stream_t *listener, int status)
{
    struct fake_peer *p = listener->data;
    struct fake_conn *c = calloc(1, sizeof *c);

    ck_assert(c && status == 0);
    c->peer = p;
    c->open_handles = 2;
    kg_buf_init(&c->in, 1 << 20);
    uv_pipe_init(p->loop, &c->pipe, 0);
    uv_idle_init(p->loop, &c->drip);
    c->pipe.data = c->drip.data = c;
    kg_list_push_back(&p->conns, &c->link);
    ck_assert_int_eq(uv_accept(listener, (uv_stream_t *)&c->pipe), 0);
    uv_read_start((uv_stream_t *)&c->pipe, fake_alloc, fake_read);
    p->accepted++;
}

static inline void fake_peer_open(struct fake_peer *p, uv_loop_t *loop, fake_request *on_request,
                                  void *arg)
{
    static int count;

    *p = (struct fake_peer){.loop = loop, .on_request = on_request, .arg = arg};
    kg_list_init(&p->conns);
    snprintf(p->path, sizeof p->path, "/tmp/kgfake-%d-%d.sock", (int)getpid(), count++);
    unlink(p->path);
    uv_pipe_init(loop, &p->listener, 0);
    p->listener.data = p;
    ck_assert_int_eq(uv_pipe_bind(&p->listener, p->path), 0);
    ck_assert_int_eq(uv_listen((uv_stream_t *)&p->listener, 128, fake_accept), 0);
}

static inline void fake_peer_hang_up(struct fake_peer *p)
{
    while (!kg_list_empty(&p->conns))
        fake_conn_close(KG_LIST_ENTRY(kg_list_first(&p->conns), struct fake_conn, link));
}

static inline void fake_peer_close(struct fake_peer *p)
{
    fake_peer_hang_up(p);
    uv_close((uv_handle_t *)&p->listener, NULL); /* libuv removes the file */
}

#endif
