/* SPDX-License-Identifier: Apache-2.0 */
/* The growing buffer. The difficulty: the cap holds for the bytes, not for the NUL behind them, and
 * a failed append leaves what was there before as it was. */
#include "base/buf.h"
#include "base/err.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_CAP 256
#define MOST (SIZE_MAX / 4) /* so that doubling cannot wrap */

void kg_buf_init(struct kg_buf *b, size_t max_bytes)
{
    *b = (struct kg_buf){.max = max_bytes < MOST ? max_bytes : MOST};
}

void kg_buf_release(struct kg_buf *b)
{
    free(b->data);
    kg_buf_init(b, b->max);
}

void kg_buf_clear(struct kg_buf *b)
{
    b->len = 0;
    b->error = 0;
    if (b->data)
        b->data[0] = '\0';
}

/* Room for n more bytes and a NUL. */
static int make_room(struct kg_buf *b, size_t n)
{
    size_t cap = b->cap ? b->cap : FIRST_CAP;
    char *data;

    if (b->error)
        return b->error;
    if (n > b->max - b->len)
        return b->error = KG_ELIMIT;
    while (cap < b->len + n + 1)
        cap *= 2;
    if (cap > b->max + 1)
        cap = b->max + 1;
    if (cap <= b->cap)
        return 0;
    data = realloc(b->data, cap);
    if (!data)
        return b->error = KG_ENOMEM;
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return 0;
}

int kg_buf_append(struct kg_buf *b, const void *bytes, size_t n)
{
    const int code = make_room(b, n);

    if (code != 0 || n == 0)
        return code;
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
    va_list ap;
    int n, code;

    va_start(ap, format);
    n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    KG_ASSERT(n >= 0);
    code = make_room(b, (size_t)n);
    if (code != 0)
        return code;
    va_start(ap, format);
    vsnprintf(b->data + b->len, (size_t)n + 1, format, ap);
    va_end(ap);
    b->len += (size_t)n;
    return 0;
}

void kg_buf_drop_front(struct kg_buf *b, size_t n)
{
    KG_ASSERT(n <= b->len);
    if (n == 0)
        return;
    b->len -= n;
    memmove(b->data, b->data + n, b->len + 1);
}

char *kg_buf_take(struct kg_buf *b)
{
    char *data;

    if (make_room(b, 0) != 0) { /* also turns "never written to" into an empty string */
        free(b->data);
        *b = (struct kg_buf){.max = b->max, .error = b->error};
        return NULL;
    }
    data = b->data;
    kg_buf_init(b, b->max);
    return data;
}

struct kg_str kg_buf_str(const struct kg_buf *b)
{
    return (struct kg_str){b->data ? b->data : "", b->len};
}
