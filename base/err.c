/* SPDX-License-Identifier: Apache-2.0 */
/* Errors with words. The difficulty: the first cause must survive what fails after it. */
#include "base/err.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int kg_fail(struct kg_err *err, int code, const char *format, ...)
{
    va_list args;

    if (err && err->code == 0) {
        err->code = code;
        va_start(args, format);
        vsnprintf(err->words, sizeof err->words, format, args);
        va_end(args);
    }
    return code;
}

const char *kg_code_name(int code)
{
    static const char *const names[] = {
        "ok",    "out of memory", "limit reached", "invalid", "failed",         "timed out",
        "again", "not found",     "conflict",      "closed",  "protocol error",
    };

    return code <= 0 && -code < (int)(sizeof names / sizeof *names) ? names[-code] : "unknown";
}

_Noreturn void kg_assert_failed(const char *expression, const char *file, int line)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expression);
    errno = 0; /* no want of memory (base/loop.h): a fault of ours */
    abort();
}
