/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets. The difficulty: port 0 must become the same port for every front, and a Unix
 * socket left by a killed run must be told from one that is in use. */
#include "orchestrator/listen.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 4096
#define SYSTEMD_FIRST_FD 3

static void set_init(struct listen_set *set, bool is_unix, const char *name)
{
    *set = (struct listen_set){.unix_socket = is_unix, .shared = is_unix};
    for (size_t i = 0; i < KG_MAX_FRONTS; i++)
        set->fds[i] = -1;
    kg_str_copy(set->name, sizeof set->name, kg_str_of(name));
}

static bool somebody_answers(const struct sockaddr_un *un)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool answers = fd >= 0 && (connect(fd, (const void *)un, sizeof *un) == 0 || errno == EAGAIN);

    if (fd >= 0)
        close(fd);
    return answers;
}

static int open_unix(struct listen_set *set, const char *path, struct kg_err *err)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd;

    if (!kg_str_copy(un.sun_path, sizeof un.sun_path, kg_str_of(path)))
        return kg_fail(err, KG_EINVAL, "unix:%s: the path is longer than %d bytes", path,
                       KG_MAX_SOCKET_PATH_BYTES);
    if (somebody_answers(&un))
        return kg_fail(err, KG_ECONFLICT, "unix:%s: another process listens there", path);
    unlink(path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (const void *)&un, sizeof un) < 0 || listen(fd, LISTEN_BACKLOG) < 0) {
        kg_fail(err, KG_EIO, "unix:%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return KG_EIO;
    }
    chmod(path, 0666); /* who may reach it is the directory's business */
    set->fds[0] = fd;
    set->count = 1;
    kg_str_copy(set->path, sizeof set->path, kg_str_of(path));
    return 0;
}

/* Host and port out of "host:port" or "[v6]:port"; false when it is neither. */
static bool split_address(const char *address, char *host, size_t cap, const char **port)
{
    const char *colon = strrchr(address, ':');
    struct kg_str h;

    if (!colon || colon == address || !colon[1])
        return false;
    h = (struct kg_str){address, (size_t)(colon - address)};
    if (h.p[0] == '[' && h.n > 2 && h.p[h.n - 1] == ']')
        h = (struct kg_str){h.p + 1, h.n - 2};
    *port = colon + 1;
    return kg_str_copy(host, cap, h);
}

static int bind_one(const struct sockaddr *sa, socklen_t length, bool reuse_port)
{
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (reuse_port)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (sa->sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, sa, length) == 0)
        return fd;
    on = errno;
    close(fd);
    errno = on;
    return -1;
}

/* SO_REUSEPORT alone would let a second Kipgate of the same user share the port unnoticed: the
 * first socket is bound without it as a question, and closed again. */
static int address_is_free(const struct sockaddr *sa, socklen_t length)
{
    int fd = bind_one(sa, length, false);

    if (fd < 0)
        return -1;
    if (listen(fd, 1) < 0) {
        close(fd);
        return -1;
    }
    close(fd);
    return 0;
}

static int bind_all(struct listen_set *set, struct sockaddr_storage *sa, socklen_t length,
                    size_t fronts)
{
    if (address_is_free((const void *)sa, length) < 0)
        return -1;
    for (size_t i = 0; i < fronts; i++) {
        int fd = bind_one((const void *)sa, length, true);
        socklen_t n = sizeof *sa;
        if (fd < 0)
            return -1;
        set->fds[set->count++] = fd;
        if (listen(fd, LISTEN_BACKLOG) < 0)
            return -1;
        getsockname(fd, (void *)sa, &n); /* port 0 is now a real one, for the next */
    }
    return 0;
}

static int open_tcp(struct listen_set *set, const char *address, size_t fronts, struct kg_err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    struct sockaddr_storage sa = {0};
    char host[256], port[16];
    const char *wanted;
    int rc;

    if (!split_address(address, host, sizeof host, &wanted))
        return kg_fail(err, KG_EINVAL, "%s: not host:port, [v6]:port or unix:/path", address);
    rc = getaddrinfo(host, wanted, &hints, &found);
    if (rc != 0)
        return kg_fail(err, KG_EINVAL, "%s: %s", address, gai_strerror(rc));
    memcpy(&sa, found->ai_addr, found->ai_addrlen);
    rc = bind_all(set, &sa, found->ai_addrlen, fronts);
    if (rc < 0)
        kg_fail(err, KG_EIO, "%s: %s", address, strerror(errno));
    else if (getnameinfo((void *)&sa, found->ai_addrlen, host, sizeof host, port, sizeof port,
                         NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(set->name, sizeof set->name, sa.ss_family == AF_INET6 ? "[%.99s]:%s" : "%.99s:%s",
                 host, port);
    freeaddrinfo(found);
    return rc < 0 ? KG_EIO : 0;
}

int listen_open(struct listen_set *set, const char *address, size_t fronts, struct kg_err *err)
{
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    int rc;

    KG_ASSERT(fronts >= 1 && fronts <= KG_MAX_FRONTS);
    set_init(set, is_unix, address);
    rc = is_unix ? open_unix(set, address + 5, err) : open_tcp(set, address, fronts, err);
    if (rc != 0)
        listen_close(set);
    return rc;
}

int listen_adopt(struct listen_set *set, int fd, struct kg_err *err)
{
    int family = 0, accepts = 0;
    socklen_t n = sizeof family;
    char name[32];

    snprintf(name, sizeof name, "descriptor %d", fd);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &n) < 0 || !accepts)
        return kg_fail(err, KG_EINVAL, "%s was passed but is not a listening socket", name);
    set_init(set, family == AF_UNIX, name);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    set->shared = true;
    set->fds[0] = fd;
    set->count = 1;
    return 0;
}

int listen_fd(const struct listen_set *set, size_t front)
{
    return set->shared ? set->fds[0] : set->fds[front];
}

void listen_close(struct listen_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->fds[i] >= 0)
            close(set->fds[i]);
    if (set->path[0] && set->count > 0)
        unlink(set->path);
    set->count = 0;
}

int listen_passed_count(void)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    int64_t n, ours;

    if (!pid || !fds || !kg_str_to_i64(kg_str_of(pid), &ours) || ours != getpid() ||
        !kg_str_to_i64(kg_str_of(fds), &n) || n < 0 || n > KG_MAX_LISTEN)
        return 0;
    for (int i = 0; i < (int)n; i++)
        fcntl(SYSTEMD_FIRST_FD + i, F_SETFD, FD_CLOEXEC);
    return (int)n;
}
