/* SPDX-License-Identifier: Apache-2.0 */
/* A two-ended message channel over SOCK_SEQPACKET on a libuv loop: whole messages, in order.
 * The difficulty: a slow peer. What it does not take waits in a bounded queue; beyond it the
 * channel is closed, for a peer that far behind is as good as gone. */
#ifndef KG_BASE_CHANNEL_H
#define KG_BASE_CHANNEL_H

#include <stddef.h>
#include <uv.h>

struct kg_channel;
/* A message; the bytes are the callee's until it returns. */
typedef void kg_channel_message(void *arg, const void *bytes, size_t n);
/* The peer is gone or broke the framing: called once, never after kg_channel_close. */
typedef void kg_channel_lost(void *arg);
typedef void kg_channel_closed(void *arg);

/* Makes a connected pair of close-on-exec, non-blocking descriptors. 0 or KG_EIO. */
int kg_channel_pair(int fds[2]);
/* Takes fd over. NULL: no memory or not pollable (then fd is closed). */
struct kg_channel *kg_channel_open(uv_loop_t *loop, int fd, kg_channel_message *on_message,
                                   kg_channel_lost *on_lost, void *arg);
/* Copies the bytes; n > 0. 0, KG_ELIMIT (n too large, queue full or no memory) or KG_ECLOSED. After
 * any failure on_lost follows, from the loop and never from in here: a message is missing now. */
int kg_channel_send(struct kg_channel *c, const void *bytes, size_t n);
size_t kg_channel_queued(const struct kg_channel *c); /* messages that wait for the peer */
/* Asynchronous: frees the channel, then calls on_closed (may be NULL) with arg. */
void kg_channel_close(struct kg_channel *c, kg_channel_closed *on_closed);

#endif
