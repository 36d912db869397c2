/* SPDX-License-Identifier: Apache-2.0 */
/* idle_timeout "auto": what is learnt of when a service is used, and what follows from it. The
 * difficulty: plans count from the end of the service's last use, instances come and go meanwhile,
 * and what was learnt must outlive the run. */
#include "orchestrator/fleet_priv.h"

static bool is_auto(const struct fleet_service *s)
{
    return s->config && s->config->idle_auto;
}

static struct habit_goal goal_of(const struct fleet_service *s)
{
    const struct config_service *c = s->config;

    return (struct habit_goal){.idle_min_ms = c->idle_min_ms,
                               .idle_max_ms = c->idle_max_ms,
                               .start_ms = s->start_ms,
                               .goal = c->idle_goal,
                               .pause = true};
}

/* A wake is a time from now on; one that is past was for a use that did not come. */
static void plan(struct fleet *f, struct fleet_service *s)
{
    const struct habit_goal goal = goal_of(s);
    int64_t age_ms = f->now_ms - s->used_ms;

    habit_plan(&f->habits, &s->habit, &goal, f->wall(f->clock_arg), age_ms, &s->plan);
    s->planned = true;
    s->goal = goal;
    s->wake_ms = s->plan.wake_after_ms > age_ms && s->plan.wake_after_ms != KG_NEVER
                     ? s->used_ms + s->plan.wake_after_ms
                     : KG_NEVER;
    s->kept = true; /* what is due by the plan before is asked anew */
    fleet_attend(f, s);
}

static bool is_same_goal(const struct fleet_service *s)
{
    const struct config_service *c = s->config;

    return s->goal.idle_min_ms == c->idle_min_ms && s->goal.idle_max_ms == c->idle_max_ms &&
           memcmp(&s->goal.goal, &c->idle_goal, sizeof s->goal.goal) == 0;
}

/* By the same bounds it is the same plan: what was woken for a use goes on to be there for it. */
void fleet_replan(struct fleet *f, struct fleet_service *s)
{
    if (is_auto(s) && s->planned && is_same_goal(s))
        return;
    s->planned = s->foreseen = false;
    s->wake_ms = KG_NEVER;
    if (is_auto(s) && s->used_ms != KG_NEVER)
        plan(f, s);
}

void fleet_use_begins(struct fleet *f, struct fleet_service *s)
{
    if (s->in_use)
        return;
    s->in_use = true;
    s->wake_ms = KG_NEVER;
    s->foreseen = false;
    if (!is_auto(s) || s->used_ms == KG_NEVER)
        return;
    habit_arrival(&f->habits, &s->habit, f->wall(f->clock_arg), f->now_ms - s->used_ms);
    f->habits_changed = true;
}

void fleet_use_ended(struct fleet *f, struct fleet_service *s, int64_t used_ms)
{
    s->in_use = false;
    if (s->used_ms == KG_NEVER || used_ms > s->used_ms)
        s->used_ms = used_ms;
    if (is_auto(s))
        plan(f, s);
}

/* That nobody came for so long is knowledge, too, and changes the plan. */
void fleet_use_missed(struct fleet *f, struct fleet_service *s)
{
    if (!is_auto(s) || s->used_ms == KG_NEVER || s->in_use)
        return;
    habit_idle(&f->habits, &s->habit, f->wall(f->clock_arg), f->now_ms - s->used_ms);
    f->habits_changed = true;
    plan(f, s);
}

/* Woken shortly before it is needed, and kept for a while; then there is another plan. */
void fleet_foresee(struct fleet *f, struct fleet_service *s)
{
    if (s->foreseen && s->wake_until_ms <= f->now_ms) {
        s->foreseen = false;
        fleet_use_missed(f, s);
    }
    if (s->wake_ms > f->now_ms)
        return;
    s->wake_ms = KG_NEVER;
    s->foreseen = is_auto(s) && !s->asleep;
    s->wake_until_ms = f->now_ms + s->start_ms + s->plan.wake_keep_ms;
}

int64_t fleet_foresee_due_ms(const struct fleet_service *s)
{
    return s->foreseen ? s->wake_until_ms : s->wake_ms;
}

/* --- across runs --- */

void fleet_each_habit(const struct fleet *f, int64_t now_ms,
                      void (*each)(void *arg, const char *service, int64_t idle_ms,
                                   struct kg_str habit),
                      void *arg)
{
    struct kg_buf text;

    kg_buf_init(&text, KG_MAX_HABIT_BYTES);
    habits_save(&f->habits, &text);
    each(arg, "", 0, kg_buf_str(&text));
    for (uint32_t id = 0; id < f->service_count && !text.error; id++) {
        const struct fleet_service *s = f->services[id];
        if (!is_auto(s) || s->used_ms == KG_NEVER)
            continue;
        kg_buf_clear(&text);
        habit_save(&s->habit, &text);
        each(arg, s->name, s->in_use ? 0 : now_ms - s->used_ms, kg_buf_str(&text));
    }
    kg_buf_fini(&text);
}

bool fleet_habits_changed(struct fleet *f)
{
    bool changed = f->habits_changed;

    f->habits_changed = false;
    return changed;
}

int fleet_recall_habit(struct fleet *f, const char *service, int64_t idle_ms, struct kg_str habit)
{
    struct fleet_service *s = kg_map_get(&f->service_names, kg_str_of(service));
    int rc;

    if (service[0] == '\0')
        return habits_load(&f->habits, habit);
    if (!s || !s->config)
        return KG_ENOTFOUND;
    rc = habit_load(&s->habit, habit);
    if (rc != 0)
        return rc;
    fleet_enter(f, f->now_ms);
    s->used_ms = f->now_ms - idle_ms;
    if (is_auto(s))
        plan(f, s);
    fleet_leave(f);
    return 0;
}

bool fleet_habit_view(const struct fleet *f, uint32_t service, int64_t now_ms,
                      struct fleet_habit_view *v)
{
    const struct fleet_service *s = service < f->service_count ? f->services[service] : NULL;

    if (!s || !is_auto(s))
        return false;
    *v = (struct fleet_habit_view){.known = s->habit.known,
                                   .keep_ms =
                                       s->planned ? s->plan.keep_ms : s->config->idle_timeout_ms,
                                   .pause_ms = s->planned ? s->plan.pause_ms : KG_NEVER,
                                   .wake_in_ms = s->wake_ms == KG_NEVER ? -1 : s->wake_ms - now_ms,
                                   .why = s->planned ? s->plan.why : "not used yet"};
    return true;
}
