/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane's rows of the reason table: why a request got no instance.
 * The difficulty: a row crosses from control to a front as its index, so both count alike. */
#ifndef ORCHESTRATOR_REASONS_H
#define ORCHESTRATOR_REASONS_H

#include "proxy/reason.h"

/* constant, name, status, title */
#define ORCH_REASONS(X)                                                                            \
    X(QUEUE_FULL, "queue-full", 503, "Too many requests wait for the service")                     \
    X(ENGINE_UNAVAILABLE, "engine-unavailable", 503, "The engine does not answer")                 \
    X(IMAGE_UNAVAILABLE, "image-unavailable", 502, "The image cannot be had")                      \
    X(INSTANCE_EXITED, "instance-exited", 502, "The instance ended before it was ready")           \
    X(START_TIMEOUT, "start-timeout", 504, "The instance was not ready in time")                   \
    X(BACKING_OFF, "backing-off", 503, "The service failed recently")                              \
    X(ASLEEP, "asleep", 503, "The service is asleep")

enum orch_reason {
    ORCH_FIRST_ = PROXY_REASON_COUNT - 1, /* so that the next is PROXY_REASON_COUNT */
#define ORCH_REASON_CONSTANT(constant, name, status, title) ORCH_##constant,
    ORCH_REASONS(ORCH_REASON_CONSTANT)
#undef ORCH_REASON_CONSTANT
        ORCH_REASON_END
};
_Static_assert((int)ORCH_REASON_END <= PROXY_REASON_MAX, "the counter tables are too narrow");

/* The row of any index: the proxy's or ours; NULL when there is none (it came from a message). */
const struct proxy_reason_row *orch_reason_row(unsigned index);

#endif
