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

static void count_c(void *arg, const char *name, uint32_t id)
{
    (void)id;
    *(int *)arg += strcmp(name, "c") == 0;
}

/* A number that got a name for nothing would be a second one of that name, and would take the
 * first one's entry along when it is given again. */
START_TEST(a_number_given_again_without_memory_has_no_name)
{
    struct rig *r = rig_closed(1);
    int named = 0, refusals = 0;

    configure(r);
    ck_assert_int_eq(fleet_reserve_service(r->f, "last", KG_MAX_SERVICES - 1), 0);
    r->services[1] = &r->third;
    r->config.service_count = 2;
    for (bool whole = false; !whole && refusals < MOST_ALLOCATIONS; refusals++) {
        allocations_left = refusals;
        whole = fleet_configure(r->f, &r->config, ++r->now_ms) == 0;
        ck_assert_int_eq(whole, memory_was_enough());
    }
    ck_assert_int_gt(refusals, 1);
    fleet_each_service(r->f, count_c, &named);
    ck_assert_int_eq(named, 1);
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
    tcase_add_test(t, a_number_given_again_without_memory_has_no_name);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
