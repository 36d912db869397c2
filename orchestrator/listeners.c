/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the listeners of a run. The difficulty: fronts of an earlier run may live that are not ours
 * to have: their addresses are free only when they have closed them. */
#include "orchestrator/listeners.h"
#include "base/log.h"
#include "orchestrator/digest.h"
#include <stdlib.h>
#include <unistd.h>

#define OLD_LISTENERS_TRIES 100
#define OLD_LISTENERS_PAUSE_US 20000
#define PASSED_FIRST_FD 3

/* --- what fronts of another control must agree in ------------------------------------------ */

/* Whatever a front is told only once, at its start. */
static uint64_t set_up_of(const struct config *c)
{
    struct kg_buf b;
    char hex[65];

    kg_buf_init(&b, KG_MAX_CONFIG_BYTES);
    kg_buf_printf(&b, "%d %zu %d %d %d %d %u\n", MESSAGE_VERSION, sizeof(struct proxy_stats),
                  c->fronts, c->log_level, c->log_format, c->max_connections_per_client,
                  config_protocols(c));
    kg_buf_printf(&b, "%s\n%s\n", c->admin, c->access_log);
    for (size_t i = 0; i < c->listen.count; i++)
        kg_buf_printf(&b, "%s\n", c->listen.items[i]);
    digest_sha256_hex(kg_buf_str(&b), hex);
    kg_buf_fini(&b);
    hex[16] = '\0';
    return strtoull(hex, NULL, 16);
}

/* --- of attached fronts --------------------------------------------------------------------- */

/* How many of a front's listeners are for clients: the first one has the admin listener, too. */
static size_t public_count(const struct listeners *l, const struct config *c, size_t front)
{
    size_t admin = front == 0 && strcmp(c->admin, "off") != 0,
           all = l->attached[front].listener_count;

    return all > admin ? all - admin : 0;
}

/* Takes those that have as many listeners as the first: what another one says is a lie. Gives how
 * many listeners that are; 0: there is no such front. */
static size_t find_fronts(struct listeners *l, const struct config *c, struct state *s)
{
    size_t count = 0;

    for (size_t i = 0; i < KG_MAX_FRONTS; i++) {
        l->attached[i].channel = -1;
        if (!attach_find(s, i, l->set_up, &l->attached[i]))
            continue;
        if (count == 0 && i < (size_t)c->fronts && public_count(l, c, i) <= KG_MAX_LISTEN)
            count = public_count(l, c, i);
        if (i >= (size_t)c->fronts || count == 0 || public_count(l, c, i) != count) {
            attached_close(&l->attached[i]);
            continue;
        }
        state_life_adopt(s, i, l->attached[i].life);
        KG_LOG(KG_LOG_INFO, "front-attached", KG_FN("front", (int64_t)i),
               KG_FN("pid", l->attached[i].pid));
    }
    return count;
}

static int inherit(struct listeners *l, const struct config *c, size_t count, struct kg_err *err)
{
    int passed = listen_passed_count();
    int fds[KG_MAX_FRONTS], rc = 0;

    l->kept = passed <= KG_MAX_LISTEN ? (size_t)passed : 0;
    for (size_t n = 0; rc == 0 && n < count; n++) {
        bool secure = false;
        const char *address =
            n < c->listen.count ? config_listen_address(c->listen.items[n], &secure) : "passed";
        for (size_t front = 0; front < (size_t)c->fronts; front++)
            fds[front] = l->attached[front].channel >= 0 ? l->attached[front].listeners[n] : -1;
        rc = listen_inherit(&l->sets[n], address, passed > 0, fds, (size_t)c->fronts, err);
        l->count += rc == 0;
    }
    if (rc == 0 && l->attached[0].channel >= 0 && strcmp(c->admin, "off") != 0)
        rc = listen_inherit(&l->admin, c->admin, false, &l->attached[0].listeners[count], 1, err);
    return rc;
}

/* --- opened ---------------------------------------------------------------------------------- */

/* The fronts of a run that was just killed, and that we have no use for, close their listeners as
 * soon as they know: until then their addresses are in use. */
static int listen_patiently(const struct state *s, struct listen_set *set, const char *address,
                            size_t fronts, struct kg_err *err)
{
    struct kg_err tried = {0};
    int rc = listen_open(set, address, fronts, &tried);

    for (int i = 0; rc != 0 && i < OLD_LISTENERS_TRIES && state_old_fronts_live(s); i++) {
        usleep(OLD_LISTENERS_PAUSE_US);
        tried = (struct kg_err){0};
        rc = listen_open(set, address, fronts, &tried);
    }
    return rc == 0 ? 0 : kg_fail(err, rc, "%s", tried.words);
}

static int open_new(struct listeners *l, const struct config *c, const struct state *s,
                    struct kg_err *err)
{
    int passed = listen_passed_count(), rc = 0;
    bool secure;

    if (passed > KG_MAX_LISTEN)
        return kg_fail(err, KG_ELIMIT, "more than %d sockets were passed", KG_MAX_LISTEN);
    for (int i = 0; rc == 0 && i < passed; i++, l->count++)
        rc = listen_adopt(&l->sets[l->count], PASSED_FIRST_FD + i, err);
    for (size_t i = 0; rc == 0 && passed == 0 && i < c->listen.count; i++) {
        const char *address = config_listen_address(c->listen.items[i], &secure);
        rc = listen_patiently(s, &l->sets[i], address, (size_t)c->fronts, err);
        l->count += rc == 0;
    }
    return rc;
}

/* Its address was seldom chosen by who starts us: it is told whose it is. */
static int open_admin(struct listeners *l, const struct config *c, const struct state *s,
                      struct kg_err *err)
{
    struct kg_err tried = {0};
    int rc = listen_patiently(s, &l->admin, c->admin, 1, &tried);

    return rc == 0 ? 0 : kg_fail(err, rc, "admin %s", tried.words);
}

int listeners_open(struct listeners *l, const struct config *c, struct state *s, struct kg_err *err)
{
    size_t inherited;
    int rc;

    l->set_up = set_up_of(c);
    inherited = find_fronts(l, c, s);
    rc = inherited > 0 ? inherit(l, c, inherited, err) : open_new(l, c, s, err);
    if (rc == 0 && l->admin.count == 0 && strcmp(c->admin, "off") != 0)
        rc = open_admin(l, c, s, err);
    for (size_t i = 0; rc == 0 && i < l->count; i++) {
        if (i < c->listen.count)
            config_listen_address(c->listen.items[i], &l->sets[i].secure);
        KG_LOG(KG_LOG_INFO, "listening", KG_F("address", l->sets[i].name),
               KG_F("tls", l->sets[i].secure ? "yes" : "no"));
    }
    return rc;
}

void listeners_close_public(struct listeners *l)
{
    for (size_t i = 0; i < l->count; i++)
        listen_close(&l->sets[i]);
    for (; l->kept > 0; l->kept--)
        close(PASSED_FIRST_FD + (int)l->kept - 1);
}

void listeners_close(struct listeners *l)
{
    listeners_close_public(l);
    listen_close(&l->admin);
}
