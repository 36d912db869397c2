/* SPDX-License-Identifier: Apache-2.0 */
/* Readiness: tries an address until it answers.
 * The difficulty: not to lose a millisecond of a start, nor to keep trying what was given up. */
#ifndef PROXY_PROBE_PRIV_H
#define PROXY_PROBE_PRIV_H

#include "proxy/upstream_priv.h"

#define PROBE_CONNECT_MS 1000    /* one attempt to connect */
#define PROBE_ANSWER_MS 5000     /* and its answer, where one is asked for */
#define PROBE_WIDE_AFTER_MS 1000 /* from then on every PROBE_WIDE_MS */
#define PROBE_WIDE_MS 50
#define PROBE_UNTOLD_MS 250 /* a socket that is watched for is looked for as often */

/* How long to wait before attempt number `attempt` (1 is the second), `age_ms` after the first. */
uint64_t probe_pause_ms(unsigned attempt, int64_t age_ms);

#endif
