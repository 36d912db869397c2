/* SPDX-License-Identifier: Apache-2.0 */
/* The field names that mean something to the proxy, and what each means: one table.
 * The difficulty: it is asked for every field of every head, so a look-up is one hash. */
#ifndef PROXY_FIELD_H
#define PROXY_FIELD_H

#include "base/str.h"

enum field_flag {
    FIELD_HOP = 1,      /* ends at this hop: dropped, and written anew where needed */
    FIELD_FRAMING = 2,  /* says where a message ends or goes */
    FIELD_CLAIM = 4,    /* says who the client is: from a client it is dropped, ours is written */
    FIELD_FIXED = 8,    /* naming it in Connection does not remove it */
    FIELD_NOT_LAST = 16 /* refused in a trailer section */
};

/* constant, lower-case name, flags */
#define FIELD_TABLE(X)                                                                             \
    X(HOST, "host", FIELD_FRAMING | FIELD_FIXED | FIELD_NOT_LAST)                                  \
    X(CONTENT_LENGTH, "content-length", FIELD_FRAMING | FIELD_FIXED | FIELD_NOT_LAST)              \
    X(TRANSFER_ENCODING, "transfer-encoding",                                                      \
      FIELD_HOP | FIELD_FRAMING | FIELD_FIXED | FIELD_NOT_LAST)                                    \
    X(CONNECTION, "connection", FIELD_HOP | FIELD_FIXED | FIELD_NOT_LAST)                          \
    X(KEEP_ALIVE, "keep-alive", FIELD_HOP | FIELD_NOT_LAST)                                        \
    X(TE, "te", FIELD_HOP | FIELD_NOT_LAST)                                                        \
    X(UPGRADE, "upgrade", FIELD_HOP | FIELD_NOT_LAST)                                              \
    X(HTTP2_SETTINGS, "http2-settings", FIELD_HOP | FIELD_NOT_LAST)                                \
    X(PROXY, "proxy", FIELD_HOP | FIELD_NOT_LAST)                                                  \
    X(PROXY_CONNECTION, "proxy-connection", FIELD_HOP | FIELD_NOT_LAST)                            \
    X(EXPECT, "expect", FIELD_HOP | FIELD_FIXED | FIELD_NOT_LAST)                                  \
    X(TRAILER, "trailer", FIELD_NOT_LAST)                                                          \
    X(VIA, "via", FIELD_FIXED | FIELD_NOT_LAST)                                                    \
    X(X_REQUEST_ID, "x-request-id", FIELD_FIXED | FIELD_NOT_LAST)                                  \
    X(TRACEPARENT, "traceparent", FIELD_FIXED | FIELD_NOT_LAST)                                    \
    X(TRACESTATE, "tracestate", FIELD_FIXED | FIELD_NOT_LAST)                                      \
    X(FORWARDED, "forwarded", FIELD_CLAIM | FIELD_FIXED | FIELD_NOT_LAST)                          \
    X(X_REAL_IP, "x-real-ip", FIELD_CLAIM | FIELD_FIXED | FIELD_NOT_LAST)                          \
    X(X_FORWARDED, "x-forwarded", FIELD_CLAIM | FIELD_FIXED | FIELD_NOT_LAST)                      \
    X(X_FORWARDED_FOR, "x-forwarded-for", FIELD_CLAIM | FIELD_FIXED | FIELD_NOT_LAST)              \
    X(X_FORWARDED_HOST, "x-forwarded-host", FIELD_CLAIM | FIELD_FIXED | FIELD_NOT_LAST)            \
    X(X_FORWARDED_PROTO, "x-forwarded-proto", FIELD_CLAIM | FIELD_FIXED | FIELD_NOT_LAST)          \
    X(AUTHORIZATION, "authorization", FIELD_FIXED | FIELD_NOT_LAST)                                \
    X(COOKIE, "cookie", FIELD_FIXED | FIELD_NOT_LAST)                                              \
    X(SET_COOKIE, "set-cookie", FIELD_FIXED | FIELD_NOT_LAST)                                      \
    X(WWW_AUTHENTICATE, "www-authenticate", FIELD_FIXED | FIELD_NOT_LAST)                          \
    X(CACHE_CONTROL, "cache-control", FIELD_FIXED | FIELD_NOT_LAST)                                \
    X(CONTENT_ENCODING, "content-encoding", FIELD_FIXED | FIELD_NOT_LAST)                          \
    X(CONTENT_TYPE, "content-type", FIELD_FIXED | FIELD_NOT_LAST)                                  \
    X(CONTENT_RANGE, "content-range", FIELD_FIXED | FIELD_NOT_LAST)                                \
    X(CONTENT_LOCATION, "content-location", FIELD_FIXED | FIELD_NOT_LAST)                          \
    X(LOCATION, "location", FIELD_FIXED | FIELD_NOT_LAST)                                          \
    X(RANGE, "range", FIELD_FIXED | FIELD_NOT_LAST)                                                \
    X(IF_MATCH, "if-match", FIELD_FIXED | FIELD_NOT_LAST)                                          \
    X(IF_NONE_MATCH, "if-none-match", FIELD_FIXED | FIELD_NOT_LAST)                                \
    X(IF_RANGE, "if-range", FIELD_FIXED | FIELD_NOT_LAST)                                          \
    X(MAX_FORWARDS, "max-forwards", FIELD_FIXED | FIELD_NOT_LAST)                                  \
    X(VARY, "vary", FIELD_FIXED | FIELD_NOT_LAST)                                                  \
    X(ACCEPT, "accept", FIELD_FIXED)                                                               \
    X(USER_AGENT, "user-agent", FIELD_FIXED)                                                       \
    X(DATE, "date", FIELD_FIXED)                                                                   \
    X(SERVER_TIMING, "server-timing", 0)

enum field_id {
    FIELD_OTHER, /* none of the table: passed on */
#define FIELD_CONSTANT(constant, name, flags) FIELD_##constant,
    FIELD_TABLE(FIELD_CONSTANT)
#undef FIELD_CONSTANT
        FIELD_FAMILY_HOP, /* Proxy-*: hop by hop as a family */
    FIELD_FAMILY_CLAIM,   /* X-Forwarded-*, X-Kipgate-*: a claim as a family */
    FIELD_SPOOF,          /* spelled with '_', reads like one of the above with '-': dropped */
    FIELD_COUNT
};

/* A few names to be known again, in any case of letters, when their bytes are gone: by what is
 * likely theirs alone. Another field is taken for one of them at worst. */
#define FIELD_NAMES_KNOWN 4
struct field_names {
    uint32_t count; /* more than FIELD_NAMES_KNOWN: any name is taken for one of them */
    uint32_t hash[FIELD_NAMES_KNOWN];
};
void field_names_add(struct field_names *names, struct kg_str name);
bool field_names_have(const struct field_names *names, struct kg_str name);

/* Which field this is, in any case of letters. Never fails. */
enum field_id field_find(struct kg_str name);
/* enum field_flag bits; FIELD_OTHER has none. FIELD_SPOOF has all that lead to a drop. */
unsigned field_flags(enum field_id id);

#endif
