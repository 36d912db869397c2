/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a request target by its four forms, and the Host beside it.
 * The difficulty: a dot segment has many spellings, and a worker may read any of them. */
#include "proxy/target.h"

#define MAX_PORT 65535
#define MAX_PORT_DIGITS 5
#define MAX_IPV6_BYTES 45
#define NO_PORT (-1)
#define HTTPS_PORT 443

static int hex(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that starts at path[*i] after decoding; moves *i to its last byte. -1: not an escape. */
static int decoded(struct kg_str path, size_t *i)
{
    unsigned char c = (unsigned char)path.p[*i];
    if (c != '%')
        return c;
    if (path.n - *i < 3)
        return -1;
    int high = hex((unsigned char)path.p[*i + 1]), low = hex((unsigned char)path.p[*i + 2]);
    if (high < 0 || low < 0)
        return -1;
    *i += 2;
    return high * 16 + low;
}

const char *target_check_path(struct kg_str path)
{
    int dots = -1; /* of a segment that is nothing but dots so far; -1: it is something else */
    if (path.n == 0 || path.p[0] != '/')
        return "the path does not begin with a slash";
    for (size_t i = 0; i < path.n; i++) {
        unsigned char raw = (unsigned char)path.p[i];
        if (raw <= ' ' || raw >= 0x7f || raw == '\\' || raw == '#')
            return "the path has a byte that must be percent-encoded";
        int c = decoded(path, &i);
        if (c <= 0)
            return c ? "the path has a percent sign without two hex digits"
                     : "the path has an encoded NUL";
        if (c == '.') {
            dots += dots >= 0;
        } else if (c == '/' || c == '\\' || c == ';') {
            if (dots == 1 || dots == 2)
                return "the path has a dot segment";
            dots = c == ';' ? -1 : 0;
        } else {
            dots = -1;
        }
    }
    return dots == 1 || dots == 2 ? "the path has a dot segment" : NULL;
}

/* Bytes of the host at the start of `s`, port excluded; 0: not a host. */
static size_t host_span(struct kg_str s)
{
    size_t i = 0;
    if (s.n > 0 && s.p[0] == '[') {
        for (i = 1; i < s.n && (hex((unsigned char)s.p[i]) >= 0 || s.p[i] == ':' || s.p[i] == '.');)
            i++;
        return i < s.n && s.p[i] == ']' && i > 2 && i <= MAX_IPV6_BYTES ? i + 1 : 0;
    }
    for (; i < s.n && s.p[i] != ':'; i++) {
        unsigned char c = (unsigned char)s.p[i], letter = c | 0x20;
        bool plain = (letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9');
        bool label_end = c == '.' && i > 0 && s.p[i - 1] != '.';
        if (!plain && !label_end && c != '-' && c != '_')
            return 0;
    }
    return i;
}

/* The port behind a host: NO_PORT when there is none or it is empty; -2: not a port. */
static int port_of(struct kg_str s)
{
    int port = 0;
    if (s.n <= 1)
        return s.n == 0 || s.p[0] == ':' ? NO_PORT : -2;
    if (s.p[0] != ':' || s.n > 1 + MAX_PORT_DIGITS)
        return -2;
    for (size_t i = 1; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -2;
        port = port * 10 + (s.p[i] - '0');
    }
    return port <= MAX_PORT ? port : -2;
}

static const char *read_host(struct kg_str s, struct target *out, int *port)
{
    size_t n = host_span(s);
    if (s.n == 0)
        return "the host is empty";
    if (n == 0 || n > TARGET_MAX_HOST_BYTES)
        return "the host is not a name or an address";
    *port = port_of((struct kg_str){s.p + n, s.n - n});
    if (*port < NO_PORT)
        return "the host has a port that is none";
    if (!out)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        char c = s.p[i];
        out->host[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    out->host_n = (uint32_t)(s.p[n - 1] == '.' ? n - 1 : n);
    out->host[out->host_n] = '\0';
    return NULL;
}

const char *target_check_host(struct kg_str host, struct target *out)
{
    int port;
    return read_host(host, out, &port);
}

static const struct scheme {
    struct kg_str prefix;
    int port;
} schemes[] = {{{"http://", 7}, 80}, {{"https://", 8}, HTTPS_PORT}};

static const struct scheme *scheme_of(struct kg_str raw)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        struct kg_str prefix = schemes[i].prefix;
        if (raw.n >= prefix.n && kg_str_eq_nocase((struct kg_str){raw.p, prefix.n}, prefix))
            return &schemes[i];
    }
    return NULL;
}

/* Splits "/path?query" at the first '?'. */
static const char *split(struct kg_str s, struct target *out)
{
    const char *mark = memchr(s.p, '?', s.n);
    size_t n = mark ? (size_t)(mark - s.p) : s.n;
    out->path = (struct kg_str){s.p, n};
    out->query = (struct kg_str){s.p + n, s.n - n};
    if (out->query.n > 0 && memchr(out->query.p, '#', out->query.n))
        return "the request target has a fragment";
    return target_check_path(out->path);
}

/* Host and absolute-form authority must be one and the same; the default port may be left out. */
static const char *agree(const struct scheme *scheme, struct kg_str host, const struct target *t,
                         int port)
{
    struct target other;
    int other_port;
    const char *wrong = read_host(host, &other, &other_port);
    if (wrong)
        return wrong;
    if ((port == NO_PORT ? scheme->port : port) !=
            (other_port == NO_PORT ? scheme->port : other_port) ||
        !kg_str_eq(target_host(&other), target_host(t)))
        return "Host is not the authority of the request target";
    return NULL;
}

static const char *parse_absolute(const struct scheme *scheme, struct kg_str raw, bool options,
                                  const struct kg_str *host, struct target *out)
{
    struct kg_str rest = {raw.p + scheme->prefix.n, raw.n - scheme->prefix.n};
    size_t n = 0;
    int port = NO_PORT;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?' && rest.p[n] != '#')
        n++;
    out->form = TARGET_ABSOLUTE;
    out->https = scheme->port == HTTPS_PORT;
    out->authority = (struct kg_str){rest.p, n};
    const char *wrong = read_host(out->authority, out, &port);
    if (!wrong && host)
        wrong = agree(scheme, *host, out, port);
    if (wrong)
        return wrong;
    rest = (struct kg_str){rest.p + n, rest.n - n};
    if (rest.n > 0 && rest.p[0] == '/')
        return split(rest, out);
    if (rest.n > 0 && (rest.p[0] == '#' || memchr(rest.p, '#', rest.n)))
        return "the request target has a fragment";
    out->path = options && rest.n == 0 ? KG_STR("*") : KG_STR("/"); /* RFC 9112 3.2.4 */
    out->query = rest;
    return NULL;
}

const char *target_parse(struct kg_str raw, bool options, const struct kg_str *host,
                         struct target *out)
{
    const struct scheme *scheme = raw.n > 0 && raw.p[0] != '/' ? scheme_of(raw) : NULL;
    int port;

    out->form = TARGET_ORIGIN;
    out->https = false;
    out->host_n = 0;
    out->host[0] = '\0';
    out->query = out->path = out->authority = KG_STR("");
    if (scheme)
        return parse_absolute(scheme, raw, options, host, out);
    if (host) {
        const char *wrong = read_host(*host, out, &port);
        if (wrong)
            return wrong;
        out->authority = *host;
    }
    if (raw.n == 1 && raw.p[0] == '*') {
        out->form = TARGET_ASTERISK;
        out->path = KG_STR("*");
        return options ? NULL : "the target * belongs to OPTIONS alone";
    }
    if (raw.n == 0 || raw.p[0] != '/')
        return "the request target is neither a path nor an http URL";
    return split(raw, out);
}
