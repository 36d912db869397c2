/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet: who waits, what is made for them, what becomes of failures, when idleness ends.
 * The difficulty: the sample's thirteen defects must not come back; those that lived here are
 * named. */
#include "fleet_rig.h"

/* --- demand --- */

START_TEST(d5_a_thousand_cold_requests_make_one_container)
{
    struct rig *r = rig_closed(2);

    r->service.queue = 1000;
    r->service.concurrency = 1000;
    configure(r);
    engine_up(r);
    for (int n = 0; n < 1000; n++)
        ask(r, n % 2);
    ck_assert_uint_eq(fleet_waiting(r->f, 0), 1000);
    hear_nothing(r);
    until_ready(r);
    for (uint64_t n = 1; n <= 1000; n++) {
        struct said *s = hear(r, GRANT);
        ck_assert_uint_eq(s->ticket, n); /* in the order they came, over both fronts */
        ck_assert_uint_eq(s->slots, 1);
        ck_assert_int_eq(s->warmth, PROXY_COLD);
    }
    hear_nothing(r);
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    ck_assert_int_eq(r->cold_ok, 1);
    rig_free(r);
}
END_TEST

static void fill_queue(struct rig *r, unsigned waiting)
{
    for (unsigned n = 0; n < waiting; n++)
        ask(r, 0);
    ck_assert_uint_eq(fleet_waiting(r->f, 0), waiting);
    hear_nothing(r);
}

START_TEST(queue_cap_is_exact)
{
    struct rig *r = rig_closed(2);

    r->service.queue = 5;
    configure(r);
    engine_up(r);
    fill_queue(r, 4); /* n-1 */
    ask(r, 1);        /* n */
    hear_nothing(r);
    ask(r, 1); /* n+1 */
    ck_assert_ptr_nonnull(strstr(hear_refusal(r, ORCH_QUEUE_FULL)->detail, "service a"));
    fleet_withdraw(r->f, 0, 1, r->now_ms); /* a place is free again */
    ask(r, 1);
    hear_nothing(r);
    ask(r, 0);
    hear_refusal(r, ORCH_QUEUE_FULL);
    rig_free(r);
}
END_TEST

START_TEST(where_none_may_wait_none_wakes_anything)
{
    struct rig *r = rig_new(1);

    r->service.queue = 0;
    configure(r);
    ask(r, 0);
    hear_refusal(r, ORCH_QUEUE_FULL);
    ck_assert_uint_eq(count_calls(r, CREATE), 0);
    fleet_wake(r->f, 0, on_done, r, r->now_ms);
    until_ready(r);
    ask(r, 0);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

/* Over all its services: no front can fill control's memory. */
START_TEST(waiting_requests_of_a_front_have_a_cap)
{
    struct rig *r = rig_closed(2);

    r->service.queue = KG_MAX_WAITING_PER_FRONT + 10;
    configure(r);
    engine_up(r);
    for (int n = 0; n < KG_MAX_WAITING_PER_FRONT; n++)
        fleet_acquire(r->f, 0, ++r->ticket, 0, false, r->now_ms);
    hear_nothing(r);
    ask(r, 0); /* n+1 */
    hear_refusal(r, PROXY_OVERLOADED);
    ask(r, 1); /* of another front */
    hear_nothing(r);
    fleet_withdraw(r->f, 0, 1, r->now_ms);
    ask(r, 0);
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(ready_slots_are_granted_at_once)
{
    struct rig *r = rig_new(1);
    uint64_t instance = warm(r);
    struct said *s;

    ask(r, 0);
    s = hear(r, GRANT);
    ck_assert_uint_eq(s->instance, instance);
    ck_assert_int_eq(s->warmth, PROXY_WARM);
    ck_assert_int_eq(s->ms, KG_LEASE_LINGER_MS);
    ck_assert_uint_eq(waiting_calls(r), 0);
    rig_free(r);
}
END_TEST

START_TEST(quiet_requests_never_wake)
{
    struct rig *r = rig_new(1);

    fleet_acquire(r->f, 0, 77, 0, true, r->now_ms);
    hear_refusal(r, ORCH_ASLEEP);
    ck_assert_uint_eq(r->call_count, 0);
    warm(r);
    fleet_acquire(r->f, 0, 78, 0, true, r->now_ms);
    ck_assert_uint_eq(hear(r, GRANT)->ticket, 78);
    rig_free(r);
}
END_TEST

/* As all do for a slot; but nothing is made for them, whatever becomes of what they wait for. */
START_TEST(quiet_requests_wait_for_what_serves)
{
    struct rig *r = rig_closed(1);
    uint64_t instance;

    r->service.concurrency = 1;
    r->service.max_instances = 2;
    configure(r);
    engine_up(r);
    ask(r, 0);
    instance = until_ready(r);
    hear(r, GRANT);
    fleet_acquire(r->f, 0, 77, 0, true, r->now_ms);
    fleet_acquire(r->f, 0, 78, 0, true, r->now_ms);
    fleet_check(r->f);
    hear_nothing(r);
    give_back(r, 0, instance, 1);
    ck_assert_uint_eq(hear(r, GRANT)->ticket, 77);
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    tell(r, ENGINE_EVENT_DIE);
    hear(r, GONE);
    ck_assert_uint_eq(hear_refusal(r, ORCH_ASLEEP)->ticket, 78);
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    rig_free(r);
}
END_TEST

START_TEST(unknown_services_are_refused)
{
    struct rig *r = rig_new(1);

    fleet_acquire(r->f, 0, 1, 1, false, r->now_ms);
    hear_refusal(r, PROXY_NO_ROUTE);
    fleet_acquire(r->f, 0, 2, UINT32_MAX, false, r->now_ms);
    hear_refusal(r, PROXY_NO_ROUTE);
    fleet_acquire(r->f, 5, 3, 0, false, r->now_ms); /* not up: unheard */
    hear_nothing(r);
    rig_free(r);
}
END_TEST

START_TEST(starts_in_flight_are_capped)
{
    struct rig *r = rig_closed(1);
    struct config_service more[4], *all[4];
    struct config config = {.services = all, .service_count = 4};

    for (int n = 0; n < 4; n++) {
        char name[16];
        snprintf(name, sizeof name, "s-%d", n);
        fill_service(r, &more[n], name);
        all[n] = &more[n];
    }
    ck_assert_int_eq(fleet_configure(r->f, &config, r->now_ms), 0);
    engine_up(r);
    for (uint32_t n = 0; n < 4; n++)
        fleet_acquire(r->f, 0, n, (uint32_t)fleet_service_id(r->f, more[n].name), false, r->now_ms);
    fleet_check(r->f);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    answer_code(r, CREATE, KG_EINVAL); /* one failed: the third in line goes */
    ck_assert_uint_eq(count_calls(r, CREATE), 3);
    ck_assert_ptr_nonnull(strstr(r->calls[2].target, "kipgate-s-2-"));
    rig_free(r);
}
END_TEST

/* --- pulls --- */

START_TEST(missing_image_is_pulled_once)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    answer_code(r, CREATE, KG_ENOTFOUND);
    answer_code(r, PULL, 0);
    answer_code(r, CREATE, KG_ENOTFOUND); /* still not there: no second pull */
    ck_assert_ptr_nonnull(strstr(hear_refusal(r, ORCH_IMAGE_UNAVAILABLE)->detail, "image:1"));
    ck_assert_uint_eq(count_calls(r, PULL), 1);
    ck_assert_str_eq(state_of(r, 0), "backoff");
    rig_free(r);
}
END_TEST

START_TEST(pull_never_and_pull_always)
{
    struct rig *r = rig_closed(1);

    r->service.pull = CONFIG_PULL_NEVER;
    configure(r);
    engine_up(r);
    ask(r, 0);
    answer_code(r, CREATE, KG_ENOTFOUND);
    hear_refusal(r, ORCH_IMAGE_UNAVAILABLE);
    rig_free(r);
    r = rig_closed(1);
    r->service.pull = CONFIG_PULL_ALWAYS;
    configure(r);
    engine_up(r);
    ask(r, 0);
    answer_code(r, PULL, KG_EIO);
    ck_assert_ptr_nonnull(
        strstr(hear_refusal(r, ORCH_IMAGE_UNAVAILABLE)->detail, "words of the engine"));
    ck_assert_uint_eq(count_calls(r, CREATE), 0);
    rig_free(r);
}
END_TEST

START_TEST(pull_time_is_not_start_time)
{
    struct rig *r = rig_closed(1);

    r->service.pull = CONFIG_PULL_ALWAYS;
    r->service.start_timeout_ms = 1000;
    configure(r);
    engine_up(r);
    ask(r, 0);
    pass(r, 60000);
    hear_nothing(r);
    answer_code(r, PULL, 0);
    pass(r, 900);
    until_ready(r);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

START_TEST(pull_timeout_ends_the_wait)
{
    struct rig *r = rig_closed(1);

    r->service.pull = CONFIG_PULL_ALWAYS;
    r->service.pull_timeout_ms = 5000;
    configure(r);
    engine_up(r);
    ask(r, 0);
    pass(r, 4999);
    hear_nothing(r);
    pass(r, 1);
    hear_refusal(r, ORCH_IMAGE_UNAVAILABLE);
    ck_assert(r->calls[0].cancelled);
    rig_free(r);
}
END_TEST

/* --- failures --- */

START_TEST(death_while_probed_ends_the_wait_at_once)
{
    struct rig *r = rig_new(1);
    struct said *s;

    ask(r, 0);
    until_probed(r);
    tell(r, ENGINE_EVENT_DIE);
    answer_look(r, ENGINE_EXITED); /* how did it die? */
    hear(r, PROBE_STOP);
    hear(r, GONE);
    s = hear_refusal(r, ORCH_INSTANCE_EXITED);
    ck_assert_str_eq(s->detail, "service a: exit code 3");
    answer_code(r, REMOVE, 0);
    ck_assert_str_eq(state_of(r, 0), "backoff");
    ck_assert_int_eq(r->cold_failed, 1);
    rig_free(r);
}
END_TEST

START_TEST(oom_is_named)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    until_probed(r);
    tell(r, ENGINE_EVENT_OOM);
    tell(r, ENGINE_EVENT_DIE);
    answer_look(r, ENGINE_EXITED);
    hear(r, PROBE_STOP);
    hear(r, GONE);
    ck_assert_str_eq(hear_refusal(r, ORCH_INSTANCE_EXITED)->detail,
                     "service a: killed: out of memory");
    rig_free(r);
}
END_TEST

/* Docker 20.10 was seen to lose one out-of-memory notice in three. */
START_TEST(killed_and_nobody_says_why)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    until_probed(r);
    tell(r, ENGINE_EVENT_DIE);
    for (int wait_ms = 30; wait_ms <= 240; wait_ms *= 2) {
        answer_exit(r, ENGINE_EXITED, 137);
        hear_nothing(r);
        pass(r, wait_ms);
    }
    answer_exit(r, ENGINE_EXITED, 137);
    hear(r, PROBE_STOP);
    hear(r, GONE);
    ck_assert_str_eq(hear_refusal(r, ORCH_INSTANCE_EXITED)->detail,
                     "service a: exit code 137 (killed, perhaps out of memory)");
    rig_free(r);
}
END_TEST

START_TEST(bad_command_fails_at_once_and_is_removed)
{
    struct rig *r = rig_new(1);
    struct said *s;

    ask(r, 0);
    answer_created(r);
    answer_code(r, START, KG_EINVAL);
    s = hear_refusal(r, ORCH_INSTANCE_EXITED);
    ck_assert_ptr_null(strstr(s->detail, "words of the engine")); /* those are for the log */
    ck_assert_str_eq(r->last_why, "words of the engine");
    answer_code(r, REMOVE, 0);
    rig_free(r);
}
END_TEST

START_TEST(start_timeout_refuses_and_removes)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    pass(r, 10000);
    until_probed(r);
    pass(r, 19999);
    hear_nothing(r);
    pass(r, 1); /* counted from the demand */
    hear(r, PROBE_STOP);
    hear(r, GONE);
    ck_assert_int_eq(orch_reason_row(hear_refusal(r, ORCH_START_TIMEOUT)->reason)->status, 504);
    answer_code(r, REMOVE, 0);
    rig_free(r);
}
END_TEST

/* What is said of a start that took too long is so. */
START_TEST(a_late_start_is_told_as_it_is)
{
    static const char *const words[] = {"the worker never answered", "its health check",
                                        "the engine does not answer", "the engine does not answer"};
    struct rig *r = rig_closed(1);
    struct engine_container stray = box(r, 9, "kipgate-a-0123456789", ENGINE_RUNNING);
    const struct said *refusal;

    snprintf(r->service.health.path, sizeof r->service.health.path, "%s", _i == 1 ? "/up" : "");
    fleet_engine_state(r->f, true, "up", r->now_ms);
    if (_i != 2) /* a list that never comes */
        fleet_engine_list(r->f, &stray, _i == 3, r->now_ms, r->now_ms);
    ask(r, 0);
    if (_i < 2) {
        until_probed(r);
        pass(r, 30000);
        hear(r, PROBE_STOP);
        hear(r, GONE);
    } else { /* nor what one container is */
        pass(r, 30000);
    }
    refusal = hear(r, REFUSE);
    ck_assert_ptr_nonnull(strstr(refusal->detail, words[_i]));
    ck_assert_uint_eq(refusal->reason, _i < 2 ? ORCH_START_TIMEOUT : ORCH_ENGINE_UNAVAILABLE);
    rig_free(r);
}
END_TEST

static void fail_once(struct rig *r)
{
    ask(r, 0);
    answer_code(r, CREATE, KG_EINVAL);
}

START_TEST(backoff_doubles_and_is_reset_by_ready)
{
    struct rig *r = rig_new(1);
    int64_t pause_ms = 1000;

    for (int n = 0; n < 9; n++, pause_ms *= 2) {
        int64_t want_ms = pause_ms < 60000 ? pause_ms : 60000;
        fail_once(r);
        ck_assert_int_eq(hear_refusal(r, ORCH_INSTANCE_EXITED)->ms, want_ms);
        pass(r, want_ms - 1);
        ask(r, 0);
        ck_assert_int_eq(hear_refusal(r, ORCH_BACKING_OFF)->ms, 1); /* Retry-After */
        pass(r, 1);
    }
    warm(r);
    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    fail_once(r);
    ck_assert_int_eq(hear_refusal(r, ORCH_INSTANCE_EXITED)->ms, 1000);
    rig_free(r);
}
END_TEST

START_TEST(backing_off_tells_the_last_cause)
{
    struct rig *r = rig_new(1);
    struct said *s;

    fail_once(r);
    hear_refusal(r, ORCH_INSTANCE_EXITED);
    pass(r, 400);
    ask(r, 0);
    s = hear_refusal(r, ORCH_BACKING_OFF);
    ck_assert_int_eq(s->ms, 600);
    ck_assert_ptr_nonnull(strstr(s->detail, "service a"));
    ck_assert_ptr_nonnull(strstr(s->detail, "settings"));
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    rig_free(r);
}
END_TEST

/* What the engine was never asked for is told as it is; what the engine says is for the log. */
START_TEST(settings_that_are_wrong_are_told)
{
    static const char *const words[] = {"image x exposes 2 TCP ports: set `port`",
                                        "the engine refuses these settings"};
    struct engine_answer a = {.code = KG_EINVAL, .status = _i == 0 ? 0 : 400};
    struct rig *r = rig_new(1);
    struct said *s;

    ask(r, 0);
    snprintf(a.words, sizeof a.words, "%s", words[0]);
    answer(expect(r, CREATE), &a);
    s = hear_refusal(r, ORCH_INSTANCE_EXITED);
    ck_assert_ptr_nonnull(strstr(s->detail, words[_i]));
    ck_assert_ptr_null(strstr(s->detail, words[!_i]));
    rig_free(r);
}
END_TEST

START_TEST(wake_by_hand_bypasses_backoff)
{
    struct rig *r = rig_new(1);

    fail_once(r);
    hear_refusal(r, ORCH_INSTANCE_EXITED);
    fleet_wake(r->f, 0, on_done, r, r->now_ms);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    ask(r, 0); /* joins what is on its way */
    hear_nothing(r);
    until_ready(r);
    hear(r, GRANT);
    ck_assert_int_eq(r->done_count, 0);
    pass(r, 0); /* answers to callers are given by the tick */
    ck_assert_int_eq(r->done_count, 1);
    ck_assert_uint_eq(r->done_reason, 0);
    rig_free(r);
}
END_TEST

START_TEST(wake_tells_why_it_failed)
{
    struct rig *r = rig_new(1);

    fleet_wake(r->f, 0, on_done, r, r->now_ms);
    answer_code(r, CREATE, KG_EINVAL);
    pass(r, 0);
    ck_assert_uint_eq(r->done_reason, ORCH_INSTANCE_EXITED);
    fleet_wake(r->f, 9, on_done, r, r->now_ms);
    pass(r, 0);
    ck_assert_uint_eq(r->done_reason, PROXY_NO_ROUTE);
    fleet_wake(r->f, 0, on_done, r, r->now_ms);
    fleet_forget_caller(r->f, r);
    answer_code(r, CREATE, KG_EINVAL);
    pass(r, 0);
    ck_assert_int_eq(r->done_count, 2);
    rig_free(r);
}
END_TEST

START_TEST(an_end_long_after_it_was_ready_is_no_crash)
{
    struct rig *r = rig_new(1);

    for (int n = 0; n < 9; n++) {
        warm(r);
        pass(r, n % 2 ? 10000 : 9999); /* each second one lived long enough */
        tell(r, ENGINE_EVENT_DIE);
        hear(r, GONE);
        answer_code(r, REMOVE, 0);
    }
    warm(r);
    rig_free(r);
}
END_TEST

START_TEST(crashes_in_a_row_make_the_service_rest)
{
    struct rig *r = rig_new(1);

    for (int n = 0; n < 3; n++) {
        warm(r);
        tell(r, ENGINE_EVENT_DIE);
        hear(r, GONE);
        answer_code(r, REMOVE, 0);
    }
    ask(r, 0);
    ck_assert_int_eq(hear_refusal(r, ORCH_BACKING_OFF)->ms, 1000);
    rig_free(r);
}
END_TEST

/* --- idleness --- */

START_TEST(d3_idle_counts_from_the_end_of_the_last_exchange)
{
    struct rig *r = rig_new(1);
    uint64_t instance;

    ask(r, 0);
    instance = until_ready(r);
    hear(r, GRANT);
    pass(r, 3600000); /* one long exchange: never due while it runs */
    ck_assert_str_eq(state_of(r, 0), "ready");
    /* It ended now; the lease lingered for a second before it came back. */
    fleet_return(r->f, 0, instance, 1, r->now_ms, false, r->now_ms + 1000);
    r->now_ms += 1000;
    pass(r, 298999);
    hear_nothing(r);
    pass(r, 1);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    ck_assert_str_eq(state_of(r, 0), "none");
    ck_assert_int_eq(r->reaped, 1);
    rig_free(r);
}
END_TEST

START_TEST(unused_it_idles_from_ready)
{
    struct rig *r = rig_new(1);

    fleet_wake(r->f, 0, on_done, r, r->now_ms);
    pass(r, 10000);
    until_ready(r);
    pass(r, 299999);
    ck_assert_str_eq(state_of(r, 0), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 0), "stopping");
    rig_free(r);
}
END_TEST

START_TEST(d12_a_request_in_the_instant_of_reaping_is_served)
{
    struct rig *r = rig_new(1);
    uint64_t first = warm(r), second;

    pass(r, 300000); /* expired: stop is under way */
    hear(r, GONE);
    expect(r, STOP);
    ask(r, 0); /* before, between and after the calls: it waits, and the next one is made beside */
    hear_nothing(r);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    answer_code(r, STOP, 0);
    ask(r, 0);
    second = until_ready(r);
    ck_assert_uint_ne(second, first);
    ck_assert_uint_eq(hear(r, GRANT)->instance, second);
    answer_code(r, REMOVE, 0);
    give_back(r, 0, second, 1);
    ck_assert_uint_eq(hear(r, GRANT)->instance, second);
    rig_free(r);
}
END_TEST

START_TEST(d12_a_request_just_before_expiry_keeps_the_instance)
{
    struct rig *r = rig_new(1);
    uint64_t instance = warm(r);

    r->now_ms += 300000; /* due in this very millisecond, but the request was first */
    ask(r, 0);
    ck_assert_uint_eq(hear(r, GRANT)->instance, instance);
    fleet_tick(r->f, r->now_ms);
    ck_assert_str_eq(state_of(r, 0), "ready");
    ck_assert_uint_eq(waiting_calls(r), 0);
    rig_free(r);
}
END_TEST

START_TEST(view_tells_idle_and_due)
{
    struct rig *r = rig_new(1);
    struct fleet_view v;

    warm(r);
    pass(r, 100000);
    ck_assert_uint_eq(fleet_view(r->f, 0, &v, 1, r->now_ms), 1);
    ck_assert_str_eq(v.address, "10.0.0.1:9000");
    ck_assert_int_eq(v.idle_ms, 100000);
    ck_assert_int_eq(v.reap_in_ms, 200000);
    ck_assert(v.current_spec);
    ask(r, 0);
    fleet_view(r->f, 0, &v, 1, r->now_ms);
    ck_assert_uint_eq(v.slots_out, 1);
    ck_assert_int_eq(v.idle_ms, 0);
    ck_assert_int_eq(v.reap_in_ms, -1);
    rig_free(r);
}
END_TEST

/* --- sleep and stop --- */

START_TEST(sleep_waits_for_what_is_open)
{
    struct rig *r = rig_new(1);
    uint64_t instance;

    ask(r, 0);
    instance = until_ready(r);
    hear(r, GRANT);
    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    hear(r, RECALL);
    pass(r, 100000);
    ck_assert_uint_eq(waiting_calls(r), 0); /* not stopped while a slot is out */
    give_back(r, 0, instance, 1);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    pass(r, 0);
    ck_assert_int_eq(r->done_count, 0);
    answer_code(r, REMOVE, 0);
    pass(r, 0);
    ck_assert_int_eq(r->done_count, 1);
    rig_free(r);
}
END_TEST

START_TEST(stop_leaves_or_removes)
{
    struct rig *r = rig_new(1);

    warm(r);
    fleet_stop(r->f, false, r->now_ms);
    ck_assert(fleet_quiet(r->f));
    ask(r, 0); /* what is warm still serves */
    give_back(r, 0, hear(r, GRANT)->instance, 1);
    fleet_stop(r->f, true, r->now_ms);
    hear(r, GONE);
    ask(r, 0);
    hear_refusal(r, PROXY_DRAINING);
    ck_assert(!fleet_quiet(r->f));
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    ck_assert(fleet_quiet(r->f));
    rig_free(r);
}
END_TEST

START_TEST(stop_lets_a_provisioning_finish)
{
    struct rig *r = rig_new(1);

    ask(r, 0);
    fleet_stop(r->f, false, r->now_ms);
    ck_assert(!fleet_quiet(r->f));
    until_ready(r);
    hear(r, GRANT);
    rig_free(r);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *c = tcase_create("fleet");

    tcase_add_test(c, d5_a_thousand_cold_requests_make_one_container);
    tcase_add_test(c, queue_cap_is_exact);
    tcase_add_test(c, where_none_may_wait_none_wakes_anything);
    tcase_add_test(c, waiting_requests_of_a_front_have_a_cap);
    tcase_add_test(c, ready_slots_are_granted_at_once);
    tcase_add_test(c, quiet_requests_never_wake);
    tcase_add_test(c, quiet_requests_wait_for_what_serves);
    tcase_add_test(c, unknown_services_are_refused);
    tcase_add_test(c, starts_in_flight_are_capped);
    tcase_add_test(c, missing_image_is_pulled_once);
    tcase_add_test(c, pull_never_and_pull_always);
    tcase_add_test(c, pull_time_is_not_start_time);
    tcase_add_test(c, pull_timeout_ends_the_wait);
    tcase_add_test(c, death_while_probed_ends_the_wait_at_once);
    tcase_add_test(c, oom_is_named);
    tcase_add_test(c, killed_and_nobody_says_why);
    tcase_add_test(c, bad_command_fails_at_once_and_is_removed);
    tcase_add_test(c, start_timeout_refuses_and_removes);
    tcase_add_loop_test(c, a_late_start_is_told_as_it_is, 0, 4);
    tcase_add_test(c, backoff_doubles_and_is_reset_by_ready);
    tcase_add_test(c, backing_off_tells_the_last_cause);
    tcase_add_loop_test(c, settings_that_are_wrong_are_told, 0, 2);
    tcase_add_test(c, wake_by_hand_bypasses_backoff);
    tcase_add_test(c, wake_tells_why_it_failed);
    tcase_add_test(c, crashes_in_a_row_make_the_service_rest);
    tcase_add_test(c, an_end_long_after_it_was_ready_is_no_crash);
    tcase_add_test(c, d3_idle_counts_from_the_end_of_the_last_exchange);
    tcase_add_test(c, unused_it_idles_from_ready);
    tcase_add_test(c, d12_a_request_in_the_instant_of_reaping_is_served);
    tcase_add_test(c, d12_a_request_just_before_expiry_keeps_the_instance);
    tcase_add_test(c, view_tells_idle_and_due);
    tcase_add_test(c, sleep_waits_for_what_is_open);
    tcase_add_test(c, stop_leaves_or_removes);
    tcase_add_test(c, stop_lets_a_provisioning_finish);
    suite_add_tcase(suite, c);
}

int main(void)
{
    Suite *suite = suite_create("fleet");
    SRunner *runner;
    int failed;

    add_tests(suite);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
