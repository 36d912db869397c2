/* SPDX-License-Identifier: Apache-2.0 */
/* An exchange from its head to its end: checks, the gate, refusals, the books.
 * The difficulty: it can end at every step, and must then have given back exactly what it held. */
#include "base/clock.h"
#include "base/err.h"
#include "proxy/exchange_priv.h"
#include "proxy/route.h"
#include <stdarg.h>
#include <stdio.h>

#define FIRST_CHUNK_MS 200 /* behind a head */
#define ARENA_MAX_BYTES (512 * 1024)
#define DETAIL_BYTES 256
#define US_PER_MS 1000
#define NS_PER_US 1000

static struct proxy *proxy_of(const struct exchange *ex)
{
    return ex->down->proxy;
}

static struct proxy_service_stats *stats_of(const struct exchange *ex)
{
    return ex->service ? &proxy_of(ex)->stats->services[ex->service->id] : NULL;
}

/* --- begin --------------------------------------------------------------------------------- */

static void on_timer(struct kg_timer *t);
static void on_answer(struct proxy_waiter *w, const struct proxy_answer *answer);

static struct exchange *exchange_new(struct downstream *d)
{
    struct proxy *p = d->proxy;
    struct kg_arena arena;
    struct exchange *ex;

    kg_arena_init(&arena, &p->arenas, ARENA_MAX_BYTES);
    ex = kg_arena_alloc(&arena, sizeof *ex);
    if (!ex)
        return NULL;
    memset(ex, 0, sizeof *ex);
    ex->arena = arena;
    ex->down = d;
    ex->began_ms = proxy_now(p);
    ex->replay_whole = true;
    kg_buf_init(&ex->replay, KG_READ_BUFFER_BYTES + KG_REPLAY_BODY_BYTES);
    kg_list_init(&ex->soon);
    kg_timer_init(&ex->timer, on_timer);
    d->exchange = ex;
    p->stats->exchanges = ++p->exchanges;
    return ex;
}

static struct kg_str keep(struct exchange *ex, struct kg_str s)
{
    char *copy = kg_arena_copy(&ex->arena, s.p, s.n);

    return copy ? (struct kg_str){copy, s.n} : (struct kg_str){"", 0};
}

/* What must outlive the head's bytes. False: no memory. */
static bool remember(struct exchange *ex, const struct http1_head *h)
{
    char *id = kg_arena_alloc(&ex->arena, REWRITE_ID_MAX + 1);

    ex->is_head = h->method_id == HTTP1_HEAD;
    ex->idempotent = h->idempotent;
    ex->websocket = h->websocket;
    ex->expect = h->expect_continue;
    if (id)
        ex->id = rewrite_request_id(h, id);
    if (proxy_of(ex)->log.fd >= 0) {
        ex->method = keep(ex, h->method);
        ex->target = keep(ex, h->raw_target);
        ex->host = keep(ex, target_host(&h->target));
    }
    return id != NULL;
}

/* Everything is checked before a slot is asked for: a bad request must not start anything. */
static void check(struct exchange *ex, const struct http1_head *h, const struct route_match *match)
{
    struct rewrite_to_worker with = {.peer = ex->down->address,
                                     .id = ex->id,
                                     .secure = wire_is_secure(ex->down->wire),
                                     .http2 = ex->down->http2,
                                     .strip_bytes =
                                         ex->service->strip_prefix ? match->prefix_n : 0};

    if (ex->service->max_body_bytes >= 0 && h->framing == HTTP1_LENGTH &&
        h->content_length > ex->service->max_body_bytes) {
        exchange_refuse_worker(ex, PROXY_BODY_TOO_LARGE, "the body is larger than max_body");
        return;
    }
    ex->request_head = rewrite_request(&ex->arena, h, &with);
    if (!ex->request_head.p) {
        exchange_refuse(ex, PROXY_OVERLOADED, "out of memory");
        return;
    }
    ex->quiet = generation_is_quiet(ex->service, h);
    ex->waiter = (struct proxy_waiter){
        .service = ex->service->id, .quiet = ex->quiet, .on_answer = on_answer};
    if (h->framing != HTTP1_CHUNKED)
        exchange_acquire(ex);
    /* else exchange_flush goes on, once what came of the body with the head is checked, too */
}

int exchange_begin(struct downstream *d, const struct http1_head *h)
{
    struct proxy *p = d->proxy;
    struct exchange *ex = exchange_new(d);
    struct route_match match;

    if (!ex)
        return KG_ENOMEM;
    if (p->current) {
        ex->generation = generation_ref(p->current);
        ex->service = generation_find(ex->generation, h, &match);
    }
    if (!remember(ex, h))
        exchange_refuse(ex, PROXY_OVERLOADED, "out of memory");
    else if (!p->current)
        exchange_refuse(ex, PROXY_OVERLOADED, "this front does not know the services yet");
    else if (h->target.https && !wire_is_secure(d->wire))
        exchange_refuse(ex, PROXY_MISDIRECTED_REQUEST, "an https resource, and no TLS here");
    else if (!wire_host_agrees(d->wire, target_host(&h->target)))
        exchange_refuse(ex, PROXY_MISDIRECTED_REQUEST, "by TLS the client asked for another host");
    else if (!ex->service)
        exchange_refuse(ex, PROXY_NO_ROUTE, "no service has a route for this host and path");
    else if (h->max_forwards == 0)
        exchange_refuse(ex, PROXY_LAST_HOP, NULL);
    else
        check(ex, h, &match);
    return 0;
}

/* --- the gate ------------------------------------------------------------------------------ */

/* Slots are of workers as the services are when they are given, which may speak otherwise than
 * those that the request came under, or that come before it goes on. */
static bool speaks_h2c(const struct exchange *ex, const struct proxy_worker *worker)
{
    const struct proxy_service *now = generation_service(proxy_of(ex)->current, worker->service);

    return now ? now->h2c : ex->service->h2c;
}

static void slot_taken(struct exchange *ex, struct proxy_worker *worker)
{
    KG_ASSERT(!ex->worker && !worker->removed);
    ex->worker = worker;
    ex->h2c = speaks_h2c(ex, worker);
    worker_ref(worker);
    stats_of(ex)->exchanges++;
}

void exchange_slot_back(struct exchange *ex)
{
    struct proxy_worker *worker = ex->worker;
    struct proxy *p = proxy_of(ex);

    if (!worker)
        return;
    ex->worker = NULL;
    stats_of(ex)->exchanges--;
    if (!worker->removed)
        p->gate.release(p->gate.self, worker, ex->quiet);
    worker_unref(worker);
}

static void left_queue(struct exchange *ex)
{
    proxy_of(ex)->waiting--;
    stats_of(ex)->waiting--;
}

void exchange_acquire(struct exchange *ex)
{
    struct proxy *p = proxy_of(ex);
    struct proxy_worker *worker = p->gate.acquire(p->gate.self, &ex->waiter);

    ex->acquires++;
    if (worker) {
        slot_taken(ex, worker);
        forward_begin(ex);
        return;
    }
    ex->state = EXCHANGE_WAITING;
    ex->wait_began_ns = uv_hrtime();
    stats_of(ex)->waiting++;
    if (++p->waiting > KG_MAX_WAITING_PER_FRONT)
        exchange_refuse(ex, PROXY_OVERLOADED, "too many requests wait here");
}

/* Called by the gate, perhaps in the middle of something: the loop goes on with it. */
static void on_answer(struct proxy_waiter *w, const struct proxy_answer *answer)
{
    struct exchange *ex = KG_CONTAINER_OF(w, struct exchange, waiter);

    KG_ASSERT(ex->state == EXCHANGE_WAITING);
    left_queue(ex);
    ex->state = EXCHANGE_ANSWERED;
    if (answer->warmth != PROXY_WARM) /* it may have waited before, for one that was gone again */
        ex->warmth = answer->warmth;
    ex->waited_us += (int64_t)((uv_hrtime() - ex->wait_began_ns) / NS_PER_US);
    if (answer->worker) {
        slot_taken(ex, answer->worker);
    } else {
        ex->refusal = answer->reason;
        ex->asleep = answer->asleep;
        ex->retry_after_ms = answer->retry_after_ms;
        if (answer->detail)
            ex->detail = kg_arena_copy(&ex->arena, answer->detail, strlen(answer->detail));
    }
    kg_list_push_back(&proxy_of(ex)->soon, &ex->soon);
    proxy_soon(proxy_of(ex));
}

/* --- refusals ------------------------------------------------------------------------------ */

static void count_refusal(struct exchange *ex, const struct proxy_reason_row *row)
{
    KG_ASSERT(row->index < PROXY_REASON_MAX);
    if (ex->service)
        stats_of(ex)->refused[row->index]++;
    else
        proxy_of(ex)->stats->refused[row->index]++;
}

static void refuse(struct exchange *ex, const struct proxy_reason_row *row, const char *detail,
                   int status)
{
    struct problem problem = {.row = row,
                              .detail = detail,
                              .id = ex->id,
                              .retry_after_ms = ex->retry_after_ms,
                              .wall_ms = proxy_wall_ms(proxy_of(ex)),
                              .status = status,
                              .warmth = ex->warmth,
                              .waited_us = ex->waited_us,
                              .head = ex->is_head};

    KG_ASSERT(ex->state < EXCHANGE_RESPONDING);
    ex->down->kind->problem(ex->down, &problem); /* what it cannot send, it breaks off */
    count_refusal(ex, row);
    ex->status = status ? status : row->status;
    exchange_end(ex, EXCHANGE_REFUSED);
}

void exchange_refuse(struct exchange *ex, enum proxy_reason reason, const char *detail)
{
    refuse(ex, proxy_reason_row(reason), detail, 0);
}

void exchange_refuse_worker(struct exchange *ex, enum proxy_reason reason, const char *words)
{
    char detail[DETAIL_BYTES];

    snprintf(detail, sizeof detail, "service '%s': %s", ex->service->name, words);
    exchange_refuse(ex, reason, detail);
}

void exchange_blame(struct exchange *ex, enum proxy_reason reason, const char *words)
{
    if (ex->state < EXCHANGE_RESPONDING)
        exchange_refuse_worker(ex, reason, words);
    else
        exchange_end(ex, EXCHANGE_CLIENT_GONE);
}

void exchange_go_on(struct exchange *ex)
{
    struct downstream *d = ex->down;

    if (ex->state == EXCHANGE_PAUSED)
        exchange_acquire(ex);
    else if (ex->worker)
        forward_begin(ex);
    else
        refuse(ex, ex->refusal, ex->detail, ex->asleep ? ex->service->quiet_status : 0);
    d->kind->resume(d);
}

/* What is at hand goes out with the head, when there is a slot at once. */
static void acquire_and_send(struct exchange *ex)
{
    struct downstream *d = ex->down;

    exchange_acquire(ex);
    if (d->exchange == ex && ex->state == EXCHANGE_ASKED && !ex->request_head_sent)
        forward_piece(ex, (struct kg_str){NULL, 0});
    d->kind->resume(d); /* there may be room for more of the body now */
}

void exchange_suspect(struct exchange *ex)
{
    struct proxy *p = proxy_of(ex);

    if (ex->worker && !ex->worker->removed)
        p->gate.suspect(p->gate.self, ex->worker);
}

static void on_timer(struct kg_timer *t)
{
    struct exchange *ex = KG_CONTAINER_OF(t, struct exchange, timer);
    char words[64];

    if (ex->state == EXCHANGE_NEW) {
        acquire_and_send(ex);
    } else if (ex->state == EXCHANGE_PAUSED) {
        exchange_go_on(ex);
    } else if (ex->state == EXCHANGE_CONNECTING || ex->state == EXCHANGE_ASKED) {
        snprintf(words, sizeof words, "no response head within %lld ms",
                 (long long)ex->service->request_timeout_ms);
        exchange_suspect(ex);
        exchange_refuse_worker(ex, PROXY_UPSTREAM_TIMEOUT, words);
    } else if (ex->state == EXCHANGE_TUNNEL) {
        tunnel_timer(ex);
    }
}

/* --- the request's body -------------------------------------------------------------------- */

static bool is_forwarding(const struct exchange *ex)
{
    return ex->upstream && (ex->state == EXCHANGE_ASKED || ex->state == EXCHANGE_RESPONDING ||
                            ex->state == EXCHANGE_TUNNEL);
}

size_t exchange_takes(const struct exchange *ex)
{
    if (is_forwarding(ex))
        return ex->upload_over ? 0 : SIZE_MAX;
    if (ex->state >= EXCHANGE_RESPONDING || ex->replay.len >= KG_REPLAY_BODY_BYTES)
        return 0;
    return KG_REPLAY_BODY_BYTES - ex->replay.len;
}

size_t exchange_room(const struct exchange *ex)
{
    size_t takes = exchange_takes(ex);

    if (is_forwarding(ex) && ex->upstream->kind->pending(ex->upstream) > 0)
        return 0;
    return takes < KG_READ_BUFFER_BYTES ? takes : KG_READ_BUFFER_BYTES;
}

bool exchange_awaits_body(const struct exchange *ex)
{
    return !ex->down->body.done && ex->state < EXCHANGE_RESPONDING;
}

void exchange_body(struct exchange *ex, struct kg_str payload)
{
    int64_t max = ex->service->max_body_bytes;

    ex->bytes_in += payload.n;
    if (max >= 0 && ex->bytes_in > (uint64_t)max && ex->state != EXCHANGE_TUNNEL)
        exchange_blame(ex, PROXY_BODY_TOO_LARGE, "the body is larger than max_body");
    else if (ex->state == EXCHANGE_TUNNEL)
        tunnel_bytes(ex, payload);
    else if (is_forwarding(ex))
        forward_piece(ex, payload);
    else if (kg_buf_append(&ex->replay, payload.p, payload.n) != 0)
        exchange_refuse(ex, PROXY_OVERLOADED, "out of memory");
}

/* A chunked body shows its first chunk before anything is started for it: what is malformed costs
 * nothing. A client that sends its head alone (it may wait for us) is not held up for long. */
static bool first_chunk_awaited(struct exchange *ex)
{
    const struct body *b = &ex->down->body;
    struct proxy *p = proxy_of(ex);

    if (ex->down->http2 || b->framing != HTTP1_CHUNKED || b->done || ex->expect ||
        ex->replay.len > 0)
        return false;
    if (ex->timer.due_ms == KG_NEVER)
        kg_timer_arm(&p->wheel, &ex->timer, proxy_now(p) + FIRST_CHUNK_MS);
    return true;
}

void exchange_flush(struct exchange *ex)
{
    if (ex->state == EXCHANGE_NEW && !first_chunk_awaited(ex))
        acquire_and_send(ex);
    else if (ex->state == EXCHANGE_ASKED && !ex->request_head_sent)
        forward_piece(ex, (struct kg_str){NULL, 0});
}

bool exchange_ask_client(struct exchange *ex)
{
    if (ex->state >= EXCHANGE_RESPONDING)
        return false;
    ex->down->kind->interim(ex->down, 102, NULL);
    return true;
}

void exchange_client_drained(struct exchange *ex)
{
    if (ex->state == EXCHANGE_FLUSHING)
        exchange_end(ex, EXCHANGE_DONE);
    else if (ex->state == EXCHANGE_TUNNEL)
        tunnel_client_drained(ex);
    else if (is_forwarding(ex))
        ex->upstream->kind->resume(ex->upstream);
}

void exchange_client_eof(struct exchange *ex)
{
    KG_ASSERT(ex->state == EXCHANGE_TUNNEL);
    tunnel_client_eof(ex);
}

/* --- the end ------------------------------------------------------------------------------- */

static void count(const struct exchange *ex, enum exchange_end how)
{
    struct proxy_service_stats *s = stats_of(ex);

    if (!s || ex->status < PROXY_STATUS_MIN)
        return;
    s->requests[ex->status - PROXY_STATUS_MIN]++;
    if (how != EXCHANGE_DONE && how != EXCHANGE_REFUSED)
        s->broken++;
    kg_histogram_add_us(&s->duration, (proxy_now(proxy_of(ex)) - ex->began_ms) * US_PER_MS);
}

static void write_log(const struct exchange *ex, enum exchange_end how)
{
    static const char *const outcomes[] = {[EXCHANGE_DONE] = "done",
                                           [EXCHANGE_REFUSED] = "refused",
                                           [EXCHANGE_BROKEN] = "broken",
                                           [EXCHANGE_CLIENT_GONE] = "client-gone",
                                           [EXCHANGE_CLOSED] = "closed"};
    struct proxy *p = proxy_of(ex);
    struct access_line line = {.id = ex->id,
                               .client = ex->down->address,
                               .method = ex->method,
                               .target = ex->target,
                               .host = ex->host,
                               .service = ex->service ? kg_str_of(ex->service->name)
                                                      : (struct kg_str){"", 0},
                               .outcome = outcomes[how],
                               .status = ex->status,
                               .bytes_in = ex->bytes_in,
                               .bytes_out = ex->bytes_out,
                               .total_ms = proxy_now(p) - ex->began_ms,
                               .waited_ms = ex->waited_us / US_PER_MS,
                               .warmth = ex->warmth};

    access_log_write(p, &line);
}

/* What it holds at the gate, in the loop's queues and of a worker goes back here and only here. A
 * connection that can be used again has been given back when its response ended. */
static void give_back(struct exchange *ex)
{
    struct proxy *p = proxy_of(ex);

    if (ex->state == EXCHANGE_WAITING) {
        left_queue(ex);
        p->gate.cancel(p->gate.self, &ex->waiter);
    }
    kg_list_remove(&ex->soon);
    kg_timer_disarm(&p->wheel, &ex->timer);
    if (ex->upstream)
        ex->upstream->kind->close(ex->upstream);
    ex->upstream = NULL;
    exchange_slot_back(ex);
}

void exchange_end(struct exchange *ex, enum exchange_end how)
{
    struct downstream *d = ex->down;
    struct proxy *p = proxy_of(ex);
    struct kg_arena arena;

    give_back(ex);
    count(ex, how);
    if (p->log.fd >= 0)
        write_log(ex, how);
    generation_unref(ex->generation);
    kg_buf_fini(&ex->replay);
    d->exchange = NULL;
    p->stats->exchanges = --p->exchanges;
    arena = ex->arena;
    kg_arena_fini(&arena); /* the exchange lies in it */
    if (p->on_drained)
        proxy_soon(p);
    d->kind->over(d, how);
}
