/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets: which addresses are taken, shared, replaced or refused.
 * The difficulty: all of it on a machine that runs other things, so ports are the kernel's choice.
 */
#include "orchestrator/listen.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRONTS 4

static struct listen_set set;
static struct kg_err err;
static char dir[64], path[96], address[112];

static void set_up(void)
{
    snprintf(dir, sizeof dir, "/tmp/kipgate-listen-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/socket", dir);
    snprintf(address, sizeof address, "unix:%s", path);
    set = (struct listen_set){.count = 0};
    err = (struct kg_err){0};
}

static void tear_down(void)
{
    listen_close(&set);
    unlink(path);
    ck_assert_int_eq(rmdir(dir), 0);
}

static void open_fine(const char *where, size_t fronts)
{
    ck_assert_msg(listen_open(&set, where, fronts, &err) == 0, "%s: %s", where, err.words);
}

/* A refusal leaves no descriptor behind, and names the address. */
static void refused(const char *where, int code)
{
    struct listen_set other;

    err = (struct kg_err){0};
    ck_assert_int_eq(listen_open(&other, where, FRONTS, &err), code);
    ck_assert_ptr_nonnull(strstr(err.words, where));
    ck_assert_uint_eq(other.count, 0);
}

static int port_of(int fd)
{
    struct sockaddr_in6 sa; /* the port is where it is in sockaddr_in */
    socklen_t n = sizeof sa;

    ck_assert_int_eq(getsockname(fd, (void *)&sa, &n), 0);
    return ntohs(sa.sin6_port);
}

static bool is_listening(int fd)
{
    int on = 0;
    socklen_t n = sizeof on;

    ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n), 0);
    return on && (fcntl(fd, F_GETFL) & O_NONBLOCK) && (fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

/* --- TCP --- */

START_TEST(test_port_0_is_one_port_for_all_fronts)
{
    char name[64];
    int port;

    open_fine("127.0.0.1:0", FRONTS);
    ck_assert_uint_eq(set.count, FRONTS);
    port = port_of(set.fds[0]);
    ck_assert_int_gt(port, 0);
    for (size_t i = 0; i < FRONTS; i++) {
        ck_assert_int_eq(listen_fd(&set, i), set.fds[i]);
        ck_assert_int_eq(port_of(set.fds[i]), port);
        ck_assert(is_listening(set.fds[i]));
    }
    ck_assert_int_ne(set.fds[0], set.fds[1]);
    snprintf(name, sizeof name, "127.0.0.1:%d", port);
    ck_assert_str_eq(set.name, name);
    ck_assert(!set.unix_socket && !set.shared);
}
END_TEST

/* Also by a socket that would share its port with ours. */
START_TEST(test_a_taken_address_is_an_error)
{
    struct listen_set first = {.count = 0};

    ck_assert_int_eq(listen_open(&first, "127.0.0.1:0", FRONTS, &err), 0);
    refused(first.name, KG_EIO);
    ck_assert_ptr_nonnull(strstr(err.words, strerror(EADDRINUSE)));
    open_fine("127.0.0.1:0", 1);
    ck_assert_int_ne(port_of(set.fds[0]), port_of(first.fds[0]));
    listen_close(&set);
    listen_close(&first);
    open_fine(first.name, FRONTS); /* free again at once */
}
END_TEST

START_TEST(test_v6)
{
    int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 here = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has_v6 = probe >= 0 && bind(probe, (void *)&here, sizeof here) == 0;

    if (probe >= 0)
        close(probe);
    if (!has_v6) {
        refused("[::1]:0", KG_EIO);
        return;
    }
    open_fine("[::1]:0", 2);
    ck_assert_int_eq(port_of(set.fds[0]), port_of(set.fds[1]));
    ck_assert_int_eq(strncmp(set.name, "[::1]:", 6), 0);
    ck_assert_str_ne(set.name, "[::1]:0");
}
END_TEST

START_TEST(test_a_name_is_looked_up)
{
    open_fine("localhost:0", 2);
    ck_assert_uint_eq(set.count, 2);
}
END_TEST

START_TEST(test_bad_addresses)
{
    static const char *const bad[] = {
        "",
        ":",
        ":80",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        "127.0.0.1:99999999999999999999",
        "127.0.0.1:-1",
        "[::1]",
        "256.1.1.1.1:80",
        "unix:",
        "unix:relative",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(bad[i], KG_EINVAL);
    refused("192.0.2.1:0", KG_EIO); /* nobody's address (TEST-NET-1) */
}
END_TEST

/* --- Unix sockets --- */

static bool connects(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok;

    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    ok = connect(fd, (void *)&un, sizeof un) == 0;
    close(fd);
    return ok;
}

/* A socket of another kind, bound by somebody; the file stays when it is closed. */
static int bind_there(int type)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    ck_assert_int_eq(bind(fd, (void *)&un, sizeof un), 0);
    return fd;
}

START_TEST(test_a_unix_socket_is_shared_and_removed)
{
    struct stat st;

    open_fine(address, FRONTS);
    ck_assert(set.unix_socket && set.shared);
    ck_assert_uint_eq(set.count, 1);
    for (size_t i = 0; i < FRONTS; i++)
        ck_assert_int_eq(listen_fd(&set, i), set.fds[0]);
    ck_assert(is_listening(set.fds[0]));
    ck_assert(connects());
    ck_assert_str_eq(set.name, address);
    listen_close(&set);
    ck_assert_int_ne(lstat(path, &st), 0);
}
END_TEST

START_TEST(test_a_stale_unix_socket_is_replaced)
{
    close(bind_there(SOCK_STREAM));
    ck_assert(!connects());
    open_fine(address, 1);
    ck_assert(connects());
}
END_TEST

/* Of an earlier run under another user, say: that it is taken would be the wrong word. */
START_TEST(test_a_stale_unix_socket_that_cannot_be_removed)
{
    bool root = geteuid() == 0;

    close(bind_there(SOCK_STREAM));
    ck_assert_int_eq(chmod(path, 0777), 0);
    ck_assert_int_eq(chmod(dir, 0555), 0);
    if (root)
        ck_assert_int_eq(seteuid(65534), 0);
    refused(address, KG_ECONFLICT);
    if (root)
        ck_assert_int_eq(seteuid(0), 0);
    ck_assert_ptr_nonnull(strstr(err.words, "cannot be removed: "));
    ck_assert_ptr_nonnull(strstr(err.words, strerror(EACCES)));
    ck_assert_int_eq(chmod(dir, 0700), 0);
}
END_TEST

START_TEST(test_a_live_unix_socket_is_refused)
{
    int other;

    open_fine(address, 1);
    refused(address, KG_ECONFLICT);
    ck_assert(connects());
    listen_close(&set);
    other = bind_there(SOCK_DGRAM); /* lives, though it is not what we would connect to */
    refused(address, KG_ECONFLICT);
    close(other);
}
END_TEST

START_TEST(test_a_file_that_is_no_socket_is_left_alone)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;

    close(fd);
    refused(address, KG_ECONFLICT);
    ck_assert_int_eq(lstat(path, &st), 0);
    ck_assert(S_ISREG(st.st_mode));
    unlink(path);
    ck_assert_int_eq(symlink("/nowhere", path), 0);
    refused(address, KG_ECONFLICT);
    ck_assert_int_eq(lstat(path, &st), 0);
}
END_TEST

START_TEST(test_the_length_of_a_path)
{
    char place[KG_MAX_SOCKET_PATH_BYTES + 16];
    size_t n = strlen("unix:") + KG_MAX_SOCKET_PATH_BYTES;

    snprintf(place, sizeof place, "unix:%s/", dir);
    memset(place + strlen(place), 'x', sizeof place - strlen(place));
    place[n + 1] = '\0';
    refused(place, KG_EINVAL);
    place[n] = '\0';
    open_fine(place, 1);
    ck_assert_uint_eq(strlen(set.path), KG_MAX_SOCKET_PATH_BYTES);
}
END_TEST

/* --- passed by who started us --- */

/* In a process of its own: the descriptors from 3 on are the test's. */
START_TEST(test_passed_sockets_are_not_passed_on)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), status;
    pid_t child = fork();

    if (child == 0) {
        char us[16];
        snprintf(us, sizeof us, "%d", getpid());
        setenv("LISTEN_PID", us, 1);
        setenv("LISTEN_FDS", "1", 1);
        if (fd != 3)
            dup2(fd, 3);
        fcntl(3, F_SETFD, 0);
        _exit(listen_passed_count() == 1 && fcntl(3, F_GETFD) == FD_CLOEXEC ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    close(fd);
}
END_TEST

START_TEST(test_a_passed_socket_is_adopted_and_shared)
{
    struct listen_set from = {.count = 0};
    int fd;

    ck_assert_int_eq(listen_open(&from, "127.0.0.1:0", 1, &err), 0);
    fd = dup(from.fds[0]);
    listen_close(&from);
    ck_assert_int_eq(listen_adopt(&set, fd, &err), 0);
    ck_assert(set.shared && !set.unix_socket);
    for (size_t i = 0; i < FRONTS; i++)
        ck_assert_int_eq(listen_fd(&set, i), fd);
}
END_TEST

START_TEST(test_what_does_not_listen_is_not_adopted)
{
    struct listen_set other = {.count = 0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), null = open("/dev/null", O_CLOEXEC);

    ck_assert_int_eq(listen_adopt(&other, fd, &err), KG_EINVAL);
    err = (struct kg_err){0};
    ck_assert_int_eq(listen_adopt(&other, null, &err), KG_EINVAL);
    ck_assert_uint_eq(other.count, 0);
    close(fd);
    close(null);
}
END_TEST

START_TEST(test_passed_sockets_must_be_meant_for_us)
{
    char us[16];

    snprintf(us, sizeof us, "%d", getpid());
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    ck_assert_int_eq(listen_passed_count(), 0);
    setenv("LISTEN_PID", "1", 1);
    setenv("LISTEN_FDS", "2", 1);
    ck_assert_int_eq(listen_passed_count(), 0);
    setenv("LISTEN_PID", us, 1);
    setenv("LISTEN_FDS", "-1", 1);
    ck_assert_int_eq(listen_passed_count(), 0);
    setenv("LISTEN_FDS", "17", 1); /* more than can be taken: not as if there were none */
    ck_assert_int_gt(listen_passed_count(), KG_MAX_LISTEN);
    setenv("LISTEN_FDS", "99999999999", 1);
    ck_assert_int_gt(listen_passed_count(), KG_MAX_LISTEN);
    setenv("LISTEN_FDS", "0", 1);
    ck_assert_int_eq(listen_passed_count(), 0);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
}
END_TEST

static void add_unix(TCase *t)
{
    tcase_add_test(t, test_a_unix_socket_is_shared_and_removed);
    tcase_add_test(t, test_a_stale_unix_socket_is_replaced);
    tcase_add_test(t, test_a_stale_unix_socket_that_cannot_be_removed);
    tcase_add_test(t, test_a_live_unix_socket_is_refused);
    tcase_add_test(t, test_a_file_that_is_no_socket_is_left_alone);
    tcase_add_test(t, test_the_length_of_a_path);
}

int main(void)
{
    Suite *s = suite_create("listen");
    TCase *t = tcase_create("listen");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_port_0_is_one_port_for_all_fronts);
    tcase_add_test(t, test_a_taken_address_is_an_error);
    tcase_add_test(t, test_v6);
    tcase_add_test(t, test_a_name_is_looked_up);
    tcase_add_test(t, test_bad_addresses);
    add_unix(t);
    tcase_add_test(t, test_a_passed_socket_is_adopted_and_shared);
    tcase_add_test(t, test_what_does_not_listen_is_not_adopted);
    tcase_add_test(t, test_passed_sockets_are_not_passed_on);
    tcase_add_test(t, test_passed_sockets_must_be_meant_for_us);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
