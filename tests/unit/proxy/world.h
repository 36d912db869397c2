/* SPDX-License-Identifier: Apache-2.0 */
/* A proxy with a scripted gate, raw clients and a raw worker, all on one loop. The difficulty:
 * nothing may be slept for, so every wait turns the loop until what is awaited is there; and after
 * each test the gate's books must balance and the proxy must close without a trace. */
#ifndef TESTS_UNIT_PROXY_WORLD_H
#define TESTS_UNIT_PROXY_WORLD_H

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

#ifndef WORLD_ACCESS_LOG
#define WORLD_ACCESS_LOG open("/dev/null", O_WRONLY | O_CLOEXEC)
#endif

enum gate_mode { GRANT, HOLD, REFUSE_LATER };

static struct {
    uv_loop_t loop;
    uv_timer_t tick;
    struct proxy *proxy;
    struct proxy_stats stats;
    struct proxy_worker *worker;
    int worker_fd;                                 /* listens */
    uint16_t port, local_port, worker_port, port6; /* of both families; 0: there is no IPv6 */
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

/* --- a peer: client or worker -------------------------------------------------------------- */

struct peer {
    int fd;
    struct kg_buf got;
    bool eof, reset;
};

static inline void turn(void)
{
    uv_run(&world.loop, UV_RUN_ONCE); /* the tick ends it after a millisecond */
}

static inline void look(struct peer *p)
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

static inline void peer_init(struct peer *p, int fd)
{
    *p = (struct peer){.fd = fd};
    kg_buf_init(&p->got, 64 * MIB);
    ck_assert_int_ge(fd, 0);
}

static inline void bye(struct peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    kg_buf_fini(&p->got);
}

static inline void hang_up(struct peer *p)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    bye(p);
}

static inline void say_bytes(struct peer *p, const char *bytes, size_t n)
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

static inline void say(struct peer *p, const char *text)
{
    say_bytes(p, text, strlen(text));
}

static inline bool has(const struct peer *p, const char *text)
{
    return p->got.len > 0 && memmem(p->got.data, p->got.len, text, strlen(text)) != NULL;
}

/* Turns the loop until `text` has come. */
static inline void hear(struct peer *p, const char *text)
{
    uint64_t until = uv_hrtime() + WAIT_NS;

    while (!has(p, text) && !p->eof && uv_hrtime() < until) {
        turn();
        look(p);
    }
    ck_assert_msg(has(p, text), "'%s' did not come, but: %.*s%s", text, (int)p->got.len,
                  p->got.len > 0 ? p->got.data : "", p->eof ? " (end)" : "");
}

static inline void hear_end(struct peer *p)
{
    uint64_t until = uv_hrtime() + WAIT_NS;

    while (!p->eof && uv_hrtime() < until) {
        turn();
        look(p);
    }
    ck_assert_msg(p->eof, "no end came, but: %.*s", (int)p->got.len, p->got.data);
}

static inline void forget(struct peer *p)
{
    kg_buf_clear(&p->got);
}

static inline int loopback(uint16_t port, struct sockaddr_in *a)
{
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static inline struct peer dial(uint16_t port)
{
    struct sockaddr_in a;
    struct peer p;

    peer_init(&p, loopback(port, &a));
    ck_assert_int_eq(connect(p.fd, (struct sockaddr *)&a, sizeof a), 0);
    return p;
}

static inline struct peer client(void)
{
    return dial(world.port);
}

/* The next connection that the proxy makes to the worker. */
static inline struct peer worker(void)
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

/* --- the gate ------------------------------------------------------------------------------ */

static inline struct proxy_worker *gate_acquire(void *self, struct proxy_waiter *w)
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

static inline void gate_cancel(void *self, struct proxy_waiter *w)
{
    (void)self;
    kg_list_remove(&w->link);
    gate.waiting--;
    gate.cancelled++;
}

static inline void gate_release(void *self, struct proxy_worker *w, bool quiet)
{
    (void)self;
    (void)w;
    (void)quiet;
    gate.released++;
}

static inline void gate_suspect(void *self, struct proxy_worker *w)
{
    (void)self;
    (void)w;
    gate.suspected++;
}

static inline void gate_probed(void *self, struct proxy_worker *w)
{
    (void)self;
    (void)w;
    gate.probed++;
}

static inline void gate_answer(const struct proxy_answer *answer)
{
    struct proxy_waiter *w = KG_LIST_ENTRY(kg_list_first(&gate.waiters), struct proxy_waiter, link);

    kg_list_remove(&w->link);
    gate.waiting--;
    gate.granted += answer->worker != NULL;
    gate.refused += answer->worker == NULL;
    w->on_answer(w, answer);
}

static inline void gate_grant(void)
{
    gate_answer(&(struct proxy_answer){.worker = world.worker, .warmth = PROXY_COLD});
}

/* --- set-up and tear-down ------------------------------------------------------------------ */

static inline int listening(uint16_t *port)
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

/* For both families; -1 where the machine has no IPv6. */
static inline int listening6(uint16_t *port)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), off = 0;

    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 64) != 0) {
        close(fd);
        return -1;
    }
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(a.sin6_port);
    return fd;
}

static inline void on_tick(uv_timer_t *t)
{
    (void)t;
}

static inline void on_local(void *arg, const struct proxy_local_request *r)
{
    (void)arg;
    local.id = r->id;
    local.requests++;
    kg_str_copy(local.path, sizeof local.path, r->path);
    kg_str_copy(local.query, sizeof local.query, r->query);
    kg_str_copy(local.body, sizeof local.body, r->body);
}

static inline void on_local_gone(void *arg, uint64_t id)
{
    (void)arg;
    ck_assert_uint_eq(id, local.id);
    local.gone++;
}

static inline void add_worker(void)
{
    struct sockaddr_in a;

    close(loopback(world.worker_port, &a));
    world.worker = proxy_worker_add(world.proxy, 1, (struct sockaddr *)&a, sizeof a);
    ck_assert_ptr_nonnull(world.worker);
}

static inline void configure(void)
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

static inline void set_up(void)
{
    struct proxy_listener listeners[3];
    struct proxy_params params = {
        .loop = &world.loop,
        .gate = {NULL, gate_acquire, gate_cancel, gate_release, gate_suspect, gate_probed},
        .listeners = listeners,
        .protocols = PROXY_HTTP11 | PROXY_H2C,
        .max_connections = 8,
        .max_connections_per_client = 6,
        .access_log_fd = WORLD_ACCESS_LOG,
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
    listeners[2] = (struct proxy_listener){.fd = listening6(&world.port6)};
    params.listener_count = listeners[2].fd < 0 ? 2 : 3;
    world.worker_fd = listening(&world.worker_port);
    fcntl(world.worker_fd, F_SETFL, O_NONBLOCK);
    world.proxy = proxy_open(&params, &err);
    ck_assert_msg(world.proxy != NULL, "%s", err.words);
    configure();
    add_worker();
}

/* One piece of an answer on the local listener. */
static inline int local_answer(uint64_t id, int status, const char *type, const void *body,
                               size_t n, bool last)
{
    const struct proxy_local_answer answer = {
        .status = status, .type = type, .body = {body, n}, .last = last};

    return proxy_local_reply(world.proxy, id, &answer);
}

static inline void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static inline void tear_down(void)
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
static inline void again(struct peer *c, struct peer *w)
{
    forget(c);
    forget(w);
    say(c, GET "\r\n");
    hear(w, "\r\n\r\n");
    say(w, OK2);
    hear(c, "\r\n\r\nok");
}

/* The first GET on a client: the worker's connection is made. */
static inline struct peer begin(struct peer *c)
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

static inline int world_run(const char *name, const TTest *const *tests, size_t count)
{
    TCase *t = tcase_create(name);
    Suite *s = suite_create(name);
    SRunner *r;
    int failed;

    signal(SIGPIPE, SIG_IGN);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(t, tests[i]);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}

#endif
