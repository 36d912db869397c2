/* SPDX-License-Identifier: Apache-2.0 */
/* Leases that there is no memory for. The difficulty: wherever it runs out, the slots are back at
 * control, the worker is out of the proxy, and who waited has an answer. */
#include "gate_rig.h"
#include "memory.h"

#define MOST_ALLOCATIONS 8 /* more than a grant makes */

static void check_refused(struct waiter *a, size_t worker)
{
    ck_assert_int_eq(a->answers, 1);
    ck_assert_ptr_null(a->worker);
    ck_assert_uint_eq(a->reason, PROXY_OVERLOADED);
    ck_assert_int_eq(said_return(1, 2)->used_ms, 0);
    if (worker_count > worker)
        ck_assert(workers[worker].removed);
    said_nothing();
}

START_TEST(test_a_grant_that_is_not_held_goes_back)
{
    struct waiter a;
    int refusals = 0;

    for (; refusals < MOST_ALLOCATIONS; refusals++) {
        size_t worker = worker_count;
        wait_cold(&a);
        allocations_left = refusals;
        grant(&a, 1, 2);
        if (memory_was_enough())
            break;
        check_refused(&a, worker);
    }
    ck_assert_int_ge(refusals, 2); /* of the lease, and of its place among the others */
    ck_assert_int_lt(refusals, MOST_ALLOCATIONS);
    ck_assert_ptr_eq(a.worker, &workers[worker_count - 1]);
}
END_TEST

/* Its new name is lost, so it cannot be served under it: those who use it must have another. */
START_TEST(test_a_renamed_lease_without_memory_ends)
{
    struct waiter a, b;

    wait_cold(&a);
    grant(&a, 1, 1);
    gate_client_control_away(gate);
    gate_client_attached(gate);
    said_claim(1, 1);
    allocations_left = 0;
    rename_to(1, 900);
    ck_assert(!memory_was_enough());
    ck_assert(workers[0].removed);
    tell(MESSAGE_GONE, 900);
    tell(MESSAGE_GONE, 1);
    wait_cold(&b);
}
END_TEST

START_TEST(test_a_front_without_memory_has_no_gate)
{
    allocations_left = 0;
    ck_assert_ptr_null(gate_client_new(&loop, on_send, &loop));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("leases without memory");
    TCase *t = tcase_create("memory");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_a_grant_that_is_not_held_goes_back);
    tcase_add_test(t, test_a_renamed_lease_without_memory_ends);
    tcase_add_test(t, test_a_front_without_memory_has_no_gate);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
