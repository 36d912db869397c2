/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine lists while there is no memory to know it. The difficulty: whoever asks meanwhile
 * must not have made a second time what is there. */
#include "fleet_rig.h"
#include "memory.h"

#define MOST_ALLOCATIONS 20 /* more than one that is found takes */

/* Is found in the end, after so many lists that did not go through. */
static unsigned lists_until_known(struct rig *r, const struct engine_container *found)
{
    unsigned refusals = 0;

    for (; refusals < MOST_ALLOCATIONS; refusals++) {
        bool whole;
        allocations_left = (int)refusals;
        whole = fleet_engine_list(r->f, found, 1, r->now_ms, r->now_ms);
        if (memory_was_enough()) {
            ck_assert(whole);
            break;
        }
        if (whole) /* for something that can be done without */
            break;
        ck_assert_uint_eq(count_calls(r, CREATE), 0);
        ck_assert_uint_eq(count_calls(r, LOOK), 0);
    }
    return refusals;
}

START_TEST(what_there_is_no_memory_to_know_is_not_made_again)
{
    struct rig *r = rig_closed(1);
    struct engine_container found;

    configure(r);
    r->boxes = 1;
    snprintf(r->name, sizeof r->name, "kipgate-a-0000000001");
    found = box(r, 1, r->name, ENGINE_RUNNING);
    ask(r, 0);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    ck_assert_uint_ge(lists_until_known(r, &found), 1);
    expect(r, LOOK);
    ck_assert_uint_eq(count_calls(r, CREATE), 0);
    fleet_check(r->f);
    rig_free(r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fleet memory");
    TCase *t = tcase_create("memory");
    SRunner *runner;
    int failed;

    tcase_add_test(t, what_there_is_no_memory_to_know_is_not_made_again);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
