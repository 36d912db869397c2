/* SPDX-License-Identifier: Apache-2.0 */
/* What a front can no longer do. Each case runs in a child, for there is no way back.
 * The difficulty: within a sanitizer's build, which needs them, system calls are not limited. */
#include "orchestrator/confine.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOT_ENTERED 99
#define UNIT_HAS (1u << CAP_NET_BIND_SERVICE | 1u << CAP_SYS_CHROOT)

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
static enum { AS_WE_ARE, AS_USER, AS_UNIT, MANNERS } manner; /* of start: mostly we are root */

static void set_up(void)
{
    manner = AS_WE_ARE;
    snprintf(dir, sizeof dir, "/tmp/kipgate-confine-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(chmod(dir, 0755), 0);
}

static void tear_down(void)
{
    ck_assert_int_eq(rmdir(dir), 0);
}

static struct kg_err err;
static bool is_confined;

/* As an ordinary user; or as the unit file starts control, with a few capabilities. */
static int become_user(unsigned capabilities)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct some[_LINUX_CAPABILITY_U32S_3] = {
        {.effective = capabilities, .permitted = capabilities, .inheritable = capabilities}};
    int rc = 0;

    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 || setgroups(0, NULL) != 0 || setgid(1000) != 0 ||
        setuid(1000) != 0 || syscall(SYS_capset, &head, some) != 0)
        return -1;
    for (unsigned long c = 0; c < 32; c++)
        if (capabilities & 1u << c)
            rc |= prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0);
    return rc | prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* as after an exec */
}

static int enter(const char *root)
{
    if (manner != AS_WE_ARE && become_user(manner == AS_UNIT ? UNIT_HAS : 0) != 0)
        return -1;
    return confine_enter(root, &is_confined, &err);
}

static bool can_start(int as)
{
    manner = (unsigned)as;
    return as == AS_WE_ARE || geteuid() == 0;
}

/* Do machine and manner allow it to change its root? */
static bool can_be_confined(void)
{
    int status = -1;
    pid_t child;

    if (manner == AS_UNIT || (manner == AS_WE_ARE && geteuid() == 0))
        return true;
    child = fork();
    if (child == 0)
        _exit((manner == AS_USER && become_user(0) != 0) || unshare(CLONE_NEWUSER) != 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status == 0;
}

/* Enters in a child, then runs `check`; gives the child's wait status. */
static int status_within(const char *root, int (*check)(void))
{
    int status = -1;
    pid_t child;

    fflush(NULL);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(enter(root) == 0 ? check() : NOT_ENTERED);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

static void within(const char *root, int (*check)(void))
{
    int status = status_within(root, check);

    ck_assert_msg(WIFEXITED(status), "signal %d", WTERMSIG(status));
    ck_assert_msg(WEXITSTATUS(status) == 0, "%s%d",
                  WEXITSTATUS(status) == NOT_ENTERED ? "not entered: " : "line modulo 90: ",
                  WEXITSTATUS(status) - 1);
}

/* --- what is gone --- */

#define HERE AT_FDCWD
#define PATH "/etc/passwd"
#define P(x) (long)(uintptr_t)(x)

static char byte = 'x', *no_strings[] = {NULL};
static struct rlimit more = {4096, 4096};
static struct iovec io = {&byte, 1};
static struct sockaddr_in any = {.sin_family = AF_INET};
static struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
static siginfo_t info = {.si_signo = SIGTERM, .si_code = SI_QUEUE};
static struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTERM};
static struct open_how how;
static struct __user_cap_header_struct caps = {.version = _LINUX_CAPABILITY_VERSION_3};
static struct __user_cap_data_struct every[2] = {{~0u, ~0u, ~0u}, {~0u, ~0u, ~0u}};
static int pair[2], on = 1;
static long page;   /* of memory */
static long tcp;    /* a socket made before */
static long parent; /* stands for control */

/* What a front that was taken over might try. A long argument may be one of the three above. */
static const struct attempt {
    const char *what;
    long call;
    long args[6];
    const long *first;
} attempts[] = {
    {"read a file", SYS_openat, {HERE, P(PATH), O_RDONLY}, NULL},
    {"write a file", SYS_openat, {HERE, P("/tmp/kipgate-no"), O_WRONLY | O_CREAT, 0600}, NULL},
    {"its own memory", SYS_openat, {HERE, P("/proc/self/mem"), O_RDWR}, NULL},
    {"list a directory", SYS_openat, {HERE, P("/"), O_RDONLY | O_DIRECTORY}, NULL},
    {"a path only", SYS_openat, {HERE, P("/"), O_PATH}, NULL},
    {"a file without a name", SYS_openat, {HERE, P("/tmp"), O_TMPFILE | O_RDWR, 0600}, NULL},
    {"openat2", SYS_openat2, {HERE, P(PATH), P(&how), sizeof how}, NULL},
    {"name_to_handle_at", SYS_name_to_handle_at, {HERE, P(PATH)}, NULL},
    {"open_by_handle_at", SYS_open_by_handle_at, {HERE, P(&byte), O_RDONLY}, NULL},
    {"stat", SYS_newfstatat, {HERE, P(PATH), P(&byte)}, NULL},
    {"statx", SYS_statx, {HERE, P(PATH), 0, 0, P(&byte)}, NULL},
    {"faccessat", SYS_faccessat, {HERE, P(PATH), R_OK}, NULL},
    {"readlinkat", SYS_readlinkat, {HERE, P("/proc/self/exe"), P(&byte), 1}, NULL},
    {"mkdirat", SYS_mkdirat, {HERE, P("/tmp/kipgate-no"), 0700}, NULL},
    {"mknodat", SYS_mknodat, {HERE, P("/tmp/kipgate-no"), S_IFIFO | 0600}, NULL},
    {"unlinkat", SYS_unlinkat, {HERE, P("/tmp/kipgate-no")}, NULL},
    {"renameat2", SYS_renameat2, {HERE, P("/tmp/a"), HERE, P("/tmp/b")}, NULL},
    {"linkat", SYS_linkat, {HERE, P("/tmp/a"), HERE, P("/tmp/b")}, NULL},
    {"symlinkat", SYS_symlinkat, {P("/tmp/a"), HERE, P("/tmp/b")}, NULL},
    {"fchmodat", SYS_fchmodat, {HERE, P("/tmp"), 0777}, NULL},
    {"fchmod", SYS_fchmod, {STDERR_FILENO, 0777}, NULL},
    {"truncate a log", SYS_ftruncate, {STDERR_FILENO, 0}, NULL},
    {"chdir", SYS_chdir, {P("/")}, NULL},
    {"chroot", SYS_chroot, {P("/")}, NULL},
    {"getdents64", SYS_getdents64, {STDERR_FILENO, P(&byte), 1}, NULL},
    {"watch files", SYS_fanotify_init, {0, 0}, NULL},
    {"memfd_create", SYS_memfd_create, {P("x"), 0}, NULL},
    {"copy a descriptor of control's", SYS_pidfd_getfd, {0, 0, 0}, NULL},
    {"execve", SYS_execve, {P("/bin/true"), P(no_strings), P(no_strings)}, NULL},
    {"execveat", SYS_execveat, {STDERR_FILENO, P(""), P(no_strings), 0, AT_EMPTY_PATH}, NULL},
    {"a process", SYS_clone, {SIGCHLD}, NULL},
    {"a thread", SYS_clone, {CLONE_VM | CLONE_THREAD | CLONE_SIGHAND}, NULL},
    {"clone3", SYS_clone3, {P(&byte), 64}, NULL},
    {"code", SYS_mmap, {0, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}, NULL},
    {"code that is written", SYS_mprotect, {0, 4096, PROT_READ | PROT_EXEC}, &page},
    {"code by key", SYS_pkey_mprotect, {0, 4096, PROT_READ | PROT_EXEC, -1}, &page},
    {"kill", SYS_kill, {0, SIGTERM}, &parent},
    {"kill all", SYS_kill, {-1, 0}, NULL},
    {"tkill", SYS_tkill, {0, SIGTERM}, &parent},
    {"tgkill", SYS_tgkill, {0, 0, 0}, &parent},
    {"rt_sigqueueinfo", SYS_rt_sigqueueinfo, {0, SIGTERM, P(&info)}, &parent},
    {"rt_tgsigqueueinfo", SYS_rt_tgsigqueueinfo, {0, 0, SIGTERM, P(&info)}, &parent},
    {"pidfd_open", SYS_pidfd_open, {0, 0}, &parent},
    {"pidfd_send_signal", SYS_pidfd_send_signal, {0, SIGTERM, 0, 0}, NULL},
    {"signals of a descriptor", SYS_fcntl, {0, F_SETOWN, 1}, &tcp},
    {"which signal", SYS_fcntl, {0, F_SETSIG, SIGKILL}, &tcp},
    {"the same by ioctl", SYS_ioctl, {0, FIOSETOWN, P(&on)}, &tcp},
    {"signals of a timer", SYS_timer_create, {CLOCK_MONOTONIC, P(&event), P(&byte)}, NULL},
    {"signals of a queue", SYS_mq_notify, {0, P(&event)}, NULL},
    {"type into a terminal", SYS_ioctl, {STDERR_FILENO, TIOCSTI, P(&byte)}, NULL},
    {"ptrace", SYS_ptrace, {PTRACE_ATTACH, 1}, NULL},
    {"process_vm_readv", SYS_process_vm_readv, {0, P(&io), 1, P(&io), 1, 0}, &parent},
    {"process_vm_writev", SYS_process_vm_writev, {0, P(&io), 1, P(&io), 1, 0}, &parent},
    {"kcmp", SYS_kcmp, {0, 0, 0}, &parent},
    {"process_madvise", SYS_process_madvise, {0, P(&io), 1, 0, 0}, NULL},
    {"control's limits", SYS_prlimit64, {0, RLIMIT_NOFILE, P(&more), 0}, &parent},
    {"control's priority", SYS_setpriority, {PRIO_PROCESS, 1, 19}, NULL},
    {"control's scheduling", SYS_sched_setaffinity, {0, 1, P(&byte)}, &parent},
    {"bind", SYS_bind, {0, P(&any), sizeof any}, &tcp},
    {"listen", SYS_listen, {0, 1}, &tcp}, /* takes a port without bind */
    {"datagrams", SYS_socket, {AF_INET, SOCK_DGRAM, 0}, NULL},
    {"other streams", SYS_socket, {AF_INET, SOCK_STREAM, IPPROTO_SCTP}, NULL},
    {"many paths", SYS_socket, {AF_INET, SOCK_STREAM, 262}, NULL},
    {"raw packets", SYS_socket, {AF_INET, SOCK_RAW, IPPROTO_ICMP}, NULL},
    {"packets", SYS_socket, {AF_PACKET, SOCK_RAW, 0}, NULL},
    {"netlink", SYS_socket, {AF_NETLINK, SOCK_RAW, 0}, NULL},
    {"netlink, said", SYS_bind, {0, P(&kernel), sizeof kernel}, &tcp},
    {"vsock", SYS_socket, {AF_VSOCK, SOCK_STREAM, 0}, NULL},
    {"crypto", SYS_socket, {AF_ALG, SOCK_SEQPACKET, 0}, NULL},
    {"Unix datagrams", SYS_socket, {AF_UNIX, SOCK_DGRAM, 0}, NULL},
    {"Unix packets", SYS_socket, {AF_UNIX, SOCK_SEQPACKET, 0}, NULL},
    {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, P(pair)}, NULL},
    {"take descriptors", SYS_recvmsg, {0, P(&byte), 0}, &tcp},
    {"a filter of its own", SYS_setsockopt, {0, SOL_SOCKET, SO_ATTACH_FILTER, P(&on), 4}, &tcp},
    {"another device", SYS_setsockopt, {0, SOL_SOCKET, SO_BINDTODEVICE, P(&byte), 1}, &tcp},
    {"a firewall", SYS_setsockopt, {0, IPPROTO_IP, 64, P(&on), 4}, &tcp},
    {"another protocol", SYS_setsockopt, {0, IPPROTO_TCP, TCP_ULP, P("tls"), 4}, &tcp},
    {"setuid", SYS_setuid, {0}, NULL},
    {"setresuid", SYS_setresuid, {0, 0, 0}, NULL},
    {"setgroups", SYS_setgroups, {0, 0}, NULL},
    {"capset", SYS_capset, {P(&caps), P(every)}, NULL},
    {"prctl", SYS_prctl, {PR_SET_DUMPABLE, 1}, NULL},
    {"seccomp", SYS_seccomp, {0, 0, 0}, NULL},
    {"unshare", SYS_unshare, {CLONE_NEWUSER}, NULL},
    {"setns", SYS_setns, {0, 0}, NULL},
    {"mount", SYS_mount, {P("x"), P("/"), P("tmpfs"), 0, 0}, NULL},
    {"umount2", SYS_umount2, {P("/"), 0}, NULL},
    {"open_tree", SYS_open_tree, {HERE, P("/"), 0}, NULL},
    {"fsopen", SYS_fsopen, {P("tmpfs"), 0}, NULL},
    {"pivot_root", SYS_pivot_root, {P("/"), P("/")}, NULL},
    {"io_uring_setup", SYS_io_uring_setup, {1, P(&byte)}, NULL},
    {"io_setup", SYS_io_setup, {1, P(&page)}, NULL},
    {"bpf", SYS_bpf, {0, P(&byte), 1}, NULL},
    {"userfaultfd", SYS_userfaultfd, {0}, NULL},
    {"perf_event_open", SYS_perf_event_open, {P(&byte), 0, -1, -1, 0}, NULL},
    {"add_key", SYS_add_key, {P("user"), P("x"), P("x"), 1, -1}, NULL},
    {"keyctl", SYS_keyctl, {0, 0}, NULL},
    {"shmget", SYS_shmget, {0, 4096, IPC_CREAT}, NULL},
    {"personality", SYS_personality, {0}, NULL},
    {"init_module", SYS_init_module, {0, 0, 0}, NULL},
    {"kexec_load", SYS_kexec_load, {0, 0, 0, 0}, NULL},
    {"reboot", SYS_reboot, {0, 0, 0, 0}, NULL},
    {"clock_settime", SYS_clock_settime, {CLOCK_REALTIME, P(&more)}, NULL},
    {"sethostname", SYS_sethostname, {P("x"), 1}, NULL},
    {"syslog", SYS_syslog, {0, 0, 0}, NULL},
    {"quotactl", SYS_quotactl, {0, 0, 0, 0}, NULL},
    {"no call at all", 0x3fff, {0}, NULL},
};

static const struct attempt *attempt;

static int is_refused(void)
{
    long a[6];

    memcpy(a, attempt->args, sizeof a);
    if (attempt->first)
        a[0] = *attempt->first;
    errno = 0;
    return syscall(attempt->call, a[0], a[1], a[2], a[3], a[4], a[5]) == -1 && errno == EPERM ? 0
                                                                                              : 1;
}

static void all_is_refused(const char *root)
{
    tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    parent = getpid();
    page = (long)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_int_ge((int)tcp, 0);
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        int status;
        attempt = &attempts[i];
        status = status_within(root, is_refused);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "\"%s\" in \"%s\": status %#x",
                      attempt->what, root, (unsigned)status);
    }
    close((int)tcp);
    munmap((void *)page, 4096);
}

/* Of another machine's numbers, which mean other calls. */
static int old_calls(void)
{
#ifdef __x86_64__
    long rc = 20; /* getpid there */

    __asm__ volatile("int $0x80" : "+a"(rc) : : "memory");
    return (int)rc;
#else
    raise(SIGSYS);
    return 1;
#endif
}

/* --- Unix sockets: the engine's among them --- */

static struct sockaddr_un engine = {.sun_family = AF_UNIX};

static bool is_denied(long rc)
{
    return rc < 0 && errno == EPERM;
}

/* Whose root is a directory can make one, but what it reaches is in there. */
static int no_engine(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (!is_confined) {
        EXPECT(is_denied(fd));
        return 0;
    }
    EXPECT(fd >= 0);
    EXPECT(connect(fd, (void *)&engine, sizeof engine) < 0 && errno == ENOENT);
    return 0;
}

static int no_unix_sockets(void)
{
    EXPECT(!is_confined);
    EXPECT(is_denied(socket(AF_UNIX, SOCK_STREAM, 0)));
    EXPECT(is_denied(syscall(SYS_inotify_init1, 0)));
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

/* Done before the loop is made, alone. */
START_TEST(test_no_ring_for_the_loop)
{
    struct io_uring_params { /* as the kernel's, of which nothing is asked here */
        uint32_t words[30];
    } ring = {{0}};

    ck_assert_int_eq(confine_loop(&err), 0);
    ck_assert_int_eq(syscall(SYS_io_uring_setup, 8, &ring), -1);
    ck_assert_int_eq(errno, ENOSYS);
}
END_TEST

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
    char c = 'x';
    int one = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct pollfd ready = {.fd = one, .events = POLLIN};
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    EXPECT(memory != MAP_FAILED && mprotect(memory, 4096, PROT_READ) == 0);
    EXPECT(munmap(memory, 4096) == 0);
    EXPECT(one >= 0 && ioctl(one, FIONBIO, &on) == 0 && (fcntl(one, F_GETFL) & O_NONBLOCK));
    EXPECT(setsockopt(one, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    EXPECT(setsockopt(one, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0);
    EXPECT(setsockopt(one, IPPROTO_TCP, TCP_KEEPIDLE, &on, sizeof on) == 0);
    EXPECT(setsockopt(one, IPPROTO_TCP, TCP_KEEPINTVL, &on, sizeof on) == 0);
    EXPECT(setsockopt(one, IPPROTO_TCP, TCP_KEEPCNT, &on, sizeof on) == 0);
    EXPECT(send(one, &c, 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    EXPECT(poll(&ready, 1, 0) >= 0 && socket(AF_INET6, SOCK_STREAM, 0) != -EPERM);
    EXPECT(close(one) == 0 && signal(SIGTERM, SIG_DFL) != SIG_ERR);
    return 0;
}

/* A worker's socket, by its path below the root. */
static int a_socket_within(void)
{
    struct sockaddr_un worker = {.sun_family = AF_UNIX, .sun_path = "/worker"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    EXPECT(is_confined && fd >= 0);
    EXPECT(connect(fd, (void *)&worker, sizeof worker) == 0);
    return 0;
}

static int aborts(void)
{
    abort();
}

/* --- cases --- */

START_TEST(test_what_a_front_may_not_do)
{
    if (!LIMITED || !can_start(_i))
        return;
    all_is_refused("");
    all_is_refused(dir);
}
END_TEST

START_TEST(test_calls_by_other_numbers_end_it)
{
    int status = LIMITED ? status_within("", old_calls) : 0;

    ck_assert(!LIMITED || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS));
}
END_TEST

static int listen_at(struct sockaddr_un *at, const char *in, const char *name)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(at->sun_path, sizeof at->sun_path, "%s%s", in, name);
    ck_assert_int_eq(bind(fd, (void *)at, sizeof *at), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    ck_assert_int_eq(chmod(at->sun_path, 0777), 0);
    return fd;
}

START_TEST(test_the_engine_is_out_of_reach)
{
    struct sockaddr_un worker = {.sun_family = AF_UNIX};
    int to_engine, to_worker;

    if (!can_start(_i))
        return;
    to_engine = listen_at(&engine, dir, ".engine");
    to_worker = listen_at(&worker, dir, "/worker");
    if (LIMITED) {
        within("", no_unix_sockets);
        within(dir, no_engine);
    }
    if (can_be_confined())
        within(dir, a_socket_within);
    close(to_engine);
    close(to_worker);
    unlink(engine.sun_path);
    unlink(worker.sun_path);
}
END_TEST

START_TEST(test_a_proxy_can_work)
{
    if (!can_start(_i))
        return;
    within("", bytes_and_loop);
    within(dir, bytes_and_loop);
}
END_TEST

START_TEST(test_a_failed_assertion_still_ends_it)
{
    int status = status_within("", aborts);

    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
END_TEST

/* From within, where calls are not limited; else from outside, below. */
START_TEST(test_root_is_dropped)
{
    if (LIMITED || geteuid() != 0)
        return;
    within("", not_root);
    within(dir, not_root);
    within(dir, confined);
    within(dir, no_capabilities);
}
END_TEST

START_TEST(test_a_root_that_is_not_there_is_an_error)
{
    if (geteuid() != 0)
        return; /* others go on without */
    ck_assert_int_eq(enter("/nowhere/at/all"), KG_EIO);
    ck_assert_ptr_nonnull(strstr(err.words, "/nowhere/at/all"));
}
END_TEST

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

static void enter_and_wait(const char *root, int said, int heard)
{
    char word;

    if (enter(root) != 0)
        _exit(NOT_ENTERED);
    word = is_confined ? 'c' : '-';
    _exit(write(said, &word, 1) == 1 && read(heard, &word, 1) == 0 ? 0 : 1);
}

static bool is_empty(const char *line)
{
    return line[strspn(line, " \t")] == '\0';
}

static void look_at(pid_t child, const char *root)
{
    static const char *const capabilities[] = {"CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"};
    size_t count = sizeof capabilities / sizeof *capabilities;
    char name[64], link[64] = "";
    unsigned id[4];

    if (manner == AS_UNIT || !root[0])
        count--; /* what it could never use, it may not drop without CAP_SETPCAP */
    for (size_t i = 0; i < count; i++)
        ck_assert_uint_eq(strtoull(status_line(child, capabilities[i]), NULL, 16), 0);
    ck_assert_int_eq(atoi(status_line(child, "NoNewPrivs")), 1);
    ck_assert_int_eq(atoi(status_line(child, "Seccomp")), LIMITED ? 2 : 0);
    if (geteuid() != 0)
        return;
    ck_assert(is_empty(status_line(child, "Groups")));
    for (const char *key = "Uid"; key; key = strcmp(key, "Uid") == 0 ? "Gid" : NULL) {
        ck_assert_int_eq(
            sscanf(status_line(child, key), "%u %u %u %u", &id[0], &id[1], &id[2], &id[3]), 4);
        ck_assert(id[0] != 0 && id[1] == id[0] && id[2] == id[0] && id[3] == id[0]);
    }
    snprintf(name, sizeof name, "/proc/%d/root", child);
    ck_assert_int_gt(readlink(name, link, sizeof link - 1), 0);
    ck_assert_str_eq(link, root[0] ? root : "/");
}

static void seen_from_outside(const char *root)
{
    int said[2], heard[2], status;
    char word;
    pid_t child;

    ck_assert_int_eq(pipe(said), 0);
    ck_assert_int_eq(pipe(heard), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        close(heard[1]);
        enter_and_wait(root, said[1], heard[0]);
    }
    close(said[1]);
    ck_assert_int_eq(read(said[0], &word, 1), 1);
    ck_assert_int_eq(word, root[0] ? 'c' : '-');
    look_at(child, root);
    close(heard[1]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    close(heard[0]);
    close(said[0]);
}

START_TEST(test_nothing_is_left_that_can_be_seen)
{
    if (!can_start(_i))
        return;
    seen_from_outside("");
    if (can_be_confined())
        seen_from_outside(dir);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("confine");
    TCase *t = tcase_create("confine");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, test_what_a_front_may_not_do, 0, MANNERS);
    if (LIMITED)
        tcase_add_test(t, test_no_ring_for_the_loop);
    tcase_add_test(t, test_calls_by_other_numbers_end_it);
    tcase_add_loop_test(t, test_the_engine_is_out_of_reach, 0, MANNERS);
    tcase_add_loop_test(t, test_a_proxy_can_work, 0, MANNERS);
    tcase_add_test(t, test_a_failed_assertion_still_ends_it);
    tcase_add_test(t, test_root_is_dropped);
    tcase_add_test(t, test_a_root_that_is_not_there_is_an_error);
    tcase_add_loop_test(t, test_nothing_is_left_that_can_be_seen, 0, MANNERS);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
