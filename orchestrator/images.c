/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for the images of all services and pulls what is missing, a few at a time. The difficulty:
 * several services share an image, and the configuration changes while it is being pulled. */
#include "orchestrator/images.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include <stdlib.h>

struct image {
    struct images *all;
    struct kg_list link;
    struct kg_heap_node timer;            /* in the heap: to be begun */
    const struct config_service *service; /* of those that have it, the most patient one */
    char *name;
    bool always;        /* one of them says so */
    bool renewed;       /* pulled since that was last asked for */
    bool again;         /* it was asked for anew while something was under way */
    uint64_t operation; /* 0: none under way */
    unsigned failures;
    int64_t began_ms;
};
struct images {
    struct images_params params;
    struct kg_list list;
    struct kg_map names;
    struct kg_heap timers;
    size_t running;
    bool up, stopped;
};

static void on_looked(void *arg, const struct engine_answer *a);
static void on_pulled(void *arg, const struct engine_answer *a);

static int64_t now_of(const struct images *im)
{
    return im->params.clock ? im->params.clock() : kg_clock_mono_ms();
}

static void tell(const struct image *i, enum images_step step, const char *words, int64_t ms)
{
    const struct images_news news = {step, i->service->name, i->name, words, ms};

    i->all->params.on_news(i->all->params.arg, &news);
}

/* --- one image --- */

static void due(struct image *i, int64_t at_ms)
{
    kg_heap_set(&i->all->timers, &i->timer, at_ms); /* there is room for all: image_new */
}

/* 1 s, 2 s, 4 s, up to a minute. */
static int64_t pause_of(unsigned failures)
{
    int64_t ms = failures > 6 ? KG_BACKOFF_LAST_MS : (int64_t)KG_BACKOFF_FIRST_MS << (failures - 1);

    return ms < KG_BACKOFF_LAST_MS ? ms : KG_BACKOFF_LAST_MS;
}

static void failed(struct image *i, const char *words)
{
    int64_t pause_ms = pause_of(++i->failures);

    due(i, now_of(i->all) + pause_ms);
    tell(i, IMAGES_FAILED, words, pause_ms);
}

/* The operation has been answered, or was never taken. */
static void ended(struct image *i)
{
    i->operation = 0;
    i->all->running--;
}

static void pull(struct image *i)
{
    const struct engine_ops *e = i->all->params.engine;

    i->began_ms = now_of(i->all);
    i->operation = e->pull(e->self, i->service, on_pulled, i);
    if (i->operation != 0) {
        tell(i, IMAGES_PULLING, "", 0);
        return;
    }
    ended(i);
    failed(i, "out of memory");
}

static void look(struct image *i)
{
    const struct engine_ops *e = i->all->params.engine;

    i->operation = e->image(e->self, i->service, on_looked, i);
    if (i->operation != 0)
        return;
    ended(i);
    failed(i, "out of memory");
}

static void begin(struct image *i)
{
    kg_heap_remove(&i->all->timers, &i->timer);
    i->all->running++;
    i->again = false;
    if (i->always && !i->renewed)
        pull(i);
    else
        look(i);
}

/* What was asked for meanwhile comes next. */
static void settled(struct image *i)
{
    if (i->again)
        due(i, now_of(i->all));
}

static void on_looked(void *arg, const struct engine_answer *a)
{
    struct image *i = arg;

    if (a->code == KG_ENOTFOUND) {
        pull(i); /* in the place of the question */
        return;
    }
    ended(i);
    if (a->code != 0) {
        failed(i, a->words);
        return;
    }
    i->failures = 0;
    settled(i);
}

static void on_pulled(void *arg, const struct engine_answer *a)
{
    struct image *i = arg;

    ended(i);
    if (a->code != 0) {
        failed(i, a->words);
        return;
    }
    i->failures = 0;
    i->renewed = !i->again;
    settled(i);
    tell(i, IMAGES_PULLED, "", now_of(i->all) - i->began_ms);
}

static void want(struct image *i)
{
    i->failures = 0;
    i->again = true;
    if (i->operation == 0)
        due(i, now_of(i->all));
}

static void cancel(struct image *i)
{
    const struct engine_ops *e = i->all->params.engine;

    kg_heap_remove(&i->all->timers, &i->timer);
    if (i->operation == 0)
        return;
    e->cancel(e->self, i->operation);
    ended(i);
}

static void image_free(struct image *i)
{
    cancel(i);
    kg_map_remove(&i->all->names, kg_str_of(i->name));
    kg_list_remove(&i->link);
    free(i->name);
    free(i);
}

static struct image *image_new(struct images *im, const char *name)
{
    struct image *i = calloc(1, sizeof *i);

    if (!i)
        return NULL;
    i->all = im;
    i->name = strdup(name);
    if (i->name && kg_heap_reserve(&im->timers, im->names.count + 1) == 0 &&
        kg_map_set(&im->names, kg_str_of(name), i) == 0) {
        kg_list_push_back(&im->list, &i->link);
        return i;
    }
    free(i->name);
    free(i);
    return NULL;
}

/* --- all of them --- */

struct images *images_new(const struct images_params *params)
{
    struct images *im = calloc(1, sizeof *im);

    if (!im)
        return NULL;
    im->params = *params;
    kg_list_init(&im->list);
    kg_map_init(&im->names);
    kg_heap_init(&im->timers);
    return im;
}

void images_free(struct images *im)
{
    if (!im)
        return;
    KG_LIST_EACH_SAFE(it, &im->list)
    image_free(KG_LIST_ENTRY(it, struct image, link));
    kg_map_fini(&im->names);
    kg_heap_fini(&im->timers);
    free(im);
}

static void add(struct images *im, const struct config_service *s)
{
    struct image *i = kg_map_get(&im->names, kg_str_of(s->image));

    if (!i) {
        i = image_new(im, s->image);
        if (!i) {
            KG_LOG(KG_LOG_WARN, "image-not-prepared", KG_F("service", s->name),
                   KG_F("why", "out of memory"));
            return;
        }
        want(i);
    }
    if (!i->service || s->pull_timeout_ms > i->service->pull_timeout_ms)
        i->service = s;
    i->always |= s->pull == CONFIG_PULL_ALWAYS;
}

void images_configure(struct images *im, const struct config *c)
{
    if (im->stopped)
        return;
    KG_LIST_EACH(it, &im->list)
    {
        struct image *i = KG_LIST_ENTRY(it, struct image, link);
        i->service = NULL;
        i->always = false;
    }
    for (size_t n = 0; n < c->service_count; n++)
        if (c->services[n]->pull != CONFIG_PULL_NEVER)
            add(im, c->services[n]);
    KG_LIST_EACH_SAFE(it, &im->list)
    {
        struct image *i = KG_LIST_ENTRY(it, struct image, link);
        if (!i->service)
            image_free(i);
    }
}

static void want_all(struct images *im, bool renew)
{
    if (im->stopped)
        return;
    KG_LIST_EACH(it, &im->list)
    {
        struct image *i = KG_LIST_ENTRY(it, struct image, link);
        i->renewed &= !renew;
        want(i);
    }
}

void images_renew(struct images *im)
{
    want_all(im, true);
}

void images_engine_state(struct images *im, bool up)
{
    im->up = up;
    if (up)
        want_all(im, false);
}

void images_stop(struct images *im)
{
    im->stopped = true;
    KG_LIST_EACH(it, &im->list)
    cancel(KG_LIST_ENTRY(it, struct image, link));
}

int64_t images_due_ms(const struct images *im)
{
    const struct kg_heap_node *first = kg_heap_first(&im->timers);

    return im->up && first && im->running < IMAGES_AT_ONCE ? first->due_ms : KG_NEVER;
}

void images_tick(struct images *im, int64_t now_ms)
{
    while (images_due_ms(im) <= now_ms)
        begin(KG_LIST_ENTRY(kg_heap_first(&im->timers), struct image, timer));
}
