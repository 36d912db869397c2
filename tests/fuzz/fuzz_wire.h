/* SPDX-License-Identifier: Apache-2.0 */
/* A reader of requests that knows only the one form in which the proxy may write them. The
 * difficulty: it shares no code with the proxy, so that both are not wrong together. */
#ifndef TESTS_FUZZ_WIRE_H
#define TESTS_FUZZ_WIRE_H

#include "fuzz.h"
#include <strings.h>

struct seen {
    size_t heads;          /* that are whole */
    size_t hosts, ids;     /* fields of the head at hand */
    bool chunked, upgrade; /* of the head at hand */
    bool has_length;
    uint64_t length;
};

static inline bool is_name(struct kg_str line, const char *name)
{
    size_t n = strlen(name);

    return line.n > n && line.p[n] == ':' && strncasecmp(line.p, name, n) == 0;
}

static inline struct kg_str value_of(struct kg_str line)
{
    const char *colon = memchr(line.p, ':', line.n);

    KG_ASSERT(colon && colon > line.p);
    for (const char *c = line.p; c < colon; c++)
        KG_ASSERT(*c > ' ' && *c < 0x7f && !strchr("\"(),/:;<=>?@[\\]{}", *c));
    return kg_str_trim((struct kg_str){colon + 1, line.n - (size_t)(colon + 1 - line.p)});
}

static inline void seen_field(struct seen *s, struct kg_str line)
{
    struct kg_str value = value_of(line);

    for (size_t i = 0; i < line.n; i++)
        KG_ASSERT(((unsigned char)line.p[i] >= ' ' && line.p[i] != 0x7f) || line.p[i] == '\t');
    s->hosts += is_name(line, "host");
    s->ids += is_name(line, "x-request-id");
    if (is_name(line, "transfer-encoding")) {
        KG_ASSERT(!s->chunked && !s->has_length && kg_str_eq(value, KG_STR("chunked")));
        s->chunked = true;
    }
    if (is_name(line, "content-length")) {
        KG_ASSERT(!s->chunked && !s->has_length && value.n > 0 && value.n < 20);
        for (size_t i = 0; i < value.n; i++) {
            KG_ASSERT(value.p[i] >= '0' && value.p[i] <= '9');
            s->length = s->length * 10 + (uint64_t)(value.p[i] - '0');
        }
        s->has_length = true;
    }
    s->upgrade |= is_name(line, "upgrade");
    KG_ASSERT(!is_name(line, "keep-alive") && !is_name(line, "proxy-connection") &&
              !is_name(line, "http2-settings") && !is_name(line, "x-forwarded"));
}

/* The next line, without its CRLF; false: it is not whole. */
static inline bool next_line(struct kg_str *in, struct kg_str *line)
{
    const char *lf = in->n ? memchr(in->p, '\n', in->n) : NULL;

    if (!lf)
        return false;
    KG_ASSERT(lf > in->p && lf[-1] == '\r');
    *line = (struct kg_str){in->p, (size_t)(lf - 1 - in->p)};
    KG_ASSERT(!line->n || !memchr(line->p, '\r', line->n));
    in->n -= (size_t)(lf + 1 - in->p);
    in->p = lf + 1;
    return true;
}

static inline bool seen_head(struct seen *s, struct kg_str *in)
{
    struct kg_str line;
    const char *space;

    if (!next_line(in, &line))
        return false;
    space = memchr(line.p, ' ', line.n);
    KG_ASSERT(space && space > line.p && line.n > 12);
    KG_ASSERT(space[1] == '/' || (space[1] == '*' && space[2] == ' '));
    KG_ASSERT(memcmp(line.p + line.n - 9, " HTTP/1.1", 9) == 0);
    KG_ASSERT(memchr(space + 1, ' ', line.n - (size_t)(space + 1 - line.p)) == line.p + line.n - 9);
    *s = (struct seen){.heads = s->heads};
    do {
        if (!next_line(in, &line))
            return false;
        if (line.n > 0)
            seen_field(s, line);
    } while (line.n > 0);
    KG_ASSERT(s->hosts == 1 && s->ids <= 1);
    s->heads++;
    return true;
}

/* Lower-case size, CRLF, so many bytes, CRLF; "0", trailers, an empty line; what it carries goes to
 * `body` if that is not NULL. False: not whole. */
static inline bool seen_chunks_into(struct kg_str *in, struct kg_buf *body)
{
    struct kg_str line;
    uint64_t n;

    do {
        if (!next_line(in, &line))
            return false;
        KG_ASSERT(line.n > 0 && line.n <= 16 && (line.n == 1 || line.p[0] != '0'));
        n = 0;
        for (size_t i = 0; i < line.n; i++) {
            const char *digits = "0123456789abcdef", *at = memchr(digits, line.p[i], 16);
            KG_ASSERT(at);
            n = n * 16 + (uint64_t)(at - digits);
        }
        if (n > 0 && in->n < n + 2)
            return false;
        if (n > 0)
            KG_ASSERT(in->p[n] == '\r' && in->p[n + 1] == '\n');
        if (body)
            kg_buf_append(body, in->p, (size_t)n);
        in->p += n > 0 ? n + 2 : 0;
        in->n -= n > 0 ? n + 2 : 0;
    } while (n > 0);
    do {
        if (!next_line(in, &line))
            return false;
        if (line.n > 0)
            value_of(line);
    } while (line.n > 0);
    return true;
}

static inline bool seen_chunks(struct kg_str *in)
{
    return seen_chunks_into(in, NULL);
}

/* Takes one whole request from the front of `in`: its method, what it carries. False: it is not
 * whole. */
static inline bool seen_request(struct kg_str *in, struct seen *s, struct kg_str *method,
                                struct kg_buf *body)
{
    struct kg_str rest = *in;

    kg_buf_clear(body);
    if (rest.n == 0 || !seen_head(s, &rest))
        return false;
    *method = (struct kg_str){in->p, (size_t)((const char *)memchr(in->p, ' ', in->n) - in->p)};
    if (s->chunked && !seen_chunks_into(&rest, body))
        return false;
    if (s->length > rest.n)
        return false;
    kg_buf_append(body, rest.p, (size_t)s->length);
    *in = (struct kg_str){rest.p + s->length, rest.n - (size_t)s->length};
    return true;
}

/* Whole requests, the last of which may be cut short. Gives how many begin in it. */
static inline size_t requests_in(struct kg_str in)
{
    struct seen s = {0};

    while (in.n > 0 && seen_head(&s, &in)) {
        if (s.upgrade)
            break; /* what follows may be anything */
        if (s.chunked && !seen_chunks(&in))
            break;
        if (s.length > in.n)
            break;
        in.p += s.length;
        in.n -= (size_t)s.length;
    }
    return s.heads;
}

/* --- answers ------------------------------------------------------------------------------- */

/* A status line as we write it; 0: none. */
static inline int status_of(struct kg_str line)
{
    KG_ASSERT(line.n >= 13 && memcmp(line.p, "HTTP/1.1 ", 9) == 0 && line.p[12] == ' ');
    KG_ASSERT(line.p[9] >= '1' && line.p[9] <= '5');
    return (line.p[9] - '0') * 100 + (line.p[10] - '0') * 10 + (line.p[11] - '0');
}

static inline bool answer_head(struct kg_str *in, struct seen *s, int *status)
{
    struct kg_str line;

    *s = (struct seen){0};
    if (!next_line(in, &line))
        return false;
    *status = status_of(line);
    do {
        if (!next_line(in, &line))
            return false;
        if (line.n > 0)
            seen_field(s, line);
    } while (line.n > 0);
    return true;
}

/* How many final answers begin in it. *open: the last may be followed by anything. */
static inline size_t answers_in(struct kg_str in, bool head, bool *open)
{
    size_t count = 0;
    struct seen s;
    int status;

    *open = false;
    while (in.n > 0 && answer_head(&in, &s, &status)) {
        if (status == 101) {
            *open = true;
            return count + 1;
        }
        if (status < 200) {
            KG_ASSERT(!s.chunked && !s.has_length);
            continue;
        }
        count++;
        if (head || status == 204 || status == 304)
            continue;
        *open = !s.chunked && !s.has_length;
        if (*open || (s.chunked && !seen_chunks(&in)) || s.length > in.n)
            return count;
        in.p += s.length;
        in.n -= (size_t)s.length;
    }
    return count;
}

#endif
