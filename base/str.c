/* SPDX-License-Identifier: Apache-2.0 */
/* Slices, numbers with units, patterns. The difficulty: what people write must be taken exactly or
 * refused, never rounded into something else. */
#include "base/str.h"
#include "base/err.h"
#include <inttypes.h>
#include <stdio.h>

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

bool kg_str_eq_nocase(struct kg_str a, struct kg_str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

bool kg_str_has_prefix(struct kg_str s, struct kg_str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

struct kg_str kg_str_trim(struct kg_str s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = (struct kg_str){s.p + 1, s.n - 1};
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

bool kg_str_copy(char *out, size_t cap, struct kg_str s)
{
    bool fits = s.n < cap;

    KG_ASSERT(cap > 0);
    if (!fits)
        s.n = 0;
    if (s.n > 0)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return fits;
}

bool kg_str_to_i64(struct kg_str s, int64_t *out)
{
    int64_t v = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, s.p[i] - '0', &v))
            return false;
    }
    *out = v;
    return true;
}

uint64_t kg_hash(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* Iterative with one backtrack point: linear for one star, never exponential. */
bool kg_glob(struct kg_str pattern, struct kg_str text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, mark = 0;

    while (t < text.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            mark = t;
        } else if (p < pattern.n && (pattern.p[p] == '?' || pattern.p[p] == text.p[t])) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++mark;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}

struct unit {
    const char *name;
    int64_t factor;
};

/* NUMBER[.FRACTION]UNIT as a whole number of the smallest unit; false when it is not one. */
static bool parse_with_unit(struct kg_str s, const struct unit *units, int64_t *out)
{
    size_t digits = 0, end;
    int64_t whole, fraction = 0, scale = 1;

    while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
        digits++;
    if (digits == 0 || !kg_str_to_i64((struct kg_str){s.p, digits}, &whole))
        return false;
    end = digits;
    if (end < s.n && s.p[end] == '.') {
        for (end++; end < s.n && s.p[end] >= '0' && s.p[end] <= '9' && scale < 1000000; end++) {
            fraction = fraction * 10 + (s.p[end] - '0');
            scale *= 10;
        }
        if (scale == 1)
            return false;
    }
    for (; units->name; units++)
        if (kg_str_eq((struct kg_str){s.p + end, s.n - end}, kg_str_of(units->name)))
            break;
    if (!units->name || fraction * units->factor % scale != 0)
        return false;
    return !__builtin_mul_overflow(whole, units->factor, &whole) &&
           !__builtin_add_overflow(whole, fraction * units->factor / scale, out);
}

#define TEN_YEARS_MS (3653 * 86400000ll)

static const struct unit duration_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit size_units[] = {{"", 1},
                                         {"B", 1},
                                         {"KB", 1000},
                                         {"MB", 1000000},
                                         {"GB", 1000000000},
                                         {"KiB", 1024},
                                         {"MiB", 1024 * 1024},
                                         {"GiB", 1024 * 1024 * 1024},
                                         {NULL, 0}};

int kg_duration_parse(struct kg_str s, int64_t *ms)
{
    if (kg_str_eq(s, KG_STR("0"))) {
        *ms = 0;
        return 0;
    }
    return parse_with_unit(s, duration_units, ms) && *ms <= TEN_YEARS_MS ? 0 : KG_EINVAL;
}

int kg_size_parse(struct kg_str s, int64_t *bytes)
{
    return parse_with_unit(s, size_units, bytes) ? 0 : KG_EINVAL;
}

void kg_duration_format(int64_t ms, char out[24])
{
    static const struct unit largest_first[] = {
        {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    size_t i = 0;

    if (ms == 0) {
        snprintf(out, 24, "0");
        return;
    }
    while (ms % largest_first[i].factor != 0)
        i++;
    snprintf(out, 24, "%" PRId64 "%s", ms / largest_first[i].factor, largest_first[i].name);
}

void kg_size_format(int64_t bytes, char out[24])
{
    static const struct unit largest_first[] = {
        {"GiB", 1024 * 1024 * 1024}, {"MiB", 1024 * 1024}, {"KiB", 1024}, {"", 1}};
    size_t i = 0;

    while (bytes % largest_first[i].factor != 0 || (bytes == 0 && i < 3))
        i++;
    snprintf(out, 24, "%" PRId64 "%s", bytes / largest_first[i].factor, largest_first[i].name);
}
