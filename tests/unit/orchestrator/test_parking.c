/* SPDX-License-Identifier: Apache-2.0 */
/* How sandboxes are made, how many, who joins them and whether it gains; and what happens when
 * making one fails in any way. */
#include "parking_case.h"

/* --- the good way ---------------------------------------------------------------------------- */

START_TEST(one_is_parked_before_anybody_asks)
{
    ck_assert_int_eq(parking_due_ms(p), KG_NEVER); /* nothing before the first list */
    tell_list(now_ms);
    ck_assert_int_le(parking_due_ms(p), now_ms);
    tick();
    ck_assert_uint_eq(waiting(MAKE), 1);
    answer(MAKE, GOOD);
    answer(START, GOOD);
    answer(ASK, GOOD);
    ck_assert_uint_eq(view().parked, 1);
    tick();
    ck_assert_uint_eq(call_count, 0);
    ck_assert_uint_eq(count_boxes(true), 1);
}
END_TEST

START_TEST(a_worker_joins_and_takes_it_along)
{
    struct engine_container *w;
    char sandbox[ENGINE_ID_BYTES];

    come_up();
    w = start_one(&a, "w");
    ck_assert_ptr_nonnull(box(w->sandbox));
    memcpy(sandbox, w->sandbox, sizeof sandbox);
    inspect("w");
    ck_assert_uint_eq(last_port(), 8080);
    ck_assert_uint_eq(view().taken, 1);
    calm(1000);
    ck_assert_uint_eq(view().parked, 1); /* another one, for the next */
    ops->remove(ops->self, w->id, on_done, NULL);
    answer(REMOVE, GOOD);
    ck_assert_ptr_null(box(sandbox)); /* before the worker: without one it never had one */
    ck_assert_ptr_nonnull(box("w"));
    answer(REMOVE, GOOD);
    ck_assert_ptr_null(box("w"));
    calm(10);
    ck_assert_ptr_null(box(sandbox));
    ck_assert_uint_eq(view().taken, 0);
    ck_assert(parking_quiet(p));
}
END_TEST

/* Parked, or while its worker was stopped: nobody would ever get through to that worker. */
START_TEST(a_start_finds_that_it_was_disconnected)
{
    struct engine_container *w;
    char sandbox[ENGINE_ID_BYTES];

    come_up();
    w = create(&a, "w");
    memcpy(sandbox, w->sandbox, sizeof sandbox);
    if (_i == 1) {
        start(w);
        inspect("w");
        ck_assert_uint_gt(last.container.address_length, 0);
        w->state = ENGINE_EXITED;
        inspect("w");
    }
    unplugged = true;
    start(w);
    ck_assert_int_eq(last.code, 0);
    inspect("w");
    ck_assert_int_eq(last.code, 0);
    ck_assert_int_eq(last.container.state, ENGINE_NONE);
    ck_assert_ptr_null(box("w"));
    unplugged = false;
    calm(1000);
    ck_assert_ptr_null(box(sandbox));
    w = start_one(&a, "w");
    inspect("w");
    ck_assert_uint_gt(last.container.address_length, 0);
}
END_TEST

/* Whoever disconnected it did so with the others, too: they are not tried one after the other. */
START_TEST(what_is_parked_beside_one_that_was_disconnected_is_asked_about)
{
    struct engine_container *w;

    come_up();
    burst(3);
    calm(3000);
    ck_assert_uint_eq(view().parked, 3);
    w = create(&a, "w");
    unplugged = true;
    start(w);
    inspect("w");
    ck_assert_int_eq(last.container.state, ENGINE_NONE);
    w = create(&a, "w");
    ck_assert_str_eq(w->sandbox, "");
    unplugged = false;
    calm(3000);
    ck_assert_uint_eq(view().parked, 3);
}
END_TEST

START_TEST(two_workers_never_share)
{
    struct engine_container *w, *v;

    come_up();
    w = create(&a, "w");
    v = create(&a, "v");
    ck_assert(w->sandbox[0] && !v->sandbox[0]); /* one was parked: the second opens its own */
}
END_TEST

START_TEST(few_are_removed_at_a_time)
{
    come_up();
    burst(6);
    calm(3000);
    parking_stop(p);
    tick();
    ck_assert_uint_eq(waiting(REMOVE), SANDBOXES_AT_ONCE); /* requests' calls have room beside */
    calm(1000);
    ck_assert_uint_eq(count_boxes(true), 1);
}
END_TEST

START_TEST(nothing_is_parked_while_a_worker_starts)
{
    struct engine_container *w;

    come_up();
    w = create(&a, "w");
    ops->start(ops->self, w->id, on_done, NULL);
    tick();
    ck_assert_uint_eq(waiting(MAKE), 0);
    answer(START, GOOD);
    tick();
    ck_assert_uint_eq(waiting(MAKE), 0); /* it boots */
    now_ms += SANDBOX_REST_MS;
    tick();
    ck_assert_uint_eq(waiting(MAKE), 1);
}
END_TEST

START_TEST(services_of_a_group_open_their_own)
{
    static char name[] = "b";

    strcpy(b.group, name);
    parking_configure(p, &config);
    come_up();
    ck_assert(!create(&b, "v")->sandbox[0]);
    a.runtime = name; /* of what kind its network is, who knows */
    ck_assert(!create(&a, "u")->sandbox[0]);
    a.runtime = NULL;
    ck_assert(create(&a, "w")->sandbox[0]);
}
END_TEST

/* None is parked for the first start of a service that could not use it, and none for its later
 * ones. */
START_TEST(none_for_services_of_groups_alone)
{
    strcpy(a.group, "b");
    strcpy(b.group, "b");
    if (_i == 1)
        b.group[0] = '\0';
    p->demand = (struct parking_demand){0};
    parking_configure(p, &config);
    tell_list(now_ms);
    calm(1000);
    start_one(&a, "v");
    calm(1000);
    start_one(&a, "w");
    calm(1000);
    ck_assert_uint_eq(asked[MAKE], _i);
}
END_TEST

START_TEST(none_where_it_cannot_be)
{
    usable = _i != 0;
    if (_i == 1) {
        config.sandboxes = 0;
        parking_configure(p, &config);
    }
    if (_i == 2)
        parking_stop(p);
    tell_list(now_ms);
    calm(1000);
    ck_assert_uint_eq(asked[MAKE], 0);
    ck_assert(!start_one(&a, "w")->sandbox[0]);
    inspect("w");
    ck_assert_uint_eq(last_port(), 8080);
    calm(1000);
    ck_assert_uint_eq(asked[MAKE], 0);
}
END_TEST

/* --- how many -------------------------------------------------------------------------------- */

START_TEST(as_many_as_the_last_bursts_needed)
{
    come_up();
    burst(5);
    calm(5000);
    ck_assert_uint_eq(view().parked, 5);
    burst(2);
    calm(5000);
    ck_assert_uint_eq(view().parked, 5);
    burst(40);
    calm(10000);
    ck_assert_uint_eq(view().parked, KG_SANDBOX_MAX);
    calm(KG_SANDBOX_KEEP_MS + 60000);
    ck_assert_uint_eq(view().parked, 1);
    calm(KG_SANDBOX_KEEP_ONE_MS);
    ck_assert_uint_eq(view().parked, 0);
    burst(1);
    calm(1000);
    ck_assert_uint_eq(view().parked, 1);
}
END_TEST

START_TEST(no_more_are_known_than_there_is_room_for)
{
    come_up();
    p->counts[SANDBOX_TAKEN] += KG_SANDBOX_MAX_KNOWN - 1; /* with the one that is there: the most */
    ck_assert(start_one(&a, "w")->sandbox[0]);
    calm(5000);
    ck_assert_uint_eq(count_boxes(true), 1);
    p->counts[SANDBOX_TAKEN]--;
    calm(KG_BACKOFF_LAST_MS);
    ck_assert_uint_eq(count_boxes(true), 2);
    p->counts[SANDBOX_TAKEN] -= KG_SANDBOX_MAX_KNOWN - 2;
}
END_TEST

START_TEST(no_more_than_the_configuration_says)
{
    come_up();
    burst(10);
    config.sandboxes = _i;
    parking_configure(p, &config);
    calm(5000);
    ck_assert_uint_eq(view().parked, (unsigned)_i);
    config.sandboxes = 1;
    parking_configure(p, &config);
    calm(100);
    ck_assert_uint_eq(view().parked, 1);
    config.sandboxes = 0;
    parking_configure(p, &config);
    calm(100);
    ck_assert_uint_eq(view().parked, 0);
    ck_assert_uint_eq(view().taken, 1); /* what a worker has it keeps */
}
END_TEST

START_TEST(demand_is_counted_by_bursts)
{
    struct parking_demand d = {0};
    int64_t t = 1000000;

    ck_assert_uint_eq(parking_demand_want(&d, t), 0);
    ck_assert_int_eq(parking_demand_due_ms(&d, t), KG_NEVER);
    parking_demand_seed(&d, t);
    ck_assert_uint_eq(parking_demand_want(&d, t), 1);
    for (int i = 0; i < 3; i++)
        parking_demand_note(&d, t += DEMAND_BURST_MS / 2);
    ck_assert_uint_eq(parking_demand_want(&d, t), 3);
    parking_demand_note(&d, t += DEMAND_BURST_MS + 1); /* another burst, of one */
    ck_assert_uint_eq(parking_demand_want(&d, t), 3);
    for (int i = 0; i < 3 && parking_demand_want(&d, t) > 1; i++)
        t = parking_demand_due_ms(&d, t);
    ck_assert_uint_eq(parking_demand_want(&d, t), 1);
    t = parking_demand_due_ms(&d, t);
    ck_assert_uint_eq(parking_demand_want(&d, t - 1), 1);
    ck_assert_uint_eq(parking_demand_want(&d, t), 0);
}
END_TEST

/* --- is it worth it? ------------------------------------------------------------------------- */

static void start_some(int n)
{
    static int count;
    char name[40];

    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "s%d", count++);
        start_one(&a, name);
        calm(3000);
    }
}

START_TEST(it_stays_on_where_it_gains)
{
    come_up();
    start_some(10);
    ck_assert(!view().off);
    ck_assert_int_eq(view().joined_ms, 70);
    ck_assert_int_eq(view().own_ms, 160);
    ck_assert_uint_eq(view().joined, 10);
}
END_TEST

START_TEST(it_switches_itself_off_where_it_does_not)
{
    own_ms = 80;
    come_up();
    start_some(GAIN_ENOUGH - 1);
    ck_assert(!view().off);
    start_some(1);
    ck_assert(view().off);
    ck_assert_uint_eq(view().parked, 0);
    ck_assert_uint_eq(count_boxes(true), GAIN_ENOUGH);
    start_some(3);
    ck_assert_uint_eq(count_boxes(true), GAIN_ENOUGH);
    parking_engine_state(p, false);
    parking_engine_state(p, true); /* it may be another engine now */
    list_now();
    calm(1000);
    ck_assert_uint_eq(view().parked, 1);
}
END_TEST

START_TEST(starts_at_the_same_time_say_nothing)
{
    struct engine_container *w, *v;

    come_up();
    w = create(&a, "w");
    v = create(&a, "v");
    ops->start(ops->self, w->id, on_done, NULL);
    ops->start(ops->self, v->id, on_done, NULL);
    answer(START, GOOD);
    answer(START, GOOD);
    ck_assert_int_eq(view().joined_ms, -1);
    ck_assert_int_eq(view().own_ms, 160); /* the sandbox's own */
}
END_TEST

START_TEST(an_engine_that_refuses_joins_gets_none)
{
    come_up();
    refuse_joins = true;
    for (int i = 0; i < PARKING_REFUSALS; i++) {
        char name[8] = {'w', (char)('0' + i), '\0'};
        ck_assert(!create(&a, name)->sandbox[0]); /* the one who asked sees nothing of it */
        calm(1000);
    }
    ck_assert(view().off);
    ck_assert_uint_eq(count_boxes(true), 0);
}
END_TEST

START_TEST(a_refusal_for_other_reasons_gives_it_back)
{
    unsigned before;

    come_up();
    no_image = true;
    ops->create(ops->self, &a, "w", on_done, NULL);
    answer(JOIN, GOOD);
    ck_assert_int_eq(last.code, KG_ENOTFOUND);
    ck_assert_str_eq(last.words, "No such image: x");
    ck_assert_uint_eq(call_count, 0);
    ck_assert_uint_eq(view().parked, 1);
    no_image = false;
    create(&b, "w");
    calm(1000);
    before = view().parked;
    ops->create(ops->self, &a, "w", on_done, NULL);
    ck_assert_uint_eq(view().parked, before - 1);
    answer(JOIN, GOOD);
    ck_assert_int_eq(last.code, KG_ECONFLICT);
    ck_assert_uint_eq(view().parked, before);
}
END_TEST

/* --- sandboxes that fail --------------------------------------------------------------------- */

START_TEST(one_that_cannot_be_made_is_tried_again_ever_later)
{
    tell_list(now_ms);
    for (int i = 0; i < 3; i++) {
        tick();
        answer(MAKE, NO);
        ck_assert_int_eq(parking_due_ms(p), now_ms + (KG_BACKOFF_FIRST_MS << i));
        now_ms = parking_due_ms(p);
    }
    ck_assert(!start_one(&a, "w")->sandbox[0]); /* nobody waits for it */
    calm(100000);
    ck_assert_uint_eq(view().parked, 1);
    ck_assert_uint_eq(count_boxes(true), 1);
}
END_TEST

START_TEST(one_that_cannot_be_started_is_removed)
{
    tell_list(now_ms);
    tick();
    answer(MAKE, GOOD);
    answer(START, NO);
    calm(100);
    ck_assert_uint_eq(count_boxes(true), 0);
    calm(KG_BACKOFF_FIRST_MS);
    ck_assert_uint_eq(view().parked, 1);
}
END_TEST

/* What we made ourselves is removed by its id, whatever the engine calls it. */
START_TEST(an_engine_that_describes_them_otherwise_gets_none)
{
    tell_list(now_ms);
    for (int i = 0; i < PARKING_REFUSALS; i++) {
        ck_assert(!view().off);
        tick();
        answer(MAKE, GOOD);
        answer(START, GOOD);
        if (i == 1)
            boxes[box_count - 1].is_sandbox = false;
        boxes[box_count - 1].sealed = false;
        answer(ASK, GOOD);
        tick();
        answer(REMOVE, GOOD);
        ck_assert_uint_eq(waiting(MAKE), 0);
        if (i + 1 < PARKING_REFUSALS)
            ck_assert_int_eq(parking_due_ms(p), now_ms + (KG_BACKOFF_FIRST_MS << i));
        now_ms += KG_BACKOFF_FIRST_MS << i;
    }
    ck_assert(view().off);
    calm(1000000);
    ck_assert_uint_eq(asked[MAKE], PARKING_REFUSALS);
    ck_assert_uint_eq(count_boxes(true) + count_boxes(false), 0);
    ck_assert(!start_one(&a, "w")->sandbox[0]);
    parking_engine_state(p, false); /* it may come back as another one */
    parking_engine_state(p, true);
    list_now();
    calm(1000);
    ck_assert_uint_eq(view().parked, 1);
}
END_TEST

/* Failures of another kind say nothing of that; one that is as it was made says the opposite. */
START_TEST(one_that_is_described_otherwise_once_is_one_failure)
{
    tell_list(now_ms);
    for (int i = 0; i < 2 * PARKING_REFUSALS; i++) {
        tick();
        answer(MAKE, i % PARKING_REFUSALS == 2 ? GOOD : NO);
        if (i % PARKING_REFUSALS == 2) {
            answer(START, GOOD);
            boxes[box_count - 1].sealed = false;
            answer(ASK, GOOD);
            tick();
            answer(REMOVE, GOOD);
        }
        ck_assert(!view().off);
        now_ms = parking_due_ms(p);
    }
    ck_assert_uint_eq(p->different, 2);
    calm(100);
    ck_assert_uint_eq(view().parked, 1);
    ck_assert_uint_eq(p->different, 0);
}
END_TEST

START_TEST(one_that_vanishes_is_made_again_ever_later)
{
    tell_list(now_ms);
    for (int i = 0; i < 3; i++) {
        tick();
        answer(MAKE, GOOD);
        answer(START, GOOD);
        boxes[box_count - 1].state = ENGINE_NONE;
        answer(ASK, GOOD);
        ck_assert_int_eq(parking_due_ms(p), now_ms + (KG_BACKOFF_FIRST_MS << i));
        now_ms = parking_due_ms(p);
    }
    calm(100);
    ck_assert_uint_eq(view().parked, 1);
}
END_TEST

/* At each of the calls that make one, both ways an answer may fail to come. */
static const struct {
    enum kind kind;
    enum outcome outcome;
} lost_calls[] = {
    {MAKE, LOST}, {MAKE, LOST_BUT_DONE}, {START, LOST}, {START, LOST_BUT_DONE}, {ASK, LOST}};

START_TEST(an_answer_that_does_not_come_leaves_nothing_behind)
{
    static const enum kind steps[] = {MAKE, START, ASK};

    tell_list(now_ms);
    tick();
    for (size_t i = 0; steps[i] != lost_calls[_i].kind; i++)
        answer(steps[i], GOOD);
    answer(lost_calls[_i].kind, lost_calls[_i].outcome);
    calm(10000);
    ck_assert_uint_eq(view().parked, 1);
    ck_assert_uint_eq(count_boxes(true), 1);
    ck_assert(parking_quiet(p));
}
END_TEST

START_TEST(no_memory_is_no_catastrophe)
{
    struct engine_container *w;

    tell_list(now_ms);
    no_memory = true;
    tick();
    ck_assert_uint_eq(ops->create(ops->self, &a, "w", on_done, NULL), 0);
    ck_assert_uint_eq(ops->inspect(ops->self, &a, "w", on_done, NULL), 0);
    ck_assert_uint_eq(ops->remove(ops->self, "w", on_done, NULL), 0);
    ck_assert_uint_eq(ops->start(ops->self, "w", on_done, NULL), 0);
    no_memory = false;
    calm(10000);
    ck_assert_uint_eq(view().parked, 1);
    w = create(&a, "w");
    no_memory = true;
    ck_assert_uint_eq(ops->remove(ops->self, w->id, on_done, NULL), 0);
    no_memory = false;
    ops->remove(ops->self, w->id, on_done, NULL);
    no_memory = true;
    answer(REMOVE, GOOD); /* and the sandbox's cannot be asked for */
    no_memory = false;
    calm(10000);
    ck_assert_uint_eq(count_boxes(true), 1);
    ck_assert_int_eq(answers, 2);
}
END_TEST

/* --- the end --------------------------------------------------------------------------------- */

START_TEST(what_was_found_goes_where_no_worker_is)
{
    come_up();
    open_again();
    list_now();
    parking_stop(p);
    ck_assert_uint_eq(view().parked, 1); /* one that is not known yet may use it */
    parking_clear(p);
    calm(1000);
    ck_assert(parking_quiet(p) && count_boxes(true) == 0);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *s = suite_create("parking");
    TCase *t = tcase_create("parking");

    suite_add_tcase(s, t);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, one_is_parked_before_anybody_asks);
    tcase_add_test(t, a_worker_joins_and_takes_it_along);
    tcase_add_loop_test(t, a_start_finds_that_it_was_disconnected, 0, 2);
    tcase_add_test(t, what_is_parked_beside_one_that_was_disconnected_is_asked_about);
    tcase_add_test(t, two_workers_never_share);
    tcase_add_test(t, few_are_removed_at_a_time);
    tcase_add_test(t, nothing_is_parked_while_a_worker_starts);
    tcase_add_test(t, services_of_a_group_open_their_own);
    tcase_add_loop_test(t, none_for_services_of_groups_alone, 0, 2);
    tcase_add_loop_test(t, none_where_it_cannot_be, 0, 3);
    tcase_add_test(t, as_many_as_the_last_bursts_needed);
    tcase_add_test(t, no_more_are_known_than_there_is_room_for);
    tcase_add_loop_test(t, no_more_than_the_configuration_says, 2, 5);
    tcase_add_test(t, demand_is_counted_by_bursts);
    tcase_add_test(t, it_stays_on_where_it_gains);
    tcase_add_test(t, it_switches_itself_off_where_it_does_not);
    tcase_add_test(t, starts_at_the_same_time_say_nothing);
    tcase_add_test(t, an_engine_that_refuses_joins_gets_none);
    tcase_add_test(t, a_refusal_for_other_reasons_gives_it_back);
    tcase_add_test(t, one_that_cannot_be_made_is_tried_again_ever_later);
    tcase_add_test(t, one_that_cannot_be_started_is_removed);
    tcase_add_test(t, an_engine_that_describes_them_otherwise_gets_none);
    tcase_add_test(t, one_that_is_described_otherwise_once_is_one_failure);
    tcase_add_test(t, one_that_vanishes_is_made_again_ever_later);
    tcase_add_loop_test(t, an_answer_that_does_not_come_leaves_nothing_behind, 0,
                        sizeof lost_calls / sizeof *lost_calls);
    tcase_add_test(t, no_memory_is_no_catastrophe);
    tcase_add_test(t, what_was_found_goes_where_no_worker_is);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(make_suite());
    int failed;

    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
