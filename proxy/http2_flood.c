/* SPDX-License-Identifier: Apache-2.0 */
/* Counts frames by their heads, before anything else looks at them.
 * The difficulty: nghttp2 does not tell of frames that it ignores, and those are floods, too. */
#include "proxy/http2_flood.h"

#define HEAD_BYTES 9
#define PREFACE_BYTES 24  /* of a client, ahead of its first frame */
#define CREDIT_PER_SENT 3 /* a WINDOW_UPDATE for stream and connection, a PING */
#define CREDIT_PER_HEAD 2 /* what browsers say about a stream's priority */
#define MAX_CREDIT 1000
#define PROTOCOL_ERROR 1
#define ENHANCE_YOUR_CALM 11

enum frame_type { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, CONTINUATION = 9 };
#define END_STREAM 1
#define ACK 1

struct frame {
    uint32_t bytes, stream;
    uint8_t type, flags;
};

static void give_credit(struct http2_flood *f, unsigned n)
{
    f->credit = f->credit + n < MAX_CREDIT ? f->credit + n : MAX_CREDIT;
}

static uint32_t glitch(struct http2_flood *f)
{
    if (f->credit > 0) {
        f->credit--;
        return 0;
    }
    return ++f->glitches > KG_MAX_GLITCHES ? ENHANCE_YOUR_CALM : 0;
}

static uint32_t block_grows(struct http2_flood *f, const struct frame *frame)
{
    f->block_frames++;
    f->block_bytes += frame->bytes;
    return f->block_frames > KG_MAX_BLOCK_FRAMES || f->block_bytes > KG_MAX_HEAD_BYTES
               ? ENHANCE_YOUR_CALM
               : 0;
}

static uint32_t judge(struct http2_flood *f, const struct frame *frame)
{
    switch (frame->type) {
    case DATA: /* a byte may be the length of no padding */
        return frame->bytes <= 1 && !(frame->flags & END_STREAM) ? glitch(f) : 0;
    case HEADERS:
        f->opened++;
        f->block_frames = 0;
        f->block_bytes = 0;
        give_credit(f, CREDIT_PER_HEAD);
        return block_grows(f, frame);
    case CONTINUATION:
        return block_grows(f, frame);
    case RST_STREAM:
        f->resets++;
        return http2_flood_resets(f) ? ENHANCE_YOUR_CALM : 0;
    case SETTINGS:
        return frame->flags & ACK ? 0 : glitch(f);
    case PRIORITY: /* nghttp2 would ignore it */
        return frame->stream == 0 ? PROTOCOL_ERROR : glitch(f);
    default:
        return glitch(f);
    }
}

static struct frame read_head(const uint8_t *b)
{
    return (struct frame){
        .bytes = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2],
        .type = b[3],
        .flags = b[4],
        .stream =
            ((uint32_t)b[5] << 24 | (uint32_t)b[6] << 16 | (uint32_t)b[7] << 8 | b[8]) & 0x7fffffff,
    };
}

void http2_flood_init(struct http2_flood *f, bool from_worker, int64_t now_ms)
{
    *f = (struct http2_flood){
        .from_worker = from_worker, .left = from_worker ? 0 : PREFACE_BYTES, .since_ms = now_ms};
}

/* The next head, or NULL: it is not whole yet. */
static const uint8_t *next_head(struct http2_flood *f, const uint8_t *b, size_t n, size_t *at)
{
    if (f->have == 0 && n - *at >= HEAD_BYTES) {
        *at += HEAD_BYTES;
        return b + *at - HEAD_BYTES;
    }
    while (*at < n && f->have < HEAD_BYTES)
        f->head[f->have++] = b[(*at)++];
    if (f->have < HEAD_BYTES)
        return NULL;
    f->have = 0;
    return f->head;
}

uint32_t http2_flood_scan(struct http2_flood *f, const char *bytes, size_t n, int64_t now_ms)
{
    const uint8_t *b = (const uint8_t *)bytes, *head;
    struct frame frame;
    uint32_t code = 0;
    size_t at = 0;

    if (now_ms - f->since_ms >= KG_FLOOD_WINDOW_MS) {
        f->since_ms = now_ms;
        f->glitches = f->opened = f->resets = f->early_resets = 0;
    }
    while (code == 0 && at < n) {
        size_t skip = f->left < n - at ? f->left : n - at;
        at += skip;
        f->left -= (uint32_t)skip;
        head = f->left == 0 ? next_head(f, b, n, &at) : NULL;
        if (!head)
            continue;
        frame = read_head(head);
        f->left = frame.bytes;
        code = judge(f, &frame);
    }
    return code;
}

void http2_flood_sent(struct http2_flood *f)
{
    give_credit(f, CREDIT_PER_SENT);
}

void http2_flood_reset_early(struct http2_flood *f)
{
    f->early_resets++;
}

void http2_flood_reset_by_us(struct http2_flood *f)
{
    f->resets++;
}

bool http2_flood_resets(const struct http2_flood *f)
{
    if (f->from_worker)
        return false;
    return f->resets > KG_MAX_RESETS ||
           (f->early_resets >= KG_MIN_RESETS && 2 * f->early_resets > f->opened);
}
