/* SPDX-License-Identifier: Apache-2.0 */
/* The door the data plane needs: the right to send one exchange to a ready worker.
 * The difficulty: a right is taken and given back exactly once, whatever the peers do between. */
#ifndef PROXY_GATE_H
#define PROXY_GATE_H

#include "base/list.h"
#include "proxy/reason.h"
#include <stdint.h>
#include <sys/socket.h>

struct proxy_worker; /* one ready worker with its pool of connections; belongs to the proxy */

enum proxy_warmth { PROXY_WARM, PROXY_COLD, PROXY_PAUSED };

struct proxy_answer {
    struct proxy_worker *worker;           /* granted: one slot of this worker; NULL: refused */
    enum proxy_warmth warmth;              /* what the request waited for */
    const struct proxy_reason_row *reason; /* why it was refused; a static row */
    bool asleep;            /* that nothing serves: a monitor is told so by a status of its own */
    int64_t retry_after_ms; /* for 503: 0 = no idea (the answer then says 1 s) */
    const char *detail;     /* names the service and the cause; valid during the call */
};

/* A request that asks for a slot. Embedded in the exchange; the gate owns it from an acquire that
 * returned NULL until on_answer is called or cancel returned. */
struct proxy_waiter {
    struct kg_list link; /* the gate's */
    uint64_t ticket;     /* the gate's */
    uint32_t service;
    bool quiet; /* a monitor's request: neither wakes nor keeps awake */
    void (*on_answer)(struct proxy_waiter *w, const struct proxy_answer *answer);
};

struct proxy_gate {
    void *self;
    /* A slot at hand: returns its worker at once (warm path: no message, no allocation). Else NULL,
     * and on_answer is called exactly once later, never from inside this call. */
    struct proxy_worker *(*acquire)(void *self, struct proxy_waiter *w);
    /* The request no longer waits; on_answer will not be called. */
    void (*cancel)(void *self, struct proxy_waiter *w);
    /* Gives one slot back: the exchange is over. May call on_answer of other waiters. */
    void (*release)(void *self, struct proxy_worker *worker, bool quiet);
    /* A connection to the worker failed or broke: whoever knows should look at it. */
    void (*suspect)(void *self, struct proxy_worker *worker);
    /* A probe begun by proxy_worker_probe got through; the connection is in the worker's pool. */
    void (*probed)(void *self, struct proxy_worker *worker);
};

#endif
