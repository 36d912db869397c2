/* SPDX-License-Identifier: Apache-2.0 */
/* How many instances there are, to the exact one and the exact moment: more for those who wait,
 * fewer when fewer were enough, never fewer than asked for. The difficulty: the moment in which a
 * number changes must be told from the one before it. */
#include "fleet_rig.h"
#include "orchestrator/fleet_priv.h"

#define SECOND 1000
#define PART (75 * SECOND) /* of an idle timeout of 300 s */

static struct rig *rig_many(int fronts, int max, int concurrency)
{
    struct rig *r = rig_new(fronts);

    r->service.max_instances = max;
    r->service.concurrency = concurrency;
    configure(r);
    return r;
}

/* So many ready, each with `out` slots out to front 0; ids[] are theirs, oldest first. */
static void ready_with(struct rig *r, int count, int out, uint64_t ids[])
{
    int each = r->service.concurrency, all = (count - 1) * each + 1;

    for (int n = 0; n < all; n++)
        ask(r, 0);
    for (int n = 0; n < count; n++) {
        ids[n] = until_ready(r);
        for (int slot = 0; slot < (n < count - 1 ? each : 1); slot++)
            ck_assert_uint_eq(hear(r, GRANT)->instance, ids[n]);
    }
    for (int n = 0; n < count; n++)
        give_back(r, 0, ids[n], n < count - 1 ? (unsigned)each : 1);
    for (int n = 0; n < out * count; n++) {
        ask(r, 0);
        hear(r, GRANT);
    }
    hear_nothing(r);
}

static void recall_answered(struct rig *r)
{
    const struct said *s = hear(r, RECALL);

    answer_recall(r, s->front, s->instance, 0);
}

/* --- more --- */

START_TEST(every_recall_is_answered_first)
{
    struct rig *r = rig_many(3, 3, 1);
    uint64_t ids[2];

    ready_with(r, 2, 0, ids);
    ask(r, 0);
    ask(r, 1);
    hear(r, GRANT), hear(r, GRANT);
    ask(r, 2);
    ck_assert_int_eq(hear(r, RECALL)->front, 0);
    ck_assert_int_eq(hear(r, RECALL)->front, 1);
    ck_assert_uint_eq(count_in(r, 0), 2);
    answer_recall(r, 0, ids[0], 0); /* in use */
    ck_assert_uint_eq(count_in(r, 0), 2);
    pass(r, 49);
    ck_assert_uint_eq(count_in(r, 0), 2);
    answer_recall(r, 1, ids[1], 0);
    ck_assert_uint_eq(count_in(r, 0), 3);
    ck_assert_uint_eq(fleet_waiting(r->f, 0), 1);
    rig_free(r);
}
END_TEST

START_TEST(what_is_lent_and_idle_comes_first)
{
    struct rig *r = rig_many(2, 2, 1);
    uint64_t ids[1];

    ready_with(r, 1, 1, ids);
    ask(r, 1);
    hear(r, RECALL);
    ck_assert_uint_eq(count_in(r, 0), 1); /* front 0 may be done with it */
    answer_recall(r, 0, ids[0], 1);
    ck_assert_int_eq(hear(r, GRANT)->front, 1);
    ck_assert_uint_eq(count_in(r, 0), 1);
    rig_free(r);
}
END_TEST

START_TEST(a_front_that_says_nothing_holds_nobody_up)
{
    struct rig *r = rig_many(2, 2, 1);
    uint64_t ids[1];

    ready_with(r, 1, 1, ids);
    ask(r, 1);
    hear(r, RECALL);
    pass(r, 49);
    ck_assert_uint_eq(count_in(r, 0), 1);
    pass(r, 1);
    ck_assert_uint_eq(count_in(r, 0), 2);
    rig_free(r);
}
END_TEST

START_TEST(the_death_of_a_front_is_its_answer)
{
    struct rig *r = rig_many(3, 3, 1);
    uint64_t ids[2];

    ready_with(r, 2, 0, ids);
    ask(r, 0);
    ask(r, 1);
    hear(r, GRANT), hear(r, GRANT);
    ask(r, 2);
    hear(r, RECALL), hear(r, RECALL);
    answer_recall(r, 0, ids[0], 0);
    fleet_front_down(r->f, 1, r->now_ms); /* its slot is free */
    fleet_check(r->f);
    ck_assert_uint_eq(hear(r, GRANT)->instance, ids[1]);
    ck_assert_uint_eq(count_in(r, 0), 2);
    rig_free(r);
}
END_TEST

/* One serves and is full; with three slots each, the fourth who waits is one more than starts. */
START_TEST(those_that_start_are_counted)
{
    struct rig *r = rig_many(1, 3, 3);
    uint64_t ids[1];

    ready_with(r, 1, 3, ids);
    for (int n = 0; n < 3; n++) {
        ask(r, 0);
        ck_assert_uint_eq(count_in(r, 0), 2);
    }
    ask(r, 0);
    ck_assert_uint_eq(count_in(r, 0), 3);
    for (int n = 0; n < 20; n++)
        ask(r, 0);
    ck_assert_uint_eq(count_in(r, 0), 3); /* there may be no more */
    ck_assert_uint_eq(fleet_waiting(r->f, 0), 24);
    rig_free(r);
}
END_TEST

/* All are granted as soon as there is a slot, by whichever instance has it. */
START_TEST(who_waits_is_served_by_whichever_is_free)
{
    struct rig *r = rig_many(1, 2, 1);
    uint64_t ids[2], late;

    ready_with(r, 1, 1, ids);
    ask(r, 0);
    late = ask(r, 0);
    ck_assert_uint_eq(count_in(r, 0), 2);
    give_back(r, 0, ids[0], 1); /* sooner than the other one starts */
    ck_assert_uint_eq(hear(r, GRANT)->instance, ids[0]);
    ids[1] = until_ready(r);
    ck_assert_uint_eq(hear(r, GRANT)->ticket, late);
    ck_assert_uint_eq(r->said[r->said_read - 1].instance, ids[1]);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    rig_free(r);
}
END_TEST

START_TEST(the_least_loaded_and_of_those_the_oldest)
{
    static const int expected[] = {2, 1, 2, 0, 1, 2}; /* with 2, 1 and 0 of 3 out */
    struct rig *r = rig_many(1, 3, 3);
    uint64_t ids[3];

    ready_with(r, 3, 2, ids);
    give_back(r, 0, ids[1], 1);
    give_back(r, 0, ids[2], 2);
    for (size_t n = 0; n < sizeof expected / sizeof *expected; n++) {
        ask(r, 0);
        ck_assert_uint_eq(r->said[r->said_read].slots, 1);
        ck_assert_uint_eq(hear(r, GRANT)->instance, ids[expected[n]]);
    }
    ask(r, 0);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(a_share_is_lent_only_where_there_is_one)
{
    struct rig *r = rig_many(1, 2, 10);

    ask(r, 0);
    until_ready(r);
    ck_assert_uint_eq(hear(r, GRANT)->slots, 1);
    r->service.max_instances = 1;
    configure(r);
    ask(r, 0);
    ck_assert_uint_eq(hear(r, GRANT)->slots, 9);
    rig_free(r);
}
END_TEST

START_TEST(a_death_among_several_is_made_good_for_those_who_wait)
{
    struct rig *r = rig_many(1, 2, 1);
    uint64_t ids[2];

    ready_with(r, 2, 1, ids);
    ask(r, 0);
    tell_of(r, 1, ENGINE_EVENT_DIE);
    ck_assert_uint_eq(hear(r, GONE)->instance, ids[0]);
    hear_nothing(r);
    ck_assert_str_eq(state_of(r, 0), "removing");
    ck_assert_str_eq(state_of(r, 1), "ready");
    ck_assert_str_eq(state_of(r, 2), "creating");
    rig_free(r);
}
END_TEST

/* --- fewer --- */

/* Two serve, and one slot of each of two is out: one would be enough. */
START_TEST(one_goes_when_the_window_is_full)
{
    static const int64_t idle_ms[] = {300 * SECOND, 400}, parts[] = {PART, 250};
    struct rig *r = rig_many(1, 2, 2);
    uint64_t ids[2];

    r->service.idle_timeout_ms = idle_ms[_i];
    configure(r);
    ready_with(r, 2, 1, ids);
    pass(r, parts[_i] - 1);
    hear_nothing(r);
    pass(r, 1);
    recall_answered(r), recall_answered(r); /* what is only lent comes back */
    pass(r, 3 * parts[_i] - 1);
    ck_assert_str_eq(state_of(r, 1), "ready");
    hear_nothing(r); /* all of it is recalled already */
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_str_eq(state_of(r, 1), "draining");
    ck_assert_str_eq(r->last_why, "more than was needed lately");
    give_back(r, 0, ids[1], 1);
    hear(r, GONE);
    ck_assert_str_eq(state_of(r, 1), "stopping");
    rig_free(r);
}
END_TEST

/* In the third part a third slot was out for a moment: two are needed until that is forgotten. */
START_TEST(a_peak_is_remembered_for_a_window)
{
    struct rig *r = rig_many(1, 2, 2);
    uint64_t ids[2];

    ready_with(r, 2, 1, ids);
    pass(r, PART);
    recall_answered(r), recall_answered(r);
    pass(r, PART + 10 * SECOND);
    ask(r, 0);
    give_back(r, 0, hear(r, GRANT)->instance, 1);
    pass(r, 4 * PART - 10 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 1), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 1), "draining");
    rig_free(r);
}
END_TEST

START_TEST(they_go_one_at_a_time)
{
    struct rig *r = rig_many(1, 4, 3);
    uint64_t ids[4];

    ready_with(r, 4, 1, ids); /* four slots: two are needed */
    pass(r, PART);
    for (int n = 0; n < 4; n++)
        recall_answered(r);
    pass(r, 3 * PART);
    ck_assert_str_eq(state_of(r, 3), "draining");
    ck_assert_str_eq(state_of(r, 2), "ready");
    give_back(r, 0, ids[3], 1);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    ck_assert_str_eq(state_of(r, 3), "removing");
    ck_assert_str_eq(state_of(r, 2), "ready");
    answer_code(r, REMOVE, 0);
    ck_assert_str_eq(state_of(r, 2), "draining");
    give_back(r, 0, ids[2], 1);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    ck_assert_uint_eq(count_in(r, 0), 2); /* as lately needed; two slots are out now */
    pass(r, 4 * PART - 1);
    ck_assert_str_eq(state_of(r, 1), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 1), "draining");
    pass(r, 100 * PART);
    ck_assert_str_eq(state_of(r, 0), "ready"); /* one is in use */
    rig_free(r);
}
END_TEST

START_TEST(never_fewer_than_the_least)
{
    struct rig *r = rig_many(1, 3, 3);
    uint64_t ids[3];

    ready_with(r, 3, 1, ids); /* three slots: one would be enough */
    r->service.min_instances = 2;
    configure(r);
    pass(r, 4 * PART);
    ck_assert_str_eq(state_of(r, 2), "draining");
    give_back(r, 0, ids[2], 1);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    pass(r, 100 * PART);
    ck_assert_uint_eq(count_in(r, 0), 2);
    ck_assert_str_eq(state_of(r, 1), "ready");
    rig_free(r);
}
END_TEST

START_TEST(what_is_idle_goes_before_what_is_younger)
{
    struct rig *r = rig_many(1, 3, 2);
    uint64_t ids[3];

    ready_with(r, 3, 1, ids);
    give_back(r, 0, ids[1], 1);
    pass(r, 4 * PART - 10 * SECOND);
    ask(r, 0); /* its own clock is not what ends it */
    r->said_read = r->said_count;
    give_back(r, 0, ids[1], 1);
    pass(r, 10 * SECOND);
    ck_assert_uint_eq(hear(r, GONE)->instance, ids[1]);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_str_eq(state_of(r, 1), "stopping");
    ck_assert_str_eq(state_of(r, 2), "ready");
    rig_free(r);
}
END_TEST

/* As it would by its own clock, which may never come: each has its share of requests. */
START_TEST(what_is_too_many_does_what_on_idle_says)
{
    static const char *const then[] = {"stopping", "stopping", "paused"};
    struct rig *r = rig_many(1, 2, 1);
    uint64_t ids[2];

    r->service.on_idle = (enum config_on_idle)_i;
    configure(r);
    ready_with(r, 2, 1, ids);
    pass(r, 8 * PART - SECOND);
    give_back(r, 0, ids[0], 1);
    give_back(r, 0, ids[1], 1);
    r->said_read = r->said_count;
    pass(r, 3 * PART + SECOND);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_str_eq(state_of(r, 1), then[_i]);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    if (_i < 2)
        answer_code(r, STOP, 0);
    ck_assert_str_eq(state_of(r, 1), _i == 0 ? "removing" : _i == 1 ? "stopped" : "paused");
    rig_free(r);
}
END_TEST

/* Where a spare is missing it is that, instead of another one that is made for it. */
START_TEST(what_is_too_many_is_the_spare_that_is_missing)
{
    struct rig *r = rig_many(1, 2, 1);
    uint64_t ids[2];

    ready_with(r, 2, 1, ids);
    r->service.spares = 1;
    configure(r);
    pass(r, 8 * PART - SECOND);
    give_back(r, 0, ids[0], 1);
    give_back(r, 0, ids[1], 1);
    pass(r, 3 * PART + SECOND);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_str_eq(state_of(r, 1), "paused");
    answer_code(r, PAUSE, 0);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    rig_free(r);
}
END_TEST

START_TEST(nobody_goes_while_the_engine_is_away)
{
    struct rig *r = rig_many(1, 2, 2);
    uint64_t ids[2];

    ready_with(r, 2, 1, ids);
    pass(r, 4 * PART - 1);
    fleet_engine_state(r->f, false, "gone", r->now_ms);
    pass(r, 9 * SECOND);
    ck_assert_str_eq(state_of(r, 1), "ready");
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_check(r->f);
    ck_assert_str_eq(state_of(r, 1), "draining");
    rig_free(r);
}
END_TEST

START_TEST(a_lower_cap_drains_the_youngest_at_once)
{
    struct rig *r = rig_many(1, 3, 1);
    uint64_t ids[3];

    ready_with(r, 3, 1, ids);
    r->service.max_instances = 1;
    configure(r);
    ck_assert_uint_eq(hear(r, RECALL)->instance, ids[2]);
    ck_assert_uint_eq(hear(r, RECALL)->instance, ids[1]);
    hear_nothing(r);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ask(r, 0);
    ck_assert_uint_eq(count_in(r, 0), 3); /* who comes now waits for the one */
    give_back(r, 0, ids[1], 1);
    ck_assert_uint_eq(hear(r, GONE)->instance, ids[1]);
    hear_nothing(r);
    give_back(r, 0, ids[0], 1);
    ck_assert_uint_eq(hear(r, GRANT)->instance, ids[0]);
    rig_free(r);
}
END_TEST

START_TEST(a_lower_cap_takes_what_is_paused_first)
{
    struct rig *r = rig_many(1, 2, 1);
    uint64_t ids[2];

    r->service.pause_after_ms = 10 * SECOND;
    configure(r);
    ready_with(r, 2, 0, ids);
    ask(r, 0);
    hear(r, GRANT); /* of the older one */
    pass(r, 10 * SECOND);
    answer_code(r, PAUSE, 0);
    give_back(r, 0, ids[0], 1);
    ask(r, 0);
    hear(r, GRANT);
    ck_assert_str_eq(state_of(r, 1), "paused");
    r->service.max_instances = 1;
    configure(r);
    ck_assert_uint_eq(hear(r, GONE)->instance, ids[1]);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_str_eq(state_of(r, 1), "stopping");
    rig_free(r);
}
END_TEST

/* --- the least --- */

START_TEST(the_least_are_made_after_the_first_list)
{
    struct rig *r = rig_closed(1);

    r->service.min_instances = 2;
    r->service.max_instances = 3;
    configure(r);
    ck_assert_uint_eq(count_in(r, 0), 0);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_check(r->f);
    ck_assert_uint_eq(count_in(r, 0), 0); /* they may be there already */
    fleet_engine_list(r->f, NULL, 0, r->now_ms, r->now_ms);
    fleet_check(r->f);
    ck_assert_uint_eq(count_in(r, 0), 2);
    until_ready(r), until_ready(r);
    pass(r, 24 * 3600 * SECOND);
    ck_assert_uint_eq(count_in(r, 0), 2);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_str_eq(state_of(r, 1), "ready");
    rig_free(r);
}
END_TEST

START_TEST(what_is_found_counts_to_the_least)
{
    struct rig *r = rig_closed(1);
    struct engine_container found;

    r->service.min_instances = r->service.max_instances = 2;
    configure(r);
    r->boxes = 1;
    snprintf(r->name, sizeof r->name, "kipgate-a-0123456789");
    found = box(r, 1, r->name, ENGINE_RUNNING);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, &found, 1, r->now_ms, r->now_ms);
    fleet_check(r->f);
    ck_assert_uint_eq(count_calls(r, CREATE), 0); /* until it is known what that one is */
    answer_look(r, ENGINE_RUNNING);
    ck_assert_str_eq(state_of(r, 0), "probing");
    ck_assert_str_eq(state_of(r, 1), "creating");
    ck_assert_uint_eq(count_in(r, 0), 2);
    rig_free(r);
}
END_TEST

START_TEST(the_least_are_not_kept_while_stopping)
{
    struct rig *r = rig_new(1);

    r->service.min_instances = 1;
    configure(r);
    until_ready(r);
    fleet_stop(r->f, false, r->now_ms);
    fleet_check(r->f);
    tell(r, ENGINE_EVENT_DIE);
    hear(r, GONE);
    answer_code(r, REMOVE, 0);
    pass(r, 3600 * SECOND);
    ck_assert_uint_eq(count_in(r, 0), 0);
    ck_assert(fleet_quiet(r->f));
    rig_free(r);
}
END_TEST

START_TEST(the_least_are_not_made_while_the_engine_is_away)
{
    struct rig *r = rig_new(1);

    fleet_engine_state(r->f, false, "gone", r->now_ms);
    r->service.min_instances = 1;
    configure(r);
    pass(r, 60 * SECOND);
    ck_assert_uint_eq(count_in(r, 0), 0);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_check(r->f);
    ck_assert_str_eq(state_of(r, 0), "creating");
    rig_free(r);
}
END_TEST

START_TEST(the_least_rest_after_a_failure_like_all)
{
    struct rig *r = rig_new(1);

    r->service.min_instances = 1;
    configure(r);
    for (int64_t rest_ms = KG_BACKOFF_FIRST_MS; rest_ms <= 4 * KG_BACKOFF_FIRST_MS; rest_ms *= 2) {
        answer_code(r, CREATE, KG_EIO);
        answer_look(r, ENGINE_NONE);
        ck_assert_str_eq(state_of(r, 0), "backoff");
        pass(r, rest_ms - 1);
        ck_assert_uint_eq(waiting_calls(r), 0);
        pass(r, 1);
        expect(r, CREATE);
    }
    hear_nothing(r);
    rig_free(r);
}
END_TEST

/* Somebody waits as it is sent to sleep: that is demand, and what is to be kept is kept again. */
START_TEST(who_waits_ends_the_sleep_at_once)
{
    struct rig *r = rig_closed(1);

    r->service.min_instances = 1;
    configure(r);
    ask(r, 0); /* nothing can be asked of the engine yet */
    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    fleet_check(r->f);
    engine_up(r);
    give_back(r, 0, until_ready(r), 1);
    pass(r, 2 * r->service.idle_timeout_ms);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

START_TEST(sent_to_sleep_all_of_them_sleep)
{
    struct rig *r = rig_new(1);

    r->service.min_instances = 2;
    r->service.max_instances = 4;
    r->service.spares = 1;
    configure(r);
    until_ready(r), until_ready(r), until_ready(r);
    answer_code(r, PAUSE, 0);
    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    hear(r, GONE), hear(r, GONE);
    for (int n = 0; n < 3; n++)
        answer_code(r, STOP, 0);
    for (int n = 0; n < 3; n++)
        answer_code(r, REMOVE, 0);
    pass(r, 3600 * SECOND);
    ck_assert_int_eq(r->done_count, 1);
    ck_assert_uint_eq(count_in(r, 0), 0);
    if (_i == 0)
        ask(r, 0);
    else
        fleet_wake(r->f, 0, on_done, r, r->now_ms);
    fleet_check(r->f);
    ck_assert_uint_eq(count_in(r, 0), 3); /* the least, and the spare */
    rig_free(r);
}
END_TEST

/* --- starts and failures --- */

START_TEST(there_are_no_more_instances_than_the_limit)
{
    struct rig *r = rig_many(2, 1, 1);

    r->config.service_count = 2;
    configure(r);
    ask_of(r, 0, 0);
    expect(r, CREATE);
    r->f->instance_count += KG_MAX_INSTANCES - 1; /* as many as there may be */
    fleet_acquire(r->f, 0, ++r->ticket, 1, false, r->now_ms);
    ck_assert_ptr_nonnull(strstr(hear_refusal(r, PROXY_OVERLOADED)->detail, "too many instances"));
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    r->f->instance_count -= KG_MAX_INSTANCES - 1;
    pass(r, 1000);
    ask_of(r, 1, 0);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    rig_free(r);
}
END_TEST

START_TEST(the_cap_on_starts_holds_across_services)
{
    struct rig *r = rig_many(1, 2, 1);

    r->other.max_instances = 2;
    r->config.service_count = 2;
    configure(r);
    for (int n = 0; n < 4; n++)
        ask_of(r, (uint32_t)(n % 2), 0);
    ck_assert_uint_eq(count_in(r, 0) + count_in(r, 1), 4);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    answer_created(r);
    answer_created(r);
    ck_assert_uint_eq(count_calls(r, CREATE), 2); /* the start is a part of it */
    answer_code(r, START, 0);
    ck_assert_uint_eq(count_calls(r, CREATE), 2); /* where does it listen? */
    answer_look(r, ENGINE_RUNNING);
    ck_assert_uint_eq(count_calls(r, CREATE), 3);
    answer_code(r, START, KG_EIO);
    ck_assert_uint_eq(count_calls(r, CREATE), 4);
    rig_free(r);
}
END_TEST

/* Those before it make way as they are ended; it is not made by what is configured now. */
START_TEST(what_waits_for_its_turn_is_not_made_by_another_configuration)
{
    struct rig *r = rig_many(1, 3, 1);
    struct config_service changed = r->service;
    char third[ENGINE_NAME_BYTES];
    struct fleet_view views[3];

    for (int n = 0; n < 3; n++)
        ask(r, 0);
    ck_assert_uint_eq(fleet_view(r->f, 0, views, 3, r->now_ms), 3);
    snprintf(third, sizeof third, "%s", views[2].name);
    for (int n = 0; n < 2; n++) {
        struct engine_answer a = {.container = box(r, ++r->boxes, views[n].name, ENGINE_CREATED)};
        answer(expect(r, CREATE), &a);
        answer_code(r, START, 0);
    }
    r->config.service_count = (size_t)_i; /* gone, or another */
    snprintf(changed.spec, sizeof changed.spec, "another");
    r->services[0] = &changed;
    configure(r);
    for (size_t n = 0; n < r->call_count; n++)
        ck_assert(r->calls[n].verb != CREATE || strcmp(r->calls[n].target, third) != 0);
    ck_assert_uint_eq(count_calls(r, CREATE), _i == 0 ? 2 : 4); /* its successors take turns too */
    rig_free(r);
}
END_TEST

START_TEST(what_is_started_again_counts_to_the_cap)
{
    struct rig *r = rig_new(1);

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    r->other.max_instances = 2;
    r->config.service_count = 2;
    configure(r);
    warm(r);
    pass(r, 300 * SECOND);
    answer_code(r, STOP, 0);
    ck_assert_str_eq(state_of(r, 0), "stopped");
    ask_of(r, 1, 0);
    ask_of(r, 1, 0);
    ask(r, 0);
    ck_assert_str_eq(state_of(r, 0), "starting");
    ck_assert_uint_eq(count_calls(r, START), 1); /* of its first life */
    answer_code(r, CREATE, KG_EIO);
    ck_assert_uint_eq(count_calls(r, START), 2);
    ck_assert_str_eq(expect(r, START)->target, "id-1");
    rig_free(r);
}
END_TEST

START_TEST(several_failures_at_once_count_once)
{
    struct rig *r = rig_many(1, 2, 1);

    for (int64_t rest_ms = KG_BACKOFF_FIRST_MS; rest_ms <= 4 * KG_BACKOFF_FIRST_MS; rest_ms *= 2) {
        ask(r, 0), ask(r, 0);
        answer_code(r, CREATE, KG_EIO);
        hear_nothing(r); /* there is hope yet */
        pass(r, 100);
        answer_code(r, CREATE, KG_EIO);
        ck_assert_int_eq(hear_refusal(r, ORCH_ENGINE_UNAVAILABLE)->ms, rest_ms);
        hear_refusal(r, ORCH_ENGINE_UNAVAILABLE);
        answer_look(r, ENGINE_NONE), answer_look(r, ENGINE_NONE);
        pass(r, rest_ms);
        ck_assert_uint_eq(count_in(r, 0), 0);
    }
    rig_free(r);
}
END_TEST

START_TEST(who_waits_gets_another_after_the_rest)
{
    struct rig *r = rig_many(1, 2, 1);
    uint64_t ids[2];

    ready_with(r, 1, 1, ids);
    ask(r, 0);
    answer_created(r);
    answer_code(r, START, KG_EIO);
    answer_code(r, REMOVE, 0);
    ck_assert_str_eq(state_of(r, 1), "backoff");
    pass(r, KG_BACKOFF_FIRST_MS - 1);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    pass(r, 1);
    ck_assert_uint_eq(count_calls(r, CREATE), 3);
    hear_nothing(r);
    ids[1] = until_ready(r);
    ck_assert_uint_eq(hear(r, GRANT)->instance, ids[1]);
    rig_free(r);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_recall_is_answered_first,
        what_is_lent_and_idle_comes_first,
        a_front_that_says_nothing_holds_nobody_up,
        the_death_of_a_front_is_its_answer,
        those_that_start_are_counted,
        who_waits_is_served_by_whichever_is_free,
        the_least_loaded_and_of_those_the_oldest,
        a_share_is_lent_only_where_there_is_one,
        a_death_among_several_is_made_good_for_those_who_wait,
        a_peak_is_remembered_for_a_window,
        they_go_one_at_a_time,
        never_fewer_than_the_least,
        what_is_idle_goes_before_what_is_younger,
        what_is_too_many_is_the_spare_that_is_missing,
        nobody_goes_while_the_engine_is_away,
        a_lower_cap_drains_the_youngest_at_once,
        a_lower_cap_takes_what_is_paused_first,
        the_least_are_made_after_the_first_list,
        what_is_found_counts_to_the_least,
        the_least_are_not_kept_while_stopping,
        the_least_are_not_made_while_the_engine_is_away,
        the_least_rest_after_a_failure_like_all,
        there_are_no_more_instances_than_the_limit,
        the_cap_on_starts_holds_across_services,
        what_is_started_again_counts_to_the_cap,
        several_failures_at_once_count_once,
        who_waits_gets_another_after_the_rest,
    };
    Suite *suite = suite_create("fleet_scale");
    TCase *t = tcase_create("how many");
    SRunner *runner;
    int failed;

    for (size_t n = 0; n < sizeof tests / sizeof *tests; n++)
        tcase_add_test(t, tests[n]);
    tcase_add_loop_test(t, what_waits_for_its_turn_is_not_made_by_another_configuration, 0, 2);
    tcase_add_loop_test(t, one_goes_when_the_window_is_full, 0, 2);
    tcase_add_loop_test(t, what_is_too_many_does_what_on_idle_says, 0, 3);
    tcase_add_loop_test(t, sent_to_sleep_all_of_them_sleep, 0, 2);
    tcase_add_test(t, who_waits_ends_the_sleep_at_once);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
