/* SPDX-License-Identifier: Apache-2.0 */
/* What idleness leads to, at its exact moments: with several instances, with spares, with a cap on
 * memory. The difficulty: each case is a race between an order, its answer and a request. */
#include "fleet_rig.h"

#define SECOND 1000

/* Pauses after 10 s, ends after 300. */
static struct rig *rig_napping(int max)
{
    struct rig *r = rig_new(1);

    r->service.pause_after_ms = 10 * SECOND;
    r->service.max_instances = max;
    configure(r);
    return r;
}

/* Idle now, each used by front 0; ids[] are theirs, oldest first. */
static void ready_all(struct rig *r, int count, uint64_t ids[])
{
    for (int n = 0; n < count; n++)
        ask(r, 0);
    for (int n = 0; n < count; n++) {
        ids[n] = until_ready(r);
        hear(r, GRANT);
    }
    for (int n = 0; n < count; n++)
        give_back(r, 0, ids[n], 1);
    hear_nothing(r);
}

static struct fleet_view view_of(struct rig *r, size_t n)
{
    struct fleet_view views[8];

    ck_assert_uint_lt(n, fleet_view(r->f, 0, views, 8, r->now_ms));
    return views[n];
}

static void weigh(struct rig *r, int64_t memory_bytes)
{
    const struct engine_answer a = {.memory_bytes = memory_bytes};

    answer(expect(r, WEIGH), &a);
    fleet_check(r->f);
}

/* --- stages --- */

START_TEST(each_stage_is_told_before_it_comes)
{
    struct rig *r = rig_napping(1);

    warm(r);
    ck_assert_int_eq(view_of(r, 0).reap_in_ms, 10 * SECOND);
    pass(r, 4 * SECOND);
    ck_assert_int_eq(view_of(r, 0).idle_ms, 4 * SECOND);
    ck_assert_int_eq(view_of(r, 0).reap_in_ms, 6 * SECOND);
    pass(r, 6 * SECOND);
    answer_code(r, PAUSE, 0);
    ck_assert_int_eq(view_of(r, 0).idle_ms, 10 * SECOND);
    ck_assert_int_eq(view_of(r, 0).reap_in_ms, 290 * SECOND);
    pass(r, SECOND);
    ck_assert_int_eq(view_of(r, 0).idle_ms, 11 * SECOND);
    ask(r, 0); /* in use while it resumes */
    ck_assert_int_eq(view_of(r, 0).idle_ms, 0);
    ck_assert_int_eq(view_of(r, 0).reap_in_ms, -1);
    rig_free(r);
}
END_TEST

/* The clock runs on from the use, not from the pause. */
START_TEST(it_ends_at_the_idle_timeout_though_paused_late)
{
    struct rig *r = rig_napping(1);

    r->service.on_idle = _i == 0 ? CONFIG_ON_IDLE_REMOVE : CONFIG_ON_IDLE_STOP;
    configure(r);
    warm(r);
    pass(r, 10 * SECOND);
    pass(r, 5 * SECOND);
    answer_code(r, PAUSE, 0);
    pass(r, 285 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "paused");
    pass(r, 1);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    ck_assert_str_eq(state_of(r, 0), _i == 0 ? "removing" : "stopped");
    ck_assert_int_eq(r->paused, 1);
    ck_assert_int_eq(r->stopped, _i);
    rig_free(r);
}
END_TEST

/* Fronts may keep a slot for a while after its use, but only for a part of the first stage. */
START_TEST(a_lease_lingers_for_a_part_of_the_first_stage)
{
    static const int64_t pause_ms[] = {-1, 1200, 0}, linger_ms[] = {KG_LEASE_LINGER_MS, 300, 0};
    struct rig *r = rig_new(1);

    r->service.pause_after_ms = pause_ms[_i];
    configure(r);
    ask(r, 0);
    until_ready(r);
    ck_assert_int_eq(hear(r, GRANT)->ms, linger_ms[_i]);
    rig_free(r);
}
END_TEST

START_TEST(a_stopped_one_is_started_again_with_its_container)
{
    struct rig *r = rig_new(1);
    uint64_t first;

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    configure(r);
    first = warm(r);
    pass(r, 300 * SECOND);
    answer_code(r, STOP, 0);
    hear(r, GONE);
    pass(r, 24 * 3600 * SECOND);
    ck_assert_str_eq(view_of(r, 0).state, "stopped");
    ck_assert_str_eq(view_of(r, 0).container_id, "id-1");
    ck_assert_int_eq(view_of(r, 0).reap_in_ms, -1);
    ck_assert_int_eq(view_of(r, 0).idle_ms, (300 + 24 * 3600) * SECOND);
    ask(r, 0);
    ck_assert_str_eq(expect(r, START)->target, "id-1");
    answer_code(r, START, 0);
    answer_look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    ck_assert_uint_eq(r->said[r->said_read].warmth, PROXY_COLD);
    ck_assert_uint_eq(hear(r, GRANT)->instance, first);
    give_back(r, 0, first, 1);
    pass(r, 300 * SECOND); /* and again */
    ck_assert_str_eq(state_of(r, 0), "stopping");
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    ck_assert_uint_eq(count_calls(r, START), 2);
    rig_free(r);
}
END_TEST

/* With room for one only, the one that was made meanwhile stays. */
START_TEST(demand_while_it_stops_makes_another)
{
    struct rig *r = rig_new(1);

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    configure(r);
    warm(r);
    pass(r, 300 * SECOND);
    hear(r, GONE);
    ask(r, 0);
    ck_assert_str_eq(state_of(r, 1), "creating");
    answer_code(r, STOP, 0);
    ck_assert_str_eq(state_of(r, 0), "removing");
    ck_assert_str_eq(expect(r, REMOVE)->target, "id-1");
    until_ready(r);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

START_TEST(a_stopped_one_that_is_gone_is_made_anew)
{
    struct rig *r = rig_new(1);

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    configure(r);
    warm(r);
    pass(r, 300 * SECOND);
    answer_code(r, STOP, 0);
    hear(r, GONE);
    ask(r, 0);
    answer_code(r, START, KG_ENOTFOUND);
    until_ready(r);
    hear(r, GRANT);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    tell(r, ENGINE_EVENT_DIE); /* it has no former life that this could be news of */
    hear(r, GONE);
    ck_assert_str_eq(state_of(r, 0), "removing");
    rig_free(r);
}
END_TEST

START_TEST(a_stopped_one_that_somebody_removes_is_no_more)
{
    struct rig *r = rig_new(1);

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    configure(r);
    warm(r);
    pass(r, 300 * SECOND);
    answer_code(r, STOP, 0);
    tell(r, ENGINE_EVENT_DIE); /* of our own stop */
    ck_assert_uint_eq(waiting_calls(r), 0);
    tell(r, ENGINE_EVENT_DESTROY);
    answer_look(r, ENGINE_NONE);
    ck_assert_uint_eq(count_in(r, 0), 0);
    rig_free(r);
}
END_TEST

START_TEST(stopped_ones_go_when_they_are_not_to_be_kept)
{
    struct rig *r = rig_new(1);
    struct config_service changed;

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    configure(r);
    warm(r);
    pass(r, 300 * SECOND);
    answer_code(r, STOP, 0);
    changed = r->service;
    if (_i == 0)
        changed.on_idle = CONFIG_ON_IDLE_REMOVE;
    else
        snprintf(changed.spec, sizeof changed.spec, "another");
    r->services[0] = &changed;
    configure(r);
    ck_assert_str_eq(state_of(r, 0), "removing");
    answer_code(r, REMOVE, 0);
    ck_assert_uint_eq(count_in(r, 0), 0);
    rig_free(r);
}
END_TEST

/* --- what must stay --- */

START_TEST(the_least_stay_warm)
{
    struct rig *r = rig_napping(2);
    uint64_t ids[2];

    r->service.min_instances = 1;
    configure(r);
    ask(r, 0);
    ids[0] = until_ready(r);
    hear(r, GRANT);
    ask(r, 0);
    ids[1] = until_ready(r);
    hear(r, GRANT);
    give_back(r, 0, ids[0], 1);
    give_back(r, 0, ids[1], 1);
    pass(r, 10 * SECOND); /* the first that is due may go, the second is the last */
    ck_assert_uint_eq(count_calls(r, PAUSE), 1);
    answer_code(r, PAUSE, 0);
    pass(r, 290 * SECOND);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    pass(r, 3600 * SECOND);
    ck_assert_uint_eq(count_in(r, 0), 1);
    ck_assert_str_eq(view_of(r, 0).state, "ready");
    ck_assert_int_eq(view_of(r, 0).reap_in_ms, -1);
    ck_assert_int_eq(view_of(r, 0).idle_ms, 3900 * SECOND);
    r->service.min_instances = 0;
    configure(r);
    ck_assert_int_eq(view_of(r, 0).reap_in_ms, 0); /* long due */
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

/* Its clock runs, but nothing comes of it. */
START_TEST(what_is_kept_ready_is_told_no_end)
{
    struct rig *r = rig_new(1);

    r->service.min_instances = 1;
    configure(r);
    until_ready(r);
    pass(r, 10 * SECOND);
    ck_assert_int_eq(view_of(r, 0).idle_ms, 10 * SECOND);
    ck_assert_int_eq(view_of(r, 0).reap_in_ms, -1);
    r->service.min_instances = 0;
    configure(r);
    ck_assert_int_eq(view_of(r, 0).reap_in_ms, 290 * SECOND);
    rig_free(r);
}
END_TEST

/* Warm ones that are due together go one at a time, the youngest first. */
START_TEST(of_several_that_are_due_the_youngest_goes)
{
    struct rig *r = rig_new(1);
    uint64_t ids[3];

    r->service.max_instances = 3;
    configure(r);
    ready_all(r, 3, ids);
    pass(r, 300 * SECOND);
    ck_assert_uint_eq(hear(r, GONE)->instance, ids[2]);
    hear_nothing(r);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    pass(r, 1);
    ck_assert_uint_eq(hear(r, GONE)->instance, ids[1]);
    ck_assert_uint_eq(hear(r, GONE)->instance, ids[0]); /* the last one need not wait */
    rig_free(r);
}
END_TEST

/* --- demand --- */

START_TEST(what_was_used_last_is_woken_first)
{
    struct rig *r = rig_napping(2);
    uint64_t ids[2];

    ready_all(r, 2, ids);
    pass(r, 5 * SECOND);
    ask(r, 0);
    give_back(r, 0, hear(r, GRANT)->instance, 1); /* the older one */
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0), answer_code(r, PAUSE, 0);
    ask(r, 0);
    ck_assert_uint_eq(hear(r, GRANT)->instance, ids[0]);
    ck_assert_str_eq(state_of(r, 1), "paused");
    ask(r, 0);
    ck_assert_uint_eq(r->said[r->said_read].warmth, PROXY_PAUSED);
    ck_assert_uint_eq(hear(r, GRANT)->instance, ids[1]);
    ck_assert_str_eq(expect(r, UNPAUSE)->target, "id-1");
    ck_assert_uint_eq(count_calls(r, UNPAUSE), 2);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    rig_free(r);
}
END_TEST

/* While one resumes, who finds it full gets another one, and is served by that. */
START_TEST(a_late_resume_holds_up_nobody_else)
{
    struct rig *r = rig_napping(2);
    uint64_t first, second;

    first = warm(r);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    ask(r, 0);
    ck_assert_uint_eq(hear(r, GRANT)->instance, first);
    ask(r, 0);
    ck_assert_str_eq(state_of(r, 1), "creating");
    second = until_ready(r);
    ck_assert_uint_eq(hear(r, GRANT)->instance, second);
    pass(r, 30 * SECOND); /* it never resumes */
    ck_assert_uint_eq(hear(r, GONE)->instance, first);
    ck_assert_str_eq(state_of(r, 0), "removing");
    ck_assert_str_eq(state_of(r, 1), "ready");
    rig_free(r);
}
END_TEST

/* Refused, and found ended: those who wait get another one. */
START_TEST(a_resume_that_is_refused_is_looked_into)
{
    struct rig *r = rig_napping(1);
    uint64_t second, waits;

    warm(r);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    ask(r, 0);
    hear(r, GRANT);
    waits = ask(r, 0);
    answer_code(r, UNPAUSE, KG_EIO);
    answer_look(r, _i == 0 ? ENGINE_EXITED : ENGINE_NONE);
    hear(r, GONE);
    second = until_ready(r);
    ck_assert_uint_eq(r->said[r->said_read].ticket, waits);
    ck_assert_uint_eq(r->said[r->said_read].warmth, PROXY_COLD);
    ck_assert_uint_eq(hear(r, GRANT)->instance, second);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    rig_free(r);
}
END_TEST

START_TEST(a_death_while_it_resumes)
{
    struct rig *r = rig_napping(1);
    uint64_t first = warm(r);

    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    ask(r, 0);
    hear(r, GRANT);
    ask(r, 0);
    tell(r, ENGINE_EVENT_DIE);
    ck_assert_uint_eq(hear(r, GONE)->instance, first);
    ck_assert_str_eq(state_of(r, 0), "removing");
    ck_assert_str_eq(state_of(r, 1), "creating");
    answer_code(r, UNPAUSE, KG_ECONFLICT); /* told late */
    answer_look(r, ENGINE_EXITED);
    ck_assert_str_eq(expect(r, REMOVE)->target, "id-1");
    rig_free(r);
}
END_TEST

/* The pause is refused when a request has already come. */
START_TEST(a_pause_refused_after_demand_is_no_harm)
{
    struct rig *r = rig_napping(1);
    uint64_t first = warm(r);

    pass(r, 10 * SECOND);
    ask(r, 0);
    ck_assert_uint_eq(hear(r, GRANT)->instance, first);
    answer_code(r, PAUSE, KG_EIO);
    answer_code(r, UNPAUSE, KG_EIO); /* it is not paused */
    answer_look(r, ENGINE_RUNNING);
    ck_assert_str_eq(state_of(r, 0), "ready");
    hear_nothing(r);
    give_back(r, 0, first, 1);
    pass(r, 300 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "ready"); /* not tried again */
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

/* The request came while the pause was on its way, nothing came back, and it is carried out: before
 * the look, or after. */
START_TEST(a_pause_unanswered_after_demand_is_undone)
{
    struct rig *r = rig_napping(1);

    warm(r);
    pass(r, 10 * SECOND);
    ask(r, 0);
    hear(r, GRANT);
    answer_code(r, PAUSE, KG_ETIMEOUT);
    if (_i == 1) {
        answer_look(r, ENGINE_RUNNING);
        ck_assert_str_eq(state_of(r, 0), "ready");
        tell(r, ENGINE_EVENT_PAUSE);
        pass(r, 100);
    }
    answer_look(r, ENGINE_PAUSED);
    ck_assert_str_eq(state_of(r, 0), "resuming");
    answer_code(r, UNPAUSE, 0);
    ck_assert_str_eq(state_of(r, 0), "ready");
    hear_nothing(r);
    rig_free(r);
}
END_TEST

/* --- spares --- */

static struct rig *rig_sparing(int spares, int max)
{
    struct rig *r = rig_new(1);

    r->service.spares = spares;
    r->service.max_instances = max;
    configure(r);
    return r;
}

static void spare_ready(struct rig *r)
{
    until_ready(r);
    answer_code(r, PAUSE, 0);
}

START_TEST(spares_are_made_and_kept)
{
    struct rig *r = rig_sparing(2, 3);

    ck_assert_uint_eq(count_in(r, 0), 2);
    spare_ready(r), spare_ready(r);
    hear_nothing(r);
    ck_assert_str_eq(state_of(r, 0), "paused");
    ck_assert_str_eq(state_of(r, 1), "paused");
    ck_assert_int_eq(view_of(r, 0).reap_in_ms, -1); /* kept */
    pass(r, 24 * 3600 * SECOND);
    ck_assert_str_eq(state_of(r, 0), "paused");
    ck_assert_str_eq(state_of(r, 1), "paused");
    ck_assert_int_eq(view_of(r, 0).reap_in_ms, -1);
    ck_assert_uint_eq(count_in(r, 0), 2);
    ck_assert_int_eq(r->reaped, 0);
    rig_free(r);
}
END_TEST

START_TEST(a_spare_in_use_is_replaced_while_there_is_room)
{
    struct rig *r = rig_sparing(1, 2);

    spare_ready(r);
    ask(r, 0);
    ck_assert_int_eq(hear(r, GRANT)->warmth, PROXY_PAUSED);
    ck_assert_uint_eq(count_in(r, 0), 2);
    answer_code(r, UNPAUSE, 0);
    spare_ready(r);
    ask(r, 0);
    ck_assert_int_eq(hear(r, GRANT)->warmth, PROXY_PAUSED);
    ck_assert_uint_eq(count_in(r, 0), 2); /* there may be no more */
    rig_free(r);
}
END_TEST

/* A request that comes while the spare is made is served by it; another one becomes the spare. */
START_TEST(a_spare_that_is_needed_serves)
{
    struct rig *r = rig_sparing(1, 3);
    uint64_t first;

    ask(r, 0);
    ck_assert_uint_eq(count_in(r, 0), 1); /* it is one more than none */
    first = until_ready(r);
    ck_assert_uint_eq(hear(r, GRANT)->instance, first);
    ck_assert_uint_eq(count_calls(r, PAUSE), 0);
    ck_assert_uint_eq(count_in(r, 0), 2);
    spare_ready(r);
    ck_assert_str_eq(state_of(r, 1), "paused");
    ck_assert_uint_eq(count_in(r, 0), 2);
    rig_free(r);
}
END_TEST

START_TEST(a_spare_that_dies_is_replaced)
{
    struct rig *r = rig_sparing(1, 1);

    spare_ready(r);
    tell(r, ENGINE_EVENT_DIE);
    hear(r, GONE);
    ck_assert_str_eq(state_of(r, 0), "removing");
    ck_assert_str_eq(state_of(r, 1), "creating");
    spare_ready(r);
    ck_assert_str_eq(state_of(r, 1), "paused");
    rig_free(r);
}
END_TEST

/* There is no room for another one: idle again, it is the spare itself. */
START_TEST(what_is_idle_is_frozen_as_a_spare)
{
    struct rig *r = rig_sparing(1, 1);
    uint64_t spare;

    spare_ready(r);
    ask(r, 0);
    spare = hear(r, GRANT)->instance;
    answer_code(r, UNPAUSE, 0);
    give_back(r, 0, spare, 1);
    pass(r, 300 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "paused");
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    rig_free(r);
}
END_TEST

/* --- the memory of the paused --- */

START_TEST(without_a_cap_nothing_is_weighed)
{
    struct rig *r = rig_napping(1);

    warm(r);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    ck_assert_uint_eq(waiting_calls(r), 0);
    ck_assert_uint_eq(count_calls(r, WEIGH), 0);
    rig_free(r);
}
END_TEST

START_TEST(the_cap_is_exact)
{
    struct rig *r = rig_napping(1);

    r->config.paused_memory_bytes = 1000;
    configure(r);
    warm(r);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    weigh(r, 1000 + _i);
    ck_assert_str_eq(state_of(r, 0), _i == 0 ? "paused" : "stopping");
    ck_assert_int_eq(r->said_count > r->said_read, _i == 1);
    if (_i == 1)
        ck_assert_str_eq(r->last_why, "the paused hold too much memory");
    rig_free(r);
}
END_TEST

START_TEST(spares_are_not_counted)
{
    struct rig *r = rig_sparing(1, 1);

    r->config.paused_memory_bytes = 0;
    configure(r);
    spare_ready(r);
    weigh(r, 1 << 30);
    pass(r, 3600 * SECOND);
    ck_assert_str_eq(state_of(r, 0), "paused");
    rig_free(r);
}
END_TEST

/* One that comes, or is lowered, by a reload; or fewer spares. */
START_TEST(a_changed_cap_holds_for_what_sleeps_already)
{
    struct rig *r = _i == 2 ? rig_sparing(1, 1) : rig_napping(1);

    r->config.paused_memory_bytes = _i == 0 ? -1 : _i == 1 ? 600 : 599;
    configure(r);
    if (_i == 2)
        spare_ready(r);
    else
        warm(r), pass(r, 10 * SECOND), answer_code(r, PAUSE, 0);
    if (_i > 0)
        weigh(r, 600);
    ck_assert_str_eq(state_of(r, 0), "paused");
    ck_assert_uint_eq(waiting_calls(r), 0);
    r->config.paused_memory_bytes = 599;
    r->service.spares = 0;
    configure(r);
    if (_i == 0)
        weigh(r, 600);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    ck_assert_str_eq(r->last_why, "the paused hold too much memory");
    rig_free(r);
}
END_TEST

/* One sleeps beside the spare: it alone is counted, and goes if it is too much. */
START_TEST(beside_the_spares_only_what_is_beyond_counts)
{
    struct rig *r = rig_sparing(1, 2);
    uint64_t used;

    r->config.paused_memory_bytes = 600 - _i;
    r->service.pause_after_ms = 10 * SECOND;
    configure(r);
    spare_ready(r);
    weigh(r, 600);
    ask(r, 0);
    used = hear(r, GRANT)->instance;
    answer_code(r, UNPAUSE, 0);
    spare_ready(r);
    weigh(r, 600);
    give_back(r, 0, used, 1);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    weigh(r, 600);
    ck_assert_uint_eq(count_calls(r, STOP), (unsigned)_i);
    if (_i == 0) {
        ck_assert_str_eq(state_of(r, 0), "paused");
        ck_assert_str_eq(state_of(r, 1), "paused");
    }
    rig_free(r);
}
END_TEST

/* Two services, paused at the same time: a is bigger, b took longer to start. Which one goes? */
START_TEST(the_least_valuable_goes_first)
{
    static const int64_t a_bytes[] = {500, 501, 499}, b_start_ms[] = {0, 0, 200};
    static const bool a_goes[] = {false, true, true}; /* alike: the one that was paused later */
    struct rig *r = rig_napping(1);
    uint64_t a, b;

    r->other.pause_after_ms = 10 * SECOND;
    r->config.service_count = 2;
    r->config.paused_memory_bytes = 900;
    configure(r);
    ask(r, 0);
    a = until_ready(r);
    hear(r, GRANT);
    ask_of(r, 1, 0);
    answer_created(r);
    pass(r, b_start_ms[_i]);
    answer_code(r, START, 0);
    answer_look(r, ENGINE_RUNNING);
    b = hear(r, PROBE)->instance;
    fleet_probed(r->f, 0, b, r->now_ms);
    hear(r, GRANT);
    give_back(r, 0, a, 1);
    give_back(r, 0, b, 1);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    weigh(r, a_bytes[_i]);
    answer_code(r, PAUSE, 0);
    weigh(r, 500);
    if (_i == 0)
        ck_assert(strcmp(state_of(r, 0), state_in(r, 1, 0)) != 0);
    else
        ck_assert_str_eq(state_of(r, 0), a_goes[_i] ? "stopping" : "paused");
    ck_assert_uint_eq(count_calls(r, STOP), 1);
    rig_free(r);
}
END_TEST

START_TEST(pressed_out_it_is_kept_where_stopped_ones_are)
{
    struct rig *r = rig_napping(1);

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    r->config.paused_memory_bytes = 100;
    configure(r);
    warm(r);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    weigh(r, 101);
    answer_code(r, STOP, 0);
    ck_assert_str_eq(state_of(r, 0), "stopped");
    ck_assert_int_eq(r->stopped, 1);
    rig_free(r);
}
END_TEST

/* --- late news --- */

START_TEST(late_news_of_our_orders)
{
    static const enum engine_event_kind kinds[] = {ENGINE_EVENT_PAUSE, ENGINE_EVENT_UNPAUSE};
    struct rig *r = rig_napping(1);
    uint64_t first = warm(r);

    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    ask(r, 0);
    hear(r, GRANT);
    answer_code(r, UNPAUSE, 0);
    give_back(r, 0, first, 1);
    tell(r, kinds[_i]);
    if (_i == 0)
        answer_look(r, ENGINE_RUNNING);
    ck_assert_uint_eq(waiting_calls(r), 0);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    tell(r, kinds[_i]);
    if (_i == 1)
        answer_look(r, ENGINE_PAUSED); /* of the first time */
    ck_assert_str_eq(state_of(r, 0), "paused");
    ck_assert_uint_eq(waiting_calls(r), 0);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

static void add_loops(TCase *t)
{
    tcase_add_loop_test(t, it_ends_at_the_idle_timeout_though_paused_late, 0, 2);
    tcase_add_loop_test(t, a_lease_lingers_for_a_part_of_the_first_stage, 0, 3);
    tcase_add_loop_test(t, stopped_ones_go_when_they_are_not_to_be_kept, 0, 2);
    tcase_add_loop_test(t, a_resume_that_is_refused_is_looked_into, 0, 2);
    tcase_add_loop_test(t, a_pause_unanswered_after_demand_is_undone, 0, 2);
    tcase_add_loop_test(t, the_cap_is_exact, 0, 2);
    tcase_add_loop_test(t, a_changed_cap_holds_for_what_sleeps_already, 0, 3);
    tcase_add_loop_test(t, beside_the_spares_only_what_is_beyond_counts, 0, 2);
    tcase_add_loop_test(t, the_least_valuable_goes_first, 0, 3);
    tcase_add_loop_test(t, late_news_of_our_orders, 0, 2);
}

int main(void)
{
    const TTest *const tests[] = {
        each_stage_is_told_before_it_comes,
        a_stopped_one_is_started_again_with_its_container,
        demand_while_it_stops_makes_another,
        a_stopped_one_that_is_gone_is_made_anew,
        a_stopped_one_that_somebody_removes_is_no_more,
        the_least_stay_warm,
        what_is_kept_ready_is_told_no_end,
        of_several_that_are_due_the_youngest_goes,
        what_was_used_last_is_woken_first,
        a_late_resume_holds_up_nobody_else,
        a_death_while_it_resumes,
        a_pause_refused_after_demand_is_no_harm,
        spares_are_made_and_kept,
        a_spare_in_use_is_replaced_while_there_is_room,
        a_spare_that_is_needed_serves,
        a_spare_that_dies_is_replaced,
        what_is_idle_is_frozen_as_a_spare,
        without_a_cap_nothing_is_weighed,
        spares_are_not_counted,
        pressed_out_it_is_kept_where_stopped_ones_are,
    };
    Suite *suite = suite_create("fleet_idle");
    TCase *t = tcase_create("stages");
    SRunner *runner;
    int failed;

    for (size_t n = 0; n < sizeof tests / sizeof *tests; n++)
        tcase_add_test(t, tests[n]);
    add_loops(t);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
