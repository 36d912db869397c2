/* SPDX-License-Identifier: Apache-2.0 */
/* How a control and a front of an earlier one find each other again. The control connects, the
 * front says who it is and hands over its descriptors; from then on they speak as ever.
 * The difficulty: the two may be of different builds, or differently set up: then the front is sent
 * off in a way that every build understands. */
#ifndef ORCHESTRATOR_ATTACH_H
#define ORCHESTRATOR_ATTACH_H

#include "orchestrator/messages.h"
#include "orchestrator/state.h"

#define ATTACH_MAX_LISTENERS (KG_MAX_LISTEN + 1)
#define ATTACH_SENT_OFF "D" /* a whole message: drain, this control has no use for you */

struct attached { /* a front that is ours now */
    int channel;  /* -1: none at this place */
    pid_t pid;
    uint32_t listener_count;
    int stats, door, listeners[ATTACH_MAX_LISTENERS]; /* `door`: where it accepts controls */
    char life[STATE_LIFE_BYTES];
};

/* Control, at its start, for each place: blocks for a second at most where a front is slow.
 * `set_up` as struct message_setup has it. False: out->channel is -1. */
bool attach_find(const struct state *s, size_t index, uint64_t set_up, struct attached *out);
void attached_close(struct attached *a);
/* Are these the first words of a front at that place, set up as we are, with so many descriptors?
 * Else NULL. `bytes` aligned to 8. */
const struct message_hello *attach_is_ours(const void *bytes, size_t n, size_t index,
                                           uint64_t set_up, size_t descriptors);

/* Front: accepts a control if it is `user`'s. -1: none. */
int attach_accept(int door, uint32_t user);
/* Front: the first thing that it says; the descriptors go along. 0 or KG_EIO. */
int attach_say_hello(int channel, const struct message_hello *hello, int stats, int door,
                     const int *listeners);
bool attach_is_sent_off(const void *bytes, size_t n);

#endif
