/* SPDX-License-Identifier: Apache-2.0 */
/* The instance table, cell by cell. The difficulty: a table is right only as a whole, so besides
 * the cells its ways are walked: from anywhere there is a way out. */
#include "orchestrator/instance.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EACH_CELL(state, event)                                                                    \
    for (int state = 0; state < INSTANCE_STATE_COUNT; state++)                                     \
        for (int event = 0; event < INSTANCE_EVENT_COUNT; event++)

static const struct instance_cell *cell(int state, int event)
{
    return instance_cell((enum instance_state)state, (enum instance_event)event);
}

START_TEST(every_cell_is_written_down)
{
    EACH_CELL(state, event)
    {
        const struct instance_cell *c = cell(state, event);
        ck_assert_msg(c->kind != INSTANCE_CELL_UNSET, "%s x %s is forgotten",
                      instance_state_name((enum instance_state)state),
                      instance_event_name((enum instance_event)event));
        if (c->kind == INSTANCE_NEVER) {
            ck_assert_uint_eq(c->effects, 0);
            ck_assert_ptr_null(c->why);
        } else {
            ck_assert(c->why && c->why[0]);
            ck_assert_uint_lt(c->effects, 1u << INSTANCE_EFFECT_COUNT);
        }
        ck_assert(c->kind != INSTANCE_GOES || (int)c->next != state);
    }
}
END_TEST

START_TEST(every_event_happens_and_every_effect_is_asked_for)
{
    unsigned effects = 0;

    for (int event = 0; event < INSTANCE_EVENT_COUNT; event++) {
        bool happens = false;
        for (int state = 0; state < INSTANCE_STATE_COUNT; state++)
            happens |= cell(state, event)->kind != INSTANCE_NEVER;
        ck_assert_msg(happens, "%s", instance_event_name((enum instance_event)event));
    }
    EACH_CELL(state, event)
    effects |= cell(state, event)->effects;
    ck_assert_uint_eq(effects, (1u << INSTANCE_EFFECT_COUNT) - 1);
}
END_TEST

/* Which states can be reached from `from`, in any number of steps. */
static unsigned reachable(int from)
{
    unsigned seen = 1u << from, before = 0;

    while (seen != before) {
        before = seen;
        EACH_CELL(state, event)
        if ((seen & 1u << state) && cell(state, event)->kind == INSTANCE_GOES)
            seen |= 1u << cell(state, event)->next;
    }
    return seen;
}

START_TEST(everything_is_reached_and_everything_ends)
{
    ck_assert_uint_eq(reachable(INSTANCE_ABSENT), (1u << INSTANCE_STATE_COUNT) - 1);
    for (int state = 0; state < INSTANCE_STATE_COUNT; state++)
        ck_assert_uint_ne(reachable(state) & 1u << INSTANCE_ABSENT, 0);
}
END_TEST

START_TEST(demand_is_ordinary_everywhere)
{
    for (int state = 0; state < INSTANCE_STATE_COUNT; state++) {
        const struct instance_cell *c = cell(state, INSTANCE_ON_DEMAND);
        bool going = state >= INSTANCE_DRAINING;
        ck_assert_int_ne(c->kind, INSTANCE_NEVER);
        ck_assert_int_eq((c->effects & INSTANCE_DOES_SUCCEED) != 0, going);
        ck_assert_int_ne(cell(state, INSTANCE_ON_DEMAND_PULL)->kind, INSTANCE_NEVER);
    }
}
END_TEST

/* Hints come late, twice, or for something else: none may be a programmer's error. */
START_TEST(hints_are_taken_in_every_state)
{
    for (int state = 0; state < INSTANCE_STATE_COUNT; state++) {
        ck_assert_int_ne(cell(state, INSTANCE_ON_DIED)->kind, INSTANCE_NEVER);
        ck_assert_int_eq(cell(state, INSTANCE_ON_DOUBT)->kind, INSTANCE_STAYS);
    }
}
END_TEST

/* Leaving what fronts may use voids it first, or waits until nothing is out. */
START_TEST(ready_is_left_with_void_or_recall)
{
    EACH_CELL(state, event)
    {
        const struct instance_cell *c = cell(state, event);
        bool used = state == INSTANCE_READY || state == INSTANCE_DRAINING;
        if (!used || c->kind != INSTANCE_GOES)
            continue;
        if (c->next == INSTANCE_PAUSED || c->next == INSTANCE_RESUMING) {
            ck_assert(event == INSTANCE_ON_IDLE_PAUSE || event == INSTANCE_ON_FROZEN);
            continue; /* fronts may keep what they know of it */
        }
        ck_assert_uint_ne(c->effects & (INSTANCE_DOES_VOID | INSTANCE_DOES_RECALL), 0);
        ck_assert(c->next != INSTANCE_DRAINING || !(c->effects & INSTANCE_DOES_VOID));
    }
}
END_TEST

/* Whoever waits for a provisioning is told when it fails, and only then. */
START_TEST(failures_refuse_and_nothing_else_does)
{
    EACH_CELL(state, event)
    {
        bool fails = event == INSTANCE_ON_FAILED || event == INSTANCE_ON_FAILED_EMPTY ||
                     event == INSTANCE_ON_GIVEN_UP;
        const struct instance_cell *c = cell(state, event);
        if (c->kind == INSTANCE_NEVER)
            continue;
        ck_assert_int_eq((c->effects & INSTANCE_DOES_REFUSE) != 0, fails);
        ck_assert(!fails || instance_is_provisioning((enum instance_state)state));
    }
}
END_TEST

/* FREE only on the way to (or in) ABSENT, one engine call at most per step. */
START_TEST(effects_fit_where_they_lead)
{
    const unsigned calls = INSTANCE_DOES_PULL | INSTANCE_DOES_CREATE | INSTANCE_DOES_START |
                           INSTANCE_DOES_LOOK | INSTANCE_DOES_STOP | INSTANCE_DOES_REMOVE |
                           INSTANCE_DOES_PAUSE | INSTANCE_DOES_UNPAUSE;

    EACH_CELL(state, event)
    {
        const struct instance_cell *c = cell(state, event);
        int next = c->kind == INSTANCE_GOES ? (int)c->next : state;
        if (c->kind == INSTANCE_NEVER)
            continue;
        if (c->effects & INSTANCE_DOES_FREE)
            ck_assert_int_eq(next, INSTANCE_ABSENT);
        if (c->kind == INSTANCE_GOES && next == INSTANCE_ABSENT)
            ck_assert_uint_ne(c->effects & INSTANCE_DOES_FREE, 0);
        ck_assert_int_le(__builtin_popcount(c->effects & calls), 1);
        ck_assert(!(c->effects & INSTANCE_DOES_STOP) || next == INSTANCE_STOPPING);
        ck_assert(!(c->effects & INSTANCE_DOES_REMOVE) || next == INSTANCE_REMOVING);
        ck_assert(!(c->effects & INSTANCE_DOES_SERVE) ||
                  instance_serves((enum instance_state)next));
        ck_assert(!(c->effects & INSTANCE_DOES_PAUSE) || next == INSTANCE_PAUSED);
        ck_assert(!(c->effects & INSTANCE_DOES_UNPAUSE) || next == INSTANCE_RESUMING ||
                  next == INSTANCE_DRAINING);
        ck_assert(!(c->effects & INSTANCE_DOES_CANCEL) || state == INSTANCE_PULLING);
    }
}
END_TEST

static size_t count_lines(const char *text, const char *start)
{
    size_t count = 0;

    for (const char *at = text; (at = strstr(at, start)) != NULL; at++)
        count++;
    return count;
}

/* The page for newcomers shows the table as the code has it. */
START_TEST(architecture_has_this_table)
{
    char path[1024];
    const char *here = __FILE__, *tests = strstr(here, "tests/unit/orchestrator/");
    struct kg_buf table, page;
    char piece[4096];
    size_t n;
    FILE *f;

    snprintf(path, sizeof path, "%.*sARCHITECTURE.md", (int)(tests - here), here);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    kg_buf_init(&table, 1 << 20);
    kg_buf_init(&page, 1 << 20);
    while ((n = fread(piece, 1, sizeof piece, f)) > 0)
        kg_buf_append(&page, piece, n);
    fclose(f);
    instance_table_print(&table);
    ck_assert_msg(strstr(page.data, table.data) != NULL, "ARCHITECTURE.md has an older table");
    kg_buf_fini(&table);
    kg_buf_fini(&page);
}
END_TEST

START_TEST(the_printed_table_is_complete)
{
    struct kg_buf out;
    size_t cells = 0;

    kg_buf_init(&out, 1 << 20);
    instance_table_print(&out);
    ck_assert_int_eq(out.error, 0);
    EACH_CELL(state, event)
    {
        char line[128];
        bool never = cell(state, event)->kind == INSTANCE_NEVER;
        snprintf(line, sizeof line, "\n| %s | %s |",
                 instance_state_name((enum instance_state)state),
                 instance_event_name((enum instance_event)event));
        ck_assert_uint_eq(count_lines(out.data, line), never ? 0 : 1);
        cells += !never;
    }
    ck_assert_uint_gt(cells, 80);
    ck_assert_ptr_nonnull(strstr(out.data, "| event | absent | pulling | creating |"));
    ck_assert_ptr_nonnull(strstr(out.data, "| DEMAND | creating | stays | stays |"));
    ck_assert_ptr_nonnull(strstr(out.data, "| ready | IDLE | stopping | void, stop | idle |"));
    kg_buf_fini(&out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("instance");
    TCase *table = tcase_create("table");
    SRunner *runner;
    int failed;

    tcase_add_test(table, every_cell_is_written_down);
    tcase_add_test(table, every_event_happens_and_every_effect_is_asked_for);
    tcase_add_test(table, everything_is_reached_and_everything_ends);
    tcase_add_test(table, demand_is_ordinary_everywhere);
    tcase_add_test(table, hints_are_taken_in_every_state);
    tcase_add_test(table, ready_is_left_with_void_or_recall);
    tcase_add_test(table, failures_refuse_and_nothing_else_does);
    tcase_add_test(table, effects_fit_where_they_lead);
    tcase_add_test(table, the_printed_table_is_complete);
    tcase_add_test(table, architecture_has_this_table);
    suite_add_tcase(suite, table);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
