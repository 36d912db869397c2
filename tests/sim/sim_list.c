/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's list of what there is. The difficulty: it is asked for, made and heard of at three
 * different times, with anything in between; but as the engine client does it, one at a time, and
 * none outlives the connection or the control that asked. */
#include "sim.h"
#include <stdlib.h>

struct snapshot {
    struct engine_container *all;
    size_t count;
    int64_t began_ms;
    uint64_t number;
};

static void run_list_told(struct world *w, struct task *t)
{
    struct snapshot *s = t->what;

    if (s->number == w->engine.list) {
        w->engine.list = 0;
        if (!w->listed)
            w->listed_ms = w->now_ms;
        w->listed = true;
        w->engine.list_began_ms = s->began_ms;
        w->engine.list_told_ms = w->now_ms;
        fleet_engine_list(w->fleet, s->all, s->count, s->began_ms, w->now_ms);
        if (w->engine.list_again)
            engine_list(w);
    }
    free(s->all);
    free(s);
}

static void run_list(struct world *w, struct task *t)
{
    struct snapshot *s = t->what;
    int64_t most_ms;

    s->all = calloc(w->engine.count + 1, sizeof *s->all);
    SIM_ASSERT(w, s->all != NULL);
    for (size_t n = 0; n < w->engine.count; n++) {
        const struct container *c = &w->engine.containers[n];
        if (c->c.state == ENGINE_NONE || strcmp(c->c.owner, SIM_OWNER) != 0)
            continue;
        s->all[s->count] = c->c;
        if (sim_chance(w, 50)) { /* a list need not know addresses */
            s->all[s->count].address = (struct sockaddr_storage){0};
            s->all[s->count].address_length = 0;
        }
        s->count++;
    }
    most_ms = w->calm ? 5 : !w->only_crashes && sim_often(w, TRAIT_SLOW_LIST) ? 1500 : 60;
    sim_later(w, sim_between(w, 1, most_ms), run_list_told, s, 0);
}

void engine_list(struct world *w)
{
    struct snapshot *s;

    w->engine.list_again = w->engine.list != 0;
    if (w->engine.list_again)
        return;
    s = calloc(1, sizeof *s);
    SIM_ASSERT(w, s != NULL);
    s->began_ms = w->now_ms;
    s->number = w->engine.list = ++w->engine.lists;
    sim_later(w, sim_between(w, 0, 5), run_list, s, 0);
}

void engine_drop_list(struct task *t)
{
    struct snapshot *s = t->what;

    if (t->run != run_list && t->run != run_list_told)
        return;
    free(s->all);
    free(s);
}
