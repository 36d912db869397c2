/* SPDX-License-Identifier: Apache-2.0 */
/* A fleet on a bench: an engine that answers when the test says so, fronts that only take notes, a
 * clock that is set by hand. The difficulty: tests must read like the case they are about. */
#ifndef TESTS_FLEET_RIG_H
#define TESTS_FLEET_RIG_H

#include "base/clock.h"
#include "orchestrator/fleet.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define RIG __attribute__((unused)) static
#define OWNER "owner-of-the-test"

enum verb { PULL, CREATE, START, LOOK, STOP, REMOVE, PAUSE, UNPAUSE, WEIGH };
struct call {
    enum verb verb;
    char target[ENGINE_NAME_BYTES];
    engine_done *done;
    void *arg;
    bool answered, cancelled;
};
enum said_kind { GRANT, REFUSE, RECALL, PROBE, PROBE_STOP, GONE, RENAMED };
struct said {
    enum said_kind kind;
    int front;
    uint64_t ticket, instance;
    unsigned slots, reason;
    enum proxy_warmth warmth;
    bool thawed;
    int64_t ms; /* linger or Retry-After */
    char detail[FLEET_DETAIL_BYTES];
};
struct rig {
    struct fleet *f;
    int64_t now_ms;
    uint64_t ticket;
    struct call calls[512];
    size_t call_count;
    struct said said[4096];
    size_t said_count, said_read;
    struct config config;
    struct config_service service, other, third, *services[3]; /* a, b, c */
    char image[32], name[ENGINE_NAME_BYTES];                   /* of the container made last */
    char last_why[FLEET_DETAIL_BYTES];
    int reaped, paused, stopped, resumed, cold_ok, cold_failed, done_count;
    unsigned done_reason;
    int64_t done_retry_ms;
    unsigned boxes;                  /* containers made */
    unsigned ends, asked_before_end; /* told of before the engine is */
    unsigned clock_changes;
};

/* --- the engine --- */

RIG uint64_t note_call(struct rig *r, enum verb verb, const char *target, engine_done *done,
                       void *arg)
{
    struct call *c = &r->calls[r->call_count++];

    ck_assert_uint_lt(r->call_count, 512);
    *c = (struct call){.verb = verb, .done = done, .arg = arg};
    snprintf(c->target, sizeof c->target, "%s", target);
    if (verb == CREATE)
        snprintf(r->name, sizeof r->name, "%s", target);
    return r->call_count;
}
RIG uint64_t op_pull(void *self, const struct config_service *s, engine_done *d, void *arg)
{
    return note_call(self, PULL, s->image, d, arg);
}
RIG uint64_t op_create(void *self, const struct config_service *s, const char *name, engine_done *d,
                       void *arg)
{
    ck_assert_ptr_nonnull(s);
    return note_call(self, CREATE, name, d, arg);
}
RIG uint64_t op_start(void *self, const char *id, engine_done *d, void *arg)
{
    return note_call(self, START, id, d, arg);
}
RIG uint64_t op_inspect(void *self, const struct config_service *s, const char *id, engine_done *d,
                        void *arg)
{
    (void)s;
    return note_call(self, LOOK, id, d, arg);
}
RIG uint64_t op_stop(void *self, const char *id, int64_t grace_ms, engine_done *d, void *arg)
{
    ck_assert_int_gt(grace_ms, 0);
    return note_call(self, STOP, id, d, arg);
}
RIG uint64_t op_remove(void *self, const char *id, engine_done *d, void *arg)
{
    return note_call(self, REMOVE, id, d, arg);
}
RIG uint64_t op_pause(void *self, const char *id, engine_done *d, void *arg)
{
    return note_call(self, PAUSE, id, d, arg);
}
RIG uint64_t op_unpause(void *self, const char *id, engine_done *d, void *arg)
{
    return note_call(self, UNPAUSE, id, d, arg);
}
RIG uint64_t op_weigh(void *self, const char *id, engine_done *d, void *arg)
{
    return note_call(self, WEIGH, id, d, arg);
}
RIG void op_cancel(void *self, uint64_t operation)
{
    struct rig *r = self;

    ck_assert(!r->calls[operation - 1].answered);
    r->calls[operation - 1].answered = r->calls[operation - 1].cancelled = true;
}

/* The oldest call of that verb that waits for an answer. */
RIG struct call *expect(struct rig *r, enum verb verb)
{
    for (size_t n = 0; n < r->call_count; n++)
        if (!r->calls[n].answered && r->calls[n].verb == verb)
            return &r->calls[n];
    ck_abort_msg("no such call waits for an answer (%d)", (int)verb);
}
RIG size_t waiting_calls(const struct rig *r)
{
    size_t count = 0;

    for (size_t n = 0; n < r->call_count; n++)
        count += !r->calls[n].answered;
    return count;
}
RIG size_t count_calls(const struct rig *r, enum verb verb)
{
    size_t count = 0;

    for (size_t n = 0; n < r->call_count; n++)
        count += r->calls[n].verb == verb;
    return count;
}
RIG void answer(struct call *c, const struct engine_answer *a)
{
    c->answered = true;
    c->done(c->arg, a);
}
RIG void answer_code(struct rig *r, enum verb verb, int code)
{
    struct engine_answer a = {.code = code};

    if (code == KG_EIO || code == KG_EINVAL) {
        a.status = code == KG_EIO ? 500 : 400;
        snprintf(a.words, sizeof a.words, "words of the engine");
    }
    answer(expect(r, verb), &a);
    fleet_check(r->f);
}
RIG struct sockaddr_storage address_of(unsigned n)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in *a = (struct sockaddr_in *)&storage;

    a->sin_family = AF_INET;
    a->sin_port = htons(9000);
    a->sin_addr.s_addr = htonl(0x0a000000u + n);
    return storage;
}
RIG struct engine_container box(const struct rig *r, unsigned n, const char *name,
                                enum engine_state state)
{
    struct engine_container c = {.state = state};

    snprintf(c.id, sizeof c.id, "id-%u", n);
    snprintf(c.name, sizeof c.name, "%s", name);
    snprintf(c.owner, sizeof c.owner, "%s", OWNER);
    c.sealed = true;
    snprintf(c.service, sizeof c.service, "%s", r->service.name);
    snprintf(c.spec, sizeof c.spec, "%s", r->service.spec);
    if (state == ENGINE_RUNNING) {
        c.address = address_of(n);
        c.address_length = sizeof(struct sockaddr_in);
    }
    return c;
}
RIG void answer_created(struct rig *r)
{
    struct engine_answer a = {0};

    a.container = box(r, ++r->boxes, r->name, ENGINE_CREATED);
    answer(expect(r, CREATE), &a);
    fleet_check(r->f);
}
RIG void answer_exit(struct rig *r, enum engine_state state, int exit_code)
{
    struct engine_answer a = {0};
    unsigned n = r->boxes;

    sscanf(expect(r, LOOK)->target, "id-%u", &n); /* asked by name: the one made last */
    a.container = box(r, n, r->name, state);
    if (state == ENGINE_EXITED)
        a.container.exit_code = exit_code;
    answer(expect(r, LOOK), &a);
    fleet_check(r->f);
}

RIG void answer_look(struct rig *r, enum engine_state state)
{
    answer_exit(r, state, 3);
}

/* --- the fronts --- */

RIG struct said *note(void *self, enum said_kind kind, int front, uint64_t instance)
{
    struct rig *r = self;
    struct said *s = &r->said[r->said_count++];

    ck_assert_uint_lt(r->said_count, 4096);
    *s = (struct said){.kind = kind, .front = front, .instance = instance};
    return s;
}
RIG void door_grant(void *self, int front, uint64_t ticket, uint32_t service, uint64_t instance,
                    unsigned slots, enum proxy_warmth warmth, bool thawed,
                    const struct engine_container *where, int64_t linger_ms)
{
    struct said *s = note(self, GRANT, front, instance);

    (void)service;
    ck_assert_uint_gt(where->address_length, 0);
    s->ticket = ticket;
    s->slots = slots;
    s->warmth = warmth;
    s->thawed = thawed;
    s->ms = linger_ms;
}
RIG void door_refuse(void *self, int front, uint64_t ticket, unsigned reason,
                     int64_t retry_after_ms, const char *detail)
{
    struct said *s = note(self, REFUSE, front, 0);

    s->ticket = ticket;
    s->reason = reason;
    s->ms = retry_after_ms;
    snprintf(s->detail, sizeof s->detail, "%s", detail);
}
RIG void door_recall(void *self, int front, uint64_t instance)
{
    note(self, RECALL, front, instance);
}
RIG void door_probe(void *self, int front, uint64_t instance, const struct config_service *s,
                    const struct engine_container *where)
{
    (void)s;
    ck_assert_uint_gt(where->address_length, 0);
    note(self, PROBE, front, instance);
}
RIG void door_probe_stop(void *self, int front, uint64_t instance)
{
    note(self, PROBE_STOP, front, instance);
}
RIG void door_gone(void *self, int front, uint64_t instance)
{
    note(self, GONE, front, instance);
}
RIG void door_renamed(void *self, int front, uint64_t known_as, uint64_t instance,
                      int64_t linger_ms)
{
    struct rig *r = self;
    struct said *s = &r->said[r->said_count++];

    *s = (struct said){
        .kind = RENAMED, .front = front, .ticket = known_as, .instance = instance, .ms = linger_ms};
}

/* The next thing said that was not read yet; it must be of this kind. */
RIG struct said *hear(struct rig *r, enum said_kind kind)
{
    ck_assert_msg(r->said_read < r->said_count, "nothing was said");
    ck_assert_int_eq(r->said[r->said_read].kind, kind);
    return &r->said[r->said_read++];
}
RIG void hear_nothing(const struct rig *r)
{
    ck_assert_uint_eq(r->said_read, r->said_count);
}
RIG struct said *hear_refusal(struct rig *r, unsigned reason)
{
    struct said *s = hear(r, REFUSE);

    ck_assert_str_eq(orch_reason_row(s->reason)->name, orch_reason_row(reason)->name);
    return s;
}

/* --- the observer and the clock --- */

RIG void on_changed(void *self, const struct fleet_change *c)
{
    struct rig *r = self;

    snprintf(r->last_why, sizeof r->last_why, "%s", c->why);
}
RIG void on_cold_start(void *self, uint32_t service, bool success, const char *result,
                       const int64_t phase_ms[FLEET_PHASES])
{
    struct rig *r = self;

    (void)service, (void)result;
    ck_assert_int_ge(phase_ms[FLEET_TOTAL], 0);
    if (success)
        r->cold_ok++;
    else
        r->cold_failed++;
}
RIG void on_reaped(void *self, uint32_t service, const char *action)
{
    (void)service;
    if (strcmp(action, "pause") == 0)
        ((struct rig *)self)->paused++;
    else if (strcmp(action, "stop") == 0)
        ((struct rig *)self)->stopped++;
    else
        ((struct rig *)self)->reaped++;
}
RIG void on_resumed(void *self, uint32_t service)
{
    (void)service;
    ((struct rig *)self)->resumed++;
}
RIG void on_ends(void *self, const char *name)
{
    struct rig *r = self;

    ck_assert(name[0] != '\0');
    r->asked_before_end = count_calls(r, STOP) + count_calls(r, REMOVE);
    r->ends++;
}

RIG void on_clock_changed(void *self)
{
    ((struct rig *)self)->clock_changes++;
}
RIG int64_t rig_clock(void *arg)
{
    return ((struct rig *)arg)->now_ms;
}

/* Lets time pass: the fleet is ticked exactly when it says that it is due. */
RIG void pass(struct rig *r, int64_t ms)
{
    int64_t end_ms = r->now_ms + ms, due_ms;

    while ((due_ms = fleet_due_ms(r->f)) <= end_ms) {
        if (due_ms > r->now_ms)
            r->now_ms = due_ms;
        fleet_tick(r->f, r->now_ms);
        fleet_check(r->f);
    }
    r->now_ms = end_ms;
}
RIG void on_done(void *arg, unsigned reason, int64_t retry_after_ms, const char *detail)
{
    struct rig *r = arg;

    (void)detail;
    r->done_count++;
    r->done_reason = reason;
    r->done_retry_ms = retry_after_ms;
}

/* --- setting up --- */

RIG void fill_service(struct rig *r, struct config_service *s, const char *name)
{
    snprintf(r->image, sizeof r->image, "image:1");
    *s = (struct config_service){.image = r->image,
                                 .idle_timeout_ms = 300000,
                                 .start_timeout_ms = 30000,
                                 .pull_timeout_ms = 600000,
                                 .pause_after_ms = -1,
                                 .max_instances = 1,
                                 .concurrency = 1,
                                 .queue = 100};
    snprintf(s->name, sizeof s->name, "%s", name);
    snprintf(s->spec, sizeof s->spec, "spec-of-%s", name);
}
RIG void configure(struct rig *r)
{
    ck_assert_int_eq(fleet_configure(r->f, &r->config, r->now_ms), 0);
    fleet_check(r->f);
}
RIG void engine_up(struct rig *r)
{
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, NULL, 0, r->now_ms, r->now_ms);
}
RIG struct rig *rig_closed(int fronts) /* the engine is not up yet */
{
    struct rig *r = calloc(1, sizeof *r);
    const struct engine_ops ops = {.self = r,
                                   .pull = op_pull,
                                   .create = op_create,
                                   .start = op_start,
                                   .inspect = op_inspect,
                                   .stop = op_stop,
                                   .remove = op_remove,
                                   .pause = op_pause,
                                   .unpause = op_unpause,
                                   .weigh = op_weigh,
                                   .cancel = op_cancel};
    const struct fleet_params params = {.engine = &ops,
                                        .fronts = {r, door_grant, door_refuse, door_recall,
                                                   door_probe, door_probe_stop, door_gone,
                                                   door_renamed},
                                        .observer = {.self = r,
                                                     .changed = on_changed,
                                                     .cold_start = on_cold_start,
                                                     .reaped = on_reaped,
                                                     .resumed = on_resumed,
                                                     .ending = on_ends,
                                                     .clock_changed = on_clock_changed},
                                        .owner = OWNER,
                                        .max_starts = 2,
                                        .seed = 42,
                                        .now_ms = rig_clock,
                                        .wall_ms = rig_clock,
                                        .now_arg = r};

    ck_assert_ptr_nonnull(r);
    r->now_ms = 1000000;
    r->f = fleet_new(&params, r->now_ms);
    fill_service(r, &r->service, "a");
    fill_service(r, &r->other, "b");
    fill_service(r, &r->third, "c");
    r->services[0] = &r->service;
    r->services[1] = &r->other;
    r->services[2] = &r->third;
    r->config.services = r->services;
    r->config.service_count = 1;
    r->config.paused_memory_bytes = -1;
    configure(r);
    for (int n = 0; n < fronts; n++)
        fleet_front_up(r->f, n, r->now_ms);
    return r;
}
RIG struct rig *rig_new(int fronts)
{
    struct rig *r = rig_closed(fronts);

    engine_up(r);
    return r;
}
RIG void rig_free(struct rig *r)
{
    fleet_check(r->f);
    fleet_free(r->f);
    free(r);
}

/* --- what tests do all the time --- */

RIG uint64_t ask_of(struct rig *r, uint32_t service, int front)
{
    uint64_t ticket = ++r->ticket;

    fleet_acquire(r->f, front, ticket, service, false, r->now_ms);
    fleet_check(r->f);
    return ticket;
}
RIG uint64_t ask(struct rig *r, int front)
{
    return ask_of(r, 0, front);
}
RIG void give_back(struct rig *r, int front, uint64_t instance, unsigned slots)
{
    fleet_return(r->f, front, instance, slots, r->now_ms, false, r->now_ms);
    fleet_check(r->f);
}
/* The answer to a recall, slots or none. */
RIG void answer_recall(struct rig *r, int front, uint64_t instance, unsigned slots)
{
    fleet_return(r->f, front, instance, slots, slots ? r->now_ms : 0, true, r->now_ms);
    fleet_check(r->f);
}
RIG uint64_t until_probed(struct rig *r) /* from a create that waits for its answer */
{
    answer_created(r);
    answer_code(r, START, 0);
    answer_look(r, ENGINE_RUNNING);
    return hear(r, PROBE)->instance;
}
RIG uint64_t until_ready(struct rig *r)
{
    uint64_t instance = until_probed(r);

    fleet_probed(r->f, r->said[r->said_read - 1].front, instance, r->now_ms);
    fleet_check(r->f);
    return instance;
}
/* Ready, and used once by front 0 until now. */
RIG uint64_t warm(struct rig *r)
{
    uint64_t instance;

    ask(r, 0);
    instance = until_ready(r);
    hear(r, GRANT);
    give_back(r, 0, instance, 1);
    return instance;
}
RIG void tell_of(struct rig *r, unsigned n, enum engine_event_kind kind)
{
    struct engine_event event = {kind, box(r, n, "any-name", ENGINE_EXITED)};

    fleet_engine_event(r->f, &event, r->now_ms);
    fleet_check(r->f);
}
RIG void tell(struct rig *r, enum engine_event_kind kind)
{
    struct engine_event event = {kind, box(r, r->boxes, r->name, ENGINE_EXITED)};

    fleet_engine_event(r->f, &event, r->now_ms);
    fleet_check(r->f);
}
RIG const char *state_in(struct rig *r, uint32_t service, size_t n)
{
    static struct fleet_view views[8];
    size_t count = fleet_view(r->f, service, views, 8, r->now_ms);

    return n < count ? views[n].state : "none";
}
RIG const char *state_of(struct rig *r, size_t n)
{
    return state_in(r, 0, n);
}
RIG size_t count_in(struct rig *r, uint32_t service)
{
    return fleet_view(r->f, service, NULL, 0, r->now_ms);
}

#endif
