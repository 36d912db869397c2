/* SPDX-License-Identifier: Apache-2.0 */
/* Control's rows of the reason table, counted behind the proxy's.
 * The difficulty: an index may come from a message, so one that is out of range has no row. */
#include "orchestrator/reasons.h"
#include <stddef.h>

static const struct proxy_reason_row rows[ORCH_REASON_END - PROXY_REASON_COUNT] = {
#define ROW(constant, name, status, title)                                                         \
    [ORCH_##constant - PROXY_REASON_COUNT] = {name, status, false, title, ORCH_##constant},
    ORCH_REASONS(ROW)
#undef ROW
};

const struct proxy_reason_row *orch_reason_row(unsigned index)
{
    if (index < PROXY_REASON_COUNT)
        return proxy_reason_row((enum proxy_reason)index);
    return index < (unsigned)ORCH_REASON_END ? &rows[index - PROXY_REASON_COUNT] : NULL;
}
