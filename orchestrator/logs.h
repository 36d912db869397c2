/* SPDX-License-Identifier: Apache-2.0 */
/* What logs are written into. The difficulty: several processes write into one pipe, so that one
 * with room for a line has none a moment later; only a descriptor that does not block is safe, and
 * whoever made the pipe may need it to block. */
#ifndef ORCHESTRATOR_LOGS_H
#define ORCHESTRATOR_LOGS_H

#include "base/err.h"

/* For the access log: `path` as in the configuration, "-" is standard output. The caller closes it.
 * -1: "off", or err says why not. */
int logs_open_access(const char *path, struct kg_err *err);
/* Standard error, where it is a pipe, becomes a description of this process alone that does not
 * block; where that cannot be it stays as it is. Gives what it was, for processes that are to have
 * it (to them libuv gives it as one that blocks), or -1. */
int logs_take_standard_error(void);

#endif
