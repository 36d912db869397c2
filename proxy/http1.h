/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 heads as values: the start line, the fields, and what they mean for framing and
 * connection. The difficulty: every rule about heads is decided here, before anything is started
 * for a request; llhttp is the parser of record, the guard beside it refuses what llhttp lets
 * through. */
#ifndef PROXY_HTTP1_H
#define PROXY_HTTP1_H

#include "proxy/field.h"
#include "proxy/guard.h"
#include "proxy/target.h"

enum http1_method {
    HTTP1_OTHER, /* one that llhttp knows and that needs no care of ours: PROPFIND, REPORT, ... */
    HTTP1_GET,
    HTTP1_HEAD,
    HTTP1_POST,
    HTTP1_PUT,
    HTTP1_DELETE,
    HTTP1_OPTIONS,
    HTTP1_PATCH,
};
#define HTTP1_MAX_CONNECTION_OPTIONS 32 /* tokens in Connection; more: 400 */
#define HTTP1_ALLOW "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH" /* what a 405 names */

enum http1_framing {
    HTTP1_NONE,   /* no body */
    HTTP1_LENGTH, /* content_length bytes (0 is possible) */
    HTTP1_CHUNKED,
    HTTP1_UNTIL_CLOSE, /* responses only */
    HTTP1_TUNNEL       /* a 101 that was asked for: bytes both ways from here on */
};

struct http1_field {
    struct kg_str name, value; /* value without the spaces around it */
    uint8_t id;                /* enum field_id */
    bool named;                /* Connection names it: it ends at this hop unless FIELD_FIXED */
};

/* About 4 KiB; slices point into the head's bytes, which must outlive it and not move. */
struct http1_head {
    enum http1_method method_id;
    struct kg_str method;
    struct kg_str raw_target; /* requests: as it came, for the access log */
    struct target target;     /* requests: host, path, query */
    struct kg_str phrase;     /* responses: the reason phrase, may be empty */
    uint16_t status;          /* responses: 100..599 */
    uint8_t minor;            /* 0 or 1 (HTTP/1.2 and above count as 1.1) */
    bool keep_alive;          /* the sender's connection may be used again after this message */
    bool expect_continue;     /* 1.1, with a body, and it waits for a 100 */
    bool websocket;           /* request: asks to upgrade, by the rules; 101 and 426: offers it */
    bool te_trailers;         /* request: takes trailers */
    bool idempotent;          /* GET HEAD OPTIONS PUT DELETE: may be sent again by the rules */
    int64_t max_forwards;     /* OPTIONS: how many more may pass it on; -1: nothing is said */
    enum http1_framing framing;
    int64_t content_length; /* LENGTH: of the body. For HEAD and 304: what the field said, or -1 */
    uint32_t bytes;         /* of the whole head: a trailer section shares its limits */
    struct field_names named; /* in Connection, beside the options and fields of this hop */
    uint32_t field_count;
    uint8_t first[FIELD_COUNT]; /* 1 + index of the first field with this id; 0 = none */
    uint8_t count[FIELD_COUNT];
    struct http1_field fields[KG_MAX_FIELDS]; /* only the first field_count are set */
};

/* Of a head that the guard refused, or has not seen the end of: method, method_id (HEAD or OTHER)
 * and raw_target, each as far as it came; nothing else of *out is set. */
void http1_start_line(const struct guard *g, const char *bytes, struct http1_head *out);

/* What a response is the answer to. */
struct http1_asked {
    bool head;      /* the request was HEAD */
    bool websocket; /* an upgrade was asked for and passed on */
};

/* Both take a guard that said GUARD_DONE over the same bytes (`bytes` is the buffer's first byte)
 * and fill *out whole. No allocation. On a refusal *out holds method_id, method, raw_target and
 * minor as far as they were understood (HTTP1_OTHER, 1 before), so that a HEAD can be answered
 * without a body. */
struct guard_verdict http1_parse_request(const struct guard *g, const char *bytes,
                                         struct http1_head *out);
/* Fine, or PROXY_UPSTREAM_FAILED. An interim response (status < 200, not 101) has framing NONE and
 * is followed by another; whether it is passed on, and how many, is the caller's to count
 * (KG_MAX_INTERIM_RESPONSES). A 101 that nobody asked for is a breach. */
struct guard_verdict http1_parse_response(const struct guard *g, const char *bytes,
                                          const struct http1_asked *asked, struct http1_head *out);

/* A response that is followed by another. */
static inline bool http1_is_interim(const struct http1_head *h)
{
    return h->status < 200 && h->status != 101;
}

/* The first field with this id, or NULL. */
static inline const struct http1_field *http1_field(const struct http1_head *h, enum field_id id)
{
    return h->first[id] ? &h->fields[h->first[id] - 1] : NULL;
}
static inline struct kg_str http1_value(const struct http1_head *h, enum field_id id)
{
    return h->first[id] ? h->fields[h->first[id] - 1].value : (struct kg_str){"", 0};
}
/* Walks a comma-separated list: gives the next element without spaces around it (may be empty) and
 * moves *rest behind it; false at the end. Start with the whole value. */
bool http1_list_next(struct kg_str *rest, struct kg_str *element);

#endif
