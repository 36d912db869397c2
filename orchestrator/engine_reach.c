/* SPDX-License-Identifier: Apache-2.0 */
/* How workers are reached, found out instead of asked. The difficulty: an engine's address says
 * nothing of where it is: it may be here, around us (we are one of its containers), or far away. */
#include "base/log.h"
#include "orchestrator/engine_priv.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void ask_own(struct engine *e);
static void ask_network(struct engine *e);
static void ask_default(struct engine *e);

/* KIPGATE_REACH, for tests: settles what would be found out. */
static enum engine_reach forced(void)
{
    const char *name = getenv("KIPGATE_REACH");

    if (!name)
        return REACH_UNKNOWN;
    return strcmp(name, "address") == 0     ? REACH_ADDRESS
           : strcmp(name, "network") == 0   ? REACH_NETWORK
           : strcmp(name, "published") == 0 ? REACH_PUBLISHED
                                            : REACH_UNKNOWN;
}

static void end(struct engine *e, bool found, const char *why)
{
    e->reach.running = false;
    e->reach.call = 0;
    if (found)
        KG_LOG(KG_LOG_INFO, "engine-reach", KG_F("reach", engine_reach_name(e)),
               KG_F("network", e->reach.network));
    engine_reached(e, found, why);
}

/* An answer that ends the search: none, or the call was cut off. */
static bool is_lost(struct engine *e, const struct transport_answer *a)
{
    char why[256];

    e->reach.call = 0;
    if (a->code == 0)
        return false;
    kg_str_copy(why, sizeof why, kg_str_of(a->words));
    end(e, false, why);
    if (a->refused)
        engine_lost(e, why);
    return true;
}

static void ask(struct engine *e, const char *path, transport_done *on_done)
{
    e->reach.call = engine_ask(e, "GET", path, NULL, on_done, e);
    if (e->reach.call == 0)
        end(e, false, "out of memory");
}

/* --- are we one of its containers? -------------------------------------------------------- */

/* The first run of exactly 64 hexadecimal digits. */
static bool find_id(const char *text, char id[ENGINE_ID_BYTES])
{
    while (*text) {
        size_t n = strspn(text, "0123456789abcdef");
        if (n == 64) {
            kg_str_copy(id, ENGINE_ID_BYTES, (struct kg_str){text, n});
            return true;
        }
        text += n + (text[n] != '\0');
    }
    return false;
}

/* A container's /etc/hostname is a file of its own directory on the engine's host. The mount table
 * of that host itself names all containers, so only this mount point is looked at. */
static bool id_from_mounts(FILE *f, char id[ENGINE_ID_BYTES])
{
    char line[4096], root[2048], point[2048];

    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%*s %*s %*s %2047s %2047s", root, point) == 2 &&
            strcmp(point, "/etc/hostname") == 0 && strstr(root, "containers/"))
            return find_id(root, id);
    return false;
}

static bool id_from_cgroup(FILE *f, char id[ENGINE_ID_BYTES])
{
    char line[4096];

    while (fgets(line, sizeof line, f))
        if (find_id(line, id))
            return true;
    return false;
}

static bool read_id(const char *path, bool (*from)(FILE *f, char id[ENGINE_ID_BYTES]),
                    char id[ENGINE_ID_BYTES])
{
    FILE *f = fopen(path, "re");
    bool found = f && from(f, id);

    if (f)
        fclose(f);
    return found;
}

/* Who we may be to the engine; it is asked whether that is so. */
static bool guess_own_id(char id[ENGINE_ID_BYTES])
{
    char host[HOST_NAME_MAX + 1] = "";

    if (read_id("/proc/self/mountinfo", id_from_mounts, id) ||
        read_id("/proc/self/cgroup", id_from_cgroup, id))
        return true;
    if (access("/.dockerenv", F_OK) != 0 && access("/run/.containerenv", F_OK) != 0)
        return false;
    if (gethostname(host, sizeof host) != 0 || strlen(host) != 12 ||
        strspn(host, "0123456789abcdef") != 12)
        return false;
    return kg_str_copy(id, ENGINE_ID_BYTES, kg_str_of(host));
}

/* Ids can be copied and hosts can share names; both at once is us. */
static bool is_us(const struct json *n)
{
    char host[HOST_NAME_MAX + 1] = "";
    const char *mode = json_string(json_path(n, "HostConfig.NetworkMode"), "");

    if (!json_bool(json_path(n, "State.Running"), false))
        return false;
    if (strcmp(mode, "host") == 0 || strncmp(mode, "container:", 10) == 0)
        return true; /* its host name is another's */
    gethostname(host, sizeof host);
    return strcmp(json_string(json_path(n, "Config.Hostname"), ""), host) == 0;
}

/* Our directory of sockets, as the engine's host names it: what of it is mounted into us. */
static void find_sockets(struct engine *e, const struct json *mounts)
{
    size_t best = 0;

    for (const struct json *it = json_first(mounts); it; it = json_next(it)) {
        const char *inside = json_string(json_get(it, "Destination"), "");
        const char *outside = json_string(json_get(it, "Source"), "");
        size_t n = strlen(inside);
        if (n > best && *outside == '/' && strncmp(e->sockets, inside, n) == 0 &&
            (e->sockets[n] == '/' || e->sockets[n] == '\0') &&
            (size_t)snprintf(e->reach.sockets, sizeof e->reach.sockets, "%s%s", outside,
                             e->sockets + n) < sizeof e->reach.sockets)
            best = n;
    }
    if (best == 0)
        e->reach.sockets[0] = '\0';
}

/* The first network of ours that a user made, else the default one. */
static bool choose_network(struct engine *e, const struct json *networks)
{
    bool found = false;

    for (const struct json *it = json_first(networks); it; it = json_next(it)) {
        const char *name = json_key(it);
        bool is_default = strcmp(name, "bridge") == 0 || strcmp(name, "podman") == 0;
        if (strcmp(name, "host") == 0 || strcmp(name, "none") == 0 || (found && is_default) ||
            !kg_str_copy(e->reach.network, sizeof e->reach.network, kg_str_of(name)))
            continue;
        found = true;
        if (!is_default)
            return true;
    }
    return found;
}

static void on_own(void *arg, const struct transport_answer *a)
{
    struct engine *e = arg;
    struct json *n;
    bool us, shared;

    if (is_lost(e, a))
        return;
    n = a->status == 200 ? engine_json(a->body) : NULL;
    if (engine_is_odd(e, a, n)) {
        end(e, false, "what the engine says of our own container cannot be read");
        return;
    }
    us = n && is_us(n);
    if (us)
        find_sockets(e, json_get(n, "Mounts"));
    shared = us && choose_network(e, json_path(n, "NetworkSettings.Networks"));
    json_free(n);
    if (shared) {
        e->reach.kind = REACH_NETWORK;
        end(e, true, "");
    } else if (forced() == REACH_NETWORK) {
        end(e, false, "KIPGATE_REACH=network, but this is no container of the engine's");
    } else {
        ask_network(e);
    }
}

static void ask_own(struct engine *e)
{
    char path[128];

    snprintf(path, sizeof path, "/containers/%s/json", e->reach.own_id);
    ask(e, path, on_own);
}

/* --- is it on this machine? --------------------------------------------------------------- */

static bool same_address(const struct sockaddr *a, const char *ip)
{
    char text[INET6_ADDRSTRLEN] = "";

    if (a && a->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, text,
                  sizeof text);
    else if (a && a->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, text,
                  sizeof text);
    return text[0] && strcmp(text, ip) == 0;
}

/* Another machine's bridge may have our bridge's address, but not its name: it is made of its id.
 * False: it cannot be said. */
static bool find_bridge(const char *gateway, const char *id, const char *bridge, bool *here)
{
    struct ifaddrs *all = NULL;
    char by_id[IFNAMSIZ];

    snprintf(by_id, sizeof by_id, "br-%.12s", id);
    *here = false;
    if (*gateway && getifaddrs(&all) != 0)
        return false;
    for (const struct ifaddrs *it = all; it && !*here; it = it->ifa_next) {
        bool named = strcmp(it->ifa_name, *bridge ? bridge : by_id) == 0;
        bool other = strncmp(it->ifa_name, "br-", 3) == 0;
        *here = same_address(it->ifa_addr, gateway) && (named || (!*bridge && !other));
    }
    freeifaddrs(all);
    return true;
}

static bool find_network(const struct json *network, bool *here)
{
    const struct json *config = json_first(json_path(network, "IPAM.Config"));
    /* the option's own name has dots, so it is no path */
    const char *bridge =
        json_string(json_get(json_get(network, "Options"), "com.docker.network.bridge.name"), "");

    return find_bridge(json_string(json_get(config, "Gateway"), ""),
                       json_string(json_get(network, "Id"), ""), bridge, here);
}

/* --- the engine's host, where its published ports are ------------------------------------- */

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct engine *e = request->data;
    bool good = status == 0 && found &&
                getnameinfo(found->ai_addr, found->ai_addrlen, e->reach.published_ip,
                            sizeof e->reach.published_ip, NULL, 0, NI_NUMERICHOST) == 0;

    uv_freeaddrinfo(found);
    e->reach.resolving = false;
    if (e->closing)
        engine_let_go(e);
    else if (e->reach.running)
        end(e, good, good ? "" : "the engine's host name cannot be resolved");
}

/* It starts libuv's threads, which stay. Signals are none of theirs: those that the loop's thread
 * blocks at its end, and over the start of another program, are to wait. */
static bool resolve(struct engine *e)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    sigset_t all, before;
    int rc;

    e->reach.resolve.data = e;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    rc = uv_getaddrinfo(e->loop, &e->reach.resolve, on_resolved, e->host, NULL, &hints);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0;
}

/* Ports are bound to the address at which we know the engine, and to no other. */
static void publish(struct engine *e)
{
    e->reach.kind = REACH_PUBLISHED;
    if (!e->host[0] || strcmp(e->host, "localhost") == 0) {
        kg_str_copy(e->reach.published_ip, sizeof e->reach.published_ip, KG_STR("127.0.0.1"));
        end(e, true, "");
        return;
    }
    if (e->reach.resolving)
        return; /* an earlier search's: it ends this one too */
    e->reach.resolving = resolve(e);
    if (!e->reach.resolving)
        end(e, false, "the engine's host name cannot be resolved");
}

static void decide(struct engine *e, const struct json *network)
{
    bool here = forced() == REACH_ADDRESS;

    if (forced() == REACH_UNKNOWN && !find_network(network, &here)) {
        end(e, false, "the interfaces of this machine cannot be listed");
        return;
    }
    if (e->host[0] && !here)
        e->reach.sockets[0] = '\0'; /* another machine's directories are not ours */
    if (here) {
        e->reach.kind = REACH_ADDRESS;
        end(e, true, "");
    } else {
        publish(e);
    }
}

/* --- our network -------------------------------------------------------------------------- */

static void on_default(void *arg, const struct transport_answer *a)
{
    struct engine *e = arg;
    struct json *n;

    if (is_lost(e, a))
        return;
    n = a->status == 200 ? engine_json(a->body) : NULL;
    if (!n && a->status == 200) {
        end(e, false, "what the engine says of its default network cannot be read");
        return;
    }
    if (!n)
        e->reach.network[0] = '\0'; /* whatever the engine takes where none is named */
    decide(e, n);
    json_free(n);
}

/* The engine's default network is the second best: its containers see each other. */
static void ask_default(struct engine *e)
{
    kg_str_copy(e->reach.network, sizeof e->reach.network, KG_STR("bridge"));
    ask(e, "/networks/bridge", on_default);
}

static void on_common(struct engine_network *net, const struct json *found,
                      const struct engine_answer *failure)
{
    struct engine *e = net->engine;

    if (failure)
        end(e, false, failure->words);
    else if (found)
        decide(e, found);
    else
        ask_default(e);
}

static void ask_network(struct engine *e)
{
    kg_str_copy(e->reach.network, sizeof e->reach.network, kg_str_of(e->common.name));
    engine_network_find(&e->common);
}

bool engine_network_is_own(const struct engine *e)
{
    return strcmp(e->reach.network, e->common.name) == 0;
}

/* --- doors -------------------------------------------------------------------------------- */

void engine_reach_init(struct engine *e)
{
    char name[ENGINE_NAME_BYTES];

    engine_network_name(e->owner, "", name, sizeof name);
    engine_network_init(&e->common, e, name, true, on_common);
}

void engine_reach_start(struct engine *e)
{
    struct reach *r = &e->reach;
    enum engine_reach wanted = forced();

    if (r->running)
        return; /* its end is told to all who wait */
    r->running = true;
    if (!realpath(e->sockets, r->sockets_real))
        kg_str_copy(r->sockets_real, sizeof r->sockets_real, kg_str_of(e->sockets));
    if (!kg_str_copy(r->sockets, sizeof r->sockets, kg_str_of(r->sockets_real)))
        r->sockets[0] = '\0';
    if ((wanted == REACH_UNKNOWN || wanted == REACH_NETWORK) && guess_own_id(r->own_id))
        ask_own(e);
    else if (wanted == REACH_NETWORK)
        end(e, false, "KIPGATE_REACH=network, but this is no container");
    else
        ask_network(e);
}

/* Where the engine's name led to, its ports were published; it may lead elsewhere by now. */
bool engine_reach_may_move(const struct engine *e)
{
    return e->reach.kind == REACH_PUBLISHED && e->host[0] &&
           strcmp(e->host, e->reach.published_ip) != 0;
}

void engine_reach_stop(struct engine *e)
{
    if (e->reach.call != 0)
        transport_cancel(e->transport, e->reach.call);
    e->reach.call = 0;
    e->reach.running = false;
    engine_network_stop(&e->common);
    if (e->reach.resolving)
        uv_cancel((uv_req_t *)&e->reach.resolve); /* on_resolved follows, or comes as it would */
}
