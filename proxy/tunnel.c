/* SPDX-License-Identifier: Apache-2.0 */
/* An upgraded connection: bytes both ways, whatever they mean.
 * The difficulty: each half ends by itself, and what is on its way must still arrive. */
#include "base/err.h"
#include "proxy/exchange_priv.h"

/* Bytes that are on their way. */
static size_t left(const struct exchange *ex)
{
    return ex->down->kind->pending(ex->down) + ex->upstream->kind->pending(ex->upstream);
}

/* A tunnel of which not both halves are open lives as long as something moves. */
static void arm_half_open(struct exchange *ex)
{
    struct proxy *p = ex->down->proxy;

    if (!ex->down->body.done && !ex->upstream->eof)
        return;
    ex->tunnel_left = left(ex);
    kg_timer_arm(&p->wheel, &ex->timer, proxy_now(p) + KG_KEEPALIVE_TIMEOUT_MS);
}

/* Whatever came since armed it anew; what went out did not. */
void tunnel_timer(struct exchange *ex)
{
    if (left(ex) < ex->tunnel_left)
        arm_half_open(ex);
    else
        exchange_end(ex, EXCHANGE_BROKEN);
}

static void end_if_over(struct exchange *ex)
{
    if (ex->down->body.done && ex->upstream->eof && left(ex) == 0)
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
    struct body_piece piece = {.payload = bytes};

    if (bytes.n > 0 && ex->upstream->kind->send(ex->upstream, &piece) != 0)
        exchange_end(ex, EXCHANGE_BROKEN);
    else
        arm_half_open(ex);
}

void tunnel_client_drained(struct exchange *ex)
{
    ex->upstream->kind->resume(ex->upstream);
    end_if_over(ex);
}

void tunnel_client_eof(struct exchange *ex)
{
    ex->upstream->kind->fin(ex->upstream);
    arm_half_open(ex);
    end_if_over(ex);
}

/* --- the worker's side --------------------------------------------------------------------- */

void tunnel_worker_bytes(struct exchange *ex, struct kg_str bytes)
{
    if (to_client(ex, bytes))
        arm_half_open(ex);
}

void tunnel_worker_eof(struct exchange *ex)
{
    ex->down->kind->fin(ex->down);
    arm_half_open(ex);
    end_if_over(ex);
}

void tunnel_worker_drained(struct exchange *ex)
{
    ex->down->kind->resume(ex->down);
    end_if_over(ex);
}

/* --- begin --------------------------------------------------------------------------------- */

void tunnel_begin(struct exchange *ex, struct kg_str early)
{
    struct downstream *d = ex->down;
    struct upstream *u = ex->upstream;

    ex->state = EXCHANGE_TUNNEL;
    ex->head_held = false;
    u->kind->tunnel(u);
    kg_timer_disarm(&d->proxy->wheel, &ex->timer);
    if (!to_client(ex, early))
        return;
    d->kind->tunnel(d);
    arm_half_open(ex);
    u->kind->resume(u);
    d->kind->resume(d); /* there may be bytes that the client sent ahead of the 101 */
}
