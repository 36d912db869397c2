/* SPDX-License-Identifier: Apache-2.0 */
/* The request's way to its worker: a kept connection or a new one, head and body, and the second
 * try. The difficulty: a request may be sent twice only if the first time can have had no effect.
 */
#include "base/clock.h"
#include "base/err.h"
#include "proxy/exchange_priv.h"

static struct proxy *proxy_of(const struct exchange *ex)
{
    return ex->down->proxy;
}

/* --- a connection -------------------------------------------------------------------------- */

static void attach(struct exchange *ex, struct upstream *u)
{
    ex->upstream = u;
    ex->state = EXCHANGE_ASKED;
    ex->request_head_sent = ex->upload_over = false;
    ex->down->kind->body_wanted(ex->down);
}

/* The worker could not be reached: not a byte went out, so the gate may be asked again. It may not
 * know yet that this worker is gone, hence the pauses; where it does know there is none. */
static void ask_again(struct exchange *ex)
{
    static const int64_t pause_ms[EXCHANGE_MAX_ACQUIRES - 1] = {30, 100, 300};
    struct proxy *p = proxy_of(ex);
    bool removed = ex->worker->removed;

    exchange_suspect(ex);
    exchange_slot_back(ex);
    if (ex->acquires >= EXCHANGE_MAX_ACQUIRES) {
        exchange_refuse_worker(ex, PROXY_UPSTREAM_FAILED, "the worker cannot be reached");
        return;
    }
    ex->state = EXCHANGE_PAUSED;
    if (!removed) {
        kg_timer_arm(&p->wheel, &ex->timer, proxy_now(p) + pause_ms[ex->acquires - 1]);
        return;
    }
    kg_timer_disarm(&p->wheel, &ex->timer); /* until the head: not what goes on with it */
    kg_list_push_back(&p->soon, &ex->soon);
    proxy_soon(p);
}

static void drop_upstream(struct exchange *ex)
{
    ex->upstream->kind->close(ex->upstream);
    ex->upstream = NULL;
}

void forward_connected(struct exchange *ex, int status)
{
    struct downstream *d = ex->down;

    if (status == 0) {
        attach(ex, ex->upstream);
    } else {
        drop_upstream(ex);
        ask_again(ex);
    }
    d->kind->resume(d);
}

static void connect_new(struct exchange *ex)
{
    ex->state = EXCHANGE_CONNECTING;
    ex->upstream =
        ex->h2c ? upstream_http2_open(ex->worker, ex) : upstream_http1_open(ex->worker, ex);
    if (!ex->upstream)
        exchange_refuse(ex, PROXY_OVERLOADED, "no memory or descriptor for another connection");
}

/* A kept connection may have ended unseen. A request that cannot be repeated is worth the call that
 * finds out. */
static struct upstream *take_kept(struct exchange *ex)
{
    bool repeatable = ex->idempotent && ex->down->body.framing == HTTP1_NONE;

    return ex->h2c ? upstream_http2_take(ex->worker, ex, repeatable)
                   : upstream_http1_take(ex->worker, ex, repeatable);
}

/* Counted from the last of the request: what is still being asked cannot be answered yet. */
static void await_head(struct exchange *ex)
{
    struct proxy *p = proxy_of(ex);
    int64_t timeout_ms = ex->service->request_timeout_ms;

    kg_timer_arm(&p->wheel, &ex->timer, timeout_ms > 0 ? proxy_now(p) + timeout_ms : KG_NEVER);
}

void forward_begin(struct exchange *ex)
{
    struct upstream *u;

    if (ex->worker->removed) { /* since it was granted */
        ask_again(ex);
        return;
    }
    u = take_kept(ex);
    await_head(ex);
    if (!u) {
        connect_new(ex);
        return;
    }
    proxy_of(ex)->stats->upstream_reuses++;
    attach(ex, u);
}

/* --- head and body ------------------------------------------------------------------------- */

/* Once a worker has the request, a client that asked for it is told to send its body. */
static void send_continue(struct exchange *ex)
{
    if (ex->expect && ex->bytes_in == 0 && !ex->down->body.done)
        ex->down->kind->interim(ex->down, 100, NULL);
    ex->expect = false;
}

/* What was sent is kept as long as it might have to be sent again: all of a small body of a request
 * that may be repeated or that the worker can refuse, and in any case what not one byte of went
 * out. */
static int keep_for_replay(struct exchange *ex, struct kg_str payload, bool unsent)
{
    bool fits = ex->replay.len + payload.n <= KG_REPLAY_BODY_BYTES;

    if (!ex->replay_whole || payload.n == 0)
        return 0;
    if (unsent || (fits && (ex->idempotent || ex->upstream->kind->can_refuse)))
        return kg_buf_append(&ex->replay, payload.p, payload.n);
    ex->replay_whole = false;
    kg_buf_fini(&ex->replay);
    return 0;
}

/* The worker takes no more. It may have answered before it stopped, which reading will show. */
static void upload_failed(struct exchange *ex)
{
    if (ex->state == EXCHANGE_ASKED && ex->upstream->kind->unsent(ex->upstream))
        forward_lost(ex);
    else
        ex->upload_over = true;
}

void forward_piece(struct exchange *ex, struct kg_str payload)
{
    struct body *body = &ex->down->body;
    struct upstream *u = ex->upstream;
    struct body_piece piece = {.payload = payload,
                               .chunked = body->framing == HTTP1_CHUNKED,
                               .last = body->done,
                               .trailers = kg_buf_str(&body->trailers)};
    bool first = !ex->request_head_sent;
    int rc, kept;

    if (first) {
        piece.head = ex->request_head;
        piece.kept = kg_buf_str(&ex->replay);
    } else if (ex->state == EXCHANGE_ASKED) {
        await_head(ex);
    }
    rc = u->kind->send(u, &piece);
    ex->request_head_sent = true;
    kept = keep_for_replay(ex, payload, rc == KG_EIO && u->kind->unsent(u));
    if (first && rc == 0)
        send_continue(ex);
    if (rc == KG_EIO && kept == 0)
        upload_failed(ex);
    else if (rc != 0 || kept != 0)
        exchange_blame(ex, PROXY_OVERLOADED, "out of memory");
}

/* --- the second try ------------------------------------------------------------------------ */

void forward_lost(struct exchange *ex)
{
    struct upstream *u = ex->upstream;
    bool unsent = u->kind->unsent(u), reused = u->reused;
    bool repeatable = ex->replay_whole && (unsent || ex->idempotent);

    drop_upstream(ex);
    if (reused && repeatable && !ex->retried) {
        ex->retried = true; /* a kept connection had ended: that says nothing about the worker */
        proxy_of(ex)->stats->upstream_retries++;
        if (!ex->worker->removed)
            connect_new(ex);
        else
            ask_again(ex);
    } else if (unsent && ex->replay_whole) {
        ask_again(ex);
    } else {
        exchange_suspect(ex);
        exchange_refuse_worker(ex, PROXY_UPSTREAM_FAILED,
                               "the worker closed the connection before it answered");
    }
}
