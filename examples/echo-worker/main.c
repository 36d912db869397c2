/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest worker for tests: a static program that does what it is told (README.md). A thread a
 * connection, blocking calls. The difficulty: as process 1 it has no default signal handlers. */
#include "echo.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define STACK_BYTES (512 * 1024)

static long long env_number(const char *name, long long otherwise)
{
    const char *value = getenv(name);

    return value && value[0] ? atoll(value) : otherwise;
}

static void on_term(int signal)
{
    (void)signal;
    _exit(0);
}

static void serve_requests(struct conn *c, struct request *r)
{
    long long most = env_number("CLOSE_AFTER_N", -1), idle_ms = env_number("IDLE_CLOSE_MS", 0);
    struct timeval idle = {idle_ms / 1000, idle_ms % 1000 * 1000};

    if (idle_ms > 0)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle);
    while (most-- != 0 && request_read(c, r) && answer(r)) {
    }
}

static void *serve(void *arg)
{
    struct conn *c = calloc(1, sizeof *c);
    struct request *r = calloc(1, sizeof *r);
    int on = 1;

    if (c && r && (c->record = malloc(RECORD_BYTES)) && (r->head = malloc(HEAD_BYTES))) {
        c->fd = (int)(intptr_t)arg;
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        answers_connection();
        serve_requests(c, r);
        free(r->head);
    }
    close((int)(intptr_t)arg);
    free(c ? c->record : NULL);
    free(c);
    free(r);
    return NULL;
}

static int listen_tcp(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (void *)&at, sizeof at) < 0 || listen(fd, 4096) < 0)
        return -1;
    return fd;
}

static int listen_unix(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    unlink(path);
    if (fd < 0 || bind(fd, (void *)&at, sizeof at) < 0 || listen(fd, 4096) < 0)
        return -1;
    chmod(path, 0777); /* the front runs as another user */
    return fd;
}

static void misbehave_at_boot(void)
{
    if (getenv("EXIT_AT_BOOT"))
        exit((int)env_number("EXIT_AT_BOOT", 1));
    while (getenv("OOM_AT_BOOT")) {
        char *volatile p = malloc(1 << 20);
        if (p)
            memset(p, 1, 1 << 20);
    }
    sleep_ms(env_number("START_DELAY_MS", env_number("START_DELAY", 0)));
    while (getenv("NEVER_LISTEN"))
        pause();
}

int main(void)
{
    const char *path = getenv("SOCKET");
    pthread_attr_t attributes;
    int fd;

    signal(SIGTERM, getenv("IGNORE_TERM") ? SIG_IGN : on_term);
    signal(SIGINT, on_term);
    signal(SIGPIPE, SIG_IGN);
    answers_init();
    misbehave_at_boot();
    fd = path ? listen_unix(path) : listen_tcp((int)env_number("PORT", 8080));
    if (fd < 0) {
        perror("listen");
        return 1;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int client = accept(fd, NULL, NULL);
        pthread_t thread;
        if (client < 0 || getenv("ACCEPT_ONLY"))
            continue;
        if (pthread_create(&thread, &attributes, serve, (void *)(intptr_t)client) != 0)
            close(client);
    }
}
