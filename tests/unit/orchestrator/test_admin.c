/* SPDX-License-Identifier: Apache-2.0 */
/* The admin API's calls: health, services, by hand, changes. The difficulty: an answer may be due
 * at once, later, or to nobody any more, and each case must show which. */
#include "admin_case.h"

/* --- health -------------------------------------------------------------------------------- */

/* D13: health was always 200. */
START_TEST(test_d13_readiness_tells_the_truth)
{
    ck_assert_int_eq(ask("GET", "/healthz", "")->status, 200);
    ck_assert_int_eq(ask("GET", "/readyz", "")->status, 200);
    engine_up = false;
    is_problem(ask("GET", "/readyz", ""), 503, "engine-unavailable", "connection refused");
    ck_assert_int_eq(ask("GET", "/healthz", "")->status, 200);
    engine_up = true;
    listening = false;
    is_problem(ask("GET", "/readyz", ""), 503, "not-listening", "");
    draining = true;
    is_problem(ask("GET", "/readyz", ""), 503, "draining", "");
    engine_up = listening = true;
    draining = false;
    ck_assert_int_eq(ask("HEAD", "/readyz", "")->status, 200);
}
END_TEST

START_TEST(test_unknown_calls)
{
    static const struct {
        const char *method, *path;
        int status;
    } cases[] = {
        {"GET", "/", 404},
        {"GET", "/v1", 404},
        {"GET", "/v1/servicesx", 404},
        {"GET", "/v1/services/", 404},
        {"GET", "/v1/services/none", 404},
        {"DELETE", "/v1/services/none", 404},
        {"POST", "/v1/services/none/wake", 404},
        {"POST", "/v1/services/a/dance", 404},
        {"POST", "/v1/services/a/wake/", 404},
        {"POST", "/v1/services", 405},
        {"POST", "/v1/services/a", 405},
        {"GET", "/v1/services/a/wake", 405},
        {"GET", "/v1/reload", 405},
        {"POST", "/metrics", 405},
        {"DELETE", "/healthz", 405},
        {"HEAD", "/v1/events", 405},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct reply *r = ask(cases[i].method, cases[i].path, "");
        is_problem(r, cases[i].status, cases[i].status == 404 ? "not-found" : "method-not-allowed",
                   r->allow);
        ck_assert_int_eq(r->allow[0] != '\0', cases[i].status == 405);
        ck_assert_ptr_null(strstr(r->allow, cases[i].method));
    }
    ck_assert_str_eq(ask("POST", "/metrics", "")->allow, "GET, HEAD");
    ck_assert_str_eq(ask("POST", "/v1/services/a", "")->allow, "GET, HEAD, PUT, DELETE");
}
END_TEST

/* When what it needs may be tried again is known, and said. */
START_TEST(test_a_wake_that_is_refused_says_when_to_come_again)
{
    uint64_t request;
    const struct reply *r;

    ck_assert_int_eq(
        ask("PUT", "/v1/services/c", "{\"image\": \"y\", \"routes\": [\"/c\"], \"needs\": [\"a\"]}")
            ->status,
        201);
    dies = true;
    for (int n = 0; n < 3; n++) { /* its rest is longer each time */
        ask_for("POST", "/v1/services/a/wake", "");
        loop(n < 2 ? 5000 : 500);
    }
    request = ask_for("POST", "/v1/services/c/wake", "");
    loop(2);
    r = reply_to(request);
    ck_assert_ptr_nonnull(r);
    is_problem(r, 503, "backing-off", "service c: needs a");
    ck_assert_int_gt(r->retry_after_ms, 1000);
}
END_TEST

/* --- services ------------------------------------------------------------------------------ */

START_TEST(test_d4_services_show_their_effective_configuration)
{
    struct json *all = parsed(ask("GET", "/v1/services", ""));
    struct json *b = parsed(ask("GET", "/v1/services/b", ""));

    ck_assert_uint_eq(json_count(all), 2);
    ck_assert_str_eq(json_string(json_get(json_first(all), "name"), ""), "a");
    ck_assert_str_eq(json_string(json_path(b, "config.idle_timeout"), ""), "5m");
    ck_assert_int_eq((int)json_number(json_path(b, "config.concurrency"), 0), 100);
    ck_assert_uint_eq(json_count(json_get(b, "instances")), 0);
    ck_assert_int_eq((int)json_number(json_get(b, "waiting"), -1), 0);
    json_free(all);
    json_free(b);
}
END_TEST

START_TEST(test_a_life_by_hand)
{
    struct json *n;
    const struct json *i;

    ck_assert_int_eq(wake("/v1/services/a/wake"), 200);
    pages[0]->services[fleet_service_id(fleet, "a")].exchanges = 0;
    n = parsed(ask("GET", "/v1/services/a", ""));
    ck_assert_uint_eq(json_count(json_get(n, "instances")), 1);
    i = json_first(json_get(n, "instances"));
    ck_assert_str_eq(json_string(json_get(i, "id"), ""), "c0ffee");
    ck_assert_str_eq(json_string(json_get(i, "state"), ""), "ready");
    ck_assert_str_eq(json_string(json_get(i, "address"), ""), "10.1.2.3:8080");
    ck_assert_int_eq((int)json_number(json_get(i, "exchanges"), -1), 0);
    ck_assert(json_number(json_get(i, "reap_in_seconds"), -1) > 1.9);
    ck_assert(json_number(json_get(i, "idle_seconds"), -1) >= 0);
    json_free(n);
    ck_assert_int_eq(wake("/v1/services/a/wake"), 200); /* awake already */
    ck_assert_int_eq(wake("/v1/services/a/sleep"), 200);
    ck_assert(!exists);
    ck_assert_int_eq(wake("/v1/services/a/sleep"), 200); /* asleep already */
}
END_TEST

START_TEST(test_in_use_is_not_due)
{
    uint32_t id = (uint32_t)fleet_service_id(fleet, "a");
    struct json *n;
    const struct json *i;

    ck_assert_int_eq(wake("/v1/services/a/wake"), 200);
    fleet_acquire(fleet, 0, 1ull << 32 | id, id, false, now_ms);
    pages[1]->services[id].exchanges = 1;
    n = parsed(ask("GET", "/v1/services/a", ""));
    i = json_first(json_get(n, "instances"));
    ck_assert_int_eq(json_type(json_get(i, "reap_in_seconds")), JSON_NULL);
    ck_assert_int_eq((int)json_number(json_get(i, "exchanges"), -1), 1);
    ck_assert(json_number(json_get(i, "idle_seconds"), -1) == 0);
    json_free(n);
}
END_TEST

static int exchanges_in(const char *state)
{
    struct json *n = parsed(ask("GET", "/v1/services/a", ""));
    int found = -1;

    for (const struct json *i = json_first(json_get(n, "instances")); i; i = json_next(i))
        if (strcmp(json_string(json_get(i, "state"), ""), state) == 0)
            found = (int)json_number(json_get(i, "exchanges"), -1);
    json_free(n);
    return found;
}

#define A_IS(more)                                                                                 \
    "{\"image\": \"x\", \"routes\": [\"/a\"], \"idle_timeout\": \"2s\", \"pull\": \"never\"" more  \
    "}"

/* A request that comes to `a`, and what its front does once its other slots are asked back. */
static void use(bool recalled)
{
    uint32_t id = (uint32_t)fleet_service_id(fleet, "a");
    struct fleet_view v;

    if (!recalled) {
        fleet_acquire(fleet, 0, ++request_number << 32 | id, id, false, now_ms);
        pages[0]->services[id].exchanges++;
        return;
    }
    ck_assert_uint_ge(fleet_view(fleet, id, &v, 1, now_ms), 1);
    fleet_return(fleet, 0, v.instance, v.slots_out - 1, 0, true, now_ms);
}

static void check_exchanges_of_two(void)
{
    use(true);
    ck_assert_int_eq(exchanges_in("draining"), 1);
    ck_assert_int_eq(wake("/v1/services/a/wake"), 200);
    ck_assert_int_eq(exchanges_in("draining"), 1);
    ck_assert_int_eq(exchanges_in("ready"), 0);
    use(false);
    use(false);
    ck_assert_int_eq(exchanges_in("draining"), 1);
    ck_assert_int_eq(exchanges_in("ready"), 2);
}

START_TEST(test_what_is_replaced_shows_its_exchanges)
{
    ck_assert_int_eq(wake("/v1/services/a/wake"), 200);
    use(false);
    ck_assert_int_eq(ask("PUT", "/v1/services/a", A_IS(", \"env\": [\"A=b\"]"))->status, 200);
    check_exchanges_of_two();
}
END_TEST

START_TEST(test_what_is_sent_to_sleep_shows_its_exchanges)
{
    ck_assert_int_eq(wake("/v1/services/a/wake"), 200);
    use(false);
    ask_for("POST", "/v1/services/a/sleep", "");
    check_exchanges_of_two();
}
END_TEST

/* However many: what is left out would be taken for what there is not. */
START_TEST(test_every_instance_is_told)
{
    struct json *n;

    ck_assert_int_eq(ask("PUT", "/v1/services/c",
                         "{\"image\": \"y\", \"routes\": [\"/c\"], \"max_instances\": 100,"
                         "\"min_instances\": 70}")
                         ->status,
                     201);
    n = parsed(ask("GET", "/v1/services/c", ""));
    ck_assert_uint_eq(json_count(json_get(n, "instances")), 70);
    json_free(n);
    ck_assert_ptr_nonnull(strstr(ask("GET", "/metrics", "")->body.data,
                                 "\nkipgate_instances{service=\"c\",state=\"creating\"} 70\n"));
}
END_TEST

START_TEST(test_a_wake_that_fails)
{
    uint64_t request;

    dies = true;
    request = ask_for("POST", "/v1/services/a/wake", "");
    loop(5);
    fleet_engine_event(
        fleet,
        &(struct engine_event){.kind = ENGINE_EVENT_DIE,
                               .container = {.id = "c0ffee", .service = "a", .exit_code = 7}},
        now_ms);
    loop(500);
    ck_assert_ptr_nonnull(reply_to(request));
    is_problem(reply_to(request), 502, "instance-exited", "a");
}
END_TEST

START_TEST(test_an_asker_may_leave)
{
    uint64_t request = ask_for("POST", "/v1/services/a/wake", "");

    admin_gone(admin, request);
    loop(50);
    ck_assert_ptr_null(reply_to(request));
    ask_for("POST", "/v1/services/b/wake", ""); /* and the API may end before the answer */
}
END_TEST

/* A front that was taken over asks without end: what is kept of that has a limit. */
START_TEST(test_askers_have_a_cap)
{
    uint64_t first = ask_for("POST", "/v1/services/a/wake", ""), more;

    for (int n = 1; n < KG_MAX_ASKERS; n++)
        more = ask_for("POST", "/v1/services/a/wake", "");
    ck_assert_ptr_null(reply_to(more));
    more = ask_for("POST", "/v1/services/a/wake", "");
    is_problem(reply_to(more), 503, "overloaded", "");
    more = ask_for("GET", "/v1/events", "");
    is_problem(reply_to(more), 503, "overloaded", "");
    admin_gone(admin, first);
    more = ask_for("GET", "/v1/events", "");
    ck_assert_int_eq(reply_to(more)->status, 200);
    more = ask_for("GET", "/v1/events", "");
    ck_assert_int_eq(reply_to(more)->status, 503);
}
END_TEST

START_TEST(test_put_and_delete)
{
    const struct reply *r =
        ask("PUT", "/v1/services/c", "{\"image\": \"y\", \"routes\": [\"/c\"]}");
    struct json *n = parsed(r);

    ck_assert_int_eq(r->status, 201);
    ck_assert_str_eq(json_string(json_get(n, "name"), ""), "c");
    ck_assert_str_eq(json_string(json_path(n, "config.idle_timeout"), ""), "5m");
    json_free(n);
    ck_assert_int_ge(fleet_service_id(fleet, "c"), 0);
    r = ask("PUT", "/v1/services/c", "{\"image\": \"y\", \"routes\": [\"/c\"], \"queue\": 7}");
    ck_assert_int_eq(r->status, 200);
    ck_assert_int_eq(ask("DELETE", "/v1/services/c", "")->status, 200);
    is_problem(ask("GET", "/v1/services/c", ""), 404, "not-found", "c");
    ck_assert_int_eq(fleet_service_id(fleet, "c"), -1);
}
END_TEST

START_TEST(test_a_put_that_is_wrong)
{
    const struct reply *r = ask("PUT", "/v1/services/c", "{\"nonsense\": 1,\n\"queue\": -1}");

    is_problem(r, 400, "bad-configuration", "PUT /v1/services/c:1:2: nonsense: unknown key");
    is_problem(r, 400, "bad-configuration", "PUT /v1/services/c:2:10: queue: must be");
    is_problem(ask("PUT", "/v1/services/c", "{\"image\": \"x\", \"routes\": [\"/a\"]}"), 400,
               "bad-configuration", "the route /a is a route of service a too");
    is_problem(ask("PUT", "/v1/services/BAD", "{\"image\": \"x\", \"routes\": [\"/c\"]}"), 400,
               "bad-configuration", "the name must be");
    is_problem(ask("PUT", "/v1/services/c", "{"), 400, "bad-configuration", "not valid JSON");
    ck_assert_uint_eq(config->service_count, 2);
}
END_TEST

/* Else whoever reaches the admin API, a front that was taken over among them, were root. */
START_TEST(test_a_put_cannot_reach_out_of_its_container)
{
    static const char *const grants[] = {
        "\"volumes\": [\"/:/host\"]",
        "\"devices\": [\"/dev/sda\"]",
        "\"cap_add\": [\"SYS_ADMIN\"]",
        "\"init\": false",
        "\"profile\": \"strict\", \"user\": \"0\"",
        "\"profile\": \"strict\", \"user\": \"00:7\"",
        "\"runtime\": \"nvidia\"",
    };
    char body[200];

    for (size_t i = 0; i < sizeof grants / sizeof *grants; i++) {
        snprintf(body, sizeof body, "{\"image\": \"y\", \"routes\": [\"/c\"], %s}", grants[i]);
        is_problem(ask("PUT", "/v1/services/c", body), 403, "only-by-file", "service c: ");
    }
    ck_assert_uint_eq(config->service_count, 2);
    ck_assert_ptr_null(config_find(config, "c"));
}
END_TEST

#define C_IS(more) "{\"image\": \"y\", \"routes\": [\"/c\"], " more "}"

START_TEST(test_what_the_file_gave_may_be_put_again)
{
    static const char given[] = C_IS("\"volumes\": [\"/d:/d\"]");
    struct config_errors errors = {0};
    struct config *next =
        config_with_service(config, "c", kg_str_of(given), "kipgate.json", &errors);

    ck_assert_int_eq(apply(NULL, next, &errors), 0);
    ck_assert_int_eq(
        ask("PUT", "/v1/services/c", C_IS("\"volumes\": [\"/d:/d\"], \"queue\": 9"))->status, 200);
    is_problem(ask("PUT", "/v1/services/c", C_IS("\"volumes\": [\"/d:/d\"], \"init\": false")), 403,
               "only-by-file", "service c: init false");
    is_problem(ask("PUT", "/v1/services/c", C_IS("\"volumes\": [\"/e:/d\"]")), 403, "only-by-file",
               "volumes /e:/d");
    config_errors_fini(&errors);
}
END_TEST

#define D "\"volumes\": [\"/d:/d\"]"

static void give(const char *text)
{
    struct config_errors errors = {0};
    struct config *next = config_with_service(config, "c", kg_str_of(text), "k.json", &errors);

    ck_assert_int_eq(apply(NULL, next, &errors), 0);
    config_errors_fini(&errors);
}

START_TEST(test_what_the_file_gave_is_not_anothers)
{
    static const char *const others[] = {
        "{\"image\": \"z\", \"routes\": [\"/c\"], " D "}",
        C_IS(D ", \"command\": [\"sh\"]"),
        C_IS(D ", \"entrypoint\": [\"sh\"]"),
        C_IS(D ", \"env\": [\"LD_PRELOAD=/d/x\"]"),
        C_IS(D ", \"labels\": [\"job.command=sh\"]"),
        C_IS(D ", \"user\": \"7\""),
        C_IS(D ", \"port\": 7"),
        C_IS(D ", \"socket\": \"/d/s\""),
        C_IS(D ", \"profile\": \"strict\""),
        C_IS(D ", \"cap_drop\": [\"SETUID\"]"),
        C_IS(D ", \"read_only\": true"),
        C_IS(D ", \"tmpfs\": [\"/d\"]"),
        C_IS(D ", \"memory\": \"64MiB\", \"env\": [\"A=b\"]"),
    };
    const struct reply *r = NULL;

    give(C_IS(D ", \"memory\": \"32MiB\""));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        r = ask("PUT", "/v1/services/c", others[i]);
        is_problem(r, 403, "only-by-file", "service c: something else is to be run with what was");
    }
    is_problem(r, 403, "only-by-file", "it; memory, cpus, pids, and what is no setting of a");
    ck_assert_int_eq(config_find(config, "c")->memory_bytes, 32 << 20);
}
END_TEST

START_TEST(test_what_does_no_harm_may_change_beside_it)
{
    give(C_IS(D ", \"runtime\": \"r\""));
    ck_assert_int_eq(
        ask("PUT", "/v1/services/c",
            C_IS(D ", \"runtime\": \"r\", \"memory\": \"64MiB\", \"cpus\": 2, \"pids\": 9,"
                   "\"idle_timeout\": \"1h\", \"concurrency\": 7"))
            ->status,
        200);
    ck_assert_int_eq(config_find(config, "c")->memory_bytes, 64 << 20);
    ck_assert_int_eq(ask("PUT", "/v1/services/c", C_IS(D ", \"runtime\": \"r\""))->status, 200);
    ck_assert_int_eq(config_find(config, "c")->memory_bytes, 0);
}
END_TEST

/* It may give more than our lists know of. */
START_TEST(test_a_runtime_is_given_too)
{
    give(C_IS("\"runtime\": \"r\""));
    is_problem(ask("PUT", "/v1/services/c", C_IS("\"runtime\": \"r\", \"command\": [\"sh\"]")), 403,
               "only-by-file", "something else is to be run");
    ck_assert_int_eq(ask("PUT", "/v1/services/c", C_IS("\"command\": [\"sh\"]"))->status, 200);
    is_problem(ask("PUT", "/v1/services/c", C_IS("\"runtime\": \"r\", \"command\": [\"sh\"]")), 403,
               "only-by-file", "service c: runtime r");
}
END_TEST

/* Given up, it is gone: it does not come back with something else in its place. */
START_TEST(test_what_was_given_up_is_not_taken_again)
{
    give(C_IS(D));
    ck_assert_int_eq(ask("PUT", "/v1/services/c", C_IS("\"command\": [\"sh\"]"))->status, 200);
    is_problem(ask("PUT", "/v1/services/c", C_IS(D ", \"command\": [\"sh\"]")), 403, "only-by-file",
               "volumes /d:/d");
    give(C_IS(D));
    ck_assert_int_eq(ask("DELETE", "/v1/services/c", "")->status, 200);
    is_problem(ask("PUT", "/v1/services/c", C_IS(D ", \"command\": [\"sh\"]")), 403, "only-by-file",
               "volumes /d:/d");
}
END_TEST

START_TEST(test_reload)
{
    ck_assert_int_eq(ask("POST", "/v1/reload", "")->status, 200);
    reload_fails = true;
    is_problem(ask("POST", "/v1/reload", ""), 400, "bad-configuration",
               "k.json:1:2: a: \"wrong\"\nk.json:3:4: b: worse");
}
END_TEST

/* What has no room is told as such, and never as an answer that ends too early. */
START_TEST(test_an_answer_without_memory_is_a_problem)
{
    const uint64_t request = 77;

    admin_answer_json(admin, request, 200, NULL); /* as it is when a part of it could not be had */
    is_problem(reply_to(request), 500, "out-of-memory", "");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_d13_readiness_tells_the_truth,
        test_unknown_calls,
        test_a_wake_that_is_refused_says_when_to_come_again,
        test_d4_services_show_their_effective_configuration,
        test_a_life_by_hand,
        test_in_use_is_not_due,
        test_what_is_replaced_shows_its_exchanges,
        test_what_is_sent_to_sleep_shows_its_exchanges,
        test_every_instance_is_told,
        test_a_wake_that_fails,
        test_an_asker_may_leave,
        test_askers_have_a_cap,
        test_put_and_delete,
        test_a_put_that_is_wrong,
        test_a_put_cannot_reach_out_of_its_container,
        test_what_the_file_gave_may_be_put_again,
        test_what_the_file_gave_is_not_anothers,
        test_what_does_no_harm_may_change_beside_it,
        test_a_runtime_is_given_too,
        test_what_was_given_up_is_not_taken_again,
        test_reload,
        test_an_answer_without_memory_is_a_problem,
    };

    return run_cases("admin", tests, sizeof tests / sizeof *tests);
}
