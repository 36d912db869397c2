/* SPDX-License-Identifier: Apache-2.0 */
/* An upgraded connection: bytes both ways, whatever they mean.
 * The difficulty: each half ends by itself, and what is on its way must still arrive. */
#include "base/err.h"
#include "proxy/exchange_priv.h"

static struct exchange *exchange_of(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct upstream, wire)->user;
}

/* A tunnel of which only one half is open lives as long as something moves. */
static void arm_half_open(struct exchange *ex)
{
    struct proxy *p = ex->down->proxy;

    if (ex->down->body.done || ex->upstream->wire.eof)
        kg_timer_arm(&p->wheel, &ex->timer, proxy_now(p) + KG_KEEPALIVE_TIMEOUT_MS);
}

static void end_if_over(struct exchange *ex)
{
    struct downstream *d = ex->down;
    const struct wire *worker = &ex->upstream->wire;

    if (d->body.done && worker->eof && d->kind->pending(d) + wire_pending(worker) == 0)
        exchange_end(ex, EXCHANGE_DONE);
}

/* False: the client takes no more, and the exchange is over. */
static bool to_client(struct exchange *ex, struct kg_str bytes)
{
    struct downstream_piece piece = {.payload = bytes};

    ex->bytes_out += bytes.n;
    if (ex->down->kind->send(ex->down, &piece) == 0)
        return true;
    exchange_end(ex, EXCHANGE_CLIENT_GONE);
    return false;
}

/* --- the client's side --------------------------------------------------------------------- */

void tunnel_bytes(struct exchange *ex, struct kg_str bytes)
{
    uv_buf_t buf = {.base = (char *)bytes.p, .len = bytes.n};

    arm_half_open(ex);
    if (bytes.n > 0 && wire_send(&ex->upstream->wire, &buf, 1) != 0)
        exchange_end(ex, EXCHANGE_BROKEN);
}

void tunnel_client_drained(struct exchange *ex)
{
    wire_read(&ex->upstream->wire, true);
    end_if_over(ex);
}

void tunnel_client_eof(struct exchange *ex)
{
    wire_fin(&ex->upstream->wire);
    arm_half_open(ex);
    end_if_over(ex);
}

/* --- the worker's side --------------------------------------------------------------------- */

static size_t room(struct wire *w)
{
    struct downstream *d = exchange_of(w)->down;

    return d->kind->pending(d) > 0 ? 0 : KG_READ_BUFFER_BYTES;
}

static void on_bytes(struct wire *w, char *bytes, size_t n)
{
    arm_half_open(exchange_of(w));
    to_client(exchange_of(w), (struct kg_str){bytes, n});
}

static void on_eof(struct wire *w)
{
    struct exchange *ex = exchange_of(w);

    ex->down->kind->fin(ex->down);
    arm_half_open(ex);
    end_if_over(ex);
}

static void on_drained(struct wire *w)
{
    struct exchange *ex = exchange_of(w);

    ex->down->kind->resume(ex->down);
    end_if_over(ex);
}

static void on_broken(struct wire *w)
{
    exchange_end(exchange_of(w), EXCHANGE_BROKEN);
}

static const struct wire_kind tunnel_wire = {.room = room,
                                             .on_bytes = on_bytes,
                                             .on_eof = on_eof,
                                             .on_drained = on_drained,
                                             .on_broken = on_broken};

/* --- begin --------------------------------------------------------------------------------- */

void tunnel_begin(struct exchange *ex, struct kg_str early)
{
    struct downstream *d = ex->down;
    struct wire *worker = &ex->upstream->wire;

    ex->state = EXCHANGE_TUNNEL;
    ex->head_held = false;
    worker->kind = &tunnel_wire;
    kg_timer_disarm(&d->proxy->wheel, &ex->timer);
    if (!to_client(ex, early))
        return;
    d->kind->tunnel(d);
    arm_half_open(ex);
    wire_read(worker, true);
    d->kind->resume(d); /* there may be bytes that the client sent ahead of the 101 */
}
