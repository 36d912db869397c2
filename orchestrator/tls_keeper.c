/* SPDX-License-Identifier: Apache-2.0 */
/* Watches over the files of TLS and the age of its ticket keys. The difficulty: a change is told in
 * pieces, and none may be lost: what the kernel does not tell is found by looking now and then. */
#include "orchestrator/tls_keeper.h"
#include "base/list.h"
#include "orchestrator/certificates.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SETTLE_MS 200       /* nothing more happened for so long */
#define SETTLE_MOST_MS 2000 /* or it goes on and on */
#define LOOK_MS 30000
#define ROTATE_MS 3600000
#define MAX_WATCHES (24 * KG_MAX_CERTIFICATES)
#define MAX_LINKS 40 /* on the way to one file, as the kernel has it */

/* Of one name in a directory. */
struct watch {
    uv_fs_event_t event;
    struct kg_list link;
    struct tls_keeper *keeper;
    const char *name; /* behind the directory */
    char directory[];
};

struct tls_keeper {
    struct tls_keeper_params params;
    struct kg_list watches;
    size_t watch_count;
    uv_timer_t settle, look, rotate;
    uint64_t changed_at_ms; /* the first change that is not told yet; 0: none */
    struct tls_ticket_key keys[TLS_TICKET_KEYS];
    unsigned key_count;
    int open_timers;
};

/* --- changes -------------------------------------------------------------------------------- */

static void tell(struct tls_keeper *k)
{
    k->changed_at_ms = 0;
    uv_timer_stop(&k->settle);
    k->params.on_files(k->params.arg);
}

static void on_settled(uv_timer_t *t)
{
    tell(t->data);
}

static void on_look(uv_timer_t *t)
{
    tell(t->data);
}

static void on_change(uv_fs_event_t *event, const char *name, int events, int status)
{
    const struct watch *w = event->data;
    struct tls_keeper *k = w->keeper;
    uint64_t now = uv_now(k->params.loop);

    (void)events;
    (void)status;
    if (name && strcmp(name, w->name) != 0)
        return; /* of somebody else's in that directory */
    if (k->changed_at_ms == 0)
        k->changed_at_ms = now ? now : 1;
    if (now - k->changed_at_ms < SETTLE_MOST_MS)
        uv_timer_start(&k->settle, on_settled, SETTLE_MS, 0);
}

static void on_watch_closed(uv_handle_t *h)
{
    free(h->data);
}

static void unwatch(struct tls_keeper *k)
{
    struct kg_list *first;

    while ((first = kg_list_first(&k->watches)) != NULL) {
        struct watch *w = KG_LIST_ENTRY(first, struct watch, link);
        kg_list_remove(first);
        uv_close((uv_handle_t *)&w->event, on_watch_closed);
    }
    k->watch_count = 0;
}

static bool is_watched(const struct tls_keeper *k, const char *directory, const char *name)
{
    KG_LIST_EACH(it, &k->watches)
    {
        const struct watch *w = KG_LIST_ENTRY(it, struct watch, link);
        if (strcmp(w->name, name) == 0 && strcmp(w->directory, directory) == 0)
            return true;
    }
    return false;
}

/* What cannot be watched is looked at now and then all the same. */
static void watch_name(struct tls_keeper *k, const char *directory, const char *name)
{
    size_t n = strlen(directory) + 1, more = strlen(name) + 1;
    struct watch *w;

    if (is_watched(k, directory, name) || k->watch_count == MAX_WATCHES)
        return;
    w = malloc(sizeof *w + n + more);
    if (!w)
        return;
    memcpy(w->directory, directory, n);
    memcpy(w->directory + n, name, more);
    w->name = w->directory + n;
    w->keeper = k;
    w->event.data = w;
    uv_fs_event_init(k->params.loop, &w->event);
    kg_list_push_back(&k->watches, &w->link);
    k->watch_count++;
    uv_fs_event_start(&w->event, on_change, w->directory, 0);
}

/* Puts one more name behind a directory without links: `path` grows or, by "..", shrinks. */
static bool step(char path[PATH_MAX], const char *name)
{
    size_t n = strlen(path);
    char *slash = strrchr(path, '/');

    if (strcmp(name, "..") == 0) {
        slash[slash == path] = '\0';
        return true;
    }
    return (size_t)snprintf(path + n, PATH_MAX - n, "%s%s", n > 1 ? "/" : "", name) < PATH_MAX - n;
}

/* Cuts the first name off; false: there is none. */
static bool cut_name(char *rest, char name[NAME_MAX + 1])
{
    size_t skip = strspn(rest, "/"), n = strcspn(rest + skip, "/");

    if (n == 0 || !kg_str_copy(name, NAME_MAX + 1, (struct kg_str){rest + skip, n}))
        return false;
    memmove(rest, rest + skip + n, strlen(rest + skip + n) + 1);
    return true;
}

/* A link leads on to where it points: `rest` begins with that. False: `path` is none. */
static bool follow(const char *path, char rest[PATH_MAX])
{
    char behind[PATH_MAX], target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof target - 1);

    if (n <= 0)
        return false;
    target[n] = '\0';
    memcpy(behind, rest, strlen(rest) + 1);
    if (snprintf(rest, PATH_MAX, "%s/%s", target, behind) >= PATH_MAX)
        rest[0] = '\0';
    return true;
}

/* A file changes where it is, and wherever a name on the way to it is put in place anew: of a link,
 * or of a directory. */
static void watch_file(struct tls_keeper *k, const char *file)
{
    char at[PATH_MAX] = "/", rest[PATH_MAX], name[NAME_MAX + 1], next[PATH_MAX];
    unsigned links = 0;

    if (!file || !kg_str_copy(rest, sizeof rest, kg_str_of(file)) ||
        (rest[0] != '/' && !getcwd(at, sizeof at)))
        return;
    while (cut_name(rest, name)) {
        if (strcmp(name, ".") == 0)
            continue;
        if (strcmp(name, "..") != 0)
            watch_name(k, at, name);
        memcpy(next, at, sizeof next);
        if (!step(next, name))
            return;
        if (!follow(next, rest))
            memcpy(at, next, sizeof at);
        else if (++links > MAX_LINKS)
            return;
        else if (rest[0] == '/')
            at[1] = '\0';
    }
}

/* --- ticket keys ---------------------------------------------------------------------------- */

static void rotate(struct tls_keeper *k)
{
    if (k->key_count < TLS_TICKET_KEYS)
        k->key_count++;
    memmove(&k->keys[1], &k->keys[0], (k->key_count - 1) * sizeof k->keys[0]);
    tls_ticket_key_make(&k->keys[0]);
    k->params.on_tickets(k->params.arg, k->keys, k->key_count);
}

static void on_rotate(uv_timer_t *t)
{
    rotate(t->data);
}

/* --- life ----------------------------------------------------------------------------------- */

struct tls_keeper *tls_keeper_open(const struct tls_keeper_params *params)
{
    struct tls_keeper *k = calloc(1, sizeof *k);

    if (!k)
        return NULL;
    k->params = *params;
    kg_list_init(&k->watches);
    uv_timer_init(params->loop, &k->settle);
    uv_timer_init(params->loop, &k->look);
    uv_timer_init(params->loop, &k->rotate);
    k->settle.data = k->look.data = k->rotate.data = k;
    k->open_timers = 3;
    return k;
}

void tls_keeper_watch(struct tls_keeper *k, const struct config *c)
{
    unwatch(k);
    for (size_t i = 0; i < c->certificates.count; i++)
        for (enum tls_part part = TLS_CHAIN; part <= TLS_CLIENT_CA; part++)
            watch_file(k, certificates_file(c, i, part));
    if (c->certificates.count == 0) {
        uv_timer_stop(&k->look);
        return;
    }
    uv_timer_start(&k->look, on_look, LOOK_MS, LOOK_MS);
    if (k->key_count > 0)
        return;
    rotate(k);
    uv_timer_start(&k->rotate, on_rotate, ROTATE_MS, ROTATE_MS);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct tls_keeper *k = h->data;

    if (--k->open_timers > 0)
        return;
    tls_wipe(k->keys, sizeof k->keys);
    free(k);
}

void tls_keeper_close(struct tls_keeper *k)
{
    unwatch(k);
    uv_close((uv_handle_t *)&k->settle, on_timer_closed);
    uv_close((uv_handle_t *)&k->look, on_timer_closed);
    uv_close((uv_handle_t *)&k->rotate, on_timer_closed);
}
