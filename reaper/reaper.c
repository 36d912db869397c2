/* SPDX-License-Identifier: Apache-2.0 */
/* Idle clocks on a heap. The difficulty: an entry that is refused at expiry must come back, but not
 * within the same tick, or the loop would never end. */
#include "reaper/reaper.h"
#include "base/clock.h"
#include "base/err.h"

void reaper_init(struct reaper *r, reaper_expire *expire, void *arg)
{
    *r = (struct reaper){.expire = expire, .arg = arg};
    kg_heap_init(&r->heap);
}

void reaper_fini(struct reaper *r)
{
    kg_heap_fini(&r->heap);
}

static int64_t due(const struct reaper_entry *e)
{
    return e->used_ms > KG_NEVER - e->idle_timeout_ms ? KG_NEVER : e->used_ms + e->idle_timeout_ms;
}

/* Room was reserved when the entry came to be watched, so this cannot fail. */
static void replace(struct reaper *r, struct reaper_entry *e, int64_t not_before_ms)
{
    int64_t at = due(e);

    if (!e->watched || e->holds > 0) {
        kg_heap_remove(&r->heap, &e->node);
        return;
    }
    KG_ASSERT(kg_heap_set(&r->heap, &e->node, at < not_before_ms ? not_before_ms : at) == 0);
}

int reaper_watch(struct reaper *r, struct reaper_entry *e, int64_t used_ms, int64_t idle_timeout_ms)
{
    int rc = kg_heap_reserve(&r->heap, r->watched + 1);

    if (rc != 0)
        return rc;
    KG_ASSERT(!e->watched);
    r->watched++;
    *e = (struct reaper_entry){
        .used_ms = used_ms, .idle_timeout_ms = idle_timeout_ms, .watched = true};
    replace(r, e, INT64_MIN);
    return 0;
}

void reaper_forget(struct reaper *r, struct reaper_entry *e)
{
    if (!e->watched)
        return;
    KG_ASSERT(r->watched > 0);
    r->watched--;
    e->watched = false;
    kg_heap_remove(&r->heap, &e->node);
}

void reaper_hold(struct reaper *r, struct reaper_entry *e)
{
    e->holds++;
    replace(r, e, INT64_MIN);
}

void reaper_unhold(struct reaper *r, struct reaper_entry *e, int64_t used_ms)
{
    KG_ASSERT(e->holds > 0);
    e->holds--;
    reaper_touch(r, e, used_ms);
}

void reaper_touch(struct reaper *r, struct reaper_entry *e, int64_t used_ms)
{
    if (used_ms > e->used_ms)
        e->used_ms = used_ms;
    replace(r, e, INT64_MIN);
}

void reaper_set_timeout(struct reaper *r, struct reaper_entry *e, int64_t idle_timeout_ms)
{
    e->idle_timeout_ms = idle_timeout_ms;
    replace(r, e, INT64_MIN);
}

int64_t reaper_entry_due_ms(const struct reaper_entry *e)
{
    return e->watched && e->holds == 0 ? due(e) : KG_NEVER;
}

int64_t reaper_due_ms(const struct reaper *r)
{
    const struct kg_heap_node *first = kg_heap_first(&r->heap);

    return first ? first->due_ms : KG_NEVER;
}

void reaper_tick(struct reaper *r, int64_t now_ms)
{
    struct kg_heap_node *first;

    while ((first = kg_heap_first(&r->heap)) != NULL && first->due_ms <= now_ms) {
        struct reaper_entry *e = KG_CONTAINER_OF(first, struct reaper_entry, node);
        kg_heap_remove(&r->heap, first);
        if (!r->expire(r->arg, e))
            replace(r, e, now_ms + 1);
        else if (e->watched)
            reaper_forget(r, e);
    }
}
