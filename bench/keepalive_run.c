/* SPDX-License-Identifier: Apache-2.0 */
/* The real reaper and the real habits under a virtual clock, with every application of a trace as
 * one service of one instance. The difficulty: what happens in the same millisecond has an order:
 * uses end, then what is due is reaped or woken, then uses begin, so that an instance whose time is
 * over is cold. */
#include "base/clock.h"
#include "bench/keepalive.h"
#include "reaper/habit.h"
#include "reaper/reaper.h"
#include <stdlib.h>
#include <string.h>

#define EPOCH_MS 1563148800000 /* the wall clock at the beginning: a whole hour */

struct app {
    struct run *run;
    const struct uses *uses;
    size_t next; /* of the uses: the one that begins next, or is under way */
    bool in_use;
    enum { GONE, RUNNING, FROZEN } state;
    int64_t since_ms; /* of the state, or of the end of the last use in it */
    int64_t used_ms;  /* end of the last use */
    struct habit_plan plan;
    struct habit habit;
    struct reaper_entry entry;
    struct kg_heap_node use, wake;
    double megabytes;
    int64_t cold;
};
struct run {
    const struct policy *policy;
    struct habit_goal goal;
    struct habits habits;
    struct reaper reaper;
    struct kg_heap begins, ends, wakes;
    int64_t now_ms;
    struct app *apps;
    struct outcome *out;
};

/* What it costs to be there without being used, up to now. */
static void account(struct app *a)
{
    const double idle_ms = (double)(a->run->now_ms - a->since_ms);

    if (a->state == FROZEN)
        a->run->out->frozen_ms += idle_ms;
    if (a->state == RUNNING && !a->in_use) {
        a->run->out->idle_ms += idle_ms;
        a->run->out->idle_mb_ms += idle_ms * a->megabytes;
    }
    a->since_ms = a->run->now_ms;
}

static void enter(struct app *a, int state)
{
    account(a);
    a->state = state;
}

static void ask(struct app *a)
{
    struct run *r = a->run;
    const int64_t idle_ms = r->now_ms - a->used_ms;

    if (r->policy->fixed_ms > 0) {
        a->plan = (struct habit_plan){
            .keep_ms = r->policy->fixed_ms, .pause_ms = KG_NEVER, .wake_after_ms = KG_NEVER};
        return;
    }
    habit_idle(&r->habits, &a->habit, EPOCH_MS + r->now_ms, idle_ms);
    habit_plan(&r->habits, &a->habit, &r->goal, EPOCH_MS + r->now_ms, idle_ms, &a->plan);
}

static void set_wake(struct app *a)
{
    const int64_t after_ms = a->plan.wake_after_ms;

    if (after_ms != KG_NEVER && a->used_ms + after_ms > a->run->now_ms)
        KG_ASSERT(kg_heap_set(&a->run->wakes, &a->wake, a->used_ms + after_ms) == 0);
}

/* The reaper's question, first at idle_min, before which nothing is to be done, then at each
 * stage's end: asked anew each time, for the others may have taught something meanwhile. */
static bool expire(void *arg, struct reaper_entry *entry)
{
    struct app *a = KG_CONTAINER_OF(entry, struct app, entry);
    const int64_t idle_ms = a->run->now_ms - a->used_ms;

    (void)arg;
    ask(a);
    if (a->plan.keep_ms <= idle_ms) {
        enter(a, GONE);
        set_wake(a);
        return true;
    }
    if (a->plan.pause_ms <= idle_ms)
        enter(a, FROZEN);
    entry->used_ms = a->used_ms; /* one that was woken was watched from its start */
    reaper_set_timeout(&a->run->reaper, entry,
                       a->state == FROZEN ? a->plan.keep_ms
                                          : kg_earliest(a->plan.pause_ms, a->plan.keep_ms));
    return false;
}

static void start(struct app *a, int64_t keep_ms)
{
    enter(a, RUNNING);
    KG_ASSERT(reaper_watch(&a->run->reaper, &a->entry, a->run->now_ms, keep_ms) == 0);
}

static void wake(struct app *a)
{
    kg_heap_remove(&a->run->wakes, &a->wake);
    a->run->out->woken++;
    start(a, a->plan.wake_keep_ms);
}

static void begin_use(struct app *a)
{
    struct run *r = a->run;

    kg_heap_remove(&r->wakes, &a->wake);
    if (a->next > 0 && r->policy->fixed_ms == 0)
        habit_arrival(&r->habits, &a->habit, EPOCH_MS + r->now_ms, r->now_ms - a->used_ms);
    if (a->state == GONE) {
        a->cold++;
        start(a, 0);
    } else if (a->state == FROZEN) {
        r->out->resumed++;
    }
    enter(a, RUNNING);
    a->in_use = true;
    reaper_hold(&r->reaper, &a->entry);
    kg_heap_remove(&r->begins, &a->use);
    KG_ASSERT(kg_heap_set(&r->ends, &a->use, a->uses->items[a->next].end_ms) == 0);
}

static void end_use(struct app *a)
{
    struct run *r = a->run;

    account(a);
    a->in_use = false;
    a->used_ms = r->now_ms;
    kg_heap_remove(&r->ends, &a->use);
    if (++a->next < a->uses->count)
        KG_ASSERT(kg_heap_set(&r->begins, &a->use, a->uses->items[a->next].start_ms) == 0);
    reaper_set_timeout(&r->reaper, &a->entry,
                       r->policy->fixed_ms > 0 ? r->policy->fixed_ms : r->goal.idle_min_ms);
    reaper_unhold(&r->reaper, &a->entry, r->now_ms);
}

/* --- the clock --- */

static int64_t due_ms(const struct kg_heap *heap)
{
    const struct kg_heap_node *first = kg_heap_first(heap);

    return first ? first->due_ms : KG_NEVER;
}

static void pass(struct run *r, int64_t until_ms)
{
    for (;;) {
        r->now_ms = kg_earliest(kg_earliest(due_ms(&r->ends), due_ms(&r->begins)),
                                kg_earliest(due_ms(&r->wakes), reaper_due_ms(&r->reaper)));
        if (r->now_ms >= until_ms)
            break;
        while (due_ms(&r->ends) <= r->now_ms)
            end_use(KG_CONTAINER_OF(kg_heap_first(&r->ends), struct app, use));
        reaper_tick(&r->reaper, r->now_ms);
        while (due_ms(&r->wakes) <= r->now_ms)
            wake(KG_CONTAINER_OF(kg_heap_first(&r->wakes), struct app, wake));
        while (due_ms(&r->begins) <= r->now_ms)
            begin_use(KG_CONTAINER_OF(kg_heap_first(&r->begins), struct app, use));
    }
    r->now_ms = until_ms;
}

/* --- one run --- */

static int prepare(struct run *r, const struct trace *t, const struct uses *uses)
{
    int rc = kg_heap_reserve(&r->wakes, t->app_count);

    rc = rc ? rc : kg_heap_reserve(&r->ends, t->app_count);
    rc = rc ? rc : kg_heap_reserve(&r->begins, t->app_count);
    rc = rc ? rc : kg_heap_reserve(&r->reaper.heap, t->app_count);
    for (size_t i = 0; i < t->app_count && rc == 0; i++) {
        struct app *a = &r->apps[i];

        *a = (struct app){.run = r, .uses = &uses[i], .megabytes = t->apps[i].megabytes};
        habit_init(&a->habit);
        if (a->uses->count > 0)
            rc = kg_heap_set(&r->begins, &a->use, a->uses->items[0].start_ms);
    }
    return rc;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Of sorted values; 0 to 1. */
static double quantile(const double *values, size_t count, double share)
{
    const double at = share * (double)(count - 1);
    const size_t below = (size_t)at, above = below + 1 < count ? below + 1 : below;

    return values[below] + (at - (double)below) * (values[above] - values[below]);
}

static int sum_up(const struct run *r, const struct trace *t, const struct costs *costs)
{
    struct outcome *out = r->out;
    double *share = calloc(t->app_count, sizeof *share);
    size_t count = 0;

    if (!share)
        return KG_ENOMEM;
    for (size_t i = 0; i < t->app_count; i++) {
        account(&r->apps[i]);
        out->cold += r->apps[i].cold;
        if (t->apps[i].invocations > 0)
            share[count++] = 100.0 * (double)r->apps[i].cold / (double)t->apps[i].invocations;
    }
    qsort(share, count, sizeof *share, compare_doubles);
    if (count > 0) {
        out->cold_median = quantile(share, count, 0.5);
        out->cold_q3 = quantile(share, count, 0.75);
    }
    out->latency_s = (double)(out->cold * costs->start_ms + out->resumed * costs->resume_ms) / 1000;
    free(share);
    return 0;
}

int keepalive_run(const struct trace *t, const struct uses *uses, const struct policy *p,
                  const struct costs *costs, struct outcome *out)
{
    struct run *r = calloc(1, sizeof *r);
    int rc = KG_ENOMEM;

    if (!r)
        return rc;
    *out = (struct outcome){0};
    r->policy = p;
    r->out = out;
    r->goal = (struct habit_goal){.idle_min_ms = costs->idle_min_ms,
                                  .idle_max_ms = costs->idle_max_ms,
                                  .start_ms = costs->start_ms,
                                  .goal = p->goal,
                                  .pause = p->pause};
    habits_init(&r->habits);
    reaper_init(&r->reaper, expire, NULL);
    r->apps = calloc(t->app_count, sizeof *r->apps);
    if (r->apps)
        rc = prepare(r, t, uses);
    if (rc == 0) {
        pass(r, (int64_t)t->minutes * KEEPALIVE_MINUTE_MS);
        rc = sum_up(r, t, costs);
    }
    kg_heap_fini(&r->begins);
    kg_heap_fini(&r->ends);
    kg_heap_fini(&r->wakes);
    reaper_fini(&r->reaper);
    free(r->apps);
    free(r);
    return rc;
}
