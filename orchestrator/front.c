/* SPDX-License-Identifier: Apache-2.0 */
/* A front's process. The difficulty: its parts close asynchronously and in order: proxy, leases,
 * channel; and it may be told to stop at any point of its start. */
#include "orchestrator/front.h"
#include "base/log.h"
#include "base/loop.h"
#include "orchestrator/attach.h"
#include "orchestrator/confine.h"
#include "orchestrator/front_tls.h"
#include "orchestrator/gate_client.h"
#include "orchestrator/logs.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define SETUP_TIMEOUT_MS 10000
#define CLIENT_SHARE 2 /* of the descriptors one half may be clients: each may need a worker's */

#define SIGNALS 3
#define WATCHED_AHEAD 16384 /* descriptors: more are watched as memory allows */

struct front {
    uv_loop_t loop;
    uv_signal_t signals[SIGNALS];
    uv_pipe_t first;
    uv_poll_t door;   /* active while control is away */
    uv_timer_t alone; /* ends the wait for another */
    struct message_setup setup;
    struct kg_channel *channel;
    struct gate_client *gate;
    struct front_tls *tls;
    struct proxy *proxy;
    struct proxy_stats *stats;
    struct proxy_service service; /* being told, with its quiet patterns to come */
    bool service_begun, configured, ready_told, draining, closing, orphan;
    bool confined, told_unconfined;
};

static void front_send(void *arg, const void *message)
{
    struct front *f = arg;
    const struct message_head *head = message;

    if (f->channel)
        kg_channel_send(f->channel, message, head->size);
}

/* --- the end ------------------------------------------------------------------------------------
 */

static void on_gate_closed(void *arg)
{
    struct front *f = arg;

    for (size_t i = 0; i < SIGNALS; i++)
        uv_close((uv_handle_t *)&f->signals[i], NULL);
    uv_close((uv_handle_t *)&f->alone, NULL);
    if (f->setup.door)
        uv_close((uv_handle_t *)&f->door, NULL);
    if (f->channel)
        kg_channel_close(f->channel, NULL);
    f->channel = NULL;
}

static void on_proxy_closed(void *arg)
{
    struct front *f = arg;

    gate_client_close(f->gate, on_gate_closed, f);
}

static void front_close(struct front *f)
{
    if (f->closing)
        return;
    f->closing = true;
    gate_client_forget_probes(f->gate);
    proxy_close(f->proxy, on_proxy_closed, f);
}

static void on_drained(void *arg)
{
    front_close(arg);
}

/* Another control comes too late: it is not to wait for what we would say. */
static void close_door(struct front *f)
{
    if (!f->setup.door)
        return;
    uv_poll_stop(&f->door);
    shutdown(FRONT_FD_DOOR, SHUT_RDWR);
}

static void front_drain(struct front *f)
{
    if (f->draining)
        return;
    f->draining = true;
    close_door(f);
    proxy_drain(f->proxy, on_drained, f);
}

/* --- without control --- */

static void give_up(struct front *f)
{
    KG_LOG(KG_LOG_WARN, "control-lost", KG_F("then", "finish what is open, then end"));
    gate_client_control_lost(f->gate);
    proxy_stop_local(f->proxy);
    front_drain(f);
}

static void on_alone(uv_timer_t *t)
{
    give_up(t->data);
}

static void on_message(void *arg, const void *bytes, size_t n);
static void on_control_lost(void *arg);
static void on_unanswered(void *arg, uint64_t request);

static int say_hello(const struct front *f, int channel)
{
    int listeners[ATTACH_MAX_LISTENERS];
    struct message_hello m;

    MESSAGE_INIT(&m, HELLO);
    m.front = f->setup.front;
    m.listeners = f->setup.listeners;
    m.set_up = f->setup.set_up;
    memcpy(m.life, f->setup.life, sizeof m.life);
    for (uint32_t i = 0; i < m.listeners; i++)
        listeners[i] = FRONT_FD_LISTENERS + (int)i;
    return attach_say_hello(channel, &m, FRONT_FD_STATS, FRONT_FD_DOOR, listeners);
}

/* Another control: it hears what is held and who waits, then goes on as the one before. */
static void on_door(uv_poll_t *poll, int status, int events)
{
    struct front *f = poll->data;
    int channel = status == 0 && events ? attach_accept(FRONT_FD_DOOR, f->setup.control_user) : -1;

    if (channel < 0 || f->draining || f->closing)
        return;
    if (say_hello(f, channel) != 0) {
        close(channel);
        return;
    }
    f->channel = kg_channel_open(&f->loop, channel, on_message, on_control_lost, f);
    if (!f->channel)
        return;
    KG_LOG(KG_LOG_INFO, "control-attached");
    f->orphan = f->ready_told = false;
    uv_poll_stop(&f->door);
    uv_timer_stop(&f->alone);
    front_tls_forget(f->tls);
    gate_client_attached(f->gate);
}

static void on_control_lost(void *arg)
{
    struct front *f = arg;

    f->orphan = true;
    kg_channel_close(f->channel, NULL);
    f->channel = NULL;
    if (f->closing)
        return; /* the proxy may be gone already */
    proxy_drop_local(f->proxy, on_unanswered, f);
    if (f->draining || !f->configured || !f->setup.door) {
        give_up(f);
        return;
    }
    KG_LOG(KG_LOG_WARN, "control-away", KG_F("then", "go on with what is warm, wait for another"));
    gate_client_control_away(f->gate);
    uv_poll_start(&f->door, UV_READABLE, on_door);
    uv_timer_start(&f->alone, on_alone, KG_CONTROL_AWAY_MS, 0);
}

/* Without it every answer could be wrong, and it is told once to a front: to the next one again.
 * Control keeps the sockets, and whoever waits in them. */
static _Noreturn void end_without(const char *what)
{
    KG_LOG(KG_LOG_ERROR, "exhausted", KG_F("why", "out of memory"), KG_F("missing", what),
           KG_F("then", "end"));
    _exit(1);
}

/* --- configuration ------------------------------------------------------------------------------
 */

static void flush_service(struct front *f)
{
    if (f->service_begun && proxy_config_service(f->proxy, &f->service) != 0)
        KG_LOG(KG_LOG_ERROR, "service-not-taken", KG_F("service", f->service.name));
    f->service_begun = false;
}

static void on_service(struct front *f, const struct message_service *m)
{
    flush_service(f);
    f->service = (struct proxy_service){.id = m->service,
                                        .strip_prefix = m->strip_prefix,
                                        .h2c = m->h2c,
                                        .quiet_status = m->quiet_status,
                                        .request_timeout_ms = m->request_timeout_ms,
                                        .max_body_bytes = m->max_body_bytes};
    kg_str_copy(f->service.name, sizeof f->service.name, kg_str_of(m->name));
    f->service_begun = true;
}

static void on_quiet(struct front *f, const struct message_quiet *m)
{
    if (f->service_begun && f->service.quiet_count < KG_MAX_QUIET)
        f->service.quiet[f->service.quiet_count++] = m->quiet;
}

static void on_route(struct front *f, const struct message_route *m)
{
    flush_service(f);
    if (proxy_config_route(f->proxy, kg_str_of(m->host), kg_str_of(m->prefix), m->service) != 0)
        KG_LOG(KG_LOG_ERROR, "route-not-taken", KG_F("host", m->host), KG_F("prefix", m->prefix));
}

static void on_commit(struct front *f)
{
    struct message_plain ready;

    flush_service(f);
    if (proxy_config_commit(f->proxy) != 0)
        end_without("configuration");
    f->configured = true;
    if (f->ready_told)
        return;
    f->ready_told = true;
    MESSAGE_INIT(&ready, READY);
    front_send(f, &ready);
}

/* --- messages -----------------------------------------------------------------------------------
 */

static void on_admin_reply(struct front *f, const struct message_admin_reply *m)
{
    const struct proxy_local_answer answer = {.status = m->status,
                                              .type = m->type,
                                              .allow = m->allow,
                                              .retry_after_ms = m->retry_after_ms,
                                              .body = {m->bytes, m->n},
                                              .last = m->last};
    struct message_ticket gone;

    if (proxy_local_reply(f->proxy, m->request, &answer) == 0)
        return;
    MESSAGE_INIT(&gone, ADMIN_GONE);
    gone.ticket = m->request;
    front_send(f, &gone);
}

/* Control names a worker's socket by its path on the machine. */
static void on_worker(struct front *f, struct message_head *head)
{
    void *m = head;
    struct message_address *where = head->type == MESSAGE_GRANT
                                        ? &((struct message_grant *)m)->where
                                        : &((struct message_probe *)m)->where;

    if (f->confined && !message_address_within(where, f->setup.root))
        KG_LOG(KG_LOG_ERROR, "worker-elsewhere", KG_F("root", f->setup.root));
    if (f->setup.root[0] && !f->confined && where->storage.ss_family == AF_UNIX &&
        !f->told_unconfined) {
        f->told_unconfined = true;
        KG_LOG(KG_LOG_ERROR, "front-not-confined",
               KG_F("why", "neither root, nor CAP_SYS_CHROOT, nor user namespaces"),
               KG_F("then", "Unix sockets are out of reach: services with \"socket\" fail"));
    }
    gate_client_message(f->gate, head);
}

static void on_config(struct front *f, const struct message_head *head)
{
    const void *m = head;

    if (head->type == MESSAGE_CONFIG_BEGIN)
        proxy_config_begin(f->proxy);
    else if (head->type == MESSAGE_CONFIG_SERVICE)
        on_service(f, m);
    else if (head->type == MESSAGE_CONFIG_QUIET)
        on_quiet(f, m);
    else if (head->type == MESSAGE_CONFIG_ROUTE)
        on_route(f, m);
    else
        on_commit(f);
}

static void on_message(void *arg, const void *bytes, size_t n)
{
    struct front *f = arg;
    const struct message_head *head = message_check(bytes, n, true);

    if (f->closing)
        return; /* the proxy may be gone already */
    if (attach_is_sent_off(bytes, n)) {
        give_up(f);
        return;
    }
    if (!head) {
        KG_LOG(KG_LOG_ERROR, "message-refused", KG_FN("bytes", (int64_t)n));
        return;
    }
    switch ((enum message_type)head->type) {
    case MESSAGE_CONFIG_BEGIN:
    case MESSAGE_CONFIG_SERVICE:
    case MESSAGE_CONFIG_QUIET:
    case MESSAGE_CONFIG_ROUTE:
    case MESSAGE_CONFIG_COMMIT:
        on_config(f, head);
        return;
    case MESSAGE_TLS_PIECE:
    case MESSAGE_TLS_COMMIT:
    case MESSAGE_TLS_TICKETS:
        /* Control has used the same bytes: what is wrong with them here is want of memory. */
        if (front_tls_message(f->tls, f->proxy, (struct message_head *)(uintptr_t)head) != 0)
            end_without("certificates");
        return;
    case MESSAGE_GRANT:
    case MESSAGE_PROBE:
        on_worker(f, (struct message_head *)(uintptr_t)head);
        return;
    case MESSAGE_ADMIN_REPLY:
        on_admin_reply(f, (const void *)head);
        return;
    case MESSAGE_DRAIN:
        front_drain(f);
        return;
    case MESSAGE_SETUP:
        return; /* once, at the start */
    default:
        gate_client_message(f->gate, head);
    }
}

/* --- admin requests, read here and answered by control ------------------------------------- */

static void send_admin_body(struct front *f, uint64_t request, struct kg_str body)
{
    _Alignas(8) char bytes[KG_MAX_MESSAGE_BYTES];
    struct message_admin_body *m = (void *)bytes;

    while (body.n > 0) {
        size_t n = body.n < MESSAGE_MAX_PIECE ? body.n : MESSAGE_MAX_PIECE;
        message_init(m, MESSAGE_ADMIN_BODY, sizeof *m + n);
        m->request = request;
        m->n = (uint32_t)n;
        memcpy(m->bytes, body.p, n);
        front_send(f, m);
        body = (struct kg_str){body.p + n, body.n - n};
    }
}

/* What control would say, if it could be asked. */
static void refuse_local(struct front *f, uint64_t id, int status, const char *name,
                         const char *title)
{
    char body[256];
    int n = snprintf(body, sizeof body,
                     "{\"type\":\"urn:kipgate:%s\",\"title\":\"%s\",\"status\":%d,"
                     "\"detail\":\"%s\",\"instance\":\"%llu\"}\n",
                     name, title, status, title, (unsigned long long)id);

    proxy_local_reply(f->proxy, id,
                      &(struct proxy_local_answer){.status = status,
                                                   .type = "application/problem+json",
                                                   .body = {body, (size_t)n},
                                                   .last = true});
}

/* Whether it was done is not known; the next control can be asked. */
static void on_unanswered(void *arg, uint64_t request)
{
    refuse_local(arg, request, 503, "draining", "Control went away before it answered");
}

static void on_local_request(void *arg, const struct proxy_local_request *r)
{
    struct front *f = arg;
    struct message_admin_request m;

    if (!f->channel) {
        refuse_local(f, r->id, 503, "draining", "Control is away");
        return;
    }
    MESSAGE_INIT(&m, ADMIN_REQUEST);
    m.request = r->id;
    m.body_bytes = (uint32_t)r->body.n;
    if (!kg_str_copy(m.method, sizeof m.method, r->method) ||
        !kg_str_copy(m.path, sizeof m.path, r->path) ||
        !kg_str_copy(m.query, sizeof m.query, r->query)) {
        refuse_local(f, r->id, 414, "uri-too-long", "The request line is too long");
        return;
    }
    front_send(f, &m);
    send_admin_body(f, r->id, r->body);
}

static void on_local_gone(void *arg, uint64_t id)
{
    struct message_ticket m;

    MESSAGE_INIT(&m, ADMIN_GONE);
    m.ticket = id;
    front_send(arg, &m);
}

/* --- the beginning ------------------------------------------------------------------------------
 */

static void log_setup(const struct message_setup *m)
{
    char who[32];

    snprintf(who, sizeof who, "front-%d", m->front);
    kg_log_setup((enum kg_log_level)m->log_level, m->log_format ? KG_LOG_JSON : KG_LOG_TEXT, who);
}

static int receive_setup(struct front *f, struct kg_err *err)
{
    _Alignas(8) char bytes[KG_MAX_MESSAGE_BYTES];
    struct pollfd ready = {.fd = FRONT_FD_CHANNEL, .events = POLLIN};
    const struct message_head *head;
    ssize_t n;

    if (poll(&ready, 1, SETUP_TIMEOUT_MS) != 1)
        return kg_fail(err, KG_ETIMEOUT, "control said nothing");
    n = recv(FRONT_FD_CHANNEL, bytes, sizeof bytes, 0);
    head = n > 0 ? message_check(bytes, (size_t)n, true) : NULL;
    if (!head || head->type != MESSAGE_SETUP)
        return kg_fail(err, KG_EPROTO, "control's first message is not a set-up");
    memcpy(&f->setup, head, sizeof f->setup);
    log_setup(&f->setup);
    return 0;
}

static int map_stats(struct front *f, struct kg_err *err)
{
    void *page = mmap(NULL, sizeof(struct proxy_stats), PROT_READ | PROT_WRITE, MAP_SHARED,
                      FRONT_FD_STATS, 0);

    if (page == MAP_FAILED)
        return kg_fail(err, KG_ENOMEM, "counters: %s", strerror(errno));
    f->stats = page; /* the descriptor is kept for the next control */
    return 0;
}

/* Clients may take half of the descriptors less the reserve: each may need one to a worker. */
static size_t connection_cap(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 256;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur <= KG_RESERVED_DESCRIPTORS * CLIENT_SHARE)
        return KG_RESERVED_DESCRIPTORS / CLIENT_SHARE;
    return (limit.rlim_cur - KG_RESERVED_DESCRIPTORS) / CLIENT_SHARE;
}

static int open_proxy(struct front *f, struct kg_err *err)
{
    struct proxy_listener listeners[KG_MAX_LISTEN + 1];
    struct proxy_params params = {.loop = &f->loop,
                                  .gate = gate_client_door(f->gate),
                                  .listeners = listeners,
                                  .listener_count = f->setup.listeners,
                                  .protocols = f->setup.protocols,
                                  .max_connections = connection_cap(),
                                  .max_connections_per_client = f->setup.max_connections_per_client,
                                  .access_log_fd = f->setup.access_log ? FRONT_FD_ACCESS_LOG : -1,
                                  .stats = f->stats,
                                  .local_arg = f,
                                  .local_request = on_local_request,
                                  .local_gone = on_local_gone};

    for (uint32_t i = 0; i < f->setup.listeners; i++)
        listeners[i] = (struct proxy_listener){.fd = FRONT_FD_LISTENERS + (int)i,
                                               .local = f->setup.local[i],
                                               .unix_socket = f->setup.unix_socket[i],
                                               .secure = f->setup.secure[i]};
    f->proxy = proxy_open(&params, err);
    if (!f->proxy)
        return KG_EIO;
    gate_client_set_proxy(f->gate, f->proxy);
    return 0;
}

/* A terminal's Ctrl-C, or the end of a group, reaches all of us: control decides and tells us.
 * Without control it is for us. */
static void on_signal(uv_signal_t *s, int signum)
{
    struct front *f = s->data;

    if (signum == SIGTERM && f->orphan)
        front_close(f);
}

static int open_signals(struct front *f)
{
    static const int numbers[SIGNALS] = {SIGINT, SIGHUP, SIGTERM};
    int rc = 0;

    for (size_t i = 0; i < SIGNALS; i++) {
        uv_signal_init(&f->loop, &f->signals[i]);
        f->signals[i].data = f;
        rc |= uv_signal_start(&f->signals[i], on_signal, numbers[i]);
        uv_unref((uv_handle_t *)&f->signals[i]);
    }
    return rc;
}

/* With its first stream libuv opens a descriptor to keep in reserve. Once confined it could not,
 * and would try again with each connection. */
static void open_reserve(struct front *f)
{
    uv_pipe_init(&f->loop, &f->first, 0);
    uv_close((uv_handle_t *)&f->first, NULL);
}

static int open_all(struct front *f, struct kg_err *err)
{
    int rc = receive_setup(f, err);

    if (rc == 0)
        rc = map_stats(f, err);
    if (rc == 0)
        rc = confine_loop(err);
    if (rc != 0)
        return rc;
    if (uv_loop_init(&f->loop) != 0 || !(f->tls = front_tls_new()) ||
        !(f->gate = gate_client_new(&f->loop, front_send, f)))
        return kg_fail(err, KG_ENOMEM, "out of memory");
    if (kg_loop_reserve(&f->loop, WATCHED_AHEAD) != 0)
        return kg_fail(err, KG_ENOMEM, "no room to watch descriptors");
    open_reserve(f);
    uv_timer_init(&f->loop, &f->alone);
    f->alone.data = f->door.data = f;
    if (f->setup.door && uv_poll_init(&f->loop, &f->door, FRONT_FD_DOOR) != 0)
        return kg_fail(err, KG_EIO, "the socket for another control cannot be watched");
    if (open_signals(f) != 0)
        return kg_fail(err, KG_EIO, "signals cannot be watched");
    rc = open_proxy(f, err);
    if (rc != 0)
        return rc;
    f->channel = kg_channel_open(&f->loop, FRONT_FD_CHANNEL, on_message, on_control_lost, f);
    if (!f->channel)
        return kg_fail(err, KG_ENOMEM, "channel to control");
    return confine_enter(f->setup.root, &f->confined, err);
}

int front_run(void)
{
    struct front *f = calloc(1, sizeof *f);
    struct kg_err err = {0};

    signal(SIGPIPE, SIG_IGN);
    close(logs_take_standard_error());
    kg_loop_end_exhausted();
    if (!f || open_all(f, &err) != 0) {
        KG_LOG(KG_LOG_ERROR, "front-not-started", KG_F("why", err.words));
        _exit(1); /* nothing was begun: no need to unwind */
    }
    uv_run(&f->loop, UV_RUN_DEFAULT);
    uv_loop_close(&f->loop);
    munmap(f->stats, sizeof *f->stats);
    front_tls_free(f->tls);
    free(f);
    return 0;
}
