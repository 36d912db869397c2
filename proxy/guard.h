/* SPDX-License-Identifier: Apache-2.0 */
/* The byte-level guard over a message's head while it grows: what is not strict HTTP/1 ends here.
 * The difficulty: heads arrive in pieces, and no byte may be looked at twice. */
#ifndef PROXY_GUARD_H
#define PROXY_GUARD_H

#include "base/limits.h"
#include "base/str.h"
#include "proxy/reason.h"

/* What the parsers of this room answer: PROXY_NONE is "fine"; else why not, in static words that
 * name the cause and never carry a peer's byte (fit for `detail` and for logs). A worker's breach
 * always has the reason PROXY_UPSTREAM_FAILED. */
struct guard_verdict {
    enum proxy_reason reason;
    const char *words;
};
#define GUARD_FINE ((struct guard_verdict){PROXY_NONE, ""})

enum guard_kind { GUARD_REQUEST, GUARD_RESPONSE, GUARD_TRAILERS };
enum guard_result { GUARD_MORE, GUARD_DONE, GUARD_REFUSED };

/* A plain value; nothing to free. Offsets count from the first byte of the buffer. */
struct guard {
    uint8_t kind, state;
    uint8_t major, minor; /* of the start line, once seen */
    uint16_t status;      /* of a response */
    uint32_t at;          /* bytes before it have been looked at */
    uint32_t start;       /* where the start line begins: 0, or 2 behind a tolerated empty line */
    uint32_t target, target_n; /* of a request */
    uint32_t end;              /* GUARD_DONE: one behind the blank line */
    uint32_t mark;             /* where the current element began */
    uint32_t fields;           /* field lines seen so far */
    uint32_t max_bytes, max_fields;
    struct guard_verdict verdict; /* GUARD_REFUSED: why */
};

/* Makes it ready for the next head. */
void guard_init(struct guard *g, enum guard_kind kind);

/* For trailers, which share the limits of their head: what is left of bytes and fields. */
void guard_limit(struct guard *g, size_t max_bytes, size_t max_fields);

/* Looks at bytes[g->at .. n): the buffer holds the head from its first byte on; it may have moved
 * or grown since the last call. GUARD_MORE: read on (a head has at most KG_MAX_HEAD_BYTES, an empty
 * line before it included, so a buffer of that size that is full has been refused).
 * GUARD_DONE: bytes[g->start .. g->end) is the head; what follows was not looked at.
 * GUARD_REFUSED: g->verdict says why; decided at the first byte that allows it.
 * Strict: CRLF only, no bare CR or LF, no folded line, no space around a name, tchar names that are
 * not empty, no control or DEL in a value, one space between the parts of a start line, "HTTP/d.d",
 * a target of visible ASCII. One empty line (CRLF) before a request line is tolerated, as RFC 9112
 * 2.2 asks; a second one, or one before a response, is not. */
enum guard_result guard_scan(struct guard *g, const char *bytes, size_t n);

bool guard_is_tchar(unsigned char c);
/* A token of RFC 9110: one or more tchar. */
bool guard_is_token(struct kg_str s);

#endif
