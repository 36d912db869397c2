/* SPDX-License-Identifier: Apache-2.0 */
/* idle_timeout "auto" in the fleet: what it is told, what follows from plans. The difficulty: hours
 * of use must pass in moments, and what the reaper's room decides is not judged here. */
#include "fleet_rig.h"

#define MINUTE 60000

static struct rig *rig_auto(void)
{
    struct rig *r = rig_new(1);

    r->service.idle_auto = true;
    r->service.idle_min_ms = MINUTE;
    r->service.idle_max_ms = 60 * MINUTE;
    r->service.idle_goal = 0.5;
    configure(r);
    return r;
}

static struct fleet_habit_view seen(struct rig *r)
{
    struct fleet_habit_view v = {0};

    ck_assert(fleet_habit_view(r->f, 0, r->now_ms, &v));
    return v;
}

/* Whatever the engine is asked meanwhile is answered well, and at once. */
static void serve_engine(struct rig *r)
{
    for (size_t n = 0; n < r->call_count; n++) {
        if (r->calls[n].answered || r->calls[n].cancelled)
            continue;
        if (r->calls[n].verb == CREATE)
            answer_created(r);
        else if (r->calls[n].verb == LOOK)
            answer_look(r, ENGINE_RUNNING);
        else
            answer_code(r, r->calls[n].verb, 0);
    }
    r->call_count = 0;
    for (; r->said_read < r->said_count; r->said_read++)
        if (r->said[r->said_read].kind == PROBE)
            fleet_probed(r->f, 0, r->said[r->said_read].instance, r->now_ms);
    r->said_count = r->said_read = 0;
}

static void pass_served(struct rig *r, int64_t ms)
{
    int64_t end_ms = r->now_ms + ms, due_ms;

    serve_engine(r);
    while ((due_ms = fleet_due_ms(r->f)) <= end_ms) {
        pass(r, due_ms > r->now_ms ? due_ms - r->now_ms : 0);
        serve_engine(r);
    }
    pass(r, end_ms - r->now_ms);
}

/* One request of 100 ms. True: it found an instance. */
static bool use(struct rig *r)
{
    struct fleet_view v;
    bool warm;

    ask(r, 0);
    warm = fleet_waiting(r->f, 0) == 0;
    for (int n = 0; n < 20 && fleet_waiting(r->f, 0) > 0; n++)
        serve_engine(r);
    ck_assert_uint_eq(fleet_view(r->f, 0, &v, 1, r->now_ms), 1);
    ck_assert_uint_eq(v.slots_out, 1);
    r->said_count = r->said_read = 0;
    r->now_ms += 100;
    give_back(r, 0, v.instance, 1);
    return warm;
}

/* They teach nothing, and change no plan. */
START_TEST(monitors_are_no_use)
{
    struct rig *r = rig_auto();
    struct fleet_habit_view before;
    uint64_t instance;

    for (int n = 0; n < 8; n++) {
        pass_served(r, 30 * MINUTE);
        use(r);
    }
    before = seen(r);
    ck_assert_uint_eq(before.known, 7);
    for (int n = 0; n < 3; n++) {
        fleet_acquire(r->f, 0, ++r->ticket, 0, true, r->now_ms);
        instance = hear(r, GRANT)->instance;
        fleet_return(r->f, 0, instance, 1, 0, false, r->now_ms);
    }
    ck_assert_uint_eq(seen(r).known, before.known);
    ck_assert_int_eq(seen(r).wake_in_ms, before.wake_in_ms);
    ck_assert_int_eq(seen(r).keep_ms, before.keep_ms);
    rig_free(r);
}
END_TEST

START_TEST(monitors_alone_are_no_first_use)
{
    struct rig *r = rig_auto();
    struct fleet_view v;

    r->service.min_instances = 1;
    configure(r);
    pass_served(r, MINUTE);
    ck_assert_uint_eq(fleet_view(r->f, 0, &v, 1, r->now_ms), 1);
    fleet_acquire(r->f, 0, ++r->ticket, 0, true, r->now_ms);
    ck_assert_uint_eq(hear(r, GRANT)->instance, v.instance);
    fleet_return(r->f, 0, v.instance, 1, 0, false, r->now_ms);
    ck_assert_str_eq(seen(r).why, "not used yet");
    rig_free(r);
}
END_TEST

START_TEST(five_minutes_until_it_knows_more)
{
    struct rig *r = rig_auto();

    ck_assert_str_eq(seen(r).why, "not used yet");
    use(r);
    ck_assert_uint_eq(seen(r).known, 0);
    ck_assert_int_eq(seen(r).keep_ms, 5 * MINUTE);
    ck_assert_int_eq(r->reaped, 0);
    pass_served(r, 5 * MINUTE - 1000);
    ck_assert_int_eq(r->reaped, 0);
    pass_served(r, 2000);
    ck_assert_int_eq(r->reaped, 1);
    rig_free(r);
}
END_TEST

START_TEST(idle_times_are_told)
{
    struct rig *r = rig_auto();

    for (unsigned n = 0; n < 5; n++) {
        use(r);
        ck_assert_uint_eq(seen(r).known, n);
        pass_served(r, 20000);
    }
    ck_assert_uint_gt(strlen(seen(r).why), 0);
    rig_free(r);
}
END_TEST

/* Four days of a use every half hour: it need not be kept all the time, and is there when it is
 * needed. */
START_TEST(what_has_a_rhythm_is_woken_for_it)
{
    struct rig *r = rig_auto();
    int warm = 0, running = 0;

    for (int n = 0; n < 192; n++) {
        bool found = use(r);
        if (n < 96) {
            pass_served(r, 30 * MINUTE - 100);
            continue;
        }
        warm += found;
        for (int minute = 0; minute < 30; minute++) {
            struct fleet_view v;
            pass_served(r, MINUTE - (minute == 0 ? 100 : 0));
            running += fleet_view(r->f, 0, &v, 1, r->now_ms) > 0 && strcmp(v.state, "ready") == 0;
        }
    }
    ck_assert_int_ge(warm, 80); /* of 96 */
    ck_assert_int_lt(running, 96 * 20);
    rig_free(r);
}
END_TEST

struct kept {
    char service[2][64], line[2][KG_MAX_HABIT_BYTES];
    int64_t idle_ms[2];
    int count;
};

static void keep_line(void *arg, const char *service, int64_t idle_ms, struct kg_str habit)
{
    struct kept *k = arg;

    ck_assert_int_lt(k->count, 2);
    snprintf(k->service[k->count], sizeof k->service[0], "%s", service);
    ck_assert(kg_str_copy(k->line[k->count], sizeof k->line[0], habit));
    k->idle_ms[k->count++] = idle_ms;
}

START_TEST(what_was_learnt_goes_to_the_next_run)
{
    struct rig *r = rig_auto(), *next = rig_auto();
    static struct kept kept;

    for (int n = 0; n < 20; n++) {
        use(r);
        pass_served(r, 2 * MINUTE);
    }
    ck_assert(fleet_habits_changed(r->f));
    ck_assert(!fleet_habits_changed(r->f));
    fleet_each_habit(r->f, r->now_ms, keep_line, &kept);
    ck_assert_int_eq(kept.count, 2);
    ck_assert_str_eq(kept.service[0], "");
    ck_assert_str_eq(kept.service[1], "a");
    ck_assert_int_eq(kept.idle_ms[1], 2 * MINUTE);
    ck_assert_int_eq(fleet_recall_habit(next->f, "nobody", 0, KG_STR("x")), KG_ENOTFOUND);
    ck_assert_int_eq(fleet_recall_habit(next->f, "a", 0, KG_STR("garbage")), KG_EINVAL);
    for (int n = 0; n < 2; n++)
        ck_assert_int_eq(
            fleet_recall_habit(next->f, kept.service[n], kept.idle_ms[n], kg_str_of(kept.line[n])),
            0);
    ck_assert_uint_eq(seen(next).known, seen(r).known);
    ck_assert_str_ne(seen(next).why, "not used yet");
    rig_free(r);
    rig_free(next);
}
END_TEST

/* Used every half hour for two days, and then no more. Until it runs, though nobody asked. */
static void woken_for_nobody(struct rig *r)
{
    for (int n = 0; n < 96; n++) {
        use(r);
        pass_served(r, n < 95 ? 30 * MINUTE - 100 : 0);
    }
    for (int n = 0; n < 30 * 60 && strcmp(state_of(r, 0), "ready") == 0; n++)
        pass_served(r, 1000);
    for (int n = 0; n < 30 * 60 && strcmp(state_of(r, 0), "ready") != 0; n++)
        pass_served(r, 1000);
    ck_assert_str_eq(state_of(r, 0), "ready");
}

/* What it was woken for does not come: whether it was made or started again, it goes after that
 * time. */
START_TEST(what_is_started_for_nobody_is_stopped_as_soon)
{
    static const enum config_on_idle on_idle[] = {CONFIG_ON_IDLE_REMOVE, CONFIG_ON_IDLE_STOP};
    int ran[2] = {0};

    for (int n = 0; n < 2; n++) {
        struct rig *r = rig_auto();
        r->service.on_idle = on_idle[n];
        configure(r);
        woken_for_nobody(r);
        for (; ran[n] < 7200 && strcmp(state_of(r, 0), "ready") == 0; ran[n]++)
            pass_served(r, 1000);
        rig_free(r);
    }
    ck_assert_int_lt(ran[0], 7200);
    ck_assert_int_eq(ran[1], ran[0]);
}
END_TEST

/* What was expected does not wake it again, before somebody comes. */
START_TEST(sent_to_sleep_it_sleeps)
{
    struct rig *r = rig_auto();

    woken_for_nobody(r);
    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    pass_served(r, 5 * MINUTE);
    ck_assert_int_eq(r->done_count, 1);
    ck_assert_uint_eq(count_in(r, 0), 0);
    use(r);
    rig_free(r);
}
END_TEST

START_TEST(a_reload_lets_run_what_was_woken)
{
    struct rig *r = rig_auto();
    int reaped;

    r->service.idle_max_ms = 10 * MINUTE;
    configure(r);
    woken_for_nobody(r);
    reaped = r->reaped;
    configure(r);
    pass_served(r, 1000);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_int_eq(r->reaped, reaped);
    rig_free(r);
}
END_TEST

static void note_clock(void *arg, const char *name, int64_t used_ms, bool in_use)
{
    ck_assert_str_ne(name, "");
    ck_assert(!in_use);
    ck_assert_int_gt(used_ms, 0); /* 0 is an order to end it */
    ++*(int *)arg;
}

/* The machine was started since the last use, which is before its clock began. */
START_TEST(what_is_woken_after_a_boot_is_not_written_down_as_ending)
{
    struct rig *r = rig_auto(), *next = rig_auto();
    static struct kept lines;
    int clocks = 0;

    for (int n = 0; n < 96; n++) {
        use(r);
        pass_served(r, n < 95 ? 30 * MINUTE - 100 : 0);
    }
    fleet_each_habit(r->f, r->now_ms, keep_line, &lines);
    for (int n = 0; n < 2; n++)
        ck_assert_int_eq(
            fleet_recall_habit(next->f, lines.service[n], 20 * MINUTE, kg_str_of(lines.line[n])),
            0);
    for (int n = 0; n < 20 * 60 && strcmp(state_of(next, 0), "ready") != 0; n++)
        pass_served(next, 1000);
    ck_assert_str_eq(state_of(next, 0), "ready"); /* nobody asked for it */
    fleet_each_clock(next->f, note_clock, &clocks);
    ck_assert_int_eq(clocks, 1);
    rig_free(r);
    rig_free(next);
}
END_TEST

START_TEST(other_bounds_hold_at_once)
{
    struct rig *r = rig_auto();

    use(r);
    r->service.idle_max_ms = 2 * MINUTE;
    configure(r);
    ck_assert_int_le(seen(r).keep_ms, 2 * MINUTE);
    r->service.idle_auto = false;
    r->service.idle_timeout_ms = 3 * MINUTE;
    configure(r);
    ck_assert(!fleet_habit_view(r->f, 0, r->now_ms, &(struct fleet_habit_view){0}));
    pass_served(r, 3 * MINUTE - 1000);
    ck_assert_int_eq(r->reaped, 0);
    pass_served(r, 2000);
    ck_assert_int_eq(r->reaped, 1);
    rig_free(r);
}
END_TEST

START_TEST(other_bounds_hold_at_once_where_more_changes)
{
    struct rig *r = rig_auto();
    struct config_service next = r->service;

    use(r);
    ck_assert_int_gt(seen(r).keep_ms, 2 * MINUTE);
    next.idle_max_ms = 2 * MINUTE;
    snprintf(next.spec, sizeof next.spec, "another");
    r->services[0] = &next;
    configure(r);
    ck_assert_int_le(seen(r).keep_ms, 2 * MINUTE);
    rig_free(r);
}
END_TEST

START_TEST(a_worker_that_dies_ends_its_use)
{
    struct rig *r = rig_auto();
    static struct kept lines;

    use(r);
    pass_served(r, 2 * MINUTE);
    ask(r, 0); /* it is being used */
    tell(r, ENGINE_EVENT_DIE);
    pass_served(r, 1000);
    fleet_each_habit(r->f, r->now_ms, keep_line, &lines);
    ck_assert_int_eq(lines.idle_ms[1], 1000);
    rig_free(r);
}
END_TEST

/* What is used until the end is drained by then: its idle clock has stopped. */
START_TEST(a_use_that_outlasts_a_change_ends_when_it_does)
{
    struct rig *r = rig_auto();
    struct config_service next = r->service;
    static struct kept lines;
    uint64_t instance;

    use(r);
    pass_served(r, 2 * MINUTE);
    ask(r, 0);
    instance = hear(r, GRANT)->instance;
    snprintf(next.spec, sizeof next.spec, "another");
    r->services[0] = &next;
    configure(r);
    pass_served(r, 10 * MINUTE);
    give_back(r, 0, instance, 1);
    pass_served(r, 1000);
    fleet_each_habit(r->f, r->now_ms, keep_line, &lines);
    ck_assert_int_eq(lines.idle_ms[1], 1000);
    rig_free(r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fleet_habit");
    TCase *t = tcase_create("auto");
    SRunner *runner;
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_test(t, five_minutes_until_it_knows_more);
    tcase_add_test(t, monitors_are_no_use);
    tcase_add_test(t, monitors_alone_are_no_first_use);
    tcase_add_test(t, idle_times_are_told);
    tcase_add_test(t, what_has_a_rhythm_is_woken_for_it);
    tcase_add_test(t, what_was_learnt_goes_to_the_next_run);
    tcase_add_test(t, what_is_woken_after_a_boot_is_not_written_down_as_ending);
    tcase_add_test(t, what_is_started_for_nobody_is_stopped_as_soon);
    tcase_add_test(t, sent_to_sleep_it_sleeps);
    tcase_add_test(t, a_reload_lets_run_what_was_woken);
    tcase_add_test(t, other_bounds_hold_at_once);
    tcase_add_test(t, other_bounds_hold_at_once_where_more_changes);
    tcase_add_test(t, a_worker_that_dies_ends_its_use);
    tcase_add_test(t, a_use_that_outlasts_a_change_ends_when_it_does);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
