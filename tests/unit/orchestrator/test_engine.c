/* SPDX-License-Identifier: Apache-2.0 */
/* The engine client against an engine that misbehaves as no real one can be made to: at each stage
 * of connecting, in its event stream, in its lists; and close and cancel from within every
 * callback. */
#include "engine_case.h"
#include <dlfcn.h>
#include <netdb.h>

#define OK_JSON "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#define PONG "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK"
#define NO_IMAGE                                                                                   \
    "HTTP/1.1 404 No\r\nContent-Length: 32\r\n\r\n"                                                \
    "{\"message\":\"No such image: x:y\"}"
#define LABELS "{\"io.kipgate.owner\":\"me\",\"io.kipgate.service\":\"a\"}"

/* What the fake answers, and what was seen. */
static const char *ping_answer, *list_body, *events_text, *inspect_answer;
static bool drip_events, close_in_state, close_in_event, close_in_list;
static int events, ups, downs, answers, stopped;
static size_t listed;
static char why[300];
static struct engine_event last_event;
static struct engine_answer last;
static char last_create[8192];
static char last_import[1024];
static int creates, imports;
static unsigned odd_infos; /* so often it says nothing of itself, in one way or another */
static bool missing_for_ever;
static const char *import_answer;
static const char *pause_answer, *unpause_answer, *stats_answer;

static void say_json(struct fake_conn *c, const char *body)
{
    char head[128];

    snprintf(head, sizeof head, OK_JSON "Content-Length: %zu\r\n\r\n", strlen(body));
    fake_say(c, head);
    fake_say(c, body);
}

/* A stream without end: chunks of one size each, then silence. */
static void say_events(struct fake_conn *c)
{
    static char text[512 * 1024];
    size_t n = strlen(events_text);

    snprintf(text, sizeof text, OK_JSON "Transfer-Encoding: chunked\r\n\r\n%zx\r\n%s\r\n", n,
             events_text);
    if (n == 0)
        fake_say(c, OK_JSON "Transfer-Encoding: chunked\r\n\r\n");
    else if (drip_events)
        fake_drip(c, text, strlen(text), false);
    else
        fake_say(c, text);
}

static void say_info(struct fake_conn *c)
{
    if (odd_infos == 0)
        say_json(c, "{\"InitCommit\":{\"ID\":\"N/A\"},\"LoggingDriver\":\"journald\"}");
    else if (odd_infos % 3 == 0)
        fake_conn_close(c);
    else if (odd_infos % 3 == 1)
        say_json(c, "nonsense");
    else
        fake_say(c, "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}");
    odd_infos -= odd_infos > 0;
}

static bool asks(const char *request, const char *method_and_path)
{
    return strncmp(request, method_and_path, strlen(method_and_path)) == 0;
}

static void on_request(struct fake_conn *c, const char *r)
{
    if (asks(r, "GET /_ping")) {
        fake_say(c, ping_answer);
    } else if (asks(r, "GET /v1.41/info")) {
        say_info(c);
    } else if (asks(r, "GET /v1.41/networks/")) {
        say_json(c, "{\"Id\":\"1\",\"Labels\":{\"io.kipgate.owner\":\"me\"},\"IPAM\":{\"Config\":"
                    "[{\"Gateway\":\"192.0.2.1\"}]}}");
    } else if (asks(r, "GET /v1.41/events")) {
        say_events(c);
    } else if (asks(r, "GET /v1.41/containers/json")) {
        say_json(c, list_body);
    } else if (asks(r, "POST /v1.41/containers/create")) {
        snprintf(last_create, sizeof last_create, "%s", r);
        creates++;
        if (import_answer && (imports == 0 || missing_for_ever))
            fake_say(c, NO_IMAGE);
        else
            say_json(c, "{\"Id\":\"0123\"}");
    } else if (asks(r, "POST /v1.41/images/create")) {
        snprintf(last_import, sizeof last_import, "%s", r);
        imports++;
        fake_say(c, import_answer);
    } else if (asks(r, "GET /v1.41/containers/x/json")) {
        fake_say(c, inspect_answer);
    } else if (asks(r, "POST /v1.41/containers/x/pause")) {
        fake_say(c, pause_answer);
    } else if (asks(r, "POST /v1.41/containers/x/unpause")) {
        fake_say(c, unpause_answer);
    } else if (asks(r, "POST /v1.41/containers/deaf/stop")) {
        return; /* it takes its time */
    } else if (asks(r, "GET /v1.41/containers/x/stats?stream=false&one-shot=true ")) {
        say_json(c, stats_answer);
    } else {
        fake_say(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}");
    }
}

static void on_state(void *arg, bool up, const char *reason)
{
    (void)arg;
    ups += up;
    downs += !up;
    snprintf(why, sizeof why, "%s", reason);
    if (close_in_state)
        close_engine();
}

static void on_event(void *arg, const struct engine_event *event)
{
    (void)arg;
    events++;
    last_event = *event;
    if (close_in_event)
        close_engine();
}

static void on_list(void *arg, const struct engine_container *all, size_t count, int64_t began_ms)
{
    (void)arg;
    (void)all;
    ck_assert(began_ms <= kg_clock_mono_ms());
    lists++;
    listed = count;
    if (close_in_list)
        close_engine();
}

/* Opens it as the test has set the fake up. */
static void connect_engine(void)
{
    static const struct engine_callbacks callbacks = {NULL, on_state, on_event, on_list,
                                                      ignore_progress};

    open_engine(&callbacks);
}

static void set_up(void)
{
    open_peer(on_request, "published");
    ping_answer = PONG;
    list_body = "[]";
    events_text = "";
    inspect_answer = OK_JSON "Content-Length: 2\r\n\r\n{}";
    drip_events = close_in_state = close_in_event = close_in_list = false;
    import_answer = NULL;
    creates = imports = 0;
    odd_infos = 0;
    missing_for_ever = false;
    events = ups = downs = answers = stopped = 0;
    listed = 0;
}

static void come_up(void)
{
    connect_engine();
    until(&lists, 1);
    ck_assert_int_eq(ups, 1);
    ck_assert_int_eq(downs, 0);
    ck_assert(engine_is_up(engine));
}

static void on_done(void *arg, const struct engine_answer *a)
{
    answers++;
    last = *a;
    if (arg)
        ops->cancel(ops->self, *(uint64_t *)arg);
}

START_TEST(up_then_list)
{
    list_body = "[{\"Id\":\"1\",\"Names\":[\"/x\"],\"State\":\"running\",\"Labels\":" LABELS "},"
                "{\"Id\":\"2\",\"Labels\":{\"io.kipgate.owner\":\"other\"}},{\"Id\":3},7]";
    come_up();
    ck_assert_uint_eq(listed, 1); /* what is not ours is not told, whatever the engine sent */
    ck_assert_str_eq(engine_reach_name(engine), "published");
    ck_assert_uint_eq(engine_settle_ms(engine), ENGINE_SETTLE_MS);
    ck_assert_str_eq(engine_down_why(engine), "");
}
END_TEST

START_TEST(the_list_is_asked_for_again_and_again)
{
    uint64_t in_ms;

    come_up();
    for (int n = 2; n <= 3; n++) {
        in_ms = uv_timer_get_due_in(&engine->relist);
        ck_assert_uint_gt(in_ms, KG_ENGINE_RECONCILE_MS - 5000);
        ck_assert_uint_le(in_ms, KG_ENGINE_RECONCILE_MS);
        uv_timer_start(&engine->relist, engine->relist.timer_cb, 0, 0); /* it is time */
        until(&lists, n);
    }
}
END_TEST

static const struct {
    const char *answer, *words;
} bad_pings[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", "no engine"},
    {"HTTP/1.1 200 OK\r\nApi-Version: 1.39\r\nContent-Length: 2\r\n\r\nOK", "1.39"},
    {"HTTP/1.1 200 OK\r\nApi-Version: 2.0\r\nContent-Length: 2\r\n\r\nOK", "no engine"},
    {"HTTP/1.1 200 OK\r\nApi-Version: 1.41x\r\nContent-Length: 2\r\n\r\nOK", "no engine"},
    {"HTTP/1.1 500 No\r\nContent-Length: 17\r\n\r\n{\"message\":\"woe\"}", "500 to a ping: woe"},
    {"SSH-2.0-OpenSSH\r\n", ""},
};

START_TEST(what_is_no_engine_is_down_with_words)
{
    ping_answer = bad_pings[_i].answer;
    connect_engine();
    until(&downs, 1);
    ck_assert_ptr_nonnull(strstr(why, bad_pings[_i].words));
    turn(300);
    ck_assert_int_eq(ups, 0);
    ck_assert_int_eq(downs, 1); /* told once */
    ck_assert_int_ge(peer.requests, 3);
    ck_assert_int_le(peer.requests, 8); /* tried again, ever more slowly */
    ping_answer = PONG;
    until(&ups, 1);
}
END_TEST

/* Slow is not gone: it may take longer next time, and no longer once it is quick again. */
START_TEST(an_engine_that_is_late_is_given_longer)
{
    ping_answer = "";
    connect_engine();
    until(&downs, 1);
    ck_assert_str_eq(why, "the engine does not answer");
    ck_assert_int_eq(engine->ping_timeout_ms, 2 * ENGINE_PING_TIMEOUT_MS);
    ping_answer = PONG;
    fake_peer_hang_up(&peer);
    until(&ups, 1);
    ck_assert_int_eq(engine->ping_timeout_ms, ENGINE_PING_TIMEOUT_MS);
}
END_TEST

START_TEST(the_newest_version_we_know)
{
    ping_answer = "HTTP/1.1 200 OK\r\nApi-Version: 1.99\r\nContent-Length: 2\r\n\r\nOK";
    connect_engine();
    turn(50);
    ck_assert_uint_eq(engine->api_minor, KG_ENGINE_API_MAX);
}
END_TEST

#define EVENT(action)                                                                              \
    "{\"Type\":\"container\",\"Action\":\"" action "\",\"Actor\":{\"ID\":\"abc\",\"Attributes\":"  \
    "{\"io.kipgate.owner\":\"me\",\"name\":\"x\",\"exitCode\":\"7\"}}}\n"

START_TEST(events_one_byte_at_a_time)
{
    drip_events = true;
    events_text = EVENT("start") EVENT("die");
    come_up();
    until(&events, 2);
    ck_assert_int_eq(last_event.kind, ENGINE_EVENT_DIE);
    ck_assert_int_eq(last_event.container.exit_code, 7);
}
END_TEST

START_TEST(bad_lines_between_events)
{
    struct kg_buf b;

    kg_buf_init(&b, 1 << 20);
    kg_buf_puts(&b, EVENT("start") "not json\n{\"Action\":\n[[[\n\n{}\n");
    for (int i = 0; i < 100 * 1024; i++)
        kg_buf_puts(&b, "x"); /* longer than a line may be */
    kg_buf_puts(&b, "\n");
    for (int i = 0; i < 1000; i++)
        kg_buf_puts(&b, "[");
    kg_buf_puts(&b, "\n" EVENT("oom"));
    events_text = b.data;
    come_up();
    until(&events, 2);
    ck_assert_int_eq(last_event.kind, ENGINE_EVENT_OOM);
    ck_assert(engine_is_up(engine));
    kg_buf_fini(&b);
}
END_TEST

START_TEST(the_streams_end_is_told_at_once_and_mended)
{
    come_up();
    fake_peer_hang_up(&peer);
    until(&downs, 1);
    until(&lists, 2);
    ck_assert_int_eq(ups, 2);
}
END_TEST

static const char *engine_is_at; /* the address of its name */
static bool deaf;                /* whoever asked for it hears no signal */

/* For libuv too: a program's own comes before the library's. */
__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    sigset_t held;

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node && strcmp(node, "engine.test") == 0) {
        node = engine_is_at;
        deaf = pthread_sigmask(SIG_BLOCK, NULL, &held) == 0 && sigismember(&held, SIGTERM) == 1;
    }
    return real(node, service, hints, found);
}

/* Its workers' ports are where it is, wherever its name leads to when it comes back. */
START_TEST(workers_of_an_engine_that_moves_are_where_it_is)
{
    engine_is_at = "127.0.0.2";
    connect_engine();
    kg_str_copy(engine->host, sizeof engine->host, KG_STR("engine.test"));
    until(&lists, 1);
    ck_assert_str_eq(engine->reach.published_ip, "127.0.0.2");
    engine_is_at = "127.0.0.3";
    fake_peer_hang_up(&peer);
    until(&lists, 2);
    ck_assert_str_eq(engine->reach.published_ip, "127.0.0.3");
}
END_TEST

/* What the loop's thread blocks waits, whatever other threads there are. */
START_TEST(signals_are_for_the_loop_alone)
{
    engine_is_at = "127.0.0.2";
    connect_engine();
    kg_str_copy(engine->host, sizeof engine->host, KG_STR("engine.test"));
    until(&lists, 1);
    ck_assert(deaf);
}
END_TEST

static const char *const bad_lists[] = {"", "{}", "[", "null", "<html>", "[{\"Id\":\"1\"}"};

START_TEST(a_bad_list_is_asked_for_again)
{
    list_body = bad_lists[_i];
    connect_engine();
    until(&ups, 1);
    turn(100);
    ck_assert_int_eq(lists, 0);
    ck_assert(engine_is_up(engine)); /* its events still flow */
    list_body = "[]";
    until(&lists, 1);
}
END_TEST

#define OPEN8 "[[[[[[[["
#define SHUT8 "]]]]]]]]"
#define OPEN63 OPEN8 OPEN8 OPEN8 OPEN8 OPEN8 OPEN8 OPEN8 "[[[[[[["
#define SHUT63 SHUT8 SHUT8 SHUT8 SHUT8 SHUT8 SHUT8 SHUT8 "]]]]]]]"
_Static_assert(sizeof OPEN63 == KG_ENGINE_MAX_JSON_DEPTH, "so deep within an object is the most");

static const struct {
    const char *answer;
    int code;
} bad_inspects[] = {
    {OK_JSON "Content-Length: 2\r\n\r\n{}", 0},
    {OK_JSON "Content-Length: 132\r\n\r\n{\"a\":" OPEN63 SHUT63 "}", 0},
    {OK_JSON "Content-Length: 134\r\n\r\n{\"a\":[" OPEN63 SHUT63 "]}", KG_EPROTO},
    {OK_JSON "Content-Length: 6\r\n\r\n<html>", KG_EPROTO},
    {OK_JSON "Content-Length: 0\r\n\r\n", KG_EPROTO},
    {"HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\n<html>", KG_EIO},
    {"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}", 0},
    {"HTTP/1.1 204 No Content\r\n\r\n", KG_EPROTO},
    {"HTTP/0.9\r\n\r\n", KG_EPROTO},
};

START_TEST(bad_answers_to_a_verb)
{
    come_up();
    inspect_answer = bad_inspects[_i].answer;
    ck_assert_uint_gt(ops->inspect(ops->self, NULL, "x", on_done, NULL), 0);
    ck_assert_int_eq(answers, 0);
    until(&answers, 1);
    ck_assert_int_eq(last.code, bad_inspects[_i].code);
    turn(20);
    ck_assert_int_eq(answers, 1);
}
END_TEST

#define NO_CONTENT "HTTP/1.1 204 No Content\r\n\r\n"
#define PAUSED_ALREADY                                                                             \
    "HTTP/1.1 409 Conflict\r\nContent-Length: 43\r\n\r\n"                                          \
    "{\"message\":\"Container x is already paused\"}"
#define NOT_RUNNING                                                                                \
    "HTTP/1.1 409 Conflict\r\nContent-Length: 40\r\n\r\n"                                          \
    "{\"message\":\"Container x is not running\"}"
#define NOT_PAUSED                                                                                 \
    "HTTP/1.1 500 No\r\nContent-Length: 39\r\n\r\n"                                                \
    "{\"message\":\"Container x is not paused\"}"
#define GONE                                                                                       \
    "HTTP/1.1 404 No\r\nContent-Length: 36\r\n\r\n"                                                \
    "{\"message\":\"No such container: x  \"}"
#define IS_RUNNING OK_JSON "Content-Length: 30\r\n\r\n{\"State\":{\"Status\":\"running\"}}"
#define IS_EXITED OK_JSON "Content-Length: 29\r\n\r\n{\"State\":{\"Status\":\"exited\"}}"

static const struct {
    const char *answer, *then; /* then: to an inspect */
    bool unpause, already;
    int code;
} freezes[] = {
    {NO_CONTENT, "", false, false, 0},
    {PAUSED_ALREADY, "", false, true, 0},
    {NOT_RUNNING, "", false, false, KG_ECONFLICT},
    {GONE, "", false, false, KG_ENOTFOUND},
    {NO_CONTENT, "", true, false, 0},
    {NOT_PAUSED, IS_RUNNING, true, true, 0},
    {NOT_PAUSED, IS_EXITED, true, false, KG_ECONFLICT}, /* the engine says the same of both */
    {NOT_PAUSED, GONE, true, false, KG_ENOTFOUND},
    {NOT_RUNNING, "", true, false, KG_ECONFLICT},
    {GONE, "", true, false, KG_ENOTFOUND},
};

START_TEST(what_a_pause_and_an_unpause_may_answer)
{
    come_up();
    pause_answer = unpause_answer = freezes[_i].answer;
    inspect_answer = freezes[_i].then;
    if (freezes[_i].unpause)
        ops->unpause(ops->self, "x", on_done, NULL);
    else
        ops->pause(ops->self, "x", on_done, NULL);
    until(&answers, 1);
    ck_assert_int_eq(last.code, freezes[_i].code);
    ck_assert(last.already == freezes[_i].already);
    ck_assert((last.code == 0) == (last.words[0] == '\0'));
    turn(20);
    ck_assert_int_eq(answers, 1);
}
END_TEST

START_TEST(a_container_is_weighed)
{
    come_up();
    stats_answer = "{\"memory_stats\":{\"usage\":5000,\"stats\":{\"inactive_file\":1000}}}";
    ops->weigh(ops->self, "x", on_done, NULL);
    until(&answers, 1);
    ck_assert_int_eq(last.code, 0);
    ck_assert_int_eq(last.memory_bytes, 4000);
    ops->weigh(ops->self, "y", on_done, NULL);
    until(&answers, 2);
    ck_assert_int_eq(last.code, KG_ENOTFOUND);
    ck_assert_int_eq(last.memory_bytes, -1);
}
END_TEST

START_TEST(a_huge_answer_is_refused)
{
    come_up();
    inspect_answer = OK_JSON "Content-Length: 1073741824\r\n\r\n{";
    ops->inspect(ops->self, NULL, "x", on_done, NULL);
    for (int i = 0; i < 100000 && answers == 0; i++) {
        static char block[256 * 1024];
        KG_LIST_EACH(it, &peer.conns)
        {
            struct fake_conn *c = KG_LIST_ENTRY(it, struct fake_conn, link);
            if (it == peer.conns.prev && c->pipe.write_queue_size < sizeof block)
                fake_say_n(c, block, sizeof block);
        }
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    ck_assert_int_eq(answers, 1);
    ck_assert_int_eq(last.code, KG_ELIMIT);
}
END_TEST

static void on_stopped(void *arg, const struct engine_answer *a)
{
    (void)arg;
    (void)a;
    stopped++;
}

/* What ignores TERM keeps its stop waiting for the whole grace, however many are due at once. */
START_TEST(stops_that_take_their_time_hold_up_no_other_call)
{
    int64_t began_ms;

    come_up();
    for (int i = 0; i < 5 * KG_ENGINE_MAX_CONNECTIONS; i++)
        ops->stop(ops->self, "deaf", KG_STOP_GRACE_MS, on_stopped, NULL);
    began_ms = kg_clock_mono_ms();
    ops->inspect(ops->self, NULL, "x", on_done, NULL);
    until(&answers, 1);
    ck_assert_int_eq(last.code, 0);
    ck_assert_int_lt(kg_clock_mono_ms() - began_ms, 3000);
    ck_assert_int_eq(stopped, 0);
}
END_TEST

START_TEST(verbs_while_down_fail_later_with_words)
{
    ping_answer = bad_pings[0].answer;
    connect_engine();
    until(&downs, 1);
    ck_assert_uint_gt(ops->start(ops->self, "x", on_done, NULL), 0);
    ck_assert_int_eq(answers, 0);
    until(&answers, 1);
    ck_assert_int_eq(last.code, KG_ECLOSED);
    ck_assert_str_eq(last.words, engine_down_why(engine));
}
END_TEST

START_TEST(names_that_are_none_reach_nobody)
{
    int before;

    come_up();
    before = peer.requests;
    ops->remove(ops->self, "../../images/x", on_done, NULL);
    until(&answers, 1);
    ck_assert_int_eq(last.code, KG_EINVAL);
    ck_assert_int_eq(peer.requests, before);
}
END_TEST

START_TEST(what_is_known_of_the_engine_goes_into_a_create)
{
    static char image[] = "img";
    struct config_service s = {.name = "a", .image = image, .port = 80, .init = CONFIG_UNSET};

    come_up();
    ops->create(ops->self, &s, "kipgate-a-1", on_done, NULL);
    until(&answers, 1);
    ck_assert_int_eq(last.code, 0);
    ck_assert_str_eq(last.container.id, "0123");
    ck_assert_ptr_nonnull(strstr(last_create, "create?name=kipgate-a-1 "));
    ck_assert_ptr_nonnull(strstr(last_create, "\"Init\":false")); /* /info said there is none */
    ck_assert_ptr_null(strstr(last_create, "LogConfig"));
}
END_TEST

/* As much as a configuration may hold of it. */
START_TEST(a_large_environment_is_passed_on)
{
    static char image[] = "img", text[120 * 1024];
    char *items[20];
    struct config_service s = {.name = "a", .image = image, .port = 80, .init = CONFIG_UNSET};

    memset(text, 'v', sizeof text - 1);
    memcpy(text, "A=", 2);
    for (size_t i = 0; i < sizeof items / sizeof *items; i++)
        items[i] = text;
    s.env = (struct config_strings){items, sizeof items / sizeof *items};
    come_up();
    ops->create(ops->self, &s, "kipgate-a-1", on_done, NULL);
    until(&answers, 1);
    ck_assert_str_eq(last.words, "");
    ck_assert_int_eq(last.code, 0);
}
END_TEST

/* What it is taken for then would hold for a whole run. But it is not asked for ever: a proxy
 * before it may have its own way to refuse. */
START_TEST(an_engine_that_says_nothing_of_itself_is_asked_again)
{
    static char image[] = "img";
    struct config_service s = {.name = "a", .image = image, .port = 80, .init = CONFIG_UNSET};

    odd_infos = _i == 0 ? 3 : 1000;
    connect_engine();
    until(&lists, 1);
    ops->create(ops->self, &s, "kipgate-a-1", on_done, NULL);
    until(&answers, 1);
    ck_assert_int_eq(last.code, 0);
    ck_assert_int_eq(strstr(last_create, "\"Init\":false") != NULL, _i == 0);
    ck_assert_int_eq(strstr(last_create, "json-file") == NULL, _i == 0);
}
END_TEST

/* --- sandboxes --- */

#define IMPORTED OK_JSON "Content-Length: 16\r\n\r\n{\"status\":\"sha\"}"
#define REFUSED "HTTP/1.1 403 No\r\nContent-Length: 20\r\n\r\n{\"message\":\"denied\"}"

static const struct {
    const char *import_answer;
    int code, imports, creates;
} makings[] = {{NULL, 0, 0, 1}, {IMPORTED, 0, 1, 2}, {REFUSED, KG_EIO, 1, 1}};

START_TEST(a_sandboxs_image_is_imported_where_it_is_missing)
{
    const struct engine_parking_ops *parking;

    come_up();
    parking = engine_parking_ops(engine);
    import_answer = makings[_i].import_answer;
    parking->make(parking->self, "kipgate-sandbox-1", on_done, NULL);
    until(&answers, 1);
    ck_assert_int_eq(last.code, makings[_i].code);
    ck_assert_int_eq(imports, makings[_i].imports);
    ck_assert_int_eq(creates, makings[_i].creates);
    ck_assert_ptr_nonnull(strstr(last_create, "create?name=kipgate-sandbox-1 "));
    ck_assert_ptr_nonnull(strstr(last_create, "\"io.kipgate.sandbox\":\"1\""));
    if (imports == 0)
        return;
    ck_assert_ptr_nonnull(strstr(last_import, "?fromSrc=-&repo=kipgate-sandbox&tag="));
    ck_assert_ptr_nonnull(strstr(last_import, "Content-Type: application/x-tar\r\n"));
    ck_assert_ptr_nonnull(strstr(last_import, "\r\n\r\nkipgate-sandbox"));
}
END_TEST

/* An image that is missing after it was imported is missing: it is not imported for ever. */
START_TEST(an_import_is_tried_once)
{
    const struct engine_parking_ops *parking;

    come_up();
    parking = engine_parking_ops(engine);
    import_answer = IMPORTED;
    missing_for_ever = true;
    parking->make(parking->self, "kipgate-sandbox-1", on_done, NULL);
    until(&answers, 1);
    ck_assert_int_eq(last.code, KG_ENOTFOUND);
    ck_assert_int_eq(imports, 1);
    ck_assert(!parking->usable(parking->self)); /* published ports do not reach into it */
}
END_TEST

START_TEST(a_worker_that_joins_has_no_network_of_its_own)
{
    static char image[] = "img";
    struct config_service s = {.name = "a", .image = image, .port = 80, .init = CONFIG_UNSET};
    const struct engine_parking_ops *parking;

    come_up();
    parking = engine_parking_ops(engine);
    parking->join(parking->self, &s, "kipgate-a-1", "0a1b", on_done, NULL);
    until(&answers, 1);
    ck_assert_int_eq(last.code, 0);
    ck_assert_ptr_nonnull(strstr(last_create, "\"NetworkMode\":\"container:0a1b\""));
    ck_assert_ptr_nonnull(strstr(last_create, "\"PORT=80\""));
    ck_assert_ptr_null(strstr(last_create, "ExposedPorts")); /* the engine refuses it */
    ck_assert_ptr_null(strstr(last_create, "PortBindings"));
    ck_assert_ptr_null(strstr(last_create, "NetworkingConfig"));
}
END_TEST

#define JOINED                                                                                     \
    "{\"Id\":\"1\",\"Name\":\"/x\",\"State\":{\"Status\":\"running\"},\"HostConfig\":{"            \
    "\"NetworkMode\":\"container:0a1b\"}}"
#define PARKED                                                                                     \
    "{\"Id\":\"1\",\"Name\":\"/x\",\"State\":{\"Status\":\"running\"},\"NetworkSettings\":{"       \
    "\"Networks\":{\"n\":{\"IPAddress\":\"10.0.0.7\"}}},\"Config\":{\"Labels\":{"                  \
    "\"io.kipgate.sandbox\":\"1\"}}}"

START_TEST(a_sandboxs_address_has_no_port)
{
    const struct engine_parking_ops *parking;
    const struct sockaddr_in *in = (const void *)&last.container.address;
    static char answer[512];

    come_up();
    parking = engine_parking_ops(engine);
    snprintf(answer, sizeof answer, OK_JSON "Content-Length: %zu\r\n\r\n%s", strlen(PARKED),
             PARKED);
    inspect_answer = answer;
    parking->ask(parking->self, "x", on_done, NULL);
    until(&answers, 1);
    ck_assert(last.container.is_sandbox);
    ck_assert_int_eq(in->sin_family, AF_INET);
    ck_assert_int_eq(in->sin_port, 0);
    snprintf(answer, sizeof answer, OK_JSON "Content-Length: %zu\r\n\r\n%s", strlen(JOINED),
             JOINED);
    parking->ask(parking->self, "x", on_done, NULL);
    until(&answers, 2);
    ck_assert_str_eq(last.container.sandbox, "0a1b");
    ck_assert_int_eq(last.container.address_length, 0);
}
END_TEST

START_TEST(cancelled_operations_are_not_answered)
{
    uint64_t a, b;

    come_up();
    a = ops->inspect(ops->self, NULL, "x", on_done, NULL);
    b = ops->inspect(ops->self, NULL, "..", on_done, NULL); /* fails without a call */
    ops->cancel(ops->self, a);
    ops->cancel(ops->self, b);
    ops->cancel(ops->self, b);
    ops->cancel(ops->self, 999);
    turn(50);
    ck_assert_int_eq(answers, 0);
}
END_TEST

START_TEST(an_answer_may_cancel_another)
{
    static uint64_t other;

    come_up();
    ops->inspect(ops->self, NULL, "x", on_done, &other);
    other = ops->inspect(ops->self, NULL, "x", on_done, NULL);
    turn(50);
    ck_assert_int_ge(answers, 1);
}
END_TEST

START_TEST(close_from_a_callback)
{
    close_in_state = _i == 0;
    close_in_event = _i == 1;
    close_in_list = _i == 2;
    events_text = EVENT("start") EVENT("die");
    connect_engine();
    turn(100);
    ck_assert_ptr_null(engine);
    ck_assert_int_le(events, _i == 1 ? 1 : 2);
}
END_TEST

START_TEST(close_at_any_moment)
{
    connect_engine();
    for (int i = 0; i < _i; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    if (engine_is_up(engine))
        ops->inspect(ops->self, NULL, "x", on_done, NULL);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *s = suite_create("engine");
    TCase *t = tcase_create("engine");

    suite_add_tcase(s, t);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, up_then_list);
    tcase_add_test(t, the_list_is_asked_for_again_and_again);
    tcase_add_loop_test(t, what_is_no_engine_is_down_with_words, 0,
                        sizeof bad_pings / sizeof *bad_pings);
    tcase_add_test(t, an_engine_that_is_late_is_given_longer);
    tcase_add_test(t, the_newest_version_we_know);
    tcase_add_test(t, events_one_byte_at_a_time);
    tcase_add_test(t, bad_lines_between_events);
    tcase_add_test(t, the_streams_end_is_told_at_once_and_mended);
    tcase_add_test(t, workers_of_an_engine_that_moves_are_where_it_is);
    tcase_add_test(t, signals_are_for_the_loop_alone);
    tcase_add_loop_test(t, a_bad_list_is_asked_for_again, 0, sizeof bad_lists / sizeof *bad_lists);
    tcase_add_loop_test(t, bad_answers_to_a_verb, 0, sizeof bad_inspects / sizeof *bad_inspects);
    tcase_add_loop_test(t, what_a_pause_and_an_unpause_may_answer, 0,
                        sizeof freezes / sizeof *freezes);
    tcase_add_test(t, a_container_is_weighed);
    tcase_add_test(t, a_huge_answer_is_refused);
    tcase_add_test(t, stops_that_take_their_time_hold_up_no_other_call);
    tcase_add_test(t, verbs_while_down_fail_later_with_words);
    tcase_add_test(t, names_that_are_none_reach_nobody);
    tcase_add_test(t, what_is_known_of_the_engine_goes_into_a_create);
    tcase_add_test(t, a_large_environment_is_passed_on);
    tcase_add_loop_test(t, an_engine_that_says_nothing_of_itself_is_asked_again, 0, 2);
    tcase_add_loop_test(t, a_sandboxs_image_is_imported_where_it_is_missing, 0,
                        sizeof makings / sizeof *makings);
    tcase_add_test(t, an_import_is_tried_once);
    tcase_add_test(t, a_worker_that_joins_has_no_network_of_its_own);
    tcase_add_test(t, a_sandboxs_address_has_no_port);
    tcase_add_test(t, cancelled_operations_are_not_answered);
    tcase_add_test(t, an_answer_may_cancel_another);
    tcase_add_loop_test(t, close_from_a_callback, 0, 3);
    tcase_add_loop_test(t, close_at_any_moment, 0, 60);
    return s;
}

int main(void)
{
    SRunner *r;
    int failed;

    signal(SIGPIPE, SIG_IGN);
    r = srunner_create(make_suite());
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
