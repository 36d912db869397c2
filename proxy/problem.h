/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that the proxy itself makes: application/problem+json by RFC 9457.
 * The difficulty: an answer must be complete and parseable even for a request that was neither. */
#ifndef PROXY_PROBLEM_H
#define PROXY_PROBLEM_H

#include "base/buf.h"
#include "proxy/gate.h"

struct problem {
    const struct proxy_reason_row *row; /* a row of ours or of the gate's */
    const char *detail;       /* names the service and the cause; NULL or "": the row's title */
    struct kg_str id;         /* the request's id: `instance` and X-Request-Id */
    int64_t retry_after_ms;   /* on 429 and 503: rounded up to whole seconds, at least 1 */
    int64_t wall_ms;          /* for Date; 0: leave it out */
    int status;               /* instead of the row's (quiet_status); 0: the row's */
    enum proxy_warmth warmth; /* not PROXY_WARM: Server-Timing with waited_us */
    int64_t waited_us;
    uint8_t client_minor; /* 1 when unknown */
    bool head;            /* the request was HEAD: no body, the length it would have */
    bool keep_alive;      /* the connection goes on; ignored when the row closes */
};

/* Appends head and body to *out. Gives whether the connection goes on through *keep_alive (may be
 * NULL). 405 and 204 carry Allow; 204 has no body. 0, KG_ENOMEM or KG_ELIMIT (sticky in out). */
int problem_write(struct kg_buf *out, const struct problem *p, bool *keep_alive);
/* The body alone: for a local reply. */
int problem_body(struct kg_buf *out, const struct problem *p);
/* Retry-After: whole seconds, rounded up, at least one. */
long long problem_retry_after_s(int64_t ms);
/* The phrase of a status line: "Not Found"; "Unknown" for what has no name. */
const char *problem_phrase(int status);

#endif
