/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet against an engine that does not answer, answers late, goes away, and holds things that
 * are not ours. The difficulty: a call that timed out says nothing of what it did. */
#include "fleet_rig.h"

static void answer_box(struct rig *r, struct engine_container c)
{
    struct engine_answer a = {.container = c};

    answer(expect(r, LOOK), &a);
    fleet_check(r->f);
}

static void event_of(struct rig *r, enum engine_event_kind kind, struct engine_container c)
{
    struct engine_event event = {kind, c};

    fleet_engine_event(r->f, &event, r->now_ms);
    fleet_check(r->f);
}

static void list(struct rig *r, const struct engine_container *all, size_t count)
{
    pass(r, 1); /* a list begins after what is known */
    fleet_engine_list(r->f, all, count, r->now_ms, r->now_ms);
    fleet_check(r->f);
}

static void lose_engine(struct rig *r)
{
    fleet_engine_state(r->f, false, "gone", r->now_ms);
    fleet_check(r->f);
}

/* --- unknown outcomes --- */

START_TEST(create_that_timed_out_but_happened)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    answer_code(r, CREATE, KG_ETIMEOUT);
    ck_assert_str_eq(expect(r, LOOK)->target, r->name); /* asked by name */
    r->boxes = 1;
    answer_look(r, ENGINE_CREATED);
    answer_code(r, START, 0);
    answer_look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    hear(r, GRANT);
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    rig_free(r);
}
END_TEST

START_TEST(create_that_timed_out_and_did_not_happen)
{
    struct rig *r = rig_new(1);
    char name[ENGINE_NAME_BYTES];

    ask(r, 0);
    snprintf(name, sizeof name, "%s", r->name);
    answer_code(r, CREATE, KG_ECLOSED);
    answer_look(r, ENGINE_NONE);
    ck_assert_str_eq(expect(r, CREATE)->target, name); /* the same name: it may happen late yet */
    answer_code(r, CREATE, KG_ECONFLICT);
    r->boxes = 1;
    answer_look(r, ENGINE_CREATED); /* it did: ours by its labels */
    expect(r, START);
    rig_free(r);
}
END_TEST

START_TEST(create_that_happens_after_we_gave_up_is_removed)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    answer_code(r, CREATE, KG_ETIMEOUT);
    pass(r, 30000);
    hear_refusal(r, ORCH_ENGINE_UNAVAILABLE);
    while (waiting_calls(r) > 0)
        answer_look(r, ENGINE_NONE);
    ck_assert_str_eq(state_of(r, 0), "none"); /* not the service's fault: no pause */
    r->boxes = 1;
    event_of(r, ENGINE_EVENT_CREATE, box(r, 1, r->name, ENGINE_CREATED));
    answer_look(r, ENGINE_CREATED);
    ck_assert_str_eq(expect(r, REMOVE)->target, "id-1");
    answer_code(r, REMOVE, 0);
    rig_free(r);
}
END_TEST

START_TEST(start_that_timed_out)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    answer_created(r);
    answer_code(r, START, KG_ETIMEOUT);
    answer_look(r, ENGINE_CREATED); /* it did not happen */
    answer_code(r, START, KG_ETIMEOUT);
    pass(r, 10);
    answer_look(r, ENGINE_RUNNING); /* it did */
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

/* Its own deadline, and a little for the engine's client to tell of it first. */
START_TEST(a_start_has_longer_than_other_calls)
{
    struct rig *r = rig_closed(1);

    r->service.start_timeout_ms = 600000;
    configure(r);
    engine_up(r);
    ask(r, 0);
    answer_created(r);
    pass(r, KG_ENGINE_START_TIMEOUT_MS);
    expect(r, START);
    pass(r, 5000);
    expect(r, LOOK);
    answer_look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

/* Seen when an engine is killed in a start: what it left makes every further start of that
 * container fail. Who waits gets another one; only if that fails, too, is it told. */
START_TEST(start_that_was_cut_off_and_cannot_be_repeated)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    answer_created(r);
    answer_code(r, START, KG_ECLOSED);
    answer_look(r, ENGINE_CREATED);
    pass(r, 20000);
    answer_code(r, START, KG_EIO);
    expect(r, REMOVE);
    expect(r, CREATE); /* beside it */
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    pass(r, 10000); /* of the first demand's 30 s */
    hear_refusal(r, ORCH_ENGINE_UNAVAILABLE);
    rig_free(r);
}
END_TEST

/* Somebody sits at the address that it was made for: it goes, and another one is made, for as long
 * as anybody may wait. */
START_TEST(start_at_an_address_that_is_taken)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    for (unsigned i = 1; i <= 3; i++) {
        answer_created(r);
        answer_code(r, START, KG_EAGAIN);
        answer_code(r, REMOVE, 0);
        ck_assert_uint_eq(count_calls(r, CREATE), i + 1);
    }
    answer_created(r);
    answer_code(r, START, 0);
    answer_look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

/* Where all addresses are, it is not tried for ever, whether anybody waits or not. */
START_TEST(start_where_all_addresses_are_taken)
{
    struct rig *r = rig_new(1);
    size_t tries;

    if (_i == 0)
        ask(r, 0);
    r->service.min_instances = _i;
    configure(r);
    for (tries = 0; tries < 100 && strcmp(state_of(r, 0), "creating") == 0; tries++) {
        answer_created(r);
        answer_code(r, START, KG_EAGAIN);
        answer_code(r, REMOVE, 0);
    }
    ck_assert_uint_lt(tries, 100);
    ck_assert_uint_gt(tries, 32);
    ck_assert_str_eq(state_of(r, 0), "backoff");
    if (_i == 0)
        ck_assert_str_eq(hear_refusal(r, ORCH_ENGINE_UNAVAILABLE)->detail,
                         "service a: no address is free for it");
    r->service.min_instances = 1;
    configure(r);
    pass(r, KG_BACKOFF_FIRST_MS);
    answer_created(r);
    answer_code(r, START, KG_EAGAIN); /* one at a time now, until one is found */
    answer_code(r, REMOVE, 0);
    ck_assert_str_eq(state_of(r, 0), "backoff");
    pass(r, 2 * KG_BACKOFF_FIRST_MS);
    until_ready(r);
    rig_free(r);
}
END_TEST

START_TEST(remove_that_timed_out)
{
    struct rig *r = rig_new(1);

    warm(r);
    pass(r, 300000);
    answer_code(r, STOP, KG_ETIMEOUT);
    answer_look(r, ENGINE_RUNNING);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, KG_ETIMEOUT);
    answer_look(r, ENGINE_EXITED);
    answer_code(r, REMOVE, KG_EIO);
    pass(r, 10); /* asked again after a while */
    answer_look(r, ENGINE_NONE);
    ck_assert_str_eq(state_of(r, 0), "none");
    rig_free(r);
}
END_TEST

/* The engine cannot end it, and says so at once: it is asked less and less often. */
START_TEST(what_cannot_be_removed_is_not_asked_for_without_a_pause)
{
    struct rig *r = rig_new(1);
    int64_t began_ms;

    warm(r);
    pass(r, 300000);
    answer_code(r, STOP, KG_EIO);
    began_ms = r->now_ms;
    for (int n = 0; n < 12; n++) {
        answer_code(r, REMOVE, KG_EIO);
        while (waiting_calls(r) == 0)
            pass(r, 10);
        answer_look(r, ENGINE_RUNNING);
    }
    ck_assert_int_gt(r->now_ms - began_ms, 2000);
    answer_code(r, REMOVE, 0);
    ck_assert_str_eq(state_of(r, 0), "none");
    rig_free(r);
}
END_TEST

START_TEST(a_call_that_is_never_answered_is_given_up)
{
    struct rig *r = rig_new(1);

    warm(r);
    pass(r, 300000);
    expect(r, STOP);
    pass(r, KG_ENGINE_CALL_TIMEOUT_MS + KG_STOP_GRACE_MS + 5000);
    ck_assert(r->calls[r->call_count - 2].cancelled);
    answer_look(r, ENGINE_EXITED);
    answer_code(r, REMOVE, 0);
    rig_free(r);
}
END_TEST

START_TEST(late_answers_find_the_instance_going)
{
    struct rig *r = rig_closed(1);

    r->service.start_timeout_ms = 1000;
    configure(r);
    engine_up(r);
    ask(r, 0);
    pass(r, 1000);
    hear_refusal(r, ORCH_ENGINE_UNAVAILABLE);
    ck_assert_str_eq(state_of(r, 0), "removing");
    answer_created(r); /* it was made after all: and is removed */
    ck_assert_str_eq(expect(r, REMOVE)->target, "id-1");
    answer_code(r, REMOVE, 0);
    ck_assert_str_eq(state_of(r, 0), "none");
    rig_free(r);
}
END_TEST

/* --- names --- */

START_TEST(a_name_that_is_taken_by_us_is_adopted)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    answer_code(r, CREATE, KG_ECONFLICT);
    r->boxes = 1;
    answer_look(r, ENGINE_RUNNING);
    hear(r, PROBE);
    rig_free(r);
}
END_TEST

START_TEST(a_name_that_is_taken_by_others_is_left_to_them)
{
    struct rig *r = rig_new(1);
    struct engine_container foreign;
    char name[ENGINE_NAME_BYTES];

    ask(r, 0);
    snprintf(name, sizeof name, "%s", r->name);
    answer_code(r, CREATE, KG_ECONFLICT);
    foreign = box(r, 9, name, ENGINE_RUNNING);
    snprintf(foreign.owner, sizeof foreign.owner, "somebody-else");
    answer_box(r, foreign);
    ck_assert_str_ne(expect(r, CREATE)->target, name);
    ck_assert_uint_eq(strlen(r->name), strlen("kipgate-a-0123456789"));
    answer_code(r, CREATE, KG_ETIMEOUT); /* and not even on the way out is it touched */
    pass(r, 30000);
    foreign = box(r, 9, r->name, ENGINE_RUNNING);
    snprintf(foreign.service, sizeof foreign.service, "another");
    answer_box(r, foreign);
    while (waiting_calls(r) > 0)
        answer_box(r, foreign);
    ck_assert_uint_eq(count_calls(r, REMOVE) + count_calls(r, STOP), 0);
    rig_free(r);
}
END_TEST

START_TEST(a_container_that_vanishes_is_made_once_more)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    answer_created(r);
    answer_code(r, START, KG_ENOTFOUND);
    answer_created(r);
    answer_code(r, START, KG_ENOTFOUND);
    hear_refusal(r, ORCH_INSTANCE_EXITED);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    rig_free(r);
}
END_TEST

START_TEST(disk_full_is_the_engines)
{
    struct rig *r = rig_new(1);
    struct said *s;

    ask(r, 0);
    answer_code(r, CREATE, KG_EIO);
    s = hear_refusal(r, ORCH_ENGINE_UNAVAILABLE);
    ck_assert_int_eq(s->ms, 1000);
    ck_assert_ptr_null(strstr(s->detail, "words of the engine"));
    answer_look(r, ENGINE_NONE);
    ck_assert_str_eq(state_of(r, 0), "backoff");
    pass(r, 1000);
    ask(r, 0);
    until_ready(r); /* it recovers by itself */
    rig_free(r);
}
END_TEST

/* --- while it is ready --- */

START_TEST(d8_a_dead_container_is_not_used)
{
    struct rig *r = rig_new(2);
    uint64_t first, second;

    ask(r, 0);
    first = until_ready(r);
    hear(r, GRANT);
    tell(r, ENGINE_EVENT_DIE);
    ck_assert_uint_eq(hear(r, GONE)->instance, first); /* at once, to who knows of it */
    ask(r, 1);
    give_back(r, 0, first, 1); /* void: not counted any more */
    second = until_ready(r);
    ck_assert_uint_ne(second, first);
    ck_assert_uint_eq(hear(r, GRANT)->instance, second);
    rig_free(r);
}
END_TEST

START_TEST(a_suspect_is_looked_at)
{
    struct rig *r = rig_new(1);
    uint64_t instance = warm(r);

    fleet_suspect(r->f, 0, instance, r->now_ms);
    ck_assert_uint_eq(waiting_calls(r), 0); /* it was looked at a moment ago */
    pass(r, 100);
    answer_look(r, ENGINE_RUNNING);
    ck_assert_str_eq(state_of(r, 0), "ready");
    fleet_suspect(r->f, 0, instance, r->now_ms);
    fleet_suspect(r->f, 0, instance, r->now_ms);
    pass(r, 100);
    ck_assert_uint_eq(waiting_calls(r), 1);
    answer_look(r, ENGINE_EXITED);
    hear(r, GONE);
    expect(r, REMOVE);
    rig_free(r);
}
END_TEST

START_TEST(a_suspect_on_no_network_goes)
{
    struct rig *r = rig_new(1);
    uint64_t instance = warm(r);
    struct engine_container c = box(r, r->boxes, r->name, ENGINE_RUNNING);

    c.address_length = 0;
    list(r, &c, 1); /* which never has an address */
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 100);
    fleet_suspect(r->f, 0, instance, r->now_ms);
    for (int n = 0; n < 8; n++) {
        answer_box(r, c);
        ck_assert_str_eq(state_of(r, 0), "ready"); /* an engine may forget to say it */
        pass(r, 2000);
    }
    answer_box(r, c);
    hear(r, GONE);
    expect(r, STOP);
    rig_free(r);
}
END_TEST

/* Without its configuration nobody can tell where it listens: that is no sign of its end. */
START_TEST(what_its_gone_service_drains_is_not_cut_off)
{
    struct rig *r = rig_new(1);
    struct engine_container c;
    uint64_t instance;

    ask(r, 0);
    instance = until_ready(r);
    hear(r, GRANT);
    c = box(r, r->boxes, r->name, ENGINE_RUNNING);
    c.address_length = 0;
    r->config.service_count = 0;
    configure(r);
    hear(r, RECALL);
    pass(r, 100);
    fleet_suspect(r->f, 0, instance, r->now_ms);
    answer_box(r, c);
    pass(r, 20000); /* and is not asked about again and again */
    ck_assert_uint_eq(count_calls(r, LOOK), 2);
    ck_assert_str_eq(state_of(r, 0), "draining");
    give_back(r, 0, instance, 1);
    hear(r, GONE);
    expect(r, STOP);
    rig_free(r);
}
END_TEST

START_TEST(other_hands_end_it)
{
    static const enum engine_event_kind kinds[] = {ENGINE_EVENT_PAUSE, ENGINE_EVENT_DISCONNECT,
                                                   ENGINE_EVENT_DESTROY};

    for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++) {
        struct rig *r = rig_new(1);
        warm(r);
        tell(r, ENGINE_EVENT_RENAME); /* still ours, by its id */
        hear_nothing(r);
        tell(r, kinds[n]);
        hear(r, GONE);
        ck_assert_uint_eq(waiting_calls(r), 1);
        rig_free(r);
    }
}
END_TEST

START_TEST(what_a_list_does_not_have_is_gone)
{
    struct rig *r = rig_new(1);

    warm(r);
    fleet_engine_list(r->f, NULL, 0, r->now_ms - 1000, r->now_ms); /* older than our view */
    ck_assert_uint_eq(waiting_calls(r), 0);
    pass(r, 1000);
    list(r, NULL, 0);
    answer_look(r, ENGINE_NONE);
    hear(r, GONE);
    ck_assert_str_eq(state_of(r, 0), "none");
    rig_free(r);
}
END_TEST

/* --- the engine goes away --- */

START_TEST(a_short_absence_is_ridden_out)
{
    struct rig *r = rig_new(1);

    lose_engine(r);
    ask(r, 0);
    pass(r, 500);
    hear_nothing(r);
    ck_assert_uint_eq(r->call_count, 0);
    fleet_engine_state(r->f, true, "back", r->now_ms);
    until_ready(r);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

START_TEST(a_long_absence_is_told_at_once)
{
    struct rig *r = rig_new(1);

    lose_engine(r);
    ask(r, 0);
    pass(r, 10001);
    hear_nothing(r); /* who waits already waits to the end */
    pass(r, 20000);
    hear_refusal(r, ORCH_ENGINE_UNAVAILABLE);
    ask(r, 0);
    ck_assert_int_gt(hear_refusal(r, ORCH_ENGINE_UNAVAILABLE)->ms, 0);
    rig_free(r);
}
END_TEST

START_TEST(i11_warm_traffic_does_not_notice)
{
    struct rig *r = rig_new(1);
    uint64_t instance = warm(r);

    lose_engine(r);
    for (int n = 0; n < 10; n++) {
        ask(r, 0);
        ck_assert_uint_eq(hear(r, GRANT)->instance, instance);
        give_back(r, 0, instance, 1);
    }
    pass(r, 1000000); /* due long since, but not while nobody can be told */
    ck_assert_str_eq(state_of(r, 0), "ready");
    ask(r, 0);
    hear(r, GRANT);
    give_back(r, 0, instance, 1);
    pass(r, 300000);
    fleet_engine_state(r->f, true, "back", r->now_ms);
    pass(r, 0);
    hear(r, GONE);
    rig_free(r);
}
END_TEST

START_TEST(workers_that_end_with_the_engine_are_not_to_blame)
{
    struct rig *r = rig_new(1);
    struct engine_container c;

    ask(r, 0);
    until_probed(r);
    lose_engine(r);
    pass(r, 500);
    fleet_engine_state(r->f, true, "back", r->now_ms);
    c = box(r, r->boxes, r->name, ENGINE_EXITED);
    list(r, &c, 1);
    answer_look(r, ENGINE_EXITED);
    hear(r, PROBE_STOP);
    hear(r, GONE);
    hear_nothing(r); /* nobody is refused: another one is made */
    answer_code(r, REMOVE, 0);
    until_ready(r);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

START_TEST(failures_just_before_it_went_are_forgiven)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    until_probed(r);
    tell(r, ENGINE_EVENT_DIE);
    answer_look(r, ENGINE_EXITED);
    ck_assert_str_eq(r->last_why, "exit code 3");
    lose_engine(r);
    ask(r, 0); /* waits for the engine; not refused as backing off */
    ck_assert_uint_eq(fleet_waiting(r->f, 0), 1);
    rig_free(r);
}
END_TEST

/* --- restart --- */

START_TEST(d9_a_running_instance_is_adopted_with_its_clock)
{
    struct rig *r = rig_closed(1);
    struct engine_container c;

    snprintf(r->name, sizeof r->name, "kipgate-a-00000000aa");
    ck_assert_int_eq(fleet_remember(r->f, r->name, r->now_ms - 200000), 0);
    ask(r, 0);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    ck_assert_uint_eq(r->call_count, 0); /* nothing is made before it is known what there is */
    c = box(r, 0, r->name, ENGINE_RUNNING);
    list(r, &c, 1);
    ck_assert_uint_eq(count_calls(r, CREATE), 0);
    answer_look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    fleet_return(r->f, 0, hear(r, GRANT)->instance, 1, false, 0, r->now_ms); /* not used */
    ck_assert_uint_eq(count_calls(r, CREATE), 0);
    pass(r, 99990);
    hear_nothing(r);
    pass(r, 10); /* 300 s after the use that the last run knew of */
    hear(r, GONE);
    rig_free(r);
}
END_TEST

/* The order of the last run may still be carried out. */
START_TEST(what_the_last_run_was_ending_is_not_adopted)
{
    struct rig *r = rig_closed(1);
    struct engine_container c;

    snprintf(r->name, sizeof r->name, "kipgate-a-00000000aa");
    fleet_remember(r->f, r->name, r->now_ms - 100);
    fleet_remember(r->f, r->name, 0); /* the last word counts */
    fleet_engine_state(r->f, true, "up", r->now_ms);
    c = box(r, 0, r->name, ENGINE_RUNNING);
    list(r, &c, 1);
    answer_look(r, ENGINE_RUNNING);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    rig_free(r);
}
END_TEST

/* Due, but kept by min_instances or wanted by a request: not ended only to be made again. */
START_TEST(what_is_only_due_is_adopted)
{
    struct rig *r = rig_closed(1);
    struct engine_container c;

    snprintf(r->name, sizeof r->name, "kipgate-a-00000000aa");
    fleet_remember(r->f, r->name, r->now_ms - 300000);
    ask(r, 0);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    c = box(r, 0, r->name, ENGINE_RUNNING);
    list(r, &c, 1);
    answer_look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    give_back(r, 0, hear(r, GRANT)->instance, 1);
    ck_assert_uint_eq(count_calls(r, CREATE), 0);
    rig_free(r);
}
END_TEST

START_TEST(half_made_and_surplus_ones_are_removed)
{
    struct rig *r = rig_closed(1);
    struct engine_container all[4];

    fleet_engine_state(r->f, true, "up", r->now_ms);
    all[0] = box(r, 1, "kipgate-a-0000000001", ENGINE_CREATED);
    all[1] = box(r, 2, "kipgate-a-0000000002", ENGINE_EXITED);
    all[2] = box(r, 3, "kipgate-a-0000000003", ENGINE_RUNNING);
    snprintf(all[2].spec, sizeof all[2].spec, "an-old-spec");
    all[3] = box(r, 4, "kipgate-gone-0000000004", ENGINE_RUNNING);
    snprintf(all[3].service, sizeof all[3].service, "gone");
    list(r, all, 4);
    for (int n = 0; n < 4; n++)
        answer_box(r, all[n]);
    ck_assert_uint_eq(count_calls(r, REMOVE), 2);
    ck_assert_uint_eq(count_calls(r, STOP), 2);
    ck_assert(!fleet_quiet(r->f));
    answer_code(r, STOP, 0);
    answer_code(r, STOP, 0);
    for (int n = 0; n < 4; n++)
        answer_code(r, REMOVE, 0);
    ck_assert(fleet_quiet(r->f));
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(foreign_containers_are_never_touched)
{
    struct rig *r = rig_closed(1);
    struct engine_container all[5];

    kg_log_setup(KG_LOG_ERROR, KG_LOG_TEXT, "test"); /* each is reported once */
    fleet_engine_state(r->f, true, "up", r->now_ms);
    all[0] = box(r, 1, "kipgate-a-0000000001", ENGINE_RUNNING);
    snprintf(all[0].owner, sizeof all[0].owner, "somebody-else");
    all[1] = box(r, 2, "my-own-name", ENGINE_RUNNING);
    all[2] = box(r, 3, "kipgate-a-xyz", ENGINE_RUNNING);
    all[3] = box(r, 4, "kipgate-b-0000000004", ENGINE_RUNNING); /* label a, name b */
    all[4] = box(r, 5, "kipgate-a-0000000005", ENGINE_RUNNING); /* all labels copied */
    all[4].sealed = false;
    for (int n = 0; n < 3; n++)
        list(r, all, 5);
    event_of(r, ENGINE_EVENT_START, all[4]);
    event_of(r, ENGINE_EVENT_START, all[0]);
    event_of(r, ENGINE_EVENT_DIE, all[1]);
    ck_assert_uint_eq(r->call_count, 0);
    all[0] = box(r, 1, "kipgate-a-0000000001", ENGINE_RUNNING); /* the list lied: */
    list(r, all, 1);
    snprintf(all[0].owner, sizeof all[0].owner, "somebody-else");
    answer_box(r, all[0]); /* its own look tells */
    ck_assert_uint_eq(r->call_count, 1);
    all[0] = box(r, 6, "kipgate-a-0000000006", ENGINE_RUNNING); /* our labels, and a name */
    list(r, all, 1);
    all[0].sealed = false; /* but made of something else, and on no network of ours: told at once */
    all[0].address_length = 0;
    answer_box(r, all[0]);
    pass(r, 60000);
    ck_assert_uint_eq(r->call_count, 2);
    rig_free(r);
}
END_TEST

START_TEST(adopted_ones_are_held_while_old_fronts_live)
{
    struct rig *r = rig_closed(1);
    struct engine_container c, old;

    fleet_hold_adopted(r->f, true, r->now_ms);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    snprintf(r->name, sizeof r->name, "kipgate-a-00000000aa");
    c = box(r, 0, r->name, ENGINE_RUNNING);
    old = box(r, 1, "kipgate-a-00000000bb", ENGINE_RUNNING);
    list(r, &c, 1);
    answer_box(r, c);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    list(r, &old, 1);
    answer_box(r, old); /* a second one: not wanted, but held too */
    pass(r, 3600000);
    answer_box(r, c); /* it was not in the second list */
    ck_assert_uint_eq(count_calls(r, STOP) + count_calls(r, REMOVE), 0);
    fleet_hold_adopted(r->f, false, r->now_ms);
    ck_assert_uint_eq(count_calls(r, STOP), 1);
    ck_assert_str_eq(expect(r, STOP)->target, "id-1");
    pass(r, 299999);
    ck_assert_str_eq(state_of(r, 0), "ready"); /* its clock began when it was let go */
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *c = tcase_create("engine");

    tcase_add_test(c, create_that_timed_out_but_happened);
    tcase_add_test(c, create_that_timed_out_and_did_not_happen);
    tcase_add_test(c, create_that_happens_after_we_gave_up_is_removed);
    tcase_add_test(c, start_that_timed_out);
    tcase_add_test(c, a_start_has_longer_than_other_calls);
    tcase_add_test(c, start_that_was_cut_off_and_cannot_be_repeated);
    tcase_add_test(c, start_at_an_address_that_is_taken);
    tcase_add_loop_test(c, start_where_all_addresses_are_taken, 0, 2);
    tcase_add_test(c, remove_that_timed_out);
    tcase_add_test(c, what_cannot_be_removed_is_not_asked_for_without_a_pause);
    tcase_add_test(c, a_call_that_is_never_answered_is_given_up);
    tcase_add_test(c, late_answers_find_the_instance_going);
    tcase_add_test(c, a_name_that_is_taken_by_us_is_adopted);
    tcase_add_test(c, a_name_that_is_taken_by_others_is_left_to_them);
    tcase_add_test(c, a_container_that_vanishes_is_made_once_more);
    tcase_add_test(c, disk_full_is_the_engines);
    tcase_add_test(c, d8_a_dead_container_is_not_used);
    tcase_add_test(c, a_suspect_is_looked_at);
    tcase_add_test(c, a_suspect_on_no_network_goes);
    tcase_add_test(c, what_its_gone_service_drains_is_not_cut_off);
    tcase_add_test(c, other_hands_end_it);
    tcase_add_test(c, what_a_list_does_not_have_is_gone);
    tcase_add_test(c, a_short_absence_is_ridden_out);
    tcase_add_test(c, a_long_absence_is_told_at_once);
    tcase_add_test(c, i11_warm_traffic_does_not_notice);
    tcase_add_test(c, workers_that_end_with_the_engine_are_not_to_blame);
    tcase_add_test(c, failures_just_before_it_went_are_forgiven);
    tcase_add_test(c, d9_a_running_instance_is_adopted_with_its_clock);
    tcase_add_test(c, what_the_last_run_was_ending_is_not_adopted);
    tcase_add_test(c, what_is_only_due_is_adopted);
    tcase_add_test(c, half_made_and_surplus_ones_are_removed);
    tcase_add_test(c, foreign_containers_are_never_touched);
    tcase_add_test(c, adopted_ones_are_held_while_old_fronts_live);
    suite_add_tcase(suite, c);
}

int main(void)
{
    Suite *suite = suite_create("engine");
    SRunner *runner;
    int failed;

    add_tests(suite);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
