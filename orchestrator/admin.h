/* SPDX-License-Identifier: Apache-2.0 */
/* The admin API in control: whole requests in (read by a front), answers out in pieces.
 * The difficulty: some answers come later (wake, sleep) or never end (events), and their asker may
 * leave at any time. */
#ifndef ORCHESTRATOR_ADMIN_H
#define ORCHESTRATOR_ADMIN_H

#include "orchestrator/fleet.h"
#include "proxy/proxy.h"

struct admin;
struct admin_params {
    void *self;
    struct fleet *fleet;
    struct engine *engine;
    const struct parking *parking; /* NULL: none */
    /* The configuration in force; a borrowed pointer that changes on reload. */
    const struct config *(*config)(void *self);
    /* SIGHUP's work: 0, or KG_EINVAL with all errors and the old configuration kept. */
    int (*reload)(void *self, struct config_errors *errors);
    /* Puts `next` (taken over) in force, or leaves all as it was and frees it: errors told. */
    int (*apply)(void *self, struct config *next, struct config_errors *errors);
    /* Page of each front's counters, 0..n-1; NULL past the end. */
    const struct proxy_stats *(*stats)(void *self, size_t front);
    bool (*listening)(void *self); /* all fronts are up and accept */
    bool (*draining)(void *self);
    /* One piece of an answer: the first carries status and type. False: that asker is gone. */
    bool (*reply)(void *self, uint64_t request, const struct proxy_local_answer *piece);
};
struct admin_request { /* slices are valid during the call */
    uint64_t id;       /* unique among all fronts */
    struct kg_str method, path, query, body;
};
struct admin *admin_new(const struct admin_params *params);
void admin_free(struct admin *a);
void admin_request(struct admin *a, const struct admin_request *r, int64_t now_ms);
void admin_gone(struct admin *a, uint64_t request); /* its asker hung up */
/* The fleet has another configuration, and fronts do not know of it yet: what they count under a
 * number from now on may be another service's. */
void admin_configured(struct admin *a);
/* From the fleet's observer and from control: told to followers of /v1/events and counted. */
void admin_changed(struct admin *a, const struct fleet_change *change);
void admin_cold_start(struct admin *a, uint32_t service, bool success, const char *result,
                      const int64_t phase_ms[FLEET_PHASES]);
void admin_reaped(struct admin *a, uint32_t service, const char *action);
void admin_resumed(struct admin *a, uint32_t service);
/* Anything else worth following: {"event":EVENT,"service":...,"detail":...}; service may be NULL.
 */
void admin_event(struct admin *a, const char *event, const char *service, const char *detail);

#endif
