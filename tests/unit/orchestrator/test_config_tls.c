/* SPDX-License-Identifier: Apache-2.0 */
/* The keys about TLS, and every fault of the files that they name.
 * The difficulty: each case has one fault, and the words must name the file and the cause. */
#include "config_case.h"
#include "orchestrator/certificates.h"
#include "tls_case.h"
#include <sys/stat.h>

#define REST "\"services\": {\"a\": {\"image\": \"x\"}}}"

static char dir[] = "/tmp/kipgate-tls-XXXXXX";
static struct tls_made ca, one;

/* A file of that name in our directory. */
static const char *put(const char *name, const char *text)
{
    static char path[256];

    return tls_case_file(path, dir, name, text, strlen(text));
}

/* The text with our directory for each '@'. */
static const char *text_of(const char *pattern)
{
    static char text[2000];
    size_t n = 0;

    for (; *pattern; pattern++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%.*s", *pattern == '@' ? 99 : 1,
                              *pattern == '@' ? dir : pattern);
    return text;
}

static void write_files(void)
{
    put("ca.pem", ca.chain);
    put("one.pem", one.chain);
    put("one.key", one.key);
}

#define PAIR "{\"certificate\": \"@/one.pem\", \"key\": \"@/one.key\"}"
#define PAIR_ONLY "{\"certificates\": [" PAIR "], " REST

START_TEST(test_listeners_and_their_certificates)
{
    const struct tls_material *m;
    struct config *c;
    bool secure;

    write_files();
    c = good(
        text_of("{\"listen\": [\"https://h:1\", \"http://h:2\", \"unix:/s\", \"https://[::1]:3\"],"
                " \"certificates\": [" PAIR "], \"client_ca\": \"@/ca.pem\", " REST),
        NULL);
    ck_assert_str_eq(config_listen_address(c->listen.items[0], &secure), "h:1");
    ck_assert(secure);
    ck_assert_str_eq(config_listen_address(c->listen.items[1], &secure), "h:2");
    ck_assert(!secure);
    ck_assert_str_eq(config_listen_address(c->listen.items[2], &secure), "unix:/s");
    ck_assert(!secure);
    ck_assert_str_eq(config_listen_address(c->listen.items[3], &secure), "[::1]:3");
    ck_assert(secure);
    ck_assert_uint_eq(config_protocols(c), PROXY_H2 | PROXY_HTTP11);
    m = certificates_material(c->loaded);
    ck_assert_uint_eq(m->count, 1);
    ck_assert(kg_str_eq(m->certificates[0].chain, kg_str_of(one.chain)));
    ck_assert(kg_str_eq(m->certificates[0].key, kg_str_of(one.key)));
    ck_assert(kg_str_eq(m->client_ca, kg_str_of(ca.chain)));
    ck_assert_str_eq(certificates_facts(c->loaded, 0)->name, "a.test");
    ck_assert(certificates_unchanged(c->loaded, c));
    put("one.key", "changed");
    ck_assert(!certificates_unchanged(c->loaded, c));
    config_free(c);
}
END_TEST

START_TEST(test_words_that_are_none_of_ours)
{
    bad("{\"listen\": [\"https://unix:/s\"], " REST, NULL, "behind its scheme");
    bad("{\"listen\": [\"https://h\"], " REST, NULL, "behind its scheme");
    bad("{\"listen\": [\"ftp://h:1\"], " REST, NULL, "is not host:port");
    bad("{\"admin\": \"https://h:1\", " REST, NULL, "admin");
    bad_at("{\"protocols\": [\"h2\",\n \"spdy\"], " REST, 2, 2,
           "protocols[1]: \"spdy\" is not a protocol: there are \"h2\", \"http/1.1\" and \"h2c\"");
    bad("{\"protocols\": [\"h2\", \"h2\"], " REST, NULL, "comes twice");
    bad("{\"protocols\": [], " REST, NULL, "at least 1");
    bad("{\"services\": {\"a\": {\"image\": \"x\", \"protocol\": \"h2\"}}}", NULL,
        "services.a.protocol: must be one of \"http/1.1\", \"h2c\", not \"h2\"");
    bad("{\"listen\": [\"https://h:1\", \"http://h:1\"], " REST, NULL, "h:1 comes twice");
}
END_TEST

START_TEST(test_what_does_not_fit_together)
{
    write_files();
    bad_at("{\"listen\": [\"h:1\",\n\"https://h:2\"], " REST, 2, 1,
           "listen[1]: an https:// address needs certificates");
    bad(text_of("{\"listen\": [\"https://h:2\"], \"protocols\": [\"h2c\"], \"certificates\": [" PAIR
                "], " REST),
        NULL, "protocols: have none that an https:// address could speak");
    bad(text_of("{\"client_ca\": \"@/ca.pem\", " REST), NULL, "is of no use without certificates");
    bad("{\"certificates\": [{\"key\": \"k\"}], " REST, NULL,
        "certificates[0].certificate: is required");
    bad("{\"certificates\": [{\"certificate\": \"k\"}], " REST, NULL,
        "certificates[0].key: is required");
    bad("{\"certificates\": [{\"certificate\": \"k\", \"key\": 1}], " REST, NULL, "is not a path");
    bad("{\"certificates\": [7], " REST, NULL, "is not an object");
    bad("{\"certificates\": [{\"crt\": \"k\"}], " REST, NULL, "unknown key");
}
END_TEST

/* One fault at a time, with the place in the file. */
START_TEST(test_files_that_cannot_be_used)
{
    char words[400];

    write_files();
    snprintf(words, sizeof words, "certificates[0].key: %s/one.key: cannot be read: No such file",
             dir);
    remove(put("one.key", ""));
    bad(text_of(PAIR_ONLY), NULL, words);
    put("one.key", "");
    bad(text_of(PAIR_ONLY), NULL, "one.key: has no private key in PEM form in it");
    put("one.key", one.chain);
    bad(text_of(PAIR_ONLY), NULL, "one.key: has no private key in PEM form in it");
    put("one.key", ca.key);
    bad(text_of(PAIR_ONLY), NULL, "one.key: is not the key of the certificate");
    put("one.pem", one.key);
    bad(text_of(PAIR_ONLY), NULL, "one.pem: has no certificate in PEM form in it");
    put("one.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    bad(text_of(PAIR_ONLY), NULL, "one.pem: certificate 1 in it is broken");
    write_files();
    bad(text_of("{\"certificates\": [" PAIR "], \"client_ca\": \"@\", " REST), NULL,
        "cannot be read: Is a directory");
    bad(text_of("{\"certificates\": [" PAIR "], \"client_ca\": \"@/one.key\", " REST), NULL,
        "client_ca: /tmp/kipgate-tls-");
}
END_TEST

static void with_dates(int from_days, int to_days, int rsa_bits, const char *words)
{
    struct tls_made made;

    tls_case_make(&made, &(struct tls_case){
                             .from_days = from_days, .to_days = to_days, .rsa_bits = rsa_bits});
    put("one.pem", made.chain);
    put("one.key", made.key);
    bad(text_of(PAIR_ONLY), NULL, words);
    tls_case_free(&made);
}

static void with_names(const char *names, const char *raw_names, const char *words)
{
    struct tls_made made;

    tls_case_make(&made, &(struct tls_case){.names = names, .raw_names = raw_names});
    put("one.pem", made.chain);
    put("one.key", made.key);
    bad(text_of(PAIR_ONLY), NULL, words);
    tls_case_free(&made);
}

/* They must not be taken for none, or the certificate would be one for its common name. */
START_TEST(test_names_that_cannot_be_read)
{
    write_files();
    with_names(NULL, "garbage", "one.pem: has names that cannot be read (");
    with_names("DNS:a.test", "garbage", "one.pem: has names that cannot be read (they are given");
}
END_TEST

/* A certificate file that is filled up to a size. */
static void put_large(size_t n)
{
    char path[256], *text = malloc(n);

    memset(text, '\n', n);
    memcpy(text, one.chain, strlen(one.chain));
    tls_case_file(path, dir, "one.pem", text, n);
    free(text);
}

START_TEST(test_the_size_of_files)
{
    write_files();
    for (int d = -1; d <= 0; d++) {
        put_large((size_t)(KG_MAX_TLS_FILE_BYTES + d));
        config_free(good(text_of(PAIR_ONLY), NULL));
    }
    put_large(KG_MAX_TLS_FILE_BYTES + 1);
    bad(text_of(PAIR_ONLY), NULL, "one.pem: is larger than 524288 bytes");
    write_files();
}
END_TEST

START_TEST(test_limit_of_certificates)
{
    static char text[KG_MAX_CERTIFICATES * 200 + 400];

    write_files();
    for (int count = KG_MAX_CERTIFICATES - 1; count <= KG_MAX_CERTIFICATES + 1; count++) {
        size_t n = (size_t)snprintf(text, sizeof text, "{\"certificates\": [");
        for (int i = 0; i < count; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", i > 0 ? ", " : "",
                                  text_of(PAIR));
        snprintf(text + n, sizeof text - n, "], " REST);
        if (count <= KG_MAX_CERTIFICATES)
            config_free(good(text, NULL));
        else
            bad(text, NULL, "certificates: ");
    }
}
END_TEST

START_TEST(test_dates_and_strength)
{
    with_dates(-9, -2, 0, "certificates[0].certificate: /tmp/kipgate-tls-");
    with_dates(-9, -2, 0, "one.pem: expired on 20");
    with_dates(2, 9, 0, "one.pem: is not valid before 20");
    with_dates(-2, 9, 1024, "one.pem: cannot be used (ee key too small)");
}
END_TEST

/* It was good when it came: what else changes is taken, in whatever order they are named. */
START_TEST(test_one_in_use_that_has_expired)
{
    static const char beside[] = "{\"certificate\": \"@/old.pem\", \"key\": \"@/old.key\"}";
    char text[600];
    struct tls_made old;
    struct config *first, *next;

    write_files();
    tls_case_make(&old, &(struct tls_case){.names = "DNS:old.test", .issuer = &ca, .to_s = 2});
    put("old.pem", old.chain);
    put("old.key", old.key);
    snprintf(text, sizeof text, "{\"certificates\": [%s, %s], " REST, beside, PAIR);
    first = good(text_of(text), NULL);
    while ((next = load(text_of(text), NULL)) != NULL) { /* until it has expired */
        config_free(next);
        usleep(50000);
    }
    ck_assert_ptr_nonnull(strstr(told(), "old.pem: expired on 20"));
    running = first;
    snprintf(text, sizeof text, "{\"certificates\": [%s, %s], " REST, PAIR, beside);
    next = good(text_of(text), NULL);
    ck_assert_str_eq(certificates_facts(next->loaded, 1)->name, "old.test");
    ck_assert_int_eq(certificates_facts(next->loaded, 1)->not_after_s,
                     certificates_facts(first->loaded, 0)->not_after_s);
    put("old.key", one.key);
    bad(text_of(text), NULL, "old.key: is not the key of the certificate");
    running = NULL;
    config_free(first);
    config_free(next);
    tls_case_free(&old);
}
END_TEST

/* Such an authority lets nobody in. Of several one is enough. */
START_TEST(test_a_weak_authority)
{
    char both[sizeof ca.chain * 2];
    struct tls_made weak;

    tls_case_make(&weak, &(struct tls_case){.is_ca = true, .common = "weak", .rsa_bits = 1024});
    write_files();
    put("ca.pem", weak.chain);
    bad(text_of("{\"certificates\": [" PAIR "], \"client_ca\": \"@/ca.pem\", " REST), NULL,
        "ca.pem: has a key that is too weak");
    snprintf(both, sizeof both, "%s%s", weak.chain, ca.chain);
    put("ca.pem", both);
    config_free(
        good(text_of("{\"certificates\": [" PAIR "], \"client_ca\": \"@/ca.pem\", " REST), NULL));
    tls_case_free(&weak);
}
END_TEST

START_TEST(test_an_encrypted_key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char text[4096], password[] = "x";

    write_files();
    PEM_write_bio_PKCS8PrivateKey(bio, one.pkey, EVP_aes_256_cbc(), password, 1, NULL, NULL);
    tls_case_text(bio, text, sizeof text);
    put("one.key", text);
    bad(text_of(PAIR_ONLY), NULL, "is encrypted, and there is nobody to ask for its password");
}
END_TEST

START_TEST(test_responses_to_staple)
{
    write_files();
    put("one.ocsp", "no response");
    bad(text_of("{\"certificates\": [{\"certificate\": \"@/one.pem\", \"key\": \"@/one.key\","
                " \"ocsp\": \"@/one.ocsp\"}], " REST),
        NULL, "certificates[0].ocsp: ");
    ck_assert_ptr_nonnull(strstr(told(), "is not an OCSP response in DER form"));
}
END_TEST

START_TEST(test_all_faults_are_told)
{
    write_files();
    put("one.key", ca.key);
    bad(text_of("{\"certificates\": [{\"certificate\": \"/no/a\", \"key\": \"/no/b\"}, " PAIR "], "
                "\"fronts\": 0, " REST),
        NULL, "is not the key of the certificate");
    ck_assert_uint_eq(errors.count, 4);
}
END_TEST

START_TEST(test_each_fault_has_its_own_words)
{
    write_files();
    put("old.pem", one.chain);
    put("old.key", ca.key);
    put("one.key", "none");
    put("ca.pem", "none");
    bad(text_of(
            "{\"certificates\": [{\"certificate\": \"@/old.pem\", \"key\": \"@/old.key\"}, " PAIR
            "], \"client_ca\": \"@/ca.pem\", " REST),
        NULL, "old.key: is not the key of the certificate");
    ck_assert_ptr_nonnull(strstr(told(), "one.key: has no private key in PEM form in it"));
    ck_assert_ptr_nonnull(strstr(told(), "ca.pem: has no certificate in PEM form in it"));
}
END_TEST

START_TEST(test_flags_and_variables)
{
    struct config *c;
    char flag[600];

    write_files();
    snprintf(flag, sizeof flag, "%s/one.pem:%s/one.key", dir, dir);
    c = good(NULL, FLAGS("--certificates", flag, "--image", "x", "--listen", "https://h:1"));
    ck_assert_uint_eq(c->certificates.count, 1);
    ck_assert_ptr_null(c->certificates.items[0].ocsp);
    config_free(c);
    setenv("KIPGATE_CERTIFICATES", flag, 1);
    setenv("KIPGATE_PROTOCOLS", "h2c", 1);
    c = good(NULL, FLAGS("--image", "x"));
    ck_assert_uint_eq(config_protocols(c), PROXY_H2C);
    config_free(c);
    put("one.key", ca.key);
    bad(NULL, FLAGS("--image", "x"), "environment:KIPGATE_CERTIFICATES: /tmp/kipgate-tls-");
    unsetenv("KIPGATE_CERTIFICATES");
    bad(NULL, FLAGS("--image", "x", "--certificates", flag), "--certificates: /tmp/kipgate-tls-");
    bad(NULL, FLAGS("--image", "x", "--certificates", "one"), "is not an object");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_listeners_and_their_certificates,
        test_words_that_are_none_of_ours,
        test_what_does_not_fit_together,
        test_files_that_cannot_be_used,
        test_names_that_cannot_be_read,
        test_the_size_of_files,
        test_limit_of_certificates,
        test_dates_and_strength,
        test_one_in_use_that_has_expired,
        test_a_weak_authority,
        test_an_encrypted_key,
        test_responses_to_staple,
        test_all_faults_are_told,
        test_each_fault_has_its_own_words,
        test_flags_and_variables,
    };
    static const char *const names[] = {"ca.pem",   "one.pem", "one.key",
                                        "one.ocsp", "old.pem", "old.key"};
    int failed;

    if (!mkdtemp(dir))
        return 1;
    tls_case_make(&ca, &(struct tls_case){.is_ca = true, .common = "ca"});
    tls_case_make(&one, &(struct tls_case){.names = "DNS:a.test", .issuer = &ca});
    failed = run_cases("config_tls", tests, sizeof tests / sizeof *tests);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        remove(put(names[i], ""));
    rmdir(dir);
    tls_case_free(&ca);
    tls_case_free(&one);
    return failed;
}
