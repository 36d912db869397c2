/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations: as a file, as words of a command line, as one service for the admin API. Errors
 * or a configuration come of it, never both, and what is printed of one is read as the same again.
 * The difficulty: the environment of whoever runs this must not be a layer. */
#include "fuzz.h"
#include "orchestrator/config_priv.h"
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_WORDS 32

static int file;
static char file_name[32];

static void write_file(struct kg_str text)
{
    KG_ASSERT(ftruncate(file, 0) == 0);
    KG_ASSERT(pwrite(file, text.p, text.n, 0) == (ssize_t)text.n);
}

/* One line an error, each of which can be shown. */
static void check_errors(const struct config *c, struct config_errors *errors)
{
    struct kg_str text = kg_buf_str(&errors->text);
    size_t lines = 0;

    KG_ASSERT((c == NULL) == (errors->count > 0));
    for (size_t i = 0; i < text.n; i++) {
        lines += text.p[i] == '\n';
        KG_ASSERT(((unsigned char)text.p[i] >= ' ' && text.p[i] != 0x7f) || text.p[i] == '\n');
    }
    KG_ASSERT(lines == errors->count);
    config_errors_fini(errors);
}

static struct config *load_file(void)
{
    char option[] = "--config", *argv[] = {option, file_name};
    struct config_errors errors = {.count = 0};
    struct config *c = config_load(2, argv, NULL, &errors);

    check_errors(c, &errors);
    return c;
}

static size_t size_of(enum config_type type)
{
    switch (type) {
    case CONFIG_INT:
    case CONFIG_TRISTATE:
    case CONFIG_WORD:
        return sizeof(int);
    case CONFIG_INT64:
    case CONFIG_DURATION:
    case CONFIG_SIZE:
    case CONFIG_CPUS:
        return sizeof(int64_t);
    case CONFIG_SHARE:
        return sizeof(double);
    case CONFIG_BOOL:
        return sizeof(bool);
    default:
        return 0; /* not a plain value: its text is compared */
    }
}

static void check_same(const struct config_key *keys, const void *a, const void *b)
{
    CONFIG_EACH_KEY(k, keys)
    KG_ASSERT(memcmp((const char *)a + k->offset, (const char *)b + k->offset, size_of(k->type)) ==
              0);
}

static void check_again(struct config *c)
{
    struct kg_buf first, second;
    struct config *again;

    kg_buf_init(&first, SIZE_MAX);
    kg_buf_init(&second, SIZE_MAX);
    config_print(c, &first);
    KG_ASSERT(!first.error && first.len > 0);
    write_file(kg_buf_str(&first));
    again = load_file();
    KG_ASSERT(again);
    config_print(again, &second);
    KG_ASSERT(kg_str_eq(kg_buf_str(&first), kg_buf_str(&second)));
    check_same(config_top_keys, c, again);
    for (size_t i = 0; i < c->service_count; i++) {
        check_same(config_service_keys, c->services[i], again->services[i]);
        KG_ASSERT(strcmp(c->services[i]->spec, again->services[i]->spec) == 0);
    }
    config_free(again);
    kg_buf_fini(&first);
    kg_buf_fini(&second);
}

/* Lines are words. */
static struct config *load_words(struct fuzz *f)
{
    char *argv[MAX_WORDS], option[] = "--config";
    int argc = 0;
    struct config_errors errors = {.count = 0};
    struct config *c;
    struct kg_str line;

    write_file(KG_STR("{}"));
    argv[argc++] = option;
    argv[argc++] = file_name;
    while (argc < MAX_WORDS && fuzz_line(f, &line))
        argv[argc++] = strndup(line.p, line.n);
    c = config_load(argc, argv, NULL, &errors);
    check_errors(c, &errors);
    while (argc > 2)
        free(argv[--argc]);
    return c;
}

static struct config *load_service(struct fuzz *f)
{
    struct config_errors errors = {.count = 0};
    struct config *base, *c;
    struct kg_str name;
    char *z;

    write_file(KG_STR("{\"services\":{\"a\":{\"image\":\"x\",\"routes\":[\"a/\"],\"port\":80},"
                      "\"b\":{\"image\":\"y\",\"routes\":[\"b/\"],\"needs\":[\"a\"]}}}"));
    base = load_file();
    KG_ASSERT(base);
    fuzz_line(f, &name);
    z = strndup(name.p ? name.p : "", name.n);
    c = config_with_service(base, z, fuzz_rest(f), "PUT", &errors);
    check_errors(c, &errors);
    free(z);
    config_free(base);
    return c;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    clearenv();
    file = memfd_create("config", MFD_CLOEXEC);
    KG_ASSERT(file >= 0);
    snprintf(file_name, sizeof file_name, "/proc/self/fd/%d", file);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    struct config *c;
    uint8_t how = n > 0 && *data != '{' ? fuzz_byte(&f) : 0;

    if (how == 1) {
        c = load_words(&f);
    } else if (how == 2) {
        c = load_service(&f);
    } else {
        write_file(fuzz_rest(&f));
        c = load_file();
    }
    if (c)
        check_again(c);
    config_free(c);
    return 0;
}
