/* SPDX-License-Identifier: Apache-2.0 */
/* The guard's machine: one step function a state, each of which takes all bytes of its element.
 * The difficulty: it may stop after any byte and must go on there, deciding as early as it can. */
#include "proxy/guard.h"
#include "base/err.h"

#define MAX_METHOD_BYTES 32
#define VERSION_BYTES 8 /* "HTTP/1.1" */
#define STATUS_BYTES 3

enum state {
    FIRST,    /* the first byte of a start line, or of an empty line before it */
    EMPTY_LF, /* the LF of that empty line */
    METHOD,
    TARGET,
    VERSION,
    STATUS,
    PHRASE_GAP, /* what comes behind the status */
    PHRASE,
    LINE_CR, /* the CR that must follow a request's version */
    LINE_LF, /* the LF that must follow a CR */
    NAME_FIRST,
    NAME,
    VALUE,
    LAST_LF /* the LF of the blank line */
};
/* Behind them: there is nothing more to step. */
enum ended { DONE = LAST_LF + 1, REFUSED };

/* tchar: "!#$%&'*+-.^_`|~", digits, letters. */
static const uint8_t tchar[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1,
    ['-'] = 1, ['.'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1,  ['~'] = 1, ['0'] = 1,
    ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1,  ['7'] = 1, ['8'] = 1,
    ['9'] = 1, ['A'] = 1, ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1,  ['F'] = 1, ['G'] = 1,
    ['H'] = 1, ['I'] = 1, ['J'] = 1, ['K'] = 1, ['L'] = 1, ['M'] = 1,  ['N'] = 1, ['O'] = 1,
    ['P'] = 1, ['Q'] = 1, ['R'] = 1, ['S'] = 1, ['T'] = 1, ['U'] = 1,  ['V'] = 1, ['W'] = 1,
    ['X'] = 1, ['Y'] = 1, ['Z'] = 1, ['a'] = 1, ['b'] = 1, ['c'] = 1,  ['d'] = 1, ['e'] = 1,
    ['f'] = 1, ['g'] = 1, ['h'] = 1, ['i'] = 1, ['j'] = 1, ['k'] = 1,  ['l'] = 1, ['m'] = 1,
    ['n'] = 1, ['o'] = 1, ['p'] = 1, ['q'] = 1, ['r'] = 1, ['s'] = 1,  ['t'] = 1, ['u'] = 1,
    ['v'] = 1, ['w'] = 1, ['x'] = 1, ['y'] = 1, ['z'] = 1,
};

bool guard_is_tchar(unsigned char c)
{
    return tchar[c];
}

bool guard_is_token(struct kg_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!tchar[(unsigned char)s.p[i]])
            return false;
    return s.n > 0;
}

static size_t refuse(struct guard *g, size_t i, enum proxy_reason reason, const char *words)
{
    g->state = REFUSED;
    g->verdict.reason = g->kind == GUARD_RESPONSE ? PROXY_UPSTREAM_FAILED : reason;
    g->verdict.words = words;
    return i;
}

static size_t bad(struct guard *g, size_t i, const char *words)
{
    return refuse(g, i, PROXY_BAD_REQUEST, words);
}

/* Enters `state` at byte i, where its element begins. */
static size_t enter(struct guard *g, unsigned state, size_t i)
{
    g->state = (uint8_t)state;
    g->mark = (uint32_t)i;
    return i;
}

static size_t step_first(struct guard *g, const unsigned char *b, size_t i)
{
    if (b[i] == '\r' && g->kind == GUARD_REQUEST) {
        if (g->start > 0)
            return bad(g, i, "more than one empty line before the request line");
        return enter(g, EMPTY_LF, i + 1);
    }
    g->start = (uint32_t)i;
    return enter(g, g->kind == GUARD_RESPONSE ? VERSION : METHOD, i);
}

static size_t step_empty_lf(struct guard *g, const unsigned char *b, size_t i)
{
    if (b[i] != '\n')
        return bad(g, i, "a bare CR before the request line");
    g->start = (uint32_t)(i + 1);
    return enter(g, FIRST, i + 1);
}

static size_t step_method(struct guard *g, const unsigned char *b, size_t i, size_t n)
{
    while (i < n && tchar[b[i]])
        i++;
    if (i - g->mark > MAX_METHOD_BYTES)
        return bad(g, i, "the method is too long");
    if (i == n)
        return i;
    if (b[i] != ' ' || i == g->mark)
        return bad(g, i, "the request line does not begin with a method and a space");
    g->target = (uint32_t)(i + 1);
    return enter(g, TARGET, i + 1);
}

static size_t step_target(struct guard *g, const unsigned char *b, size_t i, size_t n)
{
    while (i < n && b[i] > ' ' && b[i] < 0x7f)
        i++;
    if (i - g->mark > KG_MAX_TARGET_BYTES)
        return refuse(g, i, PROXY_URI_TOO_LONG, "the request target is longer than 8 KiB");
    if (i == n)
        return i;
    if (b[i] != ' ')
        return bad(g, i,
                   b[i] > 0x7f                    ? "the request target has a raw byte beyond ASCII"
                   : b[i] == '\r' || b[i] == '\n' ? "the request line has no HTTP version"
                                                  : "the request target has a control byte");
    if (i == g->mark)
        return bad(g, i, "the request line has more than one space between its parts");
    g->target_n = (uint32_t)(i - g->mark);
    return enter(g, VERSION, i + 1);
}

/* The version is whole: what follows depends on the kind of head. */
static size_t end_version(struct guard *g, size_t i)
{
    if (g->major != 1)
        return refuse(g, i, PROXY_VERSION_NOT_SUPPORTED, "the HTTP version is not 1.x");
    return enter(g, g->kind == GUARD_RESPONSE ? STATUS : LINE_CR, i);
}

static size_t step_version(struct guard *g, const unsigned char *b, size_t i, size_t n)
{
    static const char form[] = "HTTP/d.d";
    if (i == g->mark && n - i > VERSION_BYTES && memcmp(b + i, "HTTP/1.1", VERSION_BYTES) == 0) {
        g->major = g->minor = 1; /* the usual one, at a glance */
        return end_version(g, i + VERSION_BYTES);
    }
    for (; i < n; i++) {
        size_t k = i - g->mark;
        if (k == VERSION_BYTES)
            return end_version(g, i);
        if (form[k] == 'd' ? b[i] < '0' || b[i] > '9' : b[i] != (unsigned char)form[k])
            return bad(g, i, "the start line has no well-formed HTTP version");
        if (k == VERSION_BYTES - 3)
            g->major = (uint8_t)(b[i] - '0');
        if (k == VERSION_BYTES - 1)
            g->minor = (uint8_t)(b[i] - '0');
    }
    return i;
}

/* Entered at the space before the status. */
static size_t step_status(struct guard *g, const unsigned char *b, size_t i, size_t n)
{
    for (; i < n; i++) {
        size_t k = i - g->mark;
        if (k == 0 ? b[i] != ' ' : b[i] < '0' || b[i] > '9')
            return bad(g, i, "the status line has no three-digit status");
        if (k > 0)
            g->status = (uint16_t)(g->status * 10 + (b[i] - '0'));
        if (k == STATUS_BYTES) {
            if (g->status < 100 || g->status > 599)
                return bad(g, i, "the status is not between 100 and 599");
            return enter(g, PHRASE_GAP, i + 1);
        }
    }
    return i;
}

static size_t step_phrase_gap(struct guard *g, const unsigned char *b, size_t i)
{
    if (b[i] == ' ')
        return enter(g, PHRASE, i + 1);
    if (b[i] == '\r')
        return enter(g, LINE_LF, i + 1);
    return bad(g, i, "the status is not followed by a space or CRLF");
}

static size_t step_line_cr(struct guard *g, const unsigned char *b, size_t i)
{
    if (b[i] != '\r')
        return bad(g, i, "the request line does not end with CRLF behind its version");
    return enter(g, LINE_LF, i + 1);
}

static size_t step_line_lf(struct guard *g, const unsigned char *b, size_t i)
{
    if (b[i] != '\n')
        return bad(g, i, "a bare CR in the head");
    return enter(g, NAME_FIRST, i + 1);
}

static size_t step_name_first(struct guard *g, const unsigned char *b, size_t i)
{
    if (b[i] == '\r')
        return enter(g, LAST_LF, i + 1);
    if (b[i] == ' ' || b[i] == '\t')
        return bad(g, i, "a folded line, or a space before a field name");
    if (b[i] == ':')
        return bad(g, i, "an empty field name");
    if (b[i] == '\n')
        return bad(g, i, "a bare LF in the head");
    if (g->fields == g->max_fields)
        return refuse(g, i, PROXY_HEAD_TOO_LARGE, "the head has more than 100 fields");
    g->fields++;
    return enter(g, NAME, i);
}

static size_t step_name(struct guard *g, const unsigned char *b, size_t i, size_t n)
{
    while (i < n && tchar[b[i]])
        i++;
    if (i == n)
        return i;
    if (b[i] == ':')
        return enter(g, VALUE, i + 1);
    if (b[i] == ' ' || b[i] == '\t')
        return bad(g, i, "a space between a field name and its colon");
    if (b[i] == '\r' || b[i] == '\n')
        return bad(g, i, "a field line without a colon");
    return bad(g, i, "a field name has a byte that is not allowed");
}

/* Skips eight bytes at a time while none of them is a control or DEL. A tab stops it too: the
 * caller looks at that byte and comes back. */
static size_t skip_plain(const unsigned char *b, size_t i, size_t n)
{
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    for (; i + 8 <= n; i += 8) {
        uint64_t x, del;
        memcpy(&x, b + i, 8);
        del = x ^ (ones * 0x7f);
        if ((((x - ones * 0x20) & ~x) | ((del - ones) & ~del)) & highs)
            break;
    }
    return i;
}

static size_t skip_value(const unsigned char *b, size_t i, size_t n)
{
    for (;;) {
        i = skip_plain(b, i, n);
        size_t stop = i + 8 < n ? i + 8 : n;
        while (i < stop && ((b[i] >= ' ' && b[i] != 0x7f) || b[i] == '\t'))
            i++;
        if (i < stop || i == n)
            return i;
    }
}

static size_t step_value(struct guard *g, const unsigned char *b, size_t i, size_t n)
{
    i = skip_value(b, i, n);
    if (i == n)
        return i;
    if (b[i] == '\r')
        return enter(g, LINE_LF, i + 1);
    return bad(g, i,
               b[i] == '\n' ? "a bare LF in the head"
               : b[i] == 0  ? "a NUL in the head"
                            : "a control byte in the head");
}

static size_t step_last_lf(struct guard *g, const unsigned char *b, size_t i)
{
    if (b[i] != '\n')
        return bad(g, i, "a bare CR where the head should end");
    g->end = (uint32_t)(i + 1);
    return enter(g, DONE, i + 1);
}

static inline size_t step(struct guard *g, const unsigned char *b, size_t i, size_t n)
{
    switch (g->state) {
    case FIRST:
        return step_first(g, b, i);
    case EMPTY_LF:
        return step_empty_lf(g, b, i);
    case METHOD:
        return step_method(g, b, i, n);
    case TARGET:
        return step_target(g, b, i, n);
    case VERSION:
        return step_version(g, b, i, n);
    case STATUS:
        return step_status(g, b, i, n);
    case PHRASE_GAP:
        return step_phrase_gap(g, b, i);
    case LINE_CR:
        return step_line_cr(g, b, i);
    case LINE_LF:
        return step_line_lf(g, b, i);
    case NAME_FIRST:
        return step_name_first(g, b, i);
    case NAME:
        return step_name(g, b, i, n);
    case PHRASE:
    case VALUE:
        return step_value(g, b, i, n);
    default: /* LAST_LF: it is all that is left, and one forgotten above would be refused by it */
        return step_last_lf(g, b, i);
    }
}

void guard_init(struct guard *g, enum guard_kind kind)
{
    *g = (struct guard){.kind = (uint8_t)kind,
                        .state = kind == GUARD_TRAILERS ? NAME_FIRST : FIRST,
                        .max_bytes = KG_MAX_HEAD_BYTES,
                        .max_fields = KG_MAX_FIELDS};
}

void guard_limit(struct guard *g, size_t max_bytes, size_t max_fields)
{
    KG_ASSERT(max_bytes <= KG_MAX_HEAD_BYTES && max_fields <= KG_MAX_FIELDS);
    g->max_bytes = (uint32_t)max_bytes;
    g->max_fields = (uint32_t)max_fields;
}

enum guard_result guard_scan(struct guard *g, const char *bytes, size_t n)
{
    const unsigned char *b = (const unsigned char *)bytes;
    size_t stop = n < g->max_bytes ? n : g->max_bytes;
    size_t i = g->at;

    KG_ASSERT(i <= n);
    while (i < stop && g->state < DONE)
        i = step(g, b, i, stop);
    g->at = (uint32_t)i;
    if (g->state < DONE && n >= g->max_bytes)
        refuse(g, i, PROXY_HEAD_TOO_LARGE, "the head is larger than 64 KiB");
    if (g->state == DONE)
        return GUARD_DONE;
    return g->state == REFUSED ? GUARD_REFUSED : GUARD_MORE;
}
