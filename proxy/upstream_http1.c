/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/1 connection as an exchange's way to its worker.
 * The difficulty: answers are read where they landed, without a copy; only the beginning of a head
 * that came in pieces is kept, and where an answer ends the exchange lets go in mid-read. */
#include "proxy/exchange_priv.h"

/* What a step has done. OVER: the exchange has let go of the connection; hands off. */
enum step { STEP_ON, STEP_WAIT, STEP_OVER };

static struct upstream_conn *conn_of(const struct upstream *u)
{
    return KG_CONTAINER_OF(u, struct upstream_conn, up);
}

static struct upstream_conn *conn_of_wire(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct upstream_conn, wire);
}

static struct exchange *exchange_of(struct wire *w)
{
    return conn_of_wire(w)->up.exchange;
}

static enum step step_of(bool goes_on)
{
    return goes_on ? STEP_ON : STEP_OVER;
}

/* --- what the worker says ------------------------------------------------------------------ */

static enum step take_head(struct upstream_conn *c, const char *in, size_t n, size_t *used)
{
    struct exchange *ex = c->up.exchange;
    struct http1_asked asked = {.head = ex->is_head, .websocket = ex->websocket};
    enum guard_result result = guard_scan(&c->guard, in, n);
    struct guard_verdict verdict = c->guard.verdict;
    struct http1_head head;

    *used = 0;
    if (result == GUARD_MORE)
        return STEP_WAIT;
    if (result == GUARD_DONE) {
        *used = c->guard.end;
        verdict = http1_parse_response(&c->guard, in, &asked, &head);
        guard_init(&c->guard, GUARD_RESPONSE);
    }
    if (verdict.reason != PROXY_NONE) {
        answer_breach(ex, verdict.words);
        return STEP_OVER;
    }
    if (http1_is_interim(&head))
        return step_of(answer_interim(ex, &head));
    c->keep_alive = head.keep_alive;
    c->head_done = true;
    body_init(&c->body, &head, true);
    c->stray = c->body.done && *used < n;
    return step_of(answer_head(ex, &head, c->body.done));
}

static enum step take_body(struct upstream_conn *c, char *in, size_t n, size_t *used)
{
    struct exchange *ex = c->up.exchange;
    struct body *body = &c->body;
    struct kg_str payload;
    enum body_result result;

    if (body->framing == HTTP1_TUNNEL) {
        tunnel_begin(ex, (struct kg_str){in, n});
        return STEP_OVER;
    }
    result = body_take(body, in, n, used, &payload);
    if (result == BODY_REFUSED && body->chunk.verdict.reason == PROXY_OVERLOADED) {
        answer_out_of_memory(ex);
        return STEP_OVER;
    }
    if (result == BODY_REFUSED) {
        answer_breach(ex, body->chunk.verdict.words);
        return STEP_OVER;
    }
    if (payload.n == 0 && result == BODY_MORE)
        return STEP_ON;
    c->stray = *used < n;
    return step_of(answer_body(ex, payload, kg_buf_str(&body->trailers), result == BODY_END));
}

/* Takes all that came; *at: how much. What is left is the beginning of a head. */
static enum step take_all(struct upstream_conn *c, char *bytes, size_t n, size_t *at)
{
    enum step step = STEP_ON;
    size_t used;

    while (step == STEP_ON && *at < n) {
        used = 0;
        step = c->head_done ? take_body(c, bytes + *at, n - *at, &used)
                            : take_head(c, bytes + *at, n - *at, &used);
        *at += used;
    }
    if (step == STEP_OVER || !c->head_done)
        return step;
    if (c->body.framing == HTTP1_TUNNEL) {
        tunnel_begin(c->up.exchange, (struct kg_str){NULL, 0});
        return STEP_OVER;
    }
    return step_of(answer_flush(c->up.exchange));
}

/* --- the wire, before and while an answer comes -------------------------------------------- */

static size_t room(struct wire *w)
{
    struct upstream_conn *c = conn_of_wire(w);

    return c->head_done ? answer_room(c->up.exchange) : KG_MAX_HEAD_BYTES - c->in.len;
}

static void on_bytes(struct wire *w, char *bytes, size_t n)
{
    struct upstream_conn *c = conn_of_wire(w);
    struct exchange *ex = c->up.exchange;
    bool kept = c->in.len > 0;
    size_t at = 0;
    int rc = 0;

    if (kept)
        rc = kg_buf_append(&c->in, bytes, n);
    if (rc == 0 && kept) {
        bytes = c->in.data;
        n = c->in.len;
    }
    if (rc == 0 && take_all(c, bytes, n, &at) == STEP_OVER)
        return;
    if (rc == 0 && kept)
        kg_buf_drop_front(&c->in, at);
    else if (rc == 0 && at < n)
        rc = kg_buf_append(&c->in, bytes + at, n - at);
    if (rc != 0)
        exchange_refuse(ex, PROXY_OVERLOADED, "out of memory");
}

static void on_broken(struct wire *w)
{
    answer_lost(exchange_of(w), conn_of_wire(w)->in.len > 0);
}

static void on_eof(struct wire *w)
{
    struct upstream_conn *c = conn_of_wire(w);

    if (c->head_done && body_ends_by_close(&c->body))
        answer_body(c->up.exchange, (struct kg_str){NULL, 0}, (struct kg_str){NULL, 0}, true);
    else
        on_broken(w);
}

static void on_drained(struct wire *w)
{
    answer_drained(exchange_of(w));
}

static void on_unwritable(struct wire *w)
{
    answer_unwritable(exchange_of(w));
}

static const struct wire_kind answer_wire = {.room = room,
                                             .on_bytes = on_bytes,
                                             .on_eof = on_eof,
                                             .on_drained = on_drained,
                                             .on_broken = on_broken,
                                             .on_unwritable = on_unwritable};

/* --- the wire of a tunnel ------------------------------------------------------------------ */

static size_t tunnel_room(struct wire *w)
{
    return answer_room(exchange_of(w));
}

static void tunnel_wire_bytes(struct wire *w, char *bytes, size_t n)
{
    tunnel_worker_bytes(exchange_of(w), (struct kg_str){bytes, n});
}

static void tunnel_wire_eof(struct wire *w)
{
    conn_of_wire(w)->up.eof = true;
    tunnel_worker_eof(exchange_of(w));
}

static void tunnel_wire_drained(struct wire *w)
{
    tunnel_worker_drained(exchange_of(w));
}

static void tunnel_wire_broken(struct wire *w)
{
    exchange_end(exchange_of(w), EXCHANGE_BROKEN);
}

static const struct wire_kind tunnel_wire = {.room = tunnel_room,
                                             .on_bytes = tunnel_wire_bytes,
                                             .on_eof = tunnel_wire_eof,
                                             .on_drained = tunnel_wire_drained,
                                             .on_broken = tunnel_wire_broken};

/* --- what the exchange asks for ------------------------------------------------------------ */

static int send_piece(struct upstream *u, const struct body_piece *piece)
{
    return body_send(&conn_of(u)->wire, piece);
}

static size_t pending(const struct upstream *u)
{
    return wire_pending(&conn_of(u)->wire);
}

static bool unsent(const struct upstream *u)
{
    return wire_taken(&conn_of(u)->wire) == 0;
}

static void resume(struct upstream *u)
{
    wire_read(&conn_of(u)->wire, true);
}

static void tunnel(struct upstream *u)
{
    conn_of(u)->wire.kind = &tunnel_wire;
}

static void fin(struct upstream *u)
{
    wire_fin(&conn_of(u)->wire);
}

static void done(struct upstream *u, bool whole)
{
    struct upstream_conn *c = conn_of(u);

    if (whole && !c->stray) /* bytes behind an answer poison the connection */
        upstream_conn_give(c);
    else
        upstream_conn_close(c);
}

static void close_conn(struct upstream *u)
{
    upstream_conn_close(conn_of(u));
}

static const struct upstream_kind http1_upstream = {.send = send_piece,
                                                    .pending = pending,
                                                    .unsent = unsent,
                                                    .resume = resume,
                                                    .tunnel = tunnel,
                                                    .fin = fin,
                                                    .done = done,
                                                    .close = close_conn};

/* --- a connection -------------------------------------------------------------------------- */

/* It is connected, and nothing of this exchange has gone out yet. */
static void begin(struct upstream_conn *c)
{
    c->wire.kind = &answer_wire;
    c->wire.taken_bytes = 0;
    c->head_done = false;
    guard_init(&c->guard, GUARD_RESPONSE);
}

struct upstream *upstream_http1_take(struct proxy_worker *w, struct exchange *ex, bool repeatable)
{
    struct upstream_conn *c;

    while ((c = upstream_conn_take(w)) != NULL) {
        if (repeatable || (c->freezes == w->freezes && !wire_readable(&c->wire)))
            break;
        upstream_conn_close(c);
    }
    if (!c)
        return NULL;
    c->up.kind = &http1_upstream;
    c->up.exchange = ex;
    begin(c);
    return &c->up;
}

static void on_connected(struct upstream_conn *c, int status)
{
    if (status == 0)
        begin(c);
    forward_connected(c->up.exchange, status);
}

struct upstream *upstream_http1_open(struct proxy_worker *w, struct exchange *ex)
{
    struct upstream_conn *c = upstream_conn_open(w, UPSTREAM_CONNECT_MS, NULL, on_connected);

    if (!c)
        return NULL;
    c->up.kind = &http1_upstream;
    c->up.exchange = ex;
    return &c->up;
}
