/* SPDX-License-Identifier: Apache-2.0 */
/* Ahead of want: room for watches, and the end that libuv takes where there is none. The
 * difficulty: libuv has no call for the first and aborts for the second. */
#include "base/loop.h"
#include "base/err.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

/* --- room ---------------------------------------------------------------------------------- */

void kg_loop_raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void on_closed(uv_handle_t *poll)
{
    free(poll);
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    (void)poll; /* never: it is stopped before the loop turns */
    (void)status;
    (void)events;
}

/* libuv's table grows to the highest number that was ever watched, and never shrinks. */
static int watch_once(uv_loop_t *loop, int fd)
{
    uv_poll_t *poll = malloc(sizeof *poll);
    int rc = poll ? uv_poll_init(loop, poll, fd) : UV_ENOMEM;

    if (rc != 0) {
        free(poll);
        return rc == UV_ENOMEM ? KG_ENOMEM : KG_EIO;
    }
    rc = uv_poll_start(poll, UV_READABLE, on_event);
    uv_close((uv_handle_t *)poll, on_closed);
    return rc == 0 ? 0 : KG_EIO;
}

int kg_loop_reserve(uv_loop_t *loop, int descriptors)
{
    struct rlimit limit;
    int low = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), high, rc;

    if (low < 0)
        return KG_EIO;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)descriptors)
        descriptors = (int)limit.rlim_cur;
    high = fcntl(low, F_DUPFD_CLOEXEC, descriptors - 1);
    rc = watch_once(loop, high >= 0 ? high : low); /* taken: then all that may be are below it */
    if (high >= 0)
        close(high);
    close(low);
    return rc;
}

/* --- the end ------------------------------------------------------------------------------- */

/* Raised by abort() in the one thread, never from elsewhere: what is called here need not be safe
 * in signal handlers. errno is that of the call that failed. */
static void on_abort(int signum)
{
    const int why = errno;

    (void)signum;
    if (why != ENOMEM && why != ENOSPC && why != EMFILE && why != ENFILE && why != ENOBUFS)
        return; /* then abort() goes on */
    KG_LOG(KG_LOG_ERROR, "exhausted", KG_F("why", strerror(why)), KG_F("then", "end"));
    _exit(1);
}

void kg_loop_end_exhausted(void)
{
    signal(SIGABRT, on_abort);
}
