/* SPDX-License-Identifier: Apache-2.0 */
/* Every row of HTTP-RULES 1 and 2 about heads: input bytes and the verdict they must get.
 * The difficulty: the verdict is what matters, whoever (guard, llhttp, rule) comes to it first. */
#include "proxy/http1.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define B(literal) (literal), sizeof(literal) - 1
#define HOST "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST
#define POST "POST / HTTP/1.1\r\n" HOST

static struct http1_head head;

/* Guard and parser, over memory of the exact size; `keep` holds it for the slices. */
static char *keep;
static struct guard_verdict parse_request(const char *bytes, size_t n)
{
    struct guard g;
    free(keep);
    keep = malloc(n);
    ck_assert_ptr_nonnull(keep);
    memcpy(keep, bytes, n);
    guard_init(&g, GUARD_REQUEST);
    enum guard_result r = guard_scan(&g, keep, n);
    ck_assert_int_ne(r, GUARD_MORE);
    return r == GUARD_REFUSED ? g.verdict : http1_parse_request(&g, keep, &head);
}

static struct guard_verdict parse_response(const char *bytes, size_t n, struct http1_asked asked)
{
    struct guard g;
    free(keep);
    keep = malloc(n);
    ck_assert_ptr_nonnull(keep);
    memcpy(keep, bytes, n);
    guard_init(&g, GUARD_RESPONSE);
    enum guard_result r = guard_scan(&g, keep, n);
    ck_assert_int_ne(r, GUARD_MORE);
    return r == GUARD_REFUSED ? g.verdict : http1_parse_response(&g, keep, &asked, &head);
}

/* --- requests: the verdict -----------------------------------------------------------------------
 */

static const struct row {
    const char *name, *bytes;
    size_t n;
    enum proxy_reason reason;
} refused[] = {
    {"CL.TE", B(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), PROXY_BAD_REQUEST},
    {"TE.CL", B(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL 0 and TE", B(POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
     PROXY_BAD_REQUEST},
    {"TE.TE", B(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
     PROXY_BAD_REQUEST},
    {"TE.TE identity", B(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"),
     PROXY_BAD_REQUEST},
    {"TE chunked, chunked", B(POST "Transfer-Encoding: chunked, chunked\r\n\r\n"),
     PROXY_BAD_REQUEST},
    {"TE , chunked", B(POST "Transfer-Encoding: , chunked\r\n\r\n"), PROXY_BAD_REQUEST},
    {"TE chunked,", B(POST "Transfer-Encoding: chunked,\r\n\r\n"), PROXY_BAD_REQUEST},
    {"TE empty", B(POST "Transfer-Encoding:\r\n\r\n"), PROXY_BAD_REQUEST},
    {"TE spaces", B(POST "Transfer-Encoding:  \t \r\n\r\n"), PROXY_BAD_REQUEST},
    {"TE quoted", B(POST "Transfer-Encoding: \"chunked\"\r\n\r\n"), PROXY_BAD_REQUEST},
    {"TE two words", B(POST "Transfer-Encoding: chunked x\r\n\r\n"), PROXY_BAD_REQUEST},
    {"TE chunked behind a tab word", B(POST "Transfer-Encoding: x\tchunked\r\n\r\n"),
     PROXY_BAD_REQUEST},
    {"TE chunked;q", B(POST "Transfer-Encoding: chunked;q=1\r\n\r\n"), PROXY_BAD_REQUEST},
    {"TE obs-text",
     B(POST "Transfer-Encoding: \x80"
            "chunked\r\n\r\n"),
     PROXY_BAD_REQUEST},
    {"TE chunked, gzip", B(POST "Transfer-Encoding: chunked, gzip\r\n\r\n"), PROXY_BAD_REQUEST},
    {"TE chunked, identity", B(POST "Transfer-Encoding: chunked, identity\r\n\r\n"),
     PROXY_BAD_REQUEST},
    {"TE identity, chunked", B(POST "Transfer-Encoding: identity, chunked\r\n\r\n"),
     PROXY_NOT_IMPLEMENTED},
    {"TE gzip, chunked", B(POST "Transfer-Encoding: gzip, chunked\r\n\r\n"), PROXY_NOT_IMPLEMENTED},
    {"TE gzip", B(POST "Transfer-Encoding: gzip\r\n\r\n"), PROXY_NOT_IMPLEMENTED},
    {"TE identity", B(POST "Transfer-Encoding: identity\r\n\r\n"), PROXY_NOT_IMPLEMENTED},
    {"TE xchunked", B(POST "Transfer-Encoding: xchunked\r\n\r\n"), PROXY_NOT_IMPLEMENTED},
    {"TE chunkedx", B(POST "Transfer-Encoding: chunkedx\r\n\r\n"), PROXY_NOT_IMPLEMENTED},
    {"TE on HTTP/1.0", B("POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"),
     PROXY_BAD_REQUEST},
    {"CL twice the same", B(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
     PROXY_BAD_REQUEST},
    {"CL twice different", B(POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
     PROXY_BAD_REQUEST},
    {"CL list", B(POST "Content-Length: 5, 5\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL +", B(POST "Content-Length: +5\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL -", B(POST "Content-Length: -5\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL inner space", B(POST "Content-Length: 5 5\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL hex", B(POST "Content-Length: 0x5\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL underscore", B(POST "Content-Length: 5_0\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL fraction", B(POST "Content-Length: 5.0\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL empty", B(POST "Content-Length:\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL tab behind", B(POST "Content-Length: 5\t\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL 2^63", B(POST "Content-Length: 9223372036854775808\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL 2^64", B(POST "Content-Length: 18446744073709551616\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CL huge", B(POST "Content-Length: 99999999999999999999999999\r\n\r\n"), PROXY_BAD_REQUEST},

    {"obs-fold", B(GET "A: a\r\n b\r\n\r\n"), PROXY_BAD_REQUEST},
    {"obs-fold of TE", B(POST "Transfer-Encoding:\r\n chunked\r\n\r\n"), PROXY_BAD_REQUEST},
    {"space before name", B("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), PROXY_BAD_REQUEST},
    {"space before colon", B(POST "Content-Length : 5\r\n\r\n"), PROXY_BAD_REQUEST},
    {"space before colon of TE", B(POST "Transfer-Encoding : chunked\r\n\r\n"), PROXY_BAD_REQUEST},
    {"empty name", B(GET ": x\r\n\r\n"), PROXY_BAD_REQUEST},
    {"non-tchar name", B(GET "Transfer\x0b-Encoding: chunked\r\n\r\n"), PROXY_BAD_REQUEST},
    {"bare LF end", B("GET / HTTP/1.1\nHost: a\n\n"), PROXY_BAD_REQUEST},
    {"bare CR", B(GET "A: b\rTransfer-Encoding: chunked\r\n\r\n"), PROXY_BAD_REQUEST},
    {"NUL in value", B(GET "A: \0\r\n\r\n"), PROXY_BAD_REQUEST},
    {"DEL in value", B(GET "A: \x7f\r\n\r\n"), PROXY_BAD_REQUEST},
    {"CRLF CR X", B(GET "\rX\r\n\r\n"), PROXY_BAD_REQUEST},

    {"no Host", B("GET / HTTP/1.1\r\n\r\n"), PROXY_BAD_REQUEST},
    {"two Hosts", B(GET "Host: b\r\n\r\n"), PROXY_BAD_REQUEST},
    {"two equal Hosts", B(GET HOST "\r\n"), PROXY_BAD_REQUEST},
    {"two Hosts on 1.0", B("GET / HTTP/1.0\r\n" HOST HOST "\r\n"), PROXY_BAD_REQUEST},
    {"empty Host", B("GET / HTTP/1.1\r\nHost:\r\n\r\n"), PROXY_BAD_REQUEST},
    {"Host with path", B("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), PROXY_BAD_REQUEST},
    {"Host with user", B("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"), PROXY_BAD_REQUEST},
    {"Host list", B("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), PROXY_BAD_REQUEST},
    {"Host obs-text", B("GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n"), PROXY_BAD_REQUEST},
    {"Host is not the authority", B("GET http://b/ HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"absolute without Host", B("GET http://b/ HTTP/1.1\r\n\r\n"), PROXY_BAD_REQUEST},
    {"absolute with user", B("GET http://u@a/ HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"absolute of another scheme", B("GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},

    {"CONNECT", B("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"), PROXY_METHOD_NOT_ALLOWED},
    {"CONNECT with a path", B("CONNECT / HTTP/1.1\r\n" HOST "\r\n"), PROXY_METHOD_NOT_ALLOWED},
    {"TRACE", B("TRACE / HTTP/1.1\r\n" HOST "\r\n"), PROXY_METHOD_NOT_ALLOWED},
    {"unknown method", B("FOO / HTTP/1.1\r\n" HOST "\r\n"), PROXY_METHOD_NOT_ALLOWED},
    {"lower-case method", B("get / HTTP/1.1\r\n" HOST "\r\n"), PROXY_METHOD_NOT_ALLOWED},
    {"method GETX", B("GETX / HTTP/1.1\r\n" HOST "\r\n"), PROXY_METHOD_NOT_ALLOWED},
    {"method GE", B("GE / HTTP/1.1\r\n" HOST "\r\n"), PROXY_METHOD_NOT_ALLOWED},
    {"RTSP method", B("DESCRIBE / HTTP/1.1\r\n" HOST "\r\n"), PROXY_METHOD_NOT_ALLOWED},
    {"PRI as 1.1", B("PRI * HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"GET *", B("GET * HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"POST *", B("POST * HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"OPTIONS **", B("OPTIONS ** HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"GET authority", B("GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"), PROXY_BAD_REQUEST},
    {"target without slash", B("GET a/b HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},

    {"path ..", B("GET /a/../b HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"path %2e%2e", B("GET /a/%2e%2E/b HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"path ..%2f", B("GET /a/..%2fb HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"path ..;", B("GET /a/..;/b HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"path backslash", B("GET /a\\b HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"path %00", B("GET /a%00 HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"path NUL", B("GET /a\0 HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"path non-ASCII", B("GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"query non-ASCII", B("GET /?\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"fragment", B("GET /a#b HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},
    {"absolute path ..", B("GET http://a/../b HTTP/1.1\r\n" HOST "\r\n"), PROXY_BAD_REQUEST},

    {"Expect other", B(POST "Content-Length: 5\r\nExpect: 200-ok\r\n\r\n"),
     PROXY_EXPECTATION_FAILED},
    {"Expect empty", B(POST "Content-Length: 5\r\nExpect:\r\n\r\n"), PROXY_EXPECTATION_FAILED},
    {"Expect list with other", B(POST "Content-Length: 5\r\nExpect: 100-continue, x\r\n\r\n"),
     PROXY_EXPECTATION_FAILED},
    {"Expect other in a second field",
     B(POST "Content-Length: 5\r\nExpect: 100-continue\r\nA: b\r\nExpect: x\r\n\r\n"),
     PROXY_EXPECTATION_FAILED},
    {"Connection not a token", B(GET "Connection: clo se\r\n\r\n"), PROXY_BAD_REQUEST},
    {"Connection quoted", B(GET "Connection: \"close\"\r\n\r\n"), PROXY_BAD_REQUEST},

    {"version 2.0", B("GET / HTTP/2.0\r\n" HOST "\r\n"), PROXY_VERSION_NOT_SUPPORTED},
    {"version 3.0", B("GET / HTTP/3.0\r\n" HOST "\r\n"), PROXY_VERSION_NOT_SUPPORTED},
    {"version 0.9", B("GET / HTTP/0.9\r\n\r\n"), PROXY_VERSION_NOT_SUPPORTED},
};

START_TEST(refusals)
{
    const struct row *r = &refused[_i];
    struct guard_verdict v = parse_request(r->bytes, r->n);
    ck_assert_msg(v.reason == r->reason, "%s: reason %d (%s)", r->name, (int)v.reason, v.words);
    ck_assert_msg(v.words && *v.words, "%s: no words", r->name);
}
END_TEST

/* --- requests: what a good head means ------------------------------------------------------------
 */

static const struct good {
    const char *name, *bytes;
    size_t n;
    enum http1_method method;
    enum http1_framing framing;
    int64_t length;
    const char *flags; /* k keep_alive, e expect, w websocket, t te_trailers, i idempotent */
} good[] = {
    {"GET", B(GET "\r\n"), HTTP1_GET, HTTP1_NONE, -1, "ki"},
    {"1.0", B("GET / HTTP/1.0\r\n\r\n"), HTTP1_GET, HTTP1_NONE, -1, "i"},
    {"1.0 keep-alive", B("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), HTTP1_GET, HTTP1_NONE,
     -1, "ki"},
    {"1.0 keep-alive and close", B("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"),
     HTTP1_GET, HTTP1_NONE, -1, "i"},
    {"1.1 close", B(GET "Connection: a, ,CLOSE\r\n\r\n"), HTTP1_GET, HTTP1_NONE, -1, "i"},
    {"close in a second field", B(GET "Connection: a\r\nB: c\r\nConnection: close\r\n\r\n"),
     HTTP1_GET, HTTP1_NONE, -1, "i"},
    {"1.2 is 1.1", B("GET / HTTP/1.2\r\n" HOST "\r\n"), HTTP1_GET, HTTP1_NONE, -1, "ki"},
    {"1.9 chunked", B("PUT / HTTP/1.9\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"), HTTP1_PUT,
     HTTP1_CHUNKED, -1, "ki"},
    {"HEAD", B("HEAD / HTTP/1.1\r\n" HOST "\r\n"), HTTP1_HEAD, HTTP1_NONE, -1, "ki"},
    {"DELETE", B("DELETE / HTTP/1.1\r\n" HOST "\r\n"), HTTP1_DELETE, HTTP1_NONE, -1, "ki"},
    {"PATCH", B("PATCH / HTTP/1.1\r\n" HOST "\r\n"), HTTP1_PATCH, HTTP1_NONE, -1, "k"},
    {"OPTIONS *", B("OPTIONS * HTTP/1.1\r\n" HOST "\r\n"), HTTP1_OPTIONS, HTTP1_NONE, -1, "ki"},
    {"PROPFIND", B("PROPFIND / HTTP/1.1\r\n" HOST "\r\n"), HTTP1_OTHER, HTTP1_NONE, -1, "k"},
    {"M-SEARCH", B("M-SEARCH / HTTP/1.1\r\n" HOST "\r\n"), HTTP1_OTHER, HTTP1_NONE, -1, "k"},
    {"POST", B(POST "\r\n"), HTTP1_POST, HTTP1_NONE, -1, "k"},
    {"CL 0", B(POST "Content-Length: 0\r\n\r\n"), HTTP1_POST, HTTP1_LENGTH, 0, "k"},
    {"CL 5", B(POST "content-LENGTH:\t5  \r\n\r\n"), HTTP1_POST, HTTP1_LENGTH, 5, "k"},
    {"CL leading zeros", B(POST "Content-Length: 0005\r\n\r\n"), HTTP1_POST, HTTP1_LENGTH, 5, "k"},
    {"CL 2^63-1", B(POST "Content-Length: 9223372036854775807\r\n\r\n"), HTTP1_POST, HTTP1_LENGTH,
     INT64_MAX, "k"},
    {"chunked", B(POST "Transfer-Encoding: chunked\r\n\r\n"), HTTP1_POST, HTTP1_CHUNKED, -1, "k"},
    {"Chunked", B(POST "transfer-encoding:\tCHUNKED \r\n\r\n"), HTTP1_POST, HTTP1_CHUNKED, -1, "k"},
    {"GET with a body", B(GET "Content-Length: 3\r\n\r\n"), HTTP1_GET, HTTP1_LENGTH, 3, "ki"},
    {"underscore framing", B(POST "Transfer_Encoding: chunked\r\nContent_Length: 7\r\n\r\n"),
     HTTP1_POST, HTTP1_NONE, -1, "k"},
    {"Expect", B(POST "Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n"), HTTP1_POST,
     HTTP1_LENGTH, 5, "ke"},
    {"Expect chunked", B(POST "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"),
     HTTP1_POST, HTTP1_CHUNKED, -1, "ke"},
    {"Expect without body", B(POST "Content-Length: 0\r\nExpect: 100-continue\r\n\r\n"), HTTP1_POST,
     HTTP1_LENGTH, 0, "k"},
    {"Expect on 1.0", B("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"),
     HTTP1_POST, HTTP1_LENGTH, 5, ""},
    {"TE trailers", B(GET "TE: gzip;q=0.5, Trailers\r\n\r\n"), HTTP1_GET, HTTP1_NONE, -1, "kit"},
    {"TE other", B(GET "TE: gzip, xtrailers\r\n\r\n"), HTTP1_GET, HTTP1_NONE, -1, "ki"},
    {"websocket", B(GET "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"), HTTP1_GET,
     HTTP1_NONE, -1, "kiw"},
    {"websocket in a list", B(GET "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n"),
     HTTP1_GET, HTTP1_NONE, -1, "kiw"},
    {"websocket CL 0",
     B(GET "Content-Length: 0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), HTTP1_GET,
     HTTP1_NONE, 0, "kiw"},
    {"websocket without option", B(GET "Upgrade: websocket\r\n\r\n"), HTTP1_GET, HTTP1_NONE, -1,
     "ki"},
    {"websocket with a body",
     B(GET "Content-Length: 1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), HTTP1_GET,
     HTTP1_LENGTH, 1, "ki"},
    {"websocket chunked",
     B(GET "Transfer-Encoding: chunked\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
     HTTP1_GET, HTTP1_CHUNKED, -1, "ki"},
    {"websocket by POST", B(POST "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"), HTTP1_POST,
     HTTP1_NONE, -1, "k"},
    {"websocket on 1.0", B("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
     HTTP1_GET, HTTP1_NONE, -1, "i"},
    {"h2c is ignored",
     B(GET "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n"),
     HTTP1_GET, HTTP1_NONE, -1, "ki"},
    {"absolute", B("GET http://A:80/x?y HTTP/1.1\r\n" HOST "\r\n"), HTTP1_GET, HTTP1_NONE, -1,
     "ki"},
    {"odd but legal target", B("GET /a|b{c}^`\"<>[]~;p=%2F//x?y\\z%zz HTTP/1.1\r\n" HOST "\r\n"),
     HTTP1_GET, HTTP1_NONE, -1, "ki"},
    {"IPv6 absolute", B("GET http://[::1]:80/ HTTP/1.1\r\nHost: [::1]\r\n\r\n"), HTTP1_GET,
     HTTP1_NONE, -1, "ki"},
    {"empty line first", B("\r\n" GET "\r\n"), HTTP1_GET, HTTP1_NONE, -1, "ki"},
};

START_TEST(meanings)
{
    const struct good *r = &good[_i];
    struct guard_verdict v = parse_request(r->bytes, r->n);
    ck_assert_msg(v.reason == PROXY_NONE, "%s: reason %d (%s)", r->name, (int)v.reason, v.words);
    ck_assert_msg(head.method_id == r->method, "%s: method", r->name);
    ck_assert_msg(head.framing == r->framing, "%s: framing %d", r->name, (int)head.framing);
    ck_assert_msg(head.content_length == r->length, "%s: length", r->name);
    ck_assert_msg(head.keep_alive == !!strchr(r->flags, 'k'), "%s: keep_alive", r->name);
    ck_assert_msg(head.expect_continue == !!strchr(r->flags, 'e'), "%s: expect", r->name);
    ck_assert_msg(head.websocket == !!strchr(r->flags, 'w'), "%s: websocket", r->name);
    ck_assert_msg(head.te_trailers == !!strchr(r->flags, 't'), "%s: te", r->name);
    ck_assert_msg(head.idempotent == !!strchr(r->flags, 'i'), "%s: idempotent", r->name);
}
END_TEST

START_TEST(values)
{
    static const char bytes[] =
        "\r\nPOST /a?b HTTP/1.1\r\nHost: Ex.com:81\r\nA:\r\nB: \t x y \t \r\n"
        "c:d\r\nConnection: b, Host\r\nB: again\r\n\r\nbody";
    ck_assert_int_eq(parse_request(bytes, sizeof bytes - 1).reason, PROXY_NONE);
    ck_assert(kg_str_eq(head.method, KG_STR("POST")));
    ck_assert(kg_str_eq(head.raw_target, KG_STR("/a?b")));
    ck_assert(kg_str_eq(head.target.path, KG_STR("/a")));
    ck_assert(kg_str_eq(target_host(&head.target), KG_STR("ex.com")));
    ck_assert_uint_eq(head.field_count, 6);
    ck_assert_uint_eq(head.bytes, sizeof bytes - 1 - 2 - 4);
    ck_assert(kg_str_eq(head.fields[1].name, KG_STR("A")));
    ck_assert_uint_eq(head.fields[1].value.n, 0);
    ck_assert(kg_str_eq(head.fields[2].value, KG_STR("x y")));
    ck_assert(kg_str_eq(head.fields[3].value, KG_STR("d")));
    ck_assert(head.fields[2].named && head.fields[5].named && !head.fields[3].named);
    ck_assert_ptr_eq(http1_field(&head, FIELD_HOST), &head.fields[0]);
    ck_assert_ptr_null(http1_field(&head, FIELD_EXPECT));
    ck_assert(kg_str_eq(http1_value(&head, FIELD_CONNECTION), KG_STR("b, Host")));
    ck_assert_uint_eq(http1_value(&head, FIELD_EXPECT).n, 0);
}
END_TEST

START_TEST(head_is_known_on_refusal)
{
    static const char bytes[] = "HEAD /\\ HTTP/1.0\r\n\r\n";
    ck_assert_int_eq(parse_request(bytes, sizeof bytes - 1).reason, PROXY_BAD_REQUEST);
    ck_assert_int_eq(head.method_id, HTTP1_HEAD);
    ck_assert_uint_eq(head.minor, 0);
}
END_TEST

START_TEST(limits)
{
    static char bytes[KG_MAX_HEAD_BYTES + 64];
    for (unsigned count = KG_MAX_FIELDS - 1; count <= KG_MAX_FIELDS + 1; count++) {
        size_t n = (size_t)sprintf(bytes, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (unsigned i = 1; i < count; i++)
            n += (size_t)sprintf(bytes + n, "F%u:\r\n", i);
        n += (size_t)sprintf(bytes + n, "\r\n");
        ck_assert_int_eq(parse_request(bytes, n).reason,
                         count > KG_MAX_FIELDS ? PROXY_HEAD_TOO_LARGE : PROXY_NONE);
        if (count <= KG_MAX_FIELDS)
            ck_assert_uint_eq(head.field_count, count);
    }
    for (unsigned options = 31; options <= 33; options++) {
        size_t n = (size_t)sprintf(bytes, "GET / HTTP/1.1\r\nHost: a\r\nConnection: a");
        for (unsigned i = 1; i < options; i++)
            n += (size_t)sprintf(bytes + n, ",b%u", i);
        n += (size_t)sprintf(bytes + n, "\r\n\r\n");
        ck_assert_int_eq(parse_request(bytes, n).reason,
                         options > HTTP1_MAX_CONNECTION_OPTIONS ? PROXY_BAD_REQUEST : PROXY_NONE);
    }
}
END_TEST

/* A head of exactly the largest size, most of it in one value, and one of many small list elements:
 * neither may cost more than it weighs. */
START_TEST(largest)
{
    static char bytes[KG_MAX_HEAD_BYTES];
    static const char start[] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: ";
    for (int c = 0; c < 2; c++) {
        memset(bytes, c ? ',' : 'v', sizeof bytes);
        memcpy(bytes, start, sizeof start - 1);
        memcpy(bytes + sizeof bytes - 4, "\r\n\r\n", 4);
        ck_assert_int_eq(parse_request(bytes, sizeof bytes).reason, PROXY_NONE);
        ck_assert_uint_eq(head.bytes, KG_MAX_HEAD_BYTES);
    }
}
END_TEST

/* --- responses -----------------------------------------------------------------------------------
 */

#define OK200 "HTTP/1.1 200 OK\r\n"
#define SWITCH "HTTP/1.1 101 Switching Protocols\r\n"
#define UP "Connection: Upgrade\r\nUpgrade: websocket\r\n"

static const struct answer {
    const char *name, *bytes;
    size_t n;
    const char *asked; /* h head, w websocket */
    bool fine;
    enum http1_framing framing;
    int64_t length;
    bool keep_alive;
} answers[] = {
    {"length", B(OK200 "Content-Length: 5\r\n\r\n"), "", true, HTTP1_LENGTH, 5, true},
    {"length 0", B(OK200 "Content-Length: 0\r\n\r\n"), "", true, HTTP1_LENGTH, 0, true},
    {"chunked", B(OK200 "Transfer-Encoding: chunked\r\n\r\n"), "", true, HTTP1_CHUNKED, -1, true},
    {"until close", B(OK200 "\r\n"), "", true, HTTP1_UNTIL_CLOSE, -1, false},
    {"until close on 1.0", B("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"), "", true,
     HTTP1_UNTIL_CLOSE, -1, false},
    {"1.0", B("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"), "", true, HTTP1_LENGTH, 5, false},
    {"1.0 keep-alive", B("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"),
     "", true, HTTP1_LENGTH, 5, true},
    {"close", B(OK200 "Content-Length: 5\r\nConnection: close\r\n\r\n"), "", true, HTTP1_LENGTH, 5,
     false},
    {"no phrase", B("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n"), "", true, HTTP1_LENGTH, 5, true},
    {"obs-text phrase", B("HTTP/1.1 200 \xc3\xa4\r\nContent-Length: 5\r\n\r\n"), "", true,
     HTTP1_LENGTH, 5, true},
    {"answer to HEAD", B(OK200 "Content-Length: 5\r\n\r\n"), "h", true, HTTP1_NONE, 5, true},
    {"answer to HEAD, chunked", B(OK200 "Transfer-Encoding: chunked\r\n\r\n"), "h", true,
     HTTP1_NONE, -1, true},
    {"answer to HEAD, nothing", B(OK200 "\r\n"), "h", true, HTTP1_NONE, -1, true},
    {"204", B("HTTP/1.1 204 No Content\r\n\r\n"), "", true, HTTP1_NONE, -1, true},
    {"204 with length", B("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"), "", true,
     HTTP1_NONE, 5, true},
    {"204 chunked", B("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"), "", true,
     HTTP1_NONE, -1, true},
    {"304 with length", B("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"), "", true,
     HTTP1_NONE, 5, true},
    {"100", B("HTTP/1.1 100 Continue\r\n\r\n"), "", true, HTTP1_NONE, -1, true},
    {"103", B("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), "", true, HTTP1_NONE, -1, true},
    {"102 with length", B("HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\n"), "", true,
     HTTP1_NONE, 5, true},
    {"101 asked", B(SWITCH UP "\r\n"), "w", true, HTTP1_TUNNEL, -1, false},
    {"101 with length asked", B(SWITCH UP "Content-Length: 5\r\n\r\n"), "w", true, HTTP1_TUNNEL, 5,
     false},
    {"refused upgrade", B(OK200 "Content-Length: 5\r\n\r\n"), "w", true, HTTP1_LENGTH, 5, true},
    {"upgrade offered by 200", B(OK200 UP "Content-Length: 5\r\n\r\n"), "", true, HTTP1_LENGTH, 5,
     true},
    {"205", B("HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n"), "", true, HTTP1_LENGTH, 0, true},

    {"101 unasked", B(SWITCH UP "\r\n"), "", false, 0, 0, false},
    {"101 without Upgrade", B(SWITCH "\r\n"), "w", false, 0, 0, false},
    {"101 without Connection", B(SWITCH "Upgrade: websocket\r\n\r\n"), "w", false, 0, 0, false},
    {"101 to h2c", B(SWITCH "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), "w", false, 0, 0,
     false},
    {"CL and TE", B(OK200 "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), "", false, 0,
     0, false},
    {"CL and TE of 304",
     B("HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"
       "\r\n"),
     "", false, 0, 0, false},
    {"several CL", B(OK200 "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), "", false, 0, 0,
     false},
    {"several CL to HEAD", B(OK200 "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), "h", false, 0,
     0, false},
    {"list CL", B(OK200 "Content-Length: 5, 5\r\n\r\n"), "", false, 0, 0, false},
    {"negative CL", B(OK200 "Content-Length: -1\r\n\r\n"), "", false, 0, 0, false},
    {"CL 2^63", B(OK200 "Content-Length: 9223372036854775808\r\n\r\n"), "", false, 0, 0, false},
    {"TE gzip, chunked", B(OK200 "Transfer-Encoding: gzip, chunked\r\n\r\n"), "", false, 0, 0,
     false},
    {"TE gzip", B(OK200 "Transfer-Encoding: gzip\r\n\r\n"), "", false, 0, 0, false},
    {"TE twice", B(OK200 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), "",
     false, 0, 0, false},
    {"TE on 1.0", B("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "", false, 0, 0,
     false},
    {"bare LF", B("HTTP/1.1 200 OK\nContent-Length: 5\n\n"), "", false, 0, 0, false},
    {"bare CR", B(OK200 "A: b\rContent-Length: 5\r\n\r\n"), "", false, 0, 0, false},
    {"control", B(OK200 "A: \x01\r\n\r\n"), "", false, 0, 0, false},
    {"folded", B(OK200 "A: b\r\n c\r\n\r\n"), "", false, 0, 0, false},
    {"space before colon", B(OK200 "Content-Length : 5\r\n\r\n"), "", false, 0, 0, false},
    {"empty name", B(OK200 ": 5\r\n\r\n"), "", false, 0, 0, false},
    {"HTTP/2", B("HTTP/2.0 200 OK\r\n\r\n"), "", false, 0, 0, false},
    {"no status", B("HTTP/1.1 OK\r\n\r\n"), "", false, 0, 0, false},
    {"a request", B("GET / HTTP/1.1\r\n\r\n"), "", false, 0, 0, false},
};

START_TEST(responses)
{
    const struct answer *r = &answers[_i];
    struct http1_asked asked = {strchr(r->asked, 'h'), strchr(r->asked, 'w')};
    struct guard_verdict v = parse_response(r->bytes, r->n, asked);
    ck_assert_msg(v.reason == (r->fine ? PROXY_NONE : PROXY_UPSTREAM_FAILED), "%s: %d (%s)",
                  r->name, (int)v.reason, v.words);
    if (!r->fine)
        return;
    ck_assert_msg(head.framing == r->framing, "%s: framing %d", r->name, (int)head.framing);
    ck_assert_msg(head.content_length == r->length, "%s: length", r->name);
    ck_assert_msg(head.keep_alive == r->keep_alive, "%s: keep_alive", r->name);
}
END_TEST

/* --- lists ---------------------------------------------------------------------------------------
 */

START_TEST(lists)
{
    struct kg_str rest = KG_STR(" a ,, b\t,"), e;
    const char *wanted[] = {"a", "", "b", ""};
    for (int i = 0; i < 4; i++) {
        ck_assert(http1_list_next(&rest, &e));
        ck_assert(kg_str_eq(e, kg_str_of(wanted[i])));
    }
    ck_assert(!http1_list_next(&rest, &e));
    ck_assert(!http1_list_next(&rest, &e));
    rest = KG_STR("");
    ck_assert(http1_list_next(&rest, &e) && e.n == 0);
    ck_assert(!http1_list_next(&rest, &e));
}
END_TEST

START_TEST(field_names)
{
    static const struct {
        const char *name;
        enum field_id id;
    } rows[] = {
        {"Host", FIELD_HOST},
        {"hOsT", FIELD_HOST},
        {"Hos", FIELD_OTHER},
        {"Hostx", FIELD_OTHER},
        {"Transfer-Encoding", FIELD_TRANSFER_ENCODING},
        {"Transfer_Encoding", FIELD_SPOOF},
        {"transfer-encodin_", FIELD_OTHER},
        {"Content_Length", FIELD_SPOOF},
        {"X_Forwarded_For", FIELD_SPOOF},
        {"X-Forwarded_For", FIELD_SPOOF},
        {"X_FORWARDED_ANYTHING_THAT_IS_LONG_ENOUGH", FIELD_SPOOF},
        {"X-Forwarded-Anything-That-Is-Long-Enough_x", FIELD_FAMILY_CLAIM},
        {"X-Forwarded-", FIELD_FAMILY_CLAIM},
        {"X-Forwardedx", FIELD_OTHER},
        {"X-Kipgate-Token", FIELD_FAMILY_CLAIM},
        {"X_Kipgate_Token", FIELD_SPOOF},
        {"Proxy", FIELD_PROXY},
        {"Proxy-Authorization", FIELD_FAMILY_HOP},
        {"Proxy_Authorization", FIELD_SPOOF},
        {"Proxy-Connection", FIELD_PROXY_CONNECTION},
        {"Proxyx", FIELD_OTHER},
        {"X_Other", FIELD_OTHER},
        {"_", FIELD_OTHER},
        {"a", FIELD_OTHER},
        {"a-name-that-is-longer-than-any-row", FIELD_OTHER},
        {"content-length0123456789", FIELD_OTHER},
        {"content-length0123456789x", FIELD_OTHER},
        {"HTTP2-Settings", FIELD_HTTP2_SETTINGS},
        {"HTTP2_Settings", FIELD_SPOOF},
        {"X^Request^Id", FIELD_OTHER},
        {"X-Request-Id", FIELD_X_REQUEST_ID},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_msg(field_find(kg_str_of(rows[i].name)) == rows[i].id, "%s", rows[i].name);
}
END_TEST

/* --- fuzz ----------------------------------------------------------------------------------------
 */

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static bool inside(struct kg_str s, size_t n)
{
    return s.p >= keep && s.p + s.n <= keep + n;
}

/* What must hold for every head that was let through. */
static bool is_sound(size_t n)
{
    for (unsigned i = 0; i < head.field_count; i++) {
        const struct http1_field *f = &head.fields[i];
        if (!inside(f->name, n) || !inside(f->value, n) || !guard_is_token(f->name))
            return false;
        if (f->value.n && (f->value.p[0] == ' ' || f->value.p[f->value.n - 1] == ' '))
            return false;
    }
    if (head.count[FIELD_HOST] > 1 || head.count[FIELD_CONTENT_LENGTH] > 1 ||
        head.count[FIELD_TRANSFER_ENCODING] > 1)
        return false;
    if (head.count[FIELD_CONTENT_LENGTH] && head.count[FIELD_TRANSFER_ENCODING])
        return false;
    if (head.framing == HTTP1_LENGTH && head.content_length < 0)
        return false;
    return head.minor == 0 || head.target.host_n > 0;
}

START_TEST(fuzz)
{
    static const char *const lines[] = {
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 05\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close, X-A\r\n",
        "Connection: upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Expect: 100-continue\r\n",
        "X-A: b\r\n",
        "TE: trailers\r\n",
        ":\r\n",
        "Transfer_Encoding: chunked\r\n",
    };
    static const char spice[] = "\r\n :,;\t\0\x7f\x80/-_5c";
    uint64_t random = 4711;
    unsigned fine = 0;
    for (int round = 0; round < 60000; round++) {
        char bytes[512];
        size_t n = (size_t)sprintf(bytes, "%s /a?b HTTP/1.%d\r\n",
                                   random_next(&random) % 2 ? "GET" : "POST",
                                   random_next(&random) % 8 != 0);
        if (random_next(&random) % 8)
            n += (size_t)sprintf(bytes + n, "Host: a\r\n");
        for (unsigned i = random_next(&random) % 5; i > 0; i--)
            n += (size_t)sprintf(bytes + n, "%s",
                                 lines[random_next(&random) % (sizeof lines / sizeof *lines)]);
        n += (size_t)sprintf(bytes + n, "\r\n");
        for (unsigned i = random_next(&random) % 3; i > 0; i--)
            bytes[random_next(&random) % (n - 4)] =
                spice[random_next(&random) % (sizeof spice - 1)];
        memcpy(bytes + n, "\r\n\r\n", 4); /* so that there is always an end */
        if (parse_request(bytes, n + 4).reason != PROXY_NONE)
            continue;
        fine++;
        ck_assert_msg(is_sound(n + 4), "%.*s", (int)n, bytes);
    }
    ck_assert_uint_gt(fine, 1000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http1");
    TCase *t = tcase_create("http1");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, refusals, 0, sizeof refused / sizeof *refused);
    tcase_add_loop_test(t, meanings, 0, sizeof good / sizeof *good);
    tcase_add_loop_test(t, responses, 0, sizeof answers / sizeof *answers);
    tcase_add_test(t, values);
    tcase_add_test(t, head_is_known_on_refusal);
    tcase_add_test(t, limits);
    tcase_add_test(t, largest);
    tcase_add_test(t, lists);
    tcase_add_test(t, field_names);
    tcase_add_test(t, fuzz);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    free(keep);
    return failed != 0;
}
