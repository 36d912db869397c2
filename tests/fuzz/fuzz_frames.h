/* SPDX-License-Identifier: Apache-2.0 */
/* Orders of a script that say frames of HTTP/2, right but for what the input makes wrong, and a
 * reader of those that the proxy says. The difficulty: mutated bytes alone hardly ever are a frame,
 * so lengths and header blocks are written here. */
#ifndef TESTS_FUZZ_FRAMES_H
#define TESTS_FUZZ_FRAMES_H

#include "fuzz_books.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

enum frame_type {
    FRAME_DATA,
    FRAME_HEADERS,
    FRAME_PRIORITY,
    FRAME_RST_STREAM,
    FRAME_SETTINGS,
    FRAME_PUSH_PROMISE,
    FRAME_PING,
    FRAME_GOAWAY,
    FRAME_WINDOW_UPDATE,
    FRAME_CONTINUATION,
    FRAME_ANY = 0xa,     /* of any type: one more byte */
    FRAME_AGAIN = 0xb,   /* the last one, so many times */
    FRAME_PREFACE = 0xc, /* of a client, or the SETTINGS alone of a server */
    FRAME_REQUEST = 0xd, /* a fine GET (or POST) of the stream */
};

static struct kg_buf last_frame;

/* --- header blocks ------------------------------------------------------------------------- */

static const char *const block_fields[][2] = {
    {":method", "GET"},
    {":method", "POST"},
    {":method", "HEAD"},
    {":method", "CONNECT"},
    {":method", "OPTIONS"},
    {":scheme", "http"},
    {":path", "/"},
    {":path", "/other/x?y"},
    {":path", "*"},
    {":path", "/a/../b"},
    {":authority", "a"},
    {":authority", "b"},
    {":protocol", "websocket"},
    {":status", "200"},
    {":status", "103"},
    {":status", "204"},
    {":status", "304"},
    {":status", "101"},
    {"host", "a"},
    {"content-length", "5"},
    {"content-length", "0"},
    {"transfer-encoding", "chunked"},
    {"connection", "close"},
    {"upgrade", "websocket"},
    {"te", "trailers"},
    {"te", "gzip"},
    {"cookie", "a=b"},
    {"expect", "100-continue"},
    {"x-request-id", "id"},
    {"x-forwarded-for", "1.2.3.4"},
    {"grpc-status", "0"},
    {"trailer", "grpc-status"},
    {"X-Upper", "x"},
    {"x", "a\r\nb: c"},
    {"x", " x"},
    {"x\ny", ""},
    {"priority", "u=1"},
    {"sec-websocket-version", "13"},
    {"content-encoding", "gzip"},
    {"", "x"},
    {":path", "/large"},
};
#define BLOCK_FIELDS (sizeof block_fields / sizeof *block_fields)
#define BLOCK_OWN 0x7f  /* two lengths, name and value of the input */
#define BLOCK_RAW 0x7e  /* one more byte goes into the block as it is */
#define BLOCK_LONG 0x7d /* a field of many KiB: one more byte */

static inline void put_string(struct kg_buf *out, const char *p, size_t n)
{
    uint8_t length[4] = {(uint8_t)n};
    size_t used = 1;

    if (n >= 127) { /* an integer with a prefix of 7 bits */
        length[0] = 127;
        for (n -= 127; n >= 128; n >>= 7)
            length[used++] = (uint8_t)(n | 128);
        length[used++] = (uint8_t)n;
        n = 127 + (length[1] & 127u) + (used > 2 ? (size_t)(length[2] & 127) << 7 : 0) +
            (used > 3 ? (size_t)length[3] << 14 : 0);
    }
    kg_buf_append(out, length, used);
    kg_buf_append(out, p, n);
}

/* Literal, into the table or not. */
static inline void put_field(struct kg_buf *out, bool indexed, const char *name, size_t name_n,
                             const char *value, size_t value_n)
{
    kg_buf_append(out, indexed ? "\x40" : "\0", 1);
    put_string(out, name, name_n);
    put_string(out, value, value_n);
}

static inline void put_own(struct kg_buf *out)
{
    struct fuzz *f = &script.f;
    size_t name_n = fuzz_byte(f), value_n = fuzz_byte(f);

    name_n = name_n < f->n ? name_n : f->n;
    value_n = value_n < f->n - name_n ? value_n : f->n - name_n;
    put_field(out, false, (const char *)f->p, name_n, (const char *)f->p + name_n, value_n);
    f->p += name_n + value_n;
    f->n -= name_n + value_n;
}

static inline void put_long(struct kg_buf *out)
{
    static char filler[64 * 1024];

    memset(filler, 'f', sizeof filler);
    put_field(out, true, "x-long", 6, filler, (size_t)fuzz_byte(&script.f) * 256);
}

/* Codes of fields up to one of 0xf0 or above. */
static inline void put_block(struct kg_buf *out)
{
    for (int i = 0; i < 300 && script.f.n > 0; i++) {
        uint8_t code = fuzz_byte(&script.f), own = code & 0x7f;
        if (code >= 0xf0)
            return;
        if (own == BLOCK_OWN) {
            put_own(out);
        } else if (own == BLOCK_RAW) {
            code = fuzz_byte(&script.f);
            kg_buf_append(out, &code, 1);
        } else if (own == BLOCK_LONG) {
            put_long(out);
        } else {
            const char *const *f = block_fields[own % BLOCK_FIELDS];
            put_field(out, code & 0x80, f[0], strlen(f[0]), f[1], strlen(f[1]));
        }
    }
}

/* --- frames -------------------------------------------------------------------------------- */

static inline void put_u32(struct kg_buf *out, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

    kg_buf_append(out, b, 4);
}

static inline void say_frame(uint8_t type, uint8_t flags, uint32_t stream, struct kg_str payload)
{
    uint8_t head[5] = {(uint8_t)(payload.n >> 16), (uint8_t)(payload.n >> 8), (uint8_t)payload.n,
                       type, flags};

    kg_buf_clear(&last_frame);
    kg_buf_append(&last_frame, head, sizeof head);
    put_u32(&last_frame, stream);
    kg_buf_append(&last_frame, payload.p, payload.n);
    kg_buf_append(&script.said, last_frame.data, last_frame.len);
}

/* 0 to 31: streams of a client; above: those that cannot be, or 0. */
static inline uint32_t stream_number(uint8_t b)
{
    static const uint32_t odd[] = {0, 2, 0x7fffffff, 0xffffffff};

    return b < 64 ? 2u * (b & 31) + 1 : odd[b & 3];
}

static inline uint32_t some_number(uint8_t b)
{
    static const uint32_t numbers[] = {0, 1, 100, 16384, 65535, 1u << 20, 0x7fffffff, 0xffffffff};

    return b < 0xf8 ? b : numbers[b & 7];
}

static inline void put_bytes(struct kg_buf *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        kg_buf_append(out, "d", 1);
}

static inline void put_payload(struct kg_buf *out, uint8_t type)
{
    struct fuzz *f = &script.f;
    uint8_t b;

    switch (type) {
    case FRAME_HEADERS:
    case FRAME_CONTINUATION:
        put_block(out);
        break;
    case FRAME_DATA:
        b = fuzz_byte(f);
        put_bytes(out, b < 128 ? b : (size_t)(b - 127) * 128);
        break;
    case FRAME_SETTINGS:
        for (b = fuzz_byte(f) & 7; b > 0; b--) {
            const uint8_t id[2] = {0, fuzz_byte(f) % 10};
            kg_buf_append(out, id, 2);
            put_u32(out, some_number(fuzz_byte(f)));
        }
        break;
    case FRAME_RST_STREAM:
    case FRAME_WINDOW_UPDATE:
        put_u32(out, some_number(fuzz_byte(f)));
        break;
    case FRAME_GOAWAY:
    case FRAME_PING:
        put_u32(out, some_number(fuzz_byte(f)));
        put_u32(out, some_number(fuzz_byte(f)));
        break;
    default:
        for (b = fuzz_byte(f) & 63; b > 0 && f->n > 0; b--)
            kg_buf_append(out, &(uint8_t){fuzz_byte(f)}, 1);
    }
}

static inline void say_preface(void)
{
    if (!script.to_worker)
        kg_buf_puts(&script.said, PREFACE);
    say_frame(FRAME_SETTINGS, 0, 0, KG_STR(""));
}

static inline void say_request(uint32_t stream, uint8_t how)
{
    static const char get[] = "\x82\x86\x84\x41\x01"
                              "a";
    static const char post[] = "\x83\x86\x84\x41\x01"
                               "a";

    say_frame(FRAME_HEADERS, how & 1 ? 4 : 5, stream,
              (struct kg_str){how & 1 ? post : get, sizeof get - 1});
}

static inline void frame_order(uint8_t order)
{
    uint8_t type = order & 0xf, flags, stream;
    struct kg_buf payload;

    if (type == FRAME_PREFACE) {
        say_preface();
        return;
    }
    flags = fuzz_byte(&script.f);
    if (type == FRAME_AGAIN) {
        for (int i = 0; i < flags * 4; i++)
            kg_buf_append(&script.said, last_frame.data, last_frame.len);
        return;
    }
    stream = fuzz_byte(&script.f);
    if (type >= FRAME_REQUEST) {
        say_request(stream_number(stream), flags);
        return;
    }
    if (type == FRAME_ANY)
        type = fuzz_byte(&script.f);
    kg_buf_init(&payload, 1 << 20);
    put_payload(&payload, type);
    if (type >= FRAME_SETTINGS && type <= FRAME_GOAWAY && stream < 32)
        stream = 64; /* of the connection, unless the input insists */
    if (!payload.error)
        say_frame(type, flags, stream_number(stream), kg_buf_str(&payload));
    kg_buf_fini(&payload);
}

/* --- what the proxy says ------------------------------------------------------------------- */

#define MAX_STREAMS 1024

/* Frames that may be, on streams that may have them. */
static inline void check_frames(struct kg_str in)
{
    static uint8_t ended[MAX_STREAMS];

    memset(ended, 0, sizeof ended);
    while (in.n >= 9) {
        const uint8_t *b = (const uint8_t *)in.p;
        size_t n = (size_t)b[0] << 16 | (size_t)b[1] << 8 | b[2];
        uint32_t stream = (uint32_t)b[5] << 24 | (uint32_t)b[6] << 16 | (uint32_t)b[7] << 8 | b[8];
        bool whole = b[3] == FRAME_SETTINGS || b[3] == FRAME_PING || b[3] == FRAME_GOAWAY;

        KG_ASSERT(b[3] <= FRAME_CONTINUATION && b[3] != FRAME_PUSH_PROMISE && n <= 16384);
        KG_ASSERT(whole ? stream == 0 : stream > 0 || b[3] == FRAME_WINDOW_UPDATE);
        if (stream > 0 && stream / 2 < MAX_STREAMS) {
            /* a push that came before the worker knew that it must not push is refused */
            KG_ASSERT(stream % 2 == 1 || (world.h2c && b[3] == FRAME_RST_STREAM));
            if (b[3] == FRAME_DATA || b[3] == FRAME_HEADERS) {
                KG_ASSERT(!ended[stream / 2]);
                ended[stream / 2] = b[4] & 1;
            }
            if (b[3] == FRAME_RST_STREAM)
                ended[stream / 2] = 1;
        }
        if (in.n - 9 < n)
            return;
        in.p += 9 + n;
        in.n -= 9 + n;
    }
}

#endif
