/* SPDX-License-Identifier: Apache-2.0 */
/* An engine that answers when the input says so, and two services for a fleet to keep.
 * The difficulty: it may answer anything that the fleet says an engine may. */
#ifndef TESTS_FUZZ_FLEET_CASE_H
#define TESTS_FUZZ_FLEET_CASE_H

#include "fuzz.h"
#include "fuzz_clock.h"
#include "orchestrator/fleet.h"
#include "orchestrator/messages.h"
#include <stdio.h>

#define OWNER "owner"
#define MAX_CALLS 256

struct call {
    bool open, looks;
    char target[ENGINE_NAME_BYTES];
    engine_done *done;
    void *arg;
};
static struct call calls[MAX_CALLS];
static size_t call_count;

static inline uint64_t note_call(const char *target, bool looks, engine_done *done, void *arg)
{
    struct call *c = &calls[call_count];

    if (call_count == MAX_CALLS)
        return 0; /* no memory */
    *c = (struct call){.open = true, .looks = looks, .done = done, .arg = arg};
    snprintf(c->target, sizeof c->target, "%s", target);
    return ++call_count;
}

static inline uint64_t op_service(void *self, const struct config_service *s, engine_done *d,
                                  void *arg)
{
    (void)self;
    return note_call(s->image, false, d, arg);
}

static inline uint64_t op_create(void *self, const struct config_service *s, const char *name,
                                 engine_done *d, void *arg)
{
    (void)self;
    (void)s;
    return note_call(name, true, d, arg);
}

static inline uint64_t op_inspect(void *self, const struct config_service *s, const char *id,
                                  engine_done *d, void *arg)
{
    (void)self;
    (void)s;
    return note_call(id, true, d, arg);
}

static inline uint64_t op_id(void *self, const char *id, engine_done *d, void *arg)
{
    (void)self;
    return note_call(id, false, d, arg);
}

static inline uint64_t op_stop(void *self, const char *id, int64_t grace_ms, engine_done *d,
                               void *arg)
{
    (void)grace_ms;
    return op_id(self, id, d, arg);
}

static inline void op_cancel(void *self, uint64_t operation)
{
    (void)self;
    KG_ASSERT(operation > 0 && calls[operation - 1].open);
    calls[operation - 1].open = false;
}

static inline int64_t clock_of_case(void *arg)
{
    (void)arg;
    return fuzz_now_ms;
}

/* By name or id, which go together. */
static inline void fill_container(struct engine_container *c, const char *name, uint8_t how)
{
    struct sockaddr_in *a = (void *)&c->address;

    *c = (struct engine_container){.state = (enum engine_state)(how % (ENGINE_NONE + 1))};
    if (strncmp(name, "id-", 3) == 0)
        name += 3;
    snprintf(c->id, sizeof c->id, "id-%.60s", name);
    snprintf(c->name, sizeof c->name, "%s", name);
    snprintf(c->owner, sizeof c->owner, "%s", how & 0x40 ? "other" : OWNER);
    c->sealed = !(how & 0x80);
    snprintf(c->service, sizeof c->service, "%s",
             strstr(name, how & 0x20 ? "-a-" : "-b-") ? "b" : "a");
    snprintf(c->spec, sizeof c->spec, "spec");
    if (c->state == ENGINE_RUNNING && !(how & 0x10)) {
        *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = 1};
        c->address_length = sizeof *a;
    }
}

/* The oldest call that waits for one is answered. */
static inline void engine_answers(uint8_t code, uint8_t how)
{
    static const int codes[] = {
        0,         0,          0,         0,        KG_ENOTFOUND, KG_EIO, KG_ETIMEOUT, KG_ECONFLICT,
        KG_EINVAL, KG_ECLOSED, KG_ELIMIT, KG_EPROTO};
    struct engine_answer a = {.code = codes[code % 12], .already = code & 0x80};

    for (size_t i = 0; i < call_count; i++) {
        struct call *c = &calls[i];
        if (!c->open)
            continue;
        c->open = false;
        a.memory_bytes = (int64_t)how << 20;
        if (c->looks)
            fill_container(&a.container, c->target, how);
        c->done(c->arg, &a);
        return;
    }
}

static inline struct engine_ops fake_engine(void)
{
    call_count = 0;
    return (struct engine_ops){.pull = op_service,
                               .image = op_service,
                               .create = op_create,
                               .start = op_id,
                               .inspect = op_inspect,
                               .stop = op_stop,
                               .remove = op_id,
                               .pause = op_id,
                               .unpause = op_id,
                               .weigh = op_id,
                               .cancel = op_cancel};
}

static inline void fill_service(struct config_service *s, const char *name)
{
    static char image[] = "image:1";

    *s = (struct config_service){.image = image,
                                 .idle_timeout_ms = 4000,
                                 .start_timeout_ms = 3000,
                                 .pull_timeout_ms = 6000,
                                 .pause_after_ms = name[0] == 'b' ? 1000 : -1,
                                 .max_instances = name[0] == 'b' ? 3 : 1,
                                 .concurrency = name[0] == 'b' ? 2 : 1,
                                 .queue = 4};
    snprintf(s->name, sizeof s->name, "%s", name);
    snprintf(s->spec, sizeof s->spec, "spec");
}

#endif
