/* SPDX-License-Identifier: Apache-2.0 */
/* The files of TLS, read and judged: certificates, keys, responses, the clients' authorities.
 * The difficulty: what is read once is judged, told to fronts, and told again to those that start
 * later; so it is held here, in one piece that never changes, and wiped in the end. */
#ifndef ORCHESTRATOR_CERTIFICATES_H
#define ORCHESTRATOR_CERTIFICATES_H

#include "proxy/tls.h"

struct certificates;
struct config;

/* Told for each fault: of which certificate of the list (0 for TLS_CLIENT_CA), which of its files,
 * and what is wrong with it. */
typedef void certificates_fault(void *arg, size_t index, enum tls_part part, const char *words);
/* Reads what the configuration names. What `held` (those in use; NULL: none) has too is no fault
 * for its age: it was good when it came, and must not keep others from being renewed. NULL: each
 * fault was told. */
struct certificates *certificates_load(const struct config *c, const struct certificates *held,
                                       certificates_fault *fault, void *arg);
struct certificates *certificates_ref(struct certificates *c); /* NULL is fine */
void certificates_unref(struct certificates *c);               /* wipes the last; NULL is fine */
/* Whether the files are what `c` holds, byte by byte; they are not judged. */
bool certificates_unchanged(const struct certificates *c, const struct config *config);
bool certificates_equal(const struct certificates *a, const struct certificates *b);
const struct tls_material *certificates_material(const struct certificates *c);
const struct tls_facts *certificates_facts(const struct certificates *c, size_t index);
/* The file that the configuration names for that part; NULL: none. */
const char *certificates_file(const struct config *c, size_t index, enum tls_part part);

#endif
