/* SPDX-License-Identifier: Apache-2.0 */
/* A client's connection: cuts its stream into heads and bodies, one exchange at a time.
 * The difficulty: an exchange may end inside any call made from here, and the next request may
 * already lie in the buffer; so all taking happens in one loop that is never entered twice. */
#include "base/err.h"
#include "proxy/client_priv.h"
#include "proxy/exchange_priv.h"
#include "proxy/problem.h"
#include <stdlib.h>
#include <unistd.h>

#define IN_BYTES (KG_MAX_HEAD_BYTES + KG_READ_BUFFER_BYTES)
#define LOCAL_QUEUE_BYTES (64 * 1024 * 1024) /* local.c has its own limits */
#define CLIENT_QUEUE_BYTES (512 * 1024)      /* one read's worth of body, its head, trailers */

static struct client *client_of(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct client, wire);
}

static void arm(struct client *c, int64_t after_ms)
{
    kg_timer_arm(&c->wire.proxy->wheel, &c->deadline, proxy_now(c->wire.proxy) + after_ms);
}

/* --- the end of a connection --------------------------------------------------------------- */

void client_close(struct client *c)
{
    struct proxy *p = c->wire.proxy;

    if (c->state == CLIENT_CLOSED)
        return;
    KG_ASSERT(!c->down.exchange && !c->local_request);
    client_http2_drop(c, EXCHANGE_CLIENT_GONE);
    c->state = CLIENT_CLOSED;
    kg_timer_disarm(&p->wheel, &c->deadline);
    kg_timer_disarm(&p->wheel, &c->watch);
    kg_list_remove(&c->link);
    accept_forget(p, (struct kg_str){c->key, c->key_n});
    if (c->local)
        p->local_connections--;
    else
        p->stats->connections = --p->connections;
    if (p->on_drained)
        proxy_soon(p);
    wire_close(&c->wire);
}

/* The client left in the middle of something, or is thrown out. */
static void abandon(struct client *c)
{
    if (c->down.exchange)
        exchange_end(c->down.exchange, EXCHANGE_CLIENT_GONE);
    if (c->local_request)
        local_drop(c, true);
    client_close(c);
}

static const struct wire_kind client_wire;

/* Our half ends; what still comes is read and dropped for a while, for closing with unread bytes
 * would turn into a reset, which may overtake the answer. */
static void linger(struct client *c)
{
    client_http2_drop(c, EXCHANGE_CLIENT_GONE);
    body_fini(&c->down.body);
    c->wire.kind = &client_wire;
    c->dropped = 0;
    c->state = CLIENT_LINGER;
    wire_fin(&c->wire);
    if (wire_pending(&c->wire) > 0) /* what it takes yet has the wire's own time */
        kg_timer_disarm(&c->wire.proxy->wheel, &c->deadline);
    else if (c->wire.eof || c->wire.unwritable)
        client_close(c);
    else
        arm(c, KG_LINGER_CLOSE_MS);
}

void client_part(struct client *c)
{
    if (wire_pending(&c->wire) > 0) { /* it takes the last answer yet */
        linger(c);
        return;
    }
    client_http2_drop(c, EXCHANGE_CLIENT_GONE);
    if (wire_is_secure(&c->wire))
        wire_fin(&c->wire);
    client_close(c);
}

static void become_idle(struct client *c)
{
    body_fini(&c->down.body);
    c->state = CLIENT_IDLE;
    arm(c, KG_KEEPALIVE_TIMEOUT_MS);
    if (!c->wire.writing)
        wire_trim(&c->wire);
}

static void drain_body(struct client *c)
{
    c->dropped = 0;
    c->state = CLIENT_DRAIN;
    arm(c, KG_HEAD_TIMEOUT_MS);
}

void client_next(struct client *c, enum client_next next)
{
    c->body_timed = c->probed = false;
    if (c->state == CLIENT_CLOSED)
        return;
    if (next == CLIENT_RESET) {
        wire_reset(&c->wire);
        client_close(c);
    } else if (next == CLIENT_END) {
        linger(c);
    } else if (c->down.body.done) {
        become_idle(c);
    } else {
        drain_body(c);
    }
    client_resume(c);
}

bool client_can_keep(const struct client *c, bool head_keep_alive, bool expect)
{
    const struct proxy *p = c->wire.proxy;

    if (!head_keep_alive || p->closing || (p->draining && !c->local))
        return false;
    if (c->down.body.done)
        return true;
    return !expect &&
           (c->down.body.framing == HTTP1_CHUNKED || c->down.body.left <= KG_LINGER_CLOSE_BYTES);
}

/* --- refusals before there is an exchange -------------------------------------------------- */

void client_refuse(struct client *c, struct guard_verdict verdict, const struct http1_head *h)
{
    char id[REWRITE_ID_MAX + 1];
    struct problem problem;
    struct kg_buf out;

    kg_buf_init(&out, KG_READ_BUFFER_BYTES);
    downstream_refused(&c->down, verdict, h, id, &problem);
    if (problem_write(&out, &problem, NULL) == 0)
        wire_send(&c->wire, &(uv_buf_t){.base = out.data, .len = out.len}, 1);
    kg_buf_fini(&out);
    client_next(c, CLIENT_END);
}

void client_shed(struct client *c)
{
    struct kg_str text = accept_overloaded(c->wire.proxy);

    wire_send(&c->wire, &(uv_buf_t){.base = (char *)text.p, .len = text.n}, 1);
    client_next(c, CLIENT_END);
}

/* The head was too broken to be understood, yet a HEAD must not be answered with a body. */
void client_refuse_head(struct client *c, const char *bytes, struct guard_verdict verdict)
{
    struct http1_head h;

    h.minor = 1;
    http1_start_line(&c->guard, bytes, &h);
    c->state = CLIENT_BUSY;
    client_refuse(c, verdict, &h);
}

/* --- taking what came ---------------------------------------------------------------------- */

static void begin(struct client *c, const struct http1_head *h)
{
    body_init(&c->down.body, h, false);
    c->state = CLIENT_BUSY;
    c->minor = h->minor;
    c->keep_alive = h->keep_alive;
    c->te_trailers = h->te_trailers;
    c->expect = h->expect_continue;
    if (c->local)
        local_begin(c, h);
    else if (exchange_begin(&c->down, h) != 0)
        client_shed(c);
}

/* Some of a head is here. */
static void await_head(struct client *c)
{
    if (c->state != CLIENT_IDLE)
        return;
    c->state = CLIENT_HEAD;
    arm(c, KG_HEAD_TIMEOUT_MS);
}

/* A head that is whole begins a request. Gives the bytes that were taken; 0: more is needed. */
static size_t take_head(struct client *c, struct kg_str in)
{
    enum guard_result result = guard_scan(&c->guard, in.p, in.n);
    struct guard_verdict verdict = c->guard.verdict;
    struct http1_head head;
    size_t end = c->guard.end;

    if (result == GUARD_MORE) {
        await_head(c);
        return 0;
    }
    if (result == GUARD_REFUSED) {
        client_refuse_head(c, in.p, verdict);
        return in.n;
    }
    verdict = http1_parse_request(&c->guard, in.p, &head);
    guard_init(&c->guard, GUARD_REQUEST);
    if (verdict.reason == PROXY_NONE) {
        begin(c, &head);
        return end;
    }
    c->state = CLIENT_BUSY;
    client_refuse(c, verdict, &head);
    return in.n;
}

static void refuse_body(struct client *c)
{
    const struct guard_verdict *verdict = &c->down.body.chunk.verdict;

    if (c->down.exchange) {
        exchange_blame(c->down.exchange, verdict->reason, verdict->words);
        return;
    }
    if (c->local_request)
        local_drop(c, false);
    client_refuse(c, *verdict, NULL);
}

static size_t take_body(struct client *c, struct kg_str in)
{
    size_t takes = c->down.exchange ? exchange_takes(c->down.exchange) : in.n, used;
    struct kg_str payload;

    if (in.n > takes)
        in.n = takes;
    if (in.n == 0)
        return 0;
    if (body_take(&c->down.body, (char *)in.p, in.n, &used, &payload) == BODY_REFUSED) {
        refuse_body(c);
        return in.n;
    }
    c->rate_bytes += used;
    if (c->down.exchange)
        exchange_body(c->down.exchange, payload);
    else if (c->local_request)
        local_body(c, payload);
    return used;
}

/* The rest of a body that was answered already. */
static size_t take_unwanted(struct client *c, struct kg_str in)
{
    struct kg_str payload;
    size_t used;
    enum body_result r = body_take(&c->down.body, (char *)in.p, in.n, &used, &payload);

    c->dropped += used;
    if (r == BODY_REFUSED || (r == BODY_MORE && c->dropped > KG_LINGER_CLOSE_BYTES))
        client_next(c, CLIENT_END);
    else if (r == BODY_END)
        become_idle(c);
    return used;
}

static size_t drop(struct client *c, size_t n)
{
    c->dropped += n;
    if (c->dropped > KG_LINGER_CLOSE_BYTES && wire_pending(&c->wire) == 0)
        client_close(c);
    return n;
}

/* The first bytes of a connection say which version it speaks. */
static size_t take_first(struct client *c, struct kg_str in)
{
    enum client_version version = client_version(c, in);

    c->version_known = version != CLIENT_SPEAKS_LATER;
    if (version == CLIENT_SPEAKS_HTTP1)
        return take_head(c, in);
    if (version == CLIENT_SPEAKS_LATER) {
        await_head(c);
        return 0;
    }
    if (client_http2_begin(c, in) != 0)
        client_close(c);
    return in.n;
}

static size_t take(struct client *c, struct kg_str in)
{
    switch (c->state) {
    case CLIENT_IDLE:
    case CLIENT_HEAD:
        return c->version_known ? take_head(c, in) : take_first(c, in);
    case CLIENT_HTTP2:
        break;
    case CLIENT_BUSY:
        return c->down.body.done ? 0 : take_body(c, in);
    case CLIENT_DRAIN:
        return take_unwanted(c, in);
    case CLIENT_LINGER:
        return drop(c, in.n);
    case CLIENT_CLOSED:
        break;
    }
    return 0;
}

/* Takes as long as something is taken; gives how much. */
static size_t take_all(struct client *c, char *bytes, size_t n)
{
    size_t at = 0, step = 1;

    while (step > 0 && at < n) {
        step = take(c, (struct kg_str){bytes + at, n - at});
        at += step;
    }
    return at;
}

/* A connection on which something has come meanwhile is not idle, and one that has said nothing yet
 * may be about to: its request is on its way. */
static void close_idle(struct client *c)
{
    if (c->state == CLIENT_HTTP2)
        client_http2_drain(c);
    else if (c->local || c->state != CLIENT_IDLE || c->in.len > 0 || wire_readable(&c->wire))
        return;
    else if (c->version_known)
        client_part(c);
    else if (c->deadline.due_ms > proxy_now(c->wire.proxy) + KG_DRAIN_FIRST_BYTE_MS)
        arm(c, KG_DRAIN_FIRST_BYTE_MS);
}

/* The client's half of a tunnel ends behind the last byte that was kept of it. */
static void end_tunnel(struct client *c)
{
    if (!c->down.exchange || !c->wire.eof || c->down.body.done || c->in.len > 0)
        return;
    c->down.body.done = true;
    exchange_client_eof(c->down.exchange);
}

/* What was taken together goes out together. */
static void settle(struct client *c)
{
    if (c->down.exchange)
        exchange_flush(c->down.exchange);
    if (c->down.body.framing == HTTP1_TUNNEL)
        end_tunnel(c);
    if ((c->state == CLIENT_IDLE || c->state == CLIENT_HEAD) && c->wire.eof)
        client_part(c); /* no next request can become whole */
    if (c->wire.proxy->draining)
        close_idle(c);
}

static size_t room(struct wire *w)
{
    const struct client *c = client_of(w);

    switch (c->state) {
    case CLIENT_IDLE:
    case CLIENT_HEAD:
        return KG_MAX_HEAD_BYTES - c->in.len;
    case CLIENT_BUSY:
        if (c->down.body.done)
            return c->in.len < CLIENT_AHEAD_BYTES ? CLIENT_AHEAD_BYTES - c->in.len : 0;
        if (c->in.len > 0)
            return 0; /* what is kept comes first */
        return c->down.exchange ? exchange_room(c->down.exchange) : KG_READ_BUFFER_BYTES;
    default:
        return KG_READ_BUFFER_BYTES;
    }
}

static void take_kept(struct client *c)
{
    size_t used = c->in.len > 0 ? take_all(c, c->in.data, c->in.len) : 0;

    kg_buf_drop_front(&c->in, used);
    if (used > 0 && c->in.len == 0)
        kg_buf_fini(&c->in);
}

void client_resume(struct client *c)
{
    c->again = true;
    if (c->taking)
        return; /* the loop below, or on_bytes, goes on */
    c->taking = true;
    while (c->again && c->state != CLIENT_CLOSED) {
        c->again = false;
        take_kept(c);
        settle(c);
    }
    c->taking = false;
    if (c->state == CLIENT_CLOSED || room(&c->wire) == 0)
        return;
    if (c->paused_at_ms > 0) {
        c->rate_paused_ms += proxy_now(c->wire.proxy) - c->paused_at_ms;
        c->paused_at_ms = 0;
    }
    wire_read(&c->wire, true);
}

/* The usual case takes all from the read buffer; what is left is kept. */
static void on_bytes(struct wire *w, char *bytes, size_t n)
{
    struct client *c = client_of(w);
    size_t used = 0;

    c->taking = true;
    if (c->in.len == 0)
        used = take_all(c, bytes, n);
    c->taking = false;
    if (used < n && c->state != CLIENT_CLOSED &&
        kg_buf_append(&c->in, bytes + used, n - used) != 0) {
        abandon(c);
        return;
    }
    client_resume(c);
}

/* --- the client's end ---------------------------------------------------------------------- */

/* A client that ended its half after a whole request waits for its answer, as is its right. */
static void on_eof(struct wire *w)
{
    struct client *c = client_of(w);

    if (c->state == CLIENT_LINGER) {
        if (wire_pending(w) == 0)
            client_close(c);
    } else if (c->down.body.framing == HTTP1_TUNNEL) {
        client_watch(c);
        client_resume(c);
    } else if (c->state != CLIENT_BUSY) {
        client_part(c);
    } else if (!c->down.body.done) {
        abandon(c);
    } else if (c->down.exchange) {
        client_watch(c);
    } else if (!local_half_closed(c)) {
        abandon(c);
    }
}

static void on_broken(struct wire *w)
{
    abandon(client_of(w));
}

static void on_paused(struct wire *w)
{
    struct client *c = client_of(w);

    if (c->state != CLIENT_BUSY)
        return;
    if (c->paused_at_ms == 0)
        c->paused_at_ms = proxy_now(w->proxy);
    client_watch(c);
}

static void on_drained(struct wire *w)
{
    struct client *c = client_of(w);

    if (c->state == CLIENT_LINGER && w->eof)
        client_close(c);
    else if (c->state == CLIENT_LINGER)
        arm(c, KG_LINGER_CLOSE_MS);
    else if (c->down.exchange)
        exchange_client_drained(c->down.exchange);
}

static const struct wire_kind client_wire = {.room = room,
                                             .on_bytes = on_bytes,
                                             .on_eof = on_eof,
                                             .on_drained = on_drained,
                                             .on_broken = on_broken,
                                             .on_paused = on_paused};

/* --- the next one's begin ------------------------------------------------------------------ */

static void on_closed(struct wire *w)
{
    struct client *c = client_of(w);

    kg_buf_fini(&c->in);
    body_fini(&c->down.body);
    free(c);
}

static void set_address(struct client *c, const struct sockaddr *address)
{
    const struct sockaddr_in6 *six = (const void *)address;

    if (address->sa_family == AF_INET)
        uv_ip4_name((const void *)address, c->address, sizeof c->address);
    else if (address->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
        uv_inet_ntop(AF_INET, &six->sin6_addr.s6_addr[12], c->address, sizeof c->address);
    else if (address->sa_family == AF_INET6)
        uv_ip6_name(six, c->address, sizeof c->address);
    c->down.address = kg_str_of(c->address);
}

static void count(struct client *c)
{
    struct proxy *p = c->wire.proxy;

    kg_list_push_back(&p->clients, &c->link);
    if (c->local)
        p->local_connections++;
    else
        p->stats->connections = ++p->connections;
}

void client_new(struct listener *l, int fd, const struct sockaddr *address, struct kg_str key)
{
    struct proxy *p = l->proxy;
    struct client *c = calloc(1, sizeof *c);

    if (!c ||
        wire_init(&c->wire, p, l->unix_socket, l->local ? LOCAL_QUEUE_BYTES : CLIENT_QUEUE_BYTES,
                  &client_wire, on_closed) != 0) {
        free(c);
        close(fd);
        accept_forget(p, key);
        return;
    }
    c->local = l->local;
    c->down.kind = &client_downstream;
    c->down.proxy = p;
    c->down.wire = &c->wire;
    c->key_n = (uint8_t)key.n;
    memcpy(c->key, key.p, key.n);
    if (!l->unix_socket)
        set_address(c, address);
    kg_buf_init(&c->in, IN_BYTES);
    guard_init(&c->guard, GUARD_REQUEST);
    client_timers_init(c);
    count(c);
    if (wire_open(&c->wire, fd) != 0 || (l->secure && wire_secure(&c->wire) != 0)) {
        client_close(c);
        return;
    }
    arm(c, KG_FIRST_BYTE_TIMEOUT_MS);
    wire_read(&c->wire, true);
}

void clients_close(struct proxy *p, bool idle_only)
{
    KG_LIST_EACH_SAFE(it, &p->clients)
    {
        struct client *c = KG_LIST_ENTRY(it, struct client, link);
        if (idle_only) {
            close_idle(c);
            continue;
        }
        client_http2_drop(c, EXCHANGE_CLOSED);
        if (c->down.exchange)
            exchange_end(c->down.exchange, EXCHANGE_CLOSED);
        if (c->local_request)
            local_drop(c, false);
        client_close(c);
    }
}
