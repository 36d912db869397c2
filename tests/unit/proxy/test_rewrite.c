/* SPDX-License-Identifier: Apache-2.0 */
/* Canonical heads: what goes on, what ends here, what is ours.
 * The difficulty: whole expected texts, so that nothing extra goes unnoticed. */
#include "base/err.h"
#include "proxy/rewrite.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define TRACE "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
#define ID KG_STR("id-1")

static struct http1_head head;
static struct kg_arena_pool pool;
static struct kg_arena arena;
static char text[KG_MAX_HEAD_BYTES * 2];

static void setup(void)
{
    kg_arena_pool_init(&pool, 16384, 4);
    kg_arena_init(&arena, &pool, 1 << 20);
}

static void teardown(void)
{
    kg_arena_fini(&arena);
    kg_arena_pool_fini(&pool);
}

static void parse_request(const char *bytes, size_t n)
{
    struct guard g;
    guard_init(&g, GUARD_REQUEST);
    ck_assert_msg(guard_scan(&g, bytes, n) == GUARD_DONE, "%s", bytes);
    struct guard_verdict v = http1_parse_request(&g, bytes, &head);
    ck_assert_msg(v.reason == PROXY_NONE, "%s: %s", bytes, v.words);
}

static void parse_response(const char *bytes, bool is_head, bool websocket)
{
    struct guard g;
    struct http1_asked asked = {is_head, websocket};
    guard_init(&g, GUARD_RESPONSE);
    ck_assert_msg(guard_scan(&g, bytes, strlen(bytes)) == GUARD_DONE, "%s", bytes);
    struct guard_verdict v = http1_parse_response(&g, bytes, &asked, &head);
    ck_assert_msg(v.reason == PROXY_NONE, "%s: %s", bytes, v.words);
}

/* What was written, as a string. */
static const char *to_text(struct kg_str s)
{
    ck_assert_ptr_nonnull(s.p);
    ck_assert(kg_str_copy(text, sizeof text, s));
    return text;
}

static const char *request(const char *bytes, const struct rewrite_to_worker *with)
{
    parse_request(bytes, strlen(bytes));
    return to_text(rewrite_request(&arena, &head, with));
}

/* --- to the worker -------------------------------------------------------------------------------
 */

#define OURS(host)                                                                                 \
    "X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-Host: " host                                         \
    "\r\nX-Forwarded-Proto: http\r\nX-Request-Id: id-1\r\ntraceparent: " TRACE "\r\n"              \
    "Via: 1.1 kipgate\r\n"
#define GET "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: " TRACE "\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\ntraceparent: " TRACE "\r\n"
#define GOT "GET / HTTP/1.1\r\nHost: a\r\n"
#define POSTED "POST / HTTP/1.1\r\nHost: a\r\n"

static const struct pair {
    const char *name, *in, *out;
} requests[] = {
    {"plain", GET "\r\n", GOT OURS("a") "\r\n"},
    {"order and spelling kept", GET "B: 2\r\nA: 1\r\nb:  3 \r\nC:\r\nD: \r\nE:\t5\r\n\r\n",
     GOT "B: 2\r\nA: 1\r\nb: 3\r\nC: \r\nD: \r\nE: 5\r\n" OURS("a") "\r\n"},
    {"Host unchanged", "GET / HTTP/1.1\r\nhost: Ex.COM:81\r\ntraceparent: " TRACE "\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: Ex.COM:81\r\n" OURS("Ex.COM:81") "\r\n"},
    {"Host last is written first",
     "GET /x?y=z HTTP/1.1\r\nA: b\r\ntraceparent: " TRACE "\r\nHost: a\r\n\r\n",
     "GET /x?y=z HTTP/1.1\r\nHost: a\r\nA: b\r\n" OURS("a") "\r\n"},
    {"absolute", "GET http://A:80/x?y HTTP/1.1\r\nHost: a\r\ntraceparent: " TRACE "\r\n\r\n",
     "GET /x?y HTTP/1.1\r\nHost: A:80\r\n" OURS("A:80") "\r\n"},
    {"absolute without path",
     "GET http://a?y HTTP/1.1\r\nHost: a\r\ntraceparent: " TRACE "\r\n\r\n",
     "GET /?y HTTP/1.1\r\nHost: a\r\n" OURS("a") "\r\n"},
    {"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\ntraceparent: " TRACE "\r\n\r\n",
     "OPTIONS * HTTP/1.1\r\nHost: a\r\n" OURS("a") "\r\n"},
    {"1.0 without Host", "GET / HTTP/1.0\r\ntraceparent: " TRACE "\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 10.1.2.3\r\n"
     "X-Forwarded-Proto: http\r\nX-Request-Id: id-1\r\ntraceparent: " TRACE "\r\n"
     "Via: 1.0 kipgate\r\n\r\n"},
    {"length", POST "content-length: 0005\r\n\r\n", POSTED OURS("a") "Content-Length: 5\r\n\r\n"},
    {"length 0", POST "Content-Length: 0\r\n\r\n", POSTED OURS("a") "Content-Length: 0\r\n\r\n"},
    {"length max", POST "Content-Length: 9223372036854775807\r\n\r\n",
     POSTED OURS("a") "Content-Length: 9223372036854775807\r\n\r\n"},
    {"chunked", POST "Transfer-Encoding: CHUNKED\r\nTrailer: A\r\n\r\n",
     POSTED "Trailer: A\r\n" OURS("a") "Transfer-Encoding: chunked\r\n\r\n"},
    {"Trailer without trailers", POST "Content-Length: 5\r\nTrailer: A\r\n\r\n",
     POSTED OURS("a") "Content-Length: 5\r\n\r\n"},
    {"hop by hop",
     GET "Connection: keep-alive, X-Hop\r\nA: 1\r\nx-hop: 2\r\nKeep-Alive: 5\r\nB: 3\r\n"
         "Proxy-Connection: x\r\nProxy-Authorization: x\r\nProxy: http://evil\r\nTE: gzip\r\n"
         "Upgrade: h2c\r\nHTTP2-Settings: x\r\nC: 4\r\n\r\n",
     GOT "A: 1\r\nB: 3\r\nC: 4\r\n" OURS("a") "\r\n"},
    {"Connection cannot take ours",
     GET "Connection: close, X-Forwarded-For, Host, Content-Length, Via, X-Request-Id, "
         "traceparent, Cookie, Authorization\r\nCookie: c\r\nAuthorization: d\r\n\r\n",
     GOT "Cookie: c\r\nAuthorization: d\r\n" OURS("a") "\r\n"},
    {"claims",
     GET "X-Forwarded-For: 1.1.1.1\r\nX-FORWARDED-HOST: evil\r\nX-Forwarded-Proto: https\r\n"
         "X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\nForwarded: for=1.1.1.1\r\n"
         "X-Real-IP: 1.1.1.1\r\nX-Kipgate-Token: x\r\nX-Forward: kept\r\n\r\n",
     GOT "X-Forward: kept\r\n" OURS("a") "\r\n"},
    {"underscores",
     GET "Transfer_Encoding: chunked\r\nContent_Length: 5\r\nX_Forwarded_For: 1.1.1.1\r\n"
         "X-Forwarded_For: 1.1.1.1\r\nHTTP2_Settings: x\r\nX_Real_IP: 1\r\nX_Request_Id: 2\r\n"
         "X_Other: kept\r\n\r\n",
     GOT "X_Other: kept\r\n" OURS("a") "\r\n"},
    {"Via is appended", GET "Via: 1.1 other\r\nA: b\r\n\r\n",
     GOT "Via: 1.1 other\r\nA: b\r\n" OURS("a") "\r\n"},
    {"the client's id is replaced by what the caller chose", GET "X-Request-Id: theirs\r\n\r\n",
     GOT OURS("a") "\r\n"},
    {"tracestate goes with a kept traceparent", GET "tracestate: a=b\r\n\r\n",
     GOT "tracestate: a=b\r\n" OURS("a") "\r\n"},
    {"TE trailers", GET "TE: deflate, trailers\r\n\r\n",
     GOT OURS("a") "Connection: TE\r\nTE: trailers\r\n\r\n"},
    {"websocket",
     GET "Connection: keep-alive, Upgrade\r\nUpgrade: websocket, h2c\r\n"
         "Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n",
     GOT "Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n" OURS(
         "a") "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"},
    {"Expect is not passed unasked", POST "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
     POSTED OURS("a") "Content-Length: 5\r\n\r\n"},
    {"obs-text", GET "A: \xc3\xa4\r\n\r\n", GOT "A: \xc3\xa4\r\n" OURS("a") "\r\n"},
};

START_TEST(request_texts)
{
    const struct pair *r = &requests[_i];
    struct rewrite_to_worker with = {.peer = KG_STR("10.1.2.3"), .id = ID};
    const char *got = request(r->in, &with);
    ck_assert_msg(strcmp(got, r->out) == 0, "%s: got\n%s", r->name, got);
}
END_TEST

/* What we write must get through our own guard and parser, and mean the same. */
START_TEST(request_is_canonical)
{
    struct rewrite_to_worker with = {.peer = KG_STR("10.1.2.3"), .id = ID};
    request(requests[_i].in, &with);
    struct http1_head before = head;
    char *written = strdup(text);
    parse_request(written, strlen(written));
    ck_assert_int_eq(head.framing, before.framing);
    if (before.framing == HTTP1_LENGTH)
        ck_assert_int_eq(head.content_length, before.content_length);
    ck_assert_int_eq(head.websocket, before.websocket);
    ck_assert_int_eq(head.te_trailers, before.te_trailers && !before.websocket);
    free(written);
}
END_TEST

START_TEST(request_options)
{
    struct rewrite_to_worker with = {
        .peer = {"", 0}, .id = ID, .secure = true, .strip_bytes = 2, .pass_expect = true};
    const char *got = request("PUT /a/b/c?d HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                              "traceparent: " TRACE "\r\nContent-Length: 5\r\n\r\n",
                              &with);
    ck_assert_str_eq(got, "PUT /b/c?d HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: a\r\n"
                          "X-Forwarded-Proto: https\r\nX-Request-Id: id-1\r\ntraceparent: " TRACE
                          "\r\nVia: 1.1 kipgate\r\nExpect: 100-continue\r\n"
                          "Content-Length: 5\r\n\r\n");
    got = request("GET /a?d HTTP/1.1\r\nHost: a\r\n\r\n", &with);
    ck_assert(strncmp(got, "GET /?d HTTP/1.1\r\n", 18) == 0);
}
END_TEST

/* A long absolute target is written up to three times (Host, X-Forwarded-Host): the bound holds. */
START_TEST(request_bound)
{
    static char bytes[KG_MAX_HEAD_BYTES + 1];
    char host[254];
    memset(host, 'h', sizeof host);
    for (unsigned fields = 0; fields <= 98; fields += 7) {
        size_t n = (size_t)sprintf(bytes, "GET http://%.253s:65535 HTTP/1.0\r\n", host);
        for (unsigned i = 0; i < fields; i++)
            n += (size_t)sprintf(bytes + n, "a:b\r\n");
        n += (size_t)sprintf(bytes + n, "TE: trailers\r\n\r\n");
        char id[REWRITE_ID_MAX + 1];
        memset(id, 'i', REWRITE_ID_MAX);
        struct rewrite_to_worker with = {.peer = KG_STR("1111:2222:3333:4444:5555:6666:7777:8888"),
                                         .id = {id, REWRITE_ID_MAX}};
        parse_request(bytes, n);
        ck_assert_ptr_nonnull(rewrite_request(&arena, &head, &with).p);
    }
}
END_TEST

START_TEST(no_memory)
{
    struct kg_arena small;
    struct rewrite_to_worker with = {.peer = KG_STR("10.1.2.3"), .id = ID};
    struct rewrite_to_client back = {.id = ID, .client_minor = 1, .keep_alive = true};
    kg_arena_init(&small, &pool, 64);
    parse_request(GET "\r\n", sizeof(GET "\r\n") - 1);
    ck_assert_ptr_null(rewrite_request(&small, &head, &with).p);
    parse_response("HTTP/1.1 204 x\r\n\r\n", false, false);
    ck_assert_ptr_null(rewrite_response(&small, &head, &back).p);
    kg_arena_fini(&small);
}
END_TEST

/* --- ids -----------------------------------------------------------------------------------------
 */

static struct kg_str id_of(const char *line, char out[REWRITE_ID_MAX + 1])
{
    static char bytes[1024];
    int n = snprintf(bytes, sizeof bytes, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", line);
    parse_request(bytes, (size_t)n);
    return rewrite_request_id(&head, out);
}

START_TEST(ids)
{
    char out[REWRITE_ID_MAX + 1], again[REWRITE_ID_MAX + 1], line[512];
    static const char *const kept[] = {"a", "A-z_0.9~+/=@:", "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                                       "Root=1-67891233-abcdef012345678912345678"};
    static const char *const replaced[] = {"",    "a b", "a\tb",     "a\"b", "<a>", "a,b",
                                           "a;b", "a{b", "\xc3\xa4", "a%b",  "a\\b"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        snprintf(line, sizeof line, "X-Request-Id: %s\r\n", kept[i]);
        ck_assert(kg_str_eq(id_of(line, out), kg_str_of(kept[i])));
        ck_assert_str_eq(out, kept[i]);
    }
    for (size_t i = 0; i < sizeof replaced / sizeof *replaced; i++) {
        snprintf(line, sizeof line, "X-Request-Id: %s\r\n", replaced[i]);
        ck_assert_uint_eq(id_of(line, out).n, REWRITE_ID_MADE);
        ck_assert_uint_eq(strspn(out, "0123456789abcdef"), REWRITE_ID_MADE);
    }
    ck_assert_uint_eq(id_of("X-Request-Id: a\r\nX-Request-Id: a\r\n", out).n, REWRITE_ID_MADE);
    ck_assert_uint_eq(rewrite_request_id(NULL, out).n, REWRITE_ID_MADE);
    rewrite_request_id(NULL, again);
    ck_assert_str_ne(out, again);
}
END_TEST

START_TEST(id_limit)
{
    char out[REWRITE_ID_MAX + 1], line[512];
    for (int n = REWRITE_ID_MAX - 1; n <= REWRITE_ID_MAX + 1; n++) {
        char id[REWRITE_ID_MAX + 2];
        memset(id, 'x', sizeof id);
        snprintf(line, sizeof line, "X-Request-Id: %.*s\r\n", n, id);
        ck_assert_uint_eq(id_of(line, out).n, n > REWRITE_ID_MAX ? REWRITE_ID_MADE : (size_t)n);
    }
}
END_TEST

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

START_TEST(ids_differ)
{
    enum { COUNT = 5000 };
    static char all[COUNT][REWRITE_ID_MAX + 1];
    for (int i = 0; i < COUNT; i++)
        rewrite_request_id(NULL, all[i]);
    qsort(all, COUNT, sizeof *all, by_text);
    for (int i = 1; i < COUNT; i++)
        ck_assert_str_ne(all[i - 1], all[i]);
}
END_TEST

START_TEST(traces)
{
    static const struct {
        const char *value;
        bool kept;
    } rows[] = {
        {TRACE, true},
        {"00-0123456789abcdef0123456789abcdef-0123456789abcdef-00", true},
        {"01-0123456789abcdef0123456789abcdef-0123456789abcdef-01", true},
        {"cc-0123456789abcdef0123456789abcdef-0123456789abcdef-01-more", true},
        {"cc-0123456789abcdef0123456789abcdef-0123456789abcdef-01.more", false},
        {TRACE "-more", false},
        {TRACE "0", false},
        {"ff-0123456789abcdef0123456789abcdef-0123456789abcdef-01", false},
        {"00-00000000000000000000000000000000-0123456789abcdef-01", false},
        {"00-0123456789abcdef0123456789abcdef-0000000000000000-01", false},
        {"00-0123456789ABCDEF0123456789abcdef-0123456789abcdef-01", false},
        {"00-0123456789abcdef0123456789abcdef-0123456789abcdef-0g", false},
        {"00_0123456789abcdef0123456789abcdef-0123456789abcdef-01", false},
        {"00-0123456789abcdef0123456789abcdef0123456789abcdef-01", false},
        {"", false},
        {"00", false},
    };
    struct rewrite_to_worker with = {.peer = KG_STR("1.2.3.4"), .id = ID};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char bytes[512], line[128];
        snprintf(bytes, sizeof bytes,
                 "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: %s\r\ntracestate: x=y\r\n\r\n",
                 rows[i].value);
        snprintf(line, sizeof line, "\r\ntraceparent: %s\r\n", rows[i].value);
        const char *got = request(bytes, &with);
        ck_assert_msg((strstr(got, line) != NULL) == rows[i].kept, "%s", rows[i].value);
        ck_assert_msg((strstr(got, "tracestate") != NULL) == rows[i].kept, "%s", rows[i].value);
        const char *at = strstr(got, "\r\ntraceparent: ");
        ck_assert_ptr_nonnull(at);
        ck_assert_ptr_null(strstr(at + 4, "\r\ntraceparent: "));
        if (!rows[i].kept) {
            ck_assert(strncmp(at + 15, "00-", 3) == 0);
            ck_assert(strncmp(at + 15 + 52, "-01\r\n", 5) == 0);
        }
    }
    const char *got = request("GET / HTTP/1.1\r\nHost: a\r\ntraceparent: " TRACE
                              "\r\ntraceparent: " TRACE "\r\n\r\n",
                              &with);
    ck_assert_ptr_null(strstr(got, TRACE));
    with.id = KG_STR("abcdef0123456789abcdef0123456789");
    got = request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &with);
    ck_assert_ptr_nonnull(strstr(got, "\r\ntraceparent: 00-abcdef0123456789abcdef0123456789-"));
}
END_TEST

/* --- to the client -------------------------------------------------------------------------------
 */

#define DATE "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
#define OK200 "HTTP/1.1 200 OK\r\n"
#define RID "X-Request-Id: id-1\r\n"

static const struct answer {
    const char *name, *in;
    const char *flags; /* h HEAD, w websocket, 0 client of 1.0, c the connection closes */
    const char *out;
} answers[] = {
    {"length", OK200 DATE "Content-Length: 5\r\nA: b\r\n\r\n", "",
     OK200 DATE "A: b\r\n" RID "Content-Length: 5\r\n\r\n"},
    {"close", OK200 DATE "Content-Length: 5\r\n\r\n", "c",
     OK200 DATE RID "Connection: close\r\nContent-Length: 5\r\n\r\n"},
    {"1.0 kept alive", OK200 DATE "Content-Length: 5\r\n\r\n", "0",
     OK200 DATE RID "Connection: keep-alive\r\nContent-Length: 5\r\n\r\n"},
    {"1.0 close", OK200 DATE "Content-Length: 5\r\n\r\n", "0c",
     OK200 DATE RID "Connection: close\r\nContent-Length: 5\r\n\r\n"},
    {"chunked", OK200 DATE "Transfer-Encoding: chunked\r\nTrailer: A\r\n\r\n", "",
     OK200 DATE "Trailer: A\r\n" RID "Transfer-Encoding: chunked\r\n\r\n"},
    {"chunked to 1.0", OK200 DATE "Transfer-Encoding: chunked\r\nTrailer: A\r\n\r\n", "0c",
     OK200 DATE RID "Connection: close\r\n\r\n"},
    {"until close to 1.1", "HTTP/1.0 200 OK\r\n" DATE "\r\n", "",
     OK200 DATE RID "Transfer-Encoding: chunked\r\n\r\n"},
    {"until close to 1.0", OK200 DATE "\r\n", "0c", OK200 DATE RID "Connection: close\r\n\r\n"},
    {"to HEAD", OK200 DATE "Content-Length: 5\r\n\r\n", "h",
     OK200 DATE RID "Content-Length: 5\r\n\r\n"},
    {"to HEAD, chunked", OK200 DATE "Transfer-Encoding: chunked\r\n\r\n", "h",
     OK200 DATE RID "\r\n"},
    {"204", "HTTP/1.1 204 No Content\r\n" DATE "Content-Length: 5\r\n\r\n", "",
     "HTTP/1.1 204 No Content\r\n" DATE RID "\r\n"},
    {"304", "HTTP/1.1 304 Not Modified\r\n" DATE "Content-Length: 5\r\nETag: x\r\n\r\n", "",
     "HTTP/1.1 304 Not Modified\r\n" DATE "ETag: x\r\n" RID "Content-Length: 5\r\n\r\n"},
    {"100", "HTTP/1.1 100 Continue\r\nA: b\r\n\r\n", "", "HTTP/1.1 100 Continue\r\nA: b\r\n\r\n"},
    {"103",
     "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: close\r\nContent-Length: 5\r\n\r\n", "",
     "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"},
    {"101",
     "HTTP/1.1 101 Switching Protocols\r\n" DATE
     "Upgrade: WebSocket\r\nConnection: upgrade, x\r\nX: y\r\nSec-WebSocket-Accept: z\r\n\r\n",
     "wc",
     "HTTP/1.1 101 Switching Protocols\r\n" DATE "Sec-WebSocket-Accept: z\r\n" RID
     "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"},
    {"426",
     "HTTP/1.1 426 x\r\n" DATE "Upgrade: websocket\r\nConnection: upgrade\r\n"
     "Content-Length: 0\r\n\r\n",
     "c",
     "HTTP/1.1 426 x\r\n" DATE RID
     "Connection: close, upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"},
    {"hop by hop",
     OK200 DATE "Connection: X-Hop, Set-Cookie, Date\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"
                "Proxy-Authenticate: x\r\nSet-Cookie: a\r\nUpgrade: h2c\r\nContent_Length: 7\r\n"
                "Set-Cookie: b\r\nContent-Length: 5\r\n\r\n",
     "", OK200 DATE "Set-Cookie: a\r\nSet-Cookie: b\r\n" RID "Content-Length: 5\r\n\r\n"},
    {"the worker's id is replaced", OK200 DATE "X-Request-Id: z\r\nContent-Length: 5\r\n\r\n", "",
     OK200 DATE RID "Content-Length: 5\r\n\r\n"},
    {"no phrase", "HTTP/1.1 299\r\n" DATE "Content-Length: 5\r\n\r\n", "",
     "HTTP/1.1 299 \r\n" DATE RID "Content-Length: 5\r\n\r\n"},
    {"Date is added", OK200 "Content-Length: 5\r\n\r\n", "",
     OK200 RID DATE "Content-Length: 5\r\n\r\n"},
    {"Server-Timing of the worker stays", OK200 DATE "Server-Timing: a;dur=1\r\n\r\n", "0c",
     OK200 DATE "Server-Timing: a;dur=1\r\n" RID "Connection: close\r\n\r\n"},
};

START_TEST(response_texts)
{
    const struct answer *r = &answers[_i];
    struct rewrite_to_client with = {
        .id = ID,
        .client_minor = !strchr(r->flags, '0'),
        .keep_alive = !strchr(r->flags, 'c'),
        .wall_ms = 784111777000,
    };
    parse_response(r->in, strchr(r->flags, 'h'), strchr(r->flags, 'w'));
    const char *got = to_text(rewrite_response(&arena, &head, &with));
    ck_assert_msg(strcmp(got, r->out) == 0, "%s: got\n%s", r->name, got);
    char *written = strdup(text);
    parse_response(written, strchr(r->flags, 'h'), strchr(r->flags, 'w'));
    free(written);
}
END_TEST

START_TEST(response_timing)
{
    struct rewrite_to_client with = {
        .id = ID, .client_minor = 1, .keep_alive = true, .warmth = PROXY_COLD, .waited_us = 173456};
    parse_response(OK200 "Content-Length: 1\r\n\r\n", false, false);
    ck_assert_str_eq(to_text(rewrite_response(&arena, &head, &with)),
                     OK200 RID "Server-Timing: kipgate;desc=\"cold\";dur=173.4\r\n"
                               "Content-Length: 1\r\n\r\n");
    with.warmth = PROXY_PAUSED;
    with.waited_us = 99;
    ck_assert_ptr_nonnull(strstr(to_text(rewrite_response(&arena, &head, &with)),
                                 "kipgate;desc=\"paused\";dur=0.0\r\n"));
}
END_TEST

START_TEST(timing)
{
    char out[REWRITE_TIMING_BYTES];
    ck_assert_uint_eq(rewrite_timing(out, PROXY_WARM, 5), 0);
    ck_assert_str_eq(out, "");
    ck_assert_uint_gt(rewrite_timing(out, PROXY_COLD, -1), 0);
    ck_assert_str_eq(out, "kipgate;desc=\"cold\";dur=0.0");
    ck_assert_uint_lt(rewrite_timing(out, PROXY_PAUSED, INT64_MAX), REWRITE_TIMING_BYTES);
    rewrite_timing(out, PROXY_COLD, 12345678900);
    ck_assert_str_eq(out, "kipgate;desc=\"cold\";dur=12345678.9");
}
END_TEST

START_TEST(date)
{
    ck_assert(kg_str_eq(rewrite_date(784111777999), KG_STR("Sun, 06 Nov 1994 08:49:37 GMT")));
    ck_assert(kg_str_eq(rewrite_date(784111778000), KG_STR("Sun, 06 Nov 1994 08:49:38 GMT")));
    ck_assert(kg_str_eq(rewrite_date(0), KG_STR("Thu, 01 Jan 1970 00:00:00 GMT")));
    ck_assert(kg_str_eq(rewrite_date(1709164800000), KG_STR("Thu, 29 Feb 2024 00:00:00 GMT")));
}
END_TEST

START_TEST(framings)
{
    static const struct {
        enum http1_framing from, to_1_1, to_1_0;
    } rows[] = {
        {HTTP1_NONE, HTTP1_NONE, HTTP1_NONE},
        {HTTP1_LENGTH, HTTP1_LENGTH, HTTP1_LENGTH},
        {HTTP1_CHUNKED, HTTP1_CHUNKED, HTTP1_UNTIL_CLOSE},
        {HTTP1_UNTIL_CLOSE, HTTP1_CHUNKED, HTTP1_UNTIL_CLOSE},
        {HTTP1_TUNNEL, HTTP1_TUNNEL, HTTP1_TUNNEL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        head.framing = rows[i].from;
        ck_assert_int_eq(rewrite_response_framing(&head, 1), rows[i].to_1_1);
        ck_assert_int_eq(rewrite_response_framing(&head, 0), rows[i].to_1_0);
    }
}
END_TEST

/* --- fuzz: whatever is let in, what is written is canonical -------------------------------- */

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static unsigned count_field(const struct http1_head *h, enum field_id id)
{
    return h->count[id];
}

/* The written head, parsed again: one of each of ours, nothing of this hop that we did not write.
 */
static bool is_canonical(const struct http1_head *h)
{
    if (count_field(h, FIELD_HOST) != 1 || count_field(h, FIELD_X_FORWARDED_FOR) != 1 ||
        count_field(h, FIELD_X_REQUEST_ID) != 1 || count_field(h, FIELD_TRACEPARENT) != 1 ||
        count_field(h, FIELD_FORWARDED) || count_field(h, FIELD_X_REAL_IP) ||
        count_field(h, FIELD_FAMILY_CLAIM) || count_field(h, FIELD_FAMILY_HOP) ||
        count_field(h, FIELD_SPOOF) || count_field(h, FIELD_KEEP_ALIVE) ||
        count_field(h, FIELD_CONNECTION) > 1)
        return false;
    return kg_str_eq(http1_value(h, FIELD_X_FORWARDED_FOR), KG_STR("10.1.2.3"));
}

START_TEST(fuzz)
{
    static const char *const lines[] = {
        "X-Forwarded-For: 6.6.6.6\r\n",
        "X_FORWARDED_FOR: 6.6.6.6\r\n",
        "Connection: X-Forwarded-For, Host\r\n",
        "Connection: upgrade, close\r\n",
        "Upgrade: websocket\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 7\r\n",
        "X-A:b\r\n",
        "x-a:\t\tb \r\n",
        "Via: 1.0 x\r\n",
        "TE: trailers\r\n",
        "Keep-Alive: 3\r\n",
        "Forwarded: for=6.6.6.6\r\n",
        "X-Request-Id: 7\r\n",
        "traceparent: " TRACE "\r\n",
        "Cookie: a\r\n",
        "Proxy-X: y\r\n",
    };
    static const char spice[] = "-_:, xXfF\t";
    struct rewrite_to_worker with = {.peer = KG_STR("10.1.2.3"), .id = ID};
    uint64_t random = 31337;
    unsigned written = 0;
    for (int round = 0; round < 30000; round++) {
        char bytes[1024];
        struct guard g;
        size_t n = (size_t)sprintf(bytes, "GET /a HTTP/1.1\r\nHost: a\r\n"), start = n;
        for (unsigned i = 1 + random_next(&random) % 6; i > 0; i--)
            n += (size_t)sprintf(bytes + n, "%s",
                                 lines[random_next(&random) % (sizeof lines / sizeof *lines)]);
        for (unsigned i = random_next(&random) % 4; i > 0; i--)
            bytes[start + random_next(&random) % (n - start - 2)] =
                spice[random_next(&random) % (sizeof spice - 1)];
        n += (size_t)sprintf(bytes + n, "\r\n");
        guard_init(&g, GUARD_REQUEST);
        if (guard_scan(&g, bytes, n) != GUARD_DONE || http1_parse_request(&g, bytes, &head).reason)
            continue;
        enum http1_framing framing = head.framing;
        struct kg_str out = rewrite_request(&arena, &head, &with);
        guard_init(&g, GUARD_REQUEST);
        ck_assert_msg(guard_scan(&g, out.p, out.n) == GUARD_DONE && g.end == out.n, "%s", bytes);
        ck_assert_msg(!http1_parse_request(&g, out.p, &head).reason, "%s", bytes);
        ck_assert_msg(is_canonical(&head) && head.framing == framing, "%s\n%.*s", bytes, (int)out.n,
                      out.p);
        kg_arena_fini(&arena);
        written++;
    }
    ck_assert_uint_gt(written, 3000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rewrite");
    TCase *t = tcase_create("rewrite");
    int count = sizeof requests / sizeof *requests;
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, request_texts, 0, count);
    tcase_add_loop_test(t, request_is_canonical, 0, count);
    tcase_add_test(t, request_options);
    tcase_add_test(t, request_bound);
    tcase_add_test(t, no_memory);
    tcase_add_test(t, ids);
    tcase_add_test(t, id_limit);
    tcase_add_test(t, ids_differ);
    tcase_add_test(t, traces);
    tcase_add_loop_test(t, response_texts, 0, sizeof answers / sizeof *answers);
    tcase_add_test(t, response_timing);
    tcase_add_test(t, timing);
    tcase_add_test(t, date);
    tcase_add_test(t, framings);
    tcase_add_test(t, fuzz);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
