/* SPDX-License-Identifier: Apache-2.0 */
/* What libuv's loop lacks where memory or the kernel has no more to give.
 * The difficulty: libuv aborts when it cannot watch a descriptor, and tells nobody before. */
#ifndef KG_BASE_LOOP_H
#define KG_BASE_LOOP_H

#include <uv.h>

/* This process may have as many descriptors as its user may give it. */
void kg_loop_raise_descriptors(void);

/* Makes room in the loop for as many descriptors (or as the process may have, if that is less), so
 * that to watch one of them needs no memory later. 0, KG_ENOMEM or KG_EIO. */
int kg_loop_reserve(uv_loop_t *loop, int descriptors);

/* From now on, in this process: where a library aborts because memory, descriptors or the kernel's
 * room for watches ran out, the process ends with one line ("exhausted") and status 1 instead. An
 * assertion of ours still aborts. */
void kg_loop_end_exhausted(void);

#endif
