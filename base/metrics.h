/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms as plain values (fit for a shared page) and the Prometheus text form.
 * A page has one writer; readers may see a count a moment old, never a torn one (aligned 64-bit).
 */
#ifndef KG_BASE_METRICS_H
#define KG_BASE_METRICS_H

#include "base/buf.h"

#define KG_HISTOGRAM_BUCKETS 16
/* Upper bounds in seconds: 1ms 2.5ms 5ms 10ms 25ms 50ms 100ms 250ms 500ms 1s 2.5s 5s 10s 30s 60s
 * +Inf */
extern const double kg_histogram_bounds_s[KG_HISTOGRAM_BUCKETS];

struct kg_histogram {
    uint64_t buckets[KG_HISTOGRAM_BUCKETS]; /* not cumulative */
    uint64_t count, sum_us;
};
void kg_histogram_add_us(struct kg_histogram *h, int64_t us);
void kg_histogram_merge(struct kg_histogram *into, const struct kg_histogram *from);
/* Takes out again what was merged: `part` is an earlier state of it. */
void kg_histogram_less(struct kg_histogram *h, const struct kg_histogram *part);

/* Prometheus text. `labels` is ready text such as `service="a",code="200"` or "". */
void kg_metrics_help(struct kg_buf *out, const char *name, const char *type, const char *help);
void kg_metrics_u64(struct kg_buf *out, const char *name, const char *labels, uint64_t value);
void kg_metrics_histogram(struct kg_buf *out, const char *name, const char *labels,
                          const struct kg_histogram *h);

#endif
