/* SPDX-License-Identifier: Apache-2.0 */
/* All sockets that fronts accept from, as control holds them: handed back by fronts of an earlier
 * control, passed by systemd, or opened. The difficulty: a connection that waits on one of them
 * must meet a front, whatever happened to the control that opened it. */
#ifndef ORCHESTRATOR_LISTENERS_H
#define ORCHESTRATOR_LISTENERS_H

#include "orchestrator/attach.h"
#include "orchestrator/listen.h"

struct listeners {
    struct listen_set sets[KG_MAX_LISTEN], admin; /* admin.count 0: off */
    size_t count;
    size_t kept;     /* descriptors that were passed, and wait for the program that we may become */
    uint64_t set_up; /* struct message_setup */
    struct attached attached[KG_MAX_FRONTS]; /* fronts of an earlier control; theirs to take */
};

/* Finds the fronts of an earlier control that are set up as `c` says, then opens what they do not
 * have. Logs what is listened on. 0, or a code with *err filled. */
int listeners_open(struct listeners *l, const struct config *c, struct state *s,
                   struct kg_err *err);
void listeners_close_public(struct listeners *l); /* for a drain; the admin one stays */
void listeners_close(struct listeners *l);

#endif
