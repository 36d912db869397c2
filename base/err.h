/* SPDX-License-Identifier: Apache-2.0 */
/* Error codes, errors with words, and assertions that stay on in release builds.
 * The difficulty: peers' data never reaches an assert; only our own mistakes do. */
#ifndef KG_BASE_ERR_H
#define KG_BASE_ERR_H

/* Functions return 0 or one of these; system errors stay in errno or in words. */
enum kg_code {
    KG_OK = 0,
    KG_ENOMEM = -1,
    KG_ELIMIT = -2, /* a cap of ours was reached */
    KG_EINVAL = -3, /* what was given is wrong */
    KG_EIO = -4,    /* the system or a peer failed */
    KG_ETIMEOUT = -5,
    KG_EAGAIN = -6, /* not now */
    KG_ENOTFOUND = -7,
    KG_ECONFLICT = -8,
    KG_ECLOSED = -9, /* the other end is gone */
    KG_EPROTO = -10, /* a peer broke the protocol */
};

/* Words for a person: they name the thing and the cause. Plain value, nothing to free. */
struct kg_err {
    int code; /* enum kg_code; 0 while nothing went wrong */
    char words[512];
};

/* Fills *err (which may be NULL) and returns `code`, so that `return kg_fail(err, ...)` reads well.
 * A first error is not overwritten by a later one; text beyond the buffer is cut. */
int kg_fail(struct kg_err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

const char *kg_code_name(int code);

/* Prints the expression and its place to standard error, then aborts. */
_Noreturn void kg_assert_failed(const char *expression, const char *file, int line);
#define KG_ASSERT(e) ((e) ? (void)0 : kg_assert_failed(#e, __FILE__, __LINE__))

#endif
