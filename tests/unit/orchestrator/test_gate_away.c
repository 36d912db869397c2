/* SPDX-License-Identifier: Apache-2.0 */
/* Leases while control is away, and with the next one. The difficulty: what was said to the one
 * before may have been heard or not, and its numbers may come again. */
#include "gate_rig.h"

#define OVER_MS (1 + 2 * KG_WHEEL_SLOT_MS) /* a linger of 1 ms is over, as coarse as it is */

START_TEST(test_what_is_held_serves_on_while_control_is_away)
{
    struct waiter a, b, c;

    wait_cold(&a);
    grant_for(a.w.ticket, 1, 2, 1);
    gate_client_control_away(gate);
    ck_assert_ptr_eq(ask(&b), &workers[0]);
    ck_assert_ptr_null(ask(&c)); /* it waits, and is asked for when there is who can be asked */
    sent_count = sent_read = 0;  /* what was said meanwhile, nobody heard */
    give_back(&workers[0]);
    ck_assert_int_eq(c.answers, 1);
    give_back(&workers[0]);
    give_back(&workers[0]);
    sent_count = sent_read = 0;
    pass_ms(OVER_MS); /* the linger ends, and nothing goes back */
    said_nothing();
    ck_assert_ptr_eq(ask(&b), &workers[0]);
}
END_TEST

START_TEST(test_the_next_control_hears_what_is_held_and_who_waits)
{
    struct waiter a, b;
    uint64_t before;

    wait_cold(&a);
    grant_for(a.w.ticket, 1, 1, LONG_MS);
    wait_cold(&b);
    before = b.w.ticket;
    tell(MESSAGE_RECALL, 1);
    said_recalled(1, 0);
    gate_client_control_away(gate);
    gate_client_attached(gate);
    said_claim(1, 1);
    ck_assert_uint_gt(b.w.ticket, before);
    said_ticket(MESSAGE_ACQUIRE, &b);
    said_nothing();
    rename_to(1, 900);
    give_back(&workers[0]); /* the recall of the former control is forgotten */
    said_ticket(MESSAGE_WITHDRAW, &b);
    ck_assert_int_eq(b.answers, 1);
    give_back(&workers[0]);
    pass_ms(2 * LINGER_MS);
    said_return(900, 1);
    said_nothing();
}
END_TEST

/* Until it is told what became of its claim, a front gives nothing of it back. */
START_TEST(test_a_claim_is_not_returned_before_it_is_answered)
{
    struct waiter a;

    wait_cold(&a);
    grant_for(a.w.ticket, 1, 1, 1);
    gate_client_control_away(gate);
    gate_client_attached(gate);
    said_claim(1, 1);
    give_back(&workers[0]);
    pass_ms(OVER_MS);
    said_nothing();
    ck_assert_ptr_eq(ask(&a), &workers[0]);
    door.release(door.self, &workers[0], true); /* nor after a monitor */
    said_nothing();
    rename_to(1, 2);
    pass_ms(2 * LINGER_MS);
    said_return(2, 1);
}
END_TEST

START_TEST(test_a_claim_that_fails_ends_the_worker)
{
    struct waiter a, b;

    wait_cold(&a);
    grant(&a, 1, 1);
    gate_client_control_away(gate);
    gate_client_attached(gate);
    said_claim(1, 1);
    tell(MESSAGE_GONE, 1);
    ck_assert(workers[0].removed);
    wait_cold(&b);
}
END_TEST

/* The next control may have had it probed under its own number, and may use the old one anew. */
START_TEST(test_numbers_of_two_controls_do_not_meet)
{
    struct waiter a;

    wait_cold(&a);
    grant(&a, 1, 1);
    gate_client_control_away(gate);
    gate_client_attached(gate);
    said_claim(1, 1);
    probe(900);
    rename_to(1, 900);
    ck_assert(workers[1].removed);
    ck_assert(!workers[0].removed);
    rename_to(1, 901); /* nothing is called so any more */
    door.suspect(door.self, &workers[0]);
    ck_assert_uint_eq(((const struct message_instance *)said(MESSAGE_SUSPECT))->instance, 900);
}
END_TEST

START_TEST(test_the_next_control_may_use_the_same_number)
{
    struct waiter a, b;

    wait_cold(&a);
    grant(&a, 1, 2);
    rename_to(1, 5); /* nothing was claimed: it is no answer */
    gate_client_control_away(gate);
    gate_client_attached(gate);
    said_claim(1, 2);
    rename_to(1, 1);
    ck_assert(!workers[0].removed);
    ck_assert_ptr_eq(ask(&b), &workers[0]);
    tell(MESSAGE_RECALL, 1);
    said_recalled(1, 0);
}
END_TEST

START_TEST(test_who_waits_is_refused_when_no_control_comes)
{
    struct waiter a;

    wait_cold(&a);
    gate_client_control_away(gate);
    ck_assert_int_eq(a.answers, 0);
    gate_client_control_lost(gate);
    ck_assert_int_eq(a.answers, 1);
    ck_assert_uint_eq(a.reason, PROXY_DRAINING);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("leases without control");
    TCase *t = tcase_create("away");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_what_is_held_serves_on_while_control_is_away);
    tcase_add_test(t, test_the_next_control_hears_what_is_held_and_who_waits);
    tcase_add_test(t, test_a_claim_is_not_returned_before_it_is_answered);
    tcase_add_test(t, test_a_claim_that_fails_ends_the_worker);
    tcase_add_test(t, test_numbers_of_two_controls_do_not_meet);
    tcase_add_test(t, test_the_next_control_may_use_the_same_number);
    tcase_add_test(t, test_who_waits_is_refused_when_no_control_comes);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
