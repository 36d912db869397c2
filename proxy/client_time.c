/* SPDX-License-Identifier: Apache-2.0 */
/* What time does to a client's connection: deadlines, the rate of a body, and the watch over
 * clients that are not being read. The difficulty: one timer serves all deadlines and is not
 * touched by a request that is quick, so when it fires the state says what it was for. */
#include "base/err.h"
#include "proxy/client_priv.h"
#include "proxy/exchange_priv.h"
#include <poll.h>

#define WATCH_MS 250

static int64_t now_of(const struct client *c)
{
    return proxy_now(c->wire.proxy);
}

/* --- the rate of a body -------------------------------------------------------------------- */

static void next_window(struct client *c)
{
    c->rate_bytes = 0;
    c->rate_at_ms = now_of(c);
    c->rate_paused_ms = 0;
    if (c->paused_at_ms > 0)
        c->paused_at_ms = c->rate_at_ms;
    kg_timer_arm(&c->wire.proxy->wheel, &c->deadline, c->rate_at_ms + KG_BODY_GRACE_MS);
}

void client_body_wanted(struct client *c)
{
    if (c->body_timed || c->down.body.done)
        return;
    c->body_timed = c->body_grace = true;
    next_window(c);
}

/* Time in which we did not read, because the worker did not, is not held against the client. */
static bool too_slow(struct client *c)
{
    int64_t read_ms;

    if (c->paused_at_ms > 0)
        c->rate_paused_ms += now_of(c) - c->paused_at_ms;
    read_ms = now_of(c) - c->rate_at_ms - c->rate_paused_ms;
    return !c->body_grace &&
           c->rate_bytes < (uint64_t)(read_ms > 0 ? read_ms : 0) * KG_BODY_MIN_BYTES_PER_S / 1000;
}

static void check_rate(struct client *c)
{
    if (!c->body_timed || c->down.body.done)
        return; /* a deadline of before this request */
    if (c->down.exchange && !exchange_awaits_body(c->down.exchange))
        return;
    if (!too_slow(c)) {
        c->body_grace = false;
        next_window(c);
    } else if (c->down.exchange) {
        exchange_blame(c->down.exchange, PROXY_REQUEST_TIMEOUT, "the body came too slowly");
    } else {
        if (c->local_request)
            local_drop(c, false);
        client_close(c);
    }
}

/* --- deadlines ----------------------------------------------------------------------------- */

static void on_deadline(struct kg_timer *t)
{
    static const struct guard_verdict slow = {PROXY_REQUEST_TIMEOUT, "the head came too slowly"};
    struct client *c = KG_CONTAINER_OF(t, struct client, deadline);

    switch (c->state) {
    case CLIENT_HEAD:
        client_refuse_head(c, c->in.data, slow);
        return;
    case CLIENT_BUSY:
        check_rate(c);
        return;
    case CLIENT_HTTP2:
        client_http2_deadline(c);
        return;
    case CLIENT_DRAIN:
        client_next(c, CLIENT_END);
        return;
    case CLIENT_IDLE:
        client_part(c);
        return;
    case CLIENT_LINGER:
    case CLIENT_CLOSED:
        client_close(c);
    }
}

/* --- the watch ----------------------------------------------------------------------------- */

/* libuv says nothing about a connection that is not read or has sent its end; the kernel knows
 * whether it is dead. One that ended its half may be gone for good or be waiting: only a byte of
 * ours finds out, so it gets an interim answer. */
static void on_watch(struct kg_timer *t)
{
    struct client *c = KG_CONTAINER_OF(t, struct client, watch);
    short found;

    if (!c->down.exchange || c->wire.reading)
        return;
    found = wire_poll(&c->wire);
    if (c->wire.fin_wanted) /* both halves of a tunnel have ended: so it looks to the kernel, too */
        found &= (short)~POLLHUP;
    if (found & (POLLERR | POLLHUP)) {
        exchange_end(c->down.exchange, EXCHANGE_CLIENT_GONE);
        return;
    }
    if ((found & POLLRDHUP) && !c->probed)
        c->probed = exchange_ask_client(c->down.exchange);
    client_watch(c);
}

void client_watch(struct client *c)
{
    kg_timer_arm(&c->wire.proxy->wheel, &c->watch, now_of(c) + WATCH_MS);
}

void client_timers_init(struct client *c)
{
    kg_timer_init(&c->deadline, on_deadline);
    kg_timer_init(&c->watch, on_watch);
}
