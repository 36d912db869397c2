/* SPDX-License-Identifier: Apache-2.0 */
/* What comes in on an HTTP/2 session: heads, bodies, and how much of what is too much.
 * The difficulty: each frame alone may be fine; only its count tells an attack, and a busy client
 * that downloads must not look like one. */
#include "base/err.h"
#include "proxy/http2_session_priv.h"
#include <stdlib.h>

#define STOP NGHTTP2_ERR_CALLBACK_FAILURE /* to nghttp2: no further */
#define SKIP NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
#define CREDIT_PER_HEAD 2 /* PRIORITY and PRIORITY_UPDATE */
#define MAX_CREDIT 1000
#define BOMB 4        /* a decoded head so many times too large ends the connection */
#define FIELD_BYTES 4 /* ": " and CRLF */

/* A head while it is decoded. */
struct http2_assembly {
    struct kg_buf bytes; /* name and value, one behind the other */
    struct {
        uint32_t at, name_n, value_n;
    } span[HTTP2_MAX_FIELDS];
    struct http2_field fields[HTTP2_MAX_FIELDS];
    unsigned count;
    size_t decoded;
    bool too_large;
};

static int64_t now_of(const struct http2 *h)
{
    return proxy_now(h->wire->proxy);
}

/* --- floods -------------------------------------------------------------------------------- */

static void next_window(struct http2 *h)
{
    if (now_of(h) - h->window_ms < KG_FLOOD_WINDOW_MS)
        return;
    h->window_ms = now_of(h);
    h->glitches = h->opened = h->resets = h->early_resets = 0;
}

/* What a peer may send now and then, and no stream moves by. */
static int glitch(struct http2 *h)
{
    next_window(h);
    if (h->credit > 0) {
        h->credit--;
        return 0;
    }
    return ++h->glitches > KG_MAX_GLITCHES ? STOP : 0;
}

void http2_credit(struct http2 *h, unsigned n)
{
    h->credit = h->credit + n < MAX_CREDIT ? h->credit + n : MAX_CREDIT;
}

static void count_reset(struct http2 *h)
{
    next_window(h);
    h->resets++;
}

void http2_reset_sent(struct http2 *h, uint32_t code)
{
    if (code == NGHTTP2_PROTOCOL_ERROR || code == NGHTTP2_FLOW_CONTROL_ERROR ||
        code == NGHTTP2_STREAM_CLOSED || code == NGHTTP2_FRAME_SIZE_ERROR)
        count_reset(h);
}

static bool resets_too_fast(const struct http2 *h)
{
    if (h->client)
        return false; /* a worker harms nobody by it but itself */
    return h->resets > KG_MAX_RESETS ||
           (h->early_resets >= KG_MIN_RESETS && 2 * h->early_resets > h->opened);
}

/* A header block over all its frames, empty ones included. */
static int block_grows(struct http2 *h, const nghttp2_frame_hd *hd)
{
    if (hd->type == NGHTTP2_HEADERS) {
        h->block_frames = 0;
        h->block_bytes = 0;
    }
    h->block_frames++;
    h->block_bytes += hd->length;
    return h->block_frames > KG_MAX_BLOCK_FRAMES || h->block_bytes > KG_MAX_HEAD_BYTES ? STOP : 0;
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user)
{
    struct http2 *h = user;

    (void)session;
    switch (hd->type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION:
        return resets_too_fast(h) ? STOP : block_grows(h, hd);
    case NGHTTP2_DATA:
        return 0;
    case NGHTTP2_RST_STREAM:
        count_reset(h);
        return resets_too_fast(h) ? STOP : 0;
    default:
        return glitch(h);
    }
}

uint32_t http2_code_of(int error)
{
    if (error == NGHTTP2_ERR_CALLBACK_FAILURE || error == NGHTTP2_ERR_FLOODED ||
        error == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS)
        return NGHTTP2_ENHANCE_YOUR_CALM;
    return error == NGHTTP2_ERR_NOMEM ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_PROTOCOL_ERROR;
}

/* --- heads: in ----------------------------------------------------------------------------- */

static bool head_begin(struct http2 *h, struct http2_stream *s)
{
    struct http2_turns *t = &h->wire->proxy->http2;
    struct http2_assembly *a = h->head;

    h->head_of = s;
    h->block_ms = now_of(h);
    if (!a && t->spare) {
        a = t->spare;
        t->spare = NULL;
    } else if (!a) {
        a = malloc(sizeof *a);
        if (!a)
            return false;
        kg_buf_init(&a->bytes, KG_MAX_HEAD_BYTES);
    }
    kg_buf_clear(&a->bytes);
    a->count = 0;
    a->decoded = 0;
    a->too_large = false;
    h->head = a;
    return true;
}

static void assembly_free(struct http2_assembly *a)
{
    if (a)
        kg_buf_fini(&a->bytes);
    free(a);
}

void http2_head_done(struct http2 *h)
{
    struct http2_turns *t = &h->wire->proxy->http2;

    if (t->spare || h->wire->proxy->closing)
        assembly_free(h->head);
    else
        t->spare = h->head;
    h->head = NULL;
    h->head_of = NULL;
    h->block_ms = 0;
}

void http2_heads_free(struct proxy *p)
{
    assembly_free(p->http2.spare);
    p->http2.spare = NULL;
}

static int begin_request(struct http2 *h, int32_t id)
{
    struct http2_stream *s = h->kind->begin(h);

    next_window(h);
    h->opened++;
    if (s) {
        http2_stream_open(h, s, id);
        nghttp2_session_set_stream_user_data(h->session, id, s);
        if (head_begin(h, s))
            return 0;
    }
    nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    return SKIP;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2 *h = user;
    struct http2_stream *s;

    (void)session;
    http2_credit(h, CREDIT_PER_HEAD);
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        return begin_request(h, frame->hd.stream_id);
    s = http2_find(h, frame->hd.stream_id);
    return s && head_begin(h, s) ? 0 : SKIP;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct http2 *h = user;
    struct http2_assembly *a = h->head;

    (void)session;
    (void)frame;
    (void)flags;
    a->decoded += name_n + value_n + FIELD_BYTES;
    if (a->decoded > BOMB * KG_MAX_HEAD_BYTES)
        return STOP;
    if (a->decoded > KG_MAX_HEAD_BYTES || a->count == HTTP2_MAX_FIELDS)
        a->too_large = true;
    if (a->too_large)
        return 0;
    a->span[a->count].at = (uint32_t)a->bytes.len;
    a->span[a->count].name_n = (uint32_t)name_n;
    a->span[a->count++].value_n = (uint32_t)value_n;
    kg_buf_append(&a->bytes, name, name_n);
    return kg_buf_append(&a->bytes, value, value_n) == 0 ? 0 : STOP;
}

/* nghttp2 would only drop it. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_n, const uint8_t *value,
                             size_t value_n, uint8_t flags, void *user)
{
    (void)name;
    (void)name_n;
    (void)value;
    (void)value_n;
    (void)flags;
    http2_head_done(user);
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                              NGHTTP2_PROTOCOL_ERROR);
    return SKIP;
}

static void head_complete(struct http2 *h, struct http2_stream *s, const nghttp2_frame *frame)
{
    struct http2_assembly *a = h->head;
    struct http2_head head = {.fields = a->fields, .count = a->count, .too_large = a->too_large};
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

    for (unsigned i = 0; i < a->count; i++) {
        const char *at = a->bytes.data + a->span[i].at;
        a->fields[i].name = (struct kg_str){at, a->span[i].name_n};
        a->fields[i].value = (struct kg_str){at + a->span[i].name_n, a->span[i].value_n};
    }
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        head.kind = a->count > 0 && a->bytes.data[0] == ':' ? HTTP2_RESPONSE : HTTP2_TRAILERS;
    s->peer_ended = end;
    h->kind->on_head(s, &head, end);
    http2_head_done(h);
}

/* nghttp2 resets the stream or ends the session, and its head will not become whole. */
static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error,
                            void *user)
{
    struct http2 *h = user;

    (void)session;
    (void)error;
    if (frame->hd.type == NGHTTP2_HEADERS && h->head)
        http2_head_done(h);
    return 0;
}

/* --- frames -------------------------------------------------------------------------------- */

static int on_data_frame(struct http2 *h, struct http2_stream *s, const nghttp2_frame *frame)
{
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

    if (!end && frame->hd.length == frame->data.padlen)
        return glitch(h);
    if (end && s && !s->closed) {
        s->peer_ended = true;
        h->kind->on_end(s);
    }
    return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2 *h = user;
    struct http2_stream *s = NULL;

    (void)session;
    if (frame->hd.stream_id > 0)
        s = http2_find(h, frame->hd.stream_id);
    switch (frame->hd.type) {
    case NGHTTP2_SETTINGS:
        h->settled = true;
        break;
    case NGHTTP2_HEADERS:
        if (s && h->head && h->head_of == s)
            head_complete(h, s, frame);
        break;
    case NGHTTP2_DATA:
        return on_data_frame(h, s, frame);
    case NGHTTP2_RST_STREAM:
        if (s && !s->answered)
            h->early_resets++;
        break;
    case NGHTTP2_GOAWAY:
        h->goaway_come = true;
        if (h->kind->on_goaway)
            h->kind->on_goaway(h, frame->goaway.error_code);
        break;
    default:
        break;
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                         size_t n, void *user)
{
    struct http2 *h = user;
    struct http2_stream *s = http2_find(h, id);

    (void)session;
    (void)flags;
    if (!s || s->closed) {
        nghttp2_session_consume_connection(h->session, n);
        return 0;
    }
    s->unconsumed += (uint32_t)n;
    h->kind->on_data(s, (struct kg_str){(const char *)bytes, n});
    return 0;
}

/* --- heads: out ---------------------------------------------------------------------------- */

const nghttp2_nv *http2_nva(const struct http2_field *fields, unsigned count)
{
    static nghttp2_nv nva[HTTP2_MAX_FIELDS];

    KG_ASSERT(count <= HTTP2_MAX_FIELDS);
    for (unsigned i = 0; i < count; i++)
        nva[i] = (nghttp2_nv){.name = (uint8_t *)fields[i].name.p,
                              .value = (uint8_t *)fields[i].value.p,
                              .namelen = fields[i].name.n,
                              .valuelen = fields[i].value.n};
    return nva;
}

int http2_submit_trailers(struct http2_stream *s)
{
    struct http2_field fields[HTTP2_MAX_FIELDS];
    const char *at = s->trailers.data;

    for (unsigned i = 0; i < s->trailer_count; i++) {
        fields[i].name = kg_str_of(at);
        at += fields[i].name.n + 1;
        fields[i].value = kg_str_of(at);
        at += fields[i].value.n + 1;
    }
    return nghttp2_submit_trailer(s->session->session, s->id, http2_nva(fields, s->trailer_count),
                                  s->trailer_count);
}

/* ------------------------------------------------------------------------------------------- */

void http2_set_input(nghttp2_session_callbacks *callbacks, nghttp2_option *options)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);
    nghttp2_option_set_max_outbound_ack(options, MAX_OUTBOUND_FRAMES);
    nghttp2_option_set_max_continuations(options, KG_MAX_BLOCK_FRAMES);
}
