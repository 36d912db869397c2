/* SPDX-License-Identifier: Apache-2.0 */
/* Problem answers as whole texts, and every row of the reason table as one.
 * The difficulty: they go to clients whose requests made no sense. */
#include "base/err.h"
#include "proxy/guard.h"
#include "proxy/http1.h"
#include "proxy/problem.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct kg_buf out;

static void setup(void)
{
    kg_buf_init(&out, 1 << 20);
}

static void teardown(void)
{
    kg_buf_fini(&out);
}

static struct problem plain(enum proxy_reason reason)
{
    return (struct problem){.row = proxy_reason_row(reason),
                            .id = KG_STR("id-1"),
                            .client_minor = 1,
                            .keep_alive = true};
}

START_TEST(whole_text)
{
    struct problem p = plain(PROXY_NO_ROUTE);
    bool keep;
    p.detail = "no service for host \"a\" \\ path /b\n";
    p.wall_ms = 784111777000;
    ck_assert_int_eq(problem_write(&out, &p, &keep), 0);
    ck_assert(keep);
    ck_assert_str_eq(out.data,
                     "HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\n"
                     "Content-Length: 149\r\nCache-Control: no-store\r\nX-Request-Id: id-1\r\n"
                     "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
                     "{\"type\":\"urn:kipgate:no-route\",\"title\":\"No service has this route\","
                     "\"status\":404,\"detail\":\"no service for host \\\"a\\\" \\\\ path /b\\n\","
                     "\"instance\":\"id-1\"}\n");
}
END_TEST

/* Splits an answer by our own parser; gives the body. */
static struct kg_str body_of(struct http1_head *head, bool is_head)
{
    struct guard g;
    struct http1_asked asked = {is_head, false};
    guard_init(&g, GUARD_RESPONSE);
    ck_assert_int_eq(guard_scan(&g, out.data, out.len), GUARD_DONE);
    ck_assert_int_eq(http1_parse_response(&g, out.data, &asked, head).reason, PROXY_NONE);
    return (struct kg_str){out.data + g.end, out.len - g.end};
}

static bool has_line(const char *line)
{
    return strstr(out.data, line) != NULL;
}

START_TEST(every_row)
{
    static struct http1_head head;
    for (unsigned r = PROXY_NONE + 1; r < PROXY_REASON_COUNT; r++) {
        struct problem p = plain((enum proxy_reason)r);
        const struct proxy_reason_row *row = p.row;
        char type[96], status[32];
        bool keep;
        kg_buf_clear(&out);
        ck_assert_uint_eq(row->index, r);
        ck_assert_int_eq(problem_write(&out, &p, &keep), 0);
        struct kg_str body = body_of(&head, false);
        ck_assert_uint_eq(head.status, (unsigned)row->status);
        ck_assert_str_ne(problem_phrase(row->status), "Unknown");
        ck_assert_int_eq(head.content_length, row->status == 204 ? -1 : (int64_t)body.n);
        ck_assert_int_eq(head.keep_alive, !row->closes);
        ck_assert_int_eq(keep, !row->closes);
        ck_assert_int_eq(has_line("\r\nAllow: " HTTP1_ALLOW "\r\n"),
                         row->status == 405 || row->status == 204);
        ck_assert(has_line("\r\nX-Request-Id: id-1\r\n"));
        if (row->status == 204) {
            ck_assert_uint_eq(body.n, 0);
            continue;
        }
        snprintf(type, sizeof type, "{\"type\":\"urn:kipgate:%s\"", row->name);
        ck_assert(kg_str_has_prefix(body, kg_str_of(type)));
        snprintf(status, sizeof status, "\"status\":%d,", row->status);
        ck_assert(has_line(status));
        ck_assert_int_eq(has_line("\r\nRetry-After: 1\r\n"), row->status == 503);
        ck_assert_int_eq(has_line("\r\nConnection: close\r\n"), row->closes);
        /* Without a detail the title stands in. */
        snprintf(type, sizeof type, "\"detail\":\"%s\"", row->title);
        ck_assert_msg(has_line(type), "%s", out.data);
    }
}
END_TEST

START_TEST(head_has_no_body)
{
    static struct http1_head head;
    struct problem p = plain(PROXY_NO_ROUTE);
    ck_assert_int_eq(problem_write(&out, &p, NULL), 0);
    size_t whole = body_of(&head, false).n;
    kg_buf_clear(&out);
    p.head = true;
    ck_assert_int_eq(problem_write(&out, &p, NULL), 0);
    ck_assert_uint_eq(body_of(&head, true).n, 0);
    ck_assert_int_eq(head.content_length, (int64_t)whole);
}
END_TEST

START_TEST(connection)
{
    struct problem p = plain(PROXY_NO_ROUTE);
    bool keep;
    p.client_minor = 0;
    problem_write(&out, &p, &keep);
    ck_assert(keep && has_line("\r\nConnection: keep-alive\r\n"));
    kg_buf_clear(&out);
    p.keep_alive = false;
    problem_write(&out, &p, &keep);
    ck_assert(!keep && has_line("\r\nConnection: close\r\n"));
}
END_TEST

START_TEST(retry_after)
{
    static const struct {
        int64_t ms;
        const char *line;
    } rows[] = {
        {-5, "Retry-After: 1\r\n"},
        {0, "Retry-After: 1\r\n"},
        {1, "Retry-After: 1\r\n"},
        {999, "Retry-After: 1\r\n"},
        {1000, "Retry-After: 1\r\n"},
        {1001, "Retry-After: 2\r\n"},
        {2000, "Retry-After: 2\r\n"},
        {59001, "Retry-After: 60\r\n"},
        {INT64_MAX, "Retry-After: 9223372036854776\r\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct problem p = plain(PROXY_OVERLOADED);
        p.retry_after_ms = rows[i].ms;
        kg_buf_clear(&out);
        ck_assert_int_eq(problem_write(&out, &p, NULL), 0);
        ck_assert_msg(has_line(rows[i].line), "%s", out.data);
    }
    struct problem p = plain(PROXY_UPSTREAM_FAILED);
    p.retry_after_ms = 5000;
    kg_buf_clear(&out);
    problem_write(&out, &p, NULL);
    ck_assert(!has_line("Retry-After"));
}
END_TEST

START_TEST(another_status)
{
    struct problem p = plain(PROXY_OVERLOADED);
    p.status = 429;
    problem_write(&out, &p, NULL);
    ck_assert(has_line("HTTP/1.1 429 Too Many Requests\r\n") && has_line("\"status\":429,") &&
              has_line("Retry-After: 1\r\n"));
    kg_buf_clear(&out);
    p.status = 299;
    problem_write(&out, &p, NULL);
    ck_assert(has_line("HTTP/1.1 299 Unknown\r\n") && !has_line("Retry-After"));
}
END_TEST

START_TEST(a_row_of_the_gate)
{
    static const struct proxy_reason_row row = {"queue-full", 503, false, "The queue is full", 20};
    struct problem p = {.row = &row,
                        .id = KG_STR("x"),
                        .client_minor = 1,
                        .keep_alive = true,
                        .detail = "service \"thumb\"",
                        .retry_after_ms = 2500,
                        .warmth = PROXY_COLD,
                        .waited_us = 1500};
    ck_assert_int_eq(problem_write(&out, &p, NULL), 0);
    ck_assert(has_line("urn:kipgate:queue-full") && has_line("Retry-After: 3\r\n") &&
              has_line("\"detail\":\"service \\\"thumb\\\"\"") &&
              has_line("Server-Timing: kipgate;desc=\"cold\";dur=1.5\r\n"));
}
END_TEST

/* Whatever the detail holds, the body is one line of printable JSON. */
START_TEST(hostile_detail)
{
    static struct http1_head head;
    char detail[256];
    struct problem p = plain(PROXY_UPSTREAM_FAILED);
    for (int c = 1; c < 256; c++)
        detail[c - 1] = (char)c;
    detail[255] = '\0';
    p.detail = detail;
    ck_assert_int_eq(problem_write(&out, &p, NULL), 0);
    struct kg_str body = body_of(&head, false);
    ck_assert_int_eq(head.content_length, (int64_t)body.n);
    for (size_t i = 0; i + 1 < body.n; i++)
        ck_assert_uint_ge((unsigned char)body.p[i], ' ');
}
END_TEST

START_TEST(endless_detail)
{
    static struct http1_head head;
    struct problem p = plain(PROXY_UPSTREAM_FAILED);
    char *detail = malloc(100001);
    memset(detail, 'x', 100000);
    detail[100000] = '\0';
    p.detail = detail;
    ck_assert_int_eq(problem_write(&out, &p, NULL), 0);
    ck_assert_uint_lt(body_of(&head, false).n, 1000);
    ck_assert(has_line("\"detail\":\"The worker failed to respond\""));
    free(detail);
}
END_TEST

START_TEST(small_buffer)
{
    struct kg_buf small;
    struct problem p = plain(PROXY_NO_ROUTE);
    kg_buf_init(&small, 100);
    ck_assert_int_eq(problem_write(&small, &p, NULL), KG_ELIMIT);
    kg_buf_fini(&small);
}
END_TEST

START_TEST(appends)
{
    struct problem p = plain(PROXY_NO_ROUTE);
    kg_buf_puts(&out, "before");
    problem_write(&out, &p, NULL);
    ck_assert(strncmp(out.data, "beforeHTTP/1.1 404", 18) == 0);
    kg_buf_clear(&out);
    ck_assert_int_eq(problem_body(&out, &p), 0);
    ck_assert(strncmp(out.data, "{\"type\":", 8) == 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("problem");
    TCase *t = tcase_create("problem");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, whole_text);
    tcase_add_test(t, every_row);
    tcase_add_test(t, head_has_no_body);
    tcase_add_test(t, connection);
    tcase_add_test(t, retry_after);
    tcase_add_test(t, another_status);
    tcase_add_test(t, a_row_of_the_gate);
    tcase_add_test(t, hostile_detail);
    tcase_add_test(t, endless_detail);
    tcase_add_test(t, small_buffer);
    tcase_add_test(t, appends);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
