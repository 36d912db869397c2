/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the canonical heads: a request's for the worker, a response's for the client.
 * The difficulty: what a peer said about this hop, about framing or about who it is must not get
 * through by any spelling; one pass, one allocation from the arena. */
#ifndef PROXY_REWRITE_H
#define PROXY_REWRITE_H

#include "base/arena.h"
#include "proxy/gate.h"
#include "proxy/http1.h"

/* --- ids ----------------------------------------------------------------------------------------
 */
#define REWRITE_ID_MAX 128 /* a client's longer X-Request-Id is not kept */
#define REWRITE_ID_MADE 32 /* hex digits of one that we make */

/* Seeds the process's generator from the kernel. Called by itself at first use; call it before a
 * sandbox closes. Ids are unique, not secret. */
void rewrite_seed(void);
/* The request's id: the client's X-Request-Id if there is exactly one and it is 1..REWRITE_ID_MAX
 * of [A-Za-z0-9._~+/=@:-], else a new one. `h` may be NULL (no head was understood): a new one.
 * Writes it with a NUL into out; the slice is of `out`. */
struct kg_str rewrite_request_id(const struct http1_head *h, char out[REWRITE_ID_MAX + 1]);

/* --- to the worker ------------------------------------------------------------------------------
 */
struct rewrite_to_worker {
    struct kg_str peer; /* the client's address as text, no port; empty (Unix socket): no line */
    struct kg_str id;   /* from rewrite_request_id */
    size_t strip_bytes; /* of the path: route_match.prefix_n with strip_prefix, else 0 */
    bool secure;        /* X-Forwarded-Proto: https */
    bool http2;         /* that is how the client asked, for Via */
    bool pass_expect;   /* an Expect: 100-continue goes on to the worker */
};
/* The head for the worker: "METHOD origin-form HTTP/1.1", Host, the end-to-end fields in their
 * order, X-Forwarded-For/-Host/-Proto, X-Request-Id, traceparent, Via, and the framing that
 * h->framing says (Content-Length or Transfer-Encoding: chunked: a chunked body must be chunked
 * again, by chunk.h). h->websocket: Connection: upgrade and Upgrade: websocket. A request without
 * Host (1.0) gets "Host: localhost", for 1.1 wants one. {NULL, 0}: no memory. */
struct kg_str rewrite_request(struct kg_arena *a, const struct http1_head *h,
                              const struct rewrite_to_worker *with);

/* --- to the client ------------------------------------------------------------------------------
 */
/* How the body of this response goes to a client of HTTP/1.minor: NONE, LENGTH and TUNNEL as they
 * are; CHUNKED and UNTIL_CLOSE become CHUNKED for 1.1 and UNTIL_CLOSE for 1.0. */
enum http1_framing rewrite_response_framing(const struct http1_head *response,
                                            unsigned client_minor);

struct rewrite_to_client {
    struct kg_str id;
    enum proxy_warmth warmth; /* not PROXY_WARM: Server-Timing with waited_us */
    int64_t waited_us;
    int64_t wall_ms; /* for Date where the worker gave none; 0: leave it out */
    uint8_t client_minor;
    bool keep_alive; /* the client's connection goes on: never with UNTIL_CLOSE framing */
};
/* The head for the client, of final responses, 101 and interim ones (status < 200: no X-Request-Id
 * but on 101, no framing). Content-Length of an answer to HEAD and of a 304 is passed on; of 1xx
 * and 204 it is not. {NULL, 0}: no memory. */
struct kg_str rewrite_response(struct kg_arena *a, const struct http1_head *h,
                               const struct rewrite_to_client *with);

#define REWRITE_CONTINUE "HTTP/1.1 100 Continue\r\n\r\n" /* our own 100 */

/* "Sun, 06 Nov 1994 08:49:37 GMT"; made once a second. Valid until the next call. */
struct kg_str rewrite_date(int64_t wall_ms);
/* `kipgate;desc="cold";dur=173.4` with a NUL; its length, 0 when warm. */
#define REWRITE_TIMING_BYTES 64
size_t rewrite_timing(char out[REWRITE_TIMING_BYTES], enum proxy_warmth warmth, int64_t waited_us);

#endif
