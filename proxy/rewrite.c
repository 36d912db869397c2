/* SPDX-License-Identifier: Apache-2.0 */
/* The canonical writer. Lines that go on unchanged are copied in runs, as they lie in the head.
 * The difficulty: one allocation of the right size, so every line we add is counted in the bound.
 */
#include "proxy/rewrite.h"
#include "base/err.h"
#include <endian.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* More than all lines of ours together: the longest are Content-Length and Max-Forwards (37),
 * traceparent (70), Date (37), Server-Timing (82), X-Forwarded-* and friends (20 each), Connection
 * and Upgrade (45).
 */
#define OWN_LINES_BYTES 640
#define LINE_GROWTH_BYTES 2 /* "a:b" is written "a: b" */
#define TRACEPARENT_BYTES 55
#define MS_PER_S 1000
#define US_PER_S 1000000

/* --- random numbers ------------------------------------------------------------------------------
 */

static struct {
    bool seeded;
    uint64_t s[4];
} prng; /* xoshiro256**: one per process, which has one thread */

void rewrite_seed(void)
{
    struct timespec now;
    if (getrandom(prng.s, sizeof prng.s, GRND_NONBLOCK) != (ssize_t)sizeof prng.s) {
        clock_gettime(CLOCK_REALTIME, &now);
        prng.s[0] ^= (uint64_t)now.tv_nsec;
        prng.s[1] ^= (uint64_t)now.tv_sec;
        prng.s[2] ^= (uint64_t)getpid() << 32;
    }
    prng.s[3] |= 1; /* all zero would stay so */
    prng.seeded = true;
}

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static uint64_t random_u64(void)
{
    uint64_t *s = prng.s;
    if (!prng.seeded)
        rewrite_seed();
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

/* Eight digits at a time: each half-byte is spread to a byte of its own, and what is above 9 gets
 * the way from '9' to 'a' added. */
static char *put_hex32(char *out, uint32_t n)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t x = n, above_nine;

    x = (x | x << 16) & 0x0000ffff0000ffffu;
    x = (x | x << 8) & 0x00ff00ff00ff00ffu;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
    above_nine = (x + ones * 6) >> 4 & ones;
    x = htobe64(x + ones * '0' + above_nine * ('a' - '9' - 1));
    memcpy(out, &x, sizeof x);
    return out + sizeof x;
}

static char *put_hex(char *out, uint64_t n)
{
    return put_hex32(put_hex32(out, (uint32_t)(n >> 32)), (uint32_t)n);
}

/* --- ids ----------------------------------------------------------------------------------------
 */

static bool id_is_valid(struct kg_str id)
{
    for (size_t i = 0; i < id.n; i++) {
        unsigned char c = (unsigned char)id.p[i], letter = c | 0x20;
        if ((letter < 'a' || letter > 'z') && (c < '-' || c > ':') && !memchr("_~+=@", c, 5))
            return false;
    }
    return id.n > 0 && id.n <= REWRITE_ID_MAX;
}

struct kg_str rewrite_request_id(const struct http1_head *h, char out[REWRITE_ID_MAX + 1])
{
    struct kg_str id = {NULL, 0};
    if (h && h->count[FIELD_X_REQUEST_ID] == 1)
        id = http1_value(h, FIELD_X_REQUEST_ID);
    if (id_is_valid(id)) {
        memcpy(out, id.p, id.n);
    } else {
        put_hex(put_hex(out, random_u64()), random_u64());
        id.n = REWRITE_ID_MADE;
    }
    out[id.n] = '\0';
    return (struct kg_str){out, id.n};
}

/* Lower-case hex digits that are not all '0'. */
static bool is_hex(const char *p, size_t n, bool zero_is_fine)
{
    static const uint8_t digit[256] = {
        ['0'] = 1, ['1'] = 3, ['2'] = 3, ['3'] = 3, ['4'] = 3, ['5'] = 3, ['6'] = 3, ['7'] = 3,
        ['8'] = 3, ['9'] = 3, ['a'] = 3, ['b'] = 3, ['c'] = 3, ['d'] = 3, ['e'] = 3, ['f'] = 3,
    }; /* 1: a digit, 2: that is not zero */
    unsigned all = 3, some = 0;
    for (size_t i = 0; i < n; i++) {
        all &= digit[(unsigned char)p[i]];
        some |= digit[(unsigned char)p[i]];
    }
    return (all & 1) && (zero_is_fine || (some & 2));
}

/* "00-TRACE-PARENT-FLAGS"; a later version may carry more behind a further dash. */
static bool trace_is_valid(struct kg_str v)
{
    if (v.n < TRACEPARENT_BYTES || v.p[2] != '-' || v.p[35] != '-' || v.p[52] != '-')
        return false;
    if (!is_hex(v.p, 2, true) || !is_hex(v.p + 3, 32, false) || !is_hex(v.p + 36, 16, false) ||
        !is_hex(v.p + 53, 2, true) || memcmp(v.p, "ff", 2) == 0)
        return false;
    return v.n == TRACEPARENT_BYTES || (memcmp(v.p, "00", 2) != 0 && v.p[TRACEPARENT_BYTES] == '-');
}

static bool trace_is_kept(const struct http1_head *h)
{
    return h->count[FIELD_TRACEPARENT] == 1 && trace_is_valid(http1_value(h, FIELD_TRACEPARENT));
}

/* --- the writer ---------------------------------------------------------------------------------
 */

struct writer {
    char *at;        /* next byte; the bound was checked when the memory was taken */
    const char *run; /* lines of the head that are to be copied together: [run, run_end) */
    const char *run_end;
};

static void put(struct writer *w, struct kg_str s)
{
    if (s.n > 0)
        memcpy(w->at, s.p, s.n);
    w->at += s.n;
}
#define PUT(w, literal) put((w), KG_STR(literal))

static void put_line(struct writer *w, struct kg_str name_colon, struct kg_str value)
{
    put(w, name_colon);
    put(w, value);
    PUT(w, "\r\n");
}

static void put_decimal(struct writer *w, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + n % 10);
    } while (n /= 10);
    put(w, (struct kg_str){digits + at, sizeof digits - at});
}

static void put_number(struct writer *w, struct kg_str name_colon, uint64_t n)
{
    put(w, name_colon);
    put_decimal(w, n);
    PUT(w, "\r\n");
}

static void flush_run(struct writer *w)
{
    if (w->run)
        put(w, (struct kg_str){w->run, (size_t)(w->run_end - w->run)});
    w->run = NULL;
}

/* A line that goes on as it is: "name: value" CRLF joins the run, any other spelling is respelled.
 */
static void pass_line(struct writer *w, const struct http1_field *f)
{
    const char *gap = f->name.p + f->name.n, *end = f->value.p + f->value.n;
    if (f->value.p == gap + 2 && gap[1] == ' ' && *end == '\r') {
        if (w->run && w->run_end == f->name.p) {
            w->run_end = end + 2;
            return;
        }
        flush_run(w);
        w->run = f->name.p;
        w->run_end = end + 2;
        return;
    }
    flush_run(w);
    put(w, f->name);
    put_line(w, KG_STR(": "), f->value);
}

/* Fields of the head but those that end here, that `drop` has flags for, or that `ours` names. */
static void pass_fields(struct writer *w, const struct http1_head *h, unsigned drop,
                        const bool ours[FIELD_COUNT])
{
    for (unsigned i = 0; i < h->field_count; i++) {
        const struct http1_field *f = &h->fields[i];
        unsigned flags = f->id == FIELD_OTHER ? 0 : field_flags((enum field_id)f->id);
        if ((flags & drop) || ours[f->id] || (f->named && !(flags & FIELD_FIXED)))
            continue;
        pass_line(w, f);
    }
    flush_run(w);
}

static struct kg_str finish(const struct writer *w, char *start, size_t bound)
{
    size_t n = (size_t)(w->at - start);
    KG_ASSERT(n <= bound);
    return (struct kg_str){start, n};
}

static void put_framing(struct writer *w, enum http1_framing framing, int64_t length)
{
    if (framing == HTTP1_CHUNKED) {
        PUT(w, "Transfer-Encoding: chunked\r\n");
    } else if (framing == HTTP1_LENGTH) {
        put_number(w, KG_STR("Content-Length: "), (uint64_t)length);
    }
}

/* --- to the worker ------------------------------------------------------------------------------
 */

static void put_request_line(struct writer *w, const struct http1_head *h, size_t strip_bytes)
{
    const struct target *t = &h->target;
    put(w, h->method);
    PUT(w, " ");
    put(w, strip_bytes ? (strip_bytes < t->path.n
                              ? (struct kg_str){t->path.p + strip_bytes, t->path.n - strip_bytes}
                              : KG_STR("/"))
                       : t->path);
    put(w, t->query);
    PUT(w, " HTTP/1.1\r\n");
    put_line(w, KG_STR("Host: "), t->authority.n ? t->authority : KG_STR("localhost"));
}

static void put_trace(struct writer *w, const struct http1_head *h, struct kg_str id, bool kept)
{
    PUT(w, "traceparent: ");
    if (kept) {
        put(w, http1_value(h, FIELD_TRACEPARENT));
    } else {
        PUT(w, "00-");
        if (id.n == REWRITE_ID_MADE && is_hex(id.p, id.n, false)) {
            put(w, id); /* one number to look for in logs and traces */
        } else {
            w->at = put_hex(put_hex(w->at, random_u64() | 1), random_u64());
        }
        PUT(w, "-");
        w->at = put_hex(w->at, random_u64() | 1);
        PUT(w, "-01");
    }
    PUT(w, "\r\n");
}

static void put_claims(struct writer *w, const struct http1_head *h,
                       const struct rewrite_to_worker *with)
{
    if (with->peer.n)
        put_line(w, KG_STR("X-Forwarded-For: "), with->peer);
    if (h->target.authority.n)
        put_line(w, KG_STR("X-Forwarded-Host: "), h->target.authority);
    put_line(w, KG_STR("X-Forwarded-Proto: "), with->secure ? KG_STR("https") : KG_STR("http"));
    put_line(w, KG_STR("X-Request-Id: "), with->id);
}

static void put_hop(struct writer *w, const struct http1_head *h, bool expect)
{
    if (h->websocket)
        PUT(w, "Connection: upgrade\r\nUpgrade: websocket\r\n");
    else if (h->te_trailers)
        PUT(w, "Connection: TE\r\nTE: trailers\r\n");
    if (expect)
        PUT(w, "Expect: 100-continue\r\n");
}

struct kg_str rewrite_request(struct kg_arena *a, const struct http1_head *h,
                              const struct rewrite_to_worker *with)
{
    bool kept = trace_is_kept(h);
    bool ours[FIELD_COUNT] = {
        [FIELD_X_REQUEST_ID] = true,
        [FIELD_TRACEPARENT] = true,
        [FIELD_TRACESTATE] = !kept, /* it belongs to the traceparent that is gone */
        [FIELD_MAX_FORWARDS] = h->max_forwards >= 0,
        [FIELD_TRAILER] = h->framing != HTTP1_CHUNKED,
    };
    size_t bound = h->bytes + (size_t)h->field_count * LINE_GROWTH_BYTES +
                   2 * h->target.authority.n + with->peer.n + with->id.n + OWN_LINES_BYTES;
    char *start = kg_arena_alloc(a, bound);
    struct writer w = {start, NULL, NULL};

    if (!start)
        return (struct kg_str){NULL, 0};
    put_request_line(&w, h, with->strip_bytes);
    pass_fields(&w, h, FIELD_HOP | FIELD_FRAMING | FIELD_CLAIM, ours);
    if (h->max_forwards > 0)
        put_number(&w, KG_STR("Max-Forwards: "), (uint64_t)h->max_forwards - 1);
    put_claims(&w, h, with);
    put_trace(&w, h, with->id, kept);
    put_line(&w, KG_STR("Via: "),
             with->http2 ? KG_STR("2 kipgate")
             : h->minor  ? KG_STR("1.1 kipgate")
                         : KG_STR("1.0 kipgate"));
    put_hop(&w, h, with->pass_expect && h->expect_continue);
    put_framing(&w, h->framing, h->content_length);
    PUT(&w, "\r\n");
    return finish(&w, start, bound);
}

/* --- to the client ------------------------------------------------------------------------------
 */

enum http1_framing rewrite_response_framing(const struct http1_head *response,
                                            unsigned client_minor)
{
    if (response->framing != HTTP1_CHUNKED && response->framing != HTTP1_UNTIL_CLOSE)
        return response->framing;
    return client_minor > 0 ? HTTP1_CHUNKED : HTTP1_UNTIL_CLOSE;
}

struct kg_str rewrite_date(int64_t wall_ms)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    static char text[64];
    static size_t n;
    static time_t made = -1;
    time_t now = (time_t)(wall_ms / MS_PER_S);
    struct tm tm;

    if (now != made && gmtime_r(&now, &tm)) {
        n = (size_t)snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT",
                             days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900,
                             tm.tm_hour, tm.tm_min, tm.tm_sec);
        made = now;
    }
    return (struct kg_str){text, n};
}

size_t rewrite_timing(char out[REWRITE_TIMING_BYTES], enum proxy_warmth warmth, int64_t waited_us)
{
    out[0] = '\0';
    if (warmth == PROXY_WARM)
        return 0;
    int64_t tenths = (waited_us < 0 ? 0 : waited_us) / (US_PER_S / MS_PER_S / 10);
    int n = snprintf(out, REWRITE_TIMING_BYTES, "kipgate;desc=\"%s\";dur=%lld.%d",
                     warmth == PROXY_COLD ? "cold" : "paused", (long long)(tenths / 10),
                     (int)(tenths % 10));
    return (size_t)n;
}

static void put_status_line(struct writer *w, const struct http1_head *h)
{
    PUT(w, "HTTP/1.1 ");
    put_decimal(w, h->status);
    PUT(w, " ");
    put_line(w, h->phrase, KG_STR(""));
}

/* Connection, and Upgrade where the status asks for it (101; 426 names what would be accepted). */
static void put_connection(struct writer *w, const struct http1_head *h,
                           const struct rewrite_to_client *with)
{
    if (h->status == 101 || (h->status == 426 && h->websocket))
        put_line(w,
                 h->status == 101 || with->keep_alive ? KG_STR("Connection: upgrade")
                                                      : KG_STR("Connection: close, upgrade"),
                 KG_STR("\r\nUpgrade: websocket"));
    else if (!with->keep_alive)
        PUT(w, "Connection: close\r\n");
    else if (with->client_minor == 0)
        PUT(w, "Connection: keep-alive\r\n");
}

/* The lines of ours in a final response or a 101. */
static void put_own(struct writer *w, const struct http1_head *h,
                    const struct rewrite_to_client *with, enum http1_framing framing)
{
    char timing[REWRITE_TIMING_BYTES];
    size_t n = rewrite_timing(timing, with->warmth, with->waited_us);
    put_line(w, KG_STR("X-Request-Id: "), with->id);
    if (n)
        put_line(w, KG_STR("Server-Timing: "), (struct kg_str){timing, n});
    if (!h->count[FIELD_DATE] && with->wall_ms > 0)
        put_line(w, KG_STR("Date: "), rewrite_date(with->wall_ms));
    put_connection(w, h, with);
    if (framing == HTTP1_NONE && h->content_length >= 0 && h->status >= 200 && h->status != 204)
        framing = HTTP1_LENGTH; /* HEAD and 304: the length that a body would have */
    put_framing(w, framing, h->content_length);
}

struct kg_str rewrite_response(struct kg_arena *a, const struct http1_head *h,
                               const struct rewrite_to_client *with)
{
    enum http1_framing framing = rewrite_response_framing(h, with->client_minor);
    bool interim = h->status < 200 && h->status != 101;
    bool ours[FIELD_COUNT] = {
        [FIELD_X_REQUEST_ID] = true,
        [FIELD_TRAILER] = framing != HTTP1_CHUNKED,
    };
    size_t bound =
        h->bytes + (size_t)h->field_count * LINE_GROWTH_BYTES + with->id.n + OWN_LINES_BYTES;
    char *start = kg_arena_alloc(a, bound);
    struct writer w = {start, NULL, NULL};

    KG_ASSERT(!with->keep_alive || framing != HTTP1_UNTIL_CLOSE);
    if (!start)
        return (struct kg_str){NULL, 0};
    put_status_line(&w, h);
    pass_fields(&w, h, FIELD_HOP | FIELD_FRAMING, ours);
    if (!interim)
        put_own(&w, h, with, framing);
    PUT(&w, "\r\n");
    return finish(&w, start, bound);
}
