/* SPDX-License-Identifier: Apache-2.0 */
/* Which address a container is given, on a network whose range is ours to give from. Pure.
 * The difficulty: an engine that was killed forgets workers that live on, and gives their addresses
 * away: so each address rests until all the others have had their turn. */
#include "base/random.h"
#include "orchestrator/engine_priv.h"
#include <arpa/inet.h>
#include <stdio.h>

#define LONGEST_PREFIX 30 /* a range of two addresses beside its own two */

/* "10.1.0.0/16": its first address, and how many bits name the network. */
static bool parse_subnet(const char *text, uint32_t *first, int64_t *prefix)
{
    const char *slash = strchr(text, '/');
    char address[INET_ADDRSTRLEN];
    struct in_addr in;

    if (!slash ||
        !kg_str_copy(address, sizeof address, (struct kg_str){text, (size_t)(slash - text)}) ||
        inet_pton(AF_INET, address, &in) != 1 || !kg_str_to_i64(kg_str_of(slash + 1), prefix) ||
        *prefix < 1 || *prefix > LONGEST_PREFIX)
        return false;
    *first = ntohl(in.s_addr) & (uint32_t)(UINT32_MAX << (32 - *prefix));
    return true;
}

bool engine_range_read(struct engine_range *r, const struct json *network)
{
    const struct json *config = json_first(json_path(network, "IPAM.Config"));
    const char *subnet = json_string(json_get(config, "Subnet"), "");
    const char *gateway = json_string(json_get(config, "Gateway"), "");
    struct in_addr at;
    int64_t prefix;

    if (r->count > 0 && strcmp(r->subnet, subnet) == 0 && strcmp(r->gateway, gateway) == 0)
        return true; /* as before: the turn goes on */
    *r = (struct engine_range){0};
    if (json_next(config) || !parse_subnet(subnet, &r->first, &prefix) ||
        inet_pton(AF_INET, gateway, &at) != 1 ||
        !kg_str_copy(r->subnet, sizeof r->subnet, kg_str_of(subnet)) ||
        !kg_str_copy(r->gateway, sizeof r->gateway, kg_str_of(gateway)))
        return false;
    r->first++;
    r->count = (1u << (32 - prefix)) - 2;
    r->taken = ntohl(at.s_addr);
    kg_random(&r->next, sizeof r->next); /* not where the last run began */
    r->next %= r->count;
    return true;
}

bool engine_range_next(struct engine_range *r, char out[INET_ADDRSTRLEN])
{
    struct in_addr at;

    if (r->count == 0)
        return false;
    if (r->first + r->next == r->taken)
        r->next = (r->next + 1) % r->count;
    at.s_addr = htonl(r->first + r->next);
    r->next = (r->next + 1) % r->count;
    return inet_ntop(AF_INET, &at, out, INET_ADDRSTRLEN) != NULL;
}
