/* SPDX-License-Identifier: Apache-2.0 */
/* From the chance of a use in each of the minutes to come to a plan: to be there is worth a minute
 * of memory while the chance is above a threshold, which the goal sets. The difficulty: minutes are
 * of the wall clock, plans are ages; and a removal with a start two minutes later is no saving. */
#include "base/clock.h"
#include "reaper/habit.h"
#include <math.h>
#include <stdio.h>

#define MINUTE_MS 60000
#define FALLBACK_MS (5 * MINUTE_MS)
#define ENOUGH_OWN 3      /* idle times to decide by */
#define ENOUGH_SHARED 100 /* the same, of all things together */
#define LULL 2            /* so many minutes below the threshold end a stretch */
#define LIKELIER 1.1
#define FROZEN_SHARE 0.25 /* what a frozen minute costs of a running one's */
#define LEAD_MS 2000      /* a wake is earlier by this and by twice what a start takes */
#define FAR (4 * 24 * 60) /* minutes looked ahead for a wake: a long weekend */

/* One question. Minutes count from the one in which the last use ended, which is 0. */
struct ask {
    const struct habits *all;
    const struct habit *h;
    int64_t end_ms; /* of the last use, wall clock */
    double threshold;
};

static double chance(const struct ask *a, int64_t k)
{
    const int64_t last = a->end_ms / MINUTE_MS;

    return habit_chance(a->all, a->h, last, last + k);
}

static bool is_likely(const struct ask *a, int64_t k, double share)
{
    return chance(a, k) > a->threshold * share;
}

static int64_t age_ms(const struct ask *a, int64_t k)
{
    return (a->end_ms / MINUTE_MS + k) * MINUTE_MS - a->end_ms;
}

/* The first minute that begins at this age or later. */
static int64_t minute_at(const struct ask *a, int64_t age)
{
    return (a->end_ms % MINUTE_MS + age + MINUTE_MS - 1) / MINUTE_MS;
}

/* The minute, at least `from`, that ends the stretch of likely ones which begins there or soon. */
static int64_t stretch_end(const struct ask *a, int64_t from, int64_t most, double share)
{
    int64_t end = from;

    for (int64_t k = from; k < most && k < end + LULL; k++)
        if (is_likely(a, k, share))
            end = k + 1;
    return end;
}

/* The first likely minute, `from` or later; KG_NEVER: none that can be foreseen. */
static int64_t next_likely(const struct ask *a, int64_t from)
{
    for (int64_t k = from; k < from + FAR; k++)
        if (is_likely(a, k, 1))
            return k;
    return KG_NEVER;
}

static int64_t within(int64_t low, int64_t value, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* It is removed at minute `from`. If a use is likely even then, idle_max was the reason: what it is
 * woken for must be likelier. */
static void plan_wake(struct ask a, const struct habit_goal *goal, int64_t from, int64_t idle_ms,
                      struct habit_plan *plan)
{
    const int64_t most = minute_at(&a, within(0, goal->idle_max_ms, FAR * MINUTE_MS));
    const int64_t lead_ms = LEAD_MS + 2 * within(0, goal->start_ms, 10 * MINUTE_MS);
    int64_t k;

    if (is_likely(&a, from, 1))
        a.threshold = LIKELIER * chance(&a, from);
    k = next_likely(&a, from);
    if (k == KG_NEVER || goal->idle_max_ms == 0)
        return;
    plan->wake_after_ms = within(idle_ms + 1, age_ms(&a, k) - lead_ms, KG_NEVER);
    plan->wake_keep_ms =
        within(goal->idle_min_ms, age_ms(&a, stretch_end(&a, k, k + most, 1)) - plan->wake_after_ms,
               goal->idle_max_ms);
}

static void say_why(const struct ask *a, const struct habit_goal *goal, struct habit_plan *plan)
{
    const char *bound = plan->keep_ms == goal->idle_max_ms   ? ", at most idle_max"
                        : plan->keep_ms == goal->idle_min_ms ? ", at least idle_min"
                                                             : "";

    snprintf(plan->why, sizeof plan->why,
             "%u idle times: kept while a use is likelier than %.2g%% a minute%s", a->h->known,
             a->threshold * 100, bound);
}

void habit_plan(const struct habits *all, const struct habit *h, const struct habit_goal *goal,
                int64_t wall_ms, int64_t idle_ms, struct habit_plan *plan)
{
    const struct ask a = {all, h, habit_end_of_use(wall_ms, idle_ms), pow(10, -1 - 2 * goal->goal)};
    const double share = goal->pause ? FROZEN_SHARE : 1;
    int64_t from, most, end, frozen;

    *plan = (struct habit_plan){.pause_ms = KG_NEVER, .wake_after_ms = KG_NEVER};
    if (h->gaps < ENOUGH_OWN && all->gaps < ENOUGH_SHARED) {
        plan->keep_ms = within(goal->idle_min_ms, FALLBACK_MS, goal->idle_max_ms);
        snprintf(plan->why, sizeof plan->why, "knows too little (%u idle times): five minutes",
                 h->known);
        return;
    }
    idle_ms = within(0, idle_ms, (int64_t)HABIT_LAST_MINUTE * MINUTE_MS);
    from = minute_at(&a, goal->idle_min_ms > idle_ms ? goal->idle_min_ms : idle_ms);
    from = from > 0 ? from : 1; /* the minute of the use itself is nobody's loss */
    most = minute_at(&a, within(0, goal->idle_max_ms, FAR * MINUTE_MS));
    end = stretch_end(&a, from, most, share);
    plan->keep_ms = within(goal->idle_min_ms, age_ms(&a, end), goal->idle_max_ms);
    frozen = age_ms(&a, stretch_end(&a, from, end, 1));
    if (goal->pause && frozen < plan->keep_ms)
        plan->pause_ms = frozen;
    if (plan->keep_ms <= idle_ms)
        plan_wake(a, goal, end, idle_ms, plan);
    say_why(&a, goal, plan);
}
