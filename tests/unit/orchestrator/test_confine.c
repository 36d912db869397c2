/* SPDX-License-Identifier: Apache-2.0 */
/* What a front can no longer do. Each case runs in a child, for there is no way back.
 * The difficulty: within a sanitizer's build, which needs them, system calls are not limited. */
#include "orchestrator/confine.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOT_ENTERED 99
#define BIND_PORTS (1u << CAP_NET_BIND_SERVICE)

#ifdef KG_SANITIZE
#define LIMITED false
#else
#define LIMITED true
#endif

/* A child's word: 0 as it should be, else the line that was not. */
#define EXPECT(e)                                                                                  \
    do {                                                                                           \
        if (!(e))                                                                                  \
            return __LINE__ % 90 + 1;                                                              \
    } while (0)

static char dir[64];

static void set_up(void)
{
    snprintf(dir, sizeof dir, "/tmp/kipgate-confine-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(chmod(dir, 0755), 0);
}

static void tear_down(void)
{
    ck_assert_int_eq(rmdir(dir), 0);
}

/* Enters in a child, then runs `check`; gives the child's wait status. */
static int status_within(const char *root, bool unix_sockets, int (*check)(void))
{
    struct kg_err err = {0};
    int status = -1;
    pid_t child;

    fflush(NULL);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(confine_enter(root, unix_sockets, &err) == 0 ? check() : NOT_ENTERED);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

static void within(const char *root, bool unix_sockets, int (*check)(void))
{
    int status = status_within(root, unix_sockets, check);

    ck_assert_msg(WIFEXITED(status), "signal %d", WTERMSIG(status));
    ck_assert_msg(WEXITSTATUS(status) == 0, "%s%d",
                  WEXITSTATUS(status) == NOT_ENTERED ? "not entered: " : "line modulo 90: ",
                  WEXITSTATUS(status) - 1);
}

/* --- what is gone --- */

static bool is_denied(long rc)
{
    return rc < 0 && errno == EPERM;
}

static int no_files(void)
{
    char link[64];

    EXPECT(is_denied(open("/etc/passwd", O_RDONLY | O_CLOEXEC)));
    EXPECT(is_denied(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
    EXPECT(is_denied(unlink("/tmp/kipgate-nothing")));
    EXPECT(is_denied(readlink("/proc/self/exe", link, sizeof link)));
    EXPECT(is_denied(mkdir("/tmp/kipgate-nothing", 0700)));
    return 0;
}

static int no_processes(void)
{
    static char name[] = "/bin/true", *args[] = {name, NULL};

    EXPECT(is_denied(fork()));
    EXPECT(is_denied(vfork()));
    EXPECT(is_denied(execv(name, args)));
    EXPECT(is_denied(kill(getppid(), 0)));
    EXPECT(is_denied(syscall(SYS_tgkill, getppid(), getppid(), 0)));
    EXPECT(is_denied(syscall(SYS_ptrace, 0, 0, 0, 0)));
    return 0;
}

static int no_unix_sockets(void)
{
    int pair[2];

    EXPECT(is_denied(socket(AF_UNIX, SOCK_STREAM, 0)));
    EXPECT(is_denied(socketpair(AF_UNIX, SOCK_STREAM, 0, pair)));
    EXPECT(is_denied(socket(AF_NETLINK, SOCK_RAW, 0)));
    EXPECT(is_denied(socket(AF_PACKET, SOCK_RAW, 0)));
    EXPECT(socket(AF_INET, SOCK_STREAM, 0) >= 0);
    return 0;
}

static int no_new_listeners(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    EXPECT(fd >= 0);
    EXPECT(is_denied(bind(fd, (void *)&any, sizeof any)));
    return 0;
}

/* A log may go to a terminal, into which nothing shall be typed. */
static int no_terminal(void)
{
    char c = 'x';

    EXPECT(is_denied(ioctl(STDERR_FILENO, TIOCSTI, &c)));
    return 0;
}

static int not_root(void)
{
    uid_t r, e, s;
    gid_t rg, eg, sg;

    EXPECT(getresuid(&r, &e, &s) == 0 && r != 0 && e == r && s == r);
    EXPECT(getresgid(&rg, &eg, &sg) == 0 && rg != 0 && eg == rg && sg == rg);
    EXPECT(getgroups(0, NULL) == 0);
    EXPECT(setuid(0) < 0 && setgid(0) < 0);
    return 0;
}

static int no_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3];

    EXPECT(syscall(SYS_capget, &head, have) == 0);
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        EXPECT(have[i].effective == 0 && have[i].permitted == 0 && have[i].inheritable == 0);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_BIND_SERVICE, 0, 0) == 0);
    EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    return 0;
}

/* Only where calls are not limited can a child look about itself. */
static int confined(void)
{
    EXPECT(access("/etc", F_OK) < 0 && errno == ENOENT);
    EXPECT(access("/", X_OK) == 0);
    return 0;
}

/* --- what is left --- */

static int bytes_and_loop(void)
{
    char byte = 'x';
    int on = 1, one = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll;
    struct epoll_event event = {.events = EPOLLIN};
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    EXPECT(page != MAP_FAILED && munmap(page, 4096) == 0);
    EXPECT(one >= 0 && ioctl(one, FIONBIO, &on) == 0);
    EXPECT(setsockopt(one, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0);
    EXPECT(send(one, &byte, 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    poll = epoll_create1(EPOLL_CLOEXEC);
    EXPECT(poll >= 0 && epoll_ctl(poll, EPOLL_CTL_ADD, one, &event) == 0);
    EXPECT(epoll_wait(poll, &event, 1, 0) >= 0);
    EXPECT(close(one) == 0 && close(poll) == 0);
    return 0;
}

static int unix_sockets(void)
{
    EXPECT(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
    EXPECT(socket(AF_INET, SOCK_STREAM, 0) >= 0);
    return 0;
}

static int aborts(void)
{
    abort();
}

/* --- cases --- */

START_TEST(test_system_calls_are_limited)
{
    if (!LIMITED)
        return;
    within("", false, no_files);
    within("", false, no_processes);
    within("", false, no_unix_sockets);
    within("", false, no_new_listeners);
    within("", false, no_terminal);
    within(geteuid() == 0 ? dir : "", true, no_files);
    within("", true, no_processes);
}
END_TEST

START_TEST(test_a_proxy_can_work)
{
    within("", false, bytes_and_loop);
    within(geteuid() == 0 ? dir : "", true, bytes_and_loop);
    within("", true, unix_sockets);
}
END_TEST

START_TEST(test_a_failed_assertion_still_ends_it)
{
    int status = status_within("", false, aborts);

    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
END_TEST

/* From within, where calls are not limited; else from outside, below. */
START_TEST(test_root_is_dropped)
{
    if (LIMITED || geteuid() != 0)
        return;
    within("", false, not_root);
    within(dir, false, not_root);
    within(dir, false, confined);
    within(dir, false, no_capabilities);
}
END_TEST

START_TEST(test_a_root_that_is_not_there_is_an_error)
{
    struct kg_err err = {0};

    if (geteuid() != 0)
        return;
    ck_assert_int_eq(confine_enter("/nowhere/at/all", false, &err), KG_EIO);
    ck_assert_ptr_nonnull(strstr(err.words, "/nowhere/at/all"));
}
END_TEST

/* As a unit file starts control: not root, but with the right to bind low ports. */
static int become_user_with_capability(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct some[_LINUX_CAPABILITY_U32S_3] = {
        {.effective = BIND_PORTS, .permitted = BIND_PORTS, .inheritable = BIND_PORTS}};

    return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 && setgid(1000) == 0 && setuid(1000) == 0 &&
                   syscall(SYS_capset, &head, some) == 0 &&
                   prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) == 0
               ? 0
               : -1;
}

/* One line of /proc/PID/status. A limited child cannot ask for what it has: it is looked at. */
static const char *status_line(pid_t pid, const char *key)
{
    static char line[256];
    char name[64];
    size_t n = strlen(key);
    FILE *f;

    snprintf(name, sizeof name, "/proc/%d/status", pid);
    f = fopen(name, "re");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f) && (strncmp(line, key, n) != 0 || line[n] != ':'))
        ;
    fclose(f);
    ck_assert_int_eq(strncmp(line, key, n), 0);
    line[strcspn(line, "\n")] = '\0';
    return line + n + 1;
}

static void enter_and_wait(const char *root, bool as_user, int said, int heard)
{
    struct kg_err err = {0};
    char byte = 'x';

    if ((as_user && become_user_with_capability() != 0) || confine_enter(root, false, &err) != 0)
        _exit(NOT_ENTERED);
    _exit(write(said, &byte, 1) == 1 && read(heard, &byte, 1) == 0 ? 0 : 1);
}

static void look_at(pid_t child, const char *root)
{
    static const char *const capabilities[] = {"CapInh", "CapPrm", "CapEff", "CapAmb"};
    char name[64], link[64] = "";
    unsigned id[4];

    for (size_t i = 0; i < sizeof capabilities / sizeof *capabilities; i++)
        ck_assert_uint_eq(strtoull(status_line(child, capabilities[i]), NULL, 16), 0);
    ck_assert_int_eq(atoi(status_line(child, "NoNewPrivs")), 1);
    ck_assert_int_eq(atoi(status_line(child, "Seccomp")), LIMITED ? 2 : 0);
    if (geteuid() != 0)
        return;
    for (const char *key = "Uid"; key; key = strcmp(key, "Uid") == 0 ? "Gid" : NULL) {
        ck_assert_int_eq(
            sscanf(status_line(child, key), "%u %u %u %u", &id[0], &id[1], &id[2], &id[3]), 4);
        ck_assert(id[0] != 0 && id[1] == id[0] && id[2] == id[0] && id[3] == id[0]);
    }
    snprintf(name, sizeof name, "/proc/%d/root", child);
    ck_assert_int_gt(readlink(name, link, sizeof link - 1), 0);
    ck_assert_str_eq(link, root[0] ? root : "/");
}

static void seen_from_outside(const char *root, bool as_user)
{
    int said[2], heard[2], status;
    char byte;
    pid_t child;

    ck_assert_int_eq(pipe(said), 0);
    ck_assert_int_eq(pipe(heard), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        close(heard[1]);
        enter_and_wait(root, as_user, said[1], heard[0]);
    }
    close(said[1]);
    ck_assert_int_eq(read(said[0], &byte, 1), 1);
    look_at(child, root);
    if (geteuid() == 0 && !as_user)
        ck_assert_int_eq((int)strspn(status_line(child, "Groups"), " \t"),
                         (int)strlen(status_line(child, "Groups")));
    close(heard[1]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    close(heard[0]);
    close(said[0]);
}

START_TEST(test_nothing_is_left_that_can_be_seen)
{
    if (geteuid() != 0) {
        seen_from_outside("", false);
        return;
    }
    seen_from_outside("", false);
    seen_from_outside(dir, false);
    seen_from_outside("", true);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("confine");
    TCase *t = tcase_create("confine");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_system_calls_are_limited);
    tcase_add_test(t, test_a_proxy_can_work);
    tcase_add_test(t, test_a_failed_assertion_still_ends_it);
    tcase_add_test(t, test_root_is_dropped);
    tcase_add_test(t, test_a_root_that_is_not_there_is_an_error);
    tcase_add_test(t, test_nothing_is_left_that_can_be_seen);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
