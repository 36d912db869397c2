/* SPDX-License-Identifier: Apache-2.0 */
/* The admin API on a real fleet and an engine of the test's own. The difficulty: answers come when
 * the fleet is done, so the case is also the loop: it hands over what waits until nothing does. */
#ifndef TESTS_ADMIN_CASE_H
#define TESTS_ADMIN_CASE_H

#include "orchestrator/admin_priv.h"
#include "orchestrator/config_priv.h"
#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_REPLIES 64
#define MAX_PENDING 128
#define MAX_MADE 128

/* --- an engine that does what it is told --------------------------------------------------- */

static bool engine_up = true;
static struct kg_histogram ping_times;

/* The real client's words, which the admin API asks for: this test's engine has no client. */
bool engine_is_up(const struct engine *e)
{
    (void)e;
    return engine_up;
}

const char *engine_down_why(const struct engine *e)
{
    (void)e;
    return "connection refused";
}

const struct kg_histogram *engine_call_times(const struct engine *e, size_t index, const char **op)
{
    (void)e;
    *op = "ping";
    return index == 0 ? &ping_times : NULL;
}

static struct pending {
    engine_done *done;
    void *arg;
    struct engine_answer answer;
} pending[MAX_PENDING];
static size_t pending_count;
static bool exists, dies; /* the container; an engine whose containers end at once */
static char made[MAX_MADE][ENGINE_NAME_BYTES];
static size_t made_count;

/* Each container has an id of its own. */
static void set_id(struct engine_container *c, const char *name_or_id)
{
    char id[32] = "c0ffee";

    for (size_t n = 0; n < made_count; n++) {
        if (n > 0)
            snprintf(id, sizeof id, "c0ffee%zu", n);
        if (strcmp(made[n], name_or_id) == 0 || strcmp(id, name_or_id) == 0)
            snprintf(c->id, sizeof c->id, "%s", id);
    }
}

static uint64_t later(engine_done *done, void *arg, int code, const char *words)
{
    struct pending *p = &pending[pending_count];

    ck_assert_uint_lt(pending_count, MAX_PENDING);
    *p = (struct pending){done, arg, {.code = code, .status = code ? 500 : 200}};
    snprintf(p->answer.words, sizeof p->answer.words, "%s", words);
    snprintf(p->answer.container.id, sizeof p->answer.container.id, "c0ffee");
    p->answer.container.state = exists ? ENGINE_RUNNING : ENGINE_NONE;
    return ++pending_count;
}

static uint64_t op_image(void *self, const struct config_service *s, engine_done *done, void *arg)
{
    (void)self;
    (void)s;
    return later(done, arg, 0, "");
}

static uint64_t op_create(void *self, const struct config_service *s, const char *name,
                          engine_done *done, void *arg)
{
    uint64_t number = later(done, arg, 0, "");

    (void)self;
    (void)s;
    exists = true;
    ck_assert_uint_lt(made_count, MAX_MADE);
    snprintf(made[made_count++], sizeof made[0], "%s", name);
    set_id(&pending[pending_count - 1].answer.container, name);
    return number;
}

static uint64_t op_start(void *self, const char *id, engine_done *done, void *arg)
{
    (void)self;
    (void)id;
    return later(done, arg, 0, "");
}

static uint64_t op_inspect(void *self, const struct config_service *s, const char *name,
                           engine_done *done, void *arg)
{
    uint64_t number = later(done, arg, 0, "");
    struct engine_container *c = &pending[pending_count - 1].answer.container;
    struct sockaddr_in *in = (void *)&c->address;

    (void)self;
    set_id(c, name);
    snprintf(c->name, sizeof c->name, "%s", name);
    if (s) {
        snprintf(c->service, sizeof c->service, "%s", s->name);
        snprintf(c->spec, sizeof c->spec, "%s", s->spec);
    }
    snprintf(c->owner, sizeof c->owner, "test");
    c->sealed = true;
    if (exists && dies) {
        c->state = ENGINE_EXITED;
        c->exit_code = 7;
    }
    in->sin_family = AF_INET;
    in->sin_port = htons(8080);
    inet_pton(AF_INET, "10.1.2.3", &in->sin_addr);
    c->address_length = sizeof *in;
    return number;
}

static uint64_t op_stop(void *self, const char *id, int64_t grace_ms, engine_done *done, void *arg)
{
    (void)self;
    (void)id;
    (void)grace_ms;
    return later(done, arg, 0, "");
}

static uint64_t op_remove(void *self, const char *id, engine_done *done, void *arg)
{
    (void)self;
    (void)id;
    exists = false;
    return later(done, arg, 0, "");
}

static void op_cancel(void *self, uint64_t operation)
{
    (void)self;
    if (operation <= pending_count)
        pending[operation - 1].done = NULL;
}

static const struct engine_ops ops = {
    .pull = op_image,
    .image = op_image,
    .create = op_create,
    .start = op_start,
    .inspect = op_inspect,
    .stop = op_stop,
    .remove = op_remove,
    .cancel = op_cancel,
};

/* --- fronts, control ----------------------------------------------------------------------- */

static struct reply {
    uint64_t request;
    int status;
    int64_t retry_after_ms;
    char type[64], allow[32];
    struct kg_buf body;
    bool last;
} replies[MAX_REPLIES];
static size_t reply_count;
static uint64_t gone_request; /* its asker has left */

static struct fleet *fleet;
static struct admin *admin;
static struct config *config;
static struct proxy_stats *pages[2];
static uint64_t probing, request_number;
static int64_t now_ms;
static bool listening, draining, reload_fails;

static void no_grant(void *self, int front, uint64_t ticket, uint32_t service, uint64_t instance,
                     unsigned slots, enum proxy_warmth warmth, bool thawed,
                     const struct engine_container *where, int64_t linger_ms)
{
    (void)self;
    (void)front;
    (void)ticket;
    (void)service;
    (void)instance;
    (void)slots;
    (void)warmth;
    (void)thawed;
    (void)where;
    (void)linger_ms;
}

static void no_refuse(void *self, int front, uint64_t ticket, unsigned reason,
                      int64_t retry_after_ms, const char *detail)
{
    (void)self;
    (void)front;
    (void)ticket;
    (void)reason;
    (void)retry_after_ms;
    (void)detail;
}

static void on_probe(void *self, int front, uint64_t instance, const struct config_service *s,
                     const struct engine_container *where)
{
    (void)self;
    (void)front;
    (void)s;
    (void)where;
    probing = instance;
}

static void no_instance(void *self, int front, uint64_t instance)
{
    (void)self;
    (void)front;
    (void)instance;
}

static void changed(void *self, const struct fleet_change *change)
{
    (void)self;
    admin_changed(admin, change);
}

static void cold_start(void *self, uint32_t service, bool success, const char *result,
                       const int64_t phase_ms[FLEET_PHASES])
{
    (void)self;
    admin_cold_start(admin, service, success, result, phase_ms);
}

static void reaped(void *self, uint32_t service, const char *action)
{
    (void)self;
    admin_reaped(admin, service, action);
}

static int64_t the_time(void *arg)
{
    (void)arg;
    return now_ms;
}

static const struct config *the_config(void *self)
{
    (void)self;
    return config;
}

static int reload(void *self, struct config_errors *errors)
{
    (void)self;
    if (!reload_fails)
        return 0;
    kg_buf_puts(&errors->text, "k.json:1:2: a: \"wrong\"\nk.json:3:4: b: worse\n");
    errors->count = 2;
    return KG_EINVAL;
}

static int apply(void *self, struct config *next, struct config_errors *errors)
{
    struct config *old = config;

    (void)self;
    (void)errors;
    ck_assert_int_eq(fleet_configure(fleet, next, now_ms), 0);
    config = next;
    config_free(old);
    admin_configured(admin);
    return 0;
}

static const struct proxy_stats *stats(void *self, size_t front)
{
    (void)self;
    return front < 2 ? pages[front] : NULL;
}

static bool is_listening(void *self)
{
    (void)self;
    return listening;
}

static bool is_draining(void *self)
{
    (void)self;
    return draining;
}

static struct reply *reply_to(uint64_t request)
{
    for (size_t i = 0; i < reply_count; i++)
        if (replies[i].request == request)
            return &replies[i];
    return NULL;
}

static bool on_reply(void *self, uint64_t request, const struct proxy_local_answer *a)
{
    struct reply *r = reply_to(request);

    (void)self;
    if (request == gone_request)
        return false;
    if (!r) {
        ck_assert_uint_lt(reply_count, MAX_REPLIES);
        r = &replies[reply_count++];
        *r = (struct reply){
            .request = request, .status = a->status, .retry_after_ms = a->retry_after_ms};
        snprintf(r->type, sizeof r->type, "%s", a->type);
        snprintf(r->allow, sizeof r->allow, "%s", a->allow ? a->allow : "");
        kg_buf_init(&r->body, KG_MAX_CONFIG_BYTES);
    }
    ck_assert(!r->last);
    kg_buf_append(&r->body, a->body.p, a->body.n);
    r->last = a->last;
    return true;
}

/* --- the loop ------------------------------------------------------------------------------ */

static void hand_over(void)
{
    struct pending all[MAX_PENDING];
    size_t n = pending_count;

    memcpy(all, pending, sizeof all);
    for (size_t i = 0; i < n; i++) {
        pending[i].done = NULL;
        if (all[i].done)
            all[i].done(all[i].arg, &all[i].answer);
    }
    if (n == pending_count)
        pending_count = 0;
}

static inline void loop(int64_t for_ms)
{
    for (int64_t end_ms = now_ms + for_ms; now_ms < end_ms; now_ms++) {
        hand_over();
        if (probing) {
            uint64_t instance = probing;
            probing = 0;
            fleet_probed(fleet, 0, instance, now_ms);
        }
        if (fleet_due_ms(fleet) <= now_ms)
            fleet_tick(fleet, now_ms);
    }
}

static void open_fleet(void)
{
    const struct fleet_params params = {
        .engine = &ops,
        .fronts = {NULL, no_grant, no_refuse, no_instance, on_probe, no_instance, no_instance,
                   NULL},
        .observer = {.changed = changed, .cold_start = cold_start, .reaped = reaped},
        .owner = "test",
        .max_starts = 4,
        .seed = 1,
        .now_ms = the_time};

    fleet = fleet_new(&params, now_ms);
    ck_assert_ptr_nonnull(fleet);
    ck_assert_int_eq(fleet_configure(fleet, config, now_ms), 0);
    fleet_front_up(fleet, 0, now_ms);
    fleet_engine_state(fleet, true, "", now_ms);
    fleet_engine_list(fleet, NULL, 0, now_ms, now_ms);
}

static void open_admin(void)
{
    const struct admin_params params = {.fleet = fleet,
                                        .config = the_config,
                                        .reload = reload,
                                        .apply = apply,
                                        .stats = stats,
                                        .listening = is_listening,
                                        .draining = is_draining,
                                        .reply = on_reply};

    admin = admin_new(&params);
    ck_assert_ptr_nonnull(admin);
    admin_configured(admin);
}

static inline void add(const char *name, const char *json)
{
    struct config_errors errors = {0};
    struct config *next = config_with_service(config, name, kg_str_of(json), "test", &errors);

    ck_assert_msg(next != NULL, "%s", errors.text.data);
    config_free(config);
    config = next;
    config_errors_fini(&errors);
}

static inline void setup(void)
{
    now_ms = 1000;
    config = config_new();
    ck_assert_ptr_nonnull(config);
    add("a", "{\"image\": \"x\", \"routes\": [\"/a\"], \"idle_timeout\": \"2s\", "
             "\"pull\": \"never\"}");
    add("b", "{\"image\": \"x\", \"routes\": [\"/b\"]}");
    for (size_t i = 0; i < 2; i++)
        ck_assert_ptr_nonnull(pages[i] = calloc(1, sizeof *pages[i]));
    engine_up = listening = true;
    exists = dies = draining = reload_fails = false;
    probing = request_number = gone_request = 0;
    pending_count = made_count = 0;
    ping_times = (struct kg_histogram){.count = 0};
    open_fleet();
    open_admin();
}

static inline void teardown(void)
{
    admin_free(admin);
    fleet_free(fleet);
    config_free(config);
    for (size_t i = 0; i < 2; i++)
        free(pages[i]);
    for (size_t i = 0; i < reply_count; i++)
        kg_buf_fini(&replies[i].body);
    reply_count = 0;
}

static inline uint64_t ask_for(const char *method, const char *path, const char *body)
{
    const struct admin_request r = {.id = ++request_number,
                                    .method = kg_str_of(method),
                                    .path = kg_str_of(path),
                                    .body = kg_str_of(body)};

    admin_request(admin, &r, now_ms);
    return request_number;
}

/* The answer to a request that is answered at once. */
static inline const struct reply *ask(const char *method, const char *path, const char *body)
{
    const struct reply *r = reply_to(ask_for(method, path, body));

    ck_assert_msg(r && r->last, "%s %s", method, path);
    return r;
}

static inline struct json *parsed(const struct reply *r)
{
    struct json *n = json_parse(kg_buf_str(&r->body), KG_MAX_CONFIG_BYTES, 16, NULL, NULL);

    ck_assert_msg(n != NULL, "%s", r->body.data);
    return n;
}

/* A problem of that status and reason; `words` are in its detail. */
static inline void is_problem(const struct reply *r, int status, const char *reason,
                              const char *words)
{
    struct json *n = parsed(r);
    char type[64];

    snprintf(type, sizeof type, "urn:kipgate:%s", reason);
    ck_assert_msg(r->status == status, "%d: %s", r->status, r->body.data);
    ck_assert_str_eq(r->type, "application/problem+json");
    ck_assert_str_eq(json_string(json_get(n, "type"), ""), type);
    ck_assert_int_eq((int)json_number(json_get(n, "status"), 0), status);
    ck_assert_str_ne(json_string(json_get(n, "title"), ""), "");
    ck_assert_str_ne(json_string(json_get(n, "instance"), ""), "");
    ck_assert_msg(strstr(json_string(json_get(n, "detail"), ""), words) != NULL, "%s",
                  r->body.data);
    json_free(n);
}

static inline int wake(const char *path)
{
    uint64_t request = ask_for("POST", path, "");
    const struct reply *r;

    ck_assert_ptr_null(reply_to(request)); /* answered when done */
    loop(50);
    r = reply_to(request);
    ck_assert_msg(r && r->last, "%s is not answered", path);
    return r->status;
}

/* Runs all of them; the exit status of a test program. */
static inline int run_cases(const char *name, const TTest *const *tests, size_t count)
{
    Suite *s = suite_create(name);
    TCase *t = tcase_create(name);
    SRunner *r = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(t, tests[i]);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}

#endif
