/* SPDX-License-Identifier: Apache-2.0 */
/* What others may see of the fleet: for the admin API, metrics and the state file.
 * The difficulty: what is written down must still be true after a crash in the next instant. */
#include "orchestrator/fleet_priv.h"
#include <arpa/inet.h>
#include <stdio.h>

static void print_address(const struct engine_container *c, char *out, size_t cap)
{
    char host[INET6_ADDRSTRLEN] = "";

    out[0] = '\0';
    if (c->address.ss_family == AF_INET) {
        const struct sockaddr_in *a = (const struct sockaddr_in *)&c->address;
        inet_ntop(AF_INET, &a->sin_addr, host, sizeof host);
        snprintf(out, cap, "%s:%u", host, ntohs(a->sin_port));
    } else if (c->address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)&c->address;
        inet_ntop(AF_INET6, &a->sin6_addr, host, sizeof host);
        snprintf(out, cap, "[%s]:%u", host, ntohs(a->sin6_port));
    } else if (c->address.ss_family == AF_UNIX) {
        const struct sockaddr_un *a = (const struct sockaddr_un *)&c->address;
        snprintf(out, cap, "unix:%.*s", KG_MAX_SOCKET_PATH_BYTES, a->sun_path);
    }
}

/* One that is needed idles from when it is needed no more. Of what was found stopped the last use
 * is not known. */
static int64_t idle_ms(const struct fleet_instance *i, bool stays, int64_t now_ms)
{
    bool idles = i->state == INSTANCE_READY || instance_is_asleep(i->state);
    bool needed = i->state == INSTANCE_READY && stays && i->service->needed > 0;

    if (!idles || needed || i->held || i->out > 0 || i->idle.used_ms <= 0)
        return 0;
    return i->idle.used_ms < now_ms ? now_ms - i->idle.used_ms : 0;
}

static void view(const struct fleet_instance *i, struct fleet_view *v, int64_t now_ms)
{
    const struct config_service *config = i->service->config;
    bool idles = i->state == INSTANCE_READY || i->state == INSTANCE_PAUSED;
    bool stays = idles && i->out == 0 && fleet_must_stay(i);
    int64_t due_ms = idles && !stays ? reaper_entry_due_ms(&i->idle) : KG_NEVER;

    *v = (struct fleet_view){.instance = i->id,
                             .name = i->name,
                             .container_id = i->container.id,
                             .state = instance_state_name(i->state),
                             .slots_out = i->out,
                             .drains = i->state == INSTANCE_DRAINING,
                             .idle_ms = idle_ms(i, stays, now_ms),
                             .reap_in_ms = -1,
                             .current_spec = config && strcmp(i->spec, config->spec) == 0};
    print_address(&i->container, v->address, sizeof v->address);
    if (due_ms != KG_NEVER)
        v->reap_in_ms = due_ms > now_ms ? due_ms - now_ms : 0;
}

size_t fleet_view(const struct fleet *f, uint32_t service, struct fleet_view *views, size_t cap,
                  int64_t now_ms)
{
    size_t count = 0;

    if (service >= f->service_count)
        return 0;
    KG_LIST_EACH(it, &f->services[service]->instances)
    {
        const struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->stray)
            continue;
        if (count < cap)
            view(i, &views[count], now_ms);
        count++;
    }
    return count;
}

void fleet_count_states(const struct fleet *f, uint32_t service,
                        size_t counts[INSTANCE_STATE_COUNT])
{
    memset(counts, 0, INSTANCE_STATE_COUNT * sizeof *counts);
    if (service >= f->service_count)
        return;
    KG_LIST_EACH(it, &f->services[service]->instances)
    {
        const struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        counts[i->state] += !i->stray;
    }
}

size_t fleet_waiting(const struct fleet *f, uint32_t service)
{
    return service < f->service_count ? f->services[service]->waiting : 0;
}

/* What the last run saved of something that this one has not looked at. A front may be using it:
 * then it has no clock. An order to end it stays one. */
static void remembered(const struct fleet *f, const char *name, int64_t used_ms,
                       void (*each)(void *arg, const char *name, int64_t used_ms, bool in_use),
                       void *arg)
{
    each(arg, name, used_ms, used_ms > 0 && (f->hold || fleet_is_claimed(f, name)));
}

/* While nothing is known of what there is. */
static void each_remembered(const struct fleet *f,
                            void (*each)(void *arg, const char *name, int64_t used_ms, bool in_use),
                            void *arg)
{
    struct kg_str name;
    char text[ENGINE_NAME_BYTES];
    size_t at = 0;
    void *clock;

    while (kg_map_next(&f->remembered, &at, &name, &clock)) {
        kg_str_copy(text, sizeof text, name);
        remembered(f, text, *(int64_t *)clock, each, arg);
    }
}

void fleet_each_clock(const struct fleet *f,
                      void (*each)(void *arg, const char *name, int64_t used_ms, bool in_use),
                      void *arg)
{
    KG_LIST_EACH(it, &f->instances)
    {
        const struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_fleet);
        const int64_t *last = i->stray ? kg_map_get(&f->remembered, kg_str_of(i->name)) : NULL;
        if (last)
            remembered(f, i->name, *last, each, arg);
        else if (instance_serves(i->state) || i->state == INSTANCE_PAUSED)
            each(arg, i->name, i->idle.used_ms, i->out > 0 || i->held || i->service->needed > 0);
        else if (i->state == INSTANCE_PROBING && !i->provisioned)
            each(arg, i->name, kg_earliest(i->clock_ms, f->now_ms),
                 i->held || i->clock_ms == KG_NEVER);
        else if (i->state == INSTANCE_DRAINING) /* ordered to end by a former run, or not yet */
            each(arg, i->name, i->clock_ms <= 0 ? 0 : f->now_ms, i->clock_ms > 0);
        else if (i->state == INSTANCE_STOPPING || i->state == INSTANCE_REMOVING)
            each(arg, i->name, 0, false); /* long due: the next run must not adopt it */
    }
    if (!f->listed)
        each_remembered(f, each, arg);
}
