/* SPDX-License-Identifier: Apache-2.0 */
/* The response's way to the client: interim heads, the head, the body.
 * The difficulty: until its head is sent on, a breach can still become a 502; afterwards it can
 * only be broken off, in a way that the client cannot take for the end. */
#include "base/err.h"
#include "proxy/exchange_priv.h"
#include <stdio.h>

#define WORDS_BYTES 160

/* What a step has done. OVER: the exchange has ended or has passed to the tunnel; hands off. */
enum step { STEP_ON, STEP_WAIT, STEP_OVER };

static struct exchange *exchange_of(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct upstream, wire)->user;
}

static struct proxy *proxy_of(const struct exchange *ex)
{
    return ex->down->proxy;
}

/* --- breaches ------------------------------------------------------------------------------ */

static enum step breach(struct exchange *ex, const char *words)
{
    char text[WORDS_BYTES];

    if (ex->state == EXCHANGE_RESPONDING && !ex->head_held) {
        exchange_end(ex, EXCHANGE_BROKEN);
        return STEP_OVER;
    }
    ex->state = EXCHANGE_ASKED; /* a head that is not sent yet is forgotten */
    snprintf(text, sizeof text, "the worker's response: %s", words);
    exchange_refuse_worker(ex, PROXY_UPSTREAM_FAILED, text);
    return STEP_OVER;
}

/* The worker ended or broke its connection too early. */
static void broke_off(struct exchange *ex)
{
    struct proxy *p = proxy_of(ex);

    if (ex->state == EXCHANGE_ASKED && ex->interim == 0 && ex->upstream->in.len == 0) {
        struct downstream *d = ex->down;
        forward_lost(ex);
        d->kind->resume(d);
        return;
    }
    if (!ex->worker->removed)
        p->gate.suspect(p->gate.self, ex->worker);
    breach(ex, "it broke off");
}

/* --- heads --------------------------------------------------------------------------------- */

/* 100 is our own business and was sent, if at all, when the worker had the request. */
static enum step pass_interim(struct exchange *ex, const struct http1_head *h)
{
    if (++ex->interim > KG_MAX_INTERIM_RESPONSES)
        return breach(ex, "too many interim responses");
    if (h->status == 100 || ex->down->kind->interim(ex->down, h->status, h) == 0)
        return STEP_ON;
    exchange_end(ex, EXCHANGE_CLIENT_GONE);
    return STEP_OVER;
}

/* Gives the client what is still to be sent of the head, and a piece of the body. */
static enum step pass(struct exchange *ex, struct kg_str payload, bool last)
{
    struct downstream_piece piece = {
        .payload = payload, .trailers = kg_buf_str(&ex->upstream->body.trailers), .last = last};
    int rc;

    ex->head_held = false;
    ex->bytes_out += payload.n;
    rc = ex->down->kind->send(ex->down, &piece);
    if (rc == 0)
        return STEP_ON;
    exchange_end(ex, rc == KG_EIO ? EXCHANGE_CLIENT_GONE : EXCHANGE_BROKEN);
    return STEP_OVER;
}

/* The response is whole. `stray`: bytes behind it, which poison the connection. */
static enum step finish(struct exchange *ex, size_t stray)
{
    struct upstream *u = ex->upstream;

    ex->upstream = NULL;
    if (stray == 0 && ex->down->body.done && !ex->upload_over)
        upstream_give(u);
    else
        upstream_close(u);
    if (ex->down->kind->pending(ex->down) == 0)
        exchange_end(ex, EXCHANGE_DONE);
    else
        ex->state = EXCHANGE_FLUSHING;
    return STEP_OVER;
}

static enum step pass_head(struct exchange *ex, const struct http1_head *h, size_t behind)
{
    struct upstream *u = ex->upstream;
    struct rewrite_to_client with = {.id = ex->id,
                                     .warmth = ex->warmth,
                                     .waited_us = ex->waited_us,
                                     .wall_ms = proxy_wall_ms(proxy_of(ex))};

    u->keep_alive = h->keep_alive;
    body_init(&u->body, h, true);
    if (ex->down->kind->head(ex->down, h, &with) != 0) {
        exchange_refuse(ex, PROXY_OVERLOADED, "out of memory");
        return STEP_OVER;
    }
    ex->head_held = true;
    ex->status = h->status;
    ex->state = EXCHANGE_RESPONDING;
    if (!u->body.done)
        return STEP_ON;
    if (pass(ex, (struct kg_str){NULL, 0}, true) == STEP_OVER)
        return STEP_OVER;
    return finish(ex, behind);
}

static enum step take_head(struct exchange *ex, const char *in, size_t n, size_t *used)
{
    struct upstream *u = ex->upstream;
    struct http1_asked asked = {.head = ex->is_head, .websocket = ex->websocket};
    enum guard_result result = guard_scan(&u->guard, in, n);
    struct guard_verdict verdict = u->guard.verdict;
    struct http1_head head;

    *used = 0;
    if (result == GUARD_MORE)
        return STEP_WAIT;
    if (result == GUARD_REFUSED)
        return breach(ex, verdict.words);
    *used = u->guard.end;
    verdict = http1_parse_response(&u->guard, in, &asked, &head);
    guard_init(&u->guard, GUARD_RESPONSE);
    if (verdict.reason != PROXY_NONE)
        return breach(ex, verdict.words);
    if (head.status < 200 && head.status != 101)
        return pass_interim(ex, &head);
    return pass_head(ex, &head, n - *used);
}

/* --- the body ------------------------------------------------------------------------------ */

static enum step take_body(struct exchange *ex, char *in, size_t n, size_t *used)
{
    struct body *body = &ex->upstream->body;
    struct kg_str payload;
    enum body_result result;

    if (body->framing == HTTP1_TUNNEL) {
        tunnel_begin(ex, (struct kg_str){in, n});
        return STEP_OVER;
    }
    result = body_take(body, in, n, used, &payload);
    if (result == BODY_REFUSED)
        return breach(ex, body->chunk.verdict.words);
    if (payload.n == 0 && result == BODY_MORE)
        return STEP_ON;
    if (pass(ex, payload, result == BODY_END) == STEP_OVER)
        return STEP_OVER;
    return result == BODY_END ? finish(ex, n - *used) : STEP_ON;
}

/* Takes all that came; *at: how much. What is left is the beginning of a head. */
static enum step take_all(struct exchange *ex, char *bytes, size_t n, size_t *at)
{
    enum step step = STEP_ON;
    size_t used;

    while (step == STEP_ON && *at < n) {
        used = 0;
        step = ex->state == EXCHANGE_ASKED ? take_head(ex, bytes + *at, n - *at, &used)
                                           : take_body(ex, bytes + *at, n - *at, &used);
        *at += used;
    }
    if (step == STEP_OVER || !ex->head_held)
        return step;
    if (ex->upstream->body.framing == HTTP1_TUNNEL) {
        tunnel_begin(ex, (struct kg_str){NULL, 0});
        return STEP_OVER;
    }
    return pass(ex, (struct kg_str){NULL, 0}, false); /* a head with no body behind it yet */
}

/* --- the worker's wire --------------------------------------------------------------------- */

static size_t room(struct wire *w)
{
    struct exchange *ex = exchange_of(w);

    if (ex->state == EXCHANGE_ASKED)
        return KG_MAX_HEAD_BYTES - ex->upstream->in.len;
    return ex->down->kind->pending(ex->down) > 0 ? 0 : KG_READ_BUFFER_BYTES;
}

static void on_bytes(struct wire *w, char *bytes, size_t n)
{
    struct exchange *ex = exchange_of(w);
    struct kg_buf *in = &ex->upstream->in;
    bool kept = in->len > 0;
    size_t at = 0;
    int rc = 0;

    if (kept)
        rc = kg_buf_append(in, bytes, n);
    if (rc == 0 && kept) {
        bytes = in->data;
        n = in->len;
    }
    if (rc == 0 && take_all(ex, bytes, n, &at) == STEP_OVER)
        return;
    if (rc == 0 && kept)
        kg_buf_drop_front(in, at);
    else if (rc == 0 && at < n)
        rc = kg_buf_append(in, bytes + at, n - at);
    if (rc != 0)
        exchange_refuse(ex, PROXY_OVERLOADED, "out of memory");
}

static void on_eof(struct wire *w)
{
    struct exchange *ex = exchange_of(w);

    if (ex->state != EXCHANGE_RESPONDING || !body_ends_by_close(&ex->upstream->body))
        broke_off(ex);
    else if (pass(ex, (struct kg_str){NULL, 0}, true) != STEP_OVER)
        finish(ex, 0);
}

static void on_drained(struct wire *w)
{
    struct downstream *d = exchange_of(w)->down;

    d->kind->resume(d);
}

static void on_broken(struct wire *w)
{
    broke_off(exchange_of(w));
}

/* Its answer may have come before it stopped taking the body. */
static void on_unwritable(struct wire *w)
{
    exchange_of(w)->upload_over = true;
}

const struct wire_kind answer_wire = {.room = room,
                                      .on_bytes = on_bytes,
                                      .on_eof = on_eof,
                                      .on_drained = on_drained,
                                      .on_broken = on_broken,
                                      .on_unwritable = on_unwritable};
