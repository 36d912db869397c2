/* SPDX-License-Identifier: Apache-2.0 */
/* Services that need others: started in order, held while they are needed, released after. The
 * difficulty: whether it is needed is known elsewhere, and its own clock stands still meanwhile. */
#include "fleet_rig.h"

#define SECOND 1000

/* Three services: a needs b, and with `chain` b needs c. */
static struct rig *rig_needing(bool chain)
{
    static char b[] = "b", c[] = "c", *needs_b[] = {b}, *needs_c[] = {c};
    struct rig *r = rig_new(1);

    r->service.needs = (struct config_strings){.items = needs_b, .count = 1};
    if (chain)
        r->other.needs = (struct config_strings){.items = needs_c, .count = 1};
    r->config.service_count = 3;
    configure(r);
    return r;
}

/* All three, from "c" on. */
static void check_states(struct rig *r, const char *c, const char *b, const char *a)
{
    ck_assert_str_eq(state_in(r, 2, 0), c);
    ck_assert_str_eq(state_in(r, 1, 0), b);
    ck_assert_str_eq(state_in(r, 0, 0), a);
}

START_TEST(needs_of_needs_come_first)
{
    struct rig *r = rig_needing(true);
    uint64_t ticket = ask(r, 0), instance;

    check_states(r, "creating", "none", "none");
    until_ready(r);
    check_states(r, "ready", "creating", "none");
    until_ready(r);
    check_states(r, "ready", "ready", "creating");
    instance = until_ready(r);
    ck_assert_uint_eq(hear(r, GRANT)->ticket, ticket);
    pass(r, 3600 * SECOND);
    check_states(r, "ready", "ready", "ready");
    give_back(r, 0, instance, 1);
    pass(r, 300 * SECOND);
    check_states(r, "ready", "ready", "stopping");
    pass(r, 300 * SECOND);
    check_states(r, "ready", "stopping", "stopping");
    pass(r, 300 * SECOND - 1);
    check_states(r, "ready", "stopping", "stopping");
    pass(r, 1);
    check_states(r, "stopping", "stopping", "stopping");
    rig_free(r);
}
END_TEST

/* It is in use as long as what needs it is there, and has no end until then. */
START_TEST(what_is_needed_is_told_neither_idle_nor_due)
{
    struct rig *r = rig_needing(false);
    struct fleet_view b;
    uint64_t instance;

    ask(r, 0);
    until_ready(r);
    instance = until_ready(r);
    hear(r, GRANT);
    pass(r, 100 * SECOND);
    give_back(r, 0, instance, 1);
    pass(r, 100 * SECOND);
    ck_assert_uint_eq(fleet_view(r->f, 1, &b, 1, r->now_ms), 1);
    ck_assert_int_eq(b.idle_ms, 0);
    ck_assert_int_eq(b.reap_in_ms, -1);
    pass(r, 200 * SECOND);
    pass(r, SECOND);
    fleet_view(r->f, 1, &b, 1, r->now_ms);
    ck_assert_int_eq(b.idle_ms, SECOND);
    ck_assert_int_eq(b.reap_in_ms, 299 * SECOND);
    rig_free(r);
}
END_TEST

START_TEST(the_failure_of_a_need_names_all_between)
{
    struct rig *r = rig_needing(true);
    const struct said *refusal;

    ask(r, 0);
    ask_of(r, 1, 0);
    answer_code(r, CREATE, KG_EIO);
    refusal = hear_refusal(r, ORCH_ENGINE_UNAVAILABLE);
    ck_assert_str_eq(refusal->detail, "service b needs c: service c: "
                                      "the engine could not make the container");
    refusal = hear_refusal(r, ORCH_ENGINE_UNAVAILABLE);
    ck_assert_str_eq(refusal->detail, "service a needs b: service b needs c: service c: "
                                      "the engine could not make the container");
    ck_assert_int_eq(refusal->ms, KG_BACKOFF_FIRST_MS);
    check_states(r, "removing", "none", "none");
    rig_free(r);
}
END_TEST

START_TEST(who_comes_while_a_need_rests_is_told_at_once)
{
    struct rig *r = rig_needing(false);
    const struct said *refusal;

    ask(r, 0);
    answer_code(r, CREATE, KG_EIO);
    hear_refusal(r, ORCH_ENGINE_UNAVAILABLE);
    pass(r, 100);
    ask(r, 0);
    refusal = hear_refusal(r, ORCH_BACKING_OFF);
    ck_assert_str_eq(refusal->detail, "service a: needs b: the engine could not make the "
                                      "container");
    ck_assert_int_eq(refusal->ms, KG_BACKOFF_FIRST_MS - 100);
    check_states(r, "none", "removing", "none");
    rig_free(r);
}
END_TEST

START_TEST(who_leaves_needs_nothing_any_more)
{
    struct rig *r = rig_needing(false);
    uint64_t ticket = ask(r, 0);

    fleet_withdraw(r->f, 0, ticket, r->now_ms);
    fleet_check(r->f);
    until_ready(r); /* it is finished */
    check_states(r, "none", "ready", "none");
    pass(r, 300 * SECOND - 1);
    check_states(r, "none", "ready", "none");
    pass(r, 1);
    check_states(r, "none", "stopping", "none");
    rig_free(r);
}
END_TEST

/* b is needed by a and by c. */
START_TEST(a_need_is_held_until_nobody_needs_it)
{
    struct rig *r = rig_needing(false);
    uint64_t a, c;

    r->third.needs = r->service.needs;
    configure(r);
    ask(r, 0);
    ask_of(r, 2, 0);
    until_ready(r);
    check_states(r, "creating", "ready", "creating");
    a = until_ready(r);
    hear(r, GRANT);
    c = until_ready(r);
    hear(r, GRANT);
    give_back(r, 0, a, 1);
    pass(r, 1000 * SECOND);
    give_back(r, 0, c, 1);
    check_states(r, "ready", "ready", "stopping");
    pass(r, 300 * SECOND);
    check_states(r, "stopping", "ready", "stopping");
    pass(r, 300 * SECOND - 1);
    check_states(r, "stopping", "ready", "stopping");
    pass(r, 1);
    check_states(r, "stopping", "stopping", "stopping");
    rig_free(r);
}
END_TEST

START_TEST(a_need_that_dies_is_made_good)
{
    struct rig *r = rig_needing(false);

    ask(r, 0);
    until_ready(r), until_ready(r);
    hear(r, GRANT);
    tell_of(r, 1, ENGINE_EVENT_DIE);
    ck_assert_str_eq(state_in(r, 1, 0), "removing");
    ck_assert_str_eq(state_in(r, 1, 1), "creating");
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

START_TEST(a_reload_changes_what_is_needed)
{
    struct rig *r = rig_needing(false);
    const struct config_strings needs = r->service.needs;

    ask(r, 0);
    until_ready(r), until_ready(r);
    hear(r, GRANT);
    pass(r, 1000 * SECOND);
    ask_of(r, 1, 0);
    give_back(r, 0, hear(r, GRANT)->instance, 1);
    r->service.needs.count = 0;
    configure(r);
    pass(r, 300 * SECOND - 1);
    check_states(r, "none", "ready", "ready");
    pass(r, 1);
    check_states(r, "none", "stopping", "ready");
    hear(r, GONE);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    r->service.needs = needs; /* and again, while it is in use */
    configure(r);
    check_states(r, "none", "creating", "ready");
    until_ready(r);
    pass(r, 1000 * SECOND);
    check_states(r, "none", "ready", "ready");
    rig_free(r);
}
END_TEST

/* Who has waited too long for what needs it is told, too; who has just come is not. */
START_TEST(a_need_that_changes_faster_than_it_starts_ends_the_wait)
{
    struct rig *r = rig_needing(false);
    struct config_service changed[3];
    uint64_t here = ask_of(r, 1, 0), above = ask(r, 0);
    const struct said *refusal;

    for (int i = 0; i < 3; i++) {
        until_probed(r);
        pass(r, 10 * SECOND);
        if (i == 2)
            ask(r, 0);
        hear_nothing(r);
        changed[i] = r->other;
        snprintf(changed[i].spec, sizeof changed[i].spec, "spec-%d", i);
        r->services[1] = &changed[i];
        configure(r);
        hear(r, PROBE_STOP);
        hear(r, GONE);
        if (i < 2)
            answer_code(r, REMOVE, 0);
    }
    ck_assert_uint_eq(hear_refusal(r, ORCH_START_TIMEOUT)->ticket, here);
    refusal = hear_refusal(r, ORCH_START_TIMEOUT);
    ck_assert_uint_eq(refusal->ticket, above);
    ck_assert_str_eq(refusal->detail,
                     "service a: not ready in time: what it needs changed before it had started");
    hear_nothing(r);
    answer_code(r, REMOVE, 0);
    until_ready(r);
    until_ready(r);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

/* Nobody waits for the need itself, nor for what is between. */
START_TEST(a_need_of_a_need_that_changes_ends_the_wait)
{
    struct rig *r = rig_needing(true);
    struct config_service changed[3];
    uint64_t above = ask(r, 0);

    for (int i = 0; i < 3; i++) {
        hear_nothing(r);
        until_probed(r);
        pass(r, 10 * SECOND);
        changed[i] = r->third;
        snprintf(changed[i].spec, sizeof changed[i].spec, "spec-%d", i);
        r->services[2] = &changed[i];
        configure(r);
        hear(r, PROBE_STOP);
        hear(r, GONE);
        if (i < 2)
            answer_code(r, REMOVE, 0);
    }
    ck_assert_uint_eq(hear_refusal(r, ORCH_START_TIMEOUT)->ticket, above);
    rig_free(r);
}
END_TEST

/* Two services on each floor, each of which needs both of the floor below: there are more ways up
 * than could ever be gone. */
START_TEST(many_ways_to_a_need_are_gone_once)
{
    enum { FLOORS = 60, COUNT = 2 * FLOORS };
    static struct config_service all[COUNT], changed[4], *list[COUNT];
    static char names[COUNT][8], *needs[FLOORS][2];
    struct rig *r = rig_closed(1);

    for (int n = 0; n < COUNT; n++) {
        snprintf(names[n], sizeof names[n], "s%d", n);
        fill_service(r, &all[n], names[n]);
        needs[n / 2][n % 2] = names[n];
        if (n >= 2)
            all[n].needs = (struct config_strings){.items = needs[n / 2 - 1], .count = 2};
        list[n] = &all[n];
    }
    r->config.services = list;
    r->config.service_count = COUNT;
    configure(r);
    engine_up(r);
    ask_of(r, (uint32_t)fleet_service_id(r->f, names[COUNT - 1]), 0);
    for (int n = 0; _i == 1 && n < 4; n++) { /* for its changes; else for its failure */
        changed[n] = all[n % 2];
        snprintf(changed[n].spec, sizeof changed[n].spec, "other-%d", n);
        list[n % 2] = &changed[n];
        if (n % 2 == 0)
            continue;
        pass(r, 20 * SECOND);
        hear_nothing(r);
        configure(r);
    }
    if (_i == 0)
        answer_code(r, CREATE, KG_EIO);
    hear_refusal(r, _i == 0 ? ORCH_ENGINE_UNAVAILABLE : ORCH_START_TIMEOUT);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(what_is_kept_ready_has_its_needs)
{
    struct rig *r = rig_needing(true);

    r->service.min_instances = 1;
    configure(r);
    check_states(r, "creating", "none", "none");
    until_ready(r), until_ready(r), until_ready(r);
    pass(r, 24 * 3600 * SECOND);
    check_states(r, "ready", "ready", "ready");
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(a_paused_need_is_enough)
{
    struct rig *r = rig_needing(false);

    r->other.pause_after_ms = 10 * SECOND;
    configure(r);
    ask_of(r, 1, 0);
    until_ready(r);
    give_back(r, 0, hear(r, GRANT)->instance, 1);
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    ask(r, 0);
    expect(r, UNPAUSE); /* both at once: it can be reached while it resumes */
    check_states(r, "none", "resuming", "creating");
    rig_free(r);
}
END_TEST

/* In use as it changes, it is made anew at once; but not before what it needs from then on. */
START_TEST(what_it_comes_to_need_is_ready_before_its_next_start)
{
    struct rig *r = rig_needing(false);
    struct config_service changed[2] = {r->service, r->other};

    if (_i == 0)
        r->service.needs.count = 0;
    configure(r);
    ask(r, 0);
    for (int n = 0; n <= _i; n++)
        until_ready(r);
    hear(r, GRANT);
    for (int n = 0; n <= _i; n++) { /* it alone; or both */
        snprintf(changed[n].spec, sizeof changed[n].spec, "other-%d", n);
        r->services[n] = &changed[n];
    }
    configure(r);
    r->said_read = r->said_count;
    ck_assert_str_eq(state_of(r, 0), "draining");
    ck_assert_str_eq(state_of(r, 1), "none");
    ck_assert_str_eq(state_in(r, 1, (size_t)_i), "creating");
    until_ready(r);
    ck_assert_str_eq(state_of(r, 1), "creating");
    until_ready(r);
    ck_assert_str_eq(state_of(r, 1), "ready");
    rig_free(r);
}
END_TEST

/* Nobody asks for it, so it is not worth a second try. */
START_TEST(a_need_that_fails_ends_the_making_anew)
{
    struct rig *r = rig_needing(false);
    struct config_service changed = r->service;
    uint64_t instance;

    r->service.needs.count = 0;
    configure(r);
    ask(r, 0);
    until_ready(r);
    instance = hear(r, GRANT)->instance;
    snprintf(changed.spec, sizeof changed.spec, "another");
    r->services[0] = &changed;
    configure(r);
    give_back(r, 0, instance, 1);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    answer_code(r, CREATE, KG_EIO);
    answer_look(r, ENGINE_NONE);
    pass(r, 3600 * SECOND);
    check_states(r, "none", "none", "none");
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    r->said_read = r->said_count;
    ask(r, 0); /* but for who comes */
    until_ready(r);
    until_ready(r);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

/* Another one could not be made: that is no reason to let this one sleep. */
START_TEST(a_need_that_rests_is_resumed)
{
    struct rig *r = rig_needing(false);

    r->other.max_instances = 2;
    r->other.pause_after_ms = 100;
    configure(r);
    ask_of(r, 1, 0);
    until_ready(r);
    hear(r, GRANT);
    ask_of(r, 1, 0);
    give_back(r, 0, 1, 1);
    hear(r, GRANT);
    give_back(r, 0, 1, 1);
    answer_code(r, CREATE, KG_EIO);
    pass(r, 100);
    answer_code(r, PAUSE, 0);
    ask(r, 0);
    hear_nothing(r);
    expect(r, UNPAUSE);
    rig_free(r);
}
END_TEST

START_TEST(woken_by_hand_it_has_its_needs)
{
    struct rig *r = rig_needing(false);

    fleet_wake(r->f, 0, on_done, r, r->now_ms);
    fleet_check(r->f);
    check_states(r, "none", "creating", "none");
    until_ready(r);
    pass(r, 1);
    ck_assert_int_eq(r->done_count, 0);
    until_ready(r);
    pass(r, 1);
    ck_assert_int_eq(r->done_count, 1);
    ck_assert_uint_eq(r->done_reason, 0);
    rig_free(r);
}
END_TEST

/* By a reload, like by the end of the use: its idle clock begins then, however long it was held. */
START_TEST(let_go_by_a_reload_it_idles_from_then)
{
    struct rig *r = rig_needing(false);

    ask(r, 0);
    until_ready(r), until_ready(r);
    hear(r, GRANT);
    pass(r, 1000 * SECOND);
    if (_i == 0) {
        r->service.needs.count = 0;
    } else { /* it drains, and its worker is in use yet */
        r->services[0] = &r->other;
        r->config.service_count = 1;
    }
    configure(r);
    pass(r, 300 * SECOND - 1);
    ck_assert_str_eq(state_in(r, 1, 0), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_in(r, 1, 0), "stopping");
    rig_free(r);
}
END_TEST

/* An exchange of what was sent to sleep is open yet: its worker still needs what it needs. */
START_TEST(what_drains_holds_its_needs)
{
    struct rig *r = rig_needing(false);
    uint64_t instance;

    ask(r, 0);
    until_ready(r), until_ready(r);
    instance = hear(r, GRANT)->instance;
    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    pass(r, 1000 * SECOND);
    check_states(r, "none", "ready", "draining");
    give_back(r, 0, instance, 1);
    pass(r, 300 * SECOND - 1);
    check_states(r, "none", "ready", "stopping");
    pass(r, 1);
    check_states(r, "none", "stopping", "stopping");
    rig_free(r);
}
END_TEST

static int64_t saved_ms; /* of "b", for the next run; KG_NEVER: in use */

static void save_clock(void *arg, const char *name, int64_t used_ms, bool in_use)
{
    (void)arg;
    if (strncmp(name, "kipgate-b-", 10) == 0)
        saved_ms = in_use ? KG_NEVER : used_ms;
}

/* What the next run is told of it: the last one who needs it may be gone by then. */
START_TEST(what_is_needed_is_written_as_in_use)
{
    struct rig *r = rig_needing(false);
    unsigned changes;

    ask(r, 0);
    until_ready(r), until_ready(r);
    give_back(r, 0, hear(r, GRANT)->instance, 1);
    pass(r, 100 * SECOND);
    fleet_each_clock(r->f, save_clock, NULL);
    ck_assert_int_eq(saved_ms, KG_NEVER);
    changes = r->clock_changes;
    r->service.needs.count = 0;
    configure(r);
    ck_assert_uint_gt(r->clock_changes, changes);
    fleet_each_clock(r->f, save_clock, NULL);
    ck_assert_int_eq(saved_ms, r->now_ms);
    rig_free(r);
}
END_TEST

static struct engine_container found_of(struct rig *r, unsigned n,
                                        const struct config_service *service, const char *name)
{
    struct engine_container c = box(r, n, name, ENGINE_RUNNING);

    snprintf(c.service, sizeof c.service, "%s", service->name);
    snprintf(c.spec, sizeof c.spec, "%s", service->spec);
    return c;
}

static void say_look(struct rig *r, const struct engine_container *c)
{
    for (size_t n = 0; n < r->call_count; n++)
        if (!r->calls[n].answered && strcmp(r->calls[n].target, c->id) == 0) {
            answer(&r->calls[n], &(const struct engine_answer){.container = *c});
            fleet_check(r->f);
            return;
        }
    ck_abort_msg("nobody looks at %s", c->id);
}

/* After a restart it is known before what needs it is: it waits for that, however long ago it was
 * used, and goes if it turns out that nobody does. */
START_TEST(a_need_that_is_found_first_waits_for_who_needs_it)
{
    struct rig *r = rig_closed(1);
    char *need = r->other.name;
    struct engine_container all[2];

    r->service.needs = (struct config_strings){.items = &need, .count = 1};
    r->config.service_count = 2;
    configure(r);
    fleet_remember(r->f, "kipgate-b-0123456789", r->now_ms - 500 * SECOND);
    fleet_remember(r->f, "kipgate-a-0123456789", r->now_ms);
    all[0] = found_of(r, 1, &r->other, "kipgate-b-0123456789");
    all[1] = found_of(r, 2, &r->service, "kipgate-a-0123456789");
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, all, 2, r->now_ms, r->now_ms);
    say_look(r, &all[0]);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    pass(r, 5);
    ck_assert_str_eq(state_in(r, 1, 0), "ready");
    if (_i > 0)
        all[1].state = ENGINE_EXITED;
    say_look(r, &all[1]);
    pass(r, 5);
    ck_assert_str_eq(state_in(r, 1, 0), _i > 0 ? "stopping" : "ready");
    rig_free(r);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        needs_of_needs_come_first,
        what_is_needed_is_told_neither_idle_nor_due,
        the_failure_of_a_need_names_all_between,
        who_comes_while_a_need_rests_is_told_at_once,
        who_leaves_needs_nothing_any_more,
        a_need_is_held_until_nobody_needs_it,
        a_need_that_dies_is_made_good,
        a_reload_changes_what_is_needed,
        a_need_that_changes_faster_than_it_starts_ends_the_wait,
        a_need_of_a_need_that_changes_ends_the_wait,
        what_is_kept_ready_has_its_needs,
        a_need_that_fails_ends_the_making_anew,
        a_need_that_rests_is_resumed,
        a_paused_need_is_enough,
        woken_by_hand_it_has_its_needs,
        what_drains_holds_its_needs,
        what_is_needed_is_written_as_in_use,
    };
    Suite *suite = suite_create("fleet_needs");
    TCase *t = tcase_create("needs");
    SRunner *runner;
    int failed;

    for (size_t n = 0; n < sizeof tests / sizeof *tests; n++)
        tcase_add_test(t, tests[n]);
    tcase_add_loop_test(t, many_ways_to_a_need_are_gone_once, 0, 2);
    tcase_add_loop_test(t, what_it_comes_to_need_is_ready_before_its_next_start, 0, 2);
    tcase_add_loop_test(t, let_go_by_a_reload_it_idles_from_then, 0, 2);
    tcase_add_loop_test(t, a_need_that_is_found_first_waits_for_who_needs_it, 0, 2);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
