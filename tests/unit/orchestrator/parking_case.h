/* SPDX-License-Identifier: Apache-2.0 */
/* Parking, and an engine that answers when, what and whether the test says. The difficulty: an
 * unknown outcome is two worlds, and both are tried. */
#ifndef TESTS_PARKING_CASE_H
#define TESTS_PARKING_CASE_H

#include "orchestrator/parking_priv.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define OWNER "me"
#define MAX_BOXES 4096
#define MAX_CALLS 256

/* --- the engine ------------------------------------------------------------------------------ */

enum kind { MAKE, ASK, JOIN, CREATE, START, INSPECT, REMOVE, KINDS };
enum outcome { GOOD, NO, LOST, LOST_BUT_DONE }; /* the last two: no answer comes */

struct call {
    enum kind kind;
    uint64_t number;
    char what[ENGINE_NAME_BYTES], sandbox[ENGINE_ID_BYTES], service[64];
    engine_done *done;
    void *arg;
};
static struct engine_container boxes[MAX_BOXES];
static size_t box_count;
static struct call calls[MAX_CALLS];
static size_t call_count;
static uint64_t numbers;
static unsigned asked[KINDS];
static int64_t now_ms, join_ms, own_ms;
static bool usable, no_memory, no_image, refuse_joins, is_blind, unplugged;

static struct parking *p;
static const struct engine_ops *ops;
static struct config config;
static struct config_service a, b, *services[2];

static int answers, hints, lists;
static struct engine_answer last;
static struct engine_event hint;
static size_t listed;

static inline struct engine_container *box(const char *id_or_name)
{
    for (size_t i = 0; i < box_count; i++)
        if (boxes[i].state != ENGINE_NONE &&
            (strcmp(boxes[i].id, id_or_name) == 0 || strcmp(boxes[i].name, id_or_name) == 0))
            return &boxes[i];
    return NULL;
}

static inline uint64_t ask(enum kind kind, const char *what, const char *sandbox, engine_done *done,
                           void *arg)
{
    struct call *c = &calls[call_count];

    if (no_memory)
        return 0;
    ck_assert_uint_lt(++call_count, MAX_CALLS);
    *c = (struct call){.kind = kind, .number = ++numbers, .done = done, .arg = arg};
    snprintf(c->what, sizeof c->what, "%s", what);
    snprintf(c->sandbox, sizeof c->sandbox, "%s", sandbox);
    asked[kind]++;
    return c->number;
}

static inline bool op_usable(void *self)
{
    (void)self;
    return usable;
}

static inline uint64_t op_make(void *self, const char *name, engine_done *done, void *arg)
{
    (void)self;
    return ask(MAKE, name, "", done, arg);
}

static inline uint64_t op_ask(void *self, const char *what, engine_done *done, void *arg)
{
    (void)self;
    return ask(ASK, what, "", done, arg);
}

static inline uint64_t op_join(void *self, const struct config_service *s, const char *name,
                               const char *sandbox, engine_done *done, void *arg)
{
    uint64_t number = ask(JOIN, name, sandbox, done, arg);

    (void)self;
    snprintf(calls[call_count - 1].service, 64, "%s", s->name);
    return number;
}

static inline uint64_t op_create(void *self, const struct config_service *s, const char *name,
                                 engine_done *done, void *arg)
{
    uint64_t number = ask(CREATE, name, "", done, arg);

    (void)self;
    if (number)
        snprintf(calls[call_count - 1].service, 64, "%s", s->name);
    return number;
}

static inline uint64_t op_start(void *self, const char *id, engine_done *done, void *arg)
{
    (void)self;
    return ask(START, id, "", done, arg);
}

static inline uint64_t op_inspect(void *self, const struct config_service *s, const char *what,
                                  engine_done *done, void *arg)
{
    (void)self;
    (void)s;
    return ask(INSPECT, what, "", done, arg);
}

static inline uint64_t op_remove(void *self, const char *id, engine_done *done, void *arg)
{
    (void)self;
    return ask(REMOVE, id, "", done, arg);
}

static inline void op_cancel(void *self, uint64_t number)
{
    (void)self;
    for (size_t i = 0; i < call_count; i++)
        if (calls[i].number == number)
            calls[i].done = NULL;
}

static inline void make_box(const struct call *c, struct engine_answer *to)
{
    struct engine_container *new = &boxes[box_count++];

    ck_assert_uint_lt(box_count, MAX_BOXES);
    *new = (struct engine_container){.state = ENGINE_CREATED, .is_sandbox = c->kind == MAKE};
    snprintf(new->id, sizeof new->id, "id%zu", box_count);
    snprintf(new->name, sizeof new->name, "%s", c->what);
    snprintf(new->owner, sizeof new->owner, OWNER);
    new->sealed = true;
    snprintf(new->service, sizeof new->service, "%s", c->service);
    snprintf(new->sandbox, sizeof new->sandbox, "%s", c->sandbox);
    to->container = *new;
}

static inline void start_box(struct engine_container *found, struct engine_answer *to)
{
    struct engine_container *home = found && found->sandbox[0] ? box(found->sandbox) : NULL;

    if (!found)
        to->code = KG_ENOTFOUND;
    else if (found->sandbox[0] && (!home || home->state != ENGINE_RUNNING))
        to->code = home ? KG_ECONFLICT : KG_ENOTFOUND;
    else
        found->state = ENGINE_RUNNING;
    now_ms += found && found->sandbox[0] ? join_ms : own_ms;
}

static inline void look_at_box(const struct call *c, const struct engine_container *found,
                               struct engine_answer *to)
{
    struct sockaddr_in *in = (void *)&to->container.address;

    to->container.state = ENGINE_NONE;
    if (!found)
        return;
    to->container = *found;
    to->container.port = found->sandbox[0] ? 8080 : 0;
    if (found->sandbox[0] || found->state != ENGINE_RUNNING || unplugged)
        return;
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(0x0a000000U + (unsigned)(found - boxes));
    in->sin_port = htons(c->kind == ASK ? 0 : 8080);
    to->container.address_length = sizeof *in;
}

static inline void carry_out(const struct call *c, struct engine_answer *to)
{
    struct engine_container *found = box(c->what);

    switch (c->kind) {
    case MAKE:
    case JOIN:
    case CREATE:
        if (no_image && c->kind != MAKE) {
            to->code = KG_ENOTFOUND;
            snprintf(to->words, sizeof to->words, "No such image: x");
        } else if (found || (refuse_joins && c->kind == JOIN)) {
            to->code = found ? KG_ECONFLICT : KG_EINVAL;
        } else {
            make_box(c, to);
        }
        break;
    case START:
        start_box(found, to);
        break;
    case ASK:
    case INSPECT:
        look_at_box(c, found, to);
        break;
    case REMOVE:
        to->already = !found;
        if (found)
            found->state = ENGINE_NONE;
        break;
    case KINDS:
        break;
    }
}

static inline void settle(size_t n, enum outcome outcome)
{
    struct call c = calls[n];
    struct engine_answer to = {.memory_bytes = -1};

    memmove(&calls[n], &calls[n + 1], (--call_count - n) * sizeof *calls);
    if (outcome == GOOD || outcome == LOST_BUT_DONE)
        carry_out(&c, &to);
    if (outcome == NO)
        to = (struct engine_answer){.code = KG_EIO, .words = "no", .memory_bytes = -1};
    else if (outcome != GOOD)
        to = (struct engine_answer){.code = KG_ETIMEOUT, .memory_bytes = -1};
    if (c.done)
        c.done(c.arg, &to);
}

/* The oldest call of that kind. */
static inline void answer(enum kind kind, enum outcome outcome)
{
    for (size_t n = 0; n < call_count; n++) {
        if (calls[n].kind != kind)
            continue;
        settle(n, outcome);
        return;
    }
    ck_abort_msg("nobody asked that: kind %d", (int)kind);
}

static inline size_t waiting(enum kind kind)
{
    size_t count = 0;

    for (size_t n = 0; n < call_count; n++)
        count += calls[n].kind == kind;
    return count;
}

/* --- those around ---------------------------------------------------------------------------- */

static inline int64_t now(void)
{
    return now_ms;
}

static inline void on_event(void *arg, const struct engine_event *event)
{
    (void)arg;
    hints++;
    hint = *event;
}

static inline bool on_list(void *arg, const struct engine_container *all, size_t count,
                           int64_t began_ms)
{
    (void)arg;
    ck_assert_int_le(began_ms, now_ms);
    for (size_t i = 0; i < count; i++)
        ck_assert(!all[i].is_sandbox);
    lists++;
    listed = count;
    return true;
}

static inline void on_done(void *arg, const struct engine_answer *from)
{
    (void)arg;
    answers++;
    last = *from;
}

static inline void tell_list(int64_t began_ms)
{
    static struct engine_container all[MAX_BOXES];
    size_t count = 0;

    for (size_t i = 0; i < box_count; i++) {
        if (boxes[i].state == ENGINE_NONE || strcmp(boxes[i].owner, OWNER) != 0)
            continue;
        all[count] = boxes[i];
        if (is_blind)
            all[count].sandbox[0] = '\0';
        count++;
    }
    parking_list(p, all, count, began_ms);
}

static inline void list_now(void)
{
    now_ms++; /* younger than what was done until now */
    tell_list(now_ms);
}

static inline void event(enum engine_event_kind kind, const struct engine_container *c)
{
    struct engine_event e = {.kind = kind, .container = *c};

    if (!parking_event(p, &e))
        on_event(NULL, &e);
}

static inline void tick(void)
{
    for (int i = 0; i < 100 && parking_due_ms(p) <= now_ms; i++)
        parking_tick(p, now_ms);
}

/* Time goes by, and all that is asked is answered well. */
static inline void calm(int64_t ms)
{
    int64_t until = now_ms + ms;

    do {
        tick();
        while (call_count > 0)
            settle(0, GOOD);
        now_ms = kg_earliest(until, parking_due_ms(p) > now_ms ? parking_due_ms(p) : now_ms + 1);
    } while (now_ms < until);
    tick();
}

static inline struct parking_view view(void)
{
    struct parking_view v;

    parking_view(p, &v);
    return v;
}

static inline size_t count_boxes(bool sandboxes)
{
    size_t count = 0;

    for (size_t i = 0; i < box_count; i++)
        count += boxes[i].state != ENGINE_NONE && boxes[i].is_sandbox == sandboxes;
    return count;
}

static inline void open_parking(void)
{
    static const struct engine_ops engine = {.create = op_create,
                                             .start = op_start,
                                             .inspect = op_inspect,
                                             .remove = op_remove,
                                             .cancel = op_cancel};
    static const struct engine_parking_ops sandboxes = {
        .usable = op_usable, .make = op_make, .ask = op_ask, .join = op_join};
    const struct parking_params params = {.engine = &engine,
                                          .sandboxes = &sandboxes,
                                          .owner = OWNER,
                                          .clock = now,
                                          .on_event = on_event,
                                          .on_list = on_list};

    p = parking_new(&params);
    ck_assert_ptr_nonnull(p);
    ops = parking_ops(p);
    parking_configure(p, &config);
    parking_engine_state(p, true);
}

/* As after a kill: who asked is no more, what was asked may still be carried out. */
static inline void open_again(void)
{
    parking_free(p);
    for (size_t i = 0; i < call_count; i++)
        calls[i].done = NULL;
    open_parking();
}

static inline void set_up(void)
{
    kg_log_setup(KG_LOG_ERROR + 1, KG_LOG_TEXT, "test");
    box_count = call_count = 0;
    memset(asked, 0, sizeof asked);
    now_ms = 100000000;
    join_ms = 70;
    own_ms = 160;
    usable = true;
    no_memory = no_image = refuse_joins = is_blind = unplugged = false;
    answers = hints = lists = 0;
    listed = 0;
    a = (struct config_service){.name = "a"};
    b = (struct config_service){.name = "b"};
    services[0] = &a;
    services[1] = &b;
    config = (struct config){.sandboxes = -1, .services = services, .service_count = 2};
    open_parking();
}

static inline void tear_down(void)
{
    parking_free(p);
}

/* One sandbox is parked, as after any start of ours. */
static inline void come_up(void)
{
    tell_list(now_ms);
    calm(1000);
    ck_assert_uint_eq(view().parked, 1);
}

static inline struct engine_container *create(const struct config_service *s, const char *name)
{
    int before = answers;

    ck_assert_uint_gt(ops->create(ops->self, s, name, on_done, NULL), 0);
    ck_assert_int_eq(answers, before);
    while (answers == before)
        settle(0, GOOD);
    ck_assert_int_eq(last.code, 0);
    return box(name);
}

static inline void start(const struct engine_container *c)
{
    int before = answers;

    ck_assert_uint_gt(ops->start(ops->self, c->id, on_done, NULL), 0);
    while (answers == before)
        settle(0, GOOD);
}

static inline struct engine_container *start_one(const struct config_service *s, const char *name)
{
    struct engine_container *c = create(s, name);

    start(c);
    ck_assert_int_eq(last.code, 0);
    return c;
}

static inline void inspect(const char *name)
{
    int before = answers;

    ck_assert_uint_gt(ops->inspect(ops->self, &a, name, on_done, NULL), 0);
    while (answers == before)
        settle(0, GOOD);
}

static inline unsigned last_port(void)
{
    const struct sockaddr_in *in = (const void *)&last.container.address;

    return last.container.address_length > 0 ? ntohs(in->sin_port) : 0;
}

static inline struct engine_container *parked_box(void)
{
    for (size_t i = 0; i < box_count; i++)
        if (boxes[i].is_sandbox && boxes[i].state == ENGINE_RUNNING)
            return &boxes[i];
    ck_abort_msg("none is parked");
}

static inline void burst(unsigned n)
{
    static unsigned round;
    char name[40];

    round++;
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "w%u-%u", round, i);
        create(&a, name);
    }
}

#endif
