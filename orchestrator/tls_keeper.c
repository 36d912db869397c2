/* SPDX-License-Identifier: Apache-2.0 */
/* Watches over the files of TLS and the age of its ticket keys. The difficulty: a change is told in
 * pieces, and none may be lost: what the kernel does not tell is found by looking now and then. */
#include "orchestrator/tls_keeper.h"
#include "base/list.h"
#include "orchestrator/certificates.h"
#include <limits.h>
#include <stdlib.h>

#define SETTLE_MS 200       /* nothing more happened for so long */
#define SETTLE_MOST_MS 2000 /* or it goes on and on */
#define LOOK_MS 30000
#define ROTATE_MS 3600000
#define MAX_DIRECTORIES (6 * KG_MAX_CERTIFICATES)

struct watch {
    uv_fs_event_t event;
    struct kg_list link;
    struct tls_keeper *keeper;
    char path[];
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
    struct tls_keeper *k = ((struct watch *)event->data)->keeper;
    uint64_t now = uv_now(k->params.loop);

    (void)name;
    (void)events;
    (void)status;
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

static bool is_watched(const struct tls_keeper *k, struct kg_str path)
{
    KG_LIST_EACH(it, &k->watches)
    if (kg_str_eq(kg_str_of(KG_LIST_ENTRY(it, struct watch, link)->path), path))
        return true;
    return false;
}

/* What cannot be watched is looked at now and then all the same. */
static void watch_directory(struct tls_keeper *k, struct kg_str path)
{
    struct watch *w;

    if (is_watched(k, path) || k->watch_count == MAX_DIRECTORIES)
        return;
    w = malloc(sizeof *w + path.n + 1);
    if (!w)
        return;
    memcpy(w->path, path.p, path.n);
    w->path[path.n] = '\0';
    w->keeper = k;
    w->event.data = w;
    uv_fs_event_init(k->params.loop, &w->event);
    kg_list_push_back(&k->watches, &w->link);
    k->watch_count++;
    uv_fs_event_start(&w->event, on_change, w->path, 0);
}

/* The directory a path is in. */
static struct kg_str parent(struct kg_str path)
{
    while (path.n > 0 && path.p[path.n - 1] != '/')
        path.n--;
    while (path.n > 1 && path.p[path.n - 1] == '/')
        path.n--;
    return path.n > 0 ? path : KG_STR(".");
}

/* A file changes where it is named, where it is, and where the directory that names it is swapped
 * for another. */
static void watch_file(struct tls_keeper *k, const char *file)
{
    char real[PATH_MAX];
    struct kg_str directory;

    if (!file)
        return;
    directory = parent(kg_str_of(file));
    watch_directory(k, directory);
    watch_directory(k, parent(directory));
    if (realpath(file, real))
        watch_directory(k, parent(kg_str_of(real)));
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
