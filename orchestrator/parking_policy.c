/* SPDX-License-Identifier: Apache-2.0 */
/* How many sandboxes are worth having, and whether any is. Pure. The difficulty: a burst is
 * provided for after the first one only, and engines differ by more than any rule could say. */
#include "orchestrator/parking_priv.h"
#include <stdlib.h>

#define MINUTE_MS 60000

/* --- demand ------------------------------------------------------------------------------- */

void parking_demand_seed(struct parking_demand *d, int64_t now_ms)
{
    if (!d->any)
        d->last_ms = now_ms;
    d->any = true;
}

void parking_demand_note(struct parking_demand *d, int64_t now_ms)
{
    int64_t minute = now_ms / MINUTE_MS;
    size_t n = (size_t)(minute % DEMAND_MINUTES);

    if (d->burst == 0 || now_ms - d->burst_ms > DEMAND_BURST_MS) {
        d->burst = 0;
        d->burst_ms = now_ms;
    }
    d->burst++;
    d->last_ms = now_ms;
    d->any = true;
    if (d->peaks[n].minute != minute)
        d->peaks[n].most = 0;
    d->peaks[n].minute = minute;
    if (d->peaks[n].most < d->burst)
        d->peaks[n].most = d->burst;
}

static bool is_recent(const struct parking_demand *d, size_t n, int64_t now_ms)
{
    return d->peaks[n].most > 0 &&
           now_ms - d->peaks[n].minute * MINUTE_MS < KG_SANDBOX_KEEP_MS + MINUTE_MS;
}

unsigned parking_demand_want(const struct parking_demand *d, int64_t now_ms)
{
    unsigned want = d->any && now_ms - d->last_ms < KG_SANDBOX_KEEP_ONE_MS ? 1 : 0;

    for (size_t n = 0; n < DEMAND_MINUTES; n++)
        if (is_recent(d, n, now_ms) && d->peaks[n].most > want)
            want = d->peaks[n].most;
    return want;
}

int64_t parking_demand_due_ms(const struct parking_demand *d, int64_t now_ms)
{
    int64_t due_ms = KG_NEVER;

    if (d->any && now_ms - d->last_ms < KG_SANDBOX_KEEP_ONE_MS)
        due_ms = d->last_ms + KG_SANDBOX_KEEP_ONE_MS;
    for (size_t n = 0; n < DEMAND_MINUTES; n++)
        if (is_recent(d, n, now_ms))
            due_ms = kg_earliest(due_ms, (d->peaks[n].minute + 1) * MINUTE_MS + KG_SANDBOX_KEEP_MS);
    return due_ms;
}

/* --- gain --------------------------------------------------------------------------------- */

void parking_gain_note(struct parking_gain_ring *r, int64_t ms)
{
    r->ms[r->count++ % GAIN_SAMPLES] = ms;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

int64_t parking_gain_median(const struct parking_gain_ring *r)
{
    size_t n = r->count < GAIN_SAMPLES ? r->count : GAIN_SAMPLES;
    int64_t sorted[GAIN_SAMPLES];

    if (n == 0)
        return -1;
    memcpy(sorted, r->ms, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_size);
    return sorted[n / 2];
}

bool parking_gain_is_poor(const struct parking_gain *g)
{
    if (g->joined.count < GAIN_ENOUGH || g->own.count < GAIN_ENOUGH)
        return false;
    return (double)parking_gain_median(&g->joined) >
           GAIN_WORST * (double)parking_gain_median(&g->own);
}
