/* SPDX-License-Identifier: Apache-2.0 */
/* Images ahead of time: what configured services run is on the engine before anybody asks for it.
 * The difficulty: it must never stand in the way of a request that is waiting for the same image.
 */
#ifndef ORCHESTRATOR_IMAGES_H
#define ORCHESTRATOR_IMAGES_H

#include "orchestrator/engine.h"

#define IMAGES_AT_ONCE 2 /* questions and pulls under way */

enum images_step { IMAGES_PULLING, IMAGES_PULLED, IMAGES_FAILED };
struct images_news { /* valid during the call */
    enum images_step step;
    const char *service; /* one of those that have it */
    const char *image;
    const char *words; /* of a failure: why */
    int64_t ms;        /* pulled: it took so long; failed: it is tried again after so long */
};
struct images_params {
    const struct engine_ops *engine; /* outlives us */
    int64_t (*clock)(void);          /* milliseconds; NULL: the monotonic clock */
    void (*on_news)(void *arg, const struct images_news *news);
    void *arg;
};
struct images;
struct images *images_new(const struct images_params *params); /* NULL: no memory */
void images_free(struct images *im);                           /* cancels what is under way */
/* The images of all services of c whose pull policy is not "never". c is read until the next call
 * of this, or the end. An image that no service has any more is let go of. */
void images_configure(struct images *im, const struct config *c);
/* After a reload: all are looked for again, and those of "always" are pulled again. */
void images_renew(struct images *im);
/* Nothing is asked while it is down; when it came back, all are looked for again. */
void images_engine_state(struct images *im, bool up);
/* For good: cancels what is under way and begins nothing more. */
void images_stop(struct images *im);
/* When images_tick is due; KG_NEVER: not before another call of these. */
int64_t images_due_ms(const struct images *im);
void images_tick(struct images *im, int64_t now_ms);

#endif
