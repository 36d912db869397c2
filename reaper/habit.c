/* SPDX-License-Identifier: Apache-2.0 */
/* Learns from idle times. For now it knows nothing: five minutes. */
#include "reaper/habit.h"
#include "base/clock.h"
#include "base/err.h"
#include <stdio.h>

#define FALLBACK_MS (5 * 60 * 1000)

void habits_init(struct habits *all)
{
    *all = (struct habits){0};
}

void habit_init(struct habit *h)
{
    *h = (struct habit){0};
}

void habit_arrival(struct habits *all, struct habit *h, int64_t wall_ms, int64_t idle_ms)
{
    (void)wall_ms;
    (void)idle_ms;
    all->known++;
    h->known++;
}

void habit_idle(struct habits *all, struct habit *h, int64_t wall_ms, int64_t idle_ms)
{
    (void)all;
    (void)h;
    (void)wall_ms;
    (void)idle_ms;
}

void habit_plan(const struct habits *all, const struct habit *h, const struct habit_goal *goal,
                int64_t wall_ms, int64_t idle_ms, struct habit_plan *plan)
{
    int64_t keep_ms = FALLBACK_MS;

    (void)all;
    (void)h;
    (void)wall_ms;
    (void)idle_ms;
    if (keep_ms < goal->idle_min_ms)
        keep_ms = goal->idle_min_ms;
    if (keep_ms > goal->idle_max_ms)
        keep_ms = goal->idle_max_ms;
    *plan =
        (struct habit_plan){.keep_ms = keep_ms, .pause_ms = KG_NEVER, .wake_after_ms = KG_NEVER};
    snprintf(plan->why, sizeof plan->why, "knows too little: five minutes");
}

void habit_save(const struct habit *h, struct kg_buf *out)
{
    kg_buf_printf(out, "habit0 %u", h->known);
}

void habits_save(const struct habits *all, struct kg_buf *out)
{
    kg_buf_printf(out, "habits0 %u", all->known);
}

static int load(uint32_t *known, struct kg_str text, struct kg_str name)
{
    int64_t n;

    if (!kg_str_has_prefix(text, name))
        return KG_EINVAL;
    text.p += name.n;
    text.n -= name.n;
    if (!kg_str_to_i64(text, &n) || n > UINT32_MAX)
        return KG_EINVAL;
    *known = (uint32_t)n;
    return 0;
}

int habit_load(struct habit *h, struct kg_str text)
{
    return load(&h->known, text, KG_STR("habit0 "));
}

int habits_load(struct habits *all, struct kg_str text)
{
    return load(&all->known, text, KG_STR("habits0 "));
}
