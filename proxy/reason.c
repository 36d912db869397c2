/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of the reason table.
 * The difficulty is in the header: what is written there is promised to users. */
#include "proxy/reason.h"
#include "base/err.h"

static const struct proxy_reason_row rows[PROXY_REASON_COUNT] = {
#define ROW(constant, name, status, closes, title)                                                 \
    [PROXY_##constant] = {name, status, closes, title, PROXY_##constant},
    PROXY_REASONS(ROW)
#undef ROW
};

const struct proxy_reason_row *proxy_reason_row(enum proxy_reason r)
{
    KG_ASSERT((unsigned)r < PROXY_REASON_COUNT);
    return &rows[r];
}
