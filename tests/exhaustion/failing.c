/* SPDX-License-Identifier: Apache-2.0 */
/* The allocator in front of the allocator. Without sanitizers this program's malloc is everybody's:
 * libc's own and all libraries' too. Sanitizers have that place, so there our rooms' calls are
 * wrapped by the linker and the libraries are told by their own hooks.
 * The difficulty: it is asked before anything else of the program runs. */
#include "tests/exhaustion/failing.h"
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct failing own, *state = &own;
static int32_t me = 1; /* process id; ours in tests within one process */

static void tell(void)
{
    void *frames[40];

    state->pid = 0; /* it needs memory itself */
    backtrace_symbols_fd(frames, backtrace(frames, 40), STDERR_FILENO);
    state->pid = me;
}

static bool refused(void)
{
    int64_t at, n;

    if (atomic_load_explicit(&state->pid, memory_order_relaxed) != me)
        return false;
    n = atomic_fetch_add(&state->count, 1) + 1;
    at = atomic_load(&state->at);
    if (at == 0 || n < at || (n > at && !atomic_load(&state->sticky)))
        return false;
    if (atomic_fetch_add(&state->failed, 1) < atomic_load(&state->tell))
        tell();
    errno = ENOMEM;
    return true;
}

void failing_start(int64_t at, int sticky)
{
    state->at = at;
    state->sticky = sticky;
    state->count = state->failed = 0;
}

int64_t failing_stop(void)
{
    state->pid = 0;
    return state->failed;
}

void failing_pause(void)
{
    state->pid = 0;
}

void failing_resume(void)
{
    state->pid = me;
}

/* --- the page ------------------------------------------------------------------------------ */

static void claim(int argc, char **argv)
{
    int32_t wanted = argc == 2 && strcmp(argv[1], "front") == 0 ? -2 : -1;

    atomic_compare_exchange_strong(&state->pid, &wanted, me);
}

/* A front has no environment and soon no files: the page is found by the program's name, at once.
 */
static void map_page(int argc, char **argv)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 6);
    void *page = MAP_FAILED;
    int fd;

    if (n < 0)
        return;
    memcpy(path + n, ".page", 6);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    page = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED)
        return;
    state = page;
    me = getpid();
    claim(argc, argv);
}

#define EXPORT __attribute__((visibility("default"))) /* libraries refer to it, too */

#ifndef KG_SANITIZE
/* --- in place of libc's ------------------------------------------------------------------------
 */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);
EXPORT void *malloc(size_t n)
{
    return refused() ? NULL : __libc_malloc(n);
}

EXPORT void *calloc(size_t count, size_t n)
{
    return refused() ? NULL : __libc_calloc(count, n);
}

EXPORT void *realloc(void *p, size_t n)
{
    return refused() ? NULL : __libc_realloc(p, n);
}

EXPORT void *memalign(size_t alignment, size_t n)
{
    return refused() ? NULL : __libc_memalign(alignment, n);
}

EXPORT void *aligned_alloc(size_t alignment, size_t n)
{
    return memalign(alignment, n);
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t n)
{
    void *p = memalign(alignment, n);

    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

__attribute__((constructor(101))) static void begin(int argc, char **argv)
{
    map_page(argc, argv);
}
#else
/* --- by the linker and by hooks ------------------------------------------------------------- */

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <openssl/crypto.h>
#include <uv.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void *__wrap_malloc(size_t n)
{
    return refused() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
    return refused() ? NULL : __real_calloc(count, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return refused() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
    return refused() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return refused() ? NULL : __real_strndup(s, n);
}

static void *crypto_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return __wrap_malloc(n);
}

static void *crypto_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return __wrap_realloc(p, n);
}

static void crypto_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

CURLcode __wrap_curl_global_init(long flags);
EXPORT CURLcode __wrap_curl_global_init(long flags)
{
    return curl_global_init_mem(flags, __wrap_malloc, free, __wrap_realloc, __wrap_strdup,
                                __wrap_calloc);
}

__attribute__((constructor(101))) static void begin(int argc, char **argv)
{
    cJSON_Hooks hooks = {__wrap_malloc, free};

    CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free);
    uv_replace_allocator(__wrap_malloc, __wrap_realloc, __wrap_calloc, free);
    cJSON_InitHooks(&hooks);
    map_page(argc, argv);
}
#endif
