/* SPDX-License-Identifier: Apache-2.0 */
/* Leases as a front holds them. The difficulty: messages that cross; each case is one order of
 * arrival. */
#include "gate_rig.h"

/* --- cases --- */

START_TEST(test_a_cold_request_waits_for_its_grant)
{
    struct waiter a;

    wait_cold(&a);
    ck_assert_int_eq(a.answers, 0);
    grant(&a, 1, 1);
    ck_assert_int_eq(a.answers, 1);
    ck_assert_ptr_eq(a.worker, &workers[0]);
    ck_assert_int_eq(a.warmth, PROXY_COLD);
    said_nothing();
}
END_TEST

START_TEST(test_warm_acquires_say_nothing)
{
    struct waiter a, b;

    wait_cold(&a);
    grant(&a, 1, 1);
    for (int i = 0; i < 100; i++) {
        give_back(&workers[0]);
        ck_assert_ptr_eq(ask(&b), &workers[0]);
    }
    ck_assert_int_eq(b.answers, 0);
    said_nothing();
}
END_TEST

START_TEST(test_slots_add_up)
{
    struct waiter a, b, c, d;

    wait_cold(&a);
    grant(&a, 1, 2);
    ck_assert_ptr_eq(ask(&b), &workers[0]);
    wait_cold(&c);
    grant(&c, 1, 1);
    ck_assert_int_eq(c.answers, 1);
    ck_assert_uint_eq(worker_count, 1);
    wait_cold(&d);
    give_back(&workers[0]);
    ck_assert_int_eq(d.answers, 1);
    ck_assert_int_eq(d.warmth, PROXY_WARM);
    said_ticket(MESSAGE_WITHDRAW, &d);
    said_nothing();
}
END_TEST

START_TEST(test_waiters_are_served_in_their_order)
{
    struct waiter a, b, c;

    wait_cold(&a);
    wait_cold(&b);
    wait_cold(&c);
    grant(&a, 1, 1);
    ck_assert_int_eq(a.answers, 1);
    give_back(&workers[0]);
    ck_assert_int_eq(b.answers, 1);
    ck_assert_int_eq(c.answers, 0);
    said_ticket(MESSAGE_WITHDRAW, &b);
    give_back(&workers[0]);
    ck_assert_int_eq(c.answers, 1);
    said_ticket(MESSAGE_WITHDRAW, &c);
    said_nothing();
}
END_TEST

/* It took an instance and a place in it; who asks once it is there waits for a place alone. */
START_TEST(test_who_waited_for_the_instance_is_told_so)
{
    struct waiter a, b, c;

    wait_cold(&a);
    wait_cold(&b);
    grant(&a, 1, 1);
    wait_cold(&c);
    give_back(&workers[0]);
    ck_assert_int_eq(b.warmth, PROXY_COLD);
    said_ticket(MESSAGE_WITHDRAW, &b);
    give_back(&workers[0]);
    ck_assert_int_eq(c.answers, 1);
    ck_assert_int_eq(c.warmth, PROXY_WARM);
    said_ticket(MESSAGE_WITHDRAW, &c);
    said_nothing();
}
END_TEST

START_TEST(test_more_slots_than_asked_serve_other_waiters)
{
    struct waiter a, b, c;

    wait_cold(&a);
    wait_cold(&b);
    wait_cold(&c);
    grant(&b, 1, 2);
    ck_assert_int_eq(b.answers, 1);
    ck_assert_int_eq(a.answers, 1);
    ck_assert_int_eq(c.answers, 0);
    said_ticket(MESSAGE_WITHDRAW, &a);
    said_nothing();
    door.cancel(door.self, &c.w);
    said_ticket(MESSAGE_WITHDRAW, &c);
}
END_TEST

/* Control counted those as waiting for whom slots were on their way. */
START_TEST(test_a_full_queue_that_slots_emptied_is_asked_again)
{
    struct waiter a, b, c, d;
    uint64_t first;

    wait_cold(&a);
    wait_cold(&b);
    wait_cold(&c);
    grant(&a, 1, 2);
    said_ticket(MESSAGE_WITHDRAW, &b);
    first = c.w.ticket;
    refuse(first, ORCH_QUEUE_FULL);
    ck_assert_int_eq(c.answers, 0);
    said_ticket(MESSAGE_ACQUIRE, &c);
    ck_assert_uint_gt(c.w.ticket, first);
    refuse(c.w.ticket, ORCH_QUEUE_FULL); /* it knew by then */
    ck_assert_uint_eq(c.reason, ORCH_QUEUE_FULL);
    wait_cold(&d);
    refuse(d.w.ticket, ORCH_QUEUE_FULL);
    ck_assert_uint_eq(d.reason, ORCH_QUEUE_FULL);
    said_nothing();
}
END_TEST

START_TEST(test_a_withdrawal_that_crosses_a_grant_leaves_a_free_slot)
{
    struct waiter a, b;

    wait_cold(&a);
    door.cancel(door.self, &a.w);
    said_ticket(MESSAGE_WITHDRAW, &a);
    grant(&a, 1, 1);
    ck_assert_int_eq(a.answers, 0);
    said_nothing();
    ck_assert_ptr_eq(ask(&b), &workers[0]);
    said_nothing();
}
END_TEST

START_TEST(test_a_crossed_grant_serves_who_waits_now)
{
    struct waiter a, b;

    wait_cold(&a);
    wait_cold(&b);
    door.cancel(door.self, &a.w);
    said_ticket(MESSAGE_WITHDRAW, &a);
    grant(&a, 1, 1);
    ck_assert_int_eq(b.answers, 1);
    said_ticket(MESSAGE_WITHDRAW, &b);
    grant(&b, 1, 1); /* was under way, too */
    ck_assert_int_eq(b.answers, 1);
    tell(MESSAGE_RECALL, 1);
    said_return(1, 1);
}
END_TEST

START_TEST(test_a_recall_takes_free_slots_at_once_and_busy_ones_as_they_end)
{
    struct waiter a, b;

    wait_cold(&a);
    grant(&a, 1, 4);
    ask(&b);
    tell(MESSAGE_RECALL, 1);
    said_recalled(1, 2);
    tell(MESSAGE_RECALL, 1); /* twice is as once */
    said_recalled(1, 0);
    said_nothing();
    give_back(&workers[0]);
    ck_assert_int_gt(said_return(1, 1)->used_ms, 0);
    give_back(&workers[0]);
    said_return(1, 1);
    said_nothing();
    ck_assert_ptr_null(ask(&a));
    said_ticket(MESSAGE_ACQUIRE, &a);
    door.cancel(door.self, &a.w);
}
END_TEST

START_TEST(test_a_recalled_slot_goes_past_our_own_waiters)
{
    struct waiter a, b;

    wait_cold(&a);
    grant(&a, 1, 1);
    tell(MESSAGE_RECALL, 1);
    said_recalled(1, 0);
    wait_cold(&b);
    give_back(&workers[0]);
    said_return(1, 1);
    ck_assert_int_eq(b.answers, 0);
    grant(&b, 1, 1);
    ck_assert_int_eq(b.answers, 1);
    give_back(&workers[0]); /* this one was never recalled */
    said_nothing();
}
END_TEST

START_TEST(test_slots_granted_after_a_recall_linger_and_return)
{
    struct waiter a, b;

    wait_cold(&a);
    grant_for(a.w.ticket, 1, 1, LINGER_MS);
    tell(MESSAGE_RECALL, 1);
    said_recalled(1, 0);
    wait_cold(&b);
    door.cancel(door.self, &b.w);
    said_ticket(MESSAGE_WITHDRAW, &b);
    grant_for(b.w.ticket, 1, 1, LINGER_MS);
    pass_ms(LINGER_MS + 2 * KG_WHEEL_SLOT_MS);
    said_nothing(); /* an exchange is still on the lease */
    give_back(&workers[0]);
    said_return(1, 1);
    pass_ms(LINGER_MS + 2 * KG_WHEEL_SLOT_MS);
    said_return(1, 1);
    said_nothing();
}
END_TEST

START_TEST(test_an_unused_lease_lingers_then_returns)
{
    struct waiter a;
    int64_t used_ms;

    wait_cold(&a);
    grant_for(a.w.ticket, 1, 3, LINGER_MS);
    pass_ms(20);
    used_ms = (int64_t)uv_now(&loop);
    give_back(&workers[0]);
    pass_ms(LINGER_MS / 2);
    said_nothing();
    pass_ms(LINGER_MS + 2 * KG_WHEEL_SLOT_MS);
    ck_assert_int_eq(said_return(1, 3)->used_ms, used_ms);
    said_nothing();
    ck_assert_int_le(llabs(kg_clock_mono_ms() - (int64_t)uv_now(&loop)), 100); /* one clock */
}
END_TEST

START_TEST(test_a_lease_never_used_returns_without_a_time_of_use)
{
    struct waiter a;

    wait_cold(&a);
    door.cancel(door.self, &a.w);
    said_ticket(MESSAGE_WITHDRAW, &a);
    grant_for(a.w.ticket, 1, 1, LINGER_MS);
    pass_ms(LINGER_MS + 2 * KG_WHEEL_SLOT_MS);
    ck_assert_int_eq(said_return(1, 1)->used_ms, 0);
}
END_TEST

START_TEST(test_quiet_use_is_no_use)
{
    struct waiter a, b;
    int64_t used_ms;

    wait_cold(&a);
    grant_for(a.w.ticket, 1, 1, LINGER_MS);
    used_ms = (int64_t)uv_now(&loop);
    give_back(&workers[0]);
    for (int i = 0; i < 4; i++) { /* a monitor, more often than the linger is long */
        pass_ms(LINGER_MS / 2);
        if (ask(&b))
            door.release(door.self, b.worker, true);
        else
            door.cancel(door.self, &b.w);
    }
    pass_ms(2 * KG_WHEEL_SLOT_MS);
    ck_assert_int_eq(said_return(1, 1)->used_ms, used_ms);
}
END_TEST

START_TEST(test_quiet_use_at_the_end_of_a_linger_returns_the_lease)
{
    struct waiter a, b;

    wait_cold(&a);
    grant_for(a.w.ticket, 1, 2, LINGER_MS);
    give_back(&workers[0]);
    ck_assert_ptr_nonnull(ask(&b));
    pass_ms(LINGER_MS + 2 * KG_WHEEL_SLOT_MS);
    said_nothing();
    door.release(door.self, b.worker, true);
    said_return(1, 2);
    said_nothing();
}
END_TEST

START_TEST(test_gone_frees_the_lease)
{
    struct waiter a, b;

    wait_cold(&a);
    grant(&a, 1, 2);
    tell(MESSAGE_GONE, 1);
    ck_assert(workers[0].removed);
    tell(MESSAGE_GONE, 1);
    tell(MESSAGE_RECALL, 1);
    tell(MESSAGE_PROBE_STOP, 1);
    said_nothing();
    wait_cold(&b);
    grant(&b, 2, 1);
    ck_assert_ptr_eq(b.worker, &workers[1]);
}
END_TEST

START_TEST(test_a_second_instance_serves_when_the_first_is_full)
{
    struct waiter a, b, c;

    wait_cold(&a);
    grant(&a, 1, 1);
    wait_cold(&b);
    grant(&b, 2, 1);
    ck_assert_ptr_eq(b.worker, &workers[1]);
    give_back(&workers[1]);
    ck_assert_ptr_eq(ask(&c), &workers[1]);
    tell(MESSAGE_GONE, 2);
    give_back(&workers[0]);
    ck_assert_ptr_eq(ask(&c), &workers[0]);
    said_nothing();
}
END_TEST

START_TEST(test_the_least_loaded_instance_is_taken_first)
{
    struct waiter a, b, c;

    wait_cold(&a);
    grant(&a, 1, 3);
    ask(&b);
    grant(&a, 2, 3);                        /* more than it waits for: free slots */
    ck_assert_ptr_eq(ask(&b), &workers[1]); /* none of three, against two of three */
    ck_assert_ptr_eq(ask(&b), &workers[1]);
    give_back(&workers[0]);
    ck_assert_ptr_eq(ask(&c), &workers[0]); /* one of three, against two of three */
    ck_assert_ptr_eq(ask(&c), &workers[0]); /* two each: the older one */
    said_nothing();
}
END_TEST

/* The recall has taken what would return when the linger ends. */
START_TEST(test_nothing_returns_twice)
{
    struct waiter a;

    wait_cold(&a);
    grant_for(a.w.ticket, 1, 1, LINGER_MS);
    give_back(&workers[0]);
    tell(MESSAGE_RECALL, 1);
    said_recalled(1, 1);
    pass_ms(LINGER_MS + 2 * KG_WHEEL_SLOT_MS);
    said_nothing();
}
END_TEST

START_TEST(test_a_quiet_end_beside_an_exchange_returns_nothing)
{
    struct waiter a, b;

    wait_cold(&a);
    grant_for(a.w.ticket, 1, 2, LINGER_MS);
    ck_assert_ptr_nonnull(ask(&b));
    pass_ms(LINGER_MS + 2 * KG_WHEEL_SLOT_MS);
    door.release(door.self, b.worker, true);
    said_nothing(); /* the other slot is in use */
    give_back(&workers[0]);
    pass_ms(LINGER_MS + 2 * KG_WHEEL_SLOT_MS);
    said_return(1, 2);
}
END_TEST

/* A monitor that waited for its slot: the slot does not linger, for it was no use. */
START_TEST(test_a_slot_for_a_quiet_waiter_does_not_linger)
{
    struct waiter a = {.w = {.service = SERVICE, .on_answer = on_answer, .quiet = true}};

    ck_assert_ptr_null(door.acquire(door.self, &a.w));
    ck_assert(((const struct message_acquire *)said(MESSAGE_ACQUIRE))->quiet);
    grant_for(a.w.ticket, 1, 1, LONG_MS);
    ck_assert_int_eq(a.answers, 1);
    door.release(door.self, a.worker, true);
    ck_assert_int_eq(said_return(1, 1)->used_ms, 0);
}
END_TEST

START_TEST(test_warmth_of_a_grant)
{
    struct waiter a;
    struct message_grant m;

    wait_cold(&a);
    MESSAGE_INIT(&m, GRANT);
    m.ticket = a.w.ticket;
    m.instance = 1;
    m.service = SERVICE;
    m.slots = 1;
    m.warmth = 77;
    m.where = somewhere();
    gate_client_message(gate, &m.head);
    ck_assert_int_eq(a.answers, 1);
    ck_assert_int_eq(a.warmth, PROXY_WARM);
    ck_assert_int_eq(workers[0].freezes, 0);
    wait_cold(&a);
    m.ticket = a.w.ticket;
    m.warmth = PROXY_PAUSED;
    m.thawed = true;
    gate_client_message(gate, &m.head);
    ck_assert_int_eq(a.warmth, PROXY_PAUSED);
    ck_assert_int_eq(workers[0].freezes, 1);
    wait_cold(&a); /* another front's request has resumed it */
    m.ticket = a.w.ticket;
    m.warmth = PROXY_WARM;
    gate_client_message(gate, &m.head);
    ck_assert_int_eq(a.warmth, PROXY_WARM);
    ck_assert_int_eq(workers[0].freezes, 2);
}
END_TEST

START_TEST(test_a_refusal_names_its_reason)
{
    struct waiter a, b;

    wait_cold(&a);
    wait_cold(&b);
    refuse(b.w.ticket, ORCH_QUEUE_FULL);
    ck_assert_int_eq(a.answers, 0);
    ck_assert_int_eq(b.answers, 1);
    ck_assert_ptr_null(b.worker);
    ck_assert_uint_eq(b.reason, ORCH_QUEUE_FULL);
    ck_assert_str_eq(b.detail, "because");
    refuse(b.w.ticket, ORCH_QUEUE_FULL); /* of a ticket that waits no longer */
    ck_assert_int_eq(b.answers, 1);
    refuse(a.w.ticket, 9999);
    ck_assert_uint_eq(a.reason, PROXY_OVERLOADED);
    wait_cold(&a);
    refuse(a.w.ticket, ORCH_ASLEEP);
    ck_assert_uint_eq(a.reason, ORCH_ASLEEP);
    said_nothing();
}
END_TEST

START_TEST(test_a_lost_control_refuses_who_waits_and_who_comes)
{
    struct waiter a, b, c;

    wait_cold(&a);
    grant(&a, 1, 1);
    wait_cold(&b);
    gate_client_control_lost(gate);
    ck_assert_int_eq(b.answers, 1);
    ck_assert_uint_eq(b.reason, PROXY_DRAINING);
    ck_assert_ptr_null(ask(&c));
    ck_assert_int_eq(c.answers, 0); /* never from inside acquire */
    pass_ms(1);
    ck_assert_int_eq(c.answers, 1);
    ck_assert_uint_eq(c.reason, PROXY_DRAINING);
    give_back(&workers[0]);
    ck_assert_ptr_eq(ask(&c), &workers[0]); /* what is warm goes on */
    said_nothing();
}
END_TEST

START_TEST(test_a_cancelled_waiter_is_not_refused_later)
{
    struct waiter a;

    gate_client_control_lost(gate);
    ck_assert_ptr_null(ask(&a));
    door.cancel(door.self, &a.w);
    pass_ms(1);
    ck_assert_int_eq(a.answers, 0);
}
END_TEST

START_TEST(test_probes_and_suspicions_are_passed_on)
{
    struct waiter a;

    wait_cold(&a);
    probe(1);
    ck_assert_int_eq(workers[0].probes, 1);
    tell(MESSAGE_PROBE_STOP, 1);
    ck_assert_int_eq(workers[0].probes, 0);
    probe(1);
    ck_assert_uint_eq(worker_count, 1);
    ck_assert_int_eq(a.answers, 0); /* a probe is no slot */
    door.probed(door.self, &workers[0]);
    ck_assert_uint_eq(((const struct message_instance *)said(MESSAGE_PROBED))->instance, 1);
    grant(&a, 1, 1);
    ck_assert_ptr_eq(a.worker, &workers[0]);
    door.suspect(door.self, &workers[0]);
    ck_assert_uint_eq(((const struct message_instance *)said(MESSAGE_SUSPECT))->instance, 1);
}
END_TEST

START_TEST(test_a_grant_without_memory_goes_straight_back)
{
    struct waiter a;

    no_workers = true;
    wait_cold(&a);
    grant(&a, 1, 3);
    ck_assert_int_eq(a.answers, 1);
    ck_assert_uint_eq(a.reason, PROXY_OVERLOADED);
    ck_assert_int_eq(said_return(1, 3)->used_ms, 0);
    grant(&a, 1, 2); /* of a ticket that waits no longer */
    ck_assert_int_eq(a.answers, 1);
    said_return(1, 2);
    probe(2); /* is tried again */
    said_nothing();
}
END_TEST

START_TEST(test_a_probe_without_memory_is_tried_again)
{
    no_workers = true;
    probe(1);
    probe(2);
    tell(MESSAGE_PROBE_STOP, 2);
    pass_ms(60); /* once more in vain */
    ck_assert_uint_eq(worker_count, 0);
    no_workers = false;
    no_probes = true;
    pass_ms(60);
    ck_assert_uint_eq(worker_count, 1);
    ck_assert_int_eq(workers[0].probes, 0);
    no_probes = false;
    pass_ms(60);
    ck_assert_uint_eq(worker_count, 1); /* the other was stopped */
    ck_assert_int_eq(workers[0].probes, 1);
}
END_TEST

START_TEST(test_probes_without_memory_are_forgotten)
{
    no_workers = true;
    for (uint64_t i = 1; i < 12; i++)
        probe(i); /* of the last ones nothing is kept */
    tell(MESSAGE_GONE, 1);
    no_workers = false;
    pass_ms(60);
    ck_assert_uint_eq(worker_count, 7);
    no_workers = true;
    probe(20);
    gate_client_control_away(gate);
    no_workers = false;
    pass_ms(60);
    ck_assert_uint_eq(worker_count, 7);
}
END_TEST

START_TEST(test_tickets_rise_and_name_their_service)
{
    struct waiter a, b;

    wait_cold(&a);
    wait_cold(&b);
    ck_assert_uint_gt(b.w.ticket >> MESSAGE_SERVICE_BITS, a.w.ticket >> MESSAGE_SERVICE_BITS);
    door.cancel(door.self, &a.w);
    door.cancel(door.self, &b.w);
}
END_TEST

/* Leases in use, lingering, only probed: all are freed, and none speaks any more. */
START_TEST(test_close_frees_whatever_is_held)
{
    struct waiter a, b;

    wait_cold(&a);
    grant_for(a.w.ticket, 1, 1, LINGER_MS);
    wait_cold(&b);
    grant_for(b.w.ticket, 2, 5, LINGER_MS);
    give_back(&workers[1]);
    probe(3);
    said_nothing();
}
END_TEST

static void add_leases(TCase *t)
{
    tcase_add_test(t, test_a_cold_request_waits_for_its_grant);
    tcase_add_test(t, test_warm_acquires_say_nothing);
    tcase_add_test(t, test_slots_add_up);
    tcase_add_test(t, test_waiters_are_served_in_their_order);
    tcase_add_test(t, test_who_waited_for_the_instance_is_told_so);
    tcase_add_test(t, test_more_slots_than_asked_serve_other_waiters);
    tcase_add_test(t, test_a_full_queue_that_slots_emptied_is_asked_again);
    tcase_add_test(t, test_a_withdrawal_that_crosses_a_grant_leaves_a_free_slot);
    tcase_add_test(t, test_a_crossed_grant_serves_who_waits_now);
    tcase_add_test(t, test_a_recall_takes_free_slots_at_once_and_busy_ones_as_they_end);
    tcase_add_test(t, test_a_recalled_slot_goes_past_our_own_waiters);
    tcase_add_test(t, test_slots_granted_after_a_recall_linger_and_return);
    tcase_add_test(t, test_an_unused_lease_lingers_then_returns);
    tcase_add_test(t, test_a_lease_never_used_returns_without_a_time_of_use);
    tcase_add_test(t, test_quiet_use_is_no_use);
    tcase_add_test(t, test_quiet_use_at_the_end_of_a_linger_returns_the_lease);
    tcase_add_test(t, test_the_least_loaded_instance_is_taken_first);
    tcase_add_test(t, test_nothing_returns_twice);
    tcase_add_test(t, test_a_quiet_end_beside_an_exchange_returns_nothing);
    tcase_add_test(t, test_a_slot_for_a_quiet_waiter_does_not_linger);
    tcase_add_test(t, test_warmth_of_a_grant);
}

static void add_ends(TCase *t)
{
    tcase_add_test(t, test_gone_frees_the_lease);
    tcase_add_test(t, test_a_second_instance_serves_when_the_first_is_full);
    tcase_add_test(t, test_a_refusal_names_its_reason);
    tcase_add_test(t, test_a_lost_control_refuses_who_waits_and_who_comes);
    tcase_add_test(t, test_a_cancelled_waiter_is_not_refused_later);
    tcase_add_test(t, test_probes_and_suspicions_are_passed_on);
    tcase_add_test(t, test_a_grant_without_memory_goes_straight_back);
    tcase_add_test(t, test_a_probe_without_memory_is_tried_again);
    tcase_add_test(t, test_probes_without_memory_are_forgotten);
    tcase_add_test(t, test_tickets_rise_and_name_their_service);
    tcase_add_test(t, test_close_frees_whatever_is_held);
}
int main(void)
{
    Suite *s = suite_create("gate_client");
    TCase *t = tcase_create("leases");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 30);
    add_leases(t);
    add_ends(t);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
