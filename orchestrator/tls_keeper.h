/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps TLS fresh: tells when the files of certificates may have changed, and makes the keys of
 * session tickets anew. The difficulty: files are replaced in many ways (written in place, renamed
 * into place, by a link that is swapped), of which the kernel tells only what happens in a
 * directory. */
#ifndef ORCHESTRATOR_TLS_KEEPER_H
#define ORCHESTRATOR_TLS_KEEPER_H

#include "orchestrator/config.h"
#include "proxy/tls.h"
#include <uv.h>

struct tls_keeper;
struct tls_keeper_params {
    uv_loop_t *loop;
    void *arg;
    void (*on_files)(void *arg); /* the files may have changed */
    void (*on_tickets)(void *arg, const struct tls_ticket_key *keys, unsigned count);
};
struct tls_keeper *tls_keeper_open(const struct tls_keeper_params *params); /* NULL: no memory */
/* Watches the files that this configuration names, instead of those before. The first call with
 * certificates makes the first ticket key, and tells it. */
void tls_keeper_watch(struct tls_keeper *k, const struct config *c);
void tls_keeper_close(struct tls_keeper *k); /* asynchronous: frees by itself */

#endif
