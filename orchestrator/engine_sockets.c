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
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
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

/* --- permissions -------------------------------------------------------------------------- */

struct watch { /* one directory in which a worker makes its socket */
    struct kg_list link;
    uv_fs_event_t uv;
    char key[KEY_DIGITS + 1];
    char id[ENGINE_ID_BYTES];                /* of the container; "": not known yet */
    char path[KG_MAX_SOCKET_PATH_BYTES + 1]; /* of the socket */
};

/* A socket obeys its maker's umask, whatever the directory's ACL says, so a root worker's is closed
 * to a front that is nobody. As root we open it; the worker rules the directory, so nothing but a
 * socket that was looked at is touched, and no link is followed. */
static void open_to_all(const char *path)
{
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    char self[32];
    struct stat st;

    if (fd < 0)
        return; /* not made yet */
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) != 0777 &&
        chmod(self, 0777) != 0)
        KG_LOG(KG_LOG_WARN, "socket-permissions", KG_F("socket", path),
               KG_F("why", strerror(errno)),
               KG_F("then", "the worker itself must let others write to it"));
    close(fd);
}

static void on_change(uv_fs_event_t *uv, const char *name, int events, int status)
{
    struct watch *w = uv->data;

    (void)name;
    (void)events;
    if (status == 0)
        open_to_all(w->path);
}

static void on_watch_closed(uv_handle_t *h)
{
    free(h->data);
}

static void unwatch(struct watch *w)
{
    kg_list_remove(&w->link);
    uv_close((uv_handle_t *)&w->uv, on_watch_closed);
}

static struct watch *watch_of(const struct engine *e, const char *key)
{
    KG_LIST_EACH(it, &e->watches)
    {
        struct watch *w = KG_LIST_ENTRY(it, struct watch, link);
        if (strcmp(w->key, key) == 0)
            return w;
    }
    return NULL;
}

static struct watch *watch_with(const struct engine *e, const char *id)
{
    KG_LIST_EACH(it, &e->watches)
    {
        struct watch *w = KG_LIST_ENTRY(it, struct watch, link);
        if (id[0] && strcmp(w->id, id) == 0)
            return w;
    }
    return NULL;
}

void engine_socket_watch(struct engine *e, const char *container, const char *id,
                         const char *socket)
{
    char key[KEY_DIGITS + 1], dir[sizeof e->sockets + KEY_DIGITS + 2];
    struct watch *w = watch_with(e, id);

    key_of(container, key);
    if (!w) /* else it may have another name by now */
        w = watch_of(e, key);
    if (!w && (w = calloc(1, sizeof *w)) != NULL) {
        memcpy(w->key, key, sizeof key);
        uv_fs_event_init(e->loop, &w->uv);
        w->uv.data = w;
        kg_list_push_back(&e->watches, &w->link);
        snprintf(dir, sizeof dir, "%s/%s", e->sockets, key);
        engine_socket_path(e, container, socket, w->path, sizeof w->path);
        uv_fs_event_start(&w->uv, on_change, dir, 0);
    }
    if (w && id[0])
        kg_str_copy(w->id, sizeof w->id, kg_str_of(id));
    if (w)
        open_to_all(w->path);
}

bool engine_socket_place(const struct engine *e, const struct engine_container *c,
                         const char *socket, char *out, size_t cap)
{
    const struct watch *w = watch_with(e, c->id);

    if (w)
        return kg_str_copy(out, cap, kg_str_of(w->path));
    return engine_socket_path(e, c->name, socket, out, cap);
}

/* --- before it is started again ----------------------------------------------------------- */

/* A socket, and nobody listens on it. No link is followed, as above. */
static bool is_left_over(const char *path)
{
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int asks = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct stat st;
    bool left = false;

    snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d", fd);
    if (fd >= 0 && asks >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
        left = connect(asks, (struct sockaddr *)&at, sizeof at) != 0 && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    if (asks >= 0)
        close(asks);
    return left;
}

void engine_socket_clear(const struct engine *e, const char *id)
{
    const struct watch *w = watch_with(e, id);

    if (w && is_left_over(w->path))
        unlink(w->path);
}

void engine_sockets_close(struct engine *e)
{
    while (!kg_list_empty(&e->watches))
        unwatch(KG_LIST_ENTRY(kg_list_first(&e->watches), struct watch, link));
}

/* --- directories -------------------------------------------------------------------------- */

static int make_dir(const char *dir, mode_t mode, struct kg_err *err)
{
    if ((mkdir(dir, mode) != 0 && errno != EEXIST) || chmod(dir, mode) != 0)
        return kg_fail(err, KG_EIO, "%s: %s", dir, strerror(errno));
    return 0;
}

int engine_socket_make(struct engine *e, const char *container, const char *socket, char *there,
                       size_t cap, struct kg_err *err)
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
    utimensat(AT_FDCWD, dir, NULL, 0); /* an earlier create's may be old enough to be swept */
    engine_socket_watch(e, container, "", socket);
    if ((size_t)snprintf(there, cap, "%s/%s", e->reach.sockets, key) >= cap)
        return kg_fail(err, KG_EINVAL, "state_dir is too long");
    return 0;
}

/* By its name, or if somebody gave it another one by its id. */
static bool is_listed(const struct engine *e, const char *key, const struct engine_container *all,
                      size_t count)
{
    const struct watch *w = watch_of(e, key);
    char listed[KEY_DIGITS + 1];

    for (size_t i = 0; i < count; i++) {
        key_of(all[i].name, listed);
        if (strcmp(listed, key) == 0 || (w && w->id[0] && strcmp(all[i].id, w->id) == 0))
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

void engine_sockets_sweep(struct engine *e, const struct engine_container *all, size_t count)
{
    DIR *dir = opendir(e->sockets);
    struct dirent *entry;
    struct watch *w;
    struct stat st;

    if (!dir)
        return;
    while ((entry = readdir(dir)) != NULL) {
        if (strlen(entry->d_name) != KEY_DIGITS || is_listed(e, entry->d_name, all, count) ||
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            kg_clock_wall_ms() - (int64_t)st.st_mtim.tv_sec * 1000 < SWEEP_AGE_MS)
            continue;
        w = watch_of(e, entry->d_name);
        if (w)
            unwatch(w);
        remove_dir(dirfd(dir), entry->d_name);
    }
    closedir(dir);
}
