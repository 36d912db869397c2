/* SPDX-License-Identifier: Apache-2.0 */
/* The chunked transfer coding, strict, for input cut anywhere; and its writer.
 * The difficulty: the exact end of the message (what follows is the next one's), and a trailer
 * section that must not say what only a head may. */
#ifndef PROXY_CHUNK_H
#define PROXY_CHUNK_H

#include "base/buf.h"
#include "proxy/field.h"
#include "proxy/guard.h"

enum chunk_result {
    CHUNK_MORE,   /* all input consumed, no payload in it beyond what was given */
    CHUNK_DATA,   /* *payload is a span of the input; call again with the rest */
    CHUNK_END,    /* the message is over; what follows *consumed belongs to the next */
    CHUNK_REFUSED /* verdict says why */
};

/* One message's decoder. A plain value; nothing to free. */
struct chunk {
    uint8_t state, digits, from_worker;
    struct field_names dropped; /* to be set behind chunk_init: trailers that go no further */
    uint32_t ext_bytes;
    uint64_t left; /* of the current chunk */
    struct kg_buf *trailers;
    struct guard guard; /* over the trailer section */
    struct guard_verdict verdict;
};

/* `head_bytes` and `head_fields` are those of the message's head: trailers count to the same
 * limits. `trailers` is the caller's, initialised (any max; KG_MAX_HEAD_BYTES is never exceeded),
 * and holds nothing yet; it allocates only when there are trailers. After CHUNK_END it holds the
 * checked lines, "Name: value\r\n" each, without the blank line: fit to be passed on as they are by
 * chunk_write_end. from_worker: breaches are PROXY_UPSTREAM_FAILED instead of PROXY_BAD_REQUEST or
 * PROXY_HEAD_TOO_LARGE. */
void chunk_init(struct chunk *c, struct kg_buf *trailers, bool from_worker, size_t head_bytes,
                size_t head_fields);

/* Decodes from `in`. *consumed says how many bytes were taken (on CHUNK_DATA: up to the end of
 * *payload). Call in a loop until it says something else than CHUNK_DATA. Sizes are 1..16 hex
 * digits below 2^63; extensions are read by the grammar (quoted strings too), bounded to
 * KG_MAX_CHUNK_EXT_BYTES a message, and forgotten. */
enum chunk_result chunk_feed(struct chunk *c, struct kg_str in, size_t *consumed,
                             struct kg_str *payload);

/* "1f4\r\n" before n > 0 bytes of payload; behind them goes CHUNK_TAIL. Gives its length. */
#define CHUNK_HEAD_BYTES 18
#define CHUNK_TAIL "\r\n"
#define CHUNK_LAST "0\r\n\r\n" /* the end of a message without trailers */
size_t chunk_write_head(char out[CHUNK_HEAD_BYTES], uint64_t n);
/* "0\r\n", the lines, "\r\n". 0, KG_ENOMEM or KG_ELIMIT. */
int chunk_write_end(struct kg_buf *out, struct kg_str trailer_lines);

#endif
