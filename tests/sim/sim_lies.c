/* SPDX-License-Identifier: Apache-2.0 */
/* A front that was taken over. The difficulty: whatever it says, only its own clients may suffer;
 * what it took by a lie it gives back at some time, as a front that asks and never returns might
 * not, for nobody could tell those two apart. */
#include "sim.h"

/* An instance, or a number near one. */
static uint64_t some_instance(struct world *w)
{
    size_t at = 0, left = (size_t)sim_between(w, 0, 20);
    struct kg_str key;
    void *value;
    uint64_t instance = 0;

    while (kg_map_next(&w->notes, &at, &key, &value) && left-- > 0)
        memcpy(&instance, key.p, sizeof instance);
    return instance + (uint64_t)sim_chance(w, 10);
}

void front_lies(struct world *w)
{
    struct sim_front *f = w->places[0];
    struct message_return r;
    struct message_instance i;

    if (!f || !f->hostile || !f->heard)
        return;
    if (sim_chance(w, 50)) {
        message_init(&i, sim_chance(w, 80) ? MESSAGE_SUSPECT : MESSAGE_PROBED, sizeof i);
        i.instance = some_instance(w);
        push_to_control(w, f, &i, sizeof i);
        return;
    }
    MESSAGE_INIT(&r, RETURN);
    r.instance = some_instance(w);
    r.slots = (uint32_t)sim_between(w, 0, 10);
    r.recalled = sim_chance(w, 50);
    r.used_ms = w->now_ms + sim_between(w, -100000, 1000000);
    push_to_control(w, f, &r, sizeof r);
}

/* More than it has. */
void front_returns_falsely(struct world *w, struct sim_front *f, const struct message_return *m)
{
    struct message_return lie = *m;

    lie.slots += (uint32_t)sim_between(w, 0, 5);
    push_to_control(w, f, &lie, sizeof lie);
}

/* Of whatever is there, or is not; of the same twice. */
void front_claims_falsely(struct world *w, struct sim_front *f)
{
    int64_t count = sim_between(w, 0, 6);

    while (count-- > 0 && w->engine.count > 0) {
        size_t n = (size_t)sim_between(w, 0, (int64_t)w->engine.count - 1);
        struct message_claim m;
        MESSAGE_INIT(&m, CLAIM);
        m.instance = sim_random(w);
        m.slots = (uint32_t)(sim_chance(w, 20) ? sim_random(w) : sim_random(w) % 30);
        if (sim_chance(w, 20))
            m.slots = KG_MAX_CONCURRENCY;
        m.used_ms = sim_chance(w, 50) ? 0 : w->now_ms + sim_between(w, -10000, 10000);
        memcpy(m.name, w->engine.containers[n].made_name, sizeof m.name);
        push_to_control(w, f, &m, sizeof m);
        if (sim_chance(w, 30))
            push_to_control(w, f, &m, sizeof m);
    }
}

static void run_give_back(struct world *w, struct task *t)
{
    struct sim_front *f = w->places[0];
    struct message_return m;

    if (!f || f->number != t->other || !f->heard)
        return;
    MESSAGE_INIT(&m, RETURN);
    m.instance = t->number;
    m.slots = KG_MAX_CONCURRENCY;
    push_to_control(w, f, &m, sizeof m);
}

void front_hears_falsely(struct world *w, struct sim_front *f, const struct message_head *head)
{
    const struct message_renamed *m = (const void *)head;

    if (head->type == MESSAGE_RENAMED)
        sim_later(w, sim_between(w, 0, 3000), run_give_back, NULL, m->instance)->other = f->number;
}
