/* SPDX-License-Identifier: Apache-2.0 */
/* Pulls that are shared, against an engine that says of a pull what the test wants, when it wants
 * it. The difficulty: each who waits has a deadline of its own, and may leave or close the engine
 * from within its answer. */
#include "engine_case.h"
#include <arpa/inet.h>
#include <sys/socket.h>

#define OK_STREAM "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define OK_EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
#define PROGRESS                                                                                   \
    "{\"status\":\"Downloading\",\"id\":\"aa\",\"progressDetail\":{\"current\":1048576,"           \
    "\"total\":3145728}}\n"
#define END "0\r\n\r\n"
#define WAITING 4 /* who waits at most, in one test */

struct waiting {
    int index, answers;
    uint64_t operation;
    int64_t asked_ms, answered_ms;
    struct engine_answer answer;
};

static struct waiting waiting[WAITING];
static int pulls, told;
static bool close_in_answer, cancel_in_answer;
static char last_told[100];

static struct fake_conn *puller(void)
{
    struct fake_conn *found = NULL;

    KG_LIST_EACH(it, &peer.conns)
    {
        struct fake_conn *c = KG_LIST_ENTRY(it, struct fake_conn, link);
        if (c->close_after)
            found = c;
    }
    return found;
}

static void say_line(const char *line)
{
    char text[1024];

    ck_assert_ptr_nonnull(puller());
    snprintf(text, sizeof text, "%zx\r\n%s\r\n", strlen(line), line);
    fake_say(puller(), text);
}

static void on_request(struct fake_conn *c, const char *r)
{
    if (strncmp(r, "GET /_ping", 10) == 0)
        fake_say(c, "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK");
    else if (strstr(r, "/info") || strstr(r, "/networks/"))
        fake_say(c, OK_EMPTY "{}");
    else if (strstr(r, "/events"))
        fake_say(c, OK_STREAM);
    else if (strstr(r, "/containers/json"))
        fake_say(c, OK_EMPTY "[]");
    else if (strstr(r, "POST /v1.41/images/create")) {
        fake_say(c, OK_STREAM);
        c->close_after = true; /* its mark; nothing is dripped here */
        pulls++;
    }
}

static void on_progress(void *arg, const char *service, const char *words)
{
    (void)arg;
    told++;
    snprintf(last_told, sizeof last_told, "%s %s", service, words);
}

static void set_up(void)
{
    static const struct engine_callbacks callbacks = {NULL, ignore_state, ignore_event, count_list,
                                                      on_progress};

    open_peer(on_request, "published");
    pulls = told = 0;
    close_in_answer = cancel_in_answer = false;
    open_engine(&callbacks);
    until(&lists, 1);
}

static void on_answer(void *arg, const struct engine_answer *a)
{
    struct waiting *w = arg;

    w->answers++;
    w->answer = *a;
    w->answered_ms = kg_clock_mono_ms();
    for (int i = 0; cancel_in_answer && i < WAITING; i++)
        if (i != w->index && waiting[i].answers == 0 && waiting[i].operation)
            ops->cancel(ops->self, waiting[i].operation);
    if (close_in_answer && engine)
        close_engine();
}

/* Number i wants the image so long. */
static void want(int i, int64_t timeout_ms)
{
    static char image[] = "registry.test/x:1";
    struct config_service s = {.image = image, .pull_timeout_ms = timeout_ms};

    snprintf(s.name, sizeof s.name, "s%d", i);
    waiting[i] = (struct waiting){.index = i, .asked_ms = kg_clock_mono_ms()};
    waiting[i].operation = ops->pull(ops->self, &s, on_answer, &waiting[i]);
    ck_assert_uint_ne(waiting[i].operation, 0);
}

static void is_late_after(int i, int64_t ms)
{
    int64_t took_ms = waiting[i].answered_ms - waiting[i].asked_ms;

    ck_assert_int_eq(waiting[i].answers, 1);
    ck_assert_int_eq(waiting[i].answer.code, KG_ETIMEOUT);
    ck_assert_msg(took_ms >= ms && took_ms < ms + 300, "%lld ms", (long long)took_ms);
}

START_TEST(each_has_its_own_deadline)
{
    want(0, 200);
    until(&pulls, 1);
    turn(150);
    want(1, 600);
    want(2, 300);
    until(&waiting[0].answers, 1);
    is_late_after(0, 200);
    until(&waiting[2].answers, 1);
    is_late_after(2, 300);
    ck_assert_int_eq(waiting[1].answers, 0);
    say_line("{\"status\":\"Status: Downloaded newer image\"}\n");
    fake_say(puller(), END);
    until(&waiting[1].answers, 1);
    ck_assert_int_eq(waiting[1].answer.code, 0);
    ck_assert_int_eq(pulls, 1);
}
END_TEST

/* With the last who waits the pull ends too: the next who asks begins another. */
START_TEST(the_last_who_is_late_ends_it)
{
    want(0, 100);
    want(1, 150);
    until(&pulls, 1);
    ck_assert_ptr_nonnull(puller());
    until(&waiting[1].answers, 1);
    is_late_after(0, 100);
    is_late_after(1, 150);
    turn(50);
    ck_assert_ptr_null(puller());
    want(2, 5000);
    until(&pulls, 2);
    fake_say(puller(), END);
    until(&waiting[2].answers, 1);
    ck_assert_int_eq(waiting[2].answer.code, 0);
}
END_TEST

START_TEST(late_with_what_was_reached)
{
    want(0, 900);
    until(&pulls, 1);
    turn(ENGINE_PROGRESS_EVERY_MS + 20);
    say_line(PROGRESS);
    until(&told, 1);
    ck_assert_str_eq(last_told, "s0 downloading 1/3 MiB");
    until(&waiting[0].answers, 1);
    ck_assert_str_eq(waiting[0].answer.words, "the pull did not end in time: downloading 1/3 MiB");
}
END_TEST

START_TEST(a_failure_is_told_to_all)
{
    want(0, 5000);
    want(1, 5000);
    until(&pulls, 1);
    say_line("{\"error\":\"manifest unknown\"}\n");
    fake_say(puller(), END);
    until(&waiting[1].answers, 1);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(waiting[i].answer.code, KG_EIO);
        ck_assert_str_eq(waiting[i].answer.words, "manifest unknown");
    }
}
END_TEST

/* Somebody listens there, and takes no connection: packets to it vanish. */
static void fill(int fds[3], struct sockaddr_in *at)
{
    socklen_t n = sizeof *at;

    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 3; i++)
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fds[0], (void *)at, n), 0);
    ck_assert_int_eq(listen(fds[0], 0), 0);
    ck_assert_int_eq(getsockname(fds[0], (void *)at, &n), 0);
    for (int i = 1; i < 3; i++)
        connect(fds[i], (void *)at, n);
}

/* Nothing was asked, so nothing is known of the image: it is to be asked for again. */
START_TEST(an_engine_that_cannot_be_reached_says_nothing_of_the_image)
{
    struct transport *usual = engine->transport, *other;
    struct sockaddr_in at;
    char url[64];
    struct transport_target target = {.url = url};
    int fds[3];

    fill(fds, &at);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", (unsigned)ntohs(at.sin_port));
    engine->transport = other = transport_open(&loop, &target, 1, NULL);
    want(0, 60000);
    engine->transport = usual;
    until(&waiting[0].answers, 1);
    ck_assert_int_eq(waiting[0].answer.code, KG_ECLOSED);
    transport_close(other, NULL, NULL);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}
END_TEST

/* Whoever is late cancels the others, or closes the engine, from within its answer. */
START_TEST(what_an_answer_may_do)
{
    cancel_in_answer = _i == 0;
    close_in_answer = _i > 0;
    want(0, 100);
    if (_i < 2) {
        want(1, 100);
        want(2, 5000);
    }
    until(&waiting[0].answers, 1);
    turn(50);
    ck_assert_int_eq(waiting[0].answers, 1);
    if (_i < 2)
        ck_assert_int_eq(waiting[1].answers + waiting[2].answers, 0);
    ck_assert_ptr_null(puller());
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine_pull");
    TCase *t = tcase_create("engine_pull");
    SRunner *r = srunner_create(s);
    int failed;

    signal(SIGPIPE, SIG_IGN);
    suite_add_tcase(s, t);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, each_has_its_own_deadline);
    tcase_add_test(t, the_last_who_is_late_ends_it);
    tcase_add_test(t, late_with_what_was_reached);
    tcase_add_test(t, a_failure_is_told_to_all);
    tcase_add_test(t, an_engine_that_cannot_be_reached_says_nothing_of_the_image);
    tcase_add_loop_test(t, what_an_answer_may_do, 0, 3);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
