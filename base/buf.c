/* SPDX-License-Identifier: Apache-2.0 */
/* A growing buffer. The difficulty: its cap holds exactly, and a failure sticks. */
#include "base/buf.h"
#include "base/err.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void kg_buf_init(struct kg_buf *b, size_t max_bytes)
{
    *b = (struct kg_buf){.max = max_bytes};
}

void kg_buf_fini(struct kg_buf *b)
{
    free(b->data);
    *b = (struct kg_buf){.max = b->max};
}

void kg_buf_clear(struct kg_buf *b)
{
    b->len = 0;
    b->error = 0;
    if (b->data)
        b->data[0] = '\0';
}

/* Makes room for n more bytes and the NUL. */
static int reserve(struct kg_buf *b, size_t n)
{
    size_t cap = b->cap ? b->cap : 256;
    char *data;

    if (b->error)
        return b->error;
    if (n > b->max - b->len)
        return b->error = KG_ELIMIT;
    if (b->data && b->len + n < b->cap)
        return 0;
    while (cap <= b->len + n)
        cap *= 2;
    data = realloc(b->data, cap);
    if (!data)
        return b->error = KG_ENOMEM;
    b->data = data;
    b->cap = cap;
    return 0;
}

int kg_buf_append(struct kg_buf *b, const void *bytes, size_t n)
{
    int rc = reserve(b, n);

    if (rc != 0)
        return rc;
    if (n > 0)
        memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = '\0';
    return 0;
}

int kg_buf_puts(struct kg_buf *b, const char *z)
{
    return kg_buf_append(b, z, strlen(z));
}

int kg_buf_printf(struct kg_buf *b, const char *format, ...)
{
    va_list args;
    int n, rc;

    va_start(args, format);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        return b->error = b->error ? b->error : KG_EINVAL;
    rc = reserve(b, (size_t)n);
    if (rc != 0)
        return rc;
    va_start(args, format);
    vsnprintf(b->data + b->len, (size_t)n + 1, format, args);
    va_end(args);
    b->len += (size_t)n;
    return 0;
}

void kg_buf_drop_front(struct kg_buf *b, size_t n)
{
    KG_ASSERT(n <= b->len);
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    b->data[b->len] = '\0';
}

char *kg_buf_take(struct kg_buf *b)
{
    char *data = NULL;

    if (!b->error && reserve(b, 0) == 0) {
        b->data[b->len] = '\0';
        data = b->data;
        b->data = NULL;
    }
    kg_buf_fini(b);
    return data;
}

struct kg_str kg_buf_str(const struct kg_buf *b)
{
    return (struct kg_str){b->data ? b->data : "", b->len};
}
