/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms and their text. The difficulty: buckets are kept apart and only summed when printed,
 * so that adding one value writes two words of the page. */
#include "base/metrics.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

const double kg_histogram_bounds_s[KG_HISTOGRAM_BUCKETS] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, INFINITY};

void kg_histogram_add_us(struct kg_histogram *h, int64_t us)
{
    size_t i = 0;

    if (us < 0)
        us = 0;
    while (i < KG_HISTOGRAM_BUCKETS - 1 && (double)us > kg_histogram_bounds_s[i] * 1e6)
        i++;
    h->buckets[i]++;
    h->count++;
    h->sum_us += (uint64_t)us;
}

void kg_histogram_merge(struct kg_histogram *into, const struct kg_histogram *from)
{
    for (size_t i = 0; i < KG_HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    into->sum_us += from->sum_us;
}

void kg_metrics_help(struct kg_buf *out, const char *name, const char *type, const char *help)
{
    kg_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void kg_metrics_u64(struct kg_buf *out, const char *name, const char *labels, uint64_t value)
{
    const char *open = labels[0] ? "{" : "", *close = labels[0] ? "}" : "";

    kg_buf_printf(out, "%s%s%s%s %" PRIu64 "\n", name, open, labels, close, value);
}

void kg_metrics_histogram(struct kg_buf *out, const char *name, const char *labels,
                          const struct kg_histogram *h)
{
    const char *comma = labels[0] ? "," : "";
    const char *open = labels[0] ? "{" : "", *close = labels[0] ? "}" : "";
    uint64_t sum = 0;

    for (size_t i = 0; i < KG_HISTOGRAM_BUCKETS; i++) {
        char bound[24] = "+Inf";
        if (i < KG_HISTOGRAM_BUCKETS - 1)
            snprintf(bound, sizeof bound, "%g", kg_histogram_bounds_s[i]);
        sum += h->buckets[i];
        kg_buf_printf(out, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", name, labels, comma, bound,
                      sum);
    }
    kg_buf_printf(out, "%s_sum%s%s%s %.6f\n", name, open, labels, close, (double)h->sum_us / 1e6);
    kg_buf_printf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, sum);
}
