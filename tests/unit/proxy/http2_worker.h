/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that speaks HTTP/2, on the loop of world.h: it does what a test tells it, frame by
 * frame. The difficulty: it shares its thread with the proxy, so whoever waits must serve it, too.
 */
#ifndef TESTS_UNIT_PROXY_HTTP2_WORKER_H
#define TESTS_UNIT_PROXY_HTTP2_WORKER_H

#include "world.h"
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>

#define POST "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
#define CHUNKED                                                                                    \
    "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n"                             \
    "Transfer-Encoding: chunked\r\n\r\n"
#define MAX_SEEN 160

struct seen { /* a request as it came */
    int32_t id;
    struct kg_buf head, body, trailers; /* lines "name: value\n" */
    size_t body_bytes;
    bool head_whole, ended, closed, forgets_body;
    uint32_t reset; /* the code of the peer's RST_STREAM; UINT32_MAX: none */
    /* what is to be sent: `left` bytes of 'w', in pieces that are asked for */
    size_t left, sent;
    bool last, deferred;
    const nghttp2_nv *trailer;
};

struct http2_worker {
    struct peer p;
    nghttp2_session *session;
    struct seen seen[MAX_SEEN];
    unsigned count, pings, settings_acks;
    bool goaway, manual_window, silent;
};

/* --- what comes in ------------------------------------------------------------------------- */

static inline struct seen *seen_of(struct http2_worker *w, int32_t id)
{
    for (unsigned i = 0; i < w->count; i++)
        if (w->seen[i].id == id)
            return &w->seen[i];
    return NULL;
}

static inline int on_worker_begin(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2_worker *w = user;
    struct seen *s;

    (void)session;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    ck_assert_uint_lt(w->count, MAX_SEEN);
    s = &w->seen[w->count++];
    *s = (struct seen){.id = frame->hd.stream_id, .reset = UINT32_MAX};
    kg_buf_init(&s->head, MIB);
    kg_buf_init(&s->body, 64 * MIB);
    kg_buf_init(&s->trailers, MIB);
    return 0;
}

static inline int on_worker_header(nghttp2_session *session, const nghttp2_frame *frame,
                                   const uint8_t *name, size_t name_n, const uint8_t *value,
                                   size_t value_n, uint8_t flags, void *user)
{
    struct seen *s = seen_of(user, frame->hd.stream_id);
    struct kg_buf *to = s->head_whole ? &s->trailers : &s->head;

    (void)session;
    (void)flags;
    kg_buf_append(to, name, name_n);
    kg_buf_append(to, ": ", 2);
    kg_buf_append(to, value, value_n);
    return kg_buf_append(to, "\n", 1);
}

static inline int on_worker_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2_worker *w = user;
    struct seen *s = seen_of(w, frame->hd.stream_id);

    (void)session;
    w->goaway |= frame->hd.type == NGHTTP2_GOAWAY;
    w->pings += frame->hd.type == NGHTTP2_PING;
    w->settings_acks +=
        frame->hd.type == NGHTTP2_SETTINGS && frame->hd.flags & NGHTTP2_FLAG_ACK ? 1 : 0;
    if (!s)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS)
        s->head_whole = true;
    if (frame->hd.type == NGHTTP2_RST_STREAM)
        s->reset = frame->rst_stream.error_code;
    if (frame->hd.type != NGHTTP2_RST_STREAM && frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        s->ended = true;
    return 0;
}

static inline int on_worker_data(nghttp2_session *session, uint8_t flags, int32_t id,
                                 const uint8_t *bytes, size_t n, void *user)
{
    struct seen *s = seen_of(user, id);

    (void)session;
    (void)flags;
    s->body_bytes += n;
    return s->forgets_body ? 0 : kg_buf_append(&s->body, bytes, n);
}

static inline int on_worker_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct seen *s = seen_of(user, id);

    (void)session;
    (void)code;
    if (s)
        s->closed = true;
    return 0;
}

/* --- the connection ------------------------------------------------------------------------ */

/* Takes what is there and sends what can be sent. */
static inline void serve(struct http2_worker *w)
{
    const uint8_t *bytes;
    ssize_t n, sent;

    look(&w->p);
    if (w->p.got.len > 0) {
        n = nghttp2_session_mem_recv(w->session, (uint8_t *)w->p.got.data, w->p.got.len);
        ck_assert_msg(n == (ssize_t)w->p.got.len, "%s", nghttp2_strerror((int)n));
        forget(&w->p);
    }
    while (!w->silent && (n = nghttp2_session_mem_send(w->session, &bytes)) > 0)
        for (ssize_t at = 0; at < n && !w->p.eof; at += sent > 0 ? sent : 0) {
            sent = send(w->p.fd, bytes + at, (size_t)(n - at), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent < 0 && errno != EAGAIN)
                return;
            uv_run(&world.loop, UV_RUN_NOWAIT);
        }
}

#define serve_until(w, condition)                                                                  \
    do {                                                                                           \
        uint64_t until_ = uv_hrtime() + WAIT_NS;                                                   \
        while (!(condition) && uv_hrtime() < until_) {                                             \
            serve(w);                                                                              \
            turn();                                                                                \
        }                                                                                          \
        ck_assert(condition);                                                                      \
    } while (0)

/* Serves for a while in which nothing is to happen. */
static inline void serve_a_while(struct http2_worker *w)
{
    for (int i = 0; i < 30; i++) {
        serve(w);
        turn();
    }
}

/* Sends bytes past nghttp2, which would refuse to. */
static inline void blurt(struct http2_worker *w, const void *bytes, size_t n)
{
    say_bytes(&w->p, bytes, n);
}

static inline void worker_session(struct http2_worker *w, const nghttp2_settings_entry *settings,
                                  size_t count)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;

    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_worker_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_worker_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_worker_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_worker_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_worker_close);
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, w->manual_window);
    nghttp2_option_set_no_http_messaging(option, 1); /* it may say what it must not */
    ck_assert_int_eq(nghttp2_session_server_new2(&w->session, callbacks, w, option), 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(w->session, NGHTTP2_FLAG_NONE, settings, count);
}

static inline void worker_over(struct http2_worker *w)
{
    for (unsigned i = 0; i < w->count; i++) {
        kg_buf_fini(&w->seen[i].head);
        kg_buf_fini(&w->seen[i].body);
        kg_buf_fini(&w->seen[i].trailers);
    }
    w->count = 0;
    nghttp2_session_del(w->session);
    w->session = NULL;
    bye(&w->p);
}

/* --- what it says -------------------------------------------------------------------------- */

#define NV(name_, value_)                                                                          \
    {                                                                                              \
        .name = (uint8_t *)(name_), .value = (uint8_t *)(value_), .namelen = strlen(name_),        \
        .valuelen = strlen(value_)                                                                 \
    }
#define COUNT(array) (sizeof(array) / sizeof *(array))

static inline ssize_t read_answer(nghttp2_session *session, int32_t id, uint8_t *buf, size_t n,
                                  uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct seen *s = source->ptr;
    size_t give = s->left < n ? s->left : n;

    (void)user;
    s->deferred = give == 0 && !s->last;
    if (s->deferred)
        return NGHTTP2_ERR_DEFERRED;
    memset(buf, 'w', give);
    s->left -= give;
    s->sent += give;
    if (s->left == 0 && s->last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->trailer) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_submit_trailer(session, id, s->trailer, 1);
        }
    }
    return (ssize_t)give;
}

/* A final head. With `end` that is all. */
static inline void answer(struct http2_worker *w, struct seen *s, const nghttp2_nv *fields,
                          size_t count, bool end)
{
    nghttp2_data_provider data = {.source.ptr = s, .read_callback = read_answer};

    ck_assert_int_eq(nghttp2_submit_response(w->session, s->id, fields, count, end ? NULL : &data),
                     0);
    serve(w);
}

/* n bytes of 'w'. */
static inline void pour(struct http2_worker *w, struct seen *s, size_t n, bool last)
{
    s->left += n;
    s->last = last;
    if (s->deferred)
        nghttp2_session_resume_data(w->session, s->id);
    serve(w);
}

static inline void answer_ok(struct http2_worker *w, struct seen *s, size_t n)
{
    const nghttp2_nv ok[] = {NV(":status", "200")};

    s->left = n;
    s->last = true;
    answer(w, s, ok, 1, n == 0);
}

static inline void reset(struct http2_worker *w, struct seen *s, uint32_t code)
{
    nghttp2_submit_rst_stream(w->session, NGHTTP2_FLAG_NONE, s->id, code);
    serve(w);
}

static inline bool said(const struct kg_buf *lines, const char *text)
{
    return lines->len > 0 && memmem(lines->data, lines->len, text, strlen(text)) != NULL;
}

/* Serves until the client has heard `what`. */
#define serve_client(w, c, what)                                                                   \
    do {                                                                                           \
        uint64_t until_ = uv_hrtime() + WAIT_NS;                                                   \
        while (!has(c, what) && !(c)->eof && uv_hrtime() < until_) {                               \
            serve(w);                                                                              \
            turn();                                                                                \
            look(c);                                                                               \
        }                                                                                          \
        ck_assert_msg(has(c, what), "'%s' did not come, but: %.*s%s", what, (int)(c)->got.len,     \
                      (c)->got.len > 0 ? (c)->got.data : "", (c)->eof ? " (end)" : "");            \
    } while (0)

/* --- set-up -------------------------------------------------------------------------------- */

static inline void speak_h2c(void)
{
    struct proxy_service service = {.id = 1, .name = "plain", .max_body_bytes = -1, .h2c = true};

    ck_assert_int_eq(proxy_config_begin(world.proxy), 0);
    ck_assert_int_eq(proxy_config_service(world.proxy, &service), 0);
    service = (struct proxy_service){
        .id = 2, .name = "other", .max_body_bytes = -1, .request_timeout_ms = 150, .h2c = true};
    ck_assert_int_eq(proxy_config_service(world.proxy, &service), 0);
    ck_assert_int_eq(proxy_config_route(world.proxy, KG_STR("a"), KG_STR("/"), 1), 0);
    ck_assert_int_eq(proxy_config_route(world.proxy, KG_STR("a"), KG_STR("/other"), 2), 0);
    ck_assert_int_eq(proxy_config_commit(world.proxy), 0);
}

/* The next connection that the proxy makes, with these SETTINGS. */
static inline void worker_with(struct http2_worker *w, const nghttp2_settings_entry *settings,
                               size_t count)
{
    const int on = 1;

    w->p = worker();
    setsockopt(w->p.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    worker_session(w, settings, count);
    serve(w);
}

static inline struct http2_worker *http2_worker(void)
{
    static struct http2_worker rooms[4];
    static unsigned next;
    struct http2_worker *w = &rooms[next++ % 4];

    memset(w, 0, sizeof *w);
    worker_with(w, NULL, 0);
    return w;
}

/* The request number i (from 0), once its head is there. */
static inline struct seen *request(struct http2_worker *w, unsigned i)
{
    serve_until(w, w->count > i && w->seen[i].head_whole);
    return &w->seen[i];
}

#endif
