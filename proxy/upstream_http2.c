/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of HTTP/2 as an exchange's way to its worker, and the sessions that carry them.
 * The difficulty: a stream may outlive its exchange (what was reset is told later) and an exchange
 * its stream, and a session that ends must tell each of them whether the worker saw its request. */
#include "base/err.h"
#include "proxy/exchange_priv.h"
#include "proxy/http2_head_priv.h"
#include <stdlib.h>

/* One stream. It belongs to the exchange and to the session, and is freed when both let go. */
struct stream {
    struct http2_stream h2;
    struct upstream up;
    struct upstream_session *session;
    struct kg_list link; /* session.waiting, or session.unflushed, or none */
    uint64_t taken;      /* by the wire when the request was submitted */
    bool submitted;
    bool refused;   /* the worker says that it did nothing of the request */
    bool heard;     /* something of a response came */
    bool head_done; /* what comes is body */
    bool ended;     /* the response is whole */
    bool counted;   /* the head says how much there is of the body */
    uint64_t left;  /* of that */
    uint32_t head_bytes, head_fields;
    size_t held; /* bytes that the client has not taken yet: the worker waits for that */
};

/* One session on one connection. It is freed with the connection. */
struct upstream_session {
    struct http2 h2;
    struct upstream_conn *conn;
    struct kg_list link;      /* worker.sessions */
    struct kg_list waiting;   /* for the connection */
    struct kg_list unflushed; /* heads came, and perhaps more in the same read */
    size_t users;             /* exchanges */
    size_t waiting_count;
    bool ready;    /* connected */
    bool used;     /* has carried an exchange, or was at rest */
    bool draining; /* takes no more */
    bool ends;     /* is to be closed behind what is being read */
    bool closed;
    bool spoke;   /* something came */
    bool foreign; /* and that was HTTP/1 */
    /* a probe that waits: for SETTINGS, or for the answer of `health` */
    bool (*told)(void *arg, int status);
    void *arg;
    struct stream *health;
};

static struct stream *stream_of(const struct upstream *u)
{
    return KG_CONTAINER_OF(u, struct stream, up);
}

static struct stream *stream_of_h2(struct http2_stream *s)
{
    return KG_CONTAINER_OF(s, struct stream, h2);
}

static struct upstream_session *session_of_wire(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct upstream_conn, wire)->session;
}

static void session_rest(struct upstream_session *s);

/* --- the end of a session ------------------------------------------------------------------ */

static void no_more(struct upstream_session *s)
{
    s->draining = true;
    kg_list_remove(&s->link);
}

/* The probe, if one waits, decides whether the session is of use. */
static void tell_probe(struct upstream_session *s, int status)
{
    bool (*told)(void *, int) = s->told;

    if (!told)
        return;
    s->told = NULL;
    if (!told(s->arg, status))
        no_more(s);
    if (s->health && s->health->h2.session)
        http2_reset(&s->health->h2, HTTP2_CANCEL);
    s->health = NULL;
    if (--s->users == 0)
        session_rest(s);
}

/* Streams that are still open learn of it, and so do their exchanges. */
static void session_close(struct upstream_session *s)
{
    if (s->closed)
        return;
    s->closed = true;
    no_more(s);
    tell_probe(s, -1);
    http2_close(&s->h2);
    upstream_conn_close(s->conn);
}

static bool can_be_kept(const struct upstream_session *s)
{
    const struct proxy_worker *w = s->conn->worker;

    return s->ready && !s->draining && upstream_may_rest(w, KG_MAX_UPSTREAM_IDLE);
}

/* Not while it reads: then as soon as that is over. */
static void session_end(struct upstream_session *s)
{
    no_more(s);
    s->ends = true;
    if (!s->h2.busy)
        session_close(s);
}

/* No exchange is on it any more. */
static void session_rest(struct upstream_session *s)
{
    struct proxy_worker *w = s->conn->worker;

    if (s->closed)
        return;
    if (!can_be_kept(s)) {
        session_end(s);
        return;
    }
    s->used = true; /* from here on it may end unseen */
    upstream_conn_rest(s->conn, &w->idle_sessions);
}

void upstream_http2_give_up(struct upstream_conn *c)
{
    upstream_conn_wake(c);
    session_end(c->session);
}

void upstream_http2_worker_gone(struct proxy_worker *w)
{
    KG_LIST_EACH_SAFE(it, &w->idle_sessions)
    session_close(KG_LIST_ENTRY(it, struct upstream_conn, idle)->session);
}

/* --- streams and their exchanges ----------------------------------------------------------- */

static const struct upstream_kind http2_upstream;

static struct upstream *join(struct upstream_session *s, struct exchange *ex)
{
    struct stream *st = calloc(1, sizeof *st);

    if (!st)
        return NULL;
    kg_list_init(&st->link);
    st->session = s;
    st->up.kind = &http2_upstream;
    st->up.exchange = ex;
    st->up.reused = s->used;
    s->users++;
    upstream_conn_wake(s->conn);
    return &st->up;
}

/* The exchange lets go. */
static void leave(struct stream *st)
{
    struct upstream_session *s = st->session;

    if (!kg_list_empty(&st->link) && !s->ready)
        s->waiting_count--;
    kg_list_remove(&st->link);
    st->up.exchange = NULL;
    if (!st->h2.session) /* the session does not know it, or has forgotten it */
        free(st);
    else
        http2_reset(&st->h2, HTTP2_CANCEL);
    if (--s->users == 0)
        session_rest(s);
}

/* --- what the exchange asks for ------------------------------------------------------------ */

/* The text is the exchange's own, and names in lower case are as good for a second try. */
static int submit(struct stream *st, const struct body_piece *piece)
{
    struct http2_field fields[HTTP2_MAX_FIELDS];
    struct upstream_session *s = st->session;
    unsigned count = http2_fields_request((char *)piece->head.p, piece->head.n, fields);
    bool end = piece->last && piece->kept.n + piece->payload.n + piece->trailers.n == 0;
    int rc;

    st->taken = wire_taken(&s->conn->wire);
    rc = http2_request(&s->h2, &st->h2, fields, count, end);
    st->submitted = st->h2.session != NULL;
    if (rc == KG_ECLOSED) /* numbers of streams run out, too */
        no_more(s);
    s->used = true;
    return rc == 0 || rc == KG_ENOMEM ? rc : KG_EIO;
}

static int send_trailers(struct stream *st, struct kg_str lines)
{
    struct http2_field fields[HTTP2_MAX_FIELDS];

    return http2_trailers(&st->h2, fields, http2_fields_trailers((char *)lines.p, lines.n, fields));
}

static int send_piece(struct upstream *u, const struct body_piece *piece)
{
    struct stream *st = stream_of(u);
    bool over = piece->last && piece->payload.n == 0;
    int rc = 0;

    if (piece->head.n > 0) {
        rc = submit(st, piece);
        if (rc == 0 && over && piece->kept.n == 0 && piece->trailers.n == 0)
            return 0;
    }
    if (rc == 0 && piece->last && piece->trailers.n > 0)
        rc = send_trailers(st, piece->trailers);
    if (rc == 0 && piece->kept.n > 0)
        rc = http2_send(&st->h2, piece->kept, over);
    if (rc == 0 && (piece->payload.n > 0 || (over && piece->kept.n == 0)))
        rc = http2_send(&st->h2, piece->payload, piece->last);
    return rc;
}

static size_t pending(const struct upstream *u)
{
    const struct stream *st = stream_of(u);

    return st->h2.session ? http2_pending(&st->h2) : 0;
}

static bool unsent(const struct upstream *u)
{
    const struct stream *st = stream_of(u);

    return st->refused || !st->submitted || wire_taken(&st->session->conn->wire) == st->taken;
}

static void resume(struct upstream *u)
{
    struct stream *st = stream_of(u);
    size_t n = st->held;

    st->held = 0;
    if (n > 0 && st->h2.session)
        http2_consume(&st->h2, n);
}

static void done(struct upstream *u, bool whole)
{
    struct stream *st = stream_of(u);

    if (whole && st->h2.session && http2_pending(&st->h2) == 0 && st->ended) {
        /* both halves have ended: there is nothing to cancel */
        struct upstream_session *s = st->session;
        kg_list_remove(&st->link);
        st->up.exchange = NULL;
        if (--s->users == 0)
            session_rest(s);
        return;
    }
    leave(st);
}

static void close_stream(struct upstream *u)
{
    leave(stream_of(u));
}

static const struct upstream_kind http2_upstream = {.can_refuse = true,
                                                    .send = send_piece,
                                                    .pending = pending,
                                                    .unsent = unsent,
                                                    .resume = resume,
                                                    .done = done,
                                                    .close = close_stream};

/* --- what the worker says ------------------------------------------------------------------ */

static void breach(struct stream *st, const char *words)
{
    answer_breach(st->up.exchange, words);
}

/* Where a head or trailers become text; good until the next one. */
static char text[HTTP2_TEXT_BYTES];

/* The rules are those of HTTP/1. */
static struct guard_verdict read_head(const struct http2_head *head, bool end,
                                      const struct http1_asked *asked, struct http1_head *out)
{
    struct guard guard;
    size_t n;
    struct guard_verdict verdict = http2_head_response(head, end, !asked->head, text, &n);

    if (verdict.reason != PROXY_NONE)
        return verdict;
    guard_init(&guard, GUARD_RESPONSE);
    if (guard_scan(&guard, text, n) != GUARD_DONE)
        return guard.verdict;
    return http1_parse_response(&guard, text, asked, out);
}

static void take_trailers(struct stream *st, const struct http2_head *head)
{
    struct kg_buf lines;
    struct kg_str none = {NULL, 0};
    struct chunk chunk;
    size_t n, used;
    struct guard_verdict verdict = http2_head_trailers(head, text, &n);

    kg_buf_init(&lines, KG_MAX_HEAD_BYTES);
    chunk_init(&chunk, &lines, true, st->head_bytes, st->head_fields);
    if (verdict.reason == PROXY_NONE &&
        chunk_feed(&chunk, (struct kg_str){text, n}, &used, &none) != CHUNK_END)
        verdict = chunk.verdict;
    if (verdict.reason == PROXY_OVERLOADED)
        answer_out_of_memory(st->up.exchange);
    else if (verdict.reason != PROXY_NONE)
        breach(st, verdict.words);
    else if (st->counted && st->left > 0)
        breach(st, "its body is shorter than it said");
    else
        answer_body(st->up.exchange, none, kg_buf_str(&lines), true);
    kg_buf_fini(&lines);
}

static void see_framing(struct stream *st, const struct http1_head *h)
{
    st->counted = h->framing == HTTP1_NONE || h->framing == HTTP1_LENGTH;
    st->left = h->framing == HTTP1_LENGTH ? (uint64_t)h->content_length : 0;
    st->head_bytes = h->bytes;
    st->head_fields = h->field_count;
}

static void take_head(struct stream *st, const struct http2_head *head, bool end)
{
    struct exchange *ex = st->up.exchange;
    struct http1_asked asked = {.head = ex->is_head};
    struct http1_head h;
    struct guard_verdict verdict = read_head(head, end, &asked, &h);

    if (verdict.reason != PROXY_NONE) {
        breach(st, verdict.words);
    } else if (http1_is_interim(&h)) {
        answer_interim(ex, &h);
    } else {
        h.phrase = kg_str_of(problem_phrase(h.status)); /* some clients count on one */
        see_framing(st, &h);
        st->head_done = true;
        if (end && st->left > 0)
            breach(st, "its body is shorter than it said");
        else if (answer_head(ex, &h, end))
            kg_list_push_back(&st->session->unflushed, &st->link);
    }
}

static void take_health(struct stream *st, const struct http2_head *head, bool end)
{
    struct http1_asked asked = {0};
    struct http1_head h;
    struct guard_verdict verdict = read_head(head, end, &asked, &h);

    if (verdict.reason != PROXY_NONE || !http1_is_interim(&h))
        tell_probe(st->session, verdict.reason == PROXY_NONE ? h.status : -1);
}

static void on_head(struct http2_stream *h2, const struct http2_head *head, bool end)
{
    struct stream *st = stream_of_h2(h2);

    st->heard = true;
    st->ended = end;
    if (st == st->session->health)
        take_health(st, head, end);
    if (!st->up.exchange)
        return;
    if (head->kind == HTTP2_TRAILERS && st->head_done)
        take_trailers(st, head);
    else
        take_head(st, head, end);
}

/* What the client does not take at once is not asked for anew until it has. */
static void on_data(struct http2_stream *h2, struct kg_str bytes)
{
    struct stream *st = stream_of_h2(h2);
    struct exchange *ex = st->up.exchange;

    if (!ex)
        return;
    if (!st->head_done || (st->counted && bytes.n > st->left)) {
        breach(st, "its body is longer than it said");
        return;
    }
    st->left -= st->counted ? bytes.n : 0;
    st->held += bytes.n;
    kg_list_remove(&st->link);
    if (answer_body(ex, bytes, (struct kg_str){NULL, 0}, false) && answer_room(ex) > 0)
        resume(&st->up);
}

static void on_end(struct http2_stream *h2)
{
    struct stream *st = stream_of_h2(h2);

    st->ended = true;
    if (!st->up.exchange)
        return;
    if (!st->head_done || (st->counted && st->left > 0))
        breach(st, "its body is shorter than it said");
    else
        answer_body(st->up.exchange, (struct kg_str){NULL, 0}, (struct kg_str){NULL, 0}, true);
}

static void on_drained(struct http2_stream *h2)
{
    struct stream *st = stream_of_h2(h2);

    if (st->up.exchange)
        answer_drained(st->up.exchange);
}

static void on_stream_closed(struct http2_stream *h2, uint32_t code)
{
    struct stream *st = stream_of_h2(h2);

    struct upstream_session *s = st->session;

    st->refused = code == HTTP2_REFUSED_STREAM && !st->heard;
    if (st == s->health) {
        s->health = NULL;
        tell_probe(s, -1);
    }
    if (!st->up.exchange)
        free(st);
    else if (s->foreign)
        breach(st, "it does not speak HTTP/2"); /* this and what follows lets go of it */
    else if (st->refused || s->closed)
        answer_lost(st->up.exchange, st->heard);
    else
        breach(st, "the stream was reset");
}

static void on_goaway(struct http2 *h2, uint32_t code)
{
    struct upstream_session *s = KG_CONTAINER_OF(h2, struct upstream_session, h2);

    (void)code;
    no_more(s);
    if (s->users == 0)
        session_end(s);
}

static void on_over(struct http2 *h2)
{
    session_close(KG_CONTAINER_OF(h2, struct upstream_session, h2));
}

static const struct http2_kind session_kind = {.on_head = on_head,
                                               .on_data = on_data,
                                               .on_end = on_end,
                                               .on_drained = on_drained,
                                               .on_closed = on_stream_closed,
                                               .on_goaway = on_goaway,
                                               .on_over = on_over};

/* --- the wire ------------------------------------------------------------------------------ */

/* A worker that does not read what we have to say to it is not read either. */
static size_t wire_room(struct wire *w)
{
    return wire_pending(w) > UPSTREAM_QUEUE_BYTES / 2 ? 0 : KG_READ_BUFFER_BYTES;
}

static void wire_bytes(struct wire *w, char *bytes, size_t n)
{
    struct upstream_session *s = session_of_wire(w);
    struct kg_list *first;

    s->foreign |= !s->spoke && bytes[0] == 'H';
    s->spoke = true;
    http2_feed(&s->h2, bytes, n);
    while ((first = kg_list_first(&s->unflushed)) != NULL) {
        kg_list_remove(first);
        answer_flush(KG_LIST_ENTRY(first, struct stream, link)->up.exchange);
    }
    if (s->closed)
        return; /* the last exchange ended by its head */
    if (s->h2.settled)
        s->conn->worker->most_streams = http2_most_streams(&s->h2);
    if (s->h2.settled && !s->health)
        tell_probe(s, 0);
    if (s->ends)
        session_close(s);
}

static void wire_drained(struct wire *w)
{
    http2_wire_drained(&session_of_wire(w)->h2);
    wire_read(w, true);
}

static void wire_over(struct wire *w)
{
    session_close(session_of_wire(w));
}

static const struct wire_kind session_wire = {.room = wire_room,
                                              .on_bytes = wire_bytes,
                                              .on_eof = wire_over,
                                              .on_drained = wire_drained,
                                              .on_broken = wire_over};

/* --- a session ----------------------------------------------------------------------------- */

static struct upstream_session *session_new(struct upstream_conn *c)
{
    struct upstream_session *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->conn = c;
    c->session = s;
    c->user = s;
    kg_list_init(&s->waiting);
    kg_list_init(&s->unflushed);
    kg_list_push_front(&c->worker->sessions, &s->link);
    return s;
}

static int session_begin(struct upstream_session *s)
{
    s->ready = true;
    s->conn->wire.kind = &session_wire;
    return http2_open(&s->h2, &s->conn->wire, true, &session_kind);
}

void upstream_http2_adopt(struct upstream_conn *c)
{
    struct upstream_session *s = session_new(c);

    if (!s)
        upstream_conn_close(c);
    else if (session_begin(s) == 0)
        session_rest(s);
    else
        session_close(s);
}

/* --- probes --- */

static bool ask_health(struct upstream_session *s, const char *path)
{
    struct http2_field fields[] = {{KG_STR(":method"), KG_STR("GET")},
                                   {KG_STR(":scheme"), KG_STR("http")},
                                   {KG_STR(":authority"), KG_STR("localhost")},
                                   {KG_STR(":path"), kg_str_of(path)}};
    struct stream *st = calloc(1, sizeof *st);

    if (!st)
        return false;
    kg_list_init(&st->link);
    st->session = s;
    if (http2_request(&s->h2, &st->h2, fields, sizeof fields / sizeof *fields, true) != 0) {
        if (!st->h2.session)
            free(st);
        return false;
    }
    s->health = st;
    return true;
}

static bool unwanted(void *arg, int status)
{
    (void)arg;
    (void)status;
    return false;
}

bool upstream_http2_ask(struct upstream_conn *c, const char *path,
                        bool (*told)(void *arg, int status), void *arg)
{
    struct upstream_session *s = session_new(c);

    if (!s) {
        upstream_conn_close(c);
        return false;
    }
    if (session_begin(s) != 0 || (path[0] && !ask_health(s, path))) {
        session_close(s);
        return false;
    }
    s->users++;
    s->told = told;
    s->arg = arg;
    return true;
}

void upstream_http2_unask(struct upstream_conn *c)
{
    struct upstream_session *s = c->session;

    s->told = unwanted;
    tell_probe(s, -1);
}

static void on_connected(struct upstream_conn *c, int status)
{
    struct upstream_session *s = c->session;
    struct kg_list *first;

    if (status == 0 && session_begin(s) != 0)
        status = KG_ENOMEM;
    s->users++; /* it outlasts this loop */
    if (status != 0)
        no_more(s);
    while ((first = kg_list_first(&s->waiting)) != NULL) {
        kg_list_remove(first);
        forward_connected(KG_LIST_ENTRY(first, struct stream, link)->up.exchange, status);
    }
    s->waiting_count = 0;
    s->users--;
    if (status != 0)
        session_close(s);
    else if (s->users == 0)
        session_rest(s);
}

/* Whether it is worth a try. A session at rest may have ended unseen: it is asked. */
static bool has_room(const struct upstream_session *s, bool repeatable)
{
    if (!s->ready || s->draining || s->users >= s->conn->worker->most_streams ||
        http2_room(&s->h2) == 0)
        return false;
    return repeatable || s->users > 0 || wire_poll(&s->conn->wire) == 0;
}

struct upstream *upstream_http2_take(struct proxy_worker *w, struct exchange *ex, bool repeatable)
{
    KG_LIST_EACH_SAFE(it, &w->sessions)
    {
        struct upstream_session *s = KG_LIST_ENTRY(it, struct upstream_session, link);
        if (!repeatable && !kg_list_empty(&s->conn->idle) && s->conn->freezes != w->freezes)
            upstream_http2_give_up(s->conn);
        else if (has_room(s, repeatable))
            return join(s, ex);
    }
    return NULL;
}

static struct upstream_session *session_open(struct proxy_worker *w)
{
    struct upstream_conn *c = upstream_conn_open(w, UPSTREAM_CONNECT_MS, NULL, on_connected);
    struct upstream_session *s = c ? session_new(c) : NULL;

    if (c && !s)
        upstream_conn_close(c);
    return s;
}

struct upstream *upstream_http2_open(struct proxy_worker *w, struct exchange *ex)
{
    struct upstream_session *s = NULL;
    struct upstream *u;

    KG_LIST_EACH(it, &w->sessions)
    {
        s = KG_LIST_ENTRY(it, struct upstream_session, link);
        if (!s->ready && s->waiting_count < w->most_streams)
            break;
        s = NULL;
    }
    if (!s)
        s = session_open(w);
    u = s ? join(s, ex) : NULL;
    if (!u)
        return NULL;
    kg_list_push_back(&s->waiting, &stream_of(u)->link);
    s->waiting_count++;
    return u;
}
