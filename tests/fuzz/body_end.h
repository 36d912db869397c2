/* SPDX-License-Identifier: Apache-2.0 */
/* Where we say that a message ends: guard, parser and chunks put together as a connection does.
 * The difficulty: bytes are offsets into one input, whatever the parts count from. */
#ifndef TESTS_FUZZ_BODY_END_H
#define TESTS_FUZZ_BODY_END_H

#include "proxy/chunk.h"
#include "proxy/http1.h"

struct end_asked {
    bool response;
    struct http1_asked of;
};
struct end {
    enum http1_framing framing;
    size_t head, whole; /* 0: not yet */
    struct http1_head fields;
    struct kg_buf *payload; /* what a chunked body carries; NULL: not wanted */
};

static inline bool end_of_chunks(struct kg_str in, const struct http1_head *h, bool from_worker,
                                 struct end *e)
{
    enum chunk_result r = CHUNK_MORE;
    struct kg_buf trailers;
    struct kg_str payload;
    struct chunk c;
    size_t at = e->head, used;

    kg_buf_init(&trailers, KG_MAX_HEAD_BYTES);
    chunk_init(&c, &trailers, from_worker, h->bytes, h->field_count);
    do {
        r = chunk_feed(&c, (struct kg_str){in.p + at, in.n - at}, &used, &payload);
        at += used;
        if (e->payload)
            kg_buf_append(e->payload, payload.p, payload.n);
    } while (r == CHUNK_DATA);
    kg_buf_fini(&trailers);
    e->whole = r == CHUNK_END ? at : 0;
    return r != CHUNK_REFUSED;
}

/* False: we refuse it, or its head is not whole. */
static inline bool end_find(const struct end_asked *asked, struct kg_str in, struct end *e)
{
    struct http1_head *h = &e->fields;
    struct guard g;

    e->head = e->whole = 0;
    guard_init(&g, asked->response ? GUARD_RESPONSE : GUARD_REQUEST);
    if (guard_scan(&g, in.p, in.n) != GUARD_DONE)
        return false;
    if ((asked->response ? http1_parse_response(&g, in.p, &asked->of, h)
                         : http1_parse_request(&g, in.p, h))
            .reason != PROXY_NONE)
        return false;
    e->head = g.end;
    e->framing = h->framing;
    if (h->framing == HTTP1_CHUNKED)
        return end_of_chunks(in, h, asked->response, e);
    if (h->framing == HTTP1_NONE || h->framing == HTTP1_TUNNEL)
        e->whole = g.end;
    else if (h->framing == HTTP1_LENGTH && (uint64_t)h->content_length <= in.n - g.end)
        e->whole = g.end + (size_t)h->content_length;
    return true;
}

#endif
