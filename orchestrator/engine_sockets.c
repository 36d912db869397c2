/* SPDX-License-Identifier: Apache-2.0 */
/* Directories for workers that listen on a Unix socket. The difficulty: worker and front are
 * different users, neither is root for long, and both must be able to use the socket. */
#include "base/clock.h"
#include "base/log.h"
#include "orchestrator/digest.h"
#include "orchestrator/engine_priv.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define KEY_DIGITS 16
#define SWEEP_AGE_MS 120000 /* a directory is made before its container */

/* A container's directory: short, since a socket's address has room for 107 bytes. */
static void key_of(const char *container, char key[KEY_DIGITS + 1])
{
    char hex[65];

    digest_sha256_hex(kg_str_of(container), hex);
    memcpy(key, hex, KEY_DIGITS);
    key[KEY_DIGITS] = '\0';
}

bool engine_socket_path(const struct engine *e, const char *container, const char *socket,
                        char *out, size_t cap)
{
    const char *slash = strrchr(socket, '/');
    char key[KEY_DIGITS + 1];
    int n;

    key_of(container, key);
    n = snprintf(out, cap, "%s/%s/%s", e->sockets, key, slash ? slash + 1 : socket);
    return n > 0 && (size_t)n < cap && slash && slash[1];
}

/* What is made in the directory is for all to use, whatever its maker's umask: a default ACL of
 * rwx for everybody (acl(5), as the kernel takes it). */
static bool open_to_all(const char *dir)
{
    static const unsigned char acl[] = {
        2,    0, 0, 0,                         /* version */
        1,    0, 7, 0, 0xff, 0xff, 0xff, 0xff, /* owner rwx */
        4,    0, 7, 0, 0xff, 0xff, 0xff, 0xff, /* group rwx */
        0x20, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, /* others rwx */
    };

    return setxattr(dir, "system.posix_acl_default", acl, sizeof acl, 0) == 0;
}

static int make_dir(const char *dir, mode_t mode, struct kg_err *err)
{
    if ((mkdir(dir, mode) != 0 && errno != EEXIST) || chmod(dir, mode) != 0)
        return kg_fail(err, KG_EIO, "%s: %s", dir, strerror(errno));
    return 0;
}

int engine_socket_make(const struct engine *e, const char *container, const char *socket,
                       char *there, size_t cap, struct kg_err *err)
{
    char dir[sizeof e->sockets + KEY_DIGITS + 2], path[KG_MAX_SOCKET_PATH_BYTES + 1];
    char key[KEY_DIGITS + 1];

    if (!engine_socket_path(e, container, socket, path, sizeof path))
        return kg_fail(err, KG_EINVAL, "socket %s: with state_dir longer than %d bytes", socket,
                       KG_MAX_SOCKET_PATH_BYTES);
    key_of(container, key);
    snprintf(dir, sizeof dir, "%s/%s", e->sockets, key);
    if (make_dir(e->sockets, 0711, err) != 0 || make_dir(dir, 0777, err) != 0)
        return err->code;
    if (!open_to_all(dir))
        KG_LOG(KG_LOG_WARN, "socket-permissions", KG_F("directory", dir),
               KG_F("then", "the worker itself must make its socket writable for all"),
               KG_F("why", strerror(errno)));
    if ((size_t)snprintf(there, cap, "%s/%s", e->reach.sockets, key) >= cap)
        return kg_fail(err, KG_EINVAL, "state_dir is too long");
    return 0;
}

static bool is_listed(const char *key, const struct engine_container *all, size_t count)
{
    char listed[KEY_DIGITS + 1];

    for (size_t i = 0; i < count; i++) {
        key_of(all[i].name, listed);
        if (strcmp(listed, key) == 0)
            return true;
    }
    return false;
}

static void remove_dir(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (!dir) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            unlinkat(fd, entry->d_name,
                     0); /* sockets; what else a worker left stays, and so do we */
    closedir(dir);
    unlinkat(parent, name, AT_REMOVEDIR);
}

void engine_sockets_sweep(const struct engine *e, const struct engine_container *all, size_t count)
{
    DIR *dir = opendir(e->sockets);
    struct dirent *entry;
    struct stat st;

    if (!dir)
        return;
    while ((entry = readdir(dir)) != NULL) {
        if (strlen(entry->d_name) != KEY_DIGITS || is_listed(entry->d_name, all, count) ||
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            kg_clock_wall_ms() - (int64_t)st.st_mtim.tv_sec * 1000 < SWEEP_AGE_MS)
            continue;
        remove_dir(dirfd(dir), entry->d_name);
    }
    closedir(dir);
}
