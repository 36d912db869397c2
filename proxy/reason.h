/* SPDX-License-Identifier: Apache-2.0 */
/* The reason table of the data plane: every answer that the proxy itself makes has one row here.
 * A refusal that comes through the gate brings a row of the gate's own, counted behind ours.
 * The difficulty: names and statuses are promises to users; the words never carry a peer's bytes.
 */
#ifndef PROXY_REASON_H
#define PROXY_REASON_H

#include <stdbool.h>

/* constant, name (URN and metric), status, closes the client's connection, title */
#define PROXY_REASONS(X)                                                                           \
    X(NONE, "none", 0, false, "")                                                                  \
    X(BAD_REQUEST, "bad-request", 400, true, "The request is not valid HTTP")                      \
    X(NOT_IMPLEMENTED, "not-implemented", 501, true, "The transfer coding is not supported")       \
    X(METHOD_NOT_ALLOWED, "method-not-allowed", 405, true, "The method is not allowed here")       \
    X(VERSION_NOT_SUPPORTED, "version-not-supported", 505, true, "Only HTTP/1 is spoken here")     \
    X(URI_TOO_LONG, "uri-too-long", 414, true, "The request target is too long")                   \
    X(EXPECTATION_FAILED, "expectation-failed", 417, true, "The expectation cannot be met")        \
    X(REQUEST_TIMEOUT, "request-timeout", 408, true, "The request came too slowly")                \
    X(NO_ROUTE, "no-route", 404, false, "No service has this route")                               \
    X(BODY_TOO_LARGE, "body-too-large", 413, true, "The body is larger than the service takes")    \
    X(HEAD_TOO_LARGE, "head-too-large", 431, true, "The request head is too large")                \
    X(MISDIRECTED_REQUEST, "misdirected-request", 421, false,                                      \
      "The connection was opened for another host")                                                \
    X(LAST_HOP, "last-hop", 204, false, "The request was to go no further")                        \
    X(OVERLOADED, "overloaded", 503, false, "The front is at its limit")                           \
    X(UPSTREAM_FAILED, "upstream-failed", 502, false, "The worker failed to respond")              \
    X(UPSTREAM_TIMEOUT, "upstream-timeout", 504, false, "The worker did not respond in time")      \
    X(DRAINING, "draining", 503, true, "The front is going down")

enum proxy_reason {
#define PROXY_REASON_CONSTANT(constant, name, status, closes, title) PROXY_##constant,
    PROXY_REASONS(PROXY_REASON_CONSTANT)
#undef PROXY_REASON_CONSTANT
        PROXY_REASON_COUNT
};

#define PROXY_REASON_MAX 40 /* ours and the gate's together: the width of a counter table */

struct proxy_reason_row {
    const char *name; /* in urn:kipgate:NAME and in the metric */
    int status;
    bool closes; /* the client's connection ends with the answer */
    const char *title;
    unsigned index; /* in counter tables: ours are enum proxy_reason, the gate's follow */
};
const struct proxy_reason_row *proxy_reason_row(enum proxy_reason r);

#endif
