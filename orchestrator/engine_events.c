/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's event stream: hints about our containers. The difficulty: it may lose, repeat and
 * garble, so nothing here is more than a reason to look, and its end is the surest sign that the
 * engine went away. */
#include "base/clock.h"
#include "base/log.h"
#include "orchestrator/engine_priv.h"
#include <inttypes.h>

#define NS_PER_MS 1000000
#define OVERLAP_MS 1000 /* the engine subscribes a moment after it sent its head */

static void on_line(void *arg, struct kg_str line)
{
    struct engine *e = arg;
    struct json *n = e->closing || e->stream == 0 ? NULL : engine_json(line);
    struct engine_event event;
    int64_t time_ns = 0;

    if (!n) {
        if (!e->closing && e->stream != 0)
            KG_LOG(KG_LOG_WARN, "engine-event-malformed", KG_FN("bytes", (int64_t)line.n));
        return;
    }
    if (engine_parse_event(n, e->owner, &event, &time_ns)) {
        engine_seal_check(e->key, &event.container);
        e->callbacks.on_event(e->callbacks.arg, &event);
        if (event.kind == ENGINE_EVENT_DESTROY)
            engine_groups_review(e);
    }
    if (time_ns > e->since_ns)
        e->since_ns = time_ns;
    json_free(n);
}

static void on_data(void *arg, struct kg_str bytes)
{
    struct engine *e = arg;

    engine_lines_feed(&e->events, bytes, on_line, e);
}

static void on_begun(void *arg, int status)
{
    engine_subscribed(arg, status);
}

static void on_done(void *arg, const struct transport_answer *a)
{
    struct engine *e = arg;

    e->stream = 0;
    /* libcurl's words for this are about transfers, which is not what happened */
    engine_lost(e, a->code == 0 || (a->code == KG_ECLOSED && !a->refused)
                       ? "the engine closed its event stream"
                       : a->words);
}

static void put_path(const struct engine *e, struct kg_buf *path)
{
    struct json *filter = json_new_object(), *types = json_new_array();

    json_push_string(types, "container");
    json_set(filter, "type", types);
    kg_buf_printf(path,
                  "/events?since=%" PRId64 ".%09" PRId64 "&filters=", e->since_ns / 1000000000,
                  e->since_ns % 1000000000);
    engine_put_owner_filter(e, filter, path);
}

void engine_subscribe(struct engine *e)
{
    struct kg_buf path;
    struct engine_request r = {.method = "GET",
                               .own_connection = true,
                               .on_begun = on_begun,
                               .on_data = on_data,
                               .on_done = on_done,
                               .arg = e};

    if (e->since_ns == 0)
        e->since_ns = (kg_clock_wall_ms() - OVERLAP_MS) * NS_PER_MS;
    kg_buf_clear(&e->events.line);
    e->events.skipping = false;
    kg_buf_init(&path, 8192);
    put_path(e, &path);
    r.path = path.data;
    if (!path.error)
        e->stream = engine_send(e, &r);
    kg_buf_fini(&path);
    if (e->stream == 0)
        engine_lost(e, "out of memory");
}
