/* SPDX-License-Identifier: Apache-2.0 */
/* Several instances of a service, and services that need others. The difficulty: what waits, what
 * starts and what is only lent must each be counted once. */
#include "fleet_rig.h"

#define SECOND 1000

static struct rig *rig_many(int fronts, int max, int concurrency)
{
    struct rig *r = rig_new(fronts);

    r->service.max_instances = max;
    r->service.concurrency = concurrency;
    configure(r);
    return r;
}

static size_t instances(struct rig *r)
{
    struct fleet_view views[8];

    return fleet_view(r->f, 0, views, 8, r->now_ms);
}

static void recalled(struct rig *r, int front, uint64_t instance, unsigned slots)
{
    fleet_return(r->f, front, instance, slots, r->now_ms, true, r->now_ms);
    fleet_check(r->f);
}

START_TEST(as_many_as_those_who_wait_need)
{
    struct rig *r = rig_many(1, 3, 2);

    ask(r, 0);
    ask(r, 0);
    ck_assert_uint_eq(instances(r), 1);
    ask(r, 0);
    ck_assert_uint_eq(instances(r), 2);
    ask(r, 0);
    ck_assert_uint_eq(instances(r), 2);
    for (int n = 0; n < 10; n++)
        ask(r, 0);
    ck_assert_uint_eq(instances(r), 3); /* there may be no more */
    rig_free(r);
}
END_TEST

START_TEST(what_is_lent_and_idle_comes_first)
{
    struct rig *r = rig_many(2, 2, 1);
    uint64_t instance = warm(r);

    ask(r, 0);
    hear(r, GRANT);
    ask(r, 1);
    hear(r, RECALL);
    ck_assert_uint_eq(instances(r), 1); /* front 0 may be done with it */
    recalled(r, 0, instance, 1);
    ck_assert_int_eq(hear(r, GRANT)->front, 1);
    ck_assert_uint_eq(instances(r), 1);
    ask(r, 0);
    hear(r, RECALL);
    recalled(r, 1, instance, 0); /* it is not */
    ck_assert_uint_eq(instances(r), 2);
    rig_free(r);
}
END_TEST

START_TEST(a_front_that_says_nothing_holds_nobody_up)
{
    struct rig *r = rig_many(2, 2, 1);

    warm(r);
    ask(r, 0);
    hear(r, GRANT);
    ask(r, 1);
    hear(r, RECALL);
    pass(r, 49);
    ck_assert_uint_eq(instances(r), 1);
    pass(r, 1);
    ck_assert_uint_eq(instances(r), 2);
    rig_free(r);
}
END_TEST

/* Two instances with two slots each, all free. */
static void two_ready(struct rig *r, uint64_t ids[2])
{
    for (int n = 0; n < 3; n++)
        ask(r, 0);
    ids[0] = until_ready(r);
    hear(r, GRANT);
    hear(r, GRANT);
    ids[1] = until_ready(r);
    hear(r, GRANT);
    give_back(r, 0, ids[0], 2);
    give_back(r, 0, ids[1], 1);
    hear_nothing(r);
}

START_TEST(the_least_loaded_is_granted_one_slot_at_a_time)
{
    struct rig *r = rig_many(1, 2, 2);
    uint64_t ids[2];

    r->config.service_count = 1;
    two_ready(r, ids);
    for (int n = 0; n < 4; n++) {
        ask(r, 0);
        ck_assert_uint_eq(r->said[r->said_read].slots, 1);
        ck_assert_uint_eq(hear(r, GRANT)->instance, ids[n % 2]);
    }
    ask(r, 0);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(who_waits_goes_on_waiting_while_another_serves)
{
    struct rig *r = rig_many(1, 2, 1);
    uint64_t first = warm(r);

    ask(r, 0);
    hear(r, GRANT);
    ask(r, 0);
    answer_created(r);
    answer_code(r, START, KG_EIO); /* the second one cannot be had */
    ck_assert_uint_eq(fleet_waiting(r->f, 0), 1);
    hear_nothing(r);
    give_back(r, 0, first, 1);
    ck_assert_uint_eq(hear(r, GRANT)->instance, first);
    rig_free(r);
}
END_TEST

START_TEST(those_that_fail_together_fail_as_one)
{
    struct rig *r = rig_many(1, 2, 1);

    ask(r, 0);
    ask(r, 0);
    ck_assert_uint_eq(instances(r), 2);
    answer_code(r, CREATE, KG_EIO);
    hear_nothing(r); /* there is hope yet */
    answer_code(r, CREATE, KG_EIO);
    ck_assert_int_eq(hear_refusal(r, ORCH_ENGINE_UNAVAILABLE)->ms, KG_BACKOFF_FIRST_MS);
    hear_refusal(r, ORCH_ENGINE_UNAVAILABLE);
    rig_free(r);
}
END_TEST

START_TEST(kept_ready_and_replaced)
{
    struct rig *r = rig_new(1);

    r->service.min_instances = 1;
    configure(r);
    until_ready(r); /* nobody asked */
    pass(r, 3600 * SECOND);
    ck_assert_str_eq(state_of(r, 0), "ready");
    tell(r, ENGINE_EVENT_DIE);
    hear(r, GONE);
    ck_assert_str_eq(state_of(r, 0), "removing");
    ck_assert_str_eq(state_of(r, 1), "creating");
    r->service.min_instances = 0;
    configure(r);
    answer_code(r, REMOVE, 0);
    until_ready(r);
    pass(r, 300 * SECOND);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

START_TEST(sent_to_sleep_it_sleeps_until_it_is_wanted)
{
    struct rig *r = rig_new(1);

    r->service.min_instances = 1;
    configure(r);
    until_ready(r);
    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    pass(r, SECOND);
    ck_assert_int_eq(r->done_count, 1);
    ck_assert_str_eq(state_of(r, 0), "none");
    ask(r, 0);
    ck_assert_str_eq(state_of(r, 0), "creating");
    rig_free(r);
}
END_TEST

START_TEST(fewer_when_fewer_were_enough)
{
    struct rig *r = rig_many(1, 2, 2);
    uint64_t ids[2];

    two_ready(r, ids);
    for (int n = 0; n < 299; n++) { /* one request a second */
        pass(r, SECOND);
        ask(r, 0);
        give_back(r, 0, hear(r, GRANT)->instance, 1);
        ck_assert_uint_eq(instances(r), 2);
    }
    pass(r, 2 * SECOND);
    ck_assert_uint_eq(hear(r, GONE)->instance, ids[1]); /* the youngest */
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_str_eq(state_of(r, 1), "stopping");
    rig_free(r);
}
END_TEST

START_TEST(a_lower_cap_drains)
{
    struct rig *r = rig_many(1, 2, 2);
    uint64_t ids[2];

    two_ready(r, ids);
    r->service.max_instances = 1;
    configure(r);
    ck_assert_uint_eq(hear(r, GONE)->instance, ids[1]);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

/* --- needs --- */

/* Service a (0) needs b (1). */
static struct rig *rig_needing(void)
{
    static char name[] = "b", *names[] = {name};
    struct rig *r = rig_new(1);

    r->service.needs = (struct config_strings){.items = names, .count = 1};
    r->config.service_count = 2;
    configure(r);
    return r;
}

static const char *other_state(struct rig *r)
{
    static struct fleet_view v;

    return fleet_view(r->f, 1, &v, 1, r->now_ms) > 0 ? v.state : "none";
}

START_TEST(what_is_needed_is_ready_first_and_held)
{
    struct rig *r = rig_needing();
    uint64_t instance;

    ask(r, 0);
    ck_assert_str_eq(other_state(r), "creating");
    ck_assert_str_eq(state_of(r, 0), "none");
    until_ready(r);
    ck_assert_str_eq(state_of(r, 0), "creating");
    instance = until_ready(r);
    hear(r, GRANT);
    pass(r, 3600 * SECOND); /* a long exchange, and nobody asks for b */
    ck_assert_str_eq(other_state(r), "ready");
    give_back(r, 0, instance, 1);
    pass(r, 300 * SECOND);
    hear(r, GONE);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    ck_assert_str_eq(other_state(r), "ready"); /* its own clock begins now */
    answer_code(r, STOP, 0);
    pass(r, 300 * SECOND - 1);
    ck_assert_str_eq(other_state(r), "ready");
    pass(r, 1);
    ck_assert_str_eq(other_state(r), "stopping");
    rig_free(r);
}
END_TEST

START_TEST(a_need_that_fails_is_the_reason)
{
    struct rig *r = rig_needing();
    const struct said *refusal;

    ask(r, 0);
    answer_code(r, CREATE, KG_EIO);
    refusal = hear_refusal(r, ORCH_ENGINE_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(refusal->detail, "service a needs b"));
    ask(r, 0); /* while it rests */
    refusal = hear_refusal(r, ORCH_BACKING_OFF);
    ck_assert_ptr_nonnull(strstr(refusal->detail, "needs b"));
    ck_assert_int_gt(refusal->ms, 0);
    ck_assert_str_eq(state_of(r, 0), "none");
    rig_free(r);
}
END_TEST

START_TEST(who_leaves_releases_what_was_needed)
{
    struct rig *r = rig_needing();
    uint64_t ticket = ask(r, 0);

    fleet_withdraw(r->f, 0, ticket, r->now_ms);
    until_ready(r); /* it is finished */
    ck_assert_str_eq(state_of(r, 0), "none");
    pass(r, 300 * SECOND);
    ck_assert_str_eq(other_state(r), "stopping");
    rig_free(r);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {as_many_as_those_who_wait_need,
                                  what_is_lent_and_idle_comes_first,
                                  a_front_that_says_nothing_holds_nobody_up,
                                  the_least_loaded_is_granted_one_slot_at_a_time,
                                  who_waits_goes_on_waiting_while_another_serves,
                                  those_that_fail_together_fail_as_one,
                                  kept_ready_and_replaced,
                                  sent_to_sleep_it_sleeps_until_it_is_wanted,
                                  fewer_when_fewer_were_enough,
                                  a_lower_cap_drains,
                                  what_is_needed_is_ready_first_and_held,
                                  a_need_that_fails_is_the_reason,
                                  who_leaves_releases_what_was_needed};
    Suite *suite = suite_create("fleet_many");
    TCase *t = tcase_create("several");
    SRunner *runner;
    int failed;

    for (size_t n = 0; n < sizeof tests / sizeof *tests; n++)
        tcase_add_test(t, tests[n]);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
