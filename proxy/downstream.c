/* SPDX-License-Identifier: Apache-2.0 */
/* What all kinds of clients share.
 * The difficulty: a request that was not understood is counted, logged and answered all the same.
 */
#include "proxy/downstream_priv.h"

void downstream_refused(struct downstream *d, struct guard_verdict verdict,
                        const struct http1_head *h, char id[REWRITE_ID_MAX + 1],
                        struct problem *out)
{
    const struct proxy_reason_row *row = proxy_reason_row(verdict.reason);
    struct access_line line = {.client = d->address, .outcome = "refused", .status = row->status};

    *out = (struct problem){.row = row,
                            .detail = verdict.words,
                            .id = rewrite_request_id(NULL, id),
                            .wall_ms = proxy_wall_ms(d->proxy),
                            .client_minor = h ? h->minor : 1,
                            .head = h && h->method_id == HTTP1_HEAD};
    d->proxy->stats->refused[row->index]++;
    line.id = out->id;
    if (h) {
        line.method = h->method;
        line.target = h->raw_target;
    }
    access_log_write(d->proxy, &line);
}
