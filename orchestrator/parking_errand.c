/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs about workers, with what their sandboxes add: one call, or a few in a row, answered
 * once. The difficulty: a worker whose sandbox is gone looks alive to the engine; it is removed,
 * and then said to be no more, which whoever asks can deal with at any time. */
#include "orchestrator/parking_priv.h"
#include <stdlib.h>

#define ERRAND_BIT (1ULL << 63) /* tells our operations' numbers from the engine's */

struct errand {
    struct kg_list link;
    struct parking *parking;
    uint64_t number, operation; /* the engine's */
    engine_done *done;
    void *arg;
    const struct config_service *service; /* of a create; NULL: gone since */
    char name[ENGINE_NAME_BYTES];         /* id or name of the worker */
    char sandbox[ENGINE_ID_BYTES];        /* that it joins, or has joined */
    struct engine_answer answer;          /* kept while something else is asked */
    bool creates, starts;
    uint64_t start; /* see parking_start_began */
    int64_t began_ms;
};

/* --- the life of an errand ---------------------------------------------------------------- */

static struct errand *errand_new(struct parking *p, const char *name, engine_done *done, void *arg)
{
    struct errand *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->parking = p;
    r->number = ERRAND_BIT | ++p->numbers;
    r->done = done;
    r->arg = arg;
    kg_str_copy(r->name, sizeof r->name, kg_str_of(name));
    kg_list_push_back(&p->errands, &r->link);
    return r;
}

/* From here on nobody finds it. */
static void leave(struct errand *r)
{
    struct parking *p = r->parking;

    if (r->creates || r->starts) {
        p->starting--;
        if (p->refill_ms < parking_now(p) + SANDBOX_REST_MS)
            p->refill_ms = parking_now(p) + SANDBOX_REST_MS;
    }
    kg_list_remove(&r->link);
}

static void errand_free(struct errand *r)
{
    leave(r);
    free(r);
}

/* Tells the one who asked, who may ask again from within. `a` may be the errand's own. */
static void end(struct errand *r, const struct engine_answer *a)
{
    leave(r);
    r->done(r->arg, a);
    free(r);
}

/* The call was not even taken: of the first the caller is told so at once. */
static uint64_t begun(struct errand *r, uint64_t operation)
{
    r->operation = operation;
    if (operation != 0)
        return r->number;
    errand_free(r);
    return 0;
}

static void next(struct errand *r, uint64_t operation)
{
    const struct engine_answer none = {
        .code = KG_ENOMEM, .words = "out of memory", .memory_bytes = -1};

    r->operation = operation;
    if (operation == 0)
        end(r, &none);
}

static const struct engine_ops *engine_of(const struct errand *r)
{
    return r->parking->params.engine;
}

static bool is_plain_no(int code)
{
    return code == KG_ENOTFOUND || code == KG_ECONFLICT || code == KG_EINVAL || code == KG_EIO;
}

/* --- a worker whose sandbox is gone ------------------------------------------------------- */

static void on_stranded_removed(void *arg, const struct engine_answer *a)
{
    struct errand *r = arg;
    struct engine_answer gone = {.memory_bytes = -1};

    if (a->code != 0 && a->code != KG_ENOTFOUND)
        gone.code = KG_ETIMEOUT; /* whoever asked is to ask again */
    else if (r->starts)
        gone.code = KG_ENOTFOUND;
    gone.container.state = ENGINE_NONE;
    end(r, &gone);
}

static void remove_stranded(struct errand *r, const char *id)
{
    const struct engine_ops *e = engine_of(r);

    KG_LOG(KG_LOG_WARN, "container-stranded", KG_F("container", r->name), KG_F("id", id),
           KG_F("why", "the network that it joined is gone"), KG_F("then", "it is removed"));
    next(r, e->remove(e->self, id, on_stranded_removed, r));
}

/* I7: that it has our label is the least. */
static bool is_ours(const struct errand *r, const struct engine_container *c)
{
    return c->id[0] && c->sealed && strcmp(c->owner, r->parking->params.owner) == 0;
}

/* --- create ------------------------------------------------------------------------------- */

static void on_created(void *arg, const struct engine_answer *a)
{
    struct errand *r = arg;

    if (r->sandbox[0] && a->code == 0 && ++r->parking->refusals >= PARKING_REFUSALS)
        parking_switch_off(r->parking, "the engine refuses to let workers join a network");
    end(r, a);
}

/* It was refused, and may be refused for the joining alone. */
static void create_plainly(struct errand *r)
{
    const struct engine_ops *e = engine_of(r);
    const struct engine_answer again = {.code = KG_ETIMEOUT, .memory_bytes = -1};

    if (r->service)
        next(r, e->create(e->self, r->service, r->name, on_created, r));
    else
        end(r, &again); /* it is asked by name, found missing, and made as it is now */
}

static void on_joined(void *arg, const struct engine_answer *a)
{
    struct errand *r = arg;
    struct sandbox *sb = parking_find(r->parking, r->sandbox);
    bool no_image = strncmp(a->words, "No such image", 13) == 0;

    if (a->code == 0) {
        r->parking->refusals = 0;
        if (sb)
            parking_assign(sb, r->name, a->container.id);
    } else if (is_plain_no(a->code) && sb) {
        parking_give_back(sb);
    } else if (sb) {
        parking_assign(sb, r->name, ""); /* if nothing came of it, the list will show */
    }
    if (is_plain_no(a->code) && a->code != KG_ECONFLICT && !no_image)
        create_plainly(r);
    else
        end(r, a);
}

static uint64_t verb_create(void *self, const struct config_service *s, const char *name,
                            engine_done *done, void *arg)
{
    struct parking *p = self;
    const struct engine_ops *e = p->params.engine;
    const struct engine_parking_ops *j = p->params.sandboxes;
    struct errand *r = errand_new(p, name, done, arg);
    struct sandbox *sb = NULL;
    uint64_t number;

    if (!r)
        return 0;
    r->creates = true;
    r->service = s;
    p->starting++;
    if (parking_is_on(p) && parking_may_serve(s)) {
        parking_demand_note(&p->demand, parking_now(p));
        sb = parking_take(p, name);
    }
    if (!sb)
        return begun(r, e->create(e->self, s, name, on_created, r));
    memcpy(r->sandbox, sb->id, sizeof r->sandbox);
    number = begun(r, j->join(j->self, s, name, sb->id, on_joined, r));
    if (number == 0)
        parking_give_back(sb);
    return number;
}

/* --- start -------------------------------------------------------------------------------- */

static void on_start_sandbox(void *arg, const struct engine_answer *a)
{
    struct errand *r = arg;
    bool runs = a->container.state == ENGINE_RUNNING || a->container.state == ENGINE_PAUSED;

    if (a->code == 0 && !runs)
        remove_stranded(r, r->name);
    else
        end(r, &r->answer);
}

static void on_start_looked(void *arg, const struct engine_answer *a)
{
    struct errand *r = arg;
    const struct engine_parking_ops *j = r->parking->params.sandboxes;

    if (a->code == 0 && a->container.sandbox[0] && is_ours(r, &a->container))
        next(r, j->ask(j->self, a->container.sandbox, on_start_sandbox, r));
    else
        end(r, &r->answer);
}

static void on_started(void *arg, const struct engine_answer *a)
{
    struct errand *r = arg;
    struct parking *p = r->parking;
    const struct engine_ops *e = engine_of(r);
    bool joined = kg_map_get(&p->workers, kg_str_of(r->name)) != NULL;

    if (a->code == 0)
        ++*(joined ? &p->joined : &p->own);
    parking_start_ended(p, r->start, r->began_ms, a->code == 0 && !a->already,
                        joined ? &p->gain.joined : &p->gain.own);
    r->start = 0;
    r->answer = *a;
    if (is_plain_no(a->code)) /* for its own sake, or for its sandbox's? */
        next(r, e->inspect(e->self, NULL, r->name, on_start_looked, r));
    else
        end(r, a);
}

static uint64_t verb_start(void *self, const char *id, engine_done *done, void *arg)
{
    struct parking *p = self;
    const struct engine_ops *e = p->params.engine;
    struct errand *r = errand_new(p, id, done, arg);
    struct sandbox *sb = kg_map_get(&p->workers, kg_str_of(id));
    uint64_t number, start;
    int64_t now_ms = parking_now(p);

    if (!r)
        return 0;
    r->starts = true;
    p->starting++;
    if (sb)
        sb->joins = true;
    r->began_ms = now_ms;
    r->start = start = parking_start_began(p);
    number = begun(r, e->start(e->self, id, on_started, r));
    if (number == 0)
        parking_start_ended(p, start, now_ms, false, &p->gain.own);
    return number;
}

/* --- inspect ------------------------------------------------------------------------------ */

static bool is_up(const struct engine_container *c)
{
    return c->state == ENGINE_RUNNING || c->state == ENGINE_PAUSED;
}

/* The sandbox's address, with the worker's port. */
static void put_address(struct engine_container *c, const struct sandbox *sb)
{
    struct sockaddr_in *v4 = (void *)&c->address;
    struct sockaddr_in6 *v6 = (void *)&c->address;

    if (c->address.ss_family != 0 || c->port <= 0 || c->port > 65535)
        return; /* at a socket, or not known where */
    c->address = sb->address;
    c->address_length = sb->address_length;
    if (c->address.ss_family == AF_INET)
        v4->sin_port = htons((uint16_t)c->port);
    else if (c->address.ss_family == AF_INET6)
        v6->sin6_port = htons((uint16_t)c->port);
}

/* No two may share one: the second is a create of long ago, carried out late. */
static bool is_anothers(const struct sandbox *sb, const struct engine_container *c)
{
    return sb->stage == SANDBOX_TAKEN && strcmp(sb->worker, c->name) != 0 &&
           strcmp(sb->worker_id, c->id) != 0;
}

static void answer_joined(struct errand *r, struct sandbox *sb)
{
    struct engine_container *c = &r->answer.container;

    if (is_anothers(sb, c)) {
        remove_stranded(r, c->id);
        return;
    }
    put_address(c, sb);
    parking_assign(sb, c->name, c->id); /* it is there: no start is under way any more */
    end(r, &r->answer);
}

/* Somebody disconnected it: the worker has no address either. One that has just been started there
 * will never have one. The others may have met the same, as before a network is removed. */
static void unplugged(struct errand *r, struct sandbox *sb)
{
    struct parking *p = r->parking;

    if (!sb || !sb->joins) {
        end(r, &r->answer);
        return;
    }
    parking_end(sb);
    KG_LIST_EACH_SAFE(it, &p->stages[SANDBOX_PARKED])
    parking_look(KG_LIST_ENTRY(it, struct sandbox, link));
    remove_stranded(r, r->answer.container.id);
}

static void on_sandbox(void *arg, const struct engine_answer *a)
{
    struct errand *r = arg;
    struct parking *p = r->parking;
    const struct engine_container *c = &a->container;
    struct sandbox *sb;

    if (a->code != 0) {
        end(r, a);
    } else if (!is_up(c)) {
        remove_stranded(r, r->answer.container.id);
    } else if (!c->is_sandbox || !c->sealed || strcmp(c->owner, p->params.owner) != 0) {
        end(r, &r->answer); /* somebody else's: it has no address that we would use */
    } else if (c->address.ss_family == 0) {
        unplugged(r, parking_find(p, c->id));
    } else if ((sb = parking_know(p, c)) != NULL) {
        answer_joined(r, sb);
    } else {
        const struct engine_answer none = {.code = KG_ENOMEM, .memory_bytes = -1};
        end(r, &none);
    }
}

static bool is_going(const struct sandbox *sb)
{
    return sb->stage == SANDBOX_LEAVING || sb->stage == SANDBOX_ENDING || sb->lost;
}

static void on_inspected(void *arg, const struct engine_answer *a)
{
    struct errand *r = arg;
    struct parking *p = r->parking;
    const struct engine_parking_ops *j = p->params.sandboxes;
    const struct engine_container *c = &a->container;
    struct sandbox *sb;

    if (a->code == 0 && c->state == ENGINE_NONE)
        parking_worker_gone(p, r->name);
    if (a->code != 0 || c->state == ENGINE_NONE || !c->sandbox[0] || !is_ours(r, c)) {
        end(r, a);
        return;
    }
    r->answer = *a;
    sb = parking_find(p, c->sandbox);
    if (!is_up(c) && sb && !is_going(sb) && sb->address_length > 0)
        answer_joined(r, sb);
    else if (!is_up(c))
        end(r, &r->answer); /* a start will find out */
    else if (sb && is_going(sb))
        remove_stranded(r, c->id);
    else /* it may have been disconnected, parked or joined: no event says so */
        next(r, j->ask(j->self, c->sandbox, on_sandbox, r));
}

static uint64_t verb_inspect(void *self, const struct config_service *s, const char *id_or_name,
                             engine_done *done, void *arg)
{
    struct parking *p = self;
    const struct engine_ops *e = p->params.engine;
    struct errand *r = errand_new(p, id_or_name, done, arg);

    return r ? begun(r, e->inspect(e->self, s, id_or_name, on_inspected, r)) : 0;
}

/* --- remove ------------------------------------------------------------------------------- */

static void on_removed(void *arg, const struct engine_answer *a)
{
    struct errand *r = arg;

    if (a->code == 0 || a->code == KG_ENOTFOUND)
        parking_worker_gone(r->parking, r->name);
    end(r, a);
}

static void on_home_removed(void *arg, const struct engine_answer *a)
{
    struct errand *r = arg;
    const struct engine_ops *e = engine_of(r);
    struct sandbox *sb = parking_find(r->parking, r->sandbox);

    if (sb && sb->operation == 0 && (a->code == 0 || a->code == KG_ENOTFOUND))
        parking_drop(sb);
    next(r, e->remove(e->self, r->name, on_removed, r)); /* whatever became of the first */
}

/* The sandbox goes first: one that is found without a worker, after a crash, had none ever. */
static uint64_t verb_remove(void *self, const char *id, engine_done *done, void *arg)
{
    struct parking *p = self;
    const struct engine_ops *e = p->params.engine;
    struct errand *r = errand_new(p, id, done, arg);
    struct sandbox *sb = r ? kg_map_get(&p->workers, kg_str_of(id)) : NULL;
    uint64_t number;

    if (!r)
        return 0;
    if (!sb)
        return begun(r, e->remove(e->self, id, on_removed, r));
    memcpy(r->sandbox, sb->id, sizeof r->sandbox);
    number = begun(r, e->remove(e->self, sb->id, on_home_removed, r));
    if (number != 0)
        parking_leave_to_errand(sb);
    return number;
}

/* --- the others: the engine's, as they are ------------------------------------------------ */

static const struct engine_ops *engine_at(void *self)
{
    return ((struct parking *)self)->params.engine;
}

static uint64_t verb_pull(void *self, const struct config_service *s, engine_done *done, void *arg)
{
    return engine_at(self)->pull(engine_at(self)->self, s, done, arg);
}

static uint64_t verb_image(void *self, const struct config_service *s, engine_done *done, void *arg)
{
    return engine_at(self)->image(engine_at(self)->self, s, done, arg);
}

static uint64_t verb_stop(void *self, const char *id, int64_t grace_ms, engine_done *done,
                          void *arg)
{
    return engine_at(self)->stop(engine_at(self)->self, id, grace_ms, done, arg);
}

static uint64_t verb_pause(void *self, const char *id, engine_done *done, void *arg)
{
    return engine_at(self)->pause(engine_at(self)->self, id, done, arg);
}

static uint64_t verb_unpause(void *self, const char *id, engine_done *done, void *arg)
{
    return engine_at(self)->unpause(engine_at(self)->self, id, done, arg);
}

static uint64_t verb_weigh(void *self, const char *id, engine_done *done, void *arg)
{
    return engine_at(self)->weigh(engine_at(self)->self, id, done, arg);
}

/* --- cancelling --------------------------------------------------------------------------- */

static void drop(struct errand *r)
{
    struct parking *p = r->parking;
    const struct engine_ops *e = p->params.engine;
    struct sandbox *sb = r->creates ? parking_find(p, r->sandbox) : NULL;

    e->cancel(e->self, r->operation);
    if (r->start != 0)
        parking_start_ended(p, r->start, r->began_ms, false, &p->gain.own);
    if (sb && strcmp(sb->worker, r->name) == 0)
        parking_assign(sb, r->name, sb->worker_id); /* if nothing came of it, the list will show */
    errand_free(r);
}

static void verb_cancel(void *self, uint64_t number)
{
    struct parking *p = self;

    if (!(number & ERRAND_BIT)) {
        p->params.engine->cancel(p->params.engine->self, number);
        return;
    }
    KG_LIST_EACH(it, &p->errands)
    {
        struct errand *r = KG_LIST_ENTRY(it, struct errand, link);
        if (r->number != number)
            continue;
        drop(r);
        return;
    }
}

/* --- doors -------------------------------------------------------------------------------- */

bool parking_errand_creates(const struct parking *p, const char *worker)
{
    KG_LIST_EACH(it, &p->errands)
    {
        const struct errand *r = KG_LIST_ENTRY(it, struct errand, link);
        if (r->creates && strcmp(r->name, worker) == 0)
            return true;
    }
    return false;
}

void parking_errands_forget_services(struct parking *p)
{
    KG_LIST_EACH(it, &p->errands)
    KG_LIST_ENTRY(it, struct errand, link)->service = NULL;
}

void parking_errands_init(struct parking *p)
{
    kg_list_init(&p->errands);
    p->ops = (struct engine_ops){.self = p,
                                 .pull = verb_pull,
                                 .image = verb_image,
                                 .create = verb_create,
                                 .start = verb_start,
                                 .inspect = verb_inspect,
                                 .stop = verb_stop,
                                 .remove = verb_remove,
                                 .pause = verb_pause,
                                 .unpause = verb_unpause,
                                 .weigh = verb_weigh,
                                 .cancel = verb_cancel};
}

void parking_errands_free(struct parking *p)
{
    while (!kg_list_empty(&p->errands))
        errand_free(KG_LIST_ENTRY(kg_list_first(&p->errands), struct errand, link));
}
