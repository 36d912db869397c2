/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and holds the files of TLS. The difficulty: a key's bytes must not stay behind anywhere, so
 * they go from the file into one buffer that is wiped, and into one of their exact size. */
#include "orchestrator/certificates.h"
#include "base/clock.h"
#include "orchestrator/config.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_FILE_BYTES KG_MAX_TLS_FILE_BYTES

struct certificates {
    unsigned refs;
    struct tls_material material;
    struct tls_certificate list[KG_MAX_CERTIFICATES];
    struct tls_facts facts[KG_MAX_CERTIFICATES];
};

/* --- files ---------------------------------------------------------------------------------- */

const char *certificates_file(const struct config *c, size_t index, enum tls_part part)
{
    const struct config_certificate *one = &c->certificates.items[index];

    switch (part) {
    case TLS_CHAIN:
        return one->certificate;
    case TLS_KEY:
        return one->key;
    case TLS_OCSP:
        return one->ocsp;
    case TLS_CLIENT_CA:
        break;
    }
    return c->client_ca;
}

static struct kg_str *part_of(struct certificates *c, size_t index, enum tls_part part)
{
    struct tls_certificate *one = &c->list[index];

    return part == TLS_CHAIN  ? &one->chain
           : part == TLS_KEY  ? &one->key
           : part == TLS_OCSP ? &one->ocsp
                              : &c->material.client_ca;
}

/* Up to `cap` bytes into `scratch`; -1 with errno. A pipe or a device that says nothing is none. */
static ssize_t read_all(const char *path, char *scratch, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), saved;
    size_t total = 0;
    ssize_t n = -1;

    if (fd < 0)
        return -1;
    while (total < cap && (n = read(fd, scratch + total, cap - total)) > 0)
        total += (size_t)n;
    saved = errno;
    close(fd);
    errno = saved;
    return n < 0 ? -1 : (ssize_t)total;
}

/* 0, or KG_EIO with words in *err. */
static int read_part(const char *path, char *scratch, struct kg_str *out, struct kg_err *err)
{
    ssize_t n = read_all(path, scratch, MAX_FILE_BYTES + 1);
    char *bytes;

    if (n < 0)
        return kg_fail(err, KG_EIO, "cannot be read: %s", strerror(errno));
    if (n > MAX_FILE_BYTES)
        return kg_fail(err, KG_EIO, "is larger than %d bytes", MAX_FILE_BYTES);
    bytes = malloc((size_t)n + 1);
    if (!bytes)
        return kg_fail(err, KG_ENOMEM, "out of memory");
    memcpy(bytes, scratch, (size_t)n);
    *out = (struct kg_str){bytes, (size_t)n};
    return 0;
}

/* Reads all that is named; each fault is told to `fault` (NULL: nobody). False: there was one. */
static bool read_files(struct certificates *into, const struct config *c, bool *good,
                       certificates_fault *fault, void *arg)
{
    char *scratch = malloc(MAX_FILE_BYTES + 1);
    bool all = scratch != NULL;

    if (!scratch && fault)
        fault(arg, 0, TLS_CHAIN, "found no memory");
    for (size_t i = 0; scratch && i < c->certificates.count; i++) {
        good[i] = true;
        for (enum tls_part part = TLS_CHAIN; part <= TLS_CLIENT_CA; part++) {
            const char *file =
                part == TLS_CLIENT_CA && i > 0 ? NULL : certificates_file(c, i, part);
            struct kg_err err = {0};
            if (!file || read_part(file, scratch, part_of(into, i, part), &err) == 0)
                continue;
            if (fault)
                fault(arg, i, part, err.words);
            all = false;
            good[i] &= part == TLS_CLIENT_CA;
        }
    }
    if (scratch)
        tls_wipe(scratch, MAX_FILE_BYTES + 1);
    free(scratch);
    into->material.count = c->certificates.count;
    return all;
}

/* --- judging -------------------------------------------------------------------------------- */

static bool same(const struct tls_certificate *a, const struct tls_certificate *b)
{
    return kg_str_eq(a->chain, b->chain) && kg_str_eq(a->key, b->key) &&
           kg_str_eq(a->ocsp, b->ocsp);
}

/* What is known of that one, as it is held already; NULL: it is not. */
static const struct tls_facts *known(const struct certificates *held,
                                     const struct tls_certificate *one)
{
    for (size_t i = 0; held && i < held->material.count; i++)
        if (same(&held->list[i], one))
            return &held->facts[i];
    return NULL;
}

static bool judge_client_ca(const struct certificates *c, const struct certificates *held,
                            int64_t now_s, certificates_fault *fault, void *arg)
{
    const struct kg_str pem = c->material.client_ca;
    struct kg_err err = {0};

    if (!pem.p || (held && kg_str_eq(held->material.client_ca, pem)) ||
        tls_check_client_ca(pem, now_s, &err) == 0)
        return true;
    fault(arg, 0, TLS_CLIENT_CA, err.words);
    return false;
}

/* Those whose files could be read (`good`) are judged too when others could not. */
static bool judge(struct certificates *c, const struct certificates *held, const bool *good,
                  certificates_fault *fault, void *arg)
{
    int64_t now_s = kg_clock_wall_ms() / 1000;
    enum tls_part part = TLS_CHAIN;
    bool all = true;

    for (size_t i = 0; i < c->material.count; i++) {
        const struct tls_facts *facts = known(held, &c->list[i]);
        struct kg_err err = {0};
        if (facts)
            c->facts[i] = *facts;
        else if (good[i] &&
                 tls_check_certificate(&c->list[i], now_s, &c->facts[i], &part, &err) != 0) {
            fault(arg, i, part, err.words);
            all = false;
        }
    }
    return judge_client_ca(c, held, now_s, fault, arg) && all;
}

static struct certificates *certificates_new(void)
{
    struct certificates *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->refs = 1;
    c->material.certificates = c->list;
    return c;
}

struct certificates *certificates_load(const struct config *c, const struct certificates *held,
                                       certificates_fault *fault, void *arg)
{
    struct certificates *loaded = certificates_new();
    bool good[KG_MAX_CERTIFICATES] = {false}, all;

    if (!loaded) {
        fault(arg, 0, TLS_CHAIN, "found no memory");
        return NULL;
    }
    all = read_files(loaded, c, good, fault, arg);
    all &= judge(loaded, held, good, fault, arg);
    if (all)
        return loaded;
    certificates_unref(loaded);
    return NULL;
}

/* --- holding -------------------------------------------------------------------------------- */

static void forget(struct kg_str s)
{
    char *bytes = (char *)(uintptr_t)s.p;

    if (bytes)
        tls_wipe(bytes, s.n);
    free(bytes);
}

struct certificates *certificates_ref(struct certificates *c)
{
    if (c)
        c->refs++;
    return c;
}

void certificates_unref(struct certificates *c)
{
    if (!c || --c->refs > 0)
        return;
    for (size_t i = 0; i < KG_MAX_CERTIFICATES; i++) {
        forget(c->list[i].chain);
        forget(c->list[i].key);
        forget(c->list[i].ocsp);
    }
    forget(c->material.client_ca);
    free(c);
}

bool certificates_equal(const struct certificates *a, const struct certificates *b)
{
    bool equal = a == b || (a && b && a->material.count == b->material.count &&
                            kg_str_eq(a->material.client_ca, b->material.client_ca));

    for (size_t i = 0; equal && a != b && i < a->material.count; i++)
        equal = same(&a->list[i], &b->list[i]);
    return equal;
}

bool certificates_unchanged(const struct certificates *c, const struct config *config)
{
    struct certificates *files = certificates_new();
    bool good[KG_MAX_CERTIFICATES], unchanged;

    unchanged =
        files && read_files(files, config, good, NULL, NULL) && certificates_equal(c, files);
    certificates_unref(files);
    return unchanged;
}

const struct tls_material *certificates_material(const struct certificates *c)
{
    return &c->material;
}

const struct tls_facts *certificates_facts(const struct certificates *c, size_t index)
{
    return &c->facts[index];
}
