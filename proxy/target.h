/* SPDX-License-Identifier: Apache-2.0 */
/* The request target and the Host beside it: which host and path are asked for.
 * The difficulty: the bytes that are matched against routes are the bytes the worker gets, so there
 * is nothing to normalise: what could mean two things is refused. */
#ifndef PROXY_TARGET_H
#define PROXY_TARGET_H

#include "base/str.h"

#define TARGET_MAX_HOST_BYTES 253

enum target_form { TARGET_ORIGIN, TARGET_ABSOLUTE, TARGET_ASTERISK };

/* Slices point into the head (or at static text); `host` is a copy, so the value may be moved. */
struct target {
    enum target_form form;
    bool https;          /* absolute form: the resource is one of TLS */
    struct kg_str path;  /* "/..." as it came; "*" in asterisk form. This is what routes match */
    struct kg_str query; /* with its '?', or empty. Never looked into */
    struct kg_str authority; /* what the worker gets as Host: as it came, port included; may be
                                empty (HTTP/1.0 without Host) */
    uint32_t host_n;
    char host[TARGET_MAX_HOST_BYTES + 3]; /* for matching: lower case, no port, no final dot; an
                                             IPv6 literal keeps its brackets */
};
static inline struct kg_str target_host(const struct target *t)
{
    return (struct kg_str){t->host, t->host_n};
}

/* `raw` is the target (visible ASCII, not empty: the guard's work), `options` whether the method
 * allows "*", `host` the value of the one Host field or NULL when there is none (the caller has
 * refused that on 1.1). Returns NULL and fills *out, or static words that say what is wrong (400).
 *
 * The normal form of a path, and what happens outside it:
 *   refused  a dot segment ("." or ".."), however spelled: '%2e', behind '/', '\', '%2f', '%5c',
 *            with ';parameters'; so nothing climbs out of a matched prefix at a worker that decodes
 *   refused  '\', '#', '%00', '%' without two hex digits, raw non-ASCII
 *   kept     all else, byte by byte: "//", ";a=b", "%20", "%2F" inside a key, upper or lower hex.
 * A route is matched on the bytes: "/%61" is not "/a", "//a" is not "/a", "/a%2Fb" is one segment.
 * The query is opaque, but for '#', which is refused anywhere. */
const char *target_parse(struct kg_str raw, bool options, const struct kg_str *host,
                         struct target *out);

/* Whether a path is in the form above: NULL, or what is wrong. Also for prefixes of routes. */
const char *target_check_path(struct kg_str path);
/* Whether `host` may stand in a Host field ("a.b", "a.b:80", "[::1]:80"); fills host and host_n of
 * *out when it is not NULL. NULL, or what is wrong. */
const char *target_check_host(struct kg_str host, struct target *out);

#endif
