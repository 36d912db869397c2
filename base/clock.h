/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks. Timers and idle times know only the monotonic one, so that a stepped wall clock
 * neither reaps early nor late; the wall clock is for stamps in logs. */
#ifndef KG_BASE_CLOCK_H
#define KG_BASE_CLOCK_H

#include <stdint.h>

int64_t kg_clock_mono_ms(void); /* CLOCK_MONOTONIC: the same in all processes of one boot */
int64_t kg_clock_mono_us(void);
int64_t kg_clock_wall_ms(void); /* milliseconds since 1970-01-01 UTC */

/* Writes "2026-01-31T23:59:59.123Z" and a NUL into out[25]. */
void kg_clock_format(int64_t wall_ms, char out[25]);

/* Earliest of two deadlines; KG_NEVER is later than every time. */
#define KG_NEVER INT64_MAX
static inline int64_t kg_earliest(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

#endif
