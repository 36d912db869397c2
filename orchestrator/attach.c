/* SPDX-License-Identifier: Apache-2.0 */
/* The first words between a control and a front of an earlier one. The difficulty: descriptors come
 * with a message that may be anybody's; whatever is not as expected must leave none open. */
#include "orchestrator/attach.h"
#include "base/channel.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_MS 1000
#define MAX_FDS (ATTACH_MAX_LISTENERS + 2)

union ancillary {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS) + CMSG_SPACE(sizeof(struct ucred))];
};
/* The kernel fills up what is left for alignment: more may come than there is room made for. */
#define ROOM_FDS (sizeof(union ancillary) / sizeof(int))

/* --- control's end ------------------------------------------------------------------------- */

void attached_close(struct attached *a)
{
    if (a->channel < 0)
        return;
    close(a->channel);
    close(a->stats);
    close(a->door);
    for (uint32_t i = 0; i < a->listener_count; i++)
        close(a->listeners[i]);
    a->channel = -1;
}

/* What came beside a message: descriptors, how many, and (by the kernel's word) who sent it. */
static size_t take_fds(struct msghdr *m, int fds[ROOM_FDS], struct ucred *sender)
{
    size_t n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
            memcpy(sender, CMSG_DATA(c), sizeof *sender);
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), n * sizeof(int));
    }
    return n;
}

static void close_all(const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
}

/* It is a file's name, and that file is removed when its front has ended. "": there is none. */
static bool is_life(const char *name)
{
    size_t prefix = strlen(STATE_LIFE_PREFIX);

    return name[0] == '\0' || (strncmp(name, STATE_LIFE_PREFIX, prefix) == 0 &&
                               name[prefix + strspn(name + prefix, "0123456789-")] == '\0');
}

const struct message_hello *attach_is_ours(const void *bytes, size_t n, size_t index,
                                           uint64_t set_up, size_t descriptors)
{
    const struct message_hello *m = (const void *)message_check(bytes, n, false);

    if (!m || m->head.type != MESSAGE_HELLO || m->front != (int32_t)index || m->set_up != set_up ||
        !is_life(m->life) || descriptors != m->listeners + 2)
        return NULL;
    return m;
}

/* Control maps the first, accepts nothing by the others, and hands all to the next front there. */
static bool are_as_expected(const int *fds, size_t n)
{
    struct stat counters;
    int listens = fstat(fds[0], &counters) == 0 && S_ISREG(counters.st_mode) &&
                  counters.st_size == sizeof(struct proxy_stats) &&
                  (fcntl(fds[0], F_GETFL) & O_ACCMODE) == O_RDWR;
    socklen_t size = sizeof listens;

    for (size_t i = 1; i < n && listens; i++)
        if (getsockopt(fds[i], SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0)
            listens = 0;
    return listens;
}

/* False: what came with it is closed; the channel is the caller's. */
static bool hear_hello(int channel, size_t index, uint64_t set_up, struct attached *out)
{
    _Alignas(8) char bytes[KG_MAX_MESSAGE_BYTES];
    union ancillary ancillary;
    struct iovec io = {bytes, sizeof bytes};
    struct msghdr m = {.msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = &ancillary,
                       .msg_controllen = sizeof ancillary};
    struct pollfd ready = {.fd = channel, .events = POLLIN};
    const struct message_hello *hello;
    int fds[ROOM_FDS];
    ssize_t n = poll(&ready, 1, ANSWER_MS) == 1 ? recvmsg(channel, &m, MSG_CMSG_CLOEXEC) : -1;
    struct ucred sender = {0};
    size_t count = n > 0 ? take_fds(&m, fds, &sender) : 0;

    hello = n > 0 ? attach_is_ours(bytes, (size_t)n, index, set_up, count) : NULL;
    if (!hello || sender.pid <= 0 || !are_as_expected(fds, count)) {
        close_all(fds, count);
        return false;
    }
    *out = (struct attached){.channel = channel,
                             .pid = sender.pid,
                             .listener_count = hello->listeners,
                             .stats = fds[0],
                             .door = fds[1]};
    memcpy(out->listeners, fds + 2, hello->listeners * sizeof(int));
    memcpy(out->life, hello->life, sizeof out->life);
    return true;
}

bool attach_find(const struct state *s, size_t index, uint64_t set_up, struct attached *out)
{
    int channel = state_attach_connect(s, index);

    out->channel = -1;
    if (channel < 0)
        return false;
    if (!hear_hello(channel, index, set_up, out)) {
        (void)send(channel, ATTACH_SENT_OFF, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        close(channel);
        return false;
    }
    return true;
}

/* --- the front's end ----------------------------------------------------------------------- */

int attach_accept(int door, uint32_t user)
{
    int channel = accept4(door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred peer = {.uid = UINT32_MAX};
    socklen_t n = sizeof peer;

    if (channel < 0)
        return -1;
    if (getsockopt(channel, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == user)
        return channel;
    close(channel);
    return -1;
}

int attach_say_hello(int channel, const struct message_hello *hello, int stats, int door,
                     const int *listeners)
{
    union ancillary ancillary = {0};
    struct iovec io = {(void *)hello, sizeof *hello};
    size_t count = hello->listeners + 2, bytes = count * sizeof(int);
    struct msghdr m = {.msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = &ancillary,
                       .msg_controllen = CMSG_SPACE(bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    int fds[MAX_FDS] = {stats, door};

    memcpy(fds + 2, listeners, hello->listeners * sizeof(int));
    *c = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(bytes), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), fds, bytes);
    return sendmsg(channel, &m, MSG_NOSIGNAL) == (ssize_t)sizeof *hello ? 0 : KG_EIO;
}

bool attach_is_sent_off(const void *bytes, size_t n)
{
    return n == sizeof ATTACH_SENT_OFF - 1 && memcmp(bytes, ATTACH_SENT_OFF, n) == 0;
}
