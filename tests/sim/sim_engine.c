/* SPDX-License-Identifier: Apache-2.0 */
/* The fake engine: containers, verbs with latency and every kind of lie, events, other hands.
 * The difficulty: what a call does and what its caller is told are two things. */
#include "sim.h"
#include <stdio.h>
#include <stdlib.h>

#define FORGOTTEN_MOST 4 /* an address is not told so often in a row */
#define UNSENT_MS 5      /* a call may not have left a control that dies so soon after it */

/* --- containers --- */

static struct container *find_id(struct world *w, const char *id)
{
    for (size_t n = 0; n < w->engine.count; n++)
        if (w->engine.containers[n].c.state != ENGINE_NONE &&
            strcmp(w->engine.containers[n].c.id, id) == 0)
            return &w->engine.containers[n];
    return NULL;
}

static struct container *find(struct world *w, const char *id_or_name)
{
    struct container *c = find_id(w, id_or_name);

    for (size_t n = 0; !c && n < w->engine.count; n++)
        if (w->engine.containers[n].c.state != ENGINE_NONE &&
            strcmp(w->engine.containers[n].c.name, id_or_name) == 0)
            c = &w->engine.containers[n];
    return c;
}

struct container *engine_find(struct world *w, const char *id)
{
    return find_id(w, id);
}

static bool is_up(const struct container *c)
{
    return c->c.state == ENGINE_RUNNING || c->c.state == ENGINE_PAUSED;
}

/* The newest; but what a late create made beside one that somebody renamed, and that runs on under
 * that name, counts only while it runs itself. */
struct container *engine_named(struct world *w, const char *name)
{
    struct container *newest = NULL;

    for (size_t n = w->engine.count; n-- > 0;) {
        struct container *c = &w->engine.containers[n];
        if (strcmp(c->made_name, name) != 0)
            continue;
        if (is_up(c))
            return c;
        newest = newest ? newest : c;
    }
    return newest;
}

/* The oldest removed one's place: pointers of old exchanges to it are ended long since. */
static struct container *place(struct world *w)
{
    struct fake_engine *e = &w->engine;
    struct container *c = NULL;

    if (e->count < SIM_MAX_CONTAINERS)
        return &e->containers[e->count++];
    for (size_t n = 0; n < e->count; n++)
        if (e->containers[n].c.state == ENGINE_NONE && e->containers[n].exchanges == 0 &&
            (!c || e->containers[n].ended_ms < c->ended_ms))
            c = &e->containers[n];
    SIM_ASSERT(w, c && "the engine is full");
    return c;
}

struct container *engine_container_new(struct world *w, const char *name, const char *owner,
                                       const char *service, const char *spec)
{
    struct container *c = place(w);

    *c = (struct container){
        .service = -1, .address = -1, .listens_ms = KG_NEVER, .frozen_ms = KG_NEVER};
    snprintf(c->c.id, sizeof c->c.id, "%016llx%08llx", (unsigned long long)sim_random(w),
             (unsigned long long)++w->engine.ids);
    snprintf(c->c.name, sizeof c->c.name, "%s", name);
    snprintf(c->made_name, sizeof c->made_name, "%s", name);
    snprintf(c->c.owner, sizeof c->c.owner, "%s", owner);
    snprintf(c->c.service, sizeof c->c.service, "%s", service);
    snprintf(c->c.spec, sizeof c->c.spec, "%s", spec);
    c->c.sealed = true;
    c->c.state = ENGINE_CREATED;
    return c;
}

static struct sockaddr_storage address_of(int n)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in *a = (struct sockaddr_in *)&storage;

    a->sin_family = AF_INET;
    a->sin_port = htons(9000);
    a->sin_addr.s_addr = htonl(0x0a000001u + (uint32_t)n);
    return storage;
}

bool engine_give_address(struct world *w, struct container *c)
{
    int first = (int)sim_between(w, 0, w->addresses - 1);

    for (int n = 0; n < w->addresses; n++) {
        int at = (first + n) % w->addresses;
        if (w->engine.address_user[at] >= 0)
            continue;
        w->engine.address_user[at] = (int)(c - w->engine.containers);
        c->address = at;
        c->c.address = address_of(at);
        c->c.address_length = sizeof(struct sockaddr_in);
        return true;
    }
    return false;
}

static void take_address(struct world *w, struct container *c)
{
    if (c->address >= 0)
        w->engine.address_user[c->address] = -1;
    c->address = -1;
    c->c.address = (struct sockaddr_storage){0};
    c->c.address_length = 0;
}

struct container *engine_at(struct world *w, const struct sockaddr_storage *address)
{
    const struct sockaddr_in *a = (const struct sockaddr_in *)address;
    int n = (int)(ntohl(a->sin_addr.s_addr) - 0x0a000001u);

    SIM_ASSERT(w, n >= 0 && n < SIM_ADDRESSES);
    return w->engine.address_user[n] < 0 ? NULL : &w->engine.containers[w->engine.address_user[n]];
}

bool engine_listens(struct world *w, const struct container *c)
{
    return c->c.state == ENGINE_RUNNING && c->listens_ms <= w->now_ms;
}

bool engine_accepts(struct world *w, const struct container *c)
{
    return is_up(c) && c->listens_ms <= w->now_ms;
}

/* --- events --- */

struct told {
    struct engine_event event;
    uint64_t generation;
    size_t container;
};

static void run_event(struct world *w, struct task *t)
{
    struct told *told = t->what;

    if (told->generation == w->fleet_generation && w->engine.up) {
        struct container *c = &w->engine.containers[told->container];
        if (told->event.kind == ENGINE_EVENT_DIE &&
            strcmp(c->c.id, told->event.container.id) == 0 && c->told_ms == 0 && !is_up(c))
            c->told_ms = w->now_ms;
        fleet_engine_event(w->fleet, &told->event, w->now_ms);
    }
    free(told);
}

static void send_event(struct world *w, const struct container *c, enum engine_event_kind kind)
{
    struct told *told = malloc(sizeof *told);
    int64_t delay_ms = sim_between(w, 1, 25);

    SIM_ASSERT(w, told != NULL);
    *told = (struct told){.event = {kind, c->c},
                          .generation = w->fleet_generation,
                          .container = (size_t)(c - w->engine.containers)};
    if (!w->calm && sim_often(w, TRAIT_EVENT_LATE))
        delay_ms = sim_between(w, 25, 900);
    sim_later(w, delay_ms, run_event, told, 0);
}

void engine_tell(struct world *w, const struct container *c, enum engine_event_kind kind)
{
    if (!w->engine.up || !w->fleet)
        return;
    if (w->engine.mute || (!w->calm && !w->only_crashes && sim_often(w, TRAIT_EVENT_LOST))) {
        w->counts->events_lost++;
        return;
    }
    send_event(w, c, kind);
    if (!w->calm && sim_often(w, TRAIT_EVENT_TWICE))
        send_event(w, c, kind);
}

/* --- life and death of workers --- */

void engine_worker_dies(struct world *w, struct container *c, int code, bool oom)
{
    if (!is_up(c))
        return;
    c->c.state = ENGINE_EXITED;
    c->c.exit_code = code;
    c->c.oom_killed = oom;
    c->ended_ms = w->now_ms;
    take_address(w, c);
    container_breaks(w, c);
    if (oom)
        engine_tell(w, c, ENGINE_EVENT_OOM);
    engine_tell(w, c, ENGINE_EVENT_DIE);
}

static void run_boot_end(struct world *w, struct task *t)
{
    struct container *c = &w->engine.containers[t->number];

    if (t->other != strtoull(c->c.id + 16, NULL, 16))
        return; /* its place was given away */
    if (c->boot == BOOT_OOM)
        engine_worker_dies(w, c, 137, true);
    else if (c->boot == BOOT_EXITS)
        engine_worker_dies(w, c, 3, false);
}

void engine_boot(struct world *w, struct container *c)
{
    struct task *t;

    c->c.state = ENGINE_RUNNING;
    c->listens_ms = KG_NEVER;
    c->begun_before = false;
    c->ended_ms = c->told_ms = c->ready_ms = 0;
    if (c->boot == BOOT_LISTENS)
        c->listens_ms = w->now_ms + sim_between(w, 0, 120);
    t = sim_later(w, sim_between(w, 0, 80), run_boot_end, NULL,
                  (uint64_t)(c - w->engine.containers));
    t->other = strtoull(c->c.id + 16, NULL, 16);
    engine_tell(w, c, ENGINE_EVENT_START);
}

void engine_destroy(struct world *w, struct container *c)
{
    engine_worker_dies(w, c, 137, false);
    engine_tell(w, c, ENGINE_EVENT_DESTROY);
    c->c.state = ENGINE_NONE;
    if (c->ended_ms == 0)
        c->ended_ms = w->now_ms;
}

/* --- what calls do --- */

static void do_pull(struct world *w, struct call *call)
{
    if (!w->calm && !w->only_crashes && sim_chance(w, 15)) {
        call->answer.code = KG_EIO;
        w->engine.no_image_ms[call->service] = w->now_ms;
        snprintf(call->answer.words, sizeof call->answer.words, "manifest unknown");
        return;
    }
    w->engine.image[call->service] = true;
}

static enum boot choose_boot(struct world *w, int service)
{
    if (w->calm || !sim_chance(w, w->bad[service]))
        return BOOT_LISTENS;
    return (enum boot)sim_between(w, BOOT_EXITS, BOOT_BAD_COMMAND);
}

/* Somebody else has the name already, perhaps with all the labels: not with the seal. */
static void make_foreign(struct world *w, const struct call *call)
{
    bool copies = sim_chance(w, 30);
    const char *owner = copies || sim_chance(w, 50) ? SIM_OWNER : "somebody-else";
    struct container *c;

    w->counts->conflicts++;
    c = engine_container_new(w, call->target, owner,
                             copies ? w->services[call->service].name : "another-service",
                             copies ? call->spec : "x");
    c->c.sealed = !copies;
}

static void do_create(struct world *w, struct call *call)
{
    struct container *c;

    if (!w->engine.image[call->service]) {
        call->answer.code = KG_ENOTFOUND;
        w->engine.no_image_ms[call->service] = w->now_ms;
        return;
    }
    if (!w->calm && sim_often(w, TRAIT_NAME_TAKEN) && !find(w, call->target))
        make_foreign(w, call);
    if (find(w, call->target)) {
        call->answer.code = KG_ECONFLICT;
        return;
    }
    if (!call->cancelled)
        judge_create(w, call->service, call->spec);
    c = engine_container_new(w, call->target, SIM_OWNER, w->services[call->service].name,
                             call->spec);
    c->service = call->service;
    c->ours = true;
    sim_say(w, "%s is made", c->c.name);
    c->boot = choose_boot(w, call->service);
    w->engine.made[call->service]++;
    w->counts->creates++;
    call->answer.container = c->c;
    engine_tell(w, c, ENGINE_EVENT_CREATE);
    engine_meddle_early(w, c);
}

static void do_start(struct world *w, struct call *call)
{
    struct container *c = find_id(w, call->target);

    if (!c) {
        call->answer.code = KG_ENOTFOUND;
    } else if (is_up(c)) {
        call->answer.already = true;
    } else if (c->boot == BOOT_BAD_COMMAND) {
        call->answer.code = KG_EINVAL;
        c->c.exit_code = 127;
    } else if (!engine_give_address(w, c)) {
        call->answer.code = KG_EIO;
    } else {
        c->by_hand |= call->late && c->c.state == ENGINE_EXITED; /* a life that nobody asked for */
        engine_boot(w, c);
        c->begun_before = call->cancelled;
    }
}

static void do_look(struct world *w, struct call *call)
{
    struct container *c = find(w, call->target);
    bool forgets;

    if (!c) {
        call->answer.container.state = ENGINE_NONE;
        return;
    }
    call->answer.container = c->c;
    forgets = !w->calm && sim_often(w, TRAIT_NO_ADDRESS) && c->forgotten < FORGOTTEN_MOST;
    c->forgotten = forgets ? c->forgotten + 1 : 0;
    if (!call->has_service || forgets) {
        call->answer.container.address = (struct sockaddr_storage){0};
        call->answer.container.address_length = 0;
    }
}

static void do_stop(struct world *w, struct call *call)
{
    struct container *c = find_id(w, call->target);

    if (!c || !is_up(c))
        return;
    judge_stop(w, c);
    engine_worker_dies(w, c, 143, false);
}

static void do_remove(struct world *w, struct call *call)
{
    struct container *c = find_id(w, call->target);

    if (!c) {
        call->answer.code = KG_ENOTFOUND;
        return;
    }
    judge_stop(w, c);
    w->counts->removes++;
    engine_destroy(w, c);
}

static void do_pause(struct world *w, struct call *call)
{
    struct container *c = find_id(w, call->target);

    if (!c) {
        call->answer.code = KG_ENOTFOUND;
    } else if (c->c.state == ENGINE_RUNNING) {
        c->c.state = ENGINE_PAUSED;
        c->by_hand |= call->late; /* long after it was given up: nobody's fault */
        engine_tell(w, c, ENGINE_EVENT_PAUSE);
    } else if (c->c.state == ENGINE_PAUSED) {
        call->answer.already = true;
    } else {
        call->answer.code = KG_ECONFLICT;
    }
}

static void do_unpause(struct world *w, struct call *call)
{
    struct container *c = find_id(w, call->target);

    if (!c) {
        call->answer.code = KG_ENOTFOUND;
    } else if (c->c.state == ENGINE_PAUSED) {
        c->c.state = ENGINE_RUNNING;
        engine_tell(w, c, ENGINE_EVENT_UNPAUSE);
    } else if (c->c.state == ENGINE_RUNNING) {
        call->answer.already = true;
    } else {
        call->answer.code = KG_ECONFLICT;
    }
}

static void do_weigh(struct world *w, struct call *call)
{
    call->answer.memory_bytes = sim_between(w, -1, 1000);
}

static void do_effect(struct world *w, struct call *call)
{
    static void (*const effects[VERB_COUNT])(struct world *, struct call *) = {
        do_pull, do_create, do_start, do_look, do_stop, do_remove, do_pause, do_unpause, do_weigh};

    if (call->done_effect || call->never)
        return;
    call->done_effect = true;
    effects[call->verb](w, call);
}

/* --- calls --- */

static void call_unref(struct call *call)
{
    if (--call->references > 0)
        return;
    kg_list_remove(&call->link);
    free(call);
}

static void run_effect(struct world *w, struct task *t)
{
    struct call *call = t->what;

    if (w->engine.up || call->late)
        do_effect(w, call);
    call_unref(call);
}

static void run_nothing(struct world *w, struct task *t)
{
    (void)w;
    call_unref(t->what);
}

static void note_told(struct world *w, const struct call *call, const struct engine_answer *a)
{
    struct container *c = call->verb == VERB_LOOK ? find(w, call->target) : NULL;
    bool up = a->container.state == ENGINE_RUNNING || a->container.state == ENGINE_PAUSED;

    if (c && a->code == 0 && !up && !is_up(c) && c->told_ms == 0)
        c->told_ms = w->now_ms;
}

static void run_answer(struct world *w, struct task *t)
{
    struct call *call = t->what;
    struct engine_answer answer = call->answer;

    if (!call->answered && !call->cancelled) {
        call->answered = true;
        call->forced_code = (int)(int64_t)t->number;
        if (!call->forced_code && !call->done_effect)
            call->forced_code = KG_ECLOSED; /* the engine went in the same instant */
        if (call->forced_code) {
            answer = (struct engine_answer){.code = call->forced_code};
            snprintf(answer.words, sizeof answer.words, "forced");
        }
        note_told(w, call, &answer);
        call->done(call->arg, &answer);
    }
    call_unref(call);
}

static void later(struct world *w, struct call *call, int64_t delay_ms, task_run *run, int code)
{
    call->references++;
    sim_later(w, delay_ms, run, call, (uint64_t)(int64_t)code);
}

static int64_t latency(struct world *w, enum verb verb)
{
    static const int most[VERB_COUNT] = {[VERB_PULL] = 1500, [VERB_CREATE] = 10, [VERB_START] = 160,
                                         [VERB_LOOK] = 2,    [VERB_STOP] = 60,   [VERB_REMOVE] = 8,
                                         [VERB_PAUSE] = 8,   [VERB_UNPAUSE] = 8, [VERB_WEIGH] = 3};

    if (verb == VERB_STOP && !w->calm &&
        sim_often(w, TRAIT_SLOW_STOP)) /* it takes its time to end */
        return sim_between(w, 60, 3000);
    return sim_between(w, 1, most[verb]);
}

enum fate {
    FATE_LOST,
    FATE_DONE_LOST,
    FATE_LATE,
    FATE_CLOSED,
    FATE_DONE_CLOSED,
    FATE_GARBAGE,
    FATE_ERROR,
    FATE_NEVER,
    FATE_COUNT
};

static void go_wrong(struct world *w, struct call *call, int64_t ms)
{
    enum fate fate = (enum fate)sim_between(w, 0, FATE_COUNT - 1);
    struct container *about = find(w, call->target);
    int64_t timeout_ms = sim_between(w, 300, 10000);
    bool happens = fate == FATE_DONE_LOST || fate == FATE_DONE_CLOSED || fate == FATE_GARBAGE ||
                   (fate == FATE_NEVER && sim_chance(w, 50));

    w->counts->faults[call->verb]++;
    if (call->verb == VERB_PULL)
        w->engine.no_image_ms[call->service] = w->now_ms + timeout_ms;
    w->engine.fault_ms = w->now_ms + timeout_ms + 20000;
    if (about)
        about->fault_ms = w->engine.fault_ms;
    if (happens)
        later(w, call, ms, run_effect, 0);
    if (fate == FATE_LATE) {
        call->late = true;
        later(w, call, timeout_ms + sim_between(w, 1, 5000), run_effect, 0);
    }
    if (fate == FATE_LOST || fate == FATE_DONE_LOST || fate == FATE_LATE)
        later(w, call, timeout_ms, run_answer, KG_ETIMEOUT);
    else if (fate == FATE_CLOSED || fate == FATE_DONE_CLOSED)
        later(w, call, ms + 1, run_answer, KG_ECLOSED);
    else if (fate == FATE_GARBAGE)
        later(w, call, ms + 1, run_answer, KG_EPROTO);
    else if (fate == FATE_ERROR)
        later(w, call, ms + 1, run_answer, KG_EIO);
    else /* the fleet's own deadline must notice; the task only keeps the call until then */
        later(w, call, 100000, run_nothing, 0);
}

/* What is answered was true when it was found out. */
static int64_t answer_delay(struct world *w)
{
    bool slow = !w->calm && !w->only_crashes && sim_often(w, TRAIT_SLOW_ANSWER);

    return slow ? sim_between(w, 3, 300) : sim_between(w, 1, 3);
}

static uint64_t call_new(struct world *w, enum verb verb, const struct config_service *s,
                         const char *target, engine_done *done, void *arg)
{
    struct call *call;
    int64_t ms = latency(w, verb);

    if (!w->calm && sim_permille(w, 2))
        return 0; /* no memory */
    if (!w->calm && sim_permille(w, w->crash_permille * (verb == w->crash_verb ? 20 : 1))) {
        sim_crash_soon(w, ms < 100 ? ms : 100); /* before it is done, or told, or written down */
        if (verb == VERB_STOP)
            ms = sim_between(w, ms, 3000); /* the next run is there when it is done */
    }
    call = calloc(1, sizeof *call);
    SIM_ASSERT(w, call != NULL);
    kg_list_push_back(&w->engine.open, &call->link);
    call->number = ++w->engine.calls;
    call->made_ms = w->now_ms;
    call->verb = verb;
    call->done = done;
    call->arg = arg;
    call->has_service = s != NULL;
    if (s)
        call->service = (int)(s->name[strlen(s->name) - 1] - '0');
    if (s)
        snprintf(call->spec, sizeof call->spec, "%s", s->spec);
    snprintf(call->target, sizeof call->target, "%s", target);
    if (!w->engine.up) {
        later(w, call, sim_between(w, 1, 3), run_answer, KG_ECLOSED);
    } else if (!w->calm && sim_chance(w, w->fault_percent)) {
        go_wrong(w, call, ms);
    } else {
        int64_t answer_ms = ms + answer_delay(w);
        if (verb == VERB_PULL && answer_ms > 900) /* it may take longer than the service allows */
            w->engine.no_image_ms[call->service] = w->now_ms + answer_ms;
        later(w, call, ms, run_effect, 0);
        later(w, call, answer_ms, run_answer, 0);
    }
    return call->number;
}

static uint64_t op_pull(void *self, const struct config_service *s, engine_done *done, void *arg)
{
    return call_new(self, VERB_PULL, s, "", done, arg);
}

static uint64_t op_image(void *self, const struct config_service *s, engine_done *done, void *arg)
{
    (void)s, (void)done, (void)arg;
    sim_fail(self, "the fleet does not ask for images");
}

static uint64_t op_create(void *self, const struct config_service *s, const char *name,
                          engine_done *done, void *arg)
{
    struct world *w = self;

    SIM_ASSERT(w, w->listed && "a create before the first list");
    SIM_ASSERT(w, s && "a create of what is not configured");
    judge_create_asked(w, name);
    return call_new(w, VERB_CREATE, s, name, done, arg);
}

static uint64_t op_start(void *self, const char *id, engine_done *done, void *arg)
{
    struct world *w = self;
    const struct container *c = find_id(w, id);

    if (c && !w->calm && !w->only_crashes && sim_often(w, TRAIT_CHANGED_AT_START))
        reconfigure_soon(w, c->service);
    return call_new(self, VERB_START, NULL, id, done, arg);
}

static uint64_t op_inspect(void *self, const struct config_service *s, const char *id_or_name,
                           engine_done *done, void *arg)
{
    return call_new(self, VERB_LOOK, s, id_or_name, done, arg);
}

static uint64_t op_stop(void *self, const char *id, int64_t grace_ms, engine_done *done, void *arg)
{
    struct container *c = find_id(self, id);

    (void)grace_ms;
    if (c)
        c->ordered_down = true;
    return call_new(self, VERB_STOP, NULL, id, done, arg);
}

static uint64_t op_remove(void *self, const char *id, engine_done *done, void *arg)
{
    return call_new(self, VERB_REMOVE, NULL, id, done, arg);
}

static uint64_t op_pause(void *self, const char *id, engine_done *done, void *arg)
{
    judge_pause(self, id);
    return call_new(self, VERB_PAUSE, NULL, id, done, arg);
}

static uint64_t op_unpause(void *self, const char *id, engine_done *done, void *arg)
{
    return call_new(self, VERB_UNPAUSE, NULL, id, done, arg);
}

static uint64_t op_weigh(void *self, const char *id, engine_done *done, void *arg)
{
    return call_new(self, VERB_WEIGH, NULL, id, done, arg);
}

static void op_cancel(void *self, uint64_t operation)
{
    struct world *w = self;

    KG_LIST_EACH(it, &w->engine.open)
    {
        struct call *call = KG_LIST_ENTRY(it, struct call, link);
        if (call->number != operation)
            continue;
        SIM_ASSERT(w, !call->answered && !call->cancelled);
        call->cancelled = true;
        return;
    }
    sim_fail(w, "a cancel of no call");
}

const struct engine_ops *engine_fake_ops(struct world *w)
{
    static struct engine_ops ops = {.pull = op_pull,
                                    .image = op_image,
                                    .create = op_create,
                                    .start = op_start,
                                    .inspect = op_inspect,
                                    .stop = op_stop,
                                    .remove = op_remove,
                                    .pause = op_pause,
                                    .unpause = op_unpause,
                                    .weigh = op_weigh,
                                    .cancel = op_cancel};

    ops.self = w;
    return &ops;
}

void engine_forget_calls(struct world *w)
{
    w->engine.list = 0;
    KG_LIST_EACH(it, &w->engine.open)
    {
        struct call *call = KG_LIST_ENTRY(it, struct call, link);
        call->cancelled = true;
        if (w->now_ms - call->made_ms < UNSENT_MS && sim_often(w, TRAIT_NEVER_SENT))
            call->never = true;
    }
}

/* --- coming and going --- */

static void run_state(struct world *w, struct task *t)
{
    if (!w->fleet || t->other != w->fleet_generation || w->engine.up != (t->number != 0))
        return;
    judge_no_rest(w);
    if (t->number == 0)
        w->kept_ms = w->now_ms;
    fleet_engine_state(w->fleet, t->number != 0, "as the simulator says", w->now_ms);
    if (t->number)
        engine_list(w);
}

static void say_state(struct world *w, bool up, int64_t delay_ms)
{
    struct task *t = sim_later(w, delay_ms, run_state, NULL, up);

    t->other = w->fleet_generation;
}

void engine_attach(struct world *w)
{
    if (w->engine.up)
        say_state(w, true, sim_between(w, 1, 20));
}

void engine_lose(struct world *w)
{
    bool kills = sim_chance(w, 60), first = sim_chance(w, 30);

    w->counts->engine_losses++;
    w->engine.list = 0;
    for (int n = 0; n < SIM_SERVICES; n++)
        w->engine.no_image_ms[n] = w->now_ms; /* pulls begin anew and may come too late */
    judge_no_rest(w);
    w->engine.fault_ms = w->engine.away_ms = w->now_ms + 30000;
    if (!first)
        w->engine.up = false; /* killed: no events of what follows */
    for (size_t n = 0; kills && n < w->engine.count; n++)
        if (is_up(&w->engine.containers[n]))
            engine_worker_dies(w, &w->engine.containers[n], 137, false);
    w->engine.up = false;
    KG_LIST_EACH_SAFE(it, &w->engine.open)
    {
        struct call *call = KG_LIST_ENTRY(it, struct call, link);
        if (!call->done_effect && !call->late && sim_chance(w, 50))
            do_effect(w, call);
        if (!call->late && !call->done_effect)
            call->never = true;
        if (!call->answered)
            later(w, call, sim_between(w, 1, 4), run_answer, KG_ECLOSED);
    }
    say_state(w, false, sim_between(w, 1, 30));
}

void engine_back(struct world *w)
{
    if (w->engine.up)
        return;
    w->engine.up = true;
    w->engine.fault_ms = w->engine.away_ms = w->now_ms + 5000;
    say_state(w, true, sim_between(w, 1, 30));
}

void engine_begin(struct world *w)
{
    kg_list_init(&w->engine.open);
    for (int n = 0; n < SIM_ADDRESSES; n++)
        w->engine.address_user[n] = -1;
    for (int s = 0; s < SIM_SERVICES; s++)
        w->engine.image[s] = w->only_crashes || sim_chance(w, 70);
    w->engine.up = w->only_crashes || !sim_chance(w, 10);
}

void engine_end(struct world *w)
{
    KG_LIST_EACH_SAFE(it, &w->engine.open)
    free(KG_LIST_ENTRY(it, struct call, link));
}

/* What a task that never ran would have freed. */
void engine_drop_task(struct task *t)
{
    if (t->run == run_event)
        free(t->what);
    engine_drop_list(t);
}
