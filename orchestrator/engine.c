/* SPDX-License-Identifier: Apache-2.0 */
/* The engine client's link: ping, agree on a version, find out the way to workers, subscribe, list;
 * and all of it again when the engine went away. The difficulty: a hanging engine looks like a slow
 * one, so it is pinged all the while, one ping at a time. */
#include "base/clock.h"
#include "base/log.h"
#include "orchestrator/engine_priv.h"
#include <stdio.h>
#include <stdlib.h>

#define LIST_RETRY_MS 1000

static void ping(struct engine *e);
static void enter_reach(struct engine *e);

/* --- small services ----------------------------------------------------------------------- */

uint64_t engine_send(struct engine *e, const struct engine_request *r)
{
    struct kg_buf path;
    struct transport_call call = {.method = r->method,
                                  .body = r->body,
                                  .header = r->header,
                                  .tar = r->tar,
                                  .timeout_ms = r->timeout_ms,
                                  .max_bytes = KG_ENGINE_MAX_ANSWER_BYTES,
                                  .own_connection = r->own_connection,
                                  .slow = r->slow,
                                  .on_begun = r->on_begun,
                                  .on_data = r->on_data,
                                  .on_done = r->on_done,
                                  .arg = r->arg};
    uint64_t number = 0;

    kg_buf_init(&path, 16 * 1024);
    if (e->api_minor > 0 && r->path[1] != '_')
        kg_buf_printf(&path, "/v1.%u", e->api_minor);
    kg_buf_puts(&path, r->path);
    call.path = path.data;
    if (!path.error)
        number = transport_start(e->transport, &call);
    kg_buf_fini(&path);
    return number;
}

uint64_t engine_ask(struct engine *e, const char *method, const char *path, const char *body,
                    transport_done *on_done, void *arg)
{
    const struct engine_request r = {.method = method,
                                     .path = path,
                                     .body = body,
                                     .timeout_ms = KG_ENGINE_CALL_TIMEOUT_MS,
                                     .on_done = on_done,
                                     .arg = arg};

    return engine_send(e, &r);
}

struct json *engine_json(struct kg_str body)
{
    return json_parse(body, KG_ENGINE_MAX_ANSWER_BYTES, KG_ENGINE_MAX_JSON_DEPTH, NULL, NULL);
}

void engine_ground(const struct engine *e, struct engine_ground *g)
{
    *g = (struct engine_ground){.owner = e->owner,
                                .key = e->key,
                                .reach = e->reach.kind,
                                .network = e->reach.network,
                                .published_ip = e->reach.published_ip,
                                .init = e->has_init,
                                .json_file = e->json_file};
}

void engine_ground_alone(struct engine *e, struct engine_ground *g, char address[INET_ADDRSTRLEN])
{
    engine_ground(e, g);
    if (engine_network_is_own(e) && engine_range_next(&e->common.range, address))
        g->address = address;
}

void engine_took(struct engine *e, enum engine_kind kind, int64_t began_us)
{
    kg_histogram_add_us(&e->times[kind], kg_clock_mono_us() - began_us);
}

static void cancel(struct engine *e, uint64_t *call)
{
    if (*call != 0)
        transport_cancel(e->transport, *call);
    *call = 0;
}

static void cancel_calls(struct engine *e)
{
    cancel(e, &e->ping);
    cancel(e, &e->info);
    cancel(e, &e->stream);
    cancel(e, &e->list);
}

/* --- down and up -------------------------------------------------------------------------- */

static void on_beat(uv_timer_t *timer);

static void retry_later(struct engine *e)
{
    uv_timer_start(&e->beat, on_beat, (uint64_t)e->retry_ms, 0);
    e->retry_ms = e->retry_ms == 0 ? ENGINE_RETRY_FIRST_MS : 2 * e->retry_ms;
    if (e->retry_ms > ENGINE_RETRY_LAST_MS)
        e->retry_ms = ENGINE_RETRY_LAST_MS;
}

void engine_lost(struct engine *e, const char *why)
{
    bool news = e->link == LINK_UP || e->why[0] == '\0';

    if (e->closing || (e->link == LINK_PING && e->ping != 0) ||
        (e->link == LINK_PING && uv_is_active((uv_handle_t *)&e->beat)))
        return; /* known, and being looked after */
    e->link = LINK_PING;
    engine_clean_words(e->why, sizeof e->why, kg_str_of(*why ? why : "the engine is gone"));
    cancel_calls(e);
    uv_timer_stop(&e->relist);
    engine_reach_stop(e);
    retry_later(e);
    if (news)
        e->callbacks.on_state(e->callbacks.arg, false, e->why);
    if (!e->closing)
        engine_network_settled(e, false);
    if (!e->closing)
        engine_groups_lost(e, e->why);
}

static void list(struct engine *e);

static void on_stream_begun(struct engine *e)
{
    e->link = LINK_UP;
    e->retry_ms = 0;
    e->why[0] = '\0';
    uv_timer_start(&e->beat, on_beat, ENGINE_PING_EVERY_MS, 0);
    e->callbacks.on_state(e->callbacks.arg, true, "");
    if (!e->closing && e->link == LINK_UP)
        list(e);
}

void engine_subscribed(struct engine *e, int status)
{
    char why[64];

    if (e->link != LINK_SUBSCRIBE)
        return;
    if (status == 200) {
        on_stream_begun(e);
        return;
    }
    snprintf(why, sizeof why, "the engine answered %d to /events", status);
    engine_lost(e, why);
}

static void on_beat(uv_timer_t *timer)
{
    struct engine *e = timer->data;

    if (e->link == LINK_SUBSCRIBE)
        engine_lost(e, "the engine does not begin its event stream");
    else
        ping(e);
}

/* --- ping, version, facts ----------------------------------------------------------------- */

/* "1.41" -> 41; 0 when it is not such. */
static unsigned minor_of(const char *version)
{
    int64_t minor;

    if (strncmp(version, "1.", 2) != 0 || !kg_str_to_i64(kg_str_of(version + 2), &minor) ||
        minor > 10000)
        return 0;
    return (unsigned)minor;
}

static bool agree(struct engine *e, const char *version)
{
    unsigned minor = minor_of(version);
    char why[160];

    if (minor >= KG_ENGINE_API_MIN) {
        e->api_minor = minor < KG_ENGINE_API_MAX ? minor : KG_ENGINE_API_MAX;
        return true;
    }
    if (minor == 0)
        snprintf(why, sizeof why,
                 "what answers at the engine's address is no engine (no API version)");
    else
        snprintf(why, sizeof why, "the engine's API is 1.%u, older than 1.%d", minor,
                 KG_ENGINE_API_MIN);
    engine_lost(e, why);
    return false;
}

bool engine_is_odd(struct engine *e, const struct transport_answer *a, const struct json *n)
{
    bool odd = !n && (a->code != 0 || a->status == 200 || a->status >= 500);

    return odd && ++e->odd <= ENGINE_MOST_ODD;
}

static void on_info(void *arg, const struct transport_answer *a)
{
    struct engine *e = arg;
    struct json *n = a->code == 0 && a->status == 200 ? engine_json(a->body) : NULL;

    e->info = 0;
    if (a->refused || a->code == KG_ETIMEOUT || engine_is_odd(e, a, n)) {
        engine_lost(e, a->code != 0 ? a->words : "what the engine says of itself cannot be read");
        return;
    }
    /* A proxy before the engine may forbid this call: then the usual is taken for granted. */
    e->has_init = strcmp(json_string(json_path(n, "InitCommit.ID"), ""), "N/A") != 0;
    e->json_file = strcmp(json_string(json_get(n, "LoggingDriver"), "json-file"), "json-file") == 0;
    json_free(n);
    if (!e->has_init)
        KG_LOG(KG_LOG_WARN, "engine-without-init", KG_F("then", "workers run without an init"));
    enter_reach(e);
}

static void enter_info(struct engine *e)
{
    e->link = LINK_INFO;
    e->info = engine_ask(e, "GET", "/info", NULL, on_info, e);
    if (e->info == 0)
        engine_lost(e, "out of memory");
}

static void enter_subscribe(struct engine *e)
{
    e->link = LINK_SUBSCRIBE;
    uv_timer_start(&e->beat, on_beat, KG_ENGINE_CALL_TIMEOUT_MS, 0);
    engine_subscribe(e);
}

static void enter_reach(struct engine *e)
{
    e->link = LINK_REACH;
    engine_reach_start(e);
}

void engine_reached(struct engine *e, bool found, const char *why)
{
    e->odd = found ? 0 : e->odd;
    if (e->link == LINK_REACH && !found) {
        engine_lost(e, why);
    } else if (e->link == LINK_REACH) {
        e->opened = true;
        enter_subscribe(e);
    }
    if (!e->closing)
        engine_network_settled(e, found);
}

static void on_good_ping(struct engine *e, const char *version)
{
    if (e->link == LINK_UP) {
        uv_timer_start(&e->beat, on_beat, ENGINE_PING_EVERY_MS, 0);
        return;
    }
    if (!agree(e, version))
        return;
    if (!e->opened)
        enter_info(e);
    else if (engine_reach_may_move(e))
        enter_reach(e);
    else
        enter_subscribe(e);
}

static void on_ping(void *arg, const struct transport_answer *a)
{
    struct engine *e = arg;
    char why[256], words[160];

    e->ping = 0;
    engine_took(e, KIND_PING, e->ping_began_us);
    if (a->code == 0 && kg_clock_mono_us() - e->ping_began_us < ENGINE_PING_TIMEOUT_MS * 500)
        e->ping_timeout_ms = ENGINE_PING_TIMEOUT_MS;
    else if (a->code == KG_ETIMEOUT)
        e->ping_timeout_ms = kg_earliest(2 * e->ping_timeout_ms, KG_ENGINE_CALL_TIMEOUT_MS);
    if (a->code == 0 && a->status == 200) {
        on_good_ping(e, a->api_version);
    } else if (a->code == 0) {
        engine_parse_message(a->body, words, sizeof words);
        snprintf(why, sizeof why, "the engine answered %d to a ping: %s", a->status, words);
        engine_lost(e, why);
    } else {
        engine_lost(e, a->code == KG_ETIMEOUT ? "the engine does not answer" : a->words);
    }
}

/* On a connection of its own: the others may all be held by calls that hang. An engine that did not
 * answer in time may be slow: from then on it has longer, until it is quick again. */
static void ping(struct engine *e)
{
    const struct engine_request r = {.method = "GET",
                                     .path = "/_ping",
                                     .timeout_ms = e->ping_timeout_ms,
                                     .own_connection = true,
                                     .on_done = on_ping,
                                     .arg = e};

    if (e->ping != 0)
        return;
    e->ping_began_us = kg_clock_mono_us();
    e->ping = engine_send(e, &r);
    if (e->ping == 0)
        retry_later(e);
}

/* --- lists -------------------------------------------------------------------------------- */

static void on_relist(uv_timer_t *timer)
{
    list(timer->data);
}

static void list_later(struct engine *e, int64_t ms)
{
    uv_timer_start(&e->relist, on_relist, (uint64_t)ms, 0);
}

/* Tells the fleet. False: not a list. */
static bool tell_list(struct engine *e, const struct json *array)
{
    size_t count = 0, all = json_count(array);
    struct engine_container *found;

    if (json_type(array) != JSON_ARRAY)
        return false;
    found = calloc(all ? all : 1, sizeof *found);
    if (!found)
        return false;
    engine_groups_list_begin(e);
    for (const struct json *it = json_first(array); it; it = json_next(it)) {
        engine_parse_listed(it, &found[count]);
        engine_seal_check(e->key, &found[count]);
        engine_groups_list_add(e, it);
        /* The filter was the engine's to apply; what a label says is ours to check. */
        if (found[count].id[0] && strcmp(found[count].owner, e->owner) == 0)
            count++;
    }
    e->callbacks.on_list(e->callbacks.arg, found, count, e->list_began_ms);
    if (!e->closing)
        engine_sockets_sweep(e, found, count);
    if (!e->closing)
        engine_groups_list_end(e);
    free(found);
    return true;
}

static void on_list(void *arg, const struct transport_answer *a)
{
    struct engine *e = arg;
    struct json *array = a->code == 0 && a->status == 200 ? engine_json(a->body) : NULL;
    bool good;

    e->list = 0;
    engine_took(e, KIND_LIST, e->list_began_us);
    if (a->refused) {
        engine_lost(e, a->words);
        return;
    }
    list_later(e, KG_ENGINE_RECONCILE_MS);
    good = tell_list(e, array);
    json_free(array);
    if (e->closing || e->link != LINK_UP)
        return;
    if (!good) {
        KG_LOG(KG_LOG_WARN, "engine-list-failed", KG_FN("status", a->status),
               KG_F("why", a->code != 0 ? a->words : "not a list"));
        list_later(e, LIST_RETRY_MS);
    } else if (e->list_again) {
        list(e);
    }
}

static void put_filter(struct kg_buf *path, struct json *filter)
{
    struct kg_buf text;

    kg_buf_init(&text, 4096);
    path->error = json_print(filter, false, &text) != 0 ? KG_ENOMEM : path->error;
    transport_escape(path, text.data ? text.data : "");
    kg_buf_fini(&text);
    json_free(filter);
}

void engine_put_owner_filter(const struct engine *e, struct json *filter, struct kg_buf *path)
{
    struct json *labels = json_new_array();
    char label[96];

    snprintf(label, sizeof label, LABEL_OWNER "=%s", e->owner);
    json_push_string(labels, label);
    json_set(filter, "label", labels);
    put_filter(path, filter);
}

void engine_put_list_path(const struct engine *e, struct kg_buf *path)
{
    kg_buf_puts(path, "/containers/json?all=1&filters=");
    engine_put_owner_filter(e, json_new_object(), path);
}

static void list(struct engine *e)
{
    struct kg_buf path;

    e->list_again = e->list != 0;
    if (e->list_again || e->link != LINK_UP)
        return;
    kg_buf_init(&path, 8192);
    engine_put_list_path(e, &path);
    e->list_began_ms = kg_clock_mono_ms();
    e->list_began_us = kg_clock_mono_us();
    if (!path.error)
        e->list = engine_ask(e, "GET", path.data, NULL, on_list, e);
    if (e->list == 0)
        list_later(e, LIST_RETRY_MS);
    kg_buf_fini(&path);
}

/* --- doors -------------------------------------------------------------------------------- */

void engine_list_soon(struct engine *e)
{
    if (!e->closing)
        list_later(e, LIST_RETRY_MS);
}

void engine_list_now(struct engine *e)
{
    list(e);
}

const struct engine_ops *engine_ops(struct engine *e)
{
    return &e->ops;
}

const struct engine_parking_ops *engine_parking_ops(struct engine *e)
{
    return &e->parking;
}

bool engine_is_up(const struct engine *e)
{
    return e->link == LINK_UP;
}

const char *engine_down_why(const struct engine *e)
{
    if (e->link == LINK_UP)
        return "";
    return e->why[0] ? e->why : "the engine has not answered yet";
}

const char *engine_reach_name(const struct engine *e)
{
    static const char *const names[] = {"unknown", "address", "network", "published"};

    return names[e->reach.kind];
}

uint32_t engine_settle_ms(const struct engine *e)
{
    return e->reach.kind == REACH_PUBLISHED ? ENGINE_SETTLE_MS : 0;
}

const struct kg_histogram *engine_call_times(const struct engine *e, size_t index, const char **op)
{
    static const char *const names[KINDS] = {"ping",    "list",   "create", "start", "inspect",
                                             "stop",    "remove", "pull",   "image", "pause",
                                             "unpause", "weigh",  "park"};

    if (index >= KINDS)
        return NULL;
    *op = names[index];
    return &e->times[index];
}

/* --- open and close ----------------------------------------------------------------------- */

/* "unix:///path" or "tcp://host:port". */
static int open_transport(struct engine *e, const struct config *c, struct kg_err *err)
{
    struct transport_target target = {.url = "http://engine", .verify = c->engine_tls};
    struct kg_str address = kg_str_of(c->engine);
    bool tls = c->engine_tls || c->engine_cert_path;
    char url[300];

    if (kg_str_has_prefix(address, KG_STR("unix://"))) {
        target.unix_path = c->engine + 7;
        if (address.n - 7 > KG_MAX_SOCKET_PATH_BYTES)
            return kg_fail(err, KG_EINVAL, "engine %s: the path is longer than %d bytes", c->engine,
                           KG_MAX_SOCKET_PATH_BYTES);
    } else if (kg_str_has_prefix(address, KG_STR("tcp://"))) {
        const char *host = c->engine + 6, *colon = strrchr(host, ':');
        size_t n = colon ? (size_t)(colon - host) : strlen(host);
        if (n > 1 && host[0] == '[' && host[n - 1] == ']')
            kg_str_copy(e->host, sizeof e->host, (struct kg_str){host + 1, n - 2});
        else
            kg_str_copy(e->host, sizeof e->host, (struct kg_str){host, n});
        if (!e->host[0] || (size_t)snprintf(url, sizeof url, "%s://%s", tls ? "https" : "http",
                                            host) >= sizeof url)
            return kg_fail(err, KG_EINVAL, "engine %s: not a host and port", c->engine);
        target.url = url;
        target.cert_dir = tls ? c->engine_cert_path : NULL;
    } else {
        return kg_fail(err, KG_EINVAL, "engine %s: neither unix:// nor tcp://", c->engine);
    }
    e->transport = transport_open(e->loop, &target, KG_ENGINE_MAX_CONNECTIONS, err);
    return e->transport ? 0 : KG_ENOMEM;
}

static void open_timers(struct engine *e)
{
    uv_timer_t *timers[] = {&e->beat, &e->relist, &e->soon};

    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++) {
        uv_timer_init(e->loop, timers[i]);
        timers[i]->data = e;
    }
    uv_timer_start(&e->beat, on_beat, 0, 0);
}

struct engine *engine_open(uv_loop_t *loop, const struct config *c, const char *owner,
                           const char *key, const struct engine_callbacks *callbacks,
                           struct kg_err *err)
{
    struct engine *e = calloc(1, sizeof *e);

    if (!e) {
        kg_fail(err, KG_ENOMEM, "out of memory");
        return NULL;
    }
    e->loop = loop;
    e->callbacks = *callbacks;
    e->has_init = e->json_file = true;
    e->ping_timeout_ms = ENGINE_PING_TIMEOUT_MS;
    kg_str_copy(e->owner, sizeof e->owner, kg_str_of(owner));
    kg_str_copy(e->key, sizeof e->key, kg_str_of(key));
    snprintf(e->sockets, sizeof e->sockets, "%s/sockets", c->state_dir);
    kg_buf_init(&e->events.line, ENGINE_MAX_LINE_BYTES);
    engine_verbs_init(e);
    engine_groups_init(e);
    engine_reach_init(e);
    engine_parking_init(e);
    if (open_transport(e, c, err) != 0) {
        free(e);
        return NULL;
    }
    open_timers(e);
    return e;
}

void engine_let_go(struct engine *e)
{
    if (--e->open_handles > 0)
        return;
    kg_buf_fini(&e->events.line);
    engine_groups_fini(e);
    if (e->on_closed)
        e->on_closed(e->closed_arg);
    free(e);
}

static void on_timer_closed(uv_handle_t *h)
{
    engine_let_go(h->data);
}

static void on_transport_closed(void *arg)
{
    engine_let_go(arg);
}

static void on_networks_left(struct engine *e)
{
    transport_close(e->transport, on_transport_closed, e);
}

void engine_close(struct engine *e, void (*on_closed)(void *arg), void *arg)
{
    uv_timer_t *timers[] = {&e->beat, &e->relist, &e->soon};

    KG_ASSERT(!e->closing);
    e->closing = true;
    e->on_closed = on_closed;
    e->closed_arg = arg;
    cancel_calls(e);
    engine_verbs_close(e); /* pulls end with the last who wants them */
    engine_groups_lost(e, "");
    engine_sockets_close(e);
    e->open_handles = 1 + sizeof timers / sizeof *timers + (e->reach.resolving ? 1 : 0);
    engine_reach_stop(e);
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++)
        uv_close((uv_handle_t *)timers[i], on_timer_closed);
    if (!engine_networks_leave(e, on_networks_left))
        on_networks_left(e);
}
