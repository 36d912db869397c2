/* SPDX-License-Identifier: Apache-2.0 */
/* The stages of sleep: paused, stopped, resumed, kept in reserve. The difficulty: orders, their
 * answers, and news of them come in any order, and a request may come between any two. */
#include "fleet_rig.h"

#define SECOND 1000

/* Pauses after 10 s, ends after 300. */
static struct rig *rig_napping(void)
{
    struct rig *r = rig_new(1);

    r->service.pause_after_ms = 10 * SECOND;
    configure(r);
    return r;
}

static uint64_t paused(struct rig *r)
{
    uint64_t instance = warm(r);

    pass(r, 10 * SECOND);
    ck_assert_str_eq(state_of(r, 0), "paused");
    answer_code(r, PAUSE, 0);
    hear_nothing(r);
    return instance;
}

START_TEST(pauses_then_ends)
{
    struct rig *r = rig_napping();

    paused(r);
    ck_assert_int_eq(r->paused, 1);
    pass(r, 290 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "paused");
    pass(r, 1);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    ck_assert_str_eq(state_of(r, 0), "none");
    ck_assert_int_eq(r->reaped, 1);
    rig_free(r);
}
END_TEST

START_TEST(a_request_is_granted_while_it_resumes)
{
    struct rig *r = rig_napping();
    uint64_t instance = paused(r);
    struct said *grant;

    ask(r, 0);
    grant = hear(r, GRANT);
    ck_assert_uint_eq(grant->instance, instance);
    ck_assert_int_eq(grant->warmth, PROXY_PAUSED);
    ck_assert_str_eq(state_of(r, 0), "resuming");
    answer_code(r, UNPAUSE, 0);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_int_eq(r->resumed, 1);
    give_back(r, 0, instance, 1);
    pass(r, 10 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "paused");
    rig_free(r);
}
END_TEST

/* Also one that gets a slot which another front's request has resumed it for. */
START_TEST(each_front_learns_once_that_it_was_frozen)
{
    struct rig *r = rig_new(2);
    uint64_t instance;
    struct said *grant;

    r->service.pause_after_ms = 10 * SECOND;
    configure(r);
    instance = warm(r);
    ask(r, 1);
    grant = hear(r, GRANT);
    ck_assert(!grant->thawed);
    give_back(r, 1, instance, grant->slots);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    for (int front = 0; front < 2; front++) {
        ask(r, front);
        grant = hear(r, GRANT);
        ck_assert_int_eq(grant->front, front);
        ck_assert_int_eq(grant->warmth, front == 0 ? PROXY_PAUSED : PROXY_WARM);
        ck_assert(grant->thawed);
        give_back(r, front, instance, grant->slots);
    }
    answer_code(r, UNPAUSE, 0);
    ask(r, 1);
    ck_assert(!hear(r, GRANT)->thawed);
    rig_free(r);
}
END_TEST

START_TEST(demand_while_it_is_being_paused)
{
    struct rig *r = rig_napping();

    warm(r);
    pass(r, 10 * SECOND);
    expect(r, PAUSE);
    ask(r, 0);
    ck_assert_int_eq(hear(r, GRANT)->warmth, PROXY_PAUSED);
    ck_assert_uint_eq(count_calls(r, UNPAUSE), 0); /* one at a time */
    answer_code(r, PAUSE, 0);
    answer_code(r, UNPAUSE, 0);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

START_TEST(a_pause_that_is_refused_leaves_it_warm)
{
    struct rig *r = rig_napping();

    warm(r);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, KG_EIO);
    ck_assert_str_eq(state_of(r, 0), "ready");
    answer_look(r, ENGINE_RUNNING); /* does it run at all? */
    pass(r, 290 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_uint_eq(count_calls(r, PAUSE), 1);
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

START_TEST(a_pause_that_was_refused_is_tried_after_the_next_use)
{
    struct rig *r = rig_napping();

    r->service.on_idle = _i ? CONFIG_ON_IDLE_PAUSE : CONFIG_ON_IDLE_REMOVE;
    configure(r);
    warm(r);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, KG_EIO);
    answer_look(r, ENGINE_RUNNING);
    ask(r, 0);
    give_back(r, 0, hear(r, GRANT)->instance, 1);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    ck_assert_str_eq(state_of(r, 0), "paused");
    rig_free(r);
}
END_TEST

START_TEST(a_pause_without_an_answer_ends_it)
{
    struct rig *r = rig_napping();

    warm(r);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, KG_ETIMEOUT);
    ck_assert_str_eq(state_of(r, 0), "stopping"); /* it may be frozen at any time */
    hear(r, GONE);
    ask(r, 0);
    ck_assert_str_eq(state_of(r, 1), "creating");
    rig_free(r);
}
END_TEST

START_TEST(a_resume_without_an_answer_is_asked_about)
{
    struct rig *r = rig_napping();

    paused(r);
    ask(r, 0);
    hear(r, GRANT);
    answer_code(r, UNPAUSE, KG_ETIMEOUT);
    answer_look(r, ENGINE_PAUSED);
    answer_code(r, UNPAUSE, KG_ECLOSED);
    pass(r, 100);
    answer_look(r, ENGINE_RUNNING);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

/* The one that was granted is told that its worker is gone; who waits gets another. */
START_TEST(a_resume_that_never_ends_is_given_up)
{
    struct rig *r = rig_napping();

    paused(r);
    ask(r, 0);
    hear(r, GRANT);
    ask(r, 0);
    pass(r, 30 * SECOND);
    hear(r, GONE);
    ck_assert_str_eq(r->last_why, "demand");
    ck_assert_str_eq(state_of(r, 0), "removing");
    ck_assert_str_eq(state_of(r, 1), "creating");
    ck_assert_uint_eq(fleet_waiting(r->f, 0), 1);
    rig_free(r);
}
END_TEST

START_TEST(it_dies_while_paused)
{
    struct rig *r = rig_napping();

    paused(r);
    tell(r, ENGINE_EVENT_DIE);
    hear(r, GONE);
    answer_code(r, REMOVE, 0);
    ck_assert_str_eq(state_of(r, 0), "none");
    ask(r, 0);
    until_ready(r);
    ck_assert_int_eq(hear(r, GRANT)->warmth, PROXY_COLD);
    rig_free(r);
}
END_TEST

START_TEST(news_of_our_own_orders_change_nothing)
{
    struct rig *r = rig_napping();

    paused(r);
    tell(r, ENGINE_EVENT_PAUSE);
    ck_assert_uint_eq(waiting_calls(r), 0);
    ask(r, 0);
    hear(r, GRANT);
    tell(r, ENGINE_EVENT_PAUSE);
    answer_code(r, UNPAUSE, 0);
    tell(r, ENGINE_EVENT_UNPAUSE);
    ck_assert_uint_eq(waiting_calls(r), 0);
    tell(r, ENGINE_EVENT_PAUSE); /* late, or is it? */
    pass(r, 100);
    answer_look(r, ENGINE_RUNNING);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

/* As Docker 20.10 was seen to do, some ms after it had answered the unpause. */
START_TEST(a_pause_after_the_resume_is_undone)
{
    struct rig *r = rig_napping();

    paused(r);
    ask(r, 0);
    hear(r, GRANT);
    answer_code(r, UNPAUSE, 0);
    tell(r, ENGINE_EVENT_PAUSE);
    pass(r, 100);
    answer_look(r, ENGINE_PAUSED);
    ck_assert_str_eq(state_of(r, 0), "resuming");
    hear_nothing(r); /* the exchange goes on */
    answer_code(r, UNPAUSE, 0);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 5 * SECOND);
    tell(r, ENGINE_EVENT_PAUSE); /* that one is somebody else's */
    answer_look(r, ENGINE_PAUSED);
    hear(r, GONE);
    rig_free(r);
}
END_TEST

START_TEST(thawed_by_hand_it_serves)
{
    struct rig *r = rig_napping();

    paused(r);
    tell(r, ENGINE_EVENT_UNPAUSE);
    answer_look(r, ENGINE_RUNNING);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

START_TEST(on_idle_pause_keeps_it)
{
    struct rig *r = rig_new(1);

    r->service.on_idle = CONFIG_ON_IDLE_PAUSE;
    configure(r);
    warm(r);
    pass(r, 300 * SECOND);
    answer_code(r, PAUSE, 0);
    pass(r, 1000 * 3600 * (int64_t)SECOND);
    ck_assert_str_eq(state_of(r, 0), "paused");
    ck_assert_int_eq(fleet_due_ms(r->f) == KG_NEVER, 1);
    rig_free(r);
}
END_TEST

START_TEST(on_idle_stop_keeps_the_container)
{
    struct rig *r = rig_new(1);
    uint64_t first;

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    configure(r);
    first = warm(r);
    pass(r, 300 * SECOND);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    ck_assert_str_eq(state_of(r, 0), "stopped");
    ck_assert_int_eq(r->stopped, 1);
    ask(r, 0);
    ck_assert_str_eq(state_of(r, 0), "starting");
    answer_code(r, START, KG_ETIMEOUT);
    answer_look(r, ENGINE_EXITED); /* that was its former life */
    answer_code(r, START, 0);
    answer_look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    ck_assert_uint_eq(hear(r, GRANT)->instance, first);
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    tell(r, ENGINE_EVENT_DIE); /* of then, told late: looked at first */
    pass(r, 100);
    answer_look(r, ENGINE_RUNNING);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

START_TEST(a_stop_without_an_answer_is_not_kept)
{
    struct rig *r = rig_new(1);

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    configure(r);
    warm(r);
    pass(r, 300 * SECOND);
    hear(r, GONE);
    answer_code(r, STOP, KG_ETIMEOUT);
    answer_look(r, ENGINE_EXITED);
    answer_code(r, REMOVE, 0); /* the order may be carried out yet, in a later life */
    ck_assert_str_eq(state_of(r, 0), "none");
    rig_free(r);
}
END_TEST

START_TEST(a_spare_is_made_frozen_used_and_replaced)
{
    struct rig *r = rig_new(1);
    uint64_t spare;

    r->service.spares = 1;
    r->service.max_instances = 2;
    configure(r);
    spare = until_ready(r); /* nobody asked */
    answer_code(r, PAUSE, 0);
    pass(r, 3600 * SECOND);
    ck_assert_str_eq(state_of(r, 0), "paused"); /* past the idle timeout */
    ask(r, 0);
    ck_assert_uint_eq(hear(r, GRANT)->instance, spare);
    answer_code(r, UNPAUSE, 0);
    until_ready(r);
    answer_code(r, PAUSE, 0);
    ck_assert_str_eq(state_of(r, 1), "paused");
    give_back(r, 0, spare, 1);
    pass(r, 300 * SECOND);
    hear(r, GONE);
    ck_assert_str_eq(state_of(r, 0), "stopping"); /* one is enough */
    ck_assert_str_eq(state_of(r, 1), "paused");
    rig_free(r);
}
END_TEST

/* Rather than one that is made, which would take the place of what is kept. */
START_TEST(what_was_stopped_is_the_next_spare)
{
    struct rig *r = rig_new(1);
    uint64_t first;

    r->service.spares = 1;
    r->service.max_instances = 2;
    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    configure(r);
    first = until_ready(r);
    answer_code(r, PAUSE, 0);
    ask(r, 0);
    hear(r, GRANT);
    answer_code(r, UNPAUSE, 0);
    until_ready(r);
    answer_code(r, PAUSE, 0);
    give_back(r, 0, first, 1);
    pass(r, 300 * SECOND);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    ck_assert_str_eq(state_of(r, 0), "stopped");
    ask(r, 0);
    hear(r, GRANT);
    answer_code(r, UNPAUSE, 0);
    ck_assert_str_eq(expect(r, START)->target, "id-1");
    answer_code(r, START, 0);
    answer_look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    answer_code(r, PAUSE, 0);
    ck_assert_str_eq(state_of(r, 0), "paused");
    ck_assert_str_eq(state_of(r, 1), "ready");
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    rig_free(r);
}
END_TEST

/* Warm it is as ready: no other one is made in its place, now or when it was idle for long. */
START_TEST(a_spare_that_cannot_be_frozen_is_kept_warm)
{
    struct rig *r = rig_new(1);
    uint64_t spare;

    r->service.spares = 1;
    r->service.max_instances = 4;
    configure(r);
    spare = until_ready(r);
    answer_code(r, PAUSE, KG_EIO);
    pass(r, 100);
    answer_look(r, ENGINE_RUNNING);
    pass(r, 3600 * SECOND);
    ck_assert_uint_eq(count_in(r, 0), 1);
    ck_assert_uint_eq(count_calls(r, PAUSE), 1);
    ask(r, 0);
    ck_assert_uint_eq(hear(r, GRANT)->instance, spare);
    until_ready(r); /* another one, beyond what is busy */
    answer_code(r, PAUSE, KG_EIO);
    pass(r, 100);
    answer_look(r, ENGINE_RUNNING);
    pass(r, 3600 * SECOND);
    ck_assert_str_eq(state_of(r, 1), "ready");
    ck_assert_uint_eq(count_in(r, 0), 2);
    give_back(r, 0, spare, 1);
    pass(r, 300 * SECOND);
    ck_assert_uint_eq(count_calls(r, STOP), 1);
    rig_free(r);
}
END_TEST

static void refuse_to_freeze(struct rig *r)
{
    answer_code(r, PAUSE, KG_EIO);
    pass(r, 100);
    answer_look(r, ENGINE_RUNNING);
}

/* Its former life says nothing of this one, and it is not counted twice. */
START_TEST(a_spare_that_was_stopped_and_cannot_be_frozen_is_one)
{
    struct rig *r = rig_new(1);
    uint64_t first;

    r->service.spares = 1;
    r->service.max_instances = 4;
    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    r->service.pause_after_ms = 60 * SECOND;
    configure(r);
    first = until_ready(r);
    refuse_to_freeze(r);
    ask(r, 0);
    hear(r, GRANT);
    until_ready(r);
    refuse_to_freeze(r);
    give_back(r, 0, first, 1);
    pass(r, 60 * SECOND);
    refuse_to_freeze(r);
    pass(r, 240 * SECOND);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    ask(r, 0);
    hear(r, GRANT);
    answer_code(r, START, 0);
    answer_look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    refuse_to_freeze(r);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    r->service.spares = 2;
    configure(r);
    ck_assert_uint_eq(count_calls(r, CREATE), 3);
    rig_free(r);
}
END_TEST

START_TEST(the_least_valuable_goes_when_memory_is_short)
{
    struct rig *r = rig_new(1);
    struct engine_answer weight = {.memory_bytes = 600};

    r->config.service_count = 2;
    r->config.paused_memory_bytes = 1000;
    r->service.pause_after_ms = r->other.pause_after_ms = 10 * SECOND;
    configure(r);
    paused(r);
    answer(expect(r, WEIGH), &weight);
    ck_assert_str_eq(state_of(r, 0), "paused");
    fleet_acquire(r->f, 0, 900, 1, false, r->now_ms);
    give_back(r, 0, (until_ready(r), hear(r, GRANT))->instance, 1);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    answer(expect(r, WEIGH), &weight);
    ck_assert_str_eq(state_of(r, 0), "stopping"); /* unused for longer */
    hear(r, GONE);
    fleet_acquire(r->f, 0, 901, 1, false, r->now_ms);
    ck_assert_int_eq(hear(r, GRANT)->warmth, PROXY_PAUSED);
    rig_free(r);
}
END_TEST

START_TEST(a_weighing_does_not_hold_up_a_request)
{
    struct rig *r = rig_napping();

    r->config.paused_memory_bytes = 1000;
    configure(r);
    paused(r);
    expect(r, WEIGH);
    ask(r, 0);
    hear(r, GRANT);
    expect(r, UNPAUSE);
    rig_free(r);
}
END_TEST

/* Who wakes what is woken already waits for nothing more. */
START_TEST(a_wake_by_hand_while_it_resumes_is_answered)
{
    struct rig *r = rig_napping();

    paused(r);
    for (int n = 1; n <= 2; n++) {
        fleet_wake(r->f, 0, on_done, r, r->now_ms);
        ck_assert_str_eq(state_of(r, 0), "resuming");
        pass(r, 0);
        ck_assert_int_eq(r->done_count, n);
        ck_assert_uint_eq(r->done_reason, 0);
    }
    pass(r, 5 * SECOND);
    answer_code(r, UNPAUSE, 0);
    pass(r, 10 * SECOND - 1); /* a wake is a use: of when it was asked, or resumed */
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    rig_free(r);
}
END_TEST

/* It counts as a use: it is not frozen again at once. */
START_TEST(what_is_woken_by_hand_stays_awake)
{
    struct rig *r = rig_napping();

    paused(r);
    pass(r, 100 * SECOND);
    fleet_wake(r->f, 0, on_done, r, r->now_ms);
    answer_code(r, UNPAUSE, 0);
    pass(r, 10 * SECOND - 1);
    ck_assert_int_eq(r->done_count, 1);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "paused");
    rig_free(r);
}
END_TEST

/* Frozen already, or while it is made: it is no spare any more, and there is another one. */
START_TEST(a_spare_that_is_woken_by_hand_is_none)
{
    struct rig *r = rig_new(1);

    r->service.spares = 1;
    r->service.max_instances = 2;
    configure(r);
    if (_i == 0) {
        until_ready(r);
        answer_code(r, PAUSE, 0);
        pass(r, 3600 * SECOND);
    }
    fleet_wake(r->f, 0, on_done, r, r->now_ms);
    if (_i == 0)
        answer_code(r, UNPAUSE, 0);
    else
        until_ready(r);
    pass(r, 0);
    ck_assert_int_eq(r->done_count, 1);
    ck_assert_str_eq(state_of(r, 0), "ready");
    until_ready(r);
    answer_code(r, PAUSE, 0);
    pass(r, 300 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_str_eq(state_of(r, 1), "paused");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

/* Container and image were removed while it slept: what a first start may pull this one may. */
START_TEST(what_was_stopped_and_vanished_may_be_pulled_again)
{
    struct rig *r = rig_new(1);

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    r->service.pull = CONFIG_PULL_MISSING;
    configure(r);
    ask(r, 0);
    for (int n = 0; n < 2; n++) {
        answer_code(r, CREATE, KG_ENOTFOUND);
        answer_code(r, PULL, 0);
        give_back(r, 0, (until_ready(r), hear(r, GRANT))->instance, 1);
        pass(r, 300 * SECOND);
        hear(r, GONE);
        answer_code(r, STOP, 0);
        ck_assert_str_eq(state_of(r, 0), "stopped");
        ask(r, 0);
        answer_code(r, START, KG_ENOTFOUND);
    }
    rig_free(r);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {a_wake_by_hand_while_it_resumes_is_answered,
                                  what_is_woken_by_hand_stays_awake,
                                  what_was_stopped_and_vanished_may_be_pulled_again,
                                  pauses_then_ends,
                                  a_request_is_granted_while_it_resumes,
                                  each_front_learns_once_that_it_was_frozen,
                                  demand_while_it_is_being_paused,
                                  a_pause_that_is_refused_leaves_it_warm,
                                  a_pause_without_an_answer_ends_it,
                                  a_resume_without_an_answer_is_asked_about,
                                  a_resume_that_never_ends_is_given_up,
                                  it_dies_while_paused,
                                  news_of_our_own_orders_change_nothing,
                                  a_pause_after_the_resume_is_undone,
                                  thawed_by_hand_it_serves,
                                  on_idle_pause_keeps_it,
                                  on_idle_stop_keeps_the_container,
                                  a_stop_without_an_answer_is_not_kept,
                                  a_spare_is_made_frozen_used_and_replaced,
                                  a_spare_that_cannot_be_frozen_is_kept_warm,
                                  what_was_stopped_is_the_next_spare,
                                  a_spare_that_was_stopped_and_cannot_be_frozen_is_one,
                                  the_least_valuable_goes_when_memory_is_short,
                                  a_weighing_does_not_hold_up_a_request};
    Suite *suite = suite_create("fleet_sleep");
    TCase *t = tcase_create("stages");
    SRunner *runner;
    int failed;

    for (size_t n = 0; n < sizeof tests / sizeof *tests; n++)
        tcase_add_test(t, tests[n]);
    tcase_add_loop_test(t, a_spare_that_is_woken_by_hand_is_none, 0, 2);
    tcase_add_loop_test(t, a_pause_that_was_refused_is_tried_after_the_next_use, 0, 2);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
