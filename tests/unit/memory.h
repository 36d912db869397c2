/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that runs out: the n-th allocation from now on is refused, once. For tests that include
 * this the linker puts these in the place of the allocator, as far as our own code goes. */
#ifndef TESTS_MEMORY_H
#define TESTS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *old, size_t n);
void *__real_emalloc(size_t n);
void *__real_erealloc(void *old, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *old, size_t n);
void *__wrap_emalloc(size_t n);
void *__wrap_erealloc(void *old, size_t n);

static int allocations_left = -1; /* until the one that is refused; -1: none is */

static bool is_refused(void)
{
    if (allocations_left < 0)
        return false;
    return allocations_left-- == 0;
}

/* Was the refusal that was asked for not reached? Then it is called off. */
__attribute__((unused)) static bool memory_was_enough(void)
{
    bool enough = allocations_left >= 0;

    allocations_left = -1;
    return enough;
}

void *__wrap_malloc(size_t n)
{
    return is_refused() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
    return is_refused() ? NULL : __real_calloc(count, n);
}

void *__wrap_realloc(void *old, size_t n)
{
    return is_refused() ? NULL : __real_realloc(old, n);
}

/* The test's own framework, which takes notes in each assertion, is never refused. */
void *__wrap_emalloc(size_t n)
{
    int left = allocations_left;
    void *block;

    allocations_left = -1;
    block = __real_emalloc(n);
    allocations_left = left;
    return block;
}

void *__wrap_erealloc(void *old, size_t n)
{
    int left = allocations_left;
    void *block;

    allocations_left = -1;
    block = __real_erealloc(old, n);
    allocations_left = left;
    return block;
}

#endif
