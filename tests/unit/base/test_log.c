/* SPDX-License-Identifier: Apache-2.0 */
/* The log. The difficulty under test: no value can forge a line or a field, and a reader that
 * stopped reading stops nobody else. Standard error is a pipe of ours meanwhile. */
#include "base/clock.h"
#include "base/log.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static int pipe_fds[2], real_stderr;

static void capture_begin(void)
{
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    real_stderr = dup(STDERR_FILENO);
    ck_assert_int_eq(dup2(pipe_fds[1], STDERR_FILENO), STDERR_FILENO);
    fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
}

static void capture_end(void)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* What was written since the last call, one read: so one line each, as it was one write. */
static const char *captured(void)
{
    static char text[PIPE_BUF + 1];
    const ssize_t n = read(pipe_fds[0], text, sizeof text - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static const char *behind_stamp(const char *line)
{
    ck_assert_uint_ge(strlen(line), 25);
    return line + 25; /* "2026-01-31T23:59:59.123Z " */
}

START_TEST(text_form)
{
    kg_log_setup(KG_LOG_DEBUG, KG_LOG_TEXT, "control");
    KG_LOG(KG_LOG_INFO, "instance-state", KG_F("service", "a"), KG_FN("ms", -42),
           KG_F("why", "no such image"), KG_F("empty", ""), KG_F("null", (const char *)NULL));
    ck_assert_str_eq(behind_stamp(captured()), "info control instance-state service=a ms=-42 "
                                               "why=\"no such image\" empty=\"\" null=\"\"\n");
    KG_LOG(KG_LOG_ERROR, "down");
    ck_assert_str_eq(behind_stamp(captured()), "error control down\n");
}
END_TEST

START_TEST(text_values_cannot_forge)
{
    kg_log_setup(KG_LOG_DEBUG, KG_LOG_TEXT, "control");
    KG_LOG(KG_LOG_WARN, "e", KG_F("a", "x\n2026 error y"), KG_F("b", "k=v"), KG_F("c", "\"q\\"),
           KG_F("d", "\x1b[2J"), KG_F("e", "\x7f"), KG_F("f", "\xff"));
    ck_assert_str_eq(behind_stamp(captured()),
                     "warn control e a=\"x\\n2026 error y\" b=\"k=v\" c=\"\\\"q\\\\\" "
                     "d=\"\\u001b[2J\" e=\"\\u007f\" f=\"\\u00ff\"\n");
}
END_TEST

START_TEST(json_form)
{
    const char *line;

    kg_log_setup(KG_LOG_DEBUG, KG_LOG_JSON, "front-0");
    KG_LOG(KG_LOG_DEBUG, "e", KG_F("text", "a \"b\"\n"), KG_FN("number", INT64_MIN));
    line = captured();
    ck_assert(kg_str_has_prefix(kg_str_of(line), KG_STR("{\"time\":\"2")));
    ck_assert_str_eq(line + 9 + 24 + 1,
                     ",\"level\":\"debug\",\"who\":\"front-0\",\"event\":\"e\","
                     "\"text\":\"a \\\"b\\\"\\n\",\"number\":-9223372036854775808}\n");
}
END_TEST

START_TEST(levels_filter)
{
    kg_log_setup(KG_LOG_WARN, KG_LOG_TEXT, "control");
    ck_assert(!kg_log_enabled(KG_LOG_INFO) && kg_log_enabled(KG_LOG_WARN));
    KG_LOG(KG_LOG_INFO, "quiet");
    kg_log_write(KG_LOG_DEBUG, "quiet", NULL, 0);
    ck_assert_str_eq(captured(), "");
    KG_LOG(KG_LOG_WARN, "loud");
    ck_assert_str_ne(captured(), "");
}
END_TEST

START_TEST(long_names_are_cut)
{
    kg_log_setup(KG_LOG_INFO, KG_LOG_TEXT, "0123456789012345678901234567890123456789");
    KG_LOG(KG_LOG_INFO, "e");
    ck_assert_str_eq(behind_stamp(captured()), "info 0123456789012345678901234567890 e\n");
}
END_TEST

START_TEST(values_are_cut_at_1_kib)
{
    char value[1100];

    kg_log_setup(KG_LOG_INFO, KG_LOG_TEXT, "w");
    for (size_t n = 1023; n <= 1025; n++) {
        memset(value, 'x', n);
        value[n] = '\0';
        KG_LOG(KG_LOG_INFO, "e", KG_F("v", value));
        ck_assert_uint_eq(strlen(behind_stamp(captured())),
                          strlen("info w e v=\n") + (n < 1024 ? n : 1024));
    }
    memset(value, 'x', 1022); /* a character of three bytes over the border: none of it */
    snprintf(value + 1022, 10, "\xe2\x82\xac!");
    KG_LOG(KG_LOG_INFO, "e", KG_F("v", value));
    ck_assert_uint_eq(strlen(behind_stamp(captured())), strlen("info w e v=\n") + 1022);
}
END_TEST

START_TEST(long_lines_are_cut_between_fields)
{
    char value[1025];
    const char *line;

    memset(value, '\x01', sizeof value - 1); /* six bytes each once escaped */
    value[sizeof value - 1] = '\0';
    for (int json = 0; json < 2; json++) {
        kg_log_setup(KG_LOG_INFO, json ? KG_LOG_JSON : KG_LOG_TEXT, "w");
        KG_LOG(KG_LOG_INFO, "e", KG_FN("a", 1), KG_F("b", value), KG_FN("c", 3));
        line = captured();
        ck_assert_ptr_nonnull(strstr(line, json ? "\"event\":\"e\",\"a\":1,\"cut_fields\":2}\n"
                                                : "e a=1 cut_fields=2\n"));
        ck_assert_uint_eq(strlen(captured()), 0);
    }
}
END_TEST

START_TEST(a_line_fits_a_pipe_write)
{
    struct kg_log_field fields[2] = {{"a", NULL, 0}, {"b", NULL, 0}};
    char values[4][1025];
    size_t longest = 0;

    kg_log_setup(KG_LOG_INFO, KG_LOG_TEXT, "w");
    for (size_t n = 300; n <= 1024; n++) {
        memset(values[0], '"', n); /* two bytes each once escaped */
        values[0][n] = '\0';
        fields[0].text = fields[1].text = values[0];
        kg_log_write(KG_LOG_INFO, "e", fields, 2);
        const size_t length = strlen(captured());
        longest = length > longest ? length : longest;
        ck_assert_uint_gt(length, 0);
        ck_assert_uint_le(length, PIPE_BUF);
    }
    ck_assert_uint_gt(longest, PIPE_BUF - 64);
}
END_TEST

static void fill_pipe(void)
{
    static const char junk[4096];

    fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK);
    while (write(STDERR_FILENO, junk, sizeof junk) > 0) {
    }
    while (write(STDERR_FILENO, junk, 1) > 0) {
    }
}

static void empty_pipe(void)
{
    char junk[4096];

    while (read(pipe_fds[0], junk, sizeof junk) > 0) {
    }
}

START_TEST(a_full_pipe_drops_lines)
{
    kg_log_setup(KG_LOG_INFO, KG_LOG_TEXT, "w");
    for (int blocking = 0; blocking < 2; blocking++) {
        fill_pipe();
        if (blocking)
            fcntl(STDERR_FILENO, F_SETFL, 0);
        errno = EDOM;
        KG_LOG(KG_LOG_INFO, "lost"); /* returns, even where a write would block for ever */
        ck_assert_int_eq(errno, EDOM);
        empty_pipe();
        KG_LOG(KG_LOG_INFO, "heard");
        ck_assert_str_eq(behind_stamp(captured()), "info w heard\n");
        ck_assert_str_eq(captured(), "");
    }
}
END_TEST

/* A file that may not grow takes the begin of a line only, as a full disk would. */
START_TEST(after_half_a_line_comes_a_new_one)
{
    char path[] = "/tmp/kipgate-log-XXXXXX", text[256] = "";
    const int fd = mkstemp(path);
    struct rlimit before, limit;

    ck_assert_int_ge(fd, 0);
    unlink(path);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = (struct rlimit){30, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    kg_log_setup(KG_LOG_INFO, KG_LOG_TEXT, "w");
    dup2(fd, STDERR_FILENO);
    KG_LOG(KG_LOG_INFO, "first");
    setrlimit(RLIMIT_FSIZE, &before);
    KG_LOG(KG_LOG_INFO, "second");
    KG_LOG(KG_LOG_INFO, "third");
    ck_assert_int_gt(pread(fd, text, sizeof text - 1, 0), 30);
    close(fd);
    ck_assert_int_eq(text[30], '\n');
    ck_assert_str_eq(behind_stamp(strstr(text, "\n") + 1) + strlen("info w second\n") + 25,
                     "info w third\n");
}
END_TEST

START_TEST(no_standard_error_is_no_error)
{
    close(STDERR_FILENO);
    KG_LOG(KG_LOG_ERROR, "nobody", KG_FN("n", 1));
    ck_assert_int_eq(dup2(pipe_fds[1], STDERR_FILENO), STDERR_FILENO);
    KG_LOG(KG_LOG_ERROR, "again");
    ck_assert_str_ne(captured(), "");
}
END_TEST

START_TEST(json_escapes)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"plain", "plain"},
        {"a\"b\\c", "a\\\"b\\\\c"},
        {"\n\r\t\b", "\\n\\r\\t\\u0008"},
        {"\x1f \x7f", "\\u001f \\u007f"},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xc2\x9b", "\\u009b"}, /* a C1 control: CSI of some terminals */
        {"\xe2\x80\xa8|\xe2\x80\xae",
         "\\u2028|\\u202e"},                       /* line separator, right-to-left override */
        {"\xff\xc0\xaf", "\\u00ff\\u00c0\\u00af"}, /* never in UTF-8; an overlong slash */
        {"\xed\xa0\x80", "\\u00ed\\u00a0\\u0080"}, /* a surrogate */
        {"\xe0\x80\x80", "\\u00e0\\u0080\\u0080"},
        {"\xf4\x90\x80\x80", "\\u00f4\\u0090\\u0080\\u0080"}, /* beyond U+10FFFF */
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xe2\x82", "\\u00e2\\u0082"}, /* ends in the middle */
        {"\xe2\x82x", "\\u00e2\\u0082x"},
        {"\x80", "\\u0080"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kg_str in = kg_str_of(cases[i][0]);
        char *exact = malloc(in.n ? in.n : 1); /* no NUL behind it: overreads show */
        struct kg_buf out;

        memcpy(exact, in.p, in.n);
        kg_buf_init(&out, 1000);
        kg_json_escape(&out, (struct kg_str){exact, in.n});
        ck_assert_msg(kg_str_eq(kg_buf_str(&out), kg_str_of(cases[i][1])), "case %zu: %s", i,
                      out.data);
        kg_buf_fini(&out);
        free(exact);
    }
}
END_TEST

START_TEST(json_escape_takes_nul)
{
    struct kg_buf out;

    kg_buf_init(&out, 100);
    kg_json_escape(&out, KG_STR("a\0b"));
    ck_assert_str_eq(out.data, "a\\u0000b");
    kg_buf_fini(&out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, capture_begin, capture_end);
    tcase_add_test(t, text_form);
    tcase_add_test(t, text_values_cannot_forge);
    tcase_add_test(t, json_form);
    tcase_add_test(t, levels_filter);
    tcase_add_test(t, long_names_are_cut);
    tcase_add_test(t, values_are_cut_at_1_kib);
    tcase_add_test(t, long_lines_are_cut_between_fields);
    tcase_add_test(t, a_line_fits_a_pipe_write);
    tcase_add_test(t, a_full_pipe_drops_lines);
    tcase_add_test(t, after_half_a_line_comes_a_new_one);
    tcase_add_test(t, no_standard_error_is_no_error);
    tcase_add_test(t, json_escapes);
    tcase_add_test(t, json_escape_takes_nul);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
