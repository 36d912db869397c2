/* SPDX-License-Identifier: Apache-2.0 */
/* A front's confinement. The difficulty: the list of system calls must hold for libuv and libc of
 * other builds too, so what is not on it fails with EPERM rather than killing a proxy at work. */
#include "orchestrator/confine.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOBODY 65534

/* No program started later could ever have them (none can be started, either). */
static int drop_capability_bounds(struct kg_err *err)
{
    for (unsigned long capability = 0; capability < 64; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 &&
            errno != EINVAL && /* past the last that the kernel has */
            errno != EPERM)    /* a container may be without this one: then all stay */
            return kg_fail(err, KG_EIO, "drop capabilities in a front: %s", strerror(errno));
    return 0;
}

static int change_root(const char *root)
{
    return chroot(root) == 0 && chdir("/") == 0 ? 0 : -1;
}

/* 0 (also where there is none: then *uid and *gid stay), or an errno. Not by getpwnam, which loads
 * modules, and crashes (glibc 2.36) where there is no memory for that. */
static int find_user(const char *name, uid_t *uid, gid_t *gid)
{
    char text[4096];
    struct passwd line, *user;
    FILE *f = fopen("/etc/passwd", "re");
    int rc = f ? 0 : errno;

    while (rc == 0 && (rc = fgetpwent_r(f, &line, text, sizeof text, &user)) == 0)
        if (strcmp(user->pw_name, name) == 0) {
            *uid = user->pw_uid;
            *gid = user->pw_gid;
            break;
        }
    if (f)
        fclose(f);
    return rc == ENOENT || rc == ERANGE ? 0 : rc; /* a line that no file should have ends it, too */
}

static int drop_root(const char *root, struct kg_err *err)
{
    uid_t uid = NOBODY;
    gid_t gid = NOBODY;
    int rc = find_user("kipgate", &uid, &gid); /* before the file system is out of reach */

    if (rc != 0)
        return kg_fail(err, KG_EIO, "look for the user kipgate: %s", strerror(rc));
    if (root[0] && change_root(root) != 0)
        return kg_fail(err, KG_EIO, "confine a front to %s: %s", root, strerror(errno));
    if (drop_capability_bounds(err) != 0)
        return KG_EIO;
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return kg_fail(err, KG_EIO, "drop root in a front: %s", strerror(errno));
    return 0;
}

/* --- not started as root ------------------------------------------------------------------ */

/* In a user namespace of its own anybody may change root. Others are known there by the numbers
 * that are mapped, and control must be: who attaches is told by its user. */
static int enter_namespace(void)
{
    char map[64];
    uid_t uid = geteuid();
    int n = snprintf(map, sizeof map, "%u %u 1", uid, uid), fd, rc;

    if (unshare(CLONE_NEWUSER) != 0)
        return -1;
    fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    rc = write(fd, map, (size_t)n) == n ? 0 : -1;
    close(fd);
    return rc;
}

/* Tried in a child: some machines let one in and then refuse the numbers, and who is inside without
 * a number for control does not know the next one. */
static bool can_enter(const char *root)
{
    int status = 1;
    pid_t child = fork();

    if (child == 0)
        _exit(enter_namespace() == 0 && change_root(root) == 0 ? 0 : 1);
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

/* By a capability that a unit file gave, or in a namespace. */
static int try_root(const char *root, bool *confined, struct kg_err *err)
{
    *confined = change_root(root) == 0 ||
                (can_enter(root) && enter_namespace() == 0 && change_root(root) == 0);
    return drop_capability_bounds(err);
}

/* Also where not started as root: a unit file gives control some, and a namespace all. */
static int drop_capabilities(struct kg_err *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

    if (syscall(SYS_capset, &head, none) < 0)
        return kg_fail(err, KG_EIO, "drop capabilities in a front: %s", strerror(errno));
    return 0;
}

/* --- system calls ------------------------------------------------------------------------- */

#ifndef KG_SANITIZE /* the sanitizers' runtimes fork, trace and read /proc when they report */
#define DUMPABLE 0
/* With any arguments. Those that a machine does not have are passed over by libseccomp. */
static const int allowed[] = {
    /* bytes in, bytes out */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(writev), /* libuv: what is queued */
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg), /* a head with its body; and descriptors, to the next control */
    SCMP_SYS(close),
    SCMP_SYS(shutdown),
    /* connections: from a listener that was given, or to a worker */
    SCMP_SYS(accept4),
    SCMP_SYS(connect),
    SCMP_SYS(getsockopt),  /* how a connect ended; who a new control is */
    SCMP_SYS(getsockname), /* libuv: what kind of socket it is */
    /* the loop; which of them is libuv's and libc's choice */
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(poll), /* libuv: may this be polled; ours: is there room */
    SCMP_SYS(ppoll),
    SCMP_SYS(restart_syscall), /* after a stop and continue */
    /* clocks, where the machine's cannot be read without a call */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    /* memory */
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    /* locks of libc and OpenSSL when they are contended; randomness; whose it is after a fork */
    SCMP_SYS(futex),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    /* signals that control sends, and the end; aborting too */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* One argument's low half, where an int is: libc may fill the high one as it likes. */
static struct scmp_arg_cmp is(unsigned argument, scmp_datum_t value)
{
    return (struct scmp_arg_cmp){
        .arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = UINT32_MAX, .datum_b = value};
}

static struct scmp_arg_cmp has_not(unsigned argument, scmp_datum_t bits)
{
    return (struct scmp_arg_cmp){
        .arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = bits, .datum_b = 0};
}

static int allow_one(scmp_filter_ctx ctx, int call, struct scmp_arg_cmp arg)
{
    return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, call, 1, &arg);
}

static int allow_two(scmp_filter_ctx ctx, int call, struct scmp_arg_cmp a, struct scmp_arg_cmp b)
{
    const struct scmp_arg_cmp both[] = {a, b};

    return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, call, 2, both);
}

/* A new socket is a stream (flags are its type's higher bits) of the family's usual protocol:
 * others would be fetched into the kernel. */
static int allow_stream(scmp_filter_ctx ctx, int family)
{
    const struct scmp_arg_cmp all[] = {
        is(0, (scmp_datum_t)family),
        {.arg = 1,
         .op = SCMP_CMP_MASKED_EQ,
         .datum_a = UINT32_MAX & ~(uint32_t)(SOCK_CLOEXEC | SOCK_NONBLOCK),
         .datum_b = SOCK_STREAM},
        is(2, 0),
    };

    return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 3, all);
}

static int allow_sockets(scmp_filter_ctx ctx, bool unix_sockets)
{
    static const int options[][2] = {{SOL_SOCKET, SO_LINGER},      {SOL_SOCKET, SO_KEEPALIVE},
                                     {IPPROTO_TCP, TCP_KEEPIDLE},  {IPPROTO_TCP, TCP_KEEPINTVL},
                                     {IPPROTO_TCP, TCP_KEEPCNT},   {IPPROTO_TCP, TCP_NODELAY},
                                     {IPPROTO_TCP, TCP_CONGESTION}};
    int rc = allow_stream(ctx, AF_INET) | allow_stream(ctx, AF_INET6);

    if (unix_sockets) { /* and to see them appear */
        rc |= allow_stream(ctx, AF_UNIX);
        rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(inotify_init1), 0);
        rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(inotify_add_watch), 0);
        rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(inotify_rm_watch), 0);
    }
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        rc |= allow_two(ctx, SCMP_SYS(setsockopt), is(1, (scmp_datum_t)options[i][0]),
                        is(2, (scmp_datum_t)options[i][1]));
    return rc;
}

/* What else ioctl and fcntl can do (type into the terminal that our log goes to, have the kernel
 * send signals to others) is no part of a proxy's work, and no memory is ever code. */
static int allow_limited(scmp_filter_ctx ctx, pid_t who)
{
    int rc = allow_one(ctx, SCMP_SYS(ioctl), is(1, FIONBIO));

    rc |= allow_one(ctx, SCMP_SYS(fcntl), is(1, F_GETFL));
    rc |= allow_one(ctx, SCMP_SYS(fcntl), is(1, F_SETFL));
    rc |= allow_one(ctx, SCMP_SYS(mmap), has_not(2, PROT_EXEC));
    rc |= allow_one(ctx, SCMP_SYS(mprotect), has_not(2, PROT_EXEC));
    return rc | allow_one(ctx, SCMP_SYS(tgkill), is(0, (scmp_datum_t)who)); /* to abort */
}

/* --- made apart, then loaded --- */

#define MAKING_S 5

struct filter {
    uint32_t otherwise; /* what becomes of calls that no rule names */
    int (*add_rules)(scmp_filter_ctx ctx, const struct filter *f);
    bool unix_sockets;
    pid_t who;
};

static int add_loop_rules(scmp_filter_ctx ctx, const struct filter *f)
{
    (void)f;
    return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(io_uring_setup), 0);
}

static int add_all_rules(scmp_filter_ctx ctx, const struct filter *f)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof allowed / sizeof *allowed; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    return rc ? rc : allow_sockets(ctx, f->unix_sockets) | allow_limited(ctx, f->who);
}

static int make(const struct filter *f, int to)
{
    scmp_filter_ctx ctx = seccomp_init(f->otherwise);
    int rc = ctx ? f->add_rules(ctx, f) : -ENOMEM;

    errno = 0;
    if (rc == 0)
        rc = seccomp_export_bpf(ctx, to);
    return rc == 0 && errno == ENOMEM ? -ENOMEM : rc;
}

/* Without memory libseccomp (2.5.4 to 2.6.1) may leave out calls and say that all is well, which
 * errno alone contradicts; or it frees what is in use, and the process crashes or hangs. So that is
 * done by another process, which is judged by its end. */
static _Noreturn void make_and_exit(const struct filter *f, int to)
{
    int rc;

    alarm(MAKING_S);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* also where it stands still */
    close(STDERR_FILENO);             /* libc's words about a spoilt heap would be taken for ours */
    rc = -make(f, to);
    _exit(rc >= 0 && rc < 128 ? rc : EIO);
}

static int end_of(pid_t maker)
{
    int status = 0;

    while (waitpid(maker, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -ENOMEM;
}

static int load(const struct filter *f)
{
    static struct sock_filter code[BPF_MAXINSNS];
    struct sock_fprog program = {.filter = code};
    int ends[2], rc;
    ssize_t n = 0;
    pid_t maker;

    _Static_assert(sizeof code <= 65536, "a pipe holds the longest filter");
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    maker = fork();
    if (maker == 0)
        make_and_exit(f, ends[1]);
    rc = maker < 0 ? -errno : end_of(maker);
    if (rc == 0)
        n = read(ends[0], code, sizeof code);
    close(ends[0]);
    close(ends[1]);
    if (rc != 0)
        return rc;
    if (n <= 0 || (size_t)n % sizeof *code != 0)
        return -EIO;
    program.len = (unsigned short)((size_t)n / sizeof *code);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        return -errno;
    return 0;
}

static int filter_by(const struct filter *f, struct kg_err *err)
{
    int rc = load(f);

    return rc == 0 ? 0 : kg_fail(err, KG_EIO, "system call filter: %s", strerror(-rc));
}

int confine_loop(struct kg_err *err)
{
    const struct filter f = {.otherwise = SCMP_ACT_ALLOW, .add_rules = add_loop_rules};

    return filter_by(&f, err);
}

static int filter_system_calls(bool unix_sockets, struct kg_err *err)
{
    const struct filter f = {.otherwise = SCMP_ACT_ERRNO(EPERM),
                             .add_rules = add_all_rules,
                             .unix_sockets = unix_sockets,
                             .who = getpid()};

    return filter_by(&f, err);
}
#else
/* Leaks are looked for by a thread that reads /proc of its own process. */
#define DUMPABLE 1
int confine_loop(struct kg_err *err)
{
    (void)err;
    return 0;
}

static int filter_system_calls(bool unix_sockets, struct kg_err *err)
{
    (void)unix_sockets;
    (void)err;
    return 0;
}
#endif

void confine_memory(void)
{
    prctl(PR_SET_DUMPABLE, DUMPABLE, 0, 0, 0);
}

int confine_enter(const char *root, bool *confined, struct kg_err *err)
{
    int rc = 0;

    tzset(); /* libc reads its file with the first time stamp */
    *confined = root[0];
    if (geteuid() == 0)
        rc = drop_root(root, err);
    else if (root[0])
        rc = try_root(root, confined, err);
    if (rc == 0)
        rc = drop_capabilities(err);
    if (rc != 0)
        return rc;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, DUMPABLE, 0, 0, 0) < 0)
        return kg_fail(err, KG_EIO, "no new privileges: %s", strerror(errno));
    return filter_system_calls(*confined, err);
}

/* A kernel that cannot (before 5.11) leaves them as they are: harmless ones, as far as is known. */
void confine_close_on_exec(void)
{
    (void)close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
}
