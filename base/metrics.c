/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms and the Prometheus text form. The difficulty: a reader in another process sees the
 * counters while they change, so what it prints must add up by itself. */
#include "base/metrics.h"
#include <inttypes.h>
#include <math.h>

const double kg_histogram_bounds_s[KG_HISTOGRAM_BUCKETS] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, INFINITY,
};

/* The same bounds, exact: a duration of just one bound belongs into that bucket. */
static const int64_t bounds_us[KG_HISTOGRAM_BUCKETS] = {
    1000,   2500,    5000,    10000,   25000,    50000,    100000,   250000,
    500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, INT64_MAX,
};

static uint64_t load(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* There is one writer, so no read-modify-write is needed; the store is one aligned word. */
static void add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

void kg_histogram_add_us(struct kg_histogram *h, int64_t us)
{
    size_t i = 0;

    if (us < 0)
        us = 0;
    while (us > bounds_us[i])
        i++;
    add(&h->buckets[i], 1);
    add(&h->count, 1);
    add(&h->sum_us, (uint64_t)us);
}

void kg_histogram_merge(struct kg_histogram *into, const struct kg_histogram *from)
{
    for (size_t i = 0; i < KG_HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += load(&from->buckets[i]);
    into->count += load(&from->count);
    into->sum_us += load(&from->sum_us);
}

void kg_histogram_less(struct kg_histogram *h, const struct kg_histogram *part)
{
    for (size_t i = 0; i < KG_HISTOGRAM_BUCKETS; i++)
        h->buckets[i] -= part->buckets[i];
    h->count -= part->count;
    h->sum_us -= part->sum_us;
}

void kg_metrics_help(struct kg_buf *out, const char *name, const char *type, const char *help)
{
    kg_buf_printf(out, "# HELP %s ", name);
    for (; *help; help++) {
        if (*help == '\\')
            kg_buf_puts(out, "\\\\");
        else if (*help == '\n')
            kg_buf_puts(out, "\\n");
        else
            kg_buf_append(out, help, 1);
    }
    kg_buf_printf(out, "\n# TYPE %s %s\n", name, type);
}

static void put_sample(struct kg_buf *out, const char *name, const char *suffix, const char *labels)
{
    if (*labels)
        kg_buf_printf(out, "%s%s{%s} ", name, suffix, labels);
    else
        kg_buf_printf(out, "%s%s ", name, suffix);
}

void kg_metrics_u64(struct kg_buf *out, const char *name, const char *labels, uint64_t value)
{
    put_sample(out, name, "", labels);
    kg_buf_printf(out, "%" PRIu64 "\n", value);
}

void kg_metrics_histogram(struct kg_buf *out, const char *name, const char *labels,
                          const struct kg_histogram *h)
{
    const uint64_t sum_us = load(&h->sum_us);
    uint64_t total = 0;

    for (size_t i = 0; i < KG_HISTOGRAM_BUCKETS; i++) {
        total += load(&h->buckets[i]);
        kg_buf_printf(out, "%s_bucket{%s%sle=\"", name, labels, *labels ? "," : "");
        if (i + 1 < KG_HISTOGRAM_BUCKETS)
            kg_buf_printf(out, "%g\"} %" PRIu64 "\n", kg_histogram_bounds_s[i], total);
        else
            kg_buf_printf(out, "+Inf\"} %" PRIu64 "\n", total);
    }
    put_sample(out, name, "_sum", labels);
    kg_buf_printf(out, "%" PRIu64 ".%06" PRIu64 "\n", sum_us / 1000000, sum_us % 1000000);
    put_sample(out, name, "_count", labels);
    kg_buf_printf(out, "%" PRIu64 "\n", total); /* h->count may be a moment ahead of the buckets */
}
