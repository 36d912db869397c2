/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of HTTP/2 into text and back, whole texts compared.
 * The difficulty: what is malformed must be told from what is only refused. */
#include "base/err.h"
#include "proxy/http2_head_priv.h"
#include <check.h>
#include <stdlib.h>

#define NONCE "0123456789abcdef"
#define MAX_FIELDS 12

static char text[HTTP2_TEXT_BYTES];
static size_t text_n;

/* "name value" each, up to NULL; the name ends at the first blank. */
static struct http2_head head_of(enum http2_head_kind kind, const char *const *lines,
                                 struct http2_field *fields)
{
    struct http2_head head = {.kind = kind, .fields = fields};

    for (; lines[head.count]; head.count++) {
        const char *line = lines[head.count], *blank = strchr(line, ' ');
        fields[head.count].name = (struct kg_str){line, (size_t)(blank - line)};
        fields[head.count].value = kg_str_of(blank + 1);
    }
    return head;
}

#define LINES(...) ((const char *const[MAX_FIELDS + 1]){__VA_ARGS__, NULL})

static enum proxy_reason request(bool end, const char *const *lines)
{
    struct http2_field fields[MAX_FIELDS];
    struct http2_head head = head_of(HTTP2_REQUEST, lines, fields);

    return http2_head_request(&head, end, NONCE, text, &text_n).reason;
}

static void is_text(const char *wanted)
{
    ck_assert_uint_eq(text_n, strlen(wanted));
    ck_assert_int_eq(memcmp(text, wanted, text_n), 0);
}

#define GET ":method GET", ":scheme http", ":path /a?b"
#define GET_OF_A GET, ":authority a"

START_TEST(plain_requests)
{
    ck_assert_int_eq(request(true, LINES(GET_OF_A, "accept */*")), PROXY_NONE);
    is_text("GET /a?b HTTP/1.1\r\nhost: a\r\naccept: */*\r\n\r\n");
    ck_assert_int_eq(request(true, LINES(GET, "host a", "x-empty ")), PROXY_NONE);
    is_text("GET /a?b HTTP/1.1\r\nhost: a\r\nx-empty: \r\n\r\n");
    ck_assert_int_eq(request(true, LINES(":path *", ":method OPTIONS", ":authority a:80",
                                         ":scheme https", "host A:80", "te trailers")),
                     PROXY_NONE);
    is_text("OPTIONS * HTTP/1.1\r\nhost: a:80\r\nte: trailers\r\n\r\n");
    ck_assert_int_eq(request(true, LINES(GET)), PROXY_NONE); /* http1.c says what is missing */
    is_text("GET /a?b HTTP/1.1\r\n\r\n");
}
END_TEST

START_TEST(framing)
{
    ck_assert_int_eq(request(false, LINES(GET_OF_A)), PROXY_NONE);
    is_text("GET /a?b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    ck_assert_int_eq(request(false, LINES(GET_OF_A, "content-length 5")), PROXY_NONE);
    is_text("GET /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n");
    ck_assert_int_eq(request(true, LINES(GET_OF_A, "content-length 0")), PROXY_NONE);
    is_text("GET /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
}
END_TEST

START_TEST(cookies)
{
    ck_assert_int_eq(request(true, LINES(GET_OF_A, "cookie a=1", "x y", "cookie b=2", "cookie c")),
                     PROXY_NONE);
    is_text("GET /a?b HTTP/1.1\r\nhost: a\r\nx: y\r\ncookie: a=1; b=2; c\r\n\r\n");
    ck_assert_int_eq(request(true, LINES(GET_OF_A, "cookie a=1", "x y")), PROXY_NONE);
    is_text("GET /a?b HTTP/1.1\r\nhost: a\r\ncookie: a=1\r\nx: y\r\n\r\n");
}
END_TEST

START_TEST(websockets)
{
    ck_assert_int_eq(
        request(false, LINES(":method CONNECT", ":protocol websocket", ":scheme http", ":path /ws",
                             ":authority a", "sec-websocket-key mine", "sec-websocket-version 13")),
        PROXY_NONE);
    is_text("GET /ws HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\n"
            "sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            "connection: upgrade\r\nupgrade: websocket\r\n\r\n");
    ck_assert_int_eq(request(false, LINES(":method CONNECT", ":protocol other", ":scheme http",
                                          ":path /", ":authority a")),
                     PROXY_NOT_IMPLEMENTED);
    ck_assert_int_eq(request(false, LINES(":method CONNECT", ":authority a:1")),
                     PROXY_METHOD_NOT_ALLOWED);
}
END_TEST

static const char *const malformed[][MAX_FIELDS + 1] = {
    {":scheme http", ":path /", ":authority a"},
    {":method GET", ":path /", ":authority a"},
    {":method GET", ":scheme http", ":authority a"},
    {":method GET", ":scheme ftp", ":path /"},
    {":method GET", ":scheme http", ":path "},
    {":method GET", ":scheme http", ":path a"},
    {":method GET", ":scheme http", ":path http://a/"},
    {":method GET", ":scheme http", ":path /a HTTP/1.1"},
    {":method GET", ":scheme http", ":path /a\r\nx:"},
    {":method GET /x", ":scheme http", ":path /"},
    {":method G(T", ":scheme http", ":path /"},
    {":method ", ":scheme http", ":path /"},
    {GET, ":authority a b"},
    {GET, ":authority a\r\nx: y"},
    {GET, ":authority "},
    {GET, ":method GET"},
    {GET, ":status 200"},
    {GET, ":other x"},
    {GET, ":protocol websocket"},
    {GET, "x y", ":authority a"},
    {GET_OF_A, "host b"},
    {GET_OF_A, "host a", "host a"},
    {GET_OF_A, "X y"},
    {GET_OF_A, " y"},
    {GET_OF_A, "x:y z"},
    {GET_OF_A, "x\r\ny z"},
    {GET_OF_A, "x  y"},
    {GET_OF_A, "x y "},
    {GET_OF_A, "x y\t"},
    {GET_OF_A, "x a\r\nb: c"},
    {GET_OF_A, "x a\nb"},
    {GET_OF_A, "x a\rb"},
    {GET_OF_A, "connection close"},
    {GET_OF_A, "keep-alive x"},
    {GET_OF_A, "proxy-connection x"},
    {GET_OF_A, "transfer-encoding chunked"},
    {GET_OF_A, "upgrade websocket"},
    {GET_OF_A, "te gzip"},
    {GET_OF_A, "te trailers, gzip"},
};

START_TEST(malformed_requests)
{
    ck_assert_msg(request(true, malformed[_i]) == PROXY_BAD_REQUEST, "%s",
                  malformed[_i][3] ? malformed[_i][3] : malformed[_i][0]);
}
END_TEST

START_TEST(a_nul_in_a_value)
{
    struct http2_field fields[MAX_FIELDS];
    struct http2_head head = head_of(HTTP2_REQUEST, LINES(GET_OF_A, "x abc"), fields);

    fields[4].value = (struct kg_str){"a\0b", 3};
    ck_assert_int_eq(http2_head_request(&head, true, NONCE, text, &text_n).reason,
                     PROXY_BAD_REQUEST);
}
END_TEST

START_TEST(too_large)
{
    struct http2_field fields[MAX_FIELDS];
    struct http2_head head = head_of(HTTP2_REQUEST, LINES(GET_OF_A), fields);

    head.too_large = true;
    ck_assert_int_eq(http2_head_request(&head, true, NONCE, text, &text_n).reason,
                     PROXY_HEAD_TOO_LARGE);
}
END_TEST

START_TEST(trailers)
{
    struct http2_field fields[MAX_FIELDS];
    struct http2_head head = head_of(HTTP2_TRAILERS, LINES("grpc-status 0", "x y"), fields);

    ck_assert_int_eq(http2_head_trailers(&head, text, &text_n).reason, PROXY_NONE);
    is_text("0\r\ngrpc-status: 0\r\nx: y\r\n\r\n");
    head = head_of(HTTP2_TRAILERS, LINES(":path /"), fields);
    ck_assert_int_eq(http2_head_trailers(&head, text, &text_n).reason, PROXY_BAD_REQUEST);
}
END_TEST

static enum proxy_reason response(bool end, bool body, const char *const *lines)
{
    struct http2_field fields[MAX_FIELDS];
    struct http2_head head = head_of(HTTP2_RESPONSE, lines, fields);

    return http2_head_response(&head, end, body, text, &text_n).reason;
}

START_TEST(responses)
{
    ck_assert_int_eq(response(false, true, LINES(":status 200", "x y")), PROXY_NONE);
    is_text("HTTP/1.1 200 \r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n");
    ck_assert_int_eq(response(false, true, LINES(":status 103", "link x")), PROXY_NONE);
    is_text("HTTP/1.1 103 \r\nlink: x\r\n\r\n");
    ck_assert_int_eq(response(true, true, LINES(":status 404")), PROXY_NONE);
    is_text("HTTP/1.1 404 \r\ncontent-length: 0\r\n\r\n");
    ck_assert_int_eq(response(true, true, LINES(":status 304")), PROXY_NONE);
    is_text("HTTP/1.1 304 \r\n\r\n"); /* its body would have a length that only the worker knows */
    ck_assert_int_eq(response(true, true, LINES(":status 204")), PROXY_NONE);
    is_text("HTTP/1.1 204 \r\n\r\n");
    ck_assert_int_eq(response(true, false, LINES(":status 200", "content-length 9")), PROXY_NONE);
    is_text("HTTP/1.1 200 \r\ncontent-length: 9\r\n\r\n");
    ck_assert_int_eq(response(true, false, LINES(":status 101")), PROXY_BAD_REQUEST);
    ck_assert_int_eq(response(true, false, LINES("x y")), PROXY_BAD_REQUEST);
    ck_assert_int_eq(response(true, false, LINES(":status 20")), PROXY_BAD_REQUEST);
    ck_assert_int_eq(response(true, false, LINES(":status 200", ":path /")), PROXY_BAD_REQUEST);
}
END_TEST

static void is_field(const struct http2_field *f, const char *name, const char *value)
{
    ck_assert_msg(kg_str_eq(f->name, kg_str_of(name)) && kg_str_eq(f->value, kg_str_of(value)),
                  "%.*s: %.*s", (int)f->name.n, f->name.p, (int)f->value.n, f->value.p);
}

START_TEST(text_of_a_request)
{
    char lines[] = "POST /x?y HTTP/1.1\r\nHost: a:1\r\nX-Two: b c\r\nConnection: TE\r\n"
                   "TE: trailers\r\nTransfer-Encoding: chunked\r\nX-Empty: \r\n\r\n";
    struct http2_field f[HTTP2_MAX_FIELDS];

    ck_assert_uint_eq(http2_fields_request(lines, strlen(lines), f), 7);
    is_field(&f[0], ":method", "POST");
    is_field(&f[1], ":scheme", "http");
    is_field(&f[2], ":path", "/x?y");
    is_field(&f[3], ":authority", "a:1");
    is_field(&f[4], "x-two", "b c");
    is_field(&f[5], "te", "trailers");
    is_field(&f[6], "x-empty", "");
}
END_TEST

START_TEST(text_of_a_response)
{
    char lines[] = "HTTP/1.1 201 Made\r\nX-Two: b\r\nConnection: close\r\n\r\n";
    char tunnel[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                    "Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\nX-Y: z\r\n\r\n";
    char end[] = "Grpc-Status: 0\r\nX: y\r\n";
    struct http2_field f[HTTP2_MAX_FIELDS];

    ck_assert_uint_eq(http2_fields_response(lines, strlen(lines), f), 2);
    is_field(&f[0], ":status", "201");
    is_field(&f[1], "x-two", "b");
    ck_assert_uint_eq(http2_fields_response(tunnel, strlen(tunnel), f), 2);
    is_field(&f[0], ":status", "200");
    is_field(&f[1], "x-y", "z");
    ck_assert_uint_eq(http2_fields_trailers(end, strlen(end), f), 2);
    is_field(&f[0], "grpc-status", "0");
    is_field(&f[1], "x", "y");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http2 head");
    TCase *t = tcase_create("http2 head");
    SRunner *r;
    int failed;

    tcase_add_test(t, plain_requests);
    tcase_add_test(t, framing);
    tcase_add_test(t, cookies);
    tcase_add_test(t, websockets);
    tcase_add_loop_test(t, malformed_requests, 0, (int)(sizeof malformed / sizeof *malformed));
    tcase_add_test(t, a_nul_in_a_value);
    tcase_add_test(t, too_large);
    tcase_add_test(t, trailers);
    tcase_add_test(t, responses);
    tcase_add_test(t, text_of_a_request);
    tcase_add_test(t, text_of_a_response);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
