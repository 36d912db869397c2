/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy's connections against a scripted gate, raw clients and a raw worker, all on one loop.
 * The difficulty: nothing may be slept for, so every wait turns the loop until what is awaited is
 * there; and after each test the gate's books must balance and the proxy must close without a
 * trace. */
#include "base/buf.h"
#include "proxy/proxy.h"
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WAIT_NS (10 * 1000000000ull)
#define MIB (1024 * 1024)
#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define OK2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

enum gate_mode { GRANT, HOLD, REFUSE_LATER };

static struct {
    uv_loop_t loop;
    uv_timer_t tick;
    struct proxy *proxy;
    struct proxy_stats stats;
    struct proxy_worker *worker;
    int worker_fd; /* listens */
    uint16_t port, local_port, worker_port;
    bool closed, drained;
} world;

static struct {
    enum gate_mode mode;
    struct kg_list waiters;
    unsigned acquired, granted, refused, cancelled, released, suspected, probed, waiting;
} gate;

static struct {
    uint64_t id;
    unsigned requests, gone;
    char path[64], query[64], body[64];
} local;

/* --- a peer: client or worker -------------------------------------------------------------------
 */

struct peer {
    int fd;
    struct kg_buf got;
    bool eof, reset;
};

static void turn(void)
{
    uv_run(&world.loop, UV_RUN_ONCE); /* the tick ends it after a millisecond */
}

static void look(struct peer *p)
{
    char bytes[65536];
    ssize_t n;

    while (!p->eof && (n = recv(p->fd, bytes, sizeof bytes, MSG_DONTWAIT)) != -1) {
        kg_buf_append(&p->got, bytes, (size_t)n);
        p->eof = n == 0;
    }
    if (!p->eof && errno != EAGAIN)
        p->eof = p->reset = true;
}

static void peer_init(struct peer *p, int fd)
{
    *p = (struct peer){.fd = fd};
    kg_buf_init(&p->got, 64 * MIB);
    ck_assert_int_ge(fd, 0);
}

static void bye(struct peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    kg_buf_fini(&p->got);
}

static void hang_up(struct peer *p)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    bye(p);
}

static void say_bytes(struct peer *p, const char *bytes, size_t n)
{
    uint64_t until = uv_hrtime() + WAIT_NS;

    while (n > 0 && uv_hrtime() < until) {
        ssize_t sent = send(p->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            bytes += sent;
            n -= (size_t)sent;
        }
        turn();
    }
    ck_assert_uint_eq(n, 0);
}

static void say(struct peer *p, const char *text)
{
    say_bytes(p, text, strlen(text));
}

static bool has(const struct peer *p, const char *text)
{
    return p->got.len > 0 && memmem(p->got.data, p->got.len, text, strlen(text)) != NULL;
}

/* Turns the loop until `text` has come. */
static void hear(struct peer *p, const char *text)
{
    uint64_t until = uv_hrtime() + WAIT_NS;

    while (!has(p, text) && !p->eof && uv_hrtime() < until) {
        turn();
        look(p);
    }
    ck_assert_msg(has(p, text), "'%s' did not come, but: %.*s%s", text, (int)p->got.len,
                  p->got.len > 0 ? p->got.data : "", p->eof ? " (end)" : "");
}

static void hear_end(struct peer *p)
{
    uint64_t until = uv_hrtime() + WAIT_NS;

    while (!p->eof && uv_hrtime() < until) {
        turn();
        look(p);
    }
    ck_assert_msg(p->eof, "no end came, but: %.*s", (int)p->got.len, p->got.data);
}

static void forget(struct peer *p)
{
    kg_buf_clear(&p->got);
}

static int loopback(uint16_t port, struct sockaddr_in *a)
{
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static struct peer dial(uint16_t port)
{
    struct sockaddr_in a;
    struct peer p;

    peer_init(&p, loopback(port, &a));
    ck_assert_int_eq(connect(p.fd, (struct sockaddr *)&a, sizeof a), 0);
    return p;
}

static struct peer client(void)
{
    return dial(world.port);
}

/* The next connection that the proxy makes to the worker. */
static struct peer worker(void)
{
    uint64_t until = uv_hrtime() + WAIT_NS;
    struct peer p;
    int fd;

    while ((fd = accept4(world.worker_fd, NULL, NULL, SOCK_CLOEXEC)) < 0 && uv_hrtime() < until)
        turn();
    peer_init(&p, fd);
    return p;
}

#define until(condition)                                                                           \
    do {                                                                                           \
        uint64_t until_ = uv_hrtime() + WAIT_NS;                                                   \
        while (!(condition) && uv_hrtime() < until_)                                               \
            turn();                                                                                \
        ck_assert(condition);                                                                      \
    } while (0)

/* --- the gate -----------------------------------------------------------------------------------
 */

static struct proxy_worker *gate_acquire(void *self, struct proxy_waiter *w)
{
    (void)self;
    gate.acquired++;
    if (gate.mode == GRANT) {
        gate.granted++;
        return world.worker;
    }
    kg_list_push_back(&gate.waiters, &w->link);
    gate.waiting++;
    return NULL;
}

static void gate_cancel(void *self, struct proxy_waiter *w)
{
    (void)self;
    kg_list_remove(&w->link);
    gate.waiting--;
    gate.cancelled++;
}

static void gate_release(void *self, struct proxy_worker *w, bool quiet)
{
    (void)self;
    (void)w;
    (void)quiet;
    gate.released++;
}

static void gate_suspect(void *self, struct proxy_worker *w)
{
    (void)self;
    (void)w;
    gate.suspected++;
}

static void gate_probed(void *self, struct proxy_worker *w)
{
    (void)self;
    (void)w;
    gate.probed++;
}

static void gate_answer(const struct proxy_answer *answer)
{
    struct proxy_waiter *w = KG_LIST_ENTRY(kg_list_first(&gate.waiters), struct proxy_waiter, link);

    kg_list_remove(&w->link);
    gate.waiting--;
    gate.granted += answer->worker != NULL;
    gate.refused += answer->worker == NULL;
    w->on_answer(w, answer);
}

static void gate_grant(void)
{
    gate_answer(&(struct proxy_answer){.worker = world.worker, .warmth = PROXY_COLD});
}

/* --- set-up and tear-down -----------------------------------------------------------------------
 */

static int listening(uint16_t *port)
{
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    int fd = loopback(0, &a);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(fd, 64), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void on_tick(uv_timer_t *t)
{
    (void)t;
}

static void on_local(void *arg, const struct proxy_local_request *r)
{
    (void)arg;
    local.id = r->id;
    local.requests++;
    kg_str_copy(local.path, sizeof local.path, r->path);
    kg_str_copy(local.query, sizeof local.query, r->query);
    kg_str_copy(local.body, sizeof local.body, r->body);
}

static void on_local_gone(void *arg, uint64_t id)
{
    (void)arg;
    ck_assert_uint_eq(id, local.id);
    local.gone++;
}

static void add_worker(void)
{
    static uint64_t id;
    struct sockaddr_in a;

    close(loopback(world.worker_port, &a));
    world.worker = proxy_worker_add(world.proxy, ++id, 1, (struct sockaddr *)&a, sizeof a);
    ck_assert_ptr_nonnull(world.worker);
}

static void configure(void)
{
    static const struct proxy_service plain = {.id = 1, .name = "plain", .max_body_bytes = -1};
    struct proxy_service other = {.id = 2,
                                  .name = "other",
                                  .max_body_bytes = 8,
                                  .strip_prefix = true,
                                  .request_timeout_ms = 150,
                                  .quiet_status = 599,
                                  .quiet_count = 1,
                                  .quiet = {{.path = "*/ping"}}};
    struct proxy *p = world.proxy;

    ck_assert_int_eq(proxy_config_begin(p), 0);
    ck_assert_int_eq(proxy_config_service(p, &plain), 0);
    ck_assert_int_eq(proxy_config_service(p, &other), 0);
    ck_assert_int_eq(proxy_config_route(p, KG_STR("a"), KG_STR("/"), 1), 0);
    ck_assert_int_eq(proxy_config_route(p, KG_STR("a"), KG_STR("/other"), 2), 0);
    ck_assert_int_eq(proxy_config_commit(p), 0);
    ck_assert_str_eq(proxy_service_name(p, 2), "other");
    ck_assert_str_eq(proxy_service_name(p, 3), "?");
}

static void set_up(void)
{
    struct proxy_listener listeners[2];
    struct proxy_params params = {
        .loop = &world.loop,
        .gate = {NULL, gate_acquire, gate_cancel, gate_release, gate_suspect, gate_probed},
        .listeners = listeners,
        .listener_count = 2,
        .max_connections = 8,
        .max_connections_per_client = 6,
        .access_log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC),
        .stats = &world.stats,
        .local_request = on_local,
        .local_gone = on_local_gone};
    struct kg_err err = {0};

    memset(&world, 0, sizeof world);
    memset(&gate, 0, sizeof gate);
    memset(&local, 0, sizeof local);
    kg_list_init(&gate.waiters);
    uv_loop_init(&world.loop);
    uv_timer_init(&world.loop, &world.tick);
    uv_timer_start(&world.tick, on_tick, 1, 1);
    listeners[0] = (struct proxy_listener){.fd = listening(&world.port)};
    listeners[1] = (struct proxy_listener){.fd = listening(&world.local_port), .local = true};
    world.worker_fd = listening(&world.worker_port);
    fcntl(world.worker_fd, F_SETFL, O_NONBLOCK);
    world.proxy = proxy_open(&params, &err);
    ck_assert_msg(world.proxy != NULL, "%s", err.words);
    configure();
    add_worker();
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static void tear_down(void)
{
    proxy_close(world.proxy, on_closed, &world.closed);
    until(world.closed);
    ck_assert_uint_eq(gate.acquired, gate.granted + gate.refused + gate.cancelled);
    ck_assert_uint_eq(gate.granted, gate.released);
    ck_assert_uint_eq(gate.waiting, 0);
    ck_assert_uint_eq(world.stats.exchanges, 0);
    ck_assert_uint_eq(world.stats.connections, 0);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(world.stats.services[i].exchanges, 0);
        ck_assert_uint_eq(world.stats.services[i].waiting, 0);
    }
    uv_close((uv_handle_t *)&world.tick, NULL);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&world.loop), 0);
    close(world.worker_fd);
}

/* One GET on a client, answered by a worker's connection that is there already. */
static void again(struct peer *c, struct peer *w)
{
    forget(c);
    forget(w);
    say(c, GET "\r\n");
    hear(w, "\r\n\r\n");
    say(w, OK2);
    hear(c, "\r\n\r\nok");
}

/* The first GET on a client: the worker's connection is made. */
static struct peer begin(struct peer *c)
{
    struct peer w;

    *c = client();
    say(c, GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2);
    hear(c, "\r\n\r\nok");
    return w;
}

/* --- connections and order ----------------------------------------------------------------------
 */

START_TEST(kept_connections_on_both_sides)
{
    struct peer c, w = begin(&c);

    ck_assert(has(&w, "GET / HTTP/1.1\r\nHost: a\r\n") && has(&w, "Via: 1.1 kipgate\r\n"));
    for (int i = 0; i < 20; i++)
        again(&c, &w);
    ck_assert_uint_eq(world.stats.upstream_connects, 1);
    ck_assert_uint_eq(world.stats.services[1].requests[200 - PROXY_STATUS_MIN], 21);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order)
{
    struct peer c = client(), w;
    char text[64];

    say(&c, "POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /1 HTTP/1.1\r\nHost: "
            "a\r\n\r\n"
            "GET /nowhere HTTP/1.1\r\nHost: b\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: "
            "close\r\n\r\n");
    w = worker();
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof text, " /%d HTTP/1.1\r\n", i);
        hear(&w, text);
        hear(&w, i == 0 ? "\r\n\r\nabc" : "\r\n\r\n");
        ck_assert(!has(&w, "/nowhere"));
        forget(&w);
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nr%d", i);
        say(&w, text);
    }
    hear_end(&c);
    ck_assert(strstr(c.got.data, "\r\n\r\nr1") < strstr(c.got.data, "urn:kipgate:no-route"));
    ck_assert(strstr(c.got.data, "urn:kipgate:no-route") < strstr(c.got.data, "\r\n\r\nr2"));
    ck_assert(has(&c, "Connection: close\r\n"));
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(http_1_0_ends_with_the_connection)
{
    struct peer c = client(), w;

    say(&c, "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    hear_end(&c);
    ck_assert(has(&c, "\r\n\r\nabc") && !has(&c, "chunked") && !c.reset);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(half_closed_client_gets_its_answer)
{
    struct peer c = client(), w;

    say(&c, GET "\r\n" GET "\r\n");
    shutdown(c.fd, SHUT_WR);
    w = worker();
    for (int i = 0; i < 2; i++) {
        hear(&w, "\r\n\r\n");
        forget(&w);
        say(&w, OK2);
    }
    hear_end(&c);
    ck_assert_ptr_nonnull(strstr(strstr(c.got.data, "\r\n\r\nok") + 4, "\r\n\r\nok"));
    bye(&c);
    bye(&w);
}
END_TEST

/* --- bodies -------------------------------------------------------------------------------------
 */

START_TEST(chunks_and_trailers_both_ways)
{
    struct peer c = client(), w;

    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"
            "2;x=y\r\nab\r\n3\r\ncde\r\n");
    w = worker();
    hear(&w, "\r\n\r\n5\r\nabcde\r\n");
    say(&c, "0\r\nX-Sum: 1\r\n\r\n");
    hear(&w, "0\r\nX-Sum: 1\r\n\r\n");
    say(&w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n1\r\nB\r\n");
    hear(&c, "2\r\nAB\r\n");
    say(&w, "0\r\nX-End: 2\r\n\r\n");
    hear(&c, "0\r\nX-End: 2\r\n\r\n");
    again(&c, &w);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(answers_without_a_body)
{
    struct peer c, w = begin(&c);

    say(&c, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    hear(&w, "HEAD / ");
    say(&w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    hear(&c, "Content-Length: 5\r\n");
    again(&c, &w);
    say(&c, GET "\r\n");
    say(&w, "HTTP/1.1 204 No Content\r\n\r\n");
    hear(&c, " 204 ");
    again(&c, &w);
    say(&c, GET "\r\n");
    say(&w, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n");
    hear(&c, " 304 ");
    again(&c, &w);
    ck_assert_uint_eq(world.stats.upstream_connects, 1);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(expect_is_answered_once)
{
    struct peer c = client(), w;

    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    hear(&c, "HTTP/1.1 100 Continue\r\n\r\n");
    forget(&c);
    w = worker();
    hear(&w, "\r\n\r\n");
    ck_assert(!has(&w, "Expect"));
    say(&c, "abc");
    hear(&w, "abc");
    say(&w, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK2);
    hear(&c, "\r\n\r\nok");
    ck_assert(!has(&c, " 100 ") && has(&c, "HTTP/1.1 103 ") && has(&c, "Link: </a>\r\n"));
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(early_answer_ends_the_connection)
{
    struct peer c = client(), w;

    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
    w = worker();
    hear(&w, "abc");
    say(&w, OK2);
    hear_end(&c);
    ck_assert(has(&c, "Connection: close\r\n") && has(&c, "\r\n\r\nok") && !c.reset);
    hear_end(&w);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(server_sent_events_arrive_one_by_one)
{
    struct peer c = client(), w;

    say(&c, GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    hear(&c, "text/event-stream");
    for (int i = 0; i < 3; i++) {
        forget(&c);
        say(&w, "data: 1\n\n");
        hear(&c, "9\r\ndata: 1\n\n\r\n");
    }
    bye(&w);
    hear(&c, "0\r\n\r\n");
    bye(&c);
}
END_TEST

START_TEST(websocket_is_a_tunnel_with_two_halves)
{
    struct peer c = client(), w;

    say(&c, GET "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly");
    w = worker();
    hear(&w, "\r\n\r\n");
    ck_assert(!has(&w, "early"));
    say(&w,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi");
    hear(&c, "\r\n\r\nhi");
    hear(&w, "early");
    say(&c, "GET /x HTTP/1.1\r\n\r\n");
    hear(&w, "GET /x HTTP/1.1\r\n\r\n");
    shutdown(c.fd, SHUT_WR);
    hear_end(&w);
    say(&w, "last words");
    hear(&c, "last words");
    ck_assert_uint_eq(gate.released, 0);
    bye(&w);
    hear_end(&c);
    until(gate.released == 1);
    bye(&c);
}
END_TEST

START_TEST(unasked_101_is_a_breach)
{
    struct peer c = client(), w;

    say(&c, GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    hear(&c, "urn:kipgate:upstream-failed");
    hear_end(&w);
    bye(&c);
    bye(&w);
}
END_TEST

/* --- workers that fail --------------------------------------------------------------------------
 */

START_TEST(worker_that_ends_before_its_head)
{
    struct peer c = client(), w;

    for (int i = 0; i < 2; i++) {
        forget(&c);
        say(&c, GET "\r\n");
        w = worker();
        hear(&w, "\r\n\r\n");
        if (i == 1)
            say(&w, "HTTP/1.1 200 OK\r\nX-A");
        bye(&w);
        hear(&c, "HTTP/1.1 502 ");
        hear(&c, "service 'plain'");
        hear(&c, "}\n");
        ck_assert_uint_eq(gate.suspected, (unsigned)i + 1);
    }
    bye(&c);
}
END_TEST

START_TEST(worker_that_breaks_off_within_a_body)
{
    static const char *const answers[] = {"Content-Length: 10\r\n\r\nhello",
                                          "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"};

    for (size_t i = 0; i < 2; i++) {
        struct peer c = client(), w;
        say(&c, GET "\r\n");
        w = worker();
        hear(&w, "\r\n\r\n");
        say(&w, "HTTP/1.1 200 OK\r\n");
        say(&w, answers[i]);
        hear(&c, "hello");
        bye(&w);
        hear_end(&c);
        ck_assert_str_eq(strstr(c.got.data, "hello") + 5, i == 0 ? "" : "\r\n");
        bye(&c);
    }
    ck_assert_uint_eq(world.stats.services[1].broken, 2);
}
END_TEST

START_TEST(bytes_behind_an_answer_poison_the_connection)
{
    struct peer c = client(), w;

    say(&c, GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2 OK2);
    hear(&c, "\r\n\r\nok");
    hear_end(&w);
    bye(&w);
    forget(&c);
    say(&c, GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&w);
}
END_TEST

/* The connection is kept, takes the request, and ends: as when a worker's idle time is up. */
START_TEST(stale_connection_is_tried_again_once)
{
    struct peer c, w = begin(&c), fresh;

    forget(&c);
    forget(&w);
    say(&c, GET "\r\n");
    hear(&w, "\r\n\r\n");
    bye(&w);
    fresh = worker();
    hear(&fresh, "\r\n\r\n");
    say(&fresh, OK2);
    hear(&c, "\r\n\r\nok");
    ck_assert_uint_eq(world.stats.upstream_retries, 1);
    ck_assert_uint_eq(gate.suspected, 0);
    bye(&c);
    bye(&fresh);
}
END_TEST

START_TEST(post_is_not_sent_twice)
{
    struct peer c, w = begin(&c);

    forget(&c);
    forget(&w);
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    hear(&w, "abc");
    bye(&w);
    hear(&c, "HTTP/1.1 502 ");
    ck_assert_uint_eq(world.stats.upstream_retries, 0);
    bye(&c);
}
END_TEST

START_TEST(put_is_repeated_with_its_body)
{
    struct peer c, w = begin(&c), fresh;

    forget(&c);
    forget(&w);
    say(&c, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    hear(&w, "3\r\nabc\r\n");
    bye(&w);
    fresh = worker();
    hear(&fresh, "3\r\nabc\r\n");
    say(&c, "1\r\nd\r\n0\r\n\r\n");
    hear(&fresh, "1\r\nd\r\n0\r\n\r\n");
    say(&fresh, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&fresh);
}
END_TEST

START_TEST(unreachable_worker_is_asked_for_again)
{
    struct peer c = client(), w;

    close(world.worker_fd);
    say(&c, GET "\r\n");
    until(gate.suspected == 1);
    ck_assert_uint_eq(gate.released, 1);
    gate.mode = HOLD;
    until(gate.waiting == 1);
    proxy_worker_remove(world.worker);
    world.worker_fd = listening(&world.worker_port);
    fcntl(world.worker_fd, F_SETFL, O_NONBLOCK);
    add_worker();
    gate_grant();
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(worker_that_stays_unreachable)
{
    struct peer c = client();

    close(world.worker_fd);
    say(&c, GET "\r\n");
    hear(&c, "urn:kipgate:upstream-failed");
    ck_assert_uint_eq(gate.acquired, 4);
    bye(&c);
    world.worker_fd = listening(&world.worker_port);
}
END_TEST

START_TEST(removed_worker_finishes_what_it_has)
{
    struct peer c = client(), w;

    say(&c, GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    proxy_worker_remove(world.worker);
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    hear_end(&w);
    ck_assert_uint_eq(gate.released, 0);
    gate.released++; /* by contract: the gate keeps no book of a worker that it removed */
    add_worker();
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(response_head_has_a_deadline)
{
    struct peer c = client(), w;

    say(&c, "GET /other/x HTTP/1.1\r\nHost: a\r\n\r\n");
    w = worker();
    hear(&w, "GET /x HTTP/1.1\r\n");
    hear(&c, "urn:kipgate:upstream-timeout");
    hear(&c, "service 'other'");
    hear_end(&w);
    bye(&c);
    bye(&w);
}
END_TEST

/* --- waiting ------------------------------------------------------------------------------------
 */

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
    gate_answer(&(struct proxy_answer){.reason = &row});
    hear(&c, "HTTP/1.1 599 ");
    hear(&c, "}\n");
    ck_assert_uint_eq(world.stats.services[1].refused[20], 1);
    gate.mode = GRANT;
    forget(&c);
    say(&c, GET "\r\n");
    w = worker();
    bye(&w);
    bye(&c);
}
END_TEST

/* --- refusals of our own ------------------------------------------------------------------------
 */

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

    for (int i = 0; i < 6; i++) {
        held[i] = client();
        until(proxy_connections(world.proxy) == (size_t)i + 1);
    }
    more = client();
    hear(&more, "HTTP/1.1 503 ");
    hear(&more, "urn:kipgate:overloaded");
    hear_end(&more);
    bye(&more);
    bye(&held[0]);
    until(proxy_connections(world.proxy) == 5);
    held[0] = client();
    until(proxy_connections(world.proxy) == 6);
    for (int i = 0; i < 6; i++)
        bye(&held[i]);
}
END_TEST

/* --- flat memory --------------------------------------------------------------------------------
 */

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

/* --- probes -------------------------------------------------------------------------------------
 */

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
    struct proxy_health health = {.settle_ms = 20};
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

/* --- local requests -----------------------------------------------------------------------------
 */

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
    ck_assert_int_eq(
        proxy_local_reply(world.proxy, first, 201, "application/json", "{}\n", 3, true), 0);
    ck_assert_int_eq(proxy_local_reply(world.proxy, first, 200, "", "", 0, true), KG_ENOTFOUND);
    until(local.requests == 2);
    hear(&c, "{}\n");
    ck_assert(has(&c, "HTTP/1.1 201 ") && has(&c, "Content-Length: 3\r\n"));
    proxy_local_reply(world.proxy, local.id, 200, "text/event-stream", "data: 1\n\n", 9, false);
    hear(&c, "Transfer-Encoding: chunked\r\n");
    hear(&c, "9\r\ndata: 1\n\n\r\n");
    bye(&c);
    until(local.gone == 1);
    ck_assert_int_eq(proxy_local_reply(world.proxy, local.id, 200, "", "x", 1, false),
                     KG_ENOTFOUND);
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

START_TEST(local_client_that_does_not_read_is_cut_off)
{
    static const char block[64 * 1024];
    struct peer c = dial(world.local_port);
    int rc = 0;

    say(&c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    until(local.requests == 1);
    for (int i = 0; i < 1000 && rc == 0; i++)
        rc = proxy_local_reply(world.proxy, local.id, 200, "x/y", block, sizeof block, false);
    ck_assert_int_eq(rc, KG_ELIMIT);
    ck_assert_uint_eq(local.gone, 0);
    hear_end(&c);
    bye(&c);
}
END_TEST

/* --- drain and close ----------------------------------------------------------------------------
 */

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

static TCase *cases(void)
{
    TCase *t = tcase_create("proxy");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, kept_connections_on_both_sides);
    tcase_add_test(t, pipelined_requests_are_answered_in_order);
    tcase_add_test(t, http_1_0_ends_with_the_connection);
    tcase_add_test(t, half_closed_client_gets_its_answer);
    tcase_add_test(t, chunks_and_trailers_both_ways);
    tcase_add_test(t, answers_without_a_body);
    tcase_add_test(t, expect_is_answered_once);
    tcase_add_test(t, early_answer_ends_the_connection);
    tcase_add_test(t, server_sent_events_arrive_one_by_one);
    tcase_add_test(t, websocket_is_a_tunnel_with_two_halves);
    tcase_add_test(t, unasked_101_is_a_breach);
    tcase_add_test(t, worker_that_ends_before_its_head);
    tcase_add_test(t, worker_that_breaks_off_within_a_body);
    tcase_add_test(t, bytes_behind_an_answer_poison_the_connection);
    tcase_add_test(t, stale_connection_is_tried_again_once);
    tcase_add_test(t, post_is_not_sent_twice);
    tcase_add_test(t, put_is_repeated_with_its_body);
    tcase_add_test(t, unreachable_worker_is_asked_for_again);
    tcase_add_test(t, worker_that_stays_unreachable);
    tcase_add_test(t, removed_worker_finishes_what_it_has);
    tcase_add_test(t, response_head_has_a_deadline);
    tcase_add_test(t, request_waits_and_is_granted);
    tcase_add_test(t, large_body_waits_outside);
    tcase_add_test(t, client_that_hangs_up_is_cancelled);
    tcase_add_test(t, refusal_of_the_gate);
    tcase_add_test(t, bad_requests_close_and_cost_nothing);
    tcase_add_test(t, body_limits);
    tcase_add_test(t, caps_on_connections);
    tcase_add_test(t, a_quarter_gibibyte_each_way);
    tcase_add_test(t, probe_finds_a_late_worker_and_keeps_the_connection);
    tcase_add_test(t, probe_by_connecting_may_have_to_settle);
    tcase_add_test(t, local_requests);
    tcase_add_test(t, local_requests_from_elsewhere_are_refused);
    tcase_add_test(t, local_client_that_does_not_read_is_cut_off);
    tcase_add_test(t, drain_lets_exchanges_finish);
    tcase_add_test(t, close_breaks_what_is_open);
    return t;
}

int main(void)
{
    Suite *s = suite_create("proxy");
    SRunner *r = srunner_create(s);
    int failed;

    signal(SIGPIPE, SIG_IGN);
    suite_add_tcase(s, cases());
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
