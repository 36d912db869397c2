/* SPDX-License-Identifier: Apache-2.0 */
/* A front's confinement. The difficulty: the list of system calls must hold for libuv and libc of
 * other builds too, so what is not on it fails with EPERM rather than killing a proxy at work. */
#include "orchestrator/confine.h"
#include "base/log.h"
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 65534

/* No program started later could ever have them (none can be started, either). */
static void drop_capability_bounds(void)
{
    for (unsigned long capability = 0; capability < 64; capability++)
        prctl(PR_CAPBSET_DROP, capability, 0, 0, 0); /* EINVAL past the last that the kernel has */
}

static int drop_root(const char *root, struct kg_err *err)
{
    const struct passwd *user = getpwnam("kipgate"); /* before the file system is out of reach */
    uid_t uid = user ? user->pw_uid : NOBODY;
    gid_t gid = user ? user->pw_gid : NOBODY;

    if (root[0] && (chroot(root) < 0 || chdir("/") < 0))
        return kg_fail(err, KG_EIO, "confine a front to %s: %s", root, strerror(errno));
    drop_capability_bounds();
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return kg_fail(err, KG_EIO, "drop root in a front: %s", strerror(errno));
    return 0;
}

/* Also where not started as root: a unit file may have given control some, for its ports. */
static int drop_capabilities(struct kg_err *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

    if (syscall(SYS_capset, &head, none) < 0)
        return kg_fail(err, KG_EIO, "drop capabilities in a front: %s", strerror(errno));
    return 0;
}

#ifndef KG_SANITIZE /* the sanitizers' runtimes fork, trace and read /proc when they report */
#define DUMPABLE 0
static const int allowed[] = {
    /* bytes in, bytes out */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(close),
    SCMP_SYS(shutdown),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    /* connections */
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(connect),
    SCMP_SYS(listen),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(fcntl),
    SCMP_SYS(dup),
    SCMP_SYS(dup3),
    SCMP_SYS(pipe2),
    /* the loop */
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(eventfd2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    /* memory, randomness, signals, the end */
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(futex),
    SCMP_SYS(getrandom),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(sched_yield),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* Where the low half of an argument is that; libc may fill the high one as it likes. */
static int allow_if(scmp_filter_ctx ctx, int call, unsigned argument, scmp_datum_t value)
{
    struct scmp_arg_cmp is = {
        .arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = UINT32_MAX, .datum_b = value};

    return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, call, 1, &is);
}

/* A proxy makes sockets to workers, and aborts itself when an assertion fails. What else ioctl can
 * do (type into the terminal that our log goes to) is no part of its work. */
static int add_limited(scmp_filter_ctx ctx, bool unix_sockets)
{
    static const unsigned long controls[] = {FIONBIO, FIOCLEX, FIONCLEX, FIONREAD};
    int rc = allow_if(ctx, SCMP_SYS(socket), 0, AF_INET);

    rc |= allow_if(ctx, SCMP_SYS(socket), 0, AF_INET6);
    if (unix_sockets) { /* and to see them appear */
        rc |= allow_if(ctx, SCMP_SYS(socket), 0, AF_UNIX);
        rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(inotify_init1), 0);
        rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(inotify_add_watch), 0);
        rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(inotify_rm_watch), 0);
    }
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++)
        rc |= allow_if(ctx, SCMP_SYS(ioctl), 1, controls[i]);
    return rc | allow_if(ctx, SCMP_SYS(tgkill), 0, (scmp_datum_t)getpid());
}

static int filter_system_calls(bool unix_sockets, struct kg_err *err)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int rc = ctx ? 0 : -ENOMEM;

    for (size_t i = 0; rc == 0 && i < sizeof allowed / sizeof *allowed; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    if (rc == 0)
        rc = add_limited(ctx, unix_sockets);
    if (rc == 0)
        rc = seccomp_load(ctx);
    if (ctx)
        seccomp_release(ctx);
    return rc == 0 ? 0 : kg_fail(err, KG_EIO, "system call filter: %s", strerror(-rc));
}
#else
/* Leaks are looked for by a thread that reads /proc of its own process. */
#define DUMPABLE 1
static int filter_system_calls(bool unix_sockets, struct kg_err *err)
{
    (void)unix_sockets;
    (void)err;
    return 0;
}
#endif

int confine_enter(const char *root, bool unix_sockets, struct kg_err *err)
{
    int rc = geteuid() == 0 ? drop_root(root, err) : 0;

    if (rc == 0)
        rc = drop_capabilities(err);
    if (rc != 0)
        return rc;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, DUMPABLE, 0, 0, 0) < 0)
        return kg_fail(err, KG_EIO, "no new privileges: %s", strerror(errno));
    return filter_system_calls(unix_sockets, err);
}

/* A kernel that cannot (before 5.11) leaves them as they are: harmless ones, as far as is known. */
void confine_close_on_exec(void)
{
    (void)close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
}
