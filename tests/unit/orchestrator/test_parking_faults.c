/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes and workers that die, vanish, come true late or are a last run's; and a storm of all
 * faults at once, after which nothing is shared, lost or left. */
#include "parking_case.h"

/* --- sandboxes that die ---------------------------------------------------------------------- */

START_TEST(parked_it_is_replaced)
{
    struct engine_container *s, gone;

    come_up();
    s = parked_box();
    gone = *s;
    s->state = _i == 0 ? ENGINE_EXITED : ENGINE_NONE;
    if (_i == 2)
        list_now();
    else
        event(_i == 0 ? ENGINE_EVENT_DIE : ENGINE_EVENT_DESTROY, &gone);
    ck_assert_int_eq(hints, 0);
    ck_assert_uint_eq(view().parked, 0);
    calm(1000);
    ck_assert_uint_eq(view().parked, 1);
    ck_assert_uint_eq(count_boxes(true), 1);
}
END_TEST

START_TEST(under_a_worker_it_makes_the_worker_unusable)
{
    struct engine_container *s, *w, gone;

    come_up();
    w = start_one(&a, "w");
    s = box(w->sandbox);
    gone = *s;
    s->state = _i == 0 ? ENGINE_EXITED : ENGINE_NONE;
    if (_i == 2)
        list_now();
    else
        event(_i == 0 ? ENGINE_EVENT_DIE : ENGINE_EVENT_DESTROY, &gone);
    tick();
    ck_assert_int_eq(hints, 1);
    ck_assert_int_eq(hint.kind, ENGINE_EVENT_DISCONNECT);
    ck_assert_str_eq(hint.container.id, w->id);
    ck_assert_str_eq(hint.container.name, "w");
    ck_assert_str_eq(hint.container.owner, OWNER);
    inspect("w"); /* looks alive to the engine, and is removed before it is said to be none */
    ck_assert_int_eq(last.code, 0);
    ck_assert_int_eq(last.container.state, ENGINE_NONE);
    ck_assert_ptr_null(box("w"));
    calm(1000);
    ck_assert_uint_eq(count_boxes(true), 1);
}
END_TEST

/* No event tells of it: the engine's have no label by which they would reach us. */
START_TEST(a_doubt_finds_that_it_was_disconnected)
{
    come_up();
    start_one(&a, "w");
    inspect("w");
    ck_assert_int_eq(last.container.state, ENGINE_RUNNING);
    ck_assert_uint_gt(last.container.address_length, 0);
    inspect("w"); /* nothing is wrong with it */
    ck_assert_uint_gt(last.container.address_length, 0);
    unplugged = true;
    inspect("w");
    ck_assert_int_eq(last.container.state, ENGINE_RUNNING);
    ck_assert_uint_eq(last.container.address_length, 0);
}
END_TEST

START_TEST(between_create_and_start_the_worker_is_made_again)
{
    struct engine_container *w;

    come_up();
    w = create(&a, "w");
    box(w->sandbox)->state = _i == 0 ? ENGINE_EXITED : ENGINE_NONE;
    start(w);
    ck_assert_int_eq(last.code, KG_ENOTFOUND);
    ck_assert_ptr_null(box("w"));
    list_now();
    calm(1000);
    ck_assert_uint_eq(count_boxes(true), 1);
    w = start_one(&a, "w");
    ck_assert_ptr_nonnull(box(w->sandbox));
}
END_TEST

START_TEST(a_start_that_fails_for_its_own_sake_says_so)
{
    struct engine_container *w;

    come_up();
    w = create(&a, "w");
    ops->start(ops->self, w->id, on_done, NULL);
    answer(START, NO);
    answer(INSPECT, GOOD);
    answer(ASK, GOOD);
    ck_assert_int_eq(last.code, KG_EIO);
    ck_assert_str_eq(last.words, "no");
    ck_assert_ptr_nonnull(box("w"));
    ops->start(ops->self, "x", on_done, NULL);
    answer(START, GOOD);
    answer(INSPECT, GOOD);
    ck_assert_int_eq(last.code, KG_ENOTFOUND);
}
END_TEST

START_TEST(a_stranded_worker_that_is_not_removed_is_asked_about_again)
{
    struct engine_container *w;

    come_up();
    w = start_one(&a, "w");
    box(w->sandbox)->state = ENGINE_EXITED;
    event(ENGINE_EVENT_DIE, box(w->sandbox));
    ops->inspect(ops->self, &a, "w", on_done, NULL);
    answer(INSPECT, GOOD);
    answer(REMOVE, _i == 0 ? LOST : NO);
    ck_assert_int_eq(last.code, KG_ETIMEOUT);
    inspect("w");
    ck_assert_int_eq(last.container.state, ENGINE_NONE);
}
END_TEST

START_TEST(a_worker_that_has_ended_is_told_as_it_is)
{
    struct engine_container *w;

    come_up();
    w = start_one(&a, "w");
    w->state = ENGINE_EXITED;
    w->exit_code = 3;
    box(w->sandbox)->state = ENGINE_NONE;
    list_now();
    inspect("w");
    ck_assert_int_eq(last.container.state, ENGINE_EXITED);
    ck_assert_int_eq(last.container.exit_code, 3);
    ck_assert_ptr_nonnull(box("w"));
}
END_TEST

START_TEST(one_that_dies_while_it_is_joined_is_told_of_and_not_used_again)
{
    struct engine_container *s;

    come_up();
    s = parked_box();
    ops->create(ops->self, &a, "w", on_done, NULL);
    s->state = ENGINE_EXITED;
    event(ENGINE_EVENT_DIE, s);
    answer(JOIN, _i == 0 ? GOOD : NO);
    if (_i == 1)
        answer(CREATE, GOOD);
    ck_assert_uint_eq(view().parked, 0);
    calm(1000);
    ck_assert_int_eq(hints, 1);
    ck_assert_str_eq(hint.container.name, "w");
    ck_assert_str_eq(hint.container.id, _i == 0 ? box("w")->id : "");
    ck_assert_ptr_null(box(s->id));
}
END_TEST

START_TEST(the_second_of_two_in_one_goes)
{
    struct engine_container *w, *v;

    come_up();
    w = start_one(&a, "w");
    v = start_one(&a, "v");
    memcpy(v->sandbox, w->sandbox, sizeof v->sandbox); /* a create of long ago came true */
    inspect("v");
    ck_assert_int_eq(last.container.state, ENGINE_NONE);
    ck_assert_ptr_null(box("v"));
    inspect("w");
    ck_assert_uint_eq(last_port(), 8080);
}
END_TEST

START_TEST(one_that_is_not_removed_is_tried_again)
{
    come_up();
    parking_stop(p);
    for (int i = 0; i < 12; i++) {
        now_ms = parking_due_ms(p);
        tick();
        answer(REMOVE, i % 2 ? NO : LOST);
    }
    ck_assert(!parking_quiet(p));
    parking_engine_state(p, false);
    parking_engine_state(p, true); /* another try at once */
    calm(10);
    ck_assert(parking_quiet(p));
    ck_assert_uint_eq(count_boxes(true), 0);
}
END_TEST

/* The worker's removal takes the sandbox along, whatever comes in between. */
static const struct {
    enum outcome home, worker;
    bool cancelled;
} removals[] = {{NO, GOOD, false},   {LOST, GOOD, false}, {LOST_BUT_DONE, GOOD, false},
                {GOOD, LOST, false}, {GOOD, NO, false},   {LOST, GOOD, true},
                {GOOD, GOOD, true}};

START_TEST(a_removal_that_is_broken_off_is_ended)
{
    struct engine_container *w;
    uint64_t operation;

    come_up();
    w = start_one(&a, "w");
    operation = ops->remove(ops->self, w->id, on_done, NULL);
    if (removals[_i].cancelled)
        ops->cancel(ops->self, operation);
    answer(REMOVE, removals[_i].home);
    if (!removals[_i].cancelled)
        answer(REMOVE, removals[_i].worker);
    ck_assert_int_eq(hints, 0);
    if (box("w") && !removals[_i].cancelled)
        ck_assert_int_ne(last.code, 0);
    calm(3 * KG_ENGINE_CALL_TIMEOUT_MS);
    ck_assert_uint_eq(count_boxes(true), 1);
    ck_assert_uint_eq(view().parked, 1);
    if (box("w"))
        inspect("w");
    ck_assert_ptr_null(box("w"));
}
END_TEST

/* --- workers that go without us -------------------------------------------------------------- */

START_TEST(its_sandbox_is_swept)
{
    struct engine_container *w, gone;
    char sandbox[ENGINE_ID_BYTES];

    come_up();
    is_blind = _i == 3;
    w = start_one(&a, "w");
    memcpy(sandbox, w->sandbox, sizeof sandbox);
    list_now();
    calm(100);
    ck_assert_ptr_nonnull(box(sandbox));
    gone = *w;
    w->state = ENGINE_NONE;
    if (_i == 0)
        event(ENGINE_EVENT_DESTROY, &gone);
    else if (_i == 1)
        inspect("w");
    else
        list_now();
    calm(1000);
    ck_assert_ptr_null(box(sandbox));
    ck_assert_uint_eq(count_boxes(true), 1);
}
END_TEST

/* A list that was asked for before says nothing of what was created since. */
START_TEST(an_old_list_sweeps_nothing)
{
    struct engine_container *w;
    static struct engine_container none[1];
    int64_t began_ms;

    come_up();
    began_ms = ++now_ms;
    ops->create(ops->self, &a, "w", on_done, NULL);
    now_ms += 5;
    answer(JOIN, GOOD);
    w = box("w");
    parking_list(p, none, 0, began_ms); /* not even the sandbox: all of it is older */
    ck_assert_uint_eq(view().taken, 1);
    calm(10);
    ck_assert_ptr_nonnull(box(w->sandbox));
}
END_TEST

/* Nor does a young one, of what is under way. */
START_TEST(a_list_during_a_create_sweeps_nothing)
{
    struct engine_container *w;

    come_up();
    ops->create(ops->self, &a, "w", on_done, NULL);
    list_now();
    answer(JOIN, GOOD);
    calm(10);
    w = box("w");
    ck_assert_ptr_nonnull(box(w->sandbox));
}
END_TEST

START_TEST(what_an_old_list_says_of_one_is_not_believed)
{
    struct engine_container old;
    int64_t began_ms;

    tell_list(now_ms);
    tick();
    answer(MAKE, GOOD);
    old = boxes[0];
    began_ms = now_ms;
    answer(START, GOOD);
    answer(ASK, GOOD);
    parking_list(p, &old, 1, began_ms);
    ck_assert_uint_eq(view().parked, 1);
}
END_TEST

static const struct {
    enum outcome outcome;
    bool cancelled;
} lost_joins[] = {{LOST, false}, {LOST_BUT_DONE, false}, {LOST, true}, {LOST_BUT_DONE, true}};

START_TEST(a_create_of_unknown_outcome_keeps_its_sandbox_to_itself)
{
    uint64_t operation;
    char sandbox[ENGINE_ID_BYTES];
    bool done = lost_joins[_i].outcome == LOST_BUT_DONE;

    come_up();
    snprintf(sandbox, sizeof sandbox, "%s", parked_box()->id);
    operation = ops->create(ops->self, &a, "w", on_done, NULL);
    if (lost_joins[_i].cancelled)
        ops->cancel(ops->self, operation);
    answer(JOIN, lost_joins[_i].outcome);
    ck_assert_int_eq(answers, lost_joins[_i].cancelled ? 0 : 1);
    ck_assert(!create(&a, "v")->sandbox[0]); /* not given to the next */
    inspect("w");
    ck_assert_int_eq(last.container.state, done ? ENGINE_CREATED : ENGINE_NONE);
    list_now();
    calm(100);
    ck_assert(done == (box(sandbox) != NULL));
    if (!done)
        return;
    start(box("w"));
    inspect("w");
    ck_assert_uint_eq(last_port(), 8080);
}
END_TEST

START_TEST(a_create_that_comes_true_late_finds_no_home)
{
    struct engine_container *w;

    come_up();
    ops->create(ops->self, &a, "w", on_done, NULL);
    calls[0].done(calls[0].arg, &(struct engine_answer){.code = KG_ETIMEOUT});
    calls[0].done = NULL;
    ops->inspect(ops->self, &a, "w", on_done, NULL);
    settle(1, GOOD);
    ck_assert_int_eq(last.container.state, ENGINE_NONE);
    calm(1000); /* the create is carried out, the sandbox removed */
    w = box("w");
    ck_assert_ptr_nonnull(w);
    start(w);
    ck_assert_int_eq(last.code, KG_ENOTFOUND);
    ck_assert_ptr_null(box("w"));
}
END_TEST

/* --- after a restart ------------------------------------------------------------------------- */

START_TEST(what_a_last_run_left_is_adopted)
{
    struct engine_container *w, *free_one;
    unsigned made;

    come_up();
    w = start_one(&a, "w");
    calm(1000);
    made = asked[MAKE];
    is_blind = _i == 1;
    open_again();
    list_now();
    ck_assert_uint_eq(view().parked, _i == 1 ? 2 : 1);
    inspect("w"); /* whoever adopts it looks at it */
    ck_assert_uint_eq(last_port(), 8080);
    ck_assert_uint_eq(view().taken, 1);
    list_now();
    calm(10);
    ck_assert(!create(&a, "v")->sandbox[0]); /* in doubt for a while */
    now_ms += SANDBOX_DOUBT_MS;
    list_now();
    calm(100);
    ck_assert_uint_eq(asked[MAKE], made);
    free_one = create(&a, "u");
    ck_assert_str_ne(free_one->sandbox, "");
    ck_assert_str_ne(free_one->sandbox, w->sandbox);
    ops->remove(ops->self, w->id, on_done, NULL);
    calm(1000);
    ck_assert_uint_eq(view().taken, 1);
}
END_TEST

START_TEST(what_a_last_run_was_making_is_swept)
{
    tell_list(now_ms);
    tick();
    answer(MAKE, GOOD);
    open_again(); /* between create and start */
    call_count = 0;
    list_now();
    calm(1000);
    ck_assert_uint_eq(count_boxes(true), 1);
    ck_assert_uint_eq(view().parked, 1);
}
END_TEST

/* The engine had not begun with it when the next run's first list was made. */
START_TEST(a_last_runs_make_that_comes_true_late_is_swept)
{
    struct engine_container *late;

    tell_list(now_ms);
    tick();
    open_again();
    list_now();
    answer(MAKE, GOOD); /* to nobody */
    late = &boxes[0];
    ck_assert(late->is_sandbox && late->state == ENGINE_CREATED);
    event(ENGINE_EVENT_CREATE, late);
    calm(1000);
    ck_assert_int_eq(late->state, ENGINE_NONE);
    ck_assert_uint_eq(count_boxes(true), 1);
    ck_assert_uint_eq(view().parked, 1);
}
END_TEST

START_TEST(a_repeated_word_of_a_make_is_no_news)
{
    struct engine_container *one;

    come_up();
    one = parked_box();
    if (_i == 1)
        open_again(); /* the engine repeats its last second before the first list is in */
    event(ENGINE_EVENT_CREATE, one);
    list_now();
    event(ENGINE_EVENT_CREATE, one);
    if (_i == 2) { /* a name that only looks like ours */
        one = &boxes[box_count++];
        *one = boxes[0];
        snprintf(one->id, sizeof one->id, "other");
        snprintf(one->name, sizeof one->name, "kipgate-sandbox-of-mine");
        event(ENGINE_EVENT_CREATE, one);
    }
    calm(1000);
    ck_assert_int_eq(one->state, ENGINE_RUNNING);
}
END_TEST

START_TEST(a_last_runs_create_may_still_come_true)
{
    struct engine_container *w;

    come_up();
    ops->create(ops->self, &a, "w", on_done, NULL);
    open_again();
    list_now();
    create(&a, "v");
    w = box("w"); /* carried out meanwhile */
    ck_assert(w && w->sandbox[0] && strcmp(box("v")->sandbox, w->sandbox) != 0);
    now_ms += SANDBOX_DOUBT_MS;
    list_now();
    calm(1000);
    ck_assert(strcmp(create(&a, "u")->sandbox, w->sandbox) != 0);
}
END_TEST

START_TEST(what_is_not_ours_is_left_alone)
{
    struct engine_container *s;

    come_up();
    s = &boxes[box_count++];
    *s = *parked_box();
    snprintf(s->id, sizeof s->id, "other");
    snprintf(s->name, sizeof s->name, "%s", _i == 0 ? "kipgate-sandbox-of-mine" : "x");
    s->state = _i == 0 ? ENGINE_EXITED : ENGINE_RUNNING;
    now_ms += SANDBOX_DOUBT_MS;
    list_now();
    list_now();
    calm(20000);
    list_now();
    calm(1000);
    ck_assert_ptr_nonnull(box("other"));
    ck_assert_int_eq(asked[REMOVE], 0);
}
END_TEST

START_TEST(somebody_elses_of_our_name_is_left_alone)
{
    tell_list(now_ms);
    tick();
    answer(MAKE, LOST_BUT_DONE);
    if (_i == 0)
        boxes[0].is_sandbox = false;
    else if (_i == 1)
        snprintf(boxes[0].owner, sizeof boxes[0].owner, "another");
    else
        boxes[0].sealed = false;
    calm(10000);
    ck_assert_int_eq(boxes[0].state, ENGINE_CREATED);
    ck_assert_uint_eq(view().parked, 1);
}
END_TEST

/* Our label, but in a network that is somebody else's: no address that we would use. */
START_TEST(a_worker_in_a_strangers_network_has_no_address)
{
    struct engine_container *w, *s;

    come_up();
    w = start_one(&a, "w");
    s = &boxes[box_count++];
    *s = (struct engine_container){.id = "s", .name = "s", .owner = "x", .state = ENGINE_RUNNING};
    snprintf(w->sandbox, sizeof w->sandbox, "s");
    inspect("w");
    ck_assert_int_eq(last.code, 0);
    ck_assert_uint_eq(last_port(), 0);
    ck_assert_ptr_nonnull(box("w"));
}
END_TEST

START_TEST(the_engines_restart_is_survived)
{
    come_up();
    start_one(&a, "w");
    calm(1000);
    parking_engine_state(p, false);
    ck_assert_int_eq(parking_due_ms(p), KG_NEVER);
    ck_assert(parking_quiet(p));
    for (size_t i = 0; i < box_count; i++)
        boxes[i].state = boxes[i].state == ENGINE_NONE ? ENGINE_NONE : ENGINE_EXITED;
    now_ms += 1000;
    parking_engine_state(p, true);
    ck_assert_int_gt(parking_due_ms(p), now_ms); /* what there is shows the list */
    list_now();
    calm(1000);
    ck_assert_int_eq(hint.kind, ENGINE_EVENT_DISCONNECT);
    ck_assert_uint_eq(view().parked, 1);
    ck_assert_uint_eq(count_boxes(true), 1);
}
END_TEST

/* --- the end --------------------------------------------------------------------------------- */

START_TEST(what_is_parked_goes_with_us_and_what_is_used_stays)
{
    come_up();
    burst(3);
    calm(2000);
    burst(1);
    now_ms += SANDBOX_REST_MS;
    tick();
    ck_assert_uint_gt(waiting(MAKE), 0);
    parking_stop(p);
    ck_assert(!parking_quiet(p));
    calm(1000);
    ck_assert(parking_quiet(p));
    ck_assert_uint_eq(view().parked, 0);
    ck_assert_uint_eq(count_boxes(true), 2);
    ck_assert_uint_eq(view().taken, 2);
}
END_TEST

START_TEST(a_service_that_is_gone_is_not_used)
{
    come_up();
    refuse_joins = true;
    ops->create(ops->self, &a, "w", on_done, NULL);
    parking_configure(p, &config); /* the services that it was told of are freed now */
    answer(JOIN, GOOD);
    ck_assert_int_eq(last.code, KG_ETIMEOUT);
    ck_assert_uint_eq(asked[CREATE], 0);
}
END_TEST

/* --- all at once ----------------------------------------------------------------------------- */

#define WORKERS 6
static unsigned luck;
static struct storm_worker {
    char name[24];
    enum { IDLE, CREATING, LOOKING, STARTING, RUNNING, REMOVING } step;
    uint64_t operation;
} workers[WORKERS];
static unsigned worker_names;

static unsigned dice(unsigned sides)
{
    luck = luck * 1103515245u + 12345u;
    return (luck >> 16) % sides;
}

static void on_storm(void *arg, const struct engine_answer *from)
{
    struct storm_worker *w = arg;
    enum engine_state state = from->container.state;

    ck_assert_uint_gt(w->operation, 0);
    w->operation = 0;
    if (w->step == LOOKING && from->code == 0)
        w->step = state == ENGINE_NONE ? IDLE : state == ENGINE_CREATED ? STARTING : RUNNING;
    else if (w->step == CREATING && from->code == 0)
        w->step = STARTING;
    else if (w->step == REMOVING && from->code == 0)
        w->step = IDLE;
    else
        w->step = LOOKING;
    if (w->step == IDLE)
        w->name[0] = '\0';
}

/* What a fleet does with one worker, one call at a time. */
static void storm_step(struct storm_worker *w)
{
    const struct engine_container *c = w->name[0] ? box(w->name) : NULL;
    const char *id = c ? c->id : w->name;

    if (w->operation != 0) {
        if (dice(8) == 0) {
            ops->cancel(ops->self, w->operation);
            w->operation = 0;
            w->step = LOOKING;
        }
        return;
    }
    if (w->step == RUNNING && dice(3) > 0)
        w->step = dice(2) ? LOOKING : REMOVING;
    if (w->step == IDLE) {
        snprintf(w->name, sizeof w->name, "w%u", worker_names++);
        w->step = CREATING;
        w->operation = ops->create(ops->self, &a, w->name, on_storm, w);
    } else if (w->step == STARTING) {
        w->operation = ops->start(ops->self, id, on_storm, w);
    } else if (w->step == REMOVING) {
        w->operation = ops->remove(ops->self, id, on_storm, w);
    } else {
        w->step = LOOKING;
        w->operation = ops->inspect(ops->self, &a, w->name, on_storm, w);
    }
}

static void storm_accident(void)
{
    struct engine_container *c = box_count > 0 ? &boxes[dice((unsigned)box_count)] : NULL, was;

    if (!c || c->state == ENGINE_NONE)
        return;
    was = *c;
    c->state = dice(2) ? ENGINE_NONE : ENGINE_EXITED;
    if (dice(2))
        event(c->state == ENGINE_NONE ? ENGINE_EVENT_DESTROY : ENGINE_EVENT_DIE, &was);
}

/* The one thing that may never be. */
static void nobody_shares(void)
{
    const char *homes[MAX_BOXES];
    size_t count = 0;

    for (size_t i = 0; i < box_count; i++)
        if (boxes[i].state == ENGINE_RUNNING && boxes[i].sandbox[0])
            homes[count++] = boxes[i].sandbox;
    for (size_t i = 0; i < count; i++)
        for (size_t n = 0; n < i; n++)
            if (strcmp(homes[i], homes[n]) == 0)
                ck_abort_msg("two are in %s", homes[i]);
}

static void storm_round(void)
{
    static const enum outcome outcomes[] = {GOOD, GOOD, GOOD, GOOD, NO, LOST, LOST_BUT_DONE};
    int64_t began_ms = now_ms;

    now_ms += dice(400);
    for (size_t i = 0; i < WORKERS; i++)
        if (dice(3) == 0)
            storm_step(&workers[i]);
    for (unsigned n = dice(8); n > 0 && call_count > 0; n--)
        settle(dice((unsigned)call_count), outcomes[dice(7)]);
    if (dice(20) == 0)
        storm_accident();
    if (dice(10) == 0)
        tell_list(dice(2) ? began_ms : now_ms);
    if (dice(100) == 0)
        parking_engine_state(p, dice(2));
    if (dice(200) == 0)
        parking_configure(p, &config);
    tick();
}

/* With whom is all well again: their fleet has removed them, and the engine answers. */
static void storm_ends(void)
{
    parking_engine_state(p, true);
    for (int i = 0; i < 20; i++) {
        list_now();
        calm(KG_BACKOFF_LAST_MS);
        for (size_t n = 0; n < WORKERS; n++) {
            if (workers[n].operation == 0 && workers[n].name[0]) {
                workers[n].step = REMOVING;
                workers[n].operation = ops->remove(
                    ops->self, box(workers[n].name) ? box(workers[n].name)->id : workers[n].name,
                    on_storm, &workers[n]);
            }
        }
    }
}

START_TEST(a_storm)
{
    luck = (unsigned)_i;
    memset(workers, 0, sizeof workers);
    for (int i = 0; i < 1500 && box_count < MAX_BOXES - 100; i++) {
        storm_round();
        nobody_shares();
    }
    storm_ends();
    for (size_t i = 0; i < WORKERS; i++)
        ck_assert(workers[i].operation == 0);
    for (size_t i = 0; i < box_count; i++) /* late creates, which a fleet would find by its list */
        if (!boxes[i].is_sandbox)
            boxes[i].state = ENGINE_NONE;
    list_now();
    calm(KG_BACKOFF_LAST_MS);
    ck_assert(parking_quiet(p));
    ck_assert_uint_eq(view().taken, 0);
    ck_assert_uint_eq(count_boxes(true), view().parked);
    ck_assert_uint_le(view().parked, KG_SANDBOX_MAX);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *s = suite_create("parking_faults");
    TCase *t = tcase_create("parking_faults");

    suite_add_tcase(s, t);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, parked_it_is_replaced, 0, 3);
    tcase_add_loop_test(t, under_a_worker_it_makes_the_worker_unusable, 0, 3);
    tcase_add_test(t, a_doubt_finds_that_it_was_disconnected);
    tcase_add_loop_test(t, between_create_and_start_the_worker_is_made_again, 0, 2);
    tcase_add_test(t, a_start_that_fails_for_its_own_sake_says_so);
    tcase_add_loop_test(t, a_stranded_worker_that_is_not_removed_is_asked_about_again, 0, 2);
    tcase_add_test(t, a_worker_that_has_ended_is_told_as_it_is);
    tcase_add_loop_test(t, one_that_dies_while_it_is_joined_is_told_of_and_not_used_again, 0, 2);
    tcase_add_test(t, the_second_of_two_in_one_goes);
    tcase_add_test(t, one_that_is_not_removed_is_tried_again);
    tcase_add_loop_test(t, a_removal_that_is_broken_off_is_ended, 0,
                        sizeof removals / sizeof *removals);
    tcase_add_loop_test(t, its_sandbox_is_swept, 0, 4);
    tcase_add_test(t, a_list_during_a_create_sweeps_nothing);
    tcase_add_test(t, what_an_old_list_says_of_one_is_not_believed);
    tcase_add_loop_test(t, somebody_elses_of_our_name_is_left_alone, 0, 3);
    tcase_add_test(t, an_old_list_sweeps_nothing);
    tcase_add_loop_test(t, a_create_of_unknown_outcome_keeps_its_sandbox_to_itself, 0,
                        sizeof lost_joins / sizeof *lost_joins);
    tcase_add_test(t, a_create_that_comes_true_late_finds_no_home);
    tcase_add_loop_test(t, what_a_last_run_left_is_adopted, 0, 2);
    tcase_add_test(t, what_a_last_run_was_making_is_swept);
    tcase_add_test(t, a_last_runs_make_that_comes_true_late_is_swept);
    tcase_add_loop_test(t, a_repeated_word_of_a_make_is_no_news, 0, 3);
    tcase_add_test(t, a_last_runs_create_may_still_come_true);
    tcase_add_loop_test(t, what_is_not_ours_is_left_alone, 0, 2);
    tcase_add_test(t, a_worker_in_a_strangers_network_has_no_address);
    tcase_add_test(t, the_engines_restart_is_survived);
    tcase_add_test(t, what_is_parked_goes_with_us_and_what_is_used_stays);
    tcase_add_test(t, a_service_that_is_gone_is_not_used);
    tcase_add_loop_test(t, a_storm, 1, 101);
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
