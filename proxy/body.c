/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies in and out.
 * The difficulty: exactly the bytes of this message, and what is decoded stays in the read buffer.
 */
#include "base/err.h"
#include "proxy/body_priv.h"

#define PIECE_BUFS 6 /* head, size line, kept and new payload, its end, the last chunk */

void body_init(struct body *b, const struct http1_head *h, bool from_worker)
{
    b->framing = h->framing;
    b->left = h->framing == HTTP1_LENGTH ? (uint64_t)h->content_length : 0;
    b->done = h->framing == HTTP1_NONE || (h->framing == HTTP1_LENGTH && b->left == 0);
    if (h->framing == HTTP1_CHUNKED) {
        kg_buf_init(&b->trailers, KG_MAX_HEAD_BYTES);
        chunk_init(&b->chunk, &b->trailers, from_worker, h->bytes, h->field_count);
        b->chunk.dropped = h->named;
    }
}

void body_fini(struct body *b)
{
    if (b->trailers.data)
        kg_buf_fini(&b->trailers);
    b->framing = HTTP1_NONE;
    b->done = true;
}

static enum body_result take_length(struct body *b, char *in, size_t n, size_t *used,
                                    struct kg_str *payload)
{
    *used = n < b->left ? n : (size_t)b->left;
    *payload = (struct kg_str){in, *used};
    b->left -= *used;
    b->done = b->left == 0;
    return b->done ? BODY_END : BODY_MORE;
}

/* Each span that is not already behind the last one is moved there: it only ever moves forward. */
static enum body_result take_chunks(struct body *b, char *in, size_t n, size_t *used,
                                    struct kg_str *payload)
{
    char *end = NULL;
    enum chunk_result r;

    for (;;) {
        struct kg_str span = {NULL, 0};
        size_t consumed = 0;
        r = chunk_feed(&b->chunk, (struct kg_str){in + *used, n - *used}, &consumed, &span);
        *used += consumed;
        if (r != CHUNK_DATA)
            break;
        if (!end)
            payload->p = end = in + (span.p - in);
        if (span.p != end)
            memmove(end, span.p, span.n);
        end += span.n;
        payload->n += span.n;
    }
    b->done = r == CHUNK_END;
    return r == CHUNK_END ? BODY_END : r == CHUNK_REFUSED ? BODY_REFUSED : BODY_MORE;
}

enum body_result body_take(struct body *b, char *in, size_t n, size_t *used, struct kg_str *payload)
{
    *used = 0;
    *payload = (struct kg_str){in, 0};
    switch (b->framing) {
    case HTTP1_NONE:
        return BODY_END;
    case HTTP1_LENGTH:
        return take_length(b, in, n, used, payload);
    case HTTP1_CHUNKED:
        return take_chunks(b, in, n, used, payload);
    case HTTP1_UNTIL_CLOSE:
    case HTTP1_TUNNEL:
        break;
    }
    *used = n;
    payload->n = n;
    return BODY_MORE;
}

bool body_ends_by_close(struct body *b)
{
    if (b->framing == HTTP1_UNTIL_CLOSE)
        b->done = true;
    return b->done;
}

static void put(uv_buf_t *bufs, unsigned *count, const char *p, size_t n)
{
    if (n > 0)
        bufs[(*count)++] = (uv_buf_t){.base = (char *)p, .len = n};
}

int body_send(struct wire *to, const struct body_piece *piece)
{
    uv_buf_t bufs[PIECE_BUFS];
    unsigned count = 0;
    char size_line[CHUNK_HEAD_BYTES];
    size_t n = piece->kept.n + piece->payload.n;
    struct kg_buf end;
    int rc;

    kg_buf_init(&end, KG_MAX_HEAD_BYTES + sizeof CHUNK_LAST);
    put(bufs, &count, piece->head.p, piece->head.n);
    if (piece->chunked && n > 0)
        put(bufs, &count, size_line, chunk_write_head(size_line, n));
    put(bufs, &count, piece->kept.p, piece->kept.n);
    put(bufs, &count, piece->payload.p, piece->payload.n);
    if (piece->chunked && n > 0)
        put(bufs, &count, CHUNK_TAIL, sizeof CHUNK_TAIL - 1);
    if (piece->chunked && piece->last && piece->trailers.n == 0) {
        put(bufs, &count, CHUNK_LAST, sizeof CHUNK_LAST - 1);
    } else if (piece->chunked && piece->last) {
        chunk_write_end(&end, piece->trailers);
        put(bufs, &count, end.data, end.len);
    }
    rc = end.error ? end.error : count > 0 ? wire_send(to, bufs, count) : 0;
    kg_buf_fini(&end);
    return rc;
}
