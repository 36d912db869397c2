/* SPDX-License-Identifier: Apache-2.0 */
/* An upgraded connection: bytes both ways, whatever they mean.
 * The difficulty: each half ends by itself, and what is on its way must still arrive. */
#include "base/err.h"
#include "proxy/exchange_priv.h"

static struct client *client_of(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct client, wire);
}

static struct exchange *exchange_of(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct upstream, wire)->user;
}

static struct wire *worker_wire(struct client *c)
{
    return &c->exchange->upstream->wire;
}

static struct wire *client_wire(struct wire *w)
{
    return &exchange_of(w)->client->wire;
}

/* A tunnel of which only one half is open lives as long as something moves. */
static void arm_half_open(struct exchange *ex)
{
    struct client *c = ex->client;
    struct proxy *p = c->wire.proxy;

    if (c->wire.eof || ex->upstream->wire.eof)
        kg_timer_arm(&p->wheel, &c->deadline, proxy_now(p) + KG_KEEPALIVE_TIMEOUT_MS);
}

static void end_if_over(struct exchange *ex)
{
    const struct wire *client = &ex->client->wire, *worker = &ex->upstream->wire;

    if (client->eof && worker->eof && wire_pending(client) + wire_pending(worker) == 0)
        exchange_end(ex, EXCHANGE_DONE);
}

/* --- bytes --------------------------------------------------------------------------------- */

static void from_client(struct wire *w, char *bytes, size_t n)
{
    struct exchange *ex = client_of(w)->exchange;

    ex->bytes_in += n;
    arm_half_open(ex);
    if (wire_send(worker_wire(client_of(w)), &(uv_buf_t){.base = bytes, .len = n}, 1) != 0)
        exchange_end(ex, EXCHANGE_BROKEN);
}

static void from_worker(struct wire *w, char *bytes, size_t n)
{
    struct exchange *ex = exchange_of(w);

    ex->bytes_out += n;
    arm_half_open(ex);
    if (wire_send(client_wire(w), &(uv_buf_t){.base = bytes, .len = n}, 1) != 0)
        exchange_end(ex, EXCHANGE_CLIENT_GONE);
}

static size_t room_from_client(struct wire *w)
{
    return wire_pending(worker_wire(client_of(w))) > 0 ? 0 : KG_READ_BUFFER_BYTES;
}

static size_t room_from_worker(struct wire *w)
{
    return wire_pending(client_wire(w)) > 0 ? 0 : KG_READ_BUFFER_BYTES;
}

static void client_drained(struct wire *w)
{
    wire_read(worker_wire(client_of(w)), true);
    end_if_over(client_of(w)->exchange);
}

static void worker_drained(struct wire *w)
{
    wire_read(client_wire(w), true);
    end_if_over(exchange_of(w));
}

/* --- ends ---------------------------------------------------------------------------------- */

static void client_eof(struct wire *w)
{
    struct client *c = client_of(w);

    wire_fin(worker_wire(c));
    client_watch(c);
    arm_half_open(c->exchange);
    end_if_over(c->exchange);
}

static void worker_eof(struct wire *w)
{
    wire_fin(client_wire(w));
    arm_half_open(exchange_of(w));
    end_if_over(exchange_of(w));
}

static void client_broken(struct wire *w)
{
    exchange_end(client_of(w)->exchange, EXCHANGE_CLIENT_GONE);
}

static void worker_broken(struct wire *w)
{
    exchange_end(exchange_of(w), EXCHANGE_BROKEN);
}

static void client_paused(struct wire *w)
{
    client_watch(client_of(w));
}

static const struct wire_kind tunnel_client = {.room = room_from_client,
                                               .on_bytes = from_client,
                                               .on_eof = client_eof,
                                               .on_drained = client_drained,
                                               .on_broken = client_broken,
                                               .on_paused = client_paused};
static const struct wire_kind tunnel_worker = {.room = room_from_worker,
                                               .on_bytes = from_worker,
                                               .on_eof = worker_eof,
                                               .on_drained = worker_drained,
                                               .on_broken = worker_broken};

/* --- begin --------------------------------------------------------------------------------- */

/* What the client sent ahead of the 101 was kept, and is the tunnel's first bytes. */
static int send_kept(struct client *c, struct wire *worker)
{
    int rc = 0;

    if (c->in.len > 0)
        rc = wire_send(worker, &(uv_buf_t){.base = c->in.data, .len = c->in.len}, 1);
    c->exchange->bytes_in += c->in.len;
    kg_buf_fini(&c->in);
    return rc;
}

void tunnel_begin(struct exchange *ex, struct kg_str early)
{
    struct client *c = ex->client;
    struct wire *worker = &ex->upstream->wire;
    struct body_piece first = {.head = ex->response_head, .payload = early};

    KG_ASSERT(!c->taking);
    ex->state = EXCHANGE_TUNNEL;
    ex->response_head.n = 0;
    ex->bytes_out += early.n;
    c->state = CLIENT_TUNNEL;
    c->wire.kind = &tunnel_client;
    worker->kind = &tunnel_worker;
    if (body_send(&c->wire, &first) != 0) {
        exchange_end(ex, EXCHANGE_CLIENT_GONE);
        return;
    }
    if (send_kept(c, worker) != 0) {
        exchange_end(ex, EXCHANGE_BROKEN);
        return;
    }
    if (c->wire.eof)
        wire_fin(worker);
    arm_half_open(ex);
    wire_read(&c->wire, true);
    wire_read(worker, true);
}
