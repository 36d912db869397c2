/* SPDX-License-Identifier: Apache-2.0 */
/* Opens what logs are written into. The difficulty: a pipe that nobody reads yet, or any more, is
 * no reason to wait. */
#include "orchestrator/logs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE 0640
#define FLAGS (O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

/* The pipe behind `fd` by a description of its own: what others write into it with waits as before.
 * -1: it is no pipe, or not ours to open. */
static int own_pipe(int fd)
{
    char path[32];
    struct stat st;

    if (fstat(fd, &st) != 0 || !S_ISFIFO(st.st_mode))
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, FLAGS);
}

/* A named pipe that nobody reads refuses to be opened so, unless we read it in that moment. */
static int open_path(const char *path)
{
    int fd = open(path, FLAGS | O_CREAT, MODE), reader;

    if (fd >= 0 || errno != ENXIO)
        return fd;
    reader = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (reader < 0)
        return -1;
    fd = open(path, FLAGS);
    close(reader);
    return fd;
}

static int open_standard_output(void)
{
    int fd = own_pipe(STDOUT_FILENO), flags = fcntl(STDOUT_FILENO, F_GETFL);

    if (fd >= 0)
        return fd;
    if (flags >= 0 && (flags & O_ACCMODE) == O_RDONLY) { /* there was none: see main.c */
        errno = EBADF;
        return -1;
    }
    return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

int logs_open_access(const char *path, struct kg_err *err)
{
    int fd;

    if (strcmp(path, "off") == 0)
        return -1;
    fd = strcmp(path, "-") == 0 ? open_standard_output() : open_path(path);
    if (fd < 0)
        kg_fail(err, KG_EIO, "access_log %s: %s", path, strerror(errno));
    return fd;
}

int logs_take_standard_error(void)
{
    int was = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1),
        fd = was >= 0 ? own_pipe(STDERR_FILENO) : -1;

    if (fd < 0)
        return was;
    dup2(fd, STDERR_FILENO);
    close(fd);
    return was;
}
