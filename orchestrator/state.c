/* SPDX-License-Identifier: Apache-2.0 */
/* The state directory. The difficulty: idle clocks count on the monotonic clock, which means
 * nothing after a reboot, so the file names the boot it was written in. */
#include "orchestrator/state.h"
#include "base/clock.h"
#include "orchestrator/digest.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CLOCKS_MAX_BYTES (4 * 1024 * 1024)
#define ATTACH_CONNECT_S 1

static void path_in(const struct state *s, const char *file, char *out, size_t cap)
{
    snprintf(out, cap, "%s/%s", s->dir, file);
}

static int make_dirs(const char *dir, struct kg_err *err)
{
    char part[256];

    for (size_t i = 1; dir[i - 1] != '\0'; i++) {
        if (dir[i] != '/' && dir[i] != '\0')
            continue;
        kg_str_copy(part, sizeof part, (struct kg_str){dir, i});
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return kg_fail(err, KG_EIO, "state_dir %s: %s", dir, strerror(errno));
    }
    return 0;
}

/* The whole file, NUL-terminated, or NULL with errno. The caller frees. */
static char *read_file(const char *path, size_t max_bytes)
{
    struct kg_buf b;
    char piece[4096];
    size_t n;
    int fault;
    FILE *f = fopen(path, "re");

    if (!f)
        return NULL;
    kg_buf_init(&b, max_bytes);
    do
        n = fread(piece, 1, sizeof piece, f);
    while (kg_buf_append(&b, piece, n) == 0 && n > 0);
    fault = ferror(f) ? errno : b.error == KG_ELIMIT ? EFBIG : b.error ? ENOMEM : 0;
    fclose(f);
    if (fault == 0)
        return kg_buf_take(&b);
    kg_buf_fini(&b);
    errno = fault;
    return NULL;
}

/* The file's first line into `out`; "" where there is none that fits. 0 or told: what cannot be
 * read is neither wrong nor not there. */
static int read_line(const char *path, char *out, size_t cap, struct kg_err *err)
{
    char *text = read_file(path, 2 * cap);

    out[0] = '\0';
    if (!text && errno != ENOENT)
        return kg_fail(err, KG_EIO, "%s: cannot be read: %s", path, strerror(errno));
    if (text && strcspn(text, "\n") < cap)
        kg_str_copy(out, cap, (struct kg_str){text, strcspn(text, "\n")});
    free(text);
    return 0;
}

/* A file's new name, too, is to outlast a loss of power. */
static int keep_names(const struct state *s)
{
    int fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd >= 0 && fsync(fd) == 0 ? 0 : -errno;

    if (fd >= 0)
        close(fd);
    return rc;
}

/* 0 or -errno. What is taken in part says why no sooner than at the next write. */
static int write_all(int fd, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, text, n);
        if (written <= 0)
            return written < 0 ? -errno : -EIO;
        text += written;
        n -= (size_t)written;
    }
    return 0;
}

/* Replaces the file as a whole: readers see the old or the new one. `durable`: also after a loss of
 * power. 0 or -errno. */
static int replace_file(const struct state *s, const char *file, const char *text, size_t n,
                        bool durable)
{
    char path[288], next[296];
    int fd, rc;

    path_in(s, file, path, sizeof path);
    snprintf(next, sizeof next, "%s.next", path);
    fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    rc = write_all(fd, text, n);
    if (durable && rc == 0 && fsync(fd) < 0)
        rc = -errno;
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(next, path) < 0)
        rc = -errno;
    if (rc != 0)
        unlink(next);
    else if (durable)
        rc = keep_names(s);
    return rc;
}

static bool owner_ok(const char *owner)
{
    size_t n = strlen(owner);

    return n >= 1 && n < STATE_OWNER_BYTES &&
           strspn(owner, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static int take_owner(struct state *s, const char *given, struct kg_err *err)
{
    char path[288];
    int rc;

    if (given) {
        if (!owner_ok(given))
            return kg_fail(err, KG_EINVAL, "owner: letters, digits, '.', '_' and '-' only");
        kg_str_copy(s->owner, sizeof s->owner, kg_str_of(given));
        return 0;
    }
    path_in(s, "owner", path, sizeof path);
    if (read_line(path, s->owner, sizeof s->owner, err) != 0)
        return KG_EIO;
    if (owner_ok(s->owner))
        return 0;
    if (access(path, F_OK) == 0) /* a new id would orphan all containers of the old one */
        return kg_fail(err, KG_EINVAL, "%s: not an owner id; mend or delete the file", path);
    digest_random_hex(s->owner, 32);
    rc = replace_file(s, "owner", s->owner, strlen(s->owner), true);
    return rc == 0 ? 0 : kg_fail(err, KG_EIO, "%s: %s", path, strerror(-rc));
}

/* Made once, as the owner is; a new one would disown all containers of the old one. */
static int take_key(struct state *s, struct kg_err *err)
{
    char path[288];
    size_t n;
    int rc;

    path_in(s, "key", path, sizeof path);
    if (read_line(path, s->key, sizeof s->key, err) != 0)
        return KG_EIO;
    n = strlen(s->key);
    if (n == STATE_KEY_BYTES - 1 && strspn(s->key, "0123456789abcdef") == n)
        return 0;
    if (access(path, F_OK) == 0)
        return kg_fail(err, KG_EINVAL, "%s: not a key; mend or delete the file", path);
    digest_random_hex(s->key, STATE_KEY_BYTES - 1);
    rc = replace_file(s, "key", s->key, strlen(s->key), true);
    return rc == 0 ? 0 : kg_fail(err, KG_EIO, "%s: %s", path, strerror(-rc));
}

static int lock_file(const struct state *s, const char *file, int how, struct kg_err *err)
{
    char path[288];
    int fd;

    path_in(s, file, path, sizeof path);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return kg_fail(err, KG_EIO, "%s: %s", path, strerror(errno));
    if (flock(fd, how | LOCK_NB) == 0)
        return fd;
    if (errno == EWOULDBLOCK)
        kg_fail(err, KG_ECONFLICT, "state_dir %s: another Kipgate is running with it", s->dir);
    else
        kg_fail(err, KG_EIO, "%s: cannot be locked: %s", path, strerror(errno));
    close(fd);
    return err->code;
}

int state_make_sockets(const struct state *s, struct kg_err *err)
{
    char sockets[288];

    state_sockets_dir(s, sockets, sizeof sockets);
    return make_dirs(sockets, err);
}

int state_open(struct state *s, const char *dir, const char *owner, struct kg_err *err)
{
    int rc;

    *s = (struct state){.dir_fd = -1, .lock_fd = -1, .owner_fd = -1};
    for (size_t i = 0; i < KG_MAX_FRONTS; i++)
        s->lives[i].fd = -1;
    if (!kg_str_copy(s->dir, sizeof s->dir, kg_str_of(dir)))
        return kg_fail(err, KG_EINVAL, "state_dir: longer than %zu bytes", sizeof s->dir - 1);
    rc = make_dirs(dir, err);
    if (rc == 0 && (s->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        rc = kg_fail(err, KG_EIO, "state_dir %s: %s", dir, strerror(errno));
    if (rc == 0)
        rc = s->lock_fd = lock_file(s, "lock", LOCK_EX, err);
    if (rc >= 0)
        rc = take_owner(s, owner, err);
    if (rc >= 0)
        rc = take_key(s, err);
    if (rc >= 0)
        rc = state_make_sockets(s, err);
    if (rc < 0)
        state_close(s);
    return rc < 0 ? rc : 0;
}

/* --- one of each owner --- */

/* An engine's socket by the one name that it has, whatever links lead there (/var/run is one on
 * most machines); while it is not there, by that of its directory. */
static void real_engine(const char *engine, char *out, size_t cap)
{
    static const char scheme[] = "unix://";
    const char *path = engine + sizeof scheme - 1, *slash = strrchr(engine, '/');
    char *dir, *real = NULL;

    snprintf(out, cap, "%s", engine);
    if (strncmp(engine, scheme, sizeof scheme - 1) != 0)
        return;
    dir = strndup(path, (size_t)(slash - path));
    if ((real = realpath(path, NULL)) != NULL)
        snprintf(out, cap, "%s%s", scheme, real);
    else if (dir && (real = realpath(dir, NULL)) != NULL)
        snprintf(out, cap, "%s%s%s", scheme, real, slash);
    free(dir);
    free(real);
}

/* A name of no file that the kernel takes back with the process. */
static socklen_t owner_address(const struct state *s, const char *engine, struct sockaddr_un *a)
{
    char real[PATH_MAX + 128], both[STATE_OWNER_BYTES + sizeof real], hex[65];
    int n;

    real_engine(engine, real, sizeof real);
    n = snprintf(both, sizeof both, "%s %s", s->owner, real);
    digest_sha256_hex((struct kg_str){both, (size_t)n}, hex);
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "kipgate-owner-%.32s", hex);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

/* Anybody on this machine can hold that name: only a Kipgate that could hold our containers, too,
 * is believed. False, too, if it is gone again. */
static bool is_rival(const struct sockaddr_un *a, socklen_t n, struct ucred *peer)
{
    socklen_t peer_n = sizeof *peer;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool known = fd >= 0 && connect(fd, (const struct sockaddr *)a, n) == 0 &&
                 getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &peer_n) == 0;

    if (fd >= 0)
        close(fd);
    return known && (peer->uid == 0 || peer->uid == geteuid());
}

int state_claim_owner(struct state *s, const char *engine, struct kg_err *err)
{
    struct sockaddr_un a;
    socklen_t n = owner_address(s, engine, &a);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct ucred peer;

    KG_ASSERT(s->owner_fd < 0);
    if (fd < 0)
        return kg_fail(err, KG_EIO, "owner %s: %s", s->owner, strerror(errno));
    if (bind(fd, (const struct sockaddr *)&a, n) == 0 && listen(fd, 8) == 0) {
        s->owner_fd = fd;
        return 0;
    }
    close(fd);
    if (is_rival(&a, n, &peer))
        return kg_fail(err, KG_ECONFLICT,
                       "owner %s: another Kipgate (process %d) is running with it on engine %s",
                       s->owner, (int)peer.pid, engine);
    KG_LOG(KG_LOG_WARN, "owner-not-claimed", KG_F("owner", s->owner),
           KG_F("why", "something else holds its name on this machine"));
    return 0;
}

void state_turn_away(struct state *s)
{
    int fd;

    while ((fd = accept4(s->owner_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        close(fd);
}

static void attach_path(const struct state *s, size_t index, char *out, size_t cap)
{
    snprintf(out, cap, "/proc/self/fd/%d/front-%zu.sock", s->dir_fd, index);
}

void state_close(struct state *s)
{
    char path[320];

    for (size_t i = 0; i < KG_MAX_FRONTS; i++) {
        if (s->lives[i].name[0] == '\0')
            continue;
        if (s->lives[i].fd >= 0)
            close(s->lives[i].fd);
        path_in(s, s->lives[i].name, path, sizeof path);
        unlink(path);
        attach_path(s, i, path, sizeof path);
        unlink(path);
    }
    if (s->owner_fd >= 0)
        close(s->owner_fd);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    if (s->dir_fd >= 0)
        close(s->dir_fd);
    s->dir_fd = s->owner_fd = s->lock_fd = -1;
}

/* --- fronts --- */

int state_life(struct state *s, size_t index)
{
    struct state_life *life = &s->lives[index];
    struct kg_err err = {0};

    if (life->fd >= 0)
        return life->fd;
    snprintf(life->name, sizeof life->name, STATE_LIFE_PREFIX "%d-%lld-%zu", getpid(),
             (long long)kg_clock_mono_us(), index);
    life->fd = lock_file(s, life->name, LOCK_SH, &err);
    if (life->fd >= 0)
        return life->fd;
    life->name[0] = '\0';
    life->fd = -1;
    return -1;
}

void state_life_adopt(struct state *s, size_t index, const char *name)
{
    KG_ASSERT(s->lives[index].name[0] == '\0');
    kg_str_copy(s->lives[index].name, sizeof s->lives[index].name, kg_str_of(name));
}

static bool is_ours(const struct state *s, const char *name)
{
    for (size_t i = 0; i < KG_MAX_FRONTS; i++)
        if (strcmp(s->lives[i].name, name) == 0)
            return true;
    return false;
}

static bool attach_address(const struct state *s, size_t index, struct sockaddr_un *un)
{
    *un = (struct sockaddr_un){.sun_family = AF_UNIX};
    attach_path(s, index, un->sun_path, sizeof un->sun_path);
    return s->dir_fd >= 0;
}

/* The directory's path may be longer than a socket's may be: hence the way through /proc. */
int state_attach_listen(const struct state *s, size_t index)
{
    struct sockaddr_un un;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc;
    mode_t mask;

    if (fd < 0 || !attach_address(s, index, &un))
        return fd;
    unlink(un.sun_path);
    mask = umask(0177); /* its owner's alone, from its first moment */
    rc = bind(fd, (const void *)&un, sizeof un);
    umask(mask);
    if (rc == 0 && listen(fd, 1) == 0)
        return fd;
    close(fd);
    return -1;
}

int state_attach_connect(const struct state *s, size_t index)
{
    struct sockaddr_un un;
    const struct timeval limit = {.tv_sec = ATTACH_CONNECT_S};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || !attach_address(s, index, &un))
        return fd;
    /* It may accept nobody, and others may have waited before us: controls that ended. */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on); /* who answers, by the kernel's word */
    if (connect(fd, (const void *)&un, sizeof un) == 0)
        return fd;
    if (errno == ECONNREFUSED)
        unlink(un.sun_path); /* nobody is behind it */
    close(fd);
    return -1;
}

/* --- clocks --- */

static void boot_id(char out[64])
{
    char *text = read_file("/proc/sys/kernel/random/boot_id", 128);

    kg_str_copy(out, 64, text ? (struct kg_str){text, strcspn(text, "\n")} : KG_STR("unknown"));
    free(text);
}

/* One line: NAME USED_MS IN_USE. Anything else is skipped: the worst is a later reap. */
static void recall_line(struct fleet *f, const char *line)
{
    char name[ENGINE_NAME_BYTES];
    long long used_ms;
    int in_use;

    if (sscanf(line, "%127s %lld %d", name, &used_ms, &in_use) == 3 && !in_use && used_ms >= 0)
        fleet_remember(f, name, used_ms);
}

void state_recall(const struct state *s, struct fleet *f)
{
    char path[288], boot[64], *text, *line, *rest;

    path_in(s, "clocks", path, sizeof path);
    text = read_file(path, CLOCKS_MAX_BYTES);
    if (!text)
        return;
    boot_id(boot);
    line = strtok_r(text, "\n", &rest);
    if (line && strcmp(line, boot) == 0 && strcmp(boot, "unknown") != 0)
        while ((line = strtok_r(NULL, "\n", &rest)) != NULL)
            recall_line(f, line);
    free(text);
}

static void add_clock(void *arg, const char *name, int64_t used_ms, bool in_use)
{
    kg_buf_printf(arg, "%s %lld %d\n", name, (long long)used_ms, in_use);
}

void state_save(struct state *s, const struct fleet *f)
{
    struct kg_buf b;
    char boot[64];
    int rc;

    s->dirty = false;
    boot_id(boot);
    kg_buf_init(&b, CLOCKS_MAX_BYTES);
    kg_buf_printf(&b, "%s\n", boot);
    fleet_each_clock(f, add_clock, &b);
    rc = b.error ? -ENOMEM : replace_file(s, "clocks", b.data, b.len, false);
    s->saved = rc == 0;
    if (rc != 0)
        KG_LOG(KG_LOG_WARN, "state-not-saved", KG_F("dir", s->dir), KG_F("why", strerror(-rc)));
    kg_buf_fini(&b);
}

/* One line behind the others, where the last word on a name counts: a whole file for each of
 * thousands that end together would be slow. */
void state_save_ending(struct state *s, const struct fleet *f, const char *name)
{
    char path[288];
    int fd;

    path_in(s, "clocks", path, sizeof path);
    fd = s->saved ? open(path, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
    if (fd < 0 || dprintf(fd, "%s 0 0\n", name) < 0)
        state_save(s, f);
    if (fd >= 0)
        close(fd);
}

/* --- numbers of services --- */

#define SERVICES_MAX_BYTES (1024 * 1024)

void state_recall_services(const struct state *s, struct fleet *f)
{
    char path[288], name[KG_MAX_NAME_BYTES + 1], *text, *line, *rest;
    unsigned id;

    path_in(s, "services", path, sizeof path);
    text = read_file(path, SERVICES_MAX_BYTES);
    if (!text)
        return;
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (sscanf(line, "%u %63s", &id, name) == 2)
            (void)fleet_reserve_service(f, name, id); /* another number is no harm by itself */
    free(text);
}

static void add_service(void *arg, const char *name, uint32_t id)
{
    kg_buf_printf(arg, "%u %s\n", id, name);
}

void state_save_services(const struct state *s, const struct fleet *f)
{
    struct kg_buf b;
    int rc;

    kg_buf_init(&b, SERVICES_MAX_BYTES);
    fleet_each_service(f, add_service, &b);
    rc = b.error ? -ENOMEM : replace_file(s, "services", b.data ? b.data : "", b.len, false);
    if (rc != 0)
        KG_LOG(KG_LOG_WARN, "state-not-saved", KG_F("dir", s->dir), KG_F("why", strerror(-rc)));
    kg_buf_fini(&b);
}

/* --- what was learnt --- */

#define HABITS_MAX_BYTES (64 * 1024 * 1024)
#define HABITS_EVERY_MS 10000

/* One line: SERVICE (or "*") LAST_USE_WALL_MS HABIT. What is not understood is learnt anew. */
static void recall_habit(struct fleet *f, const char *line)
{
    char name[KG_MAX_NAME_BYTES + 1];
    long long used_ms;
    int at = 0;

    if (sscanf(line, "%63s %lld %n", name, &used_ms, &at) == 2 && at > 0 && line[at] &&
        used_ms >= 0) {
        int64_t idle_ms = kg_clock_wall_ms() - used_ms;
        fleet_recall_habit(f, strcmp(name, "*") == 0 ? "" : name, idle_ms > 0 ? idle_ms : 0,
                           kg_str_of(line + at));
    }
}

void state_recall_habits(const struct state *s, struct fleet *f)
{
    char path[288], *text, *line, *rest;

    path_in(s, "habits", path, sizeof path);
    text = read_file(path, HABITS_MAX_BYTES);
    if (!text)
        return;
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        recall_habit(f, line);
    free(text);
}

static void add_habit(void *arg, const char *service, int64_t idle_ms, struct kg_str habit)
{
    kg_buf_printf(arg, "%s %lld %.*s\n", service[0] ? service : "*",
                  (long long)(kg_clock_wall_ms() - idle_ms), (int)habit.n, habit.p);
}

void state_save_habits(struct state *s, struct fleet *f, bool now)
{
    int64_t now_ms = kg_clock_mono_ms();
    struct kg_buf b;
    int rc;

    if (!now && now_ms - s->habits_saved_ms < HABITS_EVERY_MS)
        return;
    if (!fleet_habits_changed(f) && !s->habits_lost)
        return;
    s->habits_saved_ms = now_ms;
    kg_buf_init(&b, HABITS_MAX_BYTES);
    fleet_each_habit(f, now_ms, add_habit, &b);
    rc = b.error ? -ENOMEM : replace_file(s, "habits", b.data, b.len, false);
    s->habits_lost = rc != 0;
    if (rc != 0)
        KG_LOG(KG_LOG_WARN, "state-not-saved", KG_F("dir", s->dir), KG_F("why", strerror(-rc)));
    kg_buf_fini(&b);
}

/* A lock that can be had alone is nobody's any more; what cannot be asked counts as held. */
static bool lock_is_held(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool held;

    if (fd < 0)
        return errno != ENOENT;
    held = flock(fd, LOCK_EX | LOCK_NB) < 0;
    if (!held)
        unlink(path);
    close(fd);
    return held;
}

bool state_old_fronts_live(const struct state *s)
{
    DIR *dir = opendir(s->dir);
    struct dirent *entry;
    char path[512];
    bool live = !dir; /* not known: whoever asks will ask again */

    while (dir && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, STATE_LIFE_PREFIX, strlen(STATE_LIFE_PREFIX)) != 0 ||
            is_ours(s, entry->d_name))
            continue;
        path_in(s, entry->d_name, path, sizeof path);
        live |= lock_is_held(path);
    }
    if (dir)
        closedir(dir);
    return live;
}

void state_sockets_dir(const struct state *s, char *out, size_t cap)
{
    path_in(s, "sockets", out, cap);
}
