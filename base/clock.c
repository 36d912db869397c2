/* SPDX-License-Identifier: Apache-2.0 */
/* Readings of the two clocks and the one form in which we print time.
 * The difficulty: the stamp has a fixed width whatever the wall clock was set to. */
#include "base/clock.h"
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

static char *put_digits(char *at, int value, int width, char behind)
{
    for (int i = width - 1; i >= 0; i--) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
    at[width] = behind;
    return at + width + 1;
}

/* The years that four digits can tell; beyond them the stamp stands still at the border. */
#define FIRST_MS INT64_C(-62167219200000)
#define LAST_MS INT64_C(253402300799999)

void kg_clock_format(int64_t wall_ms, char out[25])
{
    const int64_t ms = wall_ms < FIRST_MS ? FIRST_MS : wall_ms > LAST_MS ? LAST_MS : wall_ms;
    const int rest = (int)((ms % 1000 + 1000) % 1000); /* before 1970 too, seconds round down */
    const time_t seconds = (time_t)((ms - rest) / 1000);
    struct tm tm = {0};

    gmtime_r(&seconds, &tm);
    out = put_digits(out, tm.tm_year + 1900, 4, '-');
    out = put_digits(out, tm.tm_mon + 1, 2, '-');
    out = put_digits(out, tm.tm_mday, 2, 'T');
    out = put_digits(out, tm.tm_hour, 2, ':');
    out = put_digits(out, tm.tm_min, 2, ':');
    out = put_digits(out, tm.tm_sec, 2, '.');
    out = put_digits(out, rest, 3, 'Z');
    *out = '\0';
}
