/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines of idleness. The difficulty: the answer of `expire` decides, and while it is asked the
 * entry may be held, touched, forgotten, even freed. */
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
    r->watched = 0;
}

static int64_t idle_end_ms(const struct reaper_entry *e)
{
    int64_t due_ms;

    if (__builtin_add_overflow(e->used_ms, e->idle_timeout_ms, &due_ms))
        return KG_NEVER;
    return due_ms;
}

/* Cannot fail: reaper_watch made room for every watched entry, held ones too. */
static void schedule(struct reaper *r, struct reaper_entry *e, int64_t due_ms)
{
    KG_ASSERT(e->watched && e->holds == 0);
    KG_ASSERT(kg_heap_set(&r->heap, &e->node, due_ms) == 0);
}

int reaper_watch(struct reaper *r, struct reaper_entry *e, int64_t used_ms, int64_t idle_timeout_ms)
{
    KG_ASSERT(!e->watched && e->node.place == 0 && idle_timeout_ms >= 0);
    if (kg_heap_reserve(&r->heap, r->watched + 1) != 0)
        return KG_ENOMEM;
    r->watched++;
    e->watched = true;
    e->holds = 0;
    e->used_ms = used_ms;
    e->idle_timeout_ms = idle_timeout_ms;
    schedule(r, e, idle_end_ms(e));
    return 0;
}

void reaper_forget(struct reaper *r, struct reaper_entry *e)
{
    if (!e->watched)
        return;
    kg_heap_remove(&r->heap, &e->node);
    e->watched = false;
    e->holds = 0;
    r->watched--;
    if (r->expiring == e)
        r->expiring = NULL;
}

void reaper_hold(struct reaper *r, struct reaper_entry *e)
{
    if (!e->watched)
        return;
    e->holds++;
    kg_heap_remove(&r->heap, &e->node);
}

void reaper_unhold(struct reaper *r, struct reaper_entry *e, int64_t used_ms)
{
    if (!e->watched)
        return;
    KG_ASSERT(e->holds > 0);
    e->holds--;
    if (used_ms > e->used_ms)
        e->used_ms = used_ms;
    if (e->holds == 0)
        schedule(r, e, idle_end_ms(e));
}

void reaper_touch(struct reaper *r, struct reaper_entry *e, int64_t used_ms)
{
    if (!e->watched || used_ms <= e->used_ms)
        return;
    e->used_ms = used_ms;
    if (e->node.place != 0)
        schedule(r, e, idle_end_ms(e));
}

void reaper_set_timeout(struct reaper *r, struct reaper_entry *e, int64_t idle_timeout_ms)
{
    KG_ASSERT(idle_timeout_ms >= 0);
    if (!e->watched)
        return;
    e->idle_timeout_ms = idle_timeout_ms;
    if (e->node.place != 0)
        schedule(r, e, idle_end_ms(e));
}

int64_t reaper_entry_due_ms(const struct reaper_entry *e)
{
    if (!e->watched || e->holds > 0)
        return KG_NEVER;
    return e->node.place != 0 ? e->node.due_ms : idle_end_ms(e);
}

int64_t reaper_due_ms(const struct reaper *r)
{
    const struct kg_heap_node *first = kg_heap_first(&r->heap);

    return first ? first->due_ms : KG_NEVER;
}

/* Asks once. The entry is out of the heap meanwhile, so that nobody finds it due a second time. */
static void ask(struct reaper *r, struct reaper_entry *e, int64_t now_ms)
{
    bool taken;

    kg_heap_remove(&r->heap, &e->node);
    r->expiring = e;
    taken = r->expire(r->arg, e);
    if (r->expiring != e) /* forgotten by the callee, perhaps freed: not ours to look at */
        return;
    r->expiring = NULL;
    if (taken) {
        reaper_forget(r, e);
    } else if (e->holds == 0) {
        const int64_t due_ms = idle_end_ms(e);
        /* Refused without a use told: ask again, but not in this same moment for ever. */
        schedule(r, e, due_ms > now_ms ? due_ms : now_ms + 1);
    }
}

void reaper_tick(struct reaper *r, int64_t now_ms)
{
    KG_ASSERT(!r->expiring);
    /* As many as there were: what is watched anew with an old date waits for the next tick. */
    for (size_t left = r->heap.count; left > 0 && reaper_due_ms(r) <= now_ms; left--) {
        struct kg_heap_node *first = kg_heap_first(&r->heap);

        ask(r, KG_CONTAINER_OF(first, struct reaper_entry, node), now_ms);
    }
}

/* Uses are as likely as they were lately: one per idle time; so much start saved per byte held. */
double reaper_worth(int64_t idle_ms, int64_t bytes, int64_t start_ms)
{
    if (bytes <= 0)
        return 0;
    return (double)(start_ms + 1) / ((double)bytes * (double)(idle_ms + 1000));
}
