/* SPDX-License-Identifier: Apache-2.0 */
/* The response's way to the client: interim heads, the head, the body.
 * The difficulty: until its head is sent on, a breach can still become a 502; afterwards it can
 * only be broken off, in a way that the client cannot take for the end. */
#include "base/err.h"
#include "proxy/exchange_priv.h"
#include <stdio.h>

#define WORDS_BYTES 160

static struct proxy *proxy_of(const struct exchange *ex)
{
    return ex->down->proxy;
}

/* --- breaches ------------------------------------------------------------------------------ */

static void break_off(struct exchange *ex, enum proxy_reason reason, const char *text)
{
    if (ex->state == EXCHANGE_RESPONDING && !ex->head_held) {
        exchange_end(ex, EXCHANGE_BROKEN);
        return;
    }
    ex->state = EXCHANGE_ASKED; /* a head that is not sent yet is forgotten */
    exchange_refuse_worker(ex, reason, text);
}

void answer_breach(struct exchange *ex, const char *words)
{
    char text[WORDS_BYTES];

    snprintf(text, sizeof text, "the worker's response: %s", words);
    break_off(ex, PROXY_UPSTREAM_FAILED, text);
}

void answer_out_of_memory(struct exchange *ex)
{
    break_off(ex, PROXY_OVERLOADED, "out of memory");
}

void answer_lost(struct exchange *ex, bool heard)
{
    if (ex->state == EXCHANGE_ASKED && ex->interim == 0 && !heard) {
        struct downstream *d = ex->down;
        forward_lost(ex);
        d->kind->resume(d);
        return;
    }
    exchange_suspect(ex);
    answer_breach(ex, "it broke off");
}

/* --- heads --------------------------------------------------------------------------------- */

/* 100 is our own business and was sent, if at all, when the worker had the request. */
bool answer_interim(struct exchange *ex, const struct http1_head *h)
{
    if (++ex->interim > KG_MAX_INTERIM_RESPONSES) {
        answer_breach(ex, "too many interim responses");
        return false;
    }
    if (h->status == 100 || ex->down->kind->interim(ex->down, h->status, h) == 0)
        return true;
    exchange_end(ex, EXCHANGE_CLIENT_GONE);
    return false;
}

/* The response is whole. */
static void finish(struct exchange *ex)
{
    struct upstream *u = ex->upstream;

    ex->upstream = NULL;
    u->kind->done(u, ex->down->body.done && !ex->upload_over);
    if (ex->down->kind->pending(ex->down) == 0)
        exchange_end(ex, EXCHANGE_DONE);
    else
        ex->state = EXCHANGE_FLUSHING;
}

bool answer_body(struct exchange *ex, struct kg_str payload, struct kg_str trailers, bool last)
{
    struct downstream_piece piece = {.payload = payload, .trailers = trailers, .last = last};
    int rc;

    ex->head_held = false;
    ex->bytes_out += payload.n;
    rc = ex->down->kind->send(ex->down, &piece);
    if (rc != 0)
        exchange_end(ex, rc == KG_EIO ? EXCHANGE_CLIENT_GONE : EXCHANGE_BROKEN);
    else if (last)
        finish(ex);
    return rc == 0 && !last;
}

bool answer_head(struct exchange *ex, const struct http1_head *h, bool last)
{
    struct rewrite_to_client with = {.id = ex->id,
                                     .warmth = ex->warmth,
                                     .waited_us = ex->waited_us,
                                     .wall_ms = proxy_wall_ms(proxy_of(ex))};

    if (ex->websocket && ex->down->kind->connects && h->status < 300 &&
        h->framing != HTTP1_TUNNEL) {
        answer_breach(ex, "it did not switch to a WebSocket");
        return false;
    }
    if (ex->down->kind->head(ex->down, h, &with) != 0) {
        exchange_refuse(ex, PROXY_OVERLOADED, "out of memory");
        return false;
    }
    ex->head_held = true;
    ex->status = h->status;
    ex->state = EXCHANGE_RESPONDING;
    return !last || answer_body(ex, (struct kg_str){NULL, 0}, (struct kg_str){NULL, 0}, true);
}

bool answer_flush(struct exchange *ex)
{
    return !ex->head_held ||
           answer_body(ex, (struct kg_str){NULL, 0}, (struct kg_str){NULL, 0}, false);
}

/* --- back-pressure ------------------------------------------------------------------------- */

size_t answer_room(const struct exchange *ex)
{
    return ex->down->kind->pending(ex->down) > 0 ? 0 : KG_READ_BUFFER_BYTES;
}

void answer_drained(struct exchange *ex)
{
    ex->down->kind->resume(ex->down);
}

/* Its answer may have come before it stopped taking the body. */
void answer_unwritable(struct exchange *ex)
{
    ex->upload_over = true;
}
