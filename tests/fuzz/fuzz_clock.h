/* SPDX-License-Identifier: Apache-2.0 */
/* The monotonic clock as a number that a fuzzer sets, so that timeouts are tried without waiting
 * for them. The difficulty: the loop's library asks the C library, so this stands in the latter's
 * place.
 */
#ifndef TESTS_FUZZ_CLOCK_H
#define TESTS_FUZZ_CLOCK_H

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t fuzz_now_ms = 1000000;

int clock_gettime(clockid_t clock, struct timespec *t);

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *t)
{
    if (clock != CLOCK_MONOTONIC && clock != CLOCK_MONOTONIC_COARSE)
        return (int)syscall(SYS_clock_gettime, clock, t);
    *t = (struct timespec){fuzz_now_ms / 1000, fuzz_now_ms % 1000 * 1000000};
    return 0;
}

#endif
