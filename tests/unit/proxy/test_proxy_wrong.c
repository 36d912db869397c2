/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that stop, break off or go wrong in the middle of an exchange or a tunnel, and clients of
 * other address families. The difficulty is in world.h; a worker that stops taking bytes without
 * ending is one on a Unix socket: only there a writer is told. */
#include "base/clock.h"
#include "proxy/client_priv.h"
#include "proxy/exchange_priv.h"
#include "world.h"
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/un.h>

static char unix_path[64];

/* The worker is reached by a Unix socket from now on. */
static void move_to_unix(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/kipgate-wrong-XXXXXX";

    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(unix_path, sizeof unix_path, "%s/s", dir);
    kg_str_copy(a.sun_path, sizeof a.sun_path, kg_str_of(unix_path));
    close(world.worker_fd);
    world.worker_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(world.worker_fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(world.worker_fd, 8), 0);
    proxy_worker_remove(world.worker);
    world.worker = proxy_worker_add(world.proxy, 1, (struct sockaddr *)&a, sizeof a);
    ck_assert_ptr_nonnull(world.worker);
}

static void forget_unix(void)
{
    unlink(unix_path);
    *strrchr(unix_path, '/') = '\0';
    ck_assert_int_eq(rmdir(unix_path), 0);
}

/* --- uploads ------------------------------------------------------------------------------- */

START_TEST(an_upload_that_goes_bad_behind_an_answer)
{
    struct peer c = client(), w;

    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    w = worker();
    hear(&w, "1\r\na\r\n");
    say(&w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab");
    hear(&c, "ab");
    say(&c, "none\r\n");
    hear_end(&w);
    hear_end(&c);
    ck_assert(!has(&c, "HTTP/1.1 400 "));
    ck_assert_uint_eq(gate.released, 1);
    bye(&c);
    bye(&w);
}
END_TEST

/* Of a worker at a Unix socket that has taken its last byte. */
static void hear_refusal(struct peer *c, struct peer *w)
{
    for (int i = 0; i < 20; i++)
        turn();
    say(w, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    hear(c, "\r\n\r\nno");
    ck_assert(has(c, "HTTP/1.1 413 "));
    bye(c);
    bye(w);
    forget_unix();
}

/* What it answered before it stopped is the client's. */
/* Client and worker may be talking: neither is too slow. Before that the client is. */
START_TEST(silence_behind_the_beginning_of_an_answer)
{
    for (int answers = 1; answers >= 0; answers--) {
        struct peer c = client(), w;
        struct client *ours;
        say(&c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
        w = worker();
        hear(&w, "1\r\na\r\n");
        if (answers) {
            say(&w, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nA");
            hear(&c, "\r\n\r\nA");
        }
        ours = KG_LIST_ENTRY(kg_list_first(&world.proxy->clients), struct client, link);
        ours->rate_at_ms -= 2 * KG_BODY_GRACE_MS;
        ours->body_grace = false;
        ours->rate_bytes = 0;
        kg_timer_arm(&world.proxy->wheel, &ours->deadline, (int64_t)uv_now(&world.loop));
        until(ours->deadline.due_ms == KG_NEVER || !answers);
        if (answers) {
            say(&c, "1\r\nb\r\n0\r\n\r\n");
            hear(&w, "1\r\nb\r\n0\r\n\r\n");
            say(&w, "B");
        }
        hear(&c, answers ? "\r\n\r\nAB" : "HTTP/1.1 408 ");
        hear_end(&c);
        bye(&c);
        bye(&w);
    }
}
END_TEST

START_TEST(a_worker_that_takes_no_more_has_answered)
{
    struct peer c, w;

    move_to_unix();
    c = client();
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    shutdown(w.fd, SHUT_RD);
    say(&c, "12345678");
    hear_refusal(&c, &w);
}
END_TEST

/* The same, where bytes were queued for it. */
START_TEST(a_worker_that_takes_no_more_of_what_is_queued)
{
    static char block[MIB];
    struct peer c, w;
    int idle = 0;

    move_to_unix();
    c = client();
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 268435456\r\n\r\n");
    w = worker();
    while (idle < 100) { /* until nobody takes anything */
        idle = send(c.fd, block, sizeof block, MSG_DONTWAIT) > 0 ? 0 : idle + 1;
        turn();
    }
    shutdown(w.fd, SHUT_RD);
    look(&w); /* there is room again: the next write is refused */
    hear_refusal(&c, &w);
}
END_TEST

static void on_idle(uv_idle_t *idle)
{
    uint64_t until_ = uv_hrtime() + 1200 * 1000000ull;

    while (uv_hrtime() < until_)
        ; /* the loop is late, as on a machine that is busy */
    uv_close((uv_handle_t *)idle, NULL);
}

/* The loop sees both at once: the exchange asks the gate again, and that once. */
START_TEST(a_worker_goes_as_the_time_for_its_answer_ends)
{
    const struct proxy_service timed = {
        .id = 1, .name = "timed", .max_body_bytes = -1, .request_timeout_ms = 1000};
    struct peer c, w;
    uv_idle_t idle;

    ck_assert_int_eq(proxy_config_begin(world.proxy), 0);
    ck_assert_int_eq(proxy_config_service(world.proxy, &timed), 0);
    ck_assert_int_eq(proxy_config_route(world.proxy, KG_STR("a"), KG_STR("/"), 1), 0);
    ck_assert_int_eq(proxy_config_commit(world.proxy), 0);
    w = begin(&c);
    forget(&w);
    forget(&c);
    say(&c, GET "\r\n");
    hear(&w, "\r\n\r\n");
    proxy_worker_remove(world.worker);
    gate.released++; /* the slot of a worker that is gone is not given back */
    add_worker();
    gate.mode = HOLD;
    bye(&w);
    uv_idle_init(&world.loop, &idle);
    uv_idle_start(&idle, on_idle);
    uv_run(&world.loop, UV_RUN_NOWAIT);
    until(gate.waiting == 1);
    for (int i = 0; i < 10; i++)
        turn();
    ck_assert_uint_eq(gate.acquired, 3);
    gate_grant();
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&w);
}
END_TEST

/* The proxy's end of the connection to its worker, or -1. */
static int way_to_worker(void)
{
    for (int fd = 0; fd < 256; fd++) {
        struct sockaddr_in a;
        socklen_t n = sizeof a;
        if (getpeername(fd, (struct sockaddr *)&a, &n) == 0 &&
            ntohs(a.sin_port) == world.worker_port)
            return fd;
    }
    return -1;
}

/* No end comes from a machine that failed, or from behind a network that is gone. */
START_TEST(a_worker_that_is_gone_without_a_word_is_noticed)
{
    struct peer c, w = begin(&c);
    int on = 0, idle_s = 0, fd = way_to_worker();
    socklen_t n = sizeof on;

    ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &n), 0);
    ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, &n), 0);
    ck_assert_int_eq(on, 1);
    ck_assert_int_eq(idle_s, 60);
    bye(&c);
    bye(&w);
}
END_TEST

/* --- tunnels ------------------------------------------------------------------------------- */

static struct peer tunnel(struct peer *c)
{
    struct peer w;

    *c = client();
    say(c, GET "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            "\r\n");
    hear(c, "\r\n\r\n");
    forget(c);
    forget(&w);
    return w;
}

/* Says until nothing goes in any more; gives how much. */
static size_t fill(struct peer *from)
{
    static char block[MIB];
    size_t sent = 0;
    int idle = 0;

    while (idle < 100) {
        ssize_t n = send(from->fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        idle = n > 0 ? 0 : idle + 1;
        turn();
        ck_assert_uint_lt(sent, 64 * MIB);
    }
    return sent;
}

static void take_all(struct peer *to, size_t sent)
{
    for (uint64_t until_ = uv_hrtime() + WAIT_NS; to->got.len < sent && uv_hrtime() < until_;) {
        look(to);
        turn();
    }
    ck_assert_uint_eq(to->got.len, sent);
}

/* All of what one side says reaches the other, which reads only when nothing goes in any more. */
static size_t pour_through(struct peer *from, struct peer *to)
{
    size_t sent = fill(from);

    take_all(to, sent);
    return sent;
}

START_TEST(a_tunnel_waits_for_the_slower_side)
{
    struct peer c, w = tunnel(&c);

    ck_assert_uint_gt(pour_through(&w, &c), MIB / 4);
    ck_assert_uint_gt(pour_through(&c, &w), MIB / 4);
    say(&c, "still");
    hear(&w, "still");
    bye(&c);
    bye(&w);
    until(gate.released == 1);
}
END_TEST

/* Both have ended their halves, the worker first, and the client's bytes are on their way. */
START_TEST(a_tunnel_ends_behind_its_last_byte)
{
    static char some[65536];
    struct peer c, w = tunnel(&c);
    size_t sent;
    int unsent, small = sizeof some; /* else the kernel might take all of it for the worker */

    setsockopt(w.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    shutdown(w.fd, SHUT_WR);
    hear_end(&c);
    sent = fill(&c);
    while (ioctl(c.fd, SIOCOUTQ, &unsent) == 0 && unsent > 0) { /* the end would wait behind it */
        ssize_t n = recv(w.fd, some, sizeof some, MSG_DONTWAIT);
        sent -= n > 0 ? (size_t)n : 0;
        turn();
    }
    shutdown(c.fd, SHUT_WR);
    for (uint64_t until_ = uv_hrtime() + 600 * 1000000ull; uv_hrtime() < until_;)
        turn(); /* the watch over clients looks at it meanwhile */
    take_all(&w, sent);
    hear_end(&w);
    until(gate.released == 1);
    bye(&c);
    bye(&w);
}
END_TEST

/* Lets the time be up in which something must move. */
static void time_is_up(struct exchange *ex)
{
    kg_timer_arm(&world.proxy->wheel, &ex->timer, (int64_t)uv_now(&world.loop));
}

/* A half-open one lives while the slower side takes what is on its way, though nothing comes. */
START_TEST(a_half_open_tunnel_lives_while_something_is_taken)
{
    struct peer c, w = tunnel(&c);
    struct client *ours = KG_LIST_ENTRY(kg_list_first(&world.proxy->clients), struct client, link);
    struct exchange *ex = ours->down.exchange;
    size_t left;
    int small = 4096; /* so that a piece goes out in many parts */

    setsockopt(wire_fd(&ours->wire), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    shutdown(c.fd, SHUT_WR);
    hear_end(&w);
    fill(&w);
    left = wire_pending(&ours->wire);
    for (char some[1024]; wire_pending(&ours->wire) == left; turn())
        (void)!recv(c.fd, some, sizeof some, MSG_DONTWAIT);
    ck_assert_uint_gt(wire_pending(&ours->wire), 0);
    ck_assert_uint_lt(wire_pending(&ours->wire), left);
    time_is_up(ex);
    until(!ours->down.exchange || ex->timer.due_ms > (int64_t)uv_now(&world.loop) + 1000);
    ck_assert_uint_eq(gate.released, 0);
    for (int i = 0; i < 1000 && ours->down.exchange; i++) { /* nobody takes anything any more */
        if (ex->timer.due_ms > (int64_t)uv_now(&world.loop) + 1000)
            time_is_up(ex);
        turn();
    }
    ck_assert_uint_eq(gate.released, 1);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(a_tunnel_breaks_with_either_side)
{
    struct peer c, w = tunnel(&c);

    hang_up(&w);
    hear_end(&c);
    until(gate.released == 1);
    bye(&c);
    w = tunnel(&c);
    hang_up(&c);
    hear_end(&w);
    until(gate.released == 2);
    bye(&w);
}
END_TEST

/* --- families of addresses ----------------------------------------------------------------- */

static struct peer dial6(void)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(world.port6)};
    struct peer p;

    a.sin6_addr = in6addr_loopback;
    peer_init(&p, socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ck_assert_int_eq(connect(p.fd, (struct sockaddr *)&a, sizeof a), 0);
    return p;
}

/* A socket of both families calls an IPv4 client by its own name, and counts it as that. */
START_TEST(clients_of_both_families)
{
    static const char *const names[] = {"X-Forwarded-For: ::1\r\n",
                                        "X-Forwarded-For: 127.0.0.1\r\n"};
    struct peer held[8], w;

    if (world.port6 == 0)
        return;
    for (int i = 0; i < 2; i++) {
        struct peer c = i == 0 ? dial6() : dial(world.port6);
        say(&c, GET "\r\n");
        w = worker();
        hear(&w, names[i]);
        say(&w, OK2 "more"); /* so that it is not kept */
        hear(&c, "\r\n\r\nok");
        bye(&c);
        bye(&w);
    }
    until(proxy_connections(world.proxy) == 0);
    for (int i = 0; i < 8; i++) { /* each may have 6 */
        held[i] = i < 4   ? dial(world.port6)
                  : i < 6 ? client()
                  : i < 7 ? dial(world.port6)
                          : dial6();
        if (i != 6)
            until(proxy_connections(world.proxy) == (size_t)(i < 6 ? i + 1 : 7));
        else
            hear(&held[i], "urn:kipgate:overloaded");
    }
    for (int i = 0; i < 8; i++)
        bye(&held[i]);
}
END_TEST

/* --- before there are services ------------------------------------------------------------- */

START_TEST(no_services_are_known_yet)
{
    struct generation *known = world.proxy->current;
    struct peer c = client();

    world.proxy->current = NULL;
    say(&c, GET "\r\n");
    hear(&c, "urn:kipgate:overloaded");
    hear(&c, "does not know the services yet");
    world.proxy->current = known;
    ck_assert_uint_eq(gate.acquired, 0);
    bye(&c);
}
END_TEST

START_TEST(numbers_beyond_the_limits_are_no_services)
{
    struct proxy_service s = {.id = KG_MAX_SERVICES, .name = "x"};

    ck_assert_int_eq(proxy_config_begin(world.proxy), 0);
    ck_assert_int_eq(proxy_config_service(world.proxy, &s), KG_ELIMIT);
    s = (struct proxy_service){.id = 1, .name = "x", .quiet_count = KG_MAX_QUIET + 1};
    ck_assert_int_eq(proxy_config_service(world.proxy, &s), KG_ELIMIT);
    ck_assert_int_eq(proxy_config_route(world.proxy, KG_STR("a"), KG_STR("/"), KG_MAX_SERVICES),
                     KG_ELIMIT);
}
END_TEST

/* Only what is asked by that method is quiet. */
START_TEST(quiet_by_method)
{
    struct proxy_service s = {.id = 1,
                              .name = "x",
                              .max_body_bytes = -1,
                              .quiet_status = 599,
                              .quiet_count = 1,
                              .quiet = {{.method = "HEAD"}}};
    struct peer c = client();

    ck_assert_int_eq(proxy_config_begin(world.proxy), 0);
    ck_assert_int_eq(proxy_config_service(world.proxy, &s), 0);
    ck_assert_int_eq(proxy_config_route(world.proxy, KG_STR("a"), KG_STR("/"), 1), 0);
    ck_assert_int_eq(proxy_config_commit(world.proxy), 0);
    gate.mode = HOLD;
    say(&c, GET "\r\n");
    until(gate.waiting == 1);
    ck_assert(!KG_LIST_ENTRY(gate.waiters.next, struct proxy_waiter, link)->quiet);
    bye(&c);
    until(gate.waiting == 0);
    c = client();
    say(&c, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    until(gate.waiting == 1);
    ck_assert(KG_LIST_ENTRY(gate.waiters.next, struct proxy_waiter, link)->quiet);
    bye(&c);
    until(gate.waiting == 0);
}
END_TEST

/* --- local requests in other forms --------------------------------------------------------- */

START_TEST(local_requests_in_other_forms)
{
    struct peer c = dial(world.local_port);

    say(&c, "HEAD /v1 HTTP/1.1\r\nHost: localhost\r\nOrigin: https://127.0.0.1:9090\r\n\r\n");
    until(local.requests == 1);
    local_answer(local.id, 200, "x/y", "abc", 3, true);
    hear(&c, "Content-Length: 3\r\n");
    hear(&c, "\r\n\r\n");
    ck_assert(!has(&c, "abc"));
    forget(&c);
    say(&c, "PUT /v1 HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            "Content-Length: 4\r\n\r\n");
    hear(&c, "HTTP/1.1 100 Continue\r\n\r\n");
    say(&c, "body");
    until(local.requests == 2);
    ck_assert_str_eq(local.body, "body");
    local_answer(local.id, 200, "x/y", "abc", 3, true);
    hear(&c, "\r\n\r\nabc");
    forget(&c);
    say(&c, "GET /v1 HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
    until(local.requests == 3);
    local_answer(local.id, 200, "x/y", "abc", 3, true);
    hear(&c, "\r\n\r\nabc");
    ck_assert(has(&c, "Connection: keep-alive\r\n"));
    bye(&c);
}
END_TEST

START_TEST(local_requests_that_are_refused)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct peer c = dial(world.local_port);
        say(&c, bad[i]);
        hear_end(&c);
        ck_assert_msg(has(&c, "HTTP/1.1 400 "), "%s", bad[i]);
        bye(&c);
    }
    ck_assert_uint_eq(local.requests, 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {an_upload_that_goes_bad_behind_an_answer,
                                  silence_behind_the_beginning_of_an_answer,
                                  a_worker_that_takes_no_more_has_answered,
                                  a_worker_that_takes_no_more_of_what_is_queued,
                                  a_tunnel_waits_for_the_slower_side,
                                  a_tunnel_ends_behind_its_last_byte,
                                  a_half_open_tunnel_lives_while_something_is_taken,
                                  a_tunnel_breaks_with_either_side,
                                  a_worker_that_is_gone_without_a_word_is_noticed,
                                  a_worker_goes_as_the_time_for_its_answer_ends,
                                  clients_of_both_families,
                                  no_services_are_known_yet,
                                  numbers_beyond_the_limits_are_no_services,
                                  quiet_by_method,
                                  local_requests_in_other_forms,
                                  local_requests_that_are_refused};

    return world_run("proxy wrong", tests, sizeof tests / sizeof *tests);
}
