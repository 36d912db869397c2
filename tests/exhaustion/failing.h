/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations that fail when a test says so: the n-th from now, once or from then on.
 * The difficulty: every allocator must be reached, our own, the libraries' and libc's (failing.c
 * says how), and only while the program under test works, not its test. */
#ifndef TESTS_EXHAUSTION_FAILING_H
#define TESTS_EXHAUSTION_FAILING_H

#include <stdatomic.h>
#include <stdint.h>

/* A page beside the program ("PROGRAM.page") may hold it: then a test in another process writes it.
 * Its layout is told again in tests/exhaustion/failing.py. */
struct failing {
    _Atomic int32_t pid;    /* whom it is for: a process, 0 nobody; -1 the next control to start,
                               -2 the next front: it puts its own id in here */
    _Atomic int32_t sticky; /* all from the n-th on */
    _Atomic int64_t at;     /* n; 0: none fails, they are counted */
    _Atomic int64_t count;  /* so many were asked for */
    _Atomic int64_t failed; /* and so many were refused */
    _Atomic int64_t tell;   /* so many of those by a backtrace on standard error */
};

/* In this process, from now on, until failing_stop. */
void failing_start(int64_t at, int sticky);
int64_t failing_stop(void); /* how many were refused */
/* Between the two: the test's own allocations are let through. */
void failing_pause(void);
void failing_resume(void);

#endif
