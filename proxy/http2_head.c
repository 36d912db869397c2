/* SPDX-License-Identifier: Apache-2.0 */
/* Fields into lines and lines into fields.
 * The difficulty: a line's end, a space or a colon inside a field would become another line or
 * another part of the start line; each is refused here although nghttp2 looks for them, too. */
#include "base/err.h"
#include "proxy/http2_head_priv.h"

#define BAD(words) ((struct guard_verdict){PROXY_BAD_REQUEST, (words)})
#define STATUS_AT 9 /* behind "HTTP/1.1 " */
#define STATUS_BYTES 3

/* What is known of a head before its lines are written. */
struct parts {
    struct kg_str method, scheme, authority, path, protocol, status;
    struct kg_str host;
    bool has_length, has_host, has_authority;
    unsigned cookies, first; /* of the fields behind the pseudo-fields */
};

struct text {
    char *start, *at;
};

static void put(struct text *t, struct kg_str s)
{
    KG_ASSERT((size_t)(t->at - t->start) + s.n <= HTTP2_TEXT_BYTES);
    if (s.n > 0)
        memcpy(t->at, s.p, s.n);
    t->at += s.n;
}
#define PUT(t, literal) put((t), KG_STR(literal))

static void put_line(struct text *t, struct kg_str name, struct kg_str value)
{
    put(t, name);
    PUT(t, ": ");
    put(t, value);
    PUT(t, "\r\n");
}

static struct guard_verdict finish(struct text *t, size_t *n)
{
    PUT(t, "\r\n");
    *n = (size_t)(t->at - t->start);
    return GUARD_FINE;
}

/* --- what a field may look like ------------------------------------------------------------ */

static bool is_name(struct kg_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!guard_is_tchar((unsigned char)s.p[i]) || (s.p[i] >= 'A' && s.p[i] <= 'Z'))
            return false;
    return s.n > 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Other controls are the guard's business, with an answer. */
static bool is_value(struct kg_str s)
{
    if (s.n == 0)
        return true;
    return !is_blank(s.p[0]) && !is_blank(s.p[s.n - 1]) && !memchr(s.p, '\r', s.n) &&
           !memchr(s.p, '\n', s.n) && !memchr(s.p, '\0', s.n);
}

/* In a start line a space ends a part. */
static bool is_part(struct kg_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
            return false;
    return s.n > 0;
}

/* The names that need care here; what all others mean is asked later, of the text. */
enum meaning { PLAIN, HOST, LENGTH, COOKIE, TE, OF_CONNECTION };

static enum meaning meaning_of(struct kg_str name)
{
    static const struct {
        struct kg_str name;
        enum meaning meaning;
    } known[] = {
        {{"te", 2}, TE},
        {{"host", 4}, HOST},
        {{"cookie", 6}, COOKIE},
        {{"upgrade", 7}, OF_CONNECTION},
        {{"connection", 10}, OF_CONNECTION},
        {{"keep-alive", 10}, OF_CONNECTION},
        {{"content-length", 14}, LENGTH},
        {{"proxy-connection", 16}, OF_CONNECTION},
        {{"transfer-encoding", 17}, OF_CONNECTION},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].name.n == name.n && known[i].name.p[0] == name.p[0] &&
            memcmp(known[i].name.p, name.p, name.n) == 0)
            return known[i].meaning;
    return PLAIN;
}

/* --- reading fields ------------------------------------------------------------------------ */

static struct guard_verdict read_pseudo(struct parts *p, const struct http2_field *f, bool request)
{
    static const struct {
        struct kg_str name;
        size_t at;
        bool request;
    } known[] = {
        {{":method", 7}, offsetof(struct parts, method), true},
        {{":scheme", 7}, offsetof(struct parts, scheme), true},
        {{":authority", 10}, offsetof(struct parts, authority), true},
        {{":path", 5}, offsetof(struct parts, path), true},
        {{":protocol", 9}, offsetof(struct parts, protocol), true},
        {{":status", 7}, offsetof(struct parts, status), false},
    };

    if (!is_part(f->value))
        return BAD("a pseudo-field is empty or has a byte that is not allowed");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct kg_str *value = (void *)((char *)p + known[i].at);
        if (known[i].request != request || !kg_str_eq(known[i].name, f->name))
            continue;
        if (value->p)
            return BAD("a pseudo-field twice");
        *value = f->value;
        return GUARD_FINE;
    }
    return BAD("a pseudo-field that is not known");
}

static struct guard_verdict read_field(struct parts *p, const struct http2_field *f)
{
    if (!is_name(f->name))
        return BAD("a field name is empty, in upper case or has a byte that is not allowed");
    if (!is_value(f->value))
        return BAD("a field value begins or ends with a blank, or has a CR, LF or NUL");
    switch (meaning_of(f->name)) {
    case OF_CONNECTION:
        return BAD("a field that is about the connection");
    case TE:
        if (!kg_str_eq_nocase(f->value, KG_STR("trailers")))
            return BAD("TE says something else than trailers");
        break;
    case HOST:
        if (p->has_host)
            return BAD("more than one Host");
        p->has_host = true;
        p->host = f->value;
        break;
    case LENGTH:
        p->has_length = true;
        break;
    case COOKIE:
        p->cookies++;
        break;
    case PLAIN:
        break;
    }
    return GUARD_FINE;
}

static struct guard_verdict read_fields(struct parts *p, const struct http2_head *head)
{
    struct guard_verdict v = GUARD_FINE;

    *p = (struct parts){.first = head->count};
    if (head->too_large)
        return (struct guard_verdict){PROXY_HEAD_TOO_LARGE,
                                      "the head is larger than 64 KiB or has too many fields"};
    for (unsigned i = 0; i < head->count && v.reason == PROXY_NONE; i++) {
        const struct http2_field *f = &head->fields[i];
        bool pseudo = f->name.n > 0 && f->name.p[0] == ':';
        if (!pseudo && p->first == head->count)
            p->first = i;
        if (!pseudo)
            v = read_field(p, f);
        else if (p->first < i || head->kind == HTTP2_TRAILERS)
            v = BAD("a pseudo-field behind other fields");
        else
            v = read_pseudo(p, f, head->kind == HTTP2_REQUEST);
    }
    return v;
}

/* --- writing lines ------------------------------------------------------------------------- */

static void put_cookies(struct text *t, const struct parts *p, const struct http2_head *head)
{
    unsigned put_so_far = 0;

    for (unsigned i = p->first; i < head->count; i++) {
        if (meaning_of(head->fields[i].name) != COOKIE)
            continue;
        put(t, put_so_far++ == 0 ? KG_STR("cookie: ") : KG_STR("; "));
        put(t, head->fields[i].value);
    }
    PUT(t, "\r\n");
}

/* All fields but those that are written apart. */
static void put_fields(struct text *t, const struct parts *p, const struct http2_head *head,
                       bool websocket)
{
    bool request = head->kind == HTTP2_REQUEST;

    for (unsigned i = p->first; i < head->count; i++) {
        const struct http2_field *f = &head->fields[i];
        enum meaning m = request ? meaning_of(f->name) : PLAIN;
        if (m == HOST || (m == COOKIE && p->cookies > 1))
            continue;
        if (websocket && (kg_str_eq(f->name, KG_STR("sec-websocket-key")) || m == LENGTH))
            continue;
        put_line(t, f->name, f->value);
    }
    if (request && p->cookies > 1)
        put_cookies(t, p, head);
}

static struct guard_verdict judge_request(const struct parts *p)
{
    bool connect = kg_str_eq(p->method, KG_STR("CONNECT"));

    if (!guard_is_token(p->method))
        return BAD("no method, or one that is no token");
    if (connect && !p->protocol.p)
        return (struct guard_verdict){PROXY_METHOD_NOT_ALLOWED, "CONNECT and TRACE are not served"};
    if (!connect && p->protocol.p)
        return BAD(":protocol without CONNECT");
    if (!p->scheme.p || !p->path.p)
        return BAD("no :scheme or no :path");
    if (!kg_str_eq_nocase(p->scheme, KG_STR("http")) &&
        !kg_str_eq_nocase(p->scheme, KG_STR("https")))
        return BAD(":scheme is neither http nor https");
    if (p->path.p[0] != '/' && !kg_str_eq(p->path, KG_STR("*")))
        return BAD(":path does not begin with a slash");
    if (p->has_host && p->authority.p && !kg_str_eq_nocase(p->host, p->authority))
        return BAD(":authority and Host say different things");
    if (p->protocol.p && !kg_str_eq_nocase(p->protocol, KG_STR("websocket")))
        return (struct guard_verdict){PROXY_NOT_IMPLEMENTED,
                                      ":protocol names something else than websocket"};
    return GUARD_FINE;
}

/* RFC 4648, of 16 bytes. */
static void put_key(struct text *t, const char nonce[HTTP2_NONCE_BYTES])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char key[24];
    size_t n = 0;

    for (size_t i = 0; i < HTTP2_NONCE_BYTES; i += 3) {
        uint32_t bits = (uint32_t)(unsigned char)nonce[i] << 16;
        if (i + 2 < HTTP2_NONCE_BYTES)
            bits |= (uint32_t)(unsigned char)nonce[i + 1] << 8 | (unsigned char)nonce[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            key[n++] = digits[bits >> shift & 63];
    }
    key[22] = key[23] = '=';
    PUT(t, "sec-websocket-key: ");
    put(t, (struct kg_str){key, sizeof key});
    PUT(t, "\r\nconnection: upgrade\r\nupgrade: websocket\r\n");
}

bool http2_head_asks_for_tunnel(const struct http2_head *head)
{
    for (unsigned i = 0; i < head->count && head->fields[i].name.p[0] == ':'; i++)
        if (kg_str_eq(head->fields[i].name, KG_STR(":protocol")))
            return true;
    return false;
}

struct guard_verdict http2_head_request(const struct http2_head *head, bool end,
                                        const char nonce[HTTP2_NONCE_BYTES], char *out, size_t *n)
{
    struct text t = {out, out};
    struct parts p;
    struct guard_verdict v = read_fields(&p, head);
    bool websocket;

    if (v.reason == PROXY_NONE)
        v = judge_request(&p);
    if (v.reason != PROXY_NONE)
        return v;
    websocket = p.protocol.p != NULL;
    put(&t, websocket ? KG_STR("GET") : p.method);
    PUT(&t, " ");
    put(&t, p.path);
    PUT(&t, " HTTP/1.1\r\n");
    if (p.authority.p || p.has_host)
        put_line(&t, KG_STR("host"), p.authority.p ? p.authority : p.host);
    put_fields(&t, &p, head, websocket);
    if (websocket)
        put_key(&t, nonce);
    else if (!end && !p.has_length)
        PUT(&t, "transfer-encoding: chunked\r\n");
    return finish(&t, n);
}

struct guard_verdict http2_head_response(const struct http2_head *head, bool end, bool body,
                                         char *out, size_t *n)
{
    struct text t = {out, out};
    struct parts p;
    struct guard_verdict v = read_fields(&p, head);
    bool interim;

    if (v.reason != PROXY_NONE)
        return v;
    body &= !kg_str_eq(p.status, KG_STR("204")) && !kg_str_eq(p.status, KG_STR("304"));
    if (p.status.n != STATUS_BYTES || kg_str_eq(p.status, KG_STR("101")))
        return BAD(":status is not a status of HTTP/2");
    interim = p.status.p[0] == '1';
    PUT(&t, "HTTP/1.1 ");
    put(&t, p.status);
    PUT(&t, " \r\n");
    put_fields(&t, &p, head, false);
    if (!end && !p.has_length && !interim)
        PUT(&t, "transfer-encoding: chunked\r\n");
    else if (end && !p.has_length && body)
        PUT(&t, "content-length: 0\r\n");
    return finish(&t, n);
}

struct guard_verdict http2_head_trailers(const struct http2_head *head, char *out, size_t *n)
{
    struct text t = {out, out};
    struct parts p;
    struct guard_verdict v = read_fields(&p, head);

    if (v.reason != PROXY_NONE)
        return v;
    PUT(&t, "0\r\n");
    put_fields(&t, &p, head, false);
    return finish(&t, n);
}

/* --- lines into fields --------------------------------------------------------------------- */

static bool next_line(char **at, char *end, struct http2_field *f)
{
    char *line = *at;
    char *stop = line < end ? memchr(line, '\r', (size_t)(end - line)) : NULL;
    char *colon = stop && stop > line ? memchr(line, ':', (size_t)(stop - line)) : NULL;

    if (!colon)
        return false;
    for (char *c = line; c < colon; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c | 0x20);
    f->name = (struct kg_str){line, (size_t)(colon - line)};
    f->value = kg_str_trim((struct kg_str){colon + 1, (size_t)(stop - colon - 1)});
    *at = stop + 2;
    return true;
}

/* Appends those that mean something in HTTP/2; Host goes to *host if that is wanted. */
static unsigned add_fields(char *at, char *end, struct http2_field *out, unsigned count,
                           struct kg_str *host)
{
    struct http2_field f;

    while (next_line(&at, end, &f)) {
        if (host && kg_str_eq(f.name, KG_STR("host"))) {
            *host = f.value;
            continue;
        }
        if (meaning_of(f.name) == OF_CONNECTION)
            continue;
        KG_ASSERT(count < HTTP2_MAX_FIELDS);
        out[count++] = f;
    }
    return count;
}

static char *behind_start_line(char *text, size_t n)
{
    char *end = memchr(text, '\n', n);

    KG_ASSERT(end);
    return end + 1;
}

unsigned http2_fields_request(char *text, size_t n, struct http2_field out[HTTP2_MAX_FIELDS])
{
    char *lines = behind_start_line(text, n);
    char *path = (char *)memchr(text, ' ', n) + 1;
    char *version = (char *)memchr(path, ' ', (size_t)(lines - path));

    out[0] = (struct http2_field){KG_STR(":method"), {text, (size_t)(path - 1 - text)}};
    out[1] = (struct http2_field){KG_STR(":scheme"), KG_STR("http")};
    out[2] = (struct http2_field){KG_STR(":path"), {path, (size_t)(version - path)}};
    out[3] = (struct http2_field){KG_STR(":authority"), KG_STR("")};
    return add_fields(lines, text + n, out, 4, &out[3].value);
}

unsigned http2_fields_response(char *text, size_t n, struct http2_field out[HTTP2_MAX_FIELDS])
{
    struct kg_str status = {text + STATUS_AT, STATUS_BYTES};
    bool tunnel = kg_str_eq(status, KG_STR("101"));
    unsigned count, kept = 1;

    out[0] = (struct http2_field){KG_STR(":status"), tunnel ? KG_STR("200") : status};
    count = add_fields(behind_start_line(text, n), text + n, out, 1, NULL);
    for (unsigned i = 1; i < count; i++)
        if (!tunnel || !kg_str_eq(out[i].name, KG_STR("sec-websocket-accept")))
            out[kept++] = out[i];
    return kept;
}

unsigned http2_fields_trailers(char *lines, size_t n, struct http2_field out[HTTP2_MAX_FIELDS])
{
    return add_fields(lines, lines + n, out, 0, NULL);
}
