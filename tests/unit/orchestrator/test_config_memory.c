/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration that there is no memory for, wherever it runs out. The difficulty: half of what
 * was written must never be taken for the whole. */
#include "config_case.h"
#include "memory.h"
#include "orchestrator/certificates.h"
#include "tls_case.h"

#define MOST_ALLOCATIONS 5000

static char text[] =
    "{\"listen\": [\"127.0.0.1:1\", \"unix:/s\"], \"protocols\": [\"http/1.1\"],"
    " \"admin\": \"unix:/a\", \"engine\": \"tcp://e:1\", \"owner\": \"me\", \"fronts\": 3,"
    " \"state_dir\": \"/st\", \"services\": {"
    "\"b\": {\"image\": \"y\", \"socket\": \"/run/b/s\", \"routes\": [\"*.h/\", \"/b\"]},"
    "\"a\": {\"image\": \"x:1\", \"command\": [\"c\", \"\\\"\"], \"entrypoint\": [\"e\"],"
    " \"env\": {\"A\": \"1\", \"B\": \"2\"}, \"labels\": [\"l=1\", \"k=\"],"
    " \"volumes\": [\"v:/v:ro\"], \"user\": \"1:1\", \"port\": 80, \"routes\": [\"h/p\", \"i/\"],"
    " \"needs\": [\"b\"], \"idle_timeout\": \"1h\", \"health\": {\"path\": \"/h\"},"
    " \"profile\": \"strict\", \"tmpfs\": [\"/t\"], \"devices\": [\"/dev/null\"],"
    " \"quiet\": [{\"path\": \"/q\"}, {\"user_agent\": \"U\"}]}}}";

static char whole[16 * 1024];

static const char *printed(const struct config *c)
{
    static char out[sizeof whole];
    struct kg_buf b;

    kg_buf_init(&b, sizeof out - 1);
    config_print(c, &b);
    ck_assert(kg_str_copy(out, sizeof out, kg_buf_str(&b)));
    kg_buf_fini(&b);
    return out;
}

static void note_whole(void)
{
    struct config *c = load(text, NULL);

    ck_assert_msg(c != NULL, "%s", told());
    kg_str_copy(whole, sizeof whole, kg_str_of(printed(c)));
    config_free(c);
}

/* Loaded as it was written, or not at all and with words. */
START_TEST(test_it_is_loaded_whole_or_refused)
{
    int refusals = 0, failures = 0;
    bool enough = false;

    note_whole();
    for (; !enough && refusals < MOST_ALLOCATIONS; refusals++) {
        struct config *c;

        write_file(text, strlen(text));
        config_errors_fini(&errors);
        allocations_left = refusals;
        c = config_load(2, (char *[]){(char *)(uintptr_t) "--config", file}, NULL, &errors);
        enough = memory_was_enough();
        if (c)
            ck_assert_str_eq(printed(c), whole);
        else
            ck_assert_uint_gt(errors.count, 0);
        failures += !c;
        config_free(c);
    }
    ck_assert(enough);
    ck_assert_int_gt(failures, 20);
}
END_TEST

START_TEST(test_a_copy_is_whole_or_none)
{
    struct config *c = load(text, NULL), *copy = NULL;
    int refusals = 0;

    ck_assert_msg(c != NULL, "%s", told());
    note_whole();
    for (bool enough = false; !enough && refusals < MOST_ALLOCATIONS; refusals++) {
        allocations_left = refusals;
        copy = config_copy(c);
        enough = memory_was_enough();
        ck_assert(enough == (copy != NULL));
        if (copy)
            ck_assert_str_eq(printed(copy), whole);
        config_free(copy);
    }
    ck_assert_ptr_nonnull(copy);
    ck_assert_int_gt(refusals, 20);
    config_free(c);
}
END_TEST

static unsigned faults;

static void on_fault(void *arg, size_t index, enum tls_part part, const char *words)
{
    (void)arg;
    (void)index;
    (void)part;
    ck_assert_str_ne(words, "");
    faults++;
}

/* Without a word they would be taken for judged: https:// with no certificate. */
START_TEST(test_certificates_are_loaded_or_refused_with_words)
{
    char dir[] = "/tmp/kipgate-memory-XXXXXX", chain[256], key[256];
    struct tls_made made;
    struct config c = {.certificates = {NULL, 0}};
    int refusals = 0;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    tls_case_make(&made, &(struct tls_case){.names = "DNS:a.test"});
    tls_case_file(chain, dir, "one.pem", made.chain, strlen(made.chain));
    tls_case_file(key, dir, "one.key", made.key, strlen(made.key));
    ck_assert(config_certificates_add(&c.certificates, chain, key, NULL));
    for (bool enough = false; !enough && refusals < MOST_ALLOCATIONS; refusals++) {
        struct certificates *loaded;
        faults = 0;
        allocations_left = refusals;
        loaded = certificates_load(&c, NULL, on_fault, NULL);
        enough = memory_was_enough();
        ck_assert(!loaded == (faults > 0));
        ck_assert(loaded || !enough);
        certificates_unref(loaded);
    }
    ck_assert_int_gt(refusals, 3);
    config_certificates_free(&c.certificates);
    tls_case_free(&made);
    unlink(chain);
    unlink(key);
    rmdir(dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config without memory");
    TCase *t = tcase_create("memory");
    SRunner *runner;
    int failed;

    if (mkstemp(file) < 0)
        return EXIT_FAILURE;
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_it_is_loaded_whole_or_refused);
    tcase_add_test(t, test_a_copy_is_whole_or_none);
    tcase_add_test(t, test_certificates_are_loaded_or_refused_with_words);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    unlink(file);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
