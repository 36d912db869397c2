/* SPDX-License-Identifier: Apache-2.0 */
/* A front's process: the leases as its own code keeps them (orchestrator/gate_client.c), and, in
 * the place of the proxy, clients that come, hold and leave, and workers that are probed.
 * The difficulty: the gate calls back from within what it is told. */
#include "orchestrator/attach.h"
#include "sim.h"
#include <stdlib.h>

#define FROZEN_MS 60000 /* a front's own time limit for a worker that does not answer */
#define UNKNOWN_SERVICE 4000

struct proxy_worker { /* the proxy's, as the simulator has it */
    struct kg_list link;
    struct sim_front *front;
    uint64_t id, number;
    struct sockaddr_storage address;
    char name[ENGINE_NAME_BYTES]; /* of its container, as control said */
    void *user;
    unsigned exchanges, slots; /* slots: lent to its front, as that has heard and said */
    bool probing, removed;
    bool recalled; /* control wants back all that it lent of it until now */
};

static struct sim_front *front_find(struct world *w, uint64_t number)
{
    KG_LIST_EACH(it, &w->fronts)
    {
        struct sim_front *f = KG_LIST_ENTRY(it, struct sim_front, link);
        if (f->number == number)
            return f;
    }
    return NULL;
}

/* --- workers: what the gate asks of its proxy --- */

struct proxy_worker *proxy_worker_add(struct proxy *p, uint32_t service,
                                      const struct sockaddr *address, socklen_t length)
{
    struct sim_front *f = (void *)p;
    struct proxy_worker *worker = calloc(1, sizeof *worker);

    (void)service;
    SIM_ASSERT(f->world, worker && f->hearing && length <= sizeof worker->address);
    worker->front = f;
    worker->id = f->hearing_of;
    worker->number = ++f->world->worker_numbers;
    memcpy(&worker->address, address, length);
    snprintf(worker->name, sizeof worker->name, "%s", f->hearing);
    kg_list_push_back(&f->workers, &worker->link);
    return worker;
}

static void worker_unuse(struct proxy_worker *worker)
{
    if (--worker->exchanges == 0 && worker->removed)
        free(worker);
}

void proxy_worker_remove(struct proxy_worker *worker)
{
    SIM_ASSERT(worker->front->world, !worker->removed);
    worker->removed = true;
    kg_list_remove(&worker->link);
    worker->exchanges++;
    worker_unuse(worker);
}

void proxy_worker_was_frozen(struct proxy_worker *worker)
{
    (void)worker; /* connections are none of its business */
}

void proxy_worker_set_user(struct proxy_worker *worker, void *user)
{
    worker->user = user;
}

void *proxy_worker_user(const struct proxy_worker *worker)
{
    SIM_ASSERT(worker->front->world, !worker->removed);
    return worker->user;
}

static struct proxy_worker *worker_find(struct sim_front *f, uint64_t number)
{
    KG_LIST_EACH(it, &f->workers)
    {
        struct proxy_worker *worker = KG_LIST_ENTRY(it, struct proxy_worker, link);
        if (worker->number == number)
            return worker;
    }
    return NULL;
}

const struct sockaddr_storage *front_address(const struct sim_front *f, uint64_t instance)
{
    KG_LIST_EACH(it, &f->workers)
    {
        const struct proxy_worker *worker = KG_LIST_ENTRY(it, const struct proxy_worker, link);
        if (worker->id == instance)
            return &worker->address;
    }
    return NULL;
}

/* It is there, control reads what it says, and neither is late with it. */
static bool answers(const struct world *w, const struct sim_front *f)
{
    return f->up && f->heard && f->connected && !f->hostile && !f->draining &&
           f->late_until_ms <= w->now_ms;
}

size_t fronts_idle_slots(const struct world *w, int service, const struct sim_front *but)
{
    size_t count = 0;

    KG_LIST_EACH(it, &w->fronts)
    {
        const struct sim_front *f = KG_LIST_ENTRY(it, const struct sim_front, link);
        KG_LIST_EACH(at, &f->workers)
        {
            const struct proxy_worker *worker = KG_LIST_ENTRY(at, const struct proxy_worker, link);
            if (f != but && answers(w, f) && worker->slots > worker->exchanges &&
                judge_serves(w, worker->id, service))
                count += worker->slots - worker->exchanges;
        }
    }
    return count;
}

static void run_probe(struct world *w, struct task *t)
{
    struct sim_front *f = front_find(w, t->number);
    struct proxy_worker *worker = f && f->up ? worker_find(f, t->other) : NULL;
    struct container *at;

    if (!worker || !worker->probing)
        return;
    at = engine_at(w, &worker->address);
    if (!at || !engine_listens(w, at)) {
        sim_later(w, sim_between(w, 1, 40), run_probe, NULL, t->number)->other = t->other;
        return;
    }
    worker->probing = false;
    f->door.probed(f->door.self, worker);
}

int proxy_worker_probe(struct proxy_worker *worker, const struct proxy_health *health)
{
    struct world *w = worker->front->world;

    (void)health;
    if (worker->probing)
        return 0;
    worker->probing = true;
    sim_later(w, 0, run_probe, NULL, worker->front->number)->other = worker->number;
    return 0;
}

void proxy_worker_probe_stop(struct proxy_worker *worker)
{
    worker->probing = false;
}

/* --- exchanges --- */

static void client_free(struct client *c)
{
    kg_list_remove(&c->link);
    free(c);
}

static void leave_container(struct world *w, struct client *c)
{
    struct container *at = c->container;

    if (!at)
        return;
    c->container = NULL;
    if (!c->counted)
        return;
    if (c->old)
        at->old_exchanges--;
    else
        at->exchanges--;
    if (c->waiter.quiet)
        at->kept_ms = at->kept_ms > w->now_ms ? at->kept_ms : w->now_ms;
    else
        at->used_ms = w->now_ms;
}

static void run_end(struct world *w, struct task *t)
{
    struct sim_front *f = front_find(w, t->number);

    if (!f || !f->up || !f->draining || !kg_list_empty(&f->clients))
        return;
    if (!w->fleet)
        judge_unknown(w); /* what it used last no control heard of */
    front_free(w, f);
}

static void maybe_end(struct sim_front *f)
{
    if (f->draining && kg_list_empty(&f->clients))
        sim_later(f->world, 0, run_end, NULL, f->number);
}

static void exchange_end(struct world *w, struct client *c, bool broken)
{
    struct sim_front *f = c->front;
    struct proxy_worker *worker = c->worker;
    bool quiet = c->waiter.quiet;

    leave_container(w, c);
    w->counts->broken += broken;
    w->counts->served += !broken;
    if (broken)
        judge_client(w, c, 0);
    client_free(c);
    if (!worker->removed && broken && !sim_chance(w, 20))
        f->door.suspect(f->door.self, worker);
    if (!worker->removed)
        f->door.release(f->door.self, worker, quiet);
    worker_unuse(worker);
    maybe_end(f);
}

static struct client *client_find(struct world *w, const struct task *t)
{
    struct sim_front *f = front_find(w, t->other);

    if (!f || !f->up)
        return NULL;
    KG_LIST_EACH(it, &f->clients)
    {
        struct client *c = KG_LIST_ENTRY(it, struct client, link);
        if (c->number == t->number)
            return c;
    }
    return NULL;
}

static void run_exchange_end(struct world *w, struct task *t)
{
    struct client *c = client_find(w, t);

    if (!c || c->state != CLIENT_SERVED)
        return;
    if (c->container && c->container->c.state == ENGINE_PAUSED &&
        w->now_ms - c->since_ms < FROZEN_MS) /* it answers when it is thawed */
        sim_later(w, 20, run_exchange_end, NULL, t->number)->other = t->other;
    else
        exchange_end(w, c, !w->calm && !w->only_crashes && sim_often(w, TRAIT_RESETS));
}

static void run_exchange_break(struct world *w, struct task *t)
{
    struct client *c = client_find(w, t);

    if (c && c->state == CLIENT_SERVED)
        exchange_end(w, c, true);
}

static void exchange_count(struct world *w, struct client *c, struct container *at)
{
    c->container = at;
    c->counted = judge_exchange(w, at, c->worker->name, c->service) && !c->front->hostile;
    c->old = c->front->draining;
    if (!c->counted)
        return;
    if (c->old) {
        at->old_exchanges++;
        return;
    }
    at->exchanges++;
    if (!c->waiter.quiet && judge_knows(w, at)) /* else its clock begins when it is found */
        at->kept_ms = 0;
    SIM_ASSERT(w, at->exchanges <= w->most[c->service]);
}

static void exchange_begin(struct world *w, struct client *c, struct proxy_worker *worker)
{
    struct container *at = engine_at(w, &worker->address);
    bool reached = at && engine_accepts(w, at);

    sim_say(w, "front %d: client %llu at %s", c->front->index, (unsigned long long)c->number,
            worker->name);
    SIM_ASSERT(w, !worker->recalled && "a slot that was recalled serves again");
    c->state = CLIENT_SERVED;
    c->worker = worker;
    worker->exchanges++;
    if (reached)
        exchange_count(w, c, at);
    sim_later(w, reached ? c->hold_ms : sim_between(w, 0, 2),
              reached ? run_exchange_end : run_exchange_break, NULL, c->number)
        ->other = c->front->number;
}

/* All connections of a worker that died break. */
void container_breaks(struct world *w, struct container *at)
{
    KG_LIST_EACH(it, &w->fronts)
    {
        struct sim_front *f = KG_LIST_ENTRY(it, struct sim_front, link);
        KG_LIST_EACH(on, &f->clients)
        {
            struct client *c = KG_LIST_ENTRY(on, struct client, link);
            if (c->container != at)
                continue;
            leave_container(w, c);
            sim_later(w, sim_between(w, 0, 2), run_exchange_break, NULL, c->number)->other =
                f->number;
        }
    }
    SIM_ASSERT(w, at->exchanges == 0 && at->old_exchanges == 0);
}

/* --- clients --- */

static void on_answer(struct proxy_waiter *waiter, const struct proxy_answer *answer)
{
    struct client *c = KG_LIST_ENTRY(waiter, struct client, waiter);
    struct sim_front *f = c->front;
    struct world *w = f->world;

    SIM_ASSERT(w, c->state == CLIENT_WAITS);
    if (answer->worker) {
        exchange_begin(w, c, answer->worker);
        return;
    }
    SIM_ASSERT(w, answer->reason && answer->detail && answer->detail[0]);
    w->counts->refused[answer->reason->index]++;
    judge_client(w, c, answer->reason->index);
    client_free(c);
    maybe_end(f);
}

static void run_leave(struct world *w, struct task *t)
{
    struct client *c = client_find(w, t);

    if (!c || c->state != CLIENT_WAITS)
        return;
    w->counts->left++;
    c->front->door.cancel(c->front->door.self, &c->waiter);
    maybe_end(c->front);
    client_free(c);
}

static struct client *client_new(struct world *w, struct sim_front *f)
{
    struct client *c = calloc(1, sizeof *c);

    SIM_ASSERT(w, c != NULL);
    kg_list_push_back(&f->clients, &c->link);
    c->front = f;
    c->number = ++w->client_numbers;
    c->service = (int)sim_between(w, 0, sim_chance(w, 2) ? SIM_SERVICES : SIM_SERVICES - 1);
    c->since_ms = w->now_ms;
    c->hold_ms =
        sim_often(w, TRAIT_LONG_EXCHANGE) ? sim_between(w, 100, 4000) : sim_between(w, 0, 60);
    c->waiter.on_answer = on_answer;
    c->waiter.quiet = sim_often(w, TRAIT_MONITOR);
    w->counts->clients++;
    return c;
}

void client_comes(struct world *w)
{
    struct sim_front *f = w->places[sim_between(w, 0, SIM_FRONTS - 1)];
    struct proxy_worker *worker;
    struct client *c;
    int id;

    if (!f || !f->up || !f->configured || f->draining)
        return;
    c = client_new(w, f);
    id = c->service == SIM_SERVICES ? UNKNOWN_SERVICE : f->ids[c->service];
    if (id < 0) { /* the front answers by itself */
        client_free(c);
        return;
    }
    c->waiter.service = (uint32_t)id;
    worker = f->door.acquire(f->door.self, &c->waiter);
    if (worker)
        exchange_begin(w, c, worker);
    else if (!w->calm && sim_often(w, TRAIT_LEAVES))
        sim_later(w, sim_between(w, 1, 400), run_leave, NULL, c->number)->other = f->number;
}

/* --- what it says and hears --- */

static void note_slots(struct sim_front *f, uint64_t id, unsigned more, unsigned fewer)
{
    KG_LIST_EACH(it, &f->workers)
    {
        struct proxy_worker *worker = KG_LIST_ENTRY(it, struct proxy_worker, link);
        if (worker->id == id)
            worker->slots += more - fewer;
    }
}

void front_send(void *arg, const void *message)
{
    struct sim_front *f = arg;
    const struct message_head *head = message;
    const struct message_return *m = message;

    if (head->type == MESSAGE_RETURN)
        note_slots(f, m->instance, 0, m->slots);

    if (!f->connected)
        return;
    if (f->hostile && head->type == MESSAGE_RETURN)
        front_returns_falsely(f->world, f, message);
    else
        push_to_control(f->world, f, message, head->size);
    if (f->hostile && head->type == MESSAGE_ACQUIRE && sim_permille(f->world, 20))
        push_to_control(f->world, f, message, head->size);
}

/* Once on each channel, behind all claims. */
static void tell_ready(struct sim_front *f)
{
    struct message_plain m;

    if (f->ready_run == f->run)
        return;
    f->ready_run = f->run;
    MESSAGE_INIT(&m, READY);
    front_send(f, &m);
}

static void hear_config(struct world *w, struct sim_front *f, const struct message_head *head)
{
    const struct message_service *m = (const void *)head;

    if (head->type == MESSAGE_CONFIG_BEGIN) {
        memset(f->next_ids, -1, sizeof f->next_ids);
    } else if (head->type == MESSAGE_CONFIG_SERVICE) {
        SIM_ASSERT(w, strncmp(m->name, "svc-", 4) == 0);
        f->next_ids[m->name[4] - '0'] = (int)m->service;
    } else if (head->type == MESSAGE_CONFIG_COMMIT) {
        memcpy(f->ids, f->next_ids, sizeof f->ids);
        f->configured = true;
        tell_ready(f);
    }
}

static void note_recalled(struct sim_front *f, uint64_t id, bool recalled)
{
    KG_LIST_EACH(it, &f->workers)
    {
        struct proxy_worker *worker = KG_LIST_ENTRY(it, struct proxy_worker, link);
        if (worker->id == id)
            worker->recalled = recalled;
    }
}

static void note_renamed(struct sim_front *f, const struct message_renamed *m)
{
    KG_LIST_EACH(it, &f->workers)
    {
        struct proxy_worker *worker = KG_LIST_ENTRY(it, struct proxy_worker, link);
        if (worker->id == m->known_as)
            worker->id = m->instance;
    }
}

static void hear_lease(struct world *w, struct sim_front *f, const struct message_head *head)
{
    const struct message_grant *grant = (const void *)head;
    const struct message_probe *probe = (const void *)head;

    if (head->type == MESSAGE_RECALL)
        note_recalled(f, ((const struct message_instance *)(const void *)head)->instance, true);
    else if (head->type == MESSAGE_GRANT)
        note_recalled(f, grant->instance, false);
    if (head->type == MESSAGE_GRANT) {
        f->hearing = grant->name;
        f->hearing_of = grant->instance;
    } else if (head->type == MESSAGE_PROBE) {
        f->hearing = probe->name;
        f->hearing_of = probe->instance;
    }
    w->counts->granted += head->type == MESSAGE_GRANT;
    w->counts->renamed += head->type == MESSAGE_RENAMED;
    gate_client_message(f->gate, head);
    if (head->type == MESSAGE_GRANT)
        note_slots(f, grant->instance, grant->slots, 0);
    if (head->type == MESSAGE_RENAMED)
        note_renamed(f, (const void *)head);
    f->hearing = NULL;
}

static void run_alone(struct world *w, struct task *t)
{
    struct sim_front *f = t->what;

    f->alone = NULL;
    front_give_up(w, f);
}

static void control_lost(struct world *w, struct sim_front *f)
{
    f->connected = false;
    if (f->draining || !f->configured) {
        front_give_up(w, f);
        return;
    }
    f->away = true;
    KG_LIST_EACH(it, &f->workers)
    KG_LIST_ENTRY(it, struct proxy_worker, link)->recalled = false; /* nobody wants it now */
    gate_client_control_away(f->gate);
    f->alone = sim_later(w, KG_CONTROL_AWAY_MS, run_alone, f, 0);
}

void front_hears(struct world *w, struct sim_front *f, const void *bytes, size_t n)
{
    const struct message_head *head;

    if (n == 0) {
        control_lost(w, f);
        return;
    }
    if (attach_is_sent_off(bytes, n)) {
        front_give_up(w, f);
        return;
    }
    head = message_check(bytes, n, true);
    SIM_ASSERT(w, head != NULL);
    if (head->type >= MESSAGE_CONFIG_BEGIN && head->type <= MESSAGE_CONFIG_COMMIT)
        hear_config(w, f, head);
    else
        hear_lease(w, f, head);
    if (f->hostile)
        front_hears_falsely(w, f, head);
}

/* --- life --- */

struct sim_front *front_new(struct world *w, int index)
{
    struct sim_front *f = calloc(1, sizeof *f);

    SIM_ASSERT(w, f != NULL);
    f->world = w;
    f->index = index;
    f->number = ++w->front_numbers;
    f->up = true;
    f->run = 1;
    f->set_up = w->set_up;
    kg_list_init(&f->clients);
    kg_list_init(&f->workers);
    kg_list_init(&f->to_control.queue);
    kg_list_init(&f->to_front.queue);
    memset(f->ids, -1, sizeof f->ids);
    f->gate = gate_client_new(&w->loop, front_send, f);
    SIM_ASSERT(w, f->gate != NULL);
    gate_client_set_proxy(f->gate, (struct proxy *)(void *)f);
    f->door = gate_client_door(f->gate);
    kg_list_push_back(&w->fronts, &f->link);
    return f;
}

/* From now on what is open is finished, heard of by nobody. */
void front_drains(struct world *w, struct sim_front *f)
{
    if (f->draining)
        return;
    f->draining = true;
    KG_LIST_EACH(it, &f->clients)
    {
        struct client *c = KG_LIST_ENTRY(it, struct client, link);
        if (!c->container || !c->counted)
            continue;
        c->container->exchanges--;
        c->container->old_exchanges++;
        c->old = true;
        w->counts->old_fronts++;
    }
    if (w->places[f->index] == f)
        w->places[f->index] = NULL;
    maybe_end(f);
}

void front_give_up(struct world *w, struct sim_front *f)
{
    sim_say(w, "front %d gives up", f->index);
    judge_unknown(w);
    f->connected = f->away = false;
    if (f->alone)
        sim_cancel(w, f->alone);
    f->alone = NULL;
    front_drains(w, f);
    gate_client_control_lost(f->gate);
}

static void on_gate_closed(void *arg)
{
    ((struct sim_front *)arg)->gate = NULL;
}

/* Its clients see their connections end, and so do its workers. */
void front_breaks(struct world *w, struct sim_front *f)
{
    KG_LIST_EACH_SAFE(it, &f->clients)
    {
        struct client *c = KG_LIST_ENTRY(it, struct client, link);
        leave_container(w, c);
        if (c->worker)
            worker_unuse(c->worker);
        client_free(c);
    }
    if (f->gate)
        gate_client_close(f->gate, on_gate_closed, f);
    KG_LIST_EACH_SAFE(it, &f->workers)
    free(KG_LIST_ENTRY(it, struct proxy_worker, link));
    kg_list_init(&f->workers);
    if (f->alone)
        sim_cancel(w, f->alone);
    f->alone = NULL;
    f->up = f->connected = f->away = false;
}
