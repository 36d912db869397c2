/* SPDX-License-Identifier: Apache-2.0 */
/* A front's leases between a proxy and a control that only take notes.
 * The difficulty: messages that cross; each case is one order of arrival. */
#ifndef TESTS_GATE_RIG_H
#define TESTS_GATE_RIG_H

#include "base/clock.h"
#include "orchestrator/gate_client.h"
#include "orchestrator/reasons.h"
#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>

#define RIG __attribute__((unused)) static
#define SERVICE 7
#define LINGER_MS 100
#define LONG_MS 60000
#define MAX_SENT 64

struct proxy_worker { /* the proxy's, as this test has it */
    void *user;
    int probes, freezes;
    bool removed;
};

struct waiter {
    struct proxy_waiter w;
    int answers;
    struct proxy_worker *worker;
    enum proxy_warmth warmth;
    unsigned reason;
    char detail[64];
};

static uv_loop_t loop;
static struct gate_client *gate;
static struct proxy_gate door;
RIG _Alignas(8) char sent[MAX_SENT][KG_MAX_MESSAGE_BYTES];
static size_t sent_count, sent_read;
static struct proxy_worker workers[8];
static size_t worker_count;
static bool no_workers, no_probes, closed;

/* --- the proxy --- */

struct proxy_worker *proxy_worker_add(struct proxy *p, uint32_t service,
                                      const struct sockaddr *address, socklen_t length)
{
    struct proxy_worker *w;

    ck_assert_ptr_null(p);
    ck_assert_uint_eq(service, SERVICE);
    ck_assert_int_eq(address->sa_family, AF_INET);
    ck_assert_uint_eq(length, sizeof(struct sockaddr_in));
    if (no_workers)
        return NULL;
    ck_assert_uint_lt(worker_count, sizeof workers / sizeof *workers);
    w = &workers[worker_count++];
    *w = (struct proxy_worker){0};
    return w;
}

int proxy_worker_probe(struct proxy_worker *w, const struct proxy_health *health)
{
    ck_assert_str_eq(health->path, "/healthz");
    if (no_probes)
        return KG_ENOMEM;
    w->probes++;
    return 0;
}

void proxy_worker_probe_stop(struct proxy_worker *w)
{
    w->probes = 0;
}

void proxy_worker_remove(struct proxy_worker *w)
{
    ck_assert(!w->removed);
    w->removed = true;
}

void proxy_worker_was_frozen(struct proxy_worker *w)
{
    w->freezes++;
}

void proxy_worker_set_user(struct proxy_worker *w, void *user)
{
    w->user = user;
}

void *proxy_worker_user(const struct proxy_worker *w)
{
    ck_assert(!w->removed);
    return w->user;
}

/* --- what the gate says --- */

RIG void on_send(void *arg, const void *message)
{
    const struct message_head *head = message;

    ck_assert_ptr_eq(arg, &loop);
    ck_assert_uint_lt(sent_count, MAX_SENT);
    ck_assert_ptr_nonnull(message_check(message, head->size, false));
    memcpy(sent[sent_count++], message, head->size);
}

/* The next message that was sent, which must be of that type. */
RIG const void *said(enum message_type type)
{
    const struct message_head *head = (const void *)sent[sent_read];

    ck_assert_uint_lt(sent_read, sent_count);
    ck_assert_uint_eq(head->type, type);
    sent_read++;
    return head;
}

RIG void said_nothing(void)
{
    ck_assert_uint_eq(sent_read, sent_count);
}

RIG const struct message_return *said_return(uint64_t instance, unsigned slots)
{
    const struct message_return *m = said(MESSAGE_RETURN);

    ck_assert_uint_eq(m->instance, instance);
    ck_assert_uint_eq(m->slots, slots);
    return m;
}

/* What was free when it was recalled; 0 is said, too: nothing more is to be waited for. */
RIG void said_recalled(uint64_t instance, unsigned slots)
{
    ck_assert(said_return(instance, slots)->recalled);
}

RIG void said_ticket(enum message_type type, const struct waiter *w)
{
    ck_assert_uint_eq(((const struct message_ticket *)said(type))->ticket, w->w.ticket);
}

/* --- requests --- */

RIG void on_answer(struct proxy_waiter *pw, const struct proxy_answer *answer)
{
    struct waiter *w = KG_LIST_ENTRY(pw, struct waiter, w);

    w->answers++;
    w->worker = answer->worker;
    w->warmth = answer->warmth;
    if (answer->worker)
        return;
    ck_assert_ptr_nonnull(answer->reason);
    w->reason = answer->reason->index;
    ck_assert(answer->asleep == (w->reason == ORCH_ASLEEP));
    kg_str_copy(w->detail, sizeof w->detail, kg_str_of(answer->detail));
}

RIG struct proxy_worker *ask(struct waiter *w)
{
    *w = (struct waiter){.w = {.service = SERVICE, .on_answer = on_answer}};
    w->worker = door.acquire(door.self, &w->w);
    return w->worker;
}

/* Asks, and is told to wait; control heard of it. */
RIG void wait_cold(struct waiter *w)
{
    ck_assert_ptr_null(ask(w));
    said_ticket(MESSAGE_ACQUIRE, w);
    ck_assert_uint_eq(message_ticket_service(w->w.ticket), SERVICE);
}

RIG void give_back(struct proxy_worker *worker)
{
    door.release(door.self, worker, false);
}

/* --- what control says --- */

RIG struct message_address somewhere(void)
{
    struct message_address a;
    struct sockaddr_storage at = {.ss_family = AF_INET};

    ck_assert(message_set_address(&a, &at, sizeof(struct sockaddr_in)));
    return a;
}

RIG void grant_for(uint64_t ticket, uint64_t instance, unsigned slots, int64_t linger_ms)
{
    struct message_grant m;

    MESSAGE_INIT(&m, GRANT);
    m.ticket = ticket;
    m.instance = instance;
    m.service = SERVICE;
    m.slots = slots;
    m.warmth = PROXY_COLD;
    m.linger_ms = linger_ms;
    m.where = somewhere();
    ck_assert_ptr_nonnull(message_check(&m, sizeof m, true));
    gate_client_message(gate, &m.head);
}

RIG void grant(const struct waiter *w, uint64_t instance, unsigned slots)
{
    grant_for(w->w.ticket, instance, slots, LONG_MS);
}

RIG void tell(enum message_type type, uint64_t instance)
{
    struct message_instance m;

    message_init(&m, type, sizeof m);
    m.instance = instance;
    gate_client_message(gate, &m.head);
}

RIG void probe(uint64_t instance)
{
    struct message_probe m;

    MESSAGE_INIT(&m, PROBE);
    m.instance = instance;
    m.service = SERVICE;
    kg_str_copy(m.health.path, sizeof m.health.path, KG_STR("/healthz"));
    m.where = somewhere();
    gate_client_message(gate, &m.head);
}

RIG void refuse(uint64_t ticket, unsigned reason)
{
    struct message_refuse m;

    MESSAGE_INIT(&m, REFUSE);
    m.ticket = ticket;
    m.reason = reason;
    kg_str_copy(m.detail, sizeof m.detail, KG_STR("because"));
    gate_client_message(gate, &m.head);
}

RIG void rename_to(uint64_t known_as, uint64_t instance)
{
    struct message_renamed m;

    MESSAGE_INIT(&m, RENAMED);
    m.known_as = known_as;
    m.instance = instance;
    m.linger_ms = LINGER_MS;
    ck_assert_ptr_nonnull(message_check(&m, sizeof m, true));
    gate_client_message(gate, &m.head);
}

RIG const struct message_claim *said_claim(uint64_t instance, unsigned slots)
{
    const struct message_claim *m = said(MESSAGE_CLAIM);

    ck_assert_uint_eq(m->instance, instance);
    ck_assert_uint_eq(m->slots, slots);
    return m;
}

/* --- the bench --- */

RIG void set_up(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    sent_count = sent_read = worker_count = 0;
    no_workers = no_probes = closed = false;
    memset(workers, 0, sizeof workers);
    gate = gate_client_new(&loop, on_send, &loop);
    ck_assert_ptr_nonnull(gate);
    door = gate_client_door(gate);
}

RIG void on_closed(void *arg)
{
    closed = true;
    ck_assert_ptr_eq(arg, &closed);
}

/* Whatever a case leaves open, nothing of it may be left behind (the sanitizers look). */
RIG void tear_down(void)
{
    gate_client_close(gate, on_closed, &closed);
    ck_assert(!closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert(closed);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

RIG void on_over(uv_timer_t *t)
{
    uv_close((uv_handle_t *)t, NULL);
    uv_stop(t->loop);
}

RIG void pass_ms(uint64_t ms)
{
    uv_timer_t t;

    uv_update_time(&loop);
    uv_timer_init(&loop, &t);
    uv_timer_start(&t, on_over, ms, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_run(&loop, UV_RUN_NOWAIT); /* the close of the timer */
    uv_update_time(&loop);
}

#endif
