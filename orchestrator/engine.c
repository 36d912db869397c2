/* SPDX-License-Identifier: Apache-2.0 */
/* The engine client: connection and verbs. The difficulty: being up is a claim (pinged, workers can
 * be reached, events flow, the list was asked for after that) and each part of it can be lost. */
#include "base/clock.h"
#include "orchestrator/digest.h"
#include "orchestrator/engine_priv.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RETRY_FIRST_MS 50
#define RETRY_LAST_MS 1000
#define PING_EVERY_MS 5000
#define PING_TIMEOUT_MS 3000

static const char *const verb_names[ENGINE_VERBS] = {"ping",  "list",    "image", "pull", "create",
                                                     "start", "inspect", "stop",  "kill", "remove"};

static void connect_now(struct engine *e);

/* --- calls
 * ----------------------------------------------------------------------------------------- */

uint64_t engine_call(struct engine *e, const char *method, const char *path, const char *body,
                     int64_t timeout_ms, transport_done *done, void *arg)
{
    char versioned[1024];
    struct transport_call call = {.method = method,
                                  .path = versioned,
                                  .body = body,
                                  .timeout_ms = timeout_ms,
                                  .max_bytes = KG_ENGINE_MAX_ANSWER_BYTES,
                                  .on_done = done,
                                  .arg = arg};

    if (e->api_minor > 0)
        snprintf(versioned, sizeof versioned, "/v1.%d%s", e->api_minor, path);
    else
        snprintf(versioned, sizeof versioned, "%s", path);
    return transport_start(e->transport, &call);
}

static void set_words(const struct transport_answer *from, struct engine_answer *to)
{
    struct json *n =
        json_parse(from->body, KG_ENGINE_MAX_ANSWER_BYTES, KG_ENGINE_MAX_JSON_DEPTH, NULL, NULL);
    const char *words = json_string(json_get(n, "message"), NULL);
    size_t i = 0;

    if (!words)
        snprintf(to->words, sizeof to->words, "the engine answered %d", from->status);
    for (; words && words[i] && i < sizeof to->words - 1; i++)
        to->words[i] = (char)((unsigned char)words[i] < 0x20 ? ' ' : words[i]);
    json_free(n);
}

static int code_of_status(int status)
{
    if (status >= 200 && status < 300)
        return 0;
    if (status == 400)
        return KG_EINVAL;
    if (status == 404)
        return KG_ENOTFOUND;
    return status == 409 ? KG_ECONFLICT : KG_EIO;
}

void engine_judge(const struct transport_answer *from, struct engine_answer *to)
{
    *to = (struct engine_answer){.code = from->code, .status = from->status};
    if (from->code != 0) {
        snprintf(to->words, sizeof to->words, "%s", from->words);
        return;
    }
    to->already = from->status == 304;
    to->code = to->already ? 0 : code_of_status(from->status);
    if (to->code != 0)
        set_words(from, to);
}

/* --- up and down
 * ------------------------------------------------------------------------------------ */

static void on_retry(uv_timer_t *t)
{
    connect_now(t->data);
}

static void stop_calls(struct engine *e)
{
    if (e->events_call)
        transport_cancel(e->transport, e->events_call);
    if (e->stage_call)
        transport_cancel(e->transport, e->stage_call);
    if (e->list_call)
        transport_cancel(e->transport, e->list_call);
    e->events_call = e->stage_call = e->list_call = 0;
    uv_timer_stop(&e->reconcile);
    uv_timer_stop(&e->ping);
}

void engine_lost(struct engine *e, const char *why)
{
    bool was_up = e->stage == ENGINE_UP;

    if (e->closing || e->stage == ENGINE_WAITING)
        return;
    stop_calls(e);
    e->stage = ENGINE_WAITING;
    snprintf(e->why, sizeof e->why, "%s", why);
    uv_timer_start(&e->retry, on_retry, was_up ? 0 : (uint64_t)e->retry_ms, 0);
    e->retry_ms = e->retry_ms * 2 < RETRY_LAST_MS ? e->retry_ms * 2 : RETRY_LAST_MS;
    if (was_up || !e->told_up) {
        e->told_up = true; /* the first failure is told too */
        e->callbacks.on_state(e->callbacks.arg, false, e->why);
    }
}

static void lost_by(struct engine *e, const char *doing, const struct engine_answer *a)
{
    char why[256];

    snprintf(why, sizeof why, "%s: %.200s", doing, a->words);
    engine_lost(e, why);
}

static void on_list(void *arg, const struct transport_answer *answer)
{
    struct engine *e = arg;
    struct engine_answer a;
    struct json *root;
    struct engine_container *all;
    size_t n = 0;

    e->list_call = 0;
    engine_judge(answer, &a);
    root = a.code == 0 ? json_parse(answer->body, KG_ENGINE_MAX_ANSWER_BYTES,
                                    KG_ENGINE_MAX_JSON_DEPTH, NULL, NULL)
                       : NULL;
    if (!root || json_type(root) != JSON_ARRAY) {
        json_free(root);
        if (a.code == 0)
            snprintf(a.words, sizeof a.words, "not a list");
        lost_by(e, "list", &a);
        return;
    }
    all = calloc(json_count(root) + 1, sizeof *all);
    for (const struct json *c = json_first(root); all && c; c = json_next(c))
        n += engine_parse_listed(c, &all[n]) && strcmp(all[n].owner, e->owner) == 0;
    json_free(root);
    if (!all)
        return;
    engine_sweep_sockets(e, all, n);
    e->callbacks.on_list(e->callbacks.arg, all, n, e->list_began_ms);
    free(all);
}

void engine_list_now(struct engine *e)
{
    struct kg_buf path;
    struct json *filters = json_new_object(), *labels = json_new_array();
    char label[96];
    struct kg_buf text;

    if (e->list_call || e->stage != ENGINE_UP) {
        json_free(filters);
        json_free(labels);
        return;
    }
    kg_buf_init(&path, 1024);
    kg_buf_init(&text, 1024);
    snprintf(label, sizeof label, "io.kipgate.owner=%s", e->owner);
    json_push_string(labels, label);
    json_set(filters, "label", labels);
    json_print(filters, false, &text);
    json_free(filters);
    kg_buf_puts(&path, "/containers/json?all=1&filters=");
    transport_escape(&path, text.data ? text.data : "");
    e->list_began_ms = kg_clock_mono_ms();
    if (!path.error && !text.error)
        e->list_call =
            engine_call(e, "GET", path.data, NULL, KG_ENGINE_CALL_TIMEOUT_MS, on_list, e);
    kg_buf_fini(&path);
    kg_buf_fini(&text);
}

static void on_reconcile(uv_timer_t *t)
{
    engine_list_now(t->data);
}

static void on_pong(void *arg, const struct transport_answer *answer)
{
    struct engine *e = arg;

    e->stage_call = 0;
    if (answer->code != 0)
        engine_lost(e, answer->code == KG_ETIMEOUT ? "the engine does not answer" : answer->words);
}

static void on_ping_due(uv_timer_t *t)
{
    struct engine *e = t->data;

    if (!e->stage_call)
        e->stage_call = engine_call(e, "GET", "/_ping", NULL, PING_TIMEOUT_MS, on_pong, e);
}

static void go_up(struct engine *e)
{
    e->stage = ENGINE_UP;
    e->told_up = true;
    e->retry_ms = RETRY_FIRST_MS;
    e->why[0] = '\0';
    uv_timer_start(&e->reconcile, on_reconcile, KG_ENGINE_RECONCILE_MS, KG_ENGINE_RECONCILE_MS);
    uv_timer_start(&e->ping, on_ping_due, PING_EVERY_MS, PING_EVERY_MS);
    e->callbacks.on_state(e->callbacks.arg, true, "");
    engine_list_now(e);
}

void engine_reached(struct engine *e)
{
    e->stage = ENGINE_SUBSCRIBING;
    if (engine_subscribe(e))
        go_up(e);
    else
        engine_lost(e, "out of memory");
}

static bool negotiate(struct engine *e, const char *api_version, char *why, size_t cap)
{
    int major = 0, minor = 0;

    if (sscanf(api_version, "%d.%d", &major, &minor) != 2 || major != 1 ||
        minor < KG_ENGINE_API_MIN) {
        snprintf(why, cap, "API version \"%.20s\" is not one we speak (1.%d to 1.%d)", api_version,
                 KG_ENGINE_API_MIN, KG_ENGINE_API_MAX);
        return false;
    }
    e->api_minor = minor < KG_ENGINE_API_MAX ? minor : KG_ENGINE_API_MAX;
    return true;
}

static void on_first_ping(void *arg, const struct transport_answer *answer)
{
    struct engine *e = arg;
    struct engine_answer a;
    char why[160];

    e->stage_call = 0;
    engine_judge(answer, &a);
    if (a.code != 0)
        lost_by(e, "ping", &a);
    else if (!negotiate(e, answer->api_version, why, sizeof why))
        engine_lost(e, why);
    else {
        e->stage = ENGINE_REACHING;
        engine_reach_begin(e);
    }
}

static void connect_now(struct engine *e)
{
    e->stage = ENGINE_PINGING;
    e->api_minor = 0;
    e->stage_call = engine_call(e, "GET", "/_ping", NULL, PING_TIMEOUT_MS, on_first_ping, e);
    if (!e->stage_call)
        engine_lost(e, "out of memory");
}

bool engine_is_up(const struct engine *e)
{
    return e->stage == ENGINE_UP;
}

const char *engine_down_why(const struct engine *e)
{
    return e->why[0] ? e->why : "not yet connected";
}

/* --- verbs
 * ------------------------------------------------------------------------------------------ */

static void op_free(struct engine_op *op)
{
    kg_list_remove(&op->link);
    json_free(op->create);
    kg_buf_fini(&op->line);
    free(op->body);
    free(op);
}

void engine_op_answer(struct engine_op *op, struct engine_answer *answer)
{
    engine_done *done = op->done;
    void *arg = op->arg;

    kg_histogram_add_us(&op->engine->times[op->verb], kg_clock_mono_us() - op->began_us);
    op_free(op);
    done(arg, answer);
}

static struct engine_op *op_new(struct engine *e, enum engine_verb verb,
                                const struct config_service *s, const char *name, engine_done *done,
                                void *arg)
{
    struct engine_op *op = calloc(1, sizeof *op);
    const char *slash;

    if (!op)
        return NULL;
    op->engine = e;
    op->verb = verb;
    op->number = ++e->numbers;
    op->began_us = kg_clock_mono_us();
    op->done = done;
    op->arg = arg;
    kg_buf_init(&op->line, 64 * 1024);
    kg_list_push_back(&e->ops_open, &op->link);
    if (name)
        kg_str_copy(op->about.name, sizeof op->about.name, kg_str_of(name));
    if (!s)
        return op;
    kg_str_copy(op->about.service, sizeof op->about.service, kg_str_of(s->name));
    op->about.port = s->port;
    slash = s->socket ? strrchr(s->socket, '/') : NULL;
    if (slash)
        kg_str_copy(op->about.socket_file, sizeof op->about.socket_file, kg_str_of(slash + 1));
    return op;
}

/* An operation that could not be begun is answered too, from the loop. */
static void on_late(uv_timer_t *t)
{
    struct engine *e = t->data;
    struct kg_list *first;

    while ((first = kg_list_first(&e->ops_late)) != NULL) {
        struct engine_answer a = {.code = KG_EIO, .words = "out of memory or bad request"};
        engine_op_answer(KG_LIST_ENTRY(first, struct engine_op, link), &a);
    }
}

static uint64_t begun(struct engine_op *op)
{
    struct engine *e = op->engine;

    if (!op->call) {
        kg_list_remove(&op->link);
        kg_list_push_back(&e->ops_late, &op->link);
        uv_timer_start(&e->late, on_late, 0, 0);
    }
    return op->number;
}

static void on_plain(void *arg, const struct transport_answer *answer)
{
    struct engine_op *op = arg;
    struct engine *e = op->engine;
    struct engine_answer a;

    engine_judge(answer, &a);
    if (op->verb == ENGINE_STOP || op->verb == ENGINE_KILL || op->verb == ENGINE_REMOVE)
        a.already |= a.code == KG_ENOTFOUND || a.code == KG_ECONFLICT;
    if (a.already)
        a.code = 0;
    if (op->verb == ENGINE_START && a.code != 0 && strstr(a.words, "network") &&
        strstr(a.words, "not found"))
        e->reach = ENGINE_REACH_UNKNOWN; /* somebody took our network: found anew */
    if (answer->refused) {
        engine_op_answer(op, &a);
        engine_lost(e, answer->words);
        return;
    }
    engine_op_answer(op, &a);
    if (e->reach == ENGINE_REACH_UNKNOWN)
        engine_lost(e, "the workers' network is gone");
}

/* METHOD /containers/ID SUFFIX */
static uint64_t container_call(struct engine_op *op, const char *method, const char *suffix,
                               int64_t timeout_ms, transport_done *done)
{
    struct kg_buf path;

    kg_buf_init(&path, 1000);
    kg_buf_puts(&path, "/containers/");
    transport_escape(&path, op->about.name);
    kg_buf_puts(&path, suffix);
    if (!path.error)
        op->call = engine_call(op->engine, method, path.data, NULL, timeout_ms, done, op);
    kg_buf_fini(&path);
    return begun(op);
}

static uint64_t verb_start(void *self, const char *id, engine_done *done, void *arg)
{
    struct engine_op *op = op_new(self, ENGINE_START, NULL, id, done, arg);

    return op ? container_call(op, "POST", "/start", KG_ENGINE_START_TIMEOUT_MS, on_plain) : 0;
}

static uint64_t verb_kill(void *self, const char *id, engine_done *done, void *arg)
{
    struct engine_op *op = op_new(self, ENGINE_KILL, NULL, id, done, arg);

    return op ? container_call(op, "POST", "/kill", KG_ENGINE_CALL_TIMEOUT_MS, on_plain) : 0;
}

static uint64_t verb_stop(void *self, const char *id, int64_t grace_ms, engine_done *done,
                          void *arg)
{
    struct engine_op *op = op_new(self, ENGINE_STOP, NULL, id, done, arg);
    char suffix[40];

    snprintf(suffix, sizeof suffix, "/stop?t=%d", (int)((grace_ms + 999) / 1000));
    return op ? container_call(op, "POST", suffix, grace_ms + KG_ENGINE_CALL_TIMEOUT_MS, on_plain)
              : 0;
}

static uint64_t verb_remove(void *self, const char *id, engine_done *done, void *arg)
{
    struct engine_op *op = op_new(self, ENGINE_REMOVE, NULL, id, done, arg);

    return op ? container_call(op, "DELETE", "?force=1&v=1", KG_ENGINE_CALL_TIMEOUT_MS, on_plain)
              : 0;
}

static void on_inspect(void *arg, const struct transport_answer *answer)
{
    struct engine_op *op = arg;
    struct engine_answer a;
    struct json *n;

    engine_judge(answer, &a);
    if (a.code == KG_ENOTFOUND) {
        a = (struct engine_answer){.status = 404, .container = {.state = ENGINE_NONE}};
    } else if (a.code == 0) {
        n = json_parse(answer->body, KG_ENGINE_MAX_ANSWER_BYTES, KG_ENGINE_MAX_JSON_DEPTH, NULL,
                       NULL);
        if (!engine_parse_inspect(op->engine, n, &op->about, &a.container))
            a.code = KG_EPROTO;
        json_free(n);
    }
    engine_op_answer(op, &a);
}

static uint64_t verb_inspect(void *self, const struct config_service *s, const char *id_or_name,
                             engine_done *done, void *arg)
{
    struct engine_op *op = op_new(self, ENGINE_INSPECT, s, id_or_name, done, arg);

    return op ? container_call(op, "GET", "/json", KG_ENGINE_CALL_TIMEOUT_MS, on_inspect) : 0;
}

static void on_created(void *arg, const struct transport_answer *answer)
{
    struct engine_op *op = arg;
    struct engine_answer a;
    struct json *n;
    const char *id;

    engine_judge(answer, &a);
    if (a.code == 0) {
        n = json_parse(answer->body, KG_ENGINE_MAX_ANSWER_BYTES, KG_ENGINE_MAX_JSON_DEPTH, NULL,
                       NULL);
        id = json_string(json_get(n, "Id"), "");
        if (!id[0] || !kg_str_copy(a.container.id, sizeof a.container.id, kg_str_of(id)))
            a.code = KG_ECLOSED; /* unknown what was made: ask by name */
        a.container.state = ENGINE_CREATED;
        json_free(n);
    }
    engine_op_answer(op, &a);
}

static void send_create(struct engine_op *op)
{
    struct kg_buf path, body;

    kg_buf_init(&path, 1000);
    kg_buf_init(&body, 1024 * 1024);
    kg_buf_puts(&path, "/containers/create?name=");
    transport_escape(&path, op->about.name);
    op->call = 0;
    if (json_print(op->create, false, &body) == 0 && !path.error)
        op->call = engine_call(op->engine, "POST", path.data, body.data, KG_ENGINE_CALL_TIMEOUT_MS,
                               on_created, op);
    kg_buf_fini(&path);
    kg_buf_fini(&body);
    begun(op);
}

static void on_image_for_port(void *arg, const struct transport_answer *answer)
{
    struct engine_op *op = arg;
    struct engine_answer a;
    struct json *n;
    size_t count = 0;
    int port;

    engine_judge(answer, &a);
    if (a.code != 0) {
        engine_op_answer(op, &a);
        return;
    }
    n = json_parse(answer->body, KG_ENGINE_MAX_ANSWER_BYTES, KG_ENGINE_MAX_JSON_DEPTH, NULL, NULL);
    port = engine_single_port(json_path(n, "Config.ExposedPorts"), &count);
    json_free(n);
    if (port == 0) {
        a.code = KG_EINVAL;
        snprintf(a.words, sizeof a.words, "service %s: the image exposes %zu TCP ports: set `port`",
                 op->about.service, count);
        engine_op_answer(op, &a);
        return;
    }
    op->about.port = port;
    engine_create_set_port(op->engine, op->create, port);
    send_create(op);
}

static uint64_t image_call(struct engine_op *op, const char *image, transport_done *done)
{
    struct kg_buf path;

    kg_buf_init(&path, 1000);
    kg_buf_puts(&path, "/images/");
    transport_escape(&path, image);
    kg_buf_puts(&path, "/json");
    op->call = path.error ? 0
                          : engine_call(op->engine, "GET", path.data, NULL,
                                        KG_ENGINE_CALL_TIMEOUT_MS, done, op);
    kg_buf_fini(&path);
    return begun(op);
}

static uint64_t verb_image(void *self, const struct config_service *s, engine_done *done, void *arg)
{
    struct engine_op *op = op_new(self, ENGINE_IMAGE, s, NULL, done, arg);

    return op ? image_call(op, s->image, on_plain) : 0;
}

static uint64_t verb_create(void *self, const struct config_service *s, const char *name,
                            engine_done *done, void *arg)
{
    struct engine *e = self;
    struct engine_op *op = op_new(e, ENGINE_CREATE, s, name, done, arg);
    uint64_t number;

    if (!op)
        return 0;
    number = op->number;
    op->create = engine_create_body(e, s, name);
    if (s->port == 0 && !s->socket) {
        image_call(op, s->image, on_image_for_port);
        return number;
    }
    if (s->port)
        engine_create_set_port(e, op->create, s->port);
    send_create(op);
    return number;
}

static uint64_t verb_pull(void *self, const struct config_service *s, engine_done *done, void *arg)
{
    struct engine_op *op = op_new(self, ENGINE_PULL, s, NULL, done, arg);

    if (!op)
        return 0;
    engine_pull_start(op, s);
    return begun(op);
}

static void cancel_in(struct engine *e, struct kg_list *list, uint64_t number)
{
    KG_LIST_EACH(it, list)
    {
        struct engine_op *op = KG_LIST_ENTRY(it, struct engine_op, link);
        if (op->number != number)
            continue;
        if (op->call)
            transport_cancel(e->transport, op->call);
        op_free(op);
        return;
    }
}

static void verb_cancel(void *self, uint64_t number)
{
    struct engine *e = self;

    cancel_in(e, &e->ops_open, number);
    cancel_in(e, &e->ops_late, number);
}

const struct engine_ops *engine_ops(struct engine *e)
{
    return &e->ops;
}

const struct kg_histogram *engine_call_times(const struct engine *e, size_t index, const char **op)
{
    if (index >= ENGINE_VERBS)
        return NULL;
    *op = verb_names[index];
    return &e->times[index];
}

/* --- life
 * ------------------------------------------------------------------------------------------- */

/* "unix:///path" or "tcp://host:port" into what the transport takes. */
static int parse_target(struct engine *e, const struct config *c, struct transport_target *t,
                        char *url, size_t cap, struct kg_err *err)
{
    const char *at = c->engine;

    *t = (struct transport_target){.url = url, .verify = c->engine_tls};
    if (strncmp(at, "unix://", 7) == 0) {
        t->unix_path = at + 7;
        snprintf(url, cap, "http://engine");
        return 0;
    }
    if (strncmp(at, "tcp://", 6) != 0)
        return kg_fail(err, KG_EINVAL, "engine: \"%s\" is neither unix:// nor tcp://", at);
    t->cert_dir = c->engine_cert_path;
    snprintf(url, cap, "%s://%s", c->engine_tls || c->engine_cert_path ? "https" : "http", at + 6);
    kg_str_copy(e->host, sizeof e->host, (struct kg_str){at + 6, strcspn(at + 6, ":")});
    return 0;
}

static void find_docker_config(struct engine *e)
{
    const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
    struct kg_buf b;

    kg_buf_init(&b, 1024);
    if (dir)
        kg_buf_printf(&b, "%s/config.json", dir);
    else if (home)
        kg_buf_printf(&b, "%s/.docker/config.json", home);
    e->docker_config = b.len ? kg_buf_take(&b) : NULL;
    kg_buf_fini(&b);
}

static void open_timers(struct engine *e)
{
    uv_timer_t *timers[] = {&e->retry, &e->reconcile, &e->ping, &e->late};

    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++) {
        uv_timer_init(e->loop, timers[i]);
        timers[i]->data = e;
    }
}

struct engine *engine_open(uv_loop_t *loop, const struct config *c, const char *owner,
                           const struct engine_callbacks *callbacks, struct kg_err *err)
{
    struct engine *e = calloc(1, sizeof *e);
    struct transport_target target;
    char url[512];

    if (!e || parse_target(e, c, &target, url, sizeof url, err) != 0) {
        kg_fail(err, KG_ENOMEM, "out of memory");
        free(e);
        return NULL;
    }
    e->loop = loop;
    e->callbacks = *callbacks;
    e->ops = (struct engine_ops){e,           verb_pull,    verb_image, verb_create,
                                 verb_start,  verb_inspect, verb_stop,  verb_kill,
                                 verb_remove, verb_cancel};
    kg_str_copy(e->owner, sizeof e->owner, kg_str_of(owner));
    snprintf(e->sockets_dir, sizeof e->sockets_dir, "%.250s/sockets", c->state_dir);
    kg_buf_init(&e->event_line, 64 * 1024);
    kg_list_init(&e->ops_open);
    kg_list_init(&e->ops_late);
    e->retry_ms = RETRY_FIRST_MS;
    find_docker_config(e);
    e->transport = transport_open(loop, &target, KG_ENGINE_MAX_CONNECTIONS, err);
    if (!e->transport)
        return NULL; /* at start-up: the process ends */
    open_timers(e);
    uv_timer_start(&e->retry, on_retry, 0, 0);
    e->stage = ENGINE_WAITING;
    return e;
}

static void on_part_closed(struct engine *e)
{
    if (--e->open_handles > 0)
        return;
    kg_buf_fini(&e->event_line);
    free(e->docker_config);
    e->on_closed(e->closed_arg);
    free(e);
}

static void on_timer_closed(uv_handle_t *h)
{
    on_part_closed(h->data);
}

static void on_transport_closed(void *arg)
{
    on_part_closed(arg);
}

static void drop_ops(struct kg_list *list)
{
    KG_LIST_EACH_SAFE(it, list)
    op_free(KG_LIST_ENTRY(it, struct engine_op, link));
}

void engine_close(struct engine *e, void (*on_closed)(void *arg), void *arg)
{
    uv_timer_t *timers[] = {&e->retry, &e->reconcile, &e->ping, &e->late};

    e->closing = true;
    e->on_closed = on_closed;
    e->closed_arg = arg;
    e->open_handles = 1 + sizeof timers / sizeof *timers;
    transport_close(e->transport, on_transport_closed, e);
    drop_ops(&e->ops_open);
    drop_ops(&e->ops_late);
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++)
        uv_close((uv_handle_t *)timers[i], on_timer_closed);
}
