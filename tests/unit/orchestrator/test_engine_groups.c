/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of groups, against an engine that keeps a few networks by name.
 * The difficulty: whoever waits for one may go, and the engine with it, at each of its calls. */
#include "base/clock.h"
#include "fake_peer.h"
#include "orchestrator/engine_priv.h"
#include <signal.h>

#define MAX_NETWORKS 8
#define COMMON "kipgate-" OWNER_DIGITS
#define OWNER_DIGITS "2744ccd1" /* of "me" */
#define GROUP COMMON "-db"

static uv_loop_t loop;
static struct fake_peer peer;
static struct engine *engine;
static const struct engine_ops *ops;
static struct config config;
static char image[] = "image";
static struct config_service app = {.name = "app", .group = "db", .image = image, .port = 80};
static struct config_service db = {.name = "db", .group = "db", .image = image, .port = 80};
static struct config_service lone = {.name = "lone", .image = image, .port = 80};
static struct config_service *services[] = {&app, &db, &lone};

static struct {
    char name[ENGINE_NAME_BYTES];
    bool there, foreign, open, chosen;
    unsigned looked, made, removed;
} nets[MAX_NETWORKS];
static const char *silent; /* when asked of that network */
static bool refuses;       /* to make one of a group */
static char body[4096], list[1024], create_says[256], start_says[256];
static const char *inspect_says;
static unsigned creates, starts, removals;
static struct engine_answer last;
static int answers, good, lists, closed;

/* --- the engine --------------------------------------------------------------------------- */

static int net(const char *name, size_t n)
{
    int i = 0;

    while (nets[i].name[0] && (strlen(nets[i].name) != n || strncmp(nets[i].name, name, n) != 0))
        i++;
    ck_assert_int_lt(i + 1, MAX_NETWORKS);
    snprintf(nets[i].name, sizeof nets[i].name, "%.*s", (int)n, name);
    return i;
}

#define NET(name) nets[net(name, strlen(name))]

static void say(struct fake_conn *c, const char *status, const char *json)
{
    char text[4096];

    snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", status,
             strlen(json), json);
    fake_say(c, text);
}

static void say_network(struct fake_conn *c, int i)
{
    char text[512];

    nets[i].looked++;
    if (silent && strcmp(nets[i].name, silent) == 0)
        return;
    if (!nets[i].there) {
        say(c, "404 Not Found", "{\"message\":\"network x not found\"}");
        return;
    }
    snprintf(text, sizeof text,
             "{\"Id\":\"1\",\"Labels\":{\"io.kipgate.owner\":\"%s\"%s},\"IPAM\":{\"Config\":"
             "[{\"Subnet\":\"10.9.%d.0/24\",\"Gateway\":\"10.9.%d.1\"}]}}",
             nets[i].foreign ? "you" : "me",
             nets[i].chosen ? ",\"io.kipgate.addresses\":\"chosen\"" : "", i, i);
    say(c, "200 OK", text);
}

static void make_network(struct fake_conn *c, const char *r)
{
    const char *name = strstr(r, "\"Name\":\"");
    int i = net(name + 8, strcspn(name + 8, "\""));

    nets[i].made++;
    if (refuses && strcmp(nets[i].name, COMMON) != 0) {
        say(c, "403 Forbidden", "{\"message\":\"no address pool is left\"}");
        return;
    }
    ck_assert_msg(!nets[i].there, "two of one name");
    nets[i].there = true;
    nets[i].open = strstr(r, "enable_icc\":\"true\"") != NULL;
    nets[i].chosen = strstr(r, "io.kipgate.addresses") != NULL;
    say(c, "201 Created", "{\"Id\":\"1\"}");
}

static void remove_network(struct fake_conn *c, int i)
{
    nets[i].removed++;
    nets[i].there = false;
    fake_say(c, "HTTP/1.1 204 No Content\r\n\r\n");
}

static void on_container(struct fake_conn *c, const char *r)
{
    if (strstr(r, "/containers/json")) {
        say(c, "200 OK", list);
    } else if (strstr(r, "/containers/create") && create_says[0]) {
        NET(GROUP).there = false;
        say(c, "500 No", create_says);
        create_says[0] = '\0';
    } else if (strstr(r, "/containers/create")) {
        creates++;
        snprintf(body, sizeof body, "%s", strstr(r, "\r\n\r\n"));
        say(c, "201 Created", "{\"Id\":\"0123\"}");
    } else if (strstr(r, "/start")) {
        starts++;
        say(c, start_says[0] ? "404 Not Found" : "204 No Content", start_says);
        if (strstr(start_says, GROUP))
            start_says[0] = '\0'; /* once */
    } else if (strncmp(r, "DELETE", 6) == 0) {
        removals++;
        fake_say(c, "HTTP/1.1 204 No Content\r\n\r\n");
    } else {
        say(c, "200 OK", inspect_says);
    }
}

static void on_request(struct fake_conn *c, const char *r)
{
    const char *networks = strstr(r, "/networks/");

    if (strncmp(r, "GET /_ping", 10) == 0)
        fake_say(c, "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK");
    else if (strstr(r, "POST /v1.41/networks/create"))
        make_network(c, r);
    else if (networks && strncmp(r, "DELETE", 6) == 0)
        remove_network(c, net(networks + 10, strcspn(networks + 10, " ")));
    else if (networks)
        say_network(c, net(networks + 10, strcspn(networks + 10, " ")));
    else if (strstr(r, "/containers/"))
        on_container(c, r);
    else if (strstr(r, "/events"))
        fake_say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    else
        say(c, "200 OK", "{}");
}

/* --- the rig ------------------------------------------------------------------------------ */

static void on_closed(void *arg)
{
    (void)arg;
    closed++;
}

static void on_state(void *arg, bool up, const char *why)
{
    (void)arg;
    (void)up;
    (void)why;
}

static void on_event(void *arg, const struct engine_event *event)
{
    (void)arg;
    (void)event;
}

static void on_list(void *arg, const struct engine_container *all, size_t count, int64_t began_ms)
{
    (void)arg;
    (void)all;
    (void)count;
    (void)began_ms;
    lists++;
}

static void on_progress(void *arg, const char *service, const char *words)
{
    (void)arg;
    (void)service;
    (void)words;
}

static void on_answer(void *arg, const struct engine_answer *a)
{
    (void)arg;
    last = *a;
    answers++;
    good += a->code == 0;
}

static void run_once(void)
{
    uv_run(&loop, UV_RUN_NOWAIT);
}

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        int64_t end_ms = kg_clock_mono_ms() + 10000;                                               \
        while (!(condition) && kg_clock_mono_ms() < end_ms)                                        \
            run_once();                                                                            \
        ck_assert_msg(condition, "%s", #condition);                                                \
    } while (0)

static void come_up(void)
{
    static const struct engine_callbacks callbacks = {NULL, on_state, on_event, on_list,
                                                      on_progress};
    static char address[128], state_dir[] = "/nonexistent";
    struct kg_err err = {0};

    snprintf(address, sizeof address, "unix://%s", peer.path);
    config = (struct config){
        .engine = address, .state_dir = state_dir, .services = services, .service_count = 3};
    engine = engine_open(&loop, &config, "me", "key", &callbacks, &err);
    ck_assert_ptr_nonnull(engine);
    ops = engine_ops(engine);
    engine_configure(engine, &config);
    UNTIL(lists > 0);
}

static void close_engine(void)
{
    engine_close(engine, on_closed, NULL);
    engine = NULL;
    UNTIL(closed);
}

static void set_up(void)
{
    uv_loop_init(&loop);
    fake_peer_open(&peer, &loop, on_request, NULL);
    setenv("KIPGATE_REACH", "address", 1);
    memset(nets, 0, sizeof nets);
    silent = NULL;
    refuses = false;
    creates = starts = removals = 0;
    answers = good = lists = closed = 0;
    create_says[0] = start_says[0] = '\0';
    inspect_says = "{}";
    strcpy(list, "[]");
    kg_log_setup(KG_LOG_ERROR, KG_LOG_TEXT, "test");
}

static void tear_down(void)
{
    if (engine)
        close_engine();
    fake_peer_close(&peer);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static uint64_t create(const struct config_service *s)
{
    uint64_t number = ops->create(ops->self, s, "kipgate-x-1", on_answer, NULL);

    ck_assert_uint_ne(number, 0);
    return number;
}

static void create_whole(const struct config_service *s)
{
    int before = answers;

    create(s);
    UNTIL(answers > before);
    ck_assert_int_eq(last.code, 0);
}

/* A list in which one container of ours is on that network. */
static void put_on(const char *network)
{
    snprintf(list, sizeof list,
             "[{\"Id\":\"0123\",\"State\":\"exited\",\"Names\":[\"/kipgate-x-1\"],\"Labels\":{"
             "\"io.kipgate.owner\":\"me\"},\"NetworkSettings\":{\"Networks\":{\"%s\":{}}}}]",
             network);
}

static void list_whole(void)
{
    int before = lists;

    engine_list_now(engine);
    UNTIL(lists > before);
    UNTIL(engine->removal == 0);
}

/* --- names -------------------------------------------------------------------------------- */

START_TEST(test_names)
{
    char out[ENGINE_NAME_BYTES];

    engine_network_name("me", "", out, sizeof out);
    ck_assert_str_eq(out, COMMON);
    engine_network_name("me", "db", out, sizeof out);
    ck_assert_str_eq(out, GROUP);
    ck_assert(engine_network_in("me", "network " GROUP " not found", out, sizeof out));
    ck_assert_str_eq(out, GROUP);
    ck_assert(engine_network_in("me", "no \"" COMMON "-a-b-1\", sorry", out, sizeof out));
    ck_assert_str_eq(out, COMMON "-a-b-1");
    ck_assert(!engine_network_in("me", "network " COMMON " not found", out, sizeof out));
    ck_assert(!engine_network_in("me", "network " COMMON "- not found", out, sizeof out));
    ck_assert(!engine_network_in("me", "network " COMMON "x-db not found", out, sizeof out));
    ck_assert(!engine_network_in("you", "network " GROUP " not found", out, sizeof out));
}
END_TEST

/* --- found or made ------------------------------------------------------------------------ */

START_TEST(test_a_worker_of_a_group_is_on_its_network)
{
    char address[64];

    come_up();
    create_whole(&lone);
    ck_assert_ptr_nonnull(strstr(body, "\"NetworkMode\":\"" COMMON "\""));
    create_whole(&app);
    ck_assert_ptr_nonnull(strstr(body, "\"NetworkMode\":\"" GROUP "\""));
    ck_assert_ptr_nonnull(strstr(body, "\"Aliases\":[\"app\"]"));
    snprintf(address, sizeof address, "\"IPv4Address\":\"10.9.%d.", net(GROUP, strlen(GROUP)));
    ck_assert_ptr_nonnull(strstr(body, address));
    ck_assert(NET(GROUP).open && !NET(COMMON).open);
    ck_assert_uint_eq(NET(GROUP).made, 2); /* for its addresses, as the other */
    create_whole(&db);
    ck_assert_uint_eq(NET(GROUP).made, 2);
}
END_TEST

/* Else the engine would make two of one name. */
START_TEST(test_all_who_want_one_wait_for_one_search)
{
    come_up();
    for (int i = 0; i < 5; i++)
        create(i % 2 ? &app : &db);
    UNTIL(answers == 5);
    ck_assert_int_eq(good, 5);
    ck_assert_uint_eq(creates, 5);
    ck_assert_uint_eq(NET(GROUP).looked, 3); /* is it there, of which range, is it ours again */
    ck_assert_uint_eq(NET(GROUP).made, 2);
}
END_TEST

START_TEST(test_what_cannot_be_had_is_done_without)
{
    refuses = _i == 0;
    NET(GROUP).there = NET(GROUP).foreign = _i == 1;
    come_up();
    create_whole(&app);
    ck_assert_ptr_nonnull(strstr(body, "\"NetworkMode\":\"" COMMON "\""));
    close_engine();
    ck_assert_uint_eq(NET(GROUP).removed, 0);
    ck_assert_uint_eq(NET(COMMON).removed, 2); /* once to be made again */
}
END_TEST

START_TEST(test_who_waits_may_go)
{
    uint64_t first;

    come_up();
    silent = GROUP;
    first = create(&app);
    create(&db);
    UNTIL(NET(GROUP).looked == 1);
    ops->cancel(ops->self, first);
    if (_i == 0)
        fake_peer_hang_up(&peer); /* the engine is gone: said of what is left */
    else
        close_engine(); /* nothing is said any more */
    if (_i == 0)
        UNTIL(answers == 1);
    ck_assert_int_eq(answers, _i == 0);
    ck_assert(_i == 1 || last.code == KG_ECLOSED);
    ck_assert_uint_eq(creates, 0);
}
END_TEST

START_TEST(test_an_address_is_that_on_the_groups_network)
{
    const struct sockaddr_in *in = (const void *)&last.container.address;
    char text[INET_ADDRSTRLEN];

    come_up();
    inspect_says = "{\"Id\":\"1\",\"State\":{\"Status\":\"running\"},\"NetworkSettings\":{"
                   "\"Networks\":{\"a\":{\"IPAddress\":\"10.0.0.1\"},\"" COMMON
                   "\":{\"IPAddress\":\"10.0.0.2\"},\"" GROUP "\":{\"IPAddress\":\"10.0.0.3\"}}}}";
    ops->inspect(ops->self, _i == 0 ? &app : &lone, "x", on_answer, NULL);
    UNTIL(answers == 1);
    inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    ck_assert_str_eq(text, _i == 0 ? "10.0.0.3" : "10.0.0.2");
}
END_TEST

/* --- gone under a container --------------------------------------------------------------- */

/* What was made and never started goes by the name: it is started on the new one. */
START_TEST(test_it_is_made_again_for_what_is_to_start)
{
    come_up();
    create_whole(&app);
    NET(GROUP).there = false;
    strcpy(start_says, "{\"message\":\"network " GROUP " not found\"}");
    ops->start(ops->self, "0123", on_answer, NULL);
    UNTIL(answers == 2);
    ck_assert_int_eq(last.code, 0);
    ck_assert(NET(GROUP).there && NET(GROUP).chosen);
    ck_assert_uint_eq(starts, 2);
    ck_assert_uint_eq(removals, 0);
}
END_TEST

/* What ran on the old one goes by its id: it can never be started. */
START_TEST(test_what_cannot_be_started_is_no_more)
{
    come_up();
    strcpy(start_says, "{\"message\":\"network 0a1b2c not found\"}");
    ops->start(ops->self, "0123", on_answer, NULL);
    UNTIL(answers == 1);
    ck_assert_int_eq(last.code, KG_ENOTFOUND);
    ck_assert_uint_eq(starts, 2);
    ck_assert_uint_eq(removals, 1);
}
END_TEST

/* Nor where its network cannot be had any more: the next one is made without. */
START_TEST(test_what_is_on_a_network_that_cannot_be_had_goes)
{
    come_up();
    create_whole(&app);
    NET(GROUP).there = false;
    refuses = true;
    strcpy(start_says, "{\"message\":\"network " GROUP " not found\"}");
    ops->start(ops->self, "0123", on_answer, NULL);
    UNTIL(answers == 2);
    ck_assert_int_eq(last.code, KG_ENOTFOUND);
    ck_assert_uint_eq(starts, 1);
    ck_assert_uint_eq(removals, 1);
}
END_TEST

/* That says nothing of the image, nor of the settings: it is made once more, without. */
START_TEST(test_a_network_that_goes_before_the_create)
{
    come_up();
    refuses = true;
    NET(GROUP).there = NET(GROUP).chosen = true;
    strcpy(create_says, "{\"message\":\"network " GROUP " not found\"}");
    create(&app);
    UNTIL(answers == 1);
    ck_assert_int_eq(last.code, KG_ETIMEOUT);
    create_whole(&app);
    ck_assert_ptr_nonnull(strstr(body, "\"NetworkMode\":\"" COMMON "\""));
}
END_TEST

/* An engine that goes while the network is looked for has not said that the container is gone. */
START_TEST(test_what_waits_for_a_network_is_not_gone)
{
    unsigned looked;

    come_up();
    looked = NET(COMMON).looked;
    silent = COMMON;
    strcpy(start_says, "{\"message\":\"network 0a1b2c not found\"}");
    ops->start(ops->self, "0123", on_answer, NULL);
    UNTIL(NET(COMMON).looked > looked);
    fake_peer_hang_up(&peer);
    UNTIL(answers == 1);
    ck_assert_int_eq(last.code, KG_ECLOSED);
    ck_assert_uint_eq(removals, 0);
}
END_TEST

/* --- removed ------------------------------------------------------------------------------ */

START_TEST(test_what_nobody_wants_is_removed)
{
    come_up();
    create_whole(&app);
    ck_assert_uint_eq(NET(GROUP).removed, 1); /* to be made again */
    list_whole();
    ck_assert(NET(GROUP).there); /* wanted */
    put_on(GROUP);
    config.service_count = 0;
    engine_configure(engine, &config);
    UNTIL(lists == 3);
    list_whole();
    ck_assert(NET(GROUP).there); /* in use */
    NET(GROUP).foreign = _i == 1;
    strcpy(list, "[]");
    list_whole();
    UNTIL(engine->groups.count == 0);
    ck_assert_uint_eq(NET(GROUP).there, _i == 1);
    list_whole();
    ck_assert_uint_eq(NET(GROUP).removed, _i == 1 ? 1 : 2);
}
END_TEST

/* One that a last run made is known by what is still on it. */
START_TEST(test_what_a_last_run_left_is_removed)
{
    NET(COMMON "-old").there = true;
    put_on(COMMON "-old");
    come_up();
    ck_assert(NET(COMMON "-old").there);
    strcpy(list, "[]");
    list_whole();
    UNTIL(!NET(COMMON "-old").there);
    ck_assert(NET(COMMON).there);
}
END_TEST

/* All go with us, but for one that a container is on, stopped or not. */
START_TEST(test_networks_go_at_the_end)
{
    static const char *const on[] = {"none", GROUP, COMMON};

    come_up();
    create_whole(&app);
    put_on(on[_i]);
    close_engine();
    ck_assert_uint_eq(NET(GROUP).there, _i == 1);
    ck_assert_uint_eq(NET(COMMON).there, _i == 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine groups");
    TCase *t = tcase_create("groups");
    SRunner *runner;
    int failed;

    signal(SIGPIPE, SIG_IGN);
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_names);
    tcase_add_test(t, test_a_worker_of_a_group_is_on_its_network);
    tcase_add_test(t, test_all_who_want_one_wait_for_one_search);
    tcase_add_loop_test(t, test_what_cannot_be_had_is_done_without, 0, 2);
    tcase_add_loop_test(t, test_who_waits_may_go, 0, 2);
    tcase_add_loop_test(t, test_an_address_is_that_on_the_groups_network, 0, 2);
    tcase_add_test(t, test_it_is_made_again_for_what_is_to_start);
    tcase_add_test(t, test_what_cannot_be_started_is_no_more);
    tcase_add_test(t, test_what_is_on_a_network_that_cannot_be_had_goes);
    tcase_add_test(t, test_a_network_that_goes_before_the_create);
    tcase_add_test(t, test_what_waits_for_a_network_is_not_gone);
    tcase_add_loop_test(t, test_what_nobody_wants_is_removed, 0, 2);
    tcase_add_test(t, test_what_a_last_run_left_is_removed);
    tcase_add_loop_test(t, test_networks_go_at_the_end, 0, 3);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
