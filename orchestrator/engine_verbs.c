/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs: each one call, or a few in a row, answered once. The difficulty: the one who asked may
 * cancel it, or close the engine, from within any answer. */
#include "base/clock.h"
#include "base/log.h"
#include "orchestrator/engine_priv.h"
#include <stdio.h>
#include <stdlib.h>

/* Of a create: all of a configuration, each byte of it escaped. */
#define MAX_BODY_BYTES (7 * (size_t)KG_MAX_CONFIG_BYTES)

/* --- the life of an operation ------------------------------------------------------------- */

struct op *engine_op_new(struct engine *e, enum engine_kind kind, engine_done *done, void *arg,
                         int64_t timeout_ms)
{
    struct op *op = e->closing ? NULL : calloc(1, sizeof *op);

    if (!op)
        return NULL;
    op->engine = e;
    op->kind = kind;
    op->number = ++e->numbers;
    op->began_us = kg_clock_mono_us();
    op->due_ms = kg_clock_mono_ms() + timeout_ms;
    op->done = done;
    op->arg = arg;
    op->answer.memory_bytes = -1;
    kg_list_push_back(&e->running, &op->link);
    return op;
}

void engine_op_free(struct op *op)
{
    kg_list_remove(&op->link);
    engine_body_fini(&op->body);
    free(op->image);
    free(op->text);
    free(op->socket);
    free(op);
}

void engine_op_end(struct op *op)
{
    kg_list_remove(&op->link);
    engine_took(op->engine, op->kind, op->began_us);
    op->done(op->arg, &op->answer);
    engine_op_free(op);
}

uint64_t engine_op_fail(struct op *op, int code, const char *words)
{
    struct engine *e = op->engine;

    op->answer = (struct engine_answer){.code = code, .memory_bytes = -1};
    engine_clean_words(op->answer.words, sizeof op->answer.words, kg_str_of(words));
    kg_list_remove(&op->link);
    kg_list_push_back(&e->finished, &op->link);
    uv_timer_start(&e->soon, engine_on_soon, 0, 0);
    return op->number;
}

void engine_on_soon(uv_timer_t *timer)
{
    struct engine *e = timer->data;

    while (!e->closing && !kg_list_empty(&e->finished))
        engine_op_end(KG_LIST_ENTRY(kg_list_first(&e->finished), struct op, link));
}

/* --- calls -------------------------------------------------------------------------------- */

static void op_call(struct op *op);
static bool ask_whether_it_runs(struct op *op);
static void send_about(struct op *op, const char *method, const char *tail,
                       transport_done *on_done);

static void on_unstartable_removed(void *arg, const struct transport_answer *a)
{
    struct op *op = arg;
    bool gone = a->code == 0 && (a->status == 204 || a->status == 200 || a->status == 404);

    op->call = 0;
    op->answer.code = gone ? KG_ENOTFOUND : KG_ETIMEOUT; /* whoever asked is to ask again */
    op->answer.container.state = ENGINE_NONE;
    engine_op_end(op);
}

/* A network that was made again is another one to what was on it before: that can never be started.
 * It goes, as if it had vanished. */
static bool remove_unstartable(struct op *op)
{
    if (op->kind != KIND_START || !op->repaired || !engine_network_is_missing(&op->answer))
        return false;
    KG_LOG(KG_LOG_WARN, "container-stranded", KG_F("container", op->name),
           KG_F("why", op->answer.words), KG_F("then", "it is removed"));
    send_about(op, "DELETE", "?force=1&v=1", on_unstartable_removed);
    return true;
}

/* What it was to join is there again, or cannot be had: what was made for it goes then, and what
 * was not made is asked for anew. */
static void repeat(struct op *op)
{
    if (op->network[0])
        op_call(op);
    else if (!remove_unstartable(op))
        engine_op_fail(op, KG_ETIMEOUT, "the network that it was to join is gone");
}

/* The network that the container is to join is gone: made again, once, then the call is repeated.
 */
static bool repair_network(struct op *op)
{
    if ((op->kind != KIND_CREATE && op->kind != KIND_START) || op->repaired ||
        !engine_network_is_missing(&op->answer))
        return false;
    KG_LOG(KG_LOG_WARN, "engine-network-missing", KG_F("container", op->name),
           KG_F("why", op->answer.words));
    op->repaired = true;
    if (op->network[0] ||
        engine_network_in(op->engine->owner, op->answer.words, op->network, sizeof op->network)) {
        engine_group_settle(op, repeat);
        return true;
    }
    op->waits_for_network = true;
    engine_reach_start(op->engine);
    return true;
}

/* Not found: that the container is gone, as the engine's answer may be read, was not said. */
void engine_network_settled(struct engine *e, bool found)
{
    KG_LIST_EACH_SAFE(it, &e->running)
    {
        struct op *op = KG_LIST_ENTRY(it, struct op, link);
        if (!op->waits_for_network)
            continue;
        op->waits_for_network = false;
        if (found)
            op_call(op);
        else
            engine_op_fail(op, KG_ECLOSED, "the network that it is to join was not found");
    }
}

static void take_inspect(struct op *op, const struct json *n)
{
    struct engine *e = op->engine;
    char path[KG_MAX_SOCKET_PATH_BYTES + 1];
    struct engine_where where = {.reach = e->reach.kind,
                                 .network = op->network[0] ? op->network : e->reach.network,
                                 .published_ip = e->reach.published_ip,
                                 .port = op->port};
    struct engine_container *c = &op->answer.container;

    engine_parse_inspect(n, c);
    engine_seal_check(e->key, c);
    if (engine_seal_compare(e->key, n, c) != 0) { /* it may be ours, and would be made again */
        op->answer.code = KG_ENOMEM;
        kg_str_copy(op->answer.words, sizeof op->answer.words, KG_STR("out of memory"));
    }
    if (op->asks_sandbox)
        engine_parse_ip(n, e->reach.network, c);
    if (op->socket && engine_socket_place(e, c, op->socket, path, sizeof path))
        where.socket_path = path;
    if (where.socket_path &&
        (c->state == ENGINE_RUNNING || c->state == ENGINE_PAUSED || c->state == ENGINE_EXITED))
        engine_socket_watch(e, c->name, c->id, op->socket);
    if (op->known && (where.socket_path || !op->socket))
        engine_parse_address(n, &where, c);
}

#define NOT_JSON "the engine's answer is not JSON"

/* Reads the body of a call that went well. */
static void take_body(struct op *op, struct kg_str body)
{
    struct json *n = engine_json(body);

    if (!n) {
        op->answer.code = KG_EPROTO;
        kg_str_copy(op->answer.words, sizeof op->answer.words, KG_STR(NOT_JSON));
    } else if (op->kind == KIND_INSPECT) {
        take_inspect(op, n);
    } else if (op->kind == KIND_WEIGH) {
        op->answer.memory_bytes = engine_parse_memory(n);
    } else {
        kg_str_copy(op->answer.container.id, sizeof op->answer.container.id,
                    kg_str_of(json_string(json_get(n, "Id"), "")));
        kg_str_copy(op->answer.container.name, sizeof op->answer.container.name,
                    kg_str_of(op->name));
    }
    json_free(n);
}

static bool answers_with_json(enum engine_kind kind)
{
    return kind == KIND_INSPECT || kind == KIND_CREATE || kind == KIND_WEIGH || kind == KIND_PARK;
}

static void on_answer(void *arg, const struct transport_answer *a)
{
    struct op *op = arg;
    struct engine *e = op->engine;
    bool refused = a->refused && a->code == KG_ECLOSED;
    char words[sizeof op->answer.words];

    op->call = 0;
    engine_judge(op->kind, a, &op->answer);
    memcpy(words, op->answer.words, sizeof words);
    if (op->kind == KIND_INSPECT && op->answer.code == KG_ENOTFOUND) {
        op->answer.code = 0;
        op->answer.words[0] = '\0';
        op->answer.container.state = ENGINE_NONE;
    } else if (op->answer.code == 0 && answers_with_json(op->kind)) {
        take_body(op, a->body);
    } else if (repair_network(op) || remove_unstartable(op) || ask_whether_it_runs(op) ||
               engine_import(op)) {
        return;
    }
    engine_op_end(op);
    if (refused)
        engine_lost(e, words);
}

/* Sends what the operation has come to; when there is no memory it answers so, later. */
void engine_op_send(struct op *op, struct engine_request *r)
{
    int64_t left_ms = op->due_ms - kg_clock_mono_ms();

    r->timeout_ms = left_ms > 1 ? left_ms : 1;
    r->arg = op;
    op->call = r->path ? engine_send(op->engine, r) : 0;
    if (op->call == 0)
        engine_op_fail(op, KG_ENOMEM, "out of memory");
}

static void op_send(struct op *op, const char *method, const char *path, transport_done *on_done)
{
    struct engine_request r = {.method = method,
                               .path = path,
                               .body = op->text,
                               .slow = op->kind == KIND_STOP, /* the worker has its grace */
                               .on_done = on_done};

    engine_op_send(op, &r);
}

/* The path of a call about one container: "/containers/NAME" + tail. */
static void send_about(struct op *op, const char *method, const char *tail, transport_done *on_done)
{
    struct kg_buf path;

    kg_buf_init(&path, 4096);
    kg_buf_puts(&path, "/containers/");
    transport_escape(&path, op->name);
    kg_buf_puts(&path, tail);
    op_send(op, method, path.error ? NULL : path.data, on_done);
    kg_buf_fini(&path);
}

void engine_op_create(struct op *op)
{
    struct kg_buf path;

    kg_buf_init(&path, 4096);
    kg_buf_puts(&path, "/containers/create?name=");
    transport_escape(&path, op->name);
    op_send(op, "POST", path.error ? NULL : path.data, on_answer);
    kg_buf_fini(&path);
}

/* Makes (again) the one call of a verb that may be repeated. */
static void op_call(struct op *op)
{
    if (op->kind == KIND_CREATE)
        engine_op_create(op);
    else
        send_about(op, "POST", "/start", on_answer);
}

static void on_runs(void *arg, const struct transport_answer *a)
{
    struct op *op = arg;
    struct json *n = a->code == 0 && a->status == 200 ? engine_json(a->body) : NULL;
    const char *status = json_string(json_path(n, "State.Status"), "");

    op->call = 0;
    if (engine_parse_state(status) == ENGINE_RUNNING)
        op->answer = (struct engine_answer){.status = op->answer.status, .already = true};
    else if (n)
        op->answer.code = KG_ECONFLICT;
    else
        engine_judge(KIND_INSPECT, a, &op->answer);
    json_free(n);
    op->answer.memory_bytes = -1;
    engine_op_end(op);
}

/* "is not paused" is said of what runs and of what does not. */
static bool ask_whether_it_runs(struct op *op)
{
    if (op->kind != KIND_UNPAUSE || op->answer.status < 400 ||
        !strstr(op->answer.words, "not paused"))
        return false;
    send_about(op, "GET", "/json", on_runs);
    return true;
}

/* The path's own characters stay: the engine's router takes a reference as it is. */
static void send_image(struct op *op, transport_done *on_done)
{
    struct kg_buf path;

    kg_buf_init(&path, 4096);
    kg_buf_printf(&path, "/images/%s/json", op->image);
    op_send(op, "GET", path.error ? NULL : path.data, on_done);
    kg_buf_fini(&path);
}

/* --- create ------------------------------------------------------------------------------- */

/* What the engine makes of this container; its sandbox, too. */
static void op_ground(struct op *op, struct engine_ground *g)
{
    engine_ground(op->engine, g);
    if (op->sandbox[0])
        g->sandbox = op->sandbox;
}

static void finish_body(struct op *op)
{
    struct engine_ground ground;
    char address[INET_ADDRSTRLEN];
    struct kg_buf text;

    if (op->sandbox[0])
        op_ground(op, &ground);
    else if (op->network[0])
        engine_group_ground(op, &ground, address);
    else
        engine_ground_alone(op->engine, &ground, address);
    kg_buf_init(&text, MAX_BODY_BYTES);
    engine_body_finish(&op->body, op->name, op->port, &ground, &text);
    op->text = kg_buf_take(&text);
    if (op->text)
        engine_op_create(op);
    else
        engine_op_fail(op, KG_ENOMEM, "out of memory");
}

/* The image was asked for the port it exposes. */
static void on_ports(void *arg, const struct transport_answer *a)
{
    struct op *op = arg;
    struct engine *e = op->engine;
    bool refused = a->refused && a->code == KG_ECLOSED;
    char words[320] = "";
    struct json *n;
    size_t count = 0;

    op->call = 0;
    engine_judge(KIND_IMAGE, a, &op->answer);
    if (op->answer.code != 0) {
        kg_str_copy(words, sizeof words, kg_str_of(op->answer.words));
        engine_op_end(op);
        if (refused)
            engine_lost(e, words);
        return;
    }
    n = engine_json(a->body);
    if (!n) {
        engine_op_fail(op, KG_EPROTO, NOT_JSON);
        return;
    }
    op->port = engine_parse_port(json_path(n, "Config.ExposedPorts"), &count);
    json_free(n);
    if (op->port > 0) {
        finish_body(op);
        return;
    }
    snprintf(words, sizeof words, "image %.180s exposes %zu TCP ports: set `port`", op->image,
             count);
    engine_op_fail(op, KG_EINVAL, words);
}

uint64_t engine_op_refuse(struct op *op, const char *id)
{
    if (!engine_is_up(op->engine))
        return engine_op_fail(op, KG_ECLOSED, engine_down_why(op->engine));
    if (id && !engine_valid_id(id))
        return engine_op_fail(op, KG_EINVAL, "not a container's id or name");
    return 0;
}

/* The network of a service's group, where networks are ours. */
static void choose_network(struct op *op, const struct config_service *s)
{
    if (s->group[0] && !op->sandbox[0] && engine_network_is_own(op->engine))
        engine_network_name(op->engine->owner, s->group, op->network, sizeof op->network);
}

static void ask_port(struct op *op)
{
    if (op->asks_port)
        send_image(op, on_ports);
    else
        finish_body(op);
}

static int begin_create(struct op *op, const struct config_service *s, struct kg_err *err)
{
    struct engine_ground ground;
    char there[400];
    int rc = 0;

    op_ground(op, &ground);
    if (s->socket && op->engine->reach.sockets[0]) {
        rc = engine_socket_make(op->engine, op->name, s->socket, there, sizeof there, err);
        ground.socket_dir = there;
    }
    op->image = strdup(s->image);
    op->port = s->socket ? 0 : s->port;
    op->asks_port = !s->socket && s->port == 0;
    if (rc == 0)
        rc = engine_body_begin(&op->body, s, &ground, err);
    return rc == 0 && !op->image ? KG_ENOMEM : rc;
}

uint64_t engine_create(struct engine *e, const struct config_service *s, const char *name,
                       const char *sandbox, engine_done *done, void *arg)
{
    struct op *op = engine_op_new(e, KIND_CREATE, done, arg, KG_ENGINE_CALL_TIMEOUT_MS);
    struct engine_reference reference;
    struct kg_err err = {0};
    uint64_t number = op ? op->number : 0;

    if (!op || engine_op_refuse(op, name) != 0)
        return number;
    kg_str_copy(op->name, sizeof op->name, kg_str_of(name));
    kg_str_copy(op->sandbox, sizeof op->sandbox, kg_str_of(sandbox));
    if (engine_parse_reference(s->image, &reference) != 0)
        return engine_op_fail(op, KG_EINVAL, "not an image reference");
    if (begin_create(op, s, &err) != 0)
        return engine_op_fail(op, err.code ? err.code : KG_ENOMEM, err.words);
    choose_network(op, s);
    if (op->network[0])
        engine_group_settle(op, ask_port);
    else
        ask_port(op);
    return number;
}

static uint64_t verb_create(void *self, const struct config_service *s, const char *name,
                            engine_done *done, void *arg)
{
    return engine_create(self, s, name, "", done, arg);
}

/* --- the others --------------------------------------------------------------------------- */

static uint64_t about(void *self, enum engine_kind kind, const char *id, int64_t timeout_ms,
                      const char *method, const char *tail, engine_done *done, void *arg)
{
    struct op *op = engine_op_new(self, kind, done, arg, timeout_ms);
    uint64_t number = op ? op->number : 0;

    if (!op || engine_op_refuse(op, id) != 0)
        return number;
    kg_str_copy(op->name, sizeof op->name, kg_str_of(id));
    send_about(op, method, tail, on_answer);
    return number;
}

static uint64_t verb_start(void *self, const char *id, engine_done *done, void *arg)
{
    engine_socket_clear(self, id);
    return about(self, KIND_START, id, KG_ENGINE_START_TIMEOUT_MS, "POST", "/start", done, arg);
}

static uint64_t verb_stop(void *self, const char *id, int64_t grace_ms, engine_done *done,
                          void *arg)
{
    char tail[48];

    snprintf(tail, sizeof tail, "/stop?t=%lld", (long long)((grace_ms + 999) / 1000));
    return about(self, KIND_STOP, id, grace_ms + 1000 + KG_ENGINE_CALL_TIMEOUT_MS, "POST", tail,
                 done, arg);
}

static uint64_t verb_remove(void *self, const char *id, engine_done *done, void *arg)
{
    return about(self, KIND_REMOVE, id, KG_ENGINE_CALL_TIMEOUT_MS, "DELETE", "?force=1&v=1", done,
                 arg);
}

static uint64_t verb_pause(void *self, const char *id, engine_done *done, void *arg)
{
    return about(self, KIND_PAUSE, id, KG_ENGINE_CALL_TIMEOUT_MS, "POST", "/pause", done, arg);
}

static uint64_t verb_unpause(void *self, const char *id, engine_done *done, void *arg)
{
    return about(self, KIND_UNPAUSE, id, KG_ENGINE_CALL_TIMEOUT_MS, "POST", "/unpause", done, arg);
}

/* one-shot: else the engine takes two samples, a second apart. */
static uint64_t verb_weigh(void *self, const char *id, engine_done *done, void *arg)
{
    return about(self, KIND_WEIGH, id, KG_ENGINE_CALL_TIMEOUT_MS, "GET",
                 "/stats?stream=false&one-shot=true", done, arg);
}

void engine_op_inspect(struct op *op)
{
    send_about(op, "GET", "/json", on_answer);
}

static uint64_t verb_inspect(void *self, const struct config_service *s, const char *id_or_name,
                             engine_done *done, void *arg)
{
    struct op *op = engine_op_new(self, KIND_INSPECT, done, arg, KG_ENGINE_CALL_TIMEOUT_MS);
    uint64_t number = op ? op->number : 0;

    if (!op || engine_op_refuse(op, id_or_name) != 0)
        return number;
    kg_str_copy(op->name, sizeof op->name, kg_str_of(id_or_name));
    op->known = s != NULL;
    op->port = s ? s->port : 0;
    if (s)
        choose_network(op, s);
    op->socket = s && s->socket ? strdup(s->socket) : NULL;
    if (s && s->socket && !op->socket)
        return engine_op_fail(op, KG_ENOMEM, "out of memory");
    engine_op_inspect(op);
    return number;
}

static uint64_t verb_image(void *self, const struct config_service *s, engine_done *done, void *arg)
{
    struct op *op = engine_op_new(self, KIND_IMAGE, done, arg, KG_ENGINE_CALL_TIMEOUT_MS);
    struct engine_reference reference;
    uint64_t number = op ? op->number : 0;

    if (!op || engine_op_refuse(op, NULL) != 0)
        return number;
    op->image = strdup(s->image);
    if (!op->image)
        return engine_op_fail(op, KG_ENOMEM, "out of memory");
    if (engine_parse_reference(s->image, &reference) != 0)
        return engine_op_fail(op, KG_EINVAL, "not an image reference");
    send_image(op, on_answer);
    return number;
}

/* --- cancelling --------------------------------------------------------------------------- */

static void drop(struct op *op)
{
    if (op->call != 0)
        transport_cancel(op->engine->transport, op->call);
    if (op->pull)
        engine_pull_leave(op);
    engine_op_free(op);
}

static bool drop_from(struct kg_list *ops, uint64_t number)
{
    KG_LIST_EACH(it, ops)
    {
        struct op *op = KG_LIST_ENTRY(it, struct op, link);
        if (op->number != number)
            continue;
        drop(op);
        return true;
    }
    return false;
}

static void verb_cancel(void *self, uint64_t number)
{
    struct engine *e = self;

    if (!drop_from(&e->running, number))
        drop_from(&e->finished, number);
}

void engine_verbs_init(struct engine *e)
{
    kg_list_init(&e->running);
    kg_list_init(&e->finished);
    kg_list_init(&e->pulls);
    kg_list_init(&e->watches);
    e->ops = (struct engine_ops){.self = e,
                                 .pull = engine_pull,
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

void engine_verbs_close(struct engine *e)
{
    while (!kg_list_empty(&e->running))
        drop(KG_LIST_ENTRY(kg_list_first(&e->running), struct op, link));
    while (!kg_list_empty(&e->finished))
        drop(KG_LIST_ENTRY(kg_list_first(&e->finished), struct op, link));
}
