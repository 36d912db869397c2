/* SPDX-License-Identifier: Apache-2.0 */
/* Loads that wrk cannot make: requests at a constant rate, and many connections that are held open.
 * The difficulty: at a constant rate a request is due whether or not the last one was answered, so
 * its time counts from when it was due, not from when there was a connection free to send it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ll
#define WARM_UP_NS (NS_PER_S / 5) /* not counted */
#define GRACE_NS (2 * NS_PER_S)   /* for the last answers */
#define MAX_CONNECTIONS 20000

static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
static const char answer_end[] = "hello world\n";

struct connection {
    int fd;
    uint64_t asked; /* requests sent */
    int64_t due_ns; /* of the one under way */
    int busy;
    char last[sizeof answer_end]; /* the newest bytes of the answer */
};

static struct connection connections[MAX_CONNECTIONS];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static int dial(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void ask(struct connection *c)
{
    if (write(c->fd, request, sizeof request - 1) != sizeof request - 1)
        fail("write");
    c->busy = 1;
    c->asked++;
}

/* Keeps the newest bytes: the answer's end may come in pieces. */
static void remember(struct connection *c, const char *bytes, size_t got)
{
    const size_t n = sizeof answer_end - 1;

    if (got < n) {
        memmove(c->last, c->last + got, n - got);
        memcpy(c->last + n - got, bytes, got);
    } else {
        memcpy(c->last, bytes + got - n, n);
    }
}

/* Whether the answer is whole. The worker's body is known, and is the last that comes. */
static int answered(struct connection *c)
{
    char bytes[4096];
    ssize_t got = read(c->fd, bytes, sizeof bytes);

    if (got <= 0)
        fail("the answer broke off");
    if (got >= 12 && memcmp(bytes, "HTTP/1.1 ", 9) == 0 && memcmp(bytes + 9, "200", 3) != 0) {
        fprintf(stderr, "not a 200: %.40s\n", bytes);
        exit(1);
    }
    remember(c, bytes, (size_t)got);
    c->busy = memcmp(c->last, answer_end, sizeof answer_end - 1) != 0;
    if (!c->busy)
        memset(c->last, 0, sizeof c->last);
    return !c->busy;
}

/* --- a constant rate -------------------------------------------------------------------------- */

static struct {
    double interval_ns; /* between two requests of all connections together */
    unsigned count;     /* of connections */
    int64_t start_ns, end_ns;
    uint32_t *took_us;
    size_t answers, room;
} pace;

/* Requests go round: the m-th of connection j is number m * count + j of all. */
static int64_t due_ns(const struct connection *c)
{
    double number = (double)c->asked * pace.count + (double)(c - connections);

    return pace.start_ns + (int64_t)(number * pace.interval_ns);
}

static void ask_if_due(struct connection *c, int64_t now)
{
    int64_t due = due_ns(c);

    if (c->busy || due > now || due >= pace.end_ns)
        return;
    c->due_ns = due;
    ask(c);
}

static void take_answer(struct connection *c)
{
    int64_t now;

    if (!answered(c))
        return;
    now = now_ns();
    if (c->due_ns >= pace.start_ns + WARM_UP_NS && pace.answers < pace.room)
        pace.took_us[pace.answers++] = (uint32_t)((now - c->due_ns) / 1000);
    ask_if_due(c, now);
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static uint32_t percentile(double share)
{
    size_t at = (size_t)(share * (double)pace.answers);

    return pace.answers ? pace.took_us[at < pace.answers ? at : pace.answers - 1] : 0;
}

static void report(void)
{
    unsigned missing = 0;

    for (unsigned i = 0; i < pace.count; i++)
        missing += connections[i].busy || due_ns(&connections[i]) < pace.end_ns;
    qsort(pace.took_us, pace.answers, sizeof *pace.took_us, by_size);
    printf("{\"requests\": %zu, \"p50\": %u, \"p99\": %u, \"max\": %u, \"behind\": %u}\n",
           pace.answers, percentile(0.5), percentile(0.99), percentile(1), missing);
}

/* The next number's connection may be busy: then it asks when its answer has come. */
static void run_pace(int epoll)
{
    struct epoll_event events[256];
    uint64_t number = 0;

    for (;;) {
        int64_t now = now_ns(), next = pace.start_ns + (int64_t)((double)number * pace.interval_ns);
        struct timespec wait;

        while (next <= now && next < pace.end_ns) {
            ask_if_due(&connections[number % pace.count], now);
            next = pace.start_ns + (int64_t)((double)++number * pace.interval_ns);
        }
        if (now >= pace.end_ns + GRACE_NS)
            return;
        if (next >= pace.end_ns)
            next = pace.end_ns + GRACE_NS;
        next = next > now ? next - now : 0;
        wait = (struct timespec){next / NS_PER_S, next % NS_PER_S};
        int n = epoll_pwait2(epoll, events, 256, &wait, NULL);
        for (int i = 0; i < n; i++)
            take_answer(events[i].data.ptr);
        if (now >= pace.end_ns && n == 0)
            return;
    }
}

static void keep_pace(uint16_t port, unsigned count, double rate, double seconds)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    pace.count = count;
    pace.interval_ns = (double)NS_PER_S / rate;
    pace.room = (size_t)(rate * seconds) + count;
    pace.took_us = calloc(pace.room, sizeof *pace.took_us);
    if (epoll < 0 || !pace.took_us)
        fail("epoll or memory");
    prctl(PR_SET_TIMERSLACK, 1);
    for (unsigned i = 0; i < count; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &connections[i]};
        connections[i].fd = dial(port);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &e) != 0)
            fail("epoll_ctl");
    }
    pace.start_ns = now_ns();
    pace.end_ns = pace.start_ns + WARM_UP_NS + (int64_t)(seconds * (double)NS_PER_S);
    run_pace(epoll);
    report();
}

/* --- many connections ------------------------------------------------------------------------- */

/* Each has had a request and its answer, as kept connections have; then nothing. */
static void hold(uint16_t port, unsigned count)
{
    char byte;

    for (unsigned i = 0; i < count; i++) {
        connections[i].fd = dial(port);
        ask(&connections[i]);
        while (!answered(&connections[i]))
            ;
    }
    printf("{\"held\": %u}\n", count);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    unsigned count = argc > 3 ? (unsigned)atoi(argv[3]) : 0;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (count < 1 || count > MAX_CONNECTIONS)
        argc = 0;
    if (argc == 6 && strcmp(argv[1], "pace") == 0)
        keep_pace((uint16_t)atoi(argv[2]), count, atof(argv[4]), atof(argv[5]));
    else if (argc == 4 && strcmp(argv[1], "hold") == 0)
        hold((uint16_t)atoi(argv[2]), count);
    else
        fprintf(stderr, "warm_load pace PORT CONNECTIONS RATE SECONDS\n"
                        "warm_load hold PORT CONNECTIONS\n");
    return argc < 4;
}
