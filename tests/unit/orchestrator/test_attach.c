/* SPDX-License-Identifier: Apache-2.0 */
/* Who may take over a front, and what is left behind when it cannot be used. How controls and
 * fronts find each other is in tests/engine/test_outlive.py. The difficulty: another user's process
 * is needed to be refused, and here is only one, so the front is told that it waits for another. */
#include "orchestrator/attach.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int door_at(struct sockaddr_un *un)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    *un = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(un->sun_path, sizeof un->sun_path, "/tmp/kipgate-attach-%d", (int)getpid());
    unlink(un->sun_path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)un, sizeof *un), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    return fd;
}

static int knock(const struct sockaddr_un *un)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(connect(fd, (const struct sockaddr *)un, sizeof *un), 0);
    return fd;
}

START_TEST(another_users_control_is_refused)
{
    struct sockaddr_un un;
    int door = door_at(&un), control, channel;
    char byte;

    ck_assert_int_eq(attach_accept(door, getuid()), -1); /* nobody is there */
    control = knock(&un);
    ck_assert_int_eq(attach_accept(door, getuid() + 1), -1);
    ck_assert_int_eq(recv(control, &byte, 1, 0), 0); /* hung up on */
    close(control);
    control = knock(&un);
    channel = attach_accept(door, getuid());
    ck_assert_int_ge(channel, 0);
    ck_assert_int_eq(send(channel, "x", 1, 0), 1);
    ck_assert_int_eq(recv(control, &byte, 1, 0), 1);
    close(channel);
    close(control);
    close(door);
    unlink(un.sun_path);
}
END_TEST

/* The smallest number that is free: the same before and after if nothing was left open. */
static int next_fd(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    close(fd);
    return fd;
}

START_TEST(one_that_is_not_used_leaves_nothing_open)
{
    struct attached a = {.listener_count = 2};
    int before = next_fd();
    int *all[] = {&a.channel, &a.stats, &a.door, &a.listeners[0], &a.listeners[1]};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        *all[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    attached_close(&a);
    ck_assert_int_eq(a.channel, -1);
    ck_assert_int_eq(next_fd(), before);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ck_assert_int_eq(fcntl(before + (int)i, F_GETFD), -1);
    attached_close(&a); /* there is none: nothing is closed */
}
END_TEST

/* Says that it is ours, with so many descriptors beside it: of `counters`, and of the door. */
static void hello_with(int door, int counters, const char *life, size_t count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 2 * ATTACH_MAX_LISTENERS)];
    } ancillary = {0};
    struct message_hello hello;
    struct iovec io = {&hello, sizeof hello};
    struct msghdr m = {.msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = &ancillary,
                       .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    int channel = accept4(door, NULL, NULL, SOCK_CLOEXEC);

    MESSAGE_INIT(&hello, HELLO);
    hello.listeners = ATTACH_MAX_LISTENERS;
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)),
                          .cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS};
    snprintf(hello.life, sizeof hello.life, "%s", life);
    for (size_t i = 0; i < count; i++)
        memcpy(CMSG_DATA(c) + i * sizeof(int), i == 0 ? &counters : &door, sizeof(int));
    _exit(sendmsg(channel, &m, MSG_NOSIGNAL) == (ssize_t)sizeof hello ? 0 : 1);
}

static int counters_of(size_t size)
{
    int fd = memfd_create("counters", MFD_CLOEXEC);

    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    return fd;
}

/* A front was taken over, perhaps: of all that it may say only what is right is believed. */
START_TEST(what_a_front_hands_over_is_looked_at)
{
    const size_t right = ATTACH_MAX_LISTENERS + 2, size = sizeof(struct proxy_stats);
    const struct {
        int counters; /* -1: a socket */
        const char *life;
        size_t descriptors;
        bool good;
    } cases[] = {
        {counters_of(size), "fronts-12-345-0", right, true},
        {counters_of(size), "", right, true}, /* it could not be given one */
        {counters_of(size), "fronts-1", right - 1, false},
        {counters_of(size), "fronts-1", right + 1, false}, /* there is room for one more */
        {counters_of(size), "fronts-1", right + 2, false},
        {counters_of(size - 1), "fronts-1", right, false},
        {-1, "fronts-1", right, false},
        {counters_of(size), "key", right, false}, /* names of files that we would remove */
        {counters_of(size), "fronts-1/../../etc/passwd", right, false},
    };
    char dir[] = "/tmp/kipgate-attach-XXXXXX", path[64];
    struct state s = {.dir_fd = -1};
    struct attached a;
    int door, before, status;
    pid_t front;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    s.dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    door = state_attach_listen(&s, 0);
    fcntl(door, F_SETFL, 0);
    before = next_fd();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        front = fork();
        if (front == 0)
            hello_with(door, cases[i].counters < 0 ? door : cases[i].counters, cases[i].life,
                       cases[i].descriptors);
        ck_assert_msg(attach_find(&s, 0, 0, &a) == cases[i].good, "case %zu", i);
        if (cases[i].good)
            attached_close(&a);
        ck_assert_int_eq(next_fd(), before);
        ck_assert_int_eq(waitpid(front, &status, 0), front);
        ck_assert_int_eq(status, 0);
    }
    close(door);
    close(s.dir_fd);
    snprintf(path, sizeof path, "%s/front-0.sock", dir);
    unlink(path);
    rmdir(dir);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("attach");
    TCase *t = tcase_create("attach");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(t, another_users_control_is_refused);
    tcase_add_test(t, one_that_is_not_used_leaves_nothing_open);
    tcase_add_test(t, what_a_front_hands_over_is_looked_at);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
