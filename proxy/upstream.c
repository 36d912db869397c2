/* SPDX-License-Identifier: Apache-2.0 */
/* Workers and their connections: made, kept, taken, closed.
 * The difficulty: a kept connection may end at any time, also between two reads of ours; whoever
 * takes one must be able to live with that. */
#include "base/err.h"
#include "proxy/probe_priv.h"
#include "proxy/upstream_priv.h"
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/un.h>

/* --- workers ------------------------------------------------------------------------------- */

struct proxy_worker *proxy_worker_add(struct proxy *p, uint32_t service,
                                      const struct sockaddr *address, socklen_t length)
{
    struct proxy_worker *w;

    KG_ASSERT(length <= sizeof w->address && !p->closing);
    w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->proxy = p;
    w->service = service;
    w->refs = 1;
    w->most_streams = UPSTREAM_STREAMS;
    memcpy(&w->address, address, length);
    kg_list_init(&w->connections);
    kg_list_init(&w->idle);
    kg_list_init(&w->sessions);
    kg_list_init(&w->idle_sessions);
    kg_list_push_back(&p->workers, &w->link);
    return w;
}

void proxy_worker_was_frozen(struct proxy_worker *w)
{
    w->freezes++;
}

void proxy_worker_set_user(struct proxy_worker *w, void *user)
{
    w->user = user;
}

void *proxy_worker_user(const struct proxy_worker *w)
{
    return w->user;
}

void worker_ref(struct proxy_worker *w)
{
    w->refs++;
}

void worker_unref(struct proxy_worker *w)
{
    if (--w->refs == 0)
        free(w);
}

/* Connects that are under way fail at once: their exchanges ask the gate again. */
static void fail_connect(struct upstream_conn *c)
{
    c->connecting = false;
    c->on_connected(c, UV_ECANCELED);
}

void proxy_worker_remove(struct proxy_worker *w)
{
    KG_ASSERT(!w->removed);
    w->removed = true;
    proxy_worker_probe_stop(w);
    KG_LIST_EACH_SAFE(it, &w->idle)
    upstream_conn_close(KG_LIST_ENTRY(it, struct upstream_conn, idle));
    upstream_http2_worker_gone(w);
    KG_LIST_EACH_SAFE(it, &w->connections)
    {
        struct upstream_conn *c = KG_LIST_ENTRY(it, struct upstream_conn, link);
        if (c->connecting)
            fail_connect(c);
    }
    kg_list_remove(&w->link);
    worker_unref(w);
}

void workers_close(struct proxy *p)
{
    KG_LIST_EACH_SAFE(it, &p->workers)
    proxy_worker_remove(KG_LIST_ENTRY(it, struct proxy_worker, link));
}

/* --- idle connections ---------------------------------------------------------------------- */

static struct upstream_conn *conn_of(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct upstream_conn, wire);
}

static size_t idle_room(struct wire *w)
{
    (void)w;
    return 1;
}

/* An answer that nobody asked for would become the next one's. */
static void idle_bytes(struct wire *w, char *bytes, size_t n)
{
    (void)bytes;
    (void)n;
    upstream_conn_close(conn_of(w));
}

static void idle_over(struct wire *w)
{
    upstream_conn_close(conn_of(w));
}

static void idle_drained(struct wire *w)
{
    (void)w;
}

static const struct wire_kind idle_wire = {.room = idle_room,
                                           .on_bytes = idle_bytes,
                                           .on_eof = idle_over,
                                           .on_drained = idle_drained,
                                           .on_broken = idle_over};

void upstream_conn_rest(struct upstream_conn *c, struct kg_list *list)
{
    kg_list_push_front(list, &c->idle);
    kg_list_push_back(&c->wire.proxy->idle_upstreams, &c->rest);
    c->freezes = c->worker->freezes;
    c->worker->idle_count++;
}

void upstream_conn_wake(struct upstream_conn *c)
{
    if (kg_list_empty(&c->idle))
        return;
    kg_list_remove(&c->idle);
    kg_list_remove(&c->rest);
    c->worker->idle_count--;
}

bool upstream_may_rest(const struct proxy_worker *w, size_t most)
{
    const struct proxy *p = w->proxy;

    return !w->removed && !p->closing && w->idle_count < most &&
           p->upstreams <= p->params.max_connections;
}

/* Workers have as many descriptors as clients. Whoever rests longest makes room for another. */
static void make_room(struct proxy *p)
{
    struct kg_list *first;

    while (p->upstreams >= p->params.max_connections &&
           (first = kg_list_first(&p->idle_upstreams)) != NULL) {
        struct upstream_conn *c = KG_LIST_ENTRY(first, struct upstream_conn, rest);
        if (c->session)
            upstream_http2_give_up(c);
        else
            upstream_conn_close(c);
    }
}

struct upstream_conn *upstream_conn_take(struct proxy_worker *w)
{
    struct kg_list *first = kg_list_first(&w->idle);
    struct upstream_conn *c;

    if (!first)
        return NULL;
    c = KG_LIST_ENTRY(first, struct upstream_conn, idle);
    upstream_conn_wake(c);
    kg_timer_disarm(&w->proxy->wheel, &c->deadline);
    return c;
}

static bool can_be_kept(const struct upstream_conn *c)
{
    const struct wire *w = &c->wire;

    return c->keep_alive && !w->eof && !w->broken && !w->unwritable && !w->closing && !w->writing &&
           upstream_may_rest(c->worker, KG_MAX_UPSTREAM_SURPLUS);
}

void upstream_conn_give(struct upstream_conn *c)
{
    if (!can_be_kept(c)) {
        upstream_conn_close(c);
        return;
    }
    c->up.reused = true;
    c->user = NULL;
    kg_buf_fini(&c->in);
    body_fini(&c->body);
    wire_trim(&c->wire);
    c->wire.kind = &idle_wire;
    upstream_conn_rest(c, &c->worker->idle);
    if (c->worker->idle_count > KG_MAX_UPSTREAM_IDLE) /* it may be asked for again at once */
        kg_timer_arm(&c->wire.proxy->wheel, &c->deadline,
                     proxy_now(c->wire.proxy) + KG_UPSTREAM_SURPLUS_MS);
    wire_read(&c->wire, true);
}

/* --- life of a connection ------------------------------------------------------------------ */

static void on_closed(struct wire *w)
{
    struct upstream_conn *c = conn_of(w);

    kg_buf_fini(&c->in);
    body_fini(&c->body);
    worker_unref(c->worker);
    free(c->session);
    free(c);
}

void upstream_conn_close(struct upstream_conn *c)
{
    c->connecting = false;
    kg_timer_disarm(&c->wire.proxy->wheel, &c->deadline);
    upstream_conn_wake(c);
    kg_list_remove(&c->link);
    if (!c->wire.closing)
        c->wire.proxy->upstreams--;
    wire_close(&c->wire);
}

static void on_deadline(struct kg_timer *t)
{
    struct upstream_conn *c = KG_CONTAINER_OF(t, struct upstream_conn, deadline);

    if (!c->connecting) {
        upstream_conn_close(c);
        return;
    }
    c->connecting = false;
    c->on_connected(c, UV_ETIMEDOUT);
}

/* A worker is next door: nothing is to be learnt about the way there, so the plainest control of
 * congestion, which every kernel has and allows, is the cheapest. */
static void set_near(struct upstream_conn *c)
{
    uv_tcp_nodelay(&c->wire.uv.tcp, 1);
    (void)setsockopt(wire_fd(&c->wire), IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    wire_probe_peer(wire_fd(&c->wire)); /* it may be taken off its network, or its machine fail */
}

static void on_connect(uv_connect_t *req, int status)
{
    struct upstream_conn *c = KG_CONTAINER_OF(req, struct upstream_conn, connect);

    if (!c->connecting)
        return; /* closed or given up meanwhile */
    c->connecting = false;
    kg_timer_disarm(&c->wire.proxy->wheel, &c->deadline);
    if (status == 0 && !c->wire.unix_socket)
        set_near(c);
    if (status == 0)
        wire_read(&c->wire, true);
    c->on_connected(c, status);
}

static int start_connect(struct upstream_conn *c)
{
    const struct sockaddr_storage *to = &c->worker->address;

    if (!c->wire.unix_socket)
        return uv_tcp_connect(&c->connect, &c->wire.uv.tcp, (const struct sockaddr *)to,
                              on_connect);
    uv_pipe_connect(&c->connect, &c->wire.uv.pipe, ((const struct sockaddr_un *)to)->sun_path,
                    on_connect);
    return 0;
}

struct upstream_conn *upstream_conn_open(struct proxy_worker *w, int64_t timeout_ms, void *user,
                                         void (*on_connected)(struct upstream_conn *c, int status))
{
    struct proxy *p = w->proxy;
    struct upstream_conn *c = calloc(1, sizeof *c);

    make_room(p);
    if (!c || wire_init(&c->wire, p, w->address.ss_family == AF_UNIX, UPSTREAM_QUEUE_BYTES,
                        &idle_wire, on_closed) != 0) {
        free(c);
        return NULL;
    }
    c->worker = w;
    worker_ref(w);
    c->user = user;
    c->on_connected = on_connected;
    kg_buf_init(&c->in, KG_MAX_HEAD_BYTES);
    kg_list_init(&c->idle);
    kg_list_init(&c->rest);
    p->upstreams++;
    kg_list_push_back(&w->connections, &c->link);
    kg_timer_init(&c->deadline, on_deadline);
    p->stats->upstream_connects++;
    if (start_connect(c) != 0) {
        upstream_conn_close(c);
        return NULL;
    }
    c->connecting = true;
    kg_timer_arm(&p->wheel, &c->deadline, proxy_now(p) + timeout_ms);
    return c;
}
