/* SPDX-License-Identifier: Apache-2.0 */
/* A front puts together what control tells of certificates in pieces.
 * The difficulty: keys pass through here, and nothing of them may stay. */
#ifndef ORCHESTRATOR_FRONT_TLS_H
#define ORCHESTRATOR_FRONT_TLS_H

#include "orchestrator/messages.h"

struct front_tls;

struct front_tls *front_tls_new(void); /* NULL: no memory */
void front_tls_free(struct front_tls *t);
/* There is another control: what the last one told, and did not put in force, counts no more. */
void front_tls_forget(struct front_tls *t);
/* One message of TLS. All that is in it and of ours is wiped once it was put to use. 0, KG_ENOMEM
 * (what was told is not in force and will not be), or another code: those before stay. */
int front_tls_message(struct front_tls *t, struct proxy *p, struct message_head *head);

#endif
