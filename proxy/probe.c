/* SPDX-License-Identifier: Apache-2.0 */
/* Probes of a worker's address: a TCP one is tried again and again, a Unix socket when it appears.
 * The difficulty: the first request waits for this, so each pause is as short as it can be. libuv's
 * timers count milliseconds: the first pause, meant to be 0.5 ms, is 1. */
#include "base/err.h"
#include "proxy/probe_priv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define MAX_BODY_BYTES                                                                             \
    KG_READ_BUFFER_BYTES /* of a health answer that is read to keep its connection */

enum probe_state {
    PROBE_PAUSING,
    PROBE_WATCHING, /* for the socket to appear; the timer is for what is not told */
    PROBE_CONNECTING,
    PROBE_SETTLING, /* connected; must stay so for a while */
    PROBE_ASKED,    /* the health request is sent */
    PROBE_HTTP2,    /* a session waits for its worker to speak */
    PROBE_READING   /* its status was fine; the rest of the body */
};

struct probe {
    struct proxy_worker *worker;
    struct proxy_health health;
    enum probe_state state;
    uv_timer_t timer;        /* pauses, settling, the answer's deadline: the wheel is too coarse */
    uv_fs_event_t directory; /* of a Unix socket */
    bool watches;
    int open_handles;
    int64_t began_ms;
    unsigned attempts;
    size_t body_bytes;
    struct upstream_conn *conn;
};

uint64_t probe_pause_ms(unsigned attempt, int64_t age_ms)
{
    static const uint64_t first[] = {1, 1, 2, 4};

    if (age_ms >= PROBE_WIDE_AFTER_MS)
        return PROBE_WIDE_MS;
    return attempt <= sizeof first / sizeof *first ? first[attempt - 1] : 5;
}

/* --- one attempt --------------------------------------------------------------------------- */

static const struct wire_kind probe_wire;
static void on_connected(struct upstream_conn *c, int status);
static void on_timer(uv_timer_t *t);

static void drop(struct probe *b)
{
    struct upstream_conn *c = b->conn;

    b->conn = NULL;
    if (c && b->state == PROBE_HTTP2)
        upstream_http2_unask(c);
    else if (c)
        upstream_conn_close(c);
}

static void again(struct probe *b)
{
    int64_t age = proxy_now(b->worker->proxy) - b->began_ms;

    drop(b);
    b->state = PROBE_PAUSING;
    uv_timer_start(&b->timer, on_timer, probe_pause_ms(++b->attempts, age), 0);
}

/* It is not there yet. Once it is, the worker may still be about to listen: then pauses begin. */
static void wait_for_socket(struct probe *b)
{
    again(b);
    b->attempts = 0;
    b->state = PROBE_WATCHING;
    uv_timer_start(&b->timer, on_timer, PROBE_UNTOLD_MS, 0);
}

static void attempt(struct probe *b)
{
    b->state = PROBE_CONNECTING;
    b->conn = upstream_conn_open(b->worker, PROBE_CONNECT_MS, b, on_connected);
    if (!b->conn)
        again(b);
}

static bool is_h2c(const struct probe *b)
{
    const struct proxy_worker *w = b->worker;
    const struct proxy_service *service = generation_service(w->proxy->current, w->service);

    return service && service->h2c;
}

/* The connection goes to the pool, where the first request finds it. */
static void through(struct probe *b, bool whole)
{
    struct proxy_worker *w = b->worker;
    struct proxy *p = w->proxy;
    struct upstream_conn *c = b->conn;

    b->conn = NULL;
    if (!whole)
        upstream_conn_close(c);
    else if (is_h2c(b))
        upstream_http2_adopt(c);
    else
        upstream_conn_give(c);
    proxy_worker_probe_stop(w);
    p->gate.probed(p->gate.self, w);
}

static void ask(struct probe *b)
{
    char text[KG_MAX_HEALTH_PATH_BYTES + 64];
    int n =
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", b->health.path);
    uv_buf_t buf = uv_buf_init(text, (unsigned)n);

    b->state = PROBE_ASKED;
    guard_init(&b->conn->guard, GUARD_RESPONSE);
    uv_timer_start(&b->timer, on_timer, PROBE_ANSWER_MS, 0);
    if (wire_send(&b->conn->wire, &buf, 1) != 0)
        again(b);
}

/* A session is ready by its SETTINGS, or when the health request was answered as it should be. */
static bool on_http2(void *arg, int status)
{
    struct probe *b = arg;
    struct proxy_worker *w = b->worker;
    struct proxy *p = w->proxy;

    b->conn = NULL;
    if (status < 0 ||
        (status > 0 && (status < b->health.status_min || status > b->health.status_max))) {
        again(b);
        return false;
    }
    proxy_worker_probe_stop(w);
    p->gate.probed(p->gate.self, w);
    return true;
}

static void ask_http2(struct probe *b)
{
    struct upstream_conn *c = b->conn;

    b->state = PROBE_HTTP2;
    uv_timer_start(&b->timer, on_timer, PROBE_ANSWER_MS, 0);
    if (upstream_http2_ask(c, b->health.path, on_http2, b))
        return;
    b->conn = NULL;
    again(b);
}

static void on_connected(struct upstream_conn *c, int status)
{
    struct probe *b = c->user;

    if (status != 0) {
        if (status == UV_ENOENT && b->watches)
            wait_for_socket(b);
        else
            again(b);
        return;
    }
    c->wire.kind = &probe_wire;
    c->keep_alive = true;
    if (is_h2c(b) && (b->health.path[0] || b->health.settle_ms > 0)) {
        ask_http2(b);
    } else if (b->health.path[0]) {
        ask(b);
    } else if (b->health.settle_ms > 0) {
        b->state = PROBE_SETTLING;
        uv_timer_start(&b->timer, on_timer, b->health.settle_ms, 0);
    } else {
        through(b, true);
    }
}

static void on_timer(uv_timer_t *t)
{
    struct probe *b = t->data;

    if (b->state == PROBE_PAUSING || b->state == PROBE_WATCHING)
        attempt(b);
    else if (b->state == PROBE_SETTLING)
        through(b, true);
    else if (b->state == PROBE_READING) /* the head has said enough */
        through(b, false);
    else
        again(b); /* no answer in time */
}

/* --- its answer ---------------------------------------------------------------------------- */

static struct upstream_conn *conn_of(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct upstream_conn, wire);
}

static size_t on_room(struct wire *w)
{
    const struct upstream_conn *c = conn_of(w);
    const struct probe *b = c->user;

    return b->state == PROBE_READING ? KG_READ_BUFFER_BYTES : KG_MAX_HEAD_BYTES - c->in.len;
}

static void read_body(struct probe *b, char *in, size_t n)
{
    struct upstream_conn *c = b->conn;
    struct kg_str payload;
    size_t used;
    enum body_result r = body_take(&c->body, in, n, &used, &payload);

    b->body_bytes += n;
    if (r == BODY_MORE && b->body_bytes <= MAX_BODY_BYTES)
        return;
    through(b, r == BODY_END && used == n);
}

/* Its status decides; interim answers are skipped. Gives the bytes it took; 0: wait for more. */
static size_t read_head(struct probe *b, const char *in, size_t n)
{
    static const struct http1_asked asked = {0};
    struct upstream_conn *c = b->conn;
    enum guard_result r = guard_scan(&c->guard, in, n);
    struct http1_head head;
    size_t end = c->guard.end;

    if (r == GUARD_MORE)
        return 0;
    if (r == GUARD_REFUSED || http1_parse_response(&c->guard, in, &asked, &head).reason) {
        again(b);
        return 0;
    }
    guard_init(&c->guard, GUARD_RESPONSE);
    if (head.status < 200)
        return end;
    if (head.status < b->health.status_min || head.status > b->health.status_max) {
        again(b);
        return 0;
    }
    c->keep_alive = head.keep_alive;
    body_init(&c->body, &head, true);
    b->state = PROBE_READING;
    return end;
}

/* Heads while they are awaited; what is behind the last one is body. */
static void read_answer(struct probe *b, char *in, size_t n)
{
    struct upstream_conn *c = b->conn;
    size_t at = 0, used = 1;

    while (used > 0 && at < n && b->state == PROBE_ASKED) {
        used = read_head(b, in + at, n - at);
        at += used;
    }
    if (b->conn != c)
        return; /* this attempt is over */
    if (b->state == PROBE_READING) {
        read_body(b, in + at, n - at);
        return;
    }
    if (in == c->in.data)
        kg_buf_drop_front(&c->in, at);
    else if (kg_buf_append(&c->in, in + at, n - at) != 0)
        again(b);
}

static void on_bytes(struct wire *w, char *bytes, size_t n)
{
    struct upstream_conn *c = conn_of(w);
    struct probe *b = c->user;

    if (b->state == PROBE_SETTLING) {
        again(b); /* whoever speaks first does not speak HTTP */
    } else if (b->state == PROBE_READING) {
        read_body(b, bytes, n);
    } else if (c->in.len == 0) {
        read_answer(b, bytes, n);
    } else if (kg_buf_append(&c->in, bytes, n) != 0) {
        again(b);
    } else {
        read_answer(b, c->in.data, c->in.len);
    }
}

static void on_over(struct wire *w)
{
    struct probe *b = conn_of(w)->user;

    if (b->state == PROBE_READING) /* the head has said enough */
        through(b, false);
    else
        again(b);
}

static void on_drained(struct wire *w)
{
    (void)w;
}

static const struct wire_kind probe_wire = {.room = on_room,
                                            .on_bytes = on_bytes,
                                            .on_eof = on_over,
                                            .on_drained = on_drained,
                                            .on_broken = on_over};

/* --- begin and end ------------------------------------------------------------------------- */

static void on_probe_closed(uv_handle_t *h)
{
    struct probe *b = h->data;
    struct proxy *p = b->worker->proxy;

    if (--b->open_handles == 0) {
        worker_unref(b->worker);
        free(b);
    }
    proxy_handle_closed(p);
}

static void on_directory(uv_fs_event_t *event, const char *name, int events, int status)
{
    struct probe *b = event->data;

    (void)name;
    (void)events;
    (void)status;
    if (b->state != PROBE_WATCHING)
        return;
    uv_timer_stop(&b->timer);
    attempt(b);
}

/* Where the directory cannot be watched, pauses do it. */
static void watch_directory(struct probe *b)
{
    const struct sockaddr_un *address = (const struct sockaddr_un *)&b->worker->address;
    char path[sizeof address->sun_path + 1] = "";
    char *slash;

    if (address->sun_family != AF_UNIX)
        return;
    memcpy(path, address->sun_path, sizeof address->sun_path);
    slash = strrchr(path, '/');
    if (!slash || uv_fs_event_init(b->worker->proxy->loop, &b->directory) != 0)
        return;
    *slash = '\0';
    b->directory.data = b;
    b->open_handles++;
    b->worker->proxy->handles++;
    b->watches = uv_fs_event_start(&b->directory, on_directory, path, 0) == 0;
}

int proxy_worker_probe(struct proxy_worker *w, const struct proxy_health *health)
{
    struct proxy *p = w->proxy;
    struct probe *b = w->probe;

    if (b) { /* under way: it goes on with what is asked now */
        b->health = *health;
        return 0;
    }
    b = calloc(1, sizeof *b);
    if (!b)
        return KG_ENOMEM;
    b->worker = w;
    worker_ref(w);
    b->health = *health;
    b->began_ms = proxy_now(p);
    uv_timer_init(p->loop, &b->timer);
    b->timer.data = b;
    p->handles++;
    b->open_handles = 1;
    watch_directory(b);
    w->probe = b;
    /* from the loop: `probed` is never called from inside this call */
    uv_timer_start(&b->timer, on_timer, 0, 0);
    return 0;
}

void proxy_worker_probe_stop(struct proxy_worker *w)
{
    struct probe *b = w->probe;

    if (!b)
        return;
    w->probe = NULL;
    drop(b);
    if (b->open_handles > 1)
        uv_close((uv_handle_t *)&b->directory, on_probe_closed);
    uv_close((uv_handle_t *)&b->timer, on_probe_closed);
}
