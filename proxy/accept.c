/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets and the caps on what comes in through them.
 * The difficulty: at a cap, or without descriptors, the loop must neither spin nor go deaf. We
 * accept by ourselves (a uv poll handle): libuv's own way sleeps after each accept and cannot be
 * paused. */
#include "base/err.h"
#include "proxy/client_priv.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

#define BACKLOG 4096
#define ACCEPTS_PER_TURN 64
#define PAUSE_MS 100              /* after descriptors ran out */
#define MAX_LOCAL_CONNECTIONS 256 /* on local listeners: not counted with the clients */

#define OVERLOADED_HEAD                                                                            \
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"               \
    "Content-Length: %d\r\nX-Request-Id: %s\r\nRetry-After: 1\r\nConnection: close\r\n\r\n%s"
#define OVERLOADED_BODY                                                                            \
    "{\"type\":\"urn:kipgate:overloaded\",\"title\":\"%s\",\"status\":503,"                        \
    "\"detail\":\"too many connections here\",\"instance\":\"%s\"}\n"

/* --- caps ---------------------------------------------------------------------------------- */

/* The bytes that stand for one client: an IPv4 address, or the half of an IPv6 one that a client
 * cannot choose at will. Empty: no address, or no cap. */
static struct kg_str client_key(const struct proxy *p, const struct sockaddr_storage *a,
                                char out[CLIENT_KEY_BYTES])
{
    const struct sockaddr_in6 *six = (const void *)a;

    if (p->params.max_connections_per_client == 0)
        return (struct kg_str){out, 0};
    if (a->ss_family == AF_INET) {
        memcpy(out, &((const struct sockaddr_in *)(const void *)a)->sin_addr, 4);
        return (struct kg_str){out, 4};
    }
    if (a->ss_family != AF_INET6)
        return (struct kg_str){out, 0};
    if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
        memcpy(out, &six->sin6_addr.s6_addr[12], 4);
        return (struct kg_str){out, 4};
    }
    memcpy(out, &six->sin6_addr, 8);
    return (struct kg_str){out, 8};
}

/* Counts one more of this client; false: it has as many as it may. */
static bool count_client(struct proxy *p, struct kg_str key)
{
    uintptr_t n = key.n > 0 ? (uintptr_t)kg_map_get(&p->per_client, key) : 0;

    if (key.n == 0)
        return true;
    return n < p->params.max_connections_per_client &&
           kg_map_set(&p->per_client, key, (void *)(n + 1)) == 0;
}

void accept_forget(struct proxy *p, struct kg_str key)
{
    uintptr_t n;

    if (key.n == 0)
        return;
    n = (uintptr_t)kg_map_get(&p->per_client, key);
    KG_ASSERT(n > 0);
    if (n == 1)
        kg_map_remove(&p->per_client, key);
    else
        kg_map_set(&p->per_client, key, (void *)(n - 1)); /* replaces: no memory is needed */
}

/* Not by problem.c: this is said where there is no memory, too. */
struct kg_str accept_overloaded(struct proxy *p)
{
    static char body[512], text[1024];
    const struct proxy_reason_row *row = proxy_reason_row(PROXY_OVERLOADED);
    char id[REWRITE_ID_MAX + 1];
    int n;

    rewrite_request_id(NULL, id);
    n = snprintf(body, sizeof body, OVERLOADED_BODY, row->title, id);
    n = snprintf(text, sizeof text, OVERLOADED_HEAD, n, id, body);
    p->stats->refused[row->index]++;
    return (struct kg_str){text, (size_t)n};
}

/* Says 503 as well as that goes without waiting for anything. */
static void shed(struct proxy *p, int fd, bool secure)
{
    char unread[4096];
    struct kg_str text;

    p->stats->connections_refused++;
    if (secure) { /* words would be no TLS, and a handshake is what we cannot afford now */
        close(fd);
        return;
    }
    if (recv(fd, unread, sizeof unread, MSG_DONTWAIT) < 0)
        errno = 0; /* nothing there yet; what is there would turn our close into a reset */
    text = accept_overloaded(p);
    if (send(fd, text.p, text.n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        shutdown(fd, SHUT_WR);
    close(fd);
}

static bool has_place(const struct listener *l)
{
    const struct proxy *p = l->proxy;

    if (l->local)
        return p->local_connections < MAX_LOCAL_CONNECTIONS;
    return p->connections < p->params.max_connections;
}

static void take(struct listener *l, int fd, const struct sockaddr_storage *address)
{
    struct proxy *p = l->proxy;
    char bytes[CLIENT_KEY_BYTES];
    struct kg_str key = {bytes, 0};

    if (!l->local)
        key = client_key(p, address, bytes);
    if (has_place(l) && count_client(p, key)) {
        p->stats->accepted += !l->local;
        client_new(l, fd, (const struct sockaddr *)address, key);
    } else {
        shed(p, fd, l->secure);
    }
}

/* --- accepting ----------------------------------------------------------------------------- */

static void on_acceptable(uv_poll_t *poll, int status, int events);

static void pause_all(struct proxy *p)
{
    for (size_t i = 0; i < p->listener_count; i++)
        if (p->listeners[i].open)
            uv_poll_stop(&p->listeners[i].poll);
    uv_timer_start(&p->accept_again, listeners_resume, PAUSE_MS, 0);
}

void listeners_resume(uv_timer_t *t)
{
    struct proxy *p = t->data;

    for (size_t i = 0; i < p->listener_count; i++)
        if (p->listeners[i].open)
            uv_poll_start(&p->listeners[i].poll, UV_READABLE, on_acceptable);
}

/* Those that say that one connection failed, not that accepting does. */
static bool is_passing(int error)
{
    return error == EINTR || error == ECONNABORTED || error == EPERM || error == EPROTO ||
           error == ENETDOWN || error == EHOSTUNREACH || error == ENETUNREACH;
}

/* Those that wait, but no more than `most`. */
static void accept_all(struct listener *l, int most)
{
    struct proxy *p = l->proxy;

    for (int i = 0; i < most && l->open; i++) {
        struct sockaddr_storage address = {0};
        socklen_t n = sizeof address;
        int fd = accept4(l->fd, (struct sockaddr *)&address, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(l, fd, &address);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (!is_passing(errno)) {
            pause_all(p);
            return;
        }
    }
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    accept_all(poll->data, ACCEPTS_PER_TURN);
}

/* --- life ---------------------------------------------------------------------------------- */

/* Accepted sockets inherit these, which saves the calls for each. */
static void set_inherited(int fd)
{
    static const int on = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* without, it is only slower */
    wire_probe_peer(fd);
}

int listener_open(struct listener *l, struct proxy *p, const struct proxy_listener *what,
                  struct kg_err *err)
{
    int rc;

    l->proxy = p;
    l->fd = what->fd;
    l->local = what->local;
    l->unix_socket = what->unix_socket;
    l->secure = what->secure;
    if (!l->unix_socket)
        set_inherited(l->fd);
    rc = listen(l->fd, BACKLOG) == 0 ? uv_poll_init(p->loop, &l->poll, l->fd) : -errno;
    if (rc != 0) {
        close(l->fd);
        return kg_fail(err, KG_EIO, "listening: %s", uv_strerror(rc));
    }
    p->handles++;
    l->poll.data = l;
    l->open = true;
    rc = uv_poll_start(&l->poll, UV_READABLE, on_acceptable);
    return rc == 0 ? 0 : kg_fail(err, KG_EIO, "listening: %s", uv_strerror(rc));
}

static void on_closed(uv_handle_t *h)
{
    struct listener *l = h->data;

    proxy_handle_closed(l->proxy);
}

void listener_close(struct listener *l)
{
    if (!l->open)
        return;
    if (!l->proxy->closing)
        accept_all(l, BACKLOG + 1); /* whoever is in the backlog is served */
    l->open = false;
    uv_close((uv_handle_t *)&l->poll, on_closed);
    close(l->fd);
}
