/* SPDX-License-Identifier: Apache-2.0 */
/* Slices of bytes that somebody else owns, and the few questions asked of them.
 * The difficulty: a slice has no NUL at its end and must not outlive its buffer. */
#ifndef KG_BASE_STR_H
#define KG_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct kg_str {
    const char *p;
    size_t n;
};

#define KG_STR(literal) ((struct kg_str){(literal), sizeof(literal) - 1})
static inline struct kg_str kg_str_of(const char *z)
{
    return (struct kg_str){z, strlen(z)};
}
static inline bool kg_str_eq(struct kg_str a, struct kg_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
bool kg_str_eq_nocase(struct kg_str a, struct kg_str b); /* ASCII only */
bool kg_str_has_prefix(struct kg_str s, struct kg_str prefix);
struct kg_str kg_str_trim(struct kg_str s); /* spaces and tabs at both ends */

/* Copies into out[cap] with a NUL; false (and an empty out) when it does not fit. */
bool kg_str_copy(char *out, size_t cap, struct kg_str s);

/* Decimal digits only, no sign or space; false on anything else or above INT64_MAX. */
bool kg_str_to_i64(struct kg_str s, int64_t *out);

uint64_t kg_hash(const void *bytes,
                 size_t n); /* FNV-1a: for tables of our own data, not for secrets */

/* Shell-like pattern: '*' any run (also of '/'), '?' one byte, all else itself. */
bool kg_glob(struct kg_str pattern, struct kg_str text);

/* "250ms" "30s" "5m" "1h" "0", also "1.5s"; whole milliseconds. 0 or KG_EINVAL. */
int kg_duration_parse(struct kg_str s, int64_t *ms);
/* In the largest unit that divides: 300000 is "5m", 90000 "90s". Writes at most 24 bytes with the
 * NUL. */
void kg_duration_format(int64_t ms, char out[24]);
/* "64KiB" "512MiB" "2GiB" "100" (bytes) "1KB" (1000). 0 or KG_EINVAL. */
int kg_size_parse(struct kg_str s, int64_t *bytes);
void kg_size_format(int64_t bytes, char out[24]);

#endif
