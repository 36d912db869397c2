/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP worker that does what tests tell it, by request and by environment (README.md). The
 * difficulty: it runs as the only process of an empty image: its own init, without any file. */
#include "switches.h"
#include "task.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct worker worker;

static struct {
    int64_t port, start_delay_ms, slow_accept_ms, exit_at_boot, health_after_ms;
    int64_t close_after, idle_close_ms, eat_mib;
    bool never_listen, accept_only, ignore_term;
    const char *socket, *service;
} settings;

static char common_lines[400];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t number_of(const char *name, int64_t otherwise)
{
    const char *text = getenv(name);
    char *end;
    int64_t number;

    if (!text || !*text)
        return otherwise;
    number = strtoll(text, &end, 10);
    if (*end) {
        fprintf(stderr, "%s: a number is needed, not '%s'\n", name, text);
        exit(2);
    }
    return number;
}

static void read_settings(void)
{
    settings.port = number_of("PORT", 8080);
    settings.start_delay_ms = number_of("START_DELAY_MS", 0);
    settings.slow_accept_ms = number_of("SLOW_ACCEPT_MS", 0);
    settings.exit_at_boot = number_of("EXIT_AT_BOOT", -1);
    settings.health_after_ms = number_of("HEALTH_AFTER_MS", 0);
    settings.close_after = number_of("CLOSE_AFTER_N", 0);
    settings.idle_close_ms = number_of("IDLE_CLOSE_MS", -1);
    settings.eat_mib = number_of("EAT_AT_BOOT", number_of("OOM_AT_BOOT", 0) ? 4096 : 0);
    settings.never_listen = number_of("NEVER_LISTEN", 0) != 0;
    settings.accept_only = number_of("ACCEPT_ONLY", 0) != 0;
    settings.ignore_term = number_of("IGNORE_TERM", 0) != 0;
    settings.socket = getenv("SOCKET");
    settings.service = getenv("SERVICE");
}

/* --- connections --- */

/* What we wrote must not be lost to a reset for what we did not read: half-close, then read. */
static void close_gently(struct conn *c)
{
    static char unread[65536];
    int64_t until = task_now_ms() + 1000, left;

    shutdown(c->fd, SHUT_WR);
    do {
        ssize_t n = recv(c->fd, unread, sizeof unread, 0);

        left = until - task_now_ms();
        if (n == 0 || (n < 0 && (errno != EAGAIN || left <= 0 || !task_wait(left))))
            return;
    } while (left > 0);
}

static void end_connection(struct conn *c)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};

    if (c->ending == CLOSE_BY_RESET)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    else if (c->ending == CLOSE_GENTLY)
        close_gently(c);
    free(c->in);
}

static void answer(struct request *r)
{
    worker.requests++;
    if (++worker.now > worker.peak)
        worker.peak = worker.now;
    switches_answer(r);
    worker.now--;
}

static void serve(void *arg)
{
    struct conn c = {.fd = (int)(intptr_t)arg};
    struct request r;
    int64_t served = 0;

    if (settings.accept_only)
        while (!task_hung_up())
            task_wait(-1);
    while (!c.over && request_read(&c, &r, settings.idle_close_ms)) {
        if (++served == settings.close_after)
            c.over = true;
        answer(&r);
        request_end(&r);
        if (c.close_later && c.at == c.end)
            task_wait(-1);
        if (c.close_later) {
            c.over = true;
            c.ending = CLOSE_AT_ONCE;
        }
    }
    end_connection(&c);
}

static void accept_all(void *arg)
{
    int listener = (int)(intptr_t)arg, on = 1;

    if (settings.slow_accept_ms > 0)
        task_sleep_ms(settings.slow_accept_ms);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && errno == EAGAIN) {
            task_wait(-1);
        } else if (fd < 0) {
            task_sleep_ms(10); /* no descriptors, or a connection that went */
        } else {
            worker.connections++;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            if (!task_spawn(fd, serve, (void *)(intptr_t)fd))
                close(fd);
        }
    }
}

/* --- listening --- */

static int listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof address.sun_path) {
        fprintf(stderr, "SOCKET: the path is too long\n");
        exit(2);
    }
    strcpy(address.sun_path, path);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die(path);
    chmod(path, 0666); /* whoever can reach it may use it */
    return fd;
}

/* IPv6 with IPv4 in it, or IPv4 alone where there is no other. */
static int listen_tcp(uint16_t port)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1, off = 0;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        if (bind(fd, (struct sockaddr *)&six, sizeof six) == 0)
            return fd;
        close(fd);
    }
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&four, sizeof four) < 0)
        die("listen");
    return fd;
}

/* --- boot --- */

static void sleep_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

static void on_term(int signal)
{
    (void)signal;
    _exit(0);
}

static void know_itself(void)
{
    unsigned char random[16];

    if (gethostname(worker.hostname, sizeof worker.hostname - 1) < 0 ||
        getrandom(random, sizeof random, 0) != sizeof random)
        die("identity");
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(worker.id + 2 * i, 3, "%02x", random[i]);
    worker.healthy_ms = task_now_ms() + settings.health_after_ms;
    snprintf(common_lines, sizeof common_lines, "X-Echo-Host: %s\r\n%s%.64s%s", worker.hostname,
             settings.service ? "X-Echo-Service: " : "", settings.service ? settings.service : "",
             settings.service ? "\r\n" : "");
    answer_common(common_lines);
}

static void raise_limits(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* As the first process of a container, signals without a handler would be ignored. */
static void set_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, settings.ignore_term ? SIG_IGN : on_term);
    signal(SIGINT, on_term);
}

int main(void)
{
    int fd;

    read_settings();
    set_signals();
    raise_limits();
    if (settings.exit_at_boot >= 0)
        return (int)settings.exit_at_boot;
    if (settings.eat_mib > 0)
        eat_memory(settings.eat_mib);
    sleep_ms(settings.start_delay_ms);
    while (settings.never_listen)
        pause();
    know_itself();
    task_init();
    fd = settings.socket ? listen_unix(settings.socket) : listen_tcp((uint16_t)settings.port);
    if (listen(fd, 4096) < 0 || !task_spawn(fd, accept_all, (void *)(intptr_t)fd))
        die("listen");
    task_loop();
}
