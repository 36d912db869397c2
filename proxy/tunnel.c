/* SPDX-License-Identifier: Apache-2.0 */
/* An upgraded connection: bytes both ways until both have ended.
 * The difficulty: each half ends by itself, and the slower side holds the faster one. */
#include "base/err.h"
#include "proxy/exchange_priv.h"

#define HALF_CLOSED_MS 60000 /* one side has ended: how long the other may be silent */

static struct client *client_of(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct client, wire);
}

static struct exchange *of_client(struct wire *w)
{
    return client_of(w)->exchange;
}

static struct exchange *of_worker(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct upstream, wire)->user;
}

static void pass(struct exchange *ex, struct wire *to, const char *bytes, size_t n, uint64_t *count)
{
    *count += n;
    if (n > 0 && wire_send(to, &(uv_buf_t){.base = (char *)bytes, .len = n}, 1) != 0)
        exchange_end(ex, EXCHANGE_BROKEN);
}

/* One side has ended: so does our half to the other; when both have, all is over. */
static void half_over(struct exchange *ex, struct wire *from, struct wire *to)
{
    struct proxy *p = from->proxy;

    if (to->eof) {
        ex->client_keep = false;
        exchange_end(ex, EXCHANGE_DONE);
        return;
    }
    wire_fin(to);
    kg_timer_arm(&p->wheel, &ex->client->deadline, proxy_now(p) + HALF_CLOSED_MS);
}

/* --- the client's side
 * ------------------------------------------------------------------------------ */

static size_t client_room(struct wire *w)
{
    return wire_pending(&of_client(w)->upstream->wire) == 0 ? KG_READ_BUFFER_BYTES : 0;
}

static void client_bytes(struct wire *w, char *bytes, size_t n)
{
    struct exchange *ex = of_client(w);

    pass(ex, &ex->upstream->wire, bytes, n, &ex->bytes_in);
}

static void client_eof(struct wire *w)
{
    struct exchange *ex = of_client(w);

    half_over(ex, w, &ex->upstream->wire);
}

static void client_drained(struct wire *w)
{
    wire_read(&of_client(w)->upstream->wire, true);
}

static void client_broken(struct wire *w)
{
    exchange_end(of_client(w), EXCHANGE_CLIENT_GONE);
}

static const struct wire_kind client_side = {.room = client_room,
                                             .on_bytes = client_bytes,
                                             .on_eof = client_eof,
                                             .on_drained = client_drained,
                                             .on_broken = client_broken};

/* --- the worker's side
 * ------------------------------------------------------------------------------ */

static size_t worker_room(struct wire *w)
{
    return wire_pending(&of_worker(w)->client->wire) == 0 ? KG_READ_BUFFER_BYTES : 0;
}

static void worker_bytes(struct wire *w, char *bytes, size_t n)
{
    struct exchange *ex = of_worker(w);

    pass(ex, &ex->client->wire, bytes, n, &ex->bytes_out);
}

static void worker_eof(struct wire *w)
{
    struct exchange *ex = of_worker(w);

    half_over(ex, w, &ex->client->wire);
}

static void worker_drained(struct wire *w)
{
    wire_read(&of_worker(w)->client->wire, true);
}

static void worker_broken(struct wire *w)
{
    exchange_end(of_worker(w), EXCHANGE_BROKEN);
}

static const struct wire_kind worker_side = {.room = worker_room,
                                             .on_bytes = worker_bytes,
                                             .on_eof = worker_eof,
                                             .on_drained = worker_drained,
                                             .on_broken = worker_broken};

/* --- the switch
 * -------------------------------------------------------------------------------------- */

/* The head and what the worker sent behind it go out; so does what the client sent ahead. */
void tunnel_begin(struct exchange *ex, struct kg_str early)
{
    struct client *c = ex->client;
    struct upstream *u = ex->upstream;
    struct proxy *p = c->wire.proxy;
    uv_buf_t out[2] = {{.base = (char *)ex->response_head.p, .len = ex->response_head.n},
                       {.base = (char *)early.p, .len = early.n}};
    struct kg_buf ahead = c->in;

    ex->state = EXCHANGE_TUNNEL;
    ex->bytes_out += early.n;
    kg_timer_disarm(&p->wheel, &c->deadline);
    kg_timer_disarm(&p->wheel, &c->watch);
    client_set_state(c, CLIENT_TUNNEL);
    c->wire.kind = &client_side;
    u->wire.kind = &worker_side;
    kg_buf_init(&c->in, ahead.max);
    if (wire_send(&c->wire, out, 2) != 0)
        exchange_end(ex, EXCHANGE_CLIENT_GONE);
    else
        pass(ex, &u->wire, ahead.data, ahead.len, &ex->bytes_in);
    kg_buf_fini(&ahead);
    if (c->exchange != ex || c->state != CLIENT_TUNNEL)
        return;
    wire_read(&c->wire, true);
    wire_read(&u->wire, true);
    if (c->wire.eof)
        half_over(ex, &c->wire, &u->wire);
}
