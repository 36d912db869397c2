/* SPDX-License-Identifier: Apache-2.0 */
/* The counters of one front: a shared page it alone writes and others read.
 * The difficulty: its layout is read by another process of the same binary, so it is plain numbers
 * of fixed width, indexed by service id; untouched pages cost no memory. */
#ifndef PROXY_STATS_H
#define PROXY_STATS_H

#include "base/limits.h"
#include "base/metrics.h"
#include "proxy/reason.h"

/* Status codes are counted exactly for 100..599. */
#define PROXY_STATUS_MIN 100
#define PROXY_STATUS_COUNT 500

struct proxy_service_stats {
    uint64_t requests[PROXY_STATUS_COUNT]; /* a busy worker's pass 2^32 within days */
    uint64_t broken;                       /* exchanges that ended after the head, before the end */
    uint64_t exchanges, waiting;           /* now */
    uint64_t refused[PROXY_REASON_MAX];
    struct kg_histogram duration;
};
struct proxy_stats {
    uint64_t connections, exchanges, accepted, connections_refused;
    uint64_t refused[PROXY_REASON_MAX]; /* before a service was known */
    uint64_t upstream_connects, upstream_reuses, upstream_retries;
    uint64_t tls_full, tls_resumed, tls_failed; /* handshakes */
    struct proxy_service_stats services[KG_MAX_SERVICES];
};

#endif
