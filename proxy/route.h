/* SPDX-License-Identifier: Apache-2.0 */
/* The route table: from host and path to a service, by exact look-up only.
 * The difficulty: the longest match at a cost that does not grow with the number of routes. */
#ifndef PROXY_ROUTE_H
#define PROXY_ROUTE_H

#include "base/str.h"

struct route_table;

struct route_match {
    uint32_t service;
    size_t prefix_n; /* bytes of the path that the prefix took; 0 for "/" */
};

struct route_table *route_table_new(void);    /* NULL: no memory */
void route_table_free(struct route_table *t); /* NULL is fine */

/* `host`: "" (any), "a.b" or "*.b" (any depth below b, not b itself), in any case; `prefix` begins
 * with '/'; a '/' at its end means the same without. Copies both. 0, KG_ENOMEM, KG_ELIMIT (more
 * than KG_MAX_ROUTES, or host and prefix longer than KG_MAX_ROUTE_BYTES), KG_ECONFLICT (an equal
 * route is there), KG_EINVAL (not a host, or not a path in target.h's normal form). */
int route_table_add(struct route_table *t, struct kg_str host, struct kg_str prefix,
                    uint32_t service);
size_t route_table_count(const struct route_table *t);

/* `host` as target_host gives it (lower case, no port), `path` as target.path ("*" counts as "/").
 * Hosts are tried from the closest: exact, longest wildcard, ..., any; in each the longest prefix
 * that ends at a segment boundary; the first host that has one decides. False: no route. */
bool route_table_find(const struct route_table *t, struct kg_str host, struct kg_str path,
                      struct route_match *out);

#endif
