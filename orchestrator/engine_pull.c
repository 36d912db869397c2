/* SPDX-License-Identifier: Apache-2.0 */
/* Pulls: one per image at a time, however many services want it, each with a deadline of its own.
 * The difficulty: the engine says 200 first and tells of a failure in the stream that follows. */
#include "base/clock.h"
#include "base/log.h"
#include "orchestrator/engine_priv.h"
#include <stdio.h>
#include <stdlib.h>

#define MAX_LAYERS 128
#define MIB (1024.0 * 1024.0)

struct layer {
    char id[20];
    double current, total;
};
struct pull {
    struct kg_list link;
    struct engine *engine;
    uint64_t call;
    char *image;
    struct engine_lines lines;
    uv_timer_t due; /* the earliest deadline of those who wait */
    bool ended;     /* its operations are being answered */
    bool gone;      /* only its timer is still closing */
    char error[256];
    char words[64]; /* progress */
    int64_t told_ms;
    struct layer layers[MAX_LAYERS];
    size_t layer_count;
};

static void on_closed(uv_handle_t *timer)
{
    struct pull *p = timer->data;

    kg_buf_fini(&p->lines.line);
    free(p->image);
    free(p);
}

/* Its memory stays until the loop's next round. */
static void pull_free(struct pull *p)
{
    p->gone = true;
    kg_list_remove(&p->link);
    uv_close((uv_handle_t *)&p->due, on_closed);
}

/* The one of its operations that is due first. */
static struct op *op_of(const struct pull *p)
{
    struct op *first = NULL;

    KG_LIST_EACH(it, &p->engine->running)
    {
        struct op *op = KG_LIST_ENTRY(it, struct op, link);
        if (op->pull == p && (!first || op->due_ms < first->due_ms))
            first = op;
    }
    return first;
}

/* --- progress ----------------------------------------------------------------------------- */

static struct layer *layer_of(struct pull *p, const char *id)
{
    for (size_t i = 0; i < p->layer_count; i++)
        if (strcmp(p->layers[i].id, id) == 0)
            return &p->layers[i];
    if (!*id || p->layer_count == MAX_LAYERS ||
        !kg_str_copy(p->layers[p->layer_count].id, sizeof p->layers->id, kg_str_of(id)))
        return NULL;
    return &p->layers[p->layer_count++];
}

static void take_progress(struct pull *p, const struct json *line)
{
    const char *status = json_string(json_get(line, "status"), "");
    struct layer *layer = layer_of(p, json_string(json_get(line, "id"), ""));
    double current = 0, total = 0;

    if (!layer)
        return;
    if (strcmp(status, "Downloading") == 0) {
        layer->current = json_number(json_path(line, "progressDetail.current"), 0);
        layer->total = json_number(json_path(line, "progressDetail.total"), layer->current);
    } else if (strcmp(status, "Download complete") == 0 || strcmp(status, "Extracting") == 0) {
        layer->current = layer->total;
    }
    for (size_t i = 0; i < p->layer_count; i++) {
        current += p->layers[i].current;
        total += p->layers[i].total;
    }
    if (total > 0 && total < 1e18 && current >= 0)
        snprintf(p->words, sizeof p->words, "%s %.0f/%.0f MiB",
                 current < total ? "downloading" : "extracting", current / MIB, total / MIB);
}

static void tell_progress(struct pull *p)
{
    struct engine *e = p->engine;
    int64_t now = kg_clock_mono_ms();

    if (!p->words[0] || now - p->told_ms < ENGINE_PROGRESS_EVERY_MS)
        return;
    p->told_ms = now;
    KG_LIST_EACH_SAFE(it, &e->running)
    {
        struct op *op = KG_LIST_ENTRY(it, struct op, link);
        if (op->pull == p)
            e->callbacks.on_pull_progress(e->callbacks.arg, op->service, p->words);
    }
}

static void on_line(void *arg, struct kg_str line)
{
    struct pull *p = arg;
    struct json *n = engine_json(line);
    const char *error = json_string(json_get(n, "error"), NULL);

    if (!error)
        error = json_string(json_get(n, "message"), NULL); /* of an answer that is no stream */
    if (!error)
        error = json_string(json_path(n, "errorDetail.message"), NULL);
    if (error && !p->error[0])
        engine_clean_words(p->error, sizeof p->error, kg_str_of(*error ? error : "failed"));
    if (json_type(n) == JSON_OBJECT)
        take_progress(p, n);
    json_free(n);
}

static void on_data(void *arg, struct kg_str bytes)
{
    struct pull *p = arg;

    engine_lines_feed(&p->lines, bytes, on_line, p);
    tell_progress(p);
}

/* --- the end ------------------------------------------------------------------------------ */

static void judge(struct pull *p, const struct transport_answer *from, struct engine_answer *to)
{
    engine_lines_feed(&p->lines, KG_STR("\n"), on_line, p); /* a last line without its end */
    engine_judge(KIND_PULL, from, to);
    if (to->code == KG_ETIMEOUT) /* of the connection: the call itself has no deadline */
        to->code = KG_ECLOSED;
    if (to->code == 0 && p->error[0])
        to->code = KG_EIO;
    if (to->code != 0 && from->code == 0)
        kg_str_copy(to->words, sizeof to->words,
                    kg_str_of(p->error[0] ? p->error : "the engine refused to pull"));
}

static void on_done(void *arg, const struct transport_answer *a)
{
    struct pull *p = arg;
    struct engine *e = p->engine;
    bool refused = a->refused && a->code == KG_ECLOSED;
    struct engine_answer answer = {0};
    struct op *op;

    p->call = 0;
    p->ended = true;
    kg_list_remove(&p->link); /* whoever asks from now on starts a pull of its own */
    judge(p, a, &answer);
    while (!e->closing && (op = op_of(p)) != NULL) {
        op->answer = answer;
        op->pull = NULL;
        engine_op_end(op);
    }
    pull_free(p);
    if (refused)
        engine_lost(e, answer.words);
}

void engine_pull_leave(struct op *op)
{
    struct pull *p = op->pull;

    op->pull = NULL;
    if (p->ended || op_of(p))
        return;
    transport_cancel(p->engine->transport, p->call);
    pull_free(p);
}

/* --- deadlines ---------------------------------------------------------------------------- */

static void on_due(uv_timer_t *timer);

static void arm(struct pull *p)
{
    const struct op *first = op_of(p);
    int64_t left_ms = first ? first->due_ms - kg_clock_mono_ms() : 0;

    uv_update_time(p->engine->loop);
    if (first)
        uv_timer_start(&p->due, on_due, left_ms > 0 ? (uint64_t)left_ms : 0, 0);
}

/* Who is late leaves; the pull goes on for the others. */
static void on_due(uv_timer_t *timer)
{
    struct pull *p = timer->data;
    int64_t now = kg_clock_mono_ms();
    struct op *op;

    while (!p->gone && (op = op_of(p)) != NULL && op->due_ms <= now) {
        op->answer = (struct engine_answer){.code = KG_ETIMEOUT};
        snprintf(op->answer.words, sizeof op->answer.words, "the pull did not end in time%s%s",
                 p->words[0] ? ": " : "", p->words);
        engine_pull_leave(op);
        engine_op_end(op);
    }
    if (!p->gone)
        arm(p);
}

/* --- the begin ---------------------------------------------------------------------------- */

/* Without a deadline: those who wait have theirs, and the last of them ends it. */
static uint64_t send_pull(struct pull *p, const struct engine_reference *r)
{
    struct kg_buf path, header;
    struct engine_request request = {
        .method = "POST", .own_connection = true, .on_data = on_data, .on_done = on_done, .arg = p};
    uint64_t call = 0;

    kg_buf_init(&path, 8192);
    kg_buf_init(&header, 64 * 1024);
    kg_buf_puts(&path, "/images/create?fromImage=");
    transport_escape(&path, r->repository);
    kg_buf_puts(&path, "&tag=");
    transport_escape(&path, r->tag);
    engine_auth_header(r->host, &header);
    request.path = path.data;
    request.header = header.len > 0 ? header.data : NULL;
    if (!path.error && !header.error)
        call = engine_send(p->engine, &request);
    kg_buf_fini(&path);
    kg_buf_fini(&header);
    return call;
}

static struct pull *pull_of(struct engine *e, const char *image)
{
    KG_LIST_EACH(it, &e->pulls)
    {
        struct pull *p = KG_LIST_ENTRY(it, struct pull, link);
        if (strcmp(p->image, image) == 0)
            return p;
    }
    return NULL;
}

static struct pull *pull_new(struct engine *e, const char *image)
{
    struct pull *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    uv_timer_init(e->loop, &p->due);
    p->due.data = p;
    p->engine = e;
    p->told_ms = kg_clock_mono_ms();
    p->image = strdup(image);
    kg_buf_init(&p->lines.line, ENGINE_MAX_LINE_BYTES);
    kg_list_init(&p->link);
    if (p->image)
        return p;
    pull_free(p);
    return NULL;
}

/* Who asks for an image that is being pulled waits for that pull, with a deadline of its own. */
uint64_t engine_pull(void *self, const struct config_service *s, engine_done *done, void *arg)
{
    struct engine *e = self;
    struct op *op = engine_op_new(e, KIND_PULL, done, arg, s->pull_timeout_ms);
    struct engine_reference reference;
    struct pull *p;

    if (!op)
        return 0;
    kg_str_copy(op->service, sizeof op->service, kg_str_of(s->name));
    if (!engine_is_up(e))
        return engine_op_fail(op, KG_ECLOSED, engine_down_why(e));
    if (engine_parse_reference(s->image, &reference) != 0)
        return engine_op_fail(op, KG_EINVAL, "not an image reference");
    p = pull_of(e, s->image);
    if (!p) {
        p = pull_new(e, s->image);
        if (p)
            p->call = send_pull(p, &reference);
        if (p && p->call == 0) {
            pull_free(p);
            p = NULL;
        }
        if (!p)
            return engine_op_fail(op, KG_ENOMEM, "out of memory");
        kg_list_push_back(&e->pulls, &p->link);
    }
    op->pull = p;
    arm(p);
    return op->number;
}
