/* SPDX-License-Identifier: Apache-2.0 */
/* Leases: who holds how many slots, when they are recalled, and what becomes of lies.
 * The difficulty: the sum over all fronts is exact at every moment. */
#include "fleet_rig.h"

static struct rig *rig_with(int fronts, int concurrency)
{
    struct rig *r = rig_closed(fronts);

    r->service.concurrency = concurrency;
    configure(r);
    engine_up(r);
    return r;
}

START_TEST(extra_slots_are_a_share_and_never_too_many)
{
    struct rig *r = rig_with(2, 10);
    unsigned out = 0;

    ask(r, 0);
    until_ready(r);
    ck_assert_uint_eq(hear(r, GRANT)->slots, 5); /* nobody else waits: half of ten */
    ask(r, 0);
    ck_assert_uint_eq(hear(r, GRANT)->slots, 1); /* it has its share: what it asks for */
    ask(r, 1);
    ck_assert_uint_eq(hear(r, GRANT)->slots, 4); /* what is left */
    ask(r, 1);
    hear(r, RECALL); /* of front 0's: those of front 1 are its own to use */
    hear_nothing(r);
    for (size_t n = 0; n < r->said_count; n++)
        out += r->said[n].slots;
    ck_assert_uint_eq(out, 10);
    rig_free(r);
}
END_TEST

START_TEST(recall_is_sent_once_until_it_is_paid)
{
    struct rig *r = rig_with(2, 2);
    uint64_t instance;

    ask(r, 0);
    ask(r, 0);
    instance = until_ready(r);
    hear(r, GRANT);
    hear(r, GRANT);
    ask(r, 1);
    ck_assert_int_eq(hear(r, RECALL)->front, 0);
    ask(r, 1);
    hear_nothing(r); /* all of it is recalled already */
    give_back(r, 0, instance, 1);
    ck_assert_int_eq(hear(r, GRANT)->front, 1);
    give_back(r, 0, instance, 1);
    ck_assert_int_eq(hear(r, GRANT)->front, 1);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

/* concurrency 1, four fronts, each with three requests: first come, first served over all. */
START_TEST(fair_over_fronts)
{
    struct rig *r = rig_with(4, 1);
    uint64_t instance;

    for (int n = 0; n < 12; n++)
        ask(r, n % 4);
    instance = until_ready(r);
    for (uint64_t n = 1; n <= 12; n++) {
        struct said *s = hear(r, GRANT);
        int front = s->front;
        ck_assert_uint_eq(s->ticket, n);
        ck_assert_uint_eq(s->slots, 1);
        if (n < 12) /* others wait: it is to come back at once */
            ck_assert_int_eq(hear(r, RECALL)->front, front);
        give_back(r, front, instance, 1);
    }
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(a_front_that_waits_alone_keeps_its_slots)
{
    struct rig *r = rig_with(2, 1);

    for (int n = 0; n < 5; n++)
        ask(r, 0);
    until_ready(r);
    hear(r, GRANT);
    hear_nothing(r); /* it serves its own from what it has, and withdraws them */
    for (uint64_t ticket = 2; ticket <= 5; ticket++)
        fleet_withdraw(r->f, 0, ticket, r->now_ms);
    fleet_check(r->f);
    ck_assert_uint_eq(fleet_waiting(r->f, 0), 0);
    rig_free(r);
}
END_TEST

START_TEST(over_return_is_cut)
{
    struct rig *r = rig_with(2, 3);
    uint64_t instance;
    struct fleet_view v;

    ask(r, 0);
    ask(r, 1);
    instance = until_ready(r);
    ck_assert_uint_eq(hear(r, GRANT)->slots, 1);
    ck_assert_uint_eq(hear(r, GRANT)->slots, 1);
    give_back(r, 0, instance, 1000);
    fleet_view(r->f, 0, &v, 1, r->now_ms);
    ck_assert_uint_eq(v.slots_out, 1); /* front 1's is its own */
    give_back(r, 0, instance, 1);
    give_back(r, 0, instance + 1, 1);
    fleet_view(r->f, 0, &v, 1, r->now_ms);
    ck_assert_uint_eq(v.slots_out, 1);
    rig_free(r);
}
END_TEST

START_TEST(use_in_the_future_is_now)
{
    struct rig *r = rig_with(1, 1);
    uint64_t instance;

    ask(r, 0);
    instance = until_ready(r);
    fleet_return(r->f, 0, instance, 1, r->now_ms + 1000000, false, r->now_ms);
    pass(r, 299999);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

START_TEST(an_unused_lease_does_not_move_the_clock)
{
    struct rig *r = rig_with(1, 1);
    uint64_t instance = warm(r);

    pass(r, 299000);
    fleet_acquire(r->f, 0, 99, 0, true, r->now_ms);
    pass(r, 500);
    fleet_return(r->f, 0, instance, 1, 0, false, r->now_ms); /* quiet: not used */
    pass(r, 499);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

START_TEST(a_dead_front_is_void)
{
    struct rig *r = rig_with(2, 1);
    uint64_t instance;

    ask(r, 0);
    ask(r, 0);
    ask(r, 1);
    instance = until_ready(r);
    hear(r, GRANT);
    hear(r, RECALL);
    fleet_front_down(r->f, 0, r->now_ms); /* its slot is free, its other ticket void */
    fleet_check(r->f);
    ck_assert_uint_eq(hear(r, GRANT)->ticket, 3);
    give_back(r, 0, instance, 1); /* whoever says this holds nothing */
    give_back(r, 1, instance, 1);
    pass(r, 300000);
    ck_assert_int_eq(hear(r, GONE)->front, 1); /* front 0 is not there to be told */
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(another_front_takes_over_the_probe)
{
    struct rig *r = rig_with(2, 1);
    uint64_t instance;

    ask(r, 1);
    instance = until_probed(r);
    ck_assert_int_eq(r->said[0].front, 1); /* where the request waits */
    fleet_front_down(r->f, 1, r->now_ms);
    ck_assert_int_eq(hear(r, PROBE)->front, 0);
    fleet_probed(r->f, 1, instance, r->now_ms); /* not asked any more */
    ck_assert_str_eq(state_of(r, 0), "probing");
    fleet_front_down(r->f, 0, r->now_ms);
    fleet_check(r->f);
    fleet_front_up(r->f, 0, r->now_ms);
    ck_assert_int_eq(hear(r, PROBE)->front, 0);
    fleet_probed(r->f, 0, instance, r->now_ms);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

START_TEST(a_ticket_said_twice_is_one)
{
    struct rig *r = rig_with(1, 1);

    fleet_acquire(r->f, 0, 7, 0, false, r->now_ms);
    fleet_acquire(r->f, 0, 7, 0, false, r->now_ms);
    ck_assert_uint_eq(fleet_waiting(r->f, 0), 1);
    fleet_withdraw(r->f, 0, 8, r->now_ms); /* never asked */
    fleet_withdraw(r->f, 0, 7, r->now_ms);
    fleet_withdraw(r->f, 0, 7, r->now_ms);
    ck_assert_uint_eq(fleet_waiting(r->f, 0), 0);
    until_ready(r); /* it is finished; idleness takes it */
    hear_nothing(r);
    rig_free(r);
}
END_TEST

/* --- reconfiguration --- */

START_TEST(a_changed_spec_drains_and_replaces)
{
    struct rig *r = rig_with(1, 1);
    struct config_service changed;
    uint64_t old, next;

    ask(r, 0);
    old = until_ready(r);
    hear(r, GRANT);
    changed = r->service;
    snprintf(changed.spec, sizeof changed.spec, "another-spec");
    r->services[0] = &changed;
    configure(r);
    hear(r, RECALL);
    ck_assert_str_eq(state_of(r, 0), "draining");
    ck_assert_str_eq(state_of(r, 1), "creating"); /* it was in use: the next is made at once */
    ask(r, 0);
    hear_nothing(r);
    next = until_ready(r);
    ck_assert_uint_ne(next, old);
    ck_assert_uint_eq(hear(r, GRANT)->instance, next);
    pass(r, 3600000); /* a long exchange on the old one is let finish */
    ck_assert_str_eq(state_of(r, 0), "draining");
    give_back(r, 0, old, 1);
    ck_assert_uint_eq(hear(r, GONE)->instance, old);
    expect(r, STOP);
    rig_free(r);
}
END_TEST

/* Each change begins the start anew, with a time of its own; the wait ends all the same. */
/* One waits from the beginning, and one comes just before the last change. */
START_TEST(changes_faster_than_a_start_end_the_wait)
{
    struct rig *r = rig_with(1, 1);
    struct config_service changed[3];
    uint64_t first = ask(r, 0);

    for (int i = 0; i < 3; i++) {
        until_probed(r);
        pass(r, 10000);
        if (i == 2)
            ask(r, 0);
        hear_nothing(r);
        changed[i] = r->service;
        snprintf(changed[i].spec, sizeof changed[i].spec, "spec-%d", i);
        r->services[0] = &changed[i];
        configure(r);
        hear(r, PROBE_STOP);
        hear(r, GONE);
        if (i < 2)
            answer_code(r, REMOVE, 0);
    }
    ck_assert_uint_eq(hear_refusal(r, ORCH_START_TIMEOUT)->ticket, first);
    hear_nothing(r); /* the other one has its own time */
    answer_code(r, REMOVE, 0);
    until_probed(r);
    pass(r, 29999);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(an_unchanged_spec_keeps_instance_and_clock)
{
    struct rig *r = rig_with(1, 1);
    struct config_service copy;

    warm(r);
    pass(r, 100000);
    copy = r->service;
    copy.idle_timeout_ms = 150000;
    r->services[0] = &copy;
    configure(r);
    memset(&r->service, 0x5a, sizeof r->service); /* the old one may be freed now */
    pass(r, 49999);
    hear_nothing(r);
    pass(r, 1);
    hear(r, GONE);
    rig_free(r);
}
END_TEST

/* A health check that was put right serves those who wait already. */
START_TEST(a_changed_health_check_is_asked_of_what_starts)
{
    struct rig *r = rig_with(1, 1);
    struct config_service copy = r->service, next = r->service;
    uint64_t instance;

    ask(r, 0);
    instance = until_probed(r);
    configure(r);
    hear_nothing(r);
    snprintf(copy.health.path, sizeof copy.health.path, "/up");
    r->services[0] = &copy;
    configure(r);
    ck_assert_uint_eq(hear(r, PROBE)->instance, instance);
    fleet_probed(r->f, 0, instance, r->now_ms);
    hear(r, PROBE_STOP); /* it may have been asked after it had answered */
    hear(r, GRANT);
    r->services[0] = &next; /* it is ready, and not asked any more */
    configure(r);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(a_removed_service_refuses_and_drains)
{
    struct rig *r = rig_with(1, 1);
    uint64_t instance;

    r->config.service_count = 2;
    configure(r);
    ask(r, 0);
    ask(r, 0);
    instance = until_ready(r);
    hear(r, GRANT);
    r->services[0] = &r->other;
    r->config.service_count = 1;
    configure(r);
    hear(r, RECALL);
    hear_refusal(r, PROXY_NO_ROUTE);
    ck_assert_int_eq(fleet_service_id(r->f, "a"), -1);
    ck_assert_int_eq(fleet_service_id(r->f, "b"), 1);
    give_back(r, 0, instance, 1);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    r->services[1] = &r->service; /* and it comes back under its number */
    r->config.service_count = 2;
    configure(r);
    ck_assert_int_eq(fleet_service_id(r->f, "a"), 0);
    rig_free(r);
}
END_TEST

START_TEST(fewer_slots_are_recalled)
{
    struct rig *r = rig_with(1, 10);
    uint64_t instance;

    ask(r, 0);
    instance = until_ready(r);
    ck_assert_uint_eq(hear(r, GRANT)->slots, 10);
    r->service.concurrency = 2;
    configure(r);
    hear(r, RECALL);
    ask(r, 0);
    give_back(r, 0, instance, 8);
    hear_nothing(r); /* two are out still: as many as there may be */
    give_back(r, 0, instance, 1);
    ck_assert_uint_eq(hear(r, GRANT)->slots, 1);
    rig_free(r);
}
END_TEST

/* Two fronts with a slot each, which is idle at front 0; so many of front 1 may wait. */
static uint64_t lent_to_both(struct rig *r, int queue)
{
    uint64_t instance;

    ask(r, 1);
    instance = until_ready(r);
    hear(r, GRANT);
    ask(r, 0);
    ck_assert_int_eq(hear(r, GRANT)->front, 0);
    r->service.queue = queue;
    configure(r);
    return instance;
}

START_TEST(slots_elsewhere_are_waited_for_beyond_the_queue)
{
    struct rig *r = rig_with(2, 2);
    uint64_t instance = lent_to_both(r, 1);

    ask(r, 1);
    ck_assert_int_eq(hear(r, RECALL)->front, 0);
    ask(r, 1); /* there may be a slot for one of the two */
    hear_nothing(r);
    ask(r, 1); /* but not for three */
    hear_refusal(r, ORCH_QUEUE_FULL);
    answer_recall(r, 0, instance, 1);
    ck_assert_int_eq(hear(r, GRANT)->front, 1);
    hear_nothing(r); /* the other waits in the queue */
    ask(r, 1);
    hear_refusal(r, ORCH_QUEUE_FULL);
    rig_free(r);
}
END_TEST

START_TEST(who_waited_for_slots_in_use_elsewhere_is_refused)
{
    struct rig *r = rig_with(2, 2);
    uint64_t instance = lent_to_both(r, 1);

    ask(r, 1);
    hear(r, RECALL);
    ask(r, 1);
    hear_nothing(r);
    answer_recall(r, 0, instance, 0);
    ck_assert_uint_eq(hear_refusal(r, ORCH_QUEUE_FULL)->ticket, r->ticket);
    hear_nothing(r);
    give_back(r, 0, instance, 1);
    ck_assert_uint_eq(hear(r, GRANT)->ticket, r->ticket - 1);
    rig_free(r);
}
END_TEST

/* Fewer may be lent than are out: only one of those that come back is lent again. */
START_TEST(slots_beyond_the_concurrency_are_not_waited_for)
{
    struct rig *r = rig_with(2, 4);

    ask(r, 0);
    until_ready(r);
    hear(r, GRANT);
    for (int n = 0; n < 2; n++)
        ask(r, 0);
    r->service.concurrency = 1;
    r->service.queue = 0;
    configure(r);
    r->said_read = r->said_count;
    ask(r, 1);
    hear_nothing(r);
    ask(r, 1);
    hear_refusal(r, ORCH_QUEUE_FULL);
    rig_free(r);
}
END_TEST

/* While its answer is on its way it is lent another one, which it may have free: it had a slot of
 * its own for who waited there. Nothing is made before that is known. */
START_TEST(each_recall_has_its_own_answer)
{
    struct rig *r = rig_with(2, 2);
    uint64_t instance;

    r->service.max_instances = 2;
    instance = lent_to_both(r, 100);
    ask(r, 0);
    ck_assert_int_eq(hear(r, RECALL)->front, 1);
    ask(r, 1);
    ck_assert_int_eq(hear(r, RECALL)->front, 0);
    answer_recall(r, 1, instance, 1);
    ck_assert_int_eq(hear(r, GRANT)->front, 0);
    ck_assert_int_eq(hear(r, RECALL)->front, 0);
    answer_recall(r, 0, instance, 0); /* to the first */
    hear_nothing(r);
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    answer_recall(r, 0, instance, 1);
    ck_assert_int_eq(hear(r, GRANT)->front, 1);
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    rig_free(r);
}
END_TEST

/* A front that does not answer; and no queue at all. */
START_TEST(slots_elsewhere_are_not_waited_for_long)
{
    struct rig *r = rig_with(2, 2);

    lent_to_both(r, 0);
    ask(r, 1);
    hear(r, RECALL);
    pass(r, 49);
    hear_nothing(r);
    pass(r, 1);
    hear_refusal(r, ORCH_QUEUE_FULL);
    ask(r, 1);
    hear_refusal(r, ORCH_QUEUE_FULL);
    rig_free(r);
}
END_TEST

/* It gave back what was recalled, but not as the answer: with it goes what was waited for. */
START_TEST(a_front_that_dies_owing_an_answer_owes_no_more)
{
    struct rig *r = rig_with(2, 1);
    uint64_t instance;

    r->service.max_instances = 2;
    configure(r);
    ask(r, 0);
    instance = until_ready(r);
    hear(r, GRANT);
    ask(r, 1);
    ck_assert_int_eq(hear(r, RECALL)->front, 0);
    give_back(r, 0, instance, 1);
    ck_assert_int_eq(hear(r, GRANT)->front, 1);
    ask(r, 1); /* no slot is left; front 0 might still say that it has one */
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    fleet_front_down(r->f, 0, r->now_ms);
    fleet_check(r->f);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    rig_free(r);
}
END_TEST

START_TEST(a_probe_of_nothing_changes_nothing)
{
    struct rig *r = rig_with(1, 1);

    fleet_probed(r->f, 0, 12345, r->now_ms);
    fleet_check(r->f);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *c = tcase_create("leases");

    tcase_add_test(c, extra_slots_are_a_share_and_never_too_many);
    tcase_add_test(c, recall_is_sent_once_until_it_is_paid);
    tcase_add_test(c, fair_over_fronts);
    tcase_add_test(c, a_front_that_waits_alone_keeps_its_slots);
    tcase_add_test(c, over_return_is_cut);
    tcase_add_test(c, use_in_the_future_is_now);
    tcase_add_test(c, an_unused_lease_does_not_move_the_clock);
    tcase_add_test(c, a_dead_front_is_void);
    tcase_add_test(c, another_front_takes_over_the_probe);
    tcase_add_test(c, a_ticket_said_twice_is_one);
    tcase_add_test(c, a_changed_spec_drains_and_replaces);
    tcase_add_test(c, changes_faster_than_a_start_end_the_wait);
    tcase_add_test(c, an_unchanged_spec_keeps_instance_and_clock);
    tcase_add_test(c, a_changed_health_check_is_asked_of_what_starts);
    tcase_add_test(c, a_removed_service_refuses_and_drains);
    tcase_add_test(c, fewer_slots_are_recalled);
    tcase_add_test(c, slots_elsewhere_are_waited_for_beyond_the_queue);
    tcase_add_test(c, who_waited_for_slots_in_use_elsewhere_is_refused);
    tcase_add_test(c, slots_elsewhere_are_not_waited_for_long);
    tcase_add_test(c, each_recall_has_its_own_answer);
    tcase_add_test(c, slots_beyond_the_concurrency_are_not_waited_for);
    tcase_add_test(c, a_front_that_dies_owing_an_answer_owes_no_more);
    tcase_add_test(c, a_probe_of_nothing_changes_nothing);
    suite_add_tcase(suite, c);
}

int main(void)
{
    Suite *suite = suite_create("leases");
    SRunner *runner;
    int failed;

    add_tests(suite);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
