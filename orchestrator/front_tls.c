/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of certificates and keys into the proxy. The difficulty: a piece that does not fit to the
 * one before must not become a certificate that nobody wrote. */
#include "orchestrator/front_tls.h"
#include "base/log.h"
#include <stdlib.h>

struct whole {
    char *bytes;
    size_t n, total;
};

struct front_tls {
    bool out_of_memory; /* since the last commit: a piece had no room */
    struct whole parts[KG_MAX_CERTIFICATES][TLS_CLIENT_CA], client_ca;
};

struct front_tls *front_tls_new(void)
{
    return calloc(1, sizeof(struct front_tls));
}

static void forget(struct whole *w)
{
    if (w->bytes)
        tls_wipe(w->bytes, w->total);
    free(w->bytes);
    *w = (struct whole){NULL, 0, 0};
}

static void forget_all(struct front_tls *t)
{
    for (size_t i = 0; i < KG_MAX_CERTIFICATES; i++)
        for (size_t part = 0; part < TLS_CLIENT_CA; part++)
            forget(&t->parts[i][part]);
    forget(&t->client_ca);
}

void front_tls_forget(struct front_tls *t)
{
    forget_all(t);
    t->out_of_memory = false;
}

void front_tls_free(struct front_tls *t)
{
    if (!t)
        return;
    forget_all(t);
    free(t);
}

static void on_piece(struct front_tls *t, const struct message_tls_piece *m)
{
    struct whole *w = m->part == TLS_CLIENT_CA ? &t->client_ca : &t->parts[m->certificate][m->part];

    if (m->at == 0) {
        forget(w);
        w->bytes = malloc((size_t)m->total + 1);
        w->total = m->total;
        t->out_of_memory |= !w->bytes;
    }
    if (!w->bytes || m->at != w->n || m->n > w->total - w->n)
        return; /* the commit finds it too short: an authority that is missing is not none */
    memcpy(w->bytes + w->n, m->bytes, m->n);
    w->n += m->n;
}

/* False: a piece is missing. */
static bool whole_str(const struct whole *w, struct kg_str *out)
{
    *out = (struct kg_str){w->bytes ? w->bytes : "", w->n};
    return w->n == w->total;
}

static int on_commit(struct front_tls *t, struct proxy *p, const struct message_tls_commit *m)
{
    struct tls_certificate list[KG_MAX_CERTIFICATES];
    struct tls_material material = {.certificates = list, .count = m->certificates};
    bool whole = whole_str(&t->client_ca, &material.client_ca);
    struct kg_err err = {0};

    for (size_t i = 0; i < m->certificates; i++) {
        whole &= whole_str(&t->parts[i][TLS_CHAIN], &list[i].chain);
        whole &= whole_str(&t->parts[i][TLS_KEY], &list[i].key);
        whole &= whole_str(&t->parts[i][TLS_OCSP], &list[i].ocsp);
    }
    if (!whole)
        kg_fail(&err, KG_EPROTO, "a piece of them is missing");
    if (!whole || proxy_tls_set(p, &material, &err) != 0)
        KG_LOG(KG_LOG_ERROR, "certificates-not-taken", KG_F("why", err.words));
    forget_all(t);
    if (t->out_of_memory)
        err.code = KG_ENOMEM;
    t->out_of_memory = false;
    return err.code;
}

int front_tls_message(struct front_tls *t, struct proxy *p, struct message_head *head)
{
    const void *m = head;
    const struct message_tls_tickets *tickets = m;
    int rc = 0;

    if (head->type == MESSAGE_TLS_PIECE)
        on_piece(t, m);
    else if (head->type == MESSAGE_TLS_COMMIT)
        rc = on_commit(t, p, m);
    else if (head->type == MESSAGE_TLS_TICKETS)
        proxy_tls_tickets(p, tickets->keys, tickets->count);
    tls_wipe(head, head->size);
    return rc;
}
