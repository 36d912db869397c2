/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's two streams: events, and the progress of a pull. Both are lines of JSON.
 * The difficulty: lines come cut anywhere, may be garbage or huge, and a pull that failed says so
 * within an answer of 200. */
#include "base/clock.h"
#include "orchestrator/digest.h"
#include "orchestrator/engine_priv.h"
#include <stdio.h>
#include <stdlib.h>

#define EVENTS_BACK_MS 2000 /* asked for again at each subscription, so that none falls between */
#define PROGRESS_EVERY_MS 500

/* Calls `line` for each whole line; what is left stays in the buffer. A line over the buffer's cap
 * is skipped to its end. */
static void each_line(struct kg_buf *b, bool *skipping, struct kg_str bytes,
                      void (*line)(void *arg, struct kg_str line), void *arg)
{
    while (bytes.n > 0) {
        const char *end = memchr(bytes.p, '\n', bytes.n);
        size_t n = end ? (size_t)(end - bytes.p) : bytes.n;
        if (!*skipping && kg_buf_append(b, bytes.p, n) != 0)
            *skipping = true;
        if (end) {
            if (!*skipping && b->len > 0)
                line(arg, kg_buf_str(b));
            *skipping = false;
            kg_buf_clear(b);
            n++;
        }
        bytes = (struct kg_str){bytes.p + n, bytes.n - n};
    }
}

/* --- events
 * ----------------------------------------------------------------------------------------- */

static bool event_kind(const char *action, enum engine_event_kind *kind)
{
    static const struct {
        const char *word;
        enum engine_event_kind kind;
    } kinds[] = {
        {"create", ENGINE_EVENT_CREATE}, {"start", ENGINE_EVENT_START},
        {"die", ENGINE_EVENT_DIE},       {"oom", ENGINE_EVENT_OOM},
        {"pause", ENGINE_EVENT_PAUSE},   {"unpause", ENGINE_EVENT_UNPAUSE},
        {"rename", ENGINE_EVENT_RENAME}, {"destroy", ENGINE_EVENT_DESTROY},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(action, kinds[i].word) == 0) {
            *kind = kinds[i].kind;
            return true;
        }
    return false;
}

static void copy_attribute(const struct json *attributes, const char *key, char *out, size_t cap)
{
    const char *text = json_string(json_get(attributes, key), "");

    kg_str_copy(out, cap, (struct kg_str){text, strnlen(text, cap - 1)});
}

static void on_event_line(void *arg, struct kg_str line)
{
    struct engine *e = arg;
    struct engine_event event = {0};
    struct json *n = json_parse(line, line.n, KG_ENGINE_MAX_JSON_DEPTH, NULL, NULL);
    const struct json *actor = json_get(n, "Actor"), *attributes = json_get(actor, "Attributes");

    if (event_kind(json_string(json_get(n, "Action"), ""), &event.kind) &&
        strcmp(json_string(json_get(n, "Type"), ""), "container") == 0) {
        struct engine_container *c = &event.container;
        copy_attribute(actor, "ID", c->id, sizeof c->id);
        copy_attribute(attributes, "name", c->name, sizeof c->name);
        copy_attribute(attributes, "io.kipgate.owner", c->owner, sizeof c->owner);
        copy_attribute(attributes, "io.kipgate.service", c->service, sizeof c->service);
        copy_attribute(attributes, "io.kipgate.spec", c->spec, sizeof c->spec);
        c->exit_code = atoi(json_string(json_get(attributes, "exitCode"), "0"));
        if (c->id[0])
            e->callbacks.on_event(e->callbacks.arg, &event);
    }
    json_free(n);
}

static void on_event_bytes(void *arg, struct kg_str bytes)
{
    struct engine *e = arg;

    each_line(&e->event_line, &e->event_skipping, bytes, on_event_line, e);
}

static void on_events_end(void *arg, const struct transport_answer *answer)
{
    struct engine *e = arg;
    char why[256];

    e->events_call = 0;
    if (answer->code == 0)
        snprintf(why, sizeof why, "the event stream ended (%d)", answer->status);
    else
        snprintf(why, sizeof why, "the event stream broke: %.200s", answer->words);
    engine_lost(e, why);
}

bool engine_subscribe(struct engine *e)
{
    struct kg_buf path;
    char text[256];
    struct transport_call call = {.method = "GET",
                                  .own_connection = true,
                                  .on_data = on_event_bytes,
                                  .on_done = on_events_end,
                                  .arg = e};
    int64_t since_ms = kg_clock_wall_ms() - EVENTS_BACK_MS;

    kg_buf_clear(&e->event_line);
    e->event_skipping = false;
    kg_buf_init(&path, 1024);
    snprintf(text, sizeof text, "{\"type\":[\"container\"],\"label\":[\"io.kipgate.owner=%s\"]}",
             e->owner);
    kg_buf_printf(&path, "/v1.%d/events?since=%lld.%03d&filters=", e->api_minor,
                  (long long)(since_ms / 1000), (int)(since_ms % 1000));
    transport_escape(&path, text);
    call.path = path.data;
    if (!path.error)
        e->events_call = transport_start(e->transport, &call);
    kg_buf_fini(&path);
    return e->events_call != 0;
}

/* --- pull
 * ------------------------------------------------------------------------------------------- */

static void tell_progress(struct engine_op *op, const struct json *n)
{
    const struct engine_callbacks *cb = &op->engine->callbacks;
    double current = json_number(json_path(n, "progressDetail.current"), -1);
    double total = json_number(json_path(n, "progressDetail.total"), -1);
    int64_t now_ms = kg_clock_mono_ms();
    char words[160];

    if (now_ms - op->told_ms < PROGRESS_EVERY_MS)
        return;
    op->told_ms = now_ms;
    if (total > 0)
        snprintf(words, sizeof words, "%.40s %.40s %.1f of %.1f MiB",
                 json_string(json_get(n, "status"), ""), json_string(json_get(n, "id"), ""),
                 current / 1048576, total / 1048576);
    else
        snprintf(words, sizeof words, "%.80s %.40s", json_string(json_get(n, "status"), ""),
                 json_string(json_get(n, "id"), ""));
    cb->on_pull_progress(cb->arg, op->about.service, words);
}

static void on_pull_line(void *arg, struct kg_str line)
{
    struct engine_op *op = arg;
    struct json *n = json_parse(line, line.n, KG_ENGINE_MAX_JSON_DEPTH, NULL, NULL);
    const char *error =
        json_string(json_get(n, "error"), json_string(json_get(n, "message"), NULL));

    if (error)
        snprintf(op->error, sizeof op->error, "%.250s", error);
    else if (n)
        tell_progress(op, n);
    json_free(n);
}

static void on_pull_bytes(void *arg, struct kg_str bytes)
{
    struct engine_op *op = arg;
    bool skipping = false;

    each_line(&op->line, &skipping, bytes, on_pull_line, op);
}

static void on_pull_end(void *arg, const struct transport_answer *answer)
{
    struct engine_op *op = arg;
    struct engine_answer a;

    if (op->line.len > 0) /* an error's body has no line end */
        on_pull_line(op, kg_buf_str(&op->line));
    engine_judge(answer, &a);
    if (op->error[0]) {
        a.code = a.code == 0 ? KG_EIO : a.code;
        snprintf(a.words, sizeof a.words, "%s", op->error);
    }
    engine_op_answer(op, &a);
}

/* Repository and tag or digest of a reference; no tag is "latest". */
static void split_reference(const char *image, char *repository, size_t cap, const char **tag)
{
    const char *at = strchr(image, '@'), *slash = strrchr(image, '/');
    const char *colon = at ? NULL : strchr(slash ? slash : image, ':');
    const char *end = at ? at : colon;

    *tag = end ? end + 1 : "latest";
    kg_str_copy(repository, cap,
                end ? (struct kg_str){image, (size_t)(end - image)} : kg_str_of(image));
}

/* The registry a reference names: its first part, when that looks like a host. */
static void registry_of(const char *image, char *out, size_t cap)
{
    size_t n = strcspn(image, "/");
    struct kg_str first = {image, n};

    if (image[n] == '/' &&
        (memchr(image, '.', n) || memchr(image, ':', n) || kg_str_eq(first, KG_STR("localhost"))))
        kg_str_copy(out, cap, first);
    else
        kg_str_copy(out, cap, KG_STR("docker.io"));
}

/* {"username","password","serveraddress"} from the "auth" of the registry's entry. Credential
 * helpers are other programs: control runs none. */
static struct json *credentials_of(const struct json *config, const char *registry)
{
    const struct json *auths = json_get(config, "auths"), *entry = json_get(auths, registry);
    const char *auth;
    struct json *out;

    if (!entry && strcmp(registry, "docker.io") == 0)
        for (const struct json *a = json_first(auths); a && !entry; a = json_next(a))
            if (strstr(json_key(a), "index.docker.io"))
                entry = a;
    auth = json_string(json_get(entry, "auth"), NULL);
    if (!auth)
        return NULL;
    out = json_new_object();
    json_set_string(out, "auth", auth);
    json_set_string(out, "serveraddress", registry);
    return out;
}

static char *read_whole(const char *path)
{
    struct kg_buf b;
    char piece[4096];
    size_t n;
    FILE *f = path ? fopen(path, "re") : NULL;

    if (!f)
        return NULL;
    kg_buf_init(&b, 1024 * 1024);
    while ((n = fread(piece, 1, sizeof piece, f)) > 0)
        kg_buf_append(&b, piece, n);
    fclose(f);
    return kg_buf_take(&b);
}

/* user:password out of base64 "auth", as the engine wants them apart. */
static int from_base64(char c)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(alphabet, c) : NULL;

    return at ? (int)(at - alphabet) : -1;
}

static bool decode_auth(const char *auth, char *out, size_t cap)
{
    unsigned bits = 0, have = 0;
    size_t n = 0;

    for (; *auth && *auth != '='; auth++) {
        int v = from_base64(*auth);
        if (v < 0 || n + 1 >= cap)
            return false;
        bits = bits << 6 | (unsigned)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (char)(bits >> have & 0xff);
        }
    }
    out[n] = '\0';
    return strchr(out, ':') != NULL;
}

/* "X-Registry-Auth: ..." or nothing. */
static void auth_header(const struct engine *e, const char *image, struct kg_buf *header)
{
    char registry[256], *text = read_whole(e->docker_config), pair[1024], *colon;
    struct json *config = text ? json_parse(kg_str_of(text), 1024 * 1024, 32, NULL, NULL) : NULL;
    struct json *c;
    struct kg_buf plain;

    registry_of(image, registry, sizeof registry);
    c = credentials_of(config, registry);
    kg_buf_init(&plain, 4096);
    if (c && decode_auth(json_string(json_get(c, "auth"), ""), pair, sizeof pair)) {
        struct json *full = json_new_object();
        colon = strchr(pair, ':');
        *colon = '\0';
        json_set_string(full, "username", pair);
        json_set_string(full, "password", colon + 1);
        json_set_string(full, "serveraddress", registry);
        json_print(full, false, &plain);
        json_free(full);
        kg_buf_puts(header, "X-Registry-Auth: ");
        digest_base64url(kg_buf_str(&plain), header);
    }
    kg_buf_fini(&plain);
    json_free(c);
    json_free(config);
    free(text);
}

bool engine_pull_start(struct engine_op *op, const struct config_service *s)
{
    struct engine *e = op->engine;
    char repository[512];
    const char *tag;
    struct kg_buf path, header;
    struct transport_call call = {.method = "POST",
                                  .timeout_ms = s->pull_timeout_ms,
                                  .own_connection = true,
                                  .on_data = on_pull_bytes,
                                  .on_done = on_pull_end,
                                  .arg = op};

    kg_buf_init(&path, 2048);
    kg_buf_init(&header, 8192);
    split_reference(s->image, repository, sizeof repository, &tag);
    kg_buf_printf(&path, "/v1.%d/images/create?fromImage=", e->api_minor);
    transport_escape(&path, repository);
    kg_buf_puts(&path, "&tag=");
    transport_escape(&path, tag);
    auth_header(e, s->image, &header);
    call.path = path.data;
    call.header = header.len ? header.data : NULL;
    if (!path.error && !header.error)
        op->call = transport_start(e->transport, &call);
    kg_buf_fini(&path);
    kg_buf_fini(&header);
    return op->call != 0;
}
