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

/* Only a refusal says that nobody is there: without the right to connect one cannot know. */
static bool is_stale(const struct sockaddr_un *un)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool refused = fd >= 0 && connect(fd, (const void *)un, sizeof *un) < 0 &&
                   (errno == ECONNREFUSED || errno == ENOENT);

    if (fd >= 0)
        close(fd);
    return refused;
}

/* Makes room for a socket at that path; a file that is none is not ours to remove. */
static int clear_path(const struct sockaddr_un *un, struct kg_err *err)
{
    struct stat st;

    if (lstat(un->sun_path, &st) < 0)
        return 0; /* nothing there; any other cause is bind's to tell */
    if (!S_ISSOCK(st.st_mode))
        return kg_fail(err, KG_ECONFLICT, "unix:%s: exists and is not a socket", un->sun_path);
    if (!is_stale(un))
        return kg_fail(err, KG_ECONFLICT, "unix:%s: another process listens there", un->sun_path);
    if (unlink(un->sun_path) < 0 && errno != ENOENT)
        return kg_fail(err, KG_ECONFLICT,
                       "unix:%s: nobody listens there, but it cannot be removed: %s", un->sun_path,
                       strerror(errno));
    return 0;
}

static int open_unix(struct listen_set *set, const char *path, struct kg_err *err)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd;

    if (path[0] != '/')
        return kg_fail(err, KG_EINVAL, "unix:%s: not an absolute path", path);
    if (!kg_str_copy(un.sun_path, sizeof un.sun_path, kg_str_of(path)))
        return kg_fail(err, KG_EINVAL, "unix:%s: the path is longer than %d bytes", path,
                       KG_MAX_SOCKET_PATH_BYTES);
    if (clear_path(&un, err) != 0)
        return KG_ECONFLICT;
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
    int64_t number;

    if (!colon || colon == address || !kg_str_to_i64(kg_str_of(colon + 1), &number) || number < 0 ||
        number > UINT16_MAX)
        return false; /* getaddrinfo would cut a port that is too large */
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
    while (set->count < fronts) {
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

static void set_name(struct listen_set *set, const struct sockaddr_storage *sa, socklen_t length)
{
    char host[128], port[16];

    if (getnameinfo((const void *)sa, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(set->name, sizeof set->name, sa->ss_family == AF_INET6 ? "[%.99s]:%s" : "%.99s:%s",
                 host, port);
}

static int open_tcp(struct listen_set *set, const char *address, size_t fronts, struct kg_err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL, *a;
    struct sockaddr_storage sa = {0};
    char host[256];
    const char *wanted;
    int rc;

    if (!split_address(address, host, sizeof host, &wanted))
        return kg_fail(err, KG_EINVAL, "%s: not host:port, [v6]:port or unix:/path", address);
    rc = getaddrinfo(host, wanted, &hints, &found);
    if (rc != 0)
        return kg_fail(err, KG_EINVAL, "%s: %s", address, gai_strerror(rc));
    for (a = found;; a = a->ai_next) {
        memcpy(&sa, a->ai_addr, a->ai_addrlen);
        rc = bind_all(set, &sa, a->ai_addrlen, fronts);
        if (rc == 0 || !a->ai_next || (errno != EADDRNOTAVAIL && errno != EAFNOSUPPORT))
            break; /* a name of two families, one of which this machine does not have, goes on */
    }
    if (rc < 0)
        kg_fail(err, KG_EIO, "%s: %s", address, strerror(errno));
    else
        set_name(set, &sa, a->ai_addrlen);
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

static int family_of(int fd)
{
    int family = 0;
    socklen_t n = sizeof family;

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) == 0 ? family : -1;
}

int listen_adopt(struct listen_set *set, int fd, struct kg_err *err)
{
    int family = family_of(fd), accepts = 0;
    socklen_t n = sizeof accepts;
    char name[32];

    snprintf(name, sizeof name, "descriptor %d", fd);
    if (family < 0 || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &n) < 0 || !accepts)
        return kg_fail(err, KG_EINVAL, "%s was passed but is not a listening socket", name);
    set_init(set, family == AF_UNIX, name);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    set->shared = true;
    set->fds[0] = fd;
    set->count = 1;
    return 0;
}

/* Another socket beside the one that is bound there; a copy of it where that cannot be. */
static int one_more(int fd, bool passed)
{
    struct sockaddr_storage sa = {0};
    socklen_t n = sizeof sa;
    int more = -1;

    if (!passed && getsockname(fd, (void *)&sa, &n) == 0 && sa.ss_family != AF_UNIX)
        more = bind_one((void *)&sa, n, true);
    if (more >= 0 && listen(more, LISTEN_BACKLOG) == 0)
        return more;
    if (more >= 0)
        close(more);
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

int listen_inherit(struct listen_set *set, const char *address, bool passed, const int *fds,
                   size_t fronts, struct kg_err *err)
{
    struct sockaddr_storage sa = {0};
    socklen_t n = sizeof sa;
    int first = -1;

    for (size_t i = 0; i < fronts && first < 0; i++)
        first = fds[i];
    KG_ASSERT(first >= 0);
    set_init(set, family_of(first) == AF_UNIX, address);
    set->shared = false;
    if (passed)
        kg_str_copy(set->name, sizeof set->name, KG_STR("passed"));
    else if (set->unix_socket && strncmp(address, "unix:", 5) == 0)
        kg_str_copy(set->path, sizeof set->path, kg_str_of(address + 5));
    else if (getsockname(first, (void *)&sa, &n) == 0)
        set_name(set, &sa, n);
    for (; set->count < fronts; set->count++) {
        int fd = fds[set->count] >= 0 ? fds[set->count] : one_more(first, passed);
        if (fd < 0)
            return kg_fail(err, KG_EIO, "%s: %s", address, strerror(errno));
        set->fds[set->count] = fd;
    }
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
        !kg_str_to_i64(kg_str_of(fds), &n) || n < 0)
        return 0;
    if (n > KG_MAX_LISTEN)
        return KG_MAX_LISTEN + 1;
    for (int i = 0; i < (int)n; i++)
        fcntl(SYSTEMD_FIRST_FD + i, F_SETFD, FD_CLOEXEC);
    return (int)n;
}

void listen_pass_on(bool on)
{
    int n = listen_passed_count();

    for (int i = 0; on && i < n && i < KG_MAX_LISTEN; i++)
        fcntl(SYSTEMD_FIRST_FD + i, F_SETFD, 0);
}
