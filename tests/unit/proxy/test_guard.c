/* SPDX-License-Identifier: Apache-2.0 */
/* The guard against every malformed head of HTTP-RULES, whole and in pieces.
 * The difficulty: a verdict must not depend on where the input was cut. */
#include "proxy/guard.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define B(literal) (literal), sizeof(literal) - 1
#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define OK200 "HTTP/1.1 200 OK\r\n"

static const struct row {
    const char *name, *bytes;
    size_t n;
    enum guard_kind kind;
    enum proxy_reason reason; /* NONE: a whole head */
} rows[] = {
    {"plain", B(GET "\r\n"), GUARD_REQUEST, PROXY_NONE},
    {"no fields", B("GET / HTTP/1.0\r\n\r\n"), GUARD_REQUEST, PROXY_NONE},
    {"empty line before", B("\r\n" GET "\r\n"), GUARD_REQUEST, PROXY_NONE},
    {"two empty lines before", B("\r\n\r\n" GET "\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"LF before", B("\n" GET "\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"CR before", B("\r" GET "\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"space before", B(" " GET "\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"empty value", B("GET / HTTP/1.1\r\nA:\r\nB: \r\n\r\n"), GUARD_REQUEST, PROXY_NONE},
    {"tab in value", B("GET / HTTP/1.1\r\nA:\ta\tb \t\r\n\r\n"), GUARD_REQUEST, PROXY_NONE},
    {"obs-text in value", B("GET / HTTP/1.1\r\nA: \xc3\xa4\xff\r\n\r\n"), GUARD_REQUEST,
     PROXY_NONE},
    {"all tchars in name", B("GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~09azAZ: a\r\n\r\n"), GUARD_REQUEST,
     PROXY_NONE},
    {"obs-fold space", B(GET " b\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"obs-fold tab", B(GET "\tb\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"space before first name", B("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), GUARD_REQUEST,
     PROXY_BAD_REQUEST},
    {"space before colon", B("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), GUARD_REQUEST,
     PROXY_BAD_REQUEST},
    {"tab before colon", B("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n"), GUARD_REQUEST,
     PROXY_BAD_REQUEST},
    {"empty name", B(GET ": a\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"space in name", B(GET "A B: a\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"non-tchar in name (", B(GET "A(: a\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"non-tchar in name /", B(GET "A/b: a\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"non-tchar first", B(GET "\"A\": a\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"non-ASCII in name", B(GET "\xc3\xa4: a\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"NUL in name", B(GET "A\0: a\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"no colon", B(GET "Abc\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"bare LF after request line", B("GET / HTTP/1.1\nHost: a\r\n\r\n"), GUARD_REQUEST,
     PROXY_BAD_REQUEST},
    {"bare LF after field", B("GET / HTTP/1.1\r\nHost: a\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"bare LF as the end", B(GET "\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"LF LF", B("GET / HTTP/1.1\n\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"bare CR in value", B(GET "A: a\rb\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"bare CR in name", B(GET "A\rB: a\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"CR CR LF", B(GET "A: a\r\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"CR before a field line", B(GET "\rA: a\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"CRLF CR X", B(GET "\rX"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"bare CR in request line", B("GET / HTTP/1.1\rHost: a\r\n\r\n"), GUARD_REQUEST,
     PROXY_BAD_REQUEST},
    {"NUL in value", B(GET "A: a\0b\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"control in value", B(GET "A: a\x01z\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"escape in value", B(GET "A: a\x1bz\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"vertical tab in value", B(GET "A: a\vz\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"DEL in value", B(GET "A: abcdefgh\x7fijklmnop\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"no method", B(" / HTTP/1.1\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"two spaces", B("GET  / HTTP/1.1\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"two spaces before version", B("GET /  HTTP/1.1\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"space after version", B("GET / HTTP/1.1 \r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"tab between", B("GET\t/ HTTP/1.1\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"space in target", B("GET /a b HTTP/1.1\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"NUL in target", B("GET /a\0b HTTP/1.1\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"DEL in target", B("GET /a\x7f HTTP/1.1\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"raw non-ASCII in target", B("GET /\xc3\xa4 HTTP/1.1\r\n\r\n"), GUARD_REQUEST,
     PROXY_BAD_REQUEST},
    {"HTTP/0.9", B("GET /\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"method alone", B("GET\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"lower-case version", B("GET / http/1.1\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"version without minor", B("GET / HTTP/1\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"version HTTP/1.10", B("GET / HTTP/1.10\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"version HTTP/11.1", B("GET / HTTP/11.1\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"version HTTP/1.x", B("GET / HTTP/1.x\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"another protocol", B("GET / ICY/1.1\r\n\r\n"), GUARD_REQUEST, PROXY_BAD_REQUEST},
    {"version 2.0", B("GET / HTTP/2.0\r\n\r\n"), GUARD_REQUEST, PROXY_VERSION_NOT_SUPPORTED},
    {"HTTP/2 preface", B("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), GUARD_REQUEST,
     PROXY_VERSION_NOT_SUPPORTED},
    {"version 0.9", B("GET / HTTP/0.9\r\n\r\n"), GUARD_REQUEST, PROXY_VERSION_NOT_SUPPORTED},
    {"version 1.2", B("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), GUARD_REQUEST, PROXY_NONE},
    {"TLS hello", B("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), GUARD_REQUEST,
     PROXY_BAD_REQUEST},

    {"response", B(OK200 "A: b\r\n\r\n"), GUARD_RESPONSE, PROXY_NONE},
    {"response without phrase", B("HTTP/1.1 200 \r\n\r\n"), GUARD_RESPONSE, PROXY_NONE},
    {"response without gap", B("HTTP/1.1 200\r\n\r\n"), GUARD_RESPONSE, PROXY_NONE},
    {"response 599", B("HTTP/1.0 599 \xe4\r\n\r\n"), GUARD_RESPONSE, PROXY_NONE},
    {"empty line before response", B("\r\n" OK200 "\r\n"), GUARD_RESPONSE, PROXY_UPSTREAM_FAILED},
    {"response CR in phrase", B("HTTP/1.1 200 a\rb\r\n\r\n"), GUARD_RESPONSE,
     PROXY_UPSTREAM_FAILED},
    {"response LF", B("HTTP/1.1 200 OK\n\n"), GUARD_RESPONSE, PROXY_UPSTREAM_FAILED},
    {"response NUL", B(OK200 "A: \0\r\n\r\n"), GUARD_RESPONSE, PROXY_UPSTREAM_FAILED},
    {"response control", B(OK200 "A: \x02\r\n\r\n"), GUARD_RESPONSE, PROXY_UPSTREAM_FAILED},
    {"response folded", B(OK200 "A: a\r\n b\r\n\r\n"), GUARD_RESPONSE, PROXY_UPSTREAM_FAILED},
    {"response space before colon", B(OK200 "A : a\r\n\r\n"), GUARD_RESPONSE,
     PROXY_UPSTREAM_FAILED},
    {"response 2.0", B("HTTP/2.0 200 OK\r\n\r\n"), GUARD_RESPONSE, PROXY_UPSTREAM_FAILED},
    {"status 099", B("HTTP/1.1 099 a\r\n\r\n"), GUARD_RESPONSE, PROXY_UPSTREAM_FAILED},
    {"status 600", B("HTTP/1.1 600 a\r\n\r\n"), GUARD_RESPONSE, PROXY_UPSTREAM_FAILED},
    {"status 20", B("HTTP/1.1 20 a\r\n\r\n"), GUARD_RESPONSE, PROXY_UPSTREAM_FAILED},
    {"status 2000", B("HTTP/1.1 2000 a\r\n\r\n"), GUARD_RESPONSE, PROXY_UPSTREAM_FAILED},
    {"status 2x0", B("HTTP/1.1 2x0 a\r\n\r\n"), GUARD_RESPONSE, PROXY_UPSTREAM_FAILED},
    {"two spaces before status", B("HTTP/1.1  200 a\r\n\r\n"), GUARD_RESPONSE,
     PROXY_UPSTREAM_FAILED},
    {"a body where a head should be", B("hello, world\r\n\r\n"), GUARD_RESPONSE,
     PROXY_UPSTREAM_FAILED},

    {"trailers", B("A: b\r\nC:d\r\n\r\n"), GUARD_TRAILERS, PROXY_NONE},
    {"no trailers", B("\r\n"), GUARD_TRAILERS, PROXY_NONE},
    {"trailer folded", B("A: b\r\n c\r\n\r\n"), GUARD_TRAILERS, PROXY_BAD_REQUEST},
    {"trailer LF", B("A: b\n\r\n"), GUARD_TRAILERS, PROXY_BAD_REQUEST},
};

static void check_row(const struct row *r, enum guard_result got, const struct guard *g,
                      const char *how)
{
    enum guard_result wanted = r->reason ? GUARD_REFUSED : GUARD_DONE;
    ck_assert_msg(got == wanted, "%s (%s): result %d", r->name, how, (int)got);
    if (r->reason) {
        ck_assert_msg(g->verdict.reason == r->reason, "%s (%s): reason %d", r->name, how,
                      (int)g->verdict.reason);
        ck_assert_msg(g->verdict.words && *g->verdict.words, "%s: no words", r->name);
    } else {
        ck_assert_msg(g->end == r->n, "%s (%s): end %u", r->name, how, (unsigned)g->end);
    }
}

/* Every input lies in memory of its exact size, so that a sanitizer sees a byte too far. */
static char *exact(const char *bytes, size_t n)
{
    char *copy = malloc(n ? n : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, n);
    return copy;
}

START_TEST(whole)
{
    const struct row *r = &rows[_i];
    struct guard g;
    char *copy = exact(r->bytes, r->n);
    guard_init(&g, r->kind);
    check_row(r, guard_scan(&g, copy, r->n), &g, "whole");
    free(copy);
}
END_TEST

START_TEST(cut_anywhere)
{
    const struct row *r = &rows[_i];
    for (size_t cut = 0; cut <= r->n; cut++) {
        struct guard g;
        char *copy = exact(r->bytes, cut);
        guard_init(&g, r->kind);
        enum guard_result got = guard_scan(&g, copy, cut);
        free(copy);
        if (got != GUARD_REFUSED)
            got = guard_scan(&g, r->bytes, r->n);
        check_row(r, got, &g, "cut");
    }
}
END_TEST

/* Byte by byte, and what was looked at is overwritten: it must never be read again. */
START_TEST(no_byte_twice)
{
    const struct row *r = &rows[_i];
    struct guard g;
    char *copy = exact(r->bytes, r->n);
    enum guard_result got = GUARD_MORE;
    guard_init(&g, r->kind);
    for (size_t n = 1; n <= r->n && got == GUARD_MORE; n++) {
        got = guard_scan(&g, copy, n);
        ck_assert(g.at <= n);
        memset(copy, '\0', g.at);
    }
    check_row(r, got, &g, "bytes");
    free(copy);
}
END_TEST

START_TEST(refuses_early)
{
    static const struct {
        const char *bytes;
        size_t n;
    } early[] = {
        {B("GET /\xff")},
        {B("\x16")},
        {B("GET / HTTP/2.0\r")},
        {B("GET / HTTP/1.1\n")},
        {B(GET "\rX")},
        {B(GET "A ")},
        {B(GET " ")},
        {B("GET / HTTP/1.1\r\n:")},
        {B("GET  ")},
        {B("GET / HTTP/1.1\r\nA: \x01")},
    };
    for (size_t i = 0; i < sizeof early / sizeof *early; i++) {
        struct guard g;
        guard_init(&g, GUARD_REQUEST);
        ck_assert_int_eq(guard_scan(&g, early[i].bytes, early[i].n - 1), GUARD_MORE);
        ck_assert_int_eq(guard_scan(&g, early[i].bytes, early[i].n), GUARD_REFUSED);
    }
}
END_TEST

START_TEST(pipelined)
{
    static const char two[] = GET "\r\nPOST /b HTTP/1.1\n broken";
    struct guard g;
    guard_init(&g, GUARD_REQUEST);
    ck_assert_int_eq(guard_scan(&g, two, sizeof two - 1), GUARD_DONE);
    ck_assert_uint_eq(g.end, sizeof(GET "\r\n") - 1);
    ck_assert_uint_eq(g.fields, 1);
    ck_assert_uint_eq(g.at, g.end);
    ck_assert_int_eq(guard_scan(&g, two, sizeof two - 1), GUARD_DONE);
}
END_TEST

START_TEST(positions)
{
    static const char head[] = "\r\nGET /abc HTTP/1.0\r\n\r\n", answer[] = "HTTP/1.1 404 x\r\n\r\n";
    struct guard g;
    guard_init(&g, GUARD_REQUEST);
    ck_assert_int_eq(guard_scan(&g, head, sizeof head - 1), GUARD_DONE);
    ck_assert_uint_eq(g.start, 2);
    ck_assert_uint_eq(g.target, 6);
    ck_assert_uint_eq(g.target_n, 4);
    ck_assert_uint_eq(g.major, 1);
    ck_assert_uint_eq(g.minor, 0);
    guard_init(&g, GUARD_RESPONSE);
    ck_assert_int_eq(guard_scan(&g, answer, sizeof answer - 1), GUARD_DONE);
    ck_assert_uint_eq(g.status, 404);
}
END_TEST

/* "GET /aaa HTTP/1.1" with a target of n bytes. */
static enum proxy_reason target_of(size_t n, enum guard_result *got)
{
    static char head[KG_MAX_HEAD_BYTES];
    struct guard g;
    size_t at = (size_t)snprintf(head, sizeof head, "GET /");
    memset(head + at, 'a', n - 1);
    at += n - 1;
    at += (size_t)snprintf(head + at, sizeof head - at, " HTTP/1.1\r\nHost: a\r\n\r\n");
    guard_init(&g, GUARD_REQUEST);
    *got = guard_scan(&g, head, at);
    return g.verdict.reason;
}

START_TEST(target_limit)
{
    enum guard_result got;
    ck_assert_int_eq(target_of(KG_MAX_TARGET_BYTES - 1, &got), PROXY_NONE);
    ck_assert_int_eq(got, GUARD_DONE);
    ck_assert_int_eq(target_of(KG_MAX_TARGET_BYTES, &got), PROXY_NONE);
    ck_assert_int_eq(got, GUARD_DONE);
    ck_assert_int_eq(target_of(KG_MAX_TARGET_BYTES + 1, &got), PROXY_URI_TOO_LONG);
    ck_assert_int_eq(got, GUARD_REFUSED);
}
END_TEST

static enum proxy_reason fields_of(unsigned count, enum guard_kind kind)
{
    static char head[8192];
    struct guard g;
    size_t at = (size_t)snprintf(head, sizeof head, "%s\r\n",
                                 kind == GUARD_REQUEST ? "GET / HTTP/1.1" : "HTTP/1.1 200 OK");
    for (unsigned i = 0; i < count; i++)
        at += (size_t)snprintf(head + at, sizeof head - at, "F%u: v\r\n", i);
    at += (size_t)snprintf(head + at, sizeof head - at, "\r\n");
    guard_init(&g, kind);
    ck_assert_int_eq(guard_scan(&g, head, at), count > KG_MAX_FIELDS ? GUARD_REFUSED : GUARD_DONE);
    return g.verdict.reason;
}

START_TEST(field_limit)
{
    for (unsigned n = KG_MAX_FIELDS - 1; n <= KG_MAX_FIELDS + 1; n++) {
        bool over = n > KG_MAX_FIELDS;
        ck_assert_int_eq(fields_of(n, GUARD_REQUEST), over ? PROXY_HEAD_TOO_LARGE : PROXY_NONE);
        ck_assert_int_eq(fields_of(n, GUARD_RESPONSE), over ? PROXY_UPSTREAM_FAILED : PROXY_NONE);
    }
}
END_TEST

START_TEST(head_limit)
{
    static char head[KG_MAX_HEAD_BYTES + 16];
    for (size_t n = KG_MAX_HEAD_BYTES - 1; n <= KG_MAX_HEAD_BYTES + 1; n++) {
        struct guard g;
        memset(head, 'v', sizeof head);
        memcpy(head, "GET / HTTP/1.1\r\nA: ", 19);
        memcpy(head + n - 4, "\r\n\r\n", 4);
        guard_init(&g, GUARD_REQUEST);
        ck_assert_int_eq(guard_scan(&g, head, n),
                         n > KG_MAX_HEAD_BYTES ? GUARD_REFUSED : GUARD_DONE);
        ck_assert_int_eq(g.verdict.reason,
                         n > KG_MAX_HEAD_BYTES ? PROXY_HEAD_TOO_LARGE : PROXY_NONE);
    }
    /* A full buffer without an end is refused at once: no caller waits for room. */
    struct guard g;
    memset(head, 'v', sizeof head);
    memcpy(head, "GET / HTTP/1.1\r\nA: ", 19);
    guard_init(&g, GUARD_REQUEST);
    ck_assert_int_eq(guard_scan(&g, head, KG_MAX_HEAD_BYTES - 1), GUARD_MORE);
    ck_assert_int_eq(guard_scan(&g, head, KG_MAX_HEAD_BYTES), GUARD_REFUSED);
    memcpy(head, "HTTP/1.1 200 OK\r\nA:", 19);
    guard_init(&g, GUARD_RESPONSE);
    ck_assert_int_eq(guard_scan(&g, head, KG_MAX_HEAD_BYTES), GUARD_REFUSED);
    ck_assert_int_eq(g.verdict.reason, PROXY_UPSTREAM_FAILED);
}
END_TEST

START_TEST(method_limit)
{
    char head[64];
    for (int n = 31; n <= 33; n++) {
        struct guard g;
        int at = snprintf(head, sizeof head, "%.*s / HTTP/1.1\r\n\r\n", n,
                          "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM");
        guard_init(&g, GUARD_REQUEST);
        ck_assert_int_eq(guard_scan(&g, head, (size_t)at), n > 32 ? GUARD_REFUSED : GUARD_DONE);
    }
}
END_TEST

/* --- what the guard let through, judged by a plain second opinion --------------------------------
 */

static bool byte_is_clean(const char *p, const struct guard *g, size_t i)
{
    unsigned char c = (unsigned char)p[i];
    if (c == '\r')
        return i + 1 < g->end && p[i + 1] == '\n';
    if (c != '\n')
        return (c >= ' ' && c != 0x7f) || c == '\t';
    return i > g->start && p[i - 1] == '\r' &&
           (i + 1 == g->end || p[i + 1] == '\r' || guard_is_tchar((unsigned char)p[i + 1]));
}

static bool is_clean(const char *p, const struct guard *g)
{
    for (size_t i = g->start; i < g->end; i++)
        if (!byte_is_clean(p, g, i))
            return false;
    return g->end - g->start >= 18 && memcmp(p + g->end - 4, "\r\n\r\n", 4) == 0;
}

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

START_TEST(fuzz)
{
    static const char seed[] =
        "\r\nPOST /a/b?c HTTP/1.1\r\nHost: example.com\r\nAccept: text/plain; "
        "q=0.5\r\nContent-Length: 5\r\nX-A:\r\n\r\n";
    static const char spice[] = "\r\n\r\n :\t\0\x7f\x80/HTTP1.";
    uint64_t random = 42;
    unsigned done = 0;
    for (int round = 0; round < 60000; round++) {
        char bytes[sizeof seed - 1];
        size_t n = sizeof bytes, changes = random_next(&random) % 3;
        memcpy(bytes, seed, n);
        while (changes--)
            bytes[random_next(&random) % n] = spice[random_next(&random) % (sizeof spice - 1)];
        struct guard one, many;
        guard_init(&one, GUARD_REQUEST);
        guard_init(&many, GUARD_REQUEST);
        enum guard_result a = guard_scan(&one, bytes, n), b = GUARD_MORE;
        for (size_t at = 0; at < n && b == GUARD_MORE;) {
            at += 1 + random_next(&random) % 20;
            b = guard_scan(&many, bytes, at < n ? at : n);
        }
        ck_assert_int_eq(a, b);
        ck_assert_ptr_eq(one.verdict.words, many.verdict.words);
        ck_assert_uint_eq(one.at, many.at);
        if (a == GUARD_DONE) {
            ck_assert(is_clean(bytes, &one));
            done++;
        }
    }
    ck_assert_uint_gt(done, 1000);
}
END_TEST

START_TEST(tokens)
{
    ck_assert(guard_is_token(KG_STR("a-b")));
    ck_assert(!guard_is_token(KG_STR("")));
    ck_assert(!guard_is_token(KG_STR("a b")));
    for (int c = 0; c < 256; c++)
        ck_assert_int_eq(guard_is_tchar((unsigned char)c),
                         c && c < 0x80 &&
                             (strchr("!#$%&'*+-.^_`|~", c) || (c >= '0' && c <= '9') ||
                              ((c | 32) >= 'a' && (c | 32) <= 'z')));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("guard");
    TCase *t = tcase_create("guard");
    int count = sizeof rows / sizeof *rows;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, whole, 0, count);
    tcase_add_loop_test(t, cut_anywhere, 0, count);
    tcase_add_loop_test(t, no_byte_twice, 0, count);
    tcase_add_test(t, refuses_early);
    tcase_add_test(t, pipelined);
    tcase_add_test(t, positions);
    tcase_add_test(t, target_limit);
    tcase_add_test(t, field_limit);
    tcase_add_test(t, head_limit);
    tcase_add_test(t, method_limit);
    tcase_add_test(t, tokens);
    tcase_add_test(t, fuzz);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
