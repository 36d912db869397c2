/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of groups, on which workers reach what their services need: found or made before a
 * worker is, removed when nobody wants them. The difficulty: an engine lets two networks have one
 * name, so all who want one wait for the same search. */
#include "base/log.h"
#include "orchestrator/engine_priv.h"
#include <stdio.h>
#include <stdlib.h>

#define CLOSE_TIMEOUT_MS 1000

/* --- found or made ------------------------------------------------------------------------ */

static struct engine_network *group_of(const struct engine *e, const char *name)
{
    return kg_map_get(&e->groups, kg_str_of(name));
}

/* Who came while others were told waits for another search. */
static struct op *waiting_for(struct engine *e, const struct engine_network *net, uint64_t round)
{
    KG_LIST_EACH(it, &e->running)
    {
        struct op *op = KG_LIST_ENTRY(it, struct op, link);
        if (op->waits_for == net && op->round == round)
            return op;
    }
    return NULL;
}

/* Tells all who wait for it; any of them may cancel others, or close the engine. */
static void on_end(struct engine_network *net, const struct json *found,
                   const struct engine_answer *failure)
{
    struct engine *e = net->engine;
    uint64_t round = net->round++;
    struct op *op;

    net->ours |= found != NULL;
    while (!e->closing && (op = waiting_for(e, net, round)) != NULL) {
        op->waits_for = NULL;
        if (!found)
            op->network[0] = '\0';
        if (failure)
            engine_op_fail(op, failure->code, failure->words);
        else
            op->on_network(op);
    }
}

static struct engine_network *group_add(struct engine *e, const char *name)
{
    struct engine_network *net = group_of(e, name);

    if (net)
        return net;
    net = calloc(1, sizeof *net);
    if (!net || kg_map_set(&e->groups, kg_str_of(name), net) != 0) {
        free(net);
        return NULL;
    }
    engine_network_init(net, e, name, false, on_end);
    return net;
}

void engine_group_settle(struct op *op, void (*on_network)(struct op *op))
{
    struct engine_network *net = group_add(op->engine, op->network);

    if (!net) {
        engine_op_fail(op, KG_ENOMEM, "out of memory");
        return;
    }
    op->waits_for = net;
    op->round = net->round;
    op->on_network = on_network;
    engine_network_find(net);
}

void engine_group_ground(const struct op *op, struct engine_ground *g,
                         char address[INET_ADDRSTRLEN])
{
    struct engine_network *net = group_of(op->engine, op->network);

    engine_ground(op->engine, g);
    g->network = op->network;
    if (net && engine_range_next(&net->range, address))
        g->address = address;
}

/* --- those that nobody wants -------------------------------------------------------------- */

static void remove_next(struct engine *e);

/* Each is tried once after a list: one that stays counts as used until the next. */
static void remove_end(struct engine *e, bool gone)
{
    struct engine_network *net = group_of(e, e->removing);

    gone = gone && net && !net->running;
    if (gone)
        free(kg_map_remove(&e->groups, kg_str_of(e->removing)));
    if (gone || kg_map_set(&e->used, kg_str_of(e->removing), e) == 0)
        remove_next(e);
}

static void on_removed(void *arg, const struct transport_answer *a)
{
    struct engine *e = arg;
    bool gone = a->status == 204 || a->status == 200 || a->status == 404;

    e->removal = 0;
    if (gone)
        KG_LOG(KG_LOG_INFO, "engine-network-removed", KG_F("network", e->removing));
    if (a->code == 0)
        remove_end(e, gone);
}

static void remove_ask(struct engine *e, const char *method, transport_done *on_done)
{
    char path[ENGINE_NAME_BYTES + 16];

    snprintf(path, sizeof path, "/networks/%s", e->removing);
    e->removal = engine_ask(e, method, path, NULL, on_done, e);
}

/* I7: a name alone does not make it ours. */
static void on_judged(void *arg, const struct transport_answer *a)
{
    struct engine *e = arg;
    struct json *n = a->code == 0 && a->status == 200 ? engine_json(a->body) : NULL;
    bool ours = n && engine_network_is_ours(e->owner, n);

    e->removal = 0;
    if (ours && !kg_map_get(&e->wanted, kg_str_of(e->removing)))
        remove_ask(e, "DELETE", on_removed); /* refused where something runs on it */
    else if (a->code == 0)
        remove_end(e, a->status == 404 || (n && !ours));
    json_free(n);
}

/* The next that no service wants and that no container of the last list is on. */
static void remove_next(struct engine *e)
{
    struct kg_str name;
    size_t at = 0;
    void *value;

    if (e->removal != 0 || e->closing || e->link != LINK_UP)
        return;
    while (kg_map_next(&e->groups, &at, &name, &value)) {
        const struct engine_network *net = value;
        if (net->running || kg_map_get(&e->wanted, name) || kg_map_get(&e->used, name))
            continue;
        kg_str_copy(e->removing, sizeof e->removing, name);
        remove_ask(e, "GET", on_judged);
        return;
    }
}

void engine_groups_list_begin(struct engine *e)
{
    kg_map_fini(&e->used);
    kg_map_init(&e->used);
    e->blind = false;
}

void engine_groups_list_add(struct engine *e, const struct json *listed)
{
    char name[ENGINE_NAME_BYTES];

    for (const struct json *it = json_first(json_path(listed, "NetworkSettings.Networks")); it;
         it = json_next(it)) {
        e->blind |= kg_map_set(&e->used, kg_str_of(json_key(it)), e) != 0;
        if (engine_network_in(e->owner, json_key(it), name, sizeof name))
            group_add(e, name); /* perhaps a last run's */
    }
}

void engine_groups_list_end(struct engine *e)
{
    if (!e->blind)
        remove_next(e);
}

/* Nothing is removed but after a list, which tells what is on it. */
void engine_groups_review(struct engine *e)
{
    struct kg_str name;
    size_t at = 0;
    void *value;
    bool any = false;

    while (!any && kg_map_next(&e->groups, &at, &name, &value))
        any = !kg_map_get(&e->wanted, name);
    if (any && !e->closing)
        engine_list_now(e);
}

/* --- doors -------------------------------------------------------------------------------- */

/* One that is forgotten here may be removed while no container is on it, and is made again. */
void engine_configure(struct engine *e, const struct config *c)
{
    char name[ENGINE_NAME_BYTES];

    kg_map_fini(&e->wanted);
    kg_map_init(&e->wanted);
    for (size_t i = 0; i < c->service_count; i++) {
        if (!c->services[i]->group[0])
            continue;
        engine_network_name(e->owner, c->services[i]->group, name, sizeof name);
        kg_map_set(&e->wanted, kg_str_of(name), e);
    }
    engine_groups_review(e);
}

void engine_groups_init(struct engine *e)
{
    kg_map_init(&e->wanted);
    kg_map_init(&e->groups);
    kg_map_init(&e->used);
}

void engine_groups_lost(struct engine *e, const char *why)
{
    struct engine_answer failure = {.code = KG_ECLOSED};
    struct kg_str name;
    size_t at = 0;
    void *value;

    kg_str_copy(failure.words, sizeof failure.words, kg_str_of(why));
    if (e->removal != 0)
        transport_cancel(e->transport, e->removal);
    e->removal = 0;
    while (kg_map_next(&e->groups, &at, &name, &value)) {
        struct engine_network *net = value;
        if (!net->running)
            continue;
        engine_network_stop(net);
        on_end(net, NULL, &failure); /* only fails operations, which answers them later */
    }
}

/* --- at the end --------------------------------------------------------------------------- */

static void on_left(void *arg, const struct transport_answer *a)
{
    struct engine *e = arg;

    (void)a;
    if (--e->leaving == 0)
        e->on_networks_left(e);
}

static bool leave_ask(struct engine *e, const char *method, const char *path, transport_done *done)
{
    const struct engine_request r = {
        .method = method, .path = path, .timeout_ms = CLOSE_TIMEOUT_MS, .on_done = done, .arg = e};

    return engine_send(e, &r) != 0;
}

static void leave(struct engine *e, struct kg_str name)
{
    char path[ENGINE_NAME_BYTES + 16];

    snprintf(path, sizeof path, "/networks/%.*s", (int)name.n, name.p);
    if (!kg_map_get(&e->used, name) && leave_ask(e, "DELETE", path, on_left))
        e->leaving++;
}

/* The engine itself keeps a network that something runs on, but not one that what is stopped would
 * be started on again. */
static void on_last_list(void *arg, const struct transport_answer *a)
{
    struct engine *e = arg;
    struct json *all = a->code == 0 && a->status == 200 ? engine_json(a->body) : NULL;
    struct kg_str name;
    size_t at = 0;
    void *value;

    engine_groups_list_begin(e);
    for (const struct json *it = json_first(all); it; it = json_next(it))
        engine_groups_list_add(e, it);
    if (json_type(all) == JSON_ARRAY && !e->blind) {
        if (engine_network_is_own(e))
            leave(e, kg_str_of(e->reach.network));
        while (kg_map_next(&e->groups, &at, &name, &value))
            if (((struct engine_network *)value)->ours)
                leave(e, name);
    }
    json_free(all);
    if (e->leaving == 0)
        e->on_networks_left(e);
}

bool engine_networks_leave(struct engine *e, void (*on_networks_left)(struct engine *e))
{
    struct kg_buf path;
    bool asked;

    e->on_networks_left = on_networks_left;
    if (e->link != LINK_UP || (!engine_network_is_own(e) && e->groups.count == 0))
        return false;
    kg_buf_init(&path, 8192);
    engine_put_list_path(e, &path);
    asked = !path.error && leave_ask(e, "GET", path.data, on_last_list);
    kg_buf_fini(&path);
    return asked;
}

void engine_groups_fini(struct engine *e)
{
    struct kg_str name;
    size_t at = 0;
    void *value;

    while (kg_map_next(&e->groups, &at, &name, &value))
        free(value);
    kg_map_fini(&e->wanted);
    kg_map_fini(&e->groups);
    kg_map_fini(&e->used);
}
