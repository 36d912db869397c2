/* SPDX-License-Identifier: Apache-2.0 */
/* Decides when something has lived long enough without use. It knows nothing of what that is: only
 * entries, holds and deadlines. The difficulty: use may begin in the instant of expiry, so `expire`
 * is a question that its implementer may refuse. */
#ifndef REAPER_H
#define REAPER_H

#include "base/heap.h"
#include <stdbool.h>

struct reaper_entry; /* embedded by the caller, zeroed before it is first watched */

/* The verb the reaper needs. True: taken, the entry is
 * no longer watched (its memory must outlive the call). False: it is in use after
 * all; the caller has told (or will tell) its use by reaper_hold or reaper_touch, else it is asked
 * again in the next millisecond. To free the entry inside the call, forget it first. */
typedef bool reaper_expire(void *arg, struct reaper_entry *entry);

struct reaper_entry {
    struct kg_heap_node node; /* in the heap only while not held */
    int64_t used_ms;          /* monotonic time of the last use that ended */
    int64_t idle_timeout_ms;
    unsigned holds; /* uses under way */
    bool watched;
};
struct reaper {
    struct kg_heap heap;
    size_t watched; /* the heap has room for so many, so that only reaper_watch can fail */
    reaper_expire *expire;
    void *arg;
    struct reaper_entry *expiring; /* being asked about; NULL when it was forgotten meanwhile */
};

void reaper_init(struct reaper *r, reaper_expire *expire, void *arg);
void reaper_fini(struct reaper *r);
/* Begins to watch: due at used_ms + idle_timeout_ms. 0 or KG_ENOMEM (then not watched). */
int reaper_watch(struct reaper *r, struct reaper_entry *e, int64_t used_ms,
                 int64_t idle_timeout_ms);
/* Ends watching, and with it all holds. What is told of an entry that is not watched (any more) has
 * no effect, so that the end of a use may arrive after its entry was taken. */
void reaper_forget(struct reaper *r, struct reaper_entry *e);
void reaper_hold(struct reaper *r, struct reaper_entry *e); /* a use begins */
void reaper_unhold(struct reaper *r, struct reaper_entry *e,
                   int64_t used_ms); /* a use ended at used_ms */
void reaper_touch(struct reaper *r, struct reaper_entry *e,
                  int64_t used_ms); /* only ever moves later */
void reaper_set_timeout(struct reaper *r, struct reaper_entry *e,
                        int64_t idle_timeout_ms);          /* clock kept */
int64_t reaper_entry_due_ms(const struct reaper_entry *e); /* KG_NEVER while held or not watched */

/* What it is worth to keep something that is `idle_ms` idle, holds `bytes`, and costs `start_ms` to
 * have again; the least is to go first. Of unknown size (0 or less): 0. */
double reaper_worth(int64_t idle_ms, int64_t bytes, int64_t start_ms);

int64_t reaper_due_ms(const struct reaper *r); /* KG_NEVER: nothing to do */
void reaper_tick(struct reaper *r, int64_t now_ms);

#endif
