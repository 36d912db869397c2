/* SPDX-License-Identifier: Apache-2.0 */
/* Leases as a front holds them. The difficulty: the warm path must touch nothing but its service's
 * first lease, while recalls, refusals and dead workers come at any time. */
#include "orchestrator/gate_client.h"
#include "base/clock.h"
#include "base/map.h"
#include "orchestrator/reasons.h"
#include <stdlib.h>

struct lease {           /* also a worker we were only told to probe: slots 0 */
    struct kg_list link; /* in its service; those with a free slot are found from the front */
    struct gate_client *gate;
    struct proxy_worker *worker;
    uint64_t instance;
    uint32_t service;
    bool claimed;    /* lent by a former control; the present one has not answered yet */
    unsigned slots;  /* held by this front */
    unsigned busy;   /* of them in use */
    unsigned owed;   /* of the busy ones: go back to control as they end */
    int64_t used_ms; /* last end of an exchange that counts as use; 0: none */
    int64_t linger_ms;
    enum proxy_warmth warmth; /* what those waited for who had asked before ticket `woke` */
    uint64_t woke;
    struct kg_timer linger;
    char name[ENGINE_NAME_BYTES];
};

#define MAX_UNHELD 8 /* probes; what more there is is left to other fronts, or a deadline */
#define PROBE_AGAIN_MS 20

struct gate_service {
    struct kg_list leases, waiters; /* heads; next NULL until first touched */
    uint64_t overtaken;             /* tickets up to it were asked before slots came for others */
};

struct gate_client {
    uv_loop_t *loop;
    struct proxy *proxy;
    void (*send)(void *arg, const void *message);
    void *arg;
    struct kg_map leases; /* by instance */
    struct kg_wheel wheel;
    uv_timer_t refuse_soon;
    uint64_t tickets;
    struct message_probe unheld[MAX_UNHELD]; /* there was no memory for them: tried again */
    unsigned unheld_count;
    uv_timer_t probe_again;
    bool away;         /* control is; another one may come */
    bool control_lost; /* none is waited for any more */
    int open_handles;
    void (*on_closed)(void *arg);
    void *closed_arg;
    struct gate_service services[KG_MAX_SERVICES];
};

static struct gate_service *service_of(struct gate_client *g, uint32_t id)
{
    struct gate_service *s;

    KG_ASSERT(id < KG_MAX_SERVICES);
    s = &g->services[id];
    if (!s->leases.next) {
        kg_list_init(&s->leases);
        kg_list_init(&s->waiters);
    }
    return s;
}

static unsigned free_slots(const struct lease *l)
{
    return l->slots - l->busy;
}

/* The least loaded, of those with a free slot. */
static struct lease *lease_with_slot(struct gate_service *s)
{
    struct lease *best = NULL;

    KG_LIST_EACH(it, &s->leases)
    {
        struct lease *l = KG_LIST_ENTRY(it, struct lease, link);
        if (free_slots(l) > 0 && (!best || l->busy < best->busy))
            best = l;
    }
    return best;
}

static struct proxy_worker *take_slot(struct lease *l)
{
    KG_ASSERT(free_slots(l) > 0);
    l->busy++;
    return l->worker;
}

/* --- what is told to control --------------------------------------------------------------------
 */

static void tell_slots(struct lease *l, unsigned slots, bool recalled)
{
    struct message_return m;

    KG_ASSERT(slots <= l->slots);
    l->slots -= slots;
    KG_ASSERT(l->slots >= l->busy);
    MESSAGE_INIT(&m, RETURN);
    m.instance = l->instance;
    m.slots = slots;
    m.recalled = recalled;
    m.used_ms = l->used_ms;
    l->gate->send(l->gate->arg, &m);
}

static void tell_return(struct lease *l, unsigned slots)
{
    if (slots > 0)
        tell_slots(l, slots, false);
}

static void tell_ticket(struct gate_client *g, enum message_type type, uint64_t ticket)
{
    struct message_ticket m;

    message_init(&m, type, sizeof m);
    m.ticket = ticket;
    g->send(g->arg, &m);
}

static void tell_instance(struct gate_client *g, enum message_type type, uint64_t instance)
{
    struct message_instance m;

    message_init(&m, type, sizeof m);
    m.instance = instance;
    g->send(g->arg, &m);
}

/* --- waiters ------------------------------------------------------------------------------------
 */

static void answer_granted(struct proxy_waiter *w, struct lease *l, enum proxy_warmth warmth)
{
    struct proxy_answer answer = {.worker = take_slot(l), .warmth = warmth};

    kg_list_remove(&w->link);
    w->on_answer(w, &answer);
}

/* Free slots go to our own longest waiters; control is told that it need not answer them. The lease
 * is looked up anew each time, for an answer may do anything, also lose the lease. */
static void serve_waiters(struct gate_client *g, struct gate_service *s)
{
    struct lease *l;

    while (!kg_list_empty(&s->waiters) && (l = lease_with_slot(s)) != NULL) {
        struct proxy_waiter *w =
            KG_LIST_ENTRY(kg_list_first(&s->waiters), struct proxy_waiter, link);
        tell_ticket(g, MESSAGE_WITHDRAW, w->ticket);
        answer_granted(w, l, w->ticket < l->woke ? l->warmth : PROXY_WARM);
    }
}

static struct proxy_waiter *waiter_of(struct gate_service *s, uint64_t ticket)
{
    KG_LIST_EACH(it, &s->waiters)
    {
        struct proxy_waiter *w = KG_LIST_ENTRY(it, struct proxy_waiter, link);
        if (w->ticket == ticket)
            return w;
    }
    return NULL;
}

static void refuse_all(struct gate_client *g)
{
    struct proxy_answer answer = {.reason = proxy_reason_row(PROXY_DRAINING),
                                  .detail = "Kipgate is going down"};

    for (uint32_t id = 0; id < KG_MAX_SERVICES; id++) {
        struct gate_service *s = service_of(g, id);
        struct kg_list *first;
        while ((first = kg_list_first(&s->waiters)) != NULL) {
            struct proxy_waiter *w = KG_LIST_ENTRY(first, struct proxy_waiter, link);
            kg_list_remove(&w->link);
            w->on_answer(w, &answer);
        }
    }
}

static void on_refuse_soon(uv_timer_t *t)
{
    refuse_all(t->data);
}

void gate_client_control_lost(struct gate_client *g)
{
    g->control_lost = true;
    refuse_all(g);
}

/* --- without control, and with the next one -----------------------------------------------------
 */

static void each_lease(struct gate_client *g, void (*each)(struct lease *l))
{
    size_t at = 0;
    struct kg_str key;
    void *value;

    while (kg_map_next(&g->leases, &at, &key, &value))
        each(value);
}

/* What was to go back goes on being used: there is nobody to give it to. */
static void keep_lease(struct lease *l)
{
    l->owed = 0;
    proxy_worker_probe_stop(l->worker);
}

void gate_client_control_away(struct gate_client *g)
{
    g->away = true;
    gate_client_forget_probes(g);
    each_lease(g, keep_lease);
}

static void claim(struct lease *l)
{
    struct message_claim m;

    MESSAGE_INIT(&m, CLAIM);
    m.instance = l->instance;
    m.slots = l->slots;
    m.used_ms = l->used_ms;
    memcpy(m.name, l->name, sizeof m.name);
    l->claimed = true;
    l->gate->send(l->gate->arg, &m);
}

/* Under a number that the next control has not heard of yet; they rise over all services. */
static void ask_anew(struct gate_client *g, struct proxy_waiter *w)
{
    struct message_acquire m;

    w->ticket = ++g->tickets << MESSAGE_SERVICE_BITS | w->service;
    MESSAGE_INIT(&m, ACQUIRE);
    m.ticket = w->ticket;
    m.quiet = w->quiet;
    g->send(g->arg, &m);
}

void gate_client_attached(struct gate_client *g)
{
    g->away = false;
    each_lease(g, claim);
    for (uint32_t id = 0; id < KG_MAX_SERVICES; id++) {
        struct gate_service *s = service_of(g, id);
        KG_LIST_EACH(it, &s->waiters)
        ask_anew(g, KG_LIST_ENTRY(it, struct proxy_waiter, link));
    }
}

/* --- the proxy's door ---------------------------------------------------------------------------
 */

static struct proxy_worker *gate_acquire(void *self, struct proxy_waiter *w)
{
    struct gate_client *g = self;
    struct gate_service *s = service_of(g, w->service);
    struct lease *l = kg_list_empty(&s->waiters) ? lease_with_slot(s) : NULL;
    struct message_acquire m;

    if (l)
        return take_slot(l);
    w->ticket = ++g->tickets << MESSAGE_SERVICE_BITS | w->service;
    kg_list_push_back(&s->waiters, &w->link);
    if (g->control_lost) {
        uv_timer_start(&g->refuse_soon, on_refuse_soon, 0, 0);
        return NULL;
    }
    MESSAGE_INIT(&m, ACQUIRE);
    m.ticket = w->ticket;
    m.quiet = w->quiet;
    g->send(g->arg, &m);
    return NULL;
}

static void gate_cancel(void *self, struct proxy_waiter *w)
{
    kg_list_remove(&w->link);
    tell_ticket(self, MESSAGE_WITHDRAW, w->ticket);
}

/* Nothing goes back before the next control has taken it over. */
static bool can_return(const struct lease *l)
{
    return !l->claimed && !l->gate->away;
}

static void on_linger(struct kg_timer *t)
{
    struct lease *l = KG_CONTAINER_OF(t, struct lease, linger);

    if (l->busy == 0 && can_return(l))
        tell_return(l, l->slots);
}

static void arm_linger(struct lease *l)
{
    kg_timer_arm(&l->gate->wheel, &l->linger, (int64_t)uv_now(l->gate->loop) + l->linger_ms);
}

static void gate_release(void *self, struct proxy_worker *worker, bool quiet)
{
    struct gate_client *g = self;
    struct lease *l = proxy_worker_user(worker);

    KG_ASSERT(l->busy > 0);
    l->busy--;
    if (!quiet)
        l->used_ms = (int64_t)uv_now(g->loop);
    if (l->owed > 0) {
        l->owed--;
        tell_return(l, 1);
        if (l->busy == 0 && l->slots > 0)
            arm_linger(l); /* slots granted after the recall were never used */
        return;
    }
    if (!quiet)
        arm_linger(l);
    serve_waiters(g, service_of(g, l->service));
    if (quiet && l->busy == 0 && l->linger.due_ms == KG_NEVER && can_return(l))
        tell_return(l, l->slots); /* it lingered long enough while the monitor was served */
}

static void gate_suspect(void *self, struct proxy_worker *worker)
{
    const struct lease *l = proxy_worker_user(worker);

    tell_instance(self, MESSAGE_SUSPECT, l->instance);
}

static void gate_probed(void *self, struct proxy_worker *worker)
{
    const struct lease *l = proxy_worker_user(worker);

    tell_instance(self, MESSAGE_PROBED, l->instance);
}

struct proxy_gate gate_client_door(struct gate_client *g)
{
    return (struct proxy_gate){g,          gate_acquire, gate_cancel, gate_release, gate_suspect,
                               gate_probed};
}

/* --- from control -------------------------------------------------------------------------------
 */

static void lease_free(struct lease *l)
{
    kg_timer_disarm(&l->gate->wheel, &l->linger);
    kg_list_remove(&l->link);
    kg_map_remove(&l->gate->leases, KG_U64_KEY(l->instance));
    free(l);
}

static struct lease *lease_find(struct gate_client *g, uint64_t instance)
{
    return kg_map_get(&g->leases, KG_U64_KEY(instance));
}

/* The lease of that instance, made on first hearing of it; NULL: no memory. */
static struct lease *lease_get(struct gate_client *g, uint64_t instance, uint32_t service,
                               const struct message_address *where, const char *name)
{
    struct lease *l = lease_find(g, instance);

    if (l || !(l = calloc(1, sizeof *l)))
        return l;
    l->gate = g;
    l->instance = instance;
    l->service = service;
    kg_str_copy(l->name, sizeof l->name, kg_str_of(name));
    kg_timer_init(&l->linger, on_linger);
    kg_list_push_back(&service_of(g, service)->leases, &l->link);
    l->worker = proxy_worker_add(g->proxy, service, (const struct sockaddr *)&where->storage,
                                 where->length);
    if (!l->worker || kg_map_set(&g->leases, KG_U64_KEY(instance), l) != 0) {
        if (l->worker)
            proxy_worker_remove(l->worker);
        kg_list_remove(&l->link);
        free(l);
        return NULL;
    }
    proxy_worker_set_user(l->worker, l);
    return l;
}

/* A lease that there is no memory for goes straight back. */
static void return_unheld(struct gate_client *g, const struct message_grant *m)
{
    struct message_return r;

    MESSAGE_INIT(&r, RETURN);
    r.instance = m->instance;
    r.slots = m->slots;
    g->send(g->arg, &r);
}

static void on_grant(struct gate_client *g, const struct message_grant *m)
{
    struct lease *l = lease_get(g, m->instance, m->service, &m->where, m->name);
    struct gate_service *s = service_of(g, m->service);
    struct proxy_waiter *w = waiter_of(s, m->ticket);
    enum proxy_warmth warmth =
        m->warmth <= PROXY_PAUSED ? (enum proxy_warmth)m->warmth : PROXY_WARM;

    if (!l) {
        struct proxy_answer none = {.reason = proxy_reason_row(PROXY_OVERLOADED),
                                    .detail = "out of memory"};
        return_unheld(g, m);
        if (w) {
            kg_list_remove(&w->link);
            w->on_answer(w, &none);
        }
        return;
    }
    l->slots += m->slots;
    l->linger_ms = m->linger_ms;
    if (!w || !w->quiet) /* a monitor's slot goes back when it is done: it is no use */
        arm_linger(l);
    if (warmth != PROXY_WARM) {
        l->warmth = warmth;
        l->woke = (g->tickets + 1) << MESSAGE_SERVICE_BITS;
    }
    if (m->thawed)
        proxy_worker_was_frozen(l->worker);
    if (w)
        answer_granted(w, l, warmth);
    serve_waiters(g, s);
    if (!w || m->slots > 1)
        s->overtaken = g->tickets;
}

/* Refused for those who waited before it, when control did not know yet that they have slots. */
static bool is_overtaken(const struct gate_service *s, const struct message_refuse *m)
{
    return m->reason == ORCH_QUEUE_FULL && m->ticket >> MESSAGE_SERVICE_BITS <= s->overtaken;
}

static void on_refuse(struct gate_client *g, const struct message_refuse *m)
{
    struct gate_service *s = service_of(g, message_ticket_service(m->ticket));
    struct proxy_waiter *w = waiter_of(s, m->ticket);
    const struct proxy_reason_row *row = orch_reason_row(m->reason);
    struct proxy_answer answer = {.reason = row ? row : proxy_reason_row(PROXY_OVERLOADED),
                                  .asleep = m->reason == ORCH_ASLEEP,
                                  .retry_after_ms = m->retry_after_ms,
                                  .detail = m->detail};

    if (!w)
        return;
    if (is_overtaken(s, m)) {
        ask_anew(g, w);
        return;
    }
    kg_list_remove(&w->link);
    w->on_answer(w, &answer);
}

static void on_recall(struct lease *l)
{
    l->owed = l->busy;
    tell_slots(l, free_slots(l), true);
}

static void on_probe_again(uv_timer_t *t);

static void on_probe(struct gate_client *g, const struct message_probe *m)
{
    struct lease *l = lease_get(g, m->instance, m->service, &m->where, m->name);

    if (l && proxy_worker_probe(l->worker, &m->health) == 0)
        return;
    if (g->unheld_count < MAX_UNHELD)
        g->unheld[g->unheld_count++] = *m;
    uv_timer_start(&g->probe_again, on_probe_again, PROBE_AGAIN_MS, 0);
}

/* What is still not possible is put aside once more. */
static void on_probe_again(uv_timer_t *t)
{
    struct gate_client *g = t->data;
    unsigned count = g->unheld_count;
    struct message_probe again[MAX_UNHELD];

    memcpy(again, g->unheld, sizeof again);
    g->unheld_count = 0;
    for (unsigned i = 0; i < count; i++)
        on_probe(g, &again[i]);
}

static void forget_unheld(struct gate_client *g, uint64_t instance)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < g->unheld_count; i++)
        if (g->unheld[i].instance != instance)
            g->unheld[kept++] = g->unheld[i];
    g->unheld_count = kept;
}

void gate_client_forget_probes(struct gate_client *g)
{
    g->unheld_count = 0;
    uv_timer_stop(&g->probe_again);
}

/* Out of sight first: exchanges whose connects now fail ask for a slot from within the removal. */
static void on_gone(struct lease *l)
{
    struct proxy_worker *worker = l->worker;

    lease_free(l);
    proxy_worker_remove(worker);
}

/* The present control lends it from now on. It may have had us probe it under that number. */
static void on_renamed(struct gate_client *g, const struct message_renamed *m)
{
    struct lease *l = lease_find(g, m->known_as), *probed = lease_find(g, m->instance);

    if (!l || !l->claimed)
        return;
    if (probed && probed != l)
        on_gone(probed);
    kg_map_remove(&g->leases, KG_U64_KEY(l->instance));
    l->instance = m->instance;
    l->claimed = false;
    l->linger_ms = m->linger_ms;
    if (kg_map_set(&g->leases, KG_U64_KEY(l->instance), l) != 0) {
        on_gone(l);
        return;
    }
    arm_linger(l);
}

void gate_client_message(struct gate_client *g, const struct message_head *head)
{
    const void *m = head;
    struct lease *l;

    switch ((enum message_type)head->type) {
    case MESSAGE_GRANT:
        on_grant(g, m);
        return;
    case MESSAGE_REFUSE:
        on_refuse(g, m);
        return;
    case MESSAGE_PROBE:
        on_probe(g, m);
        return;
    case MESSAGE_RENAMED:
        on_renamed(g, m);
        return;
    default:
        break;
    }
    l = lease_find(g, ((const struct message_instance *)m)->instance);
    if (head->type == MESSAGE_PROBE_STOP || head->type == MESSAGE_GONE)
        forget_unheld(g, ((const struct message_instance *)m)->instance);
    if (!l)
        return;
    if (head->type == MESSAGE_RECALL)
        on_recall(l);
    else if (head->type == MESSAGE_PROBE_STOP)
        proxy_worker_probe_stop(l->worker);
    else /* GONE: of what control says, a front hands nothing else to us */
        on_gone(l);
}

/* --- life ---------------------------------------------------------------------------------------
 */

struct gate_client *gate_client_new(uv_loop_t *loop, void (*send)(void *arg, const void *message),
                                    void *arg)
{
    struct gate_client *g = calloc(1, sizeof *g);

    if (!g)
        return NULL;
    g->loop = loop;
    g->send = send;
    g->arg = arg;
    kg_map_init(&g->leases);
    kg_wheel_open(&g->wheel, loop);
    uv_timer_init(loop, &g->refuse_soon);
    uv_timer_init(loop, &g->probe_again);
    g->refuse_soon.data = g->probe_again.data = g;
    return g;
}

void gate_client_set_proxy(struct gate_client *g, struct proxy *p)
{
    g->proxy = p;
}

static void on_handle_closed(struct gate_client *g)
{
    if (--g->open_handles > 0)
        return;
    kg_map_fini(&g->leases);
    g->on_closed(g->closed_arg);
    free(g);
}

static void on_wheel_closed(uv_handle_t *h)
{
    on_handle_closed(KG_CONTAINER_OF(h->data, struct gate_client, wheel));
}

static void on_timer_closed(uv_handle_t *h)
{
    on_handle_closed(h->data);
}

void gate_client_close(struct gate_client *g, void (*on_closed)(void *arg), void *arg)
{
    size_t at = 0;
    struct kg_str key;
    void *value;

    while (kg_map_next(&g->leases, &at, &key, &value)) {
        struct lease *l = value;
        kg_timer_disarm(&g->wheel, &l->linger);
        kg_list_remove(&l->link);
        free(l);
    }
    g->on_closed = on_closed;
    g->closed_arg = arg;
    g->open_handles = 3;
    kg_wheel_close(&g->wheel, on_wheel_closed);
    uv_close((uv_handle_t *)&g->refuse_soon, on_timer_closed);
    uv_close((uv_handle_t *)&g->probe_again, on_timer_closed);
}
