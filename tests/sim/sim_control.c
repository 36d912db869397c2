/* SPDX-License-Identifier: Apache-2.0 */
/* Control: its configuration, what people ask of it by hand, what it writes down, its death at any
 * moment and its return. The difficulty: what is on disk is older than what was said and done. */
#include "sim.h"
#include <stdio.h>
#include <stdlib.h>

#define SAVE_DELAY_MS 100 /* as orchestrator/control.c has it */

/* --- configuration --- */

static void fill_numbers(struct world *w, struct config_service *s)
{
    s->max_instances = (int)(sim_chance(w, 50) ? 1 : sim_between(w, 2, 4));
    s->min_instances = s->spares = 0;
    if (w->only_crashes)
        s->start_timeout_ms = s->pull_timeout_ms = 60000;
    if (w->calm) /* nothing is to be left at the end */
        return;
    if (sim_chance(w, 20))
        s->min_instances = (int)sim_between(w, 0, s->max_instances);
    if (sim_chance(w, 20))
        s->spares = (int)sim_between(w, 0, s->max_instances - s->min_instances);
}

static void fill_idle(struct world *w, struct config_service *s)
{
    s->pause_after_ms =
        sim_often(w, TRAIT_PAUSES) ? sim_between(w, 50, s->idle_timeout_ms - 1) : -1;
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

void fill_service(struct world *w, int n, bool respec)
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

/* What orchestrator/state.c writes at once: fronts know services by these numbers. */
static void save_service(void *arg, const char *name, uint32_t id)
{
    struct world *w = arg;

    SIM_ASSERT(w, w->numbered < SIM_MAX_NUMBERED);
    w->numbers[w->numbered].id = id;
    snprintf(w->numbers[w->numbered++].name, sizeof w->numbers[0].name, "%s", name);
}

static void save_services(struct world *w)
{
    w->numbered = 0;
    fleet_each_service(w->fleet, save_service, w);
}

/* A new object each time, and the old one is freed at once: the fleet must not look back. */
void control_configure(struct world *w)
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
    w->configuring = true;
    SIM_ASSERT(w, fleet_configure(w->fleet, next, w->now_ms) == 0);
    w->configuring = false;
    judge_configured(w);
    for (int n = 0; n < SIM_SERVICES; n++) {
        int id = fleet_service_id(w->fleet, w->services[n].name);
        SIM_ASSERT(w, (id >= 0) == w->configured[n]);
        SIM_ASSERT(w, id < 0 || w->ids[n] < 0 || id == w->ids[n]); /* a name keeps its number */
        if (id >= 0)
            w->ids[n] = id;
    }
    save_services(w);
    talk_configure(w, next);
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

static void change(struct world *w, int n)
{
    w->counts->reconfigured++;
    judge_no_rest(w);
    w->disturbed_ms = w->now_ms;
    if (sim_chance(w, 25))
        w->configured[n] = !w->configured[n];
    else
        fill_service(w, n, sim_chance(w, 50));
    sim_say(w, "reconfigured: svc-%d %s", n, w->configured[n] ? "is there" : "is gone");
    w->kept_ms = w->now_ms;
    control_configure(w);
}

void reconfigure(struct world *w)
{
    change(w, (int)sim_between(w, 0, SIM_SERVICES - 1));
}

static void run_change(struct world *w, struct task *t)
{
    if (w->fleet && !w->calm)
        change(w, (int)t->number);
}

void reconfigure_soon(struct world *w, int service)
{
    sim_later(w, sim_between(w, 0, 250), run_change, NULL, (uint64_t)service);
}

/* --- by hand --- */

static int caller; /* its address is the argument of wake and sleep */

static void on_done(void *arg, unsigned reason, int64_t retry_after_ms, const char *detail)
{
    SIM_ASSERT(sim_playing, arg == &caller && sim_playing->open_callers > 0);
    SIM_ASSERT(sim_playing, reason == 0 || (orch_reason_row(reason) && detail[0]));
    SIM_ASSERT(sim_playing, retry_after_ms >= 0);
    sim_playing->open_callers--;
}

void control_by_hand(struct world *w)
{
    uint32_t service = (uint32_t)sim_between(w, 0, SIM_SERVICES);

    w->open_callers++;
    w->kept_ms = w->now_ms;
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

/* --- what is written down --- */

static void save_one(void *arg, const char *name, int64_t used_ms, bool in_use)
{
    struct world *w = arg;
    struct saved *s;

    SIM_ASSERT(w, used_ms <= w->now_ms);
    if (in_use)
        return;
    w->saved = realloc(w->saved, (w->saved_count + 1) * sizeof *w->saved);
    SIM_ASSERT(w, w->saved != NULL);
    s = &w->saved[w->saved_count++];
    snprintf(s->name, sizeof s->name, "%s", name);
    s->used_ms = used_ms;
}

/* Written at once; the last line of a name counts. */
void control_note_end(struct world *w, const char *name)
{
    save_one(w, name, 0, false);
}

static void run_save(struct world *w, struct task *t)
{
    if (t->other != w->fleet_generation || !w->fleet)
        return;
    w->dirty = false;
    w->saved_count = 0;
    fleet_each_clock(w->fleet, save_one, w);
}

void control_save_clocks(struct world *w)
{
    if (w->dirty)
        return;
    w->dirty = true;
    sim_later(w, SAVE_DELAY_MS, run_save, NULL, 0)->other = w->fleet_generation;
}

/* --- control comes and goes --- */

static void run_hold_look(struct world *w, struct task *t)
{
    if (t->other != w->fleet_generation || !w->holding)
        return;
    if (fronts_old_live(w)) {
        sim_later(w, 200, run_hold_look, NULL, 0)->other = w->fleet_generation;
        return;
    }
    w->holding = false;
    w->kept_ms = w->now_ms;
    fleet_hold_adopted(w->fleet, false, w->now_ms);
}

/* In the middle of adopting what the last run left. */
static void run_hand_soon(struct world *w, struct task *t)
{
    if (t->other != w->fleet_generation || w->calm)
        return;
    if (sim_chance(w, 50))
        reconfigure(w);
    control_by_hand(w);
}

static void run_worker_ends(struct world *w, struct task *t)
{
    if (t->other == w->fleet_generation && !w->calm)
        engine_worker_ends(w);
}

/* While it looks at what the last run left. */
static void disturb_adopting(struct world *w)
{
    if (w->calm || w->only_crashes)
        return;
    if (sim_chance(w, 50))
        sim_later(w, sim_between(w, 5, 80), run_hand_soon, NULL, 0)->other = w->fleet_generation;
    if (sim_chance(w, 20))
        sim_later(w, sim_between(w, 1, 120), run_worker_ends, NULL, 0)->other = w->fleet_generation;
    if (w->crashy && sim_chance(w, 20))
        sim_crash_soon(w, 1500);
}

static int64_t world_clock(void *arg)
{
    return ((struct world *)arg)->now_ms;
}

static void recall(struct world *w)
{
    for (size_t n = 0; n < w->numbered; n++)
        (void)fleet_reserve_service(w->fleet, w->numbers[n].name, w->numbers[n].id);
    control_configure(w);
    for (size_t n = 0; n < w->saved_count; n++)
        fleet_remember(w->fleet, w->saved[n].name, w->saved[n].used_ms);
}

static void meet(struct world *w)
{
    fronts_meet_control(w);
    w->holding = fronts_old_live(w);
    if (!w->holding)
        return;
    fleet_hold_adopted(w->fleet, true, w->now_ms);
    sim_later(w, 200, run_hold_look, NULL, 0)->other = w->fleet_generation;
}

void control_begins(struct world *w)
{
    struct fleet_params params = {.engine = engine_fake_ops(w),
                                  .fronts = talk_door(w),
                                  .observer = judge_observer(w),
                                  .owner = SIM_OWNER,
                                  .max_starts = (int)sim_between(w, w->only_crashes ? 4 : 1, 4),
                                  .seed = sim_random(w),
                                  .numbers = w->fleet_generation << 20,
                                  .now_ms = world_clock,
                                  .wall_ms = world_clock,
                                  .now_arg = w};

    talk_begin(w);
    w->fleet = fleet_new(&params, w->now_ms);
    SIM_ASSERT(w, w->fleet != NULL);
    w->listed = w->dirty = false;
    for (int n = 0; n < SIM_SERVICES; n++)
        w->ids[n] = -1;
    recall(w);
    meet(w);
    engine_attach(w);
    disturb_adopting(w);
}

static void run_control_begins(struct world *w, struct task *t)
{
    (void)t;
    control_begins(w);
}

/* Somebody changes what the next one reads. */
static void change_meanwhile(struct world *w)
{
    int n = (int)sim_between(w, 0, SIM_SERVICES - 1);

    if (w->only_crashes || w->calm)
        return;
    if (sim_often(w, TRAIT_ENDS_MEANWHILE))
        sim_later(w, sim_between(w, 1, 300), run_worker_ends, NULL, 0)->other = w->fleet_generation;
    if (!sim_often(w, TRAIT_CHANGED_MEANWHILE))
        return;
    if (sim_chance(w, 40))
        w->configured[n] = !w->configured[n];
    else
        fill_service(w, n, sim_chance(w, 50));
    if (sim_chance(w, 10))
        w->set_up++;
}

/* Mostly it is back at once; sometimes too late for its fronts. */
static int64_t absence_ms(struct world *w)
{
    if (sim_chance(w, 2))
        return sim_between(w, KG_CONTROL_AWAY_MS - 2000, KG_CONTROL_AWAY_MS + 2000);
    return sim_between(w, 0, sim_chance(w, 80) ? 400 : 3000);
}

void control_dies(struct world *w)
{
    w->counts->restarts++;
    w->disturbed_ms = w->now_ms;
    sim_say(w, "control dies");
    judge_crash(w);
    w->died_ms = w->now_ms;
    engine_forget_calls(w);
    judge_forget(w);
    fleet_free(w->fleet);
    w->fleet = NULL;
    talk_end(w);
    w->fleet_generation++;
    w->open_callers = 0;
    w->holding = false;
    fronts_lose_control(w);
    change_meanwhile(w);
    for (int n = 0; n < SIM_SERVICES; n++) { /* what is in force begins anew */
        w->most_waiting[n] = (size_t)w->services[n].queue;
        w->most_instances[n] = w->services[n].max_instances;
    }
    sim_later(w, absence_ms(w), run_control_begins, NULL, 0);
}
