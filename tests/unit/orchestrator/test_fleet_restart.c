/* SPDX-License-Identifier: Apache-2.0 */
/* What sleeps when Kipgate starts again: found paused, found stopped. The difficulty: what it was
 * about to become is known to the last run only, and what of that was saved is all there is. */
#include "fleet_rig.h"

#define SECOND 1000
#define FOUND "kipgate-a-0123456789"

/* One container of ours is there, last used so long ago; KG_NEVER: not known. */
static struct rig *rig_finding(enum engine_state state, int64_t used_ms_ago, bool hold)
{
    struct rig *r = rig_closed(1);
    struct engine_container found;

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    configure(r);
    r->boxes = 1;
    snprintf(r->name, sizeof r->name, FOUND);
    if (used_ms_ago != KG_NEVER)
        ck_assert_int_eq(fleet_remember(r->f, FOUND, r->now_ms - used_ms_ago), 0);
    fleet_hold_adopted(r->f, hold, r->now_ms);
    found = box(r, 1, FOUND, state);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, &found, 1, r->now_ms, r->now_ms);
    found.address = address_of(1); /* a look tells it, also of what is paused */
    found.address_length = sizeof(struct sockaddr_in);
    answer(expect(r, LOOK), &(const struct engine_answer){.container = found});
    fleet_check(r->f);
    return r;
}

/* It may run: a monitor is not told that it sleeps before that is known. */
START_TEST(monitors_wait_for_what_may_be_found)
{
    struct rig *r = rig_closed(1);
    struct engine_container found;

    fleet_acquire(r->f, 0, ++r->ticket, 0, true, r->now_ms);
    fleet_check(r->f);
    r->boxes = 1;
    snprintf(r->name, sizeof r->name, FOUND);
    found = box(r, 1, FOUND, ENGINE_RUNNING);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, &found, 1, r->now_ms, r->now_ms);
    fleet_check(r->f);
    hear_nothing(r);
    answer_look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    ck_assert_uint_eq(hear(r, GRANT)->ticket, r->ticket);
    ck_assert_uint_eq(count_calls(r, CREATE), 0);
    rig_free(r);
}
END_TEST

/* Nothing is made for them, here or where it is needed, and the engine is not waited for long. */
START_TEST(monitors_wait_no_longer_than_that)
{
    struct rig *r = rig_closed(1);
    char *need = r->other.name;

    r->config.service_count = 2;
    r->service.needs = (struct config_strings){&need, 1};
    configure(r);
    fleet_acquire(r->f, 0, ++r->ticket, 0, true, r->now_ms);
    if (_i == 0)
        engine_up(r);
    else if (_i == 1)
        fleet_stop(r->f, false, r->now_ms);
    else
        pass(r, 10001);
    ck_assert_uint_eq(hear_refusal(r, ORCH_ASLEEP)->ticket, r->ticket);
    ck_assert_uint_eq(r->call_count, 0);
    fleet_acquire(r->f, 0, ++r->ticket, 0, true, r->now_ms);
    hear_refusal(r, ORCH_ASLEEP);
    rig_free(r);
}
END_TEST

START_TEST(what_is_found_paused_is_resumed_for_a_request)
{
    struct rig *r = rig_finding(ENGINE_PAUSED, 100 * SECOND, false);
    struct fleet_view v;

    ck_assert_str_eq(state_of(r, 0), "paused");
    fleet_view(r->f, 0, &v, 1, r->now_ms);
    ck_assert_int_eq(v.idle_ms, 100 * SECOND);
    ck_assert_int_eq(v.reap_in_ms, 200 * SECOND);
    ck_assert_uint_eq(waiting_calls(r), 0);
    ask(r, 0);
    ck_assert_int_eq(hear(r, GRANT)->warmth, PROXY_PAUSED);
    ck_assert_str_eq(expect(r, UNPAUSE)->target, "id-1");
    rig_free(r);
}
END_TEST

START_TEST(what_is_found_paused_ends_in_its_time)
{
    struct rig *r = rig_finding(ENGINE_PAUSED, 100 * SECOND, false);

    pass(r, 200 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "paused");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

/* A front of the last run may have written a request to it. */
START_TEST(what_is_found_paused_is_resumed_while_old_fronts_live)
{
    struct rig *r = rig_finding(ENGINE_PAUSED, 100 * SECOND, true);

    ck_assert_str_eq(state_of(r, 0), "resuming");
    answer_code(r, UNPAUSE, 0);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 3600 * SECOND);
    ck_assert_str_eq(state_of(r, 0), "ready");
    fleet_hold_adopted(r->f, false, r->now_ms);
    fleet_check(r->f);
    pass(r, 300 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

/* It answers no probe of ours. Old fronts may be served by it yet, but nobody waits for that. */
START_TEST(what_does_not_answer_is_held_but_not_waited_for)
{
    struct rig *r = rig_finding(ENGINE_RUNNING, KG_NEVER, true);
    uint64_t ticket;

    hear(r, PROBE);
    ticket = ask(r, 0);
    pass(r, 30 * SECOND);
    ck_assert_str_eq(state_of(r, 0), "draining");
    until_ready(r);
    ck_assert_uint_eq(hear(r, GRANT)->ticket, ticket);
    pass(r, 3600 * SECOND);
    ck_assert_str_eq(state_of(r, 0), "draining");
    fleet_hold_adopted(r->f, false, r->now_ms);
    fleet_check(r->f);
    ck_assert_str_eq(expect(r, STOP)->target, "id-1");
    rig_free(r);
}
END_TEST

/* They may have used it until they ended, whenever it is found. */
START_TEST(what_is_found_after_old_fronts_ended_begins_when_they_did)
{
    struct rig *r = rig_closed(1);
    struct engine_container found;

    r->boxes = 1;
    snprintf(r->name, sizeof r->name, FOUND);
    fleet_remember(r->f, FOUND, _i == 0 ? r->now_ms - 100 * SECOND : 0);
    fleet_hold_adopted(r->f, true, r->now_ms);
    pass(r, 5 * SECOND);
    fleet_hold_adopted(r->f, false, r->now_ms);
    pass(r, 5 * SECOND);
    found = box(r, 1, FOUND, ENGINE_RUNNING);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, &found, 1, r->now_ms, r->now_ms);
    answer_look(r, ENGINE_RUNNING);
    ck_assert_str_eq(state_of(r, 0), _i == 0 ? "probing" : "stopping");
    if (_i == 0) {
        fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
        pass(r, 295 * SECOND - 1);
        ck_assert_str_eq(state_of(r, 0), "ready");
        pass(r, 1);
        ck_assert_str_eq(state_of(r, 0), "stopping");
    }
    rig_free(r);
}
END_TEST

struct clock {
    int64_t used_ms;
    bool in_use;
};

static void note_clock(void *arg, const char *name, int64_t used_ms, bool in_use)
{
    ck_assert_str_eq(name, FOUND);
    *(struct clock *)arg = (struct clock){used_ms, in_use};
}

/* Until it has been looked at: if this run is killed, too, its clock begins anew in the next. */
static void check_clock(struct rig *r, int64_t used_ms, bool in_use)
{
    struct clock clock = {-1, false};

    fleet_each_clock(r->f, note_clock, &clock);
    ck_assert_int_eq(clock.used_ms, used_ms);
    ck_assert_int_eq(clock.in_use, in_use);
}

START_TEST(what_a_front_may_use_is_written_as_in_use_before_it_is_found)
{
    static const struct {
        int64_t saved_ms;
        bool held, claimed, in_use;
    } cases[] = {{77, false, false, false},
                 {77, false, true, true},
                 {77, true, false, true},
                 {0, true, true, false}}; /* an order to end it goes on */
    struct rig *r = rig_closed(1);
    struct engine_container found;

    snprintf(r->name, sizeof r->name, FOUND);
    fleet_remember(r->f, FOUND, cases[_i].saved_ms);
    if (cases[_i].held)
        fleet_hold_adopted(r->f, true, r->now_ms);
    if (cases[_i].claimed)
        fleet_claim(r->f, 0, 1, FOUND, 1, 0, r->now_ms);
    ck_assert_int_eq(r->clock_changes > 0, cases[_i].claimed || cases[_i].held);
    check_clock(r, cases[_i].saved_ms, cases[_i].in_use);
    found = box(r, 1, FOUND, ENGINE_RUNNING);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, &found, 1, r->now_ms, r->now_ms);
    expect(r, LOOK);
    check_clock(r, cases[_i].saved_ms, cases[_i].in_use);
    rig_free(r);
}
END_TEST

/* The last run had begun to end it: it is not taken over, whatever it looks like. */
START_TEST(what_the_last_run_was_ending_is_removed)
{
    static const enum engine_state states[] = {ENGINE_RUNNING, ENGINE_PAUSED, ENGINE_EXITED};
    struct rig *r = rig_finding(states[_i], 1000000, false); /* saved as 0 */

    ck_assert_uint_eq(count_in(r, 0), 1);
    ck_assert_str_eq(state_of(r, 0), states[_i] == ENGINE_EXITED ? "removing" : "stopping");
    ask(r, 0);
    ck_assert_str_eq(state_of(r, 1), "creating");
    rig_free(r);
}
END_TEST

START_TEST(what_is_found_stopped_is_started_for_a_request)
{
    struct rig *r = rig_finding(ENGINE_EXITED, KG_NEVER, false);

    ck_assert_str_eq(state_of(r, 0), "stopped");
    pass(r, 24 * 3600 * SECOND);
    ask(r, 0);
    ck_assert_str_eq(expect(r, START)->target, "id-1");
    ck_assert_uint_eq(count_calls(r, CREATE), 0);
    r->service.on_idle = CONFIG_ON_IDLE_REMOVE;
    configure(r);
    ck_assert_str_eq(state_of(r, 0), "starting"); /* it is not stopped any more */
    rig_free(r);
}
END_TEST

/* --- the engine repeats its last second: a new run hears of what the last one did --- */

static void hear_of(struct rig *r, enum engine_event_kind kind)
{
    struct engine_event event = {.kind = kind, .container = box(r, 1, FOUND, ENGINE_RUNNING)};

    fleet_engine_event(r->f, &event, r->now_ms);
    fleet_check(r->f);
}

START_TEST(a_former_death_heard_during_the_look_does_not_keep_it_from_serving)
{
    struct rig *r = rig_closed(1);
    struct engine_container found;

    snprintf(r->name, sizeof r->name, FOUND);
    found = box(r, 1, FOUND, ENGINE_RUNNING);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, &found, 1, r->now_ms, r->now_ms);
    ask(r, 0);
    hear_of(r, ENGINE_EVENT_DIE); /* it was stopped, and started again */
    answer_look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    hear_nothing(r); /* was that look made before it died, or after? */
    answer_look(r, ENGINE_RUNNING);
    hear(r, GRANT);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

START_TEST(former_news_of_what_was_adopted_are_looked_into)
{
    static const enum engine_event_kind kinds[] = {ENGINE_EVENT_DIE, ENGINE_EVENT_PAUSE};
    struct rig *r = rig_finding(ENGINE_RUNNING, SECOND, false);

    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    ask(r, 0);
    hear(r, GRANT);
    pass(r, SECOND);
    hear_of(r, kinds[_i]);
    ck_assert_str_eq(state_of(r, 0), "ready");
    answer_look(r, ENGINE_RUNNING);
    ck_assert_str_eq(state_of(r, 0), "ready");
    hear_nothing(r); /* its exchange goes on */
    hear_of(r, ENGINE_EVENT_DIE);
    pass(r, SECOND);
    answer_look(r, ENGINE_EXITED);
    hear(r, GONE); /* this time it is true */
    rig_free(r);
}
END_TEST

START_TEST(a_former_death_of_what_was_found_paused_is_looked_into)
{
    struct rig *r = rig_finding(ENGINE_PAUSED, SECOND, false);

    hear_of(r, ENGINE_EVENT_DIE);
    ck_assert_str_eq(state_of(r, 0), "paused");
    answer_look(r, ENGINE_PAUSED);
    ck_assert_str_eq(state_of(r, 0), "paused");
    ask(r, 0);
    ck_assert_int_eq(hear(r, GRANT)->warmth, PROXY_PAUSED);
    rig_free(r);
}
END_TEST

/* The last run told the engine to stop it, and was killed before it could note that. */
/* By the run before: it is stopped again, and kept as it would be by that one. */
START_TEST(what_is_found_stopped_and_started_by_hand_is_kept)
{
    struct rig *r = rig_finding(ENGINE_EXITED, KG_NEVER, false);

    ck_assert_str_eq(state_of(r, 0), "stopped");
    tell(r, ENGINE_EVENT_START);
    answer_look(r, ENGINE_RUNNING);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    answer_code(r, STOP, 0);
    ck_assert_str_eq(state_of(r, 0), "stopped");
    rig_free(r);
}
END_TEST

START_TEST(what_ends_by_the_last_runs_order_fails_nobody)
{
    struct rig *r = rig_finding(ENGINE_RUNNING, SECOND, false);

    ask(r, 0);
    hear(r, PROBE);
    hear_of(r, ENGINE_EVENT_DIE);
    if (_i == 0)
        answer_look(r, ENGINE_EXITED);
    else
        answer_code(r, LOOK, KG_ENOTFOUND);
    hear(r, PROBE_STOP);
    hear(r, GONE);
    hear_nothing(r); /* nobody is refused: another one is made */
    until_ready(r);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

/* --- sent to sleep before it is known what there is --- */

START_TEST(a_sleep_takes_along_what_is_found_after_it)
{
    static const enum engine_state states[] = {ENGINE_RUNNING, ENGINE_PAUSED, ENGINE_CREATED};
    struct rig *r = rig_closed(1);
    struct engine_container found;

    snprintf(r->name, sizeof r->name, FOUND);
    found = box(r, 1, FOUND, states[_i]);
    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    pass(r, 1);
    ck_assert_int_eq(r->done_count, 0);
    fleet_engine_list(r->f, &found, 1, r->now_ms, r->now_ms);
    pass(r, 1);
    ck_assert_int_eq(r->done_count, 0);
    answer(expect(r, LOOK), &(const struct engine_answer){.container = found});
    if (states[_i] != ENGINE_CREATED)
        answer_code(r, STOP, 0);
    pass(r, 1);
    ck_assert_int_eq(r->done_count, 0);
    answer_code(r, REMOVE, 0);
    pass(r, 1);
    ck_assert_int_eq(r->done_count, 1);
    ck_assert_uint_eq(count_in(r, 0), 0);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(a_sleep_is_over_when_nothing_was_found)
{
    struct rig *r = rig_closed(1);

    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    pass(r, 1);
    ck_assert_int_eq(r->done_count, 0);
    fleet_engine_list(r->f, NULL, 0, r->now_ms, r->now_ms);
    pass(r, 1);
    ck_assert_int_eq(r->done_count, 1);
    ck_assert_uint_eq(r->done_reason, 0);
    rig_free(r);
}
END_TEST

/* The last run's pause was carried out after we had looked: no fault of the worker's. */
START_TEST(what_the_last_run_froze_late_fails_nobody)
{
    struct rig *r = rig_finding(ENGINE_RUNNING, 100 * SECOND, false);
    uint64_t ticket = ask(r, 0);

    hear(r, PROBE);
    tell(r, ENGINE_EVENT_PAUSE);
    answer_look(r, ENGINE_PAUSED);
    hear(r, PROBE_STOP);
    hear(r, GONE);
    until_ready(r);
    ck_assert_uint_eq(hear(r, GRANT)->ticket, ticket);
    rig_free(r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fleet_restart");
    TCase *t = tcase_create("found asleep");
    SRunner *runner;
    int failed;

    tcase_add_test(t, what_is_found_paused_is_resumed_for_a_request);
    tcase_add_test(t, monitors_wait_for_what_may_be_found);
    tcase_add_loop_test(t, monitors_wait_no_longer_than_that, 0, 3);
    tcase_add_test(t, what_is_found_paused_ends_in_its_time);
    tcase_add_test(t, what_is_found_paused_is_resumed_while_old_fronts_live);
    tcase_add_test(t, what_does_not_answer_is_held_but_not_waited_for);
    tcase_add_test(t, what_is_found_stopped_is_started_for_a_request);
    tcase_add_test(t, a_former_death_heard_during_the_look_does_not_keep_it_from_serving);
    tcase_add_loop_test(t, former_news_of_what_was_adopted_are_looked_into, 0, 2);
    tcase_add_test(t, a_former_death_of_what_was_found_paused_is_looked_into);
    tcase_add_loop_test(t, what_ends_by_the_last_runs_order_fails_nobody, 0, 2);
    tcase_add_test(t, what_is_found_stopped_and_started_by_hand_is_kept);
    tcase_add_test(t, what_the_last_run_froze_late_fails_nobody);
    tcase_add_loop_test(t, a_sleep_takes_along_what_is_found_after_it, 0, 3);
    tcase_add_test(t, a_sleep_is_over_when_nothing_was_found);
    tcase_add_loop_test(t, what_is_found_after_old_fronts_ended_begins_when_they_did, 0, 2);
    tcase_add_loop_test(t, what_a_front_may_use_is_written_as_in_use_before_it_is_found, 0, 4);
    tcase_add_loop_test(t, what_the_last_run_was_ending_is_removed, 0, 3);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
