/* SPDX-License-Identifier: Apache-2.0 */
/* The worker of the benches: one fixed small answer per request head, nothing else.
 * The difficulty: it shares a core with the load, so it must cost less than the proxies that are
 * measured: one epoll loop, one read and one write a request, no parsing beyond the blank line. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char answer[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\n"
    "hello world\n";

enum { MAX_DESCRIPTORS = 4096, MAX_PIPELINED = 16 };
static unsigned char seen[MAX_DESCRIPTORS]; /* bytes of "\r\n\r\n" matched at the end of a read */

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int listen_on_socket(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (fd < 0 || strlen(path) >= sizeof address.sun_path)
        fail("socket");
    strcpy(address.sun_path, path);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1024))
        fail("listen");
    return fd;
}

static int listen_on(unsigned short port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1024))
        fail("listen");
    return fd;
}

/* How many heads end in these bytes; requests of the benches have no body. */
static unsigned heads(int fd, const char *bytes, ssize_t n)
{
    static const char mark[] = "\r\n\r\n";
    unsigned count = 0, at = seen[fd];
    for (ssize_t i = 0; i < n; i++) {
        at = bytes[i] == mark[at] ? at + 1 : bytes[i] == '\r';
        if (at == 4) {
            count++;
            at = 0;
        }
    }
    seen[fd] = (unsigned char)at;
    return count < MAX_PIPELINED ? count : MAX_PIPELINED;
}

static void serve(int fd)
{
    static char bytes[65536];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n <= 0) {
        close(fd);
        return;
    }
    for (unsigned left = heads(fd, bytes, n); left > 0; left--)
        if (write(fd, answer, sizeof answer - 1) != (ssize_t)(sizeof answer - 1)) {
            close(fd);
            return;
        }
}

static void take(int listener, int epoll)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), on = 1;
    if (fd < 0)
        return;
    if (fd >= MAX_DESCRIPTORS) {
        close(fd);
        return;
    }
    seen[fd] = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        close(fd);
}

int main(void)
{
    const char *port = getenv("PORT"), *path = getenv("SOCKET");
    int listener =
        path ? listen_on_socket(path) : listen_on((unsigned short)atoi(port ? port : "8080"));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
        fail("epoll");
    signal(SIGPIPE, SIG_IGN); /* a proxy may close while it is answered */
    for (;;) {
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                take(listener, epoll);
            else
                serve(events[i].data.fd);
        }
    }
}
