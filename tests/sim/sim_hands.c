/* SPDX-License-Identifier: Apache-2.0 */
/* Other hands at the engine: they pause, restart, rename, remove what is ours, and make what is
 * not. The difficulty: each leaves the fleet with something that it did not do. */
#include "sim.h"
#include <stdio.h>
#include <stdlib.h>

/* Nobody's hand: a worker ends while it is in service. */
void engine_worker_ends(struct world *w)
{
    size_t first = (size_t)sim_between(w, 0, SIM_MAX_CONTAINERS - 1);

    for (size_t n = 0; w->engine.up && n < w->engine.count; n++) {
        struct container *c = &w->engine.containers[(first + n) % w->engine.count];
        if (!c->ours || c->c.state != ENGINE_RUNNING || c->listens_ms > w->now_ms)
            continue;
        sim_say(w, "%s ends by itself", c->c.name);
        engine_worker_dies(w, c, sim_chance(w, 50) ? 0 : 1, sim_chance(w, 20));
        return;
    }
}

/* Somebody starts or removes what we just made. */
static void run_meddle_early(struct world *w, struct task *t)
{
    struct container *c = &w->engine.containers[t->number];

    if (c->c.state != ENGINE_CREATED || t->other != strtoull(c->c.id + 16, NULL, 16))
        return;
    c->by_hand = true;
    if (sim_chance(w, 50))
        engine_destroy(w, c);
    else if (c->boot != BOOT_BAD_COMMAND && engine_give_address(w, c))
        engine_boot(w, c);
}

void engine_meddle_early(struct world *w, const struct container *c)
{
    struct task *t;

    if (w->calm || w->only_crashes || !sim_often(w, TRAIT_MEDDLED_EARLY))
        return;
    t = sim_later(w, sim_between(w, 0, 10), run_meddle_early, NULL,
                  (uint64_t)(c - w->engine.containers));
    t->other = strtoull(c->c.id + 16, NULL, 16);
}

static void run_unpause(struct world *w, struct task *t)
{
    struct container *c = &w->engine.containers[t->number];

    if (c->c.state == ENGINE_PAUSED) {
        c->c.state = ENGINE_RUNNING;
        engine_tell(w, c, ENGINE_EVENT_UNPAUSE);
    }
}

static void meddle_with(struct world *w, struct container *c)
{
    c->by_hand = true;
    w->engine.mute = sim_chance(w, 25); /* and no event tells of it */
    switch (sim_between(w, 0, 8)) {
    case 0:
        engine_worker_dies(w, c, 1, false);
        break;
    case 1:
        engine_worker_dies(w, c, 137, true);
        break;
    case 2:
        if (c->c.state != ENGINE_RUNNING)
            break;
        c->c.state = ENGINE_PAUSED;
        engine_tell(w, c, ENGINE_EVENT_PAUSE);
        sim_later(w, sim_between(w, 5, 2000), run_unpause, NULL,
                  (uint64_t)(c - w->engine.containers));
        break;
    case 3:
        engine_worker_dies(w, c, 0, false);
        if (engine_give_address(w, c))
            engine_boot(w, c);
        break;
    case 4:
        snprintf(c->c.name, sizeof c->c.name, "renamed-%llu", (unsigned long long)sim_random(w));
        engine_tell(w, c, ENGINE_EVENT_RENAME);
        break;
    case 5:
        engine_tell(w, c, ENGINE_EVENT_DISCONNECT);
        break;
    default:
        engine_destroy(w, c);
        break;
    }
    w->engine.mute = false;
}

static void add_foreign(struct world *w)
{
    char name[64];
    bool copies = sim_chance(w, 50), labels = copies && sim_chance(w, 50);
    struct container *c;

    if (w->engine.count > SIM_MAX_CONTAINERS / 2)
        return;
    snprintf(name, sizeof name, copies ? "kipgate-svc-0-%010llx" : "other-%llx",
             (unsigned long long)(sim_random(w) & 0xffffffffffu));
    c = engine_container_new(w, name, copies && !labels ? "somebody-else" : SIM_OWNER, "svc-0",
                             labels ? w->services[0].spec : "x");
    c->c.sealed = !labels; /* all that can be copied */
    c->c.state = ENGINE_RUNNING;
    engine_tell(w, c, ENGINE_EVENT_CREATE);
    engine_tell(w, c, ENGINE_EVENT_START);
}

void engine_meddle(struct world *w)
{
    size_t first = (size_t)sim_between(w, 0, SIM_MAX_CONTAINERS - 1);

    if (!w->engine.up)
        return;
    if (sim_chance(w, 15)) {
        add_foreign(w);
        return;
    }
    for (size_t n = 0; n < w->engine.count; n++) {
        struct container *c = &w->engine.containers[(first + n) % w->engine.count];
        if (!c->ours || (c->c.state != ENGINE_RUNNING && c->c.state != ENGINE_PAUSED &&
                         c->c.state != ENGINE_EXITED))
            continue;
        meddle_with(w, c);
        return;
    }
}
