/* SPDX-License-Identifier: Apache-2.0 */
/* What is around the exchanges: waiting, refusals, caps, memory, probes, local requests, the end.
 * The difficulty is in world.h. */
#include "proxy/proxy_priv.h"
#include "world.h"
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/un.h>

/* So much later than it is: the loop's library asks for the time here, too. */
static int64_t later_ms;

int later_clock(clockid_t clock, struct timespec *now) __asm__("clock_gettime")
    __attribute__((visibility("default"), used));

int later_clock(clockid_t clock, struct timespec *now)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, now);

    now->tv_sec += later_ms / 1000;
    return rc;
}

/* --- waiting ------------------------------------------------------------------------------- */

START_TEST(request_waits_and_is_granted)
{
    struct peer c = client(), w;

    gate.mode = HOLD;
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    until(gate.waiting == 1);
    ck_assert_uint_eq(world.stats.services[1].waiting, 1);
    say(&c, "def");
    gate_grant();
    w = worker();
    hear(&w, "\r\n\r\nabcdef");
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    ck_assert(has(&c, "Server-Timing: kipgate;desc=\"cold\";dur="));
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(large_body_waits_outside)
{
    static char body[MIB];
    struct peer c = client(), w;
    ssize_t sent;

    gate.mode = HOLD;
    memset(body, 'x', sizeof body);
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n");
    sent = send(c.fd, body, sizeof body, MSG_DONTWAIT);
    until(gate.waiting == 1);
    for (int i = 0; i < 20; i++)
        turn();
    gate_grant();
    w = worker();
    while (w.got.len < sizeof body) {
        ssize_t n = send(c.fd, body, sizeof body - (size_t)sent, MSG_DONTWAIT);
        sent += n > 0 ? n : 0;
        turn();
        look(&w);
        ck_assert(!w.eof);
    }
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(client_that_hangs_up_is_cancelled)
{
    static char body[256 * 1024];
    struct peer c = client();

    gate.mode = HOLD;
    say(&c, GET "\r\n");
    until(gate.waiting == 1);
    hang_up(&c);
    until(gate.cancelled == 1);
    c = client(); /* one that is not being read any more, for its body is too large to keep */
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    if (send(c.fd, body, sizeof body, MSG_DONTWAIT) <= 0)
        ck_abort();
    until(gate.waiting == 1);
    hang_up(&c);
    until(gate.cancelled == 2);
    c = client(); /* one that only closes: a half-close, until a byte of ours finds nobody there */
    say(&c, GET "\r\n");
    until(gate.waiting == 1);
    bye(&c);
    until(gate.cancelled == 3);
}
END_TEST

START_TEST(waiting_requests_have_a_cap)
{
    struct peer last = client(), more = client();

    gate.mode = HOLD;
    world.proxy->waiting = KG_MAX_WAITING_PER_FRONT - 1; /* as many wait already */
    say(&last, GET "\r\n");
    until(gate.waiting == 1);
    for (int i = 0; i < 20; i++)
        turn();
    ck_assert_uint_eq(gate.waiting, 1);
    say(&more, GET "\r\n");
    hear(&more, "}\n");
    ck_assert(has(&more, "HTTP/1.1 503 ") && has(&more, "urn:kipgate:overloaded"));
    ck_assert_uint_eq(gate.cancelled, 1);
    world.proxy->waiting -= KG_MAX_WAITING_PER_FRONT - 1;
    bye(&last);
    bye(&more);
}
END_TEST

START_TEST(refusal_of_the_gate)
{
    static const struct proxy_reason_row row = {"queue-full", 503, false, "Full", 20};
    struct peer c = client(), w;

    gate.mode = HOLD;
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    until(gate.waiting == 1);
    gate_answer(&(struct proxy_answer){.reason = &row, .retry_after_ms = 1500, .detail = "why"});
    hear(&c, "}\n");
    ck_assert(has(&c, "HTTP/1.1 503 ") && has(&c, "urn:kipgate:queue-full"));
    ck_assert(has(&c, "Retry-After: 2\r\n") && has(&c, "\"why\""));
    forget(&c);
    say(&c, "defGET /other/ping HTTP/1.1\r\nHost: a\r\n\r\n");
    until(gate.waiting == 1);
    ck_assert(KG_LIST_ENTRY(gate.waiters.next, struct proxy_waiter, link)->quiet);
    gate_answer(&(struct proxy_answer){.reason = &row, .asleep = true});
    hear(&c, "HTTP/1.1 599 ");
    hear(&c, "}\n");
    ck_assert_uint_eq(world.stats.services[1].refused[20], 1);
    forget(&c);
    say(&c, "GET /other/ping HTTP/1.1\r\nHost: a\r\n\r\n");
    until(gate.waiting == 1);
    gate_answer(&(struct proxy_answer){.reason = &row}); /* a monitor is to see that */
    hear(&c, "HTTP/1.1 503 ");
    hear(&c, "}\n");
    gate.mode = GRANT;
    forget(&c);
    say(&c, GET "\r\n");
    w = worker();
    bye(&w);
    bye(&c);
}
END_TEST

/* --- refusals of our own ------------------------------------------------------------------- */

START_TEST(bad_requests_close_and_cost_nothing)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\n\r\n" GET "\r\n",
        GET "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" GET "\r\n",
        GET "X A: b\r\n\r\n" GET "\r\n",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct peer c = client();
        say(&c, bad[i]);
        hear_end(&c);
        ck_assert(has(&c, "urn:kipgate:bad-request") && has(&c, "Connection: close") && !c.reset);
        ck_assert_ptr_null(strstr(strstr(c.got.data, "HTTP/1.1 ") + 1, "HTTP/1.1 "));
        bye(&c);
    }
    ck_assert_uint_eq(gate.acquired, 0);
    ck_assert_uint_eq(world.stats.refused[PROXY_BAD_REQUEST], 3);
}
END_TEST

static bool is_heard(struct peer *p)
{
    return send(p->fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 || errno == EAGAIN;
}

/* Asked a thousand times a second at most, or the limit in bytes comes first. */
static bool is_heard_later(struct peer *p)
{
    uint64_t now_ms = uv_now(&world.loop);

    while (uv_now(&world.loop) == now_ms)
        turn();
    return is_heard(p);
}

/* What a refused client still says is read for so long, or so much of it. */
START_TEST(reading_on_has_limits)
{
    static char bytes[KG_LINGER_CLOSE_BYTES];
    struct peer a = client(), b;
    uint64_t began_ms;

    say(&a, "GET / HTTP/1.1\r\n\r\n");
    began_ms = uv_now(&world.loop);
    hear_end(&a);
    until(!is_heard_later(&a));
    ck_assert_uint_ge(uv_now(&world.loop) - began_ms, KG_LINGER_CLOSE_MS - 5);
    b = client();
    say(&b, "GET / HTTP/1.1\r\n\r\n");
    hear_end(&b);
    began_ms = uv_now(&world.loop);
    say_bytes(&b, bytes, sizeof bytes);
    turn();
    ck_assert(is_heard(&b)); /* a reset would come behind this one */
    turn();
    if (uv_now(&world.loop) < began_ms + KG_LINGER_CLOSE_MS / 2) /* unless this machine stood */
        ck_assert(is_heard(&b));
    until(!is_heard(&b));
    ck_assert_uint_lt(uv_now(&world.loop) - began_ms, KG_LINGER_CLOSE_MS);
    bye(&a);
    bye(&b);
}
END_TEST

START_TEST(chunked_request_shows_its_first_chunk_before_it_costs_anything)
{
    struct peer c = client(), w;
    uint64_t asked_ms;

    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    say(&c, "+1\r\n");
    hear_end(&c);
    ck_assert(has(&c, "HTTP/1.1 400 "));
    ck_assert_uint_eq(gate.acquired, 0);
    bye(&c);
    c = client(); /* a head alone is let through after a moment, and that moment is no deadline */
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&c, "1\r\na\r\n0\r\n\r\n");
    hear(&w, "0\r\n\r\n");
    asked_ms = uv_now(&world.loop);
    until(uv_now(&world.loop) > asked_ms + 400);
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(body_limits)
{
    struct peer c = client(), w;

    say(&c, "POST /other HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    hear_end(&c);
    ck_assert(has(&c, "HTTP/1.1 413 ") && has(&c, "service 'other'"));
    ck_assert_uint_eq(gate.acquired, 0);
    bye(&c);
    c = client();
    say(&c,
        "POST /other HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n");
    w = worker();
    hear(&w, "12345678");
    say(&c, "1\r\n9\r\n");
    hear_end(&c);
    hear_end(&w);
    ck_assert(has(&c, "HTTP/1.1 413 ") && !has(&w, "0\r\n\r\n"));
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(caps_on_connections)
{
    struct peer held[6], more;
    char instance[64];
    const char *id;

    for (int i = 0; i < 6; i++) {
        held[i] = client();
        until(proxy_connections(world.proxy) == (size_t)i + 1);
    }
    more = client();
    hear(&more, "HTTP/1.1 503 ");
    hear(&more, "urn:kipgate:overloaded");
    hear_end(&more);
    id = strstr(more.got.data, "X-Request-Id: ");
    ck_assert_ptr_nonnull(id);
    snprintf(instance, sizeof instance, "\"instance\":\"%.32s\"}\n", id + 14);
    ck_assert_msg(has(&more, instance), "%s", more.got.data);
    ck_assert_uint_eq(world.stats.refused[PROXY_OVERLOADED], 1);
    bye(&more);
    bye(&held[0]);
    until(proxy_connections(world.proxy) == 5);
    held[0] = client();
    until(proxy_connections(world.proxy) == 6);
    for (int i = 0; i < 6; i++)
        bye(&held[i]);
}
END_TEST

START_TEST(local_connections_have_a_cap)
{
    static struct peer held[256];
    struct peer more;

    for (size_t i = 0; i < sizeof held / sizeof *held; i++) {
        held[i] = dial(world.local_port);
        turn();
    }
    say(&held[255], "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    until(local.requests == 1);
    more = dial(world.local_port);
    hear_end(&more);
    ck_assert(has(&more, "HTTP/1.1 503 "));
    bye(&more);
    bye(&held[0]);
    for (int i = 0; i < 20; i++)
        turn();
    held[0] = dial(world.local_port);
    say(&held[0], "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    until(local.requests == 2);
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
        bye(&held[i]);
}
END_TEST

/* --- flat memory --------------------------------------------------------------------------- */

static size_t resident_bytes(void)
{
    unsigned long total, resident;
    FILE *f = fopen("/proc/self/statm", "re");

    ck_assert_int_eq(fscanf(f, "%lu %lu", &total, &resident), 2);
    fclose(f);
    return resident * 4096;
}

/* As much as goes into the pipe while nobody reads at its end; then 256 MiB through it. */
static void pour(struct peer *from, struct peer *to, size_t total)
{
    static char block[MIB];
    size_t sent = 0, got = 0, before = resident_bytes(), stuck = 0;

    while (got < total) {
        size_t left = total - sent < sizeof block ? total - sent : sizeof block;
        ssize_t n = left > 0 ? send(from->fd, block, left, MSG_DONTWAIT) : -1;
        sent += n > 0 ? (size_t)n : 0;
        stuck = n > 0 ? 0 : stuck + 1;
        uv_run(&world.loop, UV_RUN_NOWAIT);
        if (stuck < 50 && got == 0)
            continue; /* nobody reads yet */
        while ((n = recv(to->fd, block, sizeof block, MSG_DONTWAIT)) > 0 && got < total)
            got += (size_t)n;
        ck_assert(n != 0);
    }
    ck_assert_uint_lt(resident_bytes(), before + 8 * MIB);
}

START_TEST(a_quarter_gibibyte_each_way)
{
    struct peer c = client(), w;
    char byte;

    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 268435456\r\n\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    pour(&c, &w, 256 * MIB);
    say(&w, "HTTP/1.1 200 OK\r\nContent-Length: 268435456\r\n\r\n");
    hear(&c, "\r\n\r\n");
    pour(&w, &c, 256 * MIB);
    ck_assert_int_eq(recv(c.fd, &byte, 1, MSG_DONTWAIT), -1);
    again(&c, &w);
    bye(&c);
    bye(&w);
}
END_TEST

/* --- probes -------------------------------------------------------------------------------- */

START_TEST(probe_finds_a_late_worker_and_keeps_the_connection)
{
    struct proxy_health health = {.path = "/health", .status_min = 200, .status_max = 299};
    struct peer c, w;

    proxy_worker_probe(world.worker, &health);
    w = worker();
    hear(&w, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    say(&w, "HTTP/1.1 503 Not Yet\r\nContent-Length: 0\r\n\r\n");
    hear_end(&w);
    bye(&w);
    w = worker();
    hear(&w, "\r\n\r\n");
    ck_assert_uint_eq(gate.probed, 0);
    say(&w, OK2);
    until(gate.probed == 1);
    c = client();
    again(&c, &w);
    ck_assert_uint_eq(world.stats.upstream_connects, 2);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(probe_by_connecting_may_have_to_settle)
{
    struct proxy_health health = {.settle_ms = 200};
    struct peer w;

    proxy_worker_probe(world.worker, &health);
    w = worker();
    bye(&w); /* a forwarder that found nobody behind it */
    w = worker();
    ck_assert_uint_eq(gate.probed, 0);
    until(gate.probed == 1);
    bye(&w);
    proxy_worker_probe(world.worker, &health);
    proxy_worker_probe_stop(world.worker);
}
END_TEST

/* It is tried when it appears, not when a pause is over: that would be after 250 ms. */
START_TEST(probe_of_a_socket_waits_for_it_to_appear)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct proxy_health health = {0};
    struct proxy_worker *w;
    char dir[] = "/tmp/kipgate-probe-XXXXXX";
    uint64_t now;
    int fd;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(a.sun_path, sizeof a.sun_path, "%s/s", dir);
    w = proxy_worker_add(world.proxy, 1, (struct sockaddr *)&a, sizeof a);
    ck_assert_ptr_nonnull(w);
    proxy_worker_probe(w, &health);
    now = uv_hrtime();
    until(uv_hrtime() > now + 20 * 1000000);
    ck_assert_uint_eq(gate.probed, 0);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    now = uv_hrtime();
    until(gate.probed == 1);
    ck_assert_uint_lt(uv_hrtime() - now, 150 * 1000000);
    proxy_worker_remove(w);
    close(fd);
    unlink(a.sun_path);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

/* --- local requests ------------------------------------------------------------------------ */

START_TEST(local_requests)
{
    struct peer c = dial(world.local_port);
    uint64_t first;

    say(&c, "PUT /v1/x?y=z HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbo");
    say(&c, "dyGET /next HTTP/1.1\r\nHost: 127.0.0.1:9090\r\n\r\n");
    until(local.requests == 1);
    ck_assert_str_eq(local.path, "/v1/x");
    ck_assert_str_eq(local.query, "y=z");
    ck_assert_str_eq(local.body, "body");
    first = local.id;
    ck_assert_int_eq(local_answer(first, 201, "application/json", "{}\n", 3, true), 0);
    ck_assert_int_eq(local_answer(first, 200, "", "", 0, true), KG_ENOTFOUND);
    until(local.requests == 2);
    hear(&c, "{}\n");
    ck_assert(has(&c, "HTTP/1.1 201 ") && has(&c, "Content-Length: 3\r\n"));
    local_answer(local.id, 200, "text/event-stream", "data: 1\n\n", 9, false);
    hear(&c, "Transfer-Encoding: chunked\r\n");
    hear(&c, "9\r\ndata: 1\n\n\r\n");
    bye(&c);
    until(local.gone == 1);
    ck_assert_int_eq(local_answer(local.id, 200, "", "x", 1, false), KG_ENOTFOUND);
}
END_TEST

static void put(struct peer *c, const char *framing, size_t n)
{
    static char body[KG_LOCAL_BODY_BYTES + 1];
    char head[200];

    memset(body, 'x', sizeof body);
    snprintf(head, sizeof head, "PUT /x HTTP/1.1\r\nHost: localhost\r\n%s\r\n", framing);
    say(c, head);
    if (n > 0)
        say_bytes(c, body, n);
}

START_TEST(local_refusals_say_when_to_come_again)
{
    struct peer c = dial(world.local_port);

    for (int i = 0; i < 2; i++) {
        local.requests = 0;
        forget(&c);
        say(&c, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        until(local.requests == 1);
        local_answer(local.id, i == 0 ? 503 : 502, "x/y", "no", 2, true);
        hear(&c, "\r\n\r\nno");
        ck_assert(has(&c, "Retry-After: 1\r\n") == (i == 0));
    }
    bye(&c);
}
END_TEST

START_TEST(local_refusals_say_what_is_known)
{
    struct proxy_local_answer answer = {
        .status = 503, .retry_after_ms = 2001, .body = KG_STR("no"), .last = true};
    struct peer c = dial(world.local_port);

    say(&c, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    until(local.requests == 1);
    proxy_local_reply(world.proxy, local.id, &answer);
    hear(&c, "\r\n\r\nno");
    ck_assert(has(&c, "Retry-After: 3\r\n") && !has(&c, "Allow:"));
    answer = (struct proxy_local_answer){
        .status = 405, .allow = "GET, HEAD", .retry_after_ms = 2001, .last = true};
    forget(&c);
    say(&c, "POST /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    until(local.requests == 2);
    proxy_local_reply(world.proxy, local.id, &answer);
    hear(&c, "Content-Length: 0\r\n\r\n");
    ck_assert(has(&c, "Allow: GET, HEAD\r\n") && !has(&c, "Retry-After"));
    bye(&c);
}
END_TEST

START_TEST(local_bodies_have_a_limit)
{
    struct peer c = dial(world.local_port);

    put(&c, "Content-Length: 262144\r\n", KG_LOCAL_BODY_BYTES);
    until(local.requests == 1);
    local_answer(local.id, 200, "x/y", "ok", 2, true);
    hear(&c, "\r\n\r\nok");
    put(&c, "Content-Length: 262145\r\n", 0);
    hear_end(&c);
    ck_assert(has(&c, "HTTP/1.1 413 "));
    bye(&c);
    c = dial(world.local_port);
    put(&c, "Transfer-Encoding: chunked\r\n\r\n40001", KG_LOCAL_BODY_BYTES + 1);
    hear_end(&c);
    ck_assert(has(&c, "HTTP/1.1 413 "));
    bye(&c);
    ck_assert_uint_eq(local.requests, 1);
}
END_TEST

START_TEST(local_requests_from_elsewhere_are_refused)
{
    static const char *const foreign[] = {
        "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.test\r\n\r\n",
    };

    for (size_t i = 0; i < 2; i++) {
        struct peer c = dial(world.local_port);
        say(&c, foreign[i]);
        hear_end(&c);
        ck_assert(has(&c, "HTTP/1.1 400 "));
        bye(&c);
    }
    ck_assert_uint_eq(local.requests, 0);
}
END_TEST

#define BLOCK_BYTES ((size_t)64 * 1024)
/* How many blocks a client is given that reads none of them. */
static size_t give_blocks(const char *type, size_t most)
{
    static const char block[BLOCK_BYTES];
    size_t n = 0;
    int rc = 0;

    for (; n < most && rc == 0; n++)
        rc = local_answer(local.id, 200, type, block, sizeof block, false);
    ck_assert_int_eq(rc, n < most ? KG_ELIMIT : 0);
    return n;
}

START_TEST(local_client_that_does_not_read_is_cut_off)
{
    struct peer c[2];

    for (int i = 0; i < 2; i++) {
        local.requests = 0;
        c[i] = dial(world.local_port);
        say(&c[i], "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        until(local.requests == 1);
        ck_assert_uint_lt(give_blocks(i == 0 ? "text/event-stream" : "x/y", 2000), 2000);
        ck_assert_uint_eq(local.gone, 0);
    }
    for (int i = 0; i < 2; i++) {
        hear_end(&c[i]);
        bye(&c[i]);
    }
}
END_TEST

/* Its request is whole, and what is said of thousands of services is not less for a slow reader:
 * whether the connection would go on behind the answer or not, and whenever its half ends. */
START_TEST(local_client_that_reads_late_gets_all)
{
    static const char *const words[] = {"Connection: close\r\n", "", ""};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        struct peer c = dial(world.local_port);
        bool early = i < 2;
        local.requests = 0;
        say(&c, "GET / HTTP/1.1\r\nHost: localhost\r\n");
        say(&c, words[i]);
        say(&c, "\r\n");
        until(local.requests == 1);
        ck_assert_uint_eq(give_blocks("x/y", 1), 1);
        if (early)
            shutdown(c.fd, SHUT_WR);
        for (int n = 0; n < 10; n++)
            turn();
        ck_assert_uint_eq(give_blocks("x/y", 900), 900);
        local_answer(local.id, 200, "x/y", "", 0, true);
        if (!early)
            shutdown(c.fd, SHUT_WR);
        hear_end(&c);
        ck_assert_uint_ge(c.got.len, 901 * BLOCK_BYTES);
        ck_assert_mem_eq(c.got.data + c.got.len - 5, "0\r\n\r\n", 5);
        bye(&c);
    }
}
END_TEST

/* Its answer is whole, and it takes it: how long ago it connected is of no matter. */
START_TEST(local_client_that_reads_slowly_gets_all)
{
    struct peer c = dial(world.local_port);

    say(&c, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    until(local.requests == 1);
    ck_assert_uint_eq(give_blocks("x/y", 900), 900);
    local_answer(local.id, 200, "x/y", "", 0, true);
    later_ms = KG_FIRST_BYTE_TIMEOUT_MS + 1000;
    for (int i = 0; i < 100; i++)
        turn();
    hear_end(&c);
    ck_assert_uint_ge(c.got.len, 900 * BLOCK_BYTES);
    ck_assert_mem_eq(c.got.data + c.got.len - 5, "0\r\n\r\n", 5);
    bye(&c);
}
END_TEST

/* --- drain and close ----------------------------------------------------------------------- */

START_TEST(drain_lets_exchanges_finish)
{
    struct peer c = client(), idle, w, late;

    w = begin(&idle);
    say(&c, GET "\r\n");
    forget(&w);
    hear(&w, "\r\n\r\n");
    proxy_drain(world.proxy, on_closed, &world.drained);
    hear_end(&idle);
    ck_assert(!world.drained);
    say(&w, OK2);
    hear_end(&c);
    ck_assert(has(&c, "Connection: close\r\n") && has(&c, "\r\n\r\nok"));
    bye(&c);
    until(world.drained);
    late = dial(world.local_port);
    say(&late, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    until(local.requests == 1);
    bye(&late);
    bye(&idle);
    bye(&w);
}
END_TEST

#define CROWD 80 /* more than are accepted in a turn */

/* Whoever had connected is served, also if its request comes only then; but is not waited for. */
START_TEST(drain_serves_who_has_connected)
{
    static const char ask[] = "GET / HTTP/1.1\r\nHost: none\r\n\r\n";
    struct peer c[CROWD], silent = client();
    uint64_t began_ms;

    world.proxy->params.max_connections = CROWD + 1;
    world.proxy->params.max_connections_per_client = 0;
    for (int i = 0; i < CROWD; i++) {
        c[i] = client();
        if (i % 2 == 0)
            ck_assert_int_eq(send(c[i].fd, ask, sizeof ask - 1, 0), sizeof ask - 1);
    }
    proxy_drain(world.proxy, on_closed, &world.drained);
    began_ms = uv_now(&world.loop);
    for (int i = 0; i < CROWD; i++) {
        if (i % 2 != 0)
            say(&c[i], ask);
        hear_end(&c[i]);
        ck_assert_msg(has(&c[i], "HTTP/1.1 404 "), "client %d", i);
        bye(&c[i]);
    }
    hear_end(&silent);
    bye(&silent);
    until(world.drained);
    ck_assert_uint_ge(uv_now(&world.loop) - began_ms, KG_DRAIN_FIRST_BYTE_MS / 2);
    ck_assert_uint_lt(uv_now(&world.loop) - began_ms, KG_FIRST_BYTE_TIMEOUT_MS);
}
END_TEST

/* tear_down asks for the balance and for no handle left. */
START_TEST(close_breaks_what_is_open)
{
    struct peer c[4], w, admin = dial(world.local_port);

    c[0] = client(); /* responding */
    say(&c[0], GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab");
    hear(&c[0], "ab");
    c[1] = client(); /* asked */
    say(&c[1], GET "\r\n");
    until(gate.granted == 2);
    gate.mode = HOLD;
    c[2] = client(); /* waiting */
    say(&c[2], GET "\r\n");
    until(gate.waiting == 1);
    c[3] = client(); /* half a head */
    say(&c[3], "GET / HT");
    say(&admin, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    until(local.requests == 1);
    proxy_worker_probe(world.worker, &(struct proxy_health){.path = "/never"});
    turn();
    for (int i = 0; i < 4; i++)
        bye(&c[i]);
    bye(&admin);
    bye(&w);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {request_waits_and_is_granted,
                                  large_body_waits_outside,
                                  client_that_hangs_up_is_cancelled,
                                  waiting_requests_have_a_cap,
                                  refusal_of_the_gate,
                                  bad_requests_close_and_cost_nothing,
                                  reading_on_has_limits,
                                  chunked_request_shows_its_first_chunk_before_it_costs_anything,
                                  body_limits,
                                  caps_on_connections,
                                  a_quarter_gibibyte_each_way,
                                  probe_finds_a_late_worker_and_keeps_the_connection,
                                  probe_by_connecting_may_have_to_settle,
                                  probe_of_a_socket_waits_for_it_to_appear,
                                  local_connections_have_a_cap,
                                  local_requests,
                                  local_bodies_have_a_limit,
                                  local_refusals_say_when_to_come_again,
                                  local_refusals_say_what_is_known,
                                  local_requests_from_elsewhere_are_refused,
                                  local_client_that_does_not_read_is_cut_off,
                                  local_client_that_reads_late_gets_all,
                                  local_client_that_reads_slowly_gets_all,
                                  drain_lets_exchanges_finish,
                                  drain_serves_who_has_connected,
                                  close_breaks_what_is_open};

    return world_run("proxy edges", tests, sizeof tests / sizeof *tests);
}
