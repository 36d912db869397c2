/* SPDX-License-Identifier: Apache-2.0 */
/* The transport against peers that misbehave: garbage, cut, slow, one byte at a time, too large;
 * and its promises: one answer each, cancel and close from anywhere, nothing left open. */
#include "base/clock.h"
#include "fake_peer.h"
#include "orchestrator/transport.h"
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#define OK_HEAD "HTTP/1.1 200 OK\r\n"

static uv_loop_t loop;
static struct fake_peer peer;
static struct transport *transport;
static const char *say; /* what the peer answers */
static size_t say_n;
static enum { SAY_WHOLE, SAY_DRIP, SAY_AND_CLOSE, SAY_NOTHING, SAY_ONLY_ON_FIRST } manner;

static int answers, codes[64], statuses[64], begun, closed;
static struct kg_buf got; /* bodies */
static char words[512], version[32];
static bool refused;
static uint64_t to_cancel;
static bool close_on_answer;

static void on_request(struct fake_conn *c, const char *request)
{
    (void)request;
    if (manner == SAY_NOTHING)
        return;
    if (manner == SAY_DRIP) {
        fake_drip(c, say, say_n, true);
        return;
    }
    if (manner == SAY_ONLY_ON_FIRST && peer.requests > 1) {
        fake_conn_close(c);
        return;
    }
    fake_say_n(c, say, say_n);
    if (manner == SAY_AND_CLOSE)
        fake_drip(c, "", 0, true);
}

static void on_closed(void *arg)
{
    (void)arg;
    closed++;
}

static void on_done(void *arg, const struct transport_answer *a)
{
    (void)arg;
    ck_assert_int_lt(answers, 64);
    codes[answers] = a->code;
    statuses[answers] = a->status;
    answers++;
    kg_buf_append(&got, a->body.p, a->body.n);
    snprintf(words, sizeof words, "%s", a->words);
    snprintf(version, sizeof version, "%s", a->api_version);
    refused = a->refused;
    if (to_cancel)
        transport_cancel(transport, to_cancel);
    if (close_on_answer)
        transport_close(transport, on_closed, NULL);
}

static void on_begun(void *arg, int status)
{
    (void)arg;
    begun = status;
}

static void on_data(void *arg, struct kg_str bytes)
{
    (void)arg;
    kg_buf_append(&got, bytes.p, bytes.n);
}

static void set_up(void)
{
    struct transport_target target = {.url = "http://engine", .unix_path = peer.path};
    struct kg_err err = {0};

    uv_loop_init(&loop);
    fake_peer_open(&peer, &loop, on_request, NULL);
    transport = transport_open(&loop, &target, 2, &err);
    ck_assert_ptr_nonnull(transport);
    kg_buf_init(&got, 8 << 20);
    answers = begun = closed = 0;
    to_cancel = 0;
    close_on_answer = refused = false;
    manner = SAY_WHOLE;
}

static void tear_down(void)
{
    if (!close_on_answer)
        transport_close(transport, on_closed, NULL);
    fake_peer_close(&peer);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(closed, 1);
    ck_assert_int_eq(uv_loop_close(&loop), 0); /* nothing is left open */
    kg_buf_fini(&got);
}

static uint64_t ask(int64_t timeout_ms, size_t max_bytes)
{
    const struct transport_call call = {.method = "GET",
                                        .path = "/x",
                                        .timeout_ms = timeout_ms,
                                        .max_bytes = max_bytes,
                                        .on_done = on_done};
    uint64_t number = transport_start(transport, &call);

    ck_assert_uint_gt(number, 0);
    return number;
}

static uint64_t follow(void)
{
    const struct transport_call call = {.method = "GET",
                                        .path = "/events",
                                        .own_connection = true,
                                        .on_begun = on_begun,
                                        .on_data = on_data,
                                        .on_done = on_done};

    return transport_start(transport, &call);
}

static void until(int wanted)
{
    int64_t end = kg_clock_mono_ms() + 20000;

    while (answers < wanted && kg_clock_mono_ms() < end)
        uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(answers, wanted);
}

static void turn(int ms)
{
    int64_t end = kg_clock_mono_ms() + ms;

    while (kg_clock_mono_ms() < end)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static void answer_with(const char *text)
{
    say = text;
    say_n = strlen(text);
}

START_TEST(an_answer_comes_whole)
{
    answer_with(OK_HEAD "Api-Version:  1.41 \r\nContent-Length: 5\r\n\r\nhello");
    ask(1000, 100);
    ck_assert_int_eq(answers, 0); /* from the loop, never from the call */
    until(1);
    ck_assert_int_eq(codes[0], 0);
    ck_assert_int_eq(statuses[0], 200);
    ck_assert_str_eq(got.data, "hello");
    ck_assert_str_eq(version, "1.41");
}
END_TEST

START_TEST(connections_are_kept)
{
    answer_with(OK_HEAD "Content-Length: 0\r\n\r\n");
    for (int i = 1; i <= 5; i++) {
        ask(1000, 100);
        until(i);
    }
    ck_assert_int_eq(peer.accepted, 1);
}
END_TEST

START_TEST(no_more_connections_than_allowed)
{
    manner = SAY_NOTHING;
    for (int i = 0; i < 5; i++)
        ask(300, 100);
    turn(100);
    ck_assert_int_eq(peer.accepted, 2);
    until(5); /* those that wait have their deadline too */
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(codes[i], KG_ETIMEOUT);
}
END_TEST

START_TEST(a_stream_is_not_counted)
{
    manner = SAY_NOTHING;
    ask(500, 100);
    ask(500, 100);
    follow();
    turn(50);
    ck_assert_int_eq(peer.accepted, 3);
    until(2);
}
END_TEST

/* So many connections, and no more. */
static void reaches(int count)
{
    int64_t end = kg_clock_mono_ms() + 5000;

    while (peer.accepted < count && kg_clock_mono_ms() < end)
        uv_run(&loop, UV_RUN_NOWAIT);
    turn(50);
    ck_assert_int_eq(peer.accepted, count);
}

START_TEST(slow_calls_are_counted_by_themselves)
{
    struct transport_call call = {
        .method = "POST", .path = "/x", .timeout_ms = 500, .slow = true, .on_done = on_done};

    manner = SAY_NOTHING;
    for (int i = 0; i < 10; i++)
        ck_assert_uint_gt(transport_start(transport, &call), 0);
    reaches(2 * TRANSPORT_SLOW);
    call.slow = false;
    ck_assert_uint_gt(transport_start(transport, &call), 0);
    reaches(2 * TRANSPORT_SLOW + 1);
    until(11);
}
END_TEST

START_TEST(one_byte_at_a_time)
{
    manner = SAY_DRIP;
    answer_with(OK_HEAD
                "Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n");
    ask(5000, 100);
    until(1);
    ck_assert_int_eq(codes[0], 0);
    ck_assert_str_eq(got.data, "hello!");
}
END_TEST

START_TEST(a_stream_one_byte_at_a_time)
{
    manner = SAY_DRIP;
    answer_with(OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n");
    follow();
    until(1);
    ck_assert_int_eq(begun, 200);
    ck_assert_int_eq(codes[0], 0);
    ck_assert_str_eq(got.data, "abcdef");
}
END_TEST

START_TEST(cut_anywhere_is_an_error)
{
    static const char text[] = OK_HEAD "Content-Length: 5\r\n\r\nhello";

    manner = SAY_AND_CLOSE;
    for (size_t n = 0; n < sizeof text - 1; n += n < 10 ? 1 : 3) {
        say = text;
        say_n = n;
        answers = 0;
        ask(2000, 100);
        until(1);
        ck_assert_int_ne(codes[0], 0);
    }
}
END_TEST

static const char *const garbage[] = {
    "no http at all, but quite a few words of it\r\n\r\n",
    "\x16\x03\x01\x02\r\n\r\n",
    "SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/1.1 abc\r\n\r\n",
    OK_HEAD "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    OK_HEAD "Content-Length: -5\r\n\r\nhello",
    OK_HEAD "Content-Length: 50\r\n\r\nhello",
};

START_TEST(garbage_is_an_error)
{
    manner = SAY_AND_CLOSE;
    answer_with(garbage[_i]);
    ask(2000, 100);
    until(1);
    ck_assert_int_ne(codes[0], 0);
    ck_assert_int_ne(codes[0], KG_ETIMEOUT);
    ck_assert(words[0]);
}
END_TEST

START_TEST(a_body_is_capped)
{
    answer_with(OK_HEAD "Content-Length: 5\r\n\r\nhello");
    for (size_t max = 4; max <= 6; max++) {
        answers = 0;
        ask(1000, max);
        until(1);
        ck_assert_int_eq(codes[0], max < 5 ? KG_ELIMIT : 0);
    }
}
END_TEST

START_TEST(endless_headers_are_capped)
{
    struct kg_buf b;

    kg_buf_init(&b, 1 << 20);
    kg_buf_puts(&b, OK_HEAD);
    while (b.len < 300 * 1024)
        kg_buf_puts(
            &b, "X-Header: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
    answer_with(b.data);
    ask(5000, 100);
    until(1);
    ck_assert_int_eq(codes[0], KG_ELIMIT);
    kg_buf_fini(&b);
}
END_TEST

START_TEST(silence_meets_the_deadline)
{
    int64_t began = kg_clock_mono_ms(), took;

    manner = SAY_NOTHING;
    ask(200, 100);
    until(1);
    took = kg_clock_mono_ms() - began;
    ck_assert_int_eq(codes[0], KG_ETIMEOUT);
    ck_assert(!refused); /* it was asked: the outcome is unknown */
    ck_assert(took >= 195 && took < 1000);
}
END_TEST

START_TEST(a_redirect_is_an_answer)
{
    answer_with("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    ask(1000, 100);
    until(1);
    ck_assert_int_eq(statuses[0], 302);
    ck_assert_int_eq(peer.requests, 1);
}
END_TEST

START_TEST(the_environments_proxies_are_not_used)
{
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    answer_with(OK_HEAD "Content-Length: 0\r\n\r\n");
    ask(1000, 100);
    until(1);
    ck_assert_int_eq(codes[0], 0);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}
END_TEST

START_TEST(nobody_there_is_refused)
{
    struct transport_target target = {.url = "http://engine", .unix_path = "/tmp/kg-nobody.sock"};
    struct transport *other = transport_open(&loop, &target, 2, NULL);
    const struct transport_call call = {
        .method = "GET", .path = "/x", .timeout_ms = 1000, .on_done = on_done};

    transport_start(other, &call);
    until(1);
    ck_assert_int_eq(codes[0], KG_ECLOSED);
    ck_assert(refused);
    ck_assert_str_eq(words, strerror(ENOENT));
    transport_close(other, NULL, NULL);
}
END_TEST

/* --- an engine that has moved --- */

static const char *engine_is_at; /* the address of its name */

/* For libcurl too: a program's own comes before the library's. */
__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node && strcmp(node, "engine.test") == 0)
        node = engine_is_at;
    return real(node, service, hints, found);
}

/* A socket that listens there; port 0: any, which is told. */
static int listen_at(const char *ip, in_port_t *port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = *port};
    socklen_t n = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    ck_assert_int_eq(inet_pton(AF_INET, ip, &in.sin_addr), 1);
    ck_assert_int_eq(bind(fd, (void *)&in, n), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    ck_assert_int_eq(getsockname(fd, (void *)&in, &n), 0);
    *port = in.sin_port;
    return fd;
}

/* Asks until it is answered, once for each refusal; returns how often it was refused. */
static int refusals_of(struct transport *t, int listener, bool own_connection)
{
    static const char text[] = OK_HEAD "Content-Length: 0\r\nConnection: close\r\n\r\n";
    const struct transport_call call = {.method = "GET",
                                        .path = "/x",
                                        .timeout_ms = 5000,
                                        .own_connection = own_connection,
                                        .on_done = on_done};
    char request[1024];
    int n = 0, fd;

    for (;; n++) {
        answers = 0;
        ck_assert_uint_gt(transport_start(t, &call), 0);
        while (answers == 0) {
            uv_run(&loop, UV_RUN_ONCE);
            fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (fd < 0)
                continue;
            while (recv(fd, request, sizeof request, MSG_DONTWAIT) <= 0)
                uv_run(&loop, UV_RUN_NOWAIT);
            ck_assert_int_gt(send(fd, text, sizeof text - 1, MSG_NOSIGNAL), 0);
            close(fd);
        }
        if (codes[0] == 0)
            return n;
        ck_assert_msg(refused && n < 3, "%d %d %s own %d", n, refused, words, own_connection);
    }
}

/* Its name is asked for again as soon as nobody is found where it was. */
START_TEST(an_engine_that_moves_is_found_again)
{
    in_port_t port = 0;
    int first = listen_at("127.0.0.2", &port), second;
    char url[64];
    struct transport_target target = {.url = url};
    struct transport *other;

    snprintf(url, sizeof url, "http://engine.test:%u", (unsigned)ntohs(port));
    other = transport_open(&loop, &target, 2, NULL);
    engine_is_at = "127.0.0.2";
    ck_assert_int_eq(refusals_of(other, first, false), 0);
    ck_assert_int_eq(refusals_of(other, first, true), 0);
    close(first);
    second = listen_at("127.0.0.3", &port);
    engine_is_at = "127.0.0.3";
    ck_assert_int_eq(refusals_of(other, second, true), 1);
    ck_assert_int_eq(refusals_of(other, second, false), 0);
    close(second);
    transport_close(other, NULL, NULL);
}
END_TEST

START_TEST(a_cancelled_call_is_not_answered)
{
    uint64_t a, b;

    manner = SAY_NOTHING;
    a = ask(200, 100);
    b = ask(200, 100);
    transport_cancel(transport, a); /* before the loop turned */
    turn(20);
    transport_cancel(transport, b); /* under way */
    transport_cancel(transport, b);
    transport_cancel(transport, 12345);
    turn(300);
    ck_assert_int_eq(answers, 0);
}
END_TEST

START_TEST(one_answer_may_cancel_another)
{
    answer_with(OK_HEAD "Content-Length: 0\r\n\r\n");
    ask(1000, 100);
    to_cancel = ask(1000, 100);
    until(1);
    turn(100);
    ck_assert_int_le(answers, 2); /* the other may have come first */
}
END_TEST

START_TEST(a_waiting_call_follows_a_cancelled_one)
{
    uint64_t a;

    manner = SAY_NOTHING;
    a = ask(5000, 100);
    ask(5000, 100);
    ask(5000, 100);
    turn(20);
    ck_assert_int_eq(peer.accepted, 2);
    transport_cancel(transport, a);
    turn(20);
    ck_assert_int_eq(peer.accepted, 3);
}
END_TEST

START_TEST(close_from_within_an_answer)
{
    answer_with(OK_HEAD "Content-Length: 0\r\n\r\n");
    close_on_answer = true;
    ask(1000, 100);
    ask(1000, 100);
    ask(1000, 100);
    until(1);
    turn(100);
    ck_assert_int_eq(answers, 1);
}
END_TEST

START_TEST(close_with_calls_under_way)
{
    manner = SAY_NOTHING;
    ask(10000, 100);
    ask(10000, 100);
    ask(10000, 100);
    follow();
    turn(30);
}
END_TEST

/* A connection to the engine is the machine: no child may inherit one. */
START_TEST(sockets_are_close_on_exec)
{
    struct sockaddr_un name;
    int found = 0;

    manner = SAY_NOTHING;
    ask(5000, 100);
    follow();
    turn(30);
    for (int fd = 3; fd < 256; fd++) {
        socklen_t n = sizeof name;
        memset(&name, 0, sizeof name);
        if (getpeername(fd, (struct sockaddr *)&name, &n) != 0 || name.sun_family != AF_UNIX ||
            strcmp(name.sun_path, peer.path) != 0)
            continue;
        ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        found++;
    }
    ck_assert_int_eq(found, 2);
}
END_TEST

/* 0 ms of libcurl's stay 0: a call costs far less than a timer's millisecond. The quickest tells:
 * others may have waited for their turn on this machine. */
START_TEST(no_millisecond_is_lost)
{
    int64_t least_us = INT64_MAX;

    answer_with(OK_HEAD "Content-Length: 0\r\n\r\n");
    for (int i = 1; i <= 50; i++) {
        int64_t began = kg_clock_mono_us();
        ask(1000, 100);
        while (answers < i)
            uv_run(&loop, UV_RUN_ONCE);
        least_us = kg_earliest(least_us, kg_clock_mono_us() - began);
    }
    ck_assert_int_lt(least_us, 900);
}
END_TEST

START_TEST(escaping_is_percent_encoding)
{
    struct kg_buf b;

    kg_buf_init(&b, 1000);
    transport_escape(&b, "aZ09-._~");
    ck_assert_str_eq(b.data, "aZ09-._~");
    kg_buf_clear(&b);
    transport_escape(&b, "a=b\",/ ?%\xff\n");
    ck_assert_str_eq(b.data, "a%3Db%22%2C%2F%20%3F%25%FF%0A");
    kg_buf_fini(&b);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *s = suite_create("transport");
    TCase *t = tcase_create("transport");

    suite_add_tcase(s, t);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, an_answer_comes_whole);
    tcase_add_test(t, connections_are_kept);
    tcase_add_test(t, no_more_connections_than_allowed);
    tcase_add_test(t, a_stream_is_not_counted);
    tcase_add_test(t, slow_calls_are_counted_by_themselves);
    tcase_add_test(t, one_byte_at_a_time);
    tcase_add_test(t, a_stream_one_byte_at_a_time);
    tcase_add_test(t, cut_anywhere_is_an_error);
    tcase_add_loop_test(t, garbage_is_an_error, 0, sizeof garbage / sizeof *garbage);
    tcase_add_test(t, a_body_is_capped);
    tcase_add_test(t, endless_headers_are_capped);
    tcase_add_test(t, silence_meets_the_deadline);
    tcase_add_test(t, a_redirect_is_an_answer);
    tcase_add_test(t, the_environments_proxies_are_not_used);
    tcase_add_test(t, nobody_there_is_refused);
    tcase_add_test(t, an_engine_that_moves_is_found_again);
    tcase_add_test(t, a_cancelled_call_is_not_answered);
    tcase_add_test(t, one_answer_may_cancel_another);
    tcase_add_test(t, a_waiting_call_follows_a_cancelled_one);
    tcase_add_test(t, close_from_within_an_answer);
    tcase_add_test(t, close_with_calls_under_way);
    tcase_add_test(t, sockets_are_close_on_exec);
    tcase_add_test(t, no_millisecond_is_lost);
    tcase_add_test(t, escaping_is_percent_encoding);
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
