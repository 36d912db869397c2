/* SPDX-License-Identifier: Apache-2.0 */
/* What a head and a chunked body may be by the rules, written down once more in the plainest way
 * and for the whole at once. The difficulty: nothing that is accepted may be outside of this. */
#ifndef TESTS_FUZZ_GRAMMAR_H
#define TESTS_FUZZ_GRAMMAR_H

#include "fuzz.h"

static inline bool g_tchar(char c)
{
    return c && ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
                 strchr("!#$%&'*+-.^_`|~", c));
}

static inline bool g_text(char c)
{
    return c == '\t' || ((unsigned char)c >= ' ' && c != 0x7f);
}

static inline size_t g_token(struct kg_str s)
{
    size_t n = 0;

    while (n < s.n && g_tchar(s.p[n]))
        n++;
    return n;
}

static inline void g_skip(struct kg_str *s, size_t n)
{
    s->p += n;
    s->n -= n;
}

static inline void g_blanks(struct kg_str *s)
{
    while (s->n > 0 && (*s->p == ' ' || *s->p == '\t'))
        g_skip(s, 1);
}

/* Up to CRLF, which is taken along. False: there is none. */
static inline bool g_line(struct kg_str *in, struct kg_str *line)
{
    const char *end = in->n ? memmem(in->p, in->n, "\r\n", 2) : NULL;

    if (!end)
        return false;
    *line = (struct kg_str){in->p, (size_t)(end - in->p)};
    g_skip(in, line->n + 2);
    return true;
}

static inline bool g_field(struct kg_str line)
{
    size_t n = g_token(line);

    if (n == 0 || n == line.n || line.p[n] != ':')
        return false;
    for (; n < line.n; n++)
        if (!g_text(line.p[n]))
            return false;
    return true;
}

/* Lines of fields and an empty one. */
static inline bool g_fields(struct kg_str *in)
{
    struct kg_str line;

    while (g_line(in, &line)) {
        if (line.n == 0)
            return true;
        if (!g_field(line))
            return false;
    }
    return false;
}

static inline bool g_version(struct kg_str s)
{
    return s.n == 8 && memcmp(s.p, "HTTP/1.", 7) == 0 && s.p[7] >= '0' && s.p[7] <= '9';
}

/* METHOD SP TARGET SP VERSION */
static inline bool g_request_line(struct kg_str line)
{
    size_t n = g_token(line);

    if (n == 0 || n == line.n || line.p[n] != ' ')
        return false;
    g_skip(&line, n + 1);
    for (n = 0; n < line.n && line.p[n] > ' ' && line.p[n] < 0x7f; n++)
        ;
    if (n == 0 || n == line.n || line.p[n] != ' ')
        return false;
    g_skip(&line, n + 1);
    return g_version(line);
}

/* VERSION SP 3DIGIT [SP PHRASE] */
static inline bool g_status_line(struct kg_str line)
{
    if (line.n < 12 || !g_version((struct kg_str){line.p, 8}) || line.p[8] != ' ' ||
        line.p[9] < '1' || line.p[9] > '5')
        return false;
    for (int i = 10; i < 12; i++)
        if (line.p[i] < '0' || line.p[i] > '9')
            return false;
    for (size_t i = 12; i < line.n; i++)
        if (!g_text(line.p[i]))
            return false;
    return line.n == 12 || line.p[12] == ' ';
}

static inline bool g_head(struct kg_str in, bool response)
{
    struct kg_str line;

    if (!response && in.n > 1 && in.p[0] == '\r' && in.p[1] == '\n')
        g_skip(&in, 2); /* one empty line is tolerated */
    return g_line(&in, &line) && (response ? g_status_line(line) : g_request_line(line)) &&
           g_fields(&in) && in.n == 0;
}

/* --- chunks -------------------------------------------------------------------------------- */

static inline bool g_quoted(struct kg_str *s)
{
    for (g_skip(s, 1); s->n > 0 && *s->p != '"'; g_skip(s, 1)) {
        if (*s->p == '\\')
            g_skip(s, 1);
        if (s->n == 0 || !g_text(*s->p))
            return false;
    }
    if (s->n == 0)
        return false;
    g_skip(s, 1);
    return true;
}

/* *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ), the first without a blank. */
static inline bool g_extensions(struct kg_str s)
{
    while (s.n > 0) {
        size_t n;
        if (*s.p != ';')
            return false;
        g_skip(&s, 1);
        g_blanks(&s);
        n = g_token(s);
        if (n == 0)
            return false;
        g_skip(&s, n);
        if (s.n == 0)
            return true;
        g_blanks(&s);
        if (s.n > 0 && *s.p == '=') {
            g_skip(&s, 1);
            g_blanks(&s);
            n = g_token(s);
            if (n == 0 && (s.n == 0 || *s.p != '"' || !g_quoted(&s)))
                return false;
            g_skip(&s, n);
            if (s.n == 0)
                return true;
            g_blanks(&s);
        }
        if (s.n == 0)
            return false; /* blanks at the end */
    }
    return true;
}

static inline bool g_chunks(struct kg_str in)
{
    struct kg_str line;

    while (g_line(&in, &line)) {
        uint64_t size = 0;
        size_t n = 0;
        for (; n < line.n && n < 17; n++) {
            const char *digits = "0123456789abcdef", c = line.p[n];
            const char *at = strchr(digits, c >= 'A' && c <= 'F' ? c | 0x20 : c);
            if (!c || !at)
                break;
            size = size * 16 + (uint64_t)(at - digits);
        }
        if (n == 0 || n > 16 || size > INT64_MAX ||
            !g_extensions((struct kg_str){line.p + n, line.n - n}))
            return false;
        if (size == 0)
            return g_fields(&in) && in.n == 0;
        if (in.n < 2 || size > in.n - 2 || memcmp(in.p + size, "\r\n", 2) != 0)
            return false;
        g_skip(&in, (size_t)size + 2);
    }
    return false;
}

#endif
