/* SPDX-License-Identifier: Apache-2.0 */
/* Fronts that outlived their control: what they hold is lent by the next one, or taken from them.
 * The difficulty: a claim and the container that it names are heard of in any order. */
#include "fleet_rig.h"

#define SECOND 1000
#define FOUND "kipgate-a-0123456789"
#define SECOND_ONE "kipgate-a-9999999999"
#define OLD 77 /* the instance's number under the former control */

static struct engine_container found(struct rig *r, enum engine_state state)
{
    r->boxes = 1;
    snprintf(r->name, sizeof r->name, FOUND);
    return box(r, 1, FOUND, state);
}

static void list(struct rig *r, enum engine_state state)
{
    struct engine_container c = found(r, state);

    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, &c, state != ENGINE_NONE, r->now_ms, r->now_ms);
}

static void look(struct rig *r, enum engine_state state)
{
    struct engine_container c = found(r, state);

    c.address = address_of(1);
    c.address_length = sizeof(struct sockaddr_in);
    answer(expect(r, LOOK), &(const struct engine_answer){.container = c});
    fleet_check(r->f);
}

static void claim(struct rig *r, int front, unsigned slots, int64_t used_ms)
{
    fleet_claim(r->f, front, OLD, FOUND, slots, used_ms, r->now_ms);
    fleet_check(r->f);
}

static uint64_t hear_renamed(struct rig *r, int front)
{
    const struct said *s = hear(r, RENAMED);

    ck_assert_int_eq(s->front, front);
    ck_assert_uint_eq(s->ticket, OLD);
    ck_assert_int_eq(s->ms, 1 * SECOND); /* to linger */
    return s->instance;
}

static void hear_gone(struct rig *r, int front)
{
    const struct said *s = hear(r, GONE);

    ck_assert_int_eq(s->front, front);
    ck_assert_uint_eq(s->instance, OLD);
}

/* No probe: a front is served by it. Its slots count, also beyond what is allowed now. */
START_TEST(what_is_claimed_is_ready_when_it_is_found)
{
    struct rig *r = rig_closed(2);
    uint64_t instance;

    r->service.concurrency = 2;
    configure(r);
    claim(r, 0, 1, r->now_ms - 5 * SECOND);
    claim(r, 1, 2, 0);
    hear_nothing(r);
    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    hear(r, PROBE);
    instance = hear_renamed(r, 0);
    ck_assert_uint_eq(hear_renamed(r, 1), instance);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 1000 * SECOND); /* I1: never due while slots are out */
    ck_assert_str_eq(state_of(r, 0), "ready");
    give_back(r, 0, instance, 1);
    give_back(r, 1, instance, 2);
    pass(r, 300 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

START_TEST(who_waits_gets_what_the_claims_leave)
{
    struct rig *r = rig_closed(2);
    uint64_t instance, ticket;

    r->service.concurrency = 2;
    configure(r);
    claim(r, 0, 1, 0);
    ticket = ask(r, 1);
    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    hear(r, PROBE);
    instance = hear_renamed(r, 0);
    ck_assert_uint_eq(hear(r, GRANT)->ticket, ticket);
    ask(r, 1); /* a third one at once: both slots are out */
    ck_assert_uint_eq(hear(r, RECALL)->instance, instance);
    hear_nothing(r);
    ck_assert_uint_eq(count_calls(r, CREATE), 0);
    rig_free(r);
}
END_TEST

START_TEST(what_is_not_there_is_taken_from_its_front)
{
    struct rig *r = rig_closed(1);

    claim(r, 0, 1, 0);
    list(r, ENGINE_NONE);
    hear_gone(r, 0);
    claim(r, 0, 1, 0); /* said after the list */
    hear_gone(r, 0);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

/* Between the list and the look it has ended, or somebody has taken its name. */
START_TEST(what_is_gone_when_it_is_looked_at_is_taken)
{
    struct rig *r = rig_closed(1);

    claim(r, 0, 1, 0);
    list(r, ENGINE_RUNNING);
    answer_code(r, LOOK, KG_ENOTFOUND);
    hear_gone(r, 0);
    rig_free(r);
}
END_TEST

/* Due by the clock that was saved, but a front uses it: the front knows better. */
START_TEST(a_claim_is_younger_than_the_saved_clock)
{
    struct rig *r = rig_closed(1);

    ck_assert_int_eq(fleet_remember(r->f, FOUND, r->now_ms - 999 * SECOND), 0);
    claim(r, 0, 1, r->now_ms);
    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    hear(r, PROBE);
    hear_renamed(r, 0);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

/* Of another spec: it is drained, and goes when the front has given it back. */
START_TEST(what_is_no_longer_wanted_may_end_its_exchanges)
{
    struct rig *r = rig_closed(1);
    uint64_t instance;

    snprintf(r->service.spec, sizeof r->service.spec, "another");
    configure(r);
    claim(r, 0, 1, 0);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    {
        struct engine_container c = found(r, ENGINE_RUNNING);
        snprintf(c.spec, sizeof c.spec, "spec-of-a");
        fleet_engine_list(r->f, &c, 1, r->now_ms, r->now_ms);
        c.address = address_of(1);
        c.address_length = sizeof(struct sockaddr_in);
        answer(expect(r, LOOK), &(const struct engine_answer){.container = c});
    }
    fleet_check(r->f);
    instance = hear_renamed(r, 0);
    hear(r, RECALL);
    ck_assert_str_eq(state_of(r, 0), "draining");
    give_back(r, 0, instance, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

/* Paused by the former control just as a front got a slot: it is resumed for that. */
START_TEST(what_is_found_paused_is_resumed_for_who_holds_it)
{
    struct rig *r = rig_closed(1);

    claim(r, 0, 1, 0);
    list(r, ENGINE_PAUSED);
    look(r, ENGINE_PAUSED);
    hear_renamed(r, 0);
    ck_assert_str_eq(state_of(r, 0), "resuming");
    answer_code(r, UNPAUSE, 0);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

START_TEST(a_dead_front_claims_nothing)
{
    struct rig *r = rig_closed(2);

    claim(r, 0, 1, 0);
    fleet_front_down(r->f, 0, r->now_ms);
    claim(r, 0, 1, 0); /* not up: nothing is bound to it */
    hear_gone(r, 0);
    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    ck_assert_int_eq(hear(r, PROBE)->front, 1);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

/* A front may be late: it is found and served by others then. */
START_TEST(a_claim_on_what_is_known_already_is_bound_at_once)
{
    struct rig *r = rig_closed(2);
    uint64_t instance;

    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    instance = hear(r, PROBE)->instance;
    fleet_probed(r->f, 0, instance, r->now_ms);
    claim(r, 1, 1, 0);
    ck_assert_uint_eq(hear_renamed(r, 1), instance);
    fleet_engine_event(r->f,
                       &(const struct engine_event){.kind = ENGINE_EVENT_DIE,
                                                    .container = found(r, ENGINE_RUNNING)},
                       r->now_ms);
    while (r->said[r->said_read].kind == GONE && r->said_read < r->said_count)
        ck_assert_uint_eq(hear(r, GONE)->instance, instance);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(a_claim_on_what_is_being_probed_makes_it_ready)
{
    struct rig *r = rig_closed(2);
    uint64_t instance;

    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    instance = hear(r, PROBE)->instance;
    claim(r, 1, 1, 0);
    ck_assert_uint_eq(hear_renamed(r, 1), instance);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

START_TEST(a_late_claim_is_recalled_for_those_who_wait)
{
    struct rig *r = rig_closed(2);
    uint64_t instance, ticket;

    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    instance = hear(r, PROBE)->instance;
    ticket = ask(r, 0);
    claim(r, 1, 1, 0);
    ck_assert_uint_eq(hear_renamed(r, 1), instance);
    ck_assert_int_eq(hear(r, RECALL)->front, 1);
    give_back(r, 1, instance, 1);
    ck_assert_uint_eq(hear(r, GRANT)->ticket, ticket);
    rig_free(r);
}
END_TEST

/* A front that was taken over: sums of slots must not wrap, nor memory grow without bound. */
START_TEST(a_front_claims_each_container_once_and_no_more_than_can_be_lent)
{
    struct rig *r = rig_closed(1);

    claim(r, 0, KG_MAX_CONCURRENCY + 1, 0);
    hear_gone(r, 0);
    claim(r, 0, KG_MAX_CONCURRENCY, 0);
    hear_nothing(r);
    claim(r, 0, 1, 0);
    hear_gone(r, 0);
    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    hear(r, PROBE);
    hear_renamed(r, 0);
    claim(r, 0, 1, 0);
    hear_gone(r, 0);
    rig_free(r);
}
END_TEST

START_TEST(a_front_claims_no_more_than_there_can_be)
{
    struct rig *r = rig_closed(2);
    char name[32];

    for (unsigned n = 0; n < KG_MAX_INSTANCES; n++) {
        snprintf(name, sizeof name, "kipgate-a-%010x", n);
        fleet_claim(r->f, 0, OLD, name, 1, 0, r->now_ms);
    }
    hear_nothing(r);
    claim(r, 0, 1, 0);
    hear_gone(r, 0);
    claim(r, 1, 1, 0); /* another front's */
    hear_nothing(r);
    rig_free(r);
}
END_TEST

/* Looked at already, but not known yet: the claim waits for that. */
START_TEST(a_claim_waits_for_the_look_that_is_under_way)
{
    struct rig *r = rig_closed(1);

    list(r, ENGINE_RUNNING);
    claim(r, 0, 1, r->now_ms + 999 * SECOND); /* a use in the future moves no clock */
    hear_nothing(r);
    look(r, ENGINE_RUNNING);
    hear(r, PROBE);
    give_back(r, 0, hear_renamed(r, 0), 1);
    pass(r, 300 * SECOND);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

START_TEST(what_is_no_longer_fit_is_not_lent)
{
    struct rig *r = rig_closed(1);

    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    r->said_read = r->said_count; /* the front is told that it is gone */
    claim(r, 0, 1, 0);
    hear_gone(r, 0);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

/* It was said to have died: whether it did is not known before it is looked at. */
START_TEST(what_may_be_dead_is_not_lent)
{
    struct rig *r = rig_closed(1);

    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    hear(r, PROBE);
    tell(r, ENGINE_EVENT_DIE);
    claim(r, 0, 1, 0);
    hear_gone(r, 0);
    ck_assert_str_eq(state_of(r, 0), "probing");
    rig_free(r);
}
END_TEST

START_TEST(no_slots_are_no_claim)
{
    struct rig *r = rig_closed(1);

    claim(r, 0, 0, 0);
    hear_gone(r, 0);
    fleet_front_down(r->f, 0, r->now_ms);
    claim(r, 0, 0, r->now_ms); /* nor is it believed what it says of its use */
    hear_gone(r, 0);
    fleet_front_up(r->f, 0, r->now_ms);
    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    hear(r, PROBE); /* nobody is served by it */
    ck_assert_str_eq(state_of(r, 0), "probing");
    rig_free(r);
}
END_TEST

/* What one front claims, and of one container, says nothing of others. */
START_TEST(claims_are_told_apart)
{
    struct rig *r = rig_closed(2);
    struct engine_container two[2];

    r->service.max_instances = 2;
    configure(r);
    fleet_claim(r->f, 0, OLD + 1, SECOND_ONE, 1, 0, r->now_ms);
    claim(r, 0, 1, 0);
    fleet_claim(r->f, 1, OLD + 1, SECOND_ONE, 1, 0, r->now_ms);
    fleet_front_down(r->f, 1, r->now_ms);
    two[0] = found(r, ENGINE_RUNNING);
    two[1] = box(r, 2, SECOND_ONE, ENGINE_RUNNING);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, two, 2, r->now_ms, r->now_ms);
    look(r, ENGINE_RUNNING);
    hear(r, PROBE);
    hear_renamed(r, 0);
    hear_nothing(r);
    answer(expect(r, LOOK), &(const struct engine_answer){.container = two[1]});
    hear(r, PROBE);
    ck_assert_uint_eq(hear(r, RENAMED)->ticket, OLD + 1); /* and none for front 1 */
    hear_nothing(r);
    rig_free(r);
}
END_TEST

/* Its service is configured no more: what is open may end, and nothing lingers. */
START_TEST(what_no_service_has_may_end_its_exchanges)
{
    struct rig *r = rig_closed(1);
    struct engine_container c = box(r, 1, "kipgate-gone-0123456789", ENGINE_RUNNING);
    const struct said *s;

    snprintf(c.service, sizeof c.service, "gone");
    fleet_claim(r->f, 0, OLD, c.name, 1, 0, r->now_ms);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, &c, 1, r->now_ms, r->now_ms);
    answer(expect(r, LOOK), &(const struct engine_answer){.container = c});
    fleet_check(r->f);
    s = hear(r, RENAMED);
    ck_assert_int_eq(s->ms, 0);
    ck_assert_uint_eq(hear(r, RECALL)->instance, s->instance);
    ck_assert_uint_eq(count_calls(r, STOP), 0);
    answer_recall(r, 0, s->instance, 1);
    ck_assert_uint_eq(count_calls(r, STOP), 1);
    rig_free(r);
}
END_TEST

/* Not to be adopted, and a front that uses it has yet to say so: it is not stopped meanwhile. */
START_TEST(nothing_is_judged_before_the_claims_have_come)
{
    struct rig *r = rig_closed(1);

    ck_assert_int_eq(fleet_remember(r->f, FOUND, 0), 0);
    fleet_claims_begin(r->f, 0, r->now_ms);
    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    hear_nothing(r);
    ck_assert_uint_eq(count_calls(r, STOP), 0);
    claim(r, 0, 1, r->now_ms);
    ck_assert_uint_eq(waiting_calls(r), 0); /* it is looked at again by and by */
    fleet_claims_end(r->f, 0, r->now_ms);
    look(r, ENGINE_RUNNING);
    hear_renamed(r, 0);
    hear(r, RECALL);
    ck_assert_str_eq(state_of(r, 0), "draining");
    rig_free(r);
}
END_TEST

START_TEST(claims_are_not_waited_for_long)
{
    struct rig *r = rig_closed(2);

    ck_assert_int_eq(fleet_remember(r->f, FOUND, 0), 0);
    fleet_claims_begin(r->f, 0, r->now_ms);
    fleet_claims_begin(r->f, 1, r->now_ms);
    fleet_front_down(r->f, 1, r->now_ms); /* it is not waited for */
    list(r, ENGINE_RUNNING);
    for (int n = 0; n < 20; n++) {
        look(r, ENGINE_RUNNING);
        ck_assert_uint_eq(count_calls(r, STOP), 0);
        pass(r, SECOND / 20);
    }
    look(r, ENGINE_RUNNING);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

START_TEST(what_is_held_counts_before_others_are_served)
{
    struct rig *r = rig_closed(2);

    r->service.concurrency = 1;
    configure(r);
    claim(r, 0, 1, 0);
    ask(r, 1);
    list(r, ENGINE_PAUSED);
    look(r, ENGINE_PAUSED);
    hear_renamed(r, 0);
    ck_assert_int_eq(hear(r, RECALL)->front, 0);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

/* Its slots are of its former life: whoever used them would meet nobody. Before all have said what
 * they hold it is not started, for the next control could not tell its lives apart. */
START_TEST(what_is_found_stopped_is_taken_from_its_fronts)
{
    struct rig *r = rig_closed(2);

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    configure(r);
    fleet_claims_begin(r->f, 0, r->now_ms);
    list(r, ENGINE_EXITED);
    look(r, ENGINE_EXITED);
    ask(r, 1);
    ck_assert_uint_eq(count_calls(r, START) + count_calls(r, CREATE), 0);
    claim(r, 0, 1, 0);
    fleet_claims_end(r->f, 0, r->now_ms);
    look(r, ENGINE_EXITED);
    hear_gone(r, 0);
    ck_assert_str_eq(expect(r, START)->target, "id-1");
    hear_nothing(r);
    rig_free(r);
}
END_TEST

/* The last run had it resumed for a request, and died before the engine heard of it. */
START_TEST(what_is_claimed_frozen_and_not_wanted_is_resumed_to_end_its_exchanges)
{
    struct rig *r = rig_closed(1);
    struct config_service changed = r->service;
    uint64_t instance;

    snprintf(changed.spec, sizeof changed.spec, "another");
    r->services[0] = &changed;
    configure(r);
    claim(r, 0, 1, 0);
    list(r, ENGINE_PAUSED);
    look(r, ENGINE_PAUSED);
    instance = hear_renamed(r, 0);
    hear(r, RECALL);
    ck_assert_str_eq(expect(r, UNPAUSE)->target, "id-1");
    answer_code(r, UNPAUSE, KG_ETIMEOUT);
    pass(r, 100);
    look(r, ENGINE_PAUSED);
    answer_code(r, UNPAUSE, 0);
    ck_assert_str_eq(state_of(r, 0), "draining");
    give_back(r, 0, instance, 1);
    ck_assert_str_eq(expect(r, STOP)->target, "id-1");
    rig_free(r);
}
END_TEST

/* A front that is late: it was found stopped, and started again for others. */
START_TEST(what_was_started_again_is_not_held_of_its_former_life)
{
    struct rig *r = rig_closed(2);
    struct said *probe;

    r->service.on_idle = CONFIG_ON_IDLE_STOP;
    configure(r);
    list(r, ENGINE_EXITED);
    look(r, ENGINE_EXITED);
    ask(r, 1);
    answer_code(r, START, 0);
    look(r, ENGINE_RUNNING);
    probe = hear(r, PROBE);
    if (_i == 1) {
        fleet_probed(r->f, probe->front, probe->instance, r->now_ms);
        hear(r, GRANT);
    }
    claim(r, 0, 1, 0);
    hear_gone(r, 0);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(what_is_found_ended_is_taken_at_once)
{
    struct rig *r = rig_closed(1);

    claim(r, 0, 1, 0);
    list(r, ENGINE_EXITED);
    look(r, ENGINE_EXITED);
    expect(r, REMOVE); /* not answered yet */
    hear_gone(r, 0);
    rig_free(r);
}
END_TEST

/* While it is asked whether that is so nothing is lent: what is probed serves nobody. */
START_TEST(what_is_said_to_have_died_is_bound_when_it_is_known_to_live)
{
    struct rig *r = rig_closed(1);

    claim(r, 0, 1, 0);
    list(r, ENGINE_RUNNING);
    fleet_engine_event(r->f,
                       &(const struct engine_event){.kind = ENGINE_EVENT_DIE,
                                                    .container = found(r, ENGINE_RUNNING)},
                       r->now_ms);
    look(r, ENGINE_RUNNING);
    hear(r, PROBE);
    hear_nothing(r);
    ck_assert_str_eq(state_of(r, 0), "probing");
    look(r, ENGINE_RUNNING);
    hear_renamed(r, 0);
    ck_assert_str_eq(state_of(r, 0), "ready");
    rig_free(r);
}
END_TEST

/* The engine does not say whether it died, or it is not wanted any more: what is open on it may
 * end, if it lives. */
START_TEST(what_is_said_to_have_died_and_cannot_stay_may_end_its_exchanges)
{
    struct rig *r = rig_closed(1);
    struct config_service next = r->service;
    uint64_t instance;

    claim(r, 0, 1, 0);
    list(r, ENGINE_RUNNING);
    tell(r, ENGINE_EVENT_DIE);
    look(r, ENGINE_RUNNING);
    hear(r, PROBE);
    if (_i == 0) {
        pass(r, 30 * SECOND);
    } else {
        snprintf(next.spec, sizeof next.spec, "another");
        r->services[0] = &next;
        configure(r);
    }
    instance = hear_renamed(r, 0);
    ck_assert_uint_eq(hear(r, RECALL)->instance, instance);
    ck_assert_str_eq(state_of(r, 0), "draining");
    pass(r, 3600 * SECOND);
    ck_assert_str_eq(state_of(r, 0), "draining");
    give_back(r, 0, instance, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

/* The front has given it back, and clocks were not saved since. */
START_TEST(a_use_that_was_not_saved_is_told_by_its_front)
{
    struct rig *r = rig_closed(1);

    ck_assert_int_eq(fleet_remember(r->f, FOUND, r->now_ms - 100 * SECOND), 0);
    claim(r, 0, 0, r->now_ms - 1 * SECOND);
    hear_gone(r, 0);
    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 0, hear(r, PROBE)->instance, r->now_ms);
    pass(r, 299 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

/* It ends before what it uses is found. */
START_TEST(what_a_dying_front_claimed_was_used_until_then)
{
    struct rig *r = rig_closed(2);

    ck_assert_int_eq(fleet_remember(r->f, FOUND, r->now_ms - 100 * SECOND), 0);
    claim(r, 0, 1, 0);
    fleet_front_down(r->f, 0, r->now_ms);
    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    fleet_probed(r->f, 1, hear(r, PROBE)->instance, r->now_ms);
    pass(r, 300 * SECOND - 1);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

/* The former control had ordered its end: whatever a front says, it is not for others. */
START_TEST(an_order_to_end_outweighs_a_claim)
{
    struct rig *r = rig_closed(1);

    ck_assert_int_eq(fleet_remember(r->f, FOUND, 0), 0);
    claim(r, 0, 1, r->now_ms);
    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    hear_renamed(r, 0);
    hear(r, RECALL);
    ck_assert_str_eq(state_of(r, 0), "draining");
    rig_free(r);
}
END_TEST

static void note_clock(void *arg, const char *name, int64_t used_ms, bool in_use)
{
    ck_assert_str_eq(name, FOUND);
    ck_assert(!in_use);
    *(int64_t *)arg = used_ms;
}

/* While fronts still use it this run may die, too, and the order be carried out in the next. */
START_TEST(an_order_to_end_is_remembered_while_it_drains)
{
    struct rig *r = rig_closed(1);
    int64_t used_ms = 1;

    fleet_hold_adopted(r->f, true, r->now_ms);
    ck_assert_int_eq(fleet_remember(r->f, FOUND, 0), 0);
    claim(r, 0, 1, r->now_ms);
    list(r, ENGINE_RUNNING);
    look(r, ENGINE_RUNNING);
    fleet_hold_adopted(r->f, _i != 0, r->now_ms); /* those it does not hear live, or have ended */
    ck_assert_str_eq(state_of(r, 0), "draining");
    fleet_each_clock(r->f, note_clock, &used_ms);
    ck_assert_int_eq(used_ms, 0);
    hear_renamed(r, 0);
    hear(r, RECALL);
    rig_free(r);
}
END_TEST

/* This run may be killed, too, before it has found what the last one wrote of. */
START_TEST(clocks_are_kept_until_what_they_are_of_is_found)
{
    struct rig *r = rig_closed(1);
    int64_t used_ms = 0;

    ck_assert_int_eq(fleet_remember(r->f, FOUND, 77), 0);
    fleet_each_clock(r->f, note_clock, &used_ms);
    ck_assert_int_eq(used_ms, 77);
    used_ms = 0;
    list(r, ENGINE_RUNNING); /* and is being looked at */
    fleet_each_clock(r->f, note_clock, &used_ms);
    ck_assert_int_eq(used_ms, 77);
    rig_free(r);
    r = rig_closed(1);
    used_ms = 0;
    ck_assert_int_eq(fleet_remember(r->f, FOUND, 77), 0);
    list(r, ENGINE_NONE);
    fleet_each_clock(r->f, note_clock, &used_ms);
    ck_assert_int_eq(used_ms, 0);
    rig_free(r);
}
END_TEST

START_TEST(an_end_is_written_down_before_it_is_ordered)
{
    struct rig *r = rig_new(1);

    warm(r);
    ck_assert_uint_eq(r->ends, 0);
    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    ck_assert_uint_eq(r->ends, 1);
    ck_assert_uint_eq(r->asked_before_end, 0);
    answer_code(r, STOP, 0);
    ck_assert_uint_eq(r->ends, 2);
    ck_assert_uint_eq(r->asked_before_end, 1);
    answer_code(r, REMOVE, 0);
    ck_assert_uint_eq(r->ends, 2);
    rig_free(r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("claims");
    TCase *t = tcase_create("claims");
    SRunner *runner;
    int failed;

    tcase_add_test(t, what_is_claimed_is_ready_when_it_is_found);
    tcase_add_test(t, who_waits_gets_what_the_claims_leave);
    tcase_add_test(t, what_is_not_there_is_taken_from_its_front);
    tcase_add_test(t, what_is_gone_when_it_is_looked_at_is_taken);
    tcase_add_test(t, a_claim_is_younger_than_the_saved_clock);
    tcase_add_test(t, what_is_no_longer_wanted_may_end_its_exchanges);
    tcase_add_test(t, what_is_found_paused_is_resumed_for_who_holds_it);
    tcase_add_test(t, a_dead_front_claims_nothing);
    tcase_add_test(t, a_claim_on_what_is_known_already_is_bound_at_once);
    tcase_add_test(t, a_claim_on_what_is_being_probed_makes_it_ready);
    tcase_add_test(t, a_late_claim_is_recalled_for_those_who_wait);
    tcase_add_test(t, a_front_claims_each_container_once_and_no_more_than_can_be_lent);
    tcase_add_test(t, a_front_claims_no_more_than_there_can_be);
    tcase_add_test(t, a_claim_waits_for_the_look_that_is_under_way);
    tcase_add_test(t, what_is_no_longer_fit_is_not_lent);
    tcase_add_test(t, what_may_be_dead_is_not_lent);
    tcase_add_test(t, no_slots_are_no_claim);
    tcase_add_test(t, claims_are_told_apart);
    tcase_add_test(t, what_no_service_has_may_end_its_exchanges);
    tcase_add_test(t, nothing_is_judged_before_the_claims_have_come);
    tcase_add_test(t, claims_are_not_waited_for_long);
    tcase_add_test(t, what_is_held_counts_before_others_are_served);
    tcase_add_test(t, what_is_found_stopped_is_taken_from_its_fronts);
    tcase_add_test(t, what_is_claimed_frozen_and_not_wanted_is_resumed_to_end_its_exchanges);
    tcase_add_loop_test(t, what_was_started_again_is_not_held_of_its_former_life, 0, 2);
    tcase_add_test(t, what_is_found_ended_is_taken_at_once);
    tcase_add_test(t, what_is_said_to_have_died_is_bound_when_it_is_known_to_live);
    tcase_add_loop_test(t, what_is_said_to_have_died_and_cannot_stay_may_end_its_exchanges, 0, 2);
    tcase_add_test(t, a_use_that_was_not_saved_is_told_by_its_front);
    tcase_add_test(t, what_a_dying_front_claimed_was_used_until_then);
    tcase_add_test(t, an_order_to_end_outweighs_a_claim);
    tcase_add_loop_test(t, an_order_to_end_is_remembered_while_it_drains, 0, 2);
    tcase_add_test(t, clocks_are_kept_until_what_they_are_of_is_found);
    tcase_add_test(t, an_end_is_written_down_before_it_is_ordered);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
