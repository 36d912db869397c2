/* SPDX-License-Identifier: Apache-2.0 */
/* Time as the fronts' and control's own code sees it: the clocks, and libuv's timers, on the
 * world's virtual clock; and chance. The difficulty: these take the places of the real ones by
 * their names. */
#include "sim.h"
#include <stdlib.h>
#include <sys/random.h>

struct world *sim_playing;

/* The key of maps: what they hold comes in the same order in each process, so a seed replays. */
ssize_t getrandom(void *bytes, size_t n, unsigned flags)
{
    (void)flags;
    memset(bytes, 0x5a, n);
    return (ssize_t)n;
}

int64_t kg_clock_mono_ms(void)
{
    return sim_playing->now_ms;
}

int64_t kg_clock_mono_us(void)
{
    return sim_playing->now_ms * 1000;
}

int64_t kg_clock_wall_ms(void)
{
    return sim_playing->now_ms;
}

void kg_clock_format(int64_t wall_ms, char out[25])
{
    snprintf(out, 25, "%lld", (long long)wall_ms);
}

uint64_t uv_now(const uv_loop_t *loop)
{
    (void)loop;
    return (uint64_t)sim_playing->now_ms;
}

int uv_timer_init(uv_loop_t *loop, uv_timer_t *t)
{
    t->loop = loop;
    t->u.reserved[0] = NULL; /* the task */
    t->flags = 0;            /* 1: closed */
    return 0;
}

int uv_timer_stop(uv_timer_t *t)
{
    if (t->u.reserved[0])
        sim_cancel(sim_playing, t->u.reserved[0]);
    t->u.reserved[0] = NULL;
    return 0;
}

static void run_timer(struct world *w, struct task *task)
{
    uv_timer_t *t = task->what;

    (void)w;
    t->u.reserved[0] = NULL;
    t->timer_cb(t);
}

int uv_timer_start(uv_timer_t *t, uv_timer_cb run, uint64_t delay_ms, uint64_t repeat_ms)
{
    SIM_ASSERT(sim_playing, t->flags == 0 && repeat_ms == 0);
    uv_timer_stop(t);
    t->timer_cb = run;
    t->u.reserved[0] = sim_later(sim_playing, (int64_t)delay_ms, run_timer, t, 0);
    return 0;
}

int uv_is_closing(const uv_handle_t *h)
{
    return h->flags != 0;
}

void uv_close(uv_handle_t *h, uv_close_cb closed)
{
    uv_timer_stop((uv_timer_t *)h);
    h->flags = 1;
    closed(h);
}
