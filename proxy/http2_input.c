/* SPDX-License-Identifier: Apache-2.0 */
/* What comes in on an HTTP/2 session: heads and bodies.
 * The difficulty: a head comes field by field, in as many reads as it likes, and its size is known
 * only once it is decoded. */
#include "base/err.h"
#include "proxy/http2_session_priv.h"
#include <stdlib.h>

#define STOP NGHTTP2_ERR_CALLBACK_FAILURE /* to nghttp2: no further */
#define SKIP NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
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
    struct http2_stream *s;

    if (http2_flood_resets(&h->flood))
        return STOP;
    /* behind the last one that a GOAWAY names, which may not be out yet: the client may send it
     * again */
    s = h->goaway_sent ? NULL : h->kind->begin(h);
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
        if (s && !s->closed && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
            s->peer_ended = true;
            h->kind->on_end(s);
        }
        break;
    case NGHTTP2_RST_STREAM:
        if (s && !s->answered)
            http2_flood_reset_early(&h->flood);
        break;
    case NGHTTP2_PING: /* what the peer sent before it heard of the drain has come */
        if (h->draining && (frame->hd.flags & NGHTTP2_FLAG_ACK))
            http2_goaway(h);
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

/* Is different each time, so that a table of former fields is no use for it. */
static bool is_unique(struct kg_str name)
{
    return name.n == 12 && memcmp(name.p, "x-request-id", 12) == 0;
}

const nghttp2_nv *http2_nva(const struct http2_field *fields, unsigned count, bool stay)
{
    static nghttp2_nv nva[HTTP2_MAX_FIELDS];
    uint8_t flags =
        stay ? NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE : NGHTTP2_NV_FLAG_NONE;

    KG_ASSERT(count <= HTTP2_MAX_FIELDS);
    for (unsigned i = 0; i < count; i++)
        nva[i] = (nghttp2_nv){.name = (uint8_t *)fields[i].name.p,
                              .value = (uint8_t *)fields[i].value.p,
                              .namelen = fields[i].name.n,
                              .valuelen = fields[i].value.n,
                              .flags = is_unique(fields[i].name) ? flags | NGHTTP2_NV_FLAG_NO_INDEX
                                                                 : flags};
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
    return nghttp2_submit_trailer(s->session->session, s->id,
                                  http2_nva(fields, s->trailer_count, false), s->trailer_count);
}

/* ------------------------------------------------------------------------------------------- */

void http2_set_input(nghttp2_session_callbacks *callbacks, nghttp2_option *options)
{
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
