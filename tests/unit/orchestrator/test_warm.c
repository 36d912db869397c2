/* SPDX-License-Identifier: Apache-2.0 */
/* What a warm request costs a front, counted: system calls, clock reads, allocations; and, run with
 * a number of rounds under callgrind, instructions (see bench/instructions.sh). The difficulty: the
 * peers live in the same process, so what they do must be invisible to the counters. */
#include "base/err.h"
#include "orchestrator/gate_client.h"
#include <arpa/inet.h>
#include <check.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PEERS 64 /* kept connections on either side, all busy at once in a round */
#define ROUNDS 40
#define SERVICE 0
#define CLOCK_READS_PER_TURN 2 /* libuv's own; no request of ours reads the clock */
#define MAX_EMPTY_TURNS 10000000
#define LONG_MS 3600000

/* --- counting --------------------------------------------------------------------------------- */

/* By definitions in the program, which the dynamic linker prefers to libc's: calls from libuv are
 * counted like our own. The peers below make their system calls directly. */
static struct counts {
    unsigned reads, writes, epoll_ctls, waits, clock_reads, allocations, others;
} count;

#define INSTEAD_OF(name) __asm__(name) __attribute__((visibility("default"), used))

ssize_t counted_read(int fd, void *to, size_t n) INSTEAD_OF("read");
ssize_t counted_readv(int fd, const struct iovec *to, int n) INSTEAD_OF("readv");
ssize_t counted_write(int fd, const void *from, size_t n) INSTEAD_OF("write");
ssize_t counted_writev(int fd, const struct iovec *from, int n) INSTEAD_OF("writev");
ssize_t counted_send(int fd, const void *from, size_t n, int flags) INSTEAD_OF("send");
ssize_t counted_sendmsg(int fd, const struct msghdr *from, int flags) INSTEAD_OF("sendmsg");
ssize_t counted_recvmsg(int fd, struct msghdr *to, int flags) INSTEAD_OF("recvmsg");
ssize_t counted_recv(int fd, void *to, size_t n, int flags) INSTEAD_OF("recv");
int counted_poll(struct pollfd *fds, nfds_t n, int timeout_ms) INSTEAD_OF("poll");
int counted_epoll_ctl(int epoll, int op, int fd, struct epoll_event *e) INSTEAD_OF("epoll_ctl");
int counted_epoll_wait(int epoll, struct epoll_event *e, int n, int ms) INSTEAD_OF("epoll_wait");
int counted_epoll_pwait(int epoll, struct epoll_event *e, int n, int ms, const sigset_t *mask)
    INSTEAD_OF("epoll_pwait");
int counted_clock(clockid_t clock, struct timespec *now) INSTEAD_OF("clock_gettime");

ssize_t counted_read(int fd, void *to, size_t n)
{
    count.reads++;
    return syscall(SYS_read, fd, to, n);
}

ssize_t counted_readv(int fd, const struct iovec *to, int n)
{
    count.reads++;
    return syscall(SYS_readv, fd, to, n);
}

ssize_t counted_write(int fd, const void *from, size_t n)
{
    count.writes++;
    return syscall(SYS_write, fd, from, n);
}

ssize_t counted_writev(int fd, const struct iovec *from, int n)
{
    count.writes++;
    return syscall(SYS_writev, fd, from, n);
}

ssize_t counted_send(int fd, const void *from, size_t n, int flags)
{
    count.writes++;
    return syscall(SYS_sendto, fd, from, n, flags, NULL, 0);
}

ssize_t counted_sendmsg(int fd, const struct msghdr *from, int flags)
{
    count.writes++;
    return syscall(SYS_sendmsg, fd, from, flags);
}

ssize_t counted_recvmsg(int fd, struct msghdr *to, int flags)
{
    count.reads++;
    return syscall(SYS_recvmsg, fd, to, flags);
}

ssize_t counted_recv(int fd, void *to, size_t n, int flags)
{
    count.others++;
    return syscall(SYS_recvfrom, fd, to, n, flags, NULL, NULL);
}

int counted_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    count.others++;
    return (int)syscall(SYS_poll, fds, n, timeout_ms);
}

int counted_epoll_ctl(int epoll, int op, int fd, struct epoll_event *e)
{
    count.epoll_ctls++;
    return (int)syscall(SYS_epoll_ctl, epoll, op, fd, e);
}

int counted_epoll_pwait(int epoll, struct epoll_event *e, int n, int ms, const sigset_t *mask)
{
    count.waits++;
    return (int)syscall(SYS_epoll_pwait, epoll, e, n, ms, mask, 8);
}

int counted_epoll_wait(int epoll, struct epoll_event *e, int n, int ms)
{
    return counted_epoll_pwait(epoll, e, n, ms, NULL);
}

int counted_clock(clockid_t clock, struct timespec *now)
{
    count.clock_reads++;
    return (int)syscall(SYS_clock_gettime, clock, now);
}

#ifndef KG_SANITIZE /* sanitizers have an allocator of their own */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t n);
void *counted_malloc(size_t n) INSTEAD_OF("malloc");
void *counted_calloc(size_t n, size_t size) INSTEAD_OF("calloc");
void *counted_realloc(void *old, size_t n) INSTEAD_OF("realloc");

void *counted_malloc(size_t n)
{
    count.allocations++;
    return __libc_malloc(n);
}

void *counted_calloc(size_t n, size_t size)
{
    count.allocations++;
    return __libc_calloc(n, size);
}

void *counted_realloc(void *old, size_t n)
{
    count.allocations++;
    return __libc_realloc(old, n);
}
#endif

/* --- the front, its clients and its worker ------------------------------------------------------
 */

static struct {
    uv_loop_t loop;
    struct gate_client *gate;
    struct proxy *proxy;
    struct proxy_stats *stats;
    int clients[PEERS], worker, connections[PEERS], connected;
    uint16_t port, worker_port;
    unsigned turns;
    bool warm, closed;
} front;

static const char small[] = "GET /a HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
static const char browser[] =
    "GET /a/page.html?q=1 HTTP/1.1\r\nHost: www.example.org\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    "Connection: keep-alive\r\nReferer: https://www.example.org/a/index.html\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    "Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Site: same-origin\r\n\r\n";
static const char answer[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello world\n";

/* One look at what is ready. Callgrind collects in here only. */
__attribute__((noinline)) static void warm_turn(void)
{
    uv_run(&front.loop, UV_RUN_NOWAIT);
    __asm__ volatile(""); /* else the call above would be a jump, and there were nothing to leave */
}

static void turn(void)
{
    front.turns++;
    if (front.warm)
        warm_turn();
    else
        uv_run(&front.loop, UV_RUN_NOWAIT);
}

/* libcheck's own assertions would allocate and read the clock. */
static void say(int fd, const char *text, size_t n)
{
    KG_ASSERT(syscall(SYS_sendto, fd, text, n, MSG_NOSIGNAL, NULL, 0) == (long)n);
}

/* Turns until a message that ends like this has come whole; it is read away. */
static void hear(int fd, const char *end, size_t end_n)
{
    char bytes[4096];
    size_t n = 0, empty_turns = 0;

    while (n < end_n || memcmp(bytes + n - end_n, end, end_n) != 0) {
        long more = syscall(SYS_recvfrom, fd, bytes + n, sizeof bytes - n, MSG_DONTWAIT, NULL, 0);
        KG_ASSERT(more != 0 && n < sizeof bytes && empty_turns < MAX_EMPTY_TURNS);
        if (more > 0) {
            n += (size_t)more;
            continue;
        }
        empty_turns++;
        turn();
    }
}

static int listening(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    KG_ASSERT(bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
    KG_ASSERT(listen(fd, PEERS) == 0);
    KG_ASSERT(getsockname(fd, (struct sockaddr *)&a, &n) == 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static int dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(front.port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    KG_ASSERT(connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* Every client asks at once, the worker answers all of them. */
static void round_of_requests(const char *request, size_t n)
{
    for (int i = 0; i < PEERS; i++)
        say(front.clients[i], request, n);
    while (front.connected < PEERS) { /* in the first round only */
        int fd = accept4(front.worker, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            front.connections[front.connected++] = fd;
        else
            turn();
    }
    for (int i = 0; i < PEERS; i++)
        hear(front.connections[i], "\r\n\r\n", 4);
    for (int i = 0; i < PEERS; i++)
        say(front.connections[i], answer, sizeof answer - 1);
    for (int i = 0; i < PEERS; i++)
        hear(front.clients[i], "hello world\n", 12);
}

static void nobody(void *arg, const void *message)
{
    (void)arg;
    (void)message;
}

static void grant(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(front.worker_port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_storage where = {0};
    struct message_grant m;

    memcpy(&where, &a, sizeof a);
    MESSAGE_INIT(&m, GRANT);
    m.instance = 1;
    m.service = SERVICE;
    m.slots = PEERS;
    m.linger_ms = LONG_MS;
    KG_ASSERT(message_set_address(&m.where, &where, sizeof a));
    gate_client_message(front.gate, &m.head);
}

/* The first service's route is the one that all requests take. */
static void configure(uint32_t services)
{
    struct proxy_service s = {.max_body_bytes = -1, .request_timeout_ms = LONG_MS};
    char host[32];
    struct kg_str name;

    KG_ASSERT(proxy_config_begin(front.proxy) == 0);
    for (s.id = 0; s.id < services; s.id++) {
        snprintf(s.name, sizeof s.name, "service-%u", s.id);
        snprintf(host, sizeof host, "host-%u.example.org", s.id);
        name = s.id == SERVICE ? KG_STR("") : kg_str_of(host);
        KG_ASSERT(proxy_config_service(front.proxy, &s) == 0);
        KG_ASSERT(proxy_config_route(front.proxy, name, KG_STR("/a"), s.id) == 0);
    }
    KG_ASSERT(proxy_config_commit(front.proxy) == 0);
}

static void set_up_with(uint32_t services)
{
    struct proxy_listener listener = {.fd = listening(&front.port)};
    struct proxy_params params = {.loop = &front.loop,
                                  .listeners = &listener,
                                  .listener_count = 1,
                                  .max_connections = 2 * PEERS,
                                  .access_log_fd = -1};
    struct kg_err err = {0};

    front.warm = front.closed = false;
    front.connected = 0;
    front.worker = listening(&front.worker_port);
    front.stats =
        mmap(NULL, sizeof *front.stats, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    KG_ASSERT(front.stats != MAP_FAILED);
    params.stats = front.stats;
    KG_ASSERT(uv_loop_init(&front.loop) == 0);
    front.gate = gate_client_new(&front.loop, nobody, NULL);
    params.gate = gate_client_door(front.gate);
    front.proxy = proxy_open(&params, &err);
    KG_ASSERT(front.proxy != NULL);
    gate_client_set_proxy(front.gate, front.proxy);
    configure(services);
    grant();
    for (int i = 0; i < PEERS; i++)
        front.clients[i] = dial();
}

static void set_up(void)
{
    set_up_with(1);
}

static void on_gate_closed(void *arg)
{
    (void)arg;
    front.closed = true;
}

static void on_proxy_closed(void *arg)
{
    (void)arg;
    gate_client_close(front.gate, on_gate_closed, NULL);
}

static void tear_down(void)
{
    proxy_close(front.proxy, on_proxy_closed, NULL);
    while (!front.closed)
        uv_run(&front.loop, UV_RUN_ONCE);
    KG_ASSERT(uv_loop_close(&front.loop) == 0);
    munmap(front.stats, sizeof *front.stats);
    for (int i = 0; i < PEERS; i++) {
        close(front.clients[i]);
        close(front.connections[i]);
    }
    close(front.worker);
}

/* --- the counts ---------------------------------------------------------------------------------
 */

static void rounds_of_requests(unsigned rounds, const char *request, size_t n)
{
    round_of_requests(request, n); /* the connections to the worker are made */
    round_of_requests(request, n); /* and used again: all memory is there now */
    memset(&count, 0, sizeof count);
    front.turns = 0;
    front.warm = true;
    for (unsigned i = 0; i < rounds; i++)
        round_of_requests(request, n);
}

static void expect_cheap(const char *request, size_t n)
{
    unsigned requests = ROUNDS * PEERS;
    struct counts made;

    rounds_of_requests(ROUNDS, request, n);
    made = count; /* what comes below counts, too */
    printf("%u requests: %u reads, %u writes, %u epoll_ctl, %u epoll_wait in %u turns, "
           "%u clock reads, %u allocations, %u other calls\n",
           requests, made.reads, made.writes, made.epoll_ctls, made.waits, front.turns,
           made.clock_reads, made.allocations, made.others);
    ck_assert_uint_ge(made.reads, requests * 2); /* else some way of reading is not counted */
    ck_assert_uint_ge(made.writes, requests * 2);
    ck_assert_uint_le(made.reads * 10, requests * 21);
    ck_assert_uint_le(made.writes * 10, requests * 21);
    ck_assert_uint_le(made.epoll_ctls * 10, requests);
    /* a timer that came due on a slow machine reads it once more */
    ck_assert_uint_le(made.clock_reads * 10, front.turns * CLOCK_READS_PER_TURN * 11);
    ck_assert_uint_eq(made.others, 0);
    ck_assert_uint_eq(made.allocations, 0);
    ck_assert_uint_eq(front.stats->services[SERVICE].requests[200 - PROXY_STATUS_MIN],
                      requests + 2 * PEERS);
}

START_TEST(a_small_request_costs_two_reads_and_two_writes)
{
    expect_cheap(small, sizeof small - 1);
}
END_TEST

START_TEST(a_browsers_request_costs_no_more_calls)
{
    expect_cheap(browser, sizeof browser - 1);
}
END_TEST

/* For callgrind: rounds of one kind of request, with so many services. */
static int run_rounds(const char *kind, unsigned rounds, unsigned services)
{
    bool is_small = strcmp(kind, "small") == 0;

    set_up_with(services);
    rounds_of_requests(rounds, is_small ? small : browser,
                       is_small ? sizeof small - 1 : sizeof browser - 1);
    printf("%u requests\n", rounds * PEERS);
    tear_down();
    return 0;
}

int main(int argc, char **argv)
{
    TCase *t = tcase_create("warm");
    Suite *s = suite_create("warm");
    SRunner *r;
    int failed;

    signal(SIGPIPE, SIG_IGN);
    if (argc == 4)
        return run_rounds(argv[1], (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_small_request_costs_two_reads_and_two_writes);
    tcase_add_test(t, a_browsers_request_costs_no_more_calls);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
