/* SPDX-License-Identifier: Apache-2.0 */
/* The body of one message: where it ends as it comes in, and how it is written on.
 * The difficulty: a read may hold many small chunks; they leave as one, without a copy elsewhere.
 */
#ifndef PROXY_BODY_PRIV_H
#define PROXY_BODY_PRIV_H

#include "proxy/chunk.h"
#include "proxy/http1.h"
#include "proxy/wire_priv.h"

enum body_result { BODY_MORE, BODY_END, BODY_REFUSED };

/* Must not move between body_init and body_fini. */
struct body {
    enum http1_framing framing;
    bool done;     /* nothing more of it will come */
    uint64_t left; /* LENGTH */
    struct chunk chunk;
    struct kg_buf trailers; /* checked lines, once done */
};

/* As the head says. A body of no bytes is done at once. */
void body_init(struct body *b, const struct http1_head *h, bool from_worker);
void body_fini(struct body *b); /* fine on a zeroed one, and twice */

/* Takes from in[0..n): *used bytes of it belong to this body; *payload is what they carry, moved
 * together inside `in`. On BODY_REFUSED b->chunk.verdict says why, and the payload before the
 * breach still counts. */
enum body_result body_take(struct body *b, char *in, size_t n, size_t *used,
                           struct kg_str *payload);
/* The connection has ended: whether the body is whole by that. */
bool body_ends_by_close(struct body *b);

/* One piece of a message on its way out: head, what was kept of the payload, payload (each may be
 * empty), in its framing, and with `last` the end: all in one wire_send. Gives what that gives. */
struct body_piece {
    struct kg_str head, kept, payload, trailers;
    bool chunked, last;
};
int body_send(struct wire *to, const struct body_piece *piece);

#endif
