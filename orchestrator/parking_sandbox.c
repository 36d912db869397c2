/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a sandbox: made, started, found out about, parked, taken by one worker, removed. The
 * difficulty: any answer may fail to come, and then the engine is asked what became of it. */
#include "orchestrator/digest.h"
#include "orchestrator/parking_priv.h"
#include <stdio.h>
#include <stdlib.h>

/* --- records ------------------------------------------------------------------------------ */

static void set_stage(struct sandbox *sb, enum sandbox_stage stage)
{
    struct parking *p = sb->parking;

    kg_list_remove(&sb->link);
    kg_heap_remove(&p->timers, &sb->timer);
    p->counts[sb->stage]--;
    p->counts[stage]++;
    kg_list_push_back(&p->stages[stage], &sb->link);
    sb->stage = stage;
    sb->stage_ms = parking_now(p);
}

static void due(struct sandbox *sb, int64_t at_ms)
{
    kg_heap_set(&sb->parking->timers, &sb->timer, at_ms); /* there is room for all: sandbox_new */
}

static int64_t pause_of(unsigned tries, int64_t first_ms)
{
    int64_t ms = tries > 16 ? KG_BACKOFF_LAST_MS : first_ms << (tries > 0 ? tries - 1 : 0);

    return ms < KG_BACKOFF_LAST_MS ? ms : KG_BACKOFF_LAST_MS;
}

static void again_later(struct sandbox *sb)
{
    sb->tries++;
    due(sb, parking_now(sb->parking) + pause_of(sb->tries, SANDBOX_RETRY_FIRST_MS));
}

static struct sandbox *sandbox_new(struct parking *p, const char *name, const char *id,
                                   enum sandbox_stage stage)
{
    struct sandbox *sb;
    size_t known = 0;

    for (size_t i = 0; i < SANDBOX_STAGES; i++)
        known += p->counts[i];
    sb = known < KG_SANDBOX_MAX_KNOWN ? calloc(1, sizeof *sb) : NULL;
    if (!sb)
        return NULL;
    sb->parking = p;
    sb->stage = stage;
    kg_list_init(&sb->link);
    kg_str_copy(sb->name, sizeof sb->name, kg_str_of(name));
    kg_str_copy(sb->id, sizeof sb->id, kg_str_of(id));
    if (kg_heap_reserve(&p->timers, known + 1) != 0 ||
        kg_map_set(&p->sandboxes, kg_str_of(sb->name), sb) != 0 ||
        (sb->id[0] && kg_map_set(&p->sandboxes, kg_str_of(sb->id), sb) != 0)) {
        kg_map_remove(&p->sandboxes, kg_str_of(sb->name));
        free(sb);
        return NULL;
    }
    p->counts[stage]++;
    set_stage(sb, stage);
    return sb;
}

static void forget(struct kg_map *map, const char *key, const struct sandbox *sb)
{
    if (key[0] && kg_map_get(map, kg_str_of(key)) == sb)
        kg_map_remove(map, kg_str_of(key));
}

static void unassign(struct sandbox *sb)
{
    forget(&sb->parking->workers, sb->worker, sb);
    forget(&sb->parking->workers, sb->worker_id, sb);
    sb->worker[0] = sb->worker_id[0] = '\0';
    sb->lost = sb->joins = false;
}

void parking_sandbox_free(struct sandbox *sb)
{
    struct parking *p = sb->parking;

    if (sb->operation != 0)
        p->params.engine->cancel(p->params.engine->self, sb->operation);
    unassign(sb);
    forget(&p->sandboxes, sb->name, sb);
    forget(&p->sandboxes, sb->id, sb);
    kg_heap_remove(&p->timers, &sb->timer);
    kg_list_remove(&sb->link);
    p->counts[sb->stage]--;
    free(sb);
}

struct sandbox *parking_find(const struct parking *p, const char *id)
{
    return id[0] ? kg_map_get(&p->sandboxes, kg_str_of(id)) : NULL;
}

void parking_drop(struct sandbox *sb)
{
    parking_sandbox_free(sb);
}

static void set_id(struct sandbox *sb, const char *id)
{
    if (kg_str_copy(sb->id, sizeof sb->id, kg_str_of(id)))
        kg_map_set(&sb->parking->sandboxes, kg_str_of(sb->id), sb); /* else its name finds it */
}

static void set_address(struct sandbox *sb, const struct engine_container *c)
{
    sb->address = c->address;
    sb->address_length = c->address_length;
}

/* --- made --------------------------------------------------------------------------------- */

static void failed(struct parking *p, const char *words)
{
    int64_t pause_ms = pause_of(++p->failures, KG_BACKOFF_FIRST_MS);

    p->refill_ms = parking_now(p) + pause_ms;
    KG_LOG(p->failures == 1 ? KG_LOG_WARN : KG_LOG_DEBUG, "sandbox-failed", KG_F("why", words),
           KG_FN("again_ms", pause_ms), KG_F("then", "workers open their own networks"));
}

static bool is_unknown(int code)
{
    return code != 0 && code != KG_ENOTFOUND && code != KG_ECONFLICT && code != KG_EINVAL &&
           code != KG_EAGAIN && code != KG_EIO;
}

static void on_started(void *arg, const struct engine_answer *a)
{
    struct sandbox *sb = arg;
    struct parking *p = sb->parking;

    sb->operation = 0;
    parking_start_ended(p, sb->start, sb->began_ms, a->code == 0 && !a->already, &p->gain.own);
    if (a->code == 0 || is_unknown(a->code)) {
        parking_look(sb);
        return;
    }
    failed(p, a->words);
    sb->doomed = true;
    parking_look(sb);
}

static void start(struct sandbox *sb)
{
    struct parking *p = sb->parking;
    const struct engine_ops *e = p->params.engine;

    set_stage(sb, SANDBOX_STARTING);
    sb->began_ms = parking_now(p);
    sb->start = parking_start_began(p);
    sb->operation = e->start(e->self, sb->id, on_started, sb);
    if (sb->operation != 0)
        return;
    parking_start_ended(p, sb->start, sb->began_ms, false, &p->gain.own);
    parking_end(sb);
}

static void on_made(void *arg, const struct engine_answer *a)
{
    struct sandbox *sb = arg;

    sb->operation = 0;
    if (a->code == 0 && a->container.id[0]) {
        set_id(sb, a->container.id);
        if (sb->doomed)
            parking_end(sb);
        else
            start(sb);
    } else if (is_unknown(a->code) || a->code == 0) {
        set_stage(sb, SANDBOX_ASKING);
        again_later(sb);
    } else {
        failed(sb->parking, a->words);
        parking_drop(sb);
    }
}

void parking_make(struct parking *p)
{
    const struct engine_parking_ops *e = p->params.sandboxes;
    char name[sizeof SANDBOX_PREFIX + SANDBOX_SUFFIX_DIGITS] = SANDBOX_PREFIX;
    struct sandbox *sb;

    digest_random_hex(name + sizeof SANDBOX_PREFIX - 1, SANDBOX_SUFFIX_DIGITS);
    sb = sandbox_new(p, name, "", SANDBOX_MAKING);
    if (sb) {
        sb->of_this_run = true;
        sb->operation = e->make(e->self, name, on_made, sb);
    }
    if (sb && sb->operation != 0)
        return;
    failed(p, "out of memory");
    if (sb)
        parking_drop(sb);
}

/* --- found out about ---------------------------------------------------------------------- */

static void park(struct sandbox *sb, const struct engine_container *c)
{
    set_address(sb, c);
    sb->parking->failures = sb->parking->different = 0;
    sb->tries = 0;
    set_stage(sb, SANDBOX_PARKED);
    KG_LOG(KG_LOG_DEBUG, "sandbox-parked", KG_F("sandbox", sb->name));
}

static void found_running(struct sandbox *sb, const struct engine_container *c)
{
    if (sb->doomed) {
        parking_end(sb);
    } else if (c->address.ss_family != 0) {
        park(sb, c);
    } else if (sb->tries < SANDBOX_TRIES) {
        again_later(sb); /* the engine gives it one any moment */
    } else {
        failed(sb->parking, "a sandbox got no address");
        parking_end(sb);
    }
}

/* I7: what a container of that name claims is looked at before anything is done to it. */
static bool is_ours(const struct sandbox *sb, const struct engine_container *c)
{
    return c->is_sandbox && c->sealed && strcmp(c->owner, sb->parking->params.owner) == 0 &&
           (!sb->id[0] || strcmp(c->id, sb->id) == 0);
}

/* The engine made it for us, under this id, and now says that it is something else than what we
 * asked for: it will say so of the next one, too. */
static void found_different(struct sandbox *sb)
{
    struct parking *p = sb->parking;

    failed(p, "the engine describes a sandbox otherwise than it was made");
    parking_end(sb);
    if (++p->different >= PARKING_REFUSALS)
        parking_switch_off(p, "the engine describes them otherwise than they were made");
}

static void found_none(struct sandbox *sb)
{
    if (sb->of_this_run && !sb->doomed)
        failed(sb->parking, "a sandbox is not there");
    parking_drop(sb);
}

static void found(struct sandbox *sb, const struct engine_container *c)
{
    bool same = sb->of_this_run && sb->id[0] && strcmp(c->id, sb->id) == 0;

    if (c->state == ENGINE_NONE) {
        found_none(sb);
        return;
    }
    if (!is_ours(sb, c) && same) {
        found_different(sb);
        return;
    }
    if (!is_ours(sb, c)) {
        found_none(sb);
        return;
    }
    if (!sb->id[0])
        set_id(sb, c->id);
    if (c->state == ENGINE_RUNNING || c->state == ENGINE_PAUSED) {
        found_running(sb, c);
    } else if (c->state == ENGINE_CREATED && !sb->doomed && sb->tries < SANDBOX_TRIES) {
        sb->tries++;
        start(sb);
    } else {
        if (!sb->doomed)
            failed(sb->parking, "a sandbox ended by itself");
        parking_end(sb);
    }
}

static void on_looked(void *arg, const struct engine_answer *a)
{
    struct sandbox *sb = arg;

    sb->operation = 0;
    if (a->code == 0)
        found(sb, &a->container);
    else
        again_later(sb);
}

void parking_look(struct sandbox *sb)
{
    const struct engine_parking_ops *e = sb->parking->params.sandboxes;

    if (sb->stage != SANDBOX_ASKING)
        set_stage(sb, SANDBOX_ASKING);
    sb->operation = e->ask(e->self, sb->id[0] ? sb->id : sb->name, on_looked, sb);
    if (sb->operation == 0)
        again_later(sb);
}

struct sandbox *parking_know(struct parking *p, const struct engine_container *c)
{
    struct sandbox *sb = parking_find(p, c->id);

    if (!sb)
        sb = sandbox_new(p, c->name, c->id, SANDBOX_FOUND);
    if (sb && c->address.ss_family != 0)
        set_address(sb, c);
    return sb;
}

/* --- taken -------------------------------------------------------------------------------- */

struct sandbox *parking_take(struct parking *p, const char *worker)
{
    struct kg_list *first = kg_list_first(&p->stages[SANDBOX_PARKED]);
    struct sandbox *sb = first ? KG_LIST_ENTRY(first, struct sandbox, link) : NULL;

    if (sb)
        parking_assign(sb, worker, "");
    return sb;
}

void parking_assign(struct sandbox *sb, const char *worker, const char *worker_id)
{
    struct parking *p = sb->parking;
    bool lost = sb->lost;

    if (sb->stage != SANDBOX_PARKED && sb->stage != SANDBOX_FOUND && sb->stage != SANDBOX_TAKEN)
        return;
    unassign(sb);
    set_stage(sb, SANDBOX_TAKEN);
    if (kg_str_copy(sb->worker, sizeof sb->worker, kg_str_of(worker)))
        kg_map_set(&p->workers, kg_str_of(worker), sb); /* without memory: the list knows */
    if (worker_id[0] && kg_str_copy(sb->worker_id, sizeof sb->worker_id, kg_str_of(worker_id)))
        kg_map_set(&p->workers, kg_str_of(worker_id), sb);
    if (lost)
        parking_lost(sb);
}

void parking_give_back(struct sandbox *sb)
{
    if (sb->stage != SANDBOX_TAKEN || sb->lost)
        return;
    unassign(sb);
    set_stage(sb, SANDBOX_PARKED);
}

void parking_worker_gone(struct parking *p, const char *name_or_id)
{
    struct sandbox *sb = kg_map_get(&p->workers, kg_str_of(name_or_id));

    if (sb)
        parking_end(sb);
}

/* The worker's own end is not told here, but from parking_tick: who is told may come back in. */
void parking_lost(struct sandbox *sb)
{
    if (sb->stage == SANDBOX_TAKEN) {
        sb->lost = true;
        due(sb, parking_now(sb->parking));
    } else if (sb->stage == SANDBOX_PARKED || sb->stage == SANDBOX_FOUND) {
        KG_LOG(KG_LOG_INFO, "sandbox-lost", KG_F("sandbox", sb->name));
        parking_end(sb);
    }
}

static void tell_lost(struct sandbox *sb)
{
    struct parking *p = sb->parking;
    struct engine_container c = {.state = ENGINE_RUNNING};

    memcpy(c.name, sb->worker, sizeof c.name);
    memcpy(c.id, sb->worker_id, sizeof c.id);
    KG_LOG(KG_LOG_WARN, "sandbox-lost", KG_F("sandbox", sb->name), KG_F("container", c.name));
    parking_end(sb);
    parking_disconnected(p, &c);
}

/* --- removed ------------------------------------------------------------------------------ */

static void on_removed(void *arg, const struct engine_answer *a)
{
    struct sandbox *sb = arg;

    sb->operation = 0;
    sb->parking->removing--;
    if (a->code == 0 || a->code == KG_ENOTFOUND)
        parking_drop(sb);
    else
        again_later(sb);
}

void parking_remove(struct sandbox *sb)
{
    const struct engine_ops *e = sb->parking->params.engine;

    set_stage(sb, SANDBOX_ENDING);
    sb->operation = e->remove(e->self, sb->id, on_removed, sb);
    if (sb->operation != 0)
        sb->parking->removing++;
    else
        again_later(sb);
}

void parking_end(struct sandbox *sb)
{
    if (sb->stage == SANDBOX_LEAVING || sb->stage == SANDBOX_ENDING)
        return;
    if (sb->operation != 0 || !sb->id[0]) {
        sb->doomed = true;
        return;
    }
    unassign(sb);
    sb->tries = 0;
    set_stage(sb, SANDBOX_LEAVING);
}

void parking_leave_to_errand(struct sandbox *sb)
{
    unassign(sb);
    sb->tries = 0;
    set_stage(sb, SANDBOX_ENDING);
    due(sb, parking_now(sb->parking) + 2 * KG_ENGINE_CALL_TIMEOUT_MS);
}

void parking_on_time(struct sandbox *sb)
{
    kg_heap_remove(&sb->parking->timers, &sb->timer);
    if (sb->operation != 0)
        return;
    if (sb->stage == SANDBOX_TAKEN && sb->lost)
        tell_lost(sb);
    else if (sb->stage == SANDBOX_ASKING)
        parking_look(sb);
    else if (sb->stage == SANDBOX_ENDING)
        set_stage(sb, SANDBOX_LEAVING);
}
