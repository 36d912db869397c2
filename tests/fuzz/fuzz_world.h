/* SPDX-License-Identifier: Apache-2.0 */
/* A proxy with a scripted gate, a few clients and a worker, all in one process on Unix sockets: as
 * tests/unit/proxy/world.h, but without waiting. The difficulty: each input begins with nothing
 * left of the last one, and when it is over everything must have been given back. */
#ifndef TESTS_FUZZ_WORLD_H
#define TESTS_FUZZ_WORLD_H

#include "base/log.h"
#include "fuzz.h"
#include "fuzz_clock.h"
#include "proxy/proxy.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/un.h>

#define MAX_PEERS 8
#define MAX_CAPTURE (1024 * 1024)

struct peer { /* a client, or a connection to the worker */
    int fd;   /* -1: none */
    struct kg_buf got;
    bool eof, deaf;  /* deaf: reads nothing */
    size_t answered; /* worker: bytes of `got` that were answered by the script */
};

enum gate_mode { GRANT, HOLD, REFUSE };

static struct {
    uv_loop_t loop;
    struct proxy *proxy;
    unsigned protocols; /* as proxy_params has them */
    bool h2c;           /* the worker's */
    struct proxy_stats stats;
    struct sockaddr_un worker_at, client_at, local_at;
    socklen_t client_at_n, local_at_n;
    int worker_fd, log_fd;
    struct proxy_worker *worker;
    unsigned out, lost; /* slots: of this worker; of those that were removed */
    struct peer clients[MAX_PEERS], workers[MAX_PEERS];
    bool closed;
} world;

static struct {
    enum gate_mode mode;
    struct kg_list waiters;
    unsigned acquired, granted, refused, cancelled, released, waiting;
} gate;

static struct {
    uint64_t id;
    bool open;
} local;

/* --- the gate ------------------------------------------------------------------------------ */

static inline struct proxy_worker *gate_acquire(void *self, struct proxy_waiter *w)
{
    (void)self;
    gate.acquired++;
    KG_ASSERT(w->service >= 1 && w->service <= 3);
    if (gate.mode == GRANT && world.worker) {
        gate.granted++;
        world.out++;
        return world.worker;
    }
    kg_list_push_back(&gate.waiters, &w->link);
    gate.waiting++;
    return NULL;
}

static inline void gate_cancel(void *self, struct proxy_waiter *w)
{
    (void)self;
    kg_list_remove(&w->link);
    gate.waiting--;
    gate.cancelled++;
}

static inline void gate_release(void *self, struct proxy_worker *w, bool quiet)
{
    (void)self;
    (void)quiet;
    KG_ASSERT(w == world.worker && world.out > 0);
    world.out--;
    gate.released++;
}

static inline void gate_suspect(void *self, struct proxy_worker *w)
{
    (void)self;
    KG_ASSERT(w);
}

static inline void gate_probed(void *self, struct proxy_worker *w)
{
    (void)self;
    KG_ASSERT(w == world.worker);
}

/* Answers the request that waits longest, if one does. */
static inline void gate_answer(bool grant)
{
    static const struct proxy_reason_row row = {"queue-full", 503, false, "Too many",
                                                PROXY_REASON_COUNT};
    struct kg_list *first = kg_list_first(&gate.waiters);
    struct proxy_waiter *w = first ? KG_LIST_ENTRY(first, struct proxy_waiter, link) : NULL;
    struct proxy_answer a = {.warmth = PROXY_COLD};

    if (!w)
        return;
    grant = grant && world.worker;
    kg_list_remove(first);
    gate.waiting--;
    gate.granted += grant;
    gate.refused += !grant;
    world.out += grant;
    if (grant)
        a.worker = world.worker;
    else
        a = (struct proxy_answer){
            .reason = &row, .retry_after_ms = 2500, .detail = "service: \"x\""};
    w->on_answer(w, &a);
}

/* --- peers --------------------------------------------------------------------------------- */

static inline bool peer_read(struct peer *p)
{
    static char bytes[65536];
    bool any = false;
    ssize_t n = 0;

    while (!p->deaf && !p->eof && (n = recv(p->fd, bytes, sizeof bytes, 0)) != -1) {
        any = true;
        p->eof = n == 0;
        KG_ASSERT(p->got.len < MAX_CAPTURE * 64);
        KG_ASSERT(kg_buf_append(&p->got, bytes, (size_t)n) == 0);
    }
    if (n == -1 && errno != EAGAIN)
        p->eof = true;
    return any;
}

static inline void peer_close(struct peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

static inline struct peer *peer_new(struct peer *among, int fd)
{
    for (int i = 0; i < MAX_PEERS; i++) {
        struct peer *p = &among[i];
        if (p->fd >= 0 || p->got.max > 0)
            continue;
        *p = (struct peer){.fd = fd};
        kg_buf_init(&p->got, SIZE_MAX);
        return p;
    }
    close(fd);
    return NULL;
}

static inline void peers_forget(struct peer *among)
{
    for (int i = 0; i < MAX_PEERS; i++) {
        peer_close(&among[i]);
        kg_buf_fini(&among[i].got);
        among[i] = (struct peer){.fd = -1};
    }
}

static inline struct peer *dial(const struct sockaddr_un *to, socklen_t n)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    KG_ASSERT(fd >= 0);
    if (connect(fd, (const struct sockaddr *)to, n) != 0) {
        close(fd); /* draining: nobody listens */
        return NULL;
    }
    return peer_new(world.clients, fd);
}

/* --- turning ------------------------------------------------------------------------------- */

static inline bool take_workers(void)
{
    int fd = accept4(world.worker_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0)
        peer_new(world.workers, fd); /* too many: closed, as by a worker that is at its limit */
    return fd >= 0;
}

/* Until the loop moves nothing any more. */
static inline void turn(void)
{
    bool moved = true;

    for (int i = 0; i < 1000 && moved; i++) {
        uv_run(&world.loop, UV_RUN_NOWAIT);
        uv_run(&world.loop, UV_RUN_NOWAIT); /* what the first put off to the next turn */
        moved = take_workers();
        for (int k = 0; k < MAX_PEERS; k++) {
            moved |= world.clients[k].fd >= 0 && peer_read(&world.clients[k]);
            moved |= world.workers[k].fd >= 0 && peer_read(&world.workers[k]);
        }
    }
}

static inline void pass(int64_t ms)
{
    fuzz_now_ms += ms;
    turn();
}

/* --- open and close ------------------------------------------------------------------------ */

static inline int listening(struct sockaddr_un *at, socklen_t *n)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    KG_ASSERT(fd >= 0);
    KG_ASSERT(bind(fd, (struct sockaddr *)at, *n) ==
              0); /* without a path: the kernel makes a name */
    KG_ASSERT(listen(fd, 64) == 0);
    *n = sizeof *at;
    KG_ASSERT(getsockname(fd, (struct sockaddr *)at, n) == 0);
    return fd;
}

static inline int listening_anywhere(struct sockaddr_un *at, socklen_t *n)
{
    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    *n = sizeof(sa_family_t);
    return listening(at, n);
}

static char directory[] = "/tmp/kgf.XXXXXX";

static inline void world_fini(void)
{
    unlink(world.worker_at.sun_path);
    rmdir(directory);
}

static inline void world_init(void)
{
    socklen_t n = sizeof world.worker_at;

    kg_log_setup(KG_LOG_ERROR, KG_LOG_TEXT, "fuzz");
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&world.loop);
    world.worker_at.sun_family = AF_UNIX;
    KG_ASSERT(mkdtemp(directory)); /* of its own, for it is watched */
    snprintf(world.worker_at.sun_path, sizeof world.worker_at.sun_path, "%s/w", directory);
    world.worker_fd = listening(&world.worker_at, &n);
    atexit(world_fini);
    world.log_fd = memfd_create("access", MFD_CLOEXEC);
    KG_ASSERT(world.log_fd >= 0);
    for (int i = 0; i < MAX_PEERS; i++)
        world.clients[i].fd = world.workers[i].fd = -1;
}

/* `there`: connections to it are taken; else they fail. */
static inline void add_worker(bool there)
{
    struct sockaddr_un at = world.worker_at;

    if (!there)
        kg_str_copy(at.sun_path, sizeof at.sun_path, KG_STR("/nonexistent/worker"));
    world.worker = proxy_worker_add(world.proxy, 1, (struct sockaddr *)&at, sizeof at);
    KG_ASSERT(world.worker);
}

static inline void remove_worker(void)
{
    if (world.worker)
        proxy_worker_remove(world.worker);
    world.worker = NULL;
    world.lost += world.out;
    world.out = 0;
}

static inline void configure(void)
{
    const struct proxy_service plain = {
        .id = 1, .name = "plain", .max_body_bytes = -1, .h2c = world.h2c};
    const struct proxy_service other = {.id = 2,
                                        .name = "other",
                                        .max_body_bytes = 8,
                                        .strip_prefix = true,
                                        .request_timeout_ms = 150,
                                        .quiet_status = 599,
                                        .quiet_count = 1,
                                        .quiet = {{.path = "*/ping"}}};
    const struct proxy_service large = {
        .id = 3, .name = "large", .max_body_bytes = 20000, .h2c = world.h2c};
    struct proxy *p = world.proxy;

    KG_ASSERT(proxy_config_begin(p) == 0 && proxy_config_service(p, &plain) == 0 &&
              proxy_config_service(p, &other) == 0 && proxy_config_service(p, &large) == 0 &&
              proxy_config_route(p, KG_STR("a"), KG_STR("/"), 1) == 0 &&
              proxy_config_route(p, KG_STR("*.a"), KG_STR("/"), 1) == 0 &&
              proxy_config_route(p, KG_STR("a"), KG_STR("/other"), 2) == 0 &&
              proxy_config_route(p, KG_STR("a"), KG_STR("/large"), 3) == 0 &&
              proxy_config_commit(p) == 0);
}

static inline void on_local(void *arg, const struct proxy_local_request *r)
{
    (void)arg;
    local.id = r->id;
    local.open = true;
}

static inline void on_local_gone(void *arg, uint64_t id)
{
    (void)arg;
    if (id == local.id)
        local.open = false;
}

static inline void world_open_with(struct proxy_gate by)
{
    struct proxy_listener listeners[2] = {
        {.fd = listening_anywhere(&world.client_at, &world.client_at_n), .unix_socket = true},
        {.fd = listening_anywhere(&world.local_at, &world.local_at_n),
         .unix_socket = true,
         .local = true}};
    struct proxy_params params = {.loop = &world.loop,
                                  .gate = by,
                                  .listeners = listeners,
                                  .listener_count = 2,
                                  .max_connections = 4,
                                  .protocols = world.protocols,
                                  .access_log_fd = fcntl(world.log_fd, F_DUPFD_CLOEXEC, 0),
                                  .stats = &world.stats,
                                  .local_request = on_local,
                                  .local_gone = on_local_gone};
    struct kg_err err = {0};

    memset(&gate, 0, sizeof gate);
    kg_list_init(&gate.waiters);
    local.open = world.closed = false;
    world.out = world.lost = 0;
    world.proxy = proxy_open(&params, &err);
    KG_ASSERT(world.proxy);
    configure();
}

static inline void world_open(void)
{
    world_open_with((struct proxy_gate){NULL, gate_acquire, gate_cancel, gate_release, gate_suspect,
                                        gate_probed});
    add_worker(true);
    turn();
}

static inline void on_closed(void *arg)
{
    (void)arg;
    world.closed = true;
}

static inline void check_nothing_left(void)
{
    KG_ASSERT(gate.waiting == 0 && kg_list_empty(&gate.waiters));
    KG_ASSERT(gate.acquired == gate.granted + gate.refused + gate.cancelled);
    KG_ASSERT(world.out == 0 && gate.granted == gate.released + world.lost);
    KG_ASSERT(world.stats.exchanges == 0 && world.stats.connections == 0);
    for (int i = 0; i < 4; i++)
        KG_ASSERT(world.stats.services[i].exchanges == 0 && world.stats.services[i].waiting == 0);
}

/* `first`: the peers leave before the proxy closes, and by that alone nothing may be left. */
static inline void world_close(bool first)
{
    gate.mode = GRANT;
    if (first) {
        for (int i = 0; i < MAX_PEERS; i++)
            peer_close(&world.clients[i]);
        turn();
        for (int i = 0; i < 4; i++)
            pass(31000);
        check_nothing_left();
    }
    proxy_close(world.proxy, on_closed, NULL);
    for (int i = 0; i < 1000 && !world.closed; i++)
        turn();
    KG_ASSERT(world.closed && !uv_loop_alive(&world.loop));
    check_nothing_left();
}

#endif
