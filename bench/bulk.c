/* SPDX-License-Identifier: Apache-2.0 */
/* The worker of the bench of large bodies: GET /N answers N bytes, POST reads a body and says how
 * long it was. The difficulty: it must be faster than the proxies, so nothing is made or looked at:
 * a thread a connection, large reads and writes of the same memory. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE_BYTES = 256 * 1024, HEAD_BYTES = 8192 };

static char zeros[PIECE_BYTES];

static int send_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return -1;
        bytes += sent;
        n -= (size_t)sent;
    }
    return 0;
}

static int say_head(int fd, long long length)
{
    char head[128];
    int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n\r\n", length);

    return send_all(fd, head, (size_t)n);
}

static int give(int fd, long long left)
{
    if (say_head(fd, left) != 0)
        return -1;
    while (left > 0) {
        long long n = left < PIECE_BYTES ? left : PIECE_BYTES;
        if (send_all(fd, zeros, (size_t)n) != 0)
            return -1;
        left -= n;
    }
    return 0;
}

static int swallow(int fd, const char *head, long long begun)
{
    static __thread char bytes[PIECE_BYTES];
    const char *field = strcasestr(head, "\r\nContent-Length:");
    long long length = field ? atoll(field + 17) : 0, left = length - begun;
    char text[32];
    int n;

    while (left > 0) {
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        if (got <= 0)
            return -1;
        left -= got;
    }
    n = snprintf(text, sizeof text, "%lld\n", length);
    return say_head(fd, n) != 0 ? -1 : send_all(fd, text, (size_t)n);
}

/* One request; what came behind its head is the beginning of its body. */
static int serve_one(int fd)
{
    char head[HEAD_BYTES];
    size_t n = 0;
    char *end = NULL;

    while (!end && n < sizeof head - 1) {
        ssize_t got = recv(fd, head + n, sizeof head - 1 - n, 0);
        if (got <= 0)
            return -1;
        n += (size_t)got;
        head[n] = '\0';
        end = strstr(head, "\r\n\r\n");
    }
    if (!end)
        return -1;
    if (strncmp(head, "GET /", 5) == 0)
        return give(fd, atoll(head + 5));
    return swallow(fd, head, (long long)(head + n - (end + 4)));
}

static void *serve(void *arg)
{
    int fd = (int)(long)arg, on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while (serve_one(fd) == 0)
        ;
    close(fd);
    return NULL;
}

int main(void)
{
    const char *port = getenv("PORT");
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((unsigned short)atoi(port ? port : "8080"))};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    pthread_attr_t detached;

    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 64)) {
        perror("listen");
        return 1;
    }
    for (;;) {
        pthread_t thread;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 && pthread_create(&thread, &detached, serve, (void *)(long)fd) != 0)
            close(fd);
    }
}
