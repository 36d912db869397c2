/* SPDX-License-Identifier: Apache-2.0 */
/* How many frames of which kind a peer sends: what is too much ends its connection. Pure.
 * The difficulty: each frame alone may be fine, and a busy client that downloads must not look like
 * an attack; so frames that move no stream are held against those that do. */
#ifndef PROXY_HTTP2_FLOOD_H
#define PROXY_HTTP2_FLOOD_H

#include "base/limits.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A plain value; nothing to free. */
struct http2_flood {
    uint8_t head[9], have; /* of a frame's head, when a read ended within it */
    uint32_t left;         /* of the preface or of the frame under way: not looked at */
    bool from_worker;      /* who harms nobody but itself by resets */
    int64_t since_ms;      /* the counters below are of the time since then */
    unsigned glitches, opened, resets, early_resets;
    unsigned credit; /* frames that may come without being a glitch */
    unsigned block_frames;
    size_t block_bytes; /* of the header block under way */
};

void http2_flood_init(struct http2_flood *f, bool from_worker, int64_t now_ms);
/* Looks at what is about to be taken. 0, or the code to end the connection with. */
uint32_t http2_flood_scan(struct http2_flood *f, const char *bytes, size_t n, int64_t now_ms);
/* A piece of a body was sent: the peer will answer it with window updates. */
void http2_flood_sent(struct http2_flood *f);
/* A stream was reset by the peer before there was an answer. */
void http2_flood_reset_early(struct http2_flood *f);
/* A stream was reset by us and the peer is to blame. */
void http2_flood_reset_by_us(struct http2_flood *f);
/* Too many streams of the peer ended by a reset. */
bool http2_flood_resets(const struct http2_flood *f);

#endif
