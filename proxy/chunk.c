/* SPDX-License-Identifier: Apache-2.0 */
/* The chunked decoder's machine: a byte at a time between payloads, whole spans inside them.
 * The difficulty: every byte between payloads is one that another parser might read differently. */
#include "proxy/chunk.h"
#include "base/err.h"
#include "proxy/field.h"

#define MAX_SIZE_DIGITS 16

enum state {
    SIZE,
    SIZE_LF,
    EXT_NAME_START, /* behind ';' */
    EXT_NAME,
    EXT_NAME_GAP, /* space behind a name: '=' or ';' must follow */
    EXT_VALUE_START,
    EXT_TOKEN,
    EXT_QUOTED,
    EXT_PAIR, /* behind a backslash */
    EXT_QUOTED_END,
    EXT_GAP, /* space behind a value: ';' must follow */
    DATA,
    DATA_CR,
    DATA_LF,
    LAST_CR, /* the blank line that ends the message, or the first trailer */
    LAST_LF,
    TRAILERS,
    END,
    REFUSED
};

static enum chunk_result refuse(struct chunk *c, enum proxy_reason reason, const char *words)
{
    c->state = REFUSED;
    c->verdict.reason =
        c->from_worker && reason != PROXY_OVERLOADED ? PROXY_UPSTREAM_FAILED : reason;
    c->verdict.words = words;
    return CHUNK_REFUSED;
}

static void bad(struct chunk *c, const char *words)
{
    refuse(c, PROXY_BAD_REQUEST, words);
}

static int hex(unsigned char b)
{
    if (b >= '0' && b <= '9')
        return b - '0';
    b |= 0x20;
    return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static void step_size(struct chunk *c, unsigned char b)
{
    int digit = hex(b);
    if (digit >= 0) {
        if (c->digits == MAX_SIZE_DIGITS) {
            bad(c, "a chunk size has more than 16 digits");
            return;
        }
        c->digits++;
        c->left = c->left * 16 + (unsigned)digit;
    } else if (c->digits == 0) {
        bad(c, "a chunk does not begin with its size");
    } else if (b == '\r' || b == ';') {
        c->state = b == ';' ? EXT_NAME_START : SIZE_LF;
        c->ext_bytes += b == ';';
        if (c->left > INT64_MAX)
            bad(c, "a chunk size is 2^63 or more");
    } else {
        bad(c, "a chunk size is followed by something else than CRLF or an extension");
    }
}

/* --- extensions: *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ) ------------- */

enum byte_class {
    CLASS_TOKEN,
    CLASS_SPACE,
    CLASS_QUOTE,
    CLASS_BACKSLASH,
    CLASS_TEXT,
    CLASS_EQUALS,
    CLASS_SEMICOLON,
    CLASS_CR,
    CLASS_BAD,
    CLASS_COUNT
};

static enum byte_class class_of(unsigned char b)
{
    if (guard_is_tchar(b))
        return CLASS_TOKEN;
    switch (b) {
    case ' ':
    case '\t':
        return CLASS_SPACE;
    case '"':
        return CLASS_QUOTE;
    case '\\':
        return CLASS_BACKSLASH;
    case '=':
        return CLASS_EQUALS;
    case ';':
        return CLASS_SEMICOLON;
    case '\r':
        return CLASS_CR;
    default:
        return b < ' ' || b == 0x7f ? CLASS_BAD : CLASS_TEXT;
    }
}

/* What follows in an extension; an empty cell (SIZE) is a breach. */
static const uint8_t ext_next[EXT_GAP + 1][CLASS_COUNT] = {
    [EXT_NAME_START] = {[CLASS_SPACE] = EXT_NAME_START, [CLASS_TOKEN] = EXT_NAME},
    [EXT_NAME] = {[CLASS_TOKEN] = EXT_NAME,
                  [CLASS_SPACE] = EXT_NAME_GAP,
                  [CLASS_EQUALS] = EXT_VALUE_START,
                  [CLASS_SEMICOLON] = EXT_NAME_START,
                  [CLASS_CR] = SIZE_LF},
    [EXT_NAME_GAP] = {[CLASS_SPACE] = EXT_NAME_GAP,
                      [CLASS_EQUALS] = EXT_VALUE_START,
                      [CLASS_SEMICOLON] = EXT_NAME_START},
    [EXT_VALUE_START] =
        {[CLASS_SPACE] = EXT_VALUE_START, [CLASS_TOKEN] = EXT_TOKEN, [CLASS_QUOTE] = EXT_QUOTED},
    [EXT_TOKEN] = {[CLASS_TOKEN] = EXT_TOKEN,
                   [CLASS_SPACE] = EXT_GAP,
                   [CLASS_SEMICOLON] = EXT_NAME_START,
                   [CLASS_CR] = SIZE_LF},
    [EXT_QUOTED] = {[CLASS_TOKEN] = EXT_QUOTED,
                    [CLASS_SPACE] = EXT_QUOTED,
                    [CLASS_TEXT] = EXT_QUOTED,
                    [CLASS_EQUALS] = EXT_QUOTED,
                    [CLASS_SEMICOLON] = EXT_QUOTED,
                    [CLASS_BACKSLASH] = EXT_PAIR,
                    [CLASS_QUOTE] = EXT_QUOTED_END},
    [EXT_PAIR] = {[CLASS_TOKEN] = EXT_QUOTED,
                  [CLASS_SPACE] = EXT_QUOTED,
                  [CLASS_TEXT] = EXT_QUOTED,
                  [CLASS_EQUALS] = EXT_QUOTED,
                  [CLASS_SEMICOLON] = EXT_QUOTED,
                  [CLASS_BACKSLASH] = EXT_QUOTED,
                  [CLASS_QUOTE] = EXT_QUOTED},
    [EXT_QUOTED_END] =
        {[CLASS_SPACE] = EXT_GAP, [CLASS_SEMICOLON] = EXT_NAME_START, [CLASS_CR] = SIZE_LF},
    [EXT_GAP] = {[CLASS_SPACE] = EXT_GAP, [CLASS_SEMICOLON] = EXT_NAME_START},
};

static void step_ext(struct chunk *c, unsigned char b)
{
    uint8_t next = ext_next[c->state][class_of(b)];
    c->state = next;
    if (next == SIZE)
        bad(c, "a chunk extension is malformed");
    else if (next != SIZE_LF && ++c->ext_bytes > KG_MAX_CHUNK_EXT_BYTES)
        bad(c, "the chunk extensions are larger than 4 KiB");
}

/* --- between payloads ---------------------------------------------------------------------------
 */

static void expect(struct chunk *c, unsigned char b, char wanted, enum state next)
{
    c->state = (uint8_t)next;
    if (b != (unsigned char)wanted)
        bad(c, "a chunk line does not end with CRLF");
}

/* A byte that is neither payload nor trailer. */
static void step(struct chunk *c, unsigned char b)
{
    switch (c->state) {
    case SIZE:
        step_size(c, b);
        break;
    case SIZE_LF:
        expect(c, b, '\n', c->left > 0 ? DATA : LAST_CR);
        break;
    case DATA_CR:
        expect(c, b, '\r', DATA_LF);
        break;
    case DATA_LF:
        expect(c, b, '\n', SIZE);
        c->digits = 0;
        break;
    case LAST_CR:
        expect(c, b, '\r', LAST_LF); /* a trailer's first byte does not come here */
        break;
    case LAST_LF:
        expect(c, b, '\n', END);
        break;
    default:
        step_ext(c, b);
        break;
    }
}

/* --- trailers -----------------------------------------------------------------------------------
 */

/* The section is whole and guarded: may these fields stand in it, and go on? */
static enum chunk_result check_trailers(struct chunk *c)
{
    char *at = c->trailers->data, *end = at + c->trailers->len;
    while (at < end) {
        char *colon = memchr(at, ':', (size_t)(end - at));
        char *lf = memchr(at, '\n', (size_t)(end - at));
        KG_ASSERT(colon && lf && colon < lf); /* the guard saw to it */
        struct kg_str name = {at, (size_t)(colon - at)};
        if (field_flags(field_find(name)) & FIELD_NOT_LAST)
            return refuse(c, PROXY_BAD_REQUEST, "a trailer that only a head may carry");
        if (!field_names_have(&c->dropped, name)) {
            at = lf + 1;
            continue;
        }
        memmove(at, lf + 1, (size_t)(end - lf)); /* with the NUL */
        end -= lf + 1 - at;
    }
    c->trailers->len = (size_t)(end - c->trailers->data);
    c->state = END;
    return CHUNK_END;
}

static enum chunk_result feed_trailers(struct chunk *c, struct kg_str in, size_t *consumed)
{
    size_t before = c->trailers->len, room = c->guard.max_bytes - before;
    size_t n = in.n < room ? in.n : room;
    *consumed = n;
    if (kg_buf_append(c->trailers, in.p, n) == KG_ENOMEM)
        return refuse(c, PROXY_OVERLOADED, "out of memory");
    if (c->trailers->error)
        return refuse(c, PROXY_HEAD_TOO_LARGE, "the trailers are larger than there is room for");
    switch (guard_scan(&c->guard, c->trailers->data, c->trailers->len)) {
    case GUARD_MORE:
        return CHUNK_MORE;
    case GUARD_REFUSED:
        return refuse(c, c->guard.verdict.reason, c->guard.verdict.words);
    case GUARD_DONE:
        break;
    }
    *consumed = c->guard.end - before;
    c->trailers->len = c->guard.end - 2; /* less the blank line */
    c->trailers->data[c->trailers->len] = '\0';
    return check_trailers(c);
}

/* --- the whole ----------------------------------------------------------------------------------
 */

void chunk_init(struct chunk *c, struct kg_buf *trailers, bool from_worker, size_t head_bytes,
                size_t head_fields)
{
    KG_ASSERT(head_bytes <= KG_MAX_HEAD_BYTES && head_fields <= KG_MAX_FIELDS);
    *c = (struct chunk){.state = SIZE, .from_worker = from_worker, .trailers = trailers};
    guard_init(&c->guard, GUARD_TRAILERS);
    guard_limit(&c->guard, KG_MAX_HEAD_BYTES - head_bytes, KG_MAX_FIELDS - head_fields);
}

static enum chunk_result feed_data(struct chunk *c, struct kg_str in, size_t *consumed,
                                   struct kg_str *payload)
{
    size_t n = c->left < in.n ? (size_t)c->left : in.n;
    *payload = (struct kg_str){in.p, n};
    *consumed += n;
    c->left -= n;
    if (c->left == 0)
        c->state = DATA_CR;
    return CHUNK_DATA;
}

enum chunk_result chunk_feed(struct chunk *c, struct kg_str in, size_t *consumed,
                             struct kg_str *payload)
{
    size_t i = 0, taken;
    *payload = (struct kg_str){in.p, 0};
    *consumed = 0;
    while (i < in.n && c->state < END) {
        if (c->state == DATA) {
            *consumed = i;
            return feed_data(c, (struct kg_str){in.p + i, in.n - i}, consumed, payload);
        }
        if (c->state == LAST_CR && in.p[i] != '\r')
            c->state = TRAILERS;
        if (c->state == TRAILERS) {
            enum chunk_result r = feed_trailers(c, (struct kg_str){in.p + i, in.n - i}, &taken);
            *consumed = i + taken;
            return r;
        }
        step(c, (unsigned char)in.p[i++]);
    }
    *consumed = i;
    if (c->state == REFUSED)
        return CHUNK_REFUSED;
    return c->state == END ? CHUNK_END : CHUNK_MORE;
}

size_t chunk_write_head(char out[CHUNK_HEAD_BYTES], uint64_t n)
{
    static const char digits[] = "0123456789abcdef";
    size_t count = 1;
    for (uint64_t rest = n >> 4; rest; rest >>= 4)
        count++;
    for (size_t i = count; i > 0; i--, n >>= 4)
        out[i - 1] = digits[n & 15];
    out[count] = '\r';
    out[count + 1] = '\n';
    return count + 2;
}

int chunk_write_end(struct kg_buf *out, struct kg_str trailer_lines)
{
    kg_buf_append(out, "0\r\n", 3);
    kg_buf_append(out, trailer_lines.p, trailer_lines.n);
    return kg_buf_append(out, CHUNK_TAIL, 2);
}
