/* SPDX-License-Identifier: Apache-2.0 */
/* A client's connection that speaks HTTP/2: its streams as exchanges' clients.
 * The difficulty: the windows are the back-pressure, so bytes are given back to them only when the
 * exchange has room for more; and a stream outlives its exchange, or the other way round. */
#include "base/clock.h"
#include "base/err.h"
#include "proxy/client_priv.h"
#include "proxy/exchange_priv.h"
#include "proxy/http2_head_priv.h"
#include <stdlib.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SPARE_STREAMS 256 /* kept for the next ones, in the process */

struct client_http2 {
    struct http2 session;
    struct client *client;
    struct kg_list touched;               /* streams of which something came in this read */
    int64_t opened_ms, idle_ms, drain_ms; /* drain_ms: 0 as long as it is not to end */
};

struct stream {
    struct http2_stream h2;
    struct downstream down;
    struct client_http2 *owner;
    struct kg_list touched; /* or the list of spare ones */
    struct kg_buf held;     /* of the body: the exchange had no room */
    size_t taken;           /* by the exchange, and not yet given back to the windows */
    struct kg_str head; /* of the answer, not sent yet: HTTP/1.1 text, in the exchange's arena */
    struct kg_timer timer;
    uint64_t rate_bytes; /* of the body since rate_ms */
    int64_t rate_ms;     /* 0: the rate is not watched */
    bool ended;          /* the client's half, behind what is held */
    bool blocked;        /* in this span of time it could not send all it would */
    bool grace;
    bool taking, again;
    bool asked; /* its head came */
};

/* Where a request's head becomes text; used up before the next one comes. */
static char text[HTTP2_TEXT_BYTES];
static struct http2_field fields[HTTP2_MAX_FIELDS];

static struct {
    struct kg_list list; /* next is NULL before the first use */
    unsigned count;
} spare;

static struct stream *stream_of(struct http2_stream *h)
{
    return KG_CONTAINER_OF(h, struct stream, h2);
}

static struct stream *stream_of_down(const struct downstream *d)
{
    return KG_CONTAINER_OF(d, struct stream, down);
}

static int64_t now_of(const struct stream *s)
{
    return proxy_now(s->down.proxy);
}

/* When something would be due that has not come. */
static int64_t due_ms(const struct client_http2 *x)
{
    const struct http2 *h = &x->session;
    int64_t due = KG_NEVER;

    if (!h->settled)
        due = x->opened_ms + KG_HEAD_TIMEOUT_MS;
    else if (h->block_ms > 0)
        due = h->block_ms + KG_HEAD_TIMEOUT_MS;
    else if (h->stream_count == 0 && x->drain_ms == 0)
        due = x->idle_ms + KG_KEEPALIVE_TIMEOUT_MS;
    if (x->drain_ms > 0 && !h->goaway_sent)
        due = kg_earliest(due, x->drain_ms + KG_DRAIN_FIRST_BYTE_MS);
    return due;
}

static void arm(struct client_http2 *x)
{
    int64_t due = due_ms(x);

    if (due != KG_NEVER)
        kg_timer_arm(&x->client->wire.proxy->wheel, &x->client->deadline, due);
}

/* --- memory of streams --------------------------------------------------------------------- */

static struct stream *stream_new(void)
{
    struct stream *s;

    if (!spare.list.next)
        kg_list_init(&spare.list);
    if (spare.count == 0)
        return calloc(1, sizeof *s);
    s = KG_LIST_ENTRY(kg_list_first(&spare.list), struct stream, touched);
    kg_list_remove(&s->touched);
    spare.count--;
    memset(s, 0, sizeof *s);
    return s;
}

static void stream_free(struct stream *s)
{
    kg_timer_disarm(&s->down.proxy->wheel, &s->timer);
    kg_list_remove(&s->touched);
    kg_buf_fini(&s->held);
    body_fini(&s->down.body);
    if (spare.count == SPARE_STREAMS) {
        free(s);
        return;
    }
    kg_list_push_front(&spare.list, &s->touched);
    spare.count++;
}

void client_http2_free_spares(void)
{
    struct kg_list *first;

    while (spare.count > 0 && (first = kg_list_first(&spare.list)) != NULL) {
        kg_list_remove(first);
        free(KG_LIST_ENTRY(first, struct stream, touched));
        spare.count--;
    }
}

/* --- the request's body -------------------------------------------------------------------- */

/* Lets the client send as much again as the exchange is done with. */
static void give_back(struct stream *s)
{
    if (!s->down.exchange || exchange_room(s->down.exchange) == 0) {
        s->blocked |= s->taken > 0;
        return;
    }
    http2_consume(&s->h2, s->taken);
    s->taken = 0;
}

/* Hands over what the exchange takes of it; gives how much. */
static size_t hand_over(struct stream *s, struct kg_str bytes)
{
    struct body *body = &s->down.body;
    size_t takes;

    if (!s->down.exchange || (body->done && bytes.n > 0))
        return 0; /* what comes ahead of a tunnel waits for it */
    takes = exchange_takes(s->down.exchange);
    if (bytes.n > takes)
        bytes.n = takes;
    if (bytes.n == 0)
        return 0;
    if (body->framing == HTTP1_LENGTH) {
        body->left -= bytes.n < body->left ? bytes.n : body->left;
        body->done = body->left == 0;
    }
    s->rate_bytes += bytes.n;
    s->taken += bytes.n;
    exchange_body(s->down.exchange, bytes);
    return bytes.n;
}

/* The client's half has ended, and all of it is handed over. */
static void end_body(struct stream *s)
{
    struct body *body = &s->down.body;

    if (!s->down.exchange || body->done)
        return;
    body->done = true;
    if (body->framing == HTTP1_TUNNEL)
        exchange_client_eof(s->down.exchange);
    else
        exchange_body(s->down.exchange, (struct kg_str){"", 0}); /* says that this is the end */
}

static void take_held(struct stream *s)
{
    size_t n = s->held.len > 0 ? hand_over(s, kg_buf_str(&s->held)) : 0;

    if (s->down.exchange) /* else it has ended by that, and nothing is held any more */
        kg_buf_drop_front(&s->held, n);
    if (s->held.len == 0 && s->ended)
        end_body(s);
    give_back(s);
}

/* An exchange may ask for more from inside a call that gives it some. */
static void stream_resume(struct stream *s)
{
    s->again = true;
    if (s->taking)
        return;
    s->taking = true;
    while (s->again && s->down.exchange) {
        s->again = false;
        take_held(s);
        if (s->down.exchange)
            exchange_flush(s->down.exchange);
    }
    s->taking = false;
}

static void touch(struct stream *s)
{
    if (kg_list_empty(&s->touched))
        kg_list_push_back(&s->owner->touched, &s->touched);
}

static void on_data(struct http2_stream *h, struct kg_str bytes)
{
    struct stream *s = stream_of(h);
    size_t n = 0;

    if (!s->down.exchange) {
        http2_consume(h, bytes.n); /* answered already */
        return;
    }
    s->taking = true;
    if (s->held.len == 0)
        n = hand_over(s, bytes);
    s->taking = false;
    if (n < bytes.n && s->down.exchange && kg_buf_append(&s->held, bytes.p + n, bytes.n - n) != 0)
        http2_reset(h, HTTP2_INTERNAL_ERROR);
    touch(s);
}

static void on_end(struct http2_stream *h)
{
    struct stream *s = stream_of(h);

    s->ended = true;
    touch(s);
}

/* --- heads --------------------------------------------------------------------------------- */

/* The answer is given, whole; or it could not be, and must not look as if it were. */
static void answered(struct stream *s)
{
    if (s->h2.last)
        http2_stop(&s->h2);
    else
        http2_reset(&s->h2, HTTP2_INTERNAL_ERROR);
}

/* An answer to what has not become an exchange. */
static void refuse(struct stream *s, struct guard_verdict verdict, const struct http1_head *h)
{
    char id[REWRITE_ID_MAX + 1];
    struct problem problem;

    downstream_refused(&s->down, verdict, h, id, &problem);
    s->down.kind->problem(&s->down, &problem);
    answered(s);
}

/* RFC 9113 8.1.1: a malformed message is an error of its stream. */
static void count_malformed(struct stream *s)
{
    char id[REWRITE_ID_MAX + 1];
    struct problem problem;

    downstream_refused(&s->down, (struct guard_verdict){PROXY_BAD_REQUEST, ""}, NULL, id, &problem);
}

static struct guard_verdict parse(const char *bytes, size_t n, struct http1_head *out)
{
    struct guard guard;

    guard_init(&guard, GUARD_REQUEST);
    if (guard_scan(&guard, bytes, n) == GUARD_REFUSED) {
        http1_start_line(&guard, bytes, out);
        return guard.verdict;
    }
    KG_ASSERT(guard.end == n);
    return http1_parse_request(&guard, bytes, out);
}

static void on_request(struct stream *s, const struct http2_head *head, bool end)
{
    char nonce[REWRITE_ID_MAX + 1];
    struct http1_head h;
    size_t n;
    struct guard_verdict verdict;

    s->asked = true;
    h.method_id = HTTP1_OTHER; /* until it is understood */
    h.method = h.raw_target = (struct kg_str){"", 0};
    h.minor = 1;
    if (http2_head_asks_for_tunnel(head))
        rewrite_request_id(NULL, nonce);
    verdict = http2_head_request(head, end, nonce, text, &n);
    if (verdict.reason == PROXY_BAD_REQUEST) {
        count_malformed(s);
        http2_reset(&s->h2, HTTP2_PROTOCOL_ERROR);
        return;
    }
    if (verdict.reason == PROXY_NONE)
        verdict = parse(text, n, &h);
    if (verdict.reason != PROXY_NONE) {
        refuse(s, verdict, &h);
        return;
    }
    body_init(&s->down.body, &h, false);
    s->ended = end;
    if (exchange_begin(&s->down, &h) != 0)
        http2_reset(&s->h2, HTTP2_REFUSED_STREAM);
    touch(s);
}

/* They are checked as the end of a chunked body, and kept until what is held has gone. */
static void on_trailers(struct stream *s, const struct http2_head *head)
{
    struct body *body = &s->down.body;
    struct guard_verdict verdict;
    struct kg_str none;
    size_t n, used;

    s->ended = true;
    touch(s);
    if (!s->down.exchange)
        return;
    verdict = http2_head_trailers(head, text, &n);
    if (verdict.reason == PROXY_BAD_REQUEST)
        http2_reset(&s->h2, HTTP2_PROTOCOL_ERROR);
    else if (verdict.reason != PROXY_NONE)
        exchange_blame(s->down.exchange, verdict.reason, verdict.words);
    else if (body->framing == HTTP1_CHUNKED && !body->done &&
             body_take(body, text, n, &used, &none) == BODY_REFUSED)
        exchange_blame(s->down.exchange, body->chunk.verdict.reason, body->chunk.verdict.words);
    else if (body->framing == HTTP1_CHUNKED)
        body->done = false; /* end_body says so */
}

static void on_head(struct http2_stream *h, const struct http2_head *head, bool end)
{
    if (head->kind == HTTP2_REQUEST)
        on_request(stream_of(h), head, end);
    else
        on_trailers(stream_of(h), head);
}

/* --- time ---------------------------------------------------------------------------------- */

static bool sends_too_slowly(const struct stream *s)
{
    int64_t span_ms = now_of(s) - s->rate_ms;

    return !s->grace && !s->blocked && s->held.len == 0 && !http2_peer_blocked(&s->h2) &&
           s->rate_bytes < (uint64_t)span_ms * KG_BODY_MIN_BYTES_PER_S / 1000;
}

static void arm_stream(struct stream *s)
{
    if (s->timer.due_ms == KG_NEVER)
        kg_timer_arm(&s->down.proxy->wheel, &s->timer, now_of(s) + KG_BODY_GRACE_MS);
}

/* One timer watches over the body's rate and over bytes that the client does not take. */
static void on_timer(struct kg_timer *t)
{
    struct stream *s = KG_CONTAINER_OF(t, struct stream, timer);
    bool rated =
        s->rate_ms > 0 && s->down.exchange && exchange_awaits_body(s->down.exchange) && !s->ended;

    if (http2_pending(&s->h2) > 0 && now_of(s) - s->h2.moved_ms >= KG_WRITE_STALL_MS) {
        http2_reset(&s->h2, HTTP2_CANCEL);
        return;
    }
    if (rated && sends_too_slowly(s)) {
        exchange_blame(s->down.exchange, PROXY_REQUEST_TIMEOUT, "the body came too slowly");
        return;
    }
    if (rated) {
        s->grace = s->blocked = false;
        s->rate_bytes = 0;
        s->rate_ms = now_of(s);
    }
    if (rated || http2_pending(&s->h2) > 0)
        arm_stream(s);
}

/* --- as an exchange's client --------------------------------------------------------------- */

static int interim(struct downstream *d, int status, const struct http1_head *h)
{
    struct rewrite_to_client with = {.client_minor = 1, .keep_alive = true};
    struct stream *s = stream_of_down(d);
    struct kg_arena arena;
    struct kg_str line;
    int rc;

    if (!h && status != 100)
        return 0; /* whether the client is there is known without asking it */
    if (!h) {
        fields[0] = (struct http2_field){KG_STR(":status"), KG_STR("100")};
        return http2_interim(&s->h2, fields, 1);
    }
    kg_arena_init(&arena, &d->proxy->arenas, 2 * KG_MAX_HEAD_BYTES);
    line = rewrite_response(&arena, h, &with);
    rc = line.p
             ? http2_interim(&s->h2, fields, http2_fields_response((char *)line.p, line.n, fields))
             : KG_ENOMEM;
    kg_arena_fini(&arena);
    return rc;
}

static int head(struct downstream *d, const struct http1_head *h, struct rewrite_to_client *with)
{
    struct stream *s = stream_of_down(d);

    with->client_minor = 1;
    with->keep_alive = true;
    s->head = rewrite_response(&d->exchange->arena, h, with);
    return s->head.p ? 0 : KG_ENOMEM;
}

static int send_trailers(struct stream *s, struct kg_str lines)
{
    KG_ASSERT(lines.n <= sizeof text);
    memcpy(text, lines.p, lines.n);
    return http2_trailers(&s->h2, fields, http2_fields_trailers(text, lines.n, fields));
}

static int send_piece(struct downstream *d, const struct downstream_piece *piece)
{
    struct stream *s = stream_of_down(d);
    struct kg_str head_lines = s->head;
    int rc = 0;

    s->head = (struct kg_str){NULL, 0};
    if (piece->last && piece->trailers.n > 0)
        rc = send_trailers(s, piece->trailers);
    if (rc == 0 && head_lines.p)
        rc = http2_respond(&s->h2, fields,
                           http2_fields_response((char *)head_lines.p, head_lines.n, fields),
                           piece->payload, piece->last);
    else if (rc == 0)
        rc = http2_send(&s->h2, piece->payload, piece->last);
    if (rc == 0 && http2_pending(&s->h2) > 0)
        arm_stream(s);
    return rc;
}

static int problem(struct downstream *d, struct problem *p)
{
    struct stream *s = stream_of_down(d);
    struct downstream_piece piece = {.last = true};
    struct kg_buf out;
    char *body;
    int rc;

    kg_buf_init(&out, KG_READ_BUFFER_BYTES);
    p->client_minor = 1;
    p->keep_alive = true;
    rc = problem_write(&out, p, NULL);
    if (rc == 0) {
        body = (char *)memmem(out.data, out.len, "\r\n\r\n", 4) + 4;
        s->head = (struct kg_str){out.data, (size_t)(body - out.data)};
        piece.payload = (struct kg_str){body, out.len - s->head.n};
        rc = send_piece(d, &piece);
    }
    s->head = (struct kg_str){NULL, 0};
    kg_buf_fini(&out);
    return rc;
}

static size_t pending(const struct downstream *d)
{
    return http2_pending(&stream_of_down(d)->h2);
}

static void tunnel(struct downstream *d)
{
    d->body.framing = HTTP1_TUNNEL;
    d->body.done = false;
}

static void fin(struct downstream *d)
{
    http2_send(&stream_of_down(d)->h2, (struct kg_str){NULL, 0}, true);
}

static void resume(struct downstream *d)
{
    stream_resume(stream_of_down(d));
}

static void body_wanted(struct downstream *d)
{
    struct stream *s = stream_of_down(d);

    if (s->rate_ms > 0 || d->body.done || s->ended)
        return;
    s->grace = true;
    s->rate_ms = now_of(s);
    arm_stream(s);
}

static void over(struct downstream *d, enum exchange_end how)
{
    struct stream *s = stream_of_down(d);

    s->head = (struct kg_str){NULL, 0};
    kg_buf_fini(&s->held);
    if (how == EXCHANGE_DONE || how == EXCHANGE_REFUSED)
        answered(s);
    else
        http2_reset(&s->h2, how == EXCHANGE_BROKEN ? HTTP2_INTERNAL_ERROR : HTTP2_CANCEL);
}

static const struct downstream_kind stream_downstream = {.connects = true,
                                                         .interim = interim,
                                                         .head = head,
                                                         .send = send_piece,
                                                         .problem = problem,
                                                         .pending = pending,
                                                         .tunnel = tunnel,
                                                         .fin = fin,
                                                         .resume = resume,
                                                         .body_wanted = body_wanted,
                                                         .over = over};

/* --- as a session's streams ---------------------------------------------------------------- */

static struct client_http2 *owner_of(struct http2 *h)
{
    return KG_CONTAINER_OF(h, struct client_http2, session);
}

/* A stream that was reset counts until this turn ends: by then its worker's side is closed. All
 * exchanges together are no more than there may be connections, for each may need a worker's. */
static struct http2_stream *begin(struct http2 *h)
{
    struct client_http2 *x = owner_of(h);
    const struct proxy *p = x->client->wire.proxy;
    bool room = h->stream_count < KG_MAX_STREAMS && p->exchanges < p->params.max_connections;
    struct stream *s = room ? stream_new() : NULL;

    if (!s)
        return NULL;
    s->owner = x;
    s->down = (struct downstream){.kind = &stream_downstream,
                                  .proxy = x->client->down.proxy,
                                  .address = x->client->down.address,
                                  .wire = &x->client->wire,
                                  .http2 = true};
    kg_list_init(&s->touched);
    kg_timer_init(&s->timer, on_timer);
    kg_buf_init(&s->held, KG_READ_BUFFER_BYTES);
    return &s->h2;
}

static void on_drained(struct http2_stream *h)
{
    struct stream *s = stream_of(h);

    if (s->down.exchange)
        exchange_client_drained(s->down.exchange);
}

static void on_closed(struct http2_stream *h, uint32_t code)
{
    struct stream *s = stream_of(h);
    struct client_http2 *x = s->owner;

    if (!s->asked && code == HTTP2_PROTOCOL_ERROR)
        count_malformed(s); /* nghttp2 found it */
    if (s->down.exchange && code == HTTP2_NO_ERROR)
        exchange_client_drained(s->down.exchange); /* its last bytes went out just now */
    if (s->down.exchange)
        exchange_end(s->down.exchange, EXCHANGE_CLIENT_GONE);
    stream_free(s);
    if (x->session.stream_count > 0)
        return;
    x->idle_ms = proxy_now(x->client->wire.proxy);
    arm(x);
}

static void on_over(struct http2 *h)
{
    client_next(owner_of(h)->client, CLIENT_END);
}

static const struct http2_kind session_kind = {.begin = begin,
                                               .on_head = on_head,
                                               .on_data = on_data,
                                               .on_end = on_end,
                                               .on_drained = on_drained,
                                               .on_closed = on_closed,
                                               .on_over = on_over};

/* --- the connection ------------------------------------------------------------------------ */

static struct client *client_of(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct client, wire);
}

static size_t room(struct wire *w)
{
    (void)w;
    return KG_READ_BUFFER_BYTES;
}

static void drain(struct client_http2 *x)
{
    if (x->drain_ms > 0)
        return;
    x->drain_ms = proxy_now(x->client->wire.proxy);
    http2_drain(&x->session);
    arm(x);
}

/* What came together for a stream goes on together. */
static void settle(struct client_http2 *x)
{
    struct kg_list *first;

    while ((first = kg_list_first(&x->touched)) != NULL) {
        struct stream *s = KG_LIST_ENTRY(first, struct stream, touched);
        kg_list_remove(first);
        stream_resume(s);
    }
    if (x->session.block_ms > 0)
        arm(x);
    if (x->client->wire.proxy->draining)
        drain(x);
}

static void on_bytes(struct wire *w, char *bytes, size_t n)
{
    struct client_http2 *x = client_of(w)->http2;

    http2_feed(&x->session, bytes, n);
    settle(x);
}

static void on_eof(struct wire *w)
{
    client_part(client_of(w));
}

static void on_broken(struct wire *w)
{
    client_close(client_of(w));
}

static void on_wire_drained(struct wire *w)
{
    http2_wire_drained(&client_of(w)->http2->session);
}

static const struct wire_kind http2_wire = {.room = room,
                                            .on_bytes = on_bytes,
                                            .on_eof = on_eof,
                                            .on_drained = on_wire_drained,
                                            .on_broken = on_broken};

enum client_version client_version(const struct client *c, struct kg_str in)
{
    struct kg_str preface = KG_STR(PREFACE);

    if (wire_is_secure(&c->wire))
        return kg_str_eq(wire_protocol(&c->wire), KG_STR("h2")) ? CLIENT_SPEAKS_HTTP2
                                                                : CLIENT_SPEAKS_HTTP1;
    if (c->local || !(c->wire.proxy->params.protocols & PROXY_H2C))
        return CLIENT_SPEAKS_HTTP1;
    if (in.n < preface.n)
        preface.n = in.n;
    if (!kg_str_has_prefix(in, preface))
        return CLIENT_SPEAKS_HTTP1;
    return preface.n < sizeof PREFACE - 1 ? CLIENT_SPEAKS_LATER : CLIENT_SPEAKS_HTTP2;
}

int client_http2_begin(struct client *c, struct kg_str in)
{
    struct client_http2 *x = calloc(1, sizeof *x);

    if (!x)
        return KG_ENOMEM;
    x->client = c;
    kg_list_init(&x->touched);
    if (http2_open(&x->session, &c->wire, false, &session_kind) != 0) {
        free(x);
        return KG_ENOMEM;
    }
    c->http2 = x;
    c->state = CLIENT_HTTP2;
    c->wire.kind = &http2_wire;
    x->opened_ms = x->idle_ms = proxy_now(c->wire.proxy);
    arm(x);
    http2_feed(&x->session, in.p, in.n);
    settle(x);
    return 0;
}

void client_http2_drop(struct client *c, enum exchange_end how)
{
    struct client_http2 *x = c->http2;

    if (!x)
        return;
    KG_LIST_EACH_SAFE(it, &x->session.streams)
    {
        struct stream *s = stream_of(KG_LIST_ENTRY(it, struct http2_stream, link));
        if (s->down.exchange)
            exchange_end(s->down.exchange, how);
    }
    http2_close(&x->session);
    c->http2 = NULL;
    free(x);
}

void client_http2_drain(struct client *c)
{
    drain(c->http2);
}

void client_http2_deadline(struct client *c)
{
    struct client_http2 *x = c->http2;
    const struct http2 *h = &x->session;
    int64_t now_ms = proxy_now(c->wire.proxy);

    if (due_ms(x) > now_ms) {
        arm(x);
    } else if (!h->settled) {
        client_part(c);
    } else if (h->block_ms > 0 && h->block_ms + KG_HEAD_TIMEOUT_MS <= now_ms) {
        http2_terminate(&x->session, HTTP2_ENHANCE_YOUR_CALM);
    } else if (x->drain_ms > 0) {
        http2_goaway(&x->session);
        client_http2_deadline(c); /* a head may be due yet */
    } else {
        drain(x);
    }
}
