/* SPDX-License-Identifier: Apache-2.0 */
/* Request targets and hosts, the first line of an input being the Host. The difficulty: no spelling
 * of a dot segment may get through, so paths are decoded here in the most generous way. */
#include "fuzz.h"
#include "proxy/target.h"

static int digit(char c)
{
    const char *all = "0123456789abcdef", *at = strchr(all, c >= 'A' && c <= 'F' ? c | 0x20 : c);

    return c && at ? (int)(at - all) : -1;
}

/* A worker that decodes, cuts parameters, and takes backslashes for slashes: does it climb? */
static bool climbs(struct kg_str path)
{
    char *plain = malloc(path.n + 2), *segment, *rest;
    size_t n = 0;
    bool found = false;

    KG_ASSERT(plain);
    for (size_t i = 0; i < path.n; i++) {
        char c = path.p[i];
        if (c == '%' && i + 2 < path.n) {
            c = (char)(digit(path.p[i + 1]) * 16 + digit(path.p[i + 2]));
            i += 2;
        }
        plain[n++] = c == '\\' ? '/' : c;
    }
    plain[n] = '\0';
    KG_ASSERT(strlen(plain) == n); /* no NUL */
    for (segment = plain; segment; segment = rest) {
        rest = strchr(segment, '/');
        if (rest)
            *rest++ = '\0';
        segment[strcspn(segment, ";")] = '\0';
        found |= strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0;
    }
    free(plain);
    return found;
}

static void check_host(const struct target *t)
{
    struct kg_str host = target_host(t);
    struct target again;

    KG_ASSERT(t->host_n <= TARGET_MAX_HOST_BYTES && strlen(t->host) == t->host_n);
    for (size_t i = 0; i < host.n; i++)
        KG_ASSERT(host.p[i] > ' ' && host.p[i] < 0x7f && !(host.p[i] >= 'A' && host.p[i] <= 'Z') &&
                  !strchr("/\\@?#%,;\"'<>", host.p[i]));
    if (host.n > 0)
        KG_ASSERT(!target_check_host(host, &again) && kg_str_eq(target_host(&again), host));
}

/* What the worker will get: origin form with that Host means the same. */
static void check_again(const struct target *t, bool options)
{
    struct kg_buf raw;
    struct target again;

    kg_buf_init(&raw, SIZE_MAX);
    kg_buf_append(&raw, t->path.p, t->path.n);
    kg_buf_append(&raw, t->query.p, t->query.n);
    KG_ASSERT(
        !target_parse(kg_buf_str(&raw), options, t->authority.n ? &t->authority : NULL, &again));
    KG_ASSERT(kg_str_eq(again.path, t->path) && kg_str_eq(again.query, t->query));
    KG_ASSERT(kg_str_eq(target_host(&again), target_host(t)));
    KG_ASSERT(kg_str_eq(again.authority, t->authority));
    kg_buf_fini(&raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    uint8_t flags = fuzz_byte(&f);
    struct kg_str host, raw;
    struct target t;
    char *host_copy, *raw_copy;

    fuzz_line(&f, &host);
    raw = fuzz_rest(&f);
    for (size_t i = 0; i < raw.n; i++)
        if (raw.p[i] <= ' ' || raw.p[i] >= 0x7f)
            return 0; /* the guard's work */
    if (raw.n == 0)
        return 0;
    host.p = host_copy = fuzz_copy(host.p, host.n);
    raw.p = raw_copy = fuzz_copy(raw.p, raw.n);
    if (!target_parse(raw, flags & 1, flags & 2 ? &host : NULL, &t)) {
        check_host(&t);
        if (kg_str_eq(t.path, KG_STR("*")))
            KG_ASSERT(t.form != TARGET_ORIGIN && (flags & 1));
        else
            KG_ASSERT(t.path.n > 0 && t.path.p[0] == '/' && !climbs(t.path));
        KG_ASSERT(t.query.n == 0 || t.query.p[0] == '?');
        check_again(&t, flags & 1);
    }
    free(host_copy);
    free(raw_copy);
    return 0;
}
