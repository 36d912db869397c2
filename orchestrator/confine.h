/* SPDX-License-Identifier: Apache-2.0 */
/* Takes from a front every power it does not need. libseccomp's home.
 * The difficulty: what cannot be dropped on this machine must be said, not passed over. */
#ifndef ORCHESTRATOR_CONFINE_H
#define ORCHESTRATOR_CONFINE_H

#include "base/err.h"
#include <stdbool.h>

/* In a front, before its loop is made: newer libuv's would have a ring, whose calls go past any
 * later filter and without which they end the process. As on a kernel that has none. 0 or KG_EIO.
 */
int confine_loop(struct kg_err *err);

/* In a front, once all its descriptors are open, never undone. Always: no capabilities, no new
 * privileges, not dumpable, and system calls limited to those of a proxy at work. Started as root:
 * confined to `root` (a directory; "" = none), no groups, user and group "kipgate" of /etc/passwd
 * or 65534. Else confined where the machine allows it: `confined` tells. Unix sockets can be made
 * only then: any path could lead to the engine's. 0, or KG_EIO with words: the front must not serve
 * then. */
int confine_enter(const char *root, bool *confined, struct kg_err *err);

/* In control: keys are in its memory, which is neither dumped nor traced by others of its user. */
void confine_memory(void);

/* In control, before another program is executed: of what is open here nothing passes to it but
 * what it is given. Libraries open descriptors of their own without a word about that. */
void confine_close_on_exec(void);

#endif
