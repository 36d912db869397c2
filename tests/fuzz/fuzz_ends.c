/* SPDX-License-Identifier: Apache-2.0 */
/* Where a message ends, against two parsers that are none of ours: http_parser for the whole of it,
 * picohttpparser for its head and its chunks. What both sides accept must end at the same byte;
 * what we refuse is fine. The difficulty: a smuggled request is nothing but a disagreement here. */
#include "body_end.h"
#include "fuzz.h"
#include <http_parser.h>

/* picohttpparser.h, which Debian's library has without its header. */
struct phr_header {
    const char *name;
    size_t name_len;
    const char *value;
    size_t value_len;
};
struct phr_chunked_decoder {
    size_t bytes_left_in_chunk;
    char consume_trailer, hex_count, state;
};
int phr_parse_request(const char *buf, size_t len, const char **method, size_t *method_len,
                      const char **path, size_t *path_len, int *minor_version,
                      struct phr_header *headers, size_t *num_headers, size_t last_len);
int phr_parse_response(const char *buf, size_t len, int *minor_version, int *status,
                       const char **msg, size_t *msg_len, struct phr_header *headers,
                       size_t *num_headers, size_t last_len);
ssize_t phr_decode_chunked(struct phr_chunked_decoder *decoder, char *buf, size_t *bufsz);

/* --- picohttpparser ------------------------------------------------------------------------ */

#define PHR_FIELDS 128

/* The end of the head; 0: refused or not whole. */
static size_t pico_head(const struct end_asked *asked, struct kg_str in, bool *chunked)
{
    struct phr_header fields[PHR_FIELDS];
    size_t count = PHR_FIELDS, a, b;
    const char *p, *q;
    int minor, status, n;

    n = asked->response ? phr_parse_response(in.p, in.n, &minor, &status, &p, &a, fields, &count, 0)
                        : phr_parse_request(in.p, in.n, &p, &a, &q, &b, &minor, fields, &count, 0);
    *chunked = false;
    for (size_t i = 0; n > 0 && i < count; i++)
        *chunked |=
            fields[i].name_len == 17 && strncasecmp(fields[i].name, "transfer-encoding", 17) == 0;
    return n > 0 ? (size_t)n : 0;
}

/* How far its chunks go; 0: refused or not whole. */
static size_t pico_chunks(struct kg_str in)
{
    struct phr_chunked_decoder d = {.consume_trailer = 1};
    char *copy = fuzz_copy(in.p, in.n);
    size_t n = in.n;
    ssize_t left = phr_decode_chunked(&d, copy, &n);

    free(copy);
    return left >= 0 ? in.n - (size_t)left : 0;
}

static void check_pico(const struct end_asked *asked, struct kg_str in, const struct end *ours)
{
    bool chunked;
    size_t head = pico_head(asked, in, &chunked), body;

    if (head == 0)
        return;
    KG_ASSERT(head == ours->head);
    if (ours->framing != HTTP1_CHUNKED || ours->whole == 0)
        return;
    KG_ASSERT(chunked);
    body = pico_chunks((struct kg_str){in.p + head, in.n - head});
    if (body > 0)
        KG_ASSERT(head + body == ours->whole);
}

/* --- http_parser --------------------------------------------------------------------------- */

struct other {
    bool whole, head_request, misreads;
};

/* It forgets that a body is chunked when a field follows whose name only begins like that one. */
static int on_name(http_parser *p, const char *name, size_t n)
{
    struct other *o = p->data;

    o->misreads |= n > 17 && strncasecmp(name, "transfer-encoding", 17) == 0;
    return 0;
}

static int on_head(http_parser *p)
{
    const struct other *o = p->data;

    /* 1: no body whatever the fields say. It leaves RFC 9112 6.3 to its user. */
    return o->head_request || p->status_code / 100 == 1 || p->status_code == 204 ||
           p->status_code == 304;
}

static int on_end(http_parser *p)
{
    struct other *o = p->data;

    o->whole = true;
    http_parser_pause(p, 1);
    return 0;
}

static void check_other(const struct end_asked *asked, struct kg_str in, const struct end *ours)
{
    static const http_parser_settings settings = {
        .on_header_field = on_name, .on_headers_complete = on_head, .on_message_complete = on_end};
    struct other o = {.head_request = asked->response && asked->of.head};
    http_parser p;
    size_t n;

    http_parser_init(&p, asked->response ? HTTP_RESPONSE : HTTP_REQUEST);
    p.data = &o;
    n = http_parser_execute(&p, &settings, in.p, in.n);
    if (HTTP_PARSER_ERRNO(&p) != HPE_OK && HTTP_PARSER_ERRNO(&p) != HPE_PAUSED)
        return;
    if (o.misreads)
        return;
    if (p.upgrade && o.whole)
        return; /* it takes what follows for another protocol, before it knows whether it is */
    if (ours->framing == HTTP1_UNTIL_CLOSE)
        KG_ASSERT(!o.whole);
    else if (ours->whole == 0)
        KG_ASSERT(!o.whole);
    else
        KG_ASSERT(o.whole && n == ours->whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    uint8_t flags = fuzz_byte(&f);
    struct end_asked asked = {.response = flags & 1,
                              .of = {.head = flags & 2, .websocket = flags & 4}};
    struct kg_str in = fuzz_rest(&f);
    struct end ours = {.payload = NULL};

    if (!end_find(&asked, in, &ours))
        return 0;
    /* An interim response has another behind it, and an empty line may come before a request: both
     * are left to the caller by us, and taken along by them. */
    check_pico(&asked, in, &ours);
    check_other(&asked, in, &ours);
    return 0;
}
