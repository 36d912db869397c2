/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the clocks. The difficulty is only to never mix the two. */
#include "base/clock.h"
#include <stdio.h>
#include <time.h>

int64_t kg_clock_mono_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t kg_clock_mono_ms(void)
{
    return kg_clock_mono_us() / 1000;
}

int64_t kg_clock_wall_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void kg_clock_format(int64_t wall_ms, char out[25])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    char date[20];

    gmtime_r(&seconds, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, 25, "%s.%03uZ", date, (unsigned)(wall_ms % 1000) % 1000);
}
