/* SPDX-License-Identifier: Apache-2.0 */
/* Workers and their connections: made, kept, taken, closed.
 * The difficulty: a kept connection may end at any time, also between two reads of ours; whoever
 * takes one must be able to live with that. */
#include "base/err.h"
#include "proxy/probe_priv.h"
#include "proxy/upstream_priv.h"
#include <stdlib.h>
#include <sys/un.h>

/* --- workers ------------------------------------------------------------------------------- */

struct proxy_worker *proxy_worker_add(struct proxy *p, uint64_t id, uint32_t service,
                                      const struct sockaddr *address, socklen_t length)
{
    struct proxy_worker *w;

    KG_ASSERT(length <= sizeof w->address && !p->closing);
    w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->proxy = p;
    w->id = id;
    w->service = service;
    w->refs = 1;
    memcpy(&w->address, address, length);
    kg_list_init(&w->connections);
    kg_list_init(&w->idle);
    kg_list_push_back(&p->workers, &w->link);
    return w;
}

uint64_t proxy_worker_id(const struct proxy_worker *w)
{
    return w->id;
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
static void fail_connect(struct upstream *u)
{
    u->connecting = false;
    u->on_connected(u, UV_ECANCELED);
}

void proxy_worker_remove(struct proxy_worker *w)
{
    KG_ASSERT(!w->removed);
    w->removed = true;
    proxy_worker_probe_stop(w);
    KG_LIST_EACH_SAFE(it, &w->idle)
    upstream_close(KG_LIST_ENTRY(it, struct upstream, idle));
    KG_LIST_EACH_SAFE(it, &w->connections)
    {
        struct upstream *u = KG_LIST_ENTRY(it, struct upstream, link);
        if (u->connecting)
            fail_connect(u);
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

static struct upstream *upstream_of(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct upstream, wire);
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
    upstream_close(upstream_of(w));
}

static void idle_over(struct wire *w)
{
    upstream_close(upstream_of(w));
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

struct upstream *upstream_take(struct proxy_worker *w)
{
    struct kg_list *first = kg_list_first(&w->idle);

    if (!first)
        return NULL;
    kg_list_remove(first);
    w->idle_count--;
    return KG_LIST_ENTRY(first, struct upstream, idle);
}

static bool can_be_kept(const struct upstream *u)
{
    const struct wire *w = &u->wire;

    return u->keep_alive && !w->eof && !w->broken && !w->unwritable && !w->closing && !w->writing &&
           !u->worker->removed && !w->proxy->closing &&
           u->worker->idle_count < KG_MAX_UPSTREAM_IDLE;
}

void upstream_give(struct upstream *u)
{
    if (!can_be_kept(u)) {
        upstream_close(u);
        return;
    }
    u->reused = true;
    u->user = NULL;
    kg_buf_fini(&u->in);
    body_fini(&u->body);
    wire_trim(&u->wire);
    u->wire.kind = &idle_wire;
    kg_list_push_front(&u->worker->idle, &u->idle);
    u->worker->idle_count++;
    wire_read(&u->wire, true);
}

/* --- life of a connection ------------------------------------------------------------------ */

static void on_closed(struct wire *w)
{
    struct upstream *u = upstream_of(w);

    kg_buf_fini(&u->in);
    body_fini(&u->body);
    worker_unref(u->worker);
    free(u);
}

void upstream_close(struct upstream *u)
{
    u->connecting = false;
    kg_timer_disarm(&u->wire.proxy->wheel, &u->deadline);
    if (!kg_list_empty(&u->idle)) {
        kg_list_remove(&u->idle);
        u->worker->idle_count--;
    }
    kg_list_remove(&u->link);
    wire_close(&u->wire);
}

static void on_deadline(struct kg_timer *t)
{
    struct upstream *u = KG_CONTAINER_OF(t, struct upstream, deadline);

    u->connecting = false;
    u->on_connected(u, UV_ETIMEDOUT);
}

static void on_connect(uv_connect_t *req, int status)
{
    struct upstream *u = KG_CONTAINER_OF(req, struct upstream, connect);

    if (!u->connecting)
        return; /* closed or given up meanwhile */
    u->connecting = false;
    kg_timer_disarm(&u->wire.proxy->wheel, &u->deadline);
    if (status == 0 && !u->wire.unix_socket)
        uv_tcp_nodelay(&u->wire.uv.tcp, 1);
    if (status == 0)
        wire_read(&u->wire, true);
    u->on_connected(u, status);
}

static int start_connect(struct upstream *u)
{
    const struct sockaddr_storage *to = &u->worker->address;

    if (!u->wire.unix_socket)
        return uv_tcp_connect(&u->connect, &u->wire.uv.tcp, (const struct sockaddr *)to,
                              on_connect);
    uv_pipe_connect(&u->connect, &u->wire.uv.pipe, ((const struct sockaddr_un *)to)->sun_path,
                    on_connect);
    return 0;
}

struct upstream *upstream_connect(struct proxy_worker *w, int64_t timeout_ms, void *user,
                                  void (*on_connected)(struct upstream *u, int status))
{
    struct proxy *p = w->proxy;
    struct upstream *u = calloc(1, sizeof *u);

    if (!u || wire_init(&u->wire, p, w->address.ss_family == AF_UNIX, UPSTREAM_QUEUE_BYTES,
                        &idle_wire, on_closed) != 0) {
        free(u);
        return NULL;
    }
    u->worker = w;
    worker_ref(w);
    u->user = user;
    u->on_connected = on_connected;
    kg_buf_init(&u->in, KG_MAX_HEAD_BYTES);
    kg_list_init(&u->idle);
    kg_list_push_back(&w->connections, &u->link);
    kg_timer_init(&u->deadline, on_deadline);
    p->stats->upstream_connects++;
    if (start_connect(u) != 0) {
        upstream_close(u);
        return NULL;
    }
    u->connecting = true;
    kg_timer_arm(&p->wheel, &u->deadline, proxy_now(p) + timeout_ms);
    return u;
}
