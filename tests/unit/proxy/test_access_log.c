/* SPDX-License-Identifier: Apache-2.0 */
/* The access log as its reader finds it: a pipe or a file of this test's own. The difficulty: the
 * last room of a pipe must be taken by another one between the question whether there is any and
 * the write, so poll is answered here. */
#include <poll.h>
#include <unistd.h>

static int log_open(void);
#define WORLD_ACCESS_LOG log_open()
#include "world.h"
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int reader = -1, writer = -1; /* of the pipe, or both -1: it is a file */
static int file = -1;
static bool to_file, taken_between;
static char text[1 << 16];
static size_t text_n;

/* What there is room for another writer fills. */
static void fill_pipe(void)
{
    static const char junk[4096];

    while (write(writer, junk, sizeof junk) > 0) {
    }
    while (write(writer, junk, 1) > 0) {
    }
}

int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    int n = (int)syscall(SYS_poll, fds, count, timeout_ms);
    struct stat st;

    if (taken_between && n == 1 && fstat(fds->fd, &st) == 0 && S_ISFIFO(st.st_mode) &&
        (fds->events & POLLOUT)) {
        taken_between = false;
        fill_pipe();
    }
    return n;
}

static int log_open(void)
{
    char path[] = "/tmp/kipgate-access-XXXXXX";
    int ends[2];

    if (to_file) {
        file = mkostemp(path, O_APPEND | O_CLOEXEC);
        ck_assert_int_ge(file, 0);
        unlink(path);
        return fcntl(file, F_DUPFD_CLOEXEC, 0);
    }
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    reader = ends[0];
    writer = ends[1];
    return fcntl(writer, F_DUPFD_CLOEXEC, 0);
}

static void log_close(void)
{
    const int fds[] = {reader, writer, file};

    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    reader = writer = file = -1;
    text_n = 0;
    to_file = taken_between = false;
}

/* --- what is in it ------------------------------------------------------------------------- */

static void forget_lines(void)
{
    while (reader >= 0 && read(reader, text, sizeof text) > 0) {
    }
    text_n = 0;
}

/* All lines that have come since. */
static const char *lines(void)
{
    ssize_t n;

    if (to_file) {
        n = pread(file, text, sizeof text - 1, 0);
        text_n = n > 0 ? (size_t)n : 0;
    } else {
        while ((n = read(reader, text + text_n, sizeof text - 1 - text_n)) > 0)
            text_n += (size_t)n;
    }
    text[text_n] = '\0';
    return text;
}

/* Turns the loop until a line with `words` is there; what came with it is in text. */
static void await(const char *words)
{
    until(strstr(lines(), words) != NULL);
}

static void ask(const char *request)
{
    struct peer c = client();

    say(&c, request);
    hear_end(&c);
    bye(&c);
}

/* Refused at once, and so logged. */
#define NOWHERE(path) "GET " path " HTTP/1.1\r\nHost: nowhere\r\nConnection: close\r\n\r\n"

/* --- tests --------------------------------------------------------------------------------- */

/* Of what was not understood, too, the line says what was asked for, as far as it came. */
START_TEST(refused_requests_have_their_target)
{
    static const struct {
        const char *request, *method, *target, *status;
    } cases[] = {
        {"GET /a\"b HTTP/2.0\r\n\r\n", "GET", "/a\\\"b", "505"},
        {"GET /c HTTP/1.1\r\nHost : a\r\n\r\n", "GET", "/c", "400"},
        {"GET /d HTTP/1.1\r\n\r\n", "GET", "/d", "400"},
        {"TRACE /e HTTP/1.1\r\nHost: a\r\n\r\n", "TRACE", "/e", "405"},
        {"FROB /f HTTP/1.1\r\nHost: a\r\n\r\n", "FROB", "/f", "405"},
        {"HEAD /g\x01h HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD", "/g", "400"},
        {"\r\nGET /i  HTTP/1.1\r\n\r\n", "GET", "/i", "400"},
        {"POST /j HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "POST", "/j", "501"},
        {"POST\r\n\r\n", "", "", "400"},
    };
    char expected[128];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ask(cases[i].request);
        snprintf(
            expected, sizeof expected,
            "\"method\":\"%s\",\"target\":\"%s\",\"host\":\"\",\"service\":\"\",\"status\":%s,",
            cases[i].method, cases[i].target, cases[i].status);
        until(strchr(lines(), '\n'));
        ck_assert_msg(strstr(text, expected), "%s in %s", expected, text);
        forget_lines();
    }
}
END_TEST

/* A target that is too long is told by its begin, and the line fits a pipe. */
START_TEST(a_target_that_is_too_long_is_cut)
{
    struct kg_buf request;

    kg_buf_init(&request, MIB);
    kg_buf_puts(&request, "GET /");
    for (int i = 0; i < 9000; i++)
        kg_buf_puts(&request, "\"");
    ask(request.data);
    kg_buf_fini(&request);
    until(strchr(lines(), '\n'));
    ck_assert_ptr_nonnull(strstr(text, "\"target\":\"/\\\"\\\""));
    ck_assert_ptr_nonnull(strstr(text, "\"status\":414"));
    ck_assert_uint_le(strlen(text), 4096);
}
END_TEST

/* Another front writes into the pipe between our question and our line. */
START_TEST(room_that_another_one_takes_is_waited_for)
{
    taken_between = true;
    ask(NOWHERE("/first"));
    until(!taken_between);
    forget_lines();
    await("/first");
}
END_TEST

/* A reader that was slow gets what was kept for it, whether or not there is another request. */
START_TEST(what_was_kept_needs_no_other_request)
{
    fill_pipe();
    ask(NOWHERE("/kept"));
    until(world.stats.connections == 0);
    uv_timer_stop(&world.tick); /* nothing but the log itself turns the loop any more */
    forget_lines();
    alarm(20);
    while (!strstr(lines(), "/kept"))
        uv_run(&world.loop, UV_RUN_ONCE);
    alarm(0);
    uv_timer_start(&world.tick, on_tick, 1, 1);
}
END_TEST

/* What a full disk took of a line is no part of the next one. */
START_TEST(after_half_a_line_comes_a_new_one)
{
    struct rlimit before, limit;
    const char *second;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = (struct rlimit){40, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    ask(NOWHERE("/first"));
    until(strlen(lines()) == 40);
    ask(NOWHERE("/lost"));
    until(world.stats.connections == 0);
    setrlimit(RLIMIT_FSIZE, &before);
    ask(NOWHERE("/second"));
    await("/second");
    ask(NOWHERE("/third"));
    await("/third");
    ck_assert_ptr_null(strstr(text, "/lost"));
    second = strchr(text, '\n');
    ck_assert_int_eq(second - text, 40);
    ck_assert_int_eq(strncmp(second, "\n{\"time\"", 8), 0);
    ck_assert_ptr_nonnull(strstr(second, "/second"));
    ck_assert_int_eq(strncmp(strchr(second + 1, '\n'), "\n{\"time\"", 8), 0);
}
END_TEST

static void set_up_with_file(void)
{
    to_file = true;
    set_up();
}

static void tear_down_log(void)
{
    tear_down();
    log_close();
}

int main(void)
{
    Suite *s = suite_create("access_log");
    TCase *pipes = tcase_create("pipe"), *files = tcase_create("file");
    SRunner *r;
    int failed;

    signal(SIGPIPE, SIG_IGN);
    tcase_add_checked_fixture(pipes, set_up, tear_down_log);
    tcase_add_test(pipes, refused_requests_have_their_target);
    tcase_add_test(pipes, a_target_that_is_too_long_is_cut);
    tcase_add_test(pipes, room_that_another_one_takes_is_waited_for);
    tcase_add_test(pipes, what_was_kept_needs_no_other_request);
    suite_add_tcase(s, pipes);
    tcase_add_checked_fixture(files, set_up_with_file, tear_down_log);
    tcase_add_test(files, after_half_a_line_comes_a_new_one);
    suite_add_tcase(s, files);
    r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
