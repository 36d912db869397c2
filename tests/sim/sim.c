/* SPDX-License-Identifier: Apache-2.0 */
/* sim --seeds FIRST COUNT [--verbose]: plays the fleet against a world in which everything that can
 * go wrong does. The difficulty: a failure names its seed, and the seed replays it. */
#include "sim.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CALM_MS 180000
#define SPIN_MOST 2000

static struct world *playing; /* for the line that a failed assertion ends with */

/* --- words --- */

void sim_say(struct world *w, const char *format, ...)
{
    va_list args;

    if (!w->verbose)
        return;
    printf("%8lld ", (long long)w->now_ms);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static void tell_seed(void)
{
    if (playing)
        fprintf(stderr, "sim: FAILED at %lld ms; replay: sim --seeds %llu 1 --verbose\n",
                (long long)playing->now_ms, (unsigned long long)playing->seed);
    fflush(NULL);
}

_Noreturn void sim_fail(struct world *w, const char *what)
{
    (void)w;
    fprintf(stderr, "sim: %s\n", what);
    tell_seed();
    _exit(1);
}

static void on_abort(int number)
{
    (void)number;
    tell_seed(); /* the process is about to end anyway */
    _exit(1);
}

/* --- chance and time --- */

uint64_t sim_random(struct world *w)
{
    uint64_t z = (w->random += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
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
    kg_list_push_back(&w->all_tasks, &t->link);
    SIM_ASSERT(w, kg_heap_set(&w->tasks, &t->node, w->now_ms + delay_ms) == 0);
    return t;
}

/* --- configuration --- */

static void fill_numbers(struct world *w, struct config_service *s)
{
    s->max_instances = (int)(sim_chance(w, 50) ? 1 : sim_between(w, 2, 4));
    s->min_instances = s->spares = 0;
    if (w->calm) /* nothing is to be left at the end */
        return;
    if (sim_chance(w, 20))
        s->min_instances = (int)sim_between(w, 0, s->max_instances);
    if (sim_chance(w, 20))
        s->spares = (int)sim_between(w, 0, s->max_instances - s->min_instances);
}

static void fill_idle(struct world *w, struct config_service *s)
{
    s->pause_after_ms = sim_chance(w, 30) ? sim_between(w, 50, s->idle_timeout_ms - 1) : -1;
    s->on_idle = CONFIG_ON_IDLE_REMOVE;
    s->idle_auto = !w->calm && sim_chance(w, 20);
    s->idle_min_ms = sim_between(w, 100, 500);
    s->idle_max_ms = sim_between(w, 500, 5000);
    if (s->idle_auto && s->idle_timeout_ms < s->idle_min_ms) /* as the parser does it */
        s->idle_timeout_ms = s->idle_min_ms;
    s->idle_goal = (double)sim_between(w, 0, 100) / 100;
    if (!w->calm && sim_chance(w, 30))
        s->on_idle = sim_chance(w, 50) ? CONFIG_ON_IDLE_STOP : CONFIG_ON_IDLE_PAUSE;
}

/* Only of those before it, so that there is no circle. */
static void fill_needs(struct world *w, int n)
{
    struct config_strings *needs = &w->services[n].needs;

    w->need_names[n] = w->services[n > 0 ? n - 1 : 0].name;
    needs->items = &w->need_names[n];
    needs->count = n > 0 && sim_chance(w, 25);
}

static void fill_service(struct world *w, int n, bool respec)
{
    struct config_service *s = &w->services[n];
    static const enum config_pull pulls[] = {CONFIG_PULL_MISSING, CONFIG_PULL_MISSING,
                                             CONFIG_PULL_ALWAYS, CONFIG_PULL_NEVER};
    static char image[] = "registry.example/image:1";

    snprintf(s->name, sizeof s->name, "svc-%d", n);
    s->image = image;
    s->idle_timeout_ms =
        sim_chance(w, 85) ? sim_between(w, 300, 3000) : sim_between(w, 8000, 40000);
    s->start_timeout_ms = sim_between(w, 800, 5000);
    s->pull_timeout_ms = sim_between(w, 1000, 8000);
    s->concurrency = (int)(sim_chance(w, 30) ? 1 : sim_between(w, 2, 12));
    s->queue = (int)sim_between(w, 1, 8);
    s->pull = pulls[sim_between(w, 0, 3)];
    fill_numbers(w, s);
    fill_idle(w, s);
    fill_needs(w, n);
    if (respec || w->versions[n] == 0)
        w->versions[n]++;
    snprintf(s->spec, sizeof s->spec, "spec-%d-%d", n, w->versions[n]);
    if (s->concurrency > w->most[n])
        w->most[n] = s->concurrency;
    if (s->max_instances > w->most_instances[n])
        w->most_instances[n] = s->max_instances;
    if ((size_t)s->queue > w->most_waiting[n])
        w->most_waiting[n] = (size_t)s->queue;
}

/* A new object each time, and the old one is freed at once: the fleet must not look back. */
static void configure(struct world *w)
{
    struct config *next = calloc(1, sizeof *next);
    struct config_service *copies = calloc(SIM_SERVICES, sizeof *copies);

    SIM_ASSERT(w, next && copies);
    next->services = calloc(SIM_SERVICES, sizeof *next->services);
    SIM_ASSERT(w, next->services != NULL);
    next->paused_memory_bytes = sim_chance(w, 50) ? -1 : sim_between(w, 0, 2000);
    for (int n = 0; n < SIM_SERVICES; n++) {
        if (!w->configured[n])
            continue;
        copies[n] = w->services[n];
        if (n > 0 && !w->configured[n - 1])
            copies[n].needs.count = 0;
        next->services[next->service_count++] = &copies[n];
    }
    SIM_ASSERT(w, fleet_configure(w->fleet, next, w->now_ms) == 0);
    for (int n = 0; n < SIM_SERVICES; n++) {
        int id = fleet_service_id(w->fleet, w->services[n].name);
        SIM_ASSERT(w, (id >= 0) == w->configured[n]);
        SIM_ASSERT(w, id < 0 || w->ids[n] < 0 || id == w->ids[n]); /* a name keeps its number */
        if (id >= 0)
            w->ids[n] = id;
    }
    if (w->config) {
        free(w->config->services);
        memset(w->copies, 0xa5, SIM_SERVICES * sizeof *w->copies);
        free(w->copies);
        free(w->config);
    }
    w->config = next;
    w->copies = copies;
}

int sim_index(struct world *w, uint32_t id)
{
    for (int n = 0; n < SIM_SERVICES; n++)
        if (w->ids[n] == (int)id)
            return n;
    return -1;
}

static void reconfigure(struct world *w)
{
    int n = (int)sim_between(w, 0, SIM_SERVICES - 1);

    w->counts->reconfigured++;
    judge_no_rest(w);
    w->disturbed_ms = w->now_ms;
    if (sim_chance(w, 25))
        w->configured[n] = !w->configured[n];
    else
        fill_service(w, n, sim_chance(w, 50));
    sim_say(w, "reconfigured: svc-%d %s", n, w->configured[n] ? "is there" : "is gone");
    configure(w);
}

/* --- by hand --- */

static int caller; /* its address is the argument of wake and sleep */

static void on_done(void *arg, unsigned reason, const char *detail)
{
    SIM_ASSERT(playing, arg == &caller && playing->open_callers > 0);
    SIM_ASSERT(playing, reason == 0 || (orch_reason_row(reason) && detail[0]));
    playing->open_callers--;
}

static void by_hand(struct world *w)
{
    uint32_t service = (uint32_t)sim_between(w, 0, SIM_SERVICES);

    w->open_callers++;
    judge_no_rest(w);
    if (sim_chance(w, 50)) {
        w->counts->wakes++;
        fleet_wake(w->fleet, service, on_done, &caller, w->now_ms);
    } else {
        w->counts->sleeps++;
        w->disturbed_ms = w->now_ms;
        fleet_sleep(w->fleet, service, on_done, &caller, w->now_ms);
    }
    if (sim_chance(w, 5)) {
        fleet_forget_caller(w->fleet, &caller);
        w->open_callers = 0;
    }
}

/* --- control comes and goes --- */

static void run_attach(struct world *w, struct task *t)
{
    if (t->other == w->fleet_generation && !w->fronts[t->number].attached)
        front_attach(w, &w->fronts[t->number]);
}

static void run_hold_look(struct world *w, struct task *t)
{
    if (t->other != w->fleet_generation || !w->holding)
        return;
    if (!kg_list_empty(&w->old_fronts)) {
        sim_later(w, 200, run_hold_look, NULL, 0)->other = w->fleet_generation;
        return;
    }
    w->holding = false;
    fleet_hold_adopted(w->fleet, false, w->now_ms);
}

/* In the middle of adopting what the last run left. */
static void run_hand_soon(struct world *w, struct task *t)
{
    if (t->other != w->fleet_generation || w->calm)
        return;
    if (sim_chance(w, 50))
        reconfigure(w);
    by_hand(w);
}

static int64_t world_clock(void *arg)
{
    return ((struct world *)arg)->now_ms;
}

static void control_begins(struct world *w)
{
    struct fleet_params params = {.engine = engine_fake_ops(w),
                                  .fronts = fronts_door_of(w),
                                  .observer = judge_observer(w),
                                  .owner = SIM_OWNER,
                                  .max_starts = (int)sim_between(w, 1, 4),
                                  .seed = sim_random(w),
                                  .now_ms = world_clock,
                                  .wall_ms = world_clock,
                                  .now_arg = w};

    w->fleet = fleet_new(&params, w->now_ms);
    SIM_ASSERT(w, w->fleet != NULL);
    w->listed = false;
    for (int n = 0; n < SIM_SERVICES; n++)
        w->ids[n] = -1;
    configure(w);
    for (size_t n = 0; n < w->saved_count; n++)
        fleet_remember(w->fleet, w->saved[n].name, w->saved[n].used_ms);
    w->holding = !kg_list_empty(&w->old_fronts);
    if (w->holding) {
        fleet_hold_adopted(w->fleet, true, w->now_ms);
        sim_later(w, 200, run_hold_look, NULL, 0)->other = w->fleet_generation;
    }
    for (uint64_t n = 0; n < SIM_FRONTS; n++)
        sim_later(w, sim_between(w, 0, 100), run_attach, NULL, n)->other = w->fleet_generation;
    engine_attach(w);
    if (!w->calm && sim_chance(w, 50))
        sim_later(w, sim_between(w, 5, 80), run_hand_soon, NULL, 0)->other = w->fleet_generation;
}

static void run_control_begins(struct world *w, struct task *t)
{
    (void)t;
    control_begins(w);
}

static void control_dies(struct world *w)
{
    w->counts->restarts++;
    w->disturbed_ms = w->now_ms;
    sim_say(w, "control dies");
    fronts_outlive(w);
    engine_forget_calls(w);
    judge_forget(w);
    fleet_free(w->fleet);
    w->fleet = NULL;
    w->fleet_generation++;
    w->open_callers = 0;
    for (int n = 0; n < SIM_SERVICES; n++) { /* what is in force begins anew */
        w->most[n] = w->services[n].concurrency;
        w->most_waiting[n] = (size_t)w->services[n].queue;
        w->most_instances[n] = w->services[n].max_instances;
    }
    sim_later(w, sim_between(w, 0, 400), run_control_begins, NULL, 0);
}

/* --- what happens by chance --- */

static void run_engine_back(struct world *w, struct task *t)
{
    (void)t;
    engine_back(w);
}

static void happen(struct world *w)
{
    int64_t what = sim_between(w, 0, w->peace);

    if (what < 12)
        reconfigure(w);
    else if (what < 40)
        by_hand(w);
    else if (what < 50)
        front_dies(w, &w->fronts[sim_between(w, 0, SIM_FRONTS - 1)]);
    else if (what < 53)
        control_dies(w);
    else if (what < 60 && w->engine.up) {
        engine_lose(w);
        sim_later(w, sim_chance(w, 80) ? sim_between(w, 100, 1500) : sim_between(w, 1500, 20000),
                  run_engine_back, NULL, 0);
    } else if (what < 85)
        engine_meddle(w);
    else if (what < 140)
        front_lies(w);
}

/* Clients come in bursts, with pauses long enough for workers to be reaped. */
static void run_clients(struct world *w, struct task *t)
{
    int64_t pause_ms = sim_chance(w, 85) ? sim_between(w, 0, 60) : sim_between(w, 60, 5000);
    int burst = sim_chance(w, 5) ? (int)sim_between(w, 5, 25) : 1;

    (void)t;
    if (w->calm)
        return;
    if (w->fleet && !sim_chance(w, 20))
        for (int n = 0; n < burst; n++)
            client_comes(w);
    else if (w->fleet)
        happen(w);
    sim_later(w, pause_ms, run_clients, NULL, 0);
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
    engine_back(w);
    if (w->fleet)
        configure(w);
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
        fleet_tick(w->fleet, w->now_ms);
        return true;
    }
    if (!first)
        return false;
    w->now_ms = first->due_ms;
    kg_heap_remove(&w->tasks, first);
    t = KG_CONTAINER_OF(first, struct task, node);
    kg_list_remove(&t->link);
    t->run(w, t);
    free(t);
    return true;
}

static void begin(struct world *w, uint64_t seed)
{
    w->seed = w->random = seed;
    w->now_ms = 1000000;
    kg_heap_init(&w->tasks);
    kg_list_init(&w->all_tasks);
    judge_begin(w);
    w->peace = sim_chance(w, 30) ? 2000 : 200;
    w->fault_percent = (int)(sim_chance(w, 30) ? 0 : sim_between(w, 1, 12));
    engine_begin(w);
    fronts_begin(w);
    for (int n = 0; n < SIM_SERVICES; n++) {
        static const int bad[] = {0, 0, 0, 10, 50, 100};
        w->bad[n] = bad[sim_between(w, 0, 5)];
        w->configured[n] = true;
        w->overdue_since_ms[n] = KG_NEVER;
        fill_service(w, n, true);
    }
    if (sim_chance(w, 20))
        w->fronts[0].hostile = true;
    control_begins(w);
    if (!w->engine.up)
        sim_later(w, sim_between(w, 1, 15000), run_engine_back, NULL, 0);
    sim_later(w, 5, run_clients, NULL, 0);
    sim_later(w, 1000, run_lists, NULL, 0);
}

static void end(struct world *w)
{
    world_drop_fronts(w);
    judge_end(w);
    fleet_free(w->fleet);
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

static void play(uint64_t seed, int64_t length_ms, bool verbose, struct counts *counts,
                 struct kg_map *transitions)
{
    struct world *w = calloc(1, sizeof *w);
    int64_t end_ms;

    KG_ASSERT(w);
    playing = w;
    w->verbose = verbose;
    w->counts = counts;
    w->transitions = transitions;
    begin(w, seed);
    sim_later(w, length_ms, run_calm, NULL, 0);
    end_ms = w->now_ms + length_ms + CALM_MS;
    while (w->now_ms < end_ms && step(w)) {
        counts->events++;
        if (w->fleet)
            judge_now(w);
    }
    judge_rest(w);
    playing = NULL;
    end(w);
}

/* --- what was reached --- */

static void tell_reasons(const struct counts *c)
{
    printf("refused:");
    for (unsigned n = 1; n < (unsigned)ORCH_REASON_END; n++)
        if (c->refused[n])
            printf(" %s %llu", orch_reason_row(n)->name, (unsigned long long)c->refused[n]);
    printf(
        "\ncalls gone wrong: pull %llu create %llu start %llu inspect %llu stop %llu remove %llu\n",
        (unsigned long long)c->faults[VERB_PULL], (unsigned long long)c->faults[VERB_CREATE],
        (unsigned long long)c->faults[VERB_START], (unsigned long long)c->faults[VERB_LOOK],
        (unsigned long long)c->faults[VERB_STOP], (unsigned long long)c->faults[VERB_REMOVE]);
}

static void tell_counts(const struct counts *c)
{
#define TELL(name) printf(#name " %llu  ", (unsigned long long)c->name)
    TELL(events), TELL(clients), TELL(served), TELL(broken), TELL(left), TELL(granted);
    putchar('\n');
    TELL(creates), TELL(removes), TELL(cold_ok), TELL(cold_failed), TELL(reaped), TELL(adopted);
    putchar('\n');
    TELL(restarts), TELL(engine_losses), TELL(front_deaths), TELL(reconfigured), TELL(wakes);
    TELL(sleeps), TELL(events_lost), TELL(conflicts), TELL(old_fronts);
    putchar('\n');
    TELL(paused), TELL(resumed), TELL(stopped), TELL(most_at_once);
    putchar('\n');
#undef TELL
    tell_reasons(c);
}

/* Was every transition of the table seen? Over a long run all must be but those named here. */
static size_t tell_transitions(const struct kg_map *seen, bool verbose)
{
    size_t missing = 0, total = 0;

    for (int state = 0; state < INSTANCE_STATE_COUNT; state++)
        for (int next = 0; next < INSTANCE_STATE_COUNT; next++) {
            bool exists = false;
            char key[64];
            for (int event = 0; event < INSTANCE_EVENT_COUNT; event++) {
                const struct instance_cell *cell =
                    instance_cell((enum instance_state)state, (enum instance_event)event);
                exists |= cell->kind == INSTANCE_GOES && (int)cell->next == next;
            }
            if (!exists)
                continue;
            total++;
            snprintf(key, sizeof key, "%s>%s", instance_state_name((enum instance_state)state),
                     instance_state_name((enum instance_state)next));
            if (kg_map_get(seen, kg_str_of(key)))
                continue;
            missing++;
            if (verbose)
                printf("never seen: %s\n", key);
        }
    printf("transitions: %zu of %zu seen\n", total - missing, total);
    return missing;
}

static int judge_coverage(const struct counts *c, const struct kg_map *seen, uint64_t seeds)
{
    size_t missing = tell_transitions(seen, true);
    int rc = 0;

    if (seeds < 5000)
        return 0; /* too short a run to ask for everything */
    for (unsigned n = PROXY_REASON_COUNT; n < (unsigned)ORCH_REASON_END; n++)
        if (c->refused[n] == 0) {
            fprintf(stderr, "sim: no request was ever refused as %s\n", orch_reason_row(n)->name);
            rc = 1;
        }
    return missing > 0 || !c->reaped || !c->adopted || !c->conflicts ? 1 : rc;
}

static void free_counts(struct kg_map *transitions)
{
    size_t at = 0;
    struct kg_str key;
    void *value;

    while (kg_map_next(transitions, &at, &key, &value))
        free(value);
    kg_map_fini(transitions);
}

int main(int argc, char **argv)
{
    uint64_t first = 1, count = 1;
    int64_t length_ms = 60000;
    bool verbose = false;
    struct counts counts = {0};
    struct kg_map transitions;
    int rc;

    for (int n = 1; n < argc; n++) {
        if (strcmp(argv[n], "--seeds") == 0 && n + 2 < argc) {
            first = strtoull(argv[n + 1], NULL, 10);
            count = strtoull(argv[n + 2], NULL, 10);
            n += 2;
        } else if (strcmp(argv[n], "--ms") == 0 && n + 1 < argc) {
            length_ms = strtoll(argv[++n], NULL, 10);
        } else if (strcmp(argv[n], "--verbose") == 0) {
            verbose = true;
        } else {
            fprintf(stderr, "usage: sim [--seeds FIRST COUNT] [--ms LENGTH] [--verbose]\n");
            return 2;
        }
    }
    signal(SIGABRT, on_abort);
#ifndef KG_SANITIZE
    signal(SIGSEGV, on_abort);
#endif
    kg_log_setup(KG_LOG_ERROR, KG_LOG_TEXT, "sim");
    kg_map_init(&transitions);
    for (uint64_t seed = first; seed < first + count; seed++)
        play(seed, length_ms, verbose, &counts, &transitions);
    printf("%llu seeds\n", (unsigned long long)count);
    tell_counts(&counts);
    rc = judge_coverage(&counts, &transitions, count);
    free_counts(&transitions);
    return rc;
}
