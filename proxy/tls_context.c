/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates as handshakes use them: which one for which name, with what behind it.
 * The difficulty: a handshake may end after its certificates were replaced, so what its callbacks
 * need hangs on the context itself, which OpenSSL keeps as long as a session uses it. */
#include "base/clock.h"
#include "base/map.h"
#include "base/random.h"
#include "proxy/proxy_priv.h"
#include "proxy/tls_priv.h"
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#define KINDS_OF_KEY 4         /* of one name: RSA, ECDSA, ... */
#define TICKET_LIFETIME_S 7200 /* no ticket outlives the keys that decrypt it */

/* What hangs on a context: its certificates, one for each kind of key. */
struct served {
    struct tls_identity identities[KINDS_OF_KEY];
    size_t count;
};

struct tls_contexts {
    SSL_CTX *all[KG_MAX_CERTIFICATES]; /* the first is the default */
    size_t count;
    struct kg_map names; /* "a.b" or "*.b" -> SSL_CTX */
};

static int served_index = -1;

static void served_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index, long argl,
                        void *argp)
{
    struct served *s = ptr;

    (void)parent;
    (void)ad;
    (void)index;
    (void)argl;
    (void)argp;
    for (size_t i = 0; s && i < s->count; i++)
        tls_identity_free(&s->identities[i]);
    free(s);
}

static struct served *served_of(const SSL_CTX *ctx)
{
    return SSL_CTX_get_ex_data(ctx, served_index);
}

struct tls *tls_of_session(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

/* --- the name that is asked for -------------------------------------------------------------- */

/* "a.b" itself, or "*.b". */
static SSL_CTX *find(const struct tls_contexts *c, const char *name)
{
    SSL_CTX *found = kg_map_get(&c->names, kg_str_of(name));
    const char *dot = strchr(name, '.');
    char wild[256];

    if (found || !dot || dot == name || strlen(dot) + 2 > sizeof wild)
        return found;
    wild[0] = '*';
    memcpy(wild + 1, dot, strlen(dot) + 1);
    return kg_map_get(&c->names, kg_str_of(wild));
}

/* Lower case, without a final dot; NULL: no memory. */
static char *tidy_name(const char *name)
{
    size_t n = strlen(name);
    char *out = strndup(name, n > 1 && name[n - 1] == '.' ? n - 1 : n);

    for (char *p = out; p && *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    return out;
}

static int on_name(SSL *ssl, int *alert, void *arg)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const struct tls_server *s = arg;
    struct tls *t = tls_of_session(ssl);
    SSL_CTX *ctx;

    if (!name)
        return SSL_TLSEXT_ERR_NOACK;
    free(t->name);
    t->name = tidy_name(name);
    if (!t->name) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    ctx = find(s->contexts, t->name);
    if (ctx) { /* it may be of certificates that came since the handshake began */
        SSL_set_SSL_CTX(ssl, ctx);
        SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), NULL);
    }
    return SSL_TLSEXT_ERR_OK;
}

/* --- the protocol inside --------------------------------------------------------------------- */

/* Ours in the order we like; a client that names none of them is told so. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in,
                   unsigned in_n, void *arg)
{
    static const unsigned char all[] = "\x02h2\x08http/1.1";
    const struct tls_server *s = arg;
    unsigned protocols = s->proxy->params.protocols;
    const unsigned char *ours = protocols & PROXY_H2 ? all : all + 3;
    size_t length = (protocols & PROXY_H2 ? 3 : 0) + (protocols & PROXY_HTTP11 ? 9 : 0);
    unsigned char *chosen;

    (void)ssl;
    if (SSL_select_next_proto(&chosen, n, ours, (unsigned)length, in, in_n) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* Who names no protocol at all would speak HTTP/1.1. */
static int on_hello(SSL *ssl, int *alert, void *arg)
{
    const struct tls_server *s = arg;
    const unsigned char *named;
    size_t n;

    if ((s->proxy->params.protocols & PROXY_HTTP11) ||
        SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &named,
                                  &n) == 1)
        return SSL_CLIENT_HELLO_SUCCESS;
    *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
    return SSL_CLIENT_HELLO_ERROR;
}

/* --- stapled responses ----------------------------------------------------------------------- */

static const struct tls_identity *in_use(SSL *ssl)
{
    const struct served *s = served_of(SSL_get_SSL_CTX(ssl));
    const X509 *leaf = SSL_get_certificate(ssl);

    for (size_t i = 0; i < s->count; i++)
        if (s->identities[i].leaf == leaf)
            return &s->identities[i];
    return NULL;
}

static int on_status(SSL *ssl, void *arg)
{
    const struct tls_identity *i = in_use(ssl);
    unsigned char *copy;

    (void)arg;
    if (!i || i->ocsp.len == 0 || i->ocsp_until_s < kg_clock_wall_ms() / 1000)
        return SSL_TLSEXT_ERR_NOACK;
    copy = OPENSSL_memdup(i->ocsp.data, i->ocsp.len); /* OpenSSL frees it */
    if (!copy)
        return SSL_TLSEXT_ERR_NOACK;
    SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)i->ocsp.len);
    return SSL_TLSEXT_ERR_OK;
}

/* --- tickets --------------------------------------------------------------------------------- */

void tls_ticket_key_make(struct tls_ticket_key *out)
{
    kg_random(out->name, sizeof out->name);
    kg_random(out->aes, sizeof out->aes);
    kg_random(out->hmac, sizeof out->hmac);
}

static bool set_ticket_key(const struct tls_ticket_key *key, const unsigned char *iv,
                           EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)key->hmac,
                                          sizeof key->hmac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_CTX_set_params(mac, params) == 1 &&
           EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->aes, iv, encrypt) == 1;
}

/* 1: use it; 2: use it, and give a new one; 0: there is no such key; less: failed. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int encrypt)
{
    const struct tls_server *s = tls_of_session(ssl)->server;

    if (encrypt) {
        if (s->key_count == 0 || RAND_bytes(iv, EVP_CIPHER_iv_length(EVP_aes_256_cbc())) != 1)
            return s->key_count == 0 ? 0 : -1;
        memcpy(name, s->keys[0].name, sizeof s->keys[0].name);
        return set_ticket_key(&s->keys[0], iv, cipher, mac, 1) ? 1 : -1;
    }
    for (unsigned i = 0; i < s->key_count; i++)
        if (CRYPTO_memcmp(name, s->keys[i].name, sizeof s->keys[i].name) == 0)
            return set_ticket_key(&s->keys[i], iv, cipher, mac, 0) ? 1 + (i > 0) : -1;
    return 0;
}

/* Whether who is remembered would be let in again. */
static bool is_believed(const SSL *ssl, const SSL_SESSION *session)
{
    const X509 *client = SSL_SESSION_get0_peer((SSL_SESSION *)(uintptr_t)session);

    if (!(SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER))
        return true;
    return client && X509_cmp_current_time(X509_get0_notBefore(client)) < 0 &&
           X509_cmp_current_time(X509_get0_notAfter(client)) > 0;
}

/* A ticket that is not taken leads to a whole handshake, which asks the client who it is. */
static SSL_TICKET_RETURN on_session(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                    size_t n, SSL_TICKET_STATUS found, void *arg)
{
    (void)name;
    (void)n;
    (void)arg;
    if ((found != SSL_TICKET_SUCCESS && found != SSL_TICKET_SUCCESS_RENEW) ||
        !is_believed(ssl, session))
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return found == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

/* --- making them ----------------------------------------------------------------------------- */

/* Who presented a certificate is remembered in a ticket: it counts only as long as it would be
 * believed again. */
static int set_clients(SSL_CTX *ctx, struct kg_str ca, struct kg_err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    STACK_OF(X509) * all;
    unsigned n = 0;

    if (EVP_Digest(ca.p, ca.n, digest, &n, EVP_sha256(), NULL) != 1 ||
        SSL_CTX_set_session_id_context(ctx, digest, n) != 1)
        return kg_fail(err, KG_ENOMEM, "out of memory");
    if (ca.n == 0)
        return 0;
    all = tls_parse_certificates(ca, err);
    if (!all)
        return KG_EINVAL;
    for (int i = 0; i < sk_X509_num(all); i++)
        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), sk_X509_value(all, i)) != 1 ||
            SSL_CTX_add_client_CA(ctx, sk_X509_value(all, i)) != 1)
            kg_fail(err, KG_ENOMEM, "out of memory");
    sk_X509_pop_free(all, X509_free);
    if (err->code != 0)
        return err->code;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

static SSL_CTX *context_new(struct tls_server *s, struct kg_str client_ca, struct kg_err *err)
{
    SSL_CTX *ctx = tls_context_plain();
    struct served *served = calloc(1, sizeof *served);

    if (!ctx || !served || SSL_CTX_set_ex_data(ctx, served_index, served) != 1) {
        kg_fail(err, KG_ENOMEM, "out of memory");
        SSL_CTX_free(ctx);
        free(served);
        return NULL;
    }
    SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
    SSL_CTX_set_tlsext_servername_arg(ctx, s);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, s);
    SSL_CTX_set_client_hello_cb(ctx, on_hello, s);
    SSL_CTX_set_tlsext_status_cb(ctx, on_status);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
    SSL_CTX_set_session_ticket_cb(ctx, NULL, on_session, NULL);
    SSL_CTX_set_timeout(ctx, TICKET_LIFETIME_S);
    if (set_clients(ctx, client_ca, err) == 0)
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

static bool same_kind(const struct tls_identity *a, const struct tls_identity *b)
{
    return EVP_PKEY_get_base_id(a->key) == EVP_PKEY_get_base_id(b->key);
}

static bool has_name(const struct kg_buf *names, const char *name)
{
    for (size_t at = 0; at < names->len; at += strlen(names->data + at) + 1)
        if (strcmp(names->data + at, name) == 0)
            return true;
    return false;
}

/* Whatever order they are in. */
static bool has_all(const struct kg_buf *names, const struct kg_buf *of)
{
    for (size_t at = 0; at < of->len; at += strlen(of->data + at) + 1)
        if (!has_name(names, of->data + at))
            return false;
    return true;
}

static bool same_names(const struct tls_identity *a, const struct tls_identity *b)
{
    return has_all(&a->names, &b->names) && has_all(&b->names, &a->names);
}

/* The context of the same names that lacks this kind of key: a client then gets the kind that it
 * likes. */
static SSL_CTX *companion(const struct tls_contexts *c, const struct tls_identity *i)
{
    for (size_t n = 0; n < c->count; n++) {
        const struct served *s = served_of(c->all[n]);
        bool fits = s->count < KINDS_OF_KEY && same_names(&s->identities[0], i);
        for (size_t k = 0; k < s->count; k++)
            fits &= !same_kind(&s->identities[k], i);
        if (fits)
            return c->all[n];
    }
    return NULL;
}

/* Of two certificates for one name the first is taken. */
static int add_names(struct tls_contexts *c, SSL_CTX *ctx, const struct kg_buf *names)
{
    for (size_t at = 0; at < names->len; at += strlen(names->data + at) + 1) {
        struct kg_str name = kg_str_of(names->data + at);
        if (!kg_map_get(&c->names, name) && kg_map_set(&c->names, name, ctx) != 0)
            return KG_ENOMEM;
    }
    return 0;
}

static int add(struct tls_contexts *c, struct tls_server *s, const struct tls_material *m, size_t n,
               struct kg_err *err)
{
    struct tls_identity i;
    struct served *served;
    enum tls_part part;
    SSL_CTX *ctx;

    if (tls_identity_parse(&i, &m->certificates[n], &part, err) != 0)
        return KG_EINVAL;
    ctx = companion(c, &i);
    if (!ctx && (ctx = context_new(s, m->client_ca, err)) != NULL)
        c->all[c->count++] = ctx;
    if (!ctx || tls_context_use(ctx, &i, err) != 0 || add_names(c, ctx, &i.names) != 0) {
        tls_identity_free(&i);
        return kg_fail(err, KG_ENOMEM, "out of memory");
    }
    served = served_of(ctx);
    served->identities[served->count++] = i;
    return 0;
}

struct tls_contexts *tls_contexts_new(struct tls_server *s, const struct tls_material *m,
                                      struct kg_err *err)
{
    struct tls_contexts *c = calloc(1, sizeof *c);
    int rc = c ? 0 : kg_fail(err, KG_ENOMEM, "out of memory");

    KG_ASSERT(m->count >= 1 && m->count <= KG_MAX_CERTIFICATES);
    if (served_index < 0)
        served_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, served_free);
    if (!c)
        return NULL;
    kg_map_init(&c->names);
    for (size_t i = 0; rc == 0 && i < m->count; i++)
        rc = add(c, s, m, i, err);
    if (rc == 0)
        return c;
    tls_contexts_free(c);
    return NULL;
}

void tls_contexts_free(struct tls_contexts *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++)
        SSL_CTX_free(c->all[i]);
    kg_map_fini(&c->names);
    free(c);
}

SSL *tls_contexts_session(const struct tls_contexts *c, struct tls *t)
{
    SSL *ssl = SSL_new(c->all[0]);

    if (!ssl || SSL_set_app_data(ssl, t) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_accept_state(ssl);
    return ssl;
}
