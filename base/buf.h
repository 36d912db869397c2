/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer with a cap. Once an append failed it stays failed, so that a run of
 * appends is checked once, at its end. */
#ifndef KG_BASE_BUF_H
#define KG_BASE_BUF_H

#include "base/str.h"

struct kg_buf {
    char *data; /* NUL-terminated whenever not NULL; the NUL is not counted in len */
    size_t len, cap, max;
    int error; /* 0, KG_ENOMEM or KG_ELIMIT: sticky */
};

void kg_buf_init(struct kg_buf *b, size_t max_bytes); /* allocates nothing */
void kg_buf_release(struct kg_buf *b);                /* kg_buf_fini's rarer half */
static inline void kg_buf_fini(struct kg_buf *b)
{
    if (b->data || b->error)
        kg_buf_release(b);
}
void kg_buf_clear(struct kg_buf *b); /* keeps the memory, forgets the error */
int kg_buf_append(struct kg_buf *b, const void *bytes, size_t n);
int kg_buf_puts(struct kg_buf *b, const char *z);
int kg_buf_printf(struct kg_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kg_buf_drop_front(struct kg_buf *b, size_t n);
char *
kg_buf_take(struct kg_buf *b); /* the caller frees it; the buffer is empty after; NULL if failed */
struct kg_str kg_buf_str(const struct kg_buf *b);

#endif
