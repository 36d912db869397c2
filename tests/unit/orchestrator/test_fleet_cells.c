/* SPDX-License-Identifier: Apache-2.0 */
/* Rare cells of the instance table: answers that come when an instance has gone on, and what
 * somebody else does to one that is on its way out. The difficulty: to get there by what an engine
 * and its owner can do, one order of arrival after the other. */
#include "fleet_rig.h"

#define IDLE_MS 300000

static struct rig *rig_that(enum config_on_idle on_idle)
{
    struct rig *r = rig_new(1);

    r->service.on_idle = on_idle;
    configure(r);
    return r;
}

static void change_spec(struct rig *r)
{
    static struct config_service changed;

    changed = r->service;
    snprintf(changed.spec, sizeof changed.spec, "another");
    r->services[0] = &changed;
    configure(r);
}

/* In use, and its service has changed: it may end its exchange. */
static struct rig *rig_draining(void)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    until_ready(r);
    hear(r, GRANT);
    change_spec(r);
    ck_assert_str_eq(state_of(r, 0), "draining");
    pass(r, 1000);
    return r;
}

static void check_replaced(struct rig *r, const char *state)
{
    ck_assert_str_eq(state_of(r, 0), state);
    rig_free(r);
}

START_TEST(what_drains_may_end_in_every_way)
{
    static const struct {
        enum engine_state found;
        const char *state;
    } ways[] = {{ENGINE_EXITED, "removing"},
                {ENGINE_NONE, "creating"}, /* its successor */
                {ENGINE_PAUSED, "stopping"},
                {ENGINE_RUNNING, "draining"}};

    for (size_t n = 0; n < sizeof ways / sizeof *ways; n++) {
        struct rig *r = rig_draining();
        fleet_suspect(r->f, 0, r->said[r->said_count - 1].instance, r->now_ms);
        if (ways[n].found == ENGINE_NONE)
            answer_code(r, LOOK, KG_ENOTFOUND);
        else
            answer_look(r, ways[n].found);
        check_replaced(r, ways[n].state);
    }
}
END_TEST

START_TEST(what_drains_may_die)
{
    struct rig *r = rig_draining();

    tell(r, ENGINE_EVENT_DIE);
    hear(r, RECALL);
    hear(r, GONE);
    expect(r, REMOVE);
    check_replaced(r, "removing");
}
END_TEST

/* Its pause is under way when it is wanted, and then wanted no more: it is resumed all the same,
 * for whoever uses it. */
START_TEST(what_drains_is_resumed)
{
    for (int refused = 0; refused < 2; refused++) {
        struct rig *r = rig_that(CONFIG_ON_IDLE_PAUSE);
        warm(r);
        pass(r, IDLE_MS);
        ck_assert_str_eq(state_of(r, 0), "paused");
        ask(r, 0);
        hear(r, GRANT);
        change_spec(r);
        ck_assert_str_eq(state_of(r, 0), "draining");
        answer_code(r, PAUSE, refused ? KG_EIO : 0);
        ck_assert_str_eq(state_of(r, 0), "draining");
        if (refused) /* who used it goes first: it is stopped, resumed or not */
            give_back(r, 0, r->said[r->said_count - 1].instance, 1);
        answer_code(r, UNPAUSE, 0);
        check_replaced(r, refused ? "stopping" : "draining");
    }
}
END_TEST

/* Whoever is served by it waits for that, whatever becomes of the first order: no answer comes, or
 * the pause before it is carried out after it. */
START_TEST(what_drains_is_resumed_until_it_runs)
{
    struct rig *r = rig_that(CONFIG_ON_IDLE_PAUSE);

    warm(r);
    pass(r, IDLE_MS);
    answer_code(r, PAUSE, 0);
    ask(r, 0);
    hear(r, GRANT);
    change_spec(r);
    hear(r, RECALL);
    if (_i == 0) {
        answer_code(r, UNPAUSE, KG_ETIMEOUT);
    } else {
        answer_code(r, UNPAUSE, 0);
        tell(r, ENGINE_EVENT_PAUSE);
    }
    answer_look(r, ENGINE_PAUSED);
    ck_assert_str_eq(state_of(r, 0), "draining");
    hear_nothing(r);
    answer_code(r, UNPAUSE, 0);
    ck_assert_str_eq(state_of(r, 0), "draining");
    pass(r, 3000);
    tell(r, ENGINE_EVENT_PAUSE); /* that one is somebody else's */
    answer_look(r, ENGINE_PAUSED);
    hear(r, GONE);
    check_replaced(r, "stopping");
}
END_TEST

/* Its pause is under way when it is wanted no more. */
START_TEST(what_stops_is_not_paused)
{
    for (int refused = 0; refused < 2; refused++) {
        struct rig *r = rig_that(CONFIG_ON_IDLE_PAUSE);
        warm(r);
        pass(r, IDLE_MS);
        change_spec(r);
        ck_assert_str_eq(state_of(r, 0), "stopping");
        answer_code(r, PAUSE, refused ? KG_EIO : 0);
        expect(r, STOP);
        check_replaced(r, "stopping");
    }
}
END_TEST

/* It dies while its pause, or its resumption, is under way. */
START_TEST(what_died_is_removed_whatever_comes)
{
    for (int way = 0; way < 3; way++) {
        struct rig *r = rig_that(CONFIG_ON_IDLE_PAUSE);
        warm(r);
        pass(r, IDLE_MS);
        if (way == 2) {
            answer_code(r, PAUSE, 0);
            ask(r, 0);
            expect(r, UNPAUSE);
        }
        tell(r, ENGINE_EVENT_DIE);
        ck_assert_str_eq(state_of(r, 0), "removing");
        answer_code(r, way == 2 ? UNPAUSE : PAUSE, way == 1 ? KG_EIO : 0);
        expect(r, REMOVE);
        check_replaced(r, "removing");
    }
}
END_TEST

START_TEST(what_is_stopped_may_be_looked_at)
{
    struct rig *r = rig_that(CONFIG_ON_IDLE_STOP);

    warm(r);
    pass(r, IDLE_MS);
    answer_code(r, STOP, 0);
    ck_assert_str_eq(state_of(r, 0), "stopped");
    tell(r, ENGINE_EVENT_START); /* by somebody else, who has stopped it again */
    answer_code(r, LOOK, KG_ETIMEOUT);
    ck_assert_str_eq(state_of(r, 0), "stopped");
    answer_look(r, ENGINE_CREATED);
    ck_assert_str_eq(state_of(r, 0), "stopped");
    tell(r, ENGINE_EVENT_START); /* this one has paused it */
    answer_look(r, ENGINE_PAUSED);
    expect(r, STOP);
    check_replaced(r, "stopping");
}
END_TEST

START_TEST(what_stops_may_never_have_run)
{
    struct rig *r = rig_that(CONFIG_ON_IDLE_REMOVE);

    warm(r);
    pass(r, IDLE_MS);
    answer_code(r, STOP, KG_ETIMEOUT);
    answer_look(r, ENGINE_CREATED);
    expect(r, REMOVE);
    check_replaced(r, "removing");
}
END_TEST

/* The create is under way when it is wanted no more, and finds its name taken. */
START_TEST(what_was_not_made_is_not_removed)
{
    struct rig *r = rig_that(CONFIG_ON_IDLE_REMOVE);

    ask(r, 0);
    expect(r, CREATE);
    change_spec(r);
    ck_assert_str_eq(state_of(r, 0), "removing");
    answer_code(r, CREATE, KG_ECONFLICT);
    answer_code(r, LOOK, KG_ENOTFOUND);
    ck_assert_uint_eq(count_calls(r, REMOVE), 0);
    check_replaced(r, "creating"); /* its successor */
}
END_TEST

static void tell_by_name(struct rig *r, const char *name, enum engine_event_kind kind)
{
    struct engine_event event = {kind, box(r, 99, name, ENGINE_EXITED)};

    fleet_engine_event(r->f, &event, r->now_ms);
    fleet_check(r->f);
}

/* What is said of a container that has our name, while there can be none that we have made. */
START_TEST(hints_before_it_exists_change_nothing)
{
    struct rig *r = rig_that(CONFIG_ON_IDLE_REMOVE);
    char name[ENGINE_NAME_BYTES];
    struct fleet_view view;

    r->service.pull = CONFIG_PULL_ALWAYS;
    configure(r);
    ask(r, 0);
    fleet_view(r->f, 0, &view, 1, r->now_ms);
    snprintf(name, sizeof name, "%s", view.name);
    for (int step = 0; step < 2; step++) {
        const char *state = step == 0 ? "pulling" : "creating";
        tell_by_name(r, name, ENGINE_EVENT_DIE);
        ck_assert_str_eq(state_of(r, 0), state);
        tell_by_name(r, name, ENGINE_EVENT_PAUSE);
        ck_assert_str_eq(state_of(r, 0), state);
        if (step == 0)
            answer_code(r, PULL, 0);
    }
    ck_assert_uint_eq(count_calls(r, LOOK), 0);
    until_ready(r);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

/* The answer to a create was lost; somebody has started what it made, and it has ended: when the
 * look was made, or after it? What answers at its address may be somebody else's by then. */
START_TEST(what_is_said_to_have_died_while_it_is_looked_for_is_looked_at_again)
{
    for (int way = 0; way < 2; way++) {
        struct rig *r = rig_that(CONFIG_ON_IDLE_REMOVE);
        ask(r, 0);
        answer_code(r, CREATE, KG_ECLOSED);
        expect(r, LOOK);
        tell_by_name(r, r->name, ENGINE_EVENT_DIE);
        r->boxes = 1;
        answer_look(r, ENGINE_RUNNING);
        fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
        ck_assert_str_eq(state_of(r, 0), "probing");
        answer_look(r, way == 0 ? ENGINE_RUNNING : ENGINE_EXITED);
        check_replaced(r, way == 0 ? "ready" : "removing");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cells");
    TCase *t = tcase_create("cells");
    SRunner *runner;
    int failed;

    tcase_add_test(t, what_drains_may_end_in_every_way);
    tcase_add_test(t, what_drains_may_die);
    tcase_add_test(t, what_drains_is_resumed);
    tcase_add_loop_test(t, what_drains_is_resumed_until_it_runs, 0, 2);
    tcase_add_test(t, what_stops_is_not_paused);
    tcase_add_test(t, what_died_is_removed_whatever_comes);
    tcase_add_test(t, what_is_stopped_may_be_looked_at);
    tcase_add_test(t, what_stops_may_never_have_run);
    tcase_add_test(t, what_was_not_made_is_not_removed);
    tcase_add_test(t, hints_before_it_exists_change_nothing);
    tcase_add_test(t, what_is_said_to_have_died_while_it_is_looked_for_is_looked_at_again);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
