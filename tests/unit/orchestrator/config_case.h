/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of a configuration: loads a text with flags, and says what must come of it. The difficulty:
 * the environment of who runs the tests must not be a layer. */
#ifndef TESTS_CONFIG_CASE_H
#define TESTS_CONFIG_CASE_H

#include "orchestrator/config_priv.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_FLAGS 32

static char file[] = "/tmp/kipgate-config-XXXXXX";
static struct config_errors errors;

static inline void clean_environment(void)
{
    static const char *const others[] = {"DOCKER_HOST",     "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH",
                                         "STATE_DIRECTORY", "KIPGATE_CONFIG",    "KIPGATE_NAME",
                                         "DOCKER_CONFIG"};
    const struct config_key *const tables[] = {config_top_keys, config_service_keys};
    char name[64];

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        unsetenv(others[i]);
    for (size_t t = 0; t < 2; t++)
        CONFIG_EACH_KEY(k, tables[t])
        {
            config_variable_name(k->name, name);
            unsetenv(name);
        }
}

static inline void setup(void)
{
    clean_environment();
    kg_buf_init(&errors.text, KG_MAX_CONFIG_BYTES);
    errors.count = 0;
}

static inline void teardown(void)
{
    config_errors_fini(&errors);
    clean_environment();
}

static inline void write_file(const char *text, size_t n)
{
    FILE *f = fopen(file, "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, n, f), n);
    fclose(f);
}

static const struct config *running; /* beside which it is loaded */

/* Loads this text as the file (NULL: no file) with these flags, ended by NULL. */
static inline struct config *load(const char *text, char **flags)
{
    char *argv[MAX_FLAGS + 2];
    int argc = 0;

    config_errors_fini(&errors);
    if (text) {
        write_file(text, strlen(text));
        argv[argc++] = (char *)(uintptr_t) "--config";
        argv[argc++] = file;
    }
    for (; flags && *flags; flags++)
        argv[argc++] = *flags;
    return config_load(argc, argv, running, &errors);
}
#define FLAGS(...)                                                                                 \
    (char **)(uintptr_t)(const char *const[])                                                      \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

static inline const char *told(void)
{
    return errors.text.data ? errors.text.data : "";
}

static inline struct config *good(const char *text, char **flags)
{
    struct config *c = load(text, flags);

    ck_assert_msg(c != NULL, "%s", told());
    ck_assert_uint_eq(errors.count, 0);
    return c;
}

static inline void bad(const char *text, char **flags, const char *words)
{
    struct config *c = load(text, flags);

    ck_assert_msg(c == NULL, "taken: %s", text ? text : flags[0]);
    ck_assert_msg(strstr(told(), words) != NULL, "\"%s\" not in: %s", words, told());
}

/* "FILE:2:3: " in front of the words. */
static inline void bad_at(const char *text, size_t line, size_t column, const char *words)
{
    char whole[600];

    snprintf(whole, sizeof whole, "%s:%zu:%zu: %s", file, line, column, words);
    bad(text, NULL, whole);
}

/* Runs all of them; the exit status of a test program. */
static inline int run_cases(const char *name, const TTest *const *tests, size_t count)
{
    Suite *s = suite_create(name);
    TCase *t = tcase_create(name);
    SRunner *r = srunner_create(s);
    int fd = mkstemp(file), failed;

    if (fd < 0)
        return 1;
    close(fd);
    tcase_set_timeout(t, 100);
    tcase_add_checked_fixture(t, setup, teardown);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(t, tests[i]);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    unlink(file);
    return failed != 0;
}

#endif
