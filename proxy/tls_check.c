/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates, keys and responses out of files' bytes, and what is wrong with them.
 * The difficulty: OpenSSL says what it did not like in its own terms; people need to know which
 * file to mend, and how. */
#include "proxy/tls_priv.h"
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

#define MAX_IN_ONE 512 /* certificates in one file */
#define MAX_NAMES_BYTES (64 * 1024)
#define MAX_OCSP_BYTES (64 * 1024)
#define SECURITY_LEVEL 2  /* RSA of 2048 bits and more, no SHA-1 */
#define SECURITY_BITS 112 /* what that level asks of a key */

/* Forward secrecy and authenticated encryption only; those that cost least first. */
#define CIPHERS_12                                                                                 \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                   \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS "X25519:P-256:P-384"

/* --- memory -------------------------------------------------------------------------------- */

static _Atomic size_t refused;

static void *watched_realloc(void *old, size_t n, const char *file, int line)
{
    void *p;

    (void)file;
    (void)line;
    if (n == 0) {
        free(old);
        return NULL;
    }
    p = realloc(old, n);
    refused += p == NULL;
    return p;
}

static void *watched_malloc(size_t n, const char *file, int line)
{
    return watched_realloc(NULL, n, file, line);
}

static void watched_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

void tls_watch_memory(void)
{
    CRYPTO_set_mem_functions(watched_malloc, watched_realloc, watched_free);
}

size_t tls_memory_refused(void)
{
    return refused;
}

/* What is found wrong while memory is refused is not the file's fault. */
static int blame(int rc, size_t refused_before, struct kg_err *err)
{
    if (rc == 0 || refused == refused_before)
        return rc;
    err->code = 0;
    return kg_fail(err, KG_ENOMEM, "out of memory");
}

void tls_wipe(void *secret, size_t n)
{
    OPENSSL_cleanse(secret, n);
}

/* --- words -------------------------------------------------------------------------------- */

/* What OpenSSL disliked last, in its own words. */
static const char *reason(void)
{
    const char *words = ERR_reason_error_string(ERR_peek_last_error());

    return words ? words : "unknown cause";
}

static BIO *reader(struct kg_str bytes)
{
    return BIO_new_mem_buf(bytes.p, (int)bytes.n);
}

/* --- certificates ---------------------------------------------------------------------------- */

static int no_password(char *out, int cap, int writing, void *asked)
{
    (void)out;
    (void)cap;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

/* The end of a PEM text is told as an error of its own. */
static bool at_end(void)
{
    unsigned long e = ERR_peek_last_error();

    return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
}

/* Pushes what is there; false: *err says what is wrong. */
static bool read_certificates(BIO *bio, STACK_OF(X509) * all, struct kg_err *err)
{
    bool asked = false;
    X509 *one;
    int n;

    while ((one = PEM_read_bio_X509(bio, NULL, no_password, &asked)) != NULL)
        if (sk_X509_num(all) == MAX_IN_ONE || sk_X509_push(all, one) <= 0) {
            X509_free(one);
            kg_fail(err, KG_EINVAL, "has more than %d certificates in it", MAX_IN_ONE);
            return false;
        }
    n = sk_X509_num(all);
    if (!at_end())
        kg_fail(err, KG_EINVAL, "certificate %d in it is broken (%s)", n + 1, reason());
    else if (n == 0)
        kg_fail(err, KG_EINVAL, "has no certificate in PEM form in it");
    return at_end() && n > 0;
}

STACK_OF(X509) * tls_parse_certificates(struct kg_str pem, struct kg_err *err)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    BIO *bio = reader(pem);
    bool good;

    ERR_clear_error();
    good = all && bio && read_certificates(bio, all, err);
    if (!all || !bio)
        kg_fail(err, KG_ENOMEM, "out of memory");
    BIO_free(bio);
    ERR_clear_error();
    if (good)
        return all;
    sk_X509_pop_free(all, X509_free);
    return NULL;
}

static EVP_PKEY *parse_key(struct kg_str pem, struct kg_err *err)
{
    bool asked = false;
    BIO *bio = reader(pem);
    EVP_PKEY *key;

    ERR_clear_error();
    key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, &asked) : NULL;
    if (!key && asked)
        kg_fail(err, KG_EINVAL, "is encrypted, and there is nobody to ask for its password");
    else if (!key && !memmem(pem.p, pem.n, " KEY-----", 9)) /* the reader has many words for it */
        kg_fail(err, KG_EINVAL, "has no private key in PEM form in it");
    else if (!key)
        kg_fail(err, KG_EINVAL, "has a private key that is broken (%s)", reason());
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

/* --- the names that a certificate is for ----------------------------------------------------- */

static void add_name(struct kg_buf *names, const unsigned char *name, int n)
{
    size_t at = names->len;

    if (n <= 0 || n > 253 || memchr(name, '\0', (size_t)n))
        return;
    kg_buf_append(names, name, (size_t)n);
    kg_buf_append(names, "", 1);
    for (; at < names->len; at++)
        if (names->data[at] >= 'A' && names->data[at] <= 'Z')
            names->data[at] = (char)(names->data[at] - 'A' + 'a');
}

/* An address is a name, too, though clients do not ask for it by name. */
static void add_address(struct kg_buf *names, const unsigned char *bytes, int n)
{
    char text[INET6_ADDRSTRLEN];

    if ((n == 4 || n == 16) && inet_ntop(n == 4 ? AF_INET : AF_INET6, bytes, text, sizeof text))
        add_name(names, (const unsigned char *)text, (int)strlen(text));
}

/* The subject's common name counts only where no other name is given. Names that are given and
 * cannot be read (there may be no memory for them) are none at all: who asked for them would get
 * another certificate. */
static int find_names(X509 *leaf, struct kg_buf *names, struct kg_err *err)
{
    int found; /* -1: there are none; -2: more than once */
    GENERAL_NAMES *all;
    char common[256];
    int n;

    ERR_clear_error();
    all = X509_get_ext_d2i(leaf, NID_subject_alt_name, &found, NULL);
    if (!all && found != -1)
        return kg_fail(err, KG_EINVAL, "has names that cannot be read (%s)",
                       found == -2 ? "they are given twice" : reason());
    for (int i = 0; i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);
        if (g->type == GEN_DNS)
            add_name(names, ASN1_STRING_get0_data(g->d.dNSName), ASN1_STRING_length(g->d.dNSName));
        else if (g->type == GEN_IPADD)
            add_address(names, ASN1_STRING_get0_data(g->d.iPAddress),
                        ASN1_STRING_length(g->d.iPAddress));
    }
    GENERAL_NAMES_free(all);
    if (!all) {
        n = X509_NAME_get_text_by_NID(X509_get_subject_name(leaf), NID_commonName, common,
                                      sizeof common);
        add_name(names, (const unsigned char *)common, n);
    }
    if (names->error == 0)
        return 0;
    return names->error == KG_ENOMEM
               ? kg_fail(err, KG_ENOMEM, "out of memory")
               : kg_fail(err, KG_EINVAL, "has names of more than %d bytes", MAX_NAMES_BYTES);
}

/* --- responses to staple --------------------------------------------------------------------- */

static int64_t seconds_of(const ASN1_TIME *t)
{
    struct tm tm;

    return t && ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : INT64_MAX;
}

/* The answer about the certificate of that number; NULL: there is none. */
static OCSP_SINGLERESP *answer_about(OCSP_BASICRESP *basic, const X509 *leaf)
{
    for (int i = 0; i < OCSP_resp_count(basic); i++) {
        OCSP_SINGLERESP *single = OCSP_resp_get0(basic, i);
        ASN1_INTEGER *serial = NULL;
        OCSP_id_get0_info(NULL, NULL, NULL, &serial,
                          (OCSP_CERTID *)(uintptr_t)OCSP_SINGLERESP_get0_id(single));
        if (serial && ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(leaf)) == 0)
            return single;
    }
    return NULL;
}

static int judge_answer(OCSP_SINGLERESP *single, int64_t *until_s, struct kg_err *err)
{
    ASN1_GENERALIZEDTIME *next = NULL;
    int why, status;

    if (!single)
        return kg_fail(err, KG_EINVAL, "is about another certificate");
    status = OCSP_single_get0_status(single, &why, NULL, NULL, &next);
    *until_s = seconds_of(next);
    if (status == V_OCSP_CERTSTATUS_GOOD)
        return 0;
    return kg_fail(err, KG_EINVAL, "says that the certificate is %s",
                   status == V_OCSP_CERTSTATUS_REVOKED ? "revoked" : "unknown");
}

static int parse_ocsp(struct tls_identity *i, struct kg_str der, struct kg_err *err)
{
    const unsigned char *at = (const unsigned char *)der.p;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)der.n);
    OCSP_BASICRESP *basic = NULL;
    int rc = 0;

    if (!response)
        rc = kg_fail(err, KG_EINVAL, "is not an OCSP response in DER form");
    else if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        rc = kg_fail(err, KG_EINVAL, "is a response that says: %s",
                     OCSP_response_status_str(OCSP_response_status(response)));
    else if (!(basic = OCSP_response_get1_basic(response)))
        rc = kg_fail(err, KG_EINVAL, "is a response without an answer");
    else
        rc = judge_answer(answer_about(basic, i->leaf), &i->ocsp_until_s, err);
    if (rc == 0 && kg_buf_append(&i->ocsp, der.p, der.n) != 0)
        rc = i->ocsp.error == KG_ENOMEM
                 ? kg_fail(err, KG_ENOMEM, "out of memory")
                 : kg_fail(err, KG_EINVAL, "is longer than %d bytes", MAX_OCSP_BYTES);
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(response);
    ERR_clear_error();
    return rc;
}

/* --- an identity ----------------------------------------------------------------------------- */

void tls_identity_free(struct tls_identity *i)
{
    X509_free(i->leaf);
    sk_X509_pop_free(i->chain, X509_free);
    EVP_PKEY_free(i->key);
    kg_buf_fini(&i->names);
    kg_buf_fini(&i->ocsp);
}

static int parse(struct tls_identity *i, const struct tls_certificate *c, enum tls_part *part,
                 struct kg_err *err)
{
    int rc;

    *part = TLS_CHAIN;
    i->chain = tls_parse_certificates(c->chain, err);
    if (!i->chain)
        return KG_EINVAL;
    i->leaf = sk_X509_shift(i->chain);
    rc = find_names(i->leaf, &i->names, err);
    if (rc != 0) {
        ERR_clear_error();
        return rc;
    }
    *part = TLS_KEY;
    i->key = parse_key(c->key, err);
    if (!i->key)
        return KG_EINVAL;
    if (X509_check_private_key(i->leaf, i->key) != 1) {
        ERR_clear_error();
        return kg_fail(err, KG_EINVAL, "is not the key of the certificate");
    }
    *part = TLS_OCSP;
    return c->ocsp.n > 0 ? parse_ocsp(i, c->ocsp, err) : 0;
}

int tls_identity_parse(struct tls_identity *out, const struct tls_certificate *c,
                       enum tls_part *part, struct kg_err *err)
{
    int rc;

    *out = (struct tls_identity){.ocsp_until_s = INT64_MAX};
    kg_buf_init(&out->names, MAX_NAMES_BYTES);
    kg_buf_init(&out->ocsp, MAX_OCSP_BYTES);
    rc = parse(out, c, part, err);
    if (rc != 0)
        tls_identity_free(out);
    return rc;
}

/* --- rules ----------------------------------------------------------------------------------- */

SSL_CTX *tls_context_plain(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (!ctx)
        return NULL;
    SSL_CTX_set_security_level(ctx, SECURITY_LEVEL);
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* clients keep them, as tickets */
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
        SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
        SSL_CTX_set_cipher_list(ctx, CIPHERS_12) == 1 &&
        SSL_CTX_set_ciphersuites(ctx, CIPHERS_13) == 1 &&
        SSL_CTX_set1_groups_list(ctx, GROUPS) == 1)
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

int tls_context_use(SSL_CTX *ctx, const struct tls_identity *i, struct kg_err *err)
{
    int rc = 0;

    ERR_clear_error();
    if (SSL_CTX_use_cert_and_key(ctx, i->leaf, i->key, i->chain, 1) != 1)
        rc = kg_fail(err, KG_EINVAL, "cannot be used (%s)", reason());
    ERR_clear_error();
    return rc;
}

/* --- judgement ------------------------------------------------------------------------------- */

static void format_time(int64_t at_s, char out[32])
{
    time_t at = (time_t)at_s;
    struct tm tm;

    gmtime_r(&at, &tm);
    strftime(out, 32, "%Y-%m-%d %H:%M:%S UTC", &tm);
}

static int check_dates(const X509 *x, int64_t now_s, struct kg_err *err)
{
    int64_t from_s = seconds_of(X509_get0_notBefore(x)), to_s = seconds_of(X509_get0_notAfter(x));
    char when[32];

    if (now_s > to_s) {
        format_time(to_s, when);
        return kg_fail(err, KG_EINVAL, "expired on %s", when);
    }
    if (now_s < from_s && from_s != INT64_MAX) {
        format_time(from_s, when);
        return kg_fail(err, KG_EINVAL, "is not valid before %s", when);
    }
    return 0;
}

static int check_chain(const struct tls_identity *i, int64_t now_s, struct kg_err *err)
{
    struct kg_err found = {0};

    if (check_dates(i->leaf, now_s, err) != 0)
        return KG_EINVAL;
    for (int n = 0; n < sk_X509_num(i->chain); n++)
        if (check_dates(sk_X509_value(i->chain, n), now_s, &found) != 0)
            return kg_fail(err, KG_EINVAL, "certificate %d in it %s", n + 2, found.words);
    return 0;
}

static int check_use(const struct tls_identity *i, struct kg_err *err)
{
    SSL_CTX *ctx = tls_context_plain();
    int rc = ctx ? tls_context_use(ctx, i, err) : kg_fail(err, KG_ENOMEM, "out of memory");

    SSL_CTX_free(ctx);
    return rc;
}

static int check_certificate(const struct tls_certificate *c, int64_t now_s,
                             struct tls_facts *facts, enum tls_part *part, struct kg_err *err)
{
    struct tls_identity i;
    char when[32];
    int rc = tls_identity_parse(&i, c, part, err);

    if (rc != 0)
        return rc;
    *facts = (struct tls_facts){.not_after_s = seconds_of(X509_get0_notAfter(i.leaf))};
    kg_str_copy(facts->name, sizeof facts->name, kg_str_of(i.names.data ? i.names.data : ""));
    *part = TLS_CHAIN;
    rc = check_chain(&i, now_s, err);
    if (rc == 0)
        rc = check_use(&i, err);
    if (rc == 0 && i.ocsp_until_s < now_s) {
        *part = TLS_OCSP;
        format_time(i.ocsp_until_s, when);
        rc = kg_fail(err, KG_EINVAL, "expired on %s", when);
    }
    tls_identity_free(&i);
    return rc;
}

int tls_check_certificate(const struct tls_certificate *c, int64_t now_s, struct tls_facts *facts,
                          enum tls_part *part, struct kg_err *err)
{
    size_t before = refused;

    return blame(check_certificate(c, now_s, facts, part, err), before, err);
}

static int check_authority(const X509 *x, int64_t now_s, struct kg_err *err)
{
    int rc = check_dates(x, now_s, err), bits = EVP_PKEY_get_security_bits(X509_get0_pubkey(x));

    return rc != 0 || bits >= SECURITY_BITS
               ? rc
               : kg_fail(err, KG_EINVAL, "has a key that is too weak (%d bits of %d)", bits,
                         SECURITY_BITS);
}

/* A bundle goes through changes of generation: one that is valid is enough. */
static int check_client_ca(struct kg_str pem, int64_t now_s, struct kg_err *err)
{
    STACK_OF(X509) *all = tls_parse_certificates(pem, err);
    struct kg_err first = {0};
    bool good = false;

    if (!all)
        return KG_EINVAL;
    for (int i = 0; i < sk_X509_num(all); i++)
        good |= check_authority(sk_X509_value(all, i), now_s, &first) == 0;
    sk_X509_pop_free(all, X509_free);
    return good ? 0 : kg_fail(err, KG_EINVAL, "%s", first.words);
}

int tls_check_client_ca(struct kg_str pem, int64_t now_s, struct kg_err *err)
{
    size_t before = refused;

    return blame(check_client_ca(pem, now_s, err), before, err);
}
