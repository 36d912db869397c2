/* SPDX-License-Identifier: Apache-2.0 */
/* One world from its beginning to its rest: chance, time, the acts that happen by chance.
 * The difficulty: a failure names its seed, the seed replays it, and it still fails when acts that
 * do not matter are left out; so what an act is depends on the seed and its number alone. */
#include "sim.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CALM_MS 180000
#define SPIN_MOST 2000

/* --- words --- */

void sim_say(struct world *w, const char *format, ...)
{
    va_list args;

    if (w->words < SIM_SAYS_ALL)
        return;
    printf("%8lld ", (long long)w->now_ms);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

/* --- chance and time --- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_random(struct world *w)
{
    return mix(w->random += 0x9e3779b97f4a7c15u);
}

int64_t sim_between(struct world *w, int64_t least, int64_t most)
{
    return least + (int64_t)(sim_random(w) % (uint64_t)(most - least + 1));
}

bool sim_chance(struct world *w, int percent)
{
    return sim_between(w, 0, 99) < percent;
}

bool sim_permille(struct world *w, int n)
{
    return sim_between(w, 0, 999) < n;
}

struct task *sim_later(struct world *w, int64_t delay_ms, task_run *run, void *what,
                       uint64_t number)
{
    struct task *t = calloc(1, sizeof *t);

    SIM_ASSERT(w, t != NULL);
    t->run = run;
    t->what = what;
    t->number = number;
    t->random = sim_random(w); /* its own chance: what is left out elsewhere does not change it */
    kg_list_push_back(&w->all_tasks, &t->link);
    SIM_ASSERT(w, kg_heap_set(&w->tasks, &t->node, w->now_ms + delay_ms) == 0);
    return t;
}

void sim_cancel(struct world *w, struct task *t)
{
    kg_heap_remove(&w->tasks, &t->node);
    kg_list_remove(&t->link);
    free(t);
}

/* --- acts --- */

static void run_engine_back(struct world *w, struct task *t)
{
    (void)t;
    engine_back(w);
}

static void run_control_dies(struct world *w, struct task *t)
{
    if (w->fleet && !w->calm && t->other == w->fleet_generation)
        control_dies(w);
}

void sim_crash_soon(struct world *w, int64_t most_ms)
{
    sim_later(w, sim_between(w, 0, most_ms), run_control_dies, NULL, 0)->other =
        w->fleet_generation;
}

static void act_loses_engine(struct world *w)
{
    engine_lose(w);
    sim_later(w, sim_chance(w, 80) ? sim_between(w, 100, 1500) : sim_between(w, 1500, 20000),
              run_engine_back, NULL, 0);
}

static void act_kills_front(struct world *w)
{
    front_dies(w, w->places[sim_between(w, 0, SIM_FRONTS - 1)]);
}

static void act_kills_control(struct world *w)
{
    sim_crash_soon(w, sim_chance(w, 50) ? 0 : 300);
}

static void act_brings_client(struct world *w)
{
    client_comes(w);
}

static void act_brings_many(struct world *w)
{
    for (int64_t n = sim_between(w, 5, 25); n > 0; n--)
        client_comes(w);
}

static const struct act {
    const char *name;
    void (*run)(struct world *w);
    int weight; /* in 200; what is left is nothing */
    bool harmless;
} acts[SIM_ACTS] = {
    {"reconfigure", reconfigure, 12, false},
    {"by hand", control_by_hand, 28, false},
    {"a front is killed", act_kills_front, 10, true}, /* the third, for choose */
    {"control is killed", act_kills_control, 6, true},
    {"the engine is lost", act_loses_engine, 7, false},
    {"somebody meddles", engine_meddle, 25, false},
    {"a front lies", front_lies, 55, false},
    {"a worker ends", engine_worker_ends, 8, false},
};

static const struct act crash = {"control is killed", act_kills_control, 0, true};
static const struct act client = {"a client", act_brings_client, 0, true};
static const struct act clients = {"many clients", act_brings_many, 0, true};

/* Which it is, by numbers that nothing but the seed and the act's own number lead to. */
static const struct act *choose(const struct world *w, uint64_t number, int64_t *pause_ms)
{
    uint64_t r = mix(mix(w->seed) + number * 0x9e3779b97f4a7c15u);
    uint64_t pause = r >> 8 & 0xffff, kind = r >> 24 & 0xffff;
    uint64_t what = (r >> 40 & 0xffff) % (uint64_t)w->weights_scale;

    *pause_ms = (int64_t)((r & 0xff) < 217 ? pause % 61 : 60 + pause % 4941);
    if (kind % 5 != 0)
        return kind % 100 < 5 ? &clients : &client;
    if (w->crashy && what % 8 < 2)
        return what % 8 == 0 ? &crash : &acts[2];
    for (size_t n = 0; n < SIM_ACTS; n++) {
        if (what < (uint64_t)w->weights[n])
            return &acts[n];
        what -= (uint64_t)w->weights[n];
    }
    return NULL;
}

/* Clients come in bursts, with pauses long enough for workers to be reaped. */
static void run_act(struct world *w, struct task *t)
{
    uint64_t number = w->acts++;
    int64_t pause_ms;
    const struct act *act = choose(w, number, &pause_ms);
    bool skipped = number < SIM_MAX_ACTS && w->skips && w->skips->skip[number];

    (void)t;
    if (w->calm)
        return;
    w->random = mix(w->seed + number);
    if (act && !skipped && (w->fleet || act == &client || act == &clients) &&
        (act->harmless || !w->only_crashes)) {
        if (w->words > 0)
            printf("%8lld act %llu: %s\n", (long long)w->now_ms, (unsigned long long)number,
                   act->name);
        act->run(w);
    }
    sim_later(w, pause_ms, run_act, NULL, 0);
}

static void run_lists(struct world *w, struct task *t)
{
    (void)t;
    if (w->fleet && w->engine.up && w->listed)
        engine_list(w);
    sim_later(w, w->calm ? 5000 : sim_between(w, 1000, 30000), run_lists, NULL, 0);
}

static void run_calm(struct world *w, struct task *t)
{
    (void)t;
    sim_say(w, "calm");
    w->calm = true;
    w->disturbed_ms = w->now_ms;
    judge_no_rest(w);
    for (int n = 0; n < SIM_SERVICES; n++) {
        w->engine.image[n] = true;
        fill_service(w, n, false);
    }
    w->kept_ms = w->now_ms;
    engine_back(w);
    if (w->fleet)
        control_configure(w);
    if (w->fleet && sim_chance(w, 20))
        fleet_stop(w->fleet, sim_chance(w, 50), w->now_ms);
}

/* --- the loop --- */

/* True: something was done. The fleet's own time comes first: its clock is as good as any event. */
static bool step(struct world *w)
{
    struct kg_heap_node *first = kg_heap_first(&w->tasks);
    int64_t due_ms = w->fleet ? fleet_due_ms(w->fleet) : KG_NEVER;
    struct task *t;

    if (due_ms != KG_NEVER && (!first || due_ms < first->due_ms)) {
        w->spins = due_ms <= w->now_ms ? w->spins + 1 : 0;
        SIM_ASSERT(w, w->spins < SPIN_MOST && "the fleet is due for ever");
        if (due_ms > w->now_ms)
            w->now_ms = due_ms;
        w->random = mix(w->seed ^ (uint64_t)w->now_ms);
        fleet_tick(w->fleet, w->now_ms);
        return true;
    }
    if (!first)
        return false;
    w->now_ms = first->due_ms;
    kg_heap_remove(&w->tasks, first);
    t = KG_CONTAINER_OF(first, struct task, node);
    kg_list_remove(&t->link);
    w->random = t->random;
    t->run(w, t);
    free(t);
    return true;
}

static void choose_weights(struct world *w)
{
    int sum = 0;

    for (int n = 0; n < SIM_ACTS; n++) {
        w->weights[n] = mood_lot(w, acts[n].weight, 4 * acts[n].weight);
        sum += w->weights[n];
    }
    w->weights_scale = w->peace ? 2000 : sum > 200 ? sum : 200;
}

static void choose_faults(struct world *w)
{
    static const enum verb verbs[] = {VERB_CREATE, VERB_START, VERB_REMOVE, VERB_PAUSE,
                                      VERB_UNPAUSE};

    mood_begin(w);
    w->only_crashes = sim_chance(w, 15);
    w->crashy = w->only_crashes || sim_chance(w, 25);
    w->peace = sim_chance(w, 30);
    w->fault_percent = (int)(sim_chance(w, 30) ? 0 : sim_between(w, 1, 12));
    w->crash_permille = (int)(sim_chance(w, 70) ? 0 : sim_between(w, 1, 8));
    w->hostile = sim_chance(w, 20);
    w->addresses = (int)sim_between(w, 10, 14);
    w->crash_verb = w->moody && sim_chance(w, 50) ? verbs[sim_between(w, 0, 4)] : VERB_STOP;
    choose_weights(w);
    if (!w->only_crashes)
        return;
    w->fault_percent = 0;
    w->peace = w->hostile = false;
    w->addresses = SIM_ADDRESSES;
}

static void begin(struct world *w, uint64_t seed)
{
    w->seed = w->random = seed;
    w->now_ms = 1000000;
    kg_heap_init(&w->tasks);
    kg_list_init(&w->all_tasks);
    judge_begin(w);
    choose_faults(w);
    engine_begin(w);
    fronts_begin(w);
    for (int n = 0; n < SIM_SERVICES; n++) {
        static const int bad[] = {0, 0, 0, 10, 50, 100};
        w->bad[n] = w->only_crashes ? 0 : bad[sim_between(w, 0, 5)];
        w->configured[n] = true;
        w->overdue_since_ms[n] = KG_NEVER;
        fill_service(w, n, true);
    }
    control_begins(w);
    if (!w->engine.up)
        sim_later(w, sim_between(w, 1, 15000), run_engine_back, NULL, 0);
    sim_later(w, 5, run_act, NULL, 0);
    sim_later(w, 1000, run_lists, NULL, 0);
}

static void end(struct world *w)
{
    fronts_end(w);
    judge_end(w);
    fleet_free(w->fleet);
    talk_end(w);
    engine_end(w);
    KG_LIST_EACH_SAFE(it, &w->all_tasks)
    {
        struct task *t = KG_LIST_ENTRY(it, struct task, link);
        engine_drop_task(t);
        free(t);
    }
    kg_heap_fini(&w->tasks);
    free(w->config->services);
    free(w->config);
    free(w->copies);
    free(w->saved);
    free(w);
}

uint64_t sim_play(const struct replay *r, enum sim_words words, struct counts *counts)
{
    struct world *w = calloc(1, sizeof *w);
    int64_t end_ms;
    uint64_t acts_done;

    KG_ASSERT(w);
    sim_playing = w;
    w->words = words;
    w->counts = counts;
    w->skips = &r->skips;
    begin(w, r->seed);
    sim_later(w, r->length_ms, run_calm, NULL, 0);
    end_ms = w->now_ms + r->length_ms + CALM_MS;
    while (w->now_ms < end_ms && step(w)) {
        counts->events++;
        if (w->fleet)
            judge_now(w);
    }
    judge_rest(w);
    counts->virtual_ms += (uint64_t)(w->now_ms - 1000000);
    acts_done = w->acts;
    end(w);
    sim_playing = NULL;
    return acts_done;
}
