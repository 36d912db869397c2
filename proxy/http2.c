/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 sessions by nghttp2: output, streams, the end of a turn.
 * The difficulty: verbs are called from exchanges, which must not be called back; whatever nghttp2
 * tells of streams meanwhile is noted and told at the end of the turn. */
#include "base/err.h"
#include "proxy/http2_session_priv.h"
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#define OUT_BYTES (128 * 1024) /* gathered before they are written */
#define CUT_BYTES 2048         /* a payload from this size on is written from where it lies */
#define MAX_CUTS 8
#define MOST_STREAMS 1024 /* of a session, whatever the peer would take */

/* Payloads that are written from where they lie: behind byte `at` of the session's `out`. Only of
 * the call under way. */
static struct {
    unsigned count;
    size_t bytes;
    struct {
        size_t at;
        struct kg_str payload;
    } cut[MAX_CUTS];
} cuts;

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;

static int64_t now_of(const struct http2 *h)
{
    return proxy_now(h->wire->proxy);
}

struct http2_stream *http2_find(struct http2 *h, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h->session, id);
}

void http2_mark(struct http2 *h)
{
    struct http2_turns *t = &h->wire->proxy->http2;

    if (!kg_list_empty(&h->dirty))
        return;
    if (kg_list_empty(&t->dirty))
        http2_turn_soon(h->wire->proxy);
    kg_list_push_back(&t->dirty, &h->dirty);
}

static void mark_news(struct http2_stream *s)
{
    if (kg_list_empty(&s->news))
        kg_list_push_back(&s->session->news, &s->news);
    http2_mark(s->session);
}

/* --- output -------------------------------------------------------------------------------- */

static void fail(struct http2 *h)
{
    h->failed = true;
    http2_mark(h);
}

/* Gives the wire all frames that are ready; of a session that has failed, none: one may lack its
 * head, and what is behind it would be read as frames. */
static void flush(struct http2 *h)
{
    uv_buf_t bufs[2 * MAX_CUTS + 1];
    unsigned count = 0;
    size_t at = 0;

    for (unsigned i = 0; i < cuts.count; i++) {
        size_t to = cuts.cut[i].at;
        if (to > at)
            bufs[count++] = uv_buf_init(h->out.data + at, (unsigned)(to - at));
        bufs[count++] = uv_buf_init((char *)cuts.cut[i].payload.p, (unsigned)cuts.cut[i].payload.n);
        at = to;
    }
    if (h->out.len > at)
        bufs[count++] = uv_buf_init(h->out.data + at, (unsigned)(h->out.len - at));
    cuts.count = 0;
    cuts.bytes = 0;
    if (count > 0 && !h->failed && wire_send(h->wire, bufs, count) != 0)
        fail(h);
    kg_buf_clear(&h->out);
}

static bool is_blocked(const struct http2 *h)
{
    return h->busy || h->failed || wire_pending(h->wire) > 0;
}

/* Lets nghttp2 write what it has, as far as the wire takes it. */
static void pump(struct http2 *h)
{
    const uint8_t *bytes;
    ssize_t n = 0;
    bool full = true;

    while (full && !is_blocked(h)) {
        h->busy = true;
        while ((n = nghttp2_session_mem_send(h->session, &bytes)) > 0)
            if (kg_buf_append(&h->out, bytes, (size_t)n) != 0 || h->out.len >= OUT_BYTES)
                break;
        h->busy = false;
        full = h->out.len + cuts.bytes >= OUT_BYTES || cuts.count == MAX_CUTS;
        if (n < 0 || h->out.error)
            fail(h);
        if (full)
            flush(h);
    }
}

/* Behind a verb: now if that is possible, else at the end of the turn. */
static void push(struct http2 *h)
{
    pump(h);
    if (cuts.count > 0)
        flush(h);
    http2_mark(h);
}

/* How much of the next piece; the bytes themselves are put by send_data. */
static ssize_t read_data(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct http2_stream *s = source->ptr;
    size_t have = s->queue.len > 0 ? s->queue.len : s->now.n;
    bool all = s->queue.len == 0 || s->now.n == 0;

    (void)session;
    (void)id;
    (void)buf;
    (void)user;
    s->deferred = have == 0 && !s->last;
    if (s->deferred)
        return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (!s->last || !all || have > length)
        return (ssize_t)(have < length ? have : length);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (s->trailer_count == 0)
        return (ssize_t)have;
    if (http2_submit_trailers(s) != 0) /* without them it would look whole: it is reset */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    return (ssize_t)have;
}

static void put_payload(struct http2 *h, struct kg_str payload)
{
    if (payload.n < CUT_BYTES) {
        kg_buf_append(&h->out, payload.p, payload.n);
        return;
    }
    cuts.cut[cuts.count].at = h->out.len;
    cuts.cut[cuts.count++].payload = payload;
    cuts.bytes += payload.n;
}

static int send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t n,
                     nghttp2_data_source *source, void *user)
{
    struct http2_stream *s = source->ptr;
    struct http2 *h = user;

    (void)session;
    if (h->out.len + cuts.bytes >= OUT_BYTES || cuts.count == MAX_CUTS)
        return NGHTTP2_ERR_WOULDBLOCK; /* pump writes, and comes back */
    KG_ASSERT(frame->data.padlen == 0);
    kg_buf_append(&h->out, head, FRAME_HEAD_BYTES);
    if (s->queue.len > 0) {
        kg_buf_append(&h->out, s->queue.data, n);
        kg_buf_drop_front(&s->queue, n);
    } else if (n > 0) {
        put_payload(h, (struct kg_str){s->now.p, n});
        s->now.p += n;
        s->now.n -= n;
    }
    s->moved_ms = now_of(h);
    if (n > 0)
        http2_flood_sent(&h->flood);
    return h->out.error ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static void drained(struct http2_stream *s)
{
    if (s->told_pending && http2_pending(s) == 0)
        mark_news(s);
}

/* A peer that makes us reset its streams might as well reset them itself. */
static void reset_sent(struct http2 *h, uint32_t code)
{
    if (code == NGHTTP2_PROTOCOL_ERROR || code == NGHTTP2_FLOW_CONTROL_ERROR ||
        code == NGHTTP2_STREAM_CLOSED || code == NGHTTP2_FRAME_SIZE_ERROR)
        http2_flood_reset_by_us(&h->flood);
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2 *h = user;
    struct http2_stream *s = NULL;

    (void)session;
    if (frame->hd.type == NGHTTP2_RST_STREAM)
        reset_sent(h, frame->rst_stream.error_code);
    if (frame->hd.type == NGHTTP2_GOAWAY && h->draining && !h->goaway_sent)
        nghttp2_submit_ping(session, NGHTTP2_FLAG_NONE, NULL); /* it would overtake in the queue */
    if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)
        s = http2_find(h, frame->hd.stream_id);
    if (!s)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS)
        s->head_waits = false;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        s->end_sent = true;
    drained(s);
    if (s->end_sent && s->stop && !s->peer_ended)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR);
    return 0;
}

static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *user)
{
    struct http2_stream *s = http2_find(user, frame->hd.stream_id);

    (void)error;
    if (s && frame->hd.type == NGHTTP2_HEADERS) /* too large to be sent */
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_INTERNAL_ERROR);
    return 0;
}

static void set_closed(struct http2_stream *s, uint32_t code)
{
    s->closed = true;
    s->code = code;
    s->last = true;
    kg_buf_fini(&s->queue);
    mark_news(s);
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct http2_stream *s = http2_find(user, id);

    (void)session;
    if (s)
        set_closed(s, code);
    return 0;
}

/* --- streams ------------------------------------------------------------------------------- */

void http2_stream_open(struct http2 *h, struct http2_stream *s, int32_t id)
{
    s->session = h;
    s->id = id;
    kg_list_init(&s->news);
    kg_buf_init(&s->queue, HTTP2_QUEUE_BYTES);
    kg_buf_init(&s->trailers, KG_MAX_HEAD_BYTES);
    kg_list_push_back(&h->streams, &s->link);
    h->stream_count++;
}

/* The session forgets it, and the user is told. */
static void forget(struct http2_stream *s, uint32_t code)
{
    struct http2 *h = s->session;

    if (s->unconsumed > 0 && nghttp2_session_consume_connection(h->session, s->unconsumed) == 0)
        http2_mark(h);
    if (h->head_of == s)
        h->head_of = NULL;
    kg_list_remove(&s->news);
    kg_list_remove(&s->link);
    h->stream_count--;
    kg_buf_fini(&s->queue);
    kg_buf_fini(&s->trailers);
    s->session = NULL;
    h->kind->on_closed(s, code);
}

static bool is_over(const struct http2_stream *s)
{
    return !s->session || s->closed || s->session->failed || s->session->ending;
}

size_t http2_pending(const struct http2_stream *s)
{
    if (s->closed || !s->session)
        return 0;
    return s->queue.len + s->head_waits + (s->last && !s->end_sent);
}

/* Whoever left something pending learns when it is gone. A stream that closed because both halves
 * have ended has taken all. */
static int submitted(struct http2_stream *s)
{
    s->told_pending = http2_pending(s) > 0;
    if (s->session->failed || (s->closed && !(s->end_sent && s->code == HTTP2_NO_ERROR)))
        return KG_EIO;
    return s->queue.error;
}

/* What is submitted now becomes a frame before the verb that submits it returns. */
static bool is_next(const struct http2 *h)
{
    return !is_blocked(h) && nghttp2_session_get_outbound_queue_size(h->session) == 0;
}

int http2_request(struct http2 *h, struct http2_stream *s, const struct http2_field *fields,
                  unsigned count, bool end)
{
    nghttp2_data_provider data = {.source.ptr = s, .read_callback = read_data};
    int32_t id;

    if (h->failed || h->ending || h->goaway_come || h->goaway_sent)
        return KG_ECLOSED;
    if (http2_room(h) == 0)
        return KG_EAGAIN;
    id = nghttp2_submit_request(h->session, NULL, http2_nva(fields, count, is_next(h)), count,
                                end ? NULL : &data, s);
    if (id < 0)
        return id == NGHTTP2_ERR_NOMEM ? KG_ENOMEM : KG_ECLOSED;
    http2_stream_open(h, s, id);
    s->head_waits = true;
    s->last = end;
    push(h);
    return submitted(s);
}

int http2_respond(struct http2_stream *s, const struct http2_field *fields, unsigned count,
                  struct kg_str bytes, bool last)
{
    nghttp2_data_provider data = {.source.ptr = s, .read_callback = read_data};
    bool end = last && bytes.n == 0 && s->trailer_count == 0;
    int rc;

    if (is_over(s))
        return KG_EIO;
    rc = nghttp2_submit_response(s->session->session, s->id,
                                 http2_nva(fields, count, is_next(s->session)), count,
                                 end ? NULL : &data);
    if (rc != 0)
        return rc == NGHTTP2_ERR_NOMEM ? KG_ENOMEM : KG_EIO;
    s->answered = s->head_waits = true;
    return http2_send(s, bytes, last);
}

int http2_interim(struct http2_stream *s, const struct http2_field *fields, unsigned count)
{
    int rc;

    if (is_over(s))
        return KG_EIO;
    rc = nghttp2_submit_headers(s->session->session, NGHTTP2_FLAG_NONE, s->id, NULL,
                                http2_nva(fields, count, false), count, NULL);
    http2_mark(s->session);
    return rc == 0 ? 0 : rc == NGHTTP2_ERR_NOMEM ? KG_ENOMEM : KG_EIO;
}

int http2_trailers(struct http2_stream *s, const struct http2_field *fields, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        kg_buf_append(&s->trailers, fields[i].name.p, fields[i].name.n);
        kg_buf_append(&s->trailers, "", 1);
        kg_buf_append(&s->trailers, fields[i].value.p, fields[i].value.n);
        kg_buf_append(&s->trailers, "", 1);
    }
    s->trailer_count = s->trailers.error ? 0 : count;
    return s->trailers.error;
}

int http2_send(struct http2_stream *s, struct kg_str bytes, bool last)
{
    if (is_over(s))
        return KG_EIO;
    s->now = bytes;
    s->last = last;
    if (s->queue.len == 0)
        s->moved_ms = now_of(s->session);
    if (s->deferred)
        nghttp2_session_resume_data(s->session->session, s->id);
    s->deferred = false;
    push(s->session);
    if (s->now.n > 0 && !s->closed)
        kg_buf_append(&s->queue, s->now.p, s->now.n);
    s->now = (struct kg_str){NULL, 0};
    return submitted(s);
}

void http2_consume(struct http2_stream *s, size_t n)
{
    struct http2 *h = s->session;

    if (!h)
        return;
    KG_ASSERT(n <= s->unconsumed);
    s->unconsumed -= (uint32_t)n;
    if (n == 0 || nghttp2_session_consume(h->session, s->id, n) != 0)
        return;
    http2_mark(h);
}

void http2_reset(struct http2_stream *s, uint32_t code)
{
    struct http2 *h = s->session;

    if (!h || s->closed)
        return;
    kg_buf_clear(&s->queue);
    if (nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, code) != 0)
        fail(h);
    http2_mark(h);
}

void http2_stop(struct http2_stream *s)
{
    s->stop = true;
    if (s->end_sent && !s->peer_ended)
        http2_reset(s, HTTP2_NO_ERROR);
}

bool http2_peer_blocked(const struct http2_stream *s)
{
    nghttp2_session *session = s->session->session;

    return nghttp2_session_get_stream_local_window_size(session, s->id) <= 0 ||
           nghttp2_session_get_local_window_size(session) <= 0;
}

/* --- the session --------------------------------------------------------------------------- */

void http2_goaway(struct http2 *h)
{
    if (h->goaway_sent || h->ending)
        return;
    h->goaway_sent = true;
    if (nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR,
                              NULL, 0) != 0)
        fail(h);
    http2_mark(h);
}

void http2_drain(struct http2 *h)
{
    if (h->draining || h->goaway_sent || h->ending)
        return;
    h->draining = true;
    if (nghttp2_submit_shutdown_notice(h->session) != 0)
        fail(h);
    http2_mark(h);
}

void http2_terminate(struct http2 *h, uint32_t code)
{
    if (h->ending)
        return;
    h->ending = true;
    if (nghttp2_session_terminate_session(h->session, code) != 0)
        fail(h);
    http2_mark(h);
}

uint32_t http2_most_streams(const struct http2 *h)
{
    uint32_t told =
        nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

    return told < MOST_STREAMS ? told : MOST_STREAMS;
}

size_t http2_room(const struct http2 *h)
{
    uint32_t most = http2_most_streams(h);

    if (h->failed || h->ending || h->goaway_come || h->goaway_sent)
        return 0;
    return most > h->stream_count ? most - h->stream_count : 0;
}

/* --- memory --------------------------------------------------------------------------------- */

/* Where nghttp2 (1.48 to 1.52 at least) cannot queue a stream's data, because its queue cannot
 * grow, it frees what the stream still points at, and frees it again with the session. So a queue
 * always grows: in want, into one of these, and that session ends. What is larger is a buffer, not
 * a queue. */
#define SPARES 4
#define SPARE_BYTES (MOST_STREAMS * sizeof(void *))
static struct {
    bool used;
    _Alignas(16) char bytes[SPARE_BYTES];
} spares[SPARES];

static void *frames_malloc(size_t n, void *user)
{
    (void)user;
    return malloc(n);
}

static void *frames_calloc(size_t count, size_t n, void *user)
{
    (void)user;
    return calloc(count, n);
}

/* -1: it is none. */
static int spare_at(const void *p)
{
    for (int i = 0; i < SPARES; i++)
        if (p == spares[i].bytes)
            return i;
    return -1;
}

static void frames_free(void *p, void *user)
{
    int spare = spare_at(p);

    (void)user;
    if (spare >= 0)
        spares[spare].used = false;
    else
        free(p);
}

/* Nothing is left at all: an end with words, where the process has asked for that (base/loop.h). */
static _Noreturn void give_up(void)
{
    errno = ENOMEM;
    abort();
}

static void *frames_spare(void *p, size_t n)
{
    size_t had = p ? malloc_usable_size(p) : 0;
    int i = 0;

    while (i < SPARES && spares[i].used)
        i++;
    if (i == SPARES)
        give_up();
    if (had > 0)
        memcpy(spares[i].bytes, p, had < n ? had : n);
    free(p);
    spares[i].used = true;
    return spares[i].bytes;
}

static void *frames_realloc(void *p, size_t n, void *user)
{
    int spare = spare_at(p);
    void *more;

    if (spare >= 0 && n <= SPARE_BYTES)
        return p;
    more = spare >= 0 ? malloc(n) : realloc(p, n);
    if (more && spare >= 0) {
        memcpy(more, p, SPARE_BYTES);
        frames_free(p, user);
    }
    if (more)
        return more;
    if (n > SPARE_BYTES)
        return NULL;
    fail(user);
    return frames_spare(p, n);
}

static bool make_callbacks(void)
{
    if (callbacks)
        return true;
    if (nghttp2_option_new(&options) != 0)
        return false;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) {
        nghttp2_option_del(options);
        return false;
    }
    http2_set_input(callbacks, options);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    return true;
}

static int submit_settings(struct http2 *h)
{
    const nghttp2_settings_entry server[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, KG_MAX_STREAMS},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, KG_MAX_HEAD_BYTES},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1}};
    const nghttp2_settings_entry client[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, KG_MAX_HEAD_BYTES},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1}};
    int rc = h->client ? nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, client,
                                                 sizeof client / sizeof *client)
                       : nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, server,
                                                 sizeof server / sizeof *server);

    /* Each stream's own window bounds what a worker can send ahead; a small one for all of them
     * would let clients that do not read stop those that do. */
    return rc ? rc
              : nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
                                                      h->client ? INT32_MAX
                                                                : KG_SESSION_WINDOW_BYTES);
}

int http2_open(struct http2 *h, struct wire *wire, bool client, const struct http2_kind *kind)
{
    nghttp2_mem memory = {h, frames_malloc, frames_free, frames_calloc, frames_realloc};
    int rc;

    *h = (struct http2){.kind = kind, .wire = wire, .client = client};
    kg_list_init(&h->dirty);
    kg_list_init(&h->streams);
    kg_list_init(&h->news);
    kg_buf_init(&h->out, 4 * OUT_BYTES);
    http2_flood_init(&h->flood, client, proxy_now(wire->proxy));
    if (!make_callbacks())
        return KG_ENOMEM;
    rc = client ? nghttp2_session_client_new3(&h->session, callbacks, h, options, &memory)
                : nghttp2_session_server_new3(&h->session, callbacks, h, options, &memory);
    if (rc != 0)
        return KG_ENOMEM;
    if (submit_settings(h) == 0) {
        http2_mark(h);
        return 0;
    }
    http2_close(h);
    return KG_ENOMEM;
}

void http2_close(struct http2 *h)
{
    struct kg_list *first;

    if (!h->session)
        return;
    KG_ASSERT(!h->busy && cuts.count == 0);
    h->failed = h->over_told = true; /* verbs called from on_closed are refused */
    while ((first = kg_list_first(&h->streams)) != NULL) {
        struct http2_stream *s = KG_LIST_ENTRY(first, struct http2_stream, link);
        forget(s, s->closed ? s->code : HTTP2_CANCEL);
    }
    kg_list_remove(&h->dirty);
    http2_head_done(h);
    kg_buf_fini(&h->out);
    nghttp2_session_del(h->session);
    h->session = NULL;
}

void http2_feed(struct http2 *h, const char *bytes, size_t n)
{
    uint32_t code;
    ssize_t took;

    KG_ASSERT(!h->busy);
    if (h->failed || h->ending)
        return;
    code = http2_flood_scan(&h->flood, bytes, n, now_of(h));
    if (code != HTTP2_NO_ERROR) {
        http2_terminate(h, code);
        return;
    }
    h->busy = true;
    took = nghttp2_session_mem_recv(h->session, (const uint8_t *)bytes, n);
    h->busy = false;
    http2_mark(h);
    if (took < 0)
        http2_terminate(h, http2_code_of((int)took));
    else if (nghttp2_session_get_outbound_queue_size(h->session) > MAX_OUTBOUND_FRAMES)
        http2_terminate(h, HTTP2_ENHANCE_YOUR_CALM);
}

void http2_wire_drained(struct http2 *h)
{
    http2_mark(h);
}

/* --- the end of a turn --------------------------------------------------------------------- */

static void tell_news(struct http2 *h)
{
    struct kg_list *first;

    while (h->session && (first = kg_list_first(&h->news)) != NULL) {
        struct http2_stream *s = KG_LIST_ENTRY(first, struct http2_stream, news);
        kg_list_remove(first);
        if (s->closed) {
            forget(s, s->code);
        } else if (s->told_pending && http2_pending(s) == 0) {
            s->told_pending = false;
            h->kind->on_drained(s);
        }
    }
}

static bool is_finished(const struct http2 *h)
{
    if (h->failed)
        return true;
    return wire_pending(h->wire) == 0 && !nghttp2_session_want_read(h->session) &&
           !nghttp2_session_want_write(h->session);
}

static void turn(struct http2 *h)
{
    if (!h->failed) {
        pump(h);
        if (h->out.len > 0)
            flush(h);
        if (http2_flood_resets(&h->flood))
            http2_terminate(h, HTTP2_ENHANCE_YOUR_CALM);
    }
    tell_news(h);
    if (!h->session)
        return;
    if (h->stream_count == 0 && kg_list_empty(&h->dirty))
        kg_buf_fini(&h->out);
    if (!h->over_told && is_finished(h)) {
        h->over_told = true;
        h->kind->on_over(h);
    }
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct proxy *p = prepare->data;
    struct kg_list *first;

    while ((first = kg_list_first(&p->http2.dirty)) != NULL) {
        kg_list_remove(first);
        turn(KG_LIST_ENTRY(first, struct http2, dirty));
    }
    uv_prepare_stop(prepare);
}

void http2_turn_soon(struct proxy *p)
{
    if (!p->closing)
        uv_prepare_start(&p->http2.prepare, on_prepare);
}

void http2_turns_open(struct proxy *p)
{
    kg_list_init(&p->http2.dirty);
    uv_prepare_init(p->loop, &p->http2.prepare);
    p->http2.prepare.data = p;
    p->handles++;
}

static void on_closed(uv_handle_t *handle)
{
    proxy_handle_closed(handle->data);
}

void http2_turns_close(struct proxy *p)
{
    http2_heads_free(p);
    uv_close((uv_handle_t *)&p->http2.prepare, on_closed);
}
