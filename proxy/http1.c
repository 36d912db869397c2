/* SPDX-License-Identifier: Apache-2.0 */
/* Heads by llhttp, their meaning by rules of our own; the only file that knows llhttp.
 * The difficulty: two parsers look at one head (the guard and llhttp), and where they do not agree
 * on every boundary the head is refused. */
#include "proxy/http1.h"
#include "base/err.h"
#include <llhttp.h>

#define FINE GUARD_FINE
#define BAD(words) ((struct guard_verdict){PROXY_BAD_REQUEST, (words)})

/* --- llhttp -------------------------------------------------------------------------------------
 */

/* The whole head is in one piece, so that every span comes in one call. */
static struct http1_head *head_of(llhttp_t *parser)
{
    return parser->data;
}

static int on_url(llhttp_t *parser, const char *at, size_t n)
{
    head_of(parser)->raw_target = (struct kg_str){at, n};
    return 0;
}

static int on_status(llhttp_t *parser, const char *at, size_t n)
{
    head_of(parser)->phrase = (struct kg_str){at, n};
    return 0;
}

static int on_name(llhttp_t *parser, const char *at, size_t n)
{
    struct http1_head *h = head_of(parser);
    if (h->field_count == KG_MAX_FIELDS)
        return -1;
    unsigned i = h->field_count++;
    enum field_id id = field_find((struct kg_str){at, n});
    h->fields[i] = (struct http1_field){.name = {at, n}, .value = {at + n, 0}, .id = (uint8_t)id};
    if (h->count[id]++ == 0)
        h->first[id] = (uint8_t)(i + 1);
    return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t n)
{
    struct http1_head *h = head_of(parser);
    KG_ASSERT(h->field_count > 0);
    while (n > 0 && (at[n - 1] == ' ' || at[n - 1] == '\t'))
        n--;
    while (n > 0 && (*at == ' ' || *at == '\t')) {
        at++;
        n--;
    }
    h->fields[h->field_count - 1].value = (struct kg_str){at, n};
    return 0;
}

static int on_head_complete(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED; /* bodies are not llhttp's business */
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_status = on_status,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_head_complete,
};

/* Runs llhttp over the head and holds its findings against the guard's. */
static bool read_head(llhttp_t *parser, llhttp_type_t type, const struct guard *g,
                      const char *bytes, struct http1_head *out)
{
    llhttp_init(parser, type, &settings);
    parser->data = out;
    if (g->minor > 1)
        parser->lenient_flags |= LENIENT_VERSION; /* 1.2 and above are to be read as 1.1 */
    if (llhttp_execute(parser, bytes + g->start, g->end - g->start) != HPE_PAUSED)
        return false;
    return llhttp_get_error_pos(parser) == bytes + g->end && out->field_count == g->fields &&
           parser->http_major == g->major && parser->http_minor == g->minor;
}

/* The methods that are served with care, and those that are not served at all. */
static const struct method {
    struct kg_str name;
    enum http1_method id;
    bool idempotent, served;
} methods[] = {
    {{"GET", 3}, HTTP1_GET, true, true},         {{"POST", 4}, HTTP1_POST, false, true},
    {{"HEAD", 4}, HTTP1_HEAD, true, true},       {{"PUT", 3}, HTTP1_PUT, true, true},
    {{"DELETE", 6}, HTTP1_DELETE, true, true},   {{"PATCH", 5}, HTTP1_PATCH, false, true},
    {{"OPTIONS", 7}, HTTP1_OPTIONS, true, true}, {{"TRACE", 5}, HTTP1_OTHER, false, false},
    {{"CONNECT", 7}, HTTP1_OTHER, false, false},
};

static const struct method *find_method(struct kg_str name)
{
    static const struct method other = {{"", 0}, HTTP1_OTHER, false, true};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (kg_str_eq(methods[i].name, name))
            return &methods[i];
    return &other;
}

/* --- lists and tokens ---------------------------------------------------------------------------
 */

bool http1_list_next(struct kg_str *rest, struct kg_str *element)
{
    if (!rest->p)
        return false;
    const char *comma = rest->n ? memchr(rest->p, ',', rest->n) : NULL;
    size_t n = comma ? (size_t)(comma - rest->p) : rest->n;
    *element = kg_str_trim((struct kg_str){rest->p, n});
    if (comma)
        *rest = (struct kg_str){comma + 1, rest->n - n - 1};
    else
        *rest = (struct kg_str){NULL, 0};
    return true;
}

/* Whether any field with this id lists `token` (in any case of letters), parameters aside. */
static bool lists_token(const struct http1_head *h, enum field_id id, struct kg_str token)
{
    struct kg_str rest, element;
    for (unsigned i = h->first[id]; i > 0 && i <= h->field_count; i++) {
        if (h->fields[i - 1].id != id)
            continue;
        rest = h->fields[i - 1].value;
        while (http1_list_next(&rest, &element)) {
            const char *semicolon = element.n ? memchr(element.p, ';', element.n) : NULL;
            if (semicolon)
                element = kg_str_trim((struct kg_str){element.p, (size_t)(semicolon - element.p)});
            if (kg_str_eq_nocase(element, token))
                return true;
        }
    }
    return false;
}

/* --- connection ---------------------------------------------------------------------------------
 */

struct options {
    bool close, keep_alive, upgrade;
    unsigned count;
};

static void name_field(struct http1_head *h, struct kg_str name)
{
    if (!(field_flags(field_find(name)) & FIELD_HOP))
        field_names_add(&h->named, name);
    for (unsigned i = 0; i < h->field_count; i++)
        if (kg_str_eq_nocase(h->fields[i].name, name))
            h->fields[i].named = true;
}

static struct guard_verdict read_option(struct http1_head *h, struct kg_str token,
                                        struct options *o)
{
    if (token.n == 0)
        return FINE; /* RFC 9110 5.6.1: empty elements of a list mean nothing */
    if (!guard_is_token(token))
        return BAD("Connection has an option that is no token");
    if (++o->count > HTTP1_MAX_CONNECTION_OPTIONS)
        return BAD("Connection has too many options");
    if (kg_str_eq_nocase(token, KG_STR("close")))
        o->close = true;
    else if (kg_str_eq_nocase(token, KG_STR("keep-alive")))
        o->keep_alive = true;
    else if (kg_str_eq_nocase(token, KG_STR("upgrade")))
        o->upgrade = true;
    else
        name_field(h, token);
    return FINE;
}

static struct guard_verdict read_connection(struct http1_head *h, struct options *o)
{
    struct kg_str rest, token;
    unsigned i = h->first[FIELD_CONNECTION];
    for (; i > 0 && i <= h->field_count; i++) {
        if (h->fields[i - 1].id != FIELD_CONNECTION)
            continue;
        rest = h->fields[i - 1].value;
        while (http1_list_next(&rest, &token)) {
            struct guard_verdict v = read_option(h, token, o);
            if (v.reason)
                return v;
        }
    }
    h->keep_alive = !o->close && (h->minor > 0 || o->keep_alive);
    return FINE;
}

/* --- framing ------------------------------------------------------------------------------------
 */

/* Anything but one `chunked`: 400 where it is malformed or ambiguous, 501 for a coding we lack. */
static struct guard_verdict odd_coding(struct kg_str value)
{
    struct kg_str rest = value, coding;
    bool chunked = false, other = false;
    while (http1_list_next(&rest, &coding)) {
        const char *semicolon = coding.n ? memchr(coding.p, ';', coding.n) : NULL;
        if (semicolon)
            coding = kg_str_trim((struct kg_str){coding.p, (size_t)(semicolon - coding.p)});
        if (!guard_is_token(coding))
            return BAD("Transfer-Encoding is malformed");
        if (chunked)
            return BAD("Transfer-Encoding has a coding behind chunked");
        chunked = kg_str_eq_nocase(coding, KG_STR("chunked"));
        other |= !chunked;
    }
    if (other)
        return (struct guard_verdict){PROXY_NOT_IMPLEMENTED,
                                      "Transfer-Encoding names a coding other than chunked"};
    return BAD("Transfer-Encoding is malformed");
}

static struct guard_verdict read_transfer_encoding(struct http1_head *h)
{
    struct kg_str value = http1_value(h, FIELD_TRANSFER_ENCODING);
    if (h->count[FIELD_CONTENT_LENGTH])
        return BAD("Content-Length and Transfer-Encoding together");
    if (h->minor == 0)
        return BAD("Transfer-Encoding in HTTP/1.0");
    if (h->count[FIELD_TRANSFER_ENCODING] > 1)
        return BAD("more than one Transfer-Encoding");
    if (!kg_str_eq_nocase(value, KG_STR("chunked")))
        return odd_coding(value);
    h->framing = HTTP1_CHUNKED;
    return FINE;
}

static struct guard_verdict read_framing(struct http1_head *h)
{
    h->framing = HTTP1_NONE;
    h->content_length = -1;
    if (h->count[FIELD_TRANSFER_ENCODING])
        return read_transfer_encoding(h);
    if (!h->count[FIELD_CONTENT_LENGTH])
        return FINE;
    if (h->count[FIELD_CONTENT_LENGTH] > 1)
        return BAD("more than one Content-Length");
    if (!kg_str_to_i64(http1_value(h, FIELD_CONTENT_LENGTH), &h->content_length))
        return BAD("Content-Length is not a number below 2^63");
    h->framing = HTTP1_LENGTH;
    return FINE;
}

/* --- requests -----------------------------------------------------------------------------------
 */

static struct guard_verdict read_target(struct http1_head *h)
{
    if (h->count[FIELD_HOST] > 1)
        return BAD("more than one Host");
    if (h->minor > 0 && !h->count[FIELD_HOST])
        return BAD("no Host");
    const struct http1_field *host = http1_field(h, FIELD_HOST);
    const char *wrong = target_parse(h->raw_target, h->method_id == HTTP1_OPTIONS,
                                     host ? &host->value : NULL, &h->target);
    return wrong ? BAD(wrong) : FINE;
}

static struct guard_verdict read_expect(struct http1_head *h)
{
    struct kg_str rest, element;
    bool body = h->framing == HTTP1_CHUNKED || h->content_length > 0;
    int known; /* of one field: 1 100-continue and nothing else, 0 nothing, -1 something else */
    for (unsigned i = h->first[FIELD_EXPECT]; i > 0 && i <= h->field_count; i++) {
        if (h->fields[i - 1].id != FIELD_EXPECT)
            continue;
        rest = h->fields[i - 1].value;
        known = 0;
        while (http1_list_next(&rest, &element))
            if (element.n > 0 && known >= 0) /* RFC 9110 5.6.1: empty ones mean nothing */
                known = kg_str_eq_nocase(element, KG_STR("100-continue")) ? 1 : -1;
        if (known <= 0)
            return (struct guard_verdict){PROXY_EXPECTATION_FAILED,
                                          "Expect asks for something else than 100-continue"};
        h->expect_continue = h->minor > 0 && body; /* RFC 9110 10.1.1: in 1.0 it is to be ignored */
    }
    return FINE;
}

static void read_upgrade(struct http1_head *h, const struct options *o)
{
    h->websocket = h->method_id == HTTP1_GET && h->minor > 0 && o->upgrade &&
                   h->framing != HTTP1_CHUNKED && h->content_length <= 0 &&
                   lists_token(h, FIELD_UPGRADE, KG_STR("websocket"));
    if (h->websocket)
        h->framing = HTTP1_NONE; /* a Content-Length of 0 has nothing to say */
}

/* RFC 9110 7.6.2. What is no number says nothing; for TRACE it would count, too. */
static void read_max_forwards(struct http1_head *h)
{
    int64_t n;

    if (h->method_id == HTTP1_OPTIONS && h->count[FIELD_MAX_FORWARDS] == 1 &&
        kg_str_to_i64(http1_value(h, FIELD_MAX_FORWARDS), &n) && n >= 0)
        h->max_forwards = n;
}

static struct guard_verdict judge_request(struct http1_head *h)
{
    struct options o = {false, false, false, 0};
    struct guard_verdict v = read_target(h);
    if (!v.reason)
        v = read_framing(h);
    if (!v.reason)
        v = read_connection(h, &o);
    if (!v.reason)
        v = read_expect(h);
    if (v.reason)
        return v;
    read_upgrade(h, &o);
    read_max_forwards(h);
    h->te_trailers = h->count[FIELD_TE] && lists_token(h, FIELD_TE, KG_STR("trailers"));
    return FINE;
}

static void clear(struct http1_head *h, const struct guard *g)
{
    memset(h, 0, offsetof(struct http1_head, fields));
    h->bytes = g->end - g->start;
    h->minor = g->minor > 0;
    h->content_length = h->max_forwards = -1;
}

/* llhttp refused what the guard let through: whose rule was it? */
static struct guard_verdict refused_request(const llhttp_t *parser, const struct http1_head *h)
{
    llhttp_errno_t e = llhttp_get_errno(parser);
    if (h->field_count == 0 && (e == HPE_INVALID_METHOD || e == HPE_INVALID_CONSTANT))
        return (struct guard_verdict){PROXY_METHOD_NOT_ALLOWED, "the method is not known here"};
    if (e == HPE_INVALID_URL)
        return BAD("the request target is malformed");
    if (e == HPE_INVALID_CONTENT_LENGTH)
        return BAD("Content-Length is malformed");
    if (e == HPE_UNEXPECTED_CONTENT_LENGTH)
        return BAD("Content-Length twice, or beside Transfer-Encoding");
    if (e == HPE_INVALID_TRANSFER_ENCODING)
        return BAD("Transfer-Encoding is malformed");
    return BAD("the request head is malformed");
}

void http1_start_line(const struct guard *g, const char *bytes, struct http1_head *out)
{
    out->method = out->raw_target = (struct kg_str){"", 0};
    out->method_id = HTTP1_OTHER;
    if (g->target == 0) /* the method has not ended */
        return;
    out->method = (struct kg_str){bytes + g->start, g->target - 1 - g->start};
    out->raw_target =
        (struct kg_str){bytes + g->target, g->target_n ? g->target_n : g->at - g->target};
    if (find_method(out->method)->id == HTTP1_HEAD)
        out->method_id = HTTP1_HEAD;
}

/* Whether llhttp sees the target where the guard does. */
static bool target_is(const struct http1_head *h, struct kg_str target)
{
    return h->raw_target.p == target.p && h->raw_target.n == target.n;
}

struct guard_verdict http1_parse_request(const struct guard *g, const char *bytes,
                                         struct http1_head *out)
{
    llhttp_t parser;
    struct kg_str target = {bytes + g->target, g->target_n};
    struct guard_verdict verdict;
    KG_ASSERT(g->kind == GUARD_REQUEST && g->end > g->target);
    clear(out, g);
    out->method = (struct kg_str){bytes + g->start, g->target - 1 - g->start};
    const struct method *method = find_method(out->method);
    out->method_id = method->id;
    out->idempotent = method->idempotent;
    if (!method->served)
        verdict =
            (struct guard_verdict){PROXY_METHOD_NOT_ALLOWED, "CONNECT and TRACE are not served"};
    else if (!read_head(&parser, HTTP_REQUEST, g, bytes, out))
        verdict = refused_request(&parser, out);
    else if (!target_is(out, target))
        verdict = BAD("the request target is malformed");
    else
        return judge_request(out);
    out->raw_target = target; /* the guard's word for it */
    return verdict;
}

/* --- responses ----------------------------------------------------------------------------------
 */

/* Where there is no body whatever the fields say. */
static bool has_no_body(const struct http1_head *h, const struct http1_asked *asked)
{
    return h->status < 200 || h->status == 204 || h->status == 304 || asked->head;
}

static struct guard_verdict judge_switch(struct http1_head *h, const struct http1_asked *asked)
{
    if (!asked->websocket)
        return BAD("the worker switched protocols unasked");
    if (!h->websocket)
        return BAD("the worker switched to another protocol than it was asked for");
    h->framing = HTTP1_TUNNEL;
    h->keep_alive = false;
    return FINE;
}

static struct guard_verdict judge_response(struct http1_head *h, const struct http1_asked *asked)
{
    struct options o = {false, false, false, 0};
    struct guard_verdict v = read_framing(h);
    if (!v.reason)
        v = read_connection(h, &o);
    if (v.reason)
        return v;
    h->websocket = o.upgrade && lists_token(h, FIELD_UPGRADE, KG_STR("websocket"));
    if (h->status == 101)
        return judge_switch(h, asked);
    if (has_no_body(h, asked)) {
        h->framing = HTTP1_NONE;
    } else if (h->framing == HTTP1_NONE) {
        h->framing = HTTP1_UNTIL_CLOSE;
        h->keep_alive = false;
    }
    return FINE;
}

struct guard_verdict http1_parse_response(const struct guard *g, const char *bytes,
                                          const struct http1_asked *asked, struct http1_head *out)
{
    llhttp_t parser;
    struct guard_verdict v = BAD("the response head is malformed");
    KG_ASSERT(g->kind == GUARD_RESPONSE && g->end > 0);
    clear(out, g);
    out->status = g->status;
    if (read_head(&parser, HTTP_RESPONSE, g, bytes, out) && parser.status_code == g->status)
        v = judge_response(out, asked);
    if (v.reason)
        v.reason = PROXY_UPSTREAM_FAILED;
    return v;
}
