/* SPDX-License-Identifier: Apache-2.0 */
/* Control's side of the front processes: starts them, speaks to them, starts them again.
 * The difficulty: a front may die or lie at any moment; its listening sockets and counters are ours
 * and outlive it. */
#ifndef ORCHESTRATOR_FRONTS_H
#define ORCHESTRATOR_FRONTS_H

#include "orchestrator/admin.h"
#include "orchestrator/listeners.h"
#include "orchestrator/state.h"

struct fronts;
struct fronts_params {
    uv_loop_t *loop;
    const struct config *config; /* in force at the start; later by fronts_configure */
    struct state *state;
    struct listeners *listeners; /* borrowed; front 0 accepts from the admin one, too */
    int access_log_fd;           /* -1: off; borrowed */
    int stderr_fd;               /* likewise */
    uint32_t settle_ms;          /* see struct proxy_health */
    void *arg;
    /* A whole admin request; its id is unique. Its asker has gone: by the same id. */
    void (*admin_request)(void *arg, const struct admin_request *r);
    void (*admin_gone)(void *arg, uint64_t request);
    void (*all_ended)(void *arg); /* after fronts_drain or fronts_kill: every front has exited */
};
/* Starts nothing yet. On failure *err is filled; what is returned then is only for the exit. */
struct fronts *fronts_new(const struct fronts_params *params, struct kg_err *err);
/* The fleet speaks through this door; set before fronts_start. */
struct fleet_fronts fronts_door(struct fronts *f);
void fronts_set_fleet(struct fronts *f, struct fleet *fleet);
void fronts_set_settle_ms(struct fronts *f, uint32_t settle_ms);
void fronts_start(struct fronts *f); /* one that cannot be started is tried again */

/* Tells all fronts the services and routes of `c` (ids by the fleet): those that are behind later.
 */
void fronts_configure(struct fronts *f, const struct config *c);
/* Before the loop sleeps: those that have caught up. */
void fronts_tell_due(struct fronts *f);
/* Tells them the certificates of their configuration, which have changed. */
void fronts_certify(struct fronts *f);
void fronts_set_tickets(struct fronts *f, const struct tls_ticket_key *keys, unsigned count);
bool fronts_admin_reply(struct fronts *f, uint64_t request, const struct proxy_local_answer *a);
const struct proxy_stats *fronts_stats(const struct fronts *f,
                                       size_t front); /* NULL past the end */
bool fronts_listening(const struct fronts *f);        /* all are up and have their configuration */

void fronts_drain(struct fronts *f); /* finish and exit; none is started again */
void fronts_kill(struct fronts *f);  /* now */
/* After all_ended: frees. */
void fronts_free(struct fronts *f, void (*on_closed)(void *arg), void *arg);

#endif
